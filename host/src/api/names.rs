//! `/tenants/{id}/names`: names of instances in documents.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::model::{DocumentNames, SetDocumentNames};
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::driver;
use crate::id::TenantId;
use crate::tenancy::Mapping;

/// The names as they are now. Blocking.
fn present(state: &State, tenant: &TenantId) -> Result<DocumentNames, ApiError> {
    let mapping =
        state.tenancy.pseudonyms().mapping(tenant).map_err(|error| ApiError::bug(&error))?;
    let views = if mapping.has_tags() { Vec::new() } else { state.fleet.list(tenant) };
    let named = views.iter().map(|view| {
        let name = view.record.name.as_str();
        (mapping.name(view.record.id.as_str(), name), name.to_owned())
    });
    Ok(DocumentNames {
        mode: match mapping {
            Mapping::Plain => SetDocumentNames::Plain,
            Mapping::Keyed(_) => SetDocumentNames::Pseudonyms,
            Mapping::Destroyed => SetDocumentNames::Destroyed,
        },
        names: named.collect::<BTreeMap<_, _>>(),
    })
}

/// Show the names of instances in a tenant's documents
///
/// With pseudonyms, also the name of each instance that is not deleted.
#[utoipa::path(get, path = "/tenants/{id}/names", tag = "tenants", security(("bearer" = [])),
    responses(
    (status = 200, description = "The names", body = DocumentNames),
    Failures,
))]
pub(super) async fn get_names(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DocumentNames>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    blocking(move || present(&state, &tenant).map(Json)).await
}

/// Set the names of instances in a tenant's documents
///
/// `pseudonyms` begins a keyed mapping: documents from now on say pseudonyms, and no tags.
/// `destroyed` destroys its key for ever, and removes the names and tags of deleted instances.
/// Documents that were made before stay as they are.
#[utoipa::path(put, path = "/tenants/{id}/names", tag = "tenants", security(("bearer" = [])),
    request_body = DocumentNames, responses(
    (status = 200, description = "The names", body = DocumentNames),
    Failures,
))]
pub(super) async fn set_names(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(asked): Body<DocumentNames>,
) -> Result<Json<DocumentNames>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let mode = asked.mode;
    let change = {
        let state = state.clone();
        let tenant = tenant.clone();
        move || {
            let done = match mode {
                SetDocumentNames::Pseudonyms => state.tenancy.pseudonyms().begin(&tenant),
                SetDocumentNames::Destroyed => state.tenancy.pseudonyms().destroy(&tenant),
                SetDocumentNames::Plain => {
                    return Err(ApiError::invalid(
                        "mode: pseudonyms can't be undone; 'pseudonyms' and 'destroyed' can be set",
                    ));
                }
            };
            done.map_err(|error| ApiError::bug(&error))
        }
    };
    blocking(change).await?;
    if mode == SetDocumentNames::Destroyed {
        state.journal.forget_names(&tenant, driver::without_tags).await?;
    }
    blocking(move || present(&state, &tenant).map(Json)).await
}
