//! `/instances/{id}/snapshots`, `snapshot-schedule` and `fork`: snapshots of instances, and forks
//! of both.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;

use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, ErrorBody};
use super::model::{
    Compression, CompressionState, CreateSnapshot, ForkInstance, ForkSnapshot, Instance, NoOptions,
    RestoreSnapshot, Retention, SetSnapshotSchedule, Snapshot, SnapshotKind, SnapshotSchedule,
};
use super::shared::Failures;
use super::time::format_millis;
use super::{Shared, State, parse, present, quota, snapshot_ids};
use crate::driver::{self, Amendment, FleetError, NewFork, NewSnapshot, Request, Schedule, View};
use crate::id::SnapshotName;
use crate::limits::snapshot as limits;
use crate::tenancy::Share;
use crate::units::Instant;
use crate::vm;

/// Level of the compression of snapshots.
const ZSTD_LEVEL: i32 = 3;

/// Default prefix of the names of scheduled snapshots.
const PREFIX: &str = "scheduled";

/// Take a snapshot
///
/// A snapshot of a running or paused instance, or of one in standby, holds its memory and its
/// writable disks; that of a stopped one holds its writable disks. A running instance is paused
/// meanwhile.
#[utoipa::path(post, path = "/instances/{id}/snapshots",
    tag = "snapshots", security(("bearer" = [])),
    request_body = Option<CreateSnapshot>, responses(
    (status = 201, description = "The snapshot", body = Snapshot),
    (status = 409, description = "Not legal now, or the name is in use", body = ErrorBody),
    Failures,
))]
pub(super) async fn create_snapshot(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(request): Body<CreateSnapshot>,
) -> Result<(StatusCode, Json<Snapshot>), ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let CreateSnapshot { name, kind, tags, keep, compress, compression } = request;
    let compress = compressed(compression.as_ref())? || compress;
    check_kind(&view, kind)?;
    let name = match name {
        Some(name) => name.parse()?,
        None => name_of_now(&state)?,
    };
    let new = NewSnapshot { name, tags, keep, compress };
    let name = new.name.clone();
    let view =
        state.fleet.request(&caller.tenant(), &view.record.id, Request::Snapshot(new)).await?;
    Ok((StatusCode::CREATED, Json(snapshot(&state, &view, &name)?)))
}

