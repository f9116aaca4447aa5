//! Cloud Hypervisor, through its REST interface. Version 54 is the one that was tried.
//!
//! It accepts a memory file that was cut (`hypervisor/snapshot.rs` does not) and the path of a kernel that is not there (`hypervisor/check.rs` looks for it), answers
//! 500 to nearly everything that it does not do, and boots a guest that resets itself again in the same process (the supervisor ends it).
//! It stores the paths of disks in its snapshots: those are links in the folder of the launch, so that a fork finds its own.

mod machine;

use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use self::machine::Machine;
use super::check::{check_boot, checked, in_place, utf8};
use super::detect::{self, ask, unavailable};
use super::launch::{Launcher, Program, Started};
use super::snapshot::{Choice, Manifest, Writer, blocking};
use super::supervisor::{CONTROL_FD, EVENTS_FD, Wiring};
use super::{
    Accelerator, Adopted, Description, Hypervisor, HypervisorError, Kind, Launched, MachineSpec, Origin, files,
};
use crate::limits::instance::{CONTROL_MS_MAX, LAUNCH_MS_MAX};

/// The only thing it is given to decide.
const CHOICE: Choice = Choice { accelerator: Accelerator::Kvm, machine_type: None, cpu_model: None };

/// How Cloud Hypervisor is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudHypervisorConfig {
    /// Cloud Hypervisor: a path, or a name on `PATH`.
    pub program: PathBuf,
    /// This program itself: run as `<supervisor> supervise` beside every VMM.
    pub supervisor: PathBuf,
}

/// Cloud Hypervisor on this host.
pub struct CloudHypervisor {
    description: Description,
    launcher: Launcher,
}

impl CloudHypervisor {
    /// Finds out what Cloud Hypervisor can do here. Needs an async runtime, which has to live as long as the machines are followed.
    ///
    /// # Errors
    /// [`HypervisorError::Unavailable`] if it is not installed or does not work, or if `/dev/kvm` can't be used.
    pub async fn detect(config: CloudHypervisorConfig) -> Result<Self, HypervisorError> {
        let CloudHypervisorConfig { program, supervisor } = config;
        let (kind, program) = (Kind::CloudHypervisor, detect::program(&program)?);
        let version = detect::version(&ask(kind, &program, &["--version"]).await?, "cloud-hypervisor v");
        let version = version.ok_or_else(|| unavailable(&program, "it does not tell its version".into()))?;
        detect::kvm().map_err(|reason| unavailable(&program, reason))?;
        let description = Description {
            name: kind.as_str(),
            version,
            accelerator: Accelerator::Kvm,
            accelerator_reason: "it has no other".into(),
            machine_type: None,
            vcpus_max: kind.vcpus_max(),
            capabilities: kind.capabilities(),
            program,
        };
        Ok(Self { description, launcher: Launcher::new(supervisor)? })
    }

    async fn launch_machine(&self, spec: &MachineSpec, origin: Origin) -> Result<Launched, HypervisorError> {
        let spec = &checked(spec, &self.description)?;
        match origin {
            Origin::Boot => {
                let config = config(spec)?;
                let started = self.start(spec).await?;
                let control = async {
                    let machine = greet(spec, &started, LAUNCH_MS_MAX).await?;
                    machine.set_up(config).await?;
                    Ok(machine)
                };
                let control = control.await;
                started.under(control).await
            }
            Origin::Snapshot(folder) => {
                let here = Writer { kind: Kind::CloudHypervisor, version: self.description.version.clone() };
                let manifest = Manifest::read(&folder, Kind::CloudHypervisor)?;
                manifest.check(&folder, spec, &CHOICE, &here)?;
                let started = self.start(spec).await?;
                let control = async {
                    let sound = {
                        let folder = folder.clone();
                        blocking(move || manifest.verify(&folder))
                    };
                    let (machine, ()) = futures::try_join!(greet(spec, &started, LAUNCH_MS_MAX), sound)?;
                    machine.load(&folder).await?;
                    Ok(machine)
                };
                let control = control.await;
                started.under(control).await
            }
        }
    }

    async fn start(&self, spec: &MachineSpec) -> Result<Started, HypervisorError> {
        let (control, events) = (format!("fd={CONTROL_FD}"), format!("fd={EVENTS_FD}"));
        // With one `-v` its log tells who ended a machine.
        let args = ["--api-socket", &control, "--event-monitor", &events, "-v"].map(String::from).into();
        let program = Program { path: &self.description.program, args, wiring: Wiring::CloudHypervisor };
        self.launcher.start(spec, program, &Value::Null).await
    }

    async fn adopt_machine(&self, spec: &MachineSpec) -> Result<Adopted, HypervisorError> {
        let spec = &in_place(spec)?;
        let control = async |started: &Started| greet(spec, started, CONTROL_MS_MAX).await;
        self.launcher.find(spec).await?.adopted(control).await
    }
}

impl Hypervisor for CloudHypervisor {
    fn name(&self) -> &'static str {
        self.description.name
    }

    fn describe(&self) -> &Description {
        &self.description
    }

    fn launch<'a>(&'a self, spec: &'a MachineSpec, origin: Origin) -> BoxFuture<'a, Result<Launched, HypervisorError>> {
        self.launch_machine(spec, origin).boxed()
    }

    fn adopt<'a>(&'a self, spec: &'a MachineSpec) -> BoxFuture<'a, Result<Adopted, HypervisorError>> {
        self.adopt_machine(spec).boxed()
    }

    fn end<'a>(&'a self, spec: &'a MachineSpec) -> BoxFuture<'a, Result<(), HypervisorError>> {
        self.launcher.end(spec).boxed()
    }
}

async fn greet(spec: &MachineSpec, started: &Started, ms: u64) -> Result<Machine, HypervisorError> {
    Machine::greet(spec.clone(), started.vmm.clone(), ms).await
}

/// The machine that is to be booted.
fn config(spec: &MachineSpec) -> Result<Value, HypervisorError> {
    check_boot(spec)?;
    let mut memory = json!({ "size": spec.memory_bytes });
    if let Some(most) = spec.memory_bytes_max.filter(|&most| most > spec.memory_bytes) {
        memory["hotplug_size"] = (most - spec.memory_bytes).into();
    }
    let mut payload = json!({ "kernel": utf8("the kernel's path", &spec.kernel)?, "cmdline": spec.cmdline });
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
