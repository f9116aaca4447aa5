//! QEMU, through QMP. Versions 7.2 to 10 are the ones that were tried.

mod argv;
mod machine;
mod qmp;
mod snapshot;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::timeout;

use self::argv::Choice;
use self::machine::{Kept, Machine};
use self::snapshot::Manifest;
use super::launch::{Found, Launcher, Started};
use super::{Accelerator, Adopted, Description, Hypervisor, HypervisorError, Kind, Launched, MachineSpec, Origin, Vm};
use crate::limits::instance::{CONTROL_MS_MAX, LAUNCH_MS_MAX};

/// How QEMU is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuConfig {
    /// QEMU: a path, or a name on `PATH`.
    pub program: PathBuf,
    /// This program itself: run as `<supervisor> supervise <folder>` beside every VMM.
    pub supervisor: PathBuf,
    /// What runs the guest's instructions, instead of what the processor's capabilities suggest.
    pub accelerator: Option<Accelerator>,
}

/// QEMU on this host.
pub struct Qemu {
    description: Description,
    launcher: Launcher,
}

impl Qemu {
    /// Finds out what QEMU can do here. Needs an async runtime, which has to live as long as the machines are followed.
    ///
    /// # Errors
    /// [`HypervisorError::Unavailable`] if it is not installed or does not work.
    pub async fn detect(config: QemuConfig) -> Result<Self, HypervisorError> {
        let QemuConfig { program, supervisor, accelerator } = config;
        let (version, machines) = (ask(&program, &["--version"]).await?, ask(&program, &["-machine", "help"]).await?);
        let answered = |what: &str| unavailable(&program, format!("it does not tell its {what}"));
        let (accelerator, accelerator_reason) = choose_accelerator(accelerator);
        let description = Description {
            name: Kind::Qemu.as_str(),
            version: parse_version(&version).ok_or_else(|| answered("version"))?,
            accelerator,
            accelerator_reason,
            machine_type: resolve_alias("q35", &machines).ok_or_else(|| answered("version of the machine type q35"))?,
            capabilities: Kind::Qemu.capabilities(),
            program,
        };
        Ok(Self { description, launcher: Launcher::new(supervisor)? })
    }

    async fn launch_machine(&self, spec: &MachineSpec, origin: Origin) -> Result<Launched, HypervisorError> {
        let spec = &in_place(spec)?;
        let snapshot = match origin {
            Origin::Boot => None,
            Origin::Snapshot(folder) => Some((Manifest::read(&folder)?, folder)),
        };
        let choice = match &snapshot {
            None => self.choose(spec),
            Some((manifest, folder)) => {
                let choice = manifest.choice();
                manifest.check(
                    folder,
                    spec,
                    &Choice { accelerator: self.description.accelerator, ..choice.clone() },
                )?;
                choice
            }
        };
        let args = argv::args(spec, &choice, snapshot.is_some())?;
        let kept = Kept { version: self.description.version.clone(), choice };
        let started = self.launcher.start(spec, &self.description.program, args, &kept).await?;
        let up = async {
            let machine = greet(spec, kept, &started, LAUNCH_MS_MAX).await?;
            if let Some((manifest, folder)) = snapshot {
                machine.load(folder, manifest).await?;
            }
            Ok(machine)
        };
        match up.await {
            Ok(machine) => Ok(launched(machine, started)),
            Err(error) => Err(started.give_up(error).await),
        }
    }

    async fn adopt_machine(&self, spec: &MachineSpec) -> Result<Adopted, HypervisorError> {
        let spec = &in_place(spec)?;
        match self.launcher.find(spec).await? {
            Found::NeverLaunched => Ok(Adopted::NeverLaunched),
            Found::Lost { boot, history } => Ok(Adopted::Lost { boot, history }),
            Found::Exited { boot, history, exit } => Ok(Adopted::Exited { boot, history, exit }),
            Found::Alive(started) => {
                let machine = greet(spec, self.launcher.kept(spec)?, &started, CONTROL_MS_MAX).await?;
                let state = machine.state().await?;
                Ok(Adopted::Alive { launched: launched(machine, started), state })
            }
        }
    }

