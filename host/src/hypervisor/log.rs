//! Reading and following the logs of an instance: those of its console and of its virtual machine
//! monitor, from a place on.
//!
//! Following is driven by inotify events of the folder; nothing is polled. One inotify instance
//! serves any number of followers, because the kernel allows a user few of them. A log that is full
//! is renamed and a new one begins: the reader drains the file it has open before it goes on with
//! the next, so that no line is lost or sent twice.
//!
//! Each line comes with the place after it. A client that lost its connection sends the last place
//! back and goes on from there.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use futures::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::files;
use crate::limits::api as limits;

/// A log of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// The guest's console.
    Console,
    /// The virtual machine monitor and its supervisor.
    Vmm,
}

/// Starting point of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// This many lines before the end.
    Tail(usize),
    /// The place that an earlier reader returned.
    Place(Place),
}

/// A piece of a log, in the order of writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// A line without its end.
    Line {
        /// Text of the line; bytes that are not UTF-8 are replaced.
        text: String,
        /// The place after the line.
        after: Place,
    },
    /// Lines are missing here: the log no longer has the place asked for.
    Gap,
}

/// Identity of a file of a log; unique although inode numbers are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    inode: u64,
    /// Time of its creation, in nanoseconds since 1970; 0 if the file system does not record it.
    born_ns: u64,
}

/// A place between two bytes of a log. Its text is opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    file: FileId,
    offset: u64,
}

/// A text that is not a place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a log; send the id of an event as it came")]
pub struct InvalidPlace;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{}", self.file.inode, self.file.born_ns, self.offset)
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;
    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let mut parts = text.splitn(3, '-');
        let mut part = |radix| {
            let part = parts.next().ok_or(InvalidPlace)?;
            u64::from_str_radix(part, radix).map_err(|_| InvalidPlace)
        };
        let file = FileId { inode: part(16)?, born_ns: part(16)? };
        Ok(Self { file, offset: part(10)? })
    }
}

/// A file of a log that is being read.
#[derive(Debug)]
struct Part {
    file: File,
    id: FileId,
    /// Offset of the next byte to read.
    at: u64,
}

impl Part {
    fn of(file: File) -> io::Result<Self> {
        let data = file.metadata()?;
        let born = data.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born_ns = born.map_or(0, |born| u64::try_from(born.as_nanos()).unwrap_or(0));
        Ok(Self { file, id: FileId { inode: data.ino(), born_ns }, at: 0 })
    }

