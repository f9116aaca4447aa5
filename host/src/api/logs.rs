//! `/instances/{id}/logs`: what the guest wrote to its console, as events, past and present.
//!
//! Following is driven by the kernel's notices about the folder; nothing is polled. A log that is full is renamed and a new one begins: the reader
//! drains the file it has open before it goes on with the next, so that no line is lost or told twice.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use axum::extract::{Path, State as Extract};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchMask};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::auth::Caller;
use super::body::Params;
use super::error::{ApiError, ErrorBody};
use crate::hypervisor::files;
use crate::limits::api as limits;

/// Which log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Source {
    /// The guest's console.
    #[default]
    App,
    /// The virtual machine monitor and its supervisor.
    Vmm,
}

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogParams {
    /// Go on with new lines as they are written.
    #[serde(default)]
    follow: bool,
    /// How many lines from the end to begin with; 100 if absent.
    tail: Option<usize>,
    /// Which log: `app` is the guest's console, `vmm` what runs it.
    #[serde(default)]
    #[param(inline)]
    source: Source,
}

/// The lines of an instance's log
///
/// Server-sent events; the data of each is one line as a JSON string.
#[utoipa::path(get, path = "/instances/{id}/logs", tag = "instances", security(("bearer" = [])),
    params(("id" = String, Path, description = "Its id, its name, or its id's unique beginning"), LogParams), responses(
    (status = 200, description = "The lines", body = String, content_type = "text/event-stream"),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn stream_logs(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Params(params): Params<LogParams>,
) -> Result<Sse<impl Stream<Item = Result<Event, axum::Error>>>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let log = Log::new(state.fleet.folder(&view.record.id), params.source);
    let tail = params.tail.unwrap_or(limits::LOG_LINES_DEFAULT).min(limits::LOG_LINES_MAX);
    // The watch comes before the first read: what is written in between is then noticed.
    let changes = if params.follow { Some(log.watch()?) } else { None };
    let (lines, received) = mpsc::channel(limits::LOG_QUEUE_LINES_MAX);
    tokio::spawn(tell(log, tail, changes, lines, state.closing.clone()));
    let events = ReceiverStream::new(received).map(|line: String| Event::default().json_data(line));
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Where a log lies.
#[derive(Debug, Clone)]
struct Log {
    folder: PathBuf,
    newest: PathBuf,
    older: Option<PathBuf>,
}

impl Log {
    fn new(folder: PathBuf, source: Source) -> Self {
        let (newest, older) = match source {
            Source::App => (files::console_log(&folder), Some(files::console_log_older(&folder))),
            Source::Vmm => (files::vmm_log(&folder), Some(files::vmm_log_older(&folder))),
        };
        Self { folder, newest, older }
    }

    fn watch(&self) -> Result<EventStream<[u8; 4096]>, ApiError> {
        let watched = Inotify::init().and_then(|inotify| {
            let interests = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE;
            inotify.watches().add(&self.folder, interests)?;
            inotify.into_event_stream([0; 4096])
        });
        watched.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ApiError::conflict("no_log", "the instance has no folder, so it has no log"),
            _ => ApiError::exhausted(format!(
                "the log can't be followed now ({error}); end other followers, or raise fs.inotify.max_user_instances"
            )),
        })
    }
}

/// Sends lines until there are no more, the client is gone, or the daemon stops.
async fn tell(
    log: Log,
    tail: usize,
    changes: Option<EventStream<[u8; 4096]>>,
    lines: mpsc::Sender<String>,
    closing: CancellationToken,
) {
    let result = match changes {
        Some(changes) => follow(log, tail, changes, &lines, &closing).await,
        None => recent(log, tail, &lines).await,
    };
    if let Err(error) = result {
        tracing::warn!(%error, "a log could not be read");
    }
}

async fn recent(log: Log, tail: usize, lines: &mpsc::Sender<String>) -> io::Result<()> {
    let mut reader = open(log, tail).await?;
    while let (more, Some(batch)) = step(reader).await? {
        reader = more;
        if !send(lines, batch).await {
            return Ok(());
        }
    }
    Ok(())
}

async fn follow(
    log: Log,
    tail: usize,
    mut changes: EventStream<[u8; 4096]>,
    lines: &mpsc::Sender<String>,
    closing: &CancellationToken,
) -> io::Result<()> {
    let mut reader = open(log, tail).await?;
    loop {
        loop {
            let (more, batch) = step(reader).await?;
            reader = more;
            let Some(batch) = batch else { break };
            if !send(lines, batch).await {
                return Ok(());
            }
        }
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(event)) if !is_end(&event, &reader.log) => {}
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) | None => return send_rest(reader, lines).await,
            },
            () = lines.closed() => return Ok(()),
            () = closing.cancelled() => return send_rest(reader, lines).await,
        }
    }
}

