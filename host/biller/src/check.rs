//! Checks of the input, so that the code behind them need not handle malformed data.

use std::collections::HashSet;

use crate::error::BillError;
use crate::handed::Handed;
use crate::input::{FORM, Header, Intervals, Span, Subject};
use crate::limits;
use crate::stretches::Run;

type Checked = Result<(), BillError>;

/// Checks the header alone.
pub(crate) fn header(header: &Header) -> Checked {
    if header.form != FORM {
        let problem = format!("is of form {}; this biller takes form {FORM}", header.form);
        return Err(BillError::input("header", problem));
    }
    let period = header.period;
    let times = [period.start, header.first, header.until, header.last, period.end];
    if !times.is_sorted() || period.start >= period.end {
        let problem = "must have period.start <= first <= until <= last <= period.end";
        return Err(BillError::input("header", problem));
    }
    let since: Vec<_> = header.calendar.iter().map(|offset| offset.since).collect();
    ascending("calendar", &since)?;
    for zone in &header.zones {
        let since: Vec<_> = zone.transitions.iter().map(|&(since, _)| since).collect();
        ascending("zones", &since)?;
    }
    if header.marks.len() > limits::MARKS_MAX || !header.marks.is_sorted() {
        let max = limits::MARKS_MAX;
        return Err(BillError::input("marks", format!("must be at most {max}, ascending")));
    }
    books(header)?;
    terms(header)
}

fn ascending(place: &str, instants: &[i64]) -> Checked {
    let is_ascending = instants.is_sorted_by(|one, other| one < other);
    match is_ascending && !instants.is_empty() {
        true => Ok(()),
        false => Err(BillError::input(place, "must have one entry at least, ascending")),
    }
}

fn books(header: &Header) -> Checked {
    let follow = header.books.is_sorted_by(|one, other| one.until <= other.from);
    match follow && header.books.iter().all(|book| book.from < book.until) {
        true => Ok(()),
        false => Err(BillError::input("books", "must be ascending and not overlap, none empty")),
    }
}

fn terms(header: &Header) -> Checked {
    if header.meters.len() > limits::METERS_MAX {
        let max = limits::METERS_MAX;
        return Err(BillError::input("meters", format!("must be at most {max}")));
    }
    let wrong = |problem: &str| Err(BillError::input("terms", problem));
    if !header.terms.is_sorted_by(|one, other| one.until == other.from) {
        return wrong("must be ascending, without a gap");
    }
    let ends = header.terms.first().zip(header.terms.last());
    let covers =
        ends.is_some_and(|(first, last)| first.from <= header.first && header.until <= last.until);
    if header.first < header.until && !covers {
        return wrong("must cover the time from `first` to `until`");
    }
    for in_force in &header.terms {
        if in_force.terms.len() != header.meters.len() {
            return wrong("must have one entry for each meter");
        }
        if in_force.terms.iter().flatten().any(|terms| terms.granularity_ns == 0) {
            return wrong("must have a granularity of 1 ns or more");
        }
    }
    Ok(())
}

/// Refuses two subjects with one id: balances are handed on by id.
pub(crate) fn subjects(subjects: &[Subject]) -> Checked {
    if subjects.is_sorted_by(|one, other| one.id < other.id) {
        return Ok(());
    }
    let mut ids = HashSet::with_capacity(subjects.len());
    match subjects.iter().find(|subject| !ids.insert(subject.id.as_str())) {
        Some(twice) => {
            let problem = format!("must have one subject for each id; '{}' is two", twice.id);
            Err(BillError::input("subjects", problem))
        }
        None => Ok(()),
    }
}

/// Refuses stretches that are out of order, or two of one meter and instance.
pub(crate) fn opening(stretches: &[Handed]) -> Checked {
    let key = |one: &Handed| (one.meter, one.instance);
    match stretches.is_sorted_by(|one, other| key(one) < key(other)) {
        true => Ok(()),
        false => {
            let problem = "must be ascending by meter and instance, one at most for both";
            Err(BillError::input("opening", problem))
        }
    }
}

/// Checks the intervals, and returns the range of each subject that has some.
pub(crate) fn intervals(
    header: &Header,
    subjects: &[Subject],
    intervals: &Intervals,
) -> Result<Vec<Run>, BillError> {
    lengths(intervals)?;
    let unknown = match header.meters.len() {
        64 => 0,
        count => u64::MAX << count,
    };
    let mut runs: Vec<Run> = Vec::with_capacity(subjects.len());
    let mut last_subject = None;
    let mut last_end = i64::MIN;
    let span = Span { start: header.first, end: header.until };
    let count = intervals.subject.len();
    let starts = &intervals.start[..count];
    let ends = &intervals.end[..count];
    let masks = &intervals.meters[..count];
    for (number, &subject) in intervals.subject.iter().enumerate() {
        let start = starts[number];
        let end = ends[number];
        let meters = masks[number];
        let wrong = |problem: &str| BillError::input(format!("interval {number}"), problem);
        if (start >= end) | (start < span.start) | (end > span.end) {
            return Err(wrong("must begin before it ends, from `first` to `until`"));
        }
        if meters & unknown != 0 {
            return Err(wrong("has a bit that stands for no meter"));
        }
        if last_subject == Some(subject) {
            if last_end > start {
                return Err(wrong("overlaps the one before"));
            }
            last_end = end;
            continue;
        }
        if last_subject > Some(subject) {
            return Err(wrong("is out of order: intervals are sorted by subject"));
        }
        if subject as usize >= subjects.len() {
            return Err(wrong("is of a subject that was not given"));
        }
        if let Some(last) = runs.last_mut() {
            last.intervals.end = number;
        }
        runs.push(Run { subject, intervals: number..number, groups: 0..0 });
        last_subject = Some(subject);
        last_end = end;
    }
    if let Some(last) = runs.last_mut() {
        last.intervals.end = intervals.subject.len();
    }
    cuts(header, intervals)?;
    Ok(runs)
}

fn lengths(intervals: &Intervals) -> Checked {
    let count = intervals.subject.len();
    let columns = intervals.dimensions.iter().chain(&intervals.counts);
    let mut lengths = columns.map(|column| column.values.len()).chain([
        intervals.start.len(),
        intervals.end.len(),
        intervals.session.len(),
        intervals.wakes.len(),
        intervals.meters.len(),
        intervals.fact.len(),
    ]);
    match lengths.all(|length| length == count) && u32::try_from(count).is_ok() {
        true => Ok(()),
        false => Err(BillError::input("intervals", "must be columns of one length, below 2^32")),
    }
}

/// Refuses an interval that crosses a change of policies.
fn cuts(header: &Header, intervals: &Intervals) -> Checked {
    let changes: Vec<_> = header.terms.iter().skip(1).map(|terms| terms.from).collect();
    if changes.is_empty() {
        return Ok(());
    }
    for (number, (&start, &end)) in intervals.start.iter().zip(&intervals.end).enumerate() {
        let next = changes.partition_point(|&change| change <= start);
        if changes.get(next).is_some_and(|&change| change < end) {
            let problem = "must be cut where policies change";
            return Err(BillError::input(format!("interval {number}"), problem));
        }
    }
    Ok(())
}
