//! Snapshots: records, retention and reverts.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use tallyman::driver::{Amendment, Disk, FleetError, Request, Schedule, Snapshot, Target};
use tallyman::id::InstanceId;
use tallyman::vm::{Command, Phase, State};
use tallyman_tests::double::{Call, Plan};
use tallyman_tests::rig::{Host, KEPT, MEMORY_BYTES, Rig};

use crate::{boot, reach, running};

fn names(rig: &Rig, id: &InstanceId) -> Vec<String> {
    rig.view(id).record.snapshots.iter().map(|snapshot| snapshot.name.to_string()).collect()
}

/// An instance with a root disk of 4,096 bytes, all equal to `byte`.
fn with_disk(rig: &Rig, name: &str, byte: u8) -> InstanceId {
    let root = rig.folder().join("root");
    fs::write(&root, [byte; 4096]).expect("a file");
    rig.import("rooted", Some(root));
    let mut new = rig.new_instance(name);
    new.image = "rooted".parse().expect("a name");
    let id = rig.try_create(new).expect("created").record.id.clone();
    boot(rig, &id);
    id
}

fn root_of(rig: &Rig, id: &InstanceId) -> std::path::PathBuf {
    rig.fleet().folder(id).join("root.raw")
}

#[test]
fn a_snapshot_is_recorded_as_the_pause_that_it_takes_and_counts_in_the_shape_from_then_on() {
    let rig = Rig::default();
    let rows: [(&[Command], &[&str], u64); 4] = [
        (&[], &["intended snapshot", "paused", "paused", "running"], 9),
        (&[Command::Pause], &["intended snapshot", "paused"], 9),
        (&[Command::Standby], &["intended snapshot", "standby"], 18),
        (&[Command::Stop], &["intended snapshot", "stopped"], 0),
    ];
    for (index, (before, story, bytes)) in rows.into_iter().enumerate() {
        let id = running(&rig, &format!("vm-{index}"));
        for &command in before {
            rig.command(&id, command).expect("legal");
        }
        let count = rig.story(&id).len();
        let state = rig.view(&id).live.state;
        rig.keep(&id);
        assert_eq!(rig.story_after(&id, count), story, "after {before:?}");
        let view = rig.view(&id);
        assert_eq!(
            (view.live.state, view.live.shape.snapshot_bytes, &view.live.intent),
            (state, bytes, &None)
        );
        let kept = &view.record.snapshots[0];
        assert_eq!((kept.name.as_str(), kept.memory.is_some()), (KEPT, state != State::Stopped));
        let pieces = rig.check_time(&id);
        assert_eq!(pieces.last().expect("an interval").shape.snapshot_bytes, bytes);
        rig.ask(&id, Request::Discard { snapshot: KEPT.parse().expect("a name") })
            .expect("discarded");
        assert_eq!(names(&rig, &id), [""; 0]);
        assert_eq!(rig.view(&id).live.shape.snapshot_bytes, if bytes == 18 { 9 } else { 0 });
        rig.check_time(&id);
    }
    rig.check_journal();
}

#[test]
fn the_pause_lasts_from_the_acknowledgement_to_the_resume() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    let count = rig.story(&id).len();
    rig.keep(&id);
    let facts = rig.history(&id).split_off(count);
    let at: Vec<_> = facts.iter().map(|(_, fact)| fact.at.boottime_ns).collect();
    let [pause, save, resume] =
        [Call::Pause, Call::Save, Call::Resume].map(|call| rig.double.last(&id, call).boottime_ns);
    assert_eq!((at[1], at[3]), (pause, resume));
    assert!((save..=resume).contains(&at[2]), "it counts from when it was durable");
}

#[test]
fn a_snapshot_that_fails_leaves_nothing_and_what_ran_runs_again() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    let count = rig.story(&id).len();
    rig.double.plan(&id, Call::Save, Plan::Fail);
    rig.snapshot(&id, KEPT, None).expect_err("not saved");
    assert_eq!(
        rig.story_after(&id, count),
        ["intended snapshot", "paused", "running", "abandoned snapshot"]
    );
    assert_eq!(
        fs::read_dir(rig.fleet().folder(&id).join("snapshots")).map_or(0, Iterator::count),
        0
    );
    assert_eq!((names(&rig, &id).len(), rig.view(&id).live.shape.snapshot_bytes), (0, 0));
    rig.keep(&id);
    rig.check_time(&id);
}

