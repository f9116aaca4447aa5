//! The biller in the engine: the host's own component, identified by digest like a policy, with
//! bounds of its own.
//!
//! Each bill runs in one instance. Its columns go in and its lines come out in batches, so that
//! neither side holds them twice.

mod bindings;
mod fingerprint;
mod handed;
mod typed;

use std::sync::Arc;

use biller::handed::Handed;
use biller::input::{Column, Header, Intervals, OwnLine, Subject};
use biller::output::{Bill, Line};
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre};

use super::budget::Budget;
use super::engine::{Limiter, Runtime};
use super::fault::Fault;
use super::profile::{Bounds, Profile};
use crate::id::Digest;
use crate::limits::biller as limits;

use bindings::exports::tallyman::biller::billing::{
    self, BillingError, Guest, IntervalColumns, LineColumns, SubjectColumns,
};
use bindings::exports::tallyman::biller::bills;
use fingerprint::Fingerprint;
use handed::Opened;

/// The biller that is built into this program.
pub const COMPONENT: &[u8] = include_bytes!(env!("TALLYMAN_BILLER"));

const BOUNDS: Bounds = Bounds {
    memory_bytes_max: limits::MEMORY_BYTES_MAX,
    core_instances_max: 4,
    tables_max: 4,
    ..Profile::large()
};

/// An error of making a bill.
#[derive(Debug, thiserror::Error)]
pub enum BillerError {
    /// The call failed: a bug of the biller, or bounds that are too small.
    #[error("the biller gave no answer")]
    Fault(#[source] Fault),
    /// The rules of the period, or a policy's own lines, can't be billed.
    #[error("the period can't be billed: {reason}")]
    Refused {
        /// Reason of the biller.
        reason: String,
    },
    /// The input or the answer can't be encoded or decoded: a bug.
    #[error("the input or answer of the biller is malformed: {reason}")]
    Malformed {
        /// Problem with the text.
        reason: String,
    },
}

/// A bill, with the hashes that prove it.
#[derive(Debug)]
pub struct Billed {
    /// The bill.
    pub bill: Bill,
    /// Fuel that the bill burned.
    pub fuel: u64,
    /// SHA-256 of the input.
    pub input: Digest,
    /// SHA-256 of the output.
    pub output: Digest,
}

/// A compiled biller.
pub struct Biller {
    digest: Digest,
    runtime: Arc<Runtime>,
    instance: InstancePre<Limiter>,
    guest: billing::GuestIndices,
    /// None of a biller that has the header and the bill as texts, with stretches in them.
    bills: Option<bills::GuestIndices>,
}

impl std::fmt::Debug for Biller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Biller").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Biller {
    /// The biller of a compiled component.
    pub(super) fn new(
        digest: Digest,
        runtime: Arc<Runtime>,
        component: &Component,
    ) -> wasmtime::Result<Self> {
        let instance = runtime.prepare(component)?;
        let guest = billing::GuestIndices::new(&instance)?;
        let bills = bills::GuestIndices::new(&instance).ok();
        Ok(Self { digest, runtime, instance, guest, bills })
    }

    /// Returns the SHA-256 of its component.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Makes a bill. Blocking.
    ///
    /// # Errors
    /// [`BillerError`].
    pub fn bill(
        &self,
        header: &Header,
        subjects: &[Subject],
        intervals: &Intervals,
        own: &[OwnLine],
    ) -> Result<Billed, BillerError> {
        let json = |error: serde_json::Error| BillerError::Malformed { reason: error.to_string() };
        let opened = self.bills.as_ref().map(|_| Opened::of(header, subjects));
        let stated = opened.as_ref().map_or(header, |opened| &opened.header);
        let header_text = serde_json::to_string(stated).map_err(json)?;
        let own_text = serde_json::to_string(own).map_err(json)?;
        let texts = (header_text.as_str(), own_text.as_str());
        let opening = opened.as_ref().map(|opened| &opened.opening);
        let input = Fingerprint::of_input(texts, subjects, intervals, opening);
        let asking = Asking { texts, subjects, intervals, opened: opened.as_ref() };
        let budget = asking.budget(header);
        let answer =
            self.runtime.call_within(&BOUNDS, &self.instance, budget, |store, instance| {
                let guest = self.guest.load(&mut *store, instance)?;
                let bills = self.bills.as_ref();
                let bills = bills.map(|indices| indices.load(&mut *store, instance)).transpose()?;
                asking.ask(&guest, bills.as_ref(), store)
            });
        let answer = answer.map_err(BillerError::Fault)?;
        let made = answer.value.map_err(BillerError::from)?;
        let (mut bill, text) = made.bill.read()?;
        bill.lines = made.lines;
        let handed = opened.as_ref().map(|_| made.handed.as_slice());
        let output = Fingerprint::of_output(&text, &bill.lines, handed);
        if let Some(opened) = &opened {
            let reason = || "a stretch of no instance or of no meter".into();
            let closing = opened.closing(&made.handed, subjects);
            bill.closing.stretches =
                closing.ok_or_else(|| BillerError::Malformed { reason: reason() })?;
        }
        Ok(Billed { bill, fuel: answer.fuel, input, output })
    }
}

