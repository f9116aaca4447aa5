//! `/instances/{id}/logs`: the lines of a log as server-sent events, past ones and new ones.

use std::io;
use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures::StreamExt;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::body::Params;
use super::error::ApiError;
use super::seats::Seat;
use super::shared::Failures;
use super::told::Facts;
use super::{Shared, State, stream};
use crate::driver::View;
use crate::hypervisor::log::{self, Follower, Log, LogEvent, LogSource, Place, Start};
use crate::id::TenantId;
use crate::limits::api as limits;

/// The log of an instance that is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Source {
    /// The guest's console.
    #[default]
    #[serde(alias = "console")]
    App,
    /// The virtual machine monitor and its supervisor.
    Vmm,
    /// The acts of this daemon: the instance's facts.
    #[serde(alias = "hypeman")]
    Facts,
}

/// The query parameters of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogParams {
    /// Set to keep the answer open and send new lines as they are written.
    #[serde(default)]
    follow: bool,
    /// Number of lines before the end to begin with, at most 1,000,000; 100 if absent.
    tail: Option<usize>,
    /// The log: `app` (or `console`) is the guest's console, `vmm` the virtual machine monitor, for
    /// operators only, `facts` (or `hypeman`) the instance's facts as JSON; `app` if absent.
    #[serde(default)]
    #[param(inline)]
    source: Source,
}

/// Read the log of an instance
///
/// Server-sent events. The data of each is one line as a JSON string, its id the position after the
/// line. With the last id in the header `Last-Event-ID`, the lines continue from there, also after
/// a restart of the daemon, and `tail` is ignored. If lines after that position were dropped from
/// the log, an event `gap` comes first.
#[utoipa::path(get, path = "/instances/{id}/logs", tag = "instances", security(("bearer" = [])),
    params(
        LogParams,
        ("Last-Event-ID" = Option<String>, Header,
            description = "The id of the last event that was received"),
    ), responses(
    (status = 200, description = "The lines", body = String, content_type = "text/event-stream"),
    Failures,
))]
pub(super) async fn stream_logs(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    headers: HeaderMap,
    Params(params): Params<LogParams>,
) -> Result<Response, ApiError> {
    if params.source == Source::Vmm && !caller.is_operator() {
        let message = "source: only an operator may read the log `vmm`, which names host folders";
        return Err(ApiError::operators_alone(message));
    }
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let tail = params.tail.unwrap_or(limits::LOG_LINES_DEFAULT).min(limits::LOG_LINES_MAX);
    let source = match params.source {
        Source::App => LogSource::Console,
        Source::Vmm => LogSource::Vmm,
        Source::Facts => return facts(state, &caller, &view, &headers, tail, params.follow),
    };
    let log = Log::new(state.fleet.folder(&view.record.id), source);
    let start = resumed(&headers)?.map_or(Start::Tail(tail), Start::Place);
    // The watch begins before the first read, so that nothing written in between is missed.
    let changes = params.follow.then(|| follower(&state, &caller, &log)).transpose()?;
    let (lines, received) = mpsc::channel(limits::LOG_QUEUE_LINES_MAX);
    tokio::spawn(send(log, start, changes, lines, state.closing.clone()));
    let events = ReceiverStream::new(received).map(event);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

/// The facts of an instance as events.
fn facts(
    state: Arc<State>,
    caller: &Caller,
    view: &View,
    headers: &HeaderMap,
    tail: usize,
    follow: bool,
) -> Result<Response, ApiError> {
    let seat = follow.then(|| stream::seat(&state, caller)).transpose()?;
    let after = stream::resumed(headers)?;
    let head = follow.then(|| state.journal.follow());
    let (lines, received) = mpsc::channel(limits::LOG_QUEUE_LINES_MAX);
    let instance = view.record.id.clone();
    let facts = Facts { state, instance, after: after.unwrap_or(0), lines };
    let tail = if after.is_some() { usize::MAX } else { tail };
    tokio::spawn(async move {
        let _seat = seat;
        facts.send(tail, head).await;
    });
    let events = ReceiverStream::new(received);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn event(event: LogEvent) -> Result<Event, axum::Error> {
    match event {
        LogEvent::Line { text, after } => Event::default().id(after.to_string()).json_data(text),
        LogEvent::Gap => {
            let message = "older lines were dropped from the log; some are missing here";
            Event::default().event("gap").json_data(message)
        }
    }
}

fn follower(
    state: &State,
    caller: &Caller,
    log: &Log,
) -> Result<(Follower, Seat<TenantId>), ApiError> {
    let seat = stream::seat(state, caller)?;
    let follower = state.logs.follow(log).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            ApiError::conflict("no_log", "the instance has no log: its folder does not exist")
        }
        _ => ApiError::exhausted(format!(
            "the log can't be followed now ({error}); end other followers, or raise \
             fs.inotify.max_user_watches"
        )),
    })?;
    Ok((follower, seat))
}

/// The position from which a client resumes; `None` if it sent none.
fn resumed(headers: &HeaderMap) -> Result<Option<Place>, ApiError> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let place = id.to_str().ok().and_then(|id| id.parse().ok());
    let wrong = || {
        ApiError::invalid(
            "Last-Event-ID: not an id of this log's events; send one as it was received",
        )
    };
    place.map(Some).ok_or_else(wrong)
}

/// Sends lines until the log ends, the client disconnects, or the daemon stops.
async fn send(
    log: Log,
    start: Start,
    changes: Option<(Follower, Seat<TenantId>)>,
    lines: mpsc::Sender<LogEvent>,
    closing: CancellationToken,
) {
    let result = match changes {
        Some((changes, _seat)) => tokio::select! {
            result = log::follow(log, start, changes, &lines) => result,
            // A partial line is not sent: the client resumes at the next daemon and gets it whole.
            () = closing.cancelled() => Ok(()),
        },
        None => log::recent(log, start, &lines).await,
    };
    if let Err(error) = result {
        tracing::warn!(%error, "a log could not be read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_of_another_log_is_refused() {
        let mut headers = HeaderMap::new();
        assert!(resumed(&headers).expect("none").is_none());
        headers.insert("last-event-id", "7".parse().expect("a header"));
        assert_eq!(resumed(&headers).expect_err("refused").status(), 400);
    }
}
