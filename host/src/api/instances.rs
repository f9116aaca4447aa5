//! `/instances`: virtual machines and their time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{self, Bytes};
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use tokio::task::spawn_blocking;
use utoipa::IntoParams;

use super::auth::Caller;
use super::body::{Body, Params};
use super::error::{ApiError, ErrorBody};
use super::model::{
    Accounted, Accounting, AccountingStatus, CreateInstance, Instance, InstanceState, Interval, Intervals, NoOptions,
    PerPhase, Proof, StopOptions, Timestamp, Waited,
};
use super::size::{format_size, parse_size};
use super::tenants::reserve;
use super::{Shared, State, blocking, parse_duration, settings};
use crate::billing::Totals;
use crate::billing::account::Usage;
use crate::billing::interval;
use crate::driver::{Disk, FleetError, NewInstance, Request, View, Waiting};
use crate::id::{Digest, InstanceId, TenantId};
use crate::journal::wire;
use crate::limits;
use crate::tenancy::Share;
use crate::units::Instant;
use crate::vm;

/// Create an instance and boot it
///
/// Answers when its vCPUs run; `wait` tells when it is ready.
#[utoipa::path(post, path = "/instances", tag = "instances", security(("bearer" = [])), request_body = CreateInstance, responses(
    (status = 201, description = "The new instance", body = Instance),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn create_instance(
    Extract(state): Shared,
    caller: Caller,
    Body(request): Body<CreateInstance>,
) -> Result<(StatusCode, Json<Instance>), ApiError> {
    let (tenant, new) = (caller.tenant(), new_instance(&state, request)?);
    if !new.disks.is_empty() && !caller.is_operator() {
        return Err(ApiError::operators_alone("disks: a path on the host may be named by an operator only"));
    }
    let _kept = reserve(&state, &tenant, &new.name, share(&state, &new).await?)?;
    let asked = state.fleet.now();
    let view = state.fleet.create(&tenant, new).await?;
    Ok((StatusCode::CREATED, Json(present(&state, view, asked))))
}

/// What a new instance will take of its tenant's limits.
async fn share(state: &Arc<State>, new: &NewInstance) -> Result<Share, ApiError> {
    let memory_bytes = match new.memory_bytes {
        Some(bytes) => bytes,
        None => {
            let (state, image) = (state.clone(), new.image.clone());
            // An image that isn't there is refused in a moment, with what there is.
            blocking(move || Ok(state.images.get(&image).map_or(0, |image| image.manifest.memory_bytes_min))).await?
        }
    };
    Ok(Share { vcpus: new.vcpus, memory_bytes })
}

fn new_instance(state: &State, request: CreateInstance) -> Result<NewInstance, ApiError> {
    let disk = |disk: super::model::DiskRequest| Disk {
        path: PathBuf::from(disk.path),
        read_only: disk.read_only,
        size_bytes: 0, // Measured when the instance is prepared.
    };
    Ok(NewInstance {
        name: request.name.parse()?,
        image: request.image.parse()?,
        vcpus: request.vcpus,
        memory_bytes: memory_bytes(request.size.as_deref(), request.memory_bytes)?,
        cmdline: request.cmdline,
        disks: request.disks.into_iter().map(disk).collect(),
        tags: request.tags,
        skip_guest_agent: request.skip_guest_agent,
        stop_grace_ms: request.stop_grace_ms.unwrap_or(limits::instance::STOP_GRACE_MS),
        hypervisor: request.hypervisor,
        memory_bytes_max: request.memory_bytes_max,
        restart: request.restart_policy.map_or(Ok(Default::default()), |policy| settings::restart(&policy))?,
        health: request.health_check.as_ref().map_or(Ok(None), settings::health)?,
        auto_standby: request.auto_standby.as_ref().map(settings::auto_standby).transpose()?,
        expiry: settings::expiry(state, request.ttl.as_deref(), request.expires_at, request.expiry_action)?,
    })
}

