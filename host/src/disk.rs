//! The space on the disk of the data folder: what is free, and what must stay free.
//!
//! Facts, disks, snapshots and memories of guests share one disk. Whatever takes much of it and can
//! wait is refused while there is still room for facts: see [`Disk::require`]. The journal has a
//! reserve beside that, for the time when guests have filled the rest.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use crate::limits::disk as limits;

/// The space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

impl Space {
    /// Bytes that are kept free for the journal: snapshots, memories, forks, new instances and
    /// uploads leave them.
    pub fn kept_bytes(&self) -> u64 {
        (self.total_bytes / limits::KEPT_DIVISOR).min(limits::KEPT_BYTES_MAX)
    }

    /// True if nothing is left beside what is kept.
    pub fn is_low(&self) -> bool {
        self.free_bytes < self.kept_bytes()
    }

    /// True if less than twice what is kept is free, so that an operator should act.
    pub fn is_getting_low(&self) -> bool {
        self.free_bytes < self.kept_bytes().saturating_mul(2)
    }
}

/// The disk has too little space for something that can wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk has {free_bytes} bytes free; this may need {needed_bytes}, and {kept_bytes} are kept \
     for the journal"
)]
pub struct DiskLow {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that may be needed.
    pub needed_bytes: u64,
    /// Bytes that must stay free.
    pub kept_bytes: u64,
}

type Measure = dyn Fn(&Path) -> io::Result<Space> + Send + Sync;

/// The disk that the data folder is on.
pub struct Disk {
    folder: PathBuf,
    measure: Box<Measure>,
}

impl Disk {
    /// The disk of a folder.
    pub fn of(folder: &Path) -> Self {
        Self::measured(folder, measure)
    }

    /// The disk of a folder, whose space is what a function says: for tests.
    pub fn measured(
        folder: &Path,
        measure: impl Fn(&Path) -> io::Result<Space> + Send + Sync + 'static,
    ) -> Self {
        Self { folder: folder.into(), measure: Box::new(measure) }
    }

    /// The space now.
    ///
    /// # Errors
    /// The error of the system.
    pub fn space(&self) -> io::Result<Space> {
        (self.measure)(&self.folder)
    }

    /// Checks that `needed_bytes` more leave what is kept for the journal. A disk that can't be
    /// asked refuses nothing: whoever writes finds out.
    ///
    /// # Errors
    /// [`DiskLow`].
    pub fn require(&self, needed_bytes: u64) -> Result<(), DiskLow> {
        let Ok(space) = self.space() else { return Ok(()) };
        let kept_bytes = space.kept_bytes();
        match space.free_bytes >= kept_bytes.saturating_add(needed_bytes) {
            true => Ok(()),
            false => Err(DiskLow { free_bytes: space.free_bytes, needed_bytes, kept_bytes }),
        }
    }
}

/// Writes a file for its owner alone, whole or not at all, and durably. Its folder is made if it is
/// missing. Blocking.
///
/// # Errors
/// The error of the system; the file is as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

fn measure(folder: &Path) -> io::Result<Space> {
    let there = statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(there.f_frsize);
    Ok(Space { free_bytes: bytes(there.f_bavail), total_bytes: bytes(there.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn disk(free_bytes: u64, total_bytes: u64) -> Disk {
        Disk::measured(Path::new("/"), move |_| Ok(Space { free_bytes, total_bytes }))
    }

    #[test]
    fn a_tenth_is_kept_and_never_more_than_four_gibibytes() {
        for (total, kept) in [(0, 0), (9, 0), (40 << 20, 4 << 20), (40 * GIB, 4 * GIB)] {
            assert_eq!(Space { free_bytes: 0, total_bytes: total }.kept_bytes(), kept, "{total}");
        }
        let large = Space { free_bytes: 4 * GIB, total_bytes: 1 << 50 };
        assert_eq!((large.kept_bytes(), large.is_low()), (4 * GIB, false));
        assert!(Space { free_bytes: 4 * GIB - 1, ..large }.is_low());
        assert!(large.is_getting_low());
        assert!(!Space { free_bytes: 8 * GIB, ..large }.is_getting_low());
    }

    #[test]
    fn a_need_that_would_not_leave_it_is_refused_with_the_figures() {
        let disk = disk(6 * GIB, 100 * GIB);
        assert_eq!(disk.require(2 * GIB), Ok(()));
        let low = disk.require(2 * GIB + 1).expect_err("too much");
        assert_eq!((low.free_bytes, low.kept_bytes), (6 * GIB, 4 * GIB));
        assert_eq!(low.needed_bytes, 2 * GIB + 1);
        assert!(disk.require(u64::MAX).is_err());
    }

    #[test]
    fn a_disk_that_can_t_be_asked_refuses_nothing() {
        let disk = Disk::measured(Path::new("/"), |_| Err(io::ErrorKind::Other.into()));
        assert_eq!(disk.require(u64::MAX), Ok(()));
        let here = Disk::of(&std::env::temp_dir()).space().expect("a file system");
        assert!(here.total_bytes >= here.free_bytes && here.total_bytes > 0);
    }
}
