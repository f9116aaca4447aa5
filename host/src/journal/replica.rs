//! A copy of another host's journal, kept by a collector.
//!
//! It has the tables of a journal, so that everything that reads a journal reads it, too. Facts are
//! taken as they were hashed, each only if it follows on the last one: whatever a transport loses,
//! repeats or reorders, the copy is a prefix of the host's own chain. Files of segments, secrets of
//! tokens, components and documents stay on the host.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::Options;
use super::account;
use super::chain::{self, Chain};
use super::entry::{FactHash, Head, Row};
use super::error::{Damage, Flaw, OpenError, Place};
use super::open::{check_tail, lock, open_database, refused};
use super::schema::{self, int, uint, uint_or_null};
use super::tables::{self, MILESTONE_FACTS, Milestone};
use super::verify::Recount;
use super::wire::FactRecord;
use super::writer::write_alive;
use crate::billing::account::Account;
use crate::billing::calendar::Calendar;
use crate::billing::life::wakes;
use crate::billing::{About, Counted, Fact, InstanceFact, Reading};
use crate::id::{InstanceId, InstanceName};
use crate::limits::fleet::COPY_CACHE_KIB;
use crate::units::Instant;

/// Number of facts in the log at which it is moved into the main file.
const CHECKPOINT_FACTS: u64 = 8_192;

/// A reason why facts were not taken. The copy is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The host tells another fact under a number that is known.
    #[error(
        "its fact {seq} has the link {told}, and the one that was taken under this number has \
         {known}"
    )]
    Forked {
        /// The first number at which the two differ.
        seq: u64,
        /// The link that was taken.
        known: FactHash,
        /// The link that is told now.
        told: FactHash,
    },
    /// A fact does not follow on the one before it, or is none.
    #[error("a fact is not one that a journal could hold")]
    Damaged(#[source] Damage),
    /// The copy can't be read or written. It takes no more facts until it is opened again.
    #[error("the copy can't be written")]
    Database(#[from] rusqlite::Error),
    /// The copy could not be written before.
    #[error("the copy could not be written before; restart the collector")]
    Broken,
}

/// The name and further words about an instance, which are in no fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The instance.
    pub id: InstanceId,
    /// Its name.
    pub name: InstanceName,
    /// Its record, opaque to the journal.
    pub record: String,
}

/// The facts of a host that are handed over together.
#[derive(Debug, Clone, Copy)]
pub struct Handed<'a> {
    /// The fact before the first one.
    pub after: Head,
    /// The texts of the facts, as they were hashed.
    pub texts: &'a [String],
    /// Names and records of their instances.
    pub described: &'a [Described],
    /// The end of the host's journal, and a reading of its clocks up to which nothing follows.
    pub mark: Option<(Head, &'a Reading)>,
}

/// The open copy of a host's journal.
#[derive(Debug)]
pub struct Replica {
    db: Connection,
    chain: Chain,
    /// The last reading of the host's meter at which nothing followed the head of that time.
    mark: Option<Instant>,
    is_broken: bool,
    log_load: u64,
    _lock: File,
}

