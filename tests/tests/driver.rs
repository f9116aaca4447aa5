//! The driver against a hypervisor without machines: the records of each operation, their order and
//! their instants, and the state after a crash of the daemon at every point of every operation.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use proptest::prelude::*;
use tallyman::driver::{Disk, FleetError, NewInstance, Request, Waiting};
use tallyman::hypervisor::{Initiator, Observed, Stamp, VmState};
use tallyman::id::{InstanceId, TenantId};
use tallyman::journal::Options;
use tallyman::limits;
use tallyman::vm::{Command, Decision, ExitCause, Phase, State, decide};
use tallyman_tests::double::{Call, DoubleHypervisor, Gate, Plan};
use tallyman_tests::machine::until;
use tallyman_tests::rig::{Host, KEPT, MEMORY_BYTES, Rig, fresh, in_words};

/// Reports both of the guest's markers; returns the stamp of the later one.
fn boot(rig: &Rig, id: &InstanceId) -> Stamp {
    rig.double.observe(id, Observed::ProgramStarted(Stamp::now()));
    let ready = Stamp::now();
    rig.double.observe(id, Observed::AgentReady(ready));
    reach(rig, id, Phase::Running);
    ready
}

fn reach(rig: &Rig, id: &InstanceId, phase: Phase) {
    let waiting = rig.fleet().wait(&rig.tenant, id, Waiting::For(phase), Duration::from_secs(30));
    rig.run(waiting).unwrap_or_else(|error| panic!("not {phase}: {error}; {:?}", rig.story(id)));
}

/// Creates an instance that is ready.
fn running(rig: &Rig, name: &str) -> InstanceId {
    let id = rig.create(name);
    boot(rig, &id);
    id
}

fn state(rig: &Rig, id: &InstanceId) -> State {
    rig.view(id).live.state
}

/// Brings a new instance into `state`, with a snapshot that `command` can name.
fn driven_for(rig: &Rig, state: State, command: Command) -> Option<InstanceId> {
    driven_by(rig, &fresh(), state, |id| match command {
        Command::Discard | Command::Revert => rig.keep(id),
        Command::Start
        | Command::Stop
        | Command::Pause
        | Command::Resume
        | Command::Standby
        | Command::Restore
        | Command::Delete
        | Command::Snapshot
        | Command::Fork
        | Command::Resize => {}
    })
}

/// Brings a new instance into `state` as a client would. `Shutdown` takes a stop that fails;
/// `Unknown` and `Created` are transient, and no task takes commands in them.
fn driven_into(rig: &Rig, name: &str, state: State) -> Option<InstanceId> {
    driven_by(rig, name, state, |_| ())
}

/// Brings a new instance into `state`, and calls `running` while it runs.
fn driven_by(
    rig: &Rig,
    name: &str,
    state: State,
    then: impl FnOnce(&InstanceId),
) -> Option<InstanceId> {
    let id = match state {
        State::Created | State::Unknown => return None,
        State::Initializing | State::Paused { ready: false } | State::Standby { ready: false } => {
            rig.create(name)
        }
        State::Running
        | State::Paused { ready: true }
        | State::Shutdown
        | State::Standby { ready: true }
        | State::Stopped
        | State::Deleted => running(rig, name),
    };
    then(&id);
    match state {
        State::Created | State::Unknown | State::Initializing | State::Running => {}
        State::Paused { .. } => drop(rig.command(&id, Command::Pause).expect("paused")),
        State::Standby { .. } => drop(rig.command(&id, Command::Standby).expect("in standby")),
        State::Stopped => drop(rig.command(&id, Command::Stop).expect("stopped")),
        State::Deleted => drop(rig.command(&id, Command::Delete).expect("deleted")),
        State::Shutdown => {
            rig.double.plan(&id, Call::RequestStop, Plan::Fail);
            rig.double.plan(&id, Call::Kill, Plan::Fail);
            rig.command(&id, Command::Stop).expect_err("neither asked nor killed");
        }
    }
    assert_eq!(self::state(rig, &id), state);
    Some(id)
}

// Records of each operation.

#[test]
fn create_records_each_phase_at_the_instant_of_its_act() {
    let rig = Rig::default();
    let id = rig.create("a");
    assert_eq!(rig.story(&id), ["intended start", "created", "initializing"]);
    let early = Stamp::now();
    rig.double.observe(&id, Observed::AgentReady(early));
    let late = Stamp::now();
    rig.double.observe(&id, Observed::ProgramStarted(late));
    reach(&rig, &id, Phase::Running);
    assert_eq!(rig.story_after(&id, 3), ["running"]);
    assert_eq!(
        rig.fact(&id, "initializing").at.boottime_ns,
        rig.double.last(&id, Call::Resume).boottime_ns
    );
    assert_eq!(rig.fact(&id, "running").at.boottime_ns, late.boottime_ns);
    let created = rig.fact(&id, "created").at.boottime_ns;
    assert!(
        created < rig.double.last(&id, Call::Launch).boottime_ns,
        "accepted before anything is done"
    );
    rig.check_time(&id);
}

#[test]
fn an_instance_without_an_agent_is_ready_when_its_program_has_started() {
    let rig = Rig::default();
    let mut new = rig.new_instance("a");
    new.skip_guest_agent = true;
    let id = rig.try_create(new).expect("created").record.id.clone();
    rig.double.observe(&id, Observed::ProgramStarted(Stamp::now()));
    reach(&rig, &id, Phase::Running);
}

