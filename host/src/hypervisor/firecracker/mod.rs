//! Firecracker, through its REST interface. Versions 1.12 to 1.17 are the ones that were tried.
//!
//! It can't boot, stop or end a machine by a call: a boot is an action, an end is the guest's or a signal. A snapshot that it can't load ends it, so
//! each is loaded by a new process. It locks no disk (`hypervisor/disks.rs` does), never removes its socket (each launch has a folder of
//! its own), and stores the paths of disks in its snapshots: those are links in that folder, so that a fork finds its own.

mod machine;

use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use self::machine::{Kept, Machine};
use super::check::{MIB, check_boot, checked, in_place, utf8};
use super::detect::{self, ask, unavailable};
use super::launch::{Launcher, Program, Started};
use super::snapshot::{Choice, Manifest, Writer, blocking};
use super::supervisor::{LOG_FD, Wiring};
use super::{
    Accelerator, Adopted, Description, Hypervisor, HypervisorError, Kind, Launched, MachineSpec, Origin, files,
};
use crate::limits::instance::{CONTROL_MS_MAX, LAUNCH_MS_MAX};

/// Longest name of a machine in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The only thing it is given to decide.
const CHOICE: Choice = Choice { accelerator: Accelerator::Kvm, machine_type: None, cpu_model: None };

/// How Firecracker is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirecrackerConfig {
    /// Firecracker: a path, or a name on `PATH`.
    pub program: PathBuf,
    /// This program itself: run as `<supervisor> supervise` beside every VMM.
    pub supervisor: PathBuf,
}

/// Firecracker on this host.
pub struct Firecracker {
    description: Description,
    launcher: Launcher,
}

impl Firecracker {
    /// Finds out what Firecracker can do here. Needs an async runtime, which has to live as long as the machines are followed.
    ///
    /// # Errors
    /// [`HypervisorError::Unavailable`] if it is not installed or does not work, or if `/dev/kvm` can't be used.
    pub async fn detect(config: FirecrackerConfig) -> Result<Self, HypervisorError> {
        let FirecrackerConfig { program, supervisor } = config;
        let (kind, program) = (Kind::Firecracker, detect::program(&program)?);
        let version = detect::version(&ask(kind, &program, &["--version"]).await?, "Firecracker v");
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
                let set_up = set_up(spec)?;
                let kept = Kept { booted: true };
                let started = self.start(spec, kept).await?;
                let control = async {
                    let machine = greet(spec, kept, &started, LAUNCH_MS_MAX).await?;
                    machine.set_up(set_up).await?;
                    Ok(machine)
                };
                let control = control.await;
                started.under(control).await
            }
            Origin::Snapshot(folder) => {
                let here = Writer { kind: Kind::Firecracker, version: self.description.version.clone() };
                let manifest = Manifest::read(&folder, Kind::Firecracker)?;
                manifest.check(&folder, spec, &CHOICE, &here)?;
                let kept = Kept { booted: false };
                let started = self.start(spec, kept).await?;
                let control = async {
                    let sound = {
                        let folder = folder.clone();
                        blocking(move || manifest.verify(&folder))
                    };
                    let (machine, ()) = futures::try_join!(greet(spec, kept, &started, LAUNCH_MS_MAX), sound)?;
                    machine.load(&folder).await?;
                    Ok(machine)
                };
                let control = control.await;
                started.under(control).await
            }
        }
    }

    async fn start(&self, spec: &MachineSpec, kept: Kept) -> Result<Started, HypervisorError> {
        let name = name(spec)?;
        // It opens what it is named for reading too, and never waits: the pipe neither breaks nor holds it up when nobody else reads it.
        let log = format!("/proc/self/fd/{LOG_FD}");
        let args = ["--api-sock", files::CONTROL, "--id", &name, "--log-path", &log, "--level", "Info"];
        let args = args.map(String::from).into();
        let program = Program { path: &self.description.program, args, wiring: Wiring::Firecracker };
        self.launcher.start(spec, program, &kept).await
    }

    async fn adopt_machine(&self, spec: &MachineSpec) -> Result<Adopted, HypervisorError> {
        let spec = &in_place(spec)?;
        let control = async |started: &Started| {
            let kept = self.launcher.kept(spec)?;
            greet(spec, kept, started, CONTROL_MS_MAX).await
        };
        self.launcher.find(spec).await?.adopted(control).await
    }
}

impl Hypervisor for Firecracker {
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

async fn greet(spec: &MachineSpec, kept: Kept, started: &Started, ms: u64) -> Result<Machine, HypervisorError> {
    Machine::greet(spec.clone(), name(spec)?, kept, started.vmm.clone(), ms).await
}

/// What Firecracker calls the machine: the proof, with the process, that it is this launch and no other.
fn name(spec: &MachineSpec) -> Result<String, HypervisorError> {
    let name = format!("{}-{}", spec.id, spec.incarnation);
    if name.len() > NAME_BYTES_MAX {
        let reason = format!("with the number of the launch, '{name}' is longer than {NAME_BYTES_MAX} bytes");
        return Err(HypervisorError::Spec { what: "the instance's id", reason });
    }
    Ok(name)
}

/// The calls that describe the machine: each with its name, its path and its body. The kernel comes last: without one no machine can be started, so
/// half a description never is.
fn set_up(spec: &MachineSpec) -> Result<Vec<(&'static str, String, Value)>, HypervisorError> {
    check_boot(spec)?;
    let machine = json!({ "vcpu_count": spec.vcpus, "mem_size_mib": spec.memory_bytes / MIB });
    let mut calls = vec![("machine-config", "/machine-config".into(), machine)];
    for (n, disk) in spec.disks.iter().enumerate() {
        let name = files::disk(n);
        let path = format!("/drives/{name}");
        let drive = json!({
            "drive_id": name, "path_on_host": name, "is_root_device": false, "is_read_only": disk.read_only,
        });
        calls.push(("drives", path, drive));
    }
    let mut boot = json!({
        "kernel_image_path": utf8("the kernel's path", &spec.kernel)?, "boot_args": spec.cmdline,
    });
    if let Some(initrd) = &spec.initrd {
        boot["initrd_path"] = utf8("the initial RAM disk's path", initrd)?.into();
    }
    calls.push(("boot-source", "/boot-source".into(), boot));
    Ok(calls)
}
