//! What an instance is told to do by itself, how much memory it has, and what it uses: `PATCH /instances/{id}`, `resize`, `stats`.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, ErrorBody};
use super::instances::{duration_ms, memory_bytes, present, timestamp};
use super::model::{
    AutoStandby, ConsoleCheck, ExpiryAction, HealthCheck, HealthCheckKind, HealthStatus, Instance, InstanceStats,
    NetworkCheck, ReportActivity, ResizeInstance, RestartBlock, RestartPolicy, RestartStatus, Timestamp,
    UpdateInstance,
};
use super::tenants::{reserve, share_of};
use super::time::format_millis;
use super::{Shared, State, blocking};
use crate::driver::{self, Amendment, Expiry, Probe, Request, View};
use crate::limits::{health as limits, idle};
use crate::tenancy::Share;
use crate::units::{Instant, Nanos};
use crate::vm;

/// Change what is on record of an instance
///
/// No phase changes by it. Each change is a fact.
#[utoipa::path(patch, path = "/instances/{id}", tag = "instances", security(("bearer" = [])),
    params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning")),
    request_body = UpdateInstance, responses(
    (status = 200, description = "The instance", body = Instance),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn update_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(request): Body<UpdateInstance>,
) -> Result<Json<Instance>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let UpdateInstance { tags, restart_policy, health_check, auto_standby: auto, ttl, expires_at, expiry_action } =
        request;
    let health = health_check.as_ref().map(health).transpose()?;
    let auto_standby = auto.map(|auto| auto.as_ref().map(auto_standby).transpose()).transpose()?;
    let expiry = match (ttl, expires_at) {
        (None, Some(None)) => Some(None),
        (None, None) => expiry_action.map(|action| with_action(&view, action)).transpose()?,
        (ttl, at) => expiry(&state, ttl.as_deref(), at.flatten(), expiry_action)?.map(Some),
    };
    let restart = restart_policy.map(|policy| restart(&policy)).transpose()?;
    let amendment = Amendment { tags, restart, expiry, schedule: None, health, auto_standby };
    let asked = state.fleet.now();
    let view = state.fleet.amend(&caller.tenant(), &view.record.id, amendment).await?;
    Ok(Json(present(&state, view, asked)))
}

/// A health check as it was asked for; none for none.
pub(super) fn health(check: &HealthCheck) -> Result<Option<driver::HealthCheck>, ApiError> {
    let default =
        |text: &Option<String>, field, default| text.as_deref().map_or(Ok(default), |text| duration_ms(field, text));
    let Some(probe) = probe(check)? else { return Ok(None) };
    Ok(Some(driver::HealthCheck {
        probe,
        interval_ms: default(&check.interval, "health_check.interval", limits::INTERVAL_MS)?,
        timeout_ms: default(&check.timeout, "health_check.timeout", limits::TIMEOUT_MS)?,
        failures_max: check.failure_threshold.unwrap_or(limits::FAILURES_MAX),
        start_period_ms: default(&check.start_period, "health_check.start_period", 0)?,
    }))
}

/// What is asked; refuses what can't be found out honestly.
fn probe(check: &HealthCheck) -> Result<Option<Probe>, ApiError> {
    let missing = |field| ApiError::invalid(format!("health_check.{field}: say what to ask"));
    Ok(Some(match check.kind {
        HealthCheckKind::None if *check == HealthCheck::default() => return Ok(None),
        HealthCheckKind::None => {
            let message = "health_check.type: say console, http or tcp; none takes no other field";
            return Err(ApiError::invalid(message));
        }
        HealthCheckKind::Console => {
            let ConsoleCheck { send, expect } = check.console.clone().ok_or_else(|| missing("console"))?;
            Probe::Console { send, expect }
        }
        HealthCheckKind::Http => {
            let http = check.http.as_ref().ok_or_else(|| missing("http"))?;
            let path = http.path.clone().unwrap_or_else(|| "/".into());
            Probe::Http { address: address("http", http)?, path }
        }
        HealthCheckKind::Tcp => {
            Probe::Tcp { address: address("tcp", check.tcp.as_ref().ok_or_else(|| missing("tcp"))?)? }
        }
        HealthCheckKind::Exec => {
            let message = "health_check: no guest has an agent that would run a program in it. A check of the type `console` types a line on \
                           its console and expects an answer there; a restart_policy acts when a guest's program fails or its machine dies";
            return Err(ApiError::conflict("unsupported", message));
        }
    }))
}

