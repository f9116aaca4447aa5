//! Queries of the journal, on read-only connections.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account;
use super::entry::{RequestKey, Row, StoredInstance};
use super::error::{Damage, Flaw, Place, ReadError};
use super::schema::{self, int, uint, uint_or_null};
use super::segment::{self, Cursor, Linked, Segment, Store};
use super::tables::MILESTONE_FACTS;
use super::wire::{ChainedFact, FactRecord, Kind};
use crate::billing::Fact;
use crate::id::{Digest, InstanceId, TenantId};
use crate::limits::api::JOURNAL_PAGE_MAX;
use crate::units::Instant;

/// Most facts that one query scans before it returns a partial page.
const SCAN_MAX: u64 = 100_000;

/// Most idle connections that are kept.
const READERS_KEPT: usize = 4;

/// A filter for facts, and the bounds of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FactQuery {
    /// Only facts with a greater sequence number; 0 for all.
    pub after: u64,
    /// Only facts up to this sequence number; none for no end.
    pub through: Option<u64>,
    /// Only facts of this tenant; none for all.
    pub tenant: Option<TenantId>,
    /// Only facts of this instance; none for all.
    pub instance: Option<InstanceId>,
    /// Only facts of this kind; none for all.
    pub kind: Option<Kind>,
    /// Most facts in the page, 1 to [`JOURNAL_PAGE_MAX`]; that many if none.
    pub limit: Option<usize>,
}

/// A page of facts, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page {
    /// The facts, by sequence number.
    pub facts: Vec<ChainedFact>,
    /// Value of `after` for the next page; null if there were no more facts. A page may be short,
    /// or empty, and still have a next one.
    pub next: Option<u64>,
}

/// A pool of read-only connections.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Facts that were read for spans of time and for pages of intervals.
    pub(super) facts_read: AtomicU64,
    pub(super) store: Store,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        let store = Store::beside(&path);
        Self { path, idle: Mutex::default(), facts_read: AtomicU64::new(0), store }
    }

    /// Runs a query on a connection. A connection whose query failed is dropped.
    pub(super) fn with<T>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.ask(question)
    }

    /// Runs a query that also fails by something else than the reading.
    pub(super) fn ask<T, E: From<ReadError>>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let kept = self.idle().pop();
        let db = match kept {
            Some(db) => db,
            None => schema::open_reader(&self.path).map_err(ReadError::from)?,
        };
        let answer = question(&db)?;
        let mut idle = self.idle();
        if idle.len() < READERS_KEPT {
            idle.push(db);
        }
        Ok(answer)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

pub(super) fn facts(db: &Connection, store: &Store, query: &FactQuery) -> Result<Page, ReadError> {
    if let Some(page) = sealed_facts(db, store, query)? {
        return Ok(page);
    }
    match &query.instance {
        Some(instance) => facts_of(db, query, instance),
        None => facts_within(db, query, SCAN_MAX),
    }
}

/// A page of facts of one segment; none if the facts after `after` are not sealed.
fn sealed_facts(
    db: &Connection,
    store: &Store,
    query: &FactQuery,
) -> Result<Option<Page>, ReadError> {
    let segments = segment::segments(db)?;
    let Some(segment) = segments.iter().find(|segment| segment.last > query.after) else {
        return Ok(None);
    };
    let through = query.through.unwrap_or(u64::MAX);
    let facts = store.facts(db, segment)?;
    let found = facts.iter().filter(|(record, _)| query.asks_for(record, through));
    let limit = query.page_limit();
    let chained =
        |(record, link): &Linked| Ok(ChainedFact { fact: record.clone(), hash: link.to_string() });
    let found = found.take(limit + 1).map(chained).collect();
    page(found, limit, (segment.last < through).then_some(segment.last)).map(Some)
}

/// Facts of one instance, along its own chain: reads no more facts than a page and the way to the
/// next milestone hold, wherever the page begins.
fn facts_of(db: &Connection, query: &FactQuery, instance: &InstanceId) -> Result<Page, ReadError> {
    let limit = query.page_limit();
    let anchor = anchor(db, instance, query.after, limit)?;
    let through = query.through.unwrap_or(u64::MAX);
    let mut statement = db.prepare_cached(OF_INSTANCE)?;
    let found = params![
        instance.as_str(),
        int(query.after),
        int(through),
        query.tenant_text(),
        query.kind_text(),
        int(limit as u64 + 1),
        anchor.map(int)
    ];
    let facts = statement.query_map(found, chained_fact)?.collect::<rusqlite::Result<Vec<_>>>()?;
    page(facts, limit, anchor.filter(|&anchor| anchor < through))
}

