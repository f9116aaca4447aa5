//! The hypervisor seam over real QEMU processes: every promise of `tallyman::hypervisor`, with the tiny guest and without hardware help.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, getsid};
use tallyman::hypervisor::{
    Accelerator, Adopted, Disk, ExitStatus, Hypervisor, HypervisorError, Initiator, Kind, Launched, MachineSpec,
    Observed, Origin, Qemu, QemuConfig, SnapshotDefect, Stamp, VmState, files,
};
use tallyman_tests::machine::{
    self, Bed, console, console_has, exit, gone, heartbeat_after, heartbeats, kill, next, pid_of, type_on_console,
    until,
};

/// This run's stand-in for the daemon's program.
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

    /// A snapshot of a machine that has ended, and the number of its last heartbeat.
    async fn snapshot_of(&self, spec: &MachineSpec) -> u64 {
        let mut launched = self.ready(spec).await;
        launched.vm.pause().await.expect("pause");
        launched.vm.save(&self.snapshot()).await.expect("save");
        launched.vm.quit().await.expect("quit");
        exit(&mut launched).await;
        *heartbeats(spec).last().expect("heartbeats")
    }

    async fn adopt(&self, spec: &MachineSpec) -> Adopted {
        self.qemu.adopt(spec).await.expect("adopt")
    }
}

#[tokio::test]
async fn a_machine_is_launched_held_and_announces_itself_once_it_runs() {
    let host = Host::new().await;
    let spec = host.spec();
    let before = Stamp::now();
    let mut launched = host.qemu.launch(&spec, Origin::Boot).await.expect("launch");
    assert_eq!(launched.vm.state().await.expect("state"), VmState::NotStarted);
    assert_eq!(console(&spec), "");
    let held_until = Stamp::now();
    let resumed = launched.vm.resume().await.expect("resume");
    assert!(before < resumed);
    let (Observed::ProgramStarted(started), Observed::AgentReady(ready)) =
        (next(&mut launched).await, next(&mut launched).await)
    else {
        panic!("both markers, in this order");
    };
    assert!(held_until.boottime_ns < started.boottime_ns && started.boottime_ns < ready.boottime_ns);
    assert!(ready.boottime_ns < Stamp::now().boottime_ns);
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
}

#[tokio::test]
async fn a_paused_machine_does_nothing_and_goes_on_where_it_was() {
    let host = Host::new().await;
    let spec = host.spec();
    let launched = host.ready(&spec).await;
    launched.vm.pause().await.expect("pause");
    launched.vm.pause().await.expect("a second pause does nothing");
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Paused);
    // What was sent before the pause may still be on its way to the log; after that, five heartbeats' time of silence.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let held = heartbeats(&spec);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(heartbeats(&spec), held);
    launched.vm.resume().await.expect("resume");
    launched.vm.resume().await.expect("a second resume does nothing");
    heartbeat_after(&spec, held.len() + 1).await;
    let numbers = heartbeats(&spec);
    assert!(numbers.iter().zip(1..).all(|(&number, expected)| number == expected), "{numbers:?}");
}

#[tokio::test]
async fn a_restored_machine_goes_on_with_the_next_heartbeat() {
    let host = Host::new().await;
    let spec = host.spec();
    let mut launched = host.ready(&spec).await;
    launched.vm.pause().await.expect("pause");
    let saved = launched.vm.save(&host.snapshot()).await.expect("save");
    let files = fs::read_dir(host.snapshot()).expect("snapshot").flatten();
    assert_eq!(saved.bytes, files.map(|file| file.metadata().expect("metadata").len()).sum::<u64>());
    launched.vm.quit().await.expect("quit");
    let exit = exit(&mut launched).await;
    assert_eq!((exit.status, exit.initiator, exit.witnessed), (ExitStatus::Code(0), Initiator::Host, true));
    assert!(exit.stamp.boottime_ns > saved.stamp.boottime_ns);

    let spec = MachineSpec { incarnation: 2, ..spec };
    let last = *heartbeats(&spec).last().expect("heartbeats");
    let launched = host.qemu.launch(&spec, Origin::Snapshot(host.snapshot())).await.expect("restore");
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Paused);
    launched.vm.resume().await.expect("resume");
    console_has(&spec, &format!("HB {}", last + 2)).await;
    let numbers = heartbeats(&spec);
    assert!(numbers.iter().zip(1..).all(|(&number, expected)| number == expected), "{numbers:?}");
    assert_eq!(console(&spec).matches("PROGRAM-START").count(), 1);
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
    let mut launched = host.qemu.launch(&spec, Origin::Snapshot(host.snapshot())).await.expect("restore");
    let second = host.bed.path("second");
    launched.vm.save(&second).await.expect("save what was restored");
    launched.vm.quit().await.expect("quit");
    exit(&mut launched).await;
    let spec = MachineSpec { incarnation: 3, ..spec };
    let mut launched = host.qemu.launch(&spec, Origin::Snapshot(second)).await.expect("restore again");
    launched.vm.resume().await.expect("resume");
    assert!(matches!(next(&mut launched).await, Observed::ProgramStarted(_)));
}

