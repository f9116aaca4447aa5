//! `/tenants/{id}/prices`, `/agreement`: the price books of a tenant, and the agreement on its
//! periods.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use chrono::{Months, NaiveDate};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::body::{Body, Params, Raw};
use super::error::ApiError;
use super::idempotency::IdempotencyKey;
use super::model::{
    Agreement, AgreementInForce, PreviewRequest, Prices, PricesHistory, PricesState, Timestamp,
};
use super::present::timestamp;
use super::shared::Failures;
use super::{Shared, State, blocking, quota};
use crate::billing::Change;
use crate::id::{Digest, TenantId, clipped};
use crate::invoice::{BookSet, BookSummary, ChangeError, Evidence, Overriding, Period};
use crate::tenant::Plan;
use crate::units::Instant;

/// The query parameters of a price book.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PricesParams {
    /// First instant at which the book is in force, as RFC 3339 or a date in UTC; now if absent. An
    /// instant in the past is refused.
    at: Option<String>,
    /// A name among the tenant's books, such as `night-v3`, which is accepted wherever the digest
    /// is; none if absent.
    name: Option<String>,
}

/// Set a tenant's price book
///
/// The body is the price book: one JSON document with currency, prices and adjustments. It is
/// checked against every policy that is in force at the same time. A book that was planned for
/// later stays planned.
#[utoipa::path(put, path = "/tenants/{id}/prices", tag = "invoices", security(("bearer" = [])),
    params(PricesParams, IdempotencyKey),
    request_body(content = Object, description = "The price book, at most 1 MiB"), responses(
    (status = 200, description = "The book is in force, or will be from `from` on", body = Prices),
    Failures,
))]
pub(super) async fn set_prices(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Params(params): Params<PricesParams>,
    key: IdempotencyKey,
    Raw(bytes): Raw,
) -> Result<Json<Prices>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let asked = (&params.at, Digest::of(&bytes).to_string());
    let act = match &params.name {
        None => key.act(&caller, &tenant, "prices", &asked)?,
        Some(name) => key.act(&caller, &tenant, "prices", &(asked, name))?,
    };
    let name = params.name.as_deref().map(str::parse).transpose()?;
    let at = params.at.as_deref().map(|at| utc_ns("at", at)).transpose()?;
    let at = at.map(|utc_ns| state.fleet.meter_to_come(utc_ns));
    state.fleet.read_traffic_before(&tenant, at).await;
    let now = state.fleet.now();
    let _stored = quota::store(&state, &tenant, &bytes).await?;
    let set = state.issuer.set_prices(&tenant, (bytes.to_vec(), name), at, now, act).await?;
    Ok(Json(prices(&state, &tenant, set)))
}

/// A book that was set.
pub(super) fn prices(state: &State, tenant: &TenantId, set: BookSet) -> Prices {
    let BookSet { book, digest, name, from, already, planned, fact } = set;
    Prices {
        tenant: tenant.to_string(),
        digest: digest.to_string(),
        name,
        currency: book.currency().code().into(),
        prices: book.prices().len() as u64,
        from: timestamp(state, from),
        from_ns: from.0,
        fact,
        state: if planned { PricesState::Planned } else { PricesState::InForce },
        already,
        text: None,
    }
}

/// Show a tenant's price books
#[utoipa::path(get, path = "/tenants/{id}/prices",
    tag = "invoices", security(("bearer" = [])), responses(
    (status = 200, description = "The books, in the order of their facts", body = PricesHistory),
    Failures,
))]
pub(super) async fn get_prices(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<PricesHistory>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    blocking(move || history(&state, &tenant).map(Json)).await
}

pub(super) fn history(state: &State, tenant: &TenantId) -> Result<PricesHistory, ApiError> {
    let archive = state.journal.archive();
    let now = state.fleet.now();
    let changes = archive.changes_of(tenant, Plan::Prices)?;
    let is_withdrawn = |fact: u64, from: Instant, digest: Digest| {
        let withdrawal = Change::Withdrawn { from, digest };
        changes.iter().any(|&(seq, change)| seq > fact && change == withdrawal)
    };
    let set = changes.iter().filter_map(|&(fact, change)| match change {
        Change::Set { from, digest } => Some((fact, from, digest)),
        Change::Withdrawn { .. } => None,
    });
    let set: Vec<_> = set.collect();
    let reached = set
        .iter()
        .filter(|&&(fact, from, digest)| from <= now && !is_withdrawn(fact, from, digest));
    let in_force = reached.max_by_key(|&&(fact, from, _)| (from, fact)).map(|&(fact, _, _)| fact);
    let naming = state.issuer.naming(tenant)?;
    let mut history = Vec::with_capacity(set.len());
    let mut current = None;
    for (fact, from, digest) in set {
        let BookSummary { currency, prices } = state.issuer.summary(digest)?;
        let shown = Prices {
            tenant: tenant.to_string(),
            digest: digest.to_string(),
            name: naming.book(digest).map(str::to_owned),
            currency: currency.code().into(),
            prices,
            from: timestamp(state, from),
            from_ns: from.0,
            fact,
            state: match Some(fact) == in_force {
                true => PricesState::InForce,
                false if is_withdrawn(fact, from, digest) => PricesState::Withdrawn,
                false if from > now => PricesState::Planned,
                false => PricesState::Past,
            },
            already: false,
            text: None,
        };
        if Some(fact) == in_force {
            let bytes = Evidence::document(&archive, digest)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            current = Some(Prices { text: Some(text), ..shown.clone() });
        }
        history.push(shown);
    }
    Ok(PricesHistory { current, history })
}

