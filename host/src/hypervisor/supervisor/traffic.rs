//! The traffic of a launch that has ended, as its supervisor has counted it last.

use std::fs;
use std::io;
use std::path::Path;

use crate::hypervisor::files;
use crate::network::Counters;
use crate::vm::Traffic;

/// Writes the traffic of a launch whose VMM has ended. A loss of power may drop it, and the end of
/// the launch with it.
pub(super) fn write(run: &Path, counters: &Counters) {
    let path = files::traffic(run);
    let aside = path.with_extension("new");
    let written = counters.read().map_err(io::Error::other).and_then(|traffic| {
        fs::write(&aside, serde_json::to_vec(&traffic.numbers())?)?;
        fs::rename(&aside, &path)
    });
    if let Err(error) = written {
        super::complain(&format!("can't record the traffic of the guest: {error}"));
    }
}

/// The traffic of a launch that has ended; none if it has not, or had no network.
///
/// # Errors
/// The operating system's error, or that of the text.
pub(in crate::hypervisor) fn read(run: &Path) -> io::Result<Option<Traffic>> {
    let text = match fs::read(files::traffic(run)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    Ok(Some(Traffic::of(serde_json::from_slice(&text)?)))
}
