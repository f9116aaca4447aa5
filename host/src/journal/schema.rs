//! The database file: its tables, its header, and its connections.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::error::{Damage, Flaw, Place};

/// Name of the file in the data folder.
pub(super) const FILE: &str = "tallyman.db";

/// "TALY", in the file's header.
pub(super) const APPLICATION_ID: i64 = 0x5441_4c59;

/// "TALR", in the header of a copy of another host's journal, which only that host may continue.
pub(super) const REPLICA_ID: i64 = 0x5441_4c52;

/// Length of the header of every SQLite file, in bytes.
pub(super) const HEADER_BYTES: u64 = 100;

/// Length of a page in bytes: SQLite's default, and the sector size of most disks.
pub(super) const PAGE_BYTES: u64 = 4_096;

/// Version of the schema: the number of steps taken.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// The steps that create the tables. A published step is never changed: a database of an earlier
/// version takes the steps that it lacks.
const STEPS: [&str; 15] = [
    FACTS,
    TENANTS,
    INVOICES,
    WITHDRAWALS,
    MILESTONES,
    REQUESTS,
    RULES,
    SYNCHRONISED,
    BORDERS,
    SEGMENTS,
    BOOTS,
    HEARD,
    COPIES,
    BY_TENANT,
    GAPS,
];

