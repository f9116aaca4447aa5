//! Verification of a journal: every hash, every fact's text, every rule of transitions, and every
//! derived table.

mod account;
mod derived;
mod lives;
mod sealed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::chain::Chain;
use super::copies::CopyStores;
use super::entry::{FactHash, Head};
use super::error::{Damage, Flaw, VerifyError, wrong};
use super::segment::{Segment, Store, is_pruned, segments};
use super::wire::{FactRecord, What};
use super::{log, schema};
use crate::billing::{About, Fact};
use crate::id::Digest;
use crate::merkle::{Forest, Hash};
pub(super) use account::Recount;
use derived::Derived;
use lives::Lives;

/// The outcome of verifying a journal that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The end of the journal. A copy of it kept elsewhere shows later if facts were cut off at the
    /// end.
    pub head: Head,
    /// Number of instances, deleted ones included.
    pub instances: u64,
    /// Number of facts in pruned segments that a copy of the journal does not hold. If there are
    /// any, only the chain was verified, as far as its facts are there.
    pub unread: u64,
}

/// The columns that verification does not cover, as (table, column, reason). It finds any change of
/// another value in the database.
pub const UNCOVERED: [(&str, &str, &str); 13] = [
    (
        "alive",
        "boottime_ns",
        "covered against `meter_ns` by the boot's offset; not if both are moved alike",
    ),
    ("alive", "is_synchronised", "says only whether the next boot may be joined by the wall clock"),
    (
        "boot",
        "last_ns",
        "says only from when on a machine counts as `unknown` that ended in that boot unseen",
    ),
    ("instance", "name", "no fact tells it"),
    ("instance", "record", "the driver's; what is charged for is in the facts"),
    ("live", "state", "the driver's; the phase is in the facts"),
    ("policy", "record", "the measurements of the admission; the component itself is covered"),
    ("request", "asked", "as `key`"),
    ("request", "fact", "as `key`"),
    (
        "request",
        "key",
        "the client's key of a request; decides only what a repeated request is answered",
    ),
    ("request", "tenant", "as `key`"),
    ("session", "is_open", "says only whether the log is needed"),
    ("token", "secret", "covered are its length and its first 12 bytes, which are the token's id"),
];

/// A receiver of each fact and its link.
pub type Shown<'a> = dyn FnMut(&FactRecord, FactHash) + 'a;

/// Number of facts between two calls of `progress`.
const PROGRESS_FACTS: u64 = 10_000;

/// Verifies a journal, given its data folder or file: beside a running daemon or without one.
/// Blocking; memory grows with the instances that are not deleted, not with the facts.
///
/// `progress` receives the number of facts checked and their total.
///
/// # Errors
/// [`VerifyError::Damaged`] with the first flaw; any other [`VerifyError`] if the file can't be
/// read.
pub fn verify(path: &Path, progress: impl FnMut(u64, u64)) -> Result<Verified, VerifyError> {
    verify_accounts(path, &[], progress)
}

/// Verifies a journal as [`verify`] does, and the totals of each phase. `plain` are policies that
/// count each phase as itself: for tenants that were never under another policy, the time of each
/// phase is compared with the facts, in ns; for all others only the sum is.
///
/// # Errors
/// As [`verify`].
pub fn verify_accounts(
    path: &Path,
    plain: &[Digest],
    progress: impl FnMut(u64, u64),
) -> Result<Verified, VerifyError> {
    verify_reaching(path, plain, None, progress)
}

/// Verifies a journal as [`verify_accounts`] does. Segments that are not in the data folder are
/// read from their copies.
///
/// # Errors
/// As [`verify`], and [`VerifyError::Elsewhere`].
pub fn verify_reaching(
    path: &Path,
    plain: &[Digest],
    stores: Option<Arc<dyn CopyStores>>,
    progress: impl FnMut(u64, u64),
) -> Result<Verified, VerifyError> {
    verify_showing(path, plain, stores, &mut |_, _| (), progress)
}