/// A length of time as people write it, in milliseconds; `field` is whose it is.
pub(super) fn duration_ms(field: &str, text: &str) -> Result<u64, ApiError> {
    let duration = parse_duration(text).map_err(|error| ApiError::invalid(format!("{field}: {error}")))?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn memory_bytes(size: Option<&str>, bytes: Option<u64>) -> Result<Option<u64>, ApiError> {
    match (size, bytes) {
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("size and memory_bytes both say how much memory; give one of them"))
        }
        (Some(size), None) => parse_size(size).map(Some).map_err(|error| ApiError::invalid(format!("size: {error}"))),
        (None, bytes) => Ok(bytes),
    }
}

/// List instances
///
/// Oldest first, deleted ones not included. All totals are taken at the same instant.
#[utoipa::path(get, path = "/instances", tag = "instances", security(("bearer" = [])),
    params(
        ("state" = Option<InstanceState>, Query, description = "Only those in this state"),
        ("tag" = Option<Vec<String>>, Query, description = "Only those with this label: `tag=team=blue`; may be given several times"),
        ("tags" = Option<std::collections::HashMap<String, String>>, Query, style = DeepObject, explode, description = "Only those with all of these labels: `tags[team]=blue`"),
    ), responses(
    (status = 200, description = "The instances", body = [Instance]),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn list_instances(
    Extract(state): Shared,
    caller: Caller,
    Params(params): Params<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let filter = Filter::new(params)?;
    caller.check_fuel(&state)?;
    let listing = blocking(move || Ok(Listing::new(state, &caller.tenant(), &filter))).await?;
    Ok(([(CONTENT_TYPE, "application/json")], listing.into_body()).into_response())
}

/// Some instances of a tenant with their totals, all at one instant.
struct Listing {
    state: Arc<State>,
    views: Vec<Arc<View>>,
    usages: Vec<Usage>,
    policy: Digest,
}

/// Instances of a list that are written at once, which takes about a millisecond.
const LISTED_AT_ONCE: usize = 256;

/// Bytes that an instance takes in a list, more or less.
const LISTED_BYTES: usize = 1_024;

/// Parts of a list that are written ahead of the client, side by side.
const LISTED_AHEAD: usize = 2;

impl Listing {
    fn new(state: Arc<State>, tenant: &TenantId, filter: &Filter) -> Self {
        let mut views = state.fleet.list(tenant);
        views.retain(|view| filter.admits(view));
        let now = state.fleet.now();
        let usages = state.fleet.usage(&views, now);
        let policy = state.fleet.timeline(tenant).at(now);
        Self { state, views, usages, policy }
    }

    /// A JSON array that is written as the client takes it: a slow one holds no thread, and no more memory than others.
    fn into_body(self) -> body::Body {
        let starts = (0..self.views.len().max(1)).step_by(LISTED_AT_ONCE);
        let listing = Arc::new(self);
        let part = move |start| {
            let listing = listing.clone();
            async move { anyhow::Ok(spawn_blocking(move || listing.part(start)).await??) }
        };
        body::Body::from_stream(stream::iter(starts).map(part).buffered(LISTED_AHEAD))
    }

    fn part(&self, start: usize) -> serde_json::Result<Bytes> {
        let end = self.views.len().min(start + LISTED_AT_ONCE);
        let mut json = Vec::with_capacity(LISTED_BYTES * (end - start) + 2);
        json.push(if start == 0 { b'[' } else { b',' });
        for (n, (view, usage)) in self.views[start..end].iter().zip(&self.usages[start..end]).enumerate() {
            if n > 0 {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, &present_one(&self.state, view, usage, self.policy))?;
        }
        if end == self.views.len() {
            json.push(b']');
        }
        Ok(json.into())
    }
}

/// Which instances are listed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    state: Option<InstanceState>,
    tags: Vec<(String, String)>,
}

impl Filter {
    fn new(params: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut filter = Filter::default();
        for (name, value) in params {
            let tag = name.strip_prefix("tags[").and_then(|name| name.strip_suffix(']'));
            match (name.as_str(), tag) {
                ("state", _) => {
                    let state = value.parse().map_err(|error| ApiError::invalid(format!("state: {error}")))?;
                    filter.state = Some(state);
                }
                ("tag", _) => {
                    let (name, value) = value.split_once('=').ok_or_else(|| {
                        ApiError::invalid(format!("tag: '{value}' has no `=`; write it like `tag=team=blue`"))
                    })?;
                    filter.tags.push((name.to_owned(), value.to_owned()));
                }
                (_, Some(tag)) => filter.tags.push((tag.to_owned(), value)),
                (_, None) => {
                    let error = format!("unknown field `{name}`, expected one of `state`, `tag`, `tags[<name>]`");
                    return Err(ApiError::unreadable("query parameter", &error));
                }
            }
        }
        Ok(filter)
    }

