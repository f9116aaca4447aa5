//! The writer's use of the reserve: what can't wait is written from it when the disk is full, and
//! what can wait is refused until it is whole again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::CommitError;
use super::reserve::Reserve;
use super::writer::{Batch, Pending, Writer};

impl Batch {
    /// The documents and components of the batch, as a number of facts in the log.
    pub(super) fn document_load(&self) -> u64 {
        self.entries.iter().map(|pending| pending.entry.document_bytes()).sum::<u64>() / FACT_BYTES
    }
}

/// Bytes of a document or a component that count as one fact in the log.
const FACT_BYTES: u64 = 1_024;

impl Writer {
    /// Takes back what was given of the reserve, if there is space; otherwise refuses the entries
    /// of a batch that can wait.
    pub(super) fn spare_reserve(&mut self, batch: &mut Batch) {
        let Some(reserve) = self.reserve.as_mut().filter(|reserve| !reserve.is_whole()) else {
            return;
        };
        let is_whole = reserve.restore();
        self.note_reserve();
        if is_whole {
            return;
        }
        let entries = std::mem::take(&mut batch.entries);
        let (waiting, written): (Vec<Pending>, _) =
            entries.into_iter().partition(|pending| pending.can_wait);
        batch.entries = written;
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let error = rusqlite::Error::SqliteFailure(full, None);
        let error = CommitError::NoSpace(Arc::new(error));
        for pending in waiting {
            // The caller may have gone away.
            let _ = pending.answer.send(Err(error.clone()));
        }
    }

    /// Gives a piece of the reserve back to the disk, for requests of a batch that can't wait:
    /// their callers send them again.
    pub(super) fn use_reserve(&mut self, batch: &Batch) {
        let can_wait = batch.alive.is_empty() && batch.entries.iter().all(|one| one.can_wait);
        let Some(reserve) = self.reserve.as_mut().filter(|_| !can_wait) else { return };
        if reserve.release() {
            let left_bytes = reserve.bytes();
            tracing::error!(
                left_bytes,
                "the disk is full: facts are written from the reserve, and whatever can wait is \
                 refused until there is space"
            );
        }
        self.note_reserve();
    }

    /// Publishes what the reserve holds.
    pub(super) fn note_reserve(&self) {
        let bytes = self.reserve.as_ref().map_or(0, Reserve::bytes);
        let whole = self.reserve.as_ref().map_or(0, Reserve::whole_bytes);
        self.figures.reserve_bytes.store(bytes, Ordering::Relaxed);
        self.figures.reserve_bytes_max.store(whole, Ordering::Relaxed);
    }
}