#[tokio::test]
async fn a_fork_runs_beside_its_source_from_the_same_heartbeat() {
    let host = Host::new().await;
    let (source, fork) = (host.spec(), host.spec_of("fork"));
    let launched = host.ready(&source).await;
    launched.vm.pause().await.expect("pause");
    launched.vm.save(&host.snapshot()).await.expect("save");
    launched.vm.resume().await.expect("the source goes on after it was saved");
    let forked = host.qemu.launch(&fork, Origin::Snapshot(host.snapshot())).await.expect("fork");
    forked.vm.resume().await.expect("resume");
    console_has(&fork, "HB ").await;
    heartbeat_after(&fork, 0).await;
    let (first, count) = (heartbeats(&fork)[0], heartbeats(&source).len());
    assert!(heartbeats(&source).contains(&first));
    assert!(first > 2);
    heartbeat_after(&source, count).await;
}

#[tokio::test]
async fn a_snapshot_with_one_flipped_byte_never_runs() {
    let host = Host::new().await;
    let spec = host.spec();
    let last = host.snapshot_of(&spec).await;
    let memory = host.snapshot().join("memory");
    let whole = fs::read(&memory).expect("memory");
    for (n, at) in [0, whole.len() / 2, whole.len() - 1].into_iter().enumerate() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&memory, damaged).expect("damage");
        let spec = MachineSpec { incarnation: 2 + u32::try_from(n).expect("small"), ..spec.clone() };
        match host.qemu.launch(&spec, Origin::Snapshot(host.snapshot())).await.err() {
            Some(HypervisorError::Snapshot { path, defect: SnapshotDefect::Checksum { .. } }) => {
                assert_eq!(path, memory)
            }
            other => panic!("byte {at}: {other:?}"),
        }
        gone(pid_of(&files::run(&spec.dir, spec.incarnation), "vmm").expect("identity")).await;
        assert_eq!(heartbeats(&spec).last(), Some(&last));
    }
    fs::write(&memory, whole).expect("mend");
    let spec = MachineSpec { incarnation: 9, ..spec };
    host.qemu.launch(&spec, Origin::Snapshot(host.snapshot())).await.expect("a whole one is accepted");
}

#[tokio::test]
async fn a_snapshot_that_is_cut_missing_or_of_another_machine_starts_no_process() {
    let host = Host::new().await;
    let spec = host.spec();
    host.snapshot_of(&spec).await;
    let spec = MachineSpec { incarnation: 2, ..spec };
    let refuse = async |spec: &MachineSpec| match host.qemu.launch(spec, Origin::Snapshot(host.snapshot())).await.err()
    {
        Some(HypervisorError::Snapshot { path, defect }) => {
            assert!(!files::run(&spec.dir, spec.incarnation).exists());
            (path, defect)
        }
        other => panic!("{other:?}"),
    };
    let mismatch = |defect| match defect {
        SnapshotDefect::Mismatch { expected, actual, .. } => (expected, actual),
        other => panic!("{other:?}"),
    };
    let larger = MachineSpec { memory_bytes: 32 << 20, ..spec.clone() };
    assert_eq!(mismatch(refuse(&larger).await.1), ("16777216".into(), "33554432".into()));
    let wider = MachineSpec { vcpus: 2, ..spec.clone() };
    assert_eq!(mismatch(refuse(&wider).await.1), ("1".into(), "2".into()));
    let disk = Disk { path: "/dev/null".into(), read_only: true };
    let more = MachineSpec { disks: vec![disk], ..spec.clone() };
    assert_eq!(mismatch(refuse(&more).await.1), ("[]".into(), "[true]".into()));

    let (memory, manifest) = (host.snapshot().join("memory"), host.snapshot().join("manifest.json"));
    let whole = fs::read(&memory).expect("memory");
    let expected = whole.len() as u64;
    fs::write(&memory, &whole[..whole.len() - 1]).expect("cut");
    let defect = SnapshotDefect::Size { expected, actual: expected - 1 };
    assert_eq!(refuse(&spec).await, (memory.clone(), defect));
    fs::remove_file(&memory).expect("remove");
    assert_eq!(refuse(&spec).await, (memory, SnapshotDefect::Missing));
    fs::write(&manifest, "{}").expect("damage");
    assert!(matches!(refuse(&spec).await, (path, SnapshotDefect::Manifest(_)) if path == manifest));
    fs::remove_file(&manifest).expect("remove");
    assert_eq!(refuse(&spec).await, (manifest, SnapshotDefect::Missing));
}

