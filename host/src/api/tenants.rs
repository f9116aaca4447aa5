//! `/tenants`: under which policy a tenant's time counts.

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::body::Body;
use super::error::{ApiError, ErrorBody};
use super::model::{Activate, Activated, Activation, Quarantined, TenantPolicy, Timestamp};
use super::{Shared, State, blocking};
use crate::id::TenantId;
use crate::units::Instant;

/// The tenant of a path. There is one for now.
fn tenant(id: &str) -> Result<TenantId, ApiError> {
    let asked: TenantId = id.parse()?;
    let only = TenantId::default_tenant();
    if asked == only {
        return Ok(only);
    }
    Err(ApiError::not_found("no_such_tenant", format!("there is no tenant '{asked}'; there is: {only}")))
}

/// Which policy a tenant is under, was under, and will be under
#[utoipa::path(get, path = "/tenants/{id}/policy", tag = "policies", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id; `default` for now")), responses(
    (status = 200, description = "The policies by time", body = TenantPolicy),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
))]
pub(super) async fn get_tenant_policy(
    Extract(state): Shared,
    Path(id): Path<String>,
) -> Result<Json<TenantPolicy>, ApiError> {
    Ok(Json(describe(&state, &tenant(&id)?)))
}

fn describe(state: &State, tenant: &TenantId) -> TenantPolicy {
    let now = state.fleet.now();
    let timeline = state.fleet.timeline(tenant);
    let activation = |(from, digest)| Activation { digest, from: timestamp(state, from), from_ns: from.0 };
    let quarantined = state.accounting.quarantined(tenant);
    TenantPolicy {
        tenant: tenant.clone(),
        digest: timeline.at(now),
        previous: timeline.before(now),
        activations: timeline.between(Instant(i64::MIN), now).map(activation).collect(),
        planned: timeline.between(now, Instant(i64::MAX)).map(activation).collect(),
        quarantined: quarantined.iter().map(|ill| Quarantined { digest: ill.policy, faults: ill.faults }).collect(),
    }
}

fn timestamp(state: &State, at: Instant) -> Timestamp {
    Timestamp(state.fleet.calendar_ns(at))
}

/// Put a tenant under a policy
///
/// From the effective instant on, every nanosecond of the tenant's instances counts under the new policy; an interval that spans it is split exactly
/// there.
#[utoipa::path(put, path = "/tenants/{id}/policy", tag = "policies", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id; `default` for now")), request_body = Activate, responses(
    (status = 200, description = "It is in force, or will be at the instant told", body = Activated),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn activate_policy(
    Extract(state): Shared,
    Path(id): Path<String>,
    Body(request): Body<Activate>,
) -> Result<Json<Activated>, ApiError> {
    let tenant = tenant(&id)?;
    let digest = state.library.find(&request.digest)?.digest;
    let at = request.at.map(|at| meter(&state, at)).transpose()?;
    let ready = state.clone();
    blocking(move || ready.library.make_ready(&ready.journal, digest)).await?;
    let (from, fact) = state.fleet.activate(&tenant, digest, at, false).await?;
    Ok(Json(Activated { tenant, digest, from: timestamp(&state, from), from_ns: from.0, fact }))
}

/// The meter instant at which the calendar, as it stands now, will show `at`.
fn meter(state: &State, at: Timestamp) -> Result<Instant, ApiError> {
    let now = state.fleet.now();
    let ahead = at.0.checked_sub(state.fleet.calendar_ns(now)).and_then(|ahead| now.0.checked_add(ahead));
    ahead.map(Instant).ok_or_else(|| ApiError::invalid("at: the instant is out of range"))
}

/// Put the policy before the present one in force again
#[utoipa::path(post, path = "/tenants/{id}/policy/rollback", tag = "policies", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id; `default` for now")), responses(
    (status = 200, description = "It is in force", body = Activated),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn roll_back_policy(
    Extract(state): Shared,
    Path(id): Path<String>,
) -> Result<Json<Activated>, ApiError> {
    let tenant = tenant(&id)?;
    let (digest, from, fact) = state.fleet.roll_back(&tenant).await?;
    Ok(Json(Activated { tenant, digest, from: timestamp(&state, from), from_ns: from.0, fact }))
}
