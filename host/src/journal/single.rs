//! Queries of one journal, which answers over several journals are made of, too.

use rusqlite::{Connection, OptionalExtension, Params, Row as SqlRow, params};

use super::entry::{FactHash, Head, StoredInstance};
use super::error::{Damage, Flaw, Place, ReadError};
use super::read::{INSTANCE_COLUMNS, Readers, stored_instance};
use super::schema::{int, uint};
use super::wire::FactRecord;
use crate::billing::Fact;
use crate::billing::calendar::Calendar;
use crate::id::TenantId;
use crate::units::Instant;

/// Reads the fact in a row of `seq, body`.
pub(super) fn fact(row: &SqlRow<'_>) -> rusqlite::Result<Result<(u64, Fact), ReadError>> {
    let seq = uint(row, 0)?;
    let body = row.get_ref(1)?.as_str()?;
    Ok(read_fact(seq, body))
}

fn read_fact(seq: u64, body: &str) -> Result<(u64, Fact), ReadError> {
    let damaged = |text: String| {
        ReadError::Damaged(Damage { place: Place::Fact(seq), flaw: Flaw::Text(text) })
    };
    let record: FactRecord =
        serde_json::from_str(body).map_err(|error| damaged(error.to_string()))?;
    Fact::try_from(&record).map(|fact| (seq, fact)).map_err(|error| damaged(error.to_string()))
}

/// The sequence number and hash of a fact; none if there is no such fact.
pub(super) fn place_of(readers: &Readers, seq: u64) -> Result<Option<Head>, ReadError> {
    if seq == 0 {
        return Ok(Some(Head::EMPTY));
    }
    readers.with(|db| {
        let hash: Option<Vec<u8>> = db
            .prepare_cached("SELECT hash FROM fact WHERE seq = ?1")?
            .query_row([int(seq)], |row| row.get(0))
            .optional()?;
        let hash = hash.and_then(|hash| hash.try_into().ok()).map(FactHash);
        let hash = match hash {
            Some(hash) => Some(hash),
            None => readers.store.fact(db, seq)?.map(|(_, link)| link),
        };
        Ok(hash.map(|hash| Head { seq, hash }))
    })
}

/// Every instance that a tenant ever had, deleted ones included, in order of creation.
pub(super) fn instances_of(
    readers: &Readers,
    tenant: &TenantId,
) -> Result<Vec<StoredInstance>, ReadError> {
    readers.with(|db| {
        let sql = format!("{INSTANCE_COLUMNS} WHERE tenant = ?1 ORDER BY row");
        let mut statement = db.prepare_cached(&sql)?;
        let found = statement.query_map([tenant.as_str()], stored_instance)?;
        let found = found.collect::<rusqlite::Result<Result<Vec<_>, _>>>()?;
        found.map_err(ReadError::Damaged)
    })
}

/// The first instant of the tenant's first instance in one journal.
pub(super) fn first_of_instances(
    readers: &Readers,
    tenant: &TenantId,
    through: u64,
) -> Result<Option<Instant>, ReadError> {
    readers.with(|db| {
        let sql = "SELECT min(first_ns) FROM instance WHERE tenant = ?1 AND first_fact <= ?2";
        let first: Option<i64> = db
            .prepare_cached(sql)?
            .query_row(params![tenant.as_str(), int(through)], |row| row.get(0))?;
        Ok(first.map(Instant))
    })
}

/// The readings of the wall clock, as (fact, instant on the meter clock, wall clock), ascending.
pub(super) fn calendar(readers: &Readers) -> Result<Vec<(u64, Instant, i64)>, ReadError> {
    let sql = "SELECT fact.seq, fact.body FROM calendar \
               JOIN fact ON fact.seq = calendar.fact ORDER BY fact.seq";
    let found = readers.with(|db| facts_in(db, sql, []))?;
    Ok(found.into_iter().map(|(seq, fact)| (seq, fact.at.meter, fact.at.wall_ns)).collect())
}

/// The calendar of one journal as of a fact.
pub(super) fn calendar_of(readers: &Readers, through: u64) -> Result<Calendar, ReadError> {
    let mut learned = Calendar::default();
    for (_, at, wall_ns) in calendar(readers)?.into_iter().filter(|(seq, ..)| *seq <= through) {
        learned.learn(at, wall_ns);
    }
    Ok(learned)
}

/// The facts in the rows of a query for `seq, body`.
pub(super) fn facts_in(
    db: &Connection,
    sql: &str,
    values: impl Params,
) -> Result<Vec<(u64, Fact)>, ReadError> {
    let mut statement = db.prepare_cached(sql)?;
    statement.query_map(values, fact)?.collect::<rusqlite::Result<Result<Vec<_>, _>>>()?
}