/// A log is renamed when it is full, and deleted only together with its folder. (Not every file system tells of the folder itself.)
fn is_end(event: &EventOwned, log: &Log) -> bool {
    event.mask.contains(EventMask::IGNORED)
        || (event.mask.contains(EventMask::DELETE) && event.name.as_deref() == log.newest.file_name())
}

async fn send(lines: &mpsc::Sender<String>, batch: Vec<String>) -> bool {
    for line in batch {
        if lines.send(line).await.is_err() {
            return false;
        }
    }
    true
}

async fn send_rest(mut reader: Reader, lines: &mpsc::Sender<String>) -> io::Result<()> {
    send(lines, reader.lines.rest().into_iter().collect()).await;
    Ok(())
}

async fn open(log: Log, tail: usize) -> io::Result<Reader> {
    tokio::task::spawn_blocking(move || Reader::open(log, tail)).await.map_err(io::Error::other)?
}

/// The next lines, if there are any now.
async fn step(mut reader: Reader) -> io::Result<(Reader, Option<Vec<String>>)> {
    let stepped = tokio::task::spawn_blocking(move || {
        let batch = reader.step()?;
        Ok((reader, batch))
    });
    stepped.await.map_err(io::Error::other)?
}

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// A place in a log.
struct Reader {
    log: Log,
    /// What is still to be read before `current`, the next one last.
    before: Vec<File>,
    current: Option<File>,
    lines: Lines,
}

impl Reader {
    /// At the beginning of the last `tail` lines.
    fn open(log: Log, tail: usize) -> io::Result<Self> {
        let mut current = open_if_there(&log.newest)?;
        let older = log.older.as_ref().map(|older| open_if_there(older)).transpose()?.flatten();
        let mut missing = tail;
        if let Some(file) = &mut current {
            missing -= seek_to_tail(file, tail)?;
        }
        let mut before = Vec::new();
        if let Some(mut file) = older
            && missing > 0
            && !same(Some(&file), current.as_ref())?
        {
            seek_to_tail(&mut file, missing)?;
            before.push(file);
        }
        Ok(Self { log, before, current, lines: Lines::default() })
    }

    /// The next lines; none at the end of what is there. The last line may be incomplete then, and is kept.
    fn step(&mut self) -> io::Result<Option<Vec<String>>> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let file = match self.before.last_mut() {
                Some(file) => Some(file),
                None => self.current.as_mut(),
            };
            let read = file.map_or(Ok(0), |file| file.read(&mut buffer))?;
            if read > 0 {
                let lines = self.lines.take(&buffer[..read]);
                if !lines.is_empty() {
                    return Ok(Some(lines));
                }
            } else if self.before.pop().is_none() && !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// Goes on with the log that was begun after the one at hand, if there is one. What is at hand has been read to its end just now; but
    /// it may have grown between that and its renaming, so it is read once more before the new one.
    fn go_on(&mut self) -> io::Result<bool> {
        let newest = open_if_there(&self.log.newest)?;
        if newest.is_none() || same(newest.as_ref(), self.current.as_ref())? {
            return Ok(false);
        }
        let older = self.log.older.as_ref().map(|older| open_if_there(older)).transpose()?.flatten();
        let finished = std::mem::replace(&mut self.current, newest);
        if let Some(older) = older
            && !same(Some(&older), finished.as_ref())?
            && !same(Some(&older), self.current.as_ref())?
            && finished.is_some()
        {
            self.before.push(older);
        }
        self.before.extend(finished);
        Ok(true)
    }
}

