//! Golden vectors: what every policy must do right before it is asked about real time.
//!
//! They do not say under which phase time counts, which is for the policy to decide. They ask for what must hold under every rule:
//! conservation, batches that answer what single calls answer, and the same answer and the same fuel when asked again.

use super::component::Policy;
use super::fault::{Fault, Refused};
use super::rating::{IntervalColumns, PriceBook, Request, Span, Subject};
use super::wire::Step;
use crate::billing::{Totals, Tracker};
use crate::units::Instant;
use crate::vm::Phase;

/// How a policy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTest {
    /// Vectors asked.
    pub vectors: usize,
    /// Most fuel that a single `enter` took.
    pub enter_fuel: u64,
    /// Most fuel that a single `snapshot` took.
    pub snapshot_fuel: u64,
    /// Fuel of all vectors in one `enter-all`.
    pub enter_all_fuel: u64,
    /// Fuel of all vectors in one `snapshot-all`.
    pub snapshot_all_fuel: u64,
}

/// What a policy did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelfTestError {
    /// It gave no answer, or none that could be believed.
    #[error("{function} of vector {vector}")]
    Fault {
        /// Which function.
        function: &'static str,
        /// Which vector; 0 in a batch.
        vector: usize,
        /// What happened.
        #[source]
        fault: Fault,
    },
    /// Its batched answer is not what its single call answers.
    #[error("{function} answers something else for item {item} than the single function does")]
    Differs {
        /// Which function.
        function: &'static str,
        /// Which item.
        item: usize,
    },
    /// It answers differently when it is asked again.
    #[error("asked again, it gave another answer or took other fuel")]
    Unsteady,
}

const AT: Instant = Instant(1_700_000_000_000_000_000);
const NANOS: i64 = 61_000_000_007;

/// From every phase and from none to every phase, with nothing, a nanosecond and a while in between.
fn vectors() -> Vec<Step> {
    let mut vectors = Vec::new();
    let current = std::iter::once(None).chain(Phase::ALL.map(Some));
    for (row, from) in current.enumerate() {
        for (column, to) in Phase::ALL.into_iter().enumerate() {
            let passed = [0, 1, NANOS][(row + column) % 3];
            let totals = Totals(std::array::from_fn(|ordinal| ((ordinal + row) as u64) << (column * 5)));
            vectors.push((Tracker { current: from, since: AT, totals }, to, Instant(AT.0 + passed)));
        }
    }
    vectors
}

struct Answers {
    report: SelfTest,
    entered: Vec<Tracker>,
    looked: Vec<Totals>,
}

/// Asks all vectors, twice.
pub(super) fn run(policy: &Policy) -> Result<SelfTest, SelfTestError> {
    let vectors = vectors();
    let first = ask(policy, &vectors)?;
    let again = ask(policy, &vectors)?;
    if (first.report, &first.entered, &first.looked) != (again.report, &again.entered, &again.looked) {
        return Err(SelfTestError::Unsteady);
    }
    rate_nothing(policy)?;
    Ok(first.report)
}

fn ask(policy: &Policy, vectors: &[Step]) -> Result<Answers, SelfTestError> {
    let failed = |function, vector| move |fault| SelfTestError::Fault { function, vector, fault };
    let mut report =
        SelfTest { vectors: vectors.len(), enter_fuel: 0, snapshot_fuel: 0, enter_all_fuel: 0, snapshot_all_fuel: 0 };
    let (mut entered, mut looked) = (Vec::new(), Vec::new());
    for (number, (before, to, at)) in vectors.iter().enumerate() {
        let after = policy.enter_metered(before, *to, *at).map_err(failed("enter", number))?;
        let totals = policy.snapshot_metered(before, AT_END).map_err(failed("snapshot", number))?;
        report.enter_fuel = report.enter_fuel.max(after.fuel);
        report.snapshot_fuel = report.snapshot_fuel.max(totals.fuel);
        entered.push(after.value);
        looked.push(totals.value);
    }
    let mut batch = Vec::new();
    report.enter_all_fuel = policy.enter_batch(vectors, &mut batch).map_err(failed("enter-all", 0))?;
    same("enter-all", &entered, &batch)?;
    let trackers: Vec<_> = vectors.iter().map(|vector| vector.0).collect();
    let mut batch = Vec::new();
    report.snapshot_all_fuel =
        policy.snapshot_batch(&trackers, AT_END, &mut batch).map_err(failed("snapshot-all", 0))?;
    same("snapshot-all", &looked, &batch)?;
    Ok(Answers { report, entered, looked })
}

const AT_END: Instant = Instant(AT.0 + NANOS);

fn same<T: PartialEq>(function: &'static str, single: &[T], batch: &[T]) -> Result<(), SelfTestError> {
    match single.iter().zip(batch).position(|(one, other)| one != other) {
        Some(item) => Err(SelfTestError::Differs { function, item }),
        None => Ok(()),
    }
}

/// A period with one interval and no price. To refuse it is an answer, too; a trap is none.
fn rate_nothing(policy: &Policy) -> Result<(), SelfTestError> {
    match policy.rate(&request()) {
        Ok(_) | Err(Fault::Refused(Refused::Rating(_) | Refused::Other(_))) => Ok(()),
        Err(fault) => Err(SelfTestError::Fault { function: "rate", vector: 0, fault }),
    }
}

pub(super) fn request() -> Request {
    Request {
        tenant: "self-test".into(),
        invoice: Span { start: AT.0, end: AT_END.0 },
        period: Span { start: AT.0, end: AT_END.0 },
        last: true,
        subjects: vec![Subject { id: "one".into(), name: "one".into(), tags: Vec::new() }],
        intervals: IntervalColumns {
            subject: vec![0],
            phase: vec![Phase::Running as u8],
            start: vec![AT.0],
            end: vec![AT_END.0],
            session: vec![1],
            fact: vec![1],
            dimensions: Vec::new(),
        },
        calendar: vec![super::rating::CalendarOffset { since: AT.0, offset: 0 }],
        zones: Vec::new(),
        book: PriceBook {
            digest: String::new(),
            currency: "EUR".into(),
            minor_digits: 2,
            line_digits: 9,
            rounding: "half-even".into(),
            prices: Vec::new(),
            adjustments: Vec::new(),
        },
        options: Vec::new(),
        carried: Vec::new(),
    }
}
