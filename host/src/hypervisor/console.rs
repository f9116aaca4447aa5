//! Questions on a guest's console.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::time::sleep;

use super::{HypervisorError, files};

/// Interval at which the log is searched for the answer, in milliseconds.
const LOOK_AGAIN_MS: u64 = 10;

/// Number of bytes read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Types `question` on the console of the newest launch in the instance's folder, if it is not
/// empty, and waits until the guest has written `answer` after that. Has no timeout: the caller
/// drops the future.
///
/// # Errors
/// [`HypervisorError::File`] if there is no console, or its FIFO is full because the guest does not
/// read.
pub async fn ask_console(dir: &Path, question: &str, answer: &str) -> Result<(), HypervisorError> {
    let log = files::console_log(dir);
    let mut watcher =
        LogWatcher::open(&log, answer).map_err(HypervisorError::file("read", &log))?;
    if !question.is_empty() {
        let input = files::console_input(dir);
        write_input(&input, question).map_err(HypervisorError::file("type into", &input))?;
    }
    while !watcher.poll().map_err(HypervisorError::file("read", &log))? {
        sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
    }
    Ok(())
}

fn write_input(input: &Path, text: &str) -> io::Result<()> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().write(true).custom_flags(nonblocking).open(input)?.write_all(text.as_bytes())
}

/// The search for a text in what is appended to a log from now on.
struct LogWatcher {
    log: PathBuf,
    file: File,
    wanted: Vec<u8>,
    /// The end of the bytes read so far, in which the text may have begun.
    unmatched: Vec<u8>,
}

impl LogWatcher {
    fn open(log: &Path, wanted: &str) -> io::Result<Self> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { log: log.into(), file, wanted: wanted.into(), unmatched: Vec::new() })
    }

    /// Reads the bytes appended since the last call; returns whether the text is in them.
    fn poll(&mut self) -> io::Result<bool> {
        if self.read_new()? {
            return Ok(true);
        }
        // A full log is renamed, and a new one begun.
        let next = File::open(&self.log)?;
        if next.metadata()?.ino() == self.file.metadata()?.ino() {
            return Ok(false);
        }
        let last = self.read_new()?;
        self.file = next;
        Ok(last || self.read_new()?)
    }

    fn read_new(&mut self) -> io::Result<bool> {
        loop {
            let kept = self.unmatched.len();
            let read = (&self.file).take(PIECE_BYTES as u64).read_to_end(&mut self.unmatched)?;
            if self.unmatched.windows(self.wanted.len()).any(|window| window == self.wanted) {
                return Ok(true);
            }
            let rest = (kept + read).saturating_sub(self.wanted.len().saturating_sub(1));
            self.unmatched.drain(..rest);
            if read < PIECE_BYTES {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn append(log: &Path, text: &str) {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(log)
            .and_then(|mut log| log.write_all(text.as_bytes()))
            .expect("written");
    }

    #[test]
    fn only_what_comes_later_is_heard_also_in_pieces_and_across_two_files() {
        let dir = tempfile::tempdir().expect("dir");
        let log = files::console_log(dir.path());
        append(&log, "PONG\n");
        let mut watcher = LogWatcher::open(&log, "PONG").expect("open");
        assert!(!watcher.poll().expect("read"));
        append(&log, "HB 1\nPO");
        assert!(!watcher.poll().expect("read"));
        fs::rename(&log, files::console_log_older(dir.path())).expect("put aside");
        append(&log, "NG\n");
        assert!(watcher.poll().expect("read"));
    }

    #[test]
    fn a_flood_is_searched_to_its_end() {
        let dir = tempfile::tempdir().expect("dir");
        let log = files::console_log(dir.path());
        append(&log, "");
        let mut watcher = LogWatcher::open(&log, "PONG").expect("open");
        append(&log, &"flood ".repeat(PIECE_BYTES));
        append(&log, "PONG");
        assert!(watcher.poll().expect("read"));
    }

    #[tokio::test]
    async fn a_console_without_a_reader_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        append(&files::console_log(dir.path()), "");
        let error = ask_console(dir.path(), "p", "PONG").await.expect_err("nobody reads");
        assert!(error.to_string().contains("console.in"), "{error}");
    }
}
