//! `/instances`: virtual machines, their lifecycle and their time.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{self, Bytes};
use axum::extract::{Path, State as Extract};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt as _, stream};
use serde::Deserialize;
use tokio::task::spawn_blocking;
use utoipa::IntoParams;

use super::auth::Caller;
use super::body::{Body, Params};
use super::error::{ApiError, ErrorBody};
use super::model::{
    CreateInstance, DeleteOptions, Instance, InstanceState, Intervals, NoOptions, StandbyOptions,
    StartOptions, StopOptions, Waited,
};
use super::shared::Failures;
use super::time::parse_duration;
use super::{Shared, State, blocking, images, parse, present, quota};
use crate::billing::account::Usage;
use crate::driver::{Amendment, FleetError, Program, Request, View, Waiting};
use crate::id::{Digest, InstanceId, TenantId};
use crate::limits;

/// Create an instance and boot it
///
/// Answers when its vCPUs run. `GET /instances/{id}/wait` answers when it is ready.
#[utoipa::path(post, path = "/instances",
    tag = "instances", security(("bearer" = [])), request_body = CreateInstance, responses(
    (status = 201, description = "The new instance", body = Instance),
    Failures,
))]
pub(super) async fn create_instance(
    Extract(state): Shared,
    caller: Caller,
    Body(request): Body<CreateInstance>,
) -> Result<(StatusCode, Json<Instance>), ApiError> {
    let tenant = caller.tenant();
    if !request.disks.is_empty() && !caller.is_operator() {
        return Err(ApiError::operators_alone(
            "disks: only an operator may name paths of the host",
        ));
    }
    let image = request.image.clone();
    // A request with an error pulls no image.
    let new = parse::new_instance(&state, request)?;
    let new = new(&images::for_instance(&state, &caller, &image).await?);
    let _kept =
        quota::reserve(&state, &tenant, &new.name, quota::share_of_new(&state, &new).await?)?;
    let asked = state.fleet.now();
    let view = state.fleet.create(&tenant, new).await?;
    Ok((StatusCode::CREATED, Json(present::instance(&state, view, asked))))
}

/// List instances
///
/// Oldest first, without deleted ones. All totals are taken at the same instant.
#[utoipa::path(get, path = "/instances", tag = "instances", security(("bearer" = [])),
    params(
        ("state" = Option<InstanceState>, Query, description = "Only those in this state"),
        ("tag" = Option<Vec<String>>, Query,
            description = "Only those with this label, as in `tag=team=blue`; may be repeated"),
        ("tags" = Option<std::collections::HashMap<String, String>>, Query,
            style = DeepObject, explode,
            description = "Only those with all of these labels, as in `tags[team]=blue`"),
    ), responses(
    (status = 200, description = "The instances", body = [Instance]),
    Failures,
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

/// Instances of a tenant with their totals, all at one instant.
struct Listing {
    state: Arc<State>,
    views: Vec<Arc<View>>,
    usages: Vec<Usage>,
    policy: Digest,
}

/// Number of instances in one part of a list. Writing a part takes about a millisecond.
const LISTED_AT_ONCE: usize = 256;

/// Approximate size of an instance in a list, in bytes.
const LISTED_BYTES: usize = 1_024;

/// Number of parts of a list that are written concurrently, ahead of the client.
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

    /// A JSON array that is written as the client reads it: a slow client holds no thread, and no
    /// more memory than others.
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
        for (n, (view, usage)) in
            self.views[start..end].iter().zip(&self.usages[start..end]).enumerate()
        {
            if n > 0 {
                json.push(b',');
            }
            serde_json::to_writer(
                &mut json,
                &present::instance_at(&self.state, view, usage, self.policy),
            )?;
        }
        if end == self.views.len() {
            json.push(b']');
        }
        Ok(json.into())
    }
}