/// Number of SQLite's virtual machine steps that a page takes.
#[cfg(test)]
pub(super) fn steps_of_a_page(
    db: &Connection,
    query: &FactQuery,
    instance: &InstanceId,
) -> rusqlite::Result<i32> {
    let limit = query.page_limit();
    let anchor = anchor(db, instance, query.after, limit)?.map(int);
    let mut statement = db.prepare(OF_INSTANCE)?;
    let none = None::<&str>;
    let values = params![
        instance.as_str(),
        int(query.after),
        i64::MAX,
        none,
        none,
        int(limit as u64 + 1),
        anchor
    ];
    let _ = statement.query_map(values, |_| Ok(()))?.count();
    Ok(statement.get_status(rusqlite::StatementStatus::VmStep))
}

/// The milestone of an instance from which a walk back finds at least `limit` + 1 facts after
/// `after`; none if the walk may begin at the instance's last fact.
pub(super) fn anchor(
    db: &Connection,
    instance: &InstanceId,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT fact FROM milestone JOIN instance USING (row)
               WHERE id = ?1 AND fact > ?2 ORDER BY fact LIMIT 1 OFFSET ?3";
    let skipped = limit as u64 / MILESTONE_FACTS + 1;
    let values = params![instance.as_str(), int(after), int(skipped)];
    db.prepare_cached(sql)?.query_row(values, |row| uint(row, 0)).optional()
}

/// Facts of all instances; looks at no more than `scan_max`.
pub(super) fn facts_within(
    db: &Connection,
    query: &FactQuery,
    scan_max: u64,
) -> Result<Page, ReadError> {
    let last: u64 =
        db.query_row("SELECT coalesce(max(seq), 0) FROM fact", [], |row| uint(row, 0))?;
    let through = query.through.unwrap_or(u64::MAX).min(last);
    let end = through.min(query.after.saturating_add(scan_max));
    let tenant = query.tenant_text();
    let kind = query.kind_text();
    let limit = query.page_limit();
    let mut statement = db.prepare_cached(OF_ALL)?;
    let found = params![int(query.after), int(end), tenant, kind, int(limit as u64 + 1)];
    let facts = statement.query_map(found, chained_fact)?.collect::<rusqlite::Result<Vec<_>>>()?;
    page(facts, limit, (end < through).then_some(end))
}

impl FactQuery {
    fn asks_for(&self, record: &FactRecord, through: u64) -> bool {
        let is = |asked: Option<&str>, found: Option<&str>| asked.is_none() || asked == found;
        record.seq > self.after
            && record.seq <= through
            && is(self.tenant_text(), Some(&record.tenant))
            && is(self.instance.as_ref().map(InstanceId::as_str), record.instance.as_deref())
            && self.kind.is_none_or(|kind| record.what.kind() == kind)
    }

    fn page_limit(&self) -> usize {
        self.limit.unwrap_or(JOURNAL_PAGE_MAX).clamp(1, JOURNAL_PAGE_MAX)
    }

    fn tenant_text(&self) -> Option<&str> {
        self.tenant.as_ref().map(TenantId::as_str)
    }

    fn kind_text(&self) -> Option<&'static str> {
        self.kind.map(Kind::as_str)
    }
}

/// Makes a page of the facts found, one of which is cut off if it is beyond `limit`. `scanned` is
/// the last fact that was scanned if the search ended early, none if it was complete.
fn page(
    facts: Vec<Result<ChainedFact, Damage>>,
    limit: usize,
    scanned: Option<u64>,
) -> Result<Page, ReadError> {
    let mut facts = facts.into_iter().collect::<Result<Vec<_>, _>>().map_err(ReadError::Damaged)?;
    if facts.len() <= limit {
        return Ok(Page { facts, next: scanned });
    }
    facts.truncate(limit);
    let next = facts.last().map(|last| last.fact.seq);
    Ok(Page { facts, next })
}

const OF_ALL: &str = "
    SELECT seq, hash, body FROM fact
    WHERE seq > ?1 AND seq <= ?2 AND (?3 IS NULL OR body ->> '$.tenant' = ?3)
      AND (?4 IS NULL OR body ->> '$.kind' = ?4)
    ORDER BY seq LIMIT ?5";

