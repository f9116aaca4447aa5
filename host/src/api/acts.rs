//! `/tenants/{id}/acts`: who did what with a tenant's money.

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::error::ApiError;
use super::model::Acts;
use super::shared::Failures;
use super::{Shared, blocking};
use crate::billing::TenantFact;

/// Acts on a tenant's money
///
/// The facts that say what the tenant is charged, and by whose hand: policies and prices set and
/// withdrawn, proposals, agreements, overrides and documents.
#[utoipa::path(get, path = "/tenants/{id}/acts",
    tag = "invoices", security(("bearer" = [])), responses(
    (status = 200, description = "The facts, ascending", body = Acts),
    Failures,
))]
pub(super) async fn list_acts(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Acts>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let work = move || {
        let archive = state.journal.archive();
        let mut facts = Vec::new();
        let mut known = archive.facts_of_tenant(&tenant)?;
        known.extend(archive.proposals_of(&tenant)?);
        known.sort_by_key(|&(seq, _)| seq);
        for (seq, fact) in known {
            if fact.of_tenant().is_some_and(TenantFact::is_of_money) {
                facts.extend(archive.fact(seq)?);
            }
        }
        Ok(Json(Acts { facts }))
    };
    blocking(work).await
}
