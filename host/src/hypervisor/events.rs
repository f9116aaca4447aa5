//! `events.jsonl`: the events of one launch, one line each, appended by its supervisor at the
//! moment it observes them.
//!
//! The first line names the format; a file without such a line has format 1, which has no events of
//! launches and vCPUs.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::format;
use super::{Exit, ExitStatus, Initiator, Observed, Stamp};

/// Format that is written. Earlier ones can be read.
const FORMAT: u32 = 2;

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Header { format: u32 },
    Entry(Entry),
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    stamp: Stamp,
    #[serde(flatten)]
    event: Event,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event {
    Launched,
    Paused,
    Resumed,
    ProgramStarted,
    AgentReady,
    ProgramExited { code: i32, message: String },
    Exited { status: ExitStatus, initiator: Initiator },
}

impl From<Observed> for Entry {
    fn from(observed: Observed) -> Self {
        match observed {
            Observed::Launched(stamp) => Self { stamp, event: Event::Launched },
            Observed::Paused(stamp) => Self { stamp, event: Event::Paused },
            Observed::Resumed(stamp) => Self { stamp, event: Event::Resumed },
            Observed::ProgramStarted(stamp) => Self { stamp, event: Event::ProgramStarted },
            Observed::AgentReady(stamp) => Self { stamp, event: Event::AgentReady },
            Observed::ProgramExited { stamp, code, message } => {
                Self { stamp, event: Event::ProgramExited { code, message } }
            }
            Observed::Exited(Exit { stamp, status, initiator, witnessed: _ }) => {
                Self { stamp, event: Event::Exited { status, initiator } }
            }
        }
    }
}

impl From<Entry> for Observed {
    fn from(Entry { stamp, event }: Entry) -> Self {
        match event {
            Event::Launched => Self::Launched(stamp),
            Event::Paused => Self::Paused(stamp),
            Event::Resumed => Self::Resumed(stamp),
            Event::ProgramStarted => Self::ProgramStarted(stamp),
            Event::AgentReady => Self::AgentReady(stamp),
            Event::ProgramExited { code, message } => Self::ProgramExited { stamp, code, message },
            // Only supervisors write this file, and only ends that they witness.
            Event::Exited { status, initiator } => {
                Self::Exited(Exit { stamp, status, initiator, witnessed: true })
            }
        }
    }
}

/// Returns whether an event has to survive a loss of power. Changes of a live machine need not: the
/// machine does not survive it either.
fn is_durable(observed: &Observed) -> bool {
    match observed {
        Observed::ProgramStarted(_)
        | Observed::AgentReady(_)
        | Observed::ProgramExited { .. }
        | Observed::Exited(_) => true,
        Observed::Launched(_) | Observed::Paused(_) | Observed::Resumed(_) => false,
    }
}

/// The writing end, one for each file, in the supervisor. Events that can't be written are kept in
/// memory, with their instants, until they can.
#[derive(Debug)]
pub(super) struct Log<F = File> {
    file: F,
    /// Whole lines that are not in the file yet.
    unwritten: Vec<u8>,
    /// True if written or unwritten lines have to be made durable.
    unsynced: bool,
}

/// The storage of a log: a file, or in tests a disk that is full.
pub(super) trait Store: Write {
    fn len(&self) -> io::Result<u64>;
    fn cut(&mut self, len: u64) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

impl Store for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Log {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Self::on(file)
    }
}

impl<F: Store> Log<F> {
    fn on(file: F) -> io::Result<Self> {
        let is_new = file.len()? == 0;
        let mut log = Self { file, unwritten: Vec::new(), unsynced: false };
        if is_new {
            log.push(&Line::Header { format: FORMAT })?;
        }
        Ok(log)
    }

    fn push(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.unwritten, line)?;
        self.unwritten.push(b'\n');
        Ok(())
    }

    /// Appends an observation, and makes it durable if it has to survive a loss of power.
    ///
    /// # Errors
    /// The file's error. An observation that was not written is kept; [`Log::write`] tries again.
    pub(super) fn append(&mut self, observed: Observed) -> io::Result<()> {
        self.unsynced |= is_durable(&observed);
        self.push(&Line::Entry(observed.into()))?;
        self.write()
    }

    /// Writes the lines that are not in the file yet.
    ///
    /// # Errors
    /// The file's error. Lines that were not written are kept.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let before = self.file.len()?;
        if let Err(error) = self.file.write_all(&self.unwritten) {
            // No torn line may stay, or the next attempt would follow it.
            self.file.cut(before)?;
            return Err(error);
        }
        self.unwritten.clear();
        // A sync that failed is not tried again: the kernel has forgotten what it could not write.
        if std::mem::take(&mut self.unsynced) { self.file.sync() } else { Ok(()) }
    }

    /// Returns whether lines wait to be written.
    pub(super) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }
}

/// The reading end. It continues after the lines that it has read, and leaves an incomplete line
/// for the next read.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    offset: u64,
}

