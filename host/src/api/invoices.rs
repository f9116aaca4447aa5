//! `/tenants/{id}/invoice`, `/invoices`: the charges of a tenant's periods, previewed, made final,
//! corrected, and exported with their evidence.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::auth::Caller;
use super::body::{Body, Params};
use super::error::ApiError;
use super::idempotency::IdempotencyKey;
use super::model::{
    CloseInvoice, CorrectInvoice, DaysOfDocuments, DocumentDays, Documents, InvoiceSummary,
    Invoices, Overridden, OverrideRules, PreviewParams, PreviewRequest, SettleInvoices,
};
use super::present::{policy_name, timestamp};
use super::shared::Failures;
use super::{Shared, State, blocking, fleet, rules};
use crate::driver::Unsettled;
use crate::heads::{self, SignError};
use crate::id::TenantId;
use crate::invoice::{
    Act, Bundle, Evidence, EvidenceError, Goal, Heading, Invoice, InvoiceError, IssueError,
    Overriding, bundle, close_of,
};
use crate::journal::{Archive, StoredInvoice};
use crate::limits::bill::{GRACE_NS, UNSETTLED_NS};
use crate::policy::Occasion;
use crate::policy::biller::BillerError;
use crate::units::Instant;

/// Preview the documents that a close would make
///
/// Nothing is stored. The documents are those that a close up to `to` would make: one for each
/// period without one, and one for each period that would be billed differently now.
#[utoipa::path(get, path = "/tenants/{id}/invoice", tag = "invoices", security(("bearer" = [])),
    params(PreviewParams), responses(
    (status = 200, description = "The documents that a close would make", body = Documents),
    Failures,
))]
pub(super) async fn preview_invoice(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Params(params): Params<PreviewParams>,
) -> Result<Json<Documents>, ApiError> {
    let asked = PreviewRequest { to: params.to, ..PreviewRequest::default() };
    preview(state, caller, &id, asked).await
}

/// Preview the charges under other rules
///
/// Nothing is stored. The price book may be one that was never in force, and the policy one that is
/// only on trial.
#[utoipa::path(post, path = "/tenants/{id}/invoice/preview",
    tag = "invoices", security(("bearer" = [])),
    request_body = PreviewRequest, responses(
    (status = 200, description = "The documents that a close would make", body = Documents),
    Failures,
))]
pub(super) async fn preview_rules(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(asked): Body<PreviewRequest>,
) -> Result<Json<Documents>, ApiError> {
    preview(state, caller, &id, asked).await
}

/// Preview the documents that a close would make, with the charges of each day
///
/// As the preview, under other rules if any are named. Charges are those of the local days of the
/// tenant's zone.
#[utoipa::path(post, path = "/tenants/{id}/invoice/preview/days",
    tag = "invoices", security(("bearer" = [])),
    request_body = PreviewRequest, responses(
    (status = 200, description = "The documents with their days", body = DaysOfDocuments),
    Failures,
))]
pub(super) async fn preview_days(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(asked): Body<PreviewRequest>,
) -> Result<Json<DaysOfDocuments>, ApiError> {
    let (tenant, to, overriding) = previewed(&state, &caller, &id, &asked).await?;
    let work = move || {
        let directory = state.rollout.directory(&tenant);
        let made = state.issuer.preview_days(&tenant, &directory, to, overriding)?;
        for (document, _) in &made {
            state.accounting.charge(&tenant, document.fuel());
        }
        let documents = made.into_iter().map(|(document, days)| DocumentDays { document, days });
        Ok(Json(DaysOfDocuments { documents: documents.collect() }))
    };
    blocking(work).await
}

/// The tenant, the end and the rules of a preview.
async fn previewed(
    state: &Arc<State>,
    caller: &Caller,
    id: &str,
    asked: &PreviewRequest,
) -> Result<(TenantId, Instant, Option<Overriding>), ApiError> {
    let tenant = caller.tenant_at(state, id)?.id().clone();
    caller.check_fuel(state)?;
    fleet::note(state).await?;
    let to = match asked.to.as_deref() {
        None | Some("now") => state.fleet.now(),
        Some(to) => rules::until(state, &tenant, "to", to).await?.min(state.fleet.now()),
    };
    let overriding = rules::preview(state, caller, &tenant, asked, to).await?;
    Ok((tenant, to, overriding))
}

