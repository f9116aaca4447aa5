//! Migrations of an earlier version's data, beside the new tables of `schema`.

mod borders;

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::chain::encode_body;
use super::entry::FactHash;
use super::schema::int;
use super::tables;
use super::wire::{FactRecord, What};
use crate::billing::TenantFact;
use crate::tenant::{Actor, Plan};
use crate::units::Instant;

/// The first schema version in which a planned change holds until it is withdrawn.
const PLANS_STAY: i64 = 4;

/// The first schema version in which each instance and each milestone says where its life stands.
const BORDERS: i64 = 9;

/// Migrates the data of a journal of schema version `from`.
pub(super) fn take_over(db: &Connection, from: i64) -> rusqlite::Result<()> {
    if from < PLANS_STAY {
        withdraw_dropped(db)?;
    }
    if from < BORDERS { borders::fill(db) } else { Ok(()) }
}

/// A row of `activation` or `prices`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Planned {
    tenant: String,
    from_ns: i64,
    digest: String,
}

/// Withdraws the planned changes that an earlier version dropped without a fact as soon as another
/// change took effect before them. Otherwise they would take effect now, and change what was
/// charged.
fn withdraw_dropped(db: &Connection) -> rusqlite::Result<()> {
    for (plan, table) in [(Plan::Policy, "activation"), (Plan::Prices, "prices")] {
        for planned in dropped(db, table)? {
            append(db, plan, &planned)?;
        }
    }
    Ok(())
}

/// The changes that the earlier rule dropped and that were not set again, in the order of their
/// facts.
fn dropped(db: &Connection, table: &str) -> rusqlite::Result<Vec<Planned>> {
    let mut statement =
        db.prepare(&format!("SELECT tenant, from_ns, digest FROM {table} ORDER BY fact"))?;
    let changes = statement
        .query_map([], |row| {
            Ok(Planned { tenant: row.get(0)?, from_ns: row.get(1)?, digest: row.get(2)? })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut held: BTreeMap<String, Vec<Planned>> = BTreeMap::new();
    let mut dropped = Vec::new();
    for change in changes {
        let held = held.entry(change.tenant.clone()).or_default();
        dropped.extend(held.iter().filter(|planned| planned.from_ns > change.from_ns).cloned());
        held.retain(|planned| planned.from_ns < change.from_ns);
        held.push(change);
    }
    dropped.retain(|planned| !held.get(&planned.tenant).is_some_and(|held| held.contains(planned)));
    let mut seen = std::collections::BTreeSet::new();
    dropped.retain(|planned| seen.insert(planned.clone()));
    Ok(dropped)
}

/// Appends the fact of a withdrawal, with the clock reading of the last start: nothing has happened
/// since but the change of the program.
fn append(db: &Connection, plan: Plan, planned: &Planned) -> rusqlite::Result<()> {
    let Some((last, hash)) = last(db, "SELECT max(seq) FROM fact")? else { return Ok(()) };
    let started = last_started(db)?.unwrap_or_else(|| last.clone());
    let digest = planned.digest.parse().map_err(|error: crate::id::IdError| {
        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error.into())
    })?;
    let reason = Some(
        "another change was put in force before it, and dropped it by the rule of that time".into(),
    );
    let fact = TenantFact::PlanWithdrawn {
        plan,
        digest,
        from: Instant(planned.from_ns),
        by: Actor::Host,
        reason,
    };
    let record = FactRecord {
        seq: last.seq + 1,
        recorded_ns: last.recorded_ns,
        tenant: planned.tenant.clone(),
        instance: None,
        previous: None,
        what: What::from(&fact),
        ..started
    };
    let mut body = Vec::new();
    encode_body(&record, &mut body)?;
    let hash = hash.next(&body);
    db.prepare_cached("INSERT INTO fact (seq, hash, body) VALUES (?1, ?2, ?3)")?
        .execute(params![int(record.seq), hash.0, str::from_utf8(&body)?])?;
    tables::index_tenant(db, &fact, &record)
}

fn last_started(db: &Connection) -> rusqlite::Result<Option<FactRecord>> {
    Ok(last(db, "SELECT max(fact) FROM calendar")?.map(|(record, _)| record))
}

/// The fact with the number that the query `which` returns; none in an empty journal.
fn last(db: &Connection, which: &str) -> rusqlite::Result<Option<(FactRecord, FactHash)>> {
    let sql = format!("SELECT hash, body FROM fact WHERE seq = ({which})");
    let found: Option<([u8; 32], String)> =
        db.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((hash, body)) = found else { return Ok(None) };
    let record = serde_json::from_str(&body).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(Some((record, FactHash(hash))))
}