fn address(kind: &str, check: &NetworkCheck) -> Result<SocketAddr, ApiError> {
    let Some(address) = &check.address else {
        let message = format!(
            "health_check.{kind}: guests of this host have no network of the host's, so that a port alone can't be asked. Give the `address`, such as \
             10.0.0.2:8080, at which this host reaches the workload, or ask the guest on its console with the type `console`"
        );
        return Err(ApiError::conflict("unsupported", message));
    };
    address.parse().map_err(|_| {
        ApiError::invalid(format!(
            "health_check.{kind}.address: '{address}' is not an IP address and a port, such as 10.0.0.2:8080"
        ))
    })
}

pub(super) fn present_health(check: &driver::HealthCheck) -> HealthCheck {
    let shown = HealthCheck {
        interval: Some(format_millis(check.interval_ms)),
        timeout: Some(format_millis(check.timeout_ms)),
        failure_threshold: Some(check.failures_max),
        start_period: Some(format_millis(check.start_period_ms)),
        ..HealthCheck::default()
    };
    let at = |address: &SocketAddr, path| NetworkCheck { address: Some(address.to_string()), port: None, path };
    match &check.probe {
        Probe::Console { send, expect } => HealthCheck {
            kind: HealthCheckKind::Console,
            console: Some(ConsoleCheck { send: send.clone(), expect: expect.clone() }),
            ..shown
        },
        Probe::Tcp { address } => HealthCheck { kind: HealthCheckKind::Tcp, tcp: Some(at(address, None)), ..shown },
        Probe::Http { address, path } => {
            HealthCheck { kind: HealthCheckKind::Http, http: Some(at(address, Some(path.clone()))), ..shown }
        }
    }
}

pub(super) fn health_status(state: &State, health: &driver::Health) -> HealthStatus {
    HealthStatus {
        status: health.status.into(),
        failures: health.failures,
        checked_at: health.checked_ns.map(|at| timestamp(state, Instant(at))),
        problem: health.problem.clone(),
    }
}

/// A standby of what has nothing to do, as it was asked for.
pub(super) fn auto_standby(auto: &AutoStandby) -> Result<driver::AutoStandby, ApiError> {
    Ok(driver::AutoStandby {
        idle_after_ms: duration_ms("auto_standby.idle_after", &auto.idle_after)?,
        cpu_permille_max: auto.cpu_permille.unwrap_or(idle::CPU_PERMILLE),
    })
}

pub(super) fn present_auto_standby(auto: &driver::AutoStandby) -> AutoStandby {
    AutoStandby { idle_after: format_millis(auto.idle_after_ms), cpu_permille: Some(auto.cpu_permille_max) }
}

