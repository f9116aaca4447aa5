//! The measurement of instances' time by policies, into the biller's intervals.

use std::collections::BTreeMap;

use biller::input::{Column, Intervals, OwnLine, Rounding, Stretch, Subject, Terms, TermsInForce};

use super::InvoiceError;
use super::calls::{Call, Calls};
use super::document::Named;
use super::rules::PolicySpan;
use super::usage::{INITIALIZING_MAX, Piece, Usage};
use crate::id::Digest;
use crate::limits::policy::{METERING_INTERVALS, METERS_MAX};
use crate::policy::metering::{
    Column as PolicyColumn, IntervalColumns, Measurement, MeterTerms, Request,
    Rounding as StatedRounding, Setting, Span, Stretch as StatedStretch, Subject as Asked,
};
use crate::units::Instant;
use crate::vm::{Phase, Shape, Traffic};

/// A dimension of a shape: the name in units, the name in columns of policies, the value.
type Dimension = (&'static str, &'static str, fn(&Shape) -> u64);

const DIMENSIONS: [Dimension; 4] = [
    ("vcpu", "vcpus", |shape| shape.vcpus as u64),
    ("memory-byte", "memory-bytes", |shape| shape.memory_bytes),
    ("disk-byte", "disk-bytes", |shape| shape.disk_bytes),
    ("snapshot-byte", "snapshot-bytes", |shape| shape.snapshot_bytes),
];

/// A count: its name, as a unit and as a column of policies, and the value.
type Count = (&'static str, fn(&Traffic) -> u64);

const COUNTS: [Count; 2] = [
    ("network-in-bytes", |traffic| traffic.in_bytes),
    ("network-out-bytes", |traffic| traffic.out_bytes),
];

/// The outcome of measuring a span.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) subjects: Vec<Subject>,
    pub(super) intervals: Intervals,
    /// The phase of each interval, for display.
    pub(super) phases: Vec<Phase>,
    pub(super) meters: Vec<String>,
    pub(super) terms: Vec<TermsInForce>,
    pub(super) own: Vec<OwnLine>,
    pub(super) calls: Vec<MeasureCall>,
}

/// The evidence of one call of a policy.
#[derive(Debug)]
pub(super) struct MeasureCall {
    pub(super) span: (Instant, Instant),
    pub(super) policy: Digest,
    pub(super) stands_in_for: Option<Digest>,
    pub(super) fuel: u64,
    pub(super) intervals: u64,
    pub(super) facts: Option<(u64, u64)>,
    pub(super) input: String,
    pub(super) output: String,
}

/// A measured piece: a row of the biller's columns.
struct Row {
    subject: u32,
    piece: Piece,
    meters: u64,
}

/// The collection of the policies' answers.
pub(super) struct Measuring<'a, C> {
    calls: &'a C,
    tenant: &'a str,
    spans: &'a [PolicySpan],
    measured: Measured,
    /// The terms that a policy stated for each span, by the global number of the meter.
    terms: Vec<Option<Vec<Option<Terms>>>>,
    numbers: BTreeMap<String, u32>,
}

impl<'a, C: Calls> Measuring<'a, C> {
    pub(super) fn new(calls: &'a C, tenant: &'a str, spans: &'a [PolicySpan]) -> Self {
        let measured = Measured { intervals: no_intervals(), ..Measured::default() };
        let terms = spans.iter().map(|_| None).collect();
        Self { calls, tenant, spans, measured, terms, numbers: BTreeMap::new() }
    }

    /// Asks the policies about these instances, with as many calls for each span as it needs.
    ///
    /// # Errors
    /// [`InvoiceError::Fault`], [`InvoiceError::Held`], [`InvoiceError::Policy`].
    pub(super) fn add(&mut self, usages: &[Usage], named: &[Named]) -> Result<(), InvoiceError> {
        let first =
            u32::try_from(self.measured.subjects.len()).map_err(|_| InvoiceError::Overflow)?;
        let mut rows = Vec::new();
        for place in 0..self.spans.len() {
            self.span(place, usages, named, first, &mut rows)?;
        }
        // Rows come span by span; the biller needs each instance's time together.
        rows.sort_by_key(|row| (row.subject, row.piece.start));
        rows.iter().for_each(|row| push(&mut self.measured.intervals, row));
        self.measured.phases.extend(rows.iter().map(|row| row.piece.phase));
        let subject = |usage: &Usage| Subject {
            id: usage.id.to_string(),
            first_fact: usage.first_fact,
            ended: usage.ended,
        };
        self.measured.subjects.extend(usages.iter().map(subject));
        Ok(())
    }

    /// Closes the collection.
    pub(super) fn finish(mut self) -> Measured {
        self.measured.meters = vec![String::new(); self.numbers.len()];
        for (name, number) in self.numbers {
            self.measured.meters[number as usize] = name;
        }
        let meters = self.measured.meters.len();
        for (span, terms) in self.spans.iter().zip(self.terms) {
            let mut terms = terms.unwrap_or_default();
            terms.resize(meters, None);
            self.measured.terms.push(TermsInForce { from: span.start.0, until: span.end.0, terms });
        }
        self.measured
    }

