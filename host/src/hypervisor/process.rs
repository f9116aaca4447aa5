//! Processes, identified so that a reused process id can't be mistaken.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::HypervisorError;

/// Identity of a process within one boot: its id and its start, because ids are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessId {
    /// Process id.
    pub(super) pid: u32,
    /// Start of the process, in clock ticks since the boot; field 22 of `/proc/<pid>/stat`.
    pub(super) start_ticks: u64,
}

impl ProcessId {
    /// The process that has this id now; `None` if it has ended. A zombie has ended, even if it is
    /// never reaped.
    pub(super) fn of(pid: u32) -> io::Result<Option<Self>> {
        match read_stat(pid) {
            Ok(Stat { dead: true, .. }) => Ok(None),
            Ok(Stat { dead: false, start_ticks }) => Ok(Some(Self { pid, start_ticks })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A child that is not reaped yet, ended or not.
    pub(super) fn of_child(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, start_ticks: read_stat(pid)?.start_ticks })
    }
}

/// The parts of `/proc/<pid>/stat` that identify a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    dead: bool,
    start_ticks: u64,
}

fn read_stat(pid: u32) -> io::Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path)?;
    parse_stat(&text)
        .ok_or_else(|| io::Error::other(format!("{path} has an unknown format: {text}")))
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, spaces and parentheses too.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let dead = matches!(fields.next()?, "Z" | "X");
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some(Stat { dead, start_ticks })
}

/// A pidfd of a process that lived when it was opened, which stays the same process when its id is
/// reused.
#[derive(Debug)]
pub(super) struct Process {
    id: ProcessId,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Opens the process; `None` if it has ended. Needs an async runtime.
    pub(super) fn open(id: ProcessId) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(id.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, and only the
        // `AsyncFd` drops it.
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        // Compared only after the pidfd is open: before, the id could have been reused in between.
        let same = ProcessId::of(id.pid)? == Some(id);
        Ok(same.then_some(Self { id, pidfd }))
    }

    /// Opens every process whose working folder this is.
    pub(super) fn standing_in(folder: &Path) -> io::Result<Vec<Self>> {
        let folder = folder.canonicalize()?;
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            // Unreadable for a process that has ended meanwhile, or is another user's.
            let stands =
                fs::read_link(entry.path().join("cwd")).is_ok_and(|stands| stands == folder);
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let (true, Some(pid)) = (stands, pid) {
                found.extend(ProcessId::of(pid)?.map_or(Ok(None), Self::open)?);
            }
        }
        Ok(found)
    }

    pub(super) fn pid(&self) -> u32 {
        self.id.pid
    }

    /// Waits until the process has ended.
    pub(super) async fn ended(&self) {
        // Fails only when the runtime shuts down, which drops all waiting futures.
        let _ = self.pidfd.readable().await;
    }

    /// Ends the process by force; does nothing if it has ended.
    pub(super) fn kill(&self) -> Result<(), HypervisorError> {
        self.signal(Signal::KILL)
    }

    /// Asks the process to end; does nothing if it has ended.
    pub(super) fn terminate(&self) -> Result<(), HypervisorError> {
        self.signal(Signal::TERM)
    }

    fn signal(&self, signal: Signal) -> Result<(), HypervisorError> {
        match pidfd_send_signal(self.pidfd.get_ref(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(HypervisorError::Kill { pid: self.id.pid, source: error.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_hides_nothing() {
        let stat = "12 (a) b) (c) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(parse_stat(stat), Some(Stat { dead: false, start_ticks: 987_654 }));
    }

    #[test]
    fn a_zombie_is_dead() {
        let stat = "12 (x) Z 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(parse_stat(stat), Some(Stat { dead: true, start_ticks: 987_654 }));
    }

    #[tokio::test]
    async fn a_process_is_found_by_where_it_stands() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(Process::standing_in(dir.path()).expect("proc").len(), 0);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .current_dir(dir.path())
            .spawn()
            .expect("spawn");
        let found = Process::standing_in(dir.path()).expect("proc");
        assert_eq!(found.iter().map(Process::pid).collect::<Vec<_>>(), [child.id()]);
        found[0].kill().expect("kill");
        found[0].ended().await;
        assert_eq!(Process::standing_in(dir.path()).expect("proc").len(), 0);
        child.wait().expect("reap");
    }

    #[tokio::test]
    async fn a_number_that_belongs_to_another_process_now_is_not_opened() {
        let own = ProcessId::of(std::process::id()).expect("proc").expect("lives");
        assert!(Process::open(own).expect("open").is_some());
        let earlier = ProcessId { start_ticks: own.start_ticks - 1, ..own };
        assert!(Process::open(earlier).expect("open").is_none());
    }
}