/// Walks back along `previous` from a milestone of the instance (`?7`) or from its last fact, so
/// that the hot path writes no index of all facts.
const OF_INSTANCE: &str = "
    WITH RECURSIVE own (seq) AS (
      SELECT coalesce(?7, last_fact) FROM live JOIN instance USING (row) WHERE id = ?1
      UNION ALL
      SELECT body ->> '$.previous' FROM own JOIN fact USING (seq) WHERE own.seq > ?2
    )
    SELECT seq, hash, body FROM own JOIN fact USING (seq)
    WHERE seq > ?2 AND seq <= ?3 AND (?4 IS NULL OR body ->> '$.tenant' = ?4)
      AND (?5 IS NULL OR body ->> '$.kind' = ?5)
    ORDER BY seq LIMIT ?6";

fn chained_fact(row: &SqlRow<'_>) -> rusqlite::Result<Result<ChainedFact, Damage>> {
    let seq = uint(row, 0)?;
    let hash = row.get_ref(1)?.as_blob()?;
    let body = row.get_ref(2)?.as_str()?;
    Ok(record(seq, body).map(|fact| ChainedFact { fact, hash: hex::encode(hash) }))
}

pub(super) fn record(seq: u64, body: &str) -> Result<FactRecord, Damage> {
    serde_json::from_str(body)
        .map_err(|error| Damage { place: Place::Fact(seq), flaw: Flaw::Text(error.to_string()) })
}

pub(super) fn history(
    db: &Connection,
    store: &Store,
    instance: &InstanceId,
) -> Result<Vec<(u64, Fact)>, ReadError> {
    history_after(db, store, instance, 0)
}

/// The facts of an instance with a sequence number greater than `after`.
pub(super) fn history_after(
    db: &Connection,
    store: &Store,
    instance: &InstanceId,
    after: u64,
) -> Result<Vec<(u64, Fact)>, ReadError> {
    history_between(db, store, instance, (after, Instant(i64::MAX)))
}

/// The same, of which those that happened from an instant on may be left out.
pub(super) fn history_between(
    db: &Connection,
    store: &Store,
    instance: &InstanceId,
    (after, before): (u64, Instant),
) -> Result<Vec<(u64, Fact)>, ReadError> {
    let end = segment::sealed_end(db)?.seq;
    let mut records = match after < end {
        true => sealed_history(db, store, instance, (after, before))?,
        false => Vec::new(),
    };
    let mut statement = db.prepare_cached(OF_INSTANCE)?;
    let none = None::<&str>;
    let values =
        params![instance.as_str(), int(after.max(end)), i64::MAX, none, none, -1, None::<i64>];
    for row in statement.query_map(values, chained_fact)? {
        records.push(row?.map_err(ReadError::Damaged)?.fact);
    }
    let fact = |record: FactRecord| match Fact::try_from(&record) {
        Ok(fact) => Ok((record.seq, fact)),
        Err(error) => Err(ReadError::Damaged(Damage {
            place: Place::Fact(record.seq),
            flaw: Flaw::Text(error.to_string()),
        })),
    };
    records.into_iter().map(fact).collect()
}

/// The same, of those that are sealed.
fn sealed_history(
    db: &Connection,
    store: &Store,
    instance: &InstanceId,
    (after, before): (u64, Instant),
) -> Result<Vec<FactRecord>, ReadError> {
    let sql = "SELECT tenant, first_fact, last_fact FROM instance JOIN live USING (row)
               WHERE id = ?1 AND first_fact IS NOT NULL";
    let known = |row: &SqlRow<'_>| Ok((row.get::<_, String>(0)?, uint(row, 1)?, uint(row, 2)?));
    let known = db.prepare_cached(sql)?.query_row([instance.as_str()], known).optional()?;
    let Some((tenant, first, last)) = known else { return Ok(Vec::new()) };
    let mut records = Vec::new();
    let holds = |one: &&Segment| {
        one.last > after && one.last >= first && one.first <= last && one.meter_ns < before.0
    };
    for segment in segment::segments(db)?.iter().filter(holds) {
        let mut cursor = Cursor::new(store, db, segment, &tenant, true)?;
        records.extend(cursor.records(instance.as_str())?);
    }
    records.retain(|record| record.seq > after);
    Ok(records)
}

/// The columns that [`stored_instance`] reads.
pub(super) const INSTANCE_COLUMNS: &str = "
    SELECT row, id, tenant, name, record, state, account, last_fact, last_ns, deleted, opened, wakes, facts
    FROM instance JOIN live USING (row)";