async fn preview(
    state: Arc<State>,
    caller: Caller,
    id: &str,
    asked: PreviewRequest,
) -> Result<Json<Documents>, ApiError> {
    let (tenant, to, overriding) = previewed(&state, &caller, id, &asked).await?;
    let work = move || {
        let directory = state.rollout.directory(&tenant);
        let made = state.issuer.preview(&tenant, &directory, to, overriding);
        let documents = noted(&state, &tenant, Occasion::Preview, made)?;
        Ok(Json(Documents { documents }))
    };
    blocking(work).await
}

/// Close periods
///
/// Makes the documents of every period up to `to`, in order; corrections of earlier periods that
/// would be billed differently now come first. If nothing is missing, the answer is the last
/// document of the period.
#[utoipa::path(post, path = "/tenants/{id}/invoice/close",
    tag = "invoices", security(("bearer" = [])),
    params(IdempotencyKey), request_body = CloseInvoice, responses(
    (status = 200, description = "Everything was closed before", body = Documents),
    (status = 201, description = "These documents were made", body = Documents),
    Failures,
))]
pub(super) async fn close_invoice(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(asked): Body<CloseInvoice>,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let act = key.act(&caller, &tenant, "close", &asked)?;
    if asked.to == "now" && asked.at_once {
        state.fleet.read_traffic(&tenant).await;
    }
    let to = close_instant(&state, &tenant, &asked).await?;
    let documents = match state.issuer.done(&act).await? {
        Some(documents) => documents,
        None => {
            fleet::note(&state).await?;
            let unsettled = unsettled(&state, &tenant, to, asked.at_once).await?;
            let heading = Heading { unsettled, ..Heading::default() };
            reach(&state, &act, &tenant, Goal::Close(to), &heading).await?
        }
    };
    if !documents.is_empty() {
        return Ok((StatusCode::CREATED, Json(Documents { documents })).into_response());
    }
    let documents = blocking(move || last_document(&state.journal.archive(), &tenant, to)).await?;
    Ok(Json(Documents { documents }).into_response())
}

/// Bring closed periods up to date
///
/// Each period that has documents and would be billed differently now gets one more, which states
/// the difference. Afterwards no document is stale.
#[utoipa::path(post, path = "/tenants/{id}/invoice/settle",
    tag = "invoices", security(("bearer" = [])),
    params(IdempotencyKey), request_body = SettleInvoices, responses(
    (status = 200, description = "Nothing differs", body = Documents),
    (status = 201, description = "These documents were made", body = Documents),
    Failures,
))]
pub(super) async fn settle_invoices(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(asked): Body<SettleInvoices>,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    check_reason(&asked.reason)?;
    let act = key.act(&caller, &tenant, "settle", &asked)?;
    settled(&state, &act, &tenant, asked.reason).await
}

/// Override the policy or the price book for a span
///
/// The override replaces those in force for the span, until another override replaces it. Documents
/// change with the next close or settlement.
#[utoipa::path(post, path = "/tenants/{id}/invoice/overrides",
    tag = "invoices", security(("bearer" = [])),
    params(IdempotencyKey), request_body = OverrideRules, responses(
    (status = 201, description = "The override is recorded", body = Overridden),
    Failures,
))]
pub(super) async fn override_rules(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(asked): Body<OverrideRules>,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    check_reason(&asked.reason)?;
    let act = key.act(&caller, &tenant, "override", &asked)?;
    let from = rules::instant(&state, "from", &asked.from)?;
    let until = rules::instant(&state, "until", &asked.until)?;
    if from >= until {
        return Err(ApiError::invalid("until: must be after `from`"));
    }
    let overriding = Overriding {
        from,
        until,
        policy: asked
            .policy
            .as_deref()
            .map(|key| rules::policy(&state, &caller, &tenant, key))
            .transpose()?,
        book: rules::book(&state, &tenant, asked.prices.as_deref())?,
        from_begin: asked.from_begin,
        reason: asked.reason,
    };
    let reading = state.fleet.reading();
    let done = state.issuer.override_rules(&tenant, overriding, reading, act).await?;
    let reading = state.clone();
    let whose = tenant.clone();
    let naming = blocking(move || Ok(reading.issuer.naming(&whose)?)).await?;
    let overridden = Overridden {
        policy_name: done.policy.and_then(|policy| policy_name(&state, &tenant, policy)),
        prices_name: done.book.and_then(|book| naming.book(book)).map(str::to_owned),
        tenant: tenant.to_string(),
        from: timestamp(&state, done.from),
        until: timestamp(&state, done.until),
        policy: done.policy.map(|digest| digest.to_string()),
        prices: done.book.map(|digest| digest.to_string()),
        fact: done.fact,
    };
    Ok((StatusCode::CREATED, Json(overridden)).into_response())
}

