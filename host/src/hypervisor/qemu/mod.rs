//! QEMU, through QMP, as two hypervisors: with the machine types q35 and microvm. Tested with
//! versions 7.2 to 10.

mod argv;
mod board;
mod machine;
mod qmp;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::board::{Board, QBOOT, SANDBOX};
use self::machine::{Kept, QemuVm};
pub(super) use self::qmp::answers;
use super::detect::{self, ask, unavailable};
use super::launch::Started;
use super::managed::{Greeting, Managed, Plan, SnapshotSource, Source, Vendor};
use super::snapshot::{Choice, SavedBy};
use super::supervisor::Wiring;
use super::{Accelerator, Description, HypervisorError, Kind, MachineSpec, Supervising};

/// Configuration of QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuConfig {
    /// QEMU: a path, or a name on `PATH`.
    pub program: PathBuf,
    /// This program itself, beside every VMM.
    pub supervisor: Supervising,
    /// Accelerator of guests; `None` for KVM if it can be used, otherwise TCG.
    pub accelerator: Option<Accelerator>,
}

/// QEMU on this host, with one machine type.
pub type Qemu = Managed<QemuVendor>;

/// QEMU's differences from other vendors.
pub struct QemuVendor {
    board: Arc<Board>,
}

impl Qemu {
    /// Detects QEMU on this host, with the machine type q35. Needs an async runtime, which has to
    /// live as long as the machines are followed.
    ///
    /// # Errors
    /// [`HypervisorError::Unavailable`] if QEMU is not installed or does not work.
    pub async fn detect(config: QemuConfig) -> Result<Self, HypervisorError> {
        let program = &config.program;
        let Found { machines, has_sandbox } = find(Kind::Qemu, program).await?;
        let missing = || unavailable(program, "its `-machine help` names no version of q35".into());
        let board = Board::q35(resolve_alias("q35", &machines).ok_or_else(missing)?, has_sandbox);
        Self::with(board, config).await
    }

    /// Detects QEMU on this host, with the machine type microvm. Needs an async runtime, as
    /// [`Qemu::detect`] does.
    ///
    /// # Errors
    /// [`HypervisorError::Unavailable`] if QEMU is not installed, does not work, or has no such
    /// machine type.
    pub async fn detect_microvm(config: QemuConfig) -> Result<Self, HypervisorError> {
        let program = &config.program;
        let Found { machines, has_sandbox } = find(Kind::QemuMicrovm, program).await?;
        if !machines.lines().any(|line| line.starts_with("microvm ")) {
            return Err(unavailable(program, "it has no machine type microvm".into()));
        }
        let folders = ask(Kind::QemuMicrovm, program, &["-L", "help"]).await?;
        let has_qboot = folders.lines().any(|folder| Path::new(folder).join(QBOOT).is_file());
        Self::with(Board::microvm(has_qboot, has_sandbox), config).await
    }

    async fn with(board: Board, config: QemuConfig) -> Result<Self, HypervisorError> {
        let QemuConfig { program, supervisor, accelerator } = config;
        let program = detect::program(&program)?;
        let kind = board.kind;
        let version = detect::version(&ask(kind, &program, &["--version"]).await?, "version ");
        let (accelerator, accelerator_reason) = choose_accelerator(accelerator);
        let description = Description {
            name: kind.as_str(),
            version: version
                .ok_or_else(|| unavailable(&program, "its `--version` names no version".into()))?,
            accelerator,
            accelerator_reason,
            machine_type: Some(board.machine_type().into()),
            vcpus_max: kind.vcpus_max(),
            capabilities: kind.capabilities(),
            program,
        };
        Self::new(QemuVendor { board: Arc::new(board) }, description, supervisor)
    }
}

impl QemuVendor {
    /// The choice for a boot.
    fn choose(&self, here: &Description, spec: &MachineSpec) -> Choice {
        Choice {
            machine_type: spec.machine_type.clone().or_else(|| here.machine_type.clone()),
            accelerator: here.accelerator,
            cpu_model: spec.cpu_model.clone(),
        }
    }