#[tokio::test]
async fn a_save_that_fails_leaves_nothing_behind_and_a_machine_that_goes_on() {
    let host = Host::new().await;
    let spec = host.spec();
    let launched = host.ready(&spec).await;
    let running = launched.vm.save(&host.snapshot()).await;
    assert!(matches!(running, Err(HypervisorError::Save { .. })), "a running machine is not saved");
    launched.vm.pause().await.expect("pause");
    let occupied = launched.vm.save(&host.bed.path("")).await;
    assert!(matches!(occupied, Err(HypervisorError::Spec { .. })), "nothing is overwritten");
    let unwritable = launched.vm.save(Path::new("/proc/no/snapshot")).await;
    assert!(matches!(unwritable, Err(HypervisorError::File { .. })));
    assert!(!host.snapshot().exists());
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Paused);
    launched.vm.save(&host.snapshot()).await.expect("the next one works");
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
}

#[tokio::test]
async fn the_end_of_a_machine_is_seen_with_its_cause() {
    let rows = [("q", Initiator::GuestPowerOff), ("r", Initiator::GuestReset)];
    for (key, initiator) in rows {
        let host = Host::new().await;
        let spec = host.spec();
        let mut launched = host.ready(&spec).await;
        let before = Stamp::now();
        type_on_console(&spec, key);
        let exit = exit(&mut launched).await;
        assert_eq!((exit.status, exit.initiator, exit.witnessed), (ExitStatus::Code(0), initiator, true));
        assert!(before < exit.stamp && exit.stamp < Stamp::now());
        launched.vm.kill().expect("the kill of something that has ended does nothing");
    }
}

#[tokio::test]
async fn a_killed_machine_is_seen_with_its_signal() {
    let host = Host::new().await;
    let spec = host.spec();
    let mut launched = host.ready(&spec).await;
    launched.vm.kill().expect("kill");
    let exit = exit(&mut launched).await;
    assert_eq!((exit.status, exit.initiator), (ExitStatus::Signal(9), Initiator::Unknown));
    let after = launched.vm.resume().await;
    assert!(matches!(after, Err(HypervisorError::Disconnected { .. })), "{after:?}");
}

#[tokio::test]
async fn a_guest_that_is_asked_to_stop_powers_itself_off() {
    let host = Host::new().await;
    let mut launched = host.ready(&host.spec()).await;
    let asked = launched.vm.request_stop().await.expect("ask");
    let exit = exit(&mut launched).await;
    assert_eq!((exit.status, exit.initiator), (ExitStatus::Code(0), Initiator::GuestPowerOff));
    assert!(asked.boottime_ns <= exit.stamp.boottime_ns);
}

#[tokio::test]
async fn a_guest_that_hangs_can_be_asked_in_vain_and_killed() {
    let host = Host::new().await;
    let spec = host.spec();
    let mut launched = host.ready(&spec).await;
    type_on_console(&spec, "x");
    console_has(&spec, "HANG").await;
    launched.vm.request_stop().await.expect("ask");
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
    launched.vm.kill().expect("kill");
    assert_eq!(exit(&mut launched).await.status, ExitStatus::Signal(9));
}