/// Verifies a journal as [`verify_reaching`] does, and shows each fact with its link.
///
/// # Errors
/// As [`verify_reaching`].
pub fn verify_showing(
    path: &Path,
    plain: &[Digest],
    stores: Option<Arc<dyn CopyStores>>,
    shown: &mut Shown<'_>,
    progress: impl FnMut(u64, u64),
) -> Result<Verified, VerifyError> {
    let (path, db) = database(path, LostLog::Refused)?;
    let store = Store::beside(&path);
    if let Some(stores) = stores {
        store.reach(stores);
    }
    verify_database(&db, &store, plain, shown, progress)
}

pub(super) fn verify_database(
    db: &Connection,
    store: &Store,
    plain: &[Digest],
    shown: &mut Shown<'_>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Verified, VerifyError> {
    let mut checked = || {
        // One snapshot for all queries.
        let snapshot = db.unchecked_transaction()?;
        let verified = verify_facts(&snapshot, store, plain, shown, &mut progress)?;
        Ok(verified)
    };
    checked().map_err(|error| match error {
        VerifyError::Database(source) => match schema::damage(&source) {
            Some(damage) => VerifyError::Damaged(damage),
            None => VerifyError::Database(source),
        },
        other => other,
    })
}

/// Verifies a journal whose pruned segments may be missing. Tables and accounts can be made again
/// only of all facts: if some are missing, the chain is verified alone.
pub(super) fn verify_present(db: &Connection, store: &Store) -> Result<Verified, VerifyError> {
    let snapshot = db.unchecked_transaction()?;
    let mut unread = 0;
    for segment in segments(&snapshot)? {
        if is_missing(&snapshot, store, &segment)? {
            unread += segment.last - segment.first + 1;
        }
    }
    if unread == 0 {
        drop(snapshot);
        return verify_database(db, store, &[], &mut |_, _| (), |_, _| ());
    }
    let mut chain = Chain::after(Head::EMPTY);
    for segment in segments(&snapshot)? {
        match is_missing(&snapshot, store, &segment)? {
            true => sealed::skip(&segment, &mut chain)?,
            false => sealed::verify(&snapshot, store, &segment, &mut chain, &mut |_, _| Ok(()))?,
        }
    }
    verify_hot(&snapshot, &mut chain, &mut |_, _| Ok(()))?;
    let sql = "SELECT count(*) FROM instance";
    let instances = snapshot.query_row(sql, [], |row| schema::uint(row, 0))?;
    Ok(Verified { head: chain.head(), instances, unread })
}

/// True for a pruned segment that is not there.
fn is_missing(db: &Connection, store: &Store, segment: &Segment) -> rusqlite::Result<bool> {
    Ok(is_pruned(db, &segment.digest)? && !store.has(db, &segment.digest)?)
}

/// The treatment of a database that was copied without its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostLog {
    /// The database is refused.
    Refused,
    /// The facts that are in the file are read.
    Accepted,
}

/// Opens a database file, or the one in a data folder, for reading.
pub(super) fn database(
    path: &Path,
    lost_log: LostLog,
) -> Result<(PathBuf, Connection), VerifyError> {
    let path = if path.is_dir() { path.join(schema::FILE) } else { path.to_owned() };
    // Opening the database creates an empty log, so this comes first.
    let has_log = log::is_there(&path);
    let db = schema::open_reader(&path).map_err(damaged)?;
    let header = schema::header(&db).map_err(damaged)?;
    let is_known = [schema::APPLICATION_ID, schema::REPLICA_ID].contains(&header.application_id);
    if !is_known || header.version != schema::VERSION {
        return Err(VerifyError::NotAJournal {
            path,
            application_id: header.application_id,
            version: header.version,
            expected: schema::APPLICATION_ID,
            known: schema::VERSION,
        });
    }
    if lost_log == LostLog::Refused && !has_log && schema::is_open(&db).map_err(damaged)? {
        return Err(VerifyError::LogMissing { log: log::path_of(&path), path });
    }
    Ok((path, db))
}

fn damaged(error: rusqlite::Error) -> VerifyError {
    match schema::damage(&error) {
        Some(damage) => VerifyError::Damaged(damage),
        None => VerifyError::Database(error),
    }
}