    fn span(
        &mut self,
        place: usize,
        usages: &[Usage],
        named: &[Named],
        first: u32,
        rows: &mut Vec<Row>,
    ) -> Result<(), InvoiceError> {
        let span = &self.spans[place];
        let mut asked = Question::default();
        for (usage, (named, number)) in usages.iter().zip(named.iter().zip(first..)) {
            let pieces: Vec<Piece> = usage.within(span.start, span.end).collect();
            if !asked.pieces.is_empty() && asked.pieces.len() + pieces.len() > METERING_INTERVALS {
                self.ask(place, &asked, rows)?;
                asked = Question::default();
            }
            if !pieces.is_empty() {
                asked.add(number, named, &pieces);
            }
        }
        // The terms of a span in which nothing was used are not needed.
        if asked.pieces.is_empty() { Ok(()) } else { self.ask(place, &asked, rows) }
    }

    fn ask(
        &mut self,
        place: usize,
        question: &Question,
        rows: &mut Vec<Row>,
    ) -> Result<(), InvoiceError> {
        let span = &self.spans[place];
        let start = span.start;
        let end = span.end;
        let policy = span.asked.ok_or(InvoiceError::Held {
            policy: span.in_force,
            from: start,
            until: end,
        })?;
        let request = question.request(self.tenant, span);
        let asked = self.calls.measure(policy, &request);
        let Call { value, fuel, input, output } = asked.map_err(|error| error.of(policy))?;
        let bits = self.learn(place, policy, &value)?;
        let facts = question.pieces.iter().map(|(_, piece)| piece.fact);
        self.measured.calls.push(MeasureCall {
            span: (start, end),
            policy,
            stands_in_for: Some(span.in_force).filter(|&in_force| in_force != policy),
            fuel,
            intervals: question.pieces.len() as u64,
            facts: facts.clone().min().zip(facts.max()),
            input,
            output,
        });
        for (&(subject, piece), &counted) in question.pieces.iter().zip(&value.counted) {
            rows.push(Row { subject, piece, meters: translate(counted, &bits) });
        }
        self.own_lines(question, &value);
        Ok(())
    }

    /// Takes the terms of an answer. Returns the global number of each of its meters.
    fn learn(
        &mut self,
        place: usize,
        policy: Digest,
        value: &Measurement,
    ) -> Result<Vec<u32>, InvoiceError> {
        let mut bits = Vec::with_capacity(value.terms.len());
        let mut by_number = vec![None; self.numbers.len()];
        for stated in &value.terms {
            let next = u32::try_from(self.numbers.len()).map_err(|_| InvoiceError::Overflow)?;
            let number = *self.numbers.entry(stated.name.clone()).or_insert(next);
            if number as usize >= METERS_MAX {
                return Err(InvoiceError::Meters);
            }
            by_number.resize(by_number.len().max(number as usize + 1), None);
            by_number[number as usize] = Some(terms(stated));
            bits.push(number);
        }
        match &self.terms[place] {
            None => self.terms[place] = Some(by_number),
            Some(before) if is_same(before, &by_number) => {}
            Some(_) => return Err(InvoiceError::Terms { policy }),
        }
        Ok(bits)
    }

    fn own_lines(&mut self, question: &Question, value: &Measurement) {
        for line in &value.lines {
            let last = line
                .intervals
                .last()
                .and_then(|range| question.pieces.get((range.end as usize).saturating_sub(1)));
            let subject =
                line.subject.and_then(|subject| question.numbers.get(subject as usize).copied());
            self.measured.own.push(OwnLine {
                rule: line.rule.clone(),
                meter: line.meter.clone(),
                subject,
                unit: line.unit.clone(),
                quantity: crate::policy::metering::unsigned(line.quantity),
                billed: crate::policy::metering::unsigned(line.billed),
                price_id: line.price_id.clone(),
                at: last.map_or(0, |(_, piece)| piece.end.0.saturating_sub(1)),
            });
        }
    }
}

/// A request that is being built.
#[derive(Default)]
struct Question {
    subjects: Vec<Asked>,
    /// The global number of each subject.
    numbers: Vec<u32>,
    /// The subject's global number, and the piece.
    pieces: Vec<(u32, Piece)>,
    /// The subject's number in this request, for each piece.
    local: Vec<u32>,
}

impl Question {
    fn add(&mut self, number: u32, named: &Named, pieces: &[Piece]) {
        let setting =
            |(name, value): &(String, String)| Setting { name: name.clone(), value: value.clone() };
        let tags = named.tags.iter().map(setting).collect();
        let local = self.subjects.len() as u32;
        self.subjects.push(Asked { id: named.id.clone(), name: named.name.clone(), tags });
        self.numbers.push(number);
        self.pieces.extend(pieces.iter().map(|&piece| (number, piece)));
        self.local.extend(pieces.iter().map(|_| local));
    }

