//! `/instances/{id}/logs`: what the guest wrote to its console, as events, past and present.
//!
//! Following is driven by the kernel's notices about the folder; nothing is polled. A log that is full is renamed and a new one begins: the reader
//! drains the file it has open before it goes on with the next, so that no line is lost or told twice.
//!
//! Each event's id is the place after its line. A client that lost the daemon sends the last one back and goes on from there.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use axum::extract::{Path, State as Extract};
use axum::http::HeaderMap;
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
    #[serde(alias = "console")]
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
    /// Which log: `app` (or `console`) is the guest's console, `vmm` what runs it.
    #[serde(default)]
    #[param(inline)]
    source: Source,
}

/// The lines of an instance's log
///
/// Server-sent events; the data of each is one line as a JSON string, its id the place after the line. With the last id in the header
/// `Last-Event-ID` the lines go on from there, whatever `tail` says, also after a restart of the daemon; where the log has been dropped up to
/// beyond it, an event `gap` comes first.
#[utoipa::path(get, path = "/instances/{id}/logs", tag = "instances", security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "Its id, its name, or its id's unique beginning"),
        LogParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received"),
    ), responses(
    (status = 200, description = "The lines", body = String, content_type = "text/event-stream"),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn stream_logs(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    headers: HeaderMap,
    Params(params): Params<LogParams>,
) -> Result<Sse<impl Stream<Item = Result<Event, axum::Error>>>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let log = Log::new(state.fleet.folder(&view.record.id), params.source);
    let tail = params.tail.unwrap_or(limits::LOG_LINES_DEFAULT).min(limits::LOG_LINES_MAX);
    let from = resumed(&headers)?.map_or(From::Tail(tail), From::Place);
    // The watch comes before the first read: what is written in between is then noticed.
    let changes = if params.follow { Some(log.watch()?) } else { None };
    let (lines, received) = mpsc::channel(limits::LOG_QUEUE_LINES_MAX);
    tokio::spawn(tell(log, from, changes, lines, state.closing.clone()));
    let events = ReceiverStream::new(received).map(|told: Told| match told {
        Told::Line { text, after } => Event::default().id(after.to_string()).json_data(text),
        Told::Gap => {
            Event::default().event("gap").json_data("the log was dropped in the meantime; lines are missing here")
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// The place from which a client wants to go on.
fn resumed(headers: &HeaderMap) -> Result<Option<Place>, ApiError> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let place = id.to_str().ok().and_then(|id| id.parse().ok());
    let wrong = || ApiError::invalid("Last-Event-ID: it is none of this log's; send the id of an event as it came");
    place.map(Some).ok_or_else(wrong)
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
enum From {
    /// So many lines before the end.
    Tail(usize),
    /// There.
    Place(Place),
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    /// A line, and the place after it.
    Line { text: String, after: Place },
    /// What comes now is not what came after the place asked for.
    Gap,
}

/// A file of a log, told apart from others that had its number before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    inode: u64,
    /// When it was created, in nanoseconds since 1970; 0 where the file system does not say.
    born_ns: u64,
}

/// Between two bytes of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    file: FileId,
    offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{}", self.file.inode, self.file.born_ns, self.offset)
    }
}

impl FromStr for Place {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-');
        let mut part = |radix| u64::from_str_radix(parts.next().ok_or(())?, radix).map_err(|_| ());
        Ok(Self { file: FileId { inode: part(16)?, born_ns: part(16)? }, offset: part(10)? })
    }
}

/// A file of a log that is being read.
#[derive(Debug)]
struct Part {
    file: File,
    id: FileId,
    /// How much of it has been read.
    at: u64,
}

impl Part {
    fn of(file: File) -> io::Result<Self> {
        let data = file.metadata()?;
        let born = data.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born_ns = born.map_or(0, |born| u64::try_from(born.as_nanos()).unwrap_or(0));
        Ok(Self { file, id: FileId { inode: data.ino(), born_ns }, at: 0 })
    }