/// Show the agreement on a tenant's periods
#[utoipa::path(get, path = "/tenants/{id}/agreement",
    tag = "invoices", security(("bearer" = [])), responses(
    (status = 200, description = "The agreement and the present period", body = AgreementInForce),
    Failures,
))]
pub(super) async fn get_agreement(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<AgreementInForce>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let now = state.fleet.now();
    blocking(move || agreement_at(&state, &tenant, now).map(Json)).await
}

/// Change the agreement on a tenant's periods
///
/// The change takes effect at the end of the present period.
#[utoipa::path(put, path = "/tenants/{id}/agreement", tag = "invoices", security(("bearer" = [])),
    params(IdempotencyKey), request_body = Agreement, responses(
    (status = 200, description = "The change takes effect at `until`", body = AgreementInForce),
    Failures,
))]
pub(super) async fn set_agreement(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(agreement): Body<Agreement>,
) -> Result<Json<AgreementInForce>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let act = key.act(&caller, &tenant, "agreement", &agreement)?;
    let reading = state.fleet.reading();
    let at = state.issuer.change_agreement(&tenant, agreement.into(), reading, act).await?;
    blocking(move || agreement_at(&state, &tenant, at).map(Json)).await
}

fn agreement_at(
    state: &State,
    tenant: &TenantId,
    at: Instant,
) -> Result<AgreementInForce, ApiError> {
    let (period, next) = state.issuer.agreement(tenant, at)?;
    Ok(AgreementInForce {
        from: timestamp(state, period.start),
        until: timestamp(state, period.end),
        next: Some(next).filter(|next| *next != period.agreement).map(Into::into),
        agreement: period.agreement.into(),
    })
}

/// Parses an instant or a date of the calendar, as an instant of the meter clock.
pub(super) fn instant(state: &State, field: &str, text: &str) -> Result<Instant, ApiError> {
    Ok(state.fleet.meter(utc_ns(field, text)?))
}

/// The end of a month (`2026-11`) by a tenant's own periods, or an instant as [`instant`] has it.
pub(super) async fn until(
    state: &Arc<State>,
    tenant: &TenantId,
    field: &str,
    text: &str,
) -> Result<Instant, ApiError> {
    match month(state, tenant, text).await? {
        Some(period) => Ok(period.end),
        None => instant(state, field, text),
    }
}

/// The period of a tenant that begins in a month, such as `2026-11`; `None` for a text that is no
/// month.
async fn month(
    state: &Arc<State>,
    tenant: &TenantId,
    text: &str,
) -> Result<Option<Period>, ApiError> {
    // The last day of a month lies in the period that begins in that month, whatever its anchor.
    let first = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok();
    let next = first.and_then(|first| first.checked_add_months(Months::new(1)));
    let last = next.and_then(|next| next.pred_opt()).and_then(|last| last.and_hms_opt(12, 0, 0));
    let Some(noon) = last.and_then(|noon| noon.and_utc().timestamp_nanos_opt()) else {
        return Ok(None);
    };
    let state = state.clone();
    let tenant = tenant.clone();
    let found = move || Ok(state.issuer.agreement(&tenant, state.fleet.meter(noon))?.0);
    Ok(Some(blocking(found).await?))
}

/// Parses an instant or a date of the calendar, in nanoseconds since 1970 in UTC.
pub(super) fn utc_ns(field: &str, text: &str) -> Result<i64, ApiError> {
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_nanos_opt();
    let of_date = text.parse::<NaiveDate>().ok().and_then(midnight);
    let utc_ns = of_date.or_else(|| text.parse::<Timestamp>().ok().map(|at| at.0));
    let unknown = || {
        let text = clipped(text);
        ApiError::invalid(format!(
            "{field}: invalid instant '{text}'; expected RFC 3339 or a date, for example \
             2026-11-30T12:00:00Z or 2026-11-30"
        ))
    };
    utc_ns.ok_or_else(unknown)
}