/// A bill as the component gives it.
struct Made {
    bill: Stated,
    lines: Vec<Line>,
    /// Stretches; none of a biller that has them in texts.
    handed: Vec<Handed>,
}

/// A bill but for its columns.
enum Stated {
    Text(String),
    Typed(Box<bills::Bill>),
}

impl Stated {
    /// The bill, and its text.
    fn read(self) -> Result<(Bill, String), BillerError> {
        let json = |error: serde_json::Error| BillerError::Malformed { reason: error.to_string() };
        match self {
            Self::Text(text) => Ok((serde_json::from_str(&text).map_err(json)?, text)),
            Self::Typed(bill) => {
                let reason = || "a tariff of no rule".into();
                let bill = typed::bill(*bill);
                let bill = bill.ok_or_else(|| BillerError::Malformed { reason: reason() })?;
                let text = serde_json::to_string(&bill).map_err(json)?;
                Ok((bill, text))
            }
        }
    }
}

/// The input of a bill's calls.
struct Asking<'a> {
    /// The header and the own lines.
    texts: (&'a str, &'a str),
    subjects: &'a [Subject],
    intervals: &'a Intervals,
    opened: Option<&'a Opened>,
}

type Asked<T> = wasmtime::Result<Result<T, BillingError>>;

/// The value of a call, whose inner error ends the calls as the outer one does.
macro_rules! told {
    ($call:expr) => {
        match $call? {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        }
    };
}

impl Asking<'_> {
    /// The budget of a bill, which grows with the size of its input.
    fn budget(&self, header: &Header) -> Budget {
        let ids = self.subjects.iter().map(|subject| subject.id.len());
        let stretches = self.opened.map_or(0, |opened| opened.opening.stretches.len());
        let text = self.texts.0.len().saturating_add(self.texts.1.len());
        let bytes = text
            .saturating_add(ids.sum())
            .saturating_add(stretches.saturating_mul(size_of::<Handed>()));
        let intervals = self.intervals.subject.len() as u64;
        let work = intervals.saturating_mul(1 + header.meters.len() as u64);
        let fuel = limits::FUEL_BASE
            .saturating_add((bytes as u64).saturating_mul(limits::FUEL_PER_BYTE))
            .saturating_add(work.saturating_mul(limits::FUEL_PER_INTERVAL_AND_METER));
        Budget { fuel, answer_bytes: limits::ANSWER_BYTES_MAX, ticks: limits::DEADLINE_TICKS }
    }

    /// Makes all calls of one bill; the outer error is the engine's, the inner one the biller's.
    fn ask(
        &self,
        guest: &Guest,
        bills: Option<&bills::Guest>,
        store: &mut Store<Limiter>,
    ) -> Asked<Made> {
        let (header, own) = self.texts;
        let intervals = self.intervals;
        let typed = bills.zip(self.opened);
        match typed {
            Some((bills, opened)) => {
                told!(bills.call_open(&mut *store, &typed::header(&opened.header)));
            }
            None => told!(guest.call_begin(&mut *store, header)),
        }
        for subjects in self.subjects.chunks(limits::BATCH_INTERVALS) {
            told!(guest.call_add_subjects(&mut *store, &subject_columns(subjects)));
        }
        let count = intervals.subject.len();
        for start in (0..count).step_by(limits::BATCH_INTERVALS) {
            let end = count.min(start + limits::BATCH_INTERVALS);
            told!(guest.call_add_intervals(&mut *store, &interval_columns(intervals, start, end)));
        }
        if own != "[]" {
            told!(guest.call_add_own_lines(&mut *store, own));
        }
        let Some((bills, opened)) = typed else {
            let bill = Stated::Text(told!(guest.call_finish(&mut *store)));
            let lines = told!(lines(guest, store));
            return Ok(Ok(Made { bill, lines, handed: Vec::new() }));
        };
        for columns in opened.columns() {
            told!(bills.call_add_stretches(&mut *store, &columns));
        }
        let bill = Stated::Typed(Box::new(told!(bills.call_make(&mut *store))));
        let lines = told!(lines(guest, store));
        let handed = told!(handed(bills, store));
        Ok(Ok(Made { bill, lines, handed }))
    }
}