#[test]
fn a_name_is_taken_once_and_what_is_not_there_is_told_with_what_is() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.keep(&id);
    let story = rig.story(&id);
    let error = rig.snapshot(&id, KEPT, None).expect_err("taken");
    assert!(matches!(error, FleetError::SnapshotExists(_)), "{error}");
    for request in [
        Request::Discard { snapshot: "other".parse().expect("a name") },
        Request::Revert { snapshot: "other".parse().expect("a name") },
    ] {
        let error = rig.ask(&id, request).expect_err("not there");
        let words = error.to_string();
        assert!(words.contains("there are: kept") || words.contains("can't revert"), "{words}");
    }
    assert_eq!(rig.story(&id), story, "nothing was begun");
    let error = rig.snapshot(&id, "b", Some(0)).expect_err("none would stay");
    assert!(matches!(error, FleetError::Invalid { field: "keep", .. }), "{error}");
}

#[test]
fn only_the_newest_stay_where_that_is_asked_for() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    for name in ["a", "b", "c"] {
        rig.snapshot(&id, name, None).expect("kept");
    }
    rig.snapshot(&id, "d", Some(2)).expect("kept");
    assert_eq!(names(&rig, &id), ["c", "d"]);
    assert_eq!(rig.view(&id).live.shape.snapshot_bytes, 18);
    let folders: BTreeSet<_> = fs::read_dir(rig.fleet().folder(&id).join("snapshots"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(folders, ["c".into(), "d".into()].into());
    rig.check_time(&id);
}

#[test]
fn a_revert_puts_disks_and_memory_back_and_goes_on_with_the_history() {
    let rig = Rig::default();
    let id = with_disk(&rig, "a", 7);
    rig.keep(&id);
    fs::write(root_of(&rig, &id), [8; 4096]).expect("the guest writes");
    rig.command(&id, Command::Stop).expect("stopped");
    let story = rig.story(&id);
    let view = rig
        .run(rig.fleet().revert(&rig.tenant, &id, KEPT.parse().expect("a name"), None))
        .expect("reverted");
    assert_eq!(view.live.state, State::Running);
    assert_eq!(fs::read(root_of(&rig, &id)).expect("a disk"), [7; 4096]);
    assert_eq!(
        rig.story_after(&id, story.len()),
        ["intended revert", "standby", "intended restore", "paused", "running"]
    );
    assert_eq!(rig.story(&id)[..story.len()], story[..]);
    // The snapshot is unchanged, whatever the guest does.
    fs::write(root_of(&rig, &id), [9; 4096]).expect("the guest writes");
    rig.command(&id, Command::Standby).expect("in standby");
    for (target, state) in [
        (Target::Standby, State::Standby { ready: true }),
        (Target::Stopped, State::Stopped),
        (Target::Running, State::Running),
    ] {
        let name = KEPT.parse().expect("a name");
        let view =
            rig.run(rig.fleet().revert(&rig.tenant, &id, name, Some(target))).expect("reverted");
        assert_eq!(view.live.state, state);
        assert_eq!(fs::read(root_of(&rig, &id)).expect("a disk"), [7; 4096]);
        rig.check_time(&id);
    }
}

#[test]
fn a_revert_to_a_stopped_instance_stops_and_one_to_a_ready_guest_is_ready() {
    let rig = Rig::default();
    let id = rig.create("a");
    rig.snapshot(&id, "young", None).expect("kept");
    boot(&rig, &id);
    rig.command(&id, Command::Stop).expect("stopped");
    rig.snapshot(&id, "stopped", None).expect("kept");
    let to = |name: &str, target| {
        rig.run(rig.fleet().revert(&rig.tenant, &id, name.parse().expect("a name"), target))
            .map(|view| view.live.state)
    };
    assert_eq!(
        to("young", Some(Target::Standby)).expect("reverted"),
        State::Standby { ready: false }
    );
    assert!(matches!(to("stopped", Some(Target::Standby)), Err(FleetError::NoMemory)));
    assert_eq!(to("stopped", None).expect("reverted"), State::Stopped);
    assert_eq!(to("young", None).expect("reverted"), State::Initializing);
    boot(&rig, &id);
    rig.command(&id, Command::Stop).expect("stopped");
    assert_eq!(to("stopped", Some(Target::Running)).expect("reverted"), State::Initializing);
    let told: Vec<_> =
        rig.story(&id).into_iter().filter(|words| words.starts_with("stopped")).collect();
    assert_eq!(told[..2], ["stopped requested", "stopped"]);
    rig.check_time(&id);
}

#[test]
fn a_revert_is_done_again_after_a_crash_and_from_a_snapshot_of_before_a_resize() {
    let mut rig = Rig::default();
    let id = with_disk(&rig, "a", 7);
    rig.keep(&id);
    rig.command(&id, Command::Stop).expect("stopped");
    rig.ask(&id, Request::Resize { memory_bytes: 2 * MEMORY_BYTES }).expect("resized");
    // The state after a crash in the middle: the intent is on record, a part of the act is done.
    let gate = rig.double.hold_before(&id, Call::Adopt);
    rig.ask(&id, Request::Revert { snapshot: KEPT.parse().expect("a name") }).expect("reverted");
    fs::remove_dir_all(rig.fleet().folder(&id).join("standby")).expect("undone");
    rig.crash();
    set_intent(&rig, r#"{"request":{"revert":{"snapshot":"kept"}},"by":"client","ran":false}"#);
    rig.start(Host::StayedUp);
    rig.run(gate.reached());
    gate.open();
    rig.command(&id, Command::Restore).expect("its memory is there");
    let view = rig.view(&id);
    assert_eq!(
        (view.record.spec.memory_bytes, view.live.shape.memory_bytes),
        (MEMORY_BYTES, MEMORY_BYTES)
    );
    assert_eq!(rig.double.memory_bytes(&id), Some(MEMORY_BYTES));
    rig.check_time(&id);
}

/// Puts an intent on record, as a crash would leave it.
fn set_intent(rig: &Rig, intent: &str) {
    let db = rusqlite::Connection::open(rig.folder().join("tallyman.db")).expect("a database");
    let changed =
        db.execute("UPDATE live SET state = json_set(state, '$.intent', json(?1))", [intent]);
    assert_eq!(changed.expect("a table"), 1);
}

#[test]
fn disks_of_the_hosts_own_are_part_of_a_snapshot_too() {
    let rig = Rig::default();
    let mine = rig.folder().join("mine.raw");
    let read_only = rig.folder().join("read-only.raw");
    fs::write(&mine, [1; 512]).and_then(|()| fs::write(&read_only, [2; 512])).expect("files");
    let mut new = rig.new_instance("a");
    let disk =
        |path: &std::path::Path, read_only| Disk { path: path.into(), read_only, size_bytes: 0 };
    new.disks = vec![disk(&read_only, true), disk(&mine, false)];
    let id = rig.try_create(new).expect("created").record.id.clone();
    rig.keep(&id);
    fs::write(&mine, [3; 512]).expect("the guest writes");
    rig.command(&id, Command::Stop).expect("stopped");
    rig.ask(&id, Request::Revert { snapshot: KEPT.parse().expect("a name") }).expect("reverted");
    assert_eq!(fs::read(&mine).expect("a disk"), [1; 512]);
    let mut fork = rig.new_fork();
    (fork.snapshot, fork.target) = (Some(KEPT.parse().expect("a name")), Some(Target::Standby));
    let child = rig.fork(&id, fork).expect("forked");
    let disks = &child.record.spec.disks;
    assert_eq!(
        (&disks[0].path, &disks[1].path),
        (&read_only, &rig.fleet().folder(&child.record.id).join("disk-1.raw"))
    );
    assert_eq!(fs::read(&disks[1].path).expect("a disk"), [1; 512]);
}

#[test]
fn a_schedule_drops_its_snapshots_at_an_age() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    let schedule = Schedule {
        interval_ms: 3_600_000,
        jitter_ms: 0,
        keep: 100,
        age_ms_max: Some(2 * 3_600_000),
        prefix: "hourly".into(),
        compress: false,
        tags: Default::default(),
        created_ns: None,
        updated_ns: None,
    };
    let young = Schedule { age_ms_max: Some(60_000), ..schedule.clone() };
    let amend = |rig: &Rig, schedule| {
        rig.amend(&id, Amendment { schedule: Some(Some(schedule)), ..Amendment::default() })
    };
    amend(&rig, young).expect_err("it would be dropped before the next is taken");
    amend(&rig, schedule).expect("amended");
    rig.snapshot(&id, "by-hand", None).expect("kept");
    for taken in [2, 3, 3, 3] {
        let due = rig.view(&id).live.snapshot_due_ns;
        rig.pass(Duration::from_secs(3_601));
        until(&rig, &id, |rig| {
            rig.view(&id).live.snapshot_due_ns != due
                && rests(rig, &id)
                && names(rig, &id).len() == taken
        });
    }
    assert!(names(&rig, &id).contains(&"by-hand".into()), "it is the client's");
}

#[test]
fn a_schedule_takes_snapshots_keeps_the_newest_and_rests_while_nothing_changes() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    let schedule = Schedule {
        interval_ms: 3_600_000,
        jitter_ms: 60_000,
        keep: 2,
        age_ms_max: None,
        prefix: "hourly".into(),
        compress: true,
        tags: Default::default(),
        created_ns: None,
        updated_ns: None,
    };
    rig.amend(&id, Amendment { schedule: Some(Some(schedule)), ..Amendment::default() })
        .expect("amended");
    rig.snapshot(&id, "by-hand", None).expect("kept");
    let taken =
        |rig: &Rig| names(rig, &id).into_iter().filter(|name| name.starts_with("hourly-")).count();
    for (hour, expected) in [(1, 1), (2, 2), (3, 2)] {
        let count = rig.story(&id).len();
        rig.pass(Duration::from_secs(3_660));
        until(&rig, &id, |rig| {
            rig.story(&id).len() > count && rests(rig, &id) && taken(rig) == expected
        });
        assert!(
            rig.story_after(&id, count).contains(&"intended snapshot by schedule".into()),
            "hour {hour}"
        );
        assert_eq!(rig.view(&id).live.state, State::Running);
    }
    let is_asked =
        |snapshot: &Snapshot| snapshot.compress == snapshot.name.as_str().starts_with("hourly-");
    assert!(
        rig.view(&id).record.snapshots.iter().all(is_asked),
        "those of the schedule are compressed"
    );
    assert!(
        names(&rig, &id).contains(&"by-hand".into()),
        "what a client asked for is the client's"
    );
    // A daemon that was down takes one snapshot, not all that were due.
    rig.crash();
    rig.pass(Duration::from_secs(36_000));
    let before = rig_story_len(&mut rig, &id);
    let due = 1;
    until(&rig, &id, |rig| rig.story(&id).len() > before && rests(rig, &id));
    let told = rig
        .story_after(&id, before)
        .into_iter()
        .filter(|words| words == "intended snapshot by schedule")
        .count();
    assert_eq!(told, due);
    // Nothing runs, so one snapshot is enough.
    rig.command(&id, Command::Stop).expect("stopped");
    rig.pass(Duration::from_secs(3_660));
    until(&rig, &id, |rig| {
        rig.story(&id).last().is_some_and(|last| last == "stopped") && rests(rig, &id)
    });
    let count = rig.story(&id).len();
    let due = rig.view(&id).live.snapshot_due_ns;
    rig.pass(Duration::from_secs(3_660));
    until(&rig, &id, |rig| rig.view(&id).live.snapshot_due_ns != due);
    assert_eq!(rig.story_after(&id, count), [""; 0]);
    rig.amend(&id, Amendment { schedule: Some(None), ..Amendment::default() }).expect("amended");
    assert_eq!(rig.view(&id).live.snapshot_due_ns, None);
    rig.check_time(&id);
    rig.check_journal();
}