/// The conditions that listed instances meet.
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
                    let state = value
                        .parse()
                        .map_err(|error| ApiError::invalid(format!("state: {error}")))?;
                    filter.state = Some(state);
                }
                ("tag", _) => {
                    let (name, value) = value.split_once('=').ok_or_else(|| {
                        ApiError::invalid(format!(
                            "tag: '{value}' has no `=`; write it like `tag=team=blue`"
                        ))
                    })?;
                    filter.tags.push((name.to_owned(), value.to_owned()));
                }
                (_, Some(tag)) => filter.tags.push((tag.to_owned(), value)),
                (_, None) => {
                    let error = format!(
                        "unknown field `{name}`, expected one of `state`, `tag`, `tags[<name>]`"
                    );
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

/// The query parameters of one instance.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GetParams {
    /// Set to find also the closed record of a deleted instance, by its full id only.
    #[serde(default)]
    deleted: bool,
}

/// Show one instance
#[utoipa::path(get, path = "/instances/{id}", tag = "instances", security(("bearer" = [])),
    params(GetParams), responses(
    (status = 200, description = "The instance", body = Instance),
    Failures,
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
    Ok(Json(present::instance(&state, view, now)))
}

/// The instance of a key, or the closed record of a full id.
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

async fn command(
    state: &State,
    caller: &Caller,
    key: &str,
    request: Request,
) -> Result<Arc<View>, ApiError> {
    let tenant = caller.tenant();
    let id = state.fleet.find(&tenant, key)?.record.id.clone();
    Ok(state.fleet.request(&tenant, &id, request).await?)
}

async fn answered(
    state: &State,
    caller: &Caller,
    key: &str,
    request: Request,
) -> Result<Json<Instance>, ApiError> {
    let asked = state.fleet.now();
    let view = command(state, caller, key, request).await?;
    Ok(Json(present::instance(state, view, asked)))
}

/// Defines the handlers of commands without options, which differ in name and documentation only.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident, $path:literal, $command:expr;)+) => {$(
        $(#[$doc])*
        #[utoipa::path(post, path = $path, tag = "instances", security(("bearer" = [])),
            responses(
            (status = 200, description = "Done and recorded, or in effect already",
                body = Instance),
            (status = 409, description = "Not legal now; `legal` lists what is", body = ErrorBody),
            Failures,
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
    /// Restore an instance from standby
    restore_instance, "/instances/{id}/restore", Request::Restore;
    /// Pause an instance
    pause_instance, "/instances/{id}/pause", Request::Pause;
    /// Resume a paused instance
    resume_instance, "/instances/{id}/resume", Request::Resume;
}

/// Start a stopped instance
///
/// Boots it anew, with another program from now on if one is given. Answers when the vCPUs run.
#[utoipa::path(post, path = "/instances/{id}/start", tag = "instances", security(("bearer" = [])),
    request_body = Option<StartOptions>, responses(
    (status = 200, description = "Done and recorded, or in effect already", body = Instance),
    (status = 409, description = "Not legal now; `legal` lists what is", body = ErrorBody),
    Failures,
))]
pub(super) async fn start_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(options): Body<StartOptions>,
) -> Result<Json<Instance>, ApiError> {
    let StartOptions { entrypoint, cmd } = options;
    let tenant = caller.tenant();
    if entrypoint.is_some() || cmd.is_some() {
        let view = state.fleet.find(&tenant, &key)?;
        let old = view.record.spec.program.clone();
        let cmd = cmd.or_else(|| old.cmd.filter(|_| entrypoint.is_none()));
        let entrypoint = entrypoint.or(old.entrypoint);
        let program = Some(Program { entrypoint, cmd, env: old.env });
        let amendment = Amendment { program, ..Amendment::default() };
        state.fleet.amend(&tenant, &view.record.id, amendment).await?;
    }
    answered(&state, &caller, &key, Request::Start).await
}