    fn open(path: &std::path::Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Self::of(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn go_to(&mut self, at: u64) -> io::Result<()> {
        self.at = self.file.seek(SeekFrom::Start(at))?;
        Ok(())
    }

    /// Goes to the beginning of the last `lines` lines, or of the file if it has fewer; answers how many there are from there on.
    fn go_to_tail(&mut self, lines: usize) -> io::Result<usize> {
        let found = seek_to_tail(&mut self.file, lines)?;
        self.at = self.file.stream_position()?;
        Ok(found)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
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

    /// The file before the newest, if it is there.
    fn older(&self) -> io::Result<Option<Part>> {
        self.older.as_ref().map(|older| Part::open(older)).transpose().map(Option::flatten)
    }

    /// Both files, as far as they are there: what was renamed between two looks is one.
    fn parts(&self) -> io::Result<(Option<Part>, Option<Part>)> {
        let newest = Part::open(&self.newest)?;
        let older = self.older()?;
        Ok((older.filter(|older| newest.as_ref().is_none_or(|newest| newest.id != older.id)), newest))
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
    from: From,
    changes: Option<EventStream<[u8; 4096]>>,
    lines: mpsc::Sender<Told>,
    closing: CancellationToken,
) {
    let result = match changes {
        Some(changes) => follow(log, from, changes, &lines, &closing).await,
        None => recent(log, from, &lines).await,
    };
    if let Err(error) = result {
        tracing::warn!(%error, "a log could not be read");
    }
}

async fn recent(log: Log, from: From, lines: &mpsc::Sender<Told>) -> io::Result<()> {
    let mut reader = open(log, from).await?;
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
    from: From,
    mut changes: EventStream<[u8; 4096]>,
    lines: &mpsc::Sender<Told>,
    closing: &CancellationToken,
) -> io::Result<()> {
    let mut reader = open(log, from).await?;
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
                Some(Ok(_)) | None => {
                    send(lines, reader.rest().into_iter().collect()).await;
                    return Ok(());
                }
            },
            () = lines.closed() => return Ok(()),
            // A line that has begun is told whole by the next daemon.
            () = closing.cancelled() => return Ok(()),
        }
    }
}

/// A log is renamed when it is full, and deleted only together with its folder. (Not every file system tells of the folder itself.)
fn is_end(event: &EventOwned, log: &Log) -> bool {
    event.mask.contains(EventMask::IGNORED)
        || (event.mask.contains(EventMask::DELETE) && event.name.as_deref() == log.newest.file_name())
}

async fn send(lines: &mpsc::Sender<Told>, batch: Vec<Told>) -> bool {
    for told in batch {
        if lines.send(told).await.is_err() {
            return false;
        }
    }
    true
}

async fn open(log: Log, from: From) -> io::Result<Reader> {
    let opened = tokio::task::spawn_blocking(move || match from {
        From::Tail(lines) => Reader::at_tail(log, lines),
        From::Place(place) => Reader::at_place(log, place),
    });
    opened.await.map_err(io::Error::other)?
}

/// The next lines, if there are any now.
async fn step(mut reader: Reader) -> io::Result<(Reader, Option<Vec<Told>>)> {
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
    before: Vec<Part>,
    current: Option<Part>,
    lines: Lines,
    /// It begins after a gap that was not told yet.
    gap: bool,
}

impl Reader {
    /// At the beginning of the last `tail` lines.
    fn at_tail(log: Log, tail: usize) -> io::Result<Self> {
        let (older, mut current) = log.parts()?;
        let mut missing = tail;
        if let Some(part) = &mut current {
            missing -= part.go_to_tail(tail)?;
        }
        let mut before = Vec::new();
        if let Some(mut part) = older.filter(|_| missing > 0) {
            part.go_to_tail(missing)?;
            before.push(part);
        }
        Ok(Self { log, before, current, lines: Lines::default(), gap: false })
    }

    /// At a place, or at the beginning if that place is not there any more.
    fn at_place(log: Log, place: Place) -> io::Result<Self> {
        let (older, mut current) = log.parts()?;
        let mut before = Vec::new();
        let mut gap = false;
        match (older, &mut current) {
            (_, Some(part)) if part.id == place.file => part.go_to(place.offset)?,
            (Some(mut part), _) => {
                gap = part.id != place.file;
                part.go_to(if gap { 0 } else { place.offset })?;
                before.push(part);
            }
            (None, _) => gap = true,
        }
        Ok(Self { log, before, current, lines: Lines::default(), gap })
    }

