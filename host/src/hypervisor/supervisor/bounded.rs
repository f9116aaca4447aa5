//! A log of bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log in two files of at most half the limit each; the older one is dropped when the newer one
/// is full.
///
/// While the disk is full, output is kept in memory, up to the same half of the limit, and written
/// when there is space.
#[derive(Debug)]
pub(super) struct BoundedLog {
    path: PathBuf,
    older: PathBuf,
    bytes_max: u64,
    file: File,
    len: u64,
    /// Bytes that could not be written yet.
    backlog: Vec<u8>,
    /// Number of bytes that the backlog had no room for.
    lost: u64,
}

impl BoundedLog {
    pub(super) fn open(path: PathBuf, older: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let file = open(&path)?;
        let len = file.metadata()?.len();
        Ok(Self { path, older, bytes_max, file, len, backlog: Vec::new(), lost: 0 })
    }

    /// Appends bytes; those that can't be written now are kept. Never fails.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let written = if self.backlog.is_empty() { self.write(bytes) } else { 0 };
        if written < bytes.len() {
            self.keep(&bytes[written..]);
        }
    }

    /// Returns whether bytes wait to be written.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Writes as much of the backlog as possible.
    pub(super) fn catch_up(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        let mut backlog = std::mem::take(&mut self.backlog);
        if self.lost > 0 {
            let gap = format!("\n[{} bytes are missing here: the disk was full]\n", self.lost);
            if self.write(gap.as_bytes()) < gap.len() {
                self.backlog = backlog;
                return;
            }
            self.lost = 0;
        }
        let written = self.write(&backlog);
        backlog.drain(..written);
        self.backlog = backlog;
    }

    /// Adds bytes to the backlog and drops its oldest ones beyond the bound.
    fn keep(&mut self, bytes: &[u8]) {
        self.backlog.extend_from_slice(bytes);
        let room = usize::try_from(self.bytes_max / 2).unwrap_or(usize::MAX);
        let excess = self.backlog.len().saturating_sub(room);
        self.backlog.drain(..excess);
        self.lost += excess as u64;
    }

    /// Writes as many bytes as possible; returns their number.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_some(&bytes[written..]) {
                Ok(n @ 1..) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        written
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.len > 0 && self.len + bytes.len() as u64 > self.bytes_max / 2 {
            fs::rename(&self.path, &self.older)?;
            self.file = open(&self.path)?;
            self.len = 0;
        }
        let n = self.file.write(bytes)?;
        self.len += n as u64;
        Ok(n)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_within_its_limit_and_keeps_the_newest() {
        const BYTES_MAX: u64 = 1 << 20;
        let dir = tempfile::tempdir().expect("dir");
        let newest = dir.path().join("log");
        let older = dir.path().join("log.1");
        let mut log = BoundedLog::open(newest.clone(), older.clone(), BYTES_MAX).expect("open");
        let chunk = vec![b'x'; 64 << 10];
        for _ in 0..2 * BYTES_MAX / chunk.len() as u64 {
            log.append(&chunk);
        }
        log.append(b"the end");
        let newest = fs::read(newest).expect("newest");
        let older = fs::metadata(older).expect("older").len();
        assert!(newest.ends_with(b"the end"));
        assert!(newest.len() as u64 + older <= BYTES_MAX);
        assert!(newest.len() as u64 + older > BYTES_MAX / 2);
    }

    /// A log whose file takes nothing, as on a full disk.
    fn full(dir: &Path, bytes_max: u64) -> BoundedLog {
        let mut log =
            BoundedLog::open(dir.join("log"), dir.join("log.1"), bytes_max).expect("open");
        log.file = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        log
    }

    #[test]
    fn what_comes_while_the_disk_is_full_is_written_when_there_is_space() {
        let dir = tempfile::tempdir().expect("dir");
        let mut log = full(dir.path(), 1 << 20);
        log.append(b"one ");
        log.append(b"two ");
        log.catch_up();
        assert!(log.has_backlog());
        log.file = open(&log.path).expect("open");
        log.catch_up();
        log.append(b"three");
        assert!(!log.has_backlog());
        assert_eq!(fs::read(&log.path).expect("read"), b"one two three");
    }

    #[test]
    fn what_memory_has_no_room_for_is_counted_in_the_log() {
        let dir = tempfile::tempdir().expect("dir");
        let mut log = full(dir.path(), 200);
        log.append(&[b'#'; 90]);
        log.append(&[b'%'; 30]);
        log.file = open(&log.path).expect("open");
        log.catch_up();
        let written =
            [fs::read(&log.older).unwrap_or_default(), fs::read(&log.path).expect("read")].concat();
        let written = String::from_utf8(written).expect("text");
        assert!(
            written.starts_with("\n[20 bytes are missing here: the disk was full]\n###"),
            "{written}"
        );
        assert_eq!(
            (written.matches('#').count(), written.matches('%').count()),
            (70, 30),
            "{written}"
        );
    }
}
