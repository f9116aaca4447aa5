//! The folder of an instance: its layout, and the atomic replacement of its files.
//!
//! ```text
//! <instance>/root.raw, disk-<n>.raw   the instance's own disks
//!            standby/                 the memory of a standby
//!            put-back                 a snapshot is being put back: its files lie beside these
//!            held-<incarnation>/      the memory of a paused machine, once it was saved
//!            snapshots/<name>/        a snapshot that is complete:
//!                snapshot.json          its description
//!                memory/                the hypervisor's files, or compressed; or absent
//!                disk-<n>.raw           the n-th disk, where the guest may write to it
//! ```

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::copy;
use super::error::{FleetError, failed};
use super::record::{Disk, Snapshot};
use crate::blocking;
use crate::hypervisor::{self, HypervisorError, lock_disk, unpack};
use crate::id::SnapshotName;

const DESCRIPTION: &str = "snapshot.json";

/// The folder with the memory of a standby, in the folder of an instance.
pub(super) fn standby_folder(instance: &Path) -> PathBuf {
    instance.join("standby")
}

/// The folder with the memory of a paused machine. It exists from the first save in that pause
/// until the vCPUs run again. The incarnation in its name keeps launches apart.
pub(super) fn held_folder(instance: &Path, incarnation: u32) -> PathBuf {
    instance.join(format!("held-{incarnation}"))
}

/// The folder of a snapshot, in the folder of an instance.
pub(super) fn snapshot_folder(instance: &Path, name: &SnapshotName) -> PathBuf {
    instance.join("snapshots").join(name.as_str())
}

/// The hypervisor's part of a snapshot.
pub(super) fn memory_folder(snapshot: &Path) -> PathBuf {
    snapshot.join("memory")
}

/// The copy of a disk in a snapshot.
pub(super) fn disk_file(snapshot: &Path, index: usize) -> PathBuf {
    snapshot.join(format!("disk-{index}.raw"))
}

/// The disks that are part of a snapshot, each with its number.
pub(super) fn writable(disks: &[Disk]) -> impl Iterator<Item = (usize, &Disk)> {
    disks.iter().enumerate().filter(|(_, disk)| !disk.read_only)
}

/// Gives each writable disk a path in the folder `to`. One that lies in `from` keeps its name.
pub(super) fn own_disks(disks: &mut [Disk], from: &Path, to: &Path) {
    for (index, disk) in disks.iter_mut().enumerate().filter(|(_, disk)| !disk.read_only) {
        let inside = disk.path.strip_prefix(from).map(Path::to_owned);
        disk.path = to.join(inside.unwrap_or_else(|_| format!("disk-{index}.raw").into()));
    }
}

/// The error for the client after a failure of the host's own files. `act` is the verb of the
/// message.
pub(super) fn on_disk(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FleetError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FleetError::NoSpace,
        _ => {
            tracing::warn!(%error, path = %path.display(), "can't {act} a file");
            // Tenants read the answer: it names no folder of the host.
            let name = path.file_name().unwrap_or_default().display();
            FleetError::Files(format!("can't {act} {name}: {error}"))
        }
    }
}

/// Runs blocking work on the thread pool for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FleetError> + Send + 'static,
) -> Result<T, FleetError> {
    blocking::run(work).await.map_err(|error| FleetError::Bug(error.to_string()))?
}