    fn admits(&self, view: &View) -> bool {
        let tags = &view.record.spec.tags;
        self.state.is_none_or(|state| state == view.live.state.into())
            && self.tags.iter().all(|(name, value)| tags.get(name) == Some(value))
    }
}

/// What an instance is looked up with, beside its key.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GetParams {
    /// Also the closed record of a deleted instance; it answers to its full id only.
    #[serde(default)]
    deleted: bool,
}

/// One instance
#[utoipa::path(get, path = "/instances/{id}", tag = "instances", security(("bearer" = [])),
    params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning"), GetParams), responses(
    (status = 200, description = "The instance", body = Instance),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn get_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Params(params): Params<GetParams>,
) -> Result<Json<Instance>, ApiError> {
    caller.check_fuel(&state)?;
    let view = match params.deleted {
        true => find_any(&state, &caller, key).await?,
        false => state.fleet.find(&caller.tenant(), &key)?,
    };
    let now = state.fleet.now();
    Ok(Json(present(&state, view, now)))
}

/// The instance behind a key, or the closed record behind a full id.
async fn find_any(state: &Arc<State>, caller: &Caller, key: String) -> Result<Arc<View>, ApiError> {
    let tenant = caller.tenant();
    let missing = match state.fleet.find(&tenant, &key) {
        Ok(view) => return Ok(view),
        Err(error) => error,
    };
    match (missing, key.parse::<InstanceId>()) {
        (FleetError::NotFound { .. }, Ok(id)) => {
            let state = state.clone();
            blocking(move || Ok(state.fleet.find_closed(&tenant, &id)?)).await
        }
        (error, _) => Err(error.into()),
    }
}

async fn command(state: &State, caller: &Caller, key: &str, request: Request) -> Result<Arc<View>, ApiError> {
    let tenant = caller.tenant();
    let id = state.fleet.find(&tenant, key)?.record.id.clone();
    Ok(state.fleet.request(&tenant, &id, request).await?)
}

async fn answered(state: &State, caller: &Caller, key: &str, request: Request) -> Result<Json<Instance>, ApiError> {
    let asked = state.fleet.now();
    let view = command(state, caller, key, request).await?;
    Ok(Json(present(state, view, asked)))
}

/// The commands without options differ in nothing but their name and what is said about them.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident, $path:literal, $command:expr;)+) => {$(
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "instances", security(("bearer" = [])),
            params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning")), responses(
            (status = 200, description = "Done and recorded, or so already", body = Instance),
            (status = 409, description = "Not legal now; `legal` says what is", body = ErrorBody),
            (status = "4XX", description = "The request is wrong", body = ErrorBody),
            (status = "5XX", description = "The host could not do it", body = ErrorBody),
        ))]
        pub(super) async fn $name(
            Extract(state): Shared,
            caller: Caller,
            Path(key): Path<String>,
            Body(NoOptions {}): Body<NoOptions>,
        ) -> Result<Json<Instance>, ApiError> {
            answered(&state, &caller, &key, $command).await
        }
    )+};
}

commands! {
    /// Start a stopped instance
    ///
    /// Boots from nothing; answers when the vCPUs run.
    start_instance, "/instances/{id}/start", Request::Start;
    /// Put an instance to standby
    ///
    /// Holds its vCPUs, writes its memory to disk and ends its process.
    standby_instance, "/instances/{id}/standby", Request::Standby;
    /// Restore an instance from standby
    restore_instance, "/instances/{id}/restore", Request::Restore;
    /// Hold an instance's vCPUs
    pause_instance, "/instances/{id}/pause", Request::Pause;
    /// Let them run again
    resume_instance, "/instances/{id}/resume", Request::Resume;
}

