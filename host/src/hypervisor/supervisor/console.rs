//! The guest's console: logged, bounded, and searched for boot markers as it arrives.

use std::io;
use std::path::Path;

use super::bounded::BoundedLog;
use super::lines::Lines;
use crate::hypervisor::events::Log;
use crate::hypervisor::{Observed, Stamp, files};
use crate::limits::instance::{CONSOLE_BYTES_MAX, EXIT_MARKER_INTERVAL_MS, EXIT_MARKERS_AT_ONCE};
use crate::vm::marker::{self, Marker};

/// The console of one incarnation.
#[derive(Debug)]
pub(super) struct Console {
    log: BoundedLog,
    lines: Lines,
    heard: Heard,
}

/// The guest's announcements. A guest may repeat them without end; the event log stays bounded.
#[derive(Debug, Default)]
struct Heard {
    program_started: bool,
    agent_ready: bool,
    /// Number of exit markers that were recorded.
    exits: usize,
    /// The exit marker that waits to be recorded. A later one replaces it, as the last one counts.
    last_exit: Option<Observed>,
    /// `CLOCK_BOOTTIME` from which the next exit marker may be recorded, in nanoseconds.
    next_exit_ns: u64,
}

impl Console {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let log = BoundedLog::open(
            files::console_log(dir),
            files::console_log_older(dir),
            CONSOLE_BYTES_MAX,
        )?;
        Ok(Self { log, lines: Lines::default(), heard: Heard::default() })
    }

    /// Takes bytes that have just arrived.
    pub(super) fn take(&mut self, bytes: &[u8], events: &mut Log) {
        let stamp = Stamp::now();
        self.lines.take(bytes, |line| self.heard.line(line, stamp, events));
        self.log.append(bytes);
    }

    /// Takes the last line, which was not completed when the VMM ended at `stamp`.
    pub(super) fn finish(&mut self, stamp: Stamp, events: &mut Log) {
        self.lines.finish(|line| self.heard.line(line, stamp, events));
        self.heard.write_exit(events);
    }

    /// Returns whether output or an exit marker waits to be written.
    pub(super) fn has_backlog(&self) -> bool {
        self.heard.last_exit.is_some() || self.log.has_backlog()
    }

    /// Writes as much of the waiting output as possible, and the exit marker if its turn has come
    /// at `stamp`.
    pub(super) fn catch_up(&mut self, stamp: Stamp, events: &mut Log) {
        if stamp.boottime_ns >= self.heard.next_exit_ns {
            self.heard.write_exit(events);
        }
        self.log.catch_up();
    }
}

impl Heard {
    fn line(&mut self, line: &[u8], stamp: Stamp, events: &mut Log) {
        match marker::parse(line) {
            Some(Marker::ProgramStarted) if !self.program_started => {
                self.program_started = true;
                write(events, Observed::ProgramStarted(stamp));
            }
            Some(Marker::AgentReady) if !self.agent_ready => {
                self.agent_ready = true;
                write(events, Observed::AgentReady(stamp));
            }
            Some(Marker::Exited { code, message }) => {
                self.last_exit = Some(Observed::ProgramExited { stamp, code, message });
                if self.exits < EXIT_MARKERS_AT_ONCE || stamp.boottime_ns >= self.next_exit_ns {
                    self.write_exit(events);
                }
            }
            Some(Marker::ProgramStarted | Marker::AgentReady) | None => {}
        }
    }

    /// Records the exit marker that waits, if there is one.
    fn write_exit(&mut self, events: &mut Log) {
        let Some(exit) = self.last_exit.take() else { return };
        self.exits += 1;
        if self.exits >= EXIT_MARKERS_AT_ONCE {
            self.next_exit_ns =
                Stamp::now().boottime_ns.saturating_add(EXIT_MARKER_INTERVAL_MS * 1_000_000);
        }
        write(events, exit);
    }
}

/// Records an event. On error the log keeps it and writes it later.
fn write(events: &mut Log, observed: Observed) {
    let _ = events.append(observed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::events::Tail;

    #[test]
    fn a_guest_that_repeats_its_markers_grows_no_log_and_its_last_word_counts() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("events.jsonl");
        let mut events = Log::create(&path).expect("events");
        let mut console = Console::open(dir.path()).expect("console");
        for n in 0..EXIT_MARKERS_AT_ONCE + 5 {
            let text =
                format!("TALLYMAN-AGENT-READY\nTALLYMAN-EXIT code={n}\nTALLYMAN-PROGRAM-START\n");
            console.take(text.as_bytes(), &mut events);
        }
        let mut tail = Tail::new(path);
        let seen = tail.read().expect("read");
        assert!(matches!(seen[0], Observed::AgentReady(_)));
        assert!(matches!(seen[1], Observed::ProgramExited { code: 0, .. }));
        assert!(matches!(seen[2], Observed::ProgramStarted(_)));
        assert_eq!(seen.len(), 2 + EXIT_MARKERS_AT_ONCE);
        assert!(console.has_backlog());
        console.catch_up(Stamp { boottime_ns: u64::MAX, wall_ns: 0 }, &mut events);
        let last = tail.read().expect("read");
        assert!(matches!(last[..], [Observed::ProgramExited { code: 20, .. }]), "{last:?}");
        console.take(b"TALLYMAN-EXIT code=21\nTALLYMAN-EXIT code=22\n", &mut events);
        assert_eq!(tail.read().expect("read"), [], "it is not its turn");
        console.finish(Stamp { boottime_ns: 1, wall_ns: 2 }, &mut events);
        let last = tail.read().expect("read");
        assert!(matches!(last[..], [Observed::ProgramExited { code: 22, .. }]), "{last:?}");
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