    fn open(path: &Path) -> io::Result<Option<Self>> {
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

    /// Seeks to the beginning of the last `lines` lines, or of the file if it has fewer. Returns
    /// the number of lines from there on.
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

/// A log of an instance, by the paths of its files.
#[derive(Debug, Clone)]
pub struct Log {
    folder: PathBuf,
    newest: PathBuf,
    older: PathBuf,
}

impl Log {
    /// The log of the instance that has this folder.
    pub fn new(folder: PathBuf, source: LogSource) -> Self {
        let (newest, older) = match source {
            LogSource::Console => (files::console_log(&folder), files::console_log_older(&folder)),
            LogSource::Vmm => (files::vmm_log(&folder), files::vmm_log_older(&folder)),
        };
        Self { folder, newest, older }
    }

    /// Opens the older and the newest file, each if it is there. A file that was renamed between
    /// the two opens counts once, as the newest.
    fn parts(&self) -> io::Result<(Option<Part>, Option<Part>)> {
        let newest = Part::open(&self.newest)?;
        let older = Part::open(&self.older)?;
        let is_other = |older: &Part| newest.as_ref().is_none_or(|newest| newest.id != older.id);
        Ok((older.filter(is_other), newest))
    }
}

/// Sends the present lines. Returns early if the receiver is dropped.
///
/// # Errors
/// Any error of opening or reading the files.
pub async fn recent(log: Log, start: Start, lines: &mpsc::Sender<LogEvent>) -> io::Result<()> {
    let mut reader = open(log, start).await?;
    while let (more, Some(batch)) = step(reader).await? {
        reader = more;
        if !send(lines, batch).await {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends the present lines and those written later, until the log is deleted or the receiver is
/// dropped. `changes` must have been made before this call, so that no line written in between is
/// missed. Cancel-safe: a line that has begun is sent whole to the next reader.
///
/// # Errors
/// Any error of opening or reading the files.
pub async fn follow(
    log: Log,
    start: Start,
    mut changes: Follower,
    lines: &mpsc::Sender<LogEvent>,
) -> io::Result<()> {
    let mut reader = open(log, start).await?;
    let mut may_grow = true;
    loop {
        loop {
            let (more, batch) = step(reader).await?;
            reader = more;
            let Some(batch) = batch else { break };
            if !send(lines, batch).await {
                return Ok(());
            }
        }
        if !may_grow {
            send(lines, reader.rest().into_iter().collect()).await;
            return Ok(());
        }
        tokio::select! {
            more = changes.changed() => may_grow = more,
            () = lines.closed() => return Ok(()),
        }
    }
}

async fn send(lines: &mpsc::Sender<LogEvent>, batch: Vec<LogEvent>) -> bool {
    for event in batch {
        if lines.send(event).await.is_err() {
            return false;
        }
    }
    true
}

async fn open(log: Log, start: Start) -> io::Result<Reader> {
    let opened = tokio::task::spawn_blocking(move || match start {
        Start::Tail(lines) => Reader::at_tail(log, lines),
        Start::Place(place) => Reader::at_place(log, place),
    });
    opened.await.map_err(io::Error::other)?
}

/// Reads the next lines; `None` if there are none now.
async fn step(mut reader: Reader) -> io::Result<(Reader, Option<Vec<LogEvent>>)> {
    let stepped = tokio::task::spawn_blocking(move || {
        let batch = reader.step()?;
        Ok((reader, batch))
    });
    stepped.await.map_err(io::Error::other)?
}

/// The watcher of all followed logs: one inotify instance.
pub struct LogWatcher {
    shared: Arc<Shared>,
    reading: JoinHandle<()>,
}

struct Shared {
    watches: Mutex<Watches>,
    folders: Mutex<Folders>,
}

#[derive(Default)]
struct Folders {
    followers: HashMap<WatchDescriptor, HashMap<u64, Watched>>,
    next: u64,
}

/// A file that a follower waits for.
struct Watched {
    name: Option<OsString>,
    seen: watch::Sender<Seen>,
}

/// Changes of a file since a follower began.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    changes: u64,
    is_deleted: bool,
}

/// One follower of a log, deregistered when it is dropped.
pub struct Follower {
    shared: Arc<Shared>,
    folder: WatchDescriptor,
    id: u64,
    seen: watch::Receiver<Seen>,
}

impl LogWatcher {
    /// Opens the inotify instance. Needs an async runtime.
    ///
    /// # Errors
    /// The kernel's error, such as that this user may have no further instance
    /// (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = Mutex::new(inotify.watches());
        let events = inotify.into_event_stream([0; 4_096])?;
        let shared = Arc::new(Shared { watches, folders: Mutex::default() });
        let reading = tokio::spawn(read(events, shared.clone()));
        Ok(Self { shared, reading })
    }

    /// Registers a follower of a log, which misses no change from now on.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if the instance has no folder, or the kernel's error, such as
    /// that this user may watch no further folder (`fs.inotify.max_user_watches`).
    pub fn follow(&self, log: &Log) -> io::Result<Follower> {
        let interests =
            WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE;
        // Held until the follower is known, so that the last one to leave the folder does not end
        // the watch in between.
        let mut folders = self.shared.folders();
        let folder = self.shared.watches().add(&log.folder, interests)?;
        let (sender, seen) = watch::channel(Seen::default());
        let name = log.newest.file_name().map(OsStr::to_owned);
        let id = folders.next;
        folders.next += 1;
        let watched = Watched { name, seen: sender };
        folders.followers.entry(folder.clone()).or_default().insert(id, watched);
        drop(folders);
        Ok(Follower { shared: self.shared.clone(), folder, id, seen })
    }
}

impl Drop for LogWatcher {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Shared {
    fn folders(&self) -> MutexGuard<'_, Folders> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: &EventOwned) {
        let folders = self.folders();
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            // Some events are lost: all followers check.
            folders.followers.values().flat_map(HashMap::values).for_each(|file| file.note(false));
            return;
        }
        for file in folders.followers.get(&event.wd).into_iter().flat_map(HashMap::values) {
            file.note(is_end(event, file.name.as_deref()));
        }
    }

    fn end(&self) {
        let folders = self.folders();
        folders.followers.values().flat_map(HashMap::values).for_each(|file| file.note(true));
    }
}

impl Watched {
    fn note(&self, is_deleted: bool) {
        self.seen.send_modify(|seen| {
            seen.changes += 1;
            seen.is_deleted |= is_deleted;
        });
    }
}

/// Returns whether an event ends a log. A log is renamed when it is full, and deleted only together
/// with its folder, of whose own deletion not every file system sends an event.
fn is_end(event: &EventOwned, newest: Option<&OsStr>) -> bool {
    event.mask.contains(EventMask::IGNORED)
        || (event.mask.contains(EventMask::DELETE) && event.name.as_deref() == newest)
}

async fn read(mut events: EventStream<[u8; 4_096]>, shared: Arc<Shared>) {
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => shared.note(&event),
            Err(error) => {
                tracing::error!(%error, "logs can't be followed any more");
                break;
            }
        }
    }
    shared.end();
}

