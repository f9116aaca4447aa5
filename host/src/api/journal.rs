//! `/journal`: the facts, as they were hashed.

use axum::Json;
use axum::extract::State as Extract;
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::body::Params;
use super::error::ApiError;
use super::model::JournalHead;
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::id::InstanceId;
use crate::journal::wire::Kind;
use crate::journal::{FactQuery, Page};

/// The query parameters of a list of facts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct JournalParams {
    /// Only facts with a greater sequence number than this; from the first if absent.
    #[serde(default)]
    after: u64,
    /// Most facts in the answer, 1 to 1,000; 1,000 if absent.
    limit: Option<usize>,
    /// Only facts of this instance: its id (also after its deletion), its name, or a unique prefix
    /// of the id.
    instance: Option<String>,
    /// Only facts of this kind.
    #[param(inline)]
    kind: Option<Kind>,
}

/// List facts
///
/// The facts of the tenant, or all facts for an operator who names none, ascending. For the next
/// page, send `next` as `after`; it is null on the last page.
#[utoipa::path(get, path = "/journal",
    tag = "journal", security(("bearer" = [])), params(JournalParams), responses(
    (status = 200, description = "A page of facts", body = Page),
    Failures,
))]
pub(super) async fn list_facts(
    Extract(state): Shared,
    caller: Caller,
    Params(params): Params<JournalParams>,
) -> Result<Json<Page>, ApiError> {
    let instance =
        params.instance.as_deref().map(|key| instance(&state, &caller, key)).transpose()?;
    let query = FactQuery {
        after: params.after,
        through: None,
        tenant: caller.scope().cloned(),
        instance,
        kind: params.kind,
        limit: params.limit,
    };
    let page = blocking(move || Ok(state.journal.facts(&query)?)).await?;
    Ok(Json(page))
}

/// The id of a key. A full id is taken as it is: its facts stay readable after its deletion.
fn instance(state: &State, caller: &Caller, key: &str) -> Result<InstanceId, ApiError> {
    match state.fleet.find(&caller.tenant(), key) {
        Ok(view) => Ok(view.record.id.clone()),
        Err(crate::driver::FleetError::NotFound { .. }) => Ok(key.parse()?),
        Err(error) => Err(error.into()),
    }
}

/// Show the end of the journal
///
/// Noted elsewhere, it shows later if the end of the journal was cut off.
#[utoipa::path(get, path = "/journal/head", tag = "journal", security(("bearer" = [])), responses(
    (status = 200, description = "The last fact's sequence number and hash", body = JournalHead),
    Failures,
))]
pub(super) async fn get_journal_head(Extract(state): Shared) -> Json<JournalHead> {
    let head = state.journal.head();
    Json(JournalHead { seq: head.seq, hash: head.hash.to_string() })
}
