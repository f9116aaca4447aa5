//! `/tenants/{id}/policy/planned`, `/prices/planned`: changes that were planned and do not come
//! about.

use axum::Json;
use axum::extract::{Path, State as Extract};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::body::Params;
use super::error::ApiError;
use super::idempotency::IdempotencyKey;
use super::model::{PricesHistory, TenantPolicy};
use super::present::timestamp;
use super::shared::Failures;
use super::{Shared, State, activations, blocking, rules};
use crate::billing::Timeline;
use crate::id::{Digest, TenantId};
use crate::tenant::Plan;
use crate::units::Instant;

/// The plans that are withdrawn.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WithdrawParams {
    /// Instant for which it is planned, as the listing has it, as RFC 3339 or a date in UTC; all
    /// plans of the digest, if absent.
    at: Option<String>,
    /// The reason, in words.
    reason: Option<String>,
}

/// Withdraw a planned price book
///
/// The book does not come into force at the instants to come. That it was planned, and withdrawn,
/// stays on record.
#[utoipa::path(delete, path = "/tenants/{id}/prices/planned/{digest}", tag = "invoices",
    security(("bearer" = [])), params(WithdrawParams, IdempotencyKey), responses(
    (status = 200, description = "The books by their facts", body = PricesHistory),
    Failures,
))]
pub(super) async fn withdraw_prices(
    Extract(state): Shared,
    caller: Caller,
    Path((id, named)): Path<(String, String)>,
    Params(params): Params<WithdrawParams>,
    key: IdempotencyKey,
) -> Result<Json<PricesHistory>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let reading = state.clone();
    let whose = tenant.clone();
    let digest = blocking(move || rules::book_named(&reading, &whose, &named)).await?;
    withdraw(&state, &caller, &tenant, (Plan::Prices, digest), params, key).await?;
    blocking(move || rules::history(&state, &tenant).map(Json)).await
}

/// Withdraw a planned policy
///
/// The policy is not put in force at the instants to come. That it was planned, and withdrawn,
/// stays on record.
#[utoipa::path(delete, path = "/tenants/{id}/policy/planned/{digest}", tag = "policies",
    security(("bearer" = [])), params(WithdrawParams, IdempotencyKey), responses(
    (status = 200, description = "The policies by time", body = TenantPolicy),
    Failures,
))]
pub(super) async fn withdraw_policy(
    Extract(state): Shared,
    caller: Caller,
    Path((id, named)): Path<(String, String)>,
    Params(params): Params<WithdrawParams>,
    key: IdempotencyKey,
) -> Result<Json<TenantPolicy>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?;
    let digest = state.find_policy(&caller, tenant.id(), &named)?.digest();
    withdraw(&state, &caller, tenant.id(), (Plan::Policy, digest), params, key).await?;
    Ok(Json(activations::describe(&state, &tenant).await?))
}

/// Withdraws the plans of a digest.
async fn withdraw(
    state: &State,
    caller: &Caller,
    tenant: &TenantId,
    (plan, digest): (Plan, Digest),
    params: WithdrawParams,
    key: IdempotencyKey,
) -> Result<(), ApiError> {
    let WithdrawParams { at, reason } = params;
    let asked = (plan.as_str(), digest.to_string(), &at, &reason);
    let act = key.act(caller, tenant, "withdraw", &asked)?;
    let at = at.as_deref().map(|at| rules::utc_ns("at", at)).transpose()?;
    let changes = state.journal.archive().changes_of(tenant, plan)?;
    let timeline = Timeline::starting_with(digest).with(changes.into_iter().map(|(_, one)| one));
    let is_meant = |from: Instant| at.is_none_or(|at| timestamp(state, from).0 == at);
    let planned = timeline.planned(state.fleet.now());
    let plans: Vec<_> =
        planned.filter(|&(from, planned)| planned == digest && is_meant(from)).collect();
    Ok(state.issuer.withdraw(tenant, plan, &plans, reason, act).await?)
}