/// Put an instance into standby
///
/// Pauses its vCPUs, writes its memory to disk and ends its process.
#[utoipa::path(post, path = "/instances/{id}/standby",
    tag = "instances", security(("bearer" = [])),
    request_body = Option<StandbyOptions>, responses(
    (status = 200, description = "Done and recorded, or in effect already", body = Instance),
    (status = 409, description = "Not legal now; `legal` lists what is", body = ErrorBody),
    Failures,
))]
pub(super) async fn standby_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(options): Body<StandbyOptions>,
) -> Result<Json<Instance>, ApiError> {
    parse::uncompressed(options.compression.as_ref())?;
    answered(&state, &caller, &key, Request::Standby).await
}

/// Stop an instance
///
/// Asks the guest to power itself off, and ends it by force after the grace time.
#[utoipa::path(post, path = "/instances/{id}/stop", tag = "instances", security(("bearer" = [])),
    request_body = Option<StopOptions>, responses(
    (status = 200, description = "Done and recorded, or in effect already", body = Instance),
    (status = 409, description = "Not legal now; `legal` lists what is", body = ErrorBody),
    Failures,
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
/// Ends it first if it runs. Its record is closed; its usage stays readable by its full id.
#[utoipa::path(delete, path = "/instances/{id}", tag = "instances", security(("bearer" = [])),
    params(DeleteOptions), responses(
    (status = 204, description = "The instance is deleted"),
    Failures,
))]
pub(super) async fn delete_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Params(options): Params<DeleteOptions>,
) -> Result<StatusCode, ApiError> {
    let DeleteOptions { grace_ms, graceful_shutdown } = options;
    let view = state.fleet.find(&caller.tenant(), &key)?;
    if graceful_shutdown == Some(true) && view.live.state.has_vmm() {
        let stopped = command(&state, &caller, &key, Request::Stop { grace_ms }).await;
        // Where a stop is not legal, a deletion may be.
        match stopped {
            Err(error) if error.status() != 409 => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    command(&state, &caller, &key, Request::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The query parameters of a wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitParams {
    /// The state to wait for.
    #[param(value_type = InstanceState)]
    state: String,
    /// Longest time to wait, such as `30s` or `2m`, or a number of seconds; at most 1 hour, 60 s if
    /// absent.
    timeout: Option<String>,
}

/// Wait for a state
///
/// Answers as soon as the instance is in the state, can't reach it any more because it stopped or
/// was deleted, or the time is over. A client that says how long it waits for an answer
/// (`x-stainless-read-timeout`, in seconds) gets one before that.
#[utoipa::path(get, path = "/instances/{id}/wait", tag = "instances", security(("bearer" = [])),
    params(WaitParams), responses(
    (status = 200, description = "The state, with `timed_out` if the time ran out", body = Waited),
    Failures,
))]
pub(super) async fn wait_for_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    headers: HeaderMap,
    Params(params): Params<WaitParams>,
) -> Result<Json<Waited>, ApiError> {
    let target: InstanceState =
        params.state.parse().map_err(|error| ApiError::invalid(format!("state: {error}")))?;
    let timeout = wait_timeout(params.timeout.as_deref())?.min(patience(&headers));
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
        Ok(view) => {
            Ok(Json(Waited { state: view.live.state.into(), timed_out: false, state_error: None }))
        }
        Err(FleetError::WaitTimedOut { .. }) => {
            Ok(Json(Waited { state: now(&state), timed_out: true, state_error: None }))
        }
        Err(error @ FleetError::Ended { .. }) => Ok(Json(Waited {
            state: now(&state),
            timed_out: false,
            state_error: Some(error.to_string()),
        })),
        Err(error) => Err(error.into()),
    }
}

/// Headers by which client libraries say how long they wait for an answer, in seconds.
const PATIENCE: [&str; 2] = ["x-stainless-read-timeout", "x-stainless-timeout"];