pub(super) fn instance(
    db: &Connection,
    instance: &InstanceId,
) -> Result<Option<StoredInstance>, ReadError> {
    let found = db
        .prepare_cached(&format!("{INSTANCE_COLUMNS} WHERE id = ?1"))?
        .query_row([instance.as_str()], stored_instance)
        .optional()?;
    found.transpose().map_err(ReadError::Damaged)
}

pub(super) fn stored_instance(
    row: &SqlRow<'_>,
) -> rusqlite::Result<Result<StoredInstance, Damage>> {
    let place = Row(uint(row, 0)?);
    let wrong =
        |what: String| Damage { place: Place::Instance(place), flaw: Flaw::Malformed(what) };
    let id = row.get_ref(1)?.as_str()?;
    let tenant = row.get_ref(2)?.as_str()?;
    let name = row.get_ref(3)?.as_str()?;
    let account = row.get_ref(6)?.as_blob()?;
    let record = row.get(4)?;
    let state = row.get(5)?;
    let last_fact = uint_or_null(row, 7)?;
    let last_ns = row.get::<_, Option<i64>>(8)?;
    let deleted = uint_or_null(row, 9)?;
    let opened = uint_or_null(row, 10)?;
    let wakes = row.get(11)?;
    let facts = uint(row, 12)?;
    let parsed = || {
        Ok(StoredInstance {
            row: place,
            id: id.parse().map_err(|error: crate::id::IdError| wrong(error.to_string()))?,
            tenant: tenant.parse().map_err(|error: crate::id::IdError| wrong(error.to_string()))?,
            name: name.parse().map_err(|error: crate::id::IdError| wrong(error.to_string()))?,
            record,
            state,
            account: account::decode(account).map_err(|error| wrong(error.to_string()))?,
            last_fact,
            last: last_ns.map(Instant),
            facts,
            opened,
            wakes,
            deleted,
        })
    };
    Ok(parsed())
}

/// The fact that was recorded for this key, and whether the request's content is the same; none for
/// a new key.
pub(super) fn first_try(
    db: &Connection,
    request: &RequestKey,
) -> rusqlite::Result<Option<(u64, bool)>> {
    let RequestKey { tenant, key, asked } = request;
    let sql = "SELECT fact, asked FROM request WHERE tenant = ?1 AND key = ?2";
    let first =
        |row: &SqlRow<'_>| Ok((uint(row, 0)?, row.get_ref(1)?.as_str()? == asked.to_string()));
    db.prepare_cached(sql)?.query_row(params![tenant.as_str(), key], first).optional()
}

/// A fact by its sequence number, which must exist.
pub(super) fn fact(db: &Connection, seq: u64) -> Result<Fact, ReadError> {
    let sql = "SELECT body FROM fact WHERE seq = ?1";
    let body =
        db.prepare_cached(sql)?.query_row([int(seq)], |row| row.get::<_, String>(0)).optional()?;
    let damaged = |flaw| ReadError::Damaged(Damage { place: Place::Fact(seq), flaw });
    let body = body.ok_or_else(|| damaged(Flaw::Gap { after: seq.saturating_sub(1) }))?;
    let record = record(seq, &body).map_err(ReadError::Damaged)?;
    Fact::try_from(&record).map_err(|error| damaged(Flaw::Text(error.to_string())))
}

/// The last facts about a policy and a tenant, newest first.
pub(super) fn policy_facts(
    db: &Connection,
    tenant: &TenantId,
    digest: &Digest,
    limit: usize,
) -> Result<Vec<ChainedFact>, ReadError> {
    let sql = "SELECT seq, hash, body FROM policy_fact JOIN fact ON seq = policy_fact.fact
               WHERE tenant = ?1 AND digest = ?2 ORDER BY seq DESC LIMIT ?3";
    let asked = params![tenant.as_str(), digest.to_string(), int(limit as u64)];
    let facts = db
        .prepare_cached(sql)?
        .query_map(asked, chained_fact)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    facts.into_iter().collect::<Result<_, _>>().map_err(ReadError::Damaged)
}

pub(super) fn policy_bytes(db: &Connection, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
    Ok(db
        .prepare_cached("SELECT bytes FROM policy WHERE digest = ?1")?
        .query_row([digest.to_string()], |row| row.get(0))
        .optional()?)
}
