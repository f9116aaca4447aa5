//! Firecracker, through its REST interface. Tested with versions 1.12 to 1.17.
//!
//! Firecracker has no call that ends a machine: the guest or a signal does. It exits if it can't
//! load a snapshot, so each is loaded by a new process. It locks no disk (`hypervisor/disks.rs`
//! does), never removes its socket (each launch has a folder of its own), and stores the paths of
//! disks in its snapshots: those are links in the launch's folder, so that a fork finds its own.

mod machine;

use std::path::PathBuf;

use serde_json::json;

use self::machine::{CHOICE, Call, FirecrackerVm, Kept};
use super::check::{MIB, utf8};
use super::detect;
use super::launch::Started;
use super::managed::{Greeting, Managed, Plan, Source, Vendor};
use super::snapshot::SavedBy;
use super::supervisor::{LOG_FD, Wiring};
use super::{Description, HypervisorError, Kind, MachineSpec, Supervising, files};
use crate::network::{GUEST_MAC, TAP};

/// Longest name of a machine in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Firecracker's name of the guest's network card. Snapshots have it, and the name of the device
/// behind it, which is the same in every namespace.
const CARD: &str = "card";

/// Address of every guest on its vsock device: it is alone there.
const GUEST_CID: u32 = 3;

/// Configuration of Firecracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirecrackerConfig {
    /// Firecracker: a path, or a name on `PATH`.
    pub program: PathBuf,
    /// This program itself, beside every VMM.
    pub supervisor: Supervising,
}

/// Firecracker on this host.
pub type Firecracker = Managed<FirecrackerVendor>;

/// Firecracker's differences from other vendors.
pub struct FirecrackerVendor;

impl Firecracker {
    /// Detects Firecracker on this host. Needs an async runtime, which has to live as long as the
    /// machines are followed.
    ///
    /// # Errors
    /// [`HypervisorError::Unavailable`] if Firecracker is not installed or does not work, or if
    /// `/dev/kvm` can't be used.
    pub async fn detect(config: FirecrackerConfig) -> Result<Self, HypervisorError> {
        let FirecrackerConfig { program, supervisor } = config;
        let description =
            detect::describe_kvm_only(Kind::Firecracker, &program, "Firecracker v").await?;
        Self::new(FirecrackerVendor, description, supervisor)
    }
}

impl Vendor for FirecrackerVendor {
    const WIRING: Wiring = Wiring::Firecracker;
    const READS_SNAPSHOTS: bool = true;
    type Kept = Kept;
    type Machine = FirecrackerVm;

    fn kind(&self) -> Kind {
        Kind::Firecracker
    }

    fn launch(
        &self,
        here: &Description,
        spec: &MachineSpec,
        source: &Source,
    ) -> Result<Plan<Kept, Vec<Call>>, HypervisorError> {
        let booted = match source {
            Source::Boot => true,
            Source::Snapshot(snapshot) => {
                let here = SavedBy { kind: self.kind(), version: here.version.clone() };
                snapshot.manifest.check(&snapshot.folder, spec, &CHOICE, &here)?;
                false
            }
        };
        let name = name(spec)?;
        // Firecracker opens the pipe for reading too, and non-blocking: without another reader the
        // pipe neither breaks nor blocks it.
        let log = format!("/proc/self/fd/{LOG_FD}");
        let args =
            ["--api-sock", files::CONTROL, "--id", &name, "--log-path", &log, "--level", "Info"];
        Ok(Plan {
            args: args.map(String::from).into(),
            kept: Kept { booted },
            config: config(spec)?,
        })
    }

    async fn greet(
        &self,
        spec: &MachineSpec,
        kept: Kept,
        started: &Started,
        greeting: Greeting,
    ) -> Result<FirecrackerVm, HypervisorError> {
        FirecrackerVm::greet(
            spec.clone(),
            name(spec)?,
            kept,
            started.vmm.clone(),
            greeting.ms_max(),
        )
        .await
    }
}

/// The machine's id in Firecracker: unique for each launch, so that it proves, with the process,
/// which launch answers.
fn name(spec: &MachineSpec) -> Result<String, HypervisorError> {
    let name = format!("{}-{}", spec.id, spec.incarnation);
    if name.len() > NAME_BYTES_MAX {
        let reason = format!(
            "with the number of the launch, '{name}' is longer than {NAME_BYTES_MAX} bytes"
        );
        return Err(HypervisorError::Spec { what: "the instance's id", reason });
    }
    Ok(name)
}

/// The calls that describe the machine. The kernel comes last: no machine can be started without
/// one, so an incomplete description can't be.
fn config(spec: &MachineSpec) -> Result<Vec<Call>, HypervisorError> {
    let body = json!({ "vcpu_count": spec.vcpus, "mem_size_mib": spec.memory_bytes / MIB });
    let mut calls = vec![Call { name: "machine-config", path: "/machine-config".into(), body }];
    for (n, disk) in spec.disks.iter().enumerate() {
        let drive = files::disk(n);
        let path = format!("/drives/{drive}");
        let body = json!({
            "drive_id": drive,
            "path_on_host": drive,
            "is_root_device": false,
            "is_read_only": disk.read_only,
        });
        calls.push(Call { name: "drives", path, body });
    }
    if spec.network.is_some() {
        let path = format!("/network-interfaces/{CARD}");
        let body = json!({ "iface_id": CARD, "guest_mac": GUEST_MAC, "host_dev_name": TAP });
        calls.push(Call { name: "network-interfaces", path, body });
    }
    if spec.agent {
        let body = json!({ "guest_cid": GUEST_CID, "uds_path": files::VSOCK });
        calls.push(Call { name: "vsock", path: "/vsock".into(), body });
    }
    let mut body = json!({
        "kernel_image_path": utf8("the kernel's path", &spec.kernel)?, "boot_args": spec.cmdline,
    });
    if let Some(initrd) = &spec.initrd {
        body["initrd_path"] = utf8("the initial RAM disk's path", initrd)?.into();
    }
    calls.push(Call { name: "boot-source", path: "/boot-source".into(), body });
    Ok(calls)
}