fn check_kind(view: &View, kind: Option<SnapshotKind>) -> Result<(), ApiError> {
    let is = match view.live.state {
        vm::State::Stopped => SnapshotKind::Stopped,
        _ => SnapshotKind::Standby,
    };
    match kind {
        Some(kind) if kind != is => Err(ApiError::conflict(
            "wrong_kind",
            format!(
                "the instance is {}, so that its snapshot would be of the kind {}; leave kind out, \
                 or bring the instance to the other state first",
                view.live.state.as_str(),
                is.as_str()
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Returns whether a compression is asked for, if it is the one that there is.
pub(super) fn compressed(wanted: Option<&Compression>) -> Result<bool, ApiError> {
    let Some(Compression { enabled: true, algorithm, level }) = wanted else { return Ok(false) };
    let is_zstd = algorithm.as_ref().is_none_or(|name| name == "zstd");
    match is_zstd && level.is_none_or(|level| level == ZSTD_LEVEL) {
        true => Ok(true),
        false => Err(ApiError::not_implemented(format!(
            "compression: snapshots are compressed with zstd at level {ZSTD_LEVEL}; leave \
             algorithm and level out"
        ))),
    }
}

/// Checks that a machine is to run under the hypervisor that wrote a snapshot.
fn check_hypervisor(view: &View, wanted: Option<&String>) -> Result<(), ApiError> {
    let own = &view.record.spec.hypervisor;
    match wanted.is_none_or(|wanted| wanted == own) {
        true => Ok(()),
        false => Err(ApiError::not_implemented(format!(
            "target_hypervisor: a snapshot is for the hypervisor that wrote it, {own}; leave it out"
        ))),
    }
}

/// A name made of the present time, to the microsecond.
fn name_of_now(state: &State) -> Result<SnapshotName, ApiError> {
    let utc_ns = state.fleet.calendar_ns(state.fleet.now());
    let time = chrono::DateTime::from_timestamp_nanos(utc_ns).format("%Y%m%d-%H%M%S-%6f");
    Ok(format!("snapshot-{time}").parse()?)
}

pub(super) fn snapshot(
    state: &State,
    view: &View,
    name: &SnapshotName,
) -> Result<Snapshot, ApiError> {
    let kept = &view.record.snapshots;
    let found = kept.iter().find(|snapshot| snapshot.name == *name);
    found.map(|found| present_snapshot(state, view, found)).ok_or_else(|| {
        let known =
            kept.iter().map(|snapshot| snapshot.name.as_str()).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none".into() } else { known };
        FleetError::NoSuchSnapshot { name: name.clone(), known }.into()
    })
}

pub(super) fn present_snapshot(state: &State, view: &View, kept: &driver::Snapshot) -> Snapshot {
    let (compression_state, algorithm) = match (kept.compressed_bytes, kept.compress) {
        (Some(_), _) => (CompressionState::Compressed, Some("zstd".into())),
        (None, true) if kept.memory.is_some() => {
            (CompressionState::Compressing, Some("zstd".into()))
        }
        (None, _) => (CompressionState::None, None),
    };
    Snapshot {
        id: snapshot_ids::id_of(view, kept),
        name: kept.name.clone(),
        source_instance_id: view.record.id.clone(),
        source_instance_name: view.record.name.to_string(),
        source_hypervisor: view.record.spec.hypervisor.clone(),
        kind: if kept.memory.is_some() { SnapshotKind::Standby } else { SnapshotKind::Stopped },
        created_at: present::timestamp(state, Instant(kept.created_ns)),
        size_bytes: kept.bytes,
        compression: Compression { enabled: algorithm.is_some(), algorithm, level: None },
        compression_state,
        uncompressed_size_bytes: kept.bytes,
        compressed_size_bytes: kept.compressed_bytes.map(|_| kept.stored_bytes()),
        stored_bytes: kept.stored_bytes(),
        vcpus: kept.vcpus,
        memory_bytes: kept.memory.map_or(kept.memory_bytes, |memory| memory.guest_bytes),
        scheduled: kept.scheduled,
        tags: kept.tags.clone(),
    }
}

/// List an instance's snapshots
///
/// Oldest first.
#[utoipa::path(get, path = "/instances/{id}/snapshots",
    tag = "snapshots", security(("bearer" = [])), responses(
    (status = 200, description = "The snapshots", body = [Snapshot]),
    Failures,
))]
pub(super) async fn list_snapshots(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<Json<Vec<Snapshot>>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    Ok(Json(
        view.record.snapshots.iter().map(|kept| present_snapshot(&state, &view, kept)).collect(),
    ))
}

/// Show one snapshot
#[utoipa::path(get, path = "/instances/{id}/snapshots/{name}",
    tag = "snapshots", security(("bearer" = [])), responses(
    (status = 200, description = "The snapshot", body = Snapshot),
    Failures,
))]
pub(super) async fn get_snapshot(
    Extract(state): Shared,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
) -> Result<Json<Snapshot>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    Ok(Json(snapshot(&state, &view, &snapshot_ids::named(&view, &name)?)?))
}

/// Delete a snapshot
#[utoipa::path(delete, path = "/instances/{id}/snapshots/{name}",
    tag = "snapshots", security(("bearer" = [])), responses(
    (status = 204, description = "The snapshot is deleted"),
    Failures,
))]
pub(super) async fn delete_snapshot(
    Extract(state): Shared,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let request = Request::Discard { snapshot: snapshot_ids::named(&view, &name)? };
    state.fleet.request(&caller.tenant(), &view.record.id, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restore an instance to a snapshot
///
/// The instance, which has to be stopped or in standby, gets the disks and the memory of the
/// snapshot. Its history goes on: its time so far stays as it is.
#[utoipa::path(post, path = "/instances/{id}/snapshots/{name}/restore",
    tag = "snapshots", security(("bearer" = [])),
    request_body = Option<RestoreSnapshot>, responses(
    (status = 200, description = "Done and recorded", body = Instance),
    (status = 409, description = "Not legal now; `legal` lists what is", body = ErrorBody),
    Failures,
))]
pub(super) async fn restore_snapshot(
    Extract(state): Shared,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
    Body(request): Body<RestoreSnapshot>,
) -> Result<Json<Instance>, ApiError> {
    let asked = state.fleet.now();
    let RestoreSnapshot { target_state, target_hypervisor } = request;
    let before = state.fleet.find(&caller.tenant(), &key)?;
    check_hypervisor(&before, target_hypervisor.as_ref())?;
    let name = snapshot_ids::named(&before, &name)?;
    let target = target_state.map(Into::into);
    let view = state.fleet.revert(&caller.tenant(), &before.record.id, name, target).await?;
    Ok(Json(present::instance(&state, view, asked)))
}