fn open_if_there(path: &std::path::Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn same(one: Option<&File>, other: Option<&File>) -> io::Result<bool> {
    let (Some(one), Some(other)) = (one, other) else { return Ok(one.is_none() && other.is_none()) };
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Goes to the beginning of the last `lines` lines, or of the file if it has fewer; answers how many there are from there on, at most
/// `lines`. A last line without an end counts.
fn seek_to_tail(file: &mut File, lines: usize) -> io::Result<usize> {
    let end = file.metadata()?.len();
    if lines == 0 {
        file.seek(SeekFrom::Start(end))?;
        return Ok(0);
    }
    let (mut found, mut position) = (0, end);
    let mut buffer = vec![0; CHUNK];
    while position > 0 {
        let start = position.saturating_sub(CHUNK as u64);
        let part = &mut buffer[..usize::try_from(position - start).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        for (index, _) in part.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'\n') {
            let after = start + index as u64 + 1;
            // The end of the last line begins none.
            if after == end {
                continue;
            }
            found += 1;
            if found == lines {
                file.seek(SeekFrom::Start(after))?;
                return Ok(lines);
            }
        }
        position = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(if end > 0 { found + 1 } else { 0 })
}

/// Makes lines of bytes.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// The lines that end in `bytes`. One that is too long is answered in pieces.
    fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= limits::LOG_LINE_BYTES_MAX {
                lines.extend(self.rest());
            }
        }
        lines
    }

    /// The line that has begun and not ended.
    fn rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.partial);
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        (!line.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use tempfile::TempDir;

    use super::*;

    fn log(folder: &TempDir) -> Log {
        Log::new(folder.path().into(), Source::App)
    }

    fn all(reader: &mut Reader) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(batch) = reader.step().expect("read") {
            lines.extend(batch);
        }
        lines
    }

    #[test]
    fn the_tail_reaches_back_over_the_rotation() {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("console.log.1"), "1\n2\n3\n").expect("write");
        fs::write(folder.path().join("console.log"), "4\r\n5\n").expect("write");
        let rows = [(0, ""), (1, "5"), (2, "45"), (3, "345"), (5, "12345"), (100, "12345")];
        for (tail, expected) in rows {
            let mut reader = Reader::open(log(&folder), tail).expect("open");
            assert_eq!(all(&mut reader).concat(), expected, "{tail}");
        }
    }

    #[test]
    fn a_tail_longer_than_a_chunk_is_found() {
        let folder = TempDir::new().expect("a folder");
        let text: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
        fs::write(folder.path().join("console.log"), text).expect("write");
        let mut reader = Reader::open(log(&folder), 15_000).expect("open");
        let lines = all(&mut reader);
        assert_eq!((lines.len(), lines[0].as_str()), (15_000, "line 5000"));
    }

    #[test]
    fn an_incomplete_line_waits_for_its_end() {
        let folder = TempDir::new().expect("a folder");
        let mut file = File::create(folder.path().join("console.log")).expect("create");
        let mut reader = Reader::open(log(&folder), 10).expect("open");
        file.write_all(b"one\ntw").expect("write");
        assert_eq!(all(&mut reader), ["one"]);
        file.write_all(b"o\n").expect("write");
        assert_eq!(all(&mut reader), ["two"]);
    }

    #[test]
    fn no_line_is_lost_or_told_twice_when_the_log_is_renamed() {
        let folder = TempDir::new().expect("a folder");
        let (newest, older) = (folder.path().join("console.log"), folder.path().join("console.log.1"));
        fs::write(&newest, "1\n").expect("write");
        let mut reader = Reader::open(log(&folder), 10).expect("open");
        assert_eq!(all(&mut reader), ["1"]);
        File::options().append(true).open(&newest).expect("open").write_all(b"2\n").expect("write");
        fs::rename(&newest, &older).expect("rename");
        fs::write(&newest, "3\n").expect("write");
        assert_eq!(all(&mut reader), ["2", "3"]);
        // Renamed twice between two looks: the one in between is read, too.
        fs::rename(&newest, &older).expect("rename");
        fs::write(&newest, "4\n").expect("write");
        fs::rename(&newest, &older).expect("rename");
        fs::write(&newest, "5\n").expect("write");
        assert_eq!(all(&mut reader), ["4", "5"]);
    }

    #[test]
    fn a_line_that_never_ends_is_told_in_pieces() {
        let mut lines = Lines::default();
        let told = lines.take(&vec![b'x'; limits::LOG_LINE_BYTES_MAX + 1]);
        assert_eq!(told.iter().map(String::len).sum::<usize>() + lines.partial.len(), limits::LOG_LINE_BYTES_MAX + 1);
        assert!(lines.partial.len() < limits::LOG_LINE_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_follower_hears_lines_as_they_are_written_and_ends_with_the_folder() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("console.log");
        fs::write(&path, "old\n").expect("write");
        let (lines, mut heard) = mpsc::channel(4);
        let log = log(&folder);
        let changes = log.watch().expect("watch");
        let teller = tokio::spawn(tell(log, 10, Some(changes), lines, CancellationToken::new()));
        assert_eq!(heard.recv().await.as_deref(), Some("old"));
        File::options().append(true).open(&path).expect("open").write_all(b"new\n").expect("write");
        assert_eq!(heard.recv().await.as_deref(), Some("new"));
        fs::rename(&path, folder.path().join("console.log.1")).expect("rename");
        fs::write(&path, "rotated\n").expect("write");
        assert_eq!(heard.recv().await.as_deref(), Some("rotated"));
        drop(folder);
        assert_eq!(heard.recv().await, None);
        teller.await.expect("ended");
    }
}