    /// The choice for a restore: the snapshot's, if it fits.
    fn choose_again(
        &self,
        here: &Description,
        spec: &MachineSpec,
        snapshot: &SnapshotSource,
    ) -> Result<Choice, HypervisorError> {
        let choice = snapshot.manifest.choice();
        let fits = Choice { accelerator: here.accelerator, ..choice.clone() };
        let saved_by = SavedBy { kind: self.board.kind, version: here.version.clone() };
        snapshot.manifest.check(&snapshot.folder, spec, &fits, &saved_by)?;
        Ok(choice)
    }
}

impl Vendor for QemuVendor {
    const WIRING: Wiring = Wiring::Qemu;
    // The memory is checked while it is streamed.
    const READS_SNAPSHOTS: bool = false;
    type Kept = Kept;
    type Machine = QemuVm;

    fn kind(&self) -> Kind {
        self.board.kind
    }

    fn launch(
        &self,
        here: &Description,
        spec: &MachineSpec,
        source: &Source,
    ) -> Result<Plan<Kept, ()>, HypervisorError> {
        let choice = match source {
            Source::Boot => self.choose(here, spec),
            Source::Snapshot(snapshot) => self.choose_again(here, spec, snapshot)?,
        };
        let is_incoming = matches!(source, Source::Snapshot(_));
        let args = argv::args(&self.board, spec, &choice, is_incoming)?;
        Ok(Plan { args, kept: Kept { choice }, config: () })
    }

    async fn greet(
        &self,
        spec: &MachineSpec,
        kept: Kept,
        started: &Started,
        greeting: Greeting,
    ) -> Result<QemuVm, HypervisorError> {
        let vm = QemuVm::new(self.board.clone(), spec.clone(), kept, started);
        vm.greet(started.supervisor_pid, greeting.ms_max()).await?;
        match greeting {
            // The supervisor has just made the socket: no other process can answer on it.
            Greeting::Launched => {}
            Greeting::Adopted => vm.identify().await?,
        }
        Ok(vm)
    }
}

/// Abilities of the installed QEMU.
struct Found {
    /// Output of `-machine help`: the list of machine types.
    machines: String,
    /// True if QEMU was built with its seccomp sandbox.
    has_sandbox: bool,
}

/// Runs QEMU for its list of machine types, with the sandbox if it has one.
async fn find(kind: Kind, program: &Path) -> Result<Found, HypervisorError> {
    const MACHINES: [&str; 2] = ["-machine", "help"];
    let [option, value] = SANDBOX;
    if let Ok(machines) = ask(kind, program, &[option, value, MACHINES[0], MACHINES[1]]).await {
        return Ok(Found { machines, has_sandbox: true });
    }
    let machines = ask(kind, program, &MACHINES).await?;
    tracing::warn!(
        program = %program.display(),
        "this QEMU was built without its sandbox (seccomp); guests run without it"
    );
    Ok(Found { machines, has_sandbox: false })
}

/// Returns the versioned machine type for which `alias` stands: a snapshot must not depend on the
/// meaning of the alias in another version.
fn resolve_alias(alias: &str, machines: &str) -> Option<String> {
    machines.lines().find_map(|line| {
        let (name, description) = line.split_once(' ')?;
        let (_, target) = description.split_once("(alias of ")?;
        (name == alias).then(|| target.trim_end().trim_end_matches(')').to_owned())
    })
}

/// Returns the accelerator for this host and the reason for it, in words.
fn choose_accelerator(wanted: Option<Accelerator>) -> (Accelerator, String) {
    if let Some(wanted) = wanted {
        return (wanted, "the configuration says so".into());
    }
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_virtualisation(&cpuinfo) {
        return (Accelerator::Tcg, "the processor has neither vmx nor svm".into());
    }
    match detect::kvm() {
        Ok(()) => (
            Accelerator::Kvm,
            "the processor has hardware virtualisation and /dev/kvm can be opened".into(),
        ),
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