impl Tail {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// Reads the events appended since the last call, in order; none if there is no file yet.
    ///
    /// # Errors
    /// The file can't be read or parsed, or its format is later than [`FORMAT`]; the next call
    /// reads the same lines again.
    pub(super) fn read(&mut self) -> io::Result<Vec<Observed>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        let Some(end) = new.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(Vec::new());
        };
        let mut seen = Vec::new();
        for line in new[..end].split(|&byte| byte == b'\n') {
            match serde_json::from_slice(line)? {
                Line::Header { format } => format::check(&self.path, format, FORMAT)?,
                Line::Entry(entry) => seen.push(entry.into()),
            }
        }
        self.offset += end as u64 + 1;
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(n: u64) -> Stamp {
        Stamp { boottime_ns: n, wall_ns: i64::MAX }
    }

    fn exit() -> Observed {
        let status = ExitStatus::Signal(9);
        let initiator = Initiator::Unknown;
        Observed::Exited(Exit { stamp: stamp(u64::MAX), status, initiator, witnessed: true })
    }

    #[test]
    fn what_was_appended_is_read_once_and_in_order() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("events.jsonl");
        let mut tail = Tail::new(path.clone());
        assert_eq!(tail.read().expect("read"), []);
        let mut log = Log::create(&path).expect("create");
        let said = Observed::ProgramExited {
            stamp: stamp(3),
            code: -1,
            message: "line\nbreak \"x\"".into(),
        };
        log.append(Observed::ProgramStarted(stamp(1))).expect("append");
        log.append(Observed::AgentReady(stamp(2))).expect("append");
        assert_eq!(
            tail.read().expect("read"),
            [Observed::ProgramStarted(stamp(1)), Observed::AgentReady(stamp(2))]
        );
        let vcpus =
            [Observed::Launched(stamp(3)), Observed::Resumed(stamp(4)), Observed::Paused(stamp(5))];
        vcpus.iter().for_each(|seen| log.append(seen.clone()).expect("append"));
        assert_eq!(tail.read().expect("read"), vcpus);
        log.append(said.clone()).expect("append");
        log.append(exit()).expect("append");
        assert_eq!(tail.read().expect("read"), [said, exit()]);
        assert_eq!(tail.read().expect("read"), []);
    }

    #[test]
    fn a_torn_last_line_is_not_read_until_it_is_whole() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("events.jsonl");
        let mut log = Log::create(&path).expect("create");
        log.append(Observed::AgentReady(stamp(1))).expect("append");
        log.append(exit()).expect("append");
        let whole = std::fs::read(&path).expect("read");
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("write");
            let mut tail = Tail::new(path.clone());
            let mut seen = tail.read().expect("torn");
            std::fs::write(&path, &whole).expect("write");
            seen.extend(tail.read().expect("whole"));
            assert_eq!(seen, [Observed::AgentReady(stamp(1)), exit()], "cut at {cut}");
        }
    }

    #[test]
    fn the_first_format_is_read_and_a_later_one_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("events.jsonl");
        let first = "{\"boottime_ns\":1,\"wall_ns\":2,\"event\":\"agent-ready\"}\n\
            {\"boottime_ns\":3,\"wall_ns\":4,\"event\":\"exited\",\"status\":{\"code\":0},\"initiator\":\"host\"}\n";
        std::fs::write(&path, first).expect("write");
        let seen = Tail::new(path.clone()).read().expect("format 1");
        assert_eq!(seen[0], Observed::AgentReady(Stamp { boottime_ns: 1, wall_ns: 2 }));
        assert!(matches!(&seen[1], Observed::Exited(Exit { initiator: Initiator::Host, .. })));
        std::fs::write(&path, format!("{{\"format\":3}}\n{first}")).expect("write");
        let refused = Tail::new(path.clone()).read().expect_err("format 3").to_string();
        assert!(refused.contains("format 3") && refused.contains("format 2"), "{refused}");
    }

    #[test]
    fn a_format_without_a_header_goes_on_without_one() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("events.jsonl");
        std::fs::write(&path, "{\"boottime_ns\":1,\"wall_ns\":2,\"event\":\"agent-ready\"}\n")
            .expect("write");
        let mut log = Log::create(&path).expect("open");
        log.append(exit()).expect("append");
        assert_eq!(Tail::new(path).read().expect("read").len(), 2);
    }

    /// A disk with room for so many bytes.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.room - self.bytes.len();
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = &bytes[..bytes.len().min(room)];
            self.bytes.extend_from_slice(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Store for Disk {
        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.bytes.truncate(usize::try_from(len).expect("small"));
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_delays_events_and_forgets_none() {
        let whole = {
            let mut log = Log::on(Disk { bytes: Vec::new(), room: usize::MAX }).expect("new");
            log.append(Observed::AgentReady(stamp(1))).expect("append");
            log.append(exit()).expect("append");
            log.file.bytes
        };
        for room in 0..whole.len() {
            let mut log = Log::on(Disk { bytes: Vec::new(), room }).expect("new");
            let first = log.append(Observed::AgentReady(stamp(1)));
            let second = log.append(exit());
            assert!(second.is_err() && (first.is_ok() || room < whole.len()));
            assert!(log.has_unwritten() && whole.starts_with(&log.file.bytes), "room for {room}");
            assert!(
                log.file.bytes.last().is_none_or(|&last| last == b'\n'),
                "a torn line with room for {room}"
            );
            log.file.room = usize::MAX;
            log.write().expect("there is room");
            assert!(!log.has_unwritten());
            assert_eq!(log.file.bytes, whole, "room for {room}");
        }
    }
}
