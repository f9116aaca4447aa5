//! Histories whose figures are known beforehand, to the millisecond: totals after hours that a test
//! skips at once.

use std::sync::Arc;
use std::time::Duration;

use tallyman::billing::Totals;
use tallyman::billing::account::Account;
use tallyman::driver::{NewFork, Target, View};
use tallyman::hypervisor::{Initiator, Observed, Stamp};
use tallyman::id::InstanceId;
use tallyman::vm::{Command, Phase};
use tallyman_tests::double::Call;
use tallyman_tests::rig::{Host, KEPT, Rig};

use crate::{reach, running};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Most milliseconds that really pass while a test runs: figures are at or above the skipped time
/// by less than this.
const REAL_MS_MAX: u64 = 50_000;

/// Totals under the policy in force, in milliseconds.
fn told(rig: &Rig, id: &InstanceId) -> [u64; Phase::ALL.len()] {
    let view = rig.view(id);
    let usage = rig.fleet().usage(std::slice::from_ref(&view), rig.fleet().now());
    usage[0].totals.0.map(|nanos| nanos / 1_000_000)
}

#[track_caller]
fn check(rig: &Rig, id: &InstanceId, expected: &[(Phase, u64)]) {
    let told = told(rig, id);
    for &(phase, millis) in expected {
        let found = told[phase as usize];
        assert!(
            (millis..millis + REAL_MS_MAX).contains(&found),
            "{phase}: {found} ms, not {millis}; {:?}",
            rig.story(id)
        );
    }
    for phase in
        Phase::ALL.into_iter().filter(|phase| !expected.iter().any(|(named, _)| named == phase))
    {
        assert!(
            told[phase as usize] < REAL_MS_MAX,
            "{phase}: {} ms, not none",
            told[phase as usize]
        );
    }
    rig.check_time(id);
}

const MS: u64 = 1_000;

#[test]
fn an_account_without_a_fact_tells_no_phase_and_no_time() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    rig.pass(100 * HOUR);
    let empty = View { account: Account::default(), ..(*rig.view(&id)).clone() };
    let told = rig.fleet().usage(&[Arc::new(empty)], rig.fleet().now());
    assert_eq!(
        (told[0].current, told[0].totals, told[0].degraded),
        (None, Totals::default(), false)
    );
}

#[test]
fn time_from_before_the_first_transition_is_in_no_total() {
    let mut rig = Rig::default();
    rig.pass(100 * HOUR);
    let id = running(&rig, "a");
    check(&rig, &id, &[]);
    rig.pass(HOUR);
    check(&rig, &id, &[(Phase::Running, 3_600 * MS)]);
}

#[test]
fn a_visit_counts_up_to_the_moment_of_the_question_and_not_before_it_began() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    check(&rig, &id, &[]);
    rig.pass(Duration::from_secs(10));
    check(&rig, &id, &[(Phase::Running, 10 * MS)]);
    let since = rig.view(&id).account.tracker.since;
    assert_eq!(since, rig.fact(&id, "running").at.meter);
}

#[test]
fn a_start_after_a_stop_is_stopped_until_the_launch_and_created_until_the_vcpus_run() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    rig.command(&id, Command::Stop).expect("stopped");
    rig.pass(HOUR);
    let gate = rig.double.hold_before(&id, Call::Resume);
    let start = rig.commanded(&id, Command::Start);
    rig.run(gate.reached());
    rig.pass(MINUTE);
    gate.open();
    rig.run(start).expect("no panic").expect("started");
    rig.pass(MINUTE);
    check(
        &rig,
        &id,
        &[(Phase::Stopped, 3_600 * MS), (Phase::Created, 60 * MS), (Phase::Initializing, 60 * MS)],
    );
}

#[test]
fn a_fork_of_a_standby_has_lived_through_nothing_and_is_in_standby_since_it_was_made() {
    let mut rig = Rig::default();
    let source = running(&rig, "source");
    rig.pass(100 * HOUR);
    rig.command(&source, Command::Standby).expect("in standby");
    let fork = NewFork { target: Some(Target::Standby), ..rig.new_fork() };
    let child = rig.fork(&source, fork).expect("forked");
    assert_eq!(child.account.tracker.totals.sum(), 0);
    rig.pass(MINUTE);
    check(&rig, &child.record.id, &[(Phase::Standby, 60 * MS)]);
    check(&rig, &source, &[(Phase::Running, 360_000 * MS), (Phase::Standby, 60 * MS)]);
}

#[test]
fn a_guest_that_leaves_is_stopped_from_then_on_and_until_it_is_started_again() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    rig.pass(MINUTE);
    rig.double.end(&id, Initiator::GuestPowerOff);
    reach(&rig, &id, Phase::Stopped);
    rig.pass(HOUR);
    rig.command(&id, Command::Start).expect("started");
    check(&rig, &id, &[(Phase::Running, 60 * MS), (Phase::Stopped, 3_600 * MS)]);
}

