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
use super::invoices::directory;
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::id::{Digest, TenantId};
use crate::invoice::{Evidence, Invoice, focus};

/// The name of the one who runs the host, unless the request says another.
const PROVIDER: &str = "Tallyman";

/// The form of the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// Comma-separated values; the first row names the columns.
    #[default]
    Csv,
    /// A list of objects, nulls left out.
    Json,
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
    /// The form of the rows.
    #[serde(default, rename = "as")]
    #[param(inline)]
    form: Form,
}

/// Export documents as FOCUS 1.2
///
/// One row for each charge, in CSV: all mandatory columns of the FinOps Open Cost and Usage
/// Specification, those of its others that apply, and our own with the prefix `x_`. A document
/// states differences, and so do its rows: those of a document add up to what it asks for.
#[utoipa::path(get, path = "/tenants/{id}/exports/focus-1.2", tag = "invoices",
    security(("bearer" = [])), params(ExportParams), responses(
    (status = 200, description = "The rows", body = String, content_type = "text/csv"),
    Failures,
))]
pub(super) async fn export_focus(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Params(params): Params<ExportParams>,
) -> Result<Response, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let month = params.month.as_deref().map(month).transpose()?;
    if params.preview {
        caller.check_fuel(&state)?;
    }
    let work = move || {
        let documents = documents(&state, &tenant, params.preview)?;
        let wanted = documents
            .iter()
            .filter(|(_, document)| month.is_none_or(|month| middle(document) == Some(month)));
        let wanted: Vec<_> = wanted.map(|(digest, document)| (*digest, document)).collect();
        let rows = focus::rows(&wanted, params.provider.as_deref().unwrap_or(PROVIDER));
        Ok(match params.form {
            Form::Csv => {
                ([(CONTENT_TYPE, "text/csv; charset=utf-8")], focus::csv(&rows)).into_response()
            }
            Form::Json => axum::Json(rows).into_response(),
        })
    };
    blocking(work).await
}

/// Every document of a tenant in the order of their numbers, with those of a preview behind.
fn documents(
    state: &Arc<State>,
    tenant: &TenantId,
    preview: bool,
) -> Result<Vec<(Option<Digest>, Invoice)>, ApiError> {
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
        documents.push((Some(stored.digest), document));
    }
    if preview {
        let made =
            state.issuer.preview(tenant, &directory(state, tenant), state.fleet.now(), None)?;
        made.iter().for_each(|document| state.accounting.charge(tenant, document.fuel()));
        documents.extend(made.into_iter().map(|document| (None, document)));
    }
    Ok(documents)
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
    let (from, until) = (read(&document.period.from)?, read(&document.period.until)?);
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
