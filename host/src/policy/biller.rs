//! The biller in the engine: the host's own component, identified by digest like a policy, with
//! bounds of its own.
//!
//! Each bill runs in one instance. Its columns go in and its lines come out in batches, so that
//! neither side holds them twice.

use std::sync::Arc;

use biller::input::{Column, Header, Intervals, OwnLine, Subject};
use biller::output::{Bill, Line};
use sha2::{Digest as _, Sha256};
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre};

use super::budget::Budget;
use super::engine::{Limiter, Runtime};
use super::fault::Fault;
use super::profile::{Bounds, Profile};
use crate::id::Digest;
use crate::limits::biller as limits;

/// The bindings of `wit/biller/`.
#[allow(missing_docs, unreachable_pub)]
mod bindings {
    wasmtime::component::bindgen!({ path: "../wit/biller", world: "biller" });
}

use bindings::exports::tallyman::biller::billing::{
    self, BillingError, Guest, IntervalColumns, LineColumns, SubjectColumns,
};

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
    /// The input can't be billed.
    #[error("the biller refused its input: {reason}")]
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
        Ok(Self { digest, runtime, instance, guest })
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
        let header_text = serde_json::to_string(header).map_err(json)?;
        let own_text = serde_json::to_string(own).map_err(json)?;
        let input = Fingerprint::of_input(&header_text, subjects, intervals, &own_text);
        let budget = budget(header, subjects, intervals, header_text.len() + own_text.len());
        let answer =
            self.runtime.call_within(&BOUNDS, &self.instance, budget, |store, instance| {
                let guest = self.guest.load(&mut *store, instance)?;
                ask(&guest, store, &header_text, subjects, intervals, &own_text)
            });
        let answer = answer.map_err(BillerError::Fault)?;
        let (text, lines) =
            answer.value.map_err(|error| BillerError::Refused { reason: error.in_words() })?;
        let mut bill: Bill = serde_json::from_str(&text).map_err(json)?;
        bill.lines = lines;
        let output = Fingerprint::of_output(&text, &bill.lines);
        Ok(Billed { bill, fuel: answer.fuel, input, output })
    }
}

/// The budget of a bill, which grows with the size of its input.
fn budget(
    header: &Header,
    subjects: &[Subject],
    intervals: &Intervals,
    text_bytes: usize,
) -> Budget {
    let id_bytes: usize = subjects.iter().map(|subject| subject.id.len()).sum();
    let bytes = text_bytes.saturating_add(id_bytes) as u64;
    let work = (intervals.subject.len() as u64).saturating_mul(1 + header.meters.len() as u64);
    let fuel = limits::FUEL_BASE
        .saturating_add(bytes.saturating_mul(limits::FUEL_PER_BYTE))
        .saturating_add(work.saturating_mul(limits::FUEL_PER_INTERVAL_AND_METER));
    Budget { fuel, answer_bytes: limits::ANSWER_BYTES_MAX, ticks: limits::DEADLINE_TICKS }
}

type Asked = wasmtime::Result<Result<(String, Vec<Line>), BillingError>>;

/// Makes all calls of one bill; the outer error is the engine's, the inner one the biller's.
fn ask(
    guest: &Guest,
    store: &mut Store<Limiter>,
    header: &str,
    subjects: &[Subject],
    intervals: &Intervals,
    own: &str,
) -> Asked {
    // The inner error ends the calls, too.
    macro_rules! told {
        ($call:expr) => {
            match $call? {
                Ok(value) => value,
                Err(error) => return Ok(Err(error)),
            }
        };
    }
    told!(guest.call_begin(&mut *store, header));
    for subjects in subjects.chunks(limits::BATCH_INTERVALS) {
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
    let text = told!(guest.call_finish(&mut *store));
    let mut lines = Vec::new();
    loop {
        let columns = told!(guest.call_take_lines(&mut *store, limits::BATCH_LINES));
        if columns.tariff.is_empty() {
            return Ok(Ok((text, lines)));
        }
        match read_lines(&columns) {
            Some(more) => lines.extend(more),
            None => return Ok(Err(BillingError::Malformed("columns of unequal lengths".into()))),
        }
    }
}

impl BillingError {
    fn in_words(self) -> String {
        match self {
            BillingError::OutOfOrder(why) => format!("out of order: {why}"),
            BillingError::Malformed(why) => format!("malformed: {why}"),
            BillingError::Refused(why) => why,
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

/// A SHA-256 over parts, each after its length in 8 bytes. Numbers are little-endian. A column is
/// one part, so that its division among calls changes nothing.
struct Fingerprint(Sha256);

impl Fingerprint {
    fn of_input(header: &str, subjects: &[Subject], intervals: &Intervals, own: &str) -> Digest {
        let mut all = Self(Sha256::new());
        all.part(header.as_bytes());
        for subject in subjects {
            all.part(subject.id.as_bytes());
            all.part(&subject.first_fact.to_le_bytes());
            all.part(&[subject.ended.into()]);
        }
        all.column(&intervals.subject, |value| value.to_le_bytes());
        all.column(&intervals.start, |value| value.to_le_bytes());
        all.column(&intervals.end, |value| value.to_le_bytes());
        all.column(&intervals.session, |value| value.to_le_bytes());
        all.column(&intervals.wakes, |value| value.to_le_bytes());
        all.column(&intervals.meters, |value| value.to_le_bytes());
        all.column(&intervals.fact, |value| value.to_le_bytes());
        for column in intervals.dimensions.iter().chain(&intervals.counts) {
            all.part(column.name.as_bytes());
            all.column(&column.values, |value| value.to_le_bytes());
        }
        all.part(own.as_bytes());
        all.digest()
    }

    fn of_output(bill: &str, lines: &[Line]) -> Digest {
        let mut all = Self(Sha256::new());
        all.part(bill.as_bytes());
        all.column(lines, |line| line.tariff.to_le_bytes());
        all.column(lines, |line| line.subject.unwrap_or(u32::MAX).to_le_bytes());
        all.column(lines, |line| line.quantity.to_le_bytes());
        all.column(lines, |line| line.billed.to_le_bytes());
        all.column(lines, |line| line.amount.to_le_bytes());
        all.column(lines, |line| line.from.to_le_bytes());
        all.column(lines, |line| line.until.to_le_bytes());
        all.column(lines, |line| line.facts.map_or(1, |(first, _)| first).to_le_bytes());
        all.column(lines, |line| line.facts.map_or(0, |(_, last)| last).to_le_bytes());
        all.digest()
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn column<T, const BYTES: usize>(&mut self, values: &[T], bytes: impl Fn(&T) -> [u8; BYTES]) {
        self.0.update((values.len() as u64 * BYTES as u64).to_le_bytes());
        for chunk in values.chunks(1_024) {
            let bytes: Vec<u8> = chunk.iter().flat_map(&bytes).collect();
            self.0.update(bytes);
        }
    }

    fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests;
