//! The traffic of a launch that has ended, as its supervisor has counted it last.

use std::fs;
use std::io;
use std::path::Path;

use super::complain::complain;
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
        complain(&format!("can't record the traffic of the guest: {error}"));
    }
}

/// The traffic of a launch that has ended, as its supervisor has read it last; none if it has not
/// ended, or had no network. Blocking.
///
/// # Errors
/// The operating system's error, or that of the text.
pub fn ended_traffic(dir: &Path, incarnation: u32) -> io::Result<Option<Traffic>> {
    let run = files::run(dir, incarnation);
    let text = match fs::read(files::traffic(&run)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    Ok(Some(Traffic::of(serde_json::from_slice(&text)?)))
}