    /// What a boot is started with.
    fn choose(&self, spec: &MachineSpec) -> Choice {
        let Description { accelerator, machine_type, .. } = &self.description;
        Choice {
            machine_type: spec.machine_type.clone().unwrap_or_else(|| machine_type.clone()),
            accelerator: *accelerator,
            cpu_model: spec.cpu_model.clone(),
        }
    }
}

impl Hypervisor for Qemu {
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
}

/// The spec with its folder independent of where this process stands: the next one may stand elsewhere.
fn in_place(spec: &MachineSpec) -> Result<MachineSpec, HypervisorError> {
    let dir = std::path::absolute(&spec.dir).map_err(HypervisorError::file("resolve", &spec.dir))?;
    Ok(MachineSpec { dir, ..spec.clone() })
}

async fn greet(spec: &MachineSpec, kept: Kept, started: &Started, ms: u64) -> Result<Machine, HypervisorError> {
    Machine::greet(spec.clone(), kept, started.vmm.clone(), started.supervisor_pid, ms).await
}

fn launched(machine: Machine, started: Started) -> Launched {
    Launched { pid: started.vmm.pid(), vm: Arc::new(machine), observed: started.observed }
}

fn unavailable(program: &Path, reason: String) -> HypervisorError {
    HypervisorError::Unavailable { program: program.display().to_string(), reason }
}

/// What the program prints when it is run with these arguments.
async fn ask(program: &Path, args: &[&str]) -> Result<String, HypervisorError> {
    let output = tokio::process::Command::new(program).args(args).kill_on_drop(true).output();
    let output = timeout(Duration::from_millis(CONTROL_MS_MAX), output).await;
    let output = output.map_err(|_| unavailable(program, format!("no answer in {CONTROL_MS_MAX} ms")))?;
    let hint = "is it installed? Debian: apt install qemu-system-x86";
    let output = output.map_err(|error| unavailable(program, format!("{error}; {hint}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(unavailable(program, format!("{}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `7.2.22` out of `QEMU emulator version 7.2.22 (Debian ...)`.
fn parse_version(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("version ")?;
    rest.split_whitespace().next().map(String::from)
}

/// The machine type with a version for which `alias` stands: a snapshot must not depend on what the alias means tomorrow.
fn resolve_alias(alias: &str, machines: &str) -> Option<String> {
    machines.lines().find_map(|line| {
        let (name, description) = line.split_once(' ')?;
        let (_, target) = description.split_once("(alias of ")?;
        (name == alias).then(|| target.trim_end().trim_end_matches(')').to_owned())
    })
}

/// What runs the guest's instructions here, and why.
fn choose_accelerator(wanted: Option<Accelerator>) -> (Accelerator, String) {
    if let Some(wanted) = wanted {
        return (wanted, "the configuration says so".into());
    }
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_virtualisation(&cpuinfo) {
        return (Accelerator::Tcg, "the processor has neither vmx nor svm".into());
    }
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => (Accelerator::Kvm, "the processor has hardware virtualisation and /dev/kvm can be opened".into()),
        Err(error) => (Accelerator::Tcg, format!("/dev/kvm can't be opened: {error}")),
    }
}

fn has_virtualisation(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_number_alone() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright (c) 2003-2022";
        assert_eq!(parse_version(debian).as_deref(), Some("7.2.22"));
        assert_eq!(parse_version("QEMU emulator version 10.0.13\n").as_deref(), Some("10.0.13"));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn an_alias_is_resolved_to_its_version() {
        let machines = "Supported machines are:\n\
            microvm              microvm (i386)\n\
            pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)\n\
            q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)\n\
            pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)\n";
        assert_eq!(resolve_alias("q35", machines).as_deref(), Some("pc-q35-7.2"));
        assert_eq!(resolve_alias("microvm", machines), None);
    }

    #[test]
    fn only_a_whole_flag_is_hardware_virtualisation() {
        assert!(has_virtualisation("processor : 0\nflags\t\t: fpu vmx sse\n"));
        assert!(has_virtualisation("flags : svm"));
        assert!(!has_virtualisation("flags : fpu svm_lock\nbugs : vmx"));
    }

    #[test]
    fn a_configured_accelerator_is_taken_without_a_look_at_the_host() {
        for wanted in [Accelerator::Kvm, Accelerator::Tcg] {
            assert_eq!(choose_accelerator(Some(wanted)).0, wanted);
        }
    }
}
