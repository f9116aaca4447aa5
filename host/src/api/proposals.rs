//! `/tenants/{id}/proposals`: policies and price books that a tenant asks for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::idempotency::IdempotencyKey;
use super::model::{AcceptProposal, DeclineProposal, ProposalState, Proposals, Propose};
use super::present::{policy_name, timestamp};
use super::shared::Failures;
use super::{Shared, State, blocking, invoices, model, quota, rules};
use crate::id::TenantId;
use crate::invoice::{Act, Evidence, Proposal, Wish};
use crate::rollout::Activation;
use crate::tenancy::Storing;
use crate::tenant::Plan;
use crate::units::Instant;

/// Propose a policy or a price book
///
/// Nothing changes until whoever charges the tenant accepts it. It passes the checks of the change
/// itself now, and once more when it is accepted.
#[utoipa::path(post, path = "/tenants/{id}/proposals", tag = "invoices",
    security(("bearer" = [])), params(IdempotencyKey), request_body = Propose, responses(
    (status = 201, description = "It is on record", body = model::Proposal),
    Failures,
))]
pub(super) async fn propose(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(asked): Body<Propose>,
) -> Result<(StatusCode, Json<model::Proposal>), ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    asked.reason.as_deref().map_or(Ok(()), invoices::check_reason)?;
    let act = key.act(&caller, &tenant, "propose", &asked)?;
    let at = asked.at.as_deref().map(|at| to_come(&state, at)).transpose()?;
    let reason = asked.reason.clone();
    let (wish, _stored) = wish(&state, &caller, &tenant, asked).await?;
    let reading = state.fleet.reading();
    let proposal = state.issuer.propose(&tenant, (wish, at), reason, reading, act).await?;
    Ok((StatusCode::CREATED, Json(present(&state, &tenant, proposal))))
}

/// The change that is asked for, and the reservation of what is stored with it.
async fn wish(
    state: &Arc<State>,
    caller: &Caller,
    tenant: &TenantId,
    asked: Propose,
) -> Result<(Wish, Option<Storing>), ApiError> {
    match (asked.policy, asked.prices) {
        (Some(key), None) if asked.name.is_none() => {
            let digest = state.find_policy(caller, tenant, &key)?.digest();
            let options = asked.options.into_iter().collect();
            Ok((Wish::Policy { digest, options }, None))
        }
        (None, Some(prices)) if asked.options.is_empty() => {
            let reading = state.clone();
            let whose = tenant.clone();
            let text = blocking(move || rules::book(&reading, &whose, Some(&prices))).await?;
            let text = text.unwrap_or_default();
            let stored = quota::store(state, tenant, &text).await?;
            let name = asked.name.as_deref().map(str::parse).transpose()?;
            Ok((Wish::Prices { text, name }, Some(stored)))
        }
        _ => Err(ApiError::invalid(
            "a proposal has either `policy`, with `options`, or `prices`, with `name`",
        )),
    }
}

fn to_come(state: &State, text: &str) -> Result<Instant, ApiError> {
    Ok(state.fleet.meter_to_come(rules::utc_ns("at", text)?))
}

/// List a tenant's proposals
#[utoipa::path(get, path = "/tenants/{id}/proposals",
    tag = "invoices", security(("bearer" = [])), responses(
    (status = 200, description = "The proposals, newest first", body = Proposals),
    Failures,
))]
pub(super) async fn list_proposals(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Proposals>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let work = move || {
        let found = state.issuer.proposals(&tenant)?.into_iter().rev();
        let proposals = found.map(|one| present(&state, &tenant, one)).collect();
        Ok(Json(Proposals { proposals }))
    };
    blocking(work).await
}