    /// The next lines; none at the end of what is there. The last line may be incomplete then, and is kept.
    fn step(&mut self) -> io::Result<Option<Vec<Told>>> {
        if std::mem::take(&mut self.gap) {
            return Ok(Some(vec![Told::Gap]));
        }
        let mut buffer = vec![0; CHUNK];
        loop {
            let part = match self.before.last_mut() {
                Some(part) => Some(part),
                None => self.current.as_mut(),
            };
            let Some(part) = part else { if self.go_on()? { continue } else { return Ok(None) } };
            let (file, at, read) = (part.id, part.at, part.read(&mut buffer)?);
            if read > 0 {
                let lines = self.lines.take(&buffer[..read]);
                if !lines.is_empty() {
                    let place = |end| Place { file, offset: at + end as u64 };
                    return Ok(Some(
                        lines.into_iter().map(|(text, end)| Told::Line { text, after: place(end) }).collect(),
                    ));
                }
            } else if self.before.pop().is_none() && !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// The line that has begun and will not end any more.
    fn rest(&mut self) -> Option<Told> {
        let after = self.current.as_ref().map(|part| Place { file: part.id, offset: part.at })?;
        self.lines.rest().map(|text| Told::Line { text, after })
    }

    /// Goes on with the log that was begun after the one at hand, if there is one. What is at hand has been read to its end just now; but
    /// it may have grown between that and its renaming, so it is read once more before the new one.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(newest) = Part::open(&self.log.newest)? else { return Ok(false) };
        if self.current.as_ref().is_some_and(|current| current.id == newest.id) {
            return Ok(false);
        }
        let newest_id = newest.id;
        let Some(finished) = self.current.replace(newest) else { return Ok(true) };
        if let Some(older) = self.log.older()?.filter(|older| older.id != finished.id && older.id != newest_id) {
            self.before.push(older);
        }
        self.before.push(finished);
        Ok(true)
    }
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
    /// The lines that end in `bytes`, each with where it ends. One that is too long is answered in pieces.
    fn take(&mut self, bytes: &[u8]) -> Vec<(String, usize)> {
        let mut lines = Vec::new();
        let mut end = 0;
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            end += piece.len();
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() >= limits::LOG_LINE_BYTES_MAX {
                lines.extend(self.rest().map(|line| (line, end)));
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

    fn told(reader: &mut Reader) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(batch) = reader.step().expect("read") {
            told.extend(batch);
        }
        told
    }

    fn all(reader: &mut Reader) -> Vec<String> {
        told(reader).into_iter().map(text).collect()
    }

    fn text(told: Told) -> String {
        match told {
            Told::Line { text, .. } => text,
            Told::Gap => "GAP".into(),
        }
    }

    #[test]
    fn whoever_comes_back_hears_what_came_after_and_that_alone() {
        let folder = TempDir::new().expect("a folder");
        let (newest, older) = (folder.path().join("console.log"), folder.path().join("console.log.1"));
        fs::write(&newest, "1\n2\n3").expect("write");
        let mut reader = Reader::at_tail(log(&folder), 10).expect("open");
        let places: Vec<Place> = told(&mut reader)
            .into_iter()
            .map(|told| match told {
                Told::Line { after, .. } => after.to_string().parse().expect("a place"),
                Told::Gap => panic!("nothing is missing"),
            })
            .collect();
        let after = |place: Place| all(&mut Reader::at_place(log(&folder), place).expect("open")).concat();
        File::options().append(true).open(&newest).expect("open").write_all(b"3\n4\n").expect("write");
        assert_eq!((after(places[0]), after(places[1])), ("2334".into(), "334".into()));
        fs::rename(&newest, &older).expect("rename");
        fs::write(&newest, "5\n").expect("write");
        assert_eq!((after(places[0]), after(places[1])), ("23345".into(), "3345".into()));
        fs::remove_file(&older).and_then(|()| fs::write(&older, "7\n")).expect("another file");
        assert_eq!(after(places[1]), "GAP75");
        fs::remove_file(&older).expect("removed");
        assert_eq!(after(places[1]), "GAP5");
    }

    #[test]
    fn a_place_that_is_none_is_refused() {
        for text in ["", "1", "1-2", "x-2-3", "1-2-3-4", "1-2--3", "1-2-99999999999999999999"] {
            assert_eq!(text.parse::<Place>(), Err(()), "{text}");
        }
        let mut headers = HeaderMap::new();
        assert!(resumed(&headers).expect("none").is_none());
        headers.insert("last-event-id", "7".parse().expect("a header"));
        assert_eq!(resumed(&headers).expect_err("refused").status(), 400);
    }

    #[test]
    fn the_tail_reaches_back_over_the_rotation() {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("console.log.1"), "1\n2\n3\n").expect("write");
        fs::write(folder.path().join("console.log"), "4\r\n5\n").expect("write");
        let rows = [(0, ""), (1, "5"), (2, "45"), (3, "345"), (5, "12345"), (100, "12345")];
        for (tail, expected) in rows {
            let mut reader = Reader::at_tail(log(&folder), tail).expect("open");
            assert_eq!(all(&mut reader).concat(), expected, "{tail}");
        }
    }

    #[test]
    fn a_tail_longer_than_a_chunk_is_found() {
        let folder = TempDir::new().expect("a folder");
        let text: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
        fs::write(folder.path().join("console.log"), text).expect("write");
        let mut reader = Reader::at_tail(log(&folder), 15_000).expect("open");
        let lines = all(&mut reader);
        assert_eq!((lines.len(), lines[0].as_str()), (15_000, "line 5000"));
    }

    #[test]
    fn an_incomplete_line_waits_for_its_end() {
        let folder = TempDir::new().expect("a folder");
        let mut file = File::create(folder.path().join("console.log")).expect("create");
        let mut reader = Reader::at_tail(log(&folder), 10).expect("open");
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
        let mut reader = Reader::at_tail(log(&folder), 10).expect("open");
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
        let length: usize = told.iter().map(|(line, _)| line.len()).sum();
        assert_eq!(length + lines.partial.len(), limits::LOG_LINE_BYTES_MAX + 1);
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
        let teller = tokio::spawn(tell(log, From::Tail(10), Some(changes), lines, CancellationToken::new()));
        assert_eq!(heard.recv().await.map(text).as_deref(), Some("old"));
        File::options().append(true).open(&path).expect("open").write_all(b"new\n").expect("write");
        assert_eq!(heard.recv().await.map(text).as_deref(), Some("new"));
        fs::rename(&path, folder.path().join("console.log.1")).expect("rename");
        fs::write(&path, "rotated\n").expect("write");
        assert_eq!(heard.recv().await.map(text).as_deref(), Some("rotated"));
        drop(folder);
        assert_eq!(heard.recv().await, None);
        teller.await.expect("ended");
    }
}
