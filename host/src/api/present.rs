//! Presentation of instances: the projection of a view, at the instant of the response, to the
//! API's types.

use std::net::SocketAddr;
use std::sync::Arc;

use super::State;
use super::model::{
    Accounted, Accounting, AccountingStatus, AutoStandby, ConsoleCheck, ExecCheck, HealthCheck,
    HealthCheckKind, HealthReport, HealthStatus, HealthVerdict, Instance, Interval, Intervals,
    NetworkCheck, PerPhase, Proof, RestartBlock, RestartPolicy, RestartStatus, Timestamp,
};
use super::network::network_state;
use super::size::format_size;
use super::time::format_millis;
use crate::billing::Totals;
use crate::billing::account::Usage;
use crate::billing::interval;
use crate::driver::{self, Probe, View};
use crate::id::{Digest, TenantId};
use crate::image::Platform;
use crate::journal::wire;
use crate::tenant::STANDARD;
use crate::units::Instant;
use crate::vm;

/// The name of a policy with a tenant; none without one.
pub(super) fn policy_name(state: &State, tenant: &TenantId, digest: Digest) -> Option<String> {
    if digest == state.rollout.policies().standard().digest() {
        return Some(STANDARD.into());
    }
    let admission = state.rollout.admission(tenant, &digest);
    admission.and_then(|admission| admission.name).map(|name| name.to_string())
}

pub(super) fn timestamp(state: &State, at: Instant) -> Timestamp {
    Timestamp(state.fleet.calendar_ns(at))
}

/// The account of one instance at an instant.
pub(super) fn usage(state: &State, view: &Arc<View>, at: Instant) -> Usage {
    let unknown = Usage { current: None, since: at, totals: Totals::default(), degraded: true };
    state.fleet.usage(std::slice::from_ref(view), at).first().copied().unwrap_or(unknown)
}

/// An instance as an answer to a request of the instant `asked`: with its time up to then, or up to
/// its last fact if that came later. A phase that the request's command has just begun has no
/// length yet, so that the answer need not wait for a policy's figures.
pub(super) fn instance(state: &State, view: Arc<View>, asked: Instant) -> Instance {
    let usage = usage(state, &view, asked);
    let policy = state.fleet.timeline(&view.record.tenant).at(asked.max(usage.since));
    instance_at(state, &view, &usage, policy)
}

pub(super) fn instance_at(state: &State, view: &View, usage: &Usage, policy: Digest) -> Instance {
    let record = &view.record;
    let live = &view.live;
    let spec = &view.record.spec;
    let at = |at: Option<Instant>| at.map(|at| timestamp(state, at));
    Instance {
        id: record.id.clone(),
        name: record.name.clone(),
        tenant: record.tenant.clone(),
        image: spec.image_reference.as_ref().unwrap_or(&spec.image).clone(),
        state: live.state.into(),
        state_error: live.error.clone(),
        legal: vm::legal(live.state).map(wire::Command::from).collect(),
        created_at: timestamp(state, Instant(spec.created_ns)),
        started_at: at(live.started),
        stopped_at: at(live.stopped),
        stop_cause: live.cause.map(wire::ExitCause::from),
        deleted_at: at(view.deleted),
        exit_code: live.exit_code,
        exit_message: live.exit_message.clone(),
        has_snapshot: matches!(live.state, vm::State::Standby { .. }),
        hypervisor: spec.hypervisor.clone(),
        vcpus: spec.vcpus,
        size: format_size(live.shape.memory_bytes),
        memory_bytes: live.shape.memory_bytes,
        disk_bytes: live.shape.disk_bytes,
        snapshot_bytes: live.shape.snapshot_bytes,
        restart_policy: restart_policy(&spec.restart),
        restart_status: restart_status(state, view),
        health_check: spec.health.as_ref().map(health_check),
        health: view.health.as_ref().map(|health| health_status(state, health)),
        health_status: health_report(state, view),
        env: spec.program.env.clone(),
        platform: Platform::of_guests().to_string(),
        overlay_size: spec.overlay_bytes().map(format_size),
        hotplug_size: spec
            .memory_bytes_max
            .map(|most| format_size(most.saturating_sub(spec.memory_bytes))),
        auto_standby: spec.auto_standby.as_ref().map(auto_standby),
        idle_since: at(view.idle_since),
        expires_at: spec.expiry.map(|expiry| timestamp(state, Instant(expiry.at_ns))),
        expiry_action: spec.expiry.map(|expiry| expiry.action.into()),
        session: live.session,
        network: network_state(spec.network.as_ref()),
        tags: spec.tags.clone(),
        // As the policy counts it, which may differ from `state`: facts hold the true phase.
        current_phase: usage.current.map(wire::Phase::from),
        current_phase_since: usage.current.map(|_| timestamp(state, usage.since)),
        phase_durations_ms: phase_durations(usage),
        policy,
        accounting: accounting(view, usage),
    }
}

