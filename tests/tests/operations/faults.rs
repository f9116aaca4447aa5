//! Late ends, files that can't be put in place, missing hypervisors, disks in use: the earlier
//! state is kept, and there is always a command that leads on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program};
use std::time::Duration;

use tallyman::driver::{
    Amendment, AutoStandby, Disk, Expiry, ExpiryAction, FleetError, HealthCheck, HealthStatus,
    Probe, Request, Unsettled, View,
};
use tallyman::hypervisor::{Initiator, VmState, files};
use tallyman::id::InstanceId;
use tallyman::journal::Options;
use tallyman::mutants::money::Mutant;
use tallyman::units::Nanos;
use tallyman::vm::{Command, Phase, RestartMode, RestartPolicy, State};
use tallyman_tests::double::{Call, Plan};
use tallyman_tests::rig::{Host, KEPT, MEMORY_BYTES, Rig};

use crate::{boot, gone, reach, running};

/// A rig that waits only shortly for the end of a machine.
fn hasty() -> Rig {
    let mut rig = Rig::down(Options::default());
    rig.exit_patience = Duration::from_millis(20);
    rig.start(Host::StayedUp);
    rig
}

fn state(rig: &Rig, id: &InstanceId) -> State {
    rig.view(id).live.state
}

/// Waits until a view satisfies a condition.
fn until(rig: &Rig, id: &InstanceId, happened: impl Fn(&View) -> bool) {
    let mut views = rig.fleet().views(&rig.tenant, id).expect("it is known");
    rig.run(async { views.wait_for(|view| happened(view)).await.map(drop) }).expect("it goes on");
}

/// An instance with a disk of the host's own, 512 bytes of 1.
fn with_host_disk(rig: &Rig, name: &str) -> (InstanceId, PathBuf) {
    let disk = rig.folder().join("mine.raw");
    fs::write(&disk, [1; 512]).expect("a file");
    let mut new = rig.new_instance(name);
    new.disks = vec![Disk { path: disk.clone(), read_only: false, size_bytes: 0 }];
    let id = rig.try_create(new).expect("created").record.id.clone();
    boot(rig, &id);
    (id, disk)
}

// Ends that are known late.

#[test]
fn a_late_exit_never_destroys_the_memory_that_was_saved() {
    let rig = hasty();
    let id = running(&rig, "a");
    rig.double.silence(&id);
    let error = rig.command(&id, Command::Standby).expect_err("nobody says that it has ended");
    assert!(matches!(error, FleetError::StillEnding), "{error}");
    assert_eq!(
        rig.view(&id).live.command(),
        Some(Command::Standby),
        "it can't be undone, so it is not given up"
    );
    for command in [Command::Resume, Command::Standby, Command::Stop, Command::Delete] {
        let error =
            rig.command(&id, command).expect_err("what can be done depends on how it ended");
        assert!(matches!(error, FleetError::StillEnding), "{command}: {error}");
    }
    rig.double.let_speak(&id);
    reach(&rig, &id, Phase::Standby);
    assert_eq!(rig.story_after(&id, 4), ["intended standby", "paused", "standby"]);
    assert_eq!(rig.view(&id).live.shape.snapshot_bytes, 9);
    rig.command(&id, Command::Restore).expect("its memory is there");
    rig.check_time(&id);
}

#[test]
fn a_stop_and_a_deletion_whose_end_is_known_late_are_what_was_asked_for() {
    let rows: [(Command, &[&str]); 2] = [
        (Command::Stop, &["intended stop", "shutdown", "stopped requested"]),
        (Command::Delete, &["intended delete", "stopped forced", "deleted"]),
    ];
    for (command, story) in rows {
        let rig = hasty();
        let mut new = rig.new_instance("a");
        new.restart = RestartPolicy { mode: RestartMode::Always, ..RestartPolicy::default() };
        let id = rig.try_create(new).expect("created").record.id.clone();
        boot(&rig, &id);
        rig.double.silence(&id);
        let error = rig.command(&id, command).expect_err("nobody says that it has ended");
        assert!(matches!(error, FleetError::StillEnding), "{command}: {error}");
        rig.double.let_speak(&id);
        let ended = |view: &View| {
            matches!(view.live.state, State::Stopped | State::Deleted) && view.live.intent.is_none()
        };
        if command == Command::Delete {
            gone(&rig, &id)
        } else {
            until(&rig, &id, ended)
        }
        assert_eq!(rig.story_after(&id, 4), story);
        assert_eq!(rig.view(&id).live.restarts.due_ns, None, "whoever asked for the end meant it");
        rig.check_time(&id);
    }
}

