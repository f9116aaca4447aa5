//! The hypervisor seam over real QEMU processes: QEMU's own behaviour, and properties that do not
//! depend on the hypervisor. The conformance suite tests those that all share.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, getsid};
use tallyman::hypervisor::{
    Accelerator, Adopted, Disk, Hypervisor, HypervisorError, Kind, Launched, MachineSpec, Observed,
    Origin, Qemu, QemuConfig, VmState, files,
};
use tallyman_tests::machine::{self, Bed, exit, gone, kill, next, pid_of, until};

/// Program of this run that stands in for the daemon's.
const STAND_IN: &str = env!("CARGO_BIN_EXE_stand-in");

/// A bed with QEMU.
struct Host {
    bed: Bed,
    qemu: Arc<dyn Hypervisor>,
}

impl Host {
    async fn new() -> Self {
        let qemu: Arc<dyn Hypervisor> = Arc::new(machine::qemu(Path::new(STAND_IN)).await);
        Self { bed: Bed::new(Kind::Qemu, qemu.clone()), qemu }
    }

    fn spec(&self) -> MachineSpec {
        self.bed.spec("first")
    }

    fn spec_of(&self, name: &str) -> MachineSpec {
        self.bed.spec(name)
    }

    fn snapshot(&self) -> PathBuf {
        self.bed.path("snapshot")
    }

    async fn ready(&self, spec: &MachineSpec) -> Launched {
        self.bed.ready(spec).await
    }

    /// Leaves a snapshot of a machine that has ended.
    async fn snapshot_of(&self, spec: &MachineSpec) {
        let mut launched = self.ready(spec).await;
        launched.vm.pause().await.expect("pause");
        launched.vm.save(&self.snapshot()).await.expect("save");
        launched.vm.quit().await.expect("quit");
        exit(&mut launched).await;
    }

    async fn adopt(&self, spec: &MachineSpec) -> Adopted {
        self.qemu.adopt(spec).await.expect("adopt")
    }
}

#[tokio::test]
async fn a_machine_that_never_ran_and_one_that_was_restored_can_be_saved_too() {
    let host = Host::new().await;
    let spec = host.spec();
    let mut launched = host.qemu.launch(&spec, Origin::Boot).await.expect("launch");
    launched.vm.save(&host.snapshot()).await.expect("save before it ran");
    launched.vm.quit().await.expect("quit");
    exit(&mut launched).await;
    let spec = MachineSpec { incarnation: 2, ..spec };
    let mut launched =
        host.qemu.launch(&spec, Origin::Snapshot(host.snapshot())).await.expect("restore");
    let second = host.bed.path("second");
    launched.vm.save(&second).await.expect("save what was restored");
    launched.vm.quit().await.expect("quit");
    exit(&mut launched).await;
    let spec = MachineSpec { incarnation: 3, ..spec };
    let mut launched =
        host.qemu.launch(&spec, Origin::Snapshot(second)).await.expect("restore again");
    launched.vm.resume().await.expect("resume");
    assert!(matches!(next(&mut launched).await, Observed::ProgramStarted(_)));
}

#[tokio::test]
async fn a_machine_and_its_supervisor_are_in_a_session_of_their_own() {
    let host = Host::new().await;
    let spec = host.spec();
    let launched = host.qemu.launch(&spec, Origin::Boot).await.expect("launch");
    let supervisor =
        pid_of(&files::run(&spec.dir, spec.incarnation), "supervisor").expect("identity");
    for pid in [supervisor, launched.pid] {
        let session = getsid(Pid::from_raw(pid.cast_signed())).expect("session");
        assert_eq!(session.as_raw_pid(), supervisor.cast_signed());
    }
}

#[tokio::test]
async fn a_launch_that_was_ordered_and_never_begun_can_not_begin_any_more() {
    let host = Host::new().await;
    let spec = host.spec();
    let run = files::run(&spec.dir, spec.incarnation);
    fs::create_dir_all(&run).expect("create");
    let order = format!(
        r#"{{"dir":{:?},"program":"/bin/true","args":[],"wiring":"qemu","disks":[],"kept":null}}"#,
        spec.dir
    );
    fs::write(run.join("launch.json"), order).expect("order");
    assert!(matches!(host.adopt(&spec).await, Adopted::NeverLaunched));
    assert!(!told(run.as_os_str().as_bytes()).success(), "a late supervisor found something to do");
    assert!(!run.join("identity.json").exists());
    assert!(matches!(host.adopt(&spec).await, Adopted::NeverLaunched));
}

/// Exit status of a supervisor that receives these bytes and nothing more.
fn told(launch: &[u8]) -> ExitStatus {
    let mut supervisor =
        Command::new(STAND_IN).arg("supervise").stdin(Stdio::piped()).spawn().expect("start");
    supervisor.stdin.take().expect("piped").write_all(launch).expect("tell");
    supervisor.wait().expect("wait")
}

#[test]
fn a_supervisor_that_nobody_needed_has_nothing_to_do() {
    assert!(told(b"").success());
}