/// Each operation from `running`, what it records, and the call whose stamp each phase has.
#[test]
fn each_operation_records_its_intent_and_then_its_phases_at_the_instants_of_their_acts() {
    use Command::{Delete, Pause, Restore, Resume, Standby, Start, Stop};
    type Expected = [(&'static str, Option<Call>)];
    let rows: &[(&[Command], Command, &Expected)] = &[
        (&[], Pause, &[("intended pause", None), ("paused", Some(Call::Pause))]),
        (&[Pause], Resume, &[("intended resume", None), ("running", Some(Call::Resume))]),
        (
            &[],
            Standby,
            &[("intended standby", None), ("paused", Some(Call::Pause)), ("standby", None)],
        ),
        (&[Pause], Standby, &[("intended standby", None), ("standby", None)]),
        (
            &[Standby],
            Restore,
            &[("intended restore", None), ("paused", None), ("running", Some(Call::Resume))],
        ),
        (
            &[],
            Stop,
            &[
                ("intended stop", None),
                ("shutdown", Some(Call::RequestStop)),
                ("stopped requested", None),
            ],
        ),
        (
            &[Pause],
            Stop,
            &[("intended stop", None), ("shutdown", None), ("stopped requested", None)],
        ),
        (&[Standby], Stop, &[("intended stop", None), ("stopped discarded", None)]),
        (
            &[Stop],
            Start,
            &[("intended start", None), ("created", None), ("initializing", Some(Call::Resume))],
        ),
        (&[], Delete, &[("intended delete", None), ("stopped forced", None), ("deleted", None)]),
        (&[Standby], Delete, &[("intended delete", None), ("deleted", None)]),
        (&[Stop], Delete, &[("intended delete", None), ("deleted", None)]),
    ];
    let rig = Rig::default();
    for (before, command, expected) in rows {
        let id = running(&rig, &fresh());
        for &command in *before {
            rig.command(&id, command).expect("legal");
        }
        let count = rig.story(&id).len();
        rig.command(&id, *command).expect("legal");
        let words: Vec<_> = expected.iter().map(|&(words, _)| words).collect();
        assert_eq!(rig.story_after(&id, count), words, "{command} after {before:?}");
        for &(words, call) in *expected {
            let Some(call) = call else { continue };
            let fact = rig.fact(&id, words);
            let stamp = rig.double.last(&id, call);
            assert_eq!(
                fact.at.boottime_ns, stamp.boottime_ns,
                "{words} at the instant of {call:?}"
            );
        }
        let facts = rig.history(&id).split_off(count);
        let intended = facts[0].1.at.meter;
        assert!(
            facts.iter().all(|(_, fact)| fact.at.meter >= intended),
            "nothing is done before the intent"
        );
        assert_eq!(rig.view(&id).live.intent, None);
        rig.check_time(&id);
    }
    rig.check_journal();
}

#[test]
fn a_restore_of_a_guest_that_was_never_ready_goes_on_initializing() {
    let rig = Rig::default();
    let id = rig.create("a");
    rig.command(&id, Command::Standby).expect("in standby");
    assert_eq!(state(&rig, &id), State::Standby { ready: false });
    rig.command(&id, Command::Restore).expect("restored");
    assert_eq!(rig.story_after(&id, 6), ["intended restore", "paused", "initializing"]);
    boot(&rig, &id);
    rig.check_time(&id);
}

#[test]
fn a_standby_has_the_size_of_its_snapshot_and_only_then() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.command(&id, Command::Standby).expect("in standby");
    rig.command(&id, Command::Restore).expect("restored");
    let sizes: Vec<_> = rig
        .check_time(&id)
        .iter()
        .map(|interval| (interval.phase, interval.shape.snapshot_bytes))
        .collect();
    let expected = [
        (Phase::Created, 0),
        (Phase::Initializing, 0),
        (Phase::Running, 0),
        (Phase::Paused, 0),
        (Phase::Standby, 9),
        (Phase::Paused, 0),
        (Phase::Running, 0),
    ];
    assert_eq!(sizes, expected);
    // The snapshot contradicts the disks.
    let used = rig.fleet().folder(&id).join("standby");
    rig.run(until("end of a snapshot that was used", || !used.exists()));
}

#[test]
fn each_start_is_a_session_of_its_own_and_a_restore_is_not() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    for command in [Command::Standby, Command::Restore, Command::Stop, Command::Start] {
        rig.command(&id, command).expect("legal");
    }
    let sessions: Vec<_> = rig.check_time(&id).iter().map(|interval| interval.session).collect();
    assert_eq!(sessions, [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2]);
    let live = &rig.view(&id).live;
    assert_eq!((live.session, live.incarnation), (2, 3));
}

#[test]
fn markers_while_paused_move_no_boundary_and_count_at_the_resume() {
    let rig = Rig::default();
    let id = rig.create("a");
    rig.command(&id, Command::Pause).expect("paused");
    rig.double.observe(&id, Observed::ProgramStarted(Stamp::now()));
    rig.double.observe(&id, Observed::AgentReady(Stamp::now()));
    rig.command(&id, Command::Resume).expect("resumed");
    assert_eq!(rig.story_after(&id, 3), ["intended pause", "paused", "intended resume", "running"]);
}

#[test]
fn a_marker_from_the_future_counts_now_and_one_from_the_past_at_the_boot() {
    for (offset_ns, name) in [(i64::from(u32::MAX), "future"), (-i64::from(u32::MAX), "past")] {
        let rig = Rig::default();
        let id = rig.create(name);
        let mut stamp = Stamp::now();
        stamp.boottime_ns = stamp.boottime_ns.saturating_add_signed(offset_ns);
        rig.double.observe(&id, Observed::ProgramStarted(stamp));
        rig.double.observe(&id, Observed::AgentReady(stamp));
        reach(&rig, &id, Phase::Running);
        let booted = rig.fact(&id, "initializing").at.meter;
        let ready = rig.fact(&id, "running").at.meter;
        assert!(booted <= ready && ready <= rig.fleet().now(), "{name}");
        rig.check_time(&id);
    }
}

#[test]
fn what_the_guest_says_of_its_end_is_kept_and_moves_nothing() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    let said =
        Observed::ProgramExited { stamp: Stamp::now(), code: 3, message: "out of luck".into() };
    rig.double.observe(&id, said);
    rig.double.end(&id, Initiator::GuestPowerOff);
    reach(&rig, &id, Phase::Stopped);
    let live = &rig.view(&id).live;
    assert_eq!((live.exit_code, live.exit_message.as_deref()), (Some(3), Some("out of luck")));
    assert_eq!(rig.story_after(&id, 4), ["stopped guest"]);
    rig.command(&id, Command::Start).expect("started");
    assert_eq!(rig.view(&id).live.exit_code, None, "another session");
}

#[test]
fn an_end_by_itself_is_recorded_at_its_time_with_its_cause() {
    let rows = [
        (Initiator::GuestPowerOff, ExitCause::Guest),
        (Initiator::GuestReset, ExitCause::Guest),
        (Initiator::GuestPanic, ExitCause::Crashed),
        (Initiator::Unknown, ExitCause::Crashed),
        (Initiator::Host, ExitCause::Forced),
    ];
    let rig = Rig::default();
    for (initiator, cause) in rows {
        let id = running(&rig, &fresh());
        let exit = rig.double.end(&id, initiator);
        reach(&rig, &id, Phase::Stopped);
        let words = format!("stopped {}", cause.as_str());
        assert_eq!(rig.fact(&id, &words).at.boottime_ns, exit.stamp.boottime_ns);
        assert_eq!(rig.view(&id).live.cause, Some(cause));
        assert_eq!(rig.view(&id).live.error.is_some(), cause == ExitCause::Crashed);
        rig.check_time(&id);
    }
}

#[test]
fn stop_is_idempotent_after_guest_poweroff() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.double.end(&id, Initiator::GuestPowerOff);
    reach(&rig, &id, Phase::Stopped);
    let before = rig.story(&id);
    rig.command(&id, Command::Stop).expect("it is stopped");
    assert_eq!(rig.story(&id), before);
}

#[test]
fn a_guest_that_does_not_obey_is_ended_by_force_at_the_deadline() {
    let rig = Rig::default();
    rig.double.make_guests_deaf();
    let id = running(&rig, "a");
    rig.command(&id, Command::Stop).expect("stopped");
    assert_eq!(rig.story_after(&id, 4), ["intended stop", "shutdown", "stopped forced"]);
    let killed = rig.double.last(&id, Call::Kill).boottime_ns;
    assert!(rig.fact(&id, "stopped forced").at.boottime_ns >= killed);
    rig.check_time(&id);
}

#[test]
fn a_held_guest_runs_again_to_obey_a_stop() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.command(&id, Command::Pause).expect("paused");
    rig.command(&id, Command::Stop).expect("stopped");
    let calls: Vec<_> = rig.double.calls(&id).into_iter().map(|(call, _)| call).collect();
    assert_eq!(calls, [Call::Launch, Call::Resume, Call::Pause, Call::Resume, Call::RequestStop]);
}

// Meaning of commands.