#[test]
fn memory_that_could_not_be_run_is_kept_until_its_end_is_known() {
    let rig = hasty();
    let id = running(&rig, "a");
    rig.command(&id, Command::Standby).expect("in standby");
    let count = rig.story(&id).len();
    let launched = rig.double.hold_after(&id, Call::Launch);
    rig.double.plan(&id, Call::Resume, Plan::Fail);
    let answer = rig.commanded(&id, Command::Restore);
    rig.run(launched.reached());
    rig.double.silence(&id);
    launched.open();
    let error =
        rig.run(answer).expect("no panic").expect_err("neither run nor known to have ended");
    assert!(matches!(error, FleetError::StillEnding), "{error}");
    rig.double.let_speak(&id);
    until(&rig, &id, |view| view.live.intent.is_none());
    assert_eq!(
        rig.story_after(&id, count),
        ["intended restore", "paused", "standby", "abandoned restore"]
    );
    rig.command(&id, Command::Restore).expect("its memory is there");
    rig.check_time(&id);
}

// Creates that fail.

#[test]
fn a_create_that_fails_leaves_no_name_and_no_time() {
    let rig = Rig::default();
    let launch = rig.double.hold_next_launch();
    let fleet = rig.fleet().clone();
    let tenant = rig.tenant.clone();
    let new = rig.new_instance("a");
    let answer = rig.spawn(async move { fleet.create(&tenant, new).await });
    rig.run(launch.reached());
    let id = rig.fleet().find(&rig.tenant, "a").expect("it is being made").record.id.clone();
    rig.double.plan(&id, Call::Resume, Plan::Fail);
    launch.open();
    let error = rig.run(answer).expect("no panic").expect_err("it can't be run");
    assert!(matches!(error, FleetError::Hypervisor(_)), "{error}");
    assert_eq!(rig.story(&id), ["intended start", "created", "stopped launch-failed", "deleted"]);
    let view = rig.view(&id);
    assert_eq!(view.deleted, Some(rig.fact(&id, "created").at.meter));
    let usage = rig.fleet().usage(std::slice::from_ref(&view), rig.fleet().now());
    assert_eq!(usage[0].totals.sum(), 0, "no time was had");
    assert_eq!((rig.fleet().count(), rig.double.living(&id)), (0, 0));
    assert!(!rig.fleet().folder(&id).exists());
    rig.create("a");
    rig.check_journal();
}

// Disks that are in use.

#[test]
fn a_disk_that_another_machine_uses_is_neither_copied_nor_replaced_nor_given_away() {
    let rig = Rig::default();
    let (id, disk) = with_host_disk(&rig, "a");
    rig.keep(&id);
    rig.command(&id, Command::Stop).expect("stopped");
    fs::write(&disk, [2; 512]).expect("another guest writes");
    let machine = File::open(&disk).expect("a disk");
    machine.lock().expect("free");
    let facts = rig.story(&id).len();
    let revert = Request::Revert { snapshot: KEPT.parse().expect("a name") };
    let mut other = rig.new_instance("b");
    other.disks = rig.view(&id).record.spec.disks.clone();
    for outcome in [
        rig.ask(&id, revert.clone()),
        rig.snapshot(&id, "torn", None),
        rig.fork(&id, rig.new_fork()),
        rig.try_create(other.clone()),
    ] {
        let error = outcome.expect_err("it is in use");
        assert!(matches!(&error, FleetError::DiskInUse(path) if *path == disk), "{error}");
    }
    assert_eq!(fs::read(&disk).expect("a disk"), [2; 512]);
    assert_eq!((state(&rig, &id), rig.fleet().count()), (State::Stopped, 1));
    let story = ["revert", "snapshot", "fork"]
        .map(|command| [format!("intended {command}"), format!("abandoned {command}")]);
    assert_eq!(rig.story_after(&id, facts), story.concat());
    drop(machine);
    rig.ask(&id, revert).expect("it is free");
    assert_eq!(fs::read(&disk).expect("a disk"), [1; 512]);
    rig.try_create(other).expect("it is free");
}

// Snapshots: all or nothing, and of one instant.

