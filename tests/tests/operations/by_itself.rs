//! Automatic operations of instances: restarts, ends of lifetimes, changes of labels.

use std::time::Duration;

use tallyman::billing::{Counted, InstanceFact};
use tallyman::driver::{
    Amendment, AutoStandby, Expiry, ExpiryAction, FleetError, HealthCheck, HealthStatus, Probe,
};
use tallyman::hypervisor::{Initiator, Observed};
use tallyman::id::InstanceId;
use tallyman::units::{Instant, Nanos};
use tallyman::vm::{Asker, Command, Phase, RestartMode, RestartPolicy};
use tallyman_tests::double::{Call, Plan};
use tallyman_tests::rig::{Host, Rig};

use crate::{boot, gone, reach, running};

const SECOND: Duration = Duration::from_secs(1);

/// An instance that is ready and has a restart policy with a back-off of 10 s.
fn restarting(rig: &Rig, mode: RestartMode, attempts_max: Option<u32>) -> InstanceId {
    let mut new = rig.new_instance("a");
    new.restart =
        RestartPolicy { mode, backoff_ms: 10_000, attempts_max, stable_after_ms: 600_000 };
    let id = rig.try_create(new).expect("created").record.id.clone();
    boot(rig, &id);
    id
}

fn in_s(rig: &Rig, seconds: u64) -> i64 {
    rig.fleet().now().after(Nanos(seconds * 1_000_000_000)).expect("in range").0
}

#[test]
fn downtime_before_a_restart_is_stopped_and_never_running() {
    let mut rig = Rig::default();
    let id = restarting(&rig, RestartMode::Always, None);
    let exit = rig.double.end(&id, Initiator::GuestPowerOff);
    let waiting = rig.fleet().views(&rig.tenant, &id).expect("known");
    rig.run(settled(waiting, |live| live.restarts.due_ns.is_some()));
    assert_eq!(rig.story_after(&id, 4), ["stopped guest"]);
    rig.pass(9 * SECOND);
    assert_eq!(rig.view(&id).live.state.phase(), Some(Phase::Stopped), "not before its time");
    rig.pass(SECOND);
    reach(&rig, &id, Phase::Initializing);
    assert_eq!(
        rig.story_after(&id, 4),
        ["stopped guest", "intended start by restart-policy", "created", "initializing"]
    );
    boot(&rig, &id);
    let pieces = rig.check_time(&id);
    let stopped = pieces.iter().find(|piece| piece.phase == Phase::Stopped).expect("a stop");
    assert_eq!(stopped.start, rig.fact(&id, "stopped guest").at.meter);
    assert_eq!(rig.fact(&id, "stopped guest").at.boottime_ns, exit.stamp.boottime_ns);
    assert!(stopped.length() >= Nanos(10_000_000_000), "{:?}", stopped.length());
    assert_eq!((pieces[0].session, pieces[pieces.len() - 1].session), (1, 2));
}

/// Waits until a view satisfies a condition.
async fn settled(
    mut views: tokio::sync::watch::Receiver<std::sync::Arc<tallyman::driver::View>>,
    so: impl Fn(&tallyman::driver::Live) -> bool,
) {
    views.wait_for(|view| so(&view.live)).await.expect("it goes on");
}

#[test]
fn each_attempt_waits_twice_as_long_until_there_are_no_more_or_the_guest_was_stable() {
    let mut rig = Rig::default();
    let id = restarting(&rig, RestartMode::OnFailure, Some(3));
    let crash = |rig: &mut Rig, waits: Option<u64>| {
        rig.double.end(&id, Initiator::Unknown);
        reach(rig, &id, Phase::Stopped);
        let stopped = rig.fact(&id, "stopped crashed").at.meter;
        let due = rig.view(&id).live.restarts.due_ns;
        assert_eq!(
            due,
            waits.map(|wait| stopped.0 + i64::try_from(wait).expect("small") * 1_000_000_000)
        );
        if let Some(wait) = waits {
            rig.pass(Duration::from_secs(wait));
            reach(rig, &id, Phase::Initializing);
            boot(rig, &id);
        }
    };
    for wait in [10, 20, 40] {
        crash(&mut rig, Some(wait));
    }
    rig.pass(601 * SECOND);
    crash(&mut rig, Some(10));
    assert_eq!(rig.view(&id).live.restarts.attempts, 1);
    for wait in [20, 40] {
        crash(&mut rig, Some(wait));
    }
    crash(&mut rig, None);
    assert_eq!(rig.view(&id).live.restarts.attempts, 3);
    rig.command(&id, Command::Start).expect("a client may");
    assert_eq!(rig.view(&id).live.restarts.attempts, 0, "and begins a new row");
    rig.check_time(&id);
}