/// Fork an instance
///
/// Creates a new instance from the present disks and memory of another one. The new one begins with
/// an empty history; that of its source shows no more than its own pause, if it ran.
#[utoipa::path(post, path = "/instances/{id}/fork", tag = "snapshots", security(("bearer" = [])),
    request_body = ForkInstance, responses(
    (status = 201, description = "The new instance", body = Instance),
    (status = 409, description = "Not legal now, or the name is in use", body = ErrorBody),
    Failures,
))]
pub(super) async fn fork_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(request): Body<ForkInstance>,
) -> Result<(StatusCode, Json<Instance>), ApiError> {
    let ForkInstance { name, from_running, target_state } = request;
    let new = NewFork {
        name: name.parse()?,
        from_running,
        target: target_state.map(Into::into),
        snapshot: None,
    };
    fork(&state, &caller, &key, new).await
}

/// Fork a snapshot
///
/// Creates a new instance from the disks and memory of a snapshot. It begins with an empty history.
#[utoipa::path(post, path = "/instances/{id}/snapshots/{name}/fork",
    tag = "snapshots", security(("bearer" = [])),
    request_body = ForkSnapshot, responses(
    (status = 201, description = "The new instance", body = Instance),
    (status = 409, description = "The name is in use", body = ErrorBody),
    Failures,
))]
pub(super) async fn fork_snapshot(
    Extract(state): Shared,
    caller: Caller,
    Path((key, snapshot)): Path<(String, String)>,
    Body(request): Body<ForkSnapshot>,
) -> Result<(StatusCode, Json<Instance>), ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let snapshot = snapshot_ids::named(&view, &snapshot)?;
    fork_of(&state, &caller, &view, snapshot, request).await
}

/// Forks a snapshot of an instance.
pub(super) async fn fork_of(
    state: &Arc<State>,
    caller: &Caller,
    view: &View,
    snapshot: SnapshotName,
    request: ForkSnapshot,
) -> Result<(StatusCode, Json<Instance>), ApiError> {
    let ForkSnapshot { name, target_state, target_hypervisor } = request;
    check_hypervisor(view, target_hypervisor.as_ref())?;
    let new = NewFork {
        name: name.parse()?,
        from_running: true,
        target: target_state.map(Into::into),
        snapshot: Some(snapshot),
    };
    fork(state, caller, view.record.id.as_str(), new).await
}

async fn fork(
    state: &Arc<State>,
    caller: &Caller,
    key: &str,
    new: NewFork,
) -> Result<(StatusCode, Json<Instance>), ApiError> {
    let tenant = caller.tenant();
    let asked = state.fleet.now();
    let parent = state.fleet.find(&tenant, key)?;
    let kept = new
        .snapshot
        .as_ref()
        .and_then(|name| parent.record.snapshots.iter().find(|kept| kept.name == *name));
    let share = kept.map_or_else(
        || quota::share_of(&parent),
        |kept| Share { vcpus: kept.vcpus, memory_bytes: kept.memory_bytes, disk_bytes: 0 },
    );
    let _reserved = quota::reserve(state, &tenant, &new.name, share)?;
    let view = state.fleet.fork(&tenant, &parent.record.id, new).await?;
    Ok((StatusCode::CREATED, Json(present::instance(state, view, asked))))
}

/// Show the snapshot schedule of an instance
#[utoipa::path(get, path = "/instances/{id}/snapshot-schedule",
    tag = "snapshots", security(("bearer" = [])), responses(
    (status = 200, description = "The schedule", body = SnapshotSchedule),
    (status = "4XX", description = "The request is invalid, or the instance has no schedule",
        body = ErrorBody),
))]
pub(super) async fn get_snapshot_schedule(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<Json<SnapshotSchedule>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    Ok(Json(present_schedule(&state, &view)?))
}