/// The totals; `None` before the first fact.
fn phase_durations(usage: &Usage) -> Option<PerPhase> {
    let has_facts = usage.current.is_some() || usage.totals.sum() != 0;
    has_facts.then(|| PerPhase::millis(&usage.totals))
}

fn accounting(view: &View, usage: &Usage) -> Accounting {
    let reason = view.account.degraded.as_ref().map(|degraded| degraded.reason.clone());
    if reason.is_none() && !usage.degraded {
        return Accounting { status: AccountingStatus::Ok, reason: None };
    }
    let reason = reason.unwrap_or_else(|| "the policy in force did not answer".into());
    Accounting { status: AccountingStatus::Degraded, reason: Some(reason) }
}

pub(super) fn intervals(
    state: &State,
    view: &View,
    page: &driver::IntervalPage,
    at: Instant,
    usage: &Usage,
) -> Intervals {
    let driver::IntervalPage { intervals, next, begin } = page;
    let mut totals = Totals::default();
    for interval in intervals {
        totals.0[interval.phase as usize] += interval.length().0;
    }
    let first = intervals.first().map(|first| first.start);
    let last = intervals.last().map(|last| last.end);
    let until = |end: Option<Instant>, first: Option<Instant>| {
        end.zip(first).and_then(|(end, first)| end.since(first)).unwrap_or_default().0
    };
    Intervals {
        instance: view.record.id.clone(),
        name: view.record.name.clone(),
        tenant: view.record.tenant.clone(),
        intervals: intervals.iter().map(|one| interval(state, one)).collect(),
        next: *next,
        totals_ns: (&totals).into(),
        proof: Proof::new(totals.sum(), until(last, first)),
        accounted: Accounted {
            at: timestamp(state, at),
            totals_ns: (&usage.totals).into(),
            proof: Proof::new(usage.totals.sum(), until(Some(at), *begin)),
        },
    }
}

fn interval(state: &State, interval: &interval::Interval) -> Interval {
    Interval {
        fact: interval.fact,
        phase: interval.phase.into(),
        start: timestamp(state, interval.start),
        end: timestamp(state, interval.end),
        start_ns: interval.start.0,
        end_ns: interval.end.0,
        duration_ns: interval.length().0,
        open: interval.open,
        policy: interval.policy,
        shape: interval.shape.into(),
        session: interval.session,
        cause: interval.cause.map(wire::ExitCause::from),
    }
}

pub(super) fn health_check(check: &driver::HealthCheck) -> HealthCheck {
    let shown = HealthCheck {
        interval: Some(format_millis(check.interval_ms)),
        timeout: Some(format_millis(check.timeout_ms)),
        failure_threshold: Some(check.failures_max),
        start_period: Some(format_millis(check.start_period_ms)),
        ..HealthCheck::default()
    };
    let at = |address: &SocketAddr, path| NetworkCheck {
        address: Some(address.to_string()),
        port: None,
        scheme: None,
        expected_status: None,
        path,
    };
    match &check.probe {
        Probe::Console { send, expect } => HealthCheck {
            kind: HealthCheckKind::Console,
            console: Some(ConsoleCheck { send: send.clone(), expect: expect.clone() }),
            ..shown
        },
        Probe::Tcp { address } => {
            HealthCheck { kind: HealthCheckKind::Tcp, tcp: Some(at(address, None)), ..shown }
        }
        Probe::Http { address, path } => HealthCheck {
            kind: HealthCheckKind::Http,
            http: Some(at(address, Some(path.clone()))),
            ..shown
        },
        Probe::Exec { command, working_dir } => HealthCheck {
            kind: HealthCheckKind::Exec,
            exec: Some(ExecCheck { command: command.clone(), working_dir: working_dir.clone() }),
            ..shown
        },
    }
}