/// Takes all lines of a bill.
fn lines(guest: &Guest, store: &mut Store<Limiter>) -> Asked<Vec<Line>> {
    let mut lines = Vec::new();
    loop {
        let columns = told!(guest.call_take_lines(&mut *store, limits::BATCH_LINES));
        if columns.tariff.is_empty() {
            return Ok(Ok(lines));
        }
        match read_lines(&columns) {
            Some(more) => lines.extend(more),
            None => return Ok(Err(BillingError::Malformed("columns of unequal lengths".into()))),
        }
    }
}

/// Takes all stretches of a bill.
fn handed(guest: &bills::Guest, store: &mut Store<Limiter>) -> Asked<Vec<Handed>> {
    let mut all = Vec::new();
    loop {
        let columns = told!(guest.call_take_stretches(&mut *store, limits::BATCH_LINES));
        if columns.instance.is_empty() {
            return Ok(Ok(all));
        }
        match handed::read(&columns) {
            Some(more) => all.extend(more),
            None => return Ok(Err(BillingError::Malformed("columns of stretches".into()))),
        }
    }
}

impl From<BillingError> for BillerError {
    fn from(error: BillingError) -> Self {
        match error {
            BillingError::OutOfOrder(why) => {
                Self::Malformed { reason: format!("out of order: {why}") }
            }
            BillingError::Malformed(reason) => Self::Malformed { reason },
            BillingError::Refused(reason) => Self::Refused { reason },
        }
    }
}

fn subject_columns(subjects: &[Subject]) -> SubjectColumns {
    SubjectColumns {
        id: subjects.iter().map(|subject| subject.id.clone()).collect(),
        first_fact: subjects.iter().map(|subject| subject.first_fact).collect(),
        ended: subjects.iter().map(|subject| subject.ended.into()).collect(),
    }
}

/// Returns a part of the columns. A column that is too short is cut, for the biller to refuse.
fn interval_columns(intervals: &Intervals, start: usize, end: usize) -> IntervalColumns {
    fn part<T: Clone>(values: &[T], start: usize, end: usize) -> Vec<T> {
        values.get(start..end.min(values.len())).unwrap_or_default().to_vec()
    }
    let named = |columns: &[Column]| {
        let columns = columns.iter().map(|column| billing::Column {
            name: column.name.clone(),
            values: part(&column.values, start, end),
        });
        columns.collect()
    };
    IntervalColumns {
        subject: part(&intervals.subject, start, end),
        start: part(&intervals.start, start, end),
        end: part(&intervals.end, start, end),
        session: part(&intervals.session, start, end),
        wakes: part(&intervals.wakes, start, end),
        meters: part(&intervals.meters, start, end),
        fact: part(&intervals.fact, start, end),
        dimensions: named(&intervals.dimensions),
        counts: named(&intervals.counts),
    }
}

/// Reads lines from columns; none if the lengths of the columns differ.
fn read_lines(columns: &LineColumns) -> Option<Vec<Line>> {
    let wide = |low: u64, high: u64| u128::from(high) << 64 | u128::from(low);
    let line = |number: usize| {
        let subject = *columns.subject.get(number)?;
        let facts = (*columns.first_fact.get(number)?, *columns.last_fact.get(number)?);
        let amount_high = columns.amount_high.get(number)?.cast_unsigned();
        Some(Line {
            tariff: *columns.tariff.get(number)?,
            subject: (subject != u32::MAX).then_some(subject),
            quantity: wide(*columns.quantity_low.get(number)?, *columns.quantity_high.get(number)?),
            billed: wide(*columns.billed_low.get(number)?, *columns.billed_high.get(number)?),
            amount: wide(*columns.amount_low.get(number)?, amount_high).cast_signed(),
            from: *columns.start.get(number)?,
            until: *columns.end.get(number)?,
            facts: (facts.0 <= facts.1).then_some(facts),
        })
    };
    (0..columns.tariff.len()).map(line).collect()
}

#[cfg(test)]
mod tests;