#[test]
fn a_snapshot_that_can_not_be_put_back_changes_nothing() {
    let rig = Rig::default();
    let (id, disk) = with_host_disk(&rig, "a");
    rig.keep(&id);
    fs::write(&disk, [2; 512]).expect("the guest writes");
    rig.command(&id, Command::Standby).expect("in standby");
    let folder = rig.fleet().folder(&id);
    let copy = folder.join("snapshots").join(KEPT).join("disk-0.raw");
    let kept = fs::read(&copy).expect("a copy");
    fs::remove_file(&copy).expect("removed");
    let count = rig.story(&id).len();
    let revert = Request::Revert { snapshot: KEPT.parse().expect("a name") };
    let error = rig.ask(&id, revert.clone()).expect_err("a disk of it is missing");
    assert!(matches!(error, FleetError::Files(_)), "{error}");
    assert_eq!(rig.story_after(&id, count), ["intended revert", "abandoned revert"]);
    assert_eq!(state(&rig, &id), State::Standby { ready: true });
    assert_eq!(fs::read(&disk).expect("a disk"), [2; 512]);
    let beside = |path: &Path| {
        path.to_str().is_some_and(|path| path.ends_with(".partial") || path.ends_with("put-back"))
    };
    let left = fs::read_dir(&folder)
        .expect("a folder")
        .chain(fs::read_dir(rig.folder()).expect("a folder"));
    assert!(
        left.map(|entry| entry.expect("an entry").path()).all(|path| !beside(&path)),
        "nothing lies beside"
    );
    rig.command(&id, Command::Restore).expect("its memory is there");
    rig.command(&id, Command::Standby).expect("in standby");
    fs::write(&copy, kept).expect("found again");
    rig.ask(&id, revert).expect("whole again");
    assert_eq!(fs::read(&disk).expect("a disk"), [1; 512]);
    rig.check_time(&id);
}

#[test]
fn memory_and_disks_of_a_snapshot_are_of_one_instant() {
    let mut rig = Rig::default();
    let (id, disk) = with_host_disk(&rig, "a");
    rig.command(&id, Command::Pause).expect("paused");
    // Memory is saved, and the file is lost with the daemon: the vCPUs have to run for a moment
    // before memory can be saved again.
    let saved = rig.double.hold_after(&id, Call::Save);
    let fleet = rig.fleet().clone();
    let tenant = rig.tenant.clone();
    let asked = id.clone();
    let request = rig.request(Command::Snapshot);
    drop(rig.spawn(async move { fleet.request(&tenant, &asked, request).await.map(drop) }));
    rig.run(saved.reached());
    rig.crash();
    drop(fs::remove_dir_all(rig.folder().join("instances").join(id.as_str()).join("snapshots")));
    rig.double.forget_plans(&id);
    rig.start(Host::StayedUp);
    let runs = rig.double.hold_after(&id, Call::Resume);
    let fleet = rig.fleet().clone();
    let tenant = rig.tenant.clone();
    let asked = id.clone();
    let new = match rig.request(Command::Snapshot) {
        Request::Snapshot(new) => Request::Snapshot(tallyman::driver::NewSnapshot {
            name: KEPT.parse().expect("a name"),
            ..new
        }),
        other => other,
    };
    let answer = rig.spawn(async move { fleet.request(&tenant, &asked, new).await.map(drop) });
    rig.run(runs.reached());
    fs::write(&disk, [2; 512]).expect("the guest writes");
    runs.open();
    rig.run(answer).expect("no panic").expect("kept");
    let copy = rig.fleet().folder(&id).join("snapshots").join(KEPT).join("disk-0.raw");
    assert_eq!(fs::read(copy).expect("a copy"), [2; 512], "the memory knows what was written");
}