impl Replica {
    /// Opens the copy in a folder, or begins one. Blocking.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let lock = lock(folder)?;
        let path = folder.join(schema::FILE);
        let db = open_database(&path, Options::default(), schema::REPLICA_ID)?;
        let tail = check_tail(&db)?;
        let cache = -i64::from(COPY_CACHE_KIB);
        db.pragma_update(None, "cache_size", cache)
            .map_err(|source| refused("set up the cache", source))?;
        schema::mark_open(&db).map_err(|source| refused("mark the file as open", source))?;
        let mark = db
            .query_row("SELECT meter_ns FROM alive", [], |row| row.get(0))
            .optional()
            .map_err(|source| refused("read the last mark", source))?;
        let chain = Chain::resuming(tail.head, tail.recorded);
        Ok(Self { db, chain, mark: mark.map(Instant), is_broken: false, log_load: 0, _lock: lock })
    }

    /// The last fact that was taken.
    pub fn head(&self) -> Head {
        self.chain.head()
    }

    /// The instant on the host's meter clock up to which all its facts are here, except for those
    /// that it recorded late.
    pub fn until(&self) -> Instant {
        self.mark.map_or(self.chain.recorded(), |mark| mark.max(self.chain.recorded()))
    }

    /// UTC at [`Replica::until`] by the host's calendar, in nanoseconds since 1970.
    pub fn until_utc_ns(&self) -> i64 {
        let calendar = || -> rusqlite::Result<Calendar> {
            let mut learned = Calendar::default();
            let sql = "SELECT meter_ns, wall_ns FROM calendar ORDER BY fact";
            let mut statement = self.db.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                learned.learn(Instant(row.get(0)?), row.get(1)?);
            }
            Ok(learned)
        };
        // Shown only: what is charged reads the facts.
        calendar().unwrap_or_default().utc_ns(self.until())
    }

    /// The link of a fact; none if it is not here.
    ///
    /// # Errors
    /// [`TakeError::Database`].
    pub fn link_of(&self, seq: u64) -> Result<Option<FactHash>, TakeError> {
        if seq == 0 {
            return Ok(Some(FactHash::GENESIS));
        }
        let sql = "SELECT hash FROM fact WHERE seq = ?1";
        let hash: Option<Vec<u8>> =
            self.db.prepare_cached(sql)?.query_row([int(seq)], |row| row.get(0)).optional()?;
        Ok(hash.and_then(|hash| chain::link(&hash)))
    }

    /// Takes the facts that follow on the last one; those that are here already are compared.
    /// Returns the end afterwards: if it lies before [`Handed::after`], facts in between are
    /// missing, and none was taken. On return they are on the disk. Blocking.
    ///
    /// # Errors
    /// See [`TakeError`].
    pub fn take(&mut self, handed: Handed<'_>) -> Result<Head, TakeError> {
        if self.is_broken {
            return Err(TakeError::Broken);
        }
        let head = self.head();
        if handed.after.seq > head.seq {
            return Ok(head);
        }
        let fresh = self.compare(handed.after, handed.texts)?;
        let (chain, mark) = self.commit(fresh, &handed)?;
        (self.chain, self.mark) = (chain, mark);
        self.checkpoint(fresh.len() as u64)?;
        Ok(self.head())
    }

    /// Compares the facts that are here already, and returns the others.
    fn compare<'a>(&self, after: Head, texts: &'a [String]) -> Result<&'a [String], TakeError> {
        let mut told = after;
        self.check(told)?;
        for (place, text) in texts.iter().enumerate() {
            if told.seq == self.head().seq {
                return Ok(&texts[place..]);
            }
            told = Head { seq: told.seq + 1, hash: told.hash.next(text.as_bytes()) };
            self.check(told)?;
        }
        Ok(&[])
    }

    /// Compares a fact with the one that is here under its number.
    ///
    /// # Errors
    /// [`TakeError::Forked`] if they are two.
    pub fn check(&self, told: Head) -> Result<(), TakeError> {
        match self.link_of(told.seq)? {
            Some(known) if known != told.hash => {
                Err(TakeError::Forked { seq: told.seq, known, told: told.hash })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Writes facts in one transaction, which is synced.
    fn commit(
        &mut self,
        texts: &[String],
        handed: &Handed<'_>,
    ) -> Result<(Chain, Option<Instant>), TakeError> {
        let mut taking = Taking {
            db: &self.db,
            chain: Chain::resuming(self.chain.head(), self.chain.recorded()),
            standings: BTreeMap::new(),
        };
        let mut mark = self.mark;
        let transaction = self.db.unchecked_transaction()?;
        for text in texts {
            taking.fact(text)?;
        }
        taking.write_standings()?;
        // A batch of long ago does not bring old names back.
        for described in handed.described.iter().filter(|_| !texts.is_empty()) {
            taking.describe(described)?;
        }
        if let Some((end, reading)) = handed.mark
            && end == taking.chain.head()
            && Some(reading.meter) > mark
            && taking.is_of_boot(reading)?
        {
            write_alive(&self.db, reading, true)?;
            mark = Some(reading.meter);
        }
        let chain = taking.chain;
        if let Err(error) = transaction.commit() {
            // A sync that failed must not be tried again.
            self.is_broken = error.sqlite_error_code() != Some(rusqlite::ErrorCode::DiskFull);
            return Err(error.into());
        }
        Ok((chain, mark))
    }

    fn checkpoint(&mut self, facts: u64) -> Result<(), TakeError> {
        self.log_load += facts + 1;
        if self.log_load < CHECKPOINT_FACTS {
            return Ok(());
        }
        self.log_load = 0;
        let moved = schema::checkpoint(&self.db, "PASSIVE");
        self.is_broken = moved.is_err();
        Ok(moved.map(drop)?)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if self.is_broken {
            return;
        }
        if let Err(error) = schema::mark_closed(&self.db) {
            tracing::warn!(%error, "can't move the log of a copy into its database: keep both");
        }
    }
}

/// The state of an instance after its last fact that was taken.
struct Standing {
    row: Row,
    tenant: String,
    last: Option<(u64, i64)>,
    facts: u64,
    opened: Option<u64>,
    wakes: u32,
    time: Recount,
    deleted: Option<u64>,
}

/// Facts under way into a copy.
struct Taking<'a> {
    db: &'a Connection,
    chain: Chain,
    standings: BTreeMap<InstanceId, Standing>,
}

impl Taking<'_> {
    fn fact(&mut self, text: &str) -> Result<(), TakeError> {
        let head = self.chain.head();
        let seq = head.seq + 1;
        let hash = head.hash.next(text.as_bytes());
        let record = self.chain.step(seq, &hash.0, text).map_err(TakeError::Damaged)?;
        let fact =
            Fact::try_from(&record).map_err(|error| damaged(seq, Flaw::Text(error.to_string())))?;
        if record.meter_ns > record.recorded_ns {
            let meter_ns = record.meter_ns;
            let recorded_ns = record.recorded_ns;
            return Err(damaged(seq, Flaw::FromTheFuture { meter_ns, recorded_ns }));
        }
        self.db
            .prepare_cached("INSERT INTO fact (seq, hash, body) VALUES (?1, ?2, ?3)")?
            .execute(params![int(seq), hash.0, text])?;
        match &fact.about {
            About::Instance(id, of) => return self.of_instance(id, of, &record),
            About::Host(of) => {
                self.of_boot(&fact.at, seq)?;
                // Its files of segments stay on the host: here, all facts are rows.
                if !of.is_of_a_segment() {
                    tables::index_host(self.db, of, &record)?;
                }
            }
            About::Tenant(of) => {
                self.of_boot(&fact.at, seq)?;
                tables::index_tenant(self.db, of, &record).map_err(|error| twice(error, seq))?;
            }
        }
        match record.previous {
            None => Ok(()),
            found => Err(damaged(seq, Flaw::Previous { found, expected: None })),
        }
    }

    /// Notes the offset of the meter clock in the boot of a fact, or compares it.
    fn of_boot(&self, at: &Reading, seq: u64) -> Result<(), TakeError> {
        let offset_ns = at.meter.0.saturating_sub_unsigned(at.boottime_ns);
        let sql = "INSERT OR IGNORE INTO boot (boot_id, offset_ns) VALUES (?1, ?2)";
        self.db.prepare_cached(sql)?.execute(params![at.boot.0.as_ref(), offset_ns])?;
        match self.is_of_boot(at)? {
            true => Ok(()),
            false => {
                let text = format!("its boot {} has another offset of the meter", at.boot.0);
                Err(damaged(seq, Flaw::Disagrees(text)))
            }
        }
    }

    /// Returns whether a reading is one of the meter of its boot.
    fn is_of_boot(&self, at: &Reading) -> Result<bool, TakeError> {
        let offset_ns = at.meter.0.saturating_sub_unsigned(at.boottime_ns);
        let sql = "SELECT 1 FROM boot WHERE boot_id = ?1 AND offset_ns = ?2";
        Ok(self.db.prepare_cached(sql)?.exists(params![at.boot.0.as_ref(), offset_ns])?)
    }

    fn of_instance(
        &mut self,
        id: &InstanceId,
        of: &InstanceFact,
        record: &FactRecord,
    ) -> Result<(), TakeError> {
        let db = self.db;
        let standing = match self.standings.entry(id.clone()) {
            Slot::Occupied(known) => known.into_mut(),
            Slot::Vacant(place) => {
                let stored = match stored(db, id)? {
                    Some(stored) => stored,
                    None => begun(db, id, record)?,
                };
                place.insert(stored)
            }
        };
        standing.check(record).map_err(|flaw| damaged(record.seq, flaw))?;
        standing.take(of, record);
        if standing.facts.is_multiple_of(MILESTONE_FACTS) {
            let milestone = Milestone { row: standing.row, wakes: standing.wakes };
            tables::write_milestone(db, milestone, record)?;
        }
        Ok(())
    }

    /// Writes the rows of the instances that facts were taken of.
    fn write_standings(&self) -> rusqlite::Result<()> {
        let mut bytes = Vec::new();
        for standing in self.standings.values() {
            let Standing { row, last, facts, opened, wakes, time, deleted, .. } = standing;
            let tracker = time.0;
            let account = Account { tracker, phase: tracker.current, degraded: None };
            account::encode(&account, &mut bytes);
            let sql = "UPDATE live SET last_fact = ?2, last_ns = ?3, account = ?4, opened = ?5,
                       wakes = ?6, facts = ?7 WHERE row = ?1";
            self.db.prepare_cached(sql)?.execute(params![
                int(row.0),
                last.map(|(seq, _)| int(seq)),
                last.map(|(_, at)| at),
                bytes,
                opened.map(int),
                wakes,
                int(*facts)
            ])?;
            let sql = "UPDATE instance SET deleted = ?2 WHERE row = ?1";
            self.db.prepare_cached(sql)?.execute(params![int(row.0), deleted.map(int)])?;
        }
        Ok(())
    }

    /// Replaces the words about an instance, unless another one has its name by now.
    fn describe(&self, described: &Described) -> rusqlite::Result<()> {
        let sql = "UPDATE OR IGNORE instance SET name = ?2, record = ?3 WHERE id = ?1";
        let Described { id, name, record } = described;
        let values = params![id.as_str(), name.as_str(), record];
        self.db.prepare_cached(sql)?.execute(values).map(drop)
    }
}