/// The columns of `history` are a view on the facts' text: they can't disagree with what was
/// hashed, and cost nothing when a fact is written. (SQLite computes generated columns, virtual
/// ones too, at every insert: the text would be parsed seven times.)
///
/// `live` holds what changes with each transition, `instance` what does not: the hot row stays
/// small, and a transition writes no index.
// No index over facts by instance: it would be written with every transition, and a history is read
// seldom. Each fact names its instance's previous one instead, and a history is a walk.
const FACTS: &str = "
CREATE TABLE fact (
  seq INTEGER PRIMARY KEY,
  hash BLOB NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE VIEW history AS SELECT
  seq,
  body ->> '$.tenant' AS tenant,
  body ->> '$.instance' AS instance,
  body ->> '$.previous' AS previous,
  body ->> '$.meter_ns' AS meter_ns,
  body ->> '$.recorded_ns' AS recorded_ns,
  body ->> '$.kind' AS kind,
  body ->> '$.phase' AS phase,
  hex(hash) AS hash,
  body
FROM fact;
CREATE TABLE instance (
  row INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  record TEXT NOT NULL,
  deleted INTEGER
) STRICT;
CREATE UNIQUE INDEX instance_name ON instance (tenant, name) WHERE deleted IS NULL;
CREATE TABLE live (
  row INTEGER PRIMARY KEY,
  last_fact INTEGER,
  last_ns INTEGER,
  account BLOB NOT NULL,
  state TEXT NOT NULL
) STRICT;
CREATE TABLE activation (
  fact INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  from_ns INTEGER NOT NULL,
  digest TEXT NOT NULL
) STRICT;
CREATE TABLE policy (
  digest TEXT PRIMARY KEY,
  bytes BLOB NOT NULL,
  record TEXT NOT NULL
) STRICT;
CREATE TABLE calendar (
  fact INTEGER PRIMARY KEY,
  meter_ns INTEGER NOT NULL,
  wall_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE boot (
  boot_id TEXT PRIMARY KEY,
  offset_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE alive (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  boot_id TEXT NOT NULL,
  boottime_ns INTEGER NOT NULL,
  meter_ns INTEGER NOT NULL
) STRICT;
";

/// Tenants, tokens, and the facts about each policy and tenant. Everything but the hash of a
/// token's secret and a request's key is an index to facts: nobody can add a token or a tenant here
/// without a fact.
const TENANTS: &str = "
CREATE TABLE tenant (
  id TEXT PRIMARY KEY,
  created INTEGER NOT NULL,
  changed INTEGER
) STRICT;
CREATE TABLE token (
  id TEXT PRIMARY KEY,
  secret BLOB NOT NULL,
  created INTEGER NOT NULL,
  revoked INTEGER
) STRICT;
CREATE TABLE policy_fact (
  tenant TEXT NOT NULL,
  digest TEXT NOT NULL,
  fact INTEGER NOT NULL,
  PRIMARY KEY (tenant, digest, fact)
) STRICT, WITHOUT ROWID;
INSERT INTO policy_fact SELECT body ->> '$.tenant', body ->> '$.digest', seq FROM fact
  WHERE body ->> '$.kind' IN ('policy-admitted', 'policy-activated', 'policy-faulted');
ALTER TABLE activation ADD COLUMN request TEXT;
ALTER TABLE activation ADD COLUMN asked TEXT;
CREATE UNIQUE INDEX activation_request ON activation (tenant, request) WHERE request IS NOT NULL;
";

/// Price books and invoices, whole, and the index of the facts about them.
const INVOICES: &str = "
CREATE TABLE document (
  digest TEXT PRIMARY KEY,
  bytes BLOB NOT NULL
) STRICT;
CREATE TABLE prices (
  fact INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  from_ns INTEGER NOT NULL,
  digest TEXT NOT NULL
) STRICT;
CREATE TABLE invoice (
  fact INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  number INTEGER NOT NULL,
  digest TEXT NOT NULL,
  UNIQUE (tenant, number)
) STRICT;
";

/// The index of the other facts that decide how a tenant is billed: agreements and overrides.
const RULES: &str = "
CREATE TABLE rule_fact (
  fact INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL
) STRICT;
";

/// The withdrawals of planned changes.
const WITHDRAWALS: &str = "
CREATE TABLE withdrawal (
  fact INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  plan TEXT NOT NULL,
  from_ns INTEGER NOT NULL,
  digest TEXT NOT NULL
) STRICT;
CREATE INDEX withdrawal_of ON withdrawal (tenant, plan, from_ns);
";

/// Every 64th fact of each instance, so that a page of its history is found without walking back
/// over all of it; and a flag that the file needs its log, see [`mark_open`].
const MILESTONES: &str = "
CREATE TABLE milestone (
  row INTEGER NOT NULL,
  fact INTEGER NOT NULL,
  PRIMARY KEY (row, fact)
) STRICT, WITHOUT ROWID;
INSERT INTO milestone SELECT row, seq FROM (
  SELECT row, seq, row_number() OVER (PARTITION BY row ORDER BY seq) AS nth
  FROM fact JOIN instance ON id = body ->> '$.instance'
) WHERE nth % 64 = 0;
CREATE TABLE session (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  is_open INTEGER NOT NULL
) STRICT;
INSERT INTO session VALUES (1, 0);
";

/// The subquery for withdrawals of `one`, a row of `activation` or `prices`; `?4` is the kind of
/// plan.
pub(super) const WITHDRAWN: &str = "(
  SELECT 1 FROM withdrawal AS ended WHERE ended.tenant = one.tenant AND ended.plan = ?4
  AND ended.from_ns = one.from_ns AND ended.digest = one.digest AND ended.fact > one.fact)";

/// The idempotency keys, each with the fact that was recorded for it.
const REQUESTS: &str = "
CREATE TABLE request (
  tenant TEXT NOT NULL,
  key TEXT NOT NULL,
  asked TEXT NOT NULL,
  fact INTEGER NOT NULL,
  PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
INSERT INTO request SELECT tenant, request, asked, fact FROM activation WHERE request IS NOT NULL;
DROP INDEX activation_request;
ALTER TABLE activation DROP COLUMN request;
ALTER TABLE activation DROP COLUMN asked;
";

/// A flag that the wall clock was synchronised at the last liveness record. Earlier versions
/// trusted it, hence the default.
const SYNCHRONISED: &str = "
ALTER TABLE alive ADD COLUMN is_synchronised INTEGER NOT NULL DEFAULT 1;
";

/// The state of each instance at its milestones and at its end, so that a span of its life is read
/// from facts of that span alone. The facts tell all of it; see
/// [`take_over`](super::migrate::take_over).
///
/// `facts` is their number, `opened` the last one that counts time, `wakes` the number of times
/// that the instance has left standby.
const BORDERS: &str = "
ALTER TABLE instance ADD COLUMN first_fact INTEGER;
ALTER TABLE instance ADD COLUMN first_ns INTEGER;
CREATE INDEX instance_of ON instance (tenant);
ALTER TABLE live ADD COLUMN facts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE live ADD COLUMN opened INTEGER;
ALTER TABLE live ADD COLUMN wakes INTEGER NOT NULL DEFAULT 0;
DROP TABLE milestone;
CREATE TABLE milestone (
  row INTEGER NOT NULL,
  fact INTEGER NOT NULL,
  meter_ns INTEGER NOT NULL,
  wakes INTEGER NOT NULL,
  PRIMARY KEY (row, fact)
) STRICT, WITHOUT ROWID;
";

/// The segments that facts tell of; in a backup, also their bytes.
const SEGMENTS: &str = "
CREATE TABLE segment (
  fact INTEGER PRIMARY KEY,
  digest TEXT NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL UNIQUE,
  before BLOB NOT NULL,
  link BLOB NOT NULL,
  recorded_ns INTEGER NOT NULL,
  meter_ns INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE segment_copy (
  digest TEXT PRIMARY KEY,
  bytes BLOB NOT NULL
) STRICT;
";

/// The last instant at which the host is known to have been alive in each boot that has ended:
/// nothing has lived longer there. None for boots of earlier versions.
const BOOTS: &str = "
ALTER TABLE boot ADD COLUMN last_ns INTEGER;
";

/// The parts of hosts' journals that a collector had, at the facts that say so.
const HEARD: &str = "
CREATE TABLE heard (
  fact INTEGER PRIMARY KEY,
  host TEXT NOT NULL,
  upto INTEGER NOT NULL,
  link BLOB NOT NULL,
  until_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX heard_of ON heard (host, fact);
";

/// The copies of segments in stores, and the segments that are kept there alone.
const COPIES: &str = "
CREATE TABLE segment_archived (
  fact INTEGER PRIMARY KEY,
  digest TEXT NOT NULL,
  store TEXT NOT NULL,
  object TEXT NOT NULL
) STRICT;
CREATE INDEX segment_archived_of ON segment_archived (digest, fact);
CREATE TABLE segment_pruned (
  fact INTEGER PRIMARY KEY,
  digest TEXT NOT NULL
) STRICT;
CREATE INDEX segment_pruned_of ON segment_pruned (digest);
";

/// The facts of each tenant that are about no instance, and indexes of what is read for one tenant:
/// nobody waits for what other tenants have done. Rows of such facts are never removed.
const BY_TENANT: &str = "
CREATE TABLE tenant_fact (
  tenant TEXT NOT NULL,
  fact INTEGER NOT NULL,
  PRIMARY KEY (tenant, fact)
) STRICT, WITHOUT ROWID;
INSERT INTO tenant_fact SELECT body ->> '$.tenant', seq FROM fact
  WHERE body ->> '$.instance' IS NULL AND body ->> '$.kind' NOT IN (
    'host-started', 'clock-stepped', 'time-unknown', 'host-suspended', 'segment-sealed',
    'segment-archived', 'segment-pruned', 'host-heard');
CREATE INDEX activation_of ON activation (tenant, fact);
CREATE INDEX prices_of ON prices (tenant, fact);
CREATE INDEX rule_fact_of ON rule_fact (tenant, fact);
";

/// The times between two boots of which only the minimum is known, and which of them are settled.
const GAPS: &str = "
CREATE TABLE gap (
  fact INTEGER PRIMARY KEY,
  meter_ns INTEGER NOT NULL,
  reason TEXT NOT NULL,
  claimed_ns INTEGER NOT NULL,
  counted_ns INTEGER NOT NULL
) STRICT;
INSERT INTO gap
  SELECT seq, body ->> '$.meter_ns', body ->> '$.reason', body ->> '$.claimed_ns',
    body ->> '$.counted_ns' FROM fact
  WHERE seq IN (SELECT fact FROM calendar) AND body ->> '$.kind' = 'time-unknown';
CREATE TABLE gap_settled (
  fact INTEGER PRIMARY KEY,
  gap INTEGER NOT NULL
) STRICT;
";

/// The header of a database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) application_id: i64,
    pub(super) version: i64,
    pub(super) empty: bool,
}

pub(super) fn header(db: &Connection) -> rusqlite::Result<Header> {
    let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    Ok(Header {
        application_id: number("application_id")?,
        version: number("user_version")?,
        empty: db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?,
    })
}

/// True for a copy of another host's journal.
pub(super) fn is_replica(db: &Connection) -> rusqlite::Result<bool> {
    let id: i64 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    Ok(id == REPLICA_ID)
}

/// Opens the connection of the writer. It runs its own checkpoints: an automatic one would hide a
/// failed sync.
pub(super) fn open_writer(path: &Path, busy: Option<Duration>) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(busy.unwrap_or(BUSY))?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

/// Sets up durability and caches of a connection. Call it after the header was checked: it may
/// write to the file.
///
/// Turns off the checkpoint at closing, too: after a failed sync, a second one could succeed
/// without the pages that the first one lost.
pub(super) fn tune(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    require_log(db)?;
    db.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY",
    )?;
    db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))
}

/// Refuses a file that has no log. SQLite answers a switch to the log before it commits it, and
/// goes on without the log if that fails: the mark of an open file would ask for a log that never
/// was.
fn require_log(db: &Connection) -> rusqlite::Result<()> {
    let mut versions = [0; 2];
    let read = db.path().map(std::fs::File::open).transpose();
    let read =
        read.and_then(|file| file.map_or(Ok(()), |file| file.read_exact_at(&mut versions, 18)));
    if read.is_ok() && versions == [LOG_VERSION; 2] {
        return Ok(());
    }
    let text = "the database can't be switched to a write-ahead log".to_owned();
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
    Err(rusqlite::Error::SqliteFailure(code, Some(text)))
}

/// Version of the file format, for writing and for reading, of a database with a log: bytes 18 and
/// 19 of its header.
const LOG_VERSION: u8 = 2;

/// Leaves the sync of commits to the writer. A checkpoint still syncs both files.
pub(super) fn leave_syncs(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "synchronous", "NORMAL")
}

