//! `/events/stream`: facts as they are recorded, as server-sent events.
//!
//! The id of an event is the sequence number of its fact. A client that sends the last one that it
//! has got misses nothing and gets nothing twice, whatever was started anew meanwhile.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Extract;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::Stream;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use super::auth::{self, Caller};
use super::body::Params;
use super::error::ApiError;
use super::journal::instance;
use super::seats::Seat;
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::id::TenantId;
use crate::journal::wire::Kind;
use crate::journal::{FactQuery, Head, Page};
use crate::limits::api as limits;

/// The selection of facts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// Facts with a greater sequence number than this, past ones first; only new ones if absent.
    /// The header `Last-Event-ID` goes before it.
    after: Option<u64>,
    /// Only facts of this instance: its id (also after its deletion), its name, or a unique prefix
    /// of the id.
    instance: Option<String>,
    /// Only facts of this kind.
    #[param(inline)]
    kind: Option<Kind>,
}

/// Follow the journal
///
/// Server-sent events, one for each fact of the tenant, or of every tenant for an operator who
/// names none: its id is the fact's sequence number, its data the fact as `GET /journal` has it.
/// With the last id in the header `Last-Event-ID` the stream goes on behind it, also after a
/// restart of the daemon. A stream ends with the token that it was opened with.
#[utoipa::path(get, path = "/events/stream", tag = "journal", security(("bearer" = [])), params(
    StreamParams,
    ("Last-Event-ID" = Option<String>, Header,
        description = "The id of the last event that was received"),
), responses(
    (status = 200, description = "The facts", body = String, content_type = "text/event-stream"),
    Failures,
))]
pub(super) async fn stream_facts(
    Extract(state): Shared,
    caller: Caller,
    headers: HeaderMap,
    Params(params): Params<StreamParams>,
) -> Result<Sse<impl Stream<Item = Result<Event, axum::Error>>>, ApiError> {
    let head = state.journal.follow();
    let end = state.journal.head().seq;
    let after = resumed(&headers)?.or(params.after).unwrap_or(end);
    if after > end {
        return Err(ahead(after, end));
    }
    let key = params.instance.as_deref();
    let instance = key.map(|key| instance(&state, &caller, key)).transpose()?;
    let seat = seat(&state, &caller)?;
    let query = FactQuery {
        after,
        through: None,
        tenant: caller.scope().cloned(),
        instance,
        kind: params.kind,
        limit: Some(limits::STREAM_PAGE),
    };
    let (events, received) = mpsc::channel(limits::STREAM_PAGE);
    let follower = Follower { state, headers, query, events, _seat: seat };
    tokio::spawn(follower.run(head));
    Ok(Sse::new(ReceiverStream::new(received)).keep_alive(KeepAlive::default()))
}

/// A follower's seat of the caller's tenant.
pub(super) fn seat(state: &State, caller: &Caller) -> Result<Seat<TenantId>, ApiError> {
    let followers = &state.followers;
    let seat = followers.take(&caller.tenant());
    seat.ok_or_else(|| ApiError::too_many_at_once("followers", followers.most()))
}

/// The position from which a client resumes; `None` if it sent none.
pub(super) fn resumed(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let after = id.to_str().ok().and_then(|id| id.parse().ok());
    let wrong = || {
        ApiError::invalid("Last-Event-ID: not an id of this stream; send one as it was received")
    };
    after.map(Some).ok_or_else(wrong)
}

fn ahead(after: u64, end: u64) -> ApiError {
    let message = format!("the journal ends with fact {end}, before fact {after}");
    ApiError::conflict("ahead_of_journal", message)
        .hint("it was put back from an older copy; read its facts again from the beginning")
}

/// One client of the stream.
struct Follower {
    state: Arc<State>,
    /// The request's headers, with which it is authenticated again.
    headers: HeaderMap,
    query: FactQuery,
    events: mpsc::Sender<Result<Event, axum::Error>>,
    _seat: Seat<TenantId>,
}

impl Follower {
    /// Sends facts until the client disconnects, its token ends, or the daemon stops.
    async fn run(mut self, mut head: watch::Receiver<Head>) {
        let closing = self.state.closing.clone();
        while self.is_welcome() {
            let end = head.borrow_and_update().seq;
            let sent = tokio::select! {
                sent = self.send_through(end) => sent,
                () = closing.cancelled() => false,
            };
            if !sent {
                return;
            }
            tokio::time::sleep(Duration::from_millis(limits::STREAM_PAUSE_MS)).await;
            let look_again = tokio::time::sleep(Duration::from_millis(limits::STREAM_TOKEN_MS));
            tokio::select! {
                changed = head.changed() => if changed.is_err() { return },
                () = look_again => {}
                () = closing.cancelled() => return,
                () = self.events.closed() => return,
            }
        }
    }

    fn is_welcome(&self) -> bool {
        let caller = auth::caller(&self.state, &self.headers);
        caller.is_ok_and(|caller| caller.scope() == self.query.tenant.as_ref())
    }

    /// Sends all facts up to `end`; returns false if the client is gone or they can't be read.
    async fn send_through(&mut self, end: u64) -> bool {
        while self.query.after < end {
            let state = self.state.clone();
            let query = self.query.clone();
            let page = match blocking(move || Ok(state.journal.facts(&query)?)).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(?error, "the journal could not be read for a stream");
                    return false;
                }
            };
            let Page { facts, next } = page;
            for fact in facts {
                let event = Event::default().id(fact.fact.seq.to_string()).json_data(&fact);
                self.query.after = fact.fact.seq;
                if self.events.send(event).await.is_err() {
                    return false;
                }
            }
            self.query.after = next.unwrap_or(end).max(self.query.after);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_a_sequence_number() {
        let mut headers = HeaderMap::new();
        assert_eq!(resumed(&headers).expect("none"), None);
        headers.insert("last-event-id", "7".parse().expect("a header"));
        assert_eq!(resumed(&headers).expect("a number"), Some(7));
        headers.insert("last-event-id", "1-2".parse().expect("a header"));
        assert_eq!(resumed(&headers).expect_err("refused").status(), 400);
    }
}