impl Standing {
    /// Checks that a fact may follow on the last one of the instance.
    fn check(&self, record: &FactRecord) -> Result<(), Flaw> {
        if self.tenant != record.tenant {
            let text = format!("its instance belongs to {}, not {}", self.tenant, record.tenant);
            return Err(Flaw::Disagrees(text));
        }
        if let Some(deleted) = self.deleted {
            return Err(Flaw::Disagrees(format!("its instance was deleted by fact {deleted}")));
        }
        let expected = self.last.map(|(seq, _)| seq);
        if record.previous != expected {
            return Err(Flaw::Previous { found: record.previous, expected });
        }
        match self.last {
            Some((_, before_ns)) if record.meter_ns < before_ns => {
                Err(Flaw::MeterBackwards { meter_ns: record.meter_ns, before_ns })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn take(&mut self, of: &InstanceFact, record: &FactRecord) {
        self.last = Some((record.seq, record.meter_ns));
        self.facts += 1;
        let Some(counted) = of.counts() else { return };
        let before = self.time.0.current;
        let woken = before.is_some_and(|phase| wakes(phase, counted.phase()));
        self.wakes = self.wakes.saturating_add(u32::from(woken));
        self.time.step(counted, record.meter());
        self.opened = Some(record.seq);
        if counted == Counted::Ends {
            self.deleted = Some(record.seq);
        }
    }
}

/// The state of an instance in the tables; none before its first fact.
fn stored(db: &Connection, id: &InstanceId) -> Result<Option<Standing>, TakeError> {
    let sql = "SELECT row, tenant, last_fact, last_ns, facts, opened, wakes, account, deleted
               FROM instance JOIN live USING (row) WHERE id = ?1";
    let read = |row: &SqlRow<'_>| {
        let account: Vec<u8> = row.get(7)?;
        let standing = Standing {
            row: Row(uint(row, 0)?),
            tenant: row.get(1)?,
            last: uint_or_null(row, 2)?.zip(row.get(3)?),
            facts: uint(row, 4)?,
            opened: uint_or_null(row, 5)?,
            wakes: row.get(6)?,
            time: Recount::default(),
            deleted: uint_or_null(row, 8)?,
        };
        Ok((standing, account))
    };
    let found = db.prepare_cached(sql)?.query_row([id.as_str()], read).optional()?;
    let Some((mut standing, account)) = found else { return Ok(None) };
    let account = account::decode(&account).map_err(|error| {
        let place = Place::Instance(standing.row);
        TakeError::Damaged(Damage { place, flaw: Flaw::Malformed(error.to_string()) })
    })?;
    standing.time = Recount(account.tracker);
    Ok(Some(standing))
}

/// Makes the rows of an instance at its first fact. Until it is described, its id is its name.
fn begun(db: &Connection, id: &InstanceId, record: &FactRecord) -> Result<Standing, TakeError> {
    let sql = "INSERT INTO instance (id, tenant, name, record, first_fact, first_ns)
               VALUES (?1, ?2, ?1, '', ?3, ?4)";
    let first = params![id.as_str(), record.tenant, int(record.seq), record.meter_ns];
    db.prepare_cached(sql)?.execute(first)?;
    let row = Row(db.last_insert_rowid().unsigned_abs());
    let mut bytes = Vec::new();
    account::encode(&Account::default(), &mut bytes);
    db.prepare_cached("INSERT INTO live (row, account, state) VALUES (?1, ?2, '')")?
        .execute(params![int(row.0), bytes])?;
    Ok(Standing {
        row,
        tenant: record.tenant.clone(),
        last: None,
        facts: 0,
        opened: None,
        wakes: 0,
        time: Recount::default(),
        deleted: None,
    })
}

fn damaged(seq: u64, flaw: Flaw) -> TakeError {
    TakeError::Damaged(Damage { place: Place::Fact(seq), flaw })
}

/// Reports a fact that contradicts an earlier one.
fn twice(error: rusqlite::Error, seq: u64) -> TakeError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            damaged(seq, Flaw::Disagrees("it contradicts an earlier fact".into()))
        }
        _ => error.into(),
    }
}
