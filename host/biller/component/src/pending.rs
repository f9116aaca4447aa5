//! A bill from its header to its last line.

use std::vec::IntoIter;

use biller::bill;
use biller::input::{Column, Header, Intervals, OwnLine, Subject};
use biller::output::Line;

use crate::bindings::exports::tallyman::biller::billing::{
    BillingError, Column as ColumnPart, IntervalColumns, LineColumns, SubjectColumns,
};

/// State of the component's instance.
pub(crate) enum Pending {
    /// `begin` was not called yet.
    Idle,
    /// Input is added, until `finish`.
    Gathering(Box<Gathering>),
    /// The bill is made, and its lines are taken.
    Made(IntoIter<Line>),
    /// A call failed; there will be no bill.
    Failed,
}

pub(crate) struct Gathering {
    header: Header,
    subjects: Vec<Subject>,
    intervals: Intervals,
    own: Vec<OwnLine>,
}

type Answer<T> = Result<T, BillingError>;

fn out_of_order(what: &str) -> BillingError {
    BillingError::OutOfOrder(what.into())
}

fn malformed(what: &str) -> BillingError {
    BillingError::Malformed(what.into())
}

impl Pending {
    pub(crate) fn begin(&mut self, header: &str) -> Answer<()> {
        if !matches!(self, Self::Idle) {
            return Err(out_of_order("begin comes first, and once"));
        }
        let header = serde_json::from_str(header);
        let header = header.map_err(|error| malformed(&format!("the header: {error}")))?;
        let subjects = Vec::new();
        let intervals = Intervals::default();
        let own = Vec::new();
        *self = Self::Gathering(Box::new(Gathering { header, subjects, intervals, own }));
        Ok(())
    }

    fn gathering(&mut self) -> Answer<&mut Gathering> {
        match self {
            Self::Gathering(gathering) => Ok(gathering),
            Self::Idle => Err(out_of_order("begin comes first")),
            Self::Made(_) | Self::Failed => Err(out_of_order("finish was called already")),
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

    pub(crate) fn finish(&mut self) -> Answer<String> {
        let made = self.gathering()?.finish();
        let (text, lines) = made.inspect_err(|_| *self = Self::Failed)?;
        *self = Self::Made(lines.into_iter());
        Ok(text)
    }

    pub(crate) fn take_lines(&mut self, most: u32) -> Answer<LineColumns> {
        match self {
            Self::Made(lines) => Ok(columns(lines, most)),
            Self::Idle | Self::Gathering(_) | Self::Failed => {
                Err(out_of_order("finish comes first"))
            }
        }
    }
}

impl Gathering {
    fn finish(&self) -> Answer<(String, Vec<Line>)> {
        let bill = bill(&self.header, &self.subjects, &self.intervals, &self.own);
        let mut bill = bill.map_err(|error| BillingError::Refused(in_words(&error)))?;
        let lines = std::mem::take(&mut bill.lines);
        let text = bill.into_text();
        let text = text.map_err(|error| malformed(&format!("the bill: {error}")))?;
        Ok((text, lines))
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

fn columns(lines: &mut IntoIter<Line>, most: u32) -> LineColumns {
    let lines: Vec<_> = lines.take(most as usize).collect();
    let column = |value: fn(&Line) -> u64| lines.iter().map(value).collect::<Vec<u64>>();
    LineColumns {
        tariff: lines.iter().map(|line| line.tariff).collect(),
        subject: lines.iter().map(|line| line.subject.unwrap_or(u32::MAX)).collect(),
        quantity_low: column(|line| line.quantity as u64),
        quantity_high: column(|line| (line.quantity >> 64) as u64),
        billed_low: column(|line| line.billed as u64),
        billed_high: column(|line| (line.billed >> 64) as u64),
        amount_low: column(|line| line.amount as u64),
        amount_high: lines.iter().map(|line| (line.amount >> 64) as i64).collect(),
        start: lines.iter().map(|line| line.from).collect(),
        end: lines.iter().map(|line| line.until).collect(),
        first_fact: column(|line| line.facts.map_or(1, |(first, _)| first)),
        last_fact: column(|line| line.facts.map_or(0, |(_, last)| last)),
    }
}