#[test]
fn every_command_in_every_state_does_what_the_table_says() {
    let rig = Rig::default();
    for state in State::ALL {
        for command in Command::ALL {
            let Some(id) = driven_for(&rig, state, command) else { continue };
            if state == State::Deleted {
                let error = rig.command(&id, command).expect_err("it is gone");
                assert!(matches!(error, FleetError::NotFound { .. }), "{error}");
                continue;
            }
            let before = rig.history(&id);
            let calls = rig.double.calls(&id).len();
            let outcome = rig.command(&id, command);
            let after = rig.history(&id);
            let called = rig.double.calls(&id).len() > calls;
            match decide(state, command) {
                Decision::Act => {
                    assert!(outcome.is_ok(), "{command} in {state:?}: {outcome:?}");
                    assert!(after.len() > before.len());
                    let intent = in_words(&after[before.len()].1);
                    assert_eq!(intent, format!("intended {command}"), "the intent comes first");
                    assert!(
                        after.len() > before.len() + 1,
                        "and a fact that it was carried out follows"
                    );
                }
                Decision::Ignore(_) => {
                    assert!(outcome.is_ok(), "{command} in {state:?}: {outcome:?}");
                    assert_eq!(
                        (after, called),
                        (before, false),
                        "{command} in {state:?} is fulfilled"
                    );
                }
                Decision::Deny(refusal) => {
                    let refused =
                        matches!(outcome, Err(FleetError::Refused(found)) if found == refusal);
                    assert!(refused, "{command} in {state:?}");
                    assert_eq!(
                        (after, called),
                        (before, false),
                        "{command} in {state:?} is refused"
                    );
                }
            }
            rig.check_time(&id);
        }
    }
    rig.check_journal();
}

#[test]
fn a_full_queue_answers_and_holds_no_other_tenant_up() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    let gate = rig.double.hold_before(&id, Call::Pause);
    let first = rig.commanded(&id, Command::Pause);
    rig.run(gate.reached());
    let mut waiting = Vec::new();
    let error = loop {
        assert!(waiting.len() <= limits::queue::INSTANCE_COMMANDS_MAX, "the queue has no end");
        let mut next = Box::pin(rig.fleet().request(&rig.tenant, &id, Request::Pause));
        match rig.run(async { futures::future::poll_immediate(&mut next).await }) {
            Some(answer) => break answer.expect_err("only a full queue answers now"),
            None => waiting.push(next),
        }
    };
    assert!(matches!(error, FleetError::Busy(8)), "{error}");
    assert_eq!(waiting.len(), limits::queue::INSTANCE_COMMANDS_MAX);
    // The machine of another tenant is commanded as before.
    let other: TenantId = "other".parse().expect("an id");
    let new = rig.new_instance("b");
    let made = rig.run(rig.fleet().create(&other, new)).expect("created");
    let stopping = rig.fleet().request(&other, &made.record.id, rig.request(Command::Stop));
    rig.run(stopping).expect("stopped");
    gate.open();
    rig.run(first).expect("no panic").expect("paused");
    for command in waiting {
        rig.run(command).expect("it is paused by then");
    }
    assert_eq!(rig.story_after(&id, 4), ["intended pause", "paused"]);
}

// Failures.

#[test]
fn a_command_that_fails_is_given_up_on_the_record_and_changes_nothing() {
    let rows = [
        (&[][..], Command::Pause, Call::Pause, State::Running),
        (&[Command::Pause], Command::Resume, Call::Resume, State::Paused { ready: true }),
        (&[], Command::Standby, Call::Pause, State::Running),
        (&[Command::Pause], Command::Standby, Call::Save, State::Paused { ready: true }),
        (&[Command::Standby], Command::Restore, Call::Launch, State::Standby { ready: true }),
    ];
    let rig = Rig::default();
    for (before, command, call, expected) in rows {
        let id = running(&rig, &fresh());
        for &command in before {
            rig.command(&id, command).expect("legal");
        }
        let count = rig.story(&id).len();
        rig.double.plan(&id, call, Plan::Fail);
        let error = rig.command(&id, command).expect_err("it failed");
        assert!(
            matches!(&error, FleetError::Hypervisor(text) if text.contains("planned to fail")),
            "{error}"
        );
        assert_eq!(
            rig.story_after(&id, count),
            [format!("intended {command}"), format!("abandoned {command}")]
        );
        let live = rig.view(&id).live.clone();
        assert_eq!((live.state, live.intent), (expected, None));
        assert_eq!(live.error, Some(error.to_string()));
        rig.command(&id, command).expect("it works the next time");
        assert_eq!(rig.view(&id).live.error, None);
        rig.check_time(&id);
    }
}

#[test]
fn a_guest_whose_memory_could_not_be_saved_runs_again() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.double.plan(&id, Call::Save, Plan::Fail);
    rig.command(&id, Command::Standby).expect_err("not saved");
    assert_eq!(
        rig.story_after(&id, 4),
        ["intended standby", "paused", "running", "abandoned standby"]
    );
    assert_eq!(rig.double.state(&id), Some(VmState::Running));
    rig.check_time(&id);
}

#[test]
fn a_machine_that_will_not_quit_after_its_memory_was_saved_is_killed() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.double.plan(&id, Call::Quit, Plan::Fail);
    rig.command(&id, Command::Standby).expect("in standby");
    assert_eq!(rig.story_after(&id, 4), ["intended standby", "paused", "standby"]);
    assert_eq!(rig.double.living(&id), 0);
}

#[test]
fn a_machine_that_can_not_be_run_after_its_memory_was_loaded_goes_back_to_standby() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.command(&id, Command::Standby).expect("in standby");
    let count = rig.story(&id).len();
    rig.double.plan(&id, Call::Resume, Plan::Fail);
    rig.command(&id, Command::Restore).expect_err("not resumed");
    assert_eq!(
        rig.story_after(&id, count),
        ["intended restore", "paused", "standby", "abandoned restore"]
    );
    assert_eq!(rig.double.living(&id), 0);
    assert_eq!(rig.view(&id).live.shape.snapshot_bytes, 9);
    rig.command(&id, Command::Restore).expect("the snapshot is still there");
    rig.check_time(&id);
}

#[test]
fn an_instance_that_can_not_be_launched_is_stopped_and_says_why() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.command(&id, Command::Stop).expect("stopped");
    for call in [Call::Launch, Call::Resume] {
        let count = rig.story(&id).len();
        rig.double.plan(&id, call, Plan::Fail);
        let error = rig.command(&id, Command::Start).expect_err("not started");
        assert!(matches!(error, FleetError::Hypervisor(_)), "{error}");
        assert_eq!(
            rig.story_after(&id, count),
            ["intended start", "created", "stopped launch-failed"]
        );
        assert_eq!(rig.view(&id).live.error, Some(error.to_string()));
        assert_eq!(rig.double.living(&id), 0);
        assert_eq!(rig.view(&id).live.intent, None);
    }
    rig.command(&id, Command::Start).expect("started");
    rig.check_time(&id);
}

#[test]
fn a_stop_that_can_not_even_kill_is_given_up_and_may_be_tried_again() {
    let rig = Rig::default();
    let id = driven_into(&rig, "a", State::Shutdown).expect("a state that orders find");
    assert_eq!(rig.story_after(&id, 4), ["intended stop", "shutdown", "abandoned stop"]);
    assert_eq!(rig.view(&id).live.intent, None);
    rig.command(&id, Command::Stop).expect("stopped");
    assert_eq!(rig.story_after(&id, 7), ["intended stop", "stopped requested"]);
}

#[test]
fn a_delete_that_can_not_kill_leaves_the_instance_as_it_was() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    rig.double.plan(&id, Call::Kill, Plan::Fail);
    rig.command(&id, Command::Delete).expect_err("not killed");
    assert_eq!(rig.story_after(&id, 4), ["intended delete", "abandoned delete"]);
    assert_eq!((rig.view(&id).live.command(), state(&rig, &id)), (None, State::Running));
    rig.command(&id, Command::Delete).expect("deleted");
    assert_eq!(rig.double.living(&id), 0);
}