/// Correct a closed period
///
/// Overrides the rules for the whole period of the document and settles: one document is made for
/// each period that differs.
#[utoipa::path(post, path = "/tenants/{id}/invoices/{number}/corrections", tag = "invoices",
    security(("bearer" = [])), params(IdempotencyKey), request_body = CorrectInvoice, responses(
    (status = 200, description = "Nothing differs", body = Documents),
    (status = 201, description = "These documents were made", body = Documents),
    Failures,
))]
pub(super) async fn correct_invoice(
    Extract(state): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, u64)>,
    key: IdempotencyKey,
    Body(asked): Body<CorrectInvoice>,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    check_reason(&asked.reason)?;
    let act = key.act(&caller, &tenant, "correct", &(number, &asked))?;
    if asked.policy.is_some() || asked.prices.is_some() {
        let reading = state.clone();
        let whose = tenant.clone();
        let period =
            blocking(move || read(&reading.journal.archive(), &whose, number)).await?.period;
        let overriding = Overriding {
            from: Instant(period.from_ns),
            until: Instant(period.until_ns),
            policy: asked
                .policy
                .as_deref()
                .map(|key| rules::policy(&state, &caller, &tenant, key))
                .transpose()?,
            book: rules::book(&state, &tenant, asked.prices.as_deref())?,
            from_begin: asked.from_begin,
            reason: asked.reason.clone(),
        };
        let reading = state.fleet.reading();
        let part = act.part("override");
        state.issuer.override_rules(&tenant, overriding, reading, part).await?;
    }
    settled(&state, &act, &tenant, asked.reason).await
}

/// List a tenant's documents
#[utoipa::path(get, path = "/tenants/{id}/invoices",
    tag = "invoices", security(("bearer" = [])), responses(
    (status = 200, description = "All documents, by number", body = Invoices),
    Failures,
))]
pub(super) async fn list_invoices(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Invoices>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let work = move || {
        let archive = state.journal.archive();
        let directory = state.rollout.directory(&tenant);
        let stale =
            state.issuer.compute(&tenant, &directory, |computer, view| computer.stale(&view))??;
        state.rollout.note_stale(&tenant, stale.len() as u64);
        let stored = archive.invoices_of(&tenant)?;
        let summaries = stored.iter().map(|stored| summary(&archive, stored, &stale));
        Ok(Json(Invoices { invoices: summaries.collect::<Result<_, _>>()? }))
    };
    blocking(work).await
}

/// Show one document
///
/// The answer is byte for byte the document whose SHA-256 the journal holds.
#[utoipa::path(get, path = "/tenants/{id}/invoices/{number}",
    tag = "invoices", security(("bearer" = [])),
    responses(
    (status = 200, description = "The document", body = Invoice),
    Failures,
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
    let bytes = blocking(work).await?;
    Ok((StatusCode::OK, [(CONTENT_TYPE, "application/json")], Bytes::from(bytes)).into_response())
}

