//! `identity.json`: which processes belong to a launch.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::hypervisor::files;
use crate::hypervisor::process::ProcessId;

/// The processes of one launch, told apart from all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::hypervisor) struct Identity {
    /// The boot in which they were started.
    pub(in crate::hypervisor) boot: String,
    /// The supervisor.
    pub(in crate::hypervisor) supervisor: ProcessId,
    /// The VMM.
    pub(in crate::hypervisor) vmm: ProcessId,
}

impl Identity {
    /// The identity of a VMM that this process has started; it may have ended already.
    pub(super) fn of_child(pid: u32) -> io::Result<Self> {
        Ok(Self {
            boot: crate::clock::boot_id().map_err(io::Error::other)?.0.to_string(),
            supervisor: ProcessId::of_child(std::process::id())?,
            vmm: ProcessId::of_child(pid)?,
        })
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&self, run: &Path) -> io::Result<()> {
        let path = files::identity(run);
        let aside = path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(run)?.sync_all()
    }

    /// The identity in this launch's folder; none if it was not written.
    pub(in crate::hypervisor) fn read(run: &Path) -> io::Result<Option<Self>> {
        match fs::read(files::identity(run)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