/// Report that something came in for an instance
///
/// For whatever stands between guests and their clients. It counts as activity for `auto_standby`; with `wake` it brings an instance that is in
/// standby back.
#[utoipa::path(post, path = "/instances/{id}/activity", tag = "instances", security(("bearer" = [])),
    params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning")),
    request_body = Option<ReportActivity>, responses(
    (status = 200, description = "Taken up; it runs if it was to be woken", body = Instance),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn report_activity(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(ReportActivity { wake }): Body<ReportActivity>,
) -> Result<Json<Instance>, ApiError> {
    let (tenant, asked) = (caller.tenant(), state.fleet.now());
    let id = state.fleet.find(&tenant, &key)?.record.id.clone();
    let view = state.fleet.report_activity(&tenant, &id, wake).await?;
    Ok(Json(present(&state, view, asked)))
}

fn with_action(view: &View, action: ExpiryAction) -> Result<Option<Expiry>, ApiError> {
    let missing = || ApiError::invalid("expiry_action: the instance has no end; give a ttl or expires_at with it");
    let expiry = view.record.spec.expiry.ok_or_else(missing)?;
    Ok(Some(Expiry { action: action.into(), ..expiry }))
}

/// The end of an instance's time, if one was asked for.
pub(super) fn expiry(
    state: &State,
    ttl: Option<&str>,
    at: Option<Timestamp>,
    action: Option<ExpiryAction>,
) -> Result<Option<Expiry>, ApiError> {
    let now = state.fleet.now();
    let at = match (ttl, at) {
        (Some(_), Some(_)) => return Err(ApiError::invalid("ttl and expires_at both say when; give one of them")),
        (None, None) if action.is_some() => {
            return Err(ApiError::invalid("expiry_action: say when, with a ttl or expires_at"));
        }
        (None, None) => return Ok(None),
        (Some(ttl), None) => now.after(Nanos(duration_ms("ttl", ttl)?.saturating_mul(1_000_000))),
        (None, Some(at)) => {
            // The meter instant at which the calendar, as it stands now, will show it.
            at.0.checked_sub(state.fleet.calendar_ns(now)).and_then(|ahead| now.0.checked_add(ahead)).map(Instant)
        }
    };
    let at = at.ok_or_else(|| ApiError::invalid("expires_at: the instant is out of range"))?;
    Ok(Some(Expiry { at_ns: at.0, action: action.unwrap_or_default().into() }))
}

/// A restart policy as it was asked for.
pub(super) fn restart(policy: &RestartPolicy) -> Result<vm::RestartPolicy, ApiError> {
    let RestartPolicy { policy: mode, backoff, max_attempts, stable_after } = policy;
    let default = vm::RestartPolicy::default();
    let ms =
        |field, text: &Option<String>, default| text.as_deref().map_or(Ok(default), |text| duration_ms(field, text));
    Ok(vm::RestartPolicy {
        mode: (*mode).into(),
        backoff_ms: ms("restart_policy.backoff", backoff, default.backoff_ms)?,
        attempts_max: max_attempts.filter(|&max| max > 0),
        stable_after_ms: ms("restart_policy.stable_after", stable_after, default.stable_after_ms)?,
    })
}

pub(super) fn present_restart(policy: &vm::RestartPolicy) -> RestartPolicy {
    RestartPolicy {
        policy: policy.mode.into(),
        backoff: Some(format_millis(policy.backoff_ms)),
        max_attempts: Some(policy.attempts_max.unwrap_or(0)),
        stable_after: Some(format_millis(policy.stable_after_ms)),
    }
}

/// Where the restarts of an instance stand, if it has a policy.
pub(super) fn restart_status(state: &State, view: &View) -> Option<RestartStatus> {
    let (policy, live) = (&view.record.spec.restart, &view.live);
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

/// Give an instance more or less memory
///
/// A stopped one boots with it. One that runs gets it at once, where its hypervisor can do that and the instance was created with
/// `memory_bytes_max`. Either way the new shape is a fact.
#[utoipa::path(post, path = "/instances/{id}/resize", tag = "instances", security(("bearer" = [])),
    params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning")),
    request_body = ResizeInstance, responses(
    (status = 200, description = "Done and recorded", body = Instance),
    (status = 409, description = "Not legal now, or the hypervisor can't; the message says which can", body = ErrorBody),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn resize_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(request): Body<ResizeInstance>,
) -> Result<Json<Instance>, ApiError> {
    let (tenant, asked) = (caller.tenant(), state.fleet.now());
    let before = state.fleet.find(&tenant, &key)?;
    let missing = || ApiError::invalid("size: say how much memory, as in `512MB`");
    let memory_bytes = memory_bytes(request.size.as_deref(), request.memory_bytes)?.ok_or_else(missing)?;
    let share = Share { memory_bytes, ..share_of(&before) };
    let _reserved = reserve(&state, &tenant, &before.record.name, share)?;
    let view = state.fleet.request(&tenant, &before.record.id, Request::Resize { memory_bytes }).await?;
    Ok(Json(present(&state, view, asked)))
}

/// What an instance uses of the host
///
/// Of the process that runs it, as the kernel counts. It is information; time is what is billed.
#[utoipa::path(get, path = "/instances/{id}/stats", tag = "instances", security(("bearer" = [])),
    params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning")), responses(
    (status = 200, description = "What it uses", body = InstanceStats),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn get_stats(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<Json<InstanceStats>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let stats = blocking(move || {
        let usage = state.fleet.process(&view)?.unwrap_or_default();
        Ok(InstanceStats {
            instance_id: view.record.id.clone(),
            instance_name: view.record.name.clone(),
            cpu_ns: usage.cpu_ns,
            cpu_resolution_ns: usage.cpu_resolution_ns,
            memory_rss_bytes: usage.rss_bytes,
            memory_vms_bytes: usage.vms_bytes,
            allocated_memory_bytes: view.live.shape.memory_bytes,
            allocated_vcpus: view.live.shape.vcpus,
        })
    })
    .await?;
    Ok(Json(stats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_found_out_is_refused_with_what_can() {
        for (json, code, words) in [
            (r#"{"type":"http","http":{"port":80}}"#, "unsupported", "no network"),
            (r#"{"type":"tcp","tcp":{"port":80}}"#, "unsupported", "no network"),
            (r#"{"type":"exec","exec":{"command":["true"]}}"#, "unsupported", "no guest has an agent"),
            (r#"{"type":"tcp","tcp":{"address":"web:80"}}"#, "invalid", "10.0.0.2:8080"),
            (r#"{"type":"console"}"#, "invalid", "health_check.console"),
            (r#"{"type":"console","console":{"expect":"a"},"interval":"soon"}"#, "invalid", "health_check.interval"),
        ] {
            let check = serde_json::from_str(json).expect("a check");
            let body = health(&check).expect_err(json).into_body();
            assert_eq!(body.code, code, "{json}");
            assert!(body.message.contains(words), "{}", body.message);
        }
        let none = serde_json::from_str(r#"{"type":"none","interval":"5s"}"#).expect("a check");
        assert_eq!(health(&none).expect("nothing to ask"), None);
    }

    #[test]
    fn a_health_check_is_presented_as_it_was_asked_for() {
        for json in [
            r#"{"type":"console","console":{"send":"p","expect":"PONG"},"interval":"1s","failure_threshold":2}"#,
            r#"{"type":"tcp","tcp":{"address":"10.0.0.2:80"},"timeout":"500ms"}"#,
            r#"{"type":"http","http":{"address":"[::1]:80","path":"/well"},"start_period":"1m"}"#,
        ] {
            let check = health(&serde_json::from_str(json).expect("a check")).expect("taken").expect("a check");
            assert_eq!(health(&present_health(&check)).expect("read back"), Some(check));
        }
    }

    #[test]
    fn a_restart_policy_is_presented_as_it_was_asked_for() {
        let asked = RestartPolicy {
            policy: super::super::model::RestartMode::OnFailure,
            backoff: Some("1500ms".into()),
            max_attempts: Some(0),
            stable_after: None,
        };
        let policy = restart(&asked).expect("a policy");
        assert_eq!((policy.backoff_ms, policy.attempts_max), (1_500, None));
        let shown = present_restart(&policy);
        assert_eq!(restart(&shown).expect("read back"), policy);
        let wrong = RestartPolicy { backoff: Some("soon".into()), ..asked };
        assert!(restart(&wrong).expect_err("refused").into_body().message.contains("restart_policy.backoff"));
    }
}
