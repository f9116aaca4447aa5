//! The lives of a tenant's instances in a span of time, from facts of that span alone.
//!
//! An instance that was idle since the border costs one fact: the one that opened what is under
//! way. Any other is walked back from the first milestone behind the span, or from its end, to the
//! fact that opened what was under way at the border.

use std::ops::ControlFlow;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row as SqlRow, params};

use super::entry::Row;
use super::error::{Damage, Flaw, Place, ReadError};
use super::schema::{int, uint, uint_or_null};
use super::segment::{Cursor, Segment, Store, segments};
use super::slim::Slim;
use crate::billing::life::{CountedFact, Life, Opening, wakes};
use crate::billing::{Counted, Entered};
use crate::id::{InstanceId, TenantId};
use crate::units::Instant;
use crate::vm::Phase;

/// A span of a tenant's time.
#[derive(Debug, Clone, Copy)]
pub struct SpanQuery<'a> {
    /// Owner of the instances.
    pub tenant: &'a TenantId,
    /// First instant of the span.
    pub start: Instant,
    /// First instant after it.
    pub end: Instant,
    /// Facts after this one do not exist.
    pub through: u64,
}

/// The lives under way: the answer to a [`SpanQuery`], instance by instance.
pub(super) struct Lives<'a> {
    query: SpanQuery<'a>,
    fact: CachedStatement<'a>,
    milestone: CachedStatement<'a>,
    /// The segments that the span reaches into, and the last fact that is sealed.
    cursors: Vec<Cursor>,
    sealed: u64,
    /// The first fact that was recorded after the span.
    recorded_after: u64,
    facts_read: u64,
}

/// The state of an instance after its last fact.
struct Standing {
    row: Row,
    id: String,
    first_fact: u64,
    last_fact: u64,
    last_ns: i64,
    opened: Option<u64>,
    wakes: u32,
}

const STANDINGS: &str = "
    SELECT row, id, first_fact, last_ns, opened, wakes, last_fact
    FROM instance JOIN live USING (row)
    WHERE tenant = ?1 AND first_fact <= ?2 AND first_ns <= ?3
      AND (deleted IS NULL OR deleted > ?2 OR last_ns > ?4)
    ORDER BY id";

/// Visits the lives that a query asks for, sorted by the instance's id, and answers how many facts
/// were read for it.
pub(super) fn visit(
    db: &Connection,
    store: &Store,
    query: SpanQuery<'_>,
    mut visit: impl FnMut(Life) -> ControlFlow<()>,
) -> Result<u64, ReadError> {
    let standings = standings(db, query)?;
    let mut lives = Lives::new(db, store, query)?;
    for standing in standings {
        if visit(lives.life(&standing)?).is_break() {
            break;
        }
    }
    Ok(lives.facts_read)
}

fn standings(db: &Connection, query: SpanQuery<'_>) -> Result<Vec<Standing>, ReadError> {
    let SpanQuery { tenant, start, end, through } = query;
    let asked = params![tenant.as_str(), int(through), end.0, start.0];
    let standing = |row: &SqlRow<'_>| {
        Ok(Standing {
            row: Row(uint(row, 0)?),
            id: row.get(1)?,
            first_fact: uint(row, 2)?,
            last_ns: row.get(3)?,
            opened: uint_or_null(row, 4)?,
            wakes: row.get(5)?,
            last_fact: uint(row, 6)?,
        })
    };
    let mut statement = db.prepare_cached(STANDINGS)?;
    Ok(statement.query_map(asked, standing)?.collect::<rusqlite::Result<_>>()?)
}

/// The facts found on the way back.
struct Walked {
    /// The facts that count, the last one first; the one that opened what is under way at the
    /// border is not among them.
    newer: Vec<CountedFact>,
    /// The opening fact, with the instant at which the boot began that it may belong to.
    opening: Option<(u64, Instant, Entered, Instant)>,
}

/// The interval under way at the border, and the facts that count after it, ascending.
type Told = (Option<Opening>, Vec<CountedFact>);

impl Walked {
    /// `wakes` is how often the instance had woken where the walk began.
    fn told(mut self, wakes: u32) -> Told {
        self.newer.reverse();
        let phase = self.opening.as_ref().map(|(_, _, entered, _)| entered.phase);
        let wakes = wakes.saturating_sub(woken(phase, &self.newer));
        let opening = self.opening.map(|(fact, at, entered, boot_began)| Opening {
            fact,
            at,
            entered,
            wakes,
            boot_began,
        });
        (opening, self.newer)
    }
}