#[test]
fn a_program_that_succeeded_is_not_started_again_on_failure_and_one_that_failed_is() {
    for (code, again) in [(0, false), (3, true)] {
        let rig = Rig::default();
        let id = restarting(&rig, RestartMode::OnFailure, None);
        rig.double.observe(
            &id,
            Observed::ProgramExited { stamp: rig.double.now(), code, message: String::new() },
        );
        rig.double.end(&id, Initiator::GuestPowerOff);
        let views = rig.fleet().views(&rig.tenant, &id).expect("known");
        rig.run(settled(views, |live| live.state.phase() == Some(Phase::Stopped)));
        assert_eq!(rig.view(&id).live.restarts.due_ns.is_some(), again, "exit code {code}");
    }
}

#[test]
fn whoever_asks_for_a_stop_gets_one_that_lasts() {
    let mut rig = Rig::default();
    let id = restarting(&rig, RestartMode::Always, None);
    rig.command(&id, Command::Stop).expect("stopped");
    assert_eq!(rig.view(&id).live.restarts.due_ns, None);
    rig.command(&id, Command::Start).expect("started");
    rig.double.end(&id, Initiator::GuestReset);
    let views = rig.fleet().views(&rig.tenant, &id).expect("known");
    rig.run(settled(views, |live| live.restarts.due_ns.is_some()));
    // The same holds while a restart is pending.
    rig.command(&id, Command::Stop).expect("stopped already");
    assert_eq!(rig.view(&id).live.restarts.due_ns, None);
    let story = rig.story(&id);
    rig.pass(3_600 * SECOND);
    rig.crash();
    rig.start(Host::StayedUp);
    assert_eq!(rig.story(&id), story);
}

#[test]
fn a_launch_that_fails_is_tried_again_if_the_policy_asked_for_it_and_not_if_a_client_did() {
    let mut rig = Rig::default();
    let mut new = rig.new_instance("b");
    new.restart = RestartPolicy { mode: RestartMode::Always, ..RestartPolicy::default() };
    let refused = rig.try_create(new).expect("created").record.id.clone();
    rig.command(&refused, Command::Stop).expect("stopped");
    rig.double.plan(&refused, Call::Launch, Plan::Fail);
    rig.command(&refused, Command::Start).expect_err("not launched");
    assert_eq!(rig.view(&refused).live.restarts.due_ns, None, "the client knows");
    let id = restarting(&rig, RestartMode::Always, None);
    rig.double.plan(&id, Call::Launch, Plan::Fail);
    rig.double.end(&id, Initiator::Unknown);
    let views = rig.fleet().views(&rig.tenant, &id).expect("known");
    rig.run(settled(views.clone(), |live| live.restarts.due_ns.is_some()));
    rig.pass(10 * SECOND);
    rig.run(settled(views.clone(), |live| {
        live.restarts.attempts == 1 && live.restarts.due_ns.is_some()
    }));
    assert_eq!(
        rig.story_after(&id, 5),
        ["intended start by restart-policy", "created", "stopped launch-failed"]
    );
    rig.pass(20 * SECOND);
    reach(&rig, &id, Phase::Initializing);
    assert_eq!(rig.view(&id).live.restarts.attempts, 2);
    rig.check_time(&id);
}

