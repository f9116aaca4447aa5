//! The folder of an instance: what lies where, and how it gets there whole.
//!
//! ```text
//! <instance>/root.raw, disk-<n>.raw   its own disks
//!            standby/                 the memory of a standby
//!            held-<incarnation>/      the memory of a paused machine, once it was saved
//!            snapshots/<name>/        a snapshot that is complete:
//!                snapshot.json          its description
//!                memory/                as the hypervisor saved it, or compressed; none if nothing ran
//!                disk-<n>.raw           the n-th disk, where the guest may write to it
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::copy;
use super::error::{FleetError, failed};
use super::record::{Disk, Snapshot};
use crate::hypervisor::{HypervisorError, unpack};
use crate::id::SnapshotName;

const DESCRIPTION: &str = "snapshot.json";

/// The memory of a standby in the folder of an instance.
pub(super) fn standby_folder(instance: &Path) -> PathBuf {
    instance.join("standby")
}

/// The memory of a machine that is paused, if it was saved since it is: until its vCPUs run again. No
/// other launch takes it for its own.
pub(super) fn held_folder(instance: &Path, incarnation: u32) -> PathBuf {
    instance.join(format!("held-{incarnation}"))
}

/// A snapshot in the folder of an instance.
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

/// A failure of the host's own files, for the client.
pub(super) fn on_disk(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FleetError {
    let path = path.display().to_string();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FleetError::NoSpace,
        _ => FleetError::Files(format!("can't {act} {path}: {error}")),
    }
}

/// Runs what blocks where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FleetError> + Send + 'static,
) -> Result<T, FleetError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| FleetError::Bug(error.to_string()))?
}

/// Removes a folder and all in it, if it is there.
pub(super) async fn discard(folder: &Path) -> Result<(), FleetError> {
    // A look costs less than the way to a thread that may block.
    if matches!(folder.try_exists(), Ok(false)) {
        return Ok(());
    }
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FleetError::Bug(format!("can't remove {}: {error}", folder.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the new folder `to` with the files in `from`, which nobody changes any more.
pub(super) async fn link(from: &Path, to: &Path) -> Result<(), FleetError> {
    let from = from.to_owned();
    let to = to.to_owned();
    blocking(move || copy::link_folder(&from, &to).map_err(on_disk("link", &from))).await
}

/// Makes the new folder `to` with the memory in `from`, as a hypervisor takes it. Blocking.
pub(super) fn lay_memory(from: &Path, to: &Path) -> Result<(), FleetError> {
    let unpacked = unpack(from, to).map_err(|error| match error {
        HypervisorError::File { act, path, source } => on_disk(act, &path)(source),
        damaged => failed(damaged),
    })?;
    if unpacked { Ok(()) } else { copy::link_folder(from, to).map_err(on_disk("link", from)) }
}

/// Makes the folder `to` with copies of the writable disks. Blocking.
pub(super) fn copy_disks(disks: &[Disk], to: &Path) -> Result<(), FleetError> {
    copy::fresh_folder(to).map_err(on_disk("make the folder", to))?;
    for (index, disk) in writable(disks) {
        copy::file(&disk.path, &disk_file(to, index)).map_err(on_disk("copy", &disk.path))?;
    }
    copy::sync(to).map_err(on_disk("sync", to))
}

/// Describes a snapshot whose files lie aside, and gives it its name: it is complete then. Answers it
/// with its size. Blocking.
pub(super) fn publish_snapshot(folder: &Path, mut snapshot: Snapshot) -> Result<Snapshot, FleetError> {
    let partial = copy::aside(folder);
    let publish = || {
        let disks = writable(&snapshot.disks).map(|(index, _)| copy::bytes(&disk_file(&partial, index)));
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

/// The description of a snapshot that is complete. Blocking.
pub(super) fn read_snapshot(folder: &Path) -> io::Result<Snapshot> {
    Ok(serde_json::from_slice(&fs::read(folder.join(DESCRIPTION))?)?)
}

/// Puts the files of a snapshot in the place of an instance's own, each at once. Blocking.
pub(super) fn install(snapshot: &Path, instance: &Path, disks: &[Disk], with_memory: bool) -> Result<(), FleetError> {
    let standby = standby_folder(instance);
    let partial = copy::aside(&standby);
    if with_memory {
        // First: if it is damaged, nothing has changed.
        copy::remove(&partial).map_err(on_disk("remove", &partial))?;
        lay_memory(&memory_folder(snapshot), &partial)?;
    }
    copy::remove(&standby).map_err(on_disk("remove", &standby))?;
    for (index, disk) in writable(disks) {
        let replace = || {
            let partial = copy::aside(&disk.path);
            if partial.exists() {
                fs::remove_file(&partial)?;
            }
            copy::file(&disk_file(snapshot, index), &partial)?;
            copy::publish(&disk.path)
        };
        replace().map_err(on_disk("replace", &disk.path))?;
    }
    if !with_memory {
        return Ok(());
    }
    copy::publish(&standby).map_err(on_disk("write", &standby))
}