#[test]
fn a_machine_that_dies_during_an_operation_is_stopped_at_its_end() {
    for (command, call) in [(Command::Pause, Call::Pause), (Command::Standby, Call::Save)] {
        let rig = Rig::default();
        let id = running(&rig, "a");
        let gate = rig.double.hold_before(&id, call);
        let answer = rig.commanded(&id, command);
        rig.run(gate.reached());
        let exit = rig.double.end(&id, Initiator::Unknown);
        gate.open();
        rig.run(answer).expect("no panic").expect_err("it died");
        reach(&rig, &id, Phase::Stopped);
        let stopped = rig.fact(&id, "stopped crashed");
        assert_eq!(stopped.at.boottime_ns, exit.stamp.boottime_ns);
        assert_eq!(rig.view(&id).live.intent, None);
        rig.check_time(&id);
    }
}

// Names and requests.

#[test]
fn a_name_is_taken_once_and_free_again_after_the_delete() {
    let rig = Rig::default();
    let first = rig.create("a");
    let error = rig.try_create(rig.new_instance("a")).expect_err("in use");
    assert!(matches!(error, FleetError::NameInUse(_)), "{error}");
    let folders = fs::read_dir(rig.folder().join("instances")).map_or(0, Iterator::count);
    assert!(folders <= 1, "what is refused leaves no folder behind");
    rig.command(&first, Command::Delete).expect("deleted");
    let second = rig.create("a");
    assert_ne!(first, second);
    assert_eq!(rig.fleet().find(&rig.tenant, "a").expect("by name").record.id, second);
}

#[test]
fn of_two_creates_with_one_name_one_wins() {
    let rig = Rig::default();
    let create = || rig.fleet().create(&rig.tenant, rig.new_instance("a"));
    let (one, other) = rig.run(async { futures::join!(create(), create()) });
    assert!(one.is_ok() != other.is_ok());
    let error = one.err().or(other.err()).expect("one of them");
    assert!(matches!(error, FleetError::NameInUse(_)), "{error}");
    assert_eq!(rig.fleet().count(), 1);
}