impl<'a> Lives<'a> {
    fn new(db: &'a Connection, store: &Store, query: SpanQuery<'a>) -> Result<Self, ReadError> {
        let segments = segments(db)?;
        let milestone = "SELECT fact, wakes FROM milestone
                         WHERE row = ?1 AND fact >= ?2 AND meter_ns > ?3 ORDER BY fact LIMIT 1";
        let sealed = segments.last().map_or(0, |last| last.last);
        Ok(Self {
            query,
            fact: db.prepare_cached("SELECT body FROM fact WHERE seq = ?1")?,
            milestone: db.prepare_cached(milestone)?,
            cursors: cursors(db, store, &segments, query)?,
            sealed,
            recorded_after: first_recorded_after(db, sealed, query.end)?,
            facts_read: 0,
        })
    }

    fn life(&mut self, standing: &Standing) -> Result<Life, ReadError> {
        let id: InstanceId = standing.id.parse().map_err(|error: crate::id::IdError| {
            let flaw = Flaw::Malformed(error.to_string());
            ReadError::Damaged(Damage { place: Place::Instance(standing.row), flaw })
        })?;
        let (opening, counted) = match self.cursors.is_empty() {
            true => self.by_rows(standing)?,
            false => self.by_segments(standing)?,
        };
        let mut life = Life { id, first_fact: standing.first_fact, opening, counted: Vec::new() };
        let SpanQuery { start, end, through, .. } = self.query;
        for (seq, at, counted) in counted.into_iter().filter(|&(seq, ..)| seq <= through) {
            if at <= start {
                life.opening = Opening::after(life.opening.as_ref(), seq, at, counted);
            } else if at <= end {
                life.counted.push((seq, at, counted));
            }
        }
        Ok(life)
    }

    /// The life of an instance by the rows of the journal.
    fn by_rows(&mut self, standing: &Standing) -> Result<Told, ReadError> {
        let (from, wakes) = self.anchor(standing)?;
        Ok(self.walk(from)?.told(wakes))
    }

    /// The same from segments and from the rows behind them.
    fn by_segments(&mut self, standing: &Standing) -> Result<Told, ReadError> {
        let mut newer = Vec::new();
        if standing.last_fact > self.sealed {
            let (from, wakes) = self.anchor(standing)?;
            let walked = self.walk(from)?;
            if walked.opening.is_some() {
                return Ok(walked.told(wakes));
            }
            newer = walked.newer;
        }
        let mut opening = None;
        let mut counted = Vec::new();
        for (place, cursor) in self.cursors.iter_mut().enumerate() {
            let taken = cursor.time(&standing.id)?;
            if place == 0 {
                opening = taken.opening;
            }
            counted.extend(taken.counted);
        }
        counted.extend(newer.into_iter().rev());
        Ok((opening, counted))
    }

    /// A fact behind the span to walk back from, and how often the instance had woken by then.
    fn anchor(&mut self, standing: &Standing) -> Result<(Option<u64>, u32), ReadError> {
        let Standing { row, last_ns, opened, wakes, .. } = *standing;
        if last_ns > self.query.end.0 {
            let asked = params![int(row.0), int(self.recorded_after), self.query.end.0];
            let found = self.milestone.query_row(asked, |row| Ok((uint(row, 0)?, row.get(1)?)));
            if let Some((fact, wakes)) = found.optional()? {
                return Ok((Some(fact), wakes));
            }
        }
        Ok((opened, wakes))
    }