/// The longest wait after which the client still reads the answer, with a tenth to spare.
fn patience(headers: &HeaderMap) -> Duration {
    let said = PATIENCE.into_iter().find_map(|name| headers.get(name)?.to_str().ok());
    let whole = said.and_then(|text| text.split('.').next()?.parse::<u64>().ok());
    whole
        .map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.max(1)).saturating_mul(9) / 10)
}

fn wait_timeout(text: Option<&str>) -> Result<Duration, ApiError> {
    let timeout = match text {
        Some(text) => {
            parse_duration(text).map_err(|error| ApiError::invalid(format!("timeout: {error}")))?
        }
        None => Duration::from_secs(limits::api::WAIT_S_DEFAULT),
    };
    Ok(timeout.min(Duration::from_secs(limits::api::WAIT_S_MAX)))
}

/// The page of intervals.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct IntervalParams {
    /// Only intervals that were opened by a fact with a greater sequence number: the `next` of the
    /// page before.
    #[serde(default)]
    after: u64,
    /// Most facts that open the intervals of the page, 1 to 1,000; all if absent. Intervals of one
    /// fact, which a change of the policy divides, are not torn apart.
    limit: Option<usize>,
}

/// List the intervals of an instance
///
/// All its time since its creation, with the totals and the proof that they add up; with `limit` a
/// page of it, whose cost does not grow with the history. A deleted instance is found by its full
/// id.
#[utoipa::path(get, path = "/instances/{id}/intervals", params(IntervalParams),
    tag = "instances", security(("bearer" = [])), responses(
    (status = 200, description = "The intervals, in order", body = Intervals),
    Failures,
))]
pub(super) async fn list_intervals(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Params(params): Params<IntervalParams>,
) -> Result<Json<Intervals>, ApiError> {
    let limit = params.limit.map(|limit| limit.clamp(1, limits::api::JOURNAL_PAGE_MAX));
    caller.check_fuel(&state)?;
    let view = find_any(&state, &caller, key).await?;
    let intervals = blocking(move || {
        // One instant for both, so that they agree.
        let now = state.fleet.now();
        let usage = present::usage(&state, &view, now);
        let page = state.fleet.intervals_after(&view, now, (params.after, limit))?;
        Ok(present::intervals(&state, &view, &page, view.deleted.unwrap_or(now), &usage))
    })
    .await?;
    Ok(Json(intervals))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

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
        assert!(
            body.message.contains("`stat`") && body.message.contains("`state`"),
            "{}",
            body.message
        );
        let body = Filter::new(pairs(&[("state", "Sleeping")])).expect_err("refused").into_body();
        assert!(
            body.message.contains("Sleeping") && body.message.contains("Standby"),
            "{}",
            body.message
        );
    }

    #[test]
    fn a_client_that_gives_up_is_answered_before() {
        let patience = |name: &'static str, value: &str| {
            let headers = [(HeaderName::from_static(name), value.parse().expect("a value"))];
            patience(&headers.into_iter().collect())
        };
        assert_eq!(patience("x-stainless-read-timeout", "60"), Duration::from_secs(54));
        assert_eq!(patience("x-stainless-read-timeout", "60.0"), Duration::from_secs(54));
        assert_eq!(patience("x-stainless-timeout", "10"), Duration::from_secs(9));
        assert_eq!(patience("x-stainless-timeout", "None"), Duration::MAX);
        let endless = patience("x-stainless-read-timeout", "18446744073709551615");
        assert!(endless > Duration::from_secs(3_600), "{endless:?}");
        assert_eq!(patience("x-other", "1"), Duration::MAX);
    }

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(wait_timeout(None).ok(), Some(Duration::from_secs(60)));
        assert_eq!(wait_timeout(Some("5s")).ok(), Some(Duration::from_secs(5)));
        assert_eq!(
            wait_timeout(Some("100h")).ok(),
            Some(Duration::from_secs(limits::api::WAIT_S_MAX))
        );
        assert_eq!(wait_timeout(Some("soon")).expect_err("refused").status(), 400);
    }
}
