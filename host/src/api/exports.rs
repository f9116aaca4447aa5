//! `/tenants/{id}/exports`: documents as tables for others' tools.

use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Datelike, TimeDelta};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::body::Params;
use super::error::ApiError;
use super::model::Timestamp;
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::id::TenantId;
use crate::invoice::focus::{self, Names, Row, Source, Table, TooLong, UnknownTable};
use crate::invoice::{Evidence, Invoice};
use crate::journal::FactQuery;
use crate::units::Instant;

/// The name of the one who runs the host, unless the request says another.
const PROVIDER: &str = "Tallyman";
/// The terms of payment, unless the request says others.
const TERMS: &str = "as agreed";
const CSV: &str = "text/csv; charset=utf-8";
const PARQUET: &str = "application/vnd.apache.parquet";

/// The form of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// Comma-separated values; the first row names the columns.
    #[default]
    Csv,
    /// A list of objects, nulls left out.
    Json,
    /// A file of Parquet.
    Parquet,
}

/// The selection of documents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExportParams {
    /// A month such as `2026-01`: only periods that have their middle in it, in UTC.
    month: Option<String>,
    /// True for what a close would make now, too.
    #[serde(default)]
    preview: bool,
    /// The name of the provider, publisher and issuer of invoices; `Tallyman` if absent.
    provider: Option<String>,
    /// The terms of payment, in Invoice Detail; `as agreed` if absent.
    terms: Option<String>,
    /// The form of the rows.
    #[serde(default, rename = "as")]
    #[param(inline)]
    form: Form,
}

/// Export documents as FOCUS
///
/// The table `focus-1.2` or `focus-1.4` has one row for each charge: all mandatory columns of the
/// FinOps Open Cost and Usage Specification of that version, those of its others that apply, and
/// our own with the prefix `x_`. A document states differences, and so do its rows: those of a
/// document add up to what it asks for. `focus-1.4-invoice-detail` has one row for each category of
/// charges of a final document, `focus-1.4-billing-period` one for each period.
#[utoipa::path(get, path = "/tenants/{id}/exports/{table}", tag = "invoices",
    security(("bearer" = [])), params(ExportParams), responses(
    (status = 200, description = "The rows", content(
        (String = "text/csv"), (Vec<u8> = "application/vnd.apache.parquet"),
        (Vec<HashMap<String, String>> = "application/json"),
    )),
    Failures,
))]
pub(super) async fn export_focus(
    Extract(state): Shared,
    caller: Caller,
    Path((id, table)): Path<(String, String)>,
    Params(params): Params<ExportParams>,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let table: Table = table
        .parse()
        .map_err(|error: UnknownTable| ApiError::not_found("no_such_table", error.to_string()))?;
    let month = params.month.as_deref().map(month).transpose()?;
    if params.preview {
        caller.check_fuel(&state)?;
    }
    let work = move || {
        let mut documents = documents(&state, &tenant, params.preview)?;
        documents.retain(|one| month.is_none_or(|month| middle(&one.document) == Some(month)));
        let names = Names {
            provider: params.provider.as_deref().unwrap_or(PROVIDER),
            terms: params.terms.as_deref().unwrap_or(TERMS),
        };
        let rows = focus::rows(table, &documents, names);
        Ok(match params.form {
            Form::Csv => ([(CONTENT_TYPE, CSV)], focus::csv(table, &rows)).into_response(),
            Form::Json => axum::Json(focus::chosen(table, rows)).into_response(),
            Form::Parquet => ([(CONTENT_TYPE, PARQUET)], parquet(table, &rows)?).into_response(),
        })
    };
    blocking(work).await
}

/// Every document of a tenant in the order of their numbers, with those of a preview behind.
fn documents(
    state: &Arc<State>,
    tenant: &TenantId,
    preview: bool,
) -> Result<Vec<Source>, ApiError> {
    let archive = state.journal.archive();
    let mut documents = Vec::new();
    for stored in archive.invoices_of(tenant)? {
        let bytes = Evidence::document(&archive, stored.digest)?;
        let document = Invoice::from_bytes(&bytes).map_err(|_| {
            let number = stored.number;
            let message = format!("document {number} is of the earlier form, which has no rows");
            ApiError::conflict("earlier_form", message)
                .hint("its amounts are opening amounts; see docs/bill.md")
        })?;
        let issued = Some(issued(state, stored.fact)?);
        documents.push(Source { digest: Some(stored.digest), issued, document });
    }
    if preview {
        let made = state.issuer.preview(
            tenant,
            &state.rollout.directory(tenant),
            state.fleet.now(),
            None,
        )?;
        made.iter().for_each(|document| state.accounting.charge(tenant, document.fuel()));
        let source = |document| Source { digest: None, issued: None, document };
        documents.extend(made.into_iter().map(source));
    }
    Ok(documents)
}

/// The instant of a document's fact, by the calendar.
fn issued(state: &State, fact: u64) -> Result<String, ApiError> {
    let query = FactQuery {
        after: fact.saturating_sub(1),
        through: Some(fact),
        limit: Some(1),
        ..FactQuery::default()
    };
    let found = state.journal.facts(&query)?.facts.into_iter().next();
    let at = found.map_or(0, |found| state.fleet.calendar_ns(Instant(found.fact.meter_ns)));
    Ok(Timestamp(at).to_string())
}

fn parquet(table: Table, rows: &[Row]) -> Result<Vec<u8>, ApiError> {
    focus::parquet(table, rows).map_err(|error| match error {
        TooLong::Number { .. } => ApiError::conflict("too_long", error.to_string()),
        TooLong::File(error) => ApiError::bug(&error),
    })
}

/// The year and the month of `2026-01`.
fn month(text: &str) -> Result<(i32, u32), ApiError> {
    let day = chrono::NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d");
    let day = day.map_err(|_| ApiError::invalid("month: write it like 2026-01"))?;
    Ok((day.year(), day.month()))
}

/// The month in UTC that a document's period has its middle in.
fn middle(document: &Invoice) -> Option<(i32, u32)> {
    let read = |text: &str| DateTime::parse_from_rfc3339(text).ok();
    let from = read(&document.period.from)?;
    let until = read(&document.period.until)?;
    let middle = from + TimeDelta::nanoseconds((until - from).num_nanoseconds()? / 2);
    let middle = middle.to_utc();
    Some((middle.year(), middle.month()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_a_month() {
        assert_eq!(month("2026-01").ok(), Some((2026, 1)));
        for text in ["", "2026", "2026-13", "2026-1-1", "januar"] {
            assert_eq!(month(text).expect_err("refused").status(), 400, "{text}");
        }
    }
}
