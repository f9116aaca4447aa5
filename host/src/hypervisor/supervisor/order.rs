//! The order to a supervisor, in the folder of the launch.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::user::VmmUser;
use super::wiring::Wiring;
use crate::hypervisor::{Disk, HypervisorError, MachineSpec, files, format};

/// Format of `launch.json` that is written. Earlier ones can be read.
const FORMAT: u32 = 1;

/// `launch.json`: the order to a supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::hypervisor) struct LaunchOrder {
    #[serde(default = "format::first")]
    pub(super) format: u32,
    /// The instance's folder.
    pub(in crate::hypervisor) dir: PathBuf,
    /// The VMM's program.
    pub(in crate::hypervisor) program: PathBuf,
    /// Arguments of the program.
    pub(in crate::hypervisor) args: Vec<String>,
    /// Connections between VMM and supervisor.
    pub(in crate::hypervisor) wiring: Wiring,
    /// Disks that are locked while the VMM lives.
    pub(in crate::hypervisor) disks: Vec<Disk>,
    /// It has a port for the guest's agent.
    #[serde(default)]
    pub(in crate::hypervisor) agent: bool,
    /// The network namespace that the VMM runs in; none for that of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::hypervisor) namespace: Option<PathBuf>,
    /// The user that the VMM runs as; none for the supervisor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::hypervisor) user: Option<VmmUser>,
    /// Further files that the VMM reads: its kernel and initial RAM disk, and the folder of a
    /// snapshot.
    #[serde(default)]
    pub(in crate::hypervisor) read: Vec<PathBuf>,
    /// The vendor's state for the daemon that adopts the machine; opaque to the supervisor.
    pub(in crate::hypervisor) kept: serde_json::Value,
}

/// The program that a supervisor is to run.
pub(in crate::hypervisor) struct Program<'a> {
    pub(in crate::hypervisor) path: &'a Path,
    pub(in crate::hypervisor) args: Vec<String>,
    pub(in crate::hypervisor) wiring: Wiring,
    /// The folder of the snapshot that it loads.
    pub(in crate::hypervisor) snapshot: Option<PathBuf>,
}

impl LaunchOrder {
    /// The order to run `program` for this machine, with `kept` for the daemon that adopts it.
    pub(in crate::hypervisor) fn new(
        spec: &MachineSpec,
        program: Program<'_>,
        user: Option<VmmUser>,
        kept: serde_json::Value,
    ) -> Self {
        let Program { path, args, wiring, snapshot } = program;
        let dir = spec.dir.clone();
        let disks = spec.disks.clone();
        let agent = spec.agent;
        let namespace = spec.network.as_ref().map(|card| card.namespace.clone());
        let program = path.into();
        let boot = [spec.kernel.clone()].into_iter().chain(spec.initrd.clone());
        let read = boot.chain(snapshot).collect();
        Self {
            format: FORMAT,
            dir,
            program,
            args,
            wiring,
            disks,
            agent,
            namespace,
            user,
            read,
            kept,
        }
    }

    /// Reads the order in the folder of a launch.
    ///
    /// # Errors
    /// [`HypervisorError::File`], also if its format is later than [`FORMAT`].
    pub(in crate::hypervisor) fn read(run: &Path) -> Result<Self, HypervisorError> {
        let path = files::order(run);
        let text = fs::read(&path).map_err(HypervisorError::file("read", &path))?;
        let order = format::check_json(&path, &text, FORMAT)
            .and_then(|()| Ok(serde_json::from_slice(&text)?));
        order.map_err(HypervisorError::file("parse", &path))
    }

    /// Writes the order atomically. It is not synced: after a loss of power it is neither carried
    /// out nor read.
    pub(in crate::hypervisor) fn write(&self, run: &Path) -> Result<(), HypervisorError> {
        let path = files::order(run);
        let aside = path.with_extension("new");
        let written = serde_json::to_vec(self).map_err(io::Error::from).and_then(|text| {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(&text)?;
            fs::rename(&aside, &path)
        });
        written.map_err(HypervisorError::file("write", &path))
    }
}