/// Opens a read-only connection.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(BUSY)?;
    Ok(db)
}

/// Wait for another program, such as an auditor's tool, that locks the file, before SQLite reports
/// it as busy.
const BUSY: Duration = Duration::from_secs(10);

/// True if the last facts may be in the log alone: from the opening until a clean stop has moved
/// them into the file.
pub(super) fn is_open(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT is_open FROM session", [], |row| row.get(0))
}

/// Marks the file as needing its log. While the mark is in the file the log is not empty: the mark
/// is written to the log first, and only [`mark_closed`] empties the log.
pub(super) fn mark_open(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE session SET is_open = 1", [])?;
    checkpoint(db, "PASSIVE").map(drop)
}

/// Moves all of the log into the file. Returns true if the log is empty now, false if a reader kept
/// it.
pub(super) fn mark_closed(db: &Connection) -> rusqlite::Result<bool> {
    db.execute("UPDATE session SET is_open = 0", [])?;
    checkpoint(db, "TRUNCATE")
}

/// Moves the log into the file as far as readers allow. Returns false if the checkpoint was
/// blocked.
pub(super) fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<bool> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(0))
        .map(|busy| busy == 0)
}

/// Gives the pages back that removed rows have left, once they are most of the file.
pub(super) fn shrink(db: &Connection) -> rusqlite::Result<()> {
    let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let free = number("freelist_count")?;
    let all = number("page_count")?;
    if free > FREE_PAGES_MAX && free > all / 2 { db.execute_batch("VACUUM") } else { Ok(()) }
}