#[test]
fn a_restart_that_is_due_while_the_daemon_is_down_is_made_when_it_is_back() {
    let mut rig = Rig::default();
    let id = restarting(&rig, RestartMode::Always, None);
    rig.crash();
    let exit = rig.double.end(&id, Initiator::Unknown);
    rig.pass(3_600 * SECOND);
    rig.start(Host::StayedUp);
    reach(&rig, &id, Phase::Initializing);
    let stopped = rig.fact(&id, "stopped crashed").at;
    assert_eq!(stopped.boottime_ns, exit.stamp.boottime_ns);
    let created = rig
        .history(&id)
        .into_iter()
        .rev()
        .find(|(_, fact)| fact.counts().and_then(Counted::phase) == Some(Phase::Created));
    let down = created.expect("started again").1.at.meter.since(stopped.meter).expect("later");
    assert!(down >= Nanos(3_600_000_000_000), "{down:?}");
    rig.check_time(&id);
}

#[test]
fn time_that_is_over_ends_an_instance_with_its_cause_on_record() {
    for (action, last) in
        [(ExpiryAction::Delete, "deleted"), (ExpiryAction::Stop, "stopped requested")]
    {
        let mut rig = Rig::default();
        let mut new = rig.new_instance("a");
        new.expiry = Some(Expiry { at_ns: in_s(&rig, 3_600), action });
        new.restart = RestartPolicy { mode: RestartMode::Always, ..RestartPolicy::default() };
        let id = rig.try_create(new).expect("created").record.id.clone();
        boot(&rig, &id);
        rig.pass(3_590 * SECOND);
        assert_eq!(rig.view(&id).live.state.phase(), Some(Phase::Running), "not before its time");
        rig.pass(10 * SECOND);
        match action {
            ExpiryAction::Delete => gone(&rig, &id),
            ExpiryAction::Stop => {
                reach(&rig, &id, Phase::Stopped);
                let views = rig.fleet().views(&rig.tenant, &id).expect("known");
                rig.run(async {
                    views.clone().wait_for(|view| view.record.spec.expiry.is_none()).await.map(drop)
                })
                .expect("it goes on");
            }
        }
        let story = rig.story_after(&id, 4);
        assert_eq!(story.last().map(String::as_str), Some(last));
        let intended = format!(
            "intended {} by expiry",
            if action == ExpiryAction::Delete { "delete" } else { "stop" }
        );
        assert_eq!(story[0], intended);
        let intended = rig.fact(&id, &intended);
        let by_expiry = matches!(
            intended.of_instance(),
            Some(InstanceFact::Intended { by: Asker::Expiry, .. })
        );
        assert!(by_expiry, "{intended:?}");
        if action == ExpiryAction::Stop {
            rig.pass(3_600 * SECOND);
            rig.command(&id, Command::Start).expect("a client may start it again");
            assert_eq!(
                rig.view(&id).live.state.phase(),
                Some(Phase::Initializing),
                "and then it runs on"
            );
        }
        rig.check_time(&id);
    }
}

#[test]
fn an_end_can_be_moved_taken_back_and_come_while_the_daemon_is_down() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    let expiry = |at_ns| Amendment {
        expiry: Some(Some(Expiry { at_ns, action: ExpiryAction::Delete })),
        ..Amendment::default()
    };
    let error = rig.amend(&id, expiry(in_s(&rig, 0))).expect_err("past");
    assert!(matches!(error, FleetError::Invalid { field: "expires_at", .. }), "{error}");
    rig.amend(&id, expiry(in_s(&rig, 100))).expect("amended");
    rig.amend(&id, expiry(in_s(&rig, 1_000))).expect("later");
    rig.pass(500 * SECOND);
    rig.amend(&id, Amendment { expiry: Some(None), ..Amendment::default() }).expect("never");
    rig.pass(1_000 * SECOND);
    rig.amend(&id, expiry(in_s(&rig, 100))).expect("after all");
    assert_eq!(rig.story_after(&id, 4), ["amended expiry"; 4]);
    rig.crash();
    rig.pass(1_000 * SECOND);
    rig.start(Host::StayedUp);
    gone(&rig, &id);
    assert_eq!(rig.double.living(&id), 0);
    rig.check_time(&id);
}

