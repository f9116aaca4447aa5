//! Space of the disk that only the journal uses: a file that is made smaller, piece by piece, when
//! guests have filled the disk, so that what has happened is written all the same.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, ftruncate};

use crate::disk::Disk;
use crate::limits::disk as limits;

/// Name of the file in the data folder.
pub(super) const FILE: &str = "reserve";

/// The reserve.
pub(super) struct Reserve {
    disk: Disk,
    /// None if the file system can't hold one; then there is none.
    file: Option<File>,
    /// Bytes that it holds.
    bytes: u64,
    /// Bytes that it should hold.
    whole_bytes: u64,
}

impl Reserve {
    /// Takes the reserve of a data folder from the disk, as far as there is space. On a full disk,
    /// a piece is given back for the opening of the journal.
    pub(super) fn open(folder: &Path) -> Self {
        let mut reserve = Self::on(folder, Disk::of(folder));
        let free_bytes = reserve.disk.space().map_or(u64::MAX, |space| space.free_bytes);
        if free_bytes < limits::OPENING_BYTES {
            reserve.release();
        }
        reserve
    }

    fn on(folder: &Path, disk: Disk) -> Self {
        let total_bytes = disk.space().map_or(0, |space| space.total_bytes);
        let whole_bytes = (total_bytes / limits::RESERVE_DIVISOR)
            .clamp(limits::RESERVE_BYTES_MIN, limits::RESERVE_BYTES_MAX);
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(false).mode(0o600);
        let file = opened.open(folder.join(FILE));
        let file = file.map_err(|error| tracing::warn!(%error, "there is no reserve for facts"));
        let bytes = file.as_ref().ok().and_then(|file| file.metadata().ok());
        let bytes = bytes.map_or(0, |found| found.len());
        let mut reserve = Self { disk, file: file.ok(), bytes, whole_bytes };
        // On a disk that is full already, what an earlier run has left is kept.
        reserve.restore();
        reserve
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that it holds when it is whole; 0 if it never can.
    pub(super) fn whole_bytes(&self) -> u64 {
        if self.file.is_some() { self.whole_bytes } else { 0 }
    }

    /// True if it holds all that it should, or never can.
    pub(super) fn is_whole(&self) -> bool {
        self.file.is_none() || self.bytes >= self.whole_bytes
    }

    /// Gives a piece back to the disk. Returns false if nothing is left.
    pub(super) fn release(&mut self) -> bool {
        let Some(file) = self.file.as_ref().filter(|_| self.bytes > 0) else { return false };
        let piece = (self.whole_bytes / limits::RESERVE_PIECES).max(1);
        let left = self.bytes.saturating_sub(piece);
        if let Err(error) = ftruncate(file, left) {
            tracing::error!(%error, "the reserve can't be used");
            return false;
        }
        self.bytes = left;
        true
    }

    /// Takes what is missing from the disk again, if that leaves what is kept there. Returns true
    /// if it is whole.
    pub(super) fn restore(&mut self) -> bool {
        if self.is_whole() {
            return true;
        }
        let Some(file) = &self.file else { return true };
        let missing = self.whole_bytes - self.bytes;
        if self.disk.require(missing).is_err() {
            return false;
        }
        match fallocate(file, FallocateFlags::empty(), self.bytes, missing) {
            Ok(()) => {
                self.bytes = self.whole_bytes;
                true
            }
            Err(error) => {
                let error = io::Error::from(error);
                if error.kind() != io::ErrorKind::StorageFull {
                    // It can't be had here, and is not asked for again.
                    tracing::warn!(%error, "this file system holds no reserve for facts");
                    self.file = None;
                }
                self.file.is_none()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::disk::Space;

    /// A disk of 1 GiB in total whose free bytes the test sets.
    fn disk(folder: &Path) -> (Arc<AtomicU64>, Disk) {
        let free = Arc::new(AtomicU64::new(1 << 30));
        let told = free.clone();
        let measure = move |_: &Path| {
            Ok(Space { free_bytes: told.load(Ordering::Relaxed), total_bytes: 1 << 30 })
        };
        (free, Disk::measured(folder, measure))
    }

    fn on_disk(folder: &Path) -> u64 {
        folder.join(FILE).metadata().expect("a file").blocks() * 512
    }

    #[test]
    fn it_takes_its_space_gives_it_back_in_pieces_and_takes_it_again_once_there_is_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let (free, space) = disk(folder.path());
        let mut reserve = Reserve::on(folder.path(), space);
        let whole = (1 << 30) / limits::RESERVE_DIVISOR;
        assert_eq!((reserve.bytes(), reserve.is_whole()), (whole, true));
        assert!(on_disk(folder.path()) >= whole);
        free.store(0, Ordering::Relaxed);
        assert!(reserve.release() && !reserve.is_whole());
        assert!(on_disk(folder.path()) < whole);
        let mut pieces = 1;
        while reserve.release() {
            pieces += 1;
        }
        assert!((limits::RESERVE_PIECES..=limits::RESERVE_PIECES + 1).contains(&pieces));
        assert_eq!((on_disk(folder.path()), reserve.restore()), (0, false));
        free.store(1 << 30, Ordering::Relaxed);
        assert!(reserve.restore() && reserve.is_whole());
        assert!(on_disk(folder.path()) >= whole);
    }

    #[test]
    fn what_an_earlier_run_has_left_on_a_full_disk_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let (free, space) = disk(folder.path());
        let mut reserve = Reserve::on(folder.path(), space);
        assert!(reserve.release());
        let left = reserve.bytes();
        drop(reserve);
        let (now, space) = disk(folder.path());
        now.store(0, Ordering::Relaxed);
        let reserve = Reserve::on(folder.path(), space);
        assert_eq!((reserve.bytes(), reserve.is_whole()), (left, false));
        assert_eq!(free.load(Ordering::Relaxed), 1 << 30);
    }
}
