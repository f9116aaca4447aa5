//! The guest's console: kept, bounded, and searched for boot markers as it arrives.

use std::io;
use std::path::Path;

use super::bounded::BoundedLog;
use super::lines::Lines;
use crate::hypervisor::events::Log;
use crate::hypervisor::{Observed, Stamp, files};
use crate::limits::instance::{CONSOLE_BYTES_MAX, EXIT_MARKERS_MAX};
use crate::vm::marker::{self, Marker};

/// The console of one incarnation.
#[derive(Debug)]
pub(super) struct Console {
    log: BoundedLog,
    lines: Lines,
    heard: Heard,
}

/// What the guest has announced; it may repeat itself for ever, the event log may not grow with it.
#[derive(Debug, Default)]
struct Heard {
    program_started: bool,
    agent_ready: bool,
    exits: usize,
}

impl Console {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let log = BoundedLog::open(files::console_log(dir), files::console_log_older(dir), CONSOLE_BYTES_MAX)?;
        Ok(Self { log, lines: Lines::default(), heard: Heard::default() })
    }

    /// Takes the next bytes, which have just arrived.
    pub(super) fn take(&mut self, bytes: &[u8], events: &mut Log) {
        let stamp = Stamp::now();
        self.lines.take(bytes, |line| self.heard.line(line, stamp, events));
        self.log.append(bytes);
    }

    /// Takes a last line that was not completed before `stamp`.
    pub(super) fn finish(&mut self, stamp: Stamp, events: &mut Log) {
        self.lines.finish(|line| self.heard.line(line, stamp, events));
    }
}

impl Heard {
    fn line(&mut self, line: &[u8], stamp: Stamp, events: &mut Log) {
        let news = marker::parse(line).and_then(|marker| self.news(marker, stamp));
        if let Some(Err(error)) = news.map(|news| events.append(news)) {
            eprintln!("can't record a boot marker: {error}");
        }
    }

    /// What a marker tells that was not known yet.
    fn news(&mut self, marker: Marker, stamp: Stamp) -> Option<Observed> {
        match marker {
            Marker::ProgramStarted => {
                (!std::mem::replace(&mut self.program_started, true)).then_some(Observed::ProgramStarted(stamp))
            }
            Marker::AgentReady => {
                (!std::mem::replace(&mut self.agent_ready, true)).then_some(Observed::AgentReady(stamp))
            }
            Marker::Exited { code, message } => {
                self.exits += 1;
                (self.exits <= EXIT_MARKERS_MAX).then_some(Observed::ProgramExited { stamp, code, message })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::events::Tail;

    #[test]
    fn a_guest_that_repeats_its_markers_is_heard_a_bounded_number_of_times() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("events.jsonl");
        let mut events = Log::create(&path).expect("events");
        let mut console = Console::open(dir.path()).expect("console");
        for n in 0..EXIT_MARKERS_MAX + 5 {
            let text = format!("TALLYMAN-AGENT-READY\nTALLYMAN-EXIT code={n}\nTALLYMAN-PROGRAM-START\n");
            console.take(text.as_bytes(), &mut events);
        }
        let seen = Tail::new(path).read().expect("read");
        assert!(matches!(seen[0], Observed::AgentReady(_)));
        assert!(matches!(seen[1], Observed::ProgramExited { code: 0, .. }));
        assert!(matches!(seen[2], Observed::ProgramStarted(_)));
        assert_eq!(seen.len(), 2 + EXIT_MARKERS_MAX);
    }

    #[test]
    fn a_last_line_without_an_end_is_heard_too() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("events.jsonl");
        let mut events = Log::create(&path).expect("events");
        let mut console = Console::open(dir.path()).expect("console");
        console.take(b"TALLYMAN-EXIT code=", &mut events);
        console.take(b"7", &mut events);
        let stamp = Stamp { boottime_ns: 1, wall_ns: 2 };
        console.finish(stamp, &mut events);
        let expected = Observed::ProgramExited { stamp, code: 7, message: String::new() };
        assert_eq!(Tail::new(path).read().expect("read"), [expected]);
    }
}