#[test]
fn what_is_changed_is_on_record_with_its_value_and_survives_a_restart() {
    let mut rig = Rig::default();
    let id = running(&rig, "a");
    let before = rig.check_time(&id).len();
    let amendment = Amendment {
        tags: Some([("team".to_owned(), "blue".to_owned())].into()),
        restart: Some(RestartPolicy { mode: RestartMode::OnFailure, ..RestartPolicy::default() }),
        ..Amendment::default()
    };
    rig.amend(&id, amendment).expect("amended");
    assert_eq!(rig.story_after(&id, 4), ["amended tags", "amended restart_policy"]);
    let amended =
        InstanceFact::Amended { field: "tags".into(), value: r#"{"team":"blue"}"#.into() };
    assert_eq!(rig.fact(&id, "amended tags").of_instance(), Some(&amended));
    rig.amend(&id, Amendment::default()).expect("nothing to do");
    assert_eq!(rig.check_time(&id).len(), before, "no time is cut by it");
    rig.crash();
    rig.start(Host::StayedUp);
    let spec = rig.view(&id).record.spec.clone();
    assert_eq!((spec.tags["team"].as_str(), spec.restart.mode), ("blue", RestartMode::OnFailure));
    let many = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
    let error = rig
        .amend(&id, Amendment { tags: Some(many), ..Amendment::default() })
        .expect_err("too many");
    assert!(matches!(error, FleetError::Invalid { field: "tags", .. }), "{error}");
    rig.command(&id, Command::Delete).expect("deleted");
    rig.amend(&id, Amendment::default()).expect_err("gone");
    assert_eq!(
        rig.view(&id).record.spec.tags["team"],
        "blue",
        "a closed record still says what it was"
    );
}

#[test]
fn memory_is_resized_where_that_is_possible_and_the_new_shape_is_a_fact() {
    let rig = Rig::default();
    let id = running(&rig, "a");
    let resize = |memory_bytes| rig.ask(&id, tallyman::driver::Request::Resize { memory_bytes });
    let mib = 1 << 20;
    resize(32 * mib).expect("resized");
    assert_eq!(rig.story_after(&id, 4), ["intended resize", "running"]);
    assert_eq!(
        rig.fact(&id, "running").at.boottime_ns,
        rig.double.last(&id, Call::ResizeMemory).boottime_ns
    );
    assert_eq!(
        (rig.double.memory_bytes(&id), rig.view(&id).live.shape.memory_bytes),
        (Some(32 * mib), 32 * mib)
    );
    for (bytes, words) in [(65 * mib, "at most"), (32 * mib + 1, "whole MiB"), (8 * mib, "must be")]
    {
        let error = resize(bytes).expect_err("out of range").to_string();
        assert!(error.contains(words), "{error}");
    }
    // A standby keeps the present value; the next boot has it too.
    rig.command(&id, Command::Standby).expect("in standby");
    rig.command(&id, Command::Restore).expect("restored");
    assert_eq!(rig.view(&id).live.shape.memory_bytes, 32 * mib);
    rig.command(&id, Command::Stop).expect("stopped");
    rig.command(&id, Command::Start).expect("started");
    assert_eq!(rig.double.memory_bytes(&id), Some(32 * mib));
    rig.command(&id, Command::Stop).expect("stopped");
    let count = rig.story(&id).len();
    resize(48 * mib).expect("resized");
    assert_eq!(rig.story_after(&id, count), ["intended resize", "stopped"]);
    rig.command(&id, Command::Start).expect("started");
    assert_eq!(rig.double.memory_bytes(&id), Some(48 * mib));
    let shapes: Vec<_> =
        rig.check_time(&id).iter().map(|piece| piece.shape.memory_bytes / mib).collect();
    assert_eq!((shapes[0], shapes[3], shapes[shapes.len() - 1]), (16, 32, 48), "{shapes:?}");
}

fn health_check(start_period_ms: u64) -> HealthCheck {
    HealthCheck {
        probe: Probe::Console { send: "p".into(), expect: "PONG".into() },
        interval_ms: 10_000,
        timeout_ms: 60_000,
        failures_max: 2,
        start_period_ms,
    }
}

/// An instance whose workload is probed, and restarted if necessary.
fn asked(rig: &Rig, mode: RestartMode, start_period_ms: u64) -> InstanceId {
    let mut new = rig.new_instance("a");
    new.restart =
        RestartPolicy { mode, backoff_ms: 10_000, attempts_max: Some(1), stable_after_ms: 600_000 };
    new.health = Some(health_check(start_period_ms));
    let id = rig.try_create(new).expect("created").record.id.clone();
    boot(rig, &id);
    id
}

/// Waits until the workload is probed, answers, and waits until the answer is applied.
fn answer(rig: &Rig, id: &InstanceId, answer: Result<(), &str>) -> HealthStatus {
    rig.run(rig.prober.asked());
    let mut views = rig.fleet().views(&rig.tenant, id).expect("known");
    let checked =
        |view: &tallyman::driver::View| view.health.as_ref().and_then(|health| health.checked_ns);
    let before = checked(&views.borrow_and_update());
    rig.prober.answer(answer);
    let view = rig.run(async {
        views.wait_for(|view| checked(view) != before).await.expect("it goes on").clone()
    });
    view.health.as_ref().expect("it is asked").status
}

#[test]
fn what_is_unhealthy_is_stopped_and_started_again_as_often_as_its_policy_allows() {
    let mut rig = Rig::default();
    let id = asked(&rig, RestartMode::OnFailure, 0);
    assert_eq!(answer(&rig, &id, Ok(())), HealthStatus::Healthy);
    rig.pass(10 * SECOND);
    assert_eq!(answer(&rig, &id, Err("it is silent")), HealthStatus::Healthy);
    rig.pass(10 * SECOND);
    rig.run(rig.prober.asked());
    rig.prober.answer(Err("it is silent"));
    reach(&rig, &id, Phase::Stopped);
    let story = ["intended stop by health-check", "shutdown", "stopped unhealthy"];
    assert_eq!(rig.story_after(&id, 4), story);
    let view = rig.view(&id);
    assert_eq!(view.live.error.as_deref(), Some("its workload was unhealthy: it is silent"));
    assert_eq!((&view.health, view.live.restarts.due_ns.is_some()), (&None, true));
    rig.pass(10 * SECOND);
    reach(&rig, &id, Phase::Initializing);
    boot(&rig, &id);
    // There is no second attempt: the instance runs on and is probed on.
    assert_eq!(answer(&rig, &id, Err("it is silent")), HealthStatus::Starting);
    rig.pass(10 * SECOND);
    assert_eq!(answer(&rig, &id, Err("it is silent")), HealthStatus::Unhealthy);
    rig.pass(10 * SECOND);
    assert_eq!(answer(&rig, &id, Ok(())), HealthStatus::Healthy);
    assert_eq!(rig.view(&id).live.state.phase(), Some(Phase::Running));
    let stopped = rig
        .check_time(&id)
        .into_iter()
        .find(|piece| piece.phase == Phase::Stopped)
        .expect("a stop");
    assert!(
        stopped.length() >= Nanos(10_000_000_000),
        "downtime is stopped: {:?}",
        stopped.length()
    );
}

#[test]
fn what_is_unhealthy_and_has_no_policy_runs_on_and_says_so() {
    let mut rig = Rig::default();
    let id = asked(&rig, RestartMode::Never, 15_000);
    for (wait, status) in [
        (0, HealthStatus::Starting),
        (10, HealthStatus::Starting),
        (10, HealthStatus::Starting),
        (10, HealthStatus::Unhealthy),
    ] {
        rig.pass(wait * SECOND);
        assert_eq!(answer(&rig, &id, Err("no")), status);
    }
    assert_eq!(rig.story(&id).len(), 4, "an answer is no fact");
    let health = rig.view(&id).health.clone().expect("it is asked");
    assert_eq!((health.failures, health.problem.as_deref()), (2, Some("no")));
    rig.amend(&id, Amendment { health: Some(None), ..Amendment::default() }).expect("amended");
    assert_eq!(rig.view(&id).health, None);
    rig.pass(3_600 * SECOND);
    rig.amend(&id, Amendment { health: Some(Some(health_check(0))), ..Amendment::default() })
        .expect("amended");
    assert_eq!(answer(&rig, &id, Ok(())), HealthStatus::Healthy);
}

#[test]
fn an_answer_of_an_earlier_launch_and_of_a_held_guest_counts_for_nothing() {
    let rig = Rig::default();
    let id = asked(&rig, RestartMode::Never, 0);
    rig.run(rig.prober.asked());
    rig.command(&id, Command::Stop).expect("stopped");
    rig.command(&id, Command::Start).expect("started");
    rig.run(rig.prober.asked());
    rig.prober.answer(Err("of the first launch"));
    rig.prober.answer(Ok(()));
    let mut views = rig.fleet().views(&rig.tenant, &id).expect("known");
    let well = |view: &std::sync::Arc<tallyman::driver::View>| {
        view.health.as_ref().is_some_and(|health| health.checked_ns.is_some())
    };
    let view = rig.run(async { views.wait_for(well).await.expect("it goes on").clone() });
    let health = view.health.clone().expect("it is asked");
    assert_eq!((health.status, health.problem), (HealthStatus::Healthy, None));
}

#[test]
fn a_daemon_that_dies_while_it_stops_what_is_unhealthy_still_says_why_it_stopped() {
    let mut rig = Rig::default();
    let id = asked(&rig, RestartMode::Always, 0);
    assert_eq!(answer(&rig, &id, Err("no")), HealthStatus::Starting);
    rig.pass(10 * SECOND);
    let gate = rig.double.hold_after(&id, Call::RequestStop);
    rig.run(rig.prober.asked());
    rig.prober.answer(Err("no"));
    rig.run(gate.reached());
    rig.crash();
    rig.start(Host::StayedUp);
    reach(&rig, &id, Phase::Stopped);
    assert_eq!(rig.story(&id).last().map(String::as_str), Some("stopped unhealthy"));
    assert!(rig.view(&id).live.restarts.due_ns.is_some());
    rig.check_time(&id);
}

#[test]
fn a_check_that_can_not_be_made_is_refused_with_what_is_wrong() {
    let rig = Rig::default();
    let tcp = Probe::Tcp { address: "127.0.0.1:1".parse().expect("an address") };
    let rows = [
        (HealthCheck { interval_ms: 99, ..health_check(0) }, "health_check.interval"),
        (HealthCheck { timeout_ms: 60_001, ..health_check(0) }, "health_check.timeout"),
        (HealthCheck { failures_max: 0, ..health_check(0) }, "health_check.failure_threshold"),
        (
            HealthCheck {
                probe: Probe::Console { send: String::new(), expect: String::new() },
                ..health_check(0)
            },
            "expect",
        ),
        (HealthCheck { probe: tcp, ..health_check(0) }, "there is no network"),
    ];
    for (check, words) in rows {
        let mut new = rig.new_instance("refused");
        new.health = Some(check);
        let error = rig.try_create(new).expect_err("refused").to_string();
        assert!(error.contains(words), "{error}");
    }
    for (idle_after_ms, cpu_permille_max, words) in
        [(999, 0, "idle_after"), (1_000, 1_001, "cpu_permille")]
    {
        let auto = AutoStandby { idle_after_ms, cpu_permille_max };
        let mut new = rig.new_instance("refused");
        new.auto_standby = Some(auto);
        let error = rig.try_create(new).expect_err("refused").to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn instants_are_those_of_the_meter() {
    let rig = Rig::default();
    assert!(Instant(in_s(&rig, 10)) > rig.fleet().now());
}