/// Removes a folder and its contents, if it exists.
pub(super) async fn discard(folder: &Path) -> Result<(), FleetError> {
    // Cheaper than a switch to a blocking thread.
    if matches!(folder.try_exists(), Ok(false)) {
        return Ok(());
    }
    let folder = folder.to_owned();
    blocking(move || match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FleetError::Bug(format!("can't remove {}: {error}", folder.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    })
    .await
}

/// Makes the new folder `to` with the files in `from`, which must not change any more.
pub(super) async fn link(from: &Path, to: &Path) -> Result<(), FleetError> {
    let from = from.to_owned();
    let to = to.to_owned();
    blocking(move || copy::link_folder(&from, &to).map_err(on_disk("link", &from))).await
}

/// Makes the new folder `to` with the memory in `from`, decompressed if need be. Blocking.
pub(super) fn lay_memory(from: &Path, to: &Path) -> Result<(), FleetError> {
    let unpacked = unpack(from, to).map_err(|error| match error {
        HypervisorError::File { act, path, source } => on_disk(act, &path)(source),
        damaged => failed(damaged),
    })?;
    if unpacked { Ok(()) } else { copy::link_folder(from, to).map_err(on_disk("link", from)) }
}

/// Locks the writable disks of an instance without a machine until the result is dropped: a disk
/// must not be written while it is copied (`only_read`), nor used while it is replaced. Blocking.
pub(super) fn lock_disks(disks: &[Disk], only_read: bool) -> Result<Vec<OwnedFd>, FleetError> {
    let lock = |disk: &Disk| {
        lock_disk(&hypervisor::Disk { path: disk.path.clone(), read_only: only_read })
            .map_err(failed)
    };
    writable(disks).map(|(_, disk)| lock(disk)).collect()
}

/// Copies the writable disks into the folder `to`. Blocking.
pub(super) fn copy_disks(disks: &[Disk], to: &Path) -> Result<(), FleetError> {
    for (index, disk) in writable(disks) {
        copy::file(&disk.path, &disk_file(to, index)).map_err(on_disk("copy", &disk.path))?;
    }
    copy::sync(to).map_err(on_disk("sync", to))
}

/// Describes a snapshot whose files are in the temporary folder and renames that to `folder`, which
/// completes it. Returns the snapshot with its size on disk. Blocking.
pub(super) fn publish_snapshot(
    folder: &Path,
    mut snapshot: Snapshot,
) -> Result<Snapshot, FleetError> {
    let partial = copy::aside(folder);
    let publish = || {
        let disks =
            writable(&snapshot.disks).map(|(index, _)| copy::bytes(&disk_file(&partial, index)));
        let disk_bytes: u64 = disks.sum::<io::Result<_>>()?;
        snapshot.bytes = disk_bytes + snapshot.memory.map_or(0, |memory| memory.bytes);
        let description = partial.join(DESCRIPTION);
        fs::write(&description, serde_json::to_vec(&snapshot)?)?;
        copy::sync(&description)?;
        copy::publish(folder)?;
        Ok(snapshot)
    };
    publish().map_err(on_disk("write the snapshot", folder))
}

/// Reads the description of a complete snapshot. Blocking.
pub(super) fn read_snapshot(folder: &Path) -> io::Result<Snapshot> {
    Ok(serde_json::from_slice(&fs::read(folder.join(DESCRIPTION))?)?)
}

/// The replacement of an instance's files by those of a snapshot: all of them or none.
///
/// First, every file is written beside the one that it replaces, which may fail for lack of space
/// and changes nothing. Then a marker file is written, durably. From there on there are only
/// renames, which the next start finishes after a crash: the files that still lie beside have not
/// been renamed yet.
pub(super) struct PutBack {
    /// The folder of the snapshot.
    pub(super) snapshot: PathBuf,
    /// The folder of the instance.
    pub(super) instance: PathBuf,
    /// The disks of the instance.
    pub(super) disks: Vec<Disk>,
    /// Set if the snapshot holds memory.
    pub(super) with_memory: bool,
    /// Bytes on disk of the snapshot's memory after decompression; 0 if it is not compressed.
    pub(super) unpacked_bytes: u64,
}

impl PutBack {
    /// Blocking.
    pub(super) fn run(&self) -> Result<(), FleetError> {
        let laid = self.is_laid()?;
        let locked = lock_disks(&self.disks, false);
        if !laid && let Err(error) = locked.as_ref().map_err(Clone::clone).and_then(|_| self.lay())
        {
            self.clear();
            return Err(error);
        }
        // From here on, until it is finished, old and new files are mixed.
        let done = locked.and_then(|_locked| self.replace());
        done.map_err(|error| FleetError::Unfinished(Box::new(error)))
    }

    fn marker(&self) -> PathBuf {
        self.instance.join("put-back")
    }

    /// Returns whether all files of this snapshot lie beside already, from before a crash.
    fn is_laid(&self) -> Result<bool, FleetError> {
        let marker = self.marker();
        match fs::read(&marker) {
            Ok(name) => Ok(name == self.snapshot.as_os_str().as_bytes()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(on_disk("read", &marker)(error)),
        }
    }

    fn lay(&self) -> Result<(), FleetError> {
        self.clear();
        if self.with_memory {
            let partial = copy::aside(&standby_folder(&self.instance));
            let space = copy::require_space(&self.instance, self.unpacked_bytes);
            space.map_err(on_disk("decompress the memory in", &self.instance))?;
            lay_memory(&memory_folder(&self.snapshot), &partial)?;
        }
        for (index, disk) in writable(&self.disks) {
            let from = disk_file(&self.snapshot, index);
            copy::file(&from, &copy::aside(&disk.path)).map_err(on_disk("copy", &from))?;
        }
        let marker = self.marker();
        let write = || {
            fs::write(copy::aside(&marker), self.snapshot.as_os_str().as_bytes())?;
            copy::publish(&marker)
        };
        write().map_err(on_disk("write", &marker))
    }

    fn replace(&self) -> Result<(), FleetError> {
        let standby = standby_folder(&self.instance);
        if !self.with_memory {
            copy::remove(&standby).map_err(on_disk("remove", &standby))?;
        }
        let memory = self.with_memory.then_some(&standby);
        let disks = writable(&self.disks).map(|(_, disk)| &disk.path);
        for path in memory.into_iter().chain(disks).filter(|path| copy::aside(path).exists()) {
            copy::publish(path).map_err(on_disk("replace", path))?;
        }
        let marker = self.marker();
        let remove = || {
            fs::remove_file(&marker)?;
            copy::sync(&self.instance)
        };
        remove().map_err(on_disk("remove", &marker))
    }

    /// Removes the files that an attempt has laid beside. Failures are ignored: the next attempt
    /// removes them too.
    fn clear(&self) {
        let _ = fs::remove_file(self.marker());
        let _ = copy::remove(&copy::aside(&standby_folder(&self.instance)));
        for (_, disk) in writable(&self.disks) {
            let _ = fs::remove_file(copy::aside(&disk.path));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An instance with memory and two disks of 1, and a snapshot of it with memory and disks of 2.
    fn put_back(dir: &Path) -> PutBack {
        let instance = dir.join("instance");
        let snapshot = dir.join("snapshot");
        let paths = ["a", "b"].map(|name| dir.join(name));
        for folder in [standby_folder(&instance), memory_folder(&snapshot)] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(standby_folder(&instance).join("memory"), b"1").unwrap();
        fs::write(memory_folder(&snapshot).join("memory"), b"2").unwrap();
        for (index, path) in paths.iter().enumerate() {
            fs::write(path, b"1").unwrap();
            fs::write(disk_file(&snapshot, index), b"2").unwrap();
        }
        let disks = paths.map(|path| Disk { path, read_only: false, size_bytes: 1 }).into();
        PutBack { snapshot, instance, disks, with_memory: true, unpacked_bytes: 0 }
    }

    fn contents(put_back: &PutBack) -> Vec<String> {
        let memory = standby_folder(&put_back.instance).join("memory");
        let disks = put_back.disks.iter().map(|disk| disk.path.clone());
        std::iter::once(memory).chain(disks).map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn what_can_not_be_laid_beside_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let put_back = put_back(dir.path());
        fs::remove_file(disk_file(&put_back.snapshot, 1)).unwrap();
        put_back.run().unwrap_err();
        assert_eq!(contents(&put_back), ["1", "1", "1"]);
        let full = PutBack { unpacked_bytes: u64::MAX, ..put_back };
        assert!(matches!(full.run(), Err(FleetError::NoSpace)));
        assert_eq!(contents(&full), ["1", "1", "1"]);
    }

    #[test]
    fn a_crash_between_the_renames_is_finished_without_the_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        for renamed in 0..3 {
            let dir = dir.path().join(renamed.to_string());
            fs::create_dir(&dir).unwrap();
            let put_back = put_back(&dir);
            put_back.lay().unwrap();
            let all = [standby_folder(&put_back.instance), dir.join("a"), dir.join("b")];
            for path in all.iter().take(renamed) {
                copy::publish(path).unwrap();
            }
            for index in 0..2 {
                fs::remove_file(disk_file(&put_back.snapshot, index)).unwrap();
            }
            put_back.run().unwrap();
            assert_eq!(contents(&put_back), ["2", "2", "2"], "after {renamed}");
            assert!(!put_back.marker().exists());
        }
    }
}
