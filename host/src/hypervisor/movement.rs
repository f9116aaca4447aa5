//! Timeouts that follow progress: an operation may take any time while it makes progress.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::HypervisorError;
use crate::limits::instance::SNAPSHOT_STALL_MS_MAX;

/// Interval at which progress is checked, in milliseconds.
const LOOK_MS: u64 = 1_000;

/// Progress of a VMM's work on a snapshot, seen from outside.
#[derive(Debug, Clone)]
pub(super) struct Movement {
    /// The folder with the snapshot's files.
    folder: PathBuf,
    /// The VMM's process id.
    pid: u32,
}

impl Movement {
    pub(super) fn new(folder: impl Into<PathBuf>, pid: u32) -> Self {
        Self { folder: folder.into(), pid }
    }

    /// A number that changes with progress: bytes in the folder, and bytes that the VMM has read
    /// and written.
    fn position(&self) -> u64 {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let bytes =
            files.filter_map(|file| file.metadata().ok()).map(|data| data.len() + data.blocks());
        bytes.sum::<u64>().wrapping_add(self.moved_by_vmm())
    }

    /// Sum of the VMM's I/O counters: bytes by its system calls and on the disk.
    fn moved_by_vmm(&self) -> u64 {
        let counters = fs::read_to_string(format!("/proc/{}/io", self.pid)).unwrap_or_default();
        let numbers =
            counters.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        numbers.fold(0, u64::wrapping_add)
    }
}

/// Waits for `work` for as long as it makes progress.
///
/// # Errors
/// [`HypervisorError::Stalled`] after [`SNAPSHOT_STALL_MS_MAX`] without progress, and the work's
/// own.
pub(super) async fn while_moving<T>(
    call: &'static str,
    movement: Movement,
    work: impl Future<Output = Result<T, HypervisorError>>,
) -> Result<T, HypervisorError> {
    while_changing(call, SNAPSHOT_STALL_MS_MAX, LOOK_MS, || movement.position(), work).await
}

async fn while_changing<T>(
    call: &'static str,
    stall_ms: u64,
    look_ms: u64,
    position: impl Fn() -> u64,
    work: impl Future<Output = Result<T, HypervisorError>>,
) -> Result<T, HypervisorError> {
    let stalled = async {
        let mut last = position();
        let mut moved = Instant::now();
        loop {
            sleep(Duration::from_millis(look_ms)).await;
            let now = position();
            if now != last {
                last = now;
                moved = Instant::now();
            } else if moved.elapsed() >= Duration::from_millis(stall_ms) {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        () = stalled => Err(HypervisorError::Stalled { call, ms: stall_ms }),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_moves_takes_its_time_and_what_stands_still_does_not() {
        let looks = Cell::new(0);
        let position = |still_from: u64| {
            looks.set(looks.get() + 1);
            looks.get().min(still_from)
        };
        let slow = async {
            while looks.get() < 100 {
                tokio::task::yield_now().await;
            }
            Ok(7)
        };
        let moves = while_changing("save", 1, 1, || position(u64::MAX), slow).await;
        assert_eq!(moves.expect("it moved at each look"), 7);
        looks.set(0);
        let never = std::future::pending::<Result<(), _>>();
        let stalls = while_changing("save", 10, 1, || position(20), never).await;
        assert!(
            matches!(stalls, Err(HypervisorError::Stalled { call: "save", ms: 10 })),
            "{stalls:?}"
        );
        assert!(looks.get() > 20, "{} looks", looks.get());
    }

    #[test]
    fn what_a_file_gains_is_movement() {
        let dir = tempfile::tempdir().expect("dir");
        let movement = Movement::new(dir.path(), u32::MAX);
        let before = movement.position();
        fs::write(dir.path().join("memory"), b"more").expect("write");
        assert_ne!(movement.position(), before);
        assert_eq!(Movement::new(dir.path().join("nothing"), u32::MAX).position(), 0);
        assert!(Movement::new("/", std::process::id()).moved_by_vmm() > 0);
    }
}
