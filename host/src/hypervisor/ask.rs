//! A question on a guest's console.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::time::sleep;

use super::{HypervisorError, files};

/// Between two looks whether the guest has answered, in milliseconds.
const LOOK_AGAIN_MS: u64 = 10;

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Types `question` on the console of the newest launch in the instance's folder, if it is not empty, and waits until the guest has written
/// `answer` after that. Waits for ever: whoever drops the future decides how long.
///
/// # Errors
/// [`HypervisorError::File`] if there is no console, or the guest does not read.
pub async fn ask_console(dir: &Path, question: &str, answer: &str) -> Result<(), HypervisorError> {
    let log = files::console_log(dir);
    let mut ear = Ear::open(&log, answer).map_err(HypervisorError::file("read", &log))?;
    if !question.is_empty() {
        let input = files::console_input(dir);
        type_in(&input, question).map_err(HypervisorError::file("type into", &input))?;
    }
    while !ear.hears().map_err(HypervisorError::file("read", &log))? {
        sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
    }
    Ok(())
}

fn type_in(input: &Path, text: &str) -> io::Result<()> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().write(true).custom_flags(nonblocking).open(input)?.write_all(text.as_bytes())
}

/// Listens for a text in what is appended to a log from now on.
struct Ear {
    log: PathBuf,
    file: File,
    wanted: Vec<u8>,
    /// What was heard last: the text may come in pieces.
    heard: Vec<u8>,
}

impl Ear {
    fn open(log: &Path, wanted: &str) -> io::Result<Self> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { log: log.into(), file, wanted: wanted.into(), heard: Vec::new() })
    }

    /// Takes in what has come since; answers whether the text is in it.
    fn hears(&mut self) -> io::Result<bool> {
        if self.takes_in()? {
            return Ok(true);
        }
        // The log is put aside when it is full, and a new one is begun.
        let next = File::open(&self.log)?;
        if next.metadata()?.ino() == self.file.metadata()?.ino() {
            return Ok(false);
        }
        let last = self.takes_in()?;
        self.file = next;
        Ok(last || self.takes_in()?)
    }

    fn takes_in(&mut self) -> io::Result<bool> {
        loop {
            let kept = self.heard.len();
            let read = (&self.file).take(PIECE_BYTES as u64).read_to_end(&mut self.heard)?;
            if self.heard.windows(self.wanted.len()).any(|window| window == self.wanted) {
                return Ok(true);
            }
            let rest = (kept + read).saturating_sub(self.wanted.len().saturating_sub(1));
            self.heard.drain(..rest);
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
        let mut ear = Ear::open(&log, "PONG").expect("open");
        assert!(!ear.hears().expect("read"));
        append(&log, "HB 1\nPO");
        assert!(!ear.hears().expect("read"));
        fs::rename(&log, files::console_log_older(dir.path())).expect("put aside");
        append(&log, "NG\n");
        assert!(ear.hears().expect("read"));
    }

    #[test]
    fn a_flood_is_searched_to_its_end() {
        let dir = tempfile::tempdir().expect("dir");
        let log = files::console_log(dir.path());
        append(&log, "");
        let mut ear = Ear::open(&log, "PONG").expect("open");
        append(&log, &"flood ".repeat(PIECE_BYTES));
        append(&log, "PONG");
        assert!(ear.hears().expect("read"));
    }

    #[tokio::test]
    async fn a_console_without_a_reader_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        append(&files::console_log(dir.path()), "");
        let error = ask_console(dir.path(), "p", "PONG").await.expect_err("nobody reads");
        assert!(error.to_string().contains("console.in"), "{error}");
    }
}
