//! Sealing: facts that are old enough go into segments while the journal goes on.

use rusqlite::Connection;

use super::Journal;
use super::entry::Entry;
use super::error::{CommitError, ReadError};
use super::removal::{Redact, Removal};
use super::schema::int;
use super::segment::{self, Draft, Listed, SealError, Segment};
use super::writer::Request;
use crate::billing::{HostFact, Sealed};
use crate::id::{Digest, TenantId};
use crate::units::Instant;

/// Most facts of one segment.
const SEGMENT_FACTS: u64 = 65_536;

/// Most rows that are removed in one transaction: no transition waits longer for it than for a
/// commit.
const ROWS_MAX: u64 = 2_000;

impl Journal {
    /// Seals the facts that were recorded before an instant, or all, and answers the new segments.
    /// Goes on with the removal of rows where an earlier call was interrupted.
    ///
    /// # Errors
    /// See [`SealError`]. The segments that were made before stay.
    pub async fn seal(&self, before: Option<Instant>) -> Result<Vec<Segment>, SealError> {
        self.seal_by(before, SEGMENT_FACTS).await
    }

    pub(super) async fn seal_by(
        &self,
        before: Option<Instant>,
        facts_max: u64,
    ) -> Result<Vec<Segment>, SealError> {
        let _one_at_a_time = self.sealing.lock().await;
        let head = self.head().seq;
        let through = self.ask(move |db, _| Ok(recorded_before(db, before, head)?)).await?;
        let mut made = Vec::new();
        let mut states = None;
        self.remove_sealed().await?;
        let bounds = (through, facts_max);
        while let Some(Draft { segment, root, states: end }) =
            self.ask(move |db, store| segment::draft(db, store, bounds, states)).await?
        {
            states = Some(end);
            let sealed = HostFact::Sealed(told(&segment, root));
            self.commit(Entry { segment: Some(sealed), ..Entry::default() }).await?;
            self.remove_sealed().await?;
            made.push(segment);
        }
        Ok(made)
    }

    /// The number of facts that [`Journal::seal`] would seal. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn sealable(&self, before: Option<Instant>) -> Result<u64, ReadError> {
        let head = self.head().seq;
        self.readers.with(|db| {
            let end = segment::sealed_end(db)?.seq;
            Ok(recorded_before(db, before, head)?.saturating_sub(end))
        })
    }

    /// The segments, in the order of their facts. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn segments(&self) -> Result<Vec<Listed>, ReadError> {
        self.readers.with(|db| Ok(self.readers.store.list(db)?))
    }

    /// Removes the names of a tenant's deleted instances, whose ids take their place, and what
    /// `redact` leaves out of their records. Facts and documents stay as they are.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn forget_names(&self, tenant: &TenantId, redact: Redact) -> Result<(), CommitError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.request(Request::Remove(Removal::Names(tenant.clone(), redact), answer), answered)
            .await
    }

    /// Asks a question that takes long, beside everything else.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection, &segment::Store) -> Result<T, SealError> + Send + 'static,
    ) -> Result<T, SealError> {
        let readers = self.readers.clone();
        let asked = move || readers.ask(|db| question(db, &readers.store));
        crate::blocking::run(asked).await.map_err(|_| SealError::Broken)?
    }

    /// Removes the rows of sealed facts that nobody needs any more, a few at a time.
    async fn remove_sealed(&self) -> Result<(), SealError> {
        let ranges = self.ask(|db, _| Ok(segment::removable(db, ROWS_MAX)?)).await?;
        let mut next = Vec::new();
        let mut rows = 0;
        for (first, last) in ranges {
            next.push((first, last));
            rows += last - first + 1;
            if rows >= ROWS_MAX {
                self.remove(std::mem::take(&mut next)).await?;
                rows = 0;
            }
        }
        if next.is_empty() { Ok(()) } else { Ok(self.remove(next).await?) }
    }

    async fn remove(&self, ranges: Vec<(u64, u64)>) -> Result<(), CommitError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.request(Request::Remove(Removal::Facts(ranges), answer), answered).await
    }
}

/// The last fact that was recorded before an instant, up to `head`; facts are recorded in order.
fn recorded_before(db: &Connection, before: Option<Instant>, head: u64) -> rusqlite::Result<u64> {
    let Some(before) = before else { return Ok(head) };
    let mut low = segment::sealed_end(db)?.seq;
    let mut high = head;
    let sql = "SELECT body ->> '$.recorded_ns' FROM fact WHERE seq = ?1";
    let mut recorded = db.prepare_cached(sql)?;
    while low < high {
        let middle = high - (high - low) / 2;
        let at: i64 = recorded.query_row([int(middle)], |row| row.get(0))?;
        match at < before.0 {
            true => low = middle,
            false => high = middle - 1,
        }
    }
    Ok(low)
}

fn told(segment: &Segment, root: Digest) -> Sealed {
    Sealed {
        digest: segment.digest,
        first: segment.first,
        last: segment.last,
        before: Digest(segment.before.0),
        link: Digest(segment.link.0),
        recorded_until: Instant(segment.recorded_ns),
        meter_from: Instant(segment.meter_ns),
        bytes: segment.bytes,
        root: Some(root),
    }
}
