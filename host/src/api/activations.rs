//! `/tenants/{id}/policy`: the policies of a tenant by time, and their activation.

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::idempotency::IdempotencyKey;
use super::model::{self, Activate, Activated, PolicyStanding, Quarantined, TenantPolicy};
use super::present::{policy_name, timestamp};
use super::shared::Failures;
use super::{Shared, State};
use crate::billing::decimal::Decimal;
use crate::id::{Digest, TenantId};
use crate::journal::StoredStanding;
use crate::rollout::{self, Activation, Gates, Rollback};
use crate::tenancy;
use crate::tenant::Standing;
use crate::units::Instant;

/// Show the past, present and planned policies of a tenant
#[utoipa::path(get, path = "/tenants/{id}/policy",
    tag = "policies", security(("bearer" = [])), responses(
    (status = 200, description = "The policies by time", body = TenantPolicy),
    Failures,
))]
pub(super) async fn get_tenant_policy(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TenantPolicy>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?;
    Ok(Json(describe(&state, &tenant).await?))
}

pub(super) async fn describe(
    state: &State,
    tenant: &tenancy::Tenant,
) -> Result<TenantPolicy, ApiError> {
    let id = tenant.id();
    let now = state.fleet.now();
    let timeline = state.fleet.timeline(id);
    let activation = |(from, digest): (Instant, Digest)| model::Activation {
        digest,
        name: policy_name(state, id, digest),
        from: timestamp(state, from),
        from_ns: from.0,
    };
    let standing = |stood: StoredStanding| {
        present_standing(state, id, stood.digest, state.rollout.standing(&stood))
    };
    let previous = state.rollout.previous(id).await?;
    let steps = tenant.settings().fallback.steps().to_vec();
    Ok(TenantPolicy {
        tenant: id.clone(),
        digest: timeline.at(now),
        name: policy_name(state, id, timeline.at(now)),
        previous_name: previous.and_then(|digest| policy_name(state, id, digest)),
        previous,
        activations: timeline.between(Instant(i64::MIN), now).map(activation).collect(),
        planned: timeline.planned(now).map(activation).collect(),
        quarantined: quarantined(state, tenant),
        fallback: steps.into_iter().map(Into::into).collect(),
        policies: state.tenancy.standings(id).into_iter().map(standing).collect(),
    })
}

fn quarantined(state: &State, tenant: &tenancy::Tenant) -> Vec<Quarantined> {
    let alerts = state.rollout.alerts(tenant.id());
    let alerts = |policy: Digest| alerts.iter().any(|alert| alert.quarantined.policy == policy);
    let present = |found: crate::policy::accounting::Quarantined| Quarantined {
        digest: found.policy,
        name: policy_name(state, tenant.id(), found.policy),
        faults: found.faults,
        alert: alerts(found.policy),
        reason: found.reason,
        stand_in_name: found.substitute.and_then(|digest| policy_name(state, tenant.id(), digest)),
        stand_in: found.substitute,
    };
    state.accounting.quarantined(tenant.id()).into_iter().map(present).collect()
}

/// Activate a policy for a tenant
///
/// From the effective instant on, every nanosecond of the tenant's instances counts under the new
/// policy; an interval that spans the instant is split exactly there. With the header
/// `Idempotency-Key`, a repeated request changes nothing and gets the answer of the first.
#[utoipa::path(put, path = "/tenants/{id}/policy", tag = "policies", security(("bearer" = [])),
    params(IdempotencyKey),
    request_body = Activate, responses(
    (status = 200, description = "The policy is in force, or will be from `from` on",
        body = Activated),
    Failures,
))]
pub(super) async fn activate_policy(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(asked): Body<Activate>,
) -> Result<Json<Activated>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let request = key.for_request(&tenant, &asked)?;
    let activation = Activation {
        digest: state.find_policy(&caller, &tenant, &asked.digest)?.digest(),
        at: asked.at.map(|at| state.fleet.meter_to_come(at.0)),
        again: asked.again,
        options: asked.options.clone().into_iter().collect(),
        gates: gates(&caller, &asked)?,
        tenant,
        reason: asked.reason,
        by: caller.actor(),
        request,
    };
    let done = state.rollout.activate(activation).await?;
    Ok(Json(present(&state, done)))
}

/// Roll back to the policy before the present one
///
/// Puts the last earlier policy that is not quarantined in force again.
#[utoipa::path(post, path = "/tenants/{id}/policy/rollback", tag = "policies",
    security(("bearer" = [])), params(IdempotencyKey),
    request_body = Option<model::Rollback>, responses(
    (status = 200, description = "The earlier policy is in force", body = Activated),
    Failures,
))]
pub(super) async fn roll_back_policy(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(asked): Body<model::Rollback>,
) -> Result<Json<Activated>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let request = key.for_request(&tenant, &("rollback", &asked))?;
    let rollback = Rollback { tenant, reason: asked.reason, by: caller.actor(), request };
    let done = state.rollout.roll_back(rollback).await?;
    Ok(Json(present(&state, done)))
}

/// The standing of a policy with a tenant, and its name there.
pub(super) fn present_standing(
    state: &State,
    tenant: &TenantId,
    digest: Digest,
    standing: Standing,
) -> PolicyStanding {
    PolicyStanding { digest, name: policy_name(state, tenant, digest), state: standing.into() }
}

fn present(state: &State, done: rollout::Activated) -> Activated {
    let rollout::Activated { tenant, digest, from, fact, repeated, already, answered_by } = done;
    let at = timestamp(state, from);
    let name = policy_name(state, &tenant, digest);
    let answered_by_name = answered_by.and_then(|digest| policy_name(state, &tenant, digest));
    Activated {
        tenant,
        digest,
        name,
        from: at,
        from_ns: from.0,
        fact,
        repeated,
        already,
        answered_by,
        answered_by_name,
    }
}

/// The gates of a request; `None` if it sets none. An operator's gates cover the trials of all
/// tenants.
fn gates(caller: &Caller, asked: &Activate) -> Result<Option<Gates>, ApiError> {
    let gates = Gates {
        net: gate("max_net", asked.max_net.as_deref())?,
        tenant: gate("max_tenant", asked.max_tenant.as_deref())?,
        across_tenants: caller.is_operator(),
    };
    Ok(Some(gates).filter(|gates| gates.net.is_some() || gates.tenant.is_some()))
}

fn gate(field: &str, text: Option<&str>) -> Result<Option<i128>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let nanos = text.parse::<Decimal>().ok().and_then(|amount| amount.scaled(9));
    let unknown =
        || ApiError::invalid(format!("{field}: must be an amount of 0 or more, such as 12.50"));
    nanos.filter(|&nanos| nanos >= 0).map(Some).ok_or_else(unknown)
}