#[test]
fn a_snapshot_put_back_may_not_pass_the_tenants_limit() {
    let mut rig = Rig::down(Options::default());
    rig.memory_bytes_max = 3 * MEMORY_BYTES;
    rig.start(Host::StayedUp);
    let mut new = rig.new_instance("a");
    new.memory_bytes = Some(2 * MEMORY_BYTES);
    let id = rig.try_create(new).expect("created").record.id.clone();
    boot(&rig, &id);
    rig.keep(&id);
    rig.command(&id, Command::Stop).expect("stopped");
    rig.ask(&id, Request::Resize { memory_bytes: MEMORY_BYTES }).expect("resized");
    let other = rig.create("b");
    rig.ask(&other, Request::Resize { memory_bytes: 2 * MEMORY_BYTES }).expect("there is room");
    let facts = rig.story(&id).len();
    let revert = Request::Revert { snapshot: KEPT.parse().expect("a name") };
    let mut fork = rig.new_fork();
    fork.snapshot = Some(KEPT.parse().expect("a name"));
    for outcome in [
        rig.ask(&id, revert.clone()),
        rig.fork(&id, fork),
        rig.ask(&id, Request::Resize { memory_bytes: 2 * MEMORY_BYTES }),
        rig.try_create(rig.new_instance("c")),
    ] {
        let error = outcome.expect_err("too much");
        assert!(
            matches!(error, FleetError::OverLimit { most, .. } if most == 3 * MEMORY_BYTES),
            "{error}"
        );
    }
    let story = rig.story_after(&id, facts);
    assert_eq!(story, ["intended fork", "abandoned fork"], "the others have not begun");
    assert_eq!(rig.view(&id).record.spec.memory_bytes, MEMORY_BYTES);
    rig.command(&other, Command::Delete).expect("deleted");
    rig.ask(&id, revert).expect("there is room");
    assert_eq!(rig.view(&id).live.shape.memory_bytes, 2 * MEMORY_BYTES);
}

#[test]
fn the_bound_of_snapshots_holds_whatever_is_to_stay() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.command(&id, Command::Stop).expect("stopped");
    for keep in [0, 257, u32::MAX] {
        let error = rig.snapshot(&id, "a", Some(keep)).expect_err("out of range");
        assert!(matches!(error, FleetError::Invalid { field: "keep", .. }), "{keep}: {error}");
    }
    for n in 0..256 {
        rig.snapshot(&id, &format!("s{n}"), Some(256)).expect("kept");
    }
    assert!(matches!(rig.snapshot(&id, "more", None), Err(FleetError::TooManySnapshots)));
    rig.snapshot(&id, "more", Some(256)).expect("the oldest goes");
    assert_eq!(rig.view(&id).record.snapshots.len(), 256);
}

// Facts that can't be found out.

#[test]
fn what_is_dead_has_ended_though_its_hypervisor_is_missing() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    let asleep = running(&rig, "b");
    rig.command(&asleep, Command::Standby).expect("in standby");
    rig.crash();
    rig.double.lose(&id, &Host::Rebooted.boot_before());
    rig.double.rename("other");
    rig.start(Host::Rebooted);
    reach(&rig, &id, Phase::Stopped);
    assert_eq!(rig.story_after(&id, 4), ["unknown", "stopped host-lost"]);
    let tags = Some([("left".into(), "alone".into())].into());
    rig.amend(&id, Amendment { tags, ..Amendment::default() }).expect("labels need no hypervisor");
    let error = rig.command(&id, Command::Start).expect_err("a start does");
    assert!(matches!(error, FleetError::NoSuchHypervisor { .. }), "{error}");
    rig.command(&id, Command::Delete).expect("deleted");
    rig.command(&asleep, Command::Stop).expect("stopped");
    rig.command(&asleep, Command::Delete).expect("deleted");
    rig.check_time(&id);
    rig.check_journal();
}

#[test]
fn what_is_dead_has_ended_though_nothing_of_its_launch_can_be_read() {
    for (host, words) in
        [(Host::StayedUp, "stopped crashed"), (Host::Rebooted, "stopped host-lost")]
    {
        let mut rig = Rig::default();
        let id = running(&rig, "a");
        rig.crash();
        rig.double.lose(&id, &host.boot_before());
        rig.double.plan(&id, Call::Adopt, Plan::Fail);
        rig.start(host);
        reach(&rig, &id, Phase::Stopped);
        assert_eq!(rig.story_after(&id, 4), ["unknown", words]);
        rig.check_time(&id);
    }
}

