//! `/tenants/{id}/shadows`: trials of policies beside the one in force.

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::activations::present_standing;
use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::model::{
    PolicyStanding, ShadowMoney, ShadowReport, ShadowRequest, ShadowWorst, ShadowWorth,
};
use super::present::{policy_name, timestamp};
use super::shared::Failures;
use super::{Shared, State};
use crate::billing::decimal::Decimal;
use crate::id::{Digest, TenantId};
use crate::invoice::{Comparison, Worth};
use crate::limits::api as limits;
use crate::rollout::{Report, Worst};
use crate::tenant::Standing;

/// Start the trial of a policy beside the one in force
///
/// The trial changes nothing for the tenant. `GET /tenants/{id}/shadows/{digest}` reports how the
/// policy would have counted the time since then.
#[utoipa::path(post, path = "/tenants/{id}/shadows", tag = "policies", security(("bearer" = [])),
    request_body = ShadowRequest, responses(
    (status = 200, description = "The policy is tried, or was already", body = PolicyStanding),
    Failures,
))]
pub(super) async fn start_shadow(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(request): Body<ShadowRequest>,
) -> Result<Json<PolicyStanding>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let digest = state.find_policy(&caller, &tenant, &request.digest)?.digest();
    state.rollout.begin_trial(&tenant, digest, caller.actor(), request.reason).await?;
    Ok(Json(present_standing(&state, &tenant, digest, Standing::Shadow)))
}

/// End the trial of a policy
#[utoipa::path(delete, path = "/tenants/{id}/shadows/{digest}",
    tag = "policies", security(("bearer" = [])), responses(
    (status = 200, description = "The trial has ended", body = PolicyStanding),
    Failures,
))]
pub(super) async fn end_shadow(
    Extract(state): Shared,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<PolicyStanding>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let digest = state.find_policy(&caller, &tenant, &key)?.digest();
    state.rollout.end_trial(&tenant, digest, caller.actor()).await?;
    Ok(Json(present_standing(&state, &tenant, digest, Standing::Admitted)))
}

/// Show the report of a trial
///
/// The time of the tenant's instances since the trial began, by the policies in force and by the
/// one that is tried: in total, and for the instance with the largest difference. It covers the
/// instances that are not deleted, oldest first, up to 1,000.
#[utoipa::path(get, path = "/tenants/{id}/shadows/{digest}",
    tag = "policies", security(("bearer" = [])), responses(
    (status = 200, description = "Both counts", body = ShadowReport),
    Failures,
))]
pub(super) async fn get_shadow(
    Extract(state): Shared,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<ShadowReport>, ApiError> {
    caller.check_fuel(&state)?;
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let digest = state.find_policy(&caller, &tenant, &key)?.digest();
    let report = state.rollout.report(tenant.clone(), digest).await?;
    Ok(Json(present(&state, &tenant, digest, report)?))
}

fn present(
    state: &State,
    tenant: &TenantId,
    digest: Digest,
    report: Report,
) -> Result<ShadowReport, ApiError> {
    let (money, unrated) = match report.money {
        Ok(compared) => (Some(present_money(&compared)?), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(ShadowReport {
        digest,
        name: policy_name(state, tenant, digest),
        active: report.active,
        active_name: policy_name(state, tenant, report.active),
        since: timestamp(state, report.since),
        until: timestamp(state, report.until),
        instances: report.instances,
        compared: report.compared,
        differing: report.differing,
        active_ns: (&report.active_time).into(),
        candidate_ns: (&report.candidate_time).into(),
        worst: report.worst.map(present_worst),
        fuel: report.fuel,
        faults: report.faults,
        fault: report.fault,
        money,
        unrated,
    })
}

fn present_worst(worst: Worst) -> ShadowWorst {
    ShadowWorst {
        instance: worst.instance,
        name: worst.name,
        moved_ns: worst.moved_ns,
        active_ns: (&worst.active_time).into(),
        candidate_ns: (&worst.candidate_time).into(),
    }
}

fn present_money(compared: &Comparison) -> Result<ShadowMoney, ApiError> {
    let text = |nanos| Decimal::nanos(nanos).to_string();
    let worth = |worth: &Worth| ShadowWorth {
        instance: worth.instance.clone(),
        active: text(worth.active),
        candidate: text(worth.candidate),
    };
    let most = limits::SHADOW_INSTANCES_MAX;
    Ok(ShadowMoney {
        currency: compared.currency.clone(),
        active: text(compared.active),
        candidate: text(compared.candidate),
        net: text(compared.net()?),
        instances: compared.differences.iter().take(most).map(worth).collect(),
        fuel: compared.fuel,
    })
}