#[tokio::test]
async fn the_end_of_the_guests_program_is_heard_with_its_message() {
    let host = Host::new().await;
    let spec = host.spec();
    let mut launched = host.ready(&spec).await;
    type_on_console(&spec, "e");
    match next(&mut launched).await {
        Observed::ProgramExited { code, message, .. } => assert_eq!((code, message.as_str()), (3, "said \"no\"")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_machine_is_adopted_with_everything_that_was_seen_of_it() {
    let host = Host::new().await;
    let spec = host.spec();
    let mut launched = host.qemu.launch(&spec, Origin::Boot).await.expect("launch");
    launched.vm.resume().await.expect("resume");
    let seen = [next(&mut launched).await, next(&mut launched).await];
    let pid = launched.pid;
    drop(launched);

    let Adopted::Alive { mut launched, state } = host.adopt(&spec).await else { panic!("it lives") };
    assert_eq!((launched.pid, state), (pid, VmState::Running));
    assert_eq!([next(&mut launched).await, next(&mut launched).await], seen);
    launched.vm.pause().await.expect("pause");
    drop(launched);

    let Adopted::Alive { mut launched, state } = host.adopt(&spec).await else { panic!("it lives") };
    assert_eq!(state, VmState::Paused);
    launched.vm.quit().await.expect("quit");
    assert_eq!(next(&mut launched).await, seen[0]);
    let end = exit(&mut launched).await;

    let Adopted::Exited { history, exit, .. } = host.adopt(&spec).await else { panic!("it has ended") };
    assert_eq!((history.as_slice(), exit), (&seen[..], end));
    let never = MachineSpec { incarnation: 2, ..spec };
    assert!(matches!(host.adopt(&never).await, Adopted::NeverLaunched));
}

/// A machine whose daemon was another process, which has been killed.
async fn orphan(spec: &MachineSpec) {
    let launcher = Command::new(STAND_IN).args(["launch", "qemu"]).arg(&spec.dir).stdout(Stdio::piped()).spawn();
    let mut launcher = launcher.expect("spawn the launcher");
    let mut line = String::new();
    BufReader::new(launcher.stdout.take().expect("its output")).read_line(&mut line).expect("read");
    assert_eq!(line, "ready\n");
    launcher.kill().and_then(|()| launcher.wait()).expect("kill the launcher");
    console_has(spec, "HB 1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_outlives_the_daemon_that_launched_it_and_its_console_is_not_interrupted() {
    let host = Host::new().await;
    let spec = host.spec();
    orphan(&spec).await;
    heartbeat_after(&spec, heartbeats(&spec).len() + 2).await;
    let Adopted::Alive { launched, state } = host.adopt(&spec).await else { panic!("it lives") };
    assert_eq!(state, VmState::Running);
    launched.vm.pause().await.expect("pause");
    launched.vm.resume().await.expect("resume");
    heartbeat_after(&spec, heartbeats(&spec).len()).await;
    let numbers = heartbeats(&spec);
    assert!(numbers.iter().zip(1..).all(|(&number, expected)| number == expected), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_no_daemon_saw_has_its_true_time_and_cause() {
    let host = Host::new().await;
    let spec = host.spec();
    orphan(&spec).await;
    let run = files::run(&spec.dir, spec.incarnation);
    let before = Stamp::now();
    type_on_console(&spec, "q");
    gone(pid_of(&run, "vmm").expect("identity")).await;
    let after = Stamp::now();
    gone(pid_of(&run, "supervisor").expect("identity")).await;
    let Adopted::Exited { history, exit, boot } = host.adopt(&spec).await else { panic!("it has ended") };
    assert!(matches!(history[..], [Observed::ProgramStarted(_), Observed::AgentReady(_)]));
    assert_eq!((exit.status, exit.initiator, exit.witnessed), (ExitStatus::Code(0), Initiator::GuestPowerOff, true));
    // The process is gone a moment before its supervisor can look at the clock.
    let late = Duration::from_secs(1).as_nanos();
    assert!(before < exit.stamp);
    assert!(u128::from(exit.stamp.boottime_ns) < u128::from(after.boottime_ns) + late);
    assert_eq!(boot, tallyman::clock::boot_id().expect("boot id"));
}

#[tokio::test]
async fn a_machine_outlives_its_supervisor() {
    let host = Host::new().await;
    let spec = host.spec();
    let launched = host.ready(&spec).await;
    let run = files::run(&spec.dir, spec.incarnation);
    let supervisor = pid_of(&run, "supervisor").expect("identity");
    kill(supervisor, Signal::KILL);
    gone(supervisor).await;
    assert_eq!(launched.vm.state().await.expect("state"), VmState::Running);
    drop(launched);

    let Adopted::Alive { mut launched, state } = host.adopt(&spec).await else { panic!("it lives") };
    assert_eq!(state, VmState::Running);
    launched.vm.pause().await.expect("pause");
    launched.vm.resume().await.expect("resume");
    let before = Stamp::now();
    launched.vm.request_stop().await.expect("the guest still hears the power button");
    let exit = exit(&mut launched).await;
    assert_eq!((exit.status, exit.witnessed), (ExitStatus::Unknown, false));
    assert!(before < exit.stamp && exit.stamp < Stamp::now());
    let Adopted::Lost { history, .. } = host.adopt(&spec).await else { panic!("nobody saw the end") };
    assert_eq!(history.len(), 2);
}

#[tokio::test]
async fn a_machine_and_its_supervisor_are_in_a_session_of_their_own() {
    let host = Host::new().await;
    let spec = host.spec();
    let launched = host.qemu.launch(&spec, Origin::Boot).await.expect("launch");
    let supervisor = pid_of(&files::run(&spec.dir, spec.incarnation), "supervisor").expect("identity");
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
    let order =
        format!(r#"{{"dir":{:?},"program":"/bin/true","args":[],"wiring":"qemu","disks":[],"kept":null}}"#, spec.dir);
    fs::write(run.join("launch.json"), order).expect("order");
    assert!(matches!(host.adopt(&spec).await, Adopted::NeverLaunched));
    let late = Command::new(STAND_IN).arg("supervise").arg(&run).output().expect("run a late supervisor");
    assert!(!late.status.success());
    assert!(!run.join("identity.json").exists());
    assert!(matches!(host.adopt(&spec).await, Adopted::NeverLaunched));
}

#[tokio::test]
async fn a_vmm_that_nobody_wrote_down_is_ended_before_it_counts_as_never_launched() {
    let host = Host::new().await;
    let spec = host.spec();
    let launched = host.qemu.launch(&spec, Origin::Boot).await.expect("launch");
    let (run, pid) = (files::run(&spec.dir, spec.incarnation), launched.pid);
    drop(launched);
    let supervisor = pid_of(&run, "supervisor").expect("identity");
    kill(supervisor, Signal::KILL);
    gone(supervisor).await;
    fs::remove_file(run.join("identity.json")).expect("as if it had been killed earlier");
    assert!(matches!(host.adopt(&spec).await, Adopted::NeverLaunched));
    gone(pid).await;
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
    let qemu = Qemu::detect(config("qemu-system-x86_64", "/no/such/supervisor")).await.expect("found out at a launch");
    let error = qemu.launch(&host.spec(), Origin::Boot).await.err();
    assert!(matches!(error, Some(HypervisorError::Supervisor { .. })), "{error:?}");
    // It dies without a word: no identity, no events.
    let qemu = Qemu::detect(config("qemu-system-x86_64", "/bin/false")).await.expect("found out at a launch");
    let error = qemu.launch(&host.spec_of("second"), Origin::Boot).await.err();
    assert!(matches!(error, Some(HypervisorError::Launch { .. })), "{error:?}");
}

#[tokio::test]
async fn an_identity_of_an_earlier_boot_proves_no_life() {
    let host = Host::new().await;
    let spec = host.spec();
    let _launched = host.ready(&spec).await;
    let path = files::run(&spec.dir, spec.incarnation).join("identity.json");
    let text = fs::read_to_string(&path).expect("identity");
    let boot = tallyman::clock::boot_id().expect("boot id");
    let earlier = text.replace(&*boot.0, "00000000-0000-0000-0000-000000000000");
    assert_ne!(earlier, text);
    fs::write(&path, earlier).expect("pretend");
    let Adopted::Lost { boot, history } = host.adopt(&spec).await else { panic!("another boot") };
    assert_eq!((&*boot.0, history.len()), ("00000000-0000-0000-0000-000000000000", 2));
    fs::write(&path, text).expect("mend");
}

#[tokio::test]
async fn a_stranger_on_the_control_socket_is_not_taken_for_the_machine() {
    let host = Host::new().await;
    let spec = host.spec();
    drop(host.ready(&spec).await);
    let control = files::run(&spec.dir, spec.incarnation).join("ctl");
    fs::remove_file(&control).expect("remove");
    let _stranger = std::os::unix::net::UnixListener::bind(&control).expect("bind");
    let error = host.qemu.adopt(&spec).await.err();
    assert!(matches!(error, Some(HypervisorError::Identity { .. })), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_at_its_deadline_and_the_next_call_works() {
    let host = Host::new().await;
    let launched = host.ready(&host.spec()).await;
    kill(launched.pid, Signal::STOP);
    let silent = launched.vm.state().await;
    assert!(matches!(silent, Err(HypervisorError::Deadline { call: "query-status", .. })), "{silent:?}");
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
async fn what_is_not_possible_is_refused_before_anything_starts() {
    let host = Host::new().await;
    let spec = host.spec();
    let rows = [
        MachineSpec { vcpus: 0, ..spec.clone() },
        MachineSpec { vcpus: 65, ..spec.clone() },
        MachineSpec { memory_bytes: 0, ..spec.clone() },
        MachineSpec { memory_bytes: (16 << 20) + 1, ..spec.clone() },
        MachineSpec { cmdline: "x".repeat(2_048), ..spec.clone() },
        MachineSpec { disks: vec![Disk { path: "/dev/null".into(), read_only: true }; 17], ..spec.clone() },
    ];
    for row in rows {
        let error = host.qemu.launch(&row, Origin::Boot).await.err();
        assert!(matches!(error, Some(HypervisorError::Spec { .. })), "{error:?}");
    }
    let deep = MachineSpec { dir: spec.dir.join("x".repeat(100)), ..spec.clone() };
    match host.qemu.launch(&deep, Origin::Boot).await.err() {
        Some(HypervisorError::SocketPathTooLong { path, len, max: 107 }) => assert_eq!(len, path.as_os_str().len()),
        other => panic!("{other:?}"),
    }
    assert!(!spec.dir.exists());
    let no_disk = Disk { path: "/nowhere/disk".into(), read_only: false };
    let no_disk = MachineSpec { disks: vec![no_disk], ..spec };
    match host.qemu.launch(&no_disk, Origin::Boot).await.err() {
        Some(HypervisorError::File { act: "open", path, .. }) => assert_eq!(path, Path::new("/nowhere/disk")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_live_control_socket_and_a_used_incarnation_are_refused() {
    let host = Host::new().await;
    let spec = host.spec();
    let mut launched = host.ready(&spec).await;
    let again = host.qemu.launch(&spec, Origin::Boot).await.err();
    assert!(matches!(again, Some(HypervisorError::SocketInUse { .. })), "{again:?}");
    assert_eq!(launched.vm.state().await.expect("the first one is untouched"), VmState::Running);
    launched.vm.kill().expect("kill");
    exit(&mut launched).await;
    let again = host.qemu.launch(&spec, Origin::Boot).await.err();
    assert!(matches!(again, Some(HypervisorError::Spec { what: "this incarnation", .. })), "{again:?}");
}

#[tokio::test]
async fn a_flooded_console_holds_nothing_up() {
    let host = Host::new().await;
    let spec = MachineSpec { cmdline: "flood".into(), ..host.spec() };
    let mut launched = host.qemu.launch(&spec, Origin::Boot).await.expect("launch");
    launched.vm.resume().await.expect("resume");
    assert!(matches!(next(&mut launched).await, Observed::ProgramStarted(_)));
    until("flood", || fs::metadata(files::console_log(&spec.dir)).is_ok_and(|log| log.len() > 256 << 10)).await;
    launched.vm.pause().await.expect("pause");
    launched.vm.resume().await.expect("resume");
    launched.vm.kill().expect("kill");
    let exit = exit(&mut launched).await;
    assert_eq!((exit.status, exit.witnessed), (ExitStatus::Signal(9), true));
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
    let disks = vec![Disk { path: disk.clone(), read_only: false }, Disk { path: kernel.clone(), read_only: true }];
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
    assert!(description.version.starts_with(|c: char| c.is_ascii_digit()), "{}", description.version);
    let machine_type = description.machine_type.as_deref().expect("a machine type");
    assert!(machine_type.starts_with("pc-q35-"), "{machine_type}");
    assert_eq!(description.accelerator_reason, "the configuration says so");
}