#[test]
fn what_lives_without_its_hypervisor_can_be_stopped_deleted_and_expire() {
    let rows: [(Option<Command>, &[&str]); 3] = [
        (Some(Command::Stop), &["intended stop", "stopped forced"]),
        (Some(Command::Delete), &["intended delete", "stopped forced", "deleted"]),
        (None, &["intended delete by expiry", "stopped forced", "deleted"]),
    ];
    for (command, story) in rows {
        let mut rig = Rig::default();
        let mut new = rig.new_instance("a");
        let at_ns = rig.fleet().now().after(Nanos(3_600_000_000_000)).expect("in range").0;
        new.expiry = Some(Expiry { at_ns, action: ExpiryAction::Delete });
        let id = rig.try_create(new).expect("created").record.id.clone();
        boot(&rig, &id);
        rig.crash();
        rig.double.rename("other");
        rig.start(Host::StayedUp);
        let error = rig.command(&id, Command::Pause).expect_err("nobody can hold it");
        assert!(matches!(error, FleetError::NoSuchHypervisor { .. }), "{error}");
        assert_eq!(
            (rig.double.state(&id), state(&rig, &id)),
            (Some(VmState::Running), State::Running)
        );
        match command {
            Some(command) => drop(rig.command(&id, command).expect("there is a way out")),
            None => {
                rig.pass(Duration::from_secs(3_601));
                gone(&rig, &id);
            }
        }
        assert_eq!(rig.story_after(&id, 4), story, "{command:?}");
        assert_eq!(rig.double.living(&id), 0);
        rig.check_time(&id);
    }
}

// Operations that are due and fail.

#[test]
fn a_look_that_learns_nothing_keeps_nothing_else_from_being_done() {
    let mut rig = Rig::default();
    let mut new = rig.new_instance("a");
    // The double has no processes, so their processor time is unknown.
    new.auto_standby = Some(AutoStandby { idle_after_ms: 30_000, cpu_permille_max: 1_000 });
    let at_ns = rig.fleet().now().after(Nanos(60_000_000_000)).expect("in range").0;
    new.expiry = Some(Expiry { at_ns, action: ExpiryAction::Delete });
    let id = rig.try_create(new).expect("created").record.id.clone();
    boot(&rig, &id);
    until(&rig, &id, |view| view.idle_since.is_some());
    let looked = rig.view(&id).idle_since;
    let tags = Some([("busy".into(), "no".into())].into());
    rig.amend(&id, Amendment { tags, ..Amendment::default() }).expect("amended");
    assert_eq!(
        rig.view(&id).idle_since,
        looked,
        "the next look comes after the time that was asked for"
    );
    rig.pass(Duration::from_secs(61));
    gone(&rig, &id);
}

/// Runs an idle process in place of the machine's own, so that its processor time is known.
fn stand_in_for_monitor(rig: &Rig, id: &InstanceId) -> Child {
    let child = Program::new("sleep").arg("600").spawn().expect("spawn");
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("proc");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let start_ticks: u64 =
        fields.split(' ').nth(19).and_then(|ticks| ticks.parse().ok()).expect("a number");
    let process = serde_json::json!({"pid": child.id(), "start_ticks": start_ticks});
    let boot = tallyman::clock::boot_id().expect("this is Linux");
    let identity = serde_json::json!({"boot": &*boot.0, "supervisor": process, "vmm": process});
    let run = files::run(&rig.fleet().folder(id), 1);
    fs::create_dir_all(&run).expect("a folder");
    fs::write(run.join("identity.json"), identity.to_string()).expect("a file");
    child
}

#[test]
fn auto_standby_that_can_not_succeed_waits_longer_and_is_given_up_until_something_changes() {
    let mut rig = Rig::default();
    let mut new = rig.new_instance("a");
    new.auto_standby = Some(AutoStandby { idle_after_ms: 1_000, cpu_permille_max: 1_000 });
    let id = rig.try_create(new).expect("created").record.id.clone();
    let mut monitor = stand_in_for_monitor(&rig, &id);
    let tried =
        |rig: &Rig| rig.story(&id).iter().filter(|words| *words == "abandoned standby").count();
    for _ in 0..10 {
        rig.double.plan(&id, Call::Save, Plan::Fail);
    }
    boot(&rig, &id);
    let has_failed = |times: u32| {
        let words = format!("auto-standby has failed {times} times");
        move |view: &View| view.live.error.as_ref().is_some_and(|error| error.contains(&words))
    };
    until(&rig, &id, |view| view.idle_since.is_some());
    for (times, wait_s) in [(1, 1), (2, 30), (3, 120), (4, 480), (5, 1_920)] {
        rig.pass(Duration::from_secs(wait_s + 1));
        until(&rig, &id, has_failed(times));
        assert_eq!(tried(&rig), times as usize, "each is on record");
    }
    assert!(
        rig.view(&id).live.error.as_ref().is_some_and(|error| error.contains("given up until"))
    );
    rig.pass(Duration::from_secs(30 * 86_400));
    let tags = Some([("still".into(), "there".into())].into());
    rig.amend(&id, Amendment { tags, ..Amendment::default() }).expect("amended");
    assert_eq!(tried(&rig), 5);
    rig.double.forget_plans(&id);
    rig.run(rig.fleet().report_activity(&rig.tenant, &id, false)).expect("something came in");
    until(&rig, &id, |view| view.idle_since.is_some());
    rig.pass(Duration::from_secs(2));
    reach(&rig, &id, Phase::Standby);
    monitor.kill().and_then(|()| monitor.wait()).expect("ended");
}

