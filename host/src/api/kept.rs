//! `/snapshots`: the snapshots of all instances of a tenant, by their ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;

use super::auth::Caller;
use super::body::{Body, Params};
use super::error::ApiError;
use super::model::{ForkSnapshot, Instance, Snapshot, SnapshotKind};
use super::shared::Failures;
use super::snapshot_ids::id_of;
use super::snapshots::{fork_of, present_snapshot};
use super::{Shared, State};
use crate::driver::{Request, View};
use crate::id::SnapshotName;

/// List snapshots
///
/// All instances of the tenant that are not deleted, the oldest snapshot of each first.
#[utoipa::path(get, path = "/snapshots", tag = "snapshots", security(("bearer" = [])),
    params(
        ("kind" = Option<SnapshotKind>, Query, description = "Only those of this kind"),
        ("name" = Option<String>, Query, description = "Only those of this name"),
        ("source_instance_id" = Option<String>, Query,
            description = "Only those of this instance, by its id"),
        ("tags" = Option<std::collections::HashMap<String, String>>, Query,
            style = DeepObject, explode,
            description = "Only those with all of these labels, as in `tags[team]=blue`"),
    ), responses(
    (status = 200, description = "The snapshots", body = [Snapshot]),
    Failures,
))]
pub(super) async fn list_all_snapshots(
    Extract(state): Shared,
    caller: Caller,
    Params(params): Params<Vec<(String, String)>>,
) -> Result<Json<Vec<Snapshot>>, ApiError> {
    let filter = Filter::new(params)?;
    let views = state.fleet.list(&caller.tenant());
    let all = views.iter().flat_map(|view| {
        view.record.snapshots.iter().map(|kept| present_snapshot(&state, view, kept))
    });
    Ok(Json(all.filter(|snapshot| filter.admits(snapshot)).collect()))
}

/// The conditions that listed snapshots meet.
#[derive(Debug, Default)]
struct Filter {
    kind: Option<SnapshotKind>,
    name: Option<String>,
    instance: Option<String>,
    tags: BTreeMap<String, String>,
}

impl Filter {
    fn new(params: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut filter = Self::default();
        for (name, value) in params {
            let tag = name.strip_prefix("tags[").and_then(|name| name.strip_suffix(']'));
            match (name.as_str(), tag) {
                ("kind", _) => filter.kind = Some(kind(&value)?),
                ("name", _) => filter.name = Some(value),
                ("source_instance_id", _) => filter.instance = Some(value),
                (_, Some(tag)) => drop(filter.tags.insert(tag.to_owned(), value)),
                (_, None) => {
                    let error = format!(
                        "unknown field `{name}`, expected one of `kind`, `name`, \
                         `source_instance_id`, `tags[<name>]`"
                    );
                    return Err(ApiError::unreadable("query parameter", &error));
                }
            }
        }
        Ok(filter)
    }

    fn admits(&self, snapshot: &Snapshot) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        self.kind.is_none_or(|kind| kind == snapshot.kind)
            && is(&self.name, snapshot.name.as_str())
            && is(&self.instance, snapshot.source_instance_id.as_str())
            && self.tags.iter().all(|(name, value)| snapshot.tags.get(name) == Some(value))
    }
}

fn kind(text: &str) -> Result<SnapshotKind, ApiError> {
    [SnapshotKind::Standby, SnapshotKind::Stopped]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| ApiError::invalid(format!("kind: '{text}' is not Standby or Stopped")))
}

/// The snapshot of a tenant with that id, and its instance.
fn find(state: &State, caller: &Caller, id: &str) -> Result<(Arc<View>, SnapshotName), ApiError> {
    let missing = || {
        ApiError::not_found("no_such_snapshot", format!("there is no snapshot with the id '{id}'"))
            .hint("GET /snapshots lists them")
    };
    let (instance, _) = id.rsplit_once('-').ok_or_else(missing)?;
    let view = state.fleet.find(&caller.tenant(), instance).map_err(|_| missing())?;
    let kept = view.record.snapshots.iter().find(|kept| id_of(&view, kept) == id);
    let name = kept.map(|kept| kept.name.clone()).ok_or_else(missing)?;
    Ok((view, name))
}

/// Show one snapshot by its id
#[utoipa::path(get, path = "/snapshots/{id}", tag = "snapshots", security(("bearer" = [])),
    responses(
    (status = 200, description = "The snapshot", body = Snapshot),
    Failures,
))]
pub(super) async fn get_any_snapshot(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Snapshot>, ApiError> {
    let (view, name) = find(&state, &caller, &id)?;
    Ok(Json(super::snapshots::snapshot(&state, &view, &name)?))
}

/// Delete a snapshot by its id
#[utoipa::path(delete, path = "/snapshots/{id}", tag = "snapshots", security(("bearer" = [])),
    responses(
    (status = 204, description = "The snapshot is deleted"),
    Failures,
))]
pub(super) async fn delete_any_snapshot(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (view, snapshot) = find(&state, &caller, &id)?;
    let request = Request::Discard { snapshot };
    state.fleet.request(&caller.tenant(), &view.record.id, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fork a snapshot by its id
///
/// Creates a new instance from its disks and memory. It begins with an empty history.
#[utoipa::path(post, path = "/snapshots/{id}/fork", tag = "snapshots", security(("bearer" = [])),
    request_body = ForkSnapshot, responses(
    (status = 201, description = "The new instance", body = Instance),
    Failures,
))]
pub(super) async fn fork_any_snapshot(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(request): Body<ForkSnapshot>,
) -> Result<(StatusCode, Json<Instance>), ApiError> {
    let (view, snapshot) = find(&state, &caller, &id)?;
    fork_of(&state, &caller, &view, snapshot, request).await
}
