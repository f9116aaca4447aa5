//! Proof that a journal is whole: every link, every text, every rule, and every table that is made
//! of the facts.

mod account;
mod derived;
mod lives;

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::chain::Chain;
use super::entry::Head;
use super::error::{Damage, Flaw, VerifyError, wrong};
use super::{log, schema};
use crate::billing::{About, Fact};
use crate::id::Digest;
use derived::Derived;
use lives::Lives;

/// A journal that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Its end. Whoever has noted this at another place can tell later whether the end was cut off.
    pub head: Head,
    /// Instances, deleted ones included.
    pub instances: u64,
}

/// The columns that no proof covers, with the reason. Every other change of a value in the database
/// is found.
pub const UNCOVERED: [(&str, &str, &str); 12] = [
    (
        "alive",
        "boottime_ns",
        "covered against `meter_ns` by the boot's offset; not if both are moved alike",
    ),
    ("alive", "is_synchronised", "says only whether the next boot may be joined by the wall clock"),
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

/// Facts between two calls of `progress`.
const PROGRESS_FACTS: u64 = 10_000;

/// Proves a journal, given its data folder or file: beside a running daemon or without one.
/// Blocking; memory grows with the instances that are not deleted, not with the facts.
///
/// `progress` hears how many facts of how many are checked.
///
/// # Errors
/// [`VerifyError::Damaged`] with the first place that is wrong.
pub fn verify(path: &Path, progress: impl FnMut(u64, u64)) -> Result<Verified, VerifyError> {
    verify_accounts(path, &[], progress)
}

/// The same, and more: `plain` are policies that count each phase as itself. The accounts of
/// tenants that were under no other one are counted anew, to the nanosecond of each phase; of the
/// others, the sum is.
///
/// # Errors
/// As [`verify`].
pub fn verify_accounts(
    path: &Path,
    plain: &[Digest],
    progress: impl FnMut(u64, u64),
) -> Result<Verified, VerifyError> {
    let (_, db) = database(path, LostLog::Refused)?;
    verify_database(&db, plain, progress)
}

pub(super) fn verify_database(
    db: &Connection,
    plain: &[Digest],
    mut progress: impl FnMut(u64, u64),
) -> Result<Verified, VerifyError> {
    let mut checked = || {
        // One snapshot for all questions.
        let snapshot = db.unchecked_transaction()?;
        let verified = verify_facts(&snapshot, plain, &mut progress)?;
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

/// Whether a database that was copied without its log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostLog {
    /// It is refused.
    Refused,
    /// It is read as far as it goes.
    Accepted,
}

/// Opens the database at a path, or in a folder, for reading.
pub(super) fn database(
    path: &Path,
    lost_log: LostLog,
) -> Result<(PathBuf, Connection), VerifyError> {
    let path = if path.is_dir() { path.join(schema::FILE) } else { path.to_owned() };
    // Before the engine makes an empty one.
    let has_log = log::is_there(&path);
    let db = schema::open_reader(&path).map_err(damaged)?;
    let header = schema::header(&db).map_err(damaged)?;
    if header.application_id != schema::APPLICATION_ID || header.version != schema::VERSION {
        let (application_id, version) = (header.application_id, header.version);
        return Err(VerifyError::NotAJournal { path, application_id, version });
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
    plain: &[Digest],
    progress: &mut impl FnMut(u64, u64),
) -> Result<Verified, VerifyError> {
    let total: u64 =
        db.query_row("SELECT coalesce(max(seq), 0) FROM fact", [], |row| schema::uint(row, 0))?;
    let mut chain = Chain::after(Head::EMPTY);
    let mut derived = Derived::new(db)?;
    let mut lives = Lives::new(db, plain)?;
    let mut statement = db.prepare("SELECT seq, hash, body FROM fact ORDER BY seq")?;
    let mut rows = statement.query([])?;
    loop {
        let at = chain.head().seq;
        let next = rows.next().map_err(|error| place_of(error, at + 1))?;
        let Some(row) = next else { break };
        let record = super::open::step(&mut chain, row)?.map_err(VerifyError::Damaged)?;
        let fact = Fact::try_from(&record)
            .map_err(|error| wrong(record.seq, Flaw::Text(error.to_string())))?;
        if let Some(milestone) = lives.step(&record, &fact.about)? {
            derived.milestone(milestone, record.seq)?;
        }
        match &fact.about {
            About::Host(_) => derived.host(&record)?,
            About::Tenant(of) => {
                lives.change_rules(&fact.tenant, of);
                derived.tenant(of, &record)?;
            }
            About::Instance(..) => {}
        }
        if record.seq % PROGRESS_FACTS == 0 {
            progress(record.seq, total);
        }
    }
    progress(total, total);
    let instances = lives.finish()?;
    derived.finish()?;
    Ok(Verified { head: chain.head(), instances })
}

/// An engine that can't read on has at least said after which fact.
fn place_of(error: rusqlite::Error, seq: u64) -> VerifyError {
    match schema::damage(&error) {
        Some(Damage { flaw, .. }) => wrong(seq, flaw),
        None => VerifyError::Database(error),
    }
}
