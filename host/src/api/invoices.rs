//! `/tenants/{id}/prices`, `/invoice`, `/invoices`: what a tenant's time costs, made final, corrected and handed out with its evidence.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::body::{Body, Params, Raw};
use super::error::{ApiError, ErrorBody};
use super::model::Timestamp;
use super::{Shared, State, blocking};
use crate::billing::currency::Currency;
use crate::id::{Digest, InstanceId, TenantId};
use crate::invoice::{
    Bundle, Comparison, Evidence, EvidenceError, Heading, Invoice, InvoiceError, Kind, Named, Order, Rater, bundle,
};
use crate::journal::{Archive, Entry, NewInvoice, NewPrices, StoredInvoice};
use crate::policy::book::Book;
use crate::units::Instant;

/// From when on prices hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PricesParams {
    /// From when on, as an instant (`2026-02-01T00:00:00Z`) or a date in UTC; now, if absent or past.
    at: Option<String>,
}

/// A price book in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Prices {
    /// Whose.
    pub tenant: String,
    /// The book, by the SHA-256 of its text.
    pub digest: String,
    /// What its prices are in.
    pub currency: String,
    /// How many prices it has.
    pub prices: u64,
    /// From when on it holds.
    pub from: Timestamp,
    /// The same on the meter clock.
    pub from_ns: i64,
    /// Sequence number of the journal's fact.
    pub fact: u64,
    /// The book as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// All price books of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PricesHistory {
    /// The one in force, with its text; null without any.
    pub current: Option<Prices>,
    /// Those that were and will be in force, by their facts.
    pub history: Vec<Prices>,
}

/// What to charge.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PreviewParams {
    /// First instant of the period, or a date in UTC; the end of the last invoice, if absent.
    from: Option<String>,
    /// First instant after it, or a date in UTC; now, if absent or to come.
    to: Option<String>,
    /// A policy instead of those in force: its digest, the digest's unique beginning, or `standard`.
    policy: Option<String>,
    /// A price book instead of those in force: its digest, among those that the tenant has or had.
    prices: Option<String>,
}

/// A period to be made final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseInvoice {
    /// First instant of the period, or a date in UTC; the end of the last invoice, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// First instant after it, or a date in UTC; not after now.
    pub to: String,
    /// A policy instead of those in force, for a period that they left unrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// A reason to charge a closed period anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectInvoice {
    /// Why, in words, for the person who pays. 1 to 1,024 bytes.
    pub reason: String,
    /// A policy instead of those that were in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A price book instead of those that were in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
}

/// An invoice or a correction in one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceSummary {
    /// Its number among the tenant's documents.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// What it corrects.
    pub corrects: Option<u64>,
    /// Why.
    pub reason: Option<String>,
    /// First instant of the period.
    pub from: String,
    /// First instant after it.
    pub until: String,
    /// Currency.
    pub currency: String,
    /// The exact sum.
    pub total: String,
    /// What is to be paid.
    pub payable: String,
    /// SHA-256 of the document, as the journal has it.
    pub digest: String,
    /// Sequence number of the journal's fact.
    pub fact: u64,
}

/// All documents of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invoices {
    /// By number.
    pub invoices: Vec<InvoiceSummary>,
}

/// Put a tenant's prices in force
///
/// The body is the price book: one JSON document with currency, options, prices and adjustments. From the effective instant on it replaces the book
/// before it; an interval that spans the change is split exactly there.
#[utoipa::path(put, path = "/tenants/{id}/prices", tag = "invoices", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`"), PricesParams),
    request_body(content = Object, description = "The price book, at most 1 MiB"), responses(
    (status = 200, description = "They hold, or will from the instant told on", body = Prices),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn set_prices(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Params(params): Params<PricesParams>,
    Raw(bytes): Raw,
) -> Result<Json<Prices>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let book = Book::parse(&bytes).map_err(|error| ApiError::invalid(error.to_string()))?;
    let requested = params.at.as_deref().map(|at| instant(&state, "at", at)).transpose()?;
    let new = NewPrices {
        tenant: tenant.clone(),
        digest: book.digest(),
        bytes: bytes.to_vec(),
        requested,
        by: caller.actor(),
    };
    let receipt = state.journal.commit(Entry { prices: Some(new), ..Entry::default() }).await?;
    let missing = || ApiError::bug(&std::io::Error::other("a receipt without an instant"));
    let from = receipt.activated_from.ok_or_else(missing)?;
    Ok(Json(prices(&state, &tenant, &book, from, receipt.last_seq)))
}

