//! Forks: the facts in each history, and many forks that share one copy of memory.

use std::fs;

use futures::future::join_all;
use tallyman::billing::{InstanceFact, Totals};
use tallyman::driver::{FleetError, NewFork, Target};
use tallyman::hypervisor::VmState;
use tallyman::id::InstanceId;
use tallyman::vm::{Command, Phase, State};
use tallyman_tests::double::{Call, Plan};
use tallyman_tests::rig::{Host, KEPT, Rig};

use crate::{boot, running};

fn fork(name: &str, target: Option<Target>) -> NewFork {
    NewFork { name: name.parse().expect("a name"), from_running: true, target, snapshot: None }
}

#[test]
fn each_source_and_target_has_its_stories() {
    use Target::{Running, Standby, Stopped};
    type Story = &'static [&'static str];
    let restored: Story = &["forked", "standby", "intended restore", "paused", "running"];
    let started: Story = &["forked", "stopped", "intended start", "created", "initializing"];
    let asleep: Story = &["forked", "standby"];
    let dead: Story = &["forked", "stopped"];
    let paused: Story = &["intended fork", "paused", "running", "forked"];
    let silent: Story = &["intended fork", "forked"];
    let rows: [(&[Command], Option<Target>, Story, Story); 13] = [
        (&[], None, paused, restored),
        (&[], Some(Running), paused, restored),
        (&[], Some(Standby), paused, asleep),
        (&[], Some(Stopped), paused, dead),
        (&[Command::Pause], None, silent, asleep),
        (&[Command::Pause], Some(Running), silent, restored),
        (&[Command::Standby], None, silent, asleep),
        (&[Command::Standby], Some(Running), silent, restored),
        (&[Command::Standby], Some(Standby), silent, asleep),
        (&[Command::Standby], Some(Stopped), silent, dead),
        (&[Command::Stop], None, silent, dead),
        (&[Command::Stop], Some(Stopped), silent, dead),
        (&[Command::Stop], Some(Running), silent, started),
    ];
    let rig = Rig::default();
    for (index, (before, target, source_story, child_story)) in rows.into_iter().enumerate() {
        let source = running(&rig, &format!("source-{index}"));
        for &command in before {
            rig.command(&source, command).expect("legal");
        }
        let count = rig.story(&source).len();
        let state = rig.view(&source).live.state;
        let child = rig.fork(&source, fork(&format!("child-{index}"), target)).expect("forked");
        let id = child.record.id.clone();
        assert_eq!(rig.story_after(&source, count), source_story, "{before:?} {target:?}");
        assert_eq!(rig.story(&id), child_story, "{before:?} {target:?}");
        assert_eq!(rig.view(&source).live.state, state);
        let forked =
            InstanceFact::Forked { parent: source.clone(), child: id.clone(), snapshot: None };
        assert_eq!(rig.fact(&id, "forked").of_instance(), Some(&forked));
        assert_eq!(rig.fact(&source, "forked").of_instance(), Some(&forked));
        rig.check_time(&id);
        rig.check_time(&source);
    }
    rig.check_journal();
}

#[test]
fn a_fork_begins_with_nothing_whatever_its_source_has_lived_through() {
    let mut rig = Rig::default();
    let source = running(&rig, "source");
    rig.pass(std::time::Duration::from_secs(360_000));
    rig.command(&source, Command::Standby).expect("in standby");
    rig.pass(std::time::Duration::from_secs(360_000));
    let child = rig.fork(&source, fork("child", None)).expect("forked");
    assert_eq!(child.account.tracker.totals, Totals::default());
    assert_eq!(child.account.phase, Some(Phase::Standby));
    let first = rig.history(&child.record.id)[1].1.at.meter;
    assert_eq!(child.account.tracker.since, first);
    assert!(first >= rig.fact(&source, "intended fork").at.meter);
}

#[test]
fn what_can_not_be_forked_is_refused_with_what_would_be_right_and_nothing_is_begun() {
    let rig = Rig::default();
    let source = running(&rig, "source");
    rig.command(&source, Command::Stop).expect("stopped");
    let story = rig.story(&source);
    let error = rig.fork(&source, fork("child", Some(Target::Standby))).expect_err("no memory");
    assert!(matches!(error, FleetError::NoMemory), "{error}");
    let error = rig.fork(&source, fork("source", None)).expect_err("in use");
    assert!(matches!(error, FleetError::NameInUse(_)), "{error}");
    let of_snapshot =
        NewFork { snapshot: Some(KEPT.parse().expect("a name")), ..fork("child", None) };
    let error = rig.fork(&source, of_snapshot).expect_err("no such snapshot");
    assert!(matches!(error, FleetError::NoSuchSnapshot { .. }), "{error}");
    assert_eq!(rig.story(&source), story);
    rig.command(&source, Command::Start).expect("started");
    let story = rig.story(&source);
    let error = rig
        .fork(&source, NewFork { from_running: false, ..fork("child", None) })
        .expect_err("it runs");
    assert!(matches!(error, FleetError::SourceRuns), "{error}");
    assert_eq!(rig.story(&source), story);
    assert_eq!(rig.fleet().count(), 1);
}

#[test]
fn a_fork_whose_source_can_not_be_saved_leaves_nothing_and_the_source_runs() {
    let rig = Rig::default();
    let source = running(&rig, "source");
    let count = rig.story(&source).len();
    rig.double.plan(&source, Call::Save, Plan::Fail);
    let error = rig.fork(&source, fork("child", None)).expect_err("not saved");
    assert!(matches!(error, FleetError::Hypervisor(_)), "{error}");
    assert_eq!(
        rig.story_after(&source, count),
        ["intended fork", "paused", "running", "abandoned fork"]
    );
    assert_eq!((rig.fleet().count(), rig.double.state(&source)), (1, Some(VmState::Running)));
    assert_eq!(fs::read_dir(rig.folder().join("instances")).expect("a folder").count(), 1);
    rig.fork(&source, fork("child", None)).expect("the name is free");
}