/// Stop an instance
///
/// Asks the guest to power itself off, and ends it by force when the grace time is over.
#[utoipa::path(post, path = "/instances/{id}/stop", tag = "instances", security(("bearer" = [])),
    params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning")),
    request_body = Option<StopOptions>, responses(
    (status = 200, description = "Done and recorded, or so already", body = Instance),
    (status = 409, description = "Not legal now; `legal` says what is", body = ErrorBody),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn stop_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(options): Body<StopOptions>,
) -> Result<Json<Instance>, ApiError> {
    answered(&state, &caller, &key, Request::Stop { grace_ms: options.grace_ms }).await
}

/// Delete an instance
///
/// Stops it if need be. Its record is closed, its usage stays readable by its full id.
#[utoipa::path(delete, path = "/instances/{id}", tag = "instances", security(("bearer" = [])),
    params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning"), StopOptions), responses(
    (status = 204, description = "It is deleted"),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn delete_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Params(options): Params<StopOptions>,
) -> Result<StatusCode, ApiError> {
    let StopOptions { grace_ms: _ } = options;
    command(&state, &caller, &key, Request::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What to wait for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitParams {
    /// The state to wait for.
    #[param(value_type = InstanceState)]
    state: String,
    /// For how long: such as `30s` or `2m`, or a number of seconds; at most 1 hour, 60 s if absent.
    timeout: Option<String>,
}

/// Wait for a state
///
/// Answers at once if the instance is in the state, or can't reach it any more because it stopped or was deleted.
#[utoipa::path(get, path = "/instances/{id}/wait", tag = "instances", security(("bearer" = [])),
    params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning"), WaitParams), responses(
    (status = 200, description = "Where it stands, and whether the time ran out", body = Waited),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn wait_for_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Params(params): Params<WaitParams>,
) -> Result<Json<Waited>, ApiError> {
    let target: InstanceState = params.state.parse().map_err(|error| ApiError::invalid(format!("state: {error}")))?;
    let timeout = wait_timeout(params.timeout.as_deref())?;
    let tenant = caller.tenant();
    let id = state.fleet.find(&tenant, &key)?.record.id.clone();
    let waiting = target.phase().map_or(Waiting::ForDeletion, Waiting::For);
    let outcome = tokio::select! {
        outcome = state.fleet.wait(&tenant, &id, waiting, timeout) => outcome,
        () = state.closing.cancelled() => return Err(ApiError::stopping()),
    };
    let now = |state: &State| match state.fleet.find(&tenant, id.as_str()) {
        Ok(view) => view.live.state.into(),
        Err(_) => InstanceState::Deleted,
    };
    match outcome {
        Ok(view) => Ok(Json(Waited { state: view.live.state.into(), timed_out: false, state_error: None })),
        Err(FleetError::WaitTimedOut { .. }) => {
            Ok(Json(Waited { state: now(&state), timed_out: true, state_error: None }))
        }
        Err(error @ FleetError::Ended { .. }) => {
            Ok(Json(Waited { state: now(&state), timed_out: false, state_error: Some(error.to_string()) }))
        }
        Err(error) => Err(error.into()),
    }
}

fn wait_timeout(text: Option<&str>) -> Result<Duration, ApiError> {
    let timeout = match text {
        Some(text) => parse_duration(text).map_err(|error| ApiError::invalid(format!("timeout: {error}")))?,
        None => Duration::from_secs(limits::api::WAIT_S_DEFAULT),
    };
    Ok(timeout.min(Duration::from_secs(limits::api::WAIT_S_MAX)))
}

/// The whole time of an instance, interval by interval
///
/// With the totals and the proof that they add up. A deleted instance answers to its full id.
#[utoipa::path(get, path = "/instances/{id}/intervals", tag = "instances", security(("bearer" = [])),
    params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning")), responses(
    (status = 200, description = "Its intervals, in order", body = Intervals),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn list_intervals(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<Json<Intervals>, ApiError> {
    caller.check_fuel(&state)?;
    let view = find_any(&state, &caller, key).await?;
    let intervals = blocking(move || {
        // One instant for both: what they say must be the same.
        let now = state.fleet.now();
        let usage = usage(&state, &view, now);
        let intervals = state.fleet.intervals(&view, now)?;
        Ok(present_intervals(&state, &view, &intervals, view.deleted.unwrap_or(now), &usage))
    })
    .await?;
    Ok(Json(intervals))
}

fn present_intervals(
    state: &State,
    view: &View,
    intervals: &[interval::Interval],
    at: Instant,
    usage: &Usage,
) -> Intervals {
    let mut totals = Totals::default();
    for interval in intervals {
        totals.0[interval.phase as usize] += interval.length().0;
    }
    let first = intervals.first().map(|first| first.start);
    let last = intervals.last().map(|last| last.end);
    let until = |end: Option<Instant>| end.zip(first).and_then(|(end, first)| end.since(first)).unwrap_or_default().0;
    Intervals {
        instance: view.record.id.clone(),
        name: view.record.name.clone(),
        tenant: view.record.tenant.clone(),
        intervals: intervals.iter().map(|interval| present_interval(state, interval)).collect(),
        totals_ns: (&totals).into(),
        proof: Proof::new(totals.sum(), until(last)),
        accounted: Accounted {
            at: timestamp(state, at),
            totals_ns: (&usage.totals).into(),
            proof: Proof::new(usage.totals.sum(), until(Some(at))),
        },
    }
}

fn present_interval(state: &State, interval: &interval::Interval) -> Interval {
    Interval {
        fact: interval.fact,
        phase: interval.phase.into(),
        start: timestamp(state, interval.start),
        end: timestamp(state, interval.end),
        start_ns: interval.start.0,
        end_ns: interval.end.0,
        duration_ns: interval.length().0,
        open: interval.open,
        policy: interval.policy,
        shape: interval.shape.into(),
        session: interval.session,
        cause: interval.cause.map(wire::ExitCause::from),
    }
}

pub(super) fn timestamp(state: &State, at: Instant) -> Timestamp {
    Timestamp(state.fleet.calendar_ns(at))
}

/// The account of one instance at an instant.
fn usage(state: &State, view: &Arc<View>, at: Instant) -> Usage {
    let unknown = Usage { current: None, since: at, totals: Totals::default(), degraded: true };
    state.fleet.usage(std::slice::from_ref(view), at).first().copied().unwrap_or(unknown)
}

/// An instance for whoever asked at `asked`: with its time up to then, or up to its last fact if that came later. What a command has begun has no
/// length yet, so that its answer need not wait for a policy's figures.
pub(super) fn present(state: &State, view: Arc<View>, asked: Instant) -> Instance {
    let usage = usage(state, &view, asked);
    let policy = state.fleet.timeline(&view.record.tenant).at(asked.max(usage.since));
    present_one(state, &view, &usage, policy)
}

fn present_one(state: &State, view: &View, usage: &Usage, policy: Digest) -> Instance {
    let (record, live, spec) = (&view.record, &view.live, &view.record.spec);
    let at = |at: Option<Instant>| at.map(|at| timestamp(state, at));
    Instance {
        id: record.id.clone(),
        name: record.name.clone(),
        tenant: record.tenant.clone(),
        image: spec.image.clone(),
        state: live.state.into(),
        state_error: live.error.clone(),
        legal: vm::legal(live.state).map(wire::Command::from).collect(),
        created_at: timestamp(state, Instant(spec.created_ns)),
        started_at: at(live.started),
        stopped_at: at(live.stopped),
        stop_cause: live.cause.map(wire::ExitCause::from),
        deleted_at: at(view.deleted),
        exit_code: live.exit_code,
        exit_message: live.exit_message.clone(),
        has_snapshot: matches!(live.state, vm::State::Standby { .. }),
        hypervisor: spec.hypervisor.clone(),
        vcpus: spec.vcpus,
        size: format_size(live.shape.memory_bytes),
        memory_bytes: live.shape.memory_bytes,
        disk_bytes: live.shape.disk_bytes,
        snapshot_bytes: live.shape.snapshot_bytes,
        restart_policy: settings::present_restart(&spec.restart),
        restart_status: settings::restart_status(state, view),
        health_check: spec.health.as_ref().map(settings::present_health),
        health: view.health.as_ref().map(|health| settings::health_status(state, health)),
        auto_standby: spec.auto_standby.as_ref().map(settings::present_auto_standby),
        idle_since: at(view.idle_since),
        expires_at: spec.expiry.map(|expiry| timestamp(state, Instant(expiry.at_ns))),
        expiry_action: spec.expiry.map(|expiry| expiry.action.into()),
        session: live.session,
        tags: spec.tags.clone(),
        current_phase: usage.current.map(wire::Phase::from),
        current_phase_since: usage.current.map(|_| timestamp(state, usage.since)),
        phase_durations_ms: phase_durations(usage),
        policy,
        accounting: accounting(view, usage),
    }
}

/// The totals; none before the first fact.
fn phase_durations(usage: &Usage) -> Option<PerPhase> {
    let has_facts = usage.current.is_some() || usage.totals.sum() != 0;
    has_facts.then(|| PerPhase::millis(&usage.totals))
}

fn accounting(view: &View, usage: &Usage) -> Accounting {
    let reason = view.account.degraded.as_ref().map(|degraded| degraded.reason.clone());
    if reason.is_none() && !usage.degraded {
        return Accounting { status: AccountingStatus::Ok, reason: None };
    }
    let reason = reason.unwrap_or_else(|| "the policy in force gave no answer just now".into());
    Accounting { status: AccountingStatus::Degraded, reason: Some(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn lists_are_filtered_by_state_and_tags() {
        let filter = [("state", "Running"), ("tags[team]", "blue"), ("tag", "a=b=c")];
        let filter = Filter::new(pairs(&filter)).expect("a filter");
        assert_eq!(filter.state, Some(InstanceState::Running));
        assert_eq!(filter.tags, pairs(&[("team", "blue"), ("a", "b=c")]));
        assert_eq!(Filter::new(pairs(&[("tag", "team")])).expect_err("refused").status(), 400);
        assert_eq!(Filter::new(Vec::new()).ok(), Some(Filter::default()));
    }

    #[test]
    fn an_unknown_query_parameter_is_named_with_those_that_are_known() {
        let body = Filter::new(pairs(&[("stat", "Running")])).expect_err("refused").into_body();
        assert_eq!(body.code, "unknown_field");
        assert!(body.message.contains("`stat`") && body.message.contains("`state`"), "{}", body.message);
        let body = Filter::new(pairs(&[("state", "Sleeping")])).expect_err("refused").into_body();
        assert!(body.message.contains("Sleeping") && body.message.contains("Standby"), "{}", body.message);
    }

    #[test]
    fn there_are_no_durations_before_the_first_fact_and_all_of_them_from_then_on() {
        let told = |current, totals: Totals| {
            let usage = Usage { current, since: Instant(0), totals, degraded: false };
            phase_durations(&usage)
        };
        let (none, mut some) = (Totals::default(), Totals::default());
        some.0[vm::Phase::Running as usize] = 7_000_000;
        assert_eq!(told(None, none), None);
        assert_eq!(told(Some(vm::Phase::Created), none), Some(PerPhase::millis(&none)), "it has just begun");
        assert_eq!(told(None, some), Some(PerPhase::millis(&some)), "it was deleted");
    }

    #[test]
    fn memory_is_said_once() {
        assert_eq!(memory_bytes(Some("2MB"), None).ok(), Some(Some(2 << 20)));
        assert_eq!(memory_bytes(None, Some(7)).ok(), Some(Some(7)));
        assert_eq!(memory_bytes(None, None).ok(), Some(None));
        assert_eq!(memory_bytes(Some("2MB"), Some(7)).expect_err("refused").status(), 400);
        assert_eq!(memory_bytes(Some("much"), None).expect_err("refused").status(), 400);
    }

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(wait_timeout(None).ok(), Some(Duration::from_secs(60)));
        assert_eq!(wait_timeout(Some("5s")).ok(), Some(Duration::from_secs(5)));
        assert_eq!(wait_timeout(Some("100h")).ok(), Some(Duration::from_secs(limits::api::WAIT_S_MAX)));
        assert_eq!(wait_timeout(Some("soon")).expect_err("refused").status(), 400);
    }
}