#[test]
fn a_create_that_nobody_waits_for_any_more_is_found_and_carried_through() {
    let rig = Rig::default();
    for polls in 1..20 {
        let name = fresh();
        rig.run(async {
            let mut create = Box::pin(rig.fleet().create(&rig.tenant, rig.new_instance(&name)));
            for _ in 0..polls {
                if futures::future::poll_immediate(&mut create).await.is_some() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        });
        // The request was accepted or it was not: the name shows which, and nothing is in between.
        let again = rig.try_create(rig.new_instance(&name));
        assert!(matches!(again, Ok(_) | Err(FleetError::NameInUse(_))), "{again:?}");
        let found = rig.run(async {
            // The fact is durable a moment before the instance can be found.
            loop {
                match rig.fleet().find(&rig.tenant, &name) {
                    Ok(view) => break view,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        reach(&rig, &found.record.id, Phase::Initializing);
    }
}

#[test]
fn what_can_not_be_is_refused_by_field_before_anything_is_done() {
    let rig = Rig::default();
    let file = rig.folder().join("disk.raw");
    fs::write(&file, [0; 512]).expect("a file");
    let disk = |path: &str| Disk { path: path.into(), read_only: false, size_bytes: 0 };
    type Change = Box<dyn Fn(&mut NewInstance)>;
    let mut rows: Vec<(&str, Change)> = vec![("", Box::new(|_| ()))];
    rows.push(("vcpus", Box::new(|new| new.vcpus = 0)));
    rows.push(("vcpus", Box::new(|new| new.vcpus = limits::instance::VCPUS_MAX + 1)));
    rows.push(("size", Box::new(|new| new.memory_bytes = Some(MEMORY_BYTES - 1))));
    rows.push(("size", Box::new(|new| new.memory_bytes = Some(MEMORY_BYTES + 1))));
    rows.push((
        "size",
        Box::new(|new| new.memory_bytes = Some(limits::instance::MEMORY_BYTES_MAX + (1 << 20))),
    ));
    rows.push((
        "cmdline",
        Box::new(|new| new.cmdline = "x".repeat(limits::instance::CMDLINE_BYTES_MAX)),
    ));
    rows.push(("cmdline", Box::new(|new| new.cmdline = "a\nb".into())));
    rows.push(("disks", Box::new(move |new| new.disks = vec![disk("relative.raw")])));
    rows.push(("disks", Box::new(move |new| new.disks = vec![disk("/nonexistent/disk.raw")])));
    rows.push(("disks", Box::new(move |new| new.disks = vec![disk("/dev")])));
    let path = file.display().to_string();
    let many = limits::instance::DISKS_MAX + 1;
    rows.push(("disks", Box::new(move |new| new.disks = vec![disk(&path); many])));
    rows.push(("tags", Box::new(|new| new.tags = BTreeMap::from([(String::new(), "v".into())]))));
    rows.push(("tags", Box::new(|new| new.tags = BTreeMap::from([("k".into(), "v".repeat(257))]))));
    rows.push((
        "tags",
        Box::new(|new| new.tags = (0..65).map(|n| (format!("k{n}"), String::new())).collect()),
    ));
    for (index, (field, change)) in rows.iter().enumerate() {
        let mut new = rig.new_instance(&format!("row-{index}"));
        change(&mut new);
        match rig.try_create(new) {
            Ok(_) => assert_eq!(*field, "", "row {index}"),
            Err(FleetError::Invalid { field: named, .. }) => {
                assert_eq!(named, *field, "row {index}")
            }
            Err(other) => panic!("row {index}: {other}"),
        }
    }
    assert_eq!(rig.fleet().count(), 1);
    let mut new = rig.new_instance("b");
    new.image = "other".parse().expect("a name");
    let error = rig.try_create(new).expect_err("no such image");
    assert_eq!(error.to_string(), "there is no image 'other'; there are: tiny");
    let mut new = rig.new_instance("b");
    new.hypervisor = Some("other".into());
    let error = rig.try_create(new).expect_err("no such hypervisor");
    assert_eq!(error.to_string(), "there is no hypervisor 'other' on this host; there are: double");
}

#[test]
fn a_root_disk_is_copied_for_each_instance_and_counted_with_the_writable_disks() {
    let rig = Rig::default();
    let root = rig.folder().join("root");
    fs::write(&root, [7; 4096]).expect("a file");
    rig.import("rooted", Some(root.clone()));
    let mut new = rig.new_instance("a");
    new.image = "rooted".parse().expect("a name");
    new.disks = vec![
        Disk { path: root.clone(), read_only: false, size_bytes: 0 },
        Disk { path: root, read_only: true, size_bytes: 0 },
    ];
    let view = rig.try_create(new).expect("created");
    assert_eq!(view.live.shape.disk_bytes, 8192);
    let copy = rig.fleet().folder(&view.record.id).join("root.raw");
    assert_eq!(fs::read(&copy).expect("a copy"), [7; 4096]);
    rig.command(&view.record.id, Command::Delete).expect("deleted");
    assert!(!copy.exists());
}

#[test]
fn an_instance_is_found_by_id_name_and_unique_prefix_within_its_tenant() {
    let rig = Rig::default();
    // 40 random first characters out of 26 share some.
    let ids: Vec<_> = (0..40).map(|n| rig.create(&format!("name-{n}"))).collect();
    let find = |key: &str| rig.fleet().find(&rig.tenant, key).map(|view| view.record.id.clone());
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(find(id.as_str()).expect("by id"), *id);
        assert_eq!(find(&format!("name-{n}")).expect("by name"), *id);
        assert_eq!(find(&id.as_str()[..20]).expect("by prefix"), *id);
        for length in 1..=24 {
            let prefix = &id.as_str()[..length];
            let count = ids.iter().filter(|id| id.as_str().starts_with(prefix)).count();
            match find(prefix) {
                Ok(found) => assert_eq!((&found, count), (id, 1)),
                Err(FleetError::Ambiguous { count: told, .. }) => assert_eq!(told, count),
                Err(other) => panic!("{other}"),
            }
        }
    }
    for key in ["", "no-such", "NAME-1", "ÄÖ", "name-", &"x".repeat(1_000)] {
        assert!(matches!(find(key), Err(FleetError::NotFound { .. })), "{key}");
    }
    let other: TenantId = "other".parse().expect("a tenant");
    assert!(rig.fleet().list(&other).is_empty());
    for id in &ids {
        for key in [id.as_str(), &id.as_str()[..20]] {
            assert!(matches!(rig.fleet().find(&other, key), Err(FleetError::NotFound { .. })));
        }
        let refused = rig.run(rig.fleet().request(&other, id, Request::Delete));
        assert!(matches!(refused, Err(FleetError::NotFound { .. })));
        assert!(matches!(rig.fleet().find_closed(&other, id), Err(FleetError::NotFound { .. })));
    }
    let listed: Vec<_> =
        rig.fleet().list(&rig.tenant).iter().map(|view| view.record.id.clone()).collect();
    assert_eq!(listed, ids, "oldest first");
}

#[test]
fn time_stands_still_for_a_deleted_instance_and_its_usage_stays() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    rig.command(&id, Command::Delete).expect("deleted");
    assert!(matches!(rig.fleet().find(&rig.tenant, id.as_str()), Err(FleetError::NotFound { .. })));
    assert!(matches!(rig.fleet().find(&rig.tenant, "a"), Err(FleetError::NotFound { .. })));
    assert!(!rig.fleet().folder(&id).exists());
    let before = rig.check_time(&id);
    rig.crash();
    rig.start(Host::StayedUp);
    assert_eq!(rig.check_time(&id), before);
    assert_eq!(rig.view(&id).deleted, Some(rig.fact(&id, "deleted").at.meter));
    assert_eq!(rig.fleet().count(), 0);
}

#[test]
fn a_wait_ends_when_what_it_waits_for_can_not_come_any_more() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    let wait = |waiting, ms| rig.fleet().wait(&rig.tenant, &id, waiting, Duration::from_millis(ms));
    let error = rig.run(wait(Waiting::For(Phase::Standby), 0)).expect_err("not now");
    assert_eq!(error.to_string(), "not standby after 0 s; it is Running");
    rig.double.end(&id, Initiator::GuestPowerOff);
    let error = rig.run(wait(Waiting::For(Phase::Standby), 30_000)).expect_err("not any more");
    assert_eq!(error.to_string(), "the instance stopped (guest) before it was standby");
    let waiting = wait(Waiting::ForDeletion, 30_000);
    let delete = rig.fleet().request(&rig.tenant, &id, Request::Delete);
    let (waited, _) = rig.run(async { futures::join!(waiting, delete) });
    assert!(
        waited.expect("deleted").deleted.is_some(),
        "a stop is not what was waited for, and not the end of it"
    );
}

// State after a crash of the daemon.

/// State in which a restarted daemon finds a machine.
#[derive(Debug, Clone, Copy)]
enum Found {
    AsItWas,
    Alive(VmState),
    Exited(Initiator),
    Lost,
    NeverLaunched,
}

impl Found {
    const ALL: [Found; 10] = [
        Found::AsItWas,
        Found::Alive(VmState::NotStarted),
        Found::Alive(VmState::Running),
        Found::Alive(VmState::Paused),
        Found::Alive(VmState::Loading),
        Found::Alive(VmState::Ended),
        Found::Exited(Initiator::GuestPowerOff),
        Found::Exited(Initiator::Unknown),
        Found::Lost,
        Found::NeverLaunched,
    ];

    /// Returns whether the state is possible in a new boot.
    fn survives_a_reboot(self) -> bool {
        match self {
            Found::AsItWas | Found::Alive(_) => false,
            Found::Exited(_) | Found::Lost | Found::NeverLaunched => true,
        }
    }

    fn arrange(self, rig: &Rig, id: &InstanceId, host: Host) {
        match self {
            Found::NeverLaunched => rig.double.unmake(id),
            Found::AsItWas => {}
            _ if rig.double.state(id).is_none() => {}
            Found::Alive(state) => rig.double.put(id, state),
            Found::Exited(initiator) => {
                let _exit = rig.double.end(id, initiator);
            }
            Found::Lost => rig.double.lose(id, &host.boot_before()),
        }
        if host == Host::Rebooted && rig.double.knows(id) {
            rig.double.move_to_boot(id, &host.boot_before());
        }
    }
}

/// Calls of a command in a state to the hypervisor, observed in one that is carried out, and those
/// that follow if it fails.
fn calls_of(rig: &Rig, state: State, command: Command) -> Vec<Call> {
    let Some(id) = driven_for(rig, state, command) else { return Vec::new() };
    let before = rig.double.calls(&id).len();
    rig.command(&id, command).expect("legal");
    let mut calls: Vec<_> =
        rig.double.calls(&id).split_off(before).into_iter().map(|(call, _)| call).collect();
    if command == Command::Stop && !calls.is_empty() {
        calls.push(Call::Kill);
    }
    calls.sort();
    calls.dedup();
    calls
}

/// A point at which the daemon is killed: while `call` of `command` in `state` waits, before or
/// after it has acted; without a command, at rest.
#[derive(Debug, Clone, Copy)]
struct Crash {
    state: State,
    command: Option<(Command, Call, bool)>,
}

impl Crash {
    fn all(rig: &Rig) -> Vec<Crash> {
        let mut all = Vec::new();
        for state in State::ALL {
            all.push(Crash { state, command: None });
            for command in
                Command::ALL.into_iter().filter(|&command| decide(state, command) == Decision::Act)
            {
                for call in calls_of(rig, state, command) {
                    all.extend(
                        [false, true]
                            .map(|after| Crash { state, command: Some((command, call, after)) }),
                    );
                }
            }
        }
        all
    }

    /// Leads a new instance there; none if `command` makes no such call.
    fn reach(self, rig: &Rig) -> Option<InstanceId> {
        let Some((command, call, after)) = self.command else {
            return driven_into(rig, &fresh(), self.state);
        };
        let id = driven_for(rig, self.state, command)?;
        let gate = if after {
            rig.double.hold_after(&id, call)
        } else {
            rig.double.hold_before(&id, call)
        };
        let mut answer = rig.commanded(&id, command);
        let held = rig.run(async {
            tokio::select! {
                () = gate.reached() => true,
                _ = &mut answer => false,
            }
        });
        held.then_some(id)
    }
}

/// Number of files and folders in a folder.
fn files_of(folder: &std::path::Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Checks that the record agrees with the machine and the files.
fn check_settled(rig: &Rig, id: &InstanceId, context: &str) {
    let live = rig.view(id).live.clone();
    assert_eq!(live.intent, None, "{context}: {:?}", rig.story(id));
    let runs = match live.state {
        State::Initializing | State::Running => Some(true),
        State::Paused { .. } => Some(false),
        State::Standby { .. } | State::Stopped | State::Deleted => None,
        State::Created | State::Shutdown | State::Unknown => {
            panic!("{context}: left {}", live.state.as_str())
        }
    };
    let really = rig.double.state(id).map(|state| state == VmState::Running);
    assert_eq!(really, runs, "{context}: {:?}", rig.story(id));
    assert!(rig.double.living(id) <= 1, "{context}");
    let asleep = matches!(live.state, State::Standby { .. });
    let kept = &rig.view(id).record.snapshots;
    let bytes: u64 = kept.iter().map(|snapshot| snapshot.bytes).sum();
    let expected =
        if live.state == State::Deleted { 0 } else { bytes + if asleep { 9 } else { 0 } };
    assert_eq!(live.shape.snapshot_bytes, expected, "{context}");
    let folder = rig.fleet().folder(id);
    assert_eq!(folder.join("standby/memory").exists(), asleep, "{context}: {:?}", rig.story(id));
    for snapshot in kept.iter().filter(|_| live.state != State::Deleted) {
        assert!(
            folder.join("snapshots").join(snapshot.name.as_str()).join("snapshot.json").exists(),
            "{context}"
        );
    }
    assert_eq!(
        files_of(&folder.join("snapshots")),
        if live.state == State::Deleted { 0 } else { kept.len() },
        "{context}"
    );
    rig.check_time(id);
}

fn every_crash_is_recovered_from(host: Host) {
    let mut rig = Rig::default();
    let mut cases = Vec::new();
    for crash in Crash::all(&rig) {
        for found in Found::ALL
            .into_iter()
            .filter(|found| host == Host::StayedUp || found.survives_a_reboot())
        {
            match crash.reach(&rig) {
                Some(id) => cases.push((id, format!("{crash:?}, {found:?}, {host:?}"), found)),
                None => break,
            }
        }
    }
    assert!(cases.len() > 200, "the matrix has shrunk to {}", cases.len());
    rig.crash();
    for (id, _, found) in &cases {
        rig.double.forget_plans(id);
        found.arrange(&rig, id, host);
    }
    rig.start(host);
    let born: Vec<_> =
        rig.fleet().list(&rig.tenant).iter().map(|view| view.record.id.clone()).collect();
    for (id, context, _) in &cases {
        // Queued after the recovery, as one task owns the instance.
        match rig.command(id, Command::Pause) {
            Ok(_) | Err(FleetError::Refused(_)) => {}
            Err(FleetError::NotFound { .. }) => {
                assert!(rig.view(id).deleted.is_some(), "{context}")
            }
            Err(other) => panic!("{context}: {other}: {:?}", rig.story(id)),
        }
        check_settled(&rig, id, context);
        if rig.view(id).deleted.is_none() {
            rig.command(id, Command::Delete).expect("deletable");
        }
        check_settled(&rig, id, context);
    }
    // The forks that were made are complete, and nothing is left of the others.
    let forks = born.iter().filter(|id| !cases.iter().any(|(case, _, _)| case == *id));
    for id in forks {
        rig.command(id, Command::Pause)
            .map(drop)
            .or_else(refused)
            .expect("a fork like any instance");
        check_settled(&rig, id, "a fork");
        rig.command(id, Command::Delete).expect("deletable");
    }
    assert_eq!(rig.fleet().count(), 0);
    rig.check_journal();
}

fn refused(error: FleetError) -> Result<(), FleetError> {
    match error {
        FleetError::Refused(_) => Ok(()),
        other => Err(other),
    }
}

#[test]
fn a_crash_at_any_point_is_recovered_from_whatever_became_of_the_machine() {
    every_crash_is_recovered_from(Host::StayedUp);
}

#[test]
fn a_loss_of_power_at_any_point_is_recovered_from_whatever_is_known_of_the_machine() {
    every_crash_is_recovered_from(Host::Rebooted);
}

/// Both kinds of outage.
const HOSTS: [Host; 2] = [Host::StayedUp, Host::Rebooted];

#[test]
fn an_end_while_the_daemon_was_down_is_recorded_at_its_true_time() {
    for host in HOSTS {
        for (initiator, words) in
            [(Initiator::GuestPowerOff, "stopped guest"), (Initiator::Unknown, "stopped crashed")]
        {
            let mut rig = Rig::default();
            let id = running(&rig, "a");
            rig.crash();
            let exit = rig.double.end(&id, initiator);
            rig.double.move_to_boot(&id, &host.boot_before());
            rig.start(host);
            reach(&rig, &id, Phase::Stopped);
            assert_eq!(rig.story_after(&id, 4), [words]);
            let fact = rig.fact(&id, words);
            assert_eq!(fact.at.boottime_ns, exit.stamp.boottime_ns);
            assert_eq!(fact.at.boot, host.boot_before());
            let elapsed = exit.stamp.boottime_ns - rig.fact(&id, "running").at.boottime_ns;
            assert_eq!(
                fact.at.meter.since(rig.fact(&id, "running").at.meter).map(|nanos| nanos.0),
                Some(elapsed)
            );
            rig.check_time(&id);
        }
    }
}

#[test]
fn a_guest_that_became_ready_while_the_daemon_was_down_runs_since_then() {
    for ended in [false, true] {
        let mut rig = Rig::default();
        let id = rig.create("a");
        rig.crash();
        rig.double.observe(&id, Observed::ProgramStarted(Stamp::now()));
        let ready = Stamp::now();
        rig.double.observe(&id, Observed::AgentReady(ready));
        if ended {
            rig.double.end(&id, Initiator::GuestPowerOff);
        }
        rig.start(Host::StayedUp);
        reach(&rig, &id, if ended { Phase::Stopped } else { Phase::Running });
        assert_eq!(rig.fact(&id, "running").at.boottime_ns, ready.boottime_ns);
        rig.check_time(&id);
    }
}

#[test]
fn a_standby_that_lacked_only_its_last_fact_is_one_since_the_exit() {
    for host in HOSTS {
        let mut rig = Rig::default();
        let id = running(&rig, "a");
        let gate = rig.double.hold_after(&id, Call::Quit);
        drop(rig.commanded(&id, Command::Standby));
        rig.run(gate.reached());
        rig.crash();
        let exit = rig.double.end(&id, Initiator::Host);
        rig.double.move_to_boot(&id, &host.boot_before());
        rig.start(host);
        reach(&rig, &id, Phase::Standby);
        assert_eq!(rig.story_after(&id, 4), ["intended standby", "paused", "standby"]);
        assert_eq!(rig.fact(&id, "standby").at.boottime_ns, exit.stamp.boottime_ns);
        rig.command(&id, Command::Restore).expect("its memory is there");
        rig.check_time(&id);
    }
}

#[test]
fn what_was_saved_for_a_daemon_that_could_not_keep_it_is_saved_again() {
    let rows: [(&[Command], Command, &[&str]); 4] = [
        (&[], Command::Standby, &["intended standby", "paused", "running", "paused", "standby"]),
        (
            &[Command::Pause],
            Command::Standby,
            &["intended standby", "running", "paused", "standby"],
        ),
        (&[], Command::Snapshot, &["intended snapshot", "paused", "running", "abandoned snapshot"]),
        (&[Command::Pause], Command::Snapshot, &["intended snapshot", "abandoned snapshot"]),
    ];
    for (before, command, story) in rows {
        let mut rig = Rig::default();
        let id = running(&rig, "a");
        for &command in before {
            rig.command(&id, command).expect("legal");
        }
        let count = rig.story(&id).len();
        let gate = rig.double.hold_after(&id, Call::Save);
        drop(rig.commanded(&id, command));
        rig.run(gate.reached());
        rig.crash();
        for folder in ["standby", "snapshots"] {
            drop(fs::remove_dir_all(rig.folder().join("instances").join(id.as_str()).join(folder)));
        }
        rig.start(Host::StayedUp);
        if command == Command::Snapshot {
            // Queued after the recovery of the restart, which finds memory that was already saved.
            rig.keep(&id);
            assert_eq!(rig.story_after(&id, count)[..story.len()], *story, "{before:?} {command}");
            rig.command(&id, Command::Standby).expect("once more");
        } else {
            reach(&rig, &id, Phase::Standby);
            assert_eq!(rig.story_after(&id, count), story, "{before:?} {command}");
        }
        rig.command(&id, Command::Restore).expect("its memory is there");
        rig.check_time(&id);
    }
}

#[test]
fn a_snapshot_of_an_earlier_standby_is_never_taken_for_that_of_a_later_one() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    rig.command(&id, Command::Standby).expect("in standby");
    let saved = rig.fleet().folder(&id).join("standby");
    let kept = rig.folder().join("kept");
    fs::rename(&saved, &kept).and_then(|()| fs::create_dir(&saved)).expect("moved away");
    fs::copy(kept.join("memory"), saved.join("memory")).expect("a copy");
    rig.command(&id, Command::Restore).expect("restored");
    rig.run(until("room", || !saved.exists()));
    // The state after a crash between the resume and the removal of the snapshot.
    fs::rename(&kept, &saved).expect("moved back");
    let gate = rig.double.hold_before(&id, Call::Save);
    drop(rig.commanded(&id, Command::Standby));
    rig.run(gate.reached());
    rig.crash();
    rig.double.end(&id, Initiator::Unknown);
    rig.start(Host::StayedUp);
    reach(&rig, &id, Phase::Stopped);
    rig.check_time(&id);
}

#[test]
fn what_nobody_saw_is_unknown_from_the_last_proof_of_life() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    let asleep = running(&rig, "b");
    rig.command(&asleep, Command::Standby).expect("in standby");
    let before = rig.story(&asleep);
    let proof = rig.run(rig.journal().prove_alive()).expect("recorded");
    rig.crash();
    rig.double.lose(&id, &Host::Rebooted.boot_before());
    rig.start(Host::Rebooted);
    reach(&rig, &id, Phase::Stopped);
    assert_eq!(rig.story_after(&id, 4), ["unknown", "stopped host-lost"]);
    let unknown = rig.fact(&id, "unknown");
    assert_eq!((unknown.at.meter, unknown.at.boot), (proof, Host::Rebooted.boot_before()));
    assert_eq!(rig.story(&asleep), before, "nothing ran there");
    rig.check_time(&id);
}

#[test]
fn a_launch_that_a_restart_interrupts_is_finished_if_there_is_a_machine() {
    for (gate, story) in [
        (
            DoubleHypervisor::hold_before as fn(&DoubleHypervisor, &InstanceId, Call) -> Gate,
            ["stopped launch-failed"],
        ),
        (DoubleHypervisor::hold_after, ["initializing"]),
    ] {
        let mut rig = Rig::default();
        let id = running(&rig, "a");
        rig.command(&id, Command::Stop).expect("stopped");
        let count = rig.story(&id).len();
        let gate = gate(&rig.double, &id, Call::Launch);
        drop(rig.commanded(&id, Command::Start));
        rig.run(gate.reached());
        rig.crash();
        rig.start(Host::StayedUp);
        rig.command(&id, Command::Start).expect("nothing to do, or to do again");
        assert_eq!(rig.story_after(&id, count + 2)[..1], story);
        check_settled(&rig, &id, "after a launch");
    }
}

#[test]
fn a_stop_goes_on_after_a_restart_with_its_grace() {
    let mut rig = Rig::default();
    let mut new = rig.new_instance("a");
    new.stop_grace_ms = 60_000;
    let id = rig.try_create(new).expect("created").record.id.clone();
    let gate = rig.double.hold_before(&id, Call::RequestStop);
    drop(rig.commanded(&id, Command::Stop));
    rig.run(gate.reached());
    rig.crash();
    let gate = rig.double.hold_after(&id, Call::RequestStop);
    rig.start(Host::StayedUp);
    rig.run(gate.reached());
    gate.open();
    reach(&rig, &id, Phase::Stopped);
    assert_eq!(rig.story_after(&id, 3), ["intended stop", "shutdown", "stopped requested"]);
}

#[test]
fn a_machine_that_can_not_be_taken_up_is_looked_for_again_and_never_given_up() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    rig.crash();
    rig.double.plan(&id, Call::Adopt, Plan::Fail);
    rig.double.plan(&id, Call::Adopt, Plan::Fail);
    rig.start(Host::StayedUp);
    let error = rig.command(&id, Command::Resume).expect_err("nobody knows whether it runs");
    assert!(matches!(error, FleetError::Hypervisor(_)), "{error}");
    assert_eq!((rig.double.living(&id), state(&rig, &id)), (1, State::Running));
    assert_eq!(rig.story_after(&id, 4), [""; 0]);
    rig.command(&id, Command::Pause).expect("found at last");
    rig.command(&id, Command::Delete).expect("deleted");
    assert_eq!(rig.double.living(&id), 0);
    rig.check_time(&id);
}