#[test]
fn a_machine_that_is_killed_is_stopped_from_then_on_whoever_looks_when() {
    for daemon_is_up in [true, false] {
        let mut rig = Rig::default();
        let id = running(&rig, "a");
        rig.pass(MINUTE);
        if !daemon_is_up {
            rig.crash();
        }
        rig.double.end(&id, Initiator::Unknown);
        rig.pass(HOUR);
        if !daemon_is_up {
            rig.start(Host::StayedUp);
        }
        reach(&rig, &id, Phase::Stopped);
        check(&rig, &id, &[(Phase::Running, 60 * MS), (Phase::Stopped, 3_600 * MS)]);
    }
}

#[test]
fn a_standby_that_the_daemon_dies_in_is_a_standby() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    rig.pass(MINUTE);
    let gate = rig.double.hold_after(&id, Call::Quit);
    drop(rig.commanded(&id, Command::Standby));
    rig.run(gate.reached());
    rig.crash();
    rig.pass(HOUR);
    rig.start(Host::StayedUp);
    rig.command(&id, Command::Restore).expect("its memory is there");
    check(&rig, &id, &[(Phase::Running, 60 * MS), (Phase::Standby, 3_600 * MS)]);
}

#[test]
fn twenty_five_forks_of_a_snapshot_have_run_for_nothing_whatever_their_source_has() {
    let mut rig = Rig::default();
    let source = running(&rig, "source");
    rig.pass(100 * HOUR);
    rig.keep(&source);
    rig.pass(HOUR);
    for _ in 0..25 {
        let fork = NewFork {
            snapshot: Some(KEPT.parse().expect("a name")),
            target: Some(Target::Standby),
            ..rig.new_fork()
        };
        let child = rig.fork(&source, fork).expect("forked").record.id.clone();
        check(&rig, &child, &[]);
        rig.command(&child, Command::Restore).expect("restored");
        check(&rig, &child, &[]);
    }
    check(&rig, &source, &[(Phase::Running, 363_600 * MS)]);
}

#[test]
fn going_back_to_a_snapshot_takes_no_time_back() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    rig.pass(HOUR);
    rig.keep(&id);
    rig.pass(4 * HOUR);
    rig.command(&id, Command::Stop).expect("stopped");
    let name = KEPT.parse().expect("a name");
    rig.run(rig.fleet().revert(&rig.tenant, &id, name, None)).expect("reverted");
    check(&rig, &id, &[(Phase::Running, 18_000 * MS)]);
    rig.pass(HOUR);
    check(&rig, &id, &[(Phase::Running, 21_600 * MS)]);
}

#[test]
fn a_marker_that_says_it_is_from_another_century_counts_now() {
    let mut rig = Rig::default();
    let id = rig.create("a");
    rig.pass(MINUTE);
    let century = Duration::from_secs(73 * 366 * 86_400);
    let mut far = rig.double.now();
    far.boottime_ns += u64::try_from(century.as_nanos()).expect("in range");
    far.wall_ns += i64::try_from(century.as_nanos()).expect("in range");
    rig.double.observe(&id, Observed::ProgramStarted(far));
    rig.double.observe(&id, Observed::AgentReady(far));
    reach(&rig, &id, Phase::Running);
    rig.pass(MINUTE);
    check(&rig, &id, &[(Phase::Initializing, 60 * MS), (Phase::Running, 60 * MS)]);
}

#[test]
fn a_wall_clock_that_is_stepped_back_in_the_middle_changes_no_duration() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    rig.pass(HOUR);
    let Stamp { boottime_ns, wall_ns } = rig.double.now();
    let back = i64::try_from(HOUR.as_nanos()).expect("in range");
    rig.double.step_wall(-back);
    rig.fleet().learn_calendar(rig.fleet().now(), wall_ns - back);
    rig.pass(HOUR);
    rig.command(&id, Command::Pause).expect("paused");
    let fact = rig.fact(&id, "paused");
    let passed = i64::try_from(fact.at.boottime_ns - boottime_ns).expect("in range");
    // Two clocks are read one after the other.
    let noise = fact.at.wall_ns.abs_diff(wall_ns - back + passed);
    assert!(noise < 1_000_000_000, "the fact says what the wall clock showed, not {noise} ns off");
    check(&rig, &id, &[(Phase::Running, 7_200 * MS)]);
}

#[test]
fn what_was_used_up_to_a_deletion_is_told_after_it() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    rig.pass(Duration::from_secs(50));
    check(&rig, &id, &[(Phase::Running, 50 * MS)]);
    rig.pass(Duration::from_secs(11));
    rig.command(&id, Command::Delete).expect("deleted");
    rig.pass(HOUR);
    check(&rig, &id, &[(Phase::Running, 61 * MS)]);
    rig.crash();
    rig.start(Host::StayedUp);
    check(&rig, &id, &[(Phase::Running, 61 * MS)]);
}