/// Show the charges of a document by day
///
/// Each day is a local one of the document's zone. For each rule the days add up to its sum;
/// adjustments belong to no day. Computed anew as of the document's place in the journal.
#[utoipa::path(get, path = "/tenants/{id}/invoices/{number}/days",
    tag = "invoices", security(("bearer" = [])), responses(
    (status = 200, description = "The document with its days", body = DocumentDays),
    Failures,
))]
pub(super) async fn get_days(
    Extract(state): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, u64)>,
) -> Result<Json<DocumentDays>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    caller.check_fuel(&state)?;
    let work = move || {
        let document = read(&state.journal.archive(), &tenant, number)?;
        let directory = state.rollout.directory(&tenant);
        let days = state.issuer.days(&tenant, &directory, &document)?;
        state.accounting.charge(&tenant, document.fuel());
        Ok(Json(DocumentDays { document, days }))
    };
    blocking(work).await
}

/// Export a document with its evidence
///
/// The facts of its period, and the components, price books and documents that it follows from.
/// `tallyman verify --bundle FILE` proves the document from it on another machine. `under` proves
/// that these are all facts of the tenant that lie under a head which the host has signed, from
/// `since` on: the end of the period before, whose document names the state there by its SHA-256.
/// The bundle of a first period begins with the tenant's first fact.
#[utoipa::path(get, path = "/tenants/{id}/invoices/{number}/bundle", tag = "invoices",
    security(("bearer" = [])), responses(
    (status = 200, description = "The bundle", body = Bundle),
    Failures,
))]
pub(super) async fn get_bundle(
    Extract(state): Shared,
    caller: Caller,
    Path((id, number)): Path<(String, u64)>,
) -> Result<Json<Bundle>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let work = move || {
        let archive = state.journal.archive();
        let close = close_of(&archive, &tenant, number)?;
        let under = heads::under(&state.heads, &state.journal, close)?;
        // Without what was noted under earlier heads, it is made again from the facts.
        let noted = |close: u64| state.heads.under(close).ok().flatten();
        Ok(Json(bundle(&archive, &tenant, number, under, &noted)?))
    };
    blocking(work).await
}

/// Makes the documents up to the end of a tenant, whose instances are gone.
pub(super) async fn last_bill(
    state: &Arc<State>,
    act: &Act,
    tenant: &TenantId,
    end: Instant,
) -> Result<Vec<Invoice>, ApiError> {
    if state.billed_at.is_some() {
        return Ok(Vec::new());
    }
    fleet::note(state).await?;
    reach(state, act, tenant, Goal::Close(end), &Heading::default()).await
}

async fn settled(
    state: &Arc<State>,
    act: &Act,
    tenant: &TenantId,
    reason: String,
) -> Result<Response, ApiError> {
    fleet::note(state).await?;
    let heading = Heading { reason: Some(reason), ..Heading::default() };
    let documents = reach(state, act, tenant, Goal::Settle, &heading).await?;
    let status = if documents.is_empty() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(Documents { documents })).into_response())
}

async fn reach(
    state: &Arc<State>,
    act: &Act,
    tenant: &TenantId,
    goal: Goal,
    heading: &Heading,
) -> Result<Vec<Invoice>, ApiError> {
    if let Some(url) = &state.billed_at {
        let message = format!("the tenants of this host are billed by the collector at {url}");
        return Err(ApiError::conflict("billed_by_collector", message)
            .hint("close there: a document of this host would charge its time twice"));
    }
    let directory = state.rollout.directory(tenant);
    let issued = Some(timestamp(state, state.fleet.now()).to_string());
    let heading = Heading { issued, ..heading.clone() };
    let made = state.issuer.reach(tenant, goal, &heading, act, &directory).await;
    match made {
        Err(IssueError::Invoice(error)) => noted(state, tenant, Occasion::Bill, Err(error)),
        made => noted(state, tenant, Occasion::Bill, Ok(made?)),
    }
}