#[test]
fn a_machine_that_lives_and_does_not_answer_can_be_stopped_and_deleted_and_nothing_else() {
    for (command, story) in [
        (Command::Stop, &["intended stop", "stopped forced"][..]),
        (Command::Delete, &["intended delete", "stopped forced", "deleted"]),
    ] {
        let mut rig = Rig::default();
        let id = running(&rig, "a");
        rig.crash();
        for _ in 0..Command::ALL.len() + 2 {
            rig.double.plan(&id, Call::Adopt, Plan::Fail);
        }
        rig.start(Host::StayedUp);
        for other in
            [Command::Pause, Command::Standby, Command::Snapshot, Command::Fork, Command::Resume]
        {
            let error = rig.command(&id, other).expect_err("it does not answer");
            assert!(matches!(error, FleetError::Hypervisor(_)), "{other}: {error}");
        }
        assert!(
            rig.view(&id)
                .live
                .error
                .as_ref()
                .is_some_and(|error| error.contains("after a restart"))
        );
        assert_eq!((rig.double.living(&id), rig.story_after(&id, 4)), (1, Vec::new()));
        rig.double.forget_plans(&id);
        rig.double.plan(&id, Call::Adopt, Plan::Fail);
        rig.command(&id, command).expect("there is a way out");
        assert_eq!(rig.double.living(&id), 0);
        assert_eq!(rig.story_after(&id, 4), story);
        assert_eq!(
            rig.fact(&id, "stopped forced").at.boottime_ns,
            rig.double.last(&id, Call::End).boottime_ns
        );
        rig.check_time(&id);
    }
}

