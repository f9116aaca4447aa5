//! `/instances/{id}/cp` and `/stat`: the files of a guest.

use axum::Json;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State as Extract};
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::auth::Caller;
use super::body::Params;
use super::error::{ApiError, ErrorBody};
use super::model::{CopyHeader, CopyMessage, CopyRequest, PathInfo};
use super::shared::Failures;
use super::visit::{self, Denied, Times, Visitor};
use crate::driver::Purpose;
use crate::guest::protocol::{Ending, What, Write};
use crate::guest::record::{Entry, EntryKind, Record, Records};
use crate::guest::{GuestError, Session, SessionEvent};

/// The numbers of `ENOENT` and `ENOTDIR` in a guest.
const NOT_THERE: [i32; 2] = [2, 20];

/// The bits of a mode that a copy keeps: reading, writing and execution by owner, group and others.
/// Set-user-id, set-group-id and sticky bits are left out.
const PERMISSIONS: u32 = 0o777;

/// Copy files into the guest or out of it
///
/// A WebSocket. The client's first message is a text, a `CopyRequest`. *To*: its binary messages
/// are the content, `{"type":"end"}` ends it, and the answer is `{"type":"result"}`; a file takes
/// the place of what was there when it is whole. *From*: for each entry the server sends
/// `{"type":"header"}`, the content in binary messages, and `{"type":"end"}`, whose `final` is true
/// after the last. Both sides get `{"type":"error"}` instead if something is wrong.
#[utoipa::path(get, path = "/instances/{id}/cp", tag = "instances", security(("bearer" = [])), responses(
    (status = 101, description = "The WebSocket; its first message is the request", body = CopyRequest),
    (status = 409, description = "It does not run, or its guest has no agent", body = ErrorBody),
    Failures,
))]
pub(super) async fn copy_files(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let visitor = Visitor::new(state, caller, &key)?;
    Ok(visit::upgrade(socket)?.on_upgrade(|socket| run(visitor, socket)))
}

/// A path to look at.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatParams {
    /// The absolute path.
    path: String,
    /// Look at what a link points at.
    #[serde(default)]
    follow_links: bool,
}

/// Look at a path in the guest
#[utoipa::path(get, path = "/instances/{id}/stat", tag = "instances", security(("bearer" = [])),
    params(StatParams), responses(
    (status = 200, description = "What is there; `exists` is false if nothing is", body = PathInfo),
    (status = 409, description = "It does not run, or its guest has no agent", body = ErrorBody),
    Failures,
))]
pub(super) async fn stat_path(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Params(StatParams { path, follow_links }): Params<StatParams>,
) -> Result<Json<PathInfo>, ApiError> {
    let visitor = Visitor::new(state, caller, &key)?;
    let about = path.clone();
    let what = What::Stat { path: visit::path(path)?, follow: follow_links };
    let session = visitor.open(Purpose::Stat, about, what, Times::default()).await?;
    match Told::of(session).next().await? {
        Record::Entry(entry) => Ok(Json(info(entry))),
        Record::Failed { errno, .. } if NOT_THERE.contains(&errno) => Ok(Json(PathInfo::default())),
        Record::Failed { text, .. } => {
            Ok(Json(PathInfo { error: Some(text), ..PathInfo::default() }))
        }
        Record::Content(_) | Record::EntryEnd | Record::Done { .. } => Err(nonsense().into()),
    }
}

fn info(entry: Entry) -> PathInfo {
    let Entry { path: _, kind, mode, size, mtime, uid, gid, target } = entry;
    PathInfo {
        exists: true,
        is_dir: kind == EntryKind::Folder,
        is_file: kind == EntryKind::File,
        is_symlink: kind == EntryKind::Link,
        link_target: (kind == EntryKind::Link).then(|| words(&target)),
        mode: Some(mode),
        size: Some(size),
        mtime: Some(mtime),
        uid: Some(uid),
        gid: Some(gid),
        error: None,
    }
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn nonsense() -> GuestError {
    GuestError::Protocol("its helper for files said something else than was asked for".into())
}

/// The records of a helper for files.
struct Told {
    session: Session,
    records: Records,
    /// Standard error of the helper.
    complaint: Vec<u8>,
}

impl Told {
    fn of(session: Session) -> Self {
        Self { session, records: Records::default(), complaint: Vec::new() }
    }

    /// The next record.
    async fn next(&mut self) -> Result<Record, GuestError> {
        loop {
            let next = self.records.next();
            if let Some(record) = next.map_err(|error| GuestError::Protocol(error.to_string()))? {
                return Ok(record);
            }
            match self.session.next().await? {
                SessionEvent::Output { is_error: false, bytes } => self.records.push(&bytes),
                SessionEvent::Output { is_error: true, bytes } => {
                    self.complaint.extend_from_slice(&bytes[..bytes.len().min(1_024)]);
                    self.complaint.truncate(4_096);
                }
                SessionEvent::Ended(ending) => return Err(self.end(ending)),
            }
        }
    }

    fn end(&self, ending: Ending) -> GuestError {
        let text = format!("its helper for files ended ({ending:?}) {}", words(&self.complaint));
        GuestError::Protocol(text)
    }
}

async fn run(visitor: Visitor, mut socket: WebSocket) {
    let closing = visitor.state.closing.clone();
    let copied = tokio::select! {
        copied = copy(&visitor, &mut socket) => copied,
        () = closing.cancelled() => return,
    };
    let last = match copied {
        Ok(()) => {
            visit::see_off(&mut socket).await;
            visit::farewell()
        }
        Err(failure) => {
            let last = visit::refusal(&failure.message);
            let Failure { message, path } = failure;
            // A client that has gone hears nothing.
            let _ = socket.send(visit::text(&CopyMessage::Error { message, path })).await;
            last
        }
    };
    let _ = socket.send(last).await;
}

/// The reason why a copy was not made.
struct Failure {
    message: String,
    path: Option<String>,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { message: error.into_body().message, path: None }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        ApiError::from(denied).into()
    }
}

impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        Self { message: error.to_string(), path: None }
    }
}

/// The client has gone in the middle of it.
fn gone<E>(_: E) -> Failure {
    Failure { message: "the client has gone".into(), path: None }
}

async fn copy(visitor: &Visitor, socket: &mut WebSocket) -> Result<(), Failure> {
    match visit::first(socket).await? {
        CopyRequest::To { guest_path, is_dir, mode, uid, gid } => {
            let about = guest_path.clone();
            let usual = if is_dir { 0o755 } else { 0o644 };
            let mode = mode.unwrap_or(usual);
            let path = visit::path(guest_path)?;
            let what = What::Write(Write { path, is_folder: is_dir, mode, uid, gid });
            let opened = visitor.open(Purpose::CopyIn, about, what, Times::default());
            write(opened.await?, socket).await
        }
        CopyRequest::From { guest_path, follow_links } => {
            let about = guest_path.clone();
            let what = What::Read { path: visit::path(guest_path)?, follow: follow_links };
            let opened = visitor.open(Purpose::CopyOut, about, what, Times::default());
            read(opened.await?, socket).await
        }
    }
}

/// Passes content on to the guest, and its answer back.
async fn write(session: Session, socket: &mut WebSocket) -> Result<(), Failure> {
    let talk = session.talk();
    let mut told = Told::of(session);
    let sent = async {
        loop {
            match socket.recv().await {
                Some(Ok(Message::Binary(bytes))) => talk.input(&bytes).await,
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(CopyMessage::End { .. }) => break talk.end_input().await,
                    _ => return Err(ApiError::invalid("after the content comes an end").into()),
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return Err(gone(())),
            }
        }
        // What remains to be heard is the guest's answer.
        std::future::pending().await
    };
    let answer = tokio::select! {
        answer = told.next() => answer?,
        failure = sent => return failure,
    };
    match answer {
        Record::Done { bytes } => {
            let result = CopyMessage::Result { success: true, bytes_written: bytes };
            socket.send(visit::text(&result)).await.map_err(gone)
        }
        Record::Failed { path, text, .. } => {
            Err(Failure { message: text, path: Some(words(&path)) })
        }
        Record::Entry(_) | Record::Content(_) | Record::EntryEnd => Err(nonsense().into()),
    }
}

/// Passes entries on to the client.
async fn read(session: Session, socket: &mut WebSocket) -> Result<(), Failure> {
    let mut told = Told::of(session);
    let mut entries = Entries::default();
    loop {
        let (messages, is_over) = entries.take(told.next().await?)?;
        for message in messages {
            socket.send(message).await.map_err(gone)?;
        }
        if is_over {
            return Ok(());
        }
    }
}

/// Entries on their way to the client.
#[derive(Default)]
struct Entries {
    /// The end of an entry, which says whether it is the last, waits for what follows.
    end_waits: bool,
    /// The entry under way has no content that could be copied, and is left out.
    is_left_out: bool,
    /// Bytes of content that are to come.
    left: u64,
}

impl Entries {
    /// The messages that a record makes, and whether they are the last.
    fn take(&mut self, record: Record) -> Result<(Vec<Message>, bool), Failure> {
        let fails = |message: &str, path| Err(Failure { message: message.to_owned(), path });
        let mut messages = Vec::new();
        match record {
            Record::Entry(entry) if entry.kind == EntryKind::Special => self.is_left_out = true,
            Record::Entry(entry) => {
                if std::mem::take(&mut self.end_waits) {
                    messages.push(visit::text(&CopyMessage::End { is_final: false }));
                }
                self.left = if entry.kind == EntryKind::File { entry.size } else { 0 };
                messages.push(visit::text(&header(entry)));
            }
            Record::Content(mut bytes) => {
                // A file that grows meanwhile ends where it ended.
                bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= bytes.len() as u64;
                messages.push(Message::Binary(bytes.into()));
            }
            Record::EntryEnd if std::mem::take(&mut self.is_left_out) => {}
            Record::EntryEnd if self.left > 0 => {
                return fails("a file became shorter while it was read", None);
            }
            Record::EntryEnd => self.end_waits = true,
            Record::Failed { path, text, .. } => return fails(&text, Some(words(&path))),
            Record::Done { .. } if self.end_waits => {
                messages.push(visit::text(&CopyMessage::End { is_final: true }));
                return Ok((messages, true));
            }
            Record::Done { .. } => {
                return fails("there is neither a file nor a folder nor a link", None);
            }
        }
        Ok((messages, false))
    }
}

fn header(entry: Entry) -> CopyMessage {
    let Entry { path, kind, mode, size, mtime, uid, gid, target } = entry;
    CopyMessage::Header(CopyHeader {
        path: words(&path),
        mode: mode & PERMISSIONS,
        size: if kind == EntryKind::File { size } else { 0 },
        mtime: mtime.max(0),
        uid,
        gid,
        is_dir: kind == EntryKind::Folder,
        is_symlink: kind == EntryKind::Link,
        link_target: words(&target),
    })
}
