//! Locks of disks: one writer, or any number of readers.
//!
//! Not every VMM locks its disks, so the supervisor locks each and lets the VMM inherit the lock,
//! which holds exactly as long as the VMM lives.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Disk, HypervisorError};

/// Locks a disk until the returned descriptor and every copy of it are closed.
///
/// # Errors
/// [`HypervisorError::DiskInUse`]; [`HypervisorError::File`] if it can't be opened.
pub fn lock(disk: &Disk) -> Result<OwnedFd, HypervisorError> {
    let file = File::open(&disk.path).map_err(HypervisorError::file("open", &disk.path))?;
    let operation = match disk.read_only {
        true => FlockOperation::NonBlockingLockShared,
        false => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(&file, operation) {
        Ok(()) => Ok(file.into()),
        Err(Errno::WOULDBLOCK) => Err(HypervisorError::DiskInUse { path: disk.path.clone() }),
        Err(error) => Err(HypervisorError::file("lock", &disk.path)(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writes_or_many_read() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let reader = Disk { path: file.path().into(), read_only: true };
        let writer = Disk { read_only: false, ..reader.clone() };
        for (first, second, both) in [
            (&writer, &writer, false),
            (&writer, &reader, false),
            (&reader, &writer, false),
            (&reader, &reader, true),
        ] {
            let held = lock(first).expect("free");
            match lock(second) {
                Ok(_) => assert!(both),
                Err(HypervisorError::DiskInUse { path }) => assert!(!both && path == file.path()),
                Err(other) => panic!("{other:?}"),
            }
            drop(held);
        }
    }

    #[test]
    fn a_copy_holds_the_lock_on() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let disk = Disk { path: file.path().into(), read_only: false };
        let held = lock(&disk).expect("free");
        let inherited = held.try_clone().expect("copy");
        drop(held);
        assert!(matches!(lock(&disk), Err(HypervisorError::DiskInUse { .. })));
        drop(inherited);
        lock(&disk).expect("free again");
    }
}
