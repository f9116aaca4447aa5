//! The facts of one instance that count its time, a page at a time.
//!
//! The cost of a page follows its length: hot facts are walked back from the first milestone behind
//! the page, sealed ones are read from the row groups that hold the page.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::error::{Damage, Flaw, Place, ReadError};
use super::read::anchor;
use super::schema::{int, uint};
use super::segment::{self, Place as SealedPlace, Store};
use super::slim::Slim;
use crate::billing::life::CountedFact;
use crate::id::InstanceId;

/// A page of an instance's facts that count time.
#[derive(Debug, Clone, Copy)]
pub struct CountedQuery<'a> {
    /// The instance.
    pub instance: &'a InstanceId,
    /// Only facts with a greater sequence number; 0 for all.
    pub after: u64,
    /// Facts after this one do not exist.
    pub through: u64,
    /// Most facts; none for all.
    pub limit: Option<usize>,
}

/// An instance as far as the place of its facts goes.
struct Known {
    tenant: String,
    first_fact: u64,
    last_fact: u64,
}

/// The page, ascending, and the number of rows that were read for it.
pub(super) fn page(
    db: &Connection,
    store: &Store,
    query: CountedQuery<'_>,
) -> Result<(Vec<CountedFact>, u64), ReadError> {
    let Some(known) = known(db, query.instance)? else { return Ok((Vec::new(), 0)) };
    let limit = query.limit.unwrap_or(usize::MAX);
    let sealed = segment::sealed_end(db)?.seq;
    let mut found = Vec::new();
    if query.after < sealed {
        sealed_page(db, store, query, &known, &mut found)?;
    }
    let mut walk = Walk::new(db, sealed.max(query.after))?;
    while found.len() < limit && walk.after < query.through.min(known.last_fact) {
        walk.on(db, query, &known, &mut found)?;
    }
    found.truncate(limit);
    Ok((found, walk.rows_read))
}

fn known(db: &Connection, instance: &InstanceId) -> Result<Option<Known>, ReadError> {
    let sql = "SELECT tenant, first_fact, last_fact FROM instance JOIN live USING (row)
               WHERE id = ?1 AND first_fact IS NOT NULL";
    let known = |row: &rusqlite::Row<'_>| {
        Ok(Known { tenant: row.get(0)?, first_fact: uint(row, 1)?, last_fact: uint(row, 2)? })
    };
    Ok(db.prepare_cached(sql)?.query_row([instance.as_str()], known).optional()?)
}

/// Adds the facts of the page that are sealed, segment by segment.
fn sealed_page(
    db: &Connection,
    store: &Store,
    query: CountedQuery<'_>,
    known: &Known,
    found: &mut Vec<CountedFact>,
) -> Result<(), ReadError> {
    let limit = query.limit.unwrap_or(usize::MAX);
    let through = query.through.min(known.last_fact);
    let mut after = query.after.max(known.first_fact.saturating_sub(1));
    while found.len() < limit && after < through {
        let Some(segment) = segment::segment_after(db, after)? else { return Ok(()) };
        let place = SealedPlace { tenant: &known.tenant, instance: query.instance.as_str() };
        let left = limit - found.len();
        found.extend(store.counted_after(db, &segment, place, (after, through), left)?);
        after = segment.last;
    }
    Ok(())
}

/// A walk over the hot facts of an instance, from milestone to milestone.
struct Walk<'a> {
    fact: CachedStatement<'a>,
    /// The last fact that was passed.
    after: u64,
    rows_read: u64,
}

impl<'a> Walk<'a> {
    fn new(db: &'a Connection, after: u64) -> Result<Self, ReadError> {
        let fact = db.prepare_cached("SELECT body FROM fact WHERE seq = ?1")?;
        Ok(Self { fact, after, rows_read: 0 })
    }

    /// Adds the facts up to the first milestone behind the rest of the page.
    fn on(
        &mut self,
        db: &Connection,
        query: CountedQuery<'_>,
        known: &Known,
        found: &mut Vec<CountedFact>,
    ) -> Result<(), ReadError> {
        let left = query.limit.map(|limit| limit - found.len());
        let milestone = match left {
            Some(left) => anchor(db, query.instance, self.after, left)?,
            None => None,
        };
        let from = milestone.unwrap_or(known.last_fact);
        let mut newer = Vec::new();
        let mut next = Some(from);
        while let Some(seq) = next.filter(|&seq| seq > self.after) {
            self.rows_read += 1;
            let body: Option<String> =
                self.fact.query_row([int(seq)], |row| row.get(0)).optional()?;
            let gap = Damage {
                place: Place::Fact(seq),
                flaw: Flaw::Gap { after: seq.saturating_sub(1) },
            };
            let body = body.ok_or(ReadError::Damaged(gap))?;
            let slim = Slim::read(seq, &body).map_err(ReadError::Damaged)?;
            next = slim.previous;
            if let Some(counted) = slim.counts().map_err(ReadError::Damaged)?
                && seq <= query.through
            {
                newer.push((seq, slim.at(), counted));
            }
        }
        found.extend(newer.into_iter().rev());
        self.after = from;
        Ok(())
    }
}

/// The last fact of an instance, at or before `from`, that counts its time. `from` is one of its
/// facts.
pub(super) fn last(
    db: &Connection,
    store: &Store,
    instance: &InstanceId,
    from: u64,
) -> Result<Option<CountedFact>, ReadError> {
    let sealed = segment::sealed_end(db)?.seq;
    let mut fact = db.prepare_cached("SELECT body FROM fact WHERE seq = ?1")?;
    let mut next = Some(from);
    while let Some(seq) = next {
        let body: Option<String> =
            fact.query_row(params![int(seq)], |row| row.get(0)).optional()?;
        let Some(body) = body else { break };
        let slim = Slim::read(seq, &body).map_err(ReadError::Damaged)?;
        if let Some(counted) = slim.counts().map_err(ReadError::Damaged)? {
            return Ok(Some((seq, slim.at(), counted)));
        }
        next = slim.previous;
    }
    let Some(seq) = next else { return Ok(None) };
    if seq > sealed {
        let flaw = Flaw::Gap { after: seq.saturating_sub(1) };
        return Err(ReadError::Damaged(Damage { place: Place::Fact(seq), flaw }));
    }
    let (Some(segment), Some(known)) =
        (segment::segment_after(db, seq.saturating_sub(1))?, known(db, instance)?)
    else {
        return Ok(None);
    };
    let place = SealedPlace { tenant: &known.tenant, instance: instance.as_str() };
    store.last_counted(db, &segment, place, seq)
}
