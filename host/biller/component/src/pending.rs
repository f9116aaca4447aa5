//! A bill from its header to its last line.

use biller::handed::{Handed, Opening};
use biller::input::{Column, Header, Intervals, OwnLine, Stretch, Subject};
use biller::output::Line;
use biller::{BillError, make};

use crate::bindings::exports::tallyman::biller::billing::{
    BillingError, Column as ColumnPart, IntervalColumns, LineColumns, SubjectColumns,
};
use crate::bindings::exports::tallyman::biller::bills;
use crate::typed;

/// Kinds of stretches, by their numbers in columns.
const KINDS: [Stretch; 4] = [Stretch::Start, Stretch::Wake, Stretch::Visit, Stretch::Life];

/// State of the component's instance.
pub(crate) enum Pending {
    /// `open` was not called yet.
    Idle,
    /// Input is added, until `make`.
    Gathering(Box<Gathering>),
    /// The bill is made, and its lines and stretches are taken.
    Made(Made),
    /// A call failed; there will be no bill.
    Failed,
}

pub(crate) struct Gathering {
    header: Header,
    subjects: Vec<Subject>,
    intervals: Intervals,
    own: Vec<OwnLine>,
    opening: Opening,
}

/// The parts of a bill that are columns.
pub(crate) struct Made {
    lines: Vec<Line>,
    lines_taken: usize,
    handed: Vec<Handed>,
    handed_taken: usize,
}

type Answer<T> = Result<T, BillingError>;

pub(crate) fn out_of_order(what: &str) -> BillingError {
    BillingError::OutOfOrder(what.into())
}

fn malformed(what: &str) -> BillingError {
    BillingError::Malformed(what.into())
}

impl Pending {
    pub(crate) fn open(&mut self, header: bills::Header) -> Answer<()> {
        if !matches!(self, Self::Idle) {
            return Err(out_of_order("open comes first, and once"));
        }
        let header = typed::header(header);
        let subjects = Vec::new();
        let intervals = Intervals::default();
        let own = Vec::new();
        let opening = Opening::default();
        let gathering = Gathering { header, subjects, intervals, own, opening };
        *self = Self::Gathering(Box::new(gathering));
        Ok(())
    }

    fn made(&mut self) -> Answer<&mut Made> {
        match self {
            Self::Made(made) => Ok(made),
            Self::Idle | Self::Gathering(_) | Self::Failed => Err(out_of_order("make comes first")),
        }
    }

    fn gathering(&mut self) -> Answer<&mut Gathering> {
        match self {
            Self::Gathering(gathering) => Ok(gathering),
            Self::Idle => Err(out_of_order("open comes first")),
            Self::Made(_) | Self::Failed => Err(out_of_order("make was called already")),
        }
    }

    pub(crate) fn add_subjects(&mut self, columns: SubjectColumns) -> Answer<()> {
        let gathering = self.gathering()?;
        let count = columns.id.len();
        if columns.first_fact.len() != count || columns.ended.len() != count {
            return Err(malformed("columns of subjects have one length"));
        }
        let rest = columns.first_fact.into_iter().zip(columns.ended);
        let subjects = columns.id.into_iter().zip(rest);
        gathering.subjects.extend(subjects.map(|(id, (first_fact, ended))| Subject {
            id,
            first_fact,
            ended: ended != 0,
        }));
        Ok(())
    }

    pub(crate) fn add_intervals(&mut self, columns: IntervalColumns) -> Answer<()> {
        let intervals = &mut self.gathering()?.intervals;
        join(&mut intervals.dimensions, columns.dimensions, intervals.subject.len())?;
        join(&mut intervals.counts, columns.counts, intervals.subject.len())?;
        // The biller itself refuses columns of unequal lengths.
        append(&mut intervals.subject, columns.subject);
        append(&mut intervals.start, columns.start);
        append(&mut intervals.end, columns.end);
        append(&mut intervals.session, columns.session);
        append(&mut intervals.wakes, columns.wakes);
        append(&mut intervals.meters, columns.meters);
        append(&mut intervals.fact, columns.fact);
        Ok(())
    }

    pub(crate) fn add_own_lines(&mut self, lines: &str) -> Answer<()> {
        let gathering = self.gathering()?;
        let lines: Result<Vec<OwnLine>, _> = serde_json::from_str(lines);
        let lines = lines.map_err(|error| malformed(&format!("own lines: {error}")))?;
        append(&mut gathering.own, lines);
        Ok(())
    }

    pub(crate) fn add_stretches(&mut self, columns: &bills::StretchColumns) -> Answer<()> {
        let opening = &mut self.gathering()?.opening.stretches;
        opening.reserve(columns.instance.len());
        for number in 0..columns.instance.len() {
            let stretch = stretch(columns, number);
            opening.push(stretch.ok_or_else(|| malformed("columns of stretches"))?);
        }
        Ok(())
    }

