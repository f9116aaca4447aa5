//! Machines for tests, on the real hypervisors of this host.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tallyman::hypervisor::{
    Accelerator, CloudHypervisor, CloudHypervisorConfig, Exit, Firecracker, FirecrackerConfig,
    Hypervisor, HypervisorError, Kind, Launched, MachineSpec, Observed, Origin, Qemu, QemuConfig,
    files,
};
use tempfile::TempDir;

use crate::guest;

/// Time after which a wait fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks at a condition that nothing reports.
pub const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Memory of a machine in bytes.
pub const MEMORY_BYTES: u64 = 16 << 20;

/// Specification of the tiny guest's first launch in the folder `dir`, whose name is also its id.
pub fn spec(kind: Kind, dir: &Path) -> MachineSpec {
    let name = dir.file_name().and_then(|name| name.to_str()).expect("a folder with a name");
    MachineSpec {
        dir: dir.into(),
        id: name.parse().expect("a folder with the name of an instance"),
        name: name.parse().expect("a folder with the name of an instance"),
        incarnation: 1,
        vcpus: 1,
        memory_bytes: MEMORY_BYTES,
        memory_bytes_max: None,
        kernel: guest::tiny().into(),
        initrd: None,
        cmdline: format!("vmm={kind}"),
        disks: Vec::new(),
        machine_type: None,
        cpu_model: None,
        network: None,
        agent: false,
    }
}

/// QEMU without hardware help, which every host has.
pub async fn qemu(supervisor: &Path) -> Qemu {
    let program = program(Kind::Qemu);
    let supervisor = supervisor.into();
    Qemu::detect(QemuConfig { program, supervisor, accelerator: Some(Accelerator::Tcg) })
        .await
        .expect("QEMU works here")
}

/// A hypervisor of this host.
///
/// # Errors
/// [`HypervisorError`] with the reason why it can't be used.
pub async fn detect(kind: Kind, supervisor: &Path) -> Result<Arc<dyn Hypervisor>, HypervisorError> {
    let program = program(kind);
    let supervisor = supervisor.into();
    let accelerator = Some(Accelerator::Tcg);
    Ok(match kind {
        Kind::Qemu => {
            Arc::new(Qemu::detect(QemuConfig { program, supervisor, accelerator }).await?)
        }
        Kind::QemuMicrovm => {
            Arc::new(Qemu::detect_microvm(QemuConfig { program, supervisor, accelerator }).await?)
        }
        Kind::CloudHypervisor => {
            Arc::new(CloudHypervisor::detect(CloudHypervisorConfig { program, supervisor }).await?)
        }
        Kind::Firecracker => {
            Arc::new(Firecracker::detect(FirecrackerConfig { program, supervisor }).await?)
        }
    })
}

/// The program of a hypervisor: the one that the environment names, the one that the set-up has put
/// into `target/`, or a name on `PATH`.
pub fn program(kind: Kind) -> PathBuf {
    let (variable, name) = match kind {
        Kind::Qemu | Kind::QemuMicrovm => ("TALLYMAN_TEST_QEMU", "qemu-system-x86_64"),
        Kind::CloudHypervisor => ("TALLYMAN_TEST_CLOUD_HYPERVISOR", "cloud-hypervisor"),
        Kind::Firecracker => ("TALLYMAN_TEST_FIRECRACKER", "firecracker"),
    };
    let set_up = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/vmm").join(name);
    match env::var_os(variable) {
        Some(path) => path.into(),
        None if set_up.is_file() => set_up,
        None => name.into(),
    }
}

/// A folder of instances and a hypervisor. Dropping it ends every machine that still runs.
pub struct Bed {
    /// Kind of the hypervisor.
    pub kind: Kind,
    /// The hypervisor.
    pub hypervisor: Arc<dyn Hypervisor>,
    folder: TempDir,
}

impl Bed {
    /// A bed with an empty folder.
    pub fn new(kind: Kind, hypervisor: Arc<dyn Hypervisor>) -> Self {
        Self { kind, hypervisor, folder: TempDir::new().expect("folder") }
    }

    /// A path in the bed's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Specification of the first launch of the machine `name`.
    pub fn spec(&self, name: &str) -> MachineSpec {
        spec(self.kind, &self.path(name))
    }

    /// Specification of the machine `name` with words on its command line.
    pub fn spec_with(&self, name: &str, words: &str) -> MachineSpec {
        let spec = self.spec(name);
        MachineSpec { cmdline: format!("{} {words}", spec.cmdline), ..spec }
    }

    /// Launches a machine and resumes it.
    pub async fn running(&self, spec: &MachineSpec) -> Launched {
        let launched = self.hypervisor.launch(spec, Origin::Boot).await.expect("launch");
        launched.vm.resume().await.expect("resume");
        launched
    }