/// Free pages that are left alone: 16 MiB.
const FREE_PAGES_MAX: i64 = 4_096;

/// Takes the steps that a database of version `from` lacks and runs `then`, in one transaction. An
/// empty file has version 0, and becomes a journal; a copy of one stays a copy.
pub(super) fn upgrade(
    db: &Connection,
    from: i64,
    then: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let taken = usize::try_from(from).unwrap_or_default();
    let Some(steps) = STEPS.get(taken..).filter(|steps| !steps.is_empty()) else { return Ok(()) };
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let application_id = if is_replica(db)? { REPLICA_ID } else { APPLICATION_ID };
    let header =
        format!("PRAGMA application_id = {application_id}; PRAGMA user_version = {VERSION};");
    transaction.execute_batch(&(header + &steps.concat()))?;
    then(&transaction)?;
    transaction.commit()
}

/// The damage that an error of SQLite reports; none for any other error.
pub(super) fn damage(error: &rusqlite::Error) -> Option<Damage> {
    let malformed =
        || Some(Damage { place: Place::File, flaw: Flaw::Malformed(error.to_string()) });
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => malformed(),
        Some(_) => None,
        None => match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => malformed(),
            _ => None,
        },
    }
}

/// An integer as SQLite stores it. Sequence numbers and rows never come near 2^63.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads a column that was stored with [`int`].
pub(super) fn uint(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

/// Reads a column that was stored with [`int`] or is null.
pub(super) fn uint_or_null(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<u64>> {
    match row.get_ref(column)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => uint(row, column).map(Some),
    }
}
