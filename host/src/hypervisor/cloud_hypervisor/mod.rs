//! Cloud Hypervisor, through its REST interface. Version 54 is the one that was tried.
//!
//! It accepts a memory file that was cut (`hypervisor/snapshot.rs` does not) and the path of a
//! kernel that is not there (`hypervisor/check.rs` looks for it), answers 500 to nearly everything
//! that it does not do, and boots a guest that resets itself again in the same process (the
//! supervisor ends it). It stores the paths of disks in its snapshots: those are links in the
//! folder of the launch, so that a fork finds its own.

mod machine;

use std::path::PathBuf;

use serde_json::{Value, json};

use self::machine::CloudHypervisorVm;
use super::check::utf8;
use super::detect;
use super::launch::Started;
use super::managed::{Greeting, Managed, Plan, Source, Vendor};
use super::snapshot::{Choice, SavedBy};
use super::supervisor::{CONTROL_FD, EVENTS_FD, Wiring};
use super::{Accelerator, Description, HypervisorError, Kind, MachineSpec, files};

/// The only thing it is given to decide.
const CHOICE: Choice =
    Choice { accelerator: Accelerator::Kvm, machine_type: None, cpu_model: None };

/// How Cloud Hypervisor is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudHypervisorConfig {
    /// Cloud Hypervisor: a path, or a name on `PATH`.
    pub program: PathBuf,
    /// This program itself: run as `<supervisor> supervise` beside every VMM.
    pub supervisor: PathBuf,
}

/// Cloud Hypervisor on this host.
pub type CloudHypervisor = Managed<CloudHypervisorVendor>;

/// What Cloud Hypervisor does differently.
pub struct CloudHypervisorVendor;

impl CloudHypervisor {
    /// Finds out what Cloud Hypervisor can do here. Needs an async runtime, which has to live as
    /// long as the machines are followed.
    ///
    /// # Errors
    /// [`HypervisorError::Unavailable`] if it is not installed or does not work, or if `/dev/kvm`
    /// can't be used.
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
        // With one `-v` its log tells who ended a machine.
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

/// The machine that is to be booted.
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