fn prices(state: &State, tenant: &TenantId, book: &Book, from: Instant, fact: u64) -> Prices {
    Prices {
        tenant: tenant.to_string(),
        digest: book.digest().to_string(),
        currency: book.currency().code().into(),
        prices: book.len() as u64,
        from: Timestamp(state.fleet.calendar_ns(from)),
        from_ns: from.0,
        fact,
        text: None,
    }
}

/// A tenant's prices, now and at all times
#[utoipa::path(get, path = "/tenants/{id}/prices", tag = "invoices", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`")), responses(
    (status = 200, description = "The books by time", body = PricesHistory),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn get_prices(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<PricesHistory>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    blocking(move || prices_history(&state, &tenant).map(Json)).await
}

fn prices_history(state: &State, tenant: &TenantId) -> Result<PricesHistory, ApiError> {
    let archive = state.journal.archive();
    let now = state.fleet.now();
    let (mut history, mut current): (Vec<Prices>, Option<Prices>) = (Vec::new(), None);
    let mut books = archive.books_of(tenant)?;
    books.sort_by_key(|stored| (stored.from, stored.fact));
    for stored in books {
        let bytes = Evidence::document(&archive, stored.digest)?;
        let book = Book::parse(&bytes).map_err(|error| ApiError::bug(&error))?;
        let shown = prices(state, tenant, &book, stored.from, stored.fact);
        if stored.from <= now {
            current = Some(Prices { text: Some(String::from_utf8_lossy(&bytes).into_owned()), ..shown.clone() });
        }
        // Of two for one instant, the later set holds.
        history.retain(|planned| planned.from_ns != stored.from.0);
        history.push(shown);
    }
    Ok(PricesHistory { current, history })
}

/// What a period comes to, as closing it now would make final
///
/// Nothing is stored. A period that is not over yet is charged up to now.
#[utoipa::path(get, path = "/tenants/{id}/invoice", tag = "invoices", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`"), PreviewParams), responses(
    (status = 200, description = "The document that a close would make", body = Invoice),
    (status = "4XX", description = "The request is wrong, or a policy did not rate the period", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn preview_invoice(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Params(params): Params<PreviewParams>,
) -> Result<Json<Invoice>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    caller.check_fuel(&state)?;
    let work = move || {
        let asked = Asked { from: params.from, to: params.to, policy: params.policy, prices: params.prices };
        let (archive, mut order) = order(&state, &caller, &tenant, &asked)?;
        order.until = order.until.min(state.fleet.now());
        Ok(Json(make(&state, &archive, &order, Heading::PREVIEW)?))
    };
    blocking(work).await
}

