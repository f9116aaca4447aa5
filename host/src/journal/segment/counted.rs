//! The time of one instance in a segment, from the row groups that hold what is asked for.

use rusqlite::Connection;

use super::super::error::{Flaw, ReadError};
use super::file::{Columns, Reader};
use super::layout::{Rows, Text};
use super::store::{Segment, Store, damage, unreadable};
use crate::billing::Counted;
use crate::billing::life::CountedFact;

/// The owner of the rows that are looked for.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Place<'a> {
    /// The tenant.
    pub(in super::super) tenant: &'a str,
    /// The instance.
    pub(in super::super) instance: &'a str,
}

impl Store {
    /// The facts of an instance that count time, behind the first and up to the second of two
    /// facts, ascending, at most so many.
    pub(in super::super) fn counted_after(
        &self,
        db: &Connection,
        segment: &Segment,
        place: Place<'_>,
        (after, through): (u64, u64),
        limit: usize,
    ) -> Result<Vec<CountedFact>, ReadError> {
        let reader = self.open(db, segment)?;
        let mut found = Vec::new();
        for group in 0..reader.groups() {
            let is_behind = reader.facts(group).is_some_and(|(_, last)| last <= after);
            if is_behind || !reader.may_have_instance(group, place.tenant, place.instance) {
                continue;
            }
            let rows = rows(&reader, segment, group)?;
            for row in own(&rows, place, segment)?.filter(|&row| !rows.carried[row]) {
                let counted = counted(&rows, row).map_err(|flaw| wrong(segment, &rows, row, flaw));
                found.extend(counted?.filter(|(seq, ..)| *seq > after && *seq <= through));
            }
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The last fact of an instance, up to one of its facts, that counts time: one of the segment,
    /// or the one that opened what is under way at its begin.
    pub(in super::super) fn last_counted(
        &self,
        db: &Connection,
        segment: &Segment,
        place: Place<'_>,
        through: u64,
    ) -> Result<Option<CountedFact>, ReadError> {
        let reader = self.open(db, segment)?;
        for group in (0..reader.groups()).rev() {
            let is_later = reader.facts(group).is_some_and(|(first, _)| first > through);
            if is_later || !reader.may_have_instance(group, place.tenant, place.instance) {
                continue;
            }
            let rows = rows(&reader, segment, group)?;
            for row in own(&rows, place, segment)?.rev() {
                let counted = counted(&rows, row).map_err(|flaw| wrong(segment, &rows, row, flaw));
                if let Some(fact) = counted?.filter(|(seq, ..)| *seq <= through) {
                    return Ok(Some(fact));
                }
            }
        }
        Ok(None)
    }
}

fn rows(reader: &Reader, segment: &Segment, group: usize) -> Result<Rows, ReadError> {
    let rows = reader.rows(group, &Columns::of_time());
    rows.map_err(|error| unreadable(segment, &format!("row group {group}: {error}")))
}

/// The rows of an instance, which lie together.
fn own<'a>(
    rows: &'a Rows,
    place: Place<'_>,
    segment: &Segment,
) -> Result<std::ops::Range<usize>, ReadError> {
    let key = |row: usize| {
        let tenant = rows.text(Text::Tenant, row)?;
        Ok((tenant, rows.text_or_none(Text::Instance, row)?))
    };
    let bound = |is_before: &dyn Fn((&'a str, Option<&'a str>)) -> bool| {
        let mut low = 0;
        let mut high = rows.len();
        while low < high {
            let middle = low.midpoint(high);
            let key = key(middle).map_err(|flaw| wrong(segment, rows, middle, flaw))?;
            match is_before(key) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok::<usize, ReadError>(low)
    };
    let asked = (place.tenant, Some(place.instance));
    Ok(bound(&|key| key < asked)?..bound(&|key| key <= asked)?)
}

fn counted(rows: &Rows, row: usize) -> Result<Option<CountedFact>, Flaw> {
    let (at, counted): (_, Option<Counted>) = rows.counts(row)?;
    let Some(counted) = counted else { return Ok(None) };
    Ok(Some((rows.seq(row)?, at, counted)))
}

fn wrong(segment: &Segment, rows: &Rows, row: usize, flaw: Flaw) -> ReadError {
    ReadError::Damaged(damage(segment, rows.seq(row).ok(), flaw))
}