/// Charges the fuel of the documents to the tenant, and a fault to the policy.
fn noted(
    state: &State,
    tenant: &TenantId,
    occasion: Occasion,
    made: Result<Vec<Invoice>, InvoiceError>,
) -> Result<Vec<Invoice>, ApiError> {
    match &made {
        Ok(documents) => {
            for document in documents {
                state.accounting.charge(tenant, document.fuel());
                let measured = document.receipts.iter().filter(|receipt| receipt.call == "measure");
                let policies = measured.filter_map(|receipt| receipt.component.parse().ok());
                policies.for_each(|policy| state.accounting.measured(tenant, policy));
            }
        }
        Err(InvoiceError::Fault { component, fault }) => {
            state.accounting.failed_to_measure(tenant, *component, occasion, fault);
        }
        Err(_) => {}
    }
    Ok(made?)
}

/// The instant up to which a close bills: not after now, and unless `at_once`, not before the grace
/// time has passed.
async fn close_instant(
    state: &Arc<State>,
    tenant: &TenantId,
    asked: &CloseInvoice,
) -> Result<Instant, ApiError> {
    let now = state.fleet.now();
    let settled = Instant(now.0.saturating_sub(GRACE_NS));
    if asked.to == "now" {
        return Ok(if asked.at_once { now } else { settled });
    }
    let to = rules::until(state, tenant, "to", &asked.to).await?;
    if to > now {
        return Err(ApiError::invalid(
            "to: the period is not over yet; give an instant up to now, or ask for a preview",
        ));
    }
    if to > settled && !asked.at_once {
        let from = timestamp(state, Instant(to.0.saturating_add(GRACE_NS)));
        let message = format!("the facts up to {} may not be known yet", timestamp(state, to));
        return Err(ApiError::conflict("unsettled", message)
            .hint(format!("close from {from} on, or close with `at_once` and correct it later")));
    }
    Ok(to)
}

/// The instances that hold a close back. With `at_once` they are named on the document. After a
/// quarter of an hour an operation is named, too; a machine that the daemon has not looked at since
/// its start is waited for.
async fn unsettled(
    state: &Arc<State>,
    tenant: &TenantId,
    to: Instant,
    at_once: bool,
) -> Result<Vec<String>, ApiError> {
    let unheard = fleet::unheard(state, to).await?;
    if !unheard.is_empty() && !at_once {
        let message = format!("not heard up to the end of the period: {}", unheard.join("; "));
        return Err(ApiError::conflict("unsettled", message).hint(
            "`tallyman fleet hosts` says how far each one is; close when they are heard, or with \
             `at_once`: their time after the last news is unknown then, and what they bring later \
             is a correction. Revoking each token of a host that is gone for good ends the waiting",
        ));
    }
    let Unsettled { begun, unseen } = state.fleet.unsettled(tenant, to);
    let waited = state.fleet.now().0.saturating_sub(to.0) >= UNSETTLED_NS;
    let is_held = !unseen.is_empty() || !begun.is_empty() && !waited;
    if is_held && !at_once {
        let (message, hint) = match unseen.is_empty() {
            true => (
                format!("operations begun before then are under way: {}", begun.join(", ")),
                "try again when they have ended, or close with `at_once`: their outcome is a \
                 correction then",
            ),
            false => (
                format!("not looked at since the daemon's start: {}", unseen.join(", ")),
                "try again in some seconds, or close with `at_once`: what became of them is a \
                 correction then",
            ),
        };
        return Err(ApiError::conflict("unsettled", message).hint(hint));
    }
    Ok([begun, unseen, unheard].concat())
}

fn last_document(
    archive: &Archive,
    tenant: &TenantId,
    to: Instant,
) -> Result<Vec<Invoice>, ApiError> {
    let documents = archive.invoices_of(tenant)?;
    let last = documents.iter().rev().find(|stored| stored.from < to);
    last.map(|stored| read(archive, tenant, stored.number)).into_iter().collect()
}

pub(super) fn read(archive: &Archive, tenant: &TenantId, number: u64) -> Result<Invoice, ApiError> {
    let documents = archive.invoices_of(tenant)?;
    let bytes = Evidence::document(archive, find(&documents, number)?.digest)?;
    Invoice::from_bytes(&bytes).map_err(|_| {
        let message = format!("document {number} is of the earlier form, which can't be corrected");
        ApiError::conflict("earlier_form", message)
            .hint("its amounts are opening amounts; see docs/bill.md")
    })
}