    fn walk(&mut self, from: Option<u64>) -> Result<Walked, ReadError> {
        let mut walked = Walked { newer: Vec::new(), opening: None };
        let start = self.query.start;
        let through = self.query.through;
        let mut next = from;
        let is_sealed = !self.cursors.is_empty();
        while let Some(seq) = next {
            // What is sealed is read from there.
            if seq <= self.sealed && is_sealed && walked.opening.is_none() {
                break;
            }
            let Some((previous, at, counted)) = self.read(seq)? else {
                // The rows of a boot stay; those before it may be gone.
                match seq <= self.sealed && walked.opening.is_some() {
                    true => break,
                    false => return Err(gap(seq)),
                }
            };
            next = previous;
            let Some(counted) = counted else { continue };
            match (&mut walked.opening, counted) {
                (None, Counted::Enters(entered)) if at <= start && seq <= through => {
                    walked.opening = Some((seq, at, entered, at));
                    if entered.phase != Phase::Initializing {
                        break;
                    }
                }
                // The boot that is under way at the border may have begun with another shape.
                (Some((.., boot_began)), Counted::Enters(entered))
                    if entered.phase == Phase::Initializing =>
                {
                    *boot_began = at;
                }
                (Some(_), _) => break,
                (None, Counted::Ends) if at <= start && seq <= through => break,
                (None, counted) => walked.newer.push((seq, at, counted)),
            }
        }
        Ok(walked)
    }

    fn read(&mut self, seq: u64) -> Result<Option<ReadFact>, ReadError> {
        self.facts_read += 1;
        let mut rows = self.fact.query([int(seq)])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let slim = Slim::read(seq, body).map_err(ReadError::Damaged)?;
        Ok(Some((slim.previous, slim.at(), slim.counts().map_err(ReadError::Damaged)?)))
    }
}

/// The number of the first fact behind the sealed ones that was recorded after an instant; facts
/// are recorded in order.
fn first_recorded_after(db: &Connection, sealed: u64, at: Instant) -> Result<u64, ReadError> {
    let last = "SELECT coalesce(max(seq), 0) FROM fact";
    let last: u64 = db.prepare_cached(last)?.query_row([], |row| uint(row, 0))?;
    let mut low = sealed + 1;
    let mut high = last + 1;
    let sql = "SELECT body ->> '$.recorded_ns' FROM fact WHERE seq = ?1";
    let mut recorded = db.prepare_cached(sql)?;
    while low < high {
        let middle = low.midpoint(high);
        let recorded_ns: i64 = recorded.query_row([int(middle)], |row| row.get(0))?;
        match recorded_ns > at.0 {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Ok(low)
}

/// A fact up to which all were recorded by an instant: the last one, or, of those that are sealed,
/// the last one of a segment; 0 if there is none.
pub(super) fn recorded_by(db: &Connection, at: Instant) -> Result<u64, ReadError> {
    let segments = segments(db)?;
    match segments.iter().rfind(|one| one.recorded_ns <= at.0) {
        Some(found) if segments.last().is_some_and(|last| last.last > found.last) => Ok(found.last),
        None if !segments.is_empty() => Ok(0),
        found => {
            let sealed = found.map_or(0, |one| one.last);
            Ok(first_recorded_after(db, sealed, at)? - 1)
        }
    }
}

/// The fact before of the same instance, the instant, the meaning.
type ReadFact = (Option<u64>, Instant, Option<Counted>);

fn gap(seq: u64) -> ReadError {
    let flaw = Flaw::Gap { after: seq.saturating_sub(1) };
    ReadError::Damaged(Damage { place: Place::Fact(seq), flaw })
}

/// Cursors over the segments that a span reaches into; none if it begins behind all of them.
fn cursors(
    db: &Connection,
    store: &Store,
    segments: &[Segment],
    query: SpanQuery<'_>,
) -> Result<Vec<Cursor>, ReadError> {
    // What was recorded before the span happened before it.
    let reached = |one: &Segment| one.recorded_ns >= query.start.0 || one.last >= query.through;
    let Some(first) = segments.iter().position(reached) else { return Ok(Vec::new()) };
    // The first one says where the instances stood; others matter if something in them happened in
    // the span.
    let matters = |(place, one): &(usize, &Segment)| {
        *place == 0 || one.meter_ns <= query.end.0 && one.first <= query.through
    };
    let reached = segments[first..].iter().enumerate().filter(matters);
    reached.map(|(_, one)| Cursor::new(store, db, one, query.tenant.as_str(), false)).collect()
}

/// The number of times that the facts wake the instance, given the phase before them.
fn woken(before: Option<Phase>, facts: &[CountedFact]) -> u32 {
    let mut phase = before;
    let mut woken = 0;
    for (_, _, counted) in facts {
        woken += u32::from(phase.is_some_and(|phase| wakes(phase, counted.phase())));
        phase = counted.phase();
    }
    woken
}
