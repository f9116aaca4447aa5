//! A log that does not grow for ever.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Two files of at most half the limit each; the older one is dropped when the newer one is full.
#[derive(Debug)]
pub(super) struct BoundedLog {
    path: PathBuf,
    older: PathBuf,
    bytes_max: u64,
    file: File,
    len: u64,
    /// Whether the last write failed, so that a full disk is reported once and not for every byte.
    failing: bool,
}

impl BoundedLog {
    pub(super) fn open(path: PathBuf, older: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let file = open(&path)?;
        let len = file.metadata()?.len();
        Ok(Self { path, older, bytes_max, file, len, failing: false })
    }

    /// Appends what fits on the disk. Whoever writes goes on either way.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        match self.try_append(bytes) {
            Ok(()) => self.failing = false,
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                eprintln!("can't write to {}: {error}", self.path.display());
            }
            Err(_) => {}
        }
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.len + bytes.len() as u64 > self.bytes_max / 2 {
            fs::rename(&self.path, &self.older)?;
            self.file = open(&self.path)?;
            self.len = 0;
        }
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
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
        let (newest, older) = (dir.path().join("log"), dir.path().join("log.1"));
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
}