fn summary(
    archive: &Archive,
    stored: &StoredInvoice,
    stale: &[u64],
) -> Result<InvoiceSummary, ApiError> {
    let bytes = Evidence::document(archive, stored.digest)?;
    let Ok(document) = Invoice::from_bytes(&bytes) else { return earlier(stored, &bytes) };
    Ok(InvoiceSummary {
        number: stored.number,
        reference: document.reference,
        issued: document.issued,
        kind: Some(document.kind),
        follows: document.follows,
        reason: document.reason,
        from: document.period.from,
        until: document.billed.until,
        currency: document.currency,
        total: document.total,
        payable: document.payable,
        stale: stale.contains(&stored.number),
        digest: stored.digest.to_string(),
        fact: stored.fact,
    })
}

/// The summary of a document of the earlier form.
fn earlier(stored: &StoredInvoice, bytes: &[u8]) -> Result<InvoiceSummary, ApiError> {
    let document: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| ApiError::bug(&error))?;
    let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    Ok(InvoiceSummary {
        number: stored.number,
        reference: None,
        issued: None,
        kind: None,
        follows: stored.corrects,
        reason: document["reason"].as_str().map(str::to_owned),
        from: text("from"),
        until: text("until"),
        currency: Some(text("currency")),
        total: text("total"),
        payable: text("payable"),
        stale: false,
        digest: stored.digest.to_string(),
        fact: stored.fact,
    })
}

pub(super) fn check_reason(reason: &str) -> Result<(), ApiError> {
    match (1..=1_024).contains(&reason.len()) {
        true => Ok(()),
        false => Err(ApiError::invalid(format!(
            "reason: must have 1 to 1,024 bytes, has {}; say it for the payer",
            reason.len()
        ))),
    }
}

fn find(documents: &[StoredInvoice], number: u64) -> Result<StoredInvoice, ApiError> {
    let found = documents.iter().find(|stored| stored.number == number).cloned();
    found.ok_or_else(|| {
        let last = documents.len();
        ApiError::not_found(
            "no_such_invoice",
            match last {
                0 => format!("there is no document {number}; the tenant has none yet"),
                last => format!("there is no document {number}; the tenant has 1 to {last}"),
            },
        )
    })
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

impl From<SignError> for ApiError {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Read(error) => error.into(),
            SignError::Heads(_) => Self::bug(&error),
        }
    }
}

impl From<InvoiceError> for ApiError {
    fn from(error: InvoiceError) -> Self {
        let message = error.to_string();
        match error {
            InvoiceError::Evidence(error) => error.into(),
            InvoiceError::Fault { .. } | InvoiceError::Terms { .. } | InvoiceError::Meters => {
                Self::conflict("unrated", message)
                    .hint("nothing was charged; an override can name another policy for the period")
            }
            InvoiceError::Held { .. } => Self::conflict("held", message).hint(
                "a fallback of `last-good` or `standard` has another policy account its time; \
                 activating it with `again` lifts the quarantine; an override names another \
                 policy for this period alone",
            ),
            InvoiceError::Undivided => Self::conflict("other_biller", message)
                .hint("`--group-by rule` and `--group-by instance` need no biller"),
            InvoiceError::Currencies { .. } => Self::conflict("two_currencies", message),
            InvoiceError::Empty | InvoiceError::Agreement(_) => Self::invalid(message),
            InvoiceError::Overflow => Self::conflict("too_large_a_sum", message),
            InvoiceError::Policy { source, .. } => (*source).into(),
            InvoiceError::Biller { ref source, .. } => match &**source {
                BillerError::Refused { .. } => Self::conflict("unbillable", source.to_string())
                    .hint("nothing was charged; an override names another policy or price book"),
                BillerError::Fault(_) | BillerError::Malformed { .. } => Self::bug(&error),
            },
            InvoiceError::Book { .. } => Self::bug(&error),
        }
    }
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Invoice(error) => error.into(),
            IssueError::Commit(error) => error.into(),
            IssueError::Broken(_) => Self::bug(&error),
        }
    }
}