impl Follower {
    /// Waits for a change. Returns false once the log is deleted or the watcher gone.
    async fn changed(&mut self) -> bool {
        self.seen.changed().await.is_ok() && !self.seen.borrow_and_update().is_deleted
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut folders = self.shared.folders();
        let Some(followers) = folders.followers.get_mut(&self.folder) else { return };
        followers.remove(&self.id);
        if followers.is_empty() {
            folders.followers.remove(&self.folder);
            // Fails if the folder was deleted, which removes its watch.
            let _ = self.shared.watches().remove(self.folder.clone());
        }
    }
}

/// Number of bytes read at once.
const CHUNK: usize = 64 << 10;

/// A reader of a log.
struct Reader {
    log: Log,
    /// Files to be read before `current`, the next one last.
    before: Vec<Part>,
    current: Option<Part>,
    lines: Lines,
    /// True if [`LogEvent::Gap`] is to be sent first.
    gap: bool,
}

impl Reader {
    /// A reader at the beginning of the last `tail` lines.
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

    /// A reader at a place, or at the beginning if the log no longer has that place.
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

    /// Reads the next lines; `None` at the present end of the log, where an incomplete line is
    /// kept.
    fn step(&mut self) -> io::Result<Option<Vec<LogEvent>>> {
        if std::mem::take(&mut self.gap) {
            return Ok(Some(vec![LogEvent::Gap]));
        }
        let mut buffer = vec![0; CHUNK];
        loop {
            let part = match self.before.last_mut() {
                Some(part) => Some(part),
                None => self.current.as_mut(),
            };
            let Some(part) = part else { if self.go_on()? { continue } else { return Ok(None) } };
            let file = part.id;
            let at = part.at;
            let read = part.read(&mut buffer)?;
            if read > 0 {
                let lines = self.lines.take(&buffer[..read]);
                if !lines.is_empty() {
                    let place = |end| Place { file, offset: at + end as u64 };
                    return Ok(Some(
                        lines
                            .into_iter()
                            .map(|(text, end)| LogEvent::Line { text, after: place(end) })
                            .collect(),
                    ));
                }
            } else if self.before.pop().is_none() && !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// Takes the incomplete line at the end of a deleted log, if there is one.
    fn rest(&mut self) -> Option<LogEvent> {
        let after = self.current.as_ref().map(|part| Place { file: part.id, offset: part.at })?;
        self.lines.rest().map(|text| LogEvent::Line { text, after })
    }

    /// Goes on with the file that was begun after the current one, if there is one. The current
    /// file was read to its end, but may have grown before it was renamed, so it is read once more
    /// before the new one.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(newest) = Part::open(&self.log.newest)? else { return Ok(false) };
        if self.current.as_ref().is_some_and(|current| current.id == newest.id) {
            return Ok(false);
        }
        let newest_id = newest.id;
        let Some(finished) = self.current.replace(newest) else { return Ok(true) };
        if let Some(older) = Part::open(&self.log.older)?
            .filter(|older| older.id != finished.id && older.id != newest_id)
        {
            self.before.push(older);
        }
        self.before.push(finished);
        Ok(true)
    }
}

/// Seeks to the beginning of the last `lines` lines, or of the file if it has fewer. Returns the
/// number of lines from there on, at most `lines`. A last line without an end counts.
fn seek_to_tail(file: &mut File, lines: usize) -> io::Result<usize> {
    let end = file.metadata()?.len();
    if lines == 0 {
        file.seek(SeekFrom::Start(end))?;
        return Ok(0);
    }
    let mut found = 0;
    let mut position = end;
    let mut buffer = vec![0; CHUNK];
    while position > 0 {
        let start = position.saturating_sub(CHUNK as u64);
        let part = &mut buffer[..usize::try_from(position - start).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        for (index, _) in part.iter().enumerate().rev().filter(|&(_, &byte)| byte == b'\n') {
            let after = start + index as u64 + 1;
            // No line begins after the end of the last one.
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

/// Splits bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Returns the lines that end in `bytes`, each with the offset of its end. A line longer than
    /// [`limits::LOG_LINE_BYTES_MAX`] is returned in pieces.
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

    /// Takes the line that has begun, if there is one.
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
        Log::new(folder.path().into(), LogSource::Console)
    }

    fn told(reader: &mut Reader) -> Vec<LogEvent> {
        let mut told = Vec::new();
        while let Some(batch) = reader.step().expect("read") {
            told.extend(batch);
        }
        told
    }

    fn all(reader: &mut Reader) -> Vec<String> {
        told(reader).into_iter().map(text).collect()
    }

    fn text(told: LogEvent) -> String {
        match told {
            LogEvent::Line { text, .. } => text,
            LogEvent::Gap => "GAP".into(),
        }
    }

    #[test]
    fn whoever_comes_back_hears_what_came_after_and_that_alone() {
        let folder = TempDir::new().expect("a folder");
        let newest = folder.path().join("console.log");
        let older = folder.path().join("console.log.1");
        fs::write(&newest, "1\n2\n3").expect("write");
        let mut reader = Reader::at_tail(log(&folder), 10).expect("open");
        let places: Vec<Place> = told(&mut reader)
            .into_iter()
            .map(|told| match told {
                LogEvent::Line { after, .. } => after.to_string().parse().expect("a place"),
                LogEvent::Gap => panic!("nothing is missing"),
            })
            .collect();
        let after =
            |place: Place| all(&mut Reader::at_place(log(&folder), place).expect("open")).concat();
        File::options()
            .append(true)
            .open(&newest)
            .expect("open")
            .write_all(b"3\n4\n")
            .expect("write");
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
            assert_eq!(text.parse::<Place>(), Err(InvalidPlace), "{text}");
        }
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
        let newest = folder.path().join("console.log");
        let older = folder.path().join("console.log.1");
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

    async fn next(lines: &mut mpsc::Receiver<LogEvent>) -> Option<String> {
        lines.recv().await.map(text)
    }

    fn append(path: &Path, line: &str) {
        let mut file = File::options().append(true).open(path).expect("open");
        file.write_all(line.as_bytes()).expect("write");
    }

    #[tokio::test]
    async fn a_follower_gets_lines_as_they_are_written_and_ends_with_the_folder() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("console.log");
        fs::write(&path, "old\n").expect("write");
        let watcher = LogWatcher::new().expect("a watcher");
        let log = log(&folder);
        let changes = watcher.follow(&log).expect("watched");
        let (sender, mut lines) = mpsc::channel(4);
        let following =
            tokio::spawn(async move { follow(log, Start::Tail(10), changes, &sender).await });
        assert_eq!(next(&mut lines).await.as_deref(), Some("old"));
        append(&path, "new\n");
        assert_eq!(next(&mut lines).await.as_deref(), Some("new"));
        fs::rename(&path, folder.path().join("console.log.1")).expect("rename");
        fs::write(&path, "rotated\n").expect("write");
        assert_eq!(next(&mut lines).await.as_deref(), Some("rotated"));
        append(&path, "last");
        drop(folder);
        assert_eq!(next(&mut lines).await.as_deref(), Some("last"));
        assert_eq!(next(&mut lines).await, None);
        following.await.expect("ended").expect("read");
    }

    #[tokio::test]
    async fn a_follower_that_leaves_ends_no_other_of_the_same_folder() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("console.log");
        fs::write(&path, "old\n").expect("write");
        let watcher = LogWatcher::new().expect("a watcher");
        let log = log(&folder);
        let one = watcher.follow(&log).expect("watched");
        let other = watcher.follow(&log).expect("watched, too");
        let (sender, mut lines) = mpsc::channel(4);
        tokio::spawn(async move { follow(log, Start::Tail(1), other, &sender).await });
        assert_eq!(next(&mut lines).await.as_deref(), Some("old"));
        drop(one);
        append(&path, "still\n");
        assert_eq!(next(&mut lines).await.as_deref(), Some("still"));
    }

    #[tokio::test]
    async fn any_number_of_logs_is_followed_with_one_watcher() {
        let watcher = LogWatcher::new().expect("a watcher");
        let folders: Vec<_> = (0..200).map(|_| TempDir::new().expect("a folder")).collect();
        let followed = folders.iter().map(|folder| watcher.follow(&log(folder)).expect("watched"));
        assert_eq!(followed.collect::<Vec<_>>().len(), 200);
    }
}
