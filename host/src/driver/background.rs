//! Work beside the instances' tasks: timers wake instances, and snapshots are compressed, one at a
//! time, while nothing else reads them.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;

use super::error::{FleetError, failed};
use super::files::{blocking, memory_folder, snapshot_folder};
use super::host::Host;
use super::mailbox::{Compressed, CompressionJob, Order};
use super::timers::Timers;
use crate::clock::Clock;
use crate::hypervisor::compress;
use crate::units::Nanos;

/// Delay before the timer of an instance whose mailbox is full fires again.
const BUSY_TIMER: Nanos = Nanos(1_000_000_000);

/// Delay before a compression is reported again to an instance whose mailbox is full.
const BUSY_RETRY: Duration = Duration::from_millis(100);

/// Wakes instances when their timers are due, until the host is dropped.
pub(super) async fn run_timers(host: Weak<Host>, timers: Timers, clock: Clock) {
    loop {
        let row = timers.next(&clock).await;
        let Some(host) = host.upgrade() else { return };
        let slot = host.directory().by_row.get(&row).cloned();
        if let Some(slot) = slot
            && host.order(&slot, Order::Due).is_err()
        {
            timers.set(row, clock.now().after(BUSY_TIMER));
        }
    }
}

/// Compresses one snapshot after the other, until the host is dropped.
pub(super) async fn compress_snapshots(
    host: Weak<Host>,
    mut jobs: UnboundedReceiver<CompressionJob>,
) {
    while let Some(job) = jobs.recv().await {
        let CompressionJob { slot, compressed, leave } = &job;
        let Some(folder) = host.upgrade().map(|host| host.folder(&slot.id)) else { return };
        let folder = memory_folder(&snapshot_folder(&folder, &compressed.name));
        let leave = leave.clone();
        match blocking(move || compress(&folder, &leave).map_err(failed)).await {
            Ok(None) => {}
            Ok(Some(bytes)) => report_compressed(&host, &job, bytes).await,
            Err(error) => {
                let instance = &slot.id;
                let snapshot = &compressed.name;
                tracing::warn!(%instance, %snapshot, %error, "a snapshot is not compressed");
            }
        }
    }
}

/// Has the instance's task record the compressed size, in bytes on disk.
async fn report_compressed(host: &Weak<Host>, job: &CompressionJob, bytes: u64) {
    while let Some(host) = host.upgrade() {
        let compressed = Compressed { bytes, ..job.compressed.clone() };
        match host.order(&job.slot, Order::Compressed(compressed)) {
            Err(FleetError::Busy(_)) => {
                drop(host);
                sleep(BUSY_RETRY).await;
            }
            Ok(()) | Err(_) => return,
        }
    }
}
