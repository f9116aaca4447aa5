//! `events.jsonl`: what a supervisor saw of one launch, one line an event, appended at the moment it was seen.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Exit, ExitStatus, Initiator, Observed, Stamp};

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
    ProgramStarted,
    AgentReady,
    ProgramExited { code: i32, message: String },
    Exited { status: ExitStatus, initiator: Initiator },
}

impl From<Observed> for Entry {
    fn from(observed: Observed) -> Self {
        match observed {
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
            Event::ProgramStarted => Self::ProgramStarted(stamp),
            Event::AgentReady => Self::AgentReady(stamp),
            Event::ProgramExited { code, message } => Self::ProgramExited { stamp, code, message },
            // Only a supervisor writes here, and it writes what it saw.
            Event::Exited { status, initiator } => Self::Exited(Exit { stamp, status, initiator, witnessed: true }),
        }
    }
}

/// The writing end. There is one for each file, in the supervisor.
#[derive(Debug)]
pub(super) struct Log(File);

impl Log {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }

    /// Appends what was observed and makes it durable. Where the disk is full it leaves no torn line, so that it can be tried again.
    pub(super) fn append(&mut self, observed: Observed) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Entry::from(observed))?;
        line.push(b'\n');
        let before = self.0.metadata()?.len();
        if let Err(error) = self.0.write_all(&line) {
            self.0.set_len(before)?;
            return Err(error);
        }
        self.0.sync_data()
    }
}

/// The reading end. It remembers how far it has read, and leaves a line alone that is not complete yet.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    offset: u64,
}

impl Tail {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// What was appended since the last call, in order. Nothing if there is no file yet.
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
        self.offset += end as u64 + 1;
        let lines = new[..end].split(|&byte| byte == b'\n');
        lines.map(|line| Ok(serde_json::from_slice::<Entry>(line)?.into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(n: u64) -> Stamp {
        Stamp { boottime_ns: n, wall_ns: i64::MAX }
    }

    fn exit() -> Observed {
        let (status, initiator) = (ExitStatus::Signal(9), Initiator::Unknown);
        Observed::Exited(Exit { stamp: stamp(u64::MAX), status, initiator, witnessed: true })
    }

    #[test]
    fn what_was_appended_is_read_once_and_in_order() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("events.jsonl");
        let mut tail = Tail::new(path.clone());
        assert_eq!(tail.read().expect("read"), []);
        let mut log = Log::create(&path).expect("create");
        let said = Observed::ProgramExited { stamp: stamp(3), code: -1, message: "line\nbreak \"x\"".into() };
        log.append(Observed::ProgramStarted(stamp(1))).expect("append");
        log.append(Observed::AgentReady(stamp(2))).expect("append");
        assert_eq!(tail.read().expect("read"), [Observed::ProgramStarted(stamp(1)), Observed::AgentReady(stamp(2))]);
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
}