    fn request(&self, tenant: &str, span: &PolicySpan) -> Request {
        let pieces = || self.pieces.iter().map(|(_, piece)| piece);
        let setting =
            |(name, value): &(String, String)| Setting { name: name.clone(), value: value.clone() };
        let column = |&(_, name, value): &Dimension| PolicyColumn {
            name: name.into(),
            values: pieces().map(|piece| value(&piece.shape)).collect(),
        };
        Request {
            tenant: tenant.into(),
            span: Span { start: span.start.0, end: span.end.0 },
            subjects: self.subjects.clone(),
            intervals: IntervalColumns {
                subject: self.local.clone(),
                phase: pieces().map(|piece| piece.phase as u8).collect(),
                start: pieces().map(|piece| piece.start.0).collect(),
                end: pieces().map(|piece| piece.end.0).collect(),
                session: pieces().map(|piece| piece.session).collect(),
                wakes: pieces().map(|piece| piece.wakes).collect(),
                fact: pieces().map(|piece| piece.fact).collect(),
                dimensions: DIMENSIONS.iter().map(column).collect(),
                counts: self.counts(),
            },
            options: span.options.iter().filter(|one| !is_of_host(one)).map(setting).collect(),
        }
    }
}

/// Returns whether an option is the host's own, which no policy knows.
fn is_of_host((name, _): &(String, String)) -> bool {
    name == INITIALIZING_MAX
}

impl Question {
    /// The columns of counts. Where nothing was counted there are none, as there were before
    /// anything could be.
    fn counts(&self) -> Vec<PolicyColumn> {
        if self.pieces.iter().all(|(_, piece)| piece.traffic == Traffic::NONE) {
            return Vec::new();
        }
        let values = |count: fn(&Traffic) -> u64| {
            self.pieces.iter().map(|(_, piece)| count(&piece.traffic)).collect()
        };
        let columns = COUNTS.iter();
        columns
            .map(|&(name, count)| PolicyColumn { name: name.into(), values: values(count) })
            .collect()
    }
}

fn no_intervals() -> Intervals {
    let column = |&(name, _, _): &Dimension| Column { name: name.into(), values: Vec::new() };
    Intervals { dimensions: DIMENSIONS.iter().map(column).collect(), ..Intervals::default() }
}

fn push(columns: &mut Intervals, row: &Row) {
    columns.subject.push(row.subject);
    columns.start.push(row.piece.start.0);
    columns.end.push(row.piece.end.0);
    columns.session.push(row.piece.session);
    columns.wakes.push(row.piece.wakes);
    columns.meters.push(row.meters);
    columns.fact.push(row.piece.fact);
    for (column, (_, _, value)) in columns.dimensions.iter_mut().zip(&DIMENSIONS) {
        column.values.push(value(&row.piece.shape));
    }
    push_counts(columns, row.piece.traffic);
}

/// Adds the counts of the interval that was added last. The first one that is not 0 makes the
/// columns.
fn push_counts(columns: &mut Intervals, traffic: Traffic) {
    let before = columns.end.len() - 1;
    if columns.counts.is_empty() && traffic != Traffic::NONE {
        let column = |&(name, _): &Count| Column { name: name.into(), values: vec![0; before] };
        columns.counts = COUNTS.iter().map(column).collect();
    }
    for (column, (_, value)) in columns.counts.iter_mut().zip(&COUNTS) {
        column.values.push(value(&traffic));
    }
}

/// Translates a mask over a policy's own meters into one over all meters.
fn translate(counted: u64, bits: &[u32]) -> u64 {
    let set = bits.iter().enumerate().filter(|(own, _)| counted & (1 << own) != 0);
    set.fold(0, |mask, (_, number)| mask | 1 << number)
}

/// Returns whether two lists of terms agree; missing entries at the end count as none.
fn is_same(one: &[Option<Terms>], other: &[Option<Terms>]) -> bool {
    let length = one.len().max(other.len());
    (0..length)
        .all(|number| one.get(number).copied().flatten() == other.get(number).copied().flatten())
}

/// The terms of a meter as the biller takes them.
fn terms(stated: &MeterTerms) -> Terms {
    Terms {
        stretch: match stated.stretch {
            StatedStretch::Start => Stretch::Start,
            StatedStretch::Wake => Stretch::Wake,
            StatedStretch::Visit => Stretch::Visit,
            StatedStretch::Life => Stretch::Life,
        },
        minimum_ns: stated.minimum,
        granularity_ns: stated.granularity,
        rounding: match stated.rounding {
            StatedRounding::HalfEven => Rounding::HalfEven,
            StatedRounding::HalfUp => Rounding::HalfUp,
            StatedRounding::Down => Rounding::Down,
            StatedRounding::Up => Rounding::Up,
        },
    }
}