// A full disk.

/// A rig whose database can't grow, and the room that can be made in it.
struct Cramped {
    rig: Rig,
    ids: Vec<InstanceId>,
}

impl Cramped {
    fn database(&self) -> rusqlite::Connection {
        let db = rusqlite::Connection::open(self.rig.journal().path()).expect("the journal's file");
        db.busy_timeout(Duration::from_secs(10)).expect("a timeout");
        db
    }

    fn new() -> Self {
        let mut rig = Rig::default();
        let ids = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| running(&rig, name)).to_vec();
        let mut this = Self { rig, ids };
        let db = this.database();
        db.execute_batch(
            "CREATE TABLE room (bytes BLOB); INSERT INTO room VALUES (zeroblob(400000))",
        )
        .expect("room");
        let pages: u32 = db.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a count");
        drop(db);
        rig = this.rig;
        rig.crash();
        rig.set_options(Options { pages_max: Some(pages), ..Options::default() });
        rig.start(Host::StayedUp);
        this = Self { rig, ids: this.ids };
        this
    }

    /// Pauses and resumes until there is no room even for an intent.
    fn fill(&self, id: &InstanceId) -> FleetError {
        for command in [Command::Pause, Command::Resume].into_iter().cycle().take(10_000) {
            if let Err(error) = self.rig.command(id, command) {
                return error;
            }
        }
        panic!("the disk has no end");
    }

    fn make_room(&self) {
        self.database().execute_batch("DROP TABLE room").expect("dropped");
    }
}