#[tokio::test]
async fn a_supervisor_that_waits_ends_with_whoever_launches_and_those_that_work_go_on() {
    let host = Host::new().await;
    let spec = host.spec();
    let mut daemon =
        Command::new(STAND_IN).args(["launch", "qemu"]).arg(&spec.dir).spawn().expect("start");
    let parent = daemon.id();
    let both = || {
        let at_work = pid_of(&files::run(&spec.dir, spec.incarnation), "supervisor")?;
        let others = processes().filter(|&(pid, of)| of == parent && pid != at_work);
        others.map(|(waits, _)| (at_work, waits)).next()
    };
    let mut seen = None;
    until("supervisor that waits", || {
        seen = both();
        seen.is_some()
    })
    .await;
    let (at_work, waits) = seen.expect("both");
    daemon.kill().and_then(|()| daemon.wait()).expect("kill");
    gone(waits).await;
    assert!(matches!(host.adopt(&spec).await, Adopted::Alive { .. }));
    assert!(processes().any(|(pid, _)| pid == at_work), "the supervisor of a machine ended too");
}

/// All processes, each with its parent.
fn processes() -> impl Iterator<Item = (u32, u32)> {
    let found = fs::read_dir("/proc").expect("/proc").flatten();
    found.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(process.path().join("stat")).ok()?;
        // The name may contain anything; state and parent follow it.
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        Some((pid, parent))
    })
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let host = Host::new().await;
    let config = |program: &str, supervisor: &str| QemuConfig {
        program: program.into(),
        supervisor: supervisor.into(),
        accelerator: Some(Accelerator::Tcg),
    };
    match Qemu::detect(config("no-such-emulator", STAND_IN)).await.err() {
        Some(HypervisorError::Unavailable { program, reason }) => {
            assert_eq!(program, "no-such-emulator");
            assert!(reason.contains("apt install qemu-system-x86"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let qemu = Qemu::detect(config("qemu-system-x86_64", "/no/such/supervisor"))
        .await
        .expect("found out at a launch");
    let error = qemu.launch(&host.spec(), Origin::Boot).await.err();
    assert!(matches!(error, Some(HypervisorError::Supervisor { .. })), "{error:?}");
    // The supervisor ends without identity and events.
    let qemu = Qemu::detect(config("qemu-system-x86_64", "/bin/false"))
        .await
        .expect("found out at a launch");
    let error = qemu.launch(&host.spec_of("second"), Origin::Boot).await.err();
    assert!(matches!(error, Some(HypervisorError::Launch { .. })), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_at_its_deadline_and_the_next_call_works() {
    let host = Host::new().await;
    let launched = host.ready(&host.spec()).await;
    kill(launched.pid, Signal::STOP);
    let silent = launched.vm.state().await;
    assert!(
        matches!(silent, Err(HypervisorError::Deadline { call: "query-status", .. })),
        "{silent:?}"
    );
    kill(launched.pid, Signal::CONT);
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
}

#[tokio::test]
async fn a_launch_that_fails_says_why_and_leaves_no_process() {
    let host = Host::new().await;
    let junk = host.bed.path("junk");
    fs::write(&junk, "this is no kernel").expect("write");
    let no_kernel = MachineSpec { kernel: junk, ..host.spec_of("kernel") };
    let no_cpu = MachineSpec { cpu_model: Some("abacus".into()), ..host.spec_of("cpu") };
    let no_type = MachineSpec { machine_type: Some("abacus".into()), ..host.spec_of("type") };
    let rows = [(no_kernel, "kernel"), (no_cpu, "abacus"), (no_type, "unsupported machine type")];
    for (spec, named) in rows {
        match host.qemu.launch(&spec, Origin::Boot).await.err() {
            Some(HypervisorError::Launch { status, log }) => {
                assert_eq!(status, "exit code 1");
                assert!(log.contains(named), "{log}");
            }
            other => panic!("{other:?}"),
        }
        gone(pid_of(&files::run(&spec.dir, spec.incarnation), "vmm").expect("identity")).await;
        assert!(matches!(host.adopt(&spec).await, Adopted::Exited { .. }));
    }
}

#[tokio::test]
async fn a_folder_with_unusual_characters_and_disks_work() {
    let host = Host::new().await;
    let mut spec = host.spec();
    spec.dir = host.bed.path("a b,c=\"d\"{console}");
    let kernel = host.bed.path("kernel, with=commas");
    fs::copy(&spec.kernel, &kernel).expect("copy");
    let disk = host.bed.path("disk, one");
    fs::write(&disk, vec![0; 1 << 20]).expect("disk");
    let disks = vec![
        Disk { path: disk.clone(), read_only: false },
        Disk { path: kernel.clone(), read_only: true },
    ];
    let spec = MachineSpec { kernel, disks, cmdline: "fd={control},x=\"y\" %s".into(), ..spec };
    host.snapshot_of(&spec).await;
    let spec = MachineSpec { incarnation: 2, ..spec };
    host.qemu.launch(&spec, Origin::Snapshot(host.snapshot())).await.expect("restore");
}

#[tokio::test]
async fn the_description_says_what_runs_and_why() {
    let host = Host::new().await;
    let description = host.qemu.describe();
    assert_eq!((host.qemu.name(), description.name), ("qemu", "qemu"));
    assert!(
        description.version.starts_with(|c: char| c.is_ascii_digit()),
        "{}",
        description.version
    );
    let machine_type = description.machine_type.as_deref().expect("a machine type");
    assert!(machine_type.starts_with("pc-q35-"), "{machine_type}");
    assert_eq!(description.accelerator_reason, "the configuration says so");
}