fn health_status(state: &State, health: &driver::Health) -> HealthStatus {
    HealthStatus {
        status: health.status.into(),
        failures: health.failures,
        checked_at: health.checked_ns.map(|at| timestamp(state, Instant(at))),
        problem: health.problem.clone(),
    }
}

/// The health of a workload, also of one that is not probed.
fn health_report(state: &State, view: &View) -> HealthReport {
    let at = |at: Option<i64>| at.map(|at| timestamp(state, Instant(at)));
    let health = view.health.as_ref();
    let status = match (health, &view.record.spec.health) {
        (Some(health), _) => match health.status {
            driver::HealthStatus::Starting => HealthVerdict::Starting,
            driver::HealthStatus::Healthy => HealthVerdict::Healthy,
            driver::HealthStatus::Unhealthy => HealthVerdict::Unhealthy,
        },
        (None, Some(_)) => HealthVerdict::Unknown,
        (None, None) => HealthVerdict::Disabled,
    };
    HealthReport {
        status,
        consecutive_successes: health.map_or(0, |health| health.successes),
        consecutive_failures: health.map_or(0, |health| health.failures),
        last_checked_at: at(health.and_then(|health| health.checked_ns)),
        last_success_at: at(health.and_then(|health| health.success_ns)),
        last_failure_at: at(health.and_then(|health| health.failure_ns)),
        last_error: health.and_then(|health| health.problem.clone()),
    }
}

fn auto_standby(auto: &driver::AutoStandby) -> AutoStandby {
    AutoStandby {
        enabled: Some(true),
        idle_after: Some(format_millis(auto.idle_after_ms)),
        idle_timeout: Some(format_millis(auto.idle_after_ms)),
        ignore_source_cidrs: Vec::new(),
        ignore_destination_ports: Vec::new(),
        cpu_permille: Some(auto.cpu_permille_max),
    }
}

pub(super) fn restart_policy(policy: &vm::RestartPolicy) -> RestartPolicy {
    RestartPolicy {
        policy: policy.mode.into(),
        backoff: Some(format_millis(policy.backoff_ms)),
        max_attempts: Some(policy.attempts_max.unwrap_or(0)),
        stable_after: Some(format_millis(policy.stable_after_ms)),
    }
}

/// The progress of an instance's restarts; `None` without a restart policy.
fn restart_status(state: &State, view: &View) -> Option<RestartStatus> {
    let policy = &view.record.spec.restart;
    let live = &view.live;
    let at = |at: Option<i64>| at.map(|at| timestamp(state, Instant(at)));
    let waits = live.state == vm::State::Stopped && live.restarts.due_ns.is_none();
    let exhausted = policy.attempts_max.is_some_and(|max| live.restarts.attempts >= max);
    let blocked = match live.cause {
        Some(vm::ExitCause::Requested | vm::ExitCause::Forced | vm::ExitCause::Discarded) => {
            Some(RestartBlock::ManualStop)
        }
        Some(
            vm::ExitCause::Guest
            | vm::ExitCause::Crashed
            | vm::ExitCause::HostLost
            | vm::ExitCause::LaunchFailed
            | vm::ExitCause::Unhealthy,
        )
        | None => exhausted.then_some(RestartBlock::MaxAttemptsExceeded),
    };
    (policy.mode != vm::RestartMode::Never).then(|| RestartStatus {
        attempts: live.restarts.attempts,
        last_attempt_at: at(live.restarts.last_ns),
        next_attempt_at: at(live.restarts.due_ns),
        blocked_reason: blocked.filter(|_| waits),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_durations_before_the_first_fact_and_all_of_them_from_then_on() {
        let told = |current, totals: Totals| {
            let usage = Usage { current, since: Instant(0), totals, degraded: false };
            phase_durations(&usage)
        };
        let none = Totals::default();
        let mut some = Totals::default();
        some.0[vm::Phase::Running as usize] = 7_000_000;
        assert_eq!(told(None, none), None);
        assert_eq!(
            told(Some(vm::Phase::Created), none),
            Some(PerPhase::millis(&none)),
            "it has just begun"
        );
        assert_eq!(told(None, some), Some(PerPhase::millis(&some)), "it was deleted");
    }
}
