//! One tenant's rows of a segment, instance by instance, a group at a time.

use std::cmp::Ordering;

use rusqlite::Connection;

use super::super::error::{Flaw, ReadError};
use super::super::wire::FactRecord;
use super::file::{Columns, Reader};
use super::layout::{Rows, Text};
use super::store::{Segment, Store, damage};
use crate::billing::life::{CountedFact, Opening};

/// A reader that moves forward only.
pub(in super::super) struct Cursor {
    segment: Segment,
    reader: Reader,
    columns: Columns,
    tenant: String,
    group: usize,
    rows: Rows,
    row: usize,
}

/// The time of an instance by one segment.
#[derive(Debug, Default)]
pub(in super::super) struct Taken {
    /// The interval under way before the segment.
    pub(in super::super) opening: Option<Opening>,
    /// Its facts that count time.
    pub(in super::super) counted: Vec<CountedFact>,
}

impl Cursor {
    /// A cursor for the time of a tenant's instances, or for their whole facts.
    pub(in super::super) fn new(
        store: &Store,
        db: &Connection,
        segment: &Segment,
        tenant: &str,
        is_whole: bool,
    ) -> Result<Self, ReadError> {
        Ok(Self {
            segment: segment.clone(),
            reader: store.open(db, segment)?,
            columns: if is_whole { Columns::ALL } else { Columns::of_time() },
            tenant: tenant.into(),
            group: 0,
            rows: Rows::default(),
            row: 0,
        })
    }

    /// The time of an instance. Ids must be asked for in ascending order.
    pub(in super::super) fn time(&mut self, id: &str) -> Result<Taken, ReadError> {
        let mut taken = Taken::default();
        self.each(id, |rows, row| {
            if rows.carried[row] {
                taken.opening = Some(rows.opening(row)?.1);
            } else if let (at, Some(counted)) = rows.counts(row)? {
                taken.counted.push((rows.seq(row)?, at, counted));
            }
            Ok(())
        })?;
        Ok(taken)
    }

    /// The facts of an instance. Ids must be asked for in ascending order.
    pub(in super::super) fn records(&mut self, id: &str) -> Result<Vec<FactRecord>, ReadError> {
        let mut records = Vec::new();
        self.each(id, |rows, row| {
            if !rows.carried[row] {
                records.push(rows.record(row)?);
            }
            Ok(())
        })?;
        Ok(records)
    }

    /// Calls `each` for every row of an instance, whose id is greater than those asked for before:
    /// rows are sorted by tenant and id, and one pass serves all ids.
    fn each(
        &mut self,
        id: &str,
        mut each: impl FnMut(&Rows, usize) -> Result<(), Flaw>,
    ) -> Result<(), ReadError> {
        loop {
            if self.row == self.rows.len() && !self.next_group()? {
                return Ok(());
            }
            let found = self.key().map(|key| key.cmp(&(self.tenant.as_str(), Some(id))));
            match found.map_err(|flaw| self.wrong(flaw))? {
                Ordering::Greater => return Ok(()),
                Ordering::Equal => {
                    each(&self.rows, self.row).map_err(|flaw| self.wrong(flaw))?;
                }
                Ordering::Less => {}
            }
            self.row += 1;
        }
    }

    fn key(&self) -> Result<(&str, Option<&str>), Flaw> {
        let tenant = self.rows.text(Text::Tenant, self.row)?;
        Ok((tenant, self.rows.text_or_none(Text::Instance, self.row)?))
    }

    /// Reads the next group that may have rows of the tenant; answers whether there is one.
    fn next_group(&mut self) -> Result<bool, ReadError> {
        while self.group < self.reader.groups() {
            let group = self.group;
            self.group += 1;
            if self.reader.may_have(group, &self.tenant) {
                let rows = self.reader.rows(group, &self.columns);
                self.rows = rows.map_err(|error| {
                    self.wrong(Flaw::Malformed(format!("row group {group}: {error}")))
                })?;
                self.row = 0;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn wrong(&self, flaw: Flaw) -> ReadError {
        let fact = self.rows.seq(self.row).ok();
        ReadError::Damaged(damage(&self.segment, fact, flaw))
    }
}
