//! `/tenants/{id}/one-offs`: amounts that are charged, or given, once.

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::idempotency::IdempotencyKey;
use super::model::{OneOff, RecordedOneOff};
use super::present::timestamp;
use super::shared::Failures;
use super::{Shared, invoices, rules};
use crate::billing::decimal::Decimal;
use crate::invoice::NewOneOff;

/// Charge or give an amount once
///
/// Documents change with the next close or settlement. With the header `Idempotency-Key`, a request
/// that is sent again records nothing more.
#[utoipa::path(post, path = "/tenants/{id}/one-offs", tag = "invoices", security(("bearer" = [])),
    params(IdempotencyKey), request_body = OneOff, responses(
    (status = 201, description = "It is on record", body = RecordedOneOff),
    Failures,
))]
pub(super) async fn create_one_off(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(asked): Body<OneOff>,
) -> Result<(StatusCode, Json<RecordedOneOff>), ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    invoices::check_reason(&asked.reason)?;
    let act = key.act(&caller, &tenant, "one-off", &asked)?;
    let new = NewOneOff {
        kind: asked.kind.into(),
        amount: amount(&asked.amount)?,
        currency: asked.currency,
        at: asked.at.as_deref().map(|at| rules::instant(&state, "at", at)).transpose()?,
        reason: asked.reason,
    };
    let done = state.issuer.one_off(&tenant, new, state.fleet.reading(), act).await?;
    let recorded = RecordedOneOff {
        tenant: tenant.to_string(),
        id: done.id,
        kind: done.kind.into(),
        amount: Decimal::nanos(done.amount.into()).to_string(),
        currency: done.currency,
        at: timestamp(&state, done.at),
        fact: done.fact,
    };
    Ok((StatusCode::CREATED, Json(recorded)))
}

/// Nano-units of an amount.
fn amount(text: &str) -> Result<i64, ApiError> {
    let nanos = text.parse::<Decimal>().ok().and_then(|amount| amount.scaled(9));
    nanos
        .and_then(|nanos| i64::try_from(nanos).ok())
        .ok_or_else(|| ApiError::invalid("amount: must be an amount above 0, such as 12.50"))
}