/// Make a period final
///
/// The same as its preview, and never changed again; see the corrections. Periods of one tenant don't overlap. A period that is closed again answers
/// the invoice that there is.
#[utoipa::path(post, path = "/tenants/{id}/invoice/close", tag = "invoices", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`")), request_body = CloseInvoice, responses(
    (status = 200, description = "It was final before", body = Invoice),
    (status = 201, description = "It is final", body = Invoice),
    (status = "4XX", description = "The request is wrong, or a policy did not rate the period", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn close_invoice(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(request): Body<CloseInvoice>,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let _one = state.invoicing.lock().await;
    let (working, asking, whose) = (state.clone(), caller.clone(), tenant.clone());
    let work = move || {
        let asked = Asked { from: request.from, to: Some(request.to), policy: request.policy, prices: None };
        let (archive, order) = order(&working, &asking, &whose, &asked)?;
        if order.until > working.fleet.now() {
            return Err(ApiError::invalid("to: the period is not over yet; a preview shows what it comes to so far"));
        }
        let documents = archive.invoices_of(&whose)?;
        if let Some(stored) = closed(&documents, &order)? {
            return Ok(Closing::Before(Evidence::document(&archive, stored.digest)?));
        }
        let heading = heading(&documents, Kind::Invoice, None, None);
        let invoice = make(&working, &archive, &order, heading)?;
        Ok(Closing::Now(order, Box::new(invoice)))
    };
    match blocking(work).await? {
        Closing::Before(bytes) => Ok(json(StatusCode::OK, bytes)),
        Closing::Now(order, invoice) => keep(&state, &caller, &order, &invoice).await,
    }
}

/// What a close comes to.
enum Closing {
    /// The period was closed before, with this document.
    Before(Vec<u8>),
    /// This is to be made final.
    Now(Order, Box<Invoice>),
}

/// Take back what a closed period was charged wrongly, and charge what is right
///
/// The period is rated again, with what is known now, or under another policy or price book; the answer says only what changes. The invoice itself
/// stays as it is.
#[utoipa::path(post, path = "/tenants/{id}/invoices/{number}/corrections", tag = "invoices", security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "The tenant's id, or `self`"),
        ("number" = u64, Path, description = "The invoice's number"),
    ), request_body = CorrectInvoice, responses(
    (status = 201, description = "It is final, too", body = Invoice),
    (status = "4XX", description = "The request is wrong, or nothing changes", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn correct_invoice(
    Extract(state): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, u64)>,
    Body(request): Body<CorrectInvoice>,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    if !(1..=1_024).contains(&request.reason.len()) {
        return Err(ApiError::invalid("reason: 1 to 1,024 bytes, for the person who pays"));
    }
    let _one = state.invoicing.lock().await;
    let (working, asking, whose) = (state.clone(), caller.clone(), tenant.clone());
    let work = move || {
        let archive = working.journal.archive();
        let documents = archive.invoices_of(&whose)?;
        let corrected = find(&documents, number)?;
        if let Some(other) = corrected.corrects {
            return Err(ApiError::conflict(
                "is_correction",
                format!("document {number} corrects {other}: correct that one"),
            ));
        }
        let order = Order {
            tenant: whose.clone(),
            from: corrected.from,
            until: corrected.until,
            as_of: archive.head()?,
            policy: request.policy.as_deref().map(|key| policy(&working, &asking, key)).transpose()?,
            book: request.prices.as_deref().map(|key| book(&archive, &whose, key)).transpose()?,
        };
        let heading = heading(&documents, Kind::Correction, Some(number), Some(request.reason));
        let invoice = make(&working, &archive, &order, heading)?;
        if invoice.lines.is_empty() {
            let message = format!("invoice {number} would come to the same again; nothing was recorded");
            return Err(ApiError::conflict("nothing_to_correct", message));
        }
        Ok((order, invoice))
    };
    let (order, invoice) = blocking(work).await?;
    keep(&state, &caller, &order, &invoice).await
}

/// A tenant's invoices and corrections
#[utoipa::path(get, path = "/tenants/{id}/invoices", tag = "invoices", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`")), responses(
    (status = 200, description = "All documents, by number", body = Invoices),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn list_invoices(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Invoices>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let work = move || {
        let archive = state.journal.archive();
        let summaries = archive.invoices_of(&tenant)?.into_iter().map(|stored| summary(&archive, &stored));
        Ok(Json(Invoices { invoices: summaries.collect::<Result<_, _>>()? }))
    };
    blocking(work).await
}

fn summary(archive: &Archive, stored: &StoredInvoice) -> Result<InvoiceSummary, ApiError> {
    let bytes = Evidence::document(archive, stored.digest)?;
    let invoice = Invoice::from_bytes(&bytes).map_err(|error| ApiError::bug(&error))?;
    Ok(InvoiceSummary {
        number: stored.number,
        kind: invoice.kind,
        corrects: invoice.corrects,
        reason: invoice.reason,
        from: invoice.from,
        until: invoice.until,
        currency: invoice.currency,
        total: invoice.total,
        payable: invoice.payable,
        digest: stored.digest.to_string(),
        fact: stored.fact,
    })
}

/// One invoice or correction
///
/// The bytes are those whose SHA-256 the journal has.
#[utoipa::path(get, path = "/tenants/{id}/invoices/{number}", tag = "invoices", security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "The tenant's id, or `self`"),
        ("number" = u64, Path, description = "The document's number"),
    ), responses(
    (status = 200, description = "The document", body = Invoice),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn get_invoice(
    Extract(state): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, u64)>,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let work = move || {
        let archive = state.journal.archive();
        let documents = archive.invoices_of(&tenant)?;
        Ok(Evidence::document(&archive, find(&documents, number)?.digest)?)
    };
    Ok(json(StatusCode::OK, blocking(work).await?))
}

/// An invoice with all its evidence
///
/// Facts, components, price books and documents, as far as they are the tenant's: `tallyman verify --bundle FILE` proves the invoice on another
/// machine.
#[utoipa::path(get, path = "/tenants/{id}/invoices/{number}/bundle", tag = "invoices", security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "The tenant's id, or `self`"),
        ("number" = u64, Path, description = "The document's number"),
    ), responses(
    (status = 200, description = "The bundle", body = Bundle),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn get_bundle(
    Extract(state): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, u64)>,
) -> Result<Json<Bundle>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    blocking(move || Ok(Json(bundle(&state.journal.archive(), &tenant, number)?))).await
}

fn json(status: StatusCode, bytes: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], Bytes::from(bytes)).into_response()
}

