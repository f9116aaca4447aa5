//! QEMU, through QMP, as two hypervisors: with the machine q35 and with microvm. Versions 7.2 to 10 are the ones that were tried.

mod argv;
mod board;
mod machine;
mod qmp;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use self::board::{Board, QBOOT};
use self::machine::{Kept, Machine};
use super::check::{check_boot, checked, in_place};
use super::detect::{self, ask, unavailable};
use super::launch::{Launcher, Program, Started};
use super::snapshot::{Choice, Manifest, Writer};
use super::supervisor::Wiring;
use super::{Accelerator, Adopted, Description, Hypervisor, HypervisorError, Kind, Launched, MachineSpec, Origin};
use crate::limits::instance::{CONTROL_MS_MAX, LAUNCH_MS_MAX};

/// How QEMU is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuConfig {
    /// QEMU: a path, or a name on `PATH`.
    pub program: PathBuf,
    /// This program itself: run as `<supervisor> supervise` beside every VMM.
    pub supervisor: PathBuf,
    /// What runs the guest's instructions, instead of what the processor's capabilities suggest.
    pub accelerator: Option<Accelerator>,
}

/// QEMU on this host, with one of its machines.
pub struct Qemu {
    description: Description,
    board: Arc<Board>,
    launcher: Launcher,
}

impl Qemu {
    /// Finds out what QEMU can do here with the machine q35. Needs an async runtime, which has to live as long as the machines are followed.
    ///
    /// # Errors
    /// [`HypervisorError::Unavailable`] if it is not installed or does not work.
    pub async fn detect(config: QemuConfig) -> Result<Self, HypervisorError> {
        let (program, machines) = (&config.program, machine_types(Kind::Qemu, &config.program).await?);
        let missing = || unavailable(program, "it does not tell its version of the machine type q35".into());
        let board = Board::q35(resolve_alias("q35", &machines).ok_or_else(missing)?);
        Self::with(board, config).await
    }

    /// Finds out what QEMU can do here with the machine microvm. Needs an async runtime, as [`Qemu::detect`] does.
    ///
    /// # Errors
    /// [`HypervisorError::Unavailable`] if it is not installed, does not work, or has no such machine.
    pub async fn detect_microvm(config: QemuConfig) -> Result<Self, HypervisorError> {
        let (program, machines) = (&config.program, machine_types(Kind::QemuMicrovm, &config.program).await?);
        if !machines.lines().any(|line| line.starts_with("microvm ")) {
            return Err(unavailable(program, "it has no machine type microvm".into()));
        }
        let folders = ask(Kind::QemuMicrovm, program, &["-L", "help"]).await?;
        let has_qboot = folders.lines().any(|folder| Path::new(folder).join(QBOOT).is_file());
        Self::with(Board::microvm(has_qboot), config).await
    }

    async fn with(board: Board, config: QemuConfig) -> Result<Self, HypervisorError> {
        let QemuConfig { program, supervisor, accelerator } = config;
        let program = detect::program(&program)?;
        let kind = board.kind;
        let version = detect::version(&ask(kind, &program, &["--version"]).await?, "version ");
        let (accelerator, accelerator_reason) = choose_accelerator(accelerator);
        let description = Description {
            name: kind.as_str(),
            version: version.ok_or_else(|| unavailable(&program, "it does not tell its version".into()))?,
            accelerator,
            accelerator_reason,
            machine_type: Some(board.machine_type().into()),
            vcpus_max: kind.vcpus_max(),
            capabilities: kind.capabilities(),
            program,
        };
        Ok(Self { description, board: Arc::new(board), launcher: Launcher::new(supervisor)? })
    }

    async fn launch_machine(&self, spec: &MachineSpec, origin: Origin) -> Result<Launched, HypervisorError> {
        let spec = &checked(spec, &self.description)?;
        let snapshot = match origin {
            Origin::Boot => None,
            Origin::Snapshot(folder) => Some((Manifest::read(&folder, self.board.kind)?, folder)),
        };
        let choice = match &snapshot {
            None => {
                check_boot(spec)?;
                self.choose(spec)
            }
            Some((manifest, folder)) => self.choose_again(spec, manifest, folder)?,
        };
        let args = argv::args(&self.board, spec, &choice, snapshot.is_some())?;
        let kept = Kept { choice };
        let program = Program { path: &self.description.program, args, wiring: Wiring::Qemu };
        let started = self.launcher.start(spec, program, &kept).await?;
        let control = async {
            let machine = self.greet(spec, kept, &started, LAUNCH_MS_MAX).await?;
            if let Some((manifest, folder)) = snapshot {
                machine.load(folder, manifest).await?;
            }
            Ok(machine)
        };
        let control = control.await;
        started.under(control).await
    }

    async fn adopt_machine(&self, spec: &MachineSpec) -> Result<Adopted, HypervisorError> {
        let spec = &in_place(spec)?;
        let found = self.launcher.find(spec).await?;
        let control = async |started: &Started| {
            let kept = self.launcher.kept(spec)?;
            let machine = self.greet(spec, kept, started, CONTROL_MS_MAX).await?;
            machine.identify().await?;
            Ok(machine)
        };
        found.adopted(control).await
    }

    async fn greet(
        &self,
        spec: &MachineSpec,
        kept: Kept,
        started: &Started,
        ms: u64,
    ) -> Result<Machine, HypervisorError> {
        let vmm = started.vmm.clone();
        Machine::greet(self.board.clone(), spec.clone(), kept, vmm, started.supervisor_pid, ms).await
    }

    /// What a boot is started with.
    fn choose(&self, spec: &MachineSpec) -> Choice {
        let Description { accelerator, machine_type, .. } = &self.description;
        Choice {
            machine_type: spec.machine_type.clone().or_else(|| machine_type.clone()),
            accelerator: *accelerator,
            cpu_model: spec.cpu_model.clone(),
        }
    }

    /// What a restore is started with: the snapshot's, if it fits.
    fn choose_again(&self, spec: &MachineSpec, manifest: &Manifest, folder: &Path) -> Result<Choice, HypervisorError> {
        let choice = manifest.choice();
        let here = Choice { accelerator: self.description.accelerator, ..choice.clone() };
        let writer = Writer { kind: self.board.kind, version: self.description.version.clone() };
        manifest.check(folder, spec, &here, &writer)?;
        Ok(choice)
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

    fn end<'a>(&'a self, spec: &'a MachineSpec) -> BoxFuture<'a, Result<(), HypervisorError>> {
        self.launcher.end(spec).boxed()
    }
}

/// The list of machine types that QEMU has.
async fn machine_types(kind: Kind, program: &Path) -> Result<String, HypervisorError> {
    ask(kind, program, &["-machine", "help"]).await
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
    match detect::kvm() {
        Ok(()) => (Accelerator::Kvm, "the processor has hardware virtualisation and /dev/kvm can be opened".into()),
        Err(reason) => (Accelerator::Tcg, reason),
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
