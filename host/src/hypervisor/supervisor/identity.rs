//! `identity.json`: the identity of a launch's processes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::hypervisor::process::ProcessId;
use crate::hypervisor::{files, format};

/// Format that is written. Earlier ones can be read.
const FORMAT: u32 = 1;

/// Identity of the processes of one launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::hypervisor) struct Identity {
    #[serde(default = "format::first")]
    format: u32,
    /// Id of the boot in which they were started.
    pub(in crate::hypervisor) boot: String,
    /// The supervisor.
    pub(in crate::hypervisor) supervisor: ProcessId,
    /// The VMM.
    pub(in crate::hypervisor) vmm: ProcessId,
}

impl Identity {
    /// The identity of this process and of a VMM that it has started, which may have ended already.
    pub(super) fn of_child(pid: u32) -> io::Result<Self> {
        Ok(Self {
            format: FORMAT,
            boot: crate::clock::boot_id().map_err(io::Error::other)?.0.to_string(),
            supervisor: ProcessId::of_child(std::process::id())?,
            vmm: ProcessId::of_child(pid)?,
        })
    }

    /// Writes the file, atomically and durably.
    pub(super) fn write(&self, run: &Path) -> io::Result<()> {
        let path = files::identity(run);
        let aside = path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(run)?.sync_all()
    }

    /// Reads the identity in a launch's folder; `None` if it was not written.
    pub(in crate::hypervisor) fn read(run: &Path) -> io::Result<Option<Self>> {
        let path = files::identity(run);
        match fs::read(&path) {
            Ok(text) => {
                format::check_json(&path, &text, FORMAT)?;
                Ok(Some(serde_json::from_slice(&text)?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str =
        r#"{"boot":"b","supervisor":{"pid":1,"start_ticks":2},"vmm":{"pid":3,"start_ticks":4}}"#;

    #[test]
    fn an_identity_without_a_format_is_read_and_a_later_one_refused() {
        let run = tempfile::tempdir().expect("dir");
        assert_eq!(Identity::read(run.path()).expect("nothing"), None);
        fs::write(files::identity(run.path()), FIRST).expect("write");
        let first = Identity::read(run.path()).expect("format 1").expect("an identity");
        assert_eq!(first.vmm, ProcessId { pid: 3, start_ticks: 4 });
        first.write(run.path()).expect("written");
        assert_eq!(Identity::read(run.path()).expect("as written"), Some(first));
        fs::write(files::identity(run.path()), r#"{"format":2,"pidfs":[5]}"#).expect("write");
        let refused = Identity::read(run.path()).expect_err("format 2").to_string();
        assert!(refused.contains("format 2") && refused.contains("identity.json"), "{refused}");
    }
}