/// What a client asks to be charged.
struct Asked {
    from: Option<String>,
    to: Option<String>,
    policy: Option<String>,
    prices: Option<String>,
}

fn order(state: &State, caller: &Caller, tenant: &TenantId, asked: &Asked) -> Result<(Archive, Order), ApiError> {
    let archive = state.journal.archive();
    let last =
        archive.invoices_of(tenant)?.into_iter().filter(|stored| stored.corrects.is_none()).map(|stored| stored.until);
    let from = match (&asked.from, last.max()) {
        (Some(text), _) => instant(state, "from", text)?,
        (None, Some(until)) => until,
        (None, None) => first_instant(&archive, tenant, state.fleet.now())?,
    };
    let until = asked.to.as_deref().map_or(Ok(state.fleet.now()), |text| instant(state, "to", text))?;
    let order = Order {
        tenant: tenant.clone(),
        from,
        until,
        as_of: archive.head()?,
        policy: asked.policy.as_deref().map(|key| policy(state, caller, key)).transpose()?,
        book: asked.prices.as_deref().map(|key| book(&archive, tenant, key)).transpose()?,
    };
    Ok((archive, order))
}

/// When the tenant's first instance began.
fn first_instant(archive: &Archive, tenant: &TenantId, now: Instant) -> Result<Instant, ApiError> {
    let first = archive.instances_of(tenant)?.into_iter().next();
    let history = first.map(|stored| archive.history(&stored.id)).transpose()?.unwrap_or_default();
    Ok(history.first().map_or(Instant(now.0.saturating_sub(1)), |(_, fact)| fact.at.meter))
}

/// The meter instant of an instant or a date of the calendar.
fn instant(state: &State, field: &str, text: &str) -> Result<Instant, ApiError> {
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_nanos_opt();
    let of_date = text.parse::<NaiveDate>().ok().and_then(midnight);
    let utc_ns = of_date.or_else(|| text.parse::<Timestamp>().ok().map(|at| at.0));
    let unknown = || {
        let text: String = text.chars().take(80).collect();
        ApiError::invalid(format!("{field}: '{text}' is no instant; write it like 2026-01-31T12:00:00Z or 2026-01-31"))
    };
    Ok(state.fleet.meter(utc_ns.ok_or_else(unknown)?))
}

fn policy(state: &State, caller: &Caller, key: &str) -> Result<Digest, ApiError> {
    Ok(state.find_policy(caller, key)?.digest)
}

/// The price book with this digest, or the only one whose digest begins so, among those that the tenant has or had.
fn book(archive: &Archive, tenant: &TenantId, key: &str) -> Result<Digest, ApiError> {
    let books = archive.books_of(tenant)?;
    let mut found: Vec<_> = books.iter().map(|stored| stored.digest).collect();
    found.retain(|digest| !key.is_empty() && digest.to_string().starts_with(key));
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(ApiError::not_found("no_such_prices", format!("the tenant never had a price book '{key}'"))),
        several => {
            let message = format!("'{key}' is the beginning of {} digests; give more digits", several.len());
            Err(ApiError::conflict("ambiguous", message))
        }
    }
}

fn find(documents: &[StoredInvoice], number: u64) -> Result<StoredInvoice, ApiError> {
    let found = documents.iter().find(|stored| stored.number == number).cloned();
    found.ok_or_else(|| {
        let last = documents.len();
        ApiError::not_found("no_such_invoice", format!("there is no document {number}; the tenant has 1 to {last}"))
    })
}

/// The invoice for exactly this period, if there is one; a period that meets another one otherwise is refused.
fn closed<'a>(documents: &'a [StoredInvoice], order: &Order) -> Result<Option<&'a StoredInvoice>, ApiError> {
    let meets = |stored: &&StoredInvoice| stored.from < order.until && order.from < stored.until;
    match documents.iter().filter(|stored| stored.corrects.is_none()).find(meets) {
        None => Ok(None),
        Some(stored) if (stored.from, stored.until) == (order.from, order.until) => Ok(Some(stored)),
        Some(stored) => {
            let message = format!("invoice {} is final for a part of this period; correct it instead", stored.number);
            Err(ApiError::conflict("period_closed", message))
        }
    }
}

fn heading(documents: &[StoredInvoice], kind: Kind, corrects: Option<u64>, reason: Option<String>) -> Heading {
    let last = documents.last();
    Heading {
        number: Some(last.map_or(1, |stored| stored.number + 1)),
        kind,
        corrects,
        reason,
        previous: last.map(|stored| stored.digest.to_string()),
    }
}