/// The digest of the policy of a key.
pub(super) fn policy(
    state: &State,
    caller: &Caller,
    tenant: &TenantId,
    key: &str,
) -> Result<Digest, ApiError> {
    Ok(state.find_policy(caller, tenant, key)?.digest())
}

/// The rules that a preview asks for; `None` if it asks for those in force.
pub(super) async fn preview(
    state: &Arc<State>,
    caller: &Caller,
    tenant: &TenantId,
    asked: &PreviewRequest,
    to: Instant,
) -> Result<Option<Overriding>, ApiError> {
    if asked.policy.is_none() && asked.prices.is_none() {
        return Ok(None);
    }
    let (from, until) = span(state, tenant, asked, to).await?;
    let named = asked.policy.as_deref().map(|key| policy(state, caller, tenant, key));
    Ok(Some(Overriding {
        from,
        until,
        policy: named.transpose()?,
        book: book(state, tenant, asked.prices.as_deref())?,
        from_begin: asked.from_begin,
        reason: "preview".into(),
    }))
}

/// The span of the rules of a preview: a month alone, or up to now at least, so that amounts of
/// minimums and caps are those of a book that stays.
async fn span(
    state: &Arc<State>,
    tenant: &TenantId,
    asked: &PreviewRequest,
    to: Instant,
) -> Result<(Instant, Instant), ApiError> {
    let until = match asked.to.as_deref() {
        Some(text) => month(state, tenant, text).await?.map(|period| period.end),
        None => None,
    };
    let from = match asked.from.as_deref() {
        Some(text) => match month(state, tenant, text).await? {
            Some(period) => period.start,
            None => instant(state, "from", text)?,
        },
        None => Instant(i64::MIN),
    };
    Ok((from, until.unwrap_or_else(|| to.max(state.fleet.now()))))
}

/// The text of a price book: `named` is the text itself, or the name or a unique prefix of the
/// digest of a book that the tenant has or had.
pub(super) fn book(
    state: &State,
    tenant: &TenantId,
    named: Option<&str>,
) -> Result<Option<Vec<u8>>, ApiError> {
    let Some(named) = named else { return Ok(None) };
    if named.trim_start().starts_with('{') {
        return Ok(Some(named.as_bytes().to_vec()));
    }
    let digest = book_named(state, tenant, named)?;
    Ok(Some(Evidence::document(&state.journal.archive(), digest)?))
}

/// The digest of a price book that the tenant has, had or proposed, by its name or its unique
/// beginning.
pub(super) fn book_named(
    state: &State,
    tenant: &TenantId,
    named: &str,
) -> Result<Digest, ApiError> {
    if let Some(digest) = state.issuer.naming(tenant)?.book_named(named) {
        return Ok(digest);
    }
    let changes = state.journal.archive().changes_of(tenant, Plan::Prices)?;
    let set = changes.into_iter().filter_map(|(_, change)| match change {
        Change::Set { digest, .. } => Some(digest),
        Change::Withdrawn { .. } => None,
    });
    let is_named = |digest: &Digest| !named.is_empty() && digest.to_string().starts_with(named);
    let mut found: BTreeSet<Digest> = set.filter(is_named).collect();
    if found.is_empty() {
        let proposed = state.issuer.proposals(tenant)?.into_iter();
        let proposed = proposed.filter(|one| one.plan == Plan::Prices).map(|one| one.digest);
        found.extend(proposed.filter(is_named));
    }
    match found.len() {
        0 => {
            let message =
                format!("the tenant never had or proposed a price book '{}'", clipped(named));
            Err(ApiError::not_found("no_such_prices", message)
                .hint("GET /tenants/{id}/prices lists them; the text of a book is taken, too"))
        }
        1 => Ok(found.into_iter().next().unwrap_or(Digest([0; 32]))),
        several => {
            let message = format!("'{named}' is a prefix of {several} digests; give more digits");
            Err(ApiError::conflict("ambiguous", message))
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Book(error) => Self::invalid(error.to_string()),
            ChangeError::Refused(error) => Self::conflict("refused", error.to_string()),
            ChangeError::NoTariff(_) => Self::not_found("no_such_tariff", error.to_string()),
            ChangeError::Published { .. } => Self::conflict("published", error.to_string()),
            ChangeError::NameInUse { .. } => Self::conflict("name_in_use", error.to_string()),
            ChangeError::NotPlanned { .. } => Self::not_found("not_planned", error.to_string())
                .hint("`tallyman prices show` and `tallyman policy status` list what is planned"),
            ChangeError::NoProposal(_) => Self::not_found("no_such_proposal", error.to_string()),
            ChangeError::ProposalEnded { .. } => {
                Self::conflict("proposal_ended", error.to_string())
            }
            ChangeError::Proposals => Self::conflict("too_many_proposals", error.to_string()),
            ChangeError::Issue(error) => error.into(),
        }
    }
}