fn present_schedule(state: &State, view: &View) -> Result<SnapshotSchedule, ApiError> {
    let none = || {
        ApiError::not_found("no_snapshot_schedule", "the instance has no snapshot schedule")
            .hint("PUT /instances/{id}/snapshot-schedule sets one")
    };
    let schedule = view.record.spec.schedule.as_ref().ok_or_else(none)?;
    let set = |at: Option<i64>| {
        present::timestamp(state, Instant(at.unwrap_or(view.record.spec.created_ns)))
    };
    let last = view.record.snapshots.iter().rev().find(|kept| kept.scheduled);
    Ok(SnapshotSchedule {
        instance_id: view.record.id.clone(),
        interval: format_millis(schedule.interval_ms),
        jitter: format_millis(schedule.jitter_ms),
        retention: Retention {
            max_count: schedule.keep,
            max_age: schedule.age_ms_max.map(format_millis),
        },
        name_prefix: schedule.prefix.clone(),
        compress: schedule.compress,
        metadata: schedule.tags.clone(),
        created_at: set(schedule.created_ns),
        updated_at: set(schedule.updated_ns),
        last_run_at: last.map(|last| present::timestamp(state, Instant(last.created_ns))),
        last_snapshot_id: last.map(|last| snapshot_ids::id_of(view, last)),
        next_run_at: view.live.snapshot_due_ns.map(|at| present::timestamp(state, Instant(at))),
    })
}

/// Set the snapshot schedule of an instance
///
/// A snapshot that would equal the one before, since nothing has run in between, is left out.
#[utoipa::path(put, path = "/instances/{id}/snapshot-schedule",
    tag = "snapshots", security(("bearer" = [])),
    request_body = SetSnapshotSchedule, responses(
    (status = 200, description = "The schedule", body = SnapshotSchedule),
    Failures,
))]
pub(super) async fn set_snapshot_schedule(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(request): Body<SetSnapshotSchedule>,
) -> Result<Json<SnapshotSchedule>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let now = state.fleet.now().0;
    let created = view.record.spec.schedule.as_ref().map_or(Some(now), |old| old.created_ns);
    let schedule = Schedule { created_ns: created, updated_ns: Some(now), ..schedule(request)? };
    let id = view.record.id.clone();
    let amendment = Amendment { schedule: Some(Some(schedule)), ..Amendment::default() };
    let view = state.fleet.amend(&caller.tenant(), &id, amendment).await?;
    Ok(Json(present_schedule(&state, &view)?))
}

/// The schedule that a request asks for.
fn schedule(request: SetSnapshotSchedule) -> Result<Schedule, ApiError> {
    let SetSnapshotSchedule { interval, jitter, retention, name_prefix, .. } = request;
    let ms =
        |field, text: Option<String>| text.map_or(Ok(0), |text| parse::duration_ms(field, &text));
    let age_ms = ms("retention.max_age", retention.max_age)?;
    let most = u32::try_from(limits::KEPT_MAX).unwrap_or(u32::MAX);
    Ok(Schedule {
        interval_ms: parse::duration_ms("interval", &interval)?,
        jitter_ms: ms("jitter", jitter)?,
        keep: if retention.max_count == 0 { most } else { retention.max_count },
        age_ms_max: Some(age_ms).filter(|&age_ms| age_ms > 0),
        prefix: name_prefix.unwrap_or_else(|| PREFIX.into()),
        compress: request.compress,
        tags: request.metadata.unwrap_or_default(),
        created_ns: None,
        updated_ns: None,
    })
}

/// Remove the snapshot schedule of an instance
///
/// The snapshots that it took stay.
#[utoipa::path(delete, path = "/instances/{id}/snapshot-schedule",
    tag = "snapshots", security(("bearer" = [])), responses(
    (status = 204, description = "The instance has no schedule any more"),
    Failures,
))]
pub(super) async fn delete_snapshot_schedule(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(NoOptions {}): Body<NoOptions>,
) -> Result<StatusCode, ApiError> {
    let id = state.fleet.find(&caller.tenant(), &key)?.record.id.clone();
    state
        .fleet
        .amend(&caller.tenant(), &id, Amendment { schedule: Some(None), ..Amendment::default() })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