#[test]
fn a_probe_of_a_guest_that_was_held_meanwhile_says_nothing() {
    let mut rig = Rig::default();
    let mut new = rig.new_instance("a");
    let probe = Probe::Console { send: "p".into(), expect: "PONG".into() };
    new.health = Some(HealthCheck {
        probe,
        interval_ms: 10_000,
        timeout_ms: 60_000,
        failures_max: 2,
        start_period_ms: 0,
    });
    let id = rig.try_create(new).expect("created").record.id.clone();
    boot(&rig, &id);
    rig.run(rig.prober.asked());
    rig.keep(&id);
    rig.prober.answer(Err("nobody could answer"));
    rig.pass(Duration::from_secs(80));
    rig.run(rig.prober.asked());
    rig.prober.answer(Err("it is silent"));
    until(&rig, &id, |view| view.health.as_ref().is_some_and(|health| health.checked_ns.is_some()));
    let health = rig.view(&id).health.clone().expect("it is asked");
    assert_eq!((health.status, health.failures), (HealthStatus::Starting, 1));
    assert_eq!(health.problem.as_deref(), Some("it is silent"));
}

#[test]
fn settings_that_would_never_rest_or_never_fail_are_refused() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    let hasty =
        RestartPolicy { mode: RestartMode::Always, backoff_ms: 1, ..RestartPolicy::default() };
    let unstable =
        RestartPolicy { mode: RestartMode::Always, stable_after_ms: 1, ..RestartPolicy::default() };
    let probe = Probe::Console { send: "echo PONG\n".into(), expect: "PONG".into() };
    let echo = HealthCheck {
        probe,
        interval_ms: 10_000,
        timeout_ms: 1_000,
        failures_max: 1,
        start_period_ms: 0,
    };
    let rows = [
        (Amendment { restart: Some(hasty), ..Amendment::default() }, "restart_policy.backoff"),
        (
            Amendment { restart: Some(unstable), ..Amendment::default() },
            "restart_policy.stable_after",
        ),
        (
            Amendment { health: Some(Some(echo)), ..Amendment::default() },
            "health_check.console.expect",
        ),
    ];
    for (amendment, expected) in rows {
        match rig.amend(&id, amendment) {
            Err(FleetError::Invalid { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let exit = rig.double.end(&id, Initiator::GuestReset);
    reach(&rig, &id, Phase::Stopped);
    assert_eq!(rig.fact(&id, "stopped guest").at.boottime_ns, exit.stamp.boottime_ns);
}

#[test]
fn what_was_not_looked_at_since_the_start_is_unsettled() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    let unsettled = |rig: &Rig| rig.fleet().unsettled(&rig.tenant, rig.fleet().now());
    assert_eq!(unsettled(&rig), Unsettled::default());
    rig.crash();
    rig.double.end(&id, Initiator::Unknown);
    let gate = rig.double.hold_before(&id, Call::Adopt);
    rig.start(Host::StayedUp);
    rig.run(gate.reached());
    // Its end lies before now, and nobody has read it yet.
    let unseen = vec![rig.view(&id).record.name.to_string()];
    assert_eq!(unsettled(&rig), Unsettled { unseen, ..Unsettled::default() });
    let ignored = Mutant::UnseenIgnored.during(|| unsettled(&rig));
    assert_eq!(ignored, Unsettled::default());
    gate.open();
    reach(&rig, &id, Phase::Stopped);
    rig.command(&id, Command::Stop).expect("nothing to do");
    assert_eq!(unsettled(&rig), Unsettled::default());
}