/// The one way to a document, whatever becomes of it.
fn make(state: &State, archive: &Archive, order: &Order, heading: Heading) -> Result<Invoice, ApiError> {
    make_ready(state, archive, order)?;
    let named = |id: &InstanceId| named(state, &order.tenant, id);
    let made = Rater::new(archive, state.library.host(), &named).invoice(order, heading);
    // What is named for once is not what the tenant is under: it says nothing about that.
    let is_in_force = order.policy.is_none() && order.book.is_none();
    match &made {
        Ok(invoice) => {
            state.accounting.charge(&order.tenant, invoice.fuel());
            if is_in_force {
                let asked = invoice.receipts.iter().filter_map(|receipt| receipt.policy.parse().ok());
                asked.for_each(|policy| state.accounting.rated(&order.tenant, policy));
            }
        }
        Err(InvoiceError::Fault { policy, fault }) if is_in_force => {
            state.accounting.failed_to_rate(&order.tenant, *policy, fault);
        }
        Err(_) => {}
    }
    Ok(made?)
}

/// What a candidate would have charged for a time, beside what the policies in force come to.
pub(super) fn compare(
    state: &State,
    tenant: &TenantId,
    candidate: Digest,
    since: Instant,
    until: Instant,
) -> Result<(Currency, Comparison), InvoiceError> {
    let archive = state.journal.archive();
    let as_of = archive.head().map_err(EvidenceError::from)?;
    let order = Order { tenant: tenant.clone(), from: since, until, as_of, policy: None, book: None };
    let named = |id: &InstanceId| named(state, tenant, id);
    let rater = Rater::new(&archive, state.library.host(), &named);
    let active = rater.rate(&order)?;
    let candidate = rater.rate(&Order { policy: Some(candidate), ..order })?;
    Ok((active.currency, Comparison::of(&active, &candidate)?))
}

/// Loads the policies that an order may need, each under the bounds that it was admitted under. One that can't be loaded matters only if it is needed,
/// and is told of then.
fn make_ready(state: &State, archive: &Archive, order: &Order) -> Result<(), ApiError> {
    let in_force = archive.activations_of(&order.tenant)?.into_iter().map(|activation| activation.digest);
    for digest in in_force.chain(order.policy) {
        let _ = state.library.make_ready(&state.journal, digest);
    }
    Ok(())
}

fn named(state: &State, tenant: &TenantId, id: &InstanceId) -> Result<Named, EvidenceError> {
    let missing = |_| EvidenceError::Missing(format!("the record of instance {id}"));
    let view = state.fleet.find_closed(tenant, id).map_err(missing)?;
    let tags = view.record.spec.tags.clone().into_iter().collect();
    Ok(Named { id: id.to_string(), name: view.record.name.to_string(), tags })
}

async fn keep(state: &State, caller: &Caller, order: &Order, invoice: &Invoice) -> Result<Response, ApiError> {
    let bytes = invoice.to_bytes();
    let new = NewInvoice {
        tenant: order.tenant.clone(),
        number: invoice.number.unwrap_or_default(),
        digest: Digest::of(&bytes),
        bytes: bytes.clone(),
        from: order.from,
        until: order.until,
        corrects: invoice.corrects,
        by: caller.actor(),
    };
    state.journal.commit(Entry { invoice: Some(new), ..Entry::default() }).await?;
    Ok(json(StatusCode::CREATED, bytes))
}

impl From<EvidenceError> for ApiError {
    fn from(error: EvidenceError) -> Self {
        match error {
            EvidenceError::Journal(error) => error.into(),
            EvidenceError::Missing(_) => Self::not_found("no_such_evidence", error.to_string()),
            EvidenceError::Altered(_) => Self::bug(&error),
        }
    }
}

impl From<InvoiceError> for ApiError {
    fn from(error: InvoiceError) -> Self {
        let message = error.to_string();
        match error {
            InvoiceError::Evidence(error) => error.into(),
            InvoiceError::Fault { .. } => Self::conflict("unrated", message)
                .hint("nothing was charged; `policy` names another one for this period, which is charged then, once"),
            InvoiceError::Held { .. } => Self::conflict("held", message).hint(
                "PUT /tenants/{id}/fallback with `last-good` or `standard` has another policy stand in for it; PUT \
                 /tenants/{id}/policy with `again` trusts it again; `policy` names one for this period alone",
            ),
            InvoiceError::Currencies(..) => Self::conflict("two_currencies", message),
            InvoiceError::Period(_) => Self::invalid(message),
            InvoiceError::Overflow => Self::conflict("too_large_a_sum", message),
            InvoiceError::Policy { source, .. } => (*source).into(),
            InvoiceError::Book { .. } => Self::bug(&error),
        }
    }
}