    pub(crate) fn make(&mut self) -> Answer<bills::Bill> {
        let made = self.gathering()?.make();
        let (bill, made) = made.inspect_err(|_| *self = Self::Failed)?;
        *self = Self::Made(made);
        Ok(bill)
    }

    pub(crate) fn take_lines(&mut self, most: u32) -> Answer<LineColumns> {
        let made = self.made()?;
        Ok(line_columns(next(&made.lines, &mut made.lines_taken, most)))
    }

    pub(crate) fn take_stretches(&mut self, most: u32) -> Answer<bills::StretchColumns> {
        let made = self.made()?;
        Ok(stretch_columns(next(&made.handed, &mut made.handed_taken, most)))
    }
}

/// The next values, `most` of them or what is left.
fn next<'a, T>(all: &'a [T], taken: &mut usize, most: u32) -> &'a [T] {
    let rest = &all[*taken..];
    let these = &rest[..rest.len().min(most as usize)];
    *taken += these.len();
    these
}

impl Gathering {
    fn make(&self) -> Answer<(bills::Bill, Made)> {
        let Self { header, subjects, intervals, own, opening } = self;
        let made = make(header, subjects, intervals, own, opening);
        let (mut bill, handed) = made.map_err(|error| match &error {
            // The host's mistake, whereas the others are those of policies and books.
            BillError::Input { .. } => BillingError::Malformed(in_words(&error)),
            _ => BillingError::Refused(in_words(&error)),
        })?;
        let lines = std::mem::take(&mut bill.lines);
        Ok((typed::bill(bill), Made { lines, lines_taken: 0, handed, handed_taken: 0 }))
    }
}

/// An error's message, followed by those of its sources.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn append<T>(into: &mut Vec<T>, mut more: Vec<T>) {
    if into.is_empty() { *into = more } else { into.append(&mut more) }
}

/// Appends named columns to those of the calls before, of which there were `count` values.
fn join(into: &mut Vec<Column>, parts: Vec<ColumnPart>, count: usize) -> Answer<()> {
    if count == 0 && into.is_empty() {
        let columns = parts.into_iter().map(|part| Column { name: part.name, values: part.values });
        into.extend(columns);
        return Ok(());
    }
    let names = into.iter().map(|column| &column.name);
    if !names.eq(parts.iter().map(|part| &part.name)) {
        return Err(malformed("all calls have the same dimensions and counts, in one order"));
    }
    for (column, part) in into.iter_mut().zip(parts) {
        append(&mut column.values, part.values);
    }
    Ok(())
}

fn line_columns(lines: &[Line]) -> LineColumns {
    LineColumns {
        tariff: lines.iter().map(|line| line.tariff).collect(),
        subject: lines.iter().map(|line| line.subject.unwrap_or(u32::MAX)).collect(),
        quantity_low: lines.iter().map(|line| line.quantity as u64).collect(),
        quantity_high: lines.iter().map(|line| (line.quantity >> 64) as u64).collect(),
        billed_low: lines.iter().map(|line| line.billed as u64).collect(),
        billed_high: lines.iter().map(|line| (line.billed >> 64) as u64).collect(),
        amount_low: lines.iter().map(|line| line.amount as u64).collect(),
        amount_high: lines.iter().map(|line| (line.amount >> 64) as i64).collect(),
        start: lines.iter().map(|line| line.from).collect(),
        end: lines.iter().map(|line| line.until).collect(),
        first_fact: lines.iter().map(|line| line.facts.map_or(1, |(first, _)| first)).collect(),
        last_fact: lines.iter().map(|line| line.facts.map_or(0, |(_, last)| last)).collect(),
    }
}

fn stretch_columns(handed: &[Handed]) -> bills::StretchColumns {
    bills::StretchColumns {
        instance: handed.iter().map(|one| one.instance).collect(),
        meter: handed.iter().map(|one| one.meter).collect(),
        kind: handed.iter().map(|one| one.stretch as u8).collect(),
        session: handed.iter().map(|one| one.session).collect(),
        wakes: handed.iter().map(|one| one.wakes).collect(),
        last: handed.iter().map(|one| one.last).collect(),
        used_ns: handed.iter().map(|one| one.used_ns).collect(),
        owed_ns: handed.iter().map(|one| one.owed_ns).collect(),
    }
}

/// The stretch at a place of columns; none if a column is too short or a kind unknown.
fn stretch(columns: &bills::StretchColumns, number: usize) -> Option<Handed> {
    Some(Handed {
        meter: *columns.meter.get(number)?,
        instance: *columns.instance.get(number)?,
        stretch: *KINDS.get(usize::from(*columns.kind.get(number)?))?,
        session: *columns.session.get(number)?,
        wakes: *columns.wakes.get(number)?,
        last: *columns.last.get(number)?,
        used_ns: *columns.used_ns.get(number)?,
        owed_ns: *columns.owed_ns.get(number)?,
    })
}
