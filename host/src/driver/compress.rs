//! Snapshots that were asked for so are compressed once they are on record: one at a time, while nobody needs them. Whoever does tells the
//! compression to leave, and plans it again afterwards.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::sleep;

use super::error::FleetError;
use super::host::Host;
use super::record::Snapshot;
use super::slot::{Order, Slot};
use super::snapshot::{memory_folder, snapshot_folder};
use super::task::{Task, blocking, failed};
use crate::hypervisor::{Leave, compress};
use crate::id::SnapshotName;

/// How long an instance that takes no more orders is left alone.
const BUSY_RETRY: Duration = Duration::from_millis(100);

/// A snapshot to be compressed.
pub(super) struct Job {
    slot: Arc<Slot>,
    packed: Packed,
    leave: Leave,
}

/// What a snapshot has become. Its instant tells it from another one of the same name.
#[derive(Clone)]
pub(super) struct Packed {
    name: SnapshotName,
    created_ns: i64,
    bytes: u64,
}

/// Those of `snapshots` that are to be compressed, and are not, as far as is known.
pub(super) fn plan(jobs: &UnboundedSender<Job>, slot: &Arc<Slot>, snapshots: &[Snapshot]) {
    let leave = slot.leave().clone();
    for Snapshot { name, created_ns, .. } in snapshots.iter().filter(|snapshot| snapshot.waits_for_compression()) {
        let packed = Packed { name: name.clone(), created_ns: *created_ns, bytes: 0 };
        // Whoever takes them lives as long as the host.
        let _ = jobs.send(Job { slot: slot.clone(), packed, leave: leave.clone() });
    }
}

/// Compresses one after the other.
pub(super) async fn work(host: Weak<Host>, mut jobs: UnboundedReceiver<Job>) {
    while let Some(Job { slot, packed, leave }) = jobs.recv().await {
        let Some(folder) = host.upgrade().map(|host| host.folder(&slot.id)) else { return };
        let folder = memory_folder(&snapshot_folder(&folder, &packed.name));
        match blocking(move || compress(&folder, &leave).map_err(failed)).await {
            Ok(None) => {}
            Ok(Some(bytes)) => tell(&host, &slot, Packed { bytes, ..packed }).await,
            Err(error) => {
                tracing::warn!(instance = %slot.id, snapshot = %packed.name, %error, "a snapshot is not compressed");
            }
        }
    }
}

/// Tells the instance's task, which puts it on record.
async fn tell(host: &Weak<Host>, slot: &Arc<Slot>, packed: Packed) {
    while let Some(host) = host.upgrade() {
        let owned = slot.clone();
        let spawn = |orders| drop(tokio::spawn(Task::new(host, owned, orders).run()));
        match slot.send(Order::Packed(packed.clone()), spawn) {
            Err(FleetError::Busy(_)) => sleep(BUSY_RETRY).await,
            Ok(()) | Err(_) => return,
        }
    }
}

impl Task {
    /// From now on the snapshots are left alone, until their compression is planned again.
    pub(super) async fn interrupt_compression(&self) -> Result<(), FleetError> {
        let told = std::mem::take(&mut *self.slot.leave());
        blocking(move || {
            told.now();
            Ok(())
        })
        .await
    }

    /// Has those of `snapshots` compressed that are to be, when there is time.
    pub(super) fn plan_compression(&self, snapshots: &[Snapshot]) {
        plan(&self.host.compressor, &self.slot, snapshots);
    }

    /// Puts on record what a snapshot has become.
    pub(super) async fn packed(&mut self, packed: Packed) -> Result<(), FleetError> {
        let Packed { name, created_ns, bytes } = packed;
        let is_it = |kept: &Snapshot| kept.name == name && kept.created_ns == created_ns;
        let Some(at) = self.record.snapshots.iter().position(is_it) else { return Ok(()) };
        if self.record.snapshots[at].compressed_bytes == Some(bytes) {
            return Ok(());
        }
        self.change_record(|record| record.snapshots[at].compressed_bytes = Some(bytes));
        self.keep().await
    }
}