#[test]
fn many_forks_at_once_are_made_of_few_copies_and_each_answers_for_itself() {
    const FORKS: usize = 100;
    let rig = Rig::default();
    let source = running(&rig, "source");
    let count = rig.story(&source).len();
    let forks = (0..FORKS).map(|n| {
        // Every tenth asks for a name that is taken meanwhile.
        let name = if n % 10 == 9 { "twice".into() } else { format!("child-{n}") };
        rig.fleet().fork(&rig.tenant, &source, fork(&name, Some(Target::Standby)))
    });
    let outcomes = rig.run(join_all(forks));
    let made: Vec<InstanceId> = outcomes
        .iter()
        .filter_map(|outcome| Some(outcome.as_ref().ok()?.record.id.clone()))
        .collect();
    assert_eq!(made.len(), FORKS - FORKS / 10 + 1, "one of those that share a name is made");
    assert!(
        outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .all(|error| matches!(error, FleetError::NameInUse(_)))
    );
    let story = rig.story_after(&source, count);
    let pauses = story.iter().filter(|words| *words == "paused").count();
    assert!(pauses <= 3, "the source was paused {pauses} times");
    assert_eq!(story.iter().filter(|words| *words == "forked").count(), made.len());
    for id in &made {
        assert_eq!(rig.story(id), ["forked", "standby"]);
        rig.check_time(id);
    }
    let folders = fs::read_dir(rig.folder().join("instances")).expect("a folder").count();
    assert_eq!(folders, made.len() + 1, "of what was refused nothing is left");
    rig.check_time(&source);
}

#[test]
fn a_fork_has_its_own_copy_and_outlives_its_source() {
    let rig = Rig::default();
    let root = rig.folder().join("root");
    fs::write(&root, [7; 4096]).expect("a file");
    rig.import("rooted", Some(root));
    let mut new = rig.new_instance("source");
    new.image = "rooted".parse().expect("a name");
    new.tags = [("team".to_owned(), "blue".to_owned())].into();
    let source = rig.try_create(new).expect("created").record.id.clone();
    boot(&rig, &source);
    let child = rig.fork(&source, fork("child", None)).expect("forked");
    let id = child.record.id.clone();
    assert_eq!(child.record.spec.tags["team"], "blue");
    assert_eq!(child.live.shape.disk_bytes, 4096);
    fs::write(rig.fleet().folder(&source).join("root.raw"), [8; 4096]).expect("the source writes");
    rig.command(&source, Command::Delete).expect("deleted");
    assert_eq!(fs::read(rig.fleet().folder(&id).join("root.raw")).expect("a disk"), [7; 4096]);
    rig.command(&id, Command::Standby).expect("in standby");
    rig.command(&id, Command::Restore).expect("restored");
    assert_eq!(rig.view(&id).live.state, State::Running);
    rig.check_time(&id);
}

#[test]
fn forks_of_one_snapshot_begin_with_nothing_long_after_it() {
    let mut rig = Rig::default();
    let source = running(&rig, "source");
    rig.keep(&source);
    rig.pass(std::time::Duration::from_secs(36_000));
    rig.command(&source, Command::Stop).expect("stopped");
    let count = rig.story(&source).len();
    for n in 0..25 {
        let new = NewFork {
            snapshot: Some(KEPT.parse().expect("a name")),
            ..fork(&format!("child-{n}"), None)
        };
        let child = rig.fork(&source, new).expect("forked");
        let totals = child.account.tracker.totals;
        assert_eq!(totals.get(Phase::Running).0, 0);
        assert!(totals.sum() < 60_000_000_000, "{totals:?}");
        assert_eq!(
            rig.story(&child.record.id),
            ["forked", "standby", "intended restore", "paused", "running"]
        );
        rig.check_time(&child.record.id);
    }
    assert!(
        rig.story_after(&source, count)
            .iter()
            .all(|words| words == "intended fork" || words == "forked")
    );
}

#[test]
fn what_a_crash_leaves_of_a_fork_is_swept() {
    let mut rig = Rig::default();
    let source = running(&rig, "source");
    let gate = rig.double.hold_after(&source, Call::Save);
    let fleet = rig.fleet().clone();
    let tenant = rig.tenant.clone();
    let id = source.clone();
    drop(rig.spawn(async move { fleet.fork(&tenant, &id, fork("child", None)).await }));
    rig.run(gate.reached());
    let orphan = rig.folder().join("instances").join(InstanceId::random().as_str());
    fs::create_dir_all(orphan.join("standby")).expect("a folder");
    rig.crash();
    let count = 4;
    rig.start(Host::StayedUp);
    rig.command(&source, Command::Resume).expect("it runs");
    assert_eq!(
        rig.story_after(&source, count),
        ["intended fork", "paused", "running", "abandoned fork"]
    );
    assert!(!rig.fleet().folder(&source).join("fork.partial").exists());
    rig.run(async {
        // The removal is in the background, and soon.
        while orphan.exists() {
            tokio::task::yield_now().await;
        }
    });
    let aside = rig.folder().join("set-aside").join(orphan.file_name().expect("a name"));
    assert!(aside.join("standby").exists(), "what is on no record is moved aside, never removed");
    assert_eq!(rig.fleet().set_aside(), 1);
    rig.check_time(&source);
}
