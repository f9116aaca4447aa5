//! `/instances/{id}/exec`: a command in the guest, over a WebSocket.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State as Extract};
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::json;

use super::Shared;
use super::auth::Caller;
use super::error::{ApiError, ErrorBody};
use super::model::{ExecControl, ExecRequest};
use super::shared::Failures;
use super::visit::{self, Denied, Times, Visitor};
use crate::driver::Purpose;
use crate::guest::protocol::{Ending, Exec, Size, What};
use crate::guest::{GuestError, Session, SessionEvent, Talk};
use crate::limits::guest as limits;

/// The number of `ENOENT` in a guest.
const NOT_THERE: i32 = 2;

/// Run a command in the guest
///
/// A WebSocket. The client's first message is a text, an `ExecRequest`; its binary messages are
/// input, its other texts each an `ExecControl`: `{"resize":{"rows":24,"cols":80}}`,
/// `{"signal":2}`, `{"eof":true}`. The server's binary messages are output; its last one is the
/// text `{"exitCode":0}`: 128 and the number for a signal, 124 for a command whose time was over,
/// 126 and 127 for one that could not be started or was not found. A session that is cut off, by a
/// standby for example, ends without it, and the close says why. When the client goes, the command
/// is ended. Each session is on record with its actor and its command, without variables.
#[utoipa::path(get, path = "/instances/{id}/exec", tag = "instances", security(("bearer" = [])), responses(
    (status = 101, description = "The WebSocket; its first message is the request", body = ExecRequest),
    (status = 409, description = "It does not run, or its guest has no agent", body = ErrorBody),
    Failures,
))]
pub(super) async fn exec_in_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let visitor = Visitor::new(state, caller, &key)?;
    Ok(visit::upgrade(socket)?.on_upgrade(|socket| run(visitor, socket)))
}

async fn run(visitor: Visitor, mut socket: WebSocket) {
    let (streams, begun) = match visit::first::<ExecRequest>(&mut socket).await {
        Ok(request) => (request.streams, begin(&visitor, request).await),
        Err(error) => (true, Err(error.into())),
    };
    let closing = visitor.state.closing.clone();
    match begun {
        Ok(session) => tokio::select! {
            () = serve(session, socket, streams) => {}
            () = closing.cancelled() => {}
        },
        Err(denied) => tell(&mut socket, denied, streams).await,
    }
}

/// Says why the command was not begun. A client that only knows exit codes gets one where the guest
/// had no such command.
async fn tell(socket: &mut WebSocket, denied: Denied, streams: bool) {
    let code = match &denied {
        Denied::Guest(GuestError::Refused { errno: NOT_THERE, .. }) => Some(127),
        Denied::Guest(GuestError::Refused { .. }) => Some(126),
        Denied::Guest(_) | Denied::Host(_) => None,
    };
    let body = ApiError::from(denied).into_body();
    let last = visit::refusal(&body.message);
    let messages = match (streams, code) {
        (true, _) => vec![visit::text(&json!({ "error": body }))],
        (false, Some(code)) => {
            let said = format!("{}\n", body.message).into_bytes();
            vec![Message::Binary(said.into()), visit::text(&json!({ "exitCode": code }))]
        }
        (false, None) => Vec::new(),
    };
    for message in messages.into_iter().chain([last]) {
        // A client that has gone hears nothing.
        let _ = socket.send(message).await;
    }
}

async fn begin(visitor: &Visitor, request: ExecRequest) -> Result<Session, Denied> {
    let about = request.command.join(" ");
    let times = times(&request)?;
    let what = What::Exec(command(request)?);
    visitor.open(Purpose::Exec, about, what, times).await
}

