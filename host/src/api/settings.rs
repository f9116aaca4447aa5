//! What an instance is told to do by itself, how much memory it has, and what it uses: `PATCH /instances/{id}`, `resize`, `stats`.

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, ErrorBody};
use super::instances::{duration_ms, memory_bytes, present, timestamp};
use super::model::{
    ExpiryAction, HealthCheck, HealthCheckKind, Instance, InstanceStats, ResizeInstance, RestartBlock, RestartPolicy,
    RestartStatus, Timestamp, UpdateInstance,
};
use super::tenants::{reserve, share_of};
use super::time::format_millis;
use super::{Shared, State, blocking};
use crate::driver::{Amendment, Expiry, Request, View};
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
    let UpdateInstance { tags, restart_policy, health_check, ttl, expires_at, expiry_action } = request;
    check_health(health_check.as_ref())?;
    let expiry = match (ttl, expires_at) {
        (None, Some(None)) => Some(None),
        (None, None) => expiry_action.map(|action| with_action(&view, action)).transpose()?,
        (ttl, at) => expiry(&state, ttl.as_deref(), at.flatten(), expiry_action)?.map(Some),
    };
    let restart = restart_policy.map(|policy| restart(&policy)).transpose()?;
    let amendment = Amendment { tags, restart, expiry, schedule: None };
    let view = state.fleet.amend(&caller.tenant(), &view.record.id, amendment).await?;
    Ok(Json(present(&state, view)))
}

/// Refuses what can't be found out honestly.
pub(super) fn check_health(check: Option<&HealthCheck>) -> Result<(), ApiError> {
    let why = match check.map_or(HealthCheckKind::None, |check| check.kind) {
        HealthCheckKind::None => return Ok(()),
        HealthCheckKind::Http => "guests of this host have no network, so that no HTTP server in them can be asked",
        HealthCheckKind::Tcp => "guests of this host have no network, so that no port of theirs can be asked",
        HealthCheckKind::Exec => "no agent is known that would run a program in a guest",
    };
    let message = format!(
        "health_check: {why}; leave it out or make its type `none`. A restart_policy acts when a guest's program fails or its machine dies"
    );
    Err(ApiError::conflict("unsupported", message))
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
        Some(vm::ExitCause::Guest | vm::ExitCause::Crashed | vm::ExitCause::HostLost | vm::ExitCause::LaunchFailed)
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
    let tenant = caller.tenant();
    let before = state.fleet.find(&tenant, &key)?;
    let missing = || ApiError::invalid("size: say how much memory, as in `512MB`");
    let memory_bytes = memory_bytes(request.size.as_deref(), request.memory_bytes)?.ok_or_else(missing)?;
    let share = Share { memory_bytes, ..share_of(&before) };
    let _reserved = reserve(&state, &tenant, &before.record.name, share)?;
    let view = state.fleet.request(&tenant, &before.record.id, Request::Resize { memory_bytes }).await?;
    Ok(Json(present(&state, view)))
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
        for (json, words) in [
            (r#"{"type":"http","http":{"port":80}}"#, "no network"),
            (r#"{"type":"tcp","tcp":{"port":80}}"#, "no network"),
            (r#"{"type":"exec","exec":{"command":["true"]}}"#, "no agent"),
        ] {
            let check = serde_json::from_str(json).expect("a check");
            let body = check_health(Some(&check)).expect_err(json).into_body();
            assert_eq!(body.code, "unsupported");
            assert!(body.message.contains(words) && body.message.contains("restart_policy"), "{}", body.message);
        }
        let none = serde_json::from_str(r#"{"type":"none","interval":"5s"}"#).expect("a check");
        assert!(check_health(Some(&none)).is_ok() && check_health(None).is_ok());
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
