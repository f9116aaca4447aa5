//! `/gaps`: times between two boots that the meter has left out.

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::model::{GapCharge, GapSettlement, SettleGap, TimeGap};
use super::parse_duration;
use super::present::timestamp;
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::billing::decimal::Decimal;
use crate::invoice::{self, GapError, Settlement};
use crate::limits::bill::MISSING_NS_MAX;

/// Bytes of a reason: the bill says the length and the gap before it.
const REASON_BYTES_MAX: usize = 900;

/// List times that the meter has left out
///
/// Each lies between two boots of the host. Nothing proves how long it was, so nobody is billed for
/// it before an operator settles it.
#[utoipa::path(get, path = "/gaps", tag = "invoices", security(("bearer" = [])), responses(
    (status = 200, description = "The gaps, ascending", body = [TimeGap]),
    Failures,
))]
pub(super) async fn list_gaps(Extract(state): Shared) -> Result<Json<Vec<TimeGap>>, ApiError> {
    blocking(move || {
        let gaps = state.issuer.list_gaps()?;
        Ok(Json(gaps.into_iter().map(|one| present(&state, one)).collect()))
    })
    .await
}

/// Settle a time that the meter has left out
///
/// Each tenant is charged once, by its own policy and prices, for what its instances held in the
/// time: what was in standby was in standby, what was stopped was stopped. Documents change with
/// the next close or settlement. The same request again changes nothing.
#[utoipa::path(post, path = "/gaps/{fact}/settlement", tag = "invoices",
    security(("bearer" = [])), request_body = SettleGap, responses(
    (status = 200, description = "The settlement, with its charges", body = GapSettlement),
    Failures,
))]
pub(super) async fn settle_gap(
    Extract(state): Shared,
    caller: Caller,
    Path(fact): Path<u64>,
    Body(asked): Body<SettleGap>,
) -> Result<Json<GapSettlement>, ApiError> {
    let SettleGap { missing, reason, dry_run } = asked;
    if !(1..=REASON_BYTES_MAX).contains(&reason.len()) {
        return Err(ApiError::invalid(format!(
            "reason: must have 1 to {REASON_BYTES_MAX} bytes, has {}; say it for those who pay",
            reason.len()
        )));
    }
    let missing_ns = missing_ns(&missing)?;
    if let Some(url) = state.billed_at.as_ref().filter(|_| missing_ns > 0) {
        let message = format!("the tenants of this host are billed by the collector at {url}");
        return Err(ApiError::conflict("billed_by_collector", message)
            .hint("charge there by `tallyman invoice charge`, and settle the gap here with `0s`"));
    }
    let tenants = state.tenancy.tenants().iter().map(|tenant| tenant.id().clone()).collect();
    let asked = invoice::SettleGap { gap: fact, missing_ns, reason, by: caller.actor() };
    let reading = state.fleet.reading();
    let settled = state.issuer.settle_gap(tenants, asked, reading, dry_run).await?;
    Ok(Json(settlement(settled)))
}

fn missing_ns(text: &str) -> Result<u64, ApiError> {
    let asked = parse_duration(text).map_err(|error| ApiError::invalid(error.to_string()))?;
    let asked = u64::try_from(asked.as_nanos()).unwrap_or(u64::MAX);
    match asked <= MISSING_NS_MAX {
        true => Ok(asked),
        false => Err(ApiError::invalid("missing: must be ten years, 87660h, at most")),
    }
}

fn present(state: &State, one: invoice::TimeGap) -> TimeGap {
    let invoice::TimeGap { gap, settlement: settled } = one;
    TimeGap {
        fact: gap.fact,
        from: timestamp(state, gap.from()),
        until: timestamp(state, gap.until),
        reason: gap.reason,
        claimed_ns: gap.claimed_ns,
        counted_ns: gap.counted_ns,
        settled: settled.map(settlement),
    }
}

fn settlement(settled: Settlement) -> GapSettlement {
    let charge = |charge: invoice::GapCharge| GapCharge {
        tenant: charge.tenant.to_string(),
        id: charge.id,
        amount: Decimal::nanos(charge.amount.into()).to_string(),
        currency: charge.currency,
    };
    GapSettlement {
        fact: settled.fact,
        missing_ns: settled.missing_ns,
        reason: settled.reason,
        by: settled.by.to_string(),
        charges: settled.charges.into_iter().map(charge).collect(),
    }
}

impl From<GapError> for ApiError {
    fn from(error: GapError) -> Self {
        match error {
            GapError::None(_) => Self::not_found("no_such_gap", error.to_string()),
            GapError::Settled { .. } => Self::conflict("gap_settled", error.to_string()),
            GapError::NotLookedAt(_) => Self::conflict("not_looked_at", error.to_string()),
            GapError::Unrated(_) => Self::conflict("gap_unrated", error.to_string()),
            GapError::Rating { ref source, .. } => {
                Self::conflict("gap_unrated", format!("{error}: {source}")).hint(
                    "charge this tenant by `tallyman invoice charge`, and settle the gap with `0s`",
                )
            }
            GapError::Read(error) => error.into(),
            GapError::Change(error) => error.into(),
        }
    }
}
