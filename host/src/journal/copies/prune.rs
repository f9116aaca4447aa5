//! Segments that leave the data folder because their copies are enough.

use std::fs::{self, File};
use std::io;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::super::Journal;
use super::super::entry::Entry;
use super::super::error::ReadError;
use super::super::segment::{Segment, Store, is_pruned, segments};
use super::archive::ArchiveError;
use super::fetch::{Copy, copies_of, read};
use super::seam::CopyStore;
use crate::billing::{HostFact, Pruned};
use crate::causes::in_words;
use crate::tenant::Actor;
use crate::units::Instant;

/// A span that somebody still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// First instant of the span, on the meter clock; it has no end.
    pub from: Instant,
    /// The reason, in words.
    pub reason: String,
}

/// The segments that may leave the data folder.
#[derive(Debug, Clone)]
pub struct Pruning {
    /// Only segments whose facts were all recorded before this instant.
    pub before: Instant,
    /// The spans that are needed.
    pub needs: Vec<Need>,
    /// The actor who asks for it.
    pub by: Actor,
}

/// A segment of the data folder, and whether it may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// The segment.
    pub segment: Segment,
    /// The reason why it stays; none if it may leave.
    pub stays: Option<String>,
    /// Wall clock in nanoseconds since 1970 at which its copy was found whole; none without one.
    pub archived_ns: Option<i64>,
}

/// Answer to one call that prunes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrunedSegments {
    /// The segments that have left, in the order of their facts.
    pub pruned: Vec<Segment>,
    /// The segments that stay, each with the reason.
    pub stay: Vec<(Segment, String)>,
    /// Number of segments that may leave and have not.
    pub left: usize,
}

impl Journal {
    /// The segments of the data folder before an instant, and which of them may leave. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn prunable(&self, store: &str, asked: &Pruning) -> Result<Vec<Considered>, ReadError> {
        self.readers.with(|db| Ok(considered(db, &self.readers.store, store, asked)?))
    }

    /// Removes the files of segments whose copy in a store is read and found whole once more, at
    /// most so many. A fact tells of each before its file goes.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn prune_segments(
        &self,
        store: Arc<dyn CopyStore>,
        asked: Pruning,
        most: usize,
    ) -> Result<PrunedSegments, ArchiveError> {
        let _one_at_a_time = self.copying.lock().await;
        let by = asked.by.clone();
        let address = store.address().to_owned();
        let found = self.beside(move |db, files| Ok(considered(db, files, &address, &asked)?));
        let mut answer = PrunedSegments::default();
        let mut leaving = Vec::new();
        for one in found.await? {
            match one.stays {
                Some(reason) => answer.stay.push((one.segment, reason)),
                None => leaving.push(one.segment),
            }
        }
        answer.left = leaving.len();
        for segment in leaving.into_iter().take(most) {
            answer.left -= 1;
            match self.prune(store.clone(), &segment, by.clone()).await? {
                None => answer.pruned.push(segment),
                Some(reason) => answer.stay.push((segment, reason)),
            }
        }
        Ok(answer)
    }

    /// Prunes one segment. Returns the reason why it stays, if it does.
    async fn prune(
        &self,
        store: Arc<dyn CopyStore>,
        segment: &Segment,
        by: Actor,
    ) -> Result<Option<String>, ArchiveError> {
        let of = segment.clone();
        let checked = self.beside(move |db, _| Ok(check(db, &*store, &of)?));
        let is_told = match checked.await? {
            Checked::Wrong(reason) => return Ok(Some(reason)),
            Checked::Whole { is_told } => is_told,
        };
        let digest = segment.digest;
        if !is_told {
            let fact = Some(HostFact::Pruned(Pruned { digest, by }));
            self.commit(Entry { segment: fact, ..Entry::default() }).await?;
        }
        let removed = self.beside(move |_, files| {
            remove(files, &digest).map_err(|source| ArchiveError::File { digest, source })
        });
        removed.await?;
        Ok(None)
    }
}

/// The outcome of reading a copy once more.
enum Checked {
    /// It is whole. `is_told` if a fact tells already that the segment leaves.
    Whole { is_told: bool },
    /// It can't be relied on.
    Wrong(String),
}

fn check(db: &Connection, store: &dyn CopyStore, segment: &Segment) -> rusqlite::Result<Checked> {
    let copies = copies_of(db, &segment.digest)?;
    let copy = copies.iter().find(|copy| copy.store == store.address());
    Ok(match copy.map(|copy| read(store, copy, segment.digest, segment.bytes)) {
        Some(Ok(_)) => Checked::Whole { is_told: is_pruned(db, &segment.digest)? },
        Some(Err(error)) => Checked::Wrong(in_words(&error)),
        None => Checked::Wrong(NO_COPY.into()),
    })
}

const NO_COPY: &str = "it has no copy that was read back; `tallyman journal archive` makes one";

fn considered(
    db: &Connection,
    files: &Store,
    store: &str,
    asked: &Pruning,
) -> rusqlite::Result<Vec<Considered>> {
    let all = segments(db)?;
    let last = all.last().map(|last| last.digest);
    let mut found = Vec::new();
    for segment in all {
        let is_old = segment.recorded_ns < asked.before.0;
        if !is_old || !files.path(&segment.digest).exists() {
            continue;
        }
        let copies = copies_of(db, &segment.digest)?;
        let need = asked.needs.iter().find(|need| segment.recorded_ns >= need.from.0);
        let stays = match need {
            Some(need) => Some(need.reason.clone()),
            None if !copies.iter().any(|copy| copy.store == store) => Some(NO_COPY.into()),
            None if Some(segment.digest) == last => Some(LAST.into()),
            None => None,
        };
        let archived_ns = archived_at(db, &copies, &segment, store)?;
        found.push(Considered { segment, stays, archived_ns });
    }
    Ok(found)
}

const LAST: &str = "it is the last segment, with which the next one begins";

/// The wall clock when the newest copy in a store was found whole.
fn archived_at(
    db: &Connection,
    copies: &[Copy],
    segment: &Segment,
    store: &str,
) -> rusqlite::Result<Option<i64>> {
    if copies.is_empty() {
        return Ok(None);
    }
    let sql = "SELECT body ->> '$.wall_ns' FROM segment_archived JOIN fact
               ON seq = segment_archived.fact WHERE digest = ?1 AND store = ?2
               ORDER BY seq DESC LIMIT 1";
    let mut statement = db.prepare_cached(sql)?;
    statement.query_row((segment.digest.to_string(), store), |row| row.get(0)).optional()
}

/// Removes the file of a segment; one that is not there is no error.
fn remove(files: &Store, digest: &crate::id::Digest) -> io::Result<()> {
    match fs::remove_file(files.path(digest)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => File::open(files.folder())?.sync_all(),
    }
}