    /// Launches a machine, and waits until it is ready and has printed its first heartbeats.
    pub async fn ready(&self, spec: &MachineSpec) -> Launched {
        let mut launched = self.running(spec).await;
        assert!(matches!(next(&mut launched).await, Observed::ProgramStarted(_)));
        assert!(matches!(next(&mut launched).await, Observed::AgentReady(_)));
        console_has(spec, "HB 2").await;
        launched
    }

    /// Launches a machine again that has run before, and waits for new heartbeats.
    pub async fn ready_again(&self, spec: &MachineSpec) -> Launched {
        let seen = heartbeats(spec).len();
        let launched = self.running(spec).await;
        heartbeat_after(spec, seen).await;
        launched
    }

    /// Id of a launch's process: `vmm` or `supervisor`.
    pub fn process(&self, spec: &MachineSpec, process: &str) -> u32 {
        pid_of(&files::run(&spec.dir, spec.incarnation), process).expect("identity")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let Ok(instances) = fs::read_dir(self.folder.path()) else { return };
        let runs = instances
            .flatten()
            .filter_map(|instance| fs::read_dir(instance.path().join("run")).ok());
        for run in runs.flatten().flatten() {
            for process in ["vmm", "supervisor"] {
                if let Some(pid) = pid_of(&run.path(), process) {
                    kill_if_ours(pid, self.folder.path());
                }
            }
        }
    }
}

/// Id of a process in a launch's identity: `vmm` or `supervisor`.
pub fn pid_of(run: &Path, process: &str) -> Option<u32> {
    let identity: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("identity.json")).ok()?).ok()?;
    identity[process]["pid"].as_u64()?.try_into().ok()
}

/// Kills a process only if it works in our folder or has it open: process ids are used again.
fn kill_if_ours(pid: u32, folder: &Path) {
    let ours = |link: PathBuf| fs::read_link(link).is_ok_and(|target| target.starts_with(folder));
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return };
    if ours(format!("/proc/{pid}/cwd").into()) || open.flatten().any(|fd| ours(fd.path())) {
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).expect("a process id"), Signal::KILL);
    }
}

/// Sends a signal to a process.
pub fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    kill_process(pid, signal).expect("kill");
}

/// Waits for the outcome of `work`; fails after a minute.
pub async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| panic!("still no {what} after {PATIENCE:?}"))
}

/// Waits for a condition that nothing reports.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    patiently(what, async {
        while !is_so() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await;
}

/// Waits for the next observation.
pub async fn next(launched: &mut Launched) -> Observed {
    patiently("observation", launched.observed.recv())
        .await
        .expect("the stream ends only with an exit")
}

/// Receives observations up to the exit, and checks that none follows it.
pub async fn exit(launched: &mut Launched) -> Exit {
    loop {
        if let Observed::Exited(exit) = next(launched).await {
            assert_eq!(patiently("end of the stream", launched.observed.recv()).await, None);
            return exit;
        }
    }
}

/// Everything that the guest has written to its console.
pub fn console(spec: &MachineSpec) -> String {
    let read = |path| fs::read(path).unwrap_or_default();
    let bytes =
        [read(files::console_log_older(&spec.dir)), read(files::console_log(&spec.dir))].concat();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until the guest has written `text`.
pub async fn console_has(spec: &MachineSpec, text: &str) {
    until(text, || console(spec).contains(text)).await;
}

/// Numbers of all complete heartbeats on the console.
pub fn heartbeats(spec: &MachineSpec) -> Vec<u64> {
    let console = console(spec);
    let complete = console.rsplit_once('\n').map_or("", |(lines, _)| lines);
    complete.lines().filter_map(|line| line.trim().strip_prefix("HB ")?.parse().ok()).collect()
}

/// Waits until there are more than `count` heartbeats.
pub async fn heartbeat_after(spec: &MachineSpec, count: usize) {
    until("heartbeat", || heartbeats(spec).len() > count).await;
}

/// Checks that the heartbeats are numbered from 1 on without a gap or a repetition.
pub fn assert_no_gap(spec: &MachineSpec) {
    let numbers = heartbeats(spec);
    assert!(numbers.iter().zip(1..).all(|(&number, expected)| number == expected), "{numbers:?}");
}

/// Sends bytes to the guest's console.
pub fn type_on_console(spec: &MachineSpec, text: &str) {
    let mut input = fs::OpenOptions::new()
        .write(true)
        .open(files::console_input(&spec.dir))
        .expect("console.in");
    input.write_all(text.as_bytes()).expect("type");
}

/// Returns whether a process has ended; a zombie of another parent has.
pub fn is_gone(pid: u32) -> bool {
    !fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits until a process ends that is not a child of this one.
pub async fn gone(pid: u32) {
    until("end of the process", || is_gone(pid)).await;
}