#[test]
fn on_a_full_disk_nothing_is_done_and_what_was_done_is_recorded_as_soon_as_there_is_room() {
    let cramped = Cramped::new();
    let rig = &cramped.rig;
    let [done, failed, others @ ..] = &cramped.ids[..] else { panic!("there are some") };
    let gate = rig.double.hold_before(done, Call::Pause);
    let answer = rig.commanded(done, Command::Pause);
    rig.run(gate.reached());
    let failing = rig.double.hold_before(failed, Call::Pause);
    let refusal = rig.commanded(failed, Command::Pause);
    rig.run(failing.reached());
    // Filled until there is no room for an intent, which is smaller than the fact of a phase.
    let refused = others.iter().find(|id| match cramped.fill(id) {
        FleetError::NoSpace => true,
        FleetError::Unrecorded => false,
        other => panic!("{other}"),
    });
    let refused = refused.expect("an intent for which there is no room");

    // Nothing is done if not even the intent can be recorded.
    let calls = rig.double.calls(refused).len();
    let facts = rig.story(refused);
    for command in [Command::Stop, Command::Delete] {
        let error = rig.command(refused, command).expect_err("no room");
        assert!(matches!(error, FleetError::NoSpace), "{error}");
    }
    assert_eq!((rig.double.calls(refused).len(), rig.story(refused)), (calls, facts));
    let error = rig.try_create(rig.new_instance("z")).expect_err("no room");
    assert!(matches!(error, FleetError::NoSpace), "{error}");

    // The act under way completes, and its fact waits.
    gate.open();
    let error = rig.run(answer).expect("no panic").expect_err("not recorded");
    assert!(matches!(error, FleetError::Unrecorded), "{error}");
    assert_eq!(rig.double.state(done), Some(VmState::Paused));
    assert_eq!(rig.story_after(done, 4), ["intended pause"]);

    // A failed act stays failed, whatever waits to be recorded.
    rig.double.end(failed, Initiator::Unknown);
    failing.open();
    let error = rig.run(refusal).expect("no panic").expect_err("it has ended");
    assert!(matches!(error, FleetError::Hypervisor(_)), "{error}");

    cramped.make_room();
    reach(rig, done, Phase::Paused);
    assert_eq!(rig.story_after(done, 4), ["intended pause", "paused"]);
    assert_eq!(
        rig.fact(done, "paused").at.boottime_ns,
        rig.double.last(done, Call::Pause).boottime_ns
    );
    for id in &cramped.ids {
        rig.command(id, Command::Delete).expect("there is room");
        rig.check_time(id);
    }
    rig.check_journal();
}

// Any events in any order.

/// An event of an instance.
#[derive(Debug, Clone, Copy)]
enum Step {
    Command(Command),
    Keep,
    FailOnce(Call),
    ProgramStarts,
    AgentAnswers,
    Ends(Initiator),
    Crash { host: Host, at: Option<(Command, Call)> },
}

fn step() -> impl Strategy<Value = Step> {
    // Commands on a snapshot may or may not find it; forks have tests of their own.
    let commands: Vec<_> =
        Command::ALL.into_iter().filter(|&command| command != Command::Fork).collect();
    let command = prop::sample::select(commands);
    // A machine that can be neither adopted nor killed has tests of its own.
    let call = prop::sample::select(vec![
        Call::Launch,
        Call::Resume,
        Call::Pause,
        Call::Save,
        Call::RequestStop,
        Call::Quit,
    ]);
    let initiator = prop::sample::select(vec![
        Initiator::GuestPowerOff,
        Initiator::GuestReset,
        Initiator::GuestPanic,
        Initiator::Host,
        Initiator::Unknown,
    ]);
    let at = prop::option::of((command.clone(), call.clone()));
    prop_oneof![
        12 => command.prop_map(Step::Command),
        2 => Just(Step::Keep),
        2 => call.prop_map(Step::FailOnce),
        2 => Just(Step::ProgramStarts),
        2 => Just(Step::AgentAnswers),
        2 => initiator.prop_map(Step::Ends),
        2 => (prop::sample::select(HOSTS.to_vec()), at)
            .prop_map(|(host, at)| Step::Crash { host, at }),
    ]
}

/// Crashes, at rest or while `call` of `command` waits, and starts again.
fn crash(rig: &mut Rig, id: &InstanceId, host: Host, at: Option<(Command, Call)>) {
    if let Some((command, call)) = at {
        let gate = rig.double.hold_after(id, call);
        let mut answer = rig.commanded(id, command);
        rig.run(async {
            tokio::select! {
                () = gate.reached() => {}
                _ = &mut answer => {}
            }
        });
    }
    rig.crash();
    rig.double.forget_plans(id);
    if host == Host::Rebooted && rig.double.state(id).is_some() {
        rig.double.lose(id, &host.boot_before());
    }
    rig.start(host);
}

fn take(rig: &mut Rig, id: &InstanceId, step: Step) {
    match step {
        Step::Command(command) => match rig.command(id, command) {
            Ok(_)
            | Err(FleetError::Refused(_) | FleetError::Hypervisor(_) | FleetError::NoMachine) => {}
            Err(FleetError::NotFound { .. }) => assert!(rig.view(id).deleted.is_some()),
            Err(FleetError::NoSuchSnapshot { .. }) => {}
            Err(other) => panic!("{command}: {other}"),
        },
        Step::Keep => match rig.snapshot(id, KEPT, None) {
            Ok(_)
            | Err(
                FleetError::Refused(_) | FleetError::Hypervisor(_) | FleetError::SnapshotExists(_),
            ) => {}
            Err(FleetError::NotFound { .. }) => assert!(rig.view(id).deleted.is_some()),
            Err(other) => panic!("{other}"),
        },
        Step::FailOnce(call) => rig.double.plan(id, call, Plan::Fail),
        Step::ProgramStarts if rig.double.state(id).is_some() => {
            rig.double.observe(id, Observed::ProgramStarted(Stamp::now()));
        }
        Step::AgentAnswers if rig.double.state(id).is_some() => {
            rig.double.observe(id, Observed::AgentReady(Stamp::now()));
        }
        Step::Ends(initiator) if rig.double.state(id).is_some() => {
            let _exit = rig.double.end(id, initiator);
        }
        Step::ProgramStarts | Step::AgentAnswers | Step::Ends(_) => {}
        Step::Crash { host, at } => crash(rig, id, host, at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_sequence_of_commands_failures_guest_events_and_crashes_loses_a_nanosecond(
        steps in prop::collection::vec(step(), 1..24),
    ) {
        let mut rig = Rig::default();
        let id = rig.create("a");
        for step in steps {
            take(&mut rig, &id, step);
            rig.check_time(&id);
        }
        rig.double.forget_plans(&id);
        take(&mut rig, &id, Step::Command(Command::Pause));
        check_settled(&rig, &id, "at the end");
        take(&mut rig, &id, Step::Command(Command::Delete));
        check_settled(&rig, &id, "after the delete");
        rig.check_journal();
    }
}
