//! Cloud Hypervisor, through its REST interface. Tested with version 54.
//!
//! Cloud Hypervisor accepts a truncated memory file (`hypervisor/snapshot/` does not) and the path
//! of a kernel that is not there (`hypervisor/check.rs` opens it), answers 500 to nearly every call
//! that it refuses, and boots a guest that resets itself again in the same process (the supervisor
//! ends it). It stores the paths of disks in its snapshots: those are links in the launch's folder,
//! so that a fork finds its own.

mod machine;

use std::path::PathBuf;

use serde_json::{Value, json};

use self::machine::{CHOICE, CloudHypervisorVm};
use super::check::utf8;
use super::detect;
use super::launch::Started;
use super::managed::{Greeting, Managed, Plan, Source, Vendor};
use super::snapshot::SavedBy;
use super::supervisor::{CONTROL_FD, EVENTS_FD, Wiring};
use super::{Description, HypervisorError, Kind, MachineSpec, Supervising, files};

/// Configuration of Cloud Hypervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudHypervisorConfig {
    /// Cloud Hypervisor: a path, or a name on `PATH`.
    pub program: PathBuf,
    /// This program itself, beside every VMM.
    pub supervisor: Supervising,
}

/// Cloud Hypervisor on this host.
pub type CloudHypervisor = Managed<CloudHypervisorVendor>;

/// Cloud Hypervisor's differences from other vendors.
pub struct CloudHypervisorVendor;

impl CloudHypervisor {
    /// Detects Cloud Hypervisor on this host. Needs an async runtime, which has to live as long as
    /// the machines are followed.
    ///
    /// # Errors
    /// [`HypervisorError::Unavailable`] if Cloud Hypervisor is not installed or does not work, or
    /// if `/dev/kvm` can't be used.
    pub async fn detect(config: CloudHypervisorConfig) -> Result<Self, HypervisorError> {
        let CloudHypervisorConfig { program, supervisor } = config;
        let description =
            detect::describe_kvm_only(Kind::CloudHypervisor, &program, "cloud-hypervisor v")
                .await?;
        Self::new(CloudHypervisorVendor, description, supervisor)
    }
}

impl Vendor for CloudHypervisorVendor {
    const WIRING: Wiring = Wiring::CloudHypervisor;
    const READS_SNAPSHOTS: bool = true;
    type Kept = Value;
    type Machine = CloudHypervisorVm;

    fn kind(&self) -> Kind {
        Kind::CloudHypervisor
    }

    fn launch(
        &self,
        here: &Description,
        spec: &MachineSpec,
        source: &Source,
    ) -> Result<Plan<Value, Value>, HypervisorError> {
        if let Source::Snapshot(snapshot) = source {
            let here = SavedBy { kind: self.kind(), version: here.version.clone() };
            snapshot.manifest.check(&snapshot.folder, spec, &CHOICE, &here)?;
        }
        let control = format!("fd={CONTROL_FD}");
        let events = format!("fd={EVENTS_FD}");
        // With one `-v` the log names the initiator of a machine's end.
        let args =
            ["--api-socket", &control, "--event-monitor", &events, "-v"].map(String::from).into();
        Ok(Plan { args, kept: Value::Null, config: config(spec)? })
    }

    async fn greet(
        &self,
        spec: &MachineSpec,
        _kept: Value,
        started: &Started,
        greeting: Greeting,
    ) -> Result<CloudHypervisorVm, HypervisorError> {
        CloudHypervisorVm::greet(spec.clone(), started.vmm.clone(), greeting.ms_max()).await
    }
}

/// The configuration of a machine that is to boot.
fn config(spec: &MachineSpec) -> Result<Value, HypervisorError> {
    let mut memory = json!({ "size": spec.memory_bytes });
    if let Some(most) = spec.memory_bytes_max.filter(|&most| most > spec.memory_bytes) {
        memory["hotplug_size"] = (most - spec.memory_bytes).into();
    }
    let mut payload =
        json!({ "kernel": utf8("the kernel's path", &spec.kernel)?, "cmdline": spec.cmdline });
    if let Some(initrd) = &spec.initrd {
        payload["initramfs"] = utf8("the initial RAM disk's path", initrd)?.into();
    }
    let disks = spec.disks.iter().enumerate().map(|(n, disk)| {
        let name = files::disk(n);
        json!({ "path": name, "id": name, "readonly": disk.read_only, "image_type": "Raw" })
    });
    Ok(json!({
        "cpus": { "boot_vcpus": spec.vcpus, "max_vcpus": spec.vcpus },
        "memory": memory,
        "payload": payload,
        "disks": disks.collect::<Vec<_>>(),
        "serial": { "mode": "Tty" },
        "console": { "mode": "Off" },
    }))
}