/// Accept a proposal
///
/// Makes the change, in the name of whoever accepts.
#[utoipa::path(post, path = "/tenants/{id}/proposals/{number}/accept", tag = "invoices",
    security(("bearer" = [])), params(IdempotencyKey), request_body = AcceptProposal, responses(
    (status = 200, description = "The change is made", body = model::Proposal),
    Failures,
))]
pub(super) async fn accept_proposal(
    Extract(state): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, u64)>,
    key: IdempotencyKey,
    Body(asked): Body<AcceptProposal>,
) -> Result<Json<model::Proposal>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    asked.reason.as_deref().map_or(Ok(()), invoices::check_reason)?;
    let act = key.act(&caller, &tenant, "accept", &(number, &asked))?;
    let _deciding = state.issuer.decide(&tenant).await;
    if let Some(ended) = state.issuer.ended_before(&tenant, number, &act).await? {
        return Ok(Json(present(&state, &tenant, ended)));
    }
    let reading = state.clone();
    let whose = tenant.clone();
    let found = blocking(move || Ok(reading.issuer.open_proposal(&whose, number)?)).await?;
    let at = match asked.at.as_deref() {
        None => found.from,
        Some("now") => None,
        Some(text) => Some(to_come(&state, text)?),
    };
    change(&state, &tenant, found, at, asked.reason.clone(), act.part("change")).await?;
    let said = (true, asked.reason);
    let ended =
        state.issuer.end_proposal(&tenant, number, said, state.fleet.reading(), act).await?;
    Ok(Json(present(&state, &tenant, ended)))
}

/// Makes the change that was proposed.
async fn change(
    state: &Arc<State>,
    tenant: &TenantId,
    proposal: Proposal,
    at: Option<Instant>,
    reason: Option<String>,
    act: Act,
) -> Result<(), ApiError> {
    let Proposal { plan, digest, name, options, .. } = proposal;
    match plan {
        Plan::Policy => {
            let activation = Activation {
                tenant: tenant.clone(),
                digest,
                at,
                again: false,
                options,
                gates: None,
                reason: reason.or(proposal.reason),
                by: act.by,
                request: act.request,
            };
            state.rollout.activate(activation).await?;
        }
        Plan::Prices => {
            let archive = state.journal.archive();
            let text = blocking(move || Ok(Evidence::document(&archive, digest)?)).await?;
            state.fleet.read_traffic_before(tenant, at).await;
            let now = state.fleet.now();
            state.issuer.set_prices(tenant, (text, name), at, now, act).await?;
        }
    }
    Ok(())
}

/// Decline a proposal, or take it back
#[utoipa::path(post, path = "/tenants/{id}/proposals/{number}/decline", tag = "invoices",
    security(("bearer" = [])), params(IdempotencyKey), request_body = DeclineProposal, responses(
    (status = 200, description = "It does not come about", body = model::Proposal),
    Failures,
))]
pub(super) async fn decline_proposal(
    Extract(state): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, u64)>,
    key: IdempotencyKey,
    Body(asked): Body<DeclineProposal>,
) -> Result<Json<model::Proposal>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    asked.reason.as_deref().map_or(Ok(()), invoices::check_reason)?;
    let act = key.act(&caller, &tenant, "decline", &(number, &asked))?;
    let _deciding = state.issuer.decide(&tenant).await;
    let said = (false, asked.reason);
    let ended =
        state.issuer.end_proposal(&tenant, number, said, state.fleet.reading(), act).await?;
    Ok(Json(present(&state, &tenant, ended)))
}

fn present(state: &State, tenant: &TenantId, proposal: Proposal) -> model::Proposal {
    let Proposal { fact, plan, digest, from, name, options, reason, by, end } = proposal;
    let name = match plan {
        Plan::Policy => policy_name(state, tenant, digest),
        Plan::Prices => name.map(|name| name.to_string()),
    };
    let ended = match &end {
        None => ProposalState::Open,
        Some(end) if end.is_accepted => ProposalState::Accepted,
        Some(_) => ProposalState::Declined,
    };
    model::Proposal {
        number: fact,
        tenant: tenant.clone(),
        plan: plan.into(),
        digest,
        name,
        options: options.into_iter().collect(),
        at: from.map(|from| timestamp(state, from)),
        reason,
        by: by.to_string(),
        state: ended,
        ended_by: end.as_ref().map(|end| end.by.to_string()),
        ended_reason: end.and_then(|end| end.reason),
    }
}
