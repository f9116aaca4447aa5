//! The part that all ways into a guest share: the visitor, a place for the session, and a WebSocket
//! whose first message says what is wanted.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::State;
use super::auth::Caller;
use super::error::ApiError;
use super::seats::Seat;
use crate::driver::{FleetError, Purpose, Visit};
use crate::guest::protocol::{Open, What};
use crate::guest::{GuestError, Session};
use crate::id::{InstanceId, TenantId};
use crate::limits::guest as limits;

/// Somebody who may go into a guest.
pub(super) struct Visitor {
    pub(super) state: Arc<State>,
    caller: Caller,
    id: InstanceId,
    _seat: Seat<TenantId>,
}

impl Visitor {
    /// Checks that there is a guest that can be entered, and takes a place.
    pub(super) fn new(state: Arc<State>, caller: Caller, key: &str) -> Result<Self, ApiError> {
        let tenant = caller.tenant();
        let view = state.fleet.find(&tenant, key)?;
        if !view.live.runs() {
            let state = view.live.state.as_str();
            return Err(FleetError::NotRunning { state }.into());
        }
        let seat = state.visitors.take(&tenant);
        let seat =
            seat.ok_or_else(|| ApiError::too_many_at_once("sessions", state.visitors.most()))?;
        Ok(Self { state, caller, id: view.record.id.clone(), _seat: seat })
    }

    /// Opens a session, and puts on record that it was.
    pub(super) async fn open(
        &self,
        purpose: Purpose,
        about: String,
        what: What,
        times: Times,
    ) -> Result<Session, Denied> {
        let visit = Visit { by: self.caller.actor(), purpose, about };
        let guest = self.state.fleet.visit(&self.caller.tenant(), &self.id, visit).await;
        let guest = guest.map_err(ApiError::from)?;
        let Times { timeout_ms, patience } = times;
        Ok(guest.open(Open { what, timeout_ms }, patience).await?)
    }
}

/// The reason why there is no session.
pub(super) enum Denied {
    /// The host would not open one.
    Host(ApiError),
    /// The guest did not.
    Guest(GuestError),
}

impl From<ApiError> for Denied {
    fn from(error: ApiError) -> Self {
        Self::Host(error)
    }
}

impl From<GuestError> for Denied {
    fn from(error: GuestError) -> Self {
        Self::Guest(error)
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Host(error) => error,
            Denied::Guest(error) => error.into(),
        }
    }
}

/// The times of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// In milliseconds; 0 for ever.
    pub(super) timeout_ms: u64,
    /// To wait for the agent.
    pub(super) patience: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { timeout_ms: 0, patience: Duration::from_millis(limits::AGENT_WAIT_MS) }
    }
}

/// A path in a guest.
pub(super) fn path(path: String) -> Result<Vec<u8>, ApiError> {
    let max = limits::PATH_BYTES_MAX;
    if !path.starts_with('/') || path.len() > max || path.contains('\0') {
        return Err(ApiError::invalid(format!(
            "guest_path: an absolute path of at most {max} bytes, such as /etc/hostname"
        )));
    }
    Ok(path.into_bytes())
}

/// The handshake of a WebSocket, or the answer to a request that is none.
pub(super) fn upgrade(
    asked: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade, ApiError> {
    let none = |_| {
        ApiError::new(StatusCode::UPGRADE_REQUIRED, "not_a_websocket", "this is a WebSocket")
            .hint("`tallyman instance exec` and `cp` speak it; GET /openapi.json says how")
    };
    let upgrade = asked.map_err(none)?;
    Ok(upgrade
        .max_message_size(limits::CLIENT_MESSAGE_BYTES_MAX)
        .max_frame_size(limits::CLIENT_MESSAGE_BYTES_MAX))
}

/// The first message, which says what is wanted.
pub(super) async fn first<T: DeserializeOwned>(socket: &mut WebSocket) -> Result<T, ApiError> {
    let limit = Duration::from_millis(limits::FIRST_WORD_MS_MAX);
    let text = loop {
        match timeout(limit, socket.recv()).await {
            Ok(Some(Ok(Message::Text(text)))) => break text,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
            _ => return Err(ApiError::invalid("the first message has to say what is wanted")),
        }
    };
    serde_json::from_str(&text).map_err(|error| ApiError::unreadable("field", &error.to_string()))
}

/// A text message.
pub(super) fn text(content: &impl Serialize) -> Message {
    // What we made ourselves can be written.
    Message::Text(serde_json::to_string(content).unwrap_or_default().into())
}

/// The last message after a failure: its reason is the error's.
pub(super) fn refusal(error: &str) -> Message {
    // The protocol's limit, without the code.
    let mut reason = error.to_owned();
    reason.truncate(reason.floor_char_boundary(123));
    Message::Close(Some(CloseFrame { code: close_code::ERROR, reason: reason.into() }))
}

/// Waits until a client that has everything goes by itself. Some take a connection that ends before
/// their files are closed for one that broke off.
pub(super) async fn see_off(socket: &mut WebSocket) {
    let gone = async {
        while let Some(Ok(message)) = socket.recv().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
    };
    let limit = Duration::from_millis(limits::FAREWELL_MS_MAX);
    // One that stays is left.
    let _ = timeout(limit, gone).await;
}

/// The last message after success.
pub(super) fn farewell() -> Message {
    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }))
}