fn verify_facts(
    db: &Connection,
    store: &Store,
    plain: &[Digest],
    shown: &mut Shown<'_>,
    progress: &mut impl FnMut(u64, u64),
) -> Result<Verified, VerifyError> {
    let total: u64 =
        db.query_row("SELECT coalesce(max(seq), 0) FROM fact", [], |row| schema::uint(row, 0))?;
    let mut chain = Chain::after(Head::EMPTY);
    let derived = Derived::new(db)?;
    let lives = Lives::new(db, plain)?;
    let mut story = Story { derived, lives, segment: Forest::default(), roots: BTreeMap::new() };
    let mut told = |story: &mut Story<'_>, record: &FactRecord, link: FactHash| {
        story.step(record)?;
        shown(record, link);
        if record.seq.is_multiple_of(PROGRESS_FACTS) {
            progress(record.seq, total);
        }
        Ok(())
    };
    for segment in segments(db)? {
        sealed::verify(db, store, &segment, &mut chain, &mut |record, link| {
            record.grow(&mut story.segment, link);
            told(&mut story, record, link)
        })?;
        let mut ended = std::mem::take(&mut story.segment);
        story.roots.insert(segment.last, ended.root());
    }
    verify_hot(db, &mut chain, &mut |record, link| told(&mut story, record, link))?;
    progress(total, total);
    let instances = story.lives.finish()?;
    story.derived.finish()?;
    Ok(Verified { head: chain.head(), instances, unread: 0 })
}

/// Checks the facts behind the segments, which are rows.
fn verify_hot(
    db: &Connection,
    chain: &mut Chain,
    told: &mut impl FnMut(&FactRecord, FactHash) -> Result<(), VerifyError>,
) -> Result<(), VerifyError> {
    let mut statement =
        db.prepare("SELECT seq, hash, body FROM fact WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = statement.query([schema::int(chain.head().seq)])?;
    loop {
        let at = chain.head().seq;
        let next = rows.next().map_err(|error| place_of(error, at + 1))?;
        let Some(row) = next else { return Ok(()) };
        let record = super::open::step(chain, row)?.map_err(VerifyError::Damaged)?;
        told(&record, chain.head().hash)?;
    }
}

/// The tables and records that the facts must agree with.
struct Story<'a> {
    derived: Derived<'a>,
    lives: Lives<'a>,
    /// The trees over the facts so far of the segment that is read.
    segment: Forest,
    /// The roots of the segments that were read, by their last fact.
    roots: BTreeMap<u64, Hash>,
}

impl Story<'_> {
    fn step(&mut self, record: &FactRecord) -> Result<(), VerifyError> {
        let fact = Fact::try_from(record)
            .map_err(|error| wrong(record.seq, Flaw::Text(error.to_string())))?;
        self.check_root(record)?;
        if let Some(milestone) = self.lives.step(record, &fact.about)? {
            self.derived.milestone(milestone, record)?;
        }
        match &fact.about {
            About::Host(of) => self.derived.host(of, record),
            About::Tenant(of) => {
                self.lives.change_rules(&fact.tenant, of);
                self.derived.tenant(of, record)
            }
            About::Instance(..) => Ok(()),
        }
    }
}

impl Story<'_> {
    /// Holds the root that the fact of a segment states against the segment's facts. A copy of
    /// another host's journal has the facts as rows, and no segments.
    fn check_root(&self, record: &FactRecord) -> Result<(), VerifyError> {
        let What::SegmentSealed { last, root: Some(stated), .. } = &record.what else {
            return Ok(());
        };
        match self.roots.get(last).map(hex::encode) {
            Some(found) if found != *stated => {
                let text = format!("the root of its segment's facts is {found}");
                Err(wrong(record.seq, Flaw::Disagrees(text)))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Reports an error of reading the row of fact `seq`.
fn place_of(error: rusqlite::Error, seq: u64) -> VerifyError {
    match schema::damage(&error) {
        Some(Damage { flaw, .. }) => wrong(seq, flaw),
        None => VerifyError::Database(error),
    }
}