fn times(request: &ExecRequest) -> Result<Times, ApiError> {
    let within = |field: &str, value: Option<u64>, max: u64| match value {
        Some(value) if value > max => {
            Err(ApiError::invalid(format!("{field}: at most {max} seconds, is {value}")))
        }
        value => Ok(value),
    };
    let timeout = within("timeout", request.timeout, limits::TIMEOUT_S_MAX)?.unwrap_or_default();
    let patience = within("wait_for_agent", request.wait_for_agent, limits::AGENT_WAIT_S_MAX)?;
    let patience = patience.map_or(Times::default().patience, Duration::from_secs);
    Ok(Times { timeout_ms: timeout * 1_000, patience: patience.max(Duration::from_millis(500)) })
}

fn command(request: ExecRequest) -> Result<Exec, ApiError> {
    let invalid = |message: String| Err(ApiError::invalid(message));
    let ExecRequest { command, tty, env, cwd, user, rows, cols, .. } = request;
    let env: Vec<_> = env
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if command.first().is_none_or(String::is_empty) {
        return invalid("command: name a program, such as [\"uname\", \"-a\"]".into());
    }
    let words = || command.iter().chain(&env);
    let bytes: usize = words().map(String::len).sum();
    if words().count() > limits::WORDS_MAX || bytes > limits::COMMAND_BYTES_MAX {
        return invalid(format!(
            "command: at most {} words and variables of {} bytes together",
            limits::WORDS_MAX,
            limits::COMMAND_BYTES_MAX
        ));
    }
    if words().any(|word| word.contains('\0')) {
        return invalid("command: no word and no variable may hold a NUL".into());
    }
    let size = Size { rows: rows.unwrap_or(24), columns: cols.unwrap_or(80) };
    let bytes = |words: Vec<String>| words.into_iter().map(String::into_bytes).collect();
    Ok(Exec {
        argv: bytes(command),
        env: bytes(env),
        cwd: cwd.map_or(Ok(b"/".to_vec()), visit::path)?,
        user: user.unwrap_or_default().into_bytes(),
        terminal: tty.then_some(size),
    })
}

/// Passes on what both sides say, until one of them ends.
async fn serve(mut session: Session, socket: WebSocket, streams: bool) {
    let (mut sink, stream) = socket.split();
    let talk = session.talk();
    tokio::select! {
        ended = answer(&mut session, &mut sink, streams) => {
            let last = match ended {
                Some(Ok(ending)) => {
                    // A client that has gone hears nothing.
                    let _ = sink.send(visit::text(&json!({ "exitCode": exit_code(ending) }))).await;
                    visit::farewell()
                }
                Some(Err(error)) => visit::refusal(&error.to_string()),
                None => return,
            };
            let _ = sink.send(last).await;
        }
        () = listen(&talk, stream) => {}
    }
}

/// Sends what the guest says; none if nobody takes it any more.
async fn answer(
    session: &mut Session,
    sink: &mut SplitSink<WebSocket, Message>,
    streams: bool,
) -> Option<Result<Ending, GuestError>> {
    loop {
        match session.next().await {
            Ok(SessionEvent::Output { is_error, mut bytes }) => {
                if streams {
                    bytes.insert(0, if is_error { 2 } else { 1 });
                }
                sink.send(Message::Binary(bytes.into())).await.ok()?;
            }
            Ok(SessionEvent::Ended(ending)) => return Some(Ok(ending)),
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Takes what the client says, until it goes.
async fn listen(talk: &Talk, mut stream: SplitStream<WebSocket>) {
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Binary(bytes) => talk.input(&bytes).await,
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(ExecControl::Resize { rows, cols }) => {
                    talk.resize(Size { rows, columns: cols }).await;
                }
                Ok(ExecControl::Signal(signal)) => talk.signal(signal).await,
                Ok(ExecControl::Eof(true)) => talk.end_input().await,
                // A client of a later version may say more.
                Ok(ExecControl::Eof(false)) | Err(_) => {}
            },
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

/// The exit code as a shell would tell it.
fn exit_code(ending: Ending) -> i32 {
    match ending {
        Ending::Code(code) => code,
        Ending::Signal(signal) => 128 + signal,
        Ending::TimedOut => 124,
    }
}