/// Returns whether nothing is under way and the published view is the recorded one: a fact is on
/// record a moment before it is published.
fn rests(rig: &Rig, id: &InstanceId) -> bool {
    let view = rig.view(id);
    view.live.intent.is_none()
        && rig.history(id).last().is_some_and(|&(fact, _)| fact == view.last_fact)
}

/// Starts the daemon; returns the length of the story before.
fn rig_story_len(rig: &mut Rig, id: &InstanceId) -> usize {
    let gate = rig.double.hold_before(id, Call::Adopt);
    rig.start(Host::StayedUp);
    rig.run(gate.reached());
    let count = rig.story(id).len();
    gate.open();
    count
}

/// Waits for an automatic operation; the instance's views signal that it may have happened.
fn until(rig: &Rig, id: &InstanceId, happened: impl Fn(&Rig) -> bool) {
    let mut views = rig.fleet().views(&rig.tenant, id).expect("it is known");
    while !happened(rig) {
        rig.run(views.changed()).expect("it goes on");
    }
}

#[test]
fn a_hypervisor_that_saves_a_held_machine_once_is_asked_once() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.command(&id, Command::Pause).expect("paused");
    for name in ["a", "b"] {
        rig.snapshot(&id, name, None).expect("kept");
    }
    rig.fork(&id, rig.new_fork()).expect("forked");
    rig.command(&id, Command::Standby).expect("in standby");
    let saves = rig.double.calls(&id).iter().filter(|(call, _)| *call == Call::Save).count();
    assert_eq!(saves, 1);
    // Its memory has changed once it has run.
    rig.command(&id, Command::Restore).expect("restored");
    rig.command(&id, Command::Pause).expect("paused");
    rig.snapshot(&id, "c", None).expect("kept");
    let saves = rig.double.calls(&id).iter().filter(|(call, _)| *call == Call::Save).count();
    assert_eq!(saves, 2);
    rig.command(&id, Command::Resume).expect("resumed");
    reach(&rig, &id, Phase::Running);
    let left = fs::read_dir(rig.fleet().folder(&id)).expect("a folder");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["snapshots"], "nothing is left of what was held");
}
