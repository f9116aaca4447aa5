//! The self-test: golden vectors that every policy must pass before it is admitted.
//!
//! They do not check under which phase time counts, which the policy decides. They check what must
//! hold for any policy: conservation, batches that answer what single calls answer, and the same
//! answer with the same fuel from a repeated call. Requests to measure include empty ones, negative
//! instants, and numbers that languages with fewer bits get wrong.

use super::component::Policy;
use super::fault::Fault;
use super::metering::{Column, IntervalColumns, Request, Setting, Span, Subject};
use super::wire::Step;
use crate::billing::{Totals, Tracker};
use crate::units::Instant;
use crate::vm::Phase;

/// The outcome of a self-test that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTest {
    /// Number of vectors.
    pub vectors: usize,
    /// Most fuel that a single `enter` burned.
    pub enter_fuel: u64,
    /// Most fuel that a single `snapshot` burned.
    pub snapshot_fuel: u64,
    /// Fuel of all vectors in one `enter-all`.
    pub enter_all_fuel: u64,
    /// Fuel of all vectors in one `snapshot-all`.
    pub snapshot_all_fuel: u64,
}

/// A reason to fail a self-test.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelfTestError {
    /// A call failed, or its answer broke the contract.
    #[error("{function} failed on vector {vector}")]
    Fault {
        /// Name of the function in the contract.
        function: &'static str,
        /// Index of the vector; 0 in a batch.
        vector: usize,
        /// The fault.
        #[source]
        fault: Box<Fault>,
    },
    /// A batch answers other than single calls.
    #[error("{function} answers other than single calls for item {item}")]
    Differs {
        /// Name of the batched function in the contract.
        function: &'static str,
        /// Index of the first item that differs.
        item: usize,
    },
    /// A repeated call gave another answer or burned other fuel.
    #[error("a repeated call gave another answer or burned other fuel")]
    Unsteady,
    /// The terms depend on the request.
    #[error(
        "measure answers other terms for vector {vector} than for vector 0: terms may depend on \
         the options only"
    )]
    Terms {
        /// Index of the vector.
        vector: usize,
    },
}

const AT: Instant = Instant(1_700_000_000_000_000_000);
const NANOS: i64 = 61_000_000_007;

/// Returns transitions from every phase and from none to every phase, after 0 ns, 1 ns and
/// [`NANOS`], half of them before 1970, with totals on both sides of 2^31 and 2^53.
fn vectors() -> Vec<Step> {
    let mut vectors = Vec::new();
    let current = std::iter::once(None).chain(Phase::ALL.map(Some));
    for (row, from) in current.enumerate() {
        for (column, to) in Phase::ALL.into_iter().enumerate() {
            let passed = [0, 1, NANOS][(row + column) % 3];
            let totals =
                Totals(std::array::from_fn(|ordinal| ((ordinal + row) as u64) << (column * 8)));
            let since = if (row + column / 3) % 2 == 0 { AT } else { Instant(-AT.0) };
            let at = Instant(since.0 + passed);
            vectors.push((Tracker { current: from, since, totals }, to, at));
        }
    }
    vectors
}

struct Answers {
    report: SelfTest,
    entered: Vec<Tracker>,
    looked: Vec<Totals>,
}

/// Runs all vectors, twice.
pub(super) fn run(policy: &Policy) -> Result<SelfTest, SelfTestError> {
    let vectors = vectors();
    let first = ask(policy, &vectors)?;
    let again = ask(policy, &vectors)?;
    if (first.report, &first.entered, &first.looked)
        != (again.report, &again.entered, &again.looked)
    {
        return Err(SelfTestError::Unsteady);
    }
    measure(policy)?;
    Ok(first.report)
}

fn ask(policy: &Policy, vectors: &[Step]) -> Result<Answers, SelfTestError> {
    let failed = |function, vector| {
        move |fault: Fault| SelfTestError::Fault { function, vector, fault: Box::new(fault) }
    };
    let mut report = SelfTest {
        vectors: vectors.len(),
        enter_fuel: 0,
        snapshot_fuel: 0,
        enter_all_fuel: 0,
        snapshot_all_fuel: 0,
    };
    let mut entered = Vec::new();
    let mut looked = Vec::new();
    for (number, (before, to, at)) in vectors.iter().enumerate() {
        let after = policy.enter_metered(before, *to, *at).map_err(failed("enter", number))?;
        let totals = policy.snapshot_metered(before, AT_END).map_err(failed("snapshot", number))?;
        report.enter_fuel = report.enter_fuel.max(after.fuel);
        report.snapshot_fuel = report.snapshot_fuel.max(totals.fuel);
        entered.push(after.value);
        looked.push(totals.value);
    }
    let mut batch = Vec::new();
    report.enter_all_fuel =
        policy.enter_batch(vectors, &mut batch).map_err(failed("enter-all", 0))?;
    same("enter-all", &entered, &batch)?;
    let trackers: Vec<_> = vectors.iter().map(|vector| vector.0).collect();
    let mut batch = Vec::new();
    report.snapshot_all_fuel =
        policy.snapshot_batch(&trackers, AT_END, &mut batch).map_err(failed("snapshot-all", 0))?;
    same("snapshot-all", &looked, &batch)?;
    Ok(Answers { report, entered, looked })
}

const AT_END: Instant = Instant(AT.0 + NANOS);

fn same<T: PartialEq>(
    function: &'static str,
    single: &[T],
    batch: &[T],
) -> Result<(), SelfTestError> {
    match single.iter().zip(batch).position(|(one, other)| one != other) {
        Some(item) => Err(SelfTestError::Differs { function, item }),
        None => Ok(()),
    }
}

/// Measures every golden request, twice. They have no options, so a refusal fails the test.
fn measure(policy: &Policy) -> Result<(), SelfTestError> {
    let failed = |function, vector| {
        move |fault: Fault| SelfTestError::Fault { function, vector, fault: Box::new(fault) }
    };
    let first = policy.describe_metered().map_err(failed("describe", 0))?;
    let again = policy.describe_metered().map_err(failed("describe", 0))?;
    if first != again {
        return Err(SelfTestError::Unsteady);
    }
    let mut terms = None;
    for (vector, request) in requests().iter().enumerate() {
        let first = policy.measure(request).map_err(failed("measure", vector))?;
        let again = policy.measure(request).map_err(failed("measure", vector))?;
        if first != again {
            return Err(SelfTestError::Unsteady);
        }
        if *terms.get_or_insert_with(|| first.value.terms.clone()) != first.value.terms {
            return Err(SelfTestError::Terms { vector });
        }
    }
    Ok(())
}

/// Beyond 31 bits, and beyond the exact integers of a double.
const LARGE_U32: u32 = 3_000_000_000;
const LARGE_U64: u64 = (1 << 53) + 1;

/// The golden requests.
pub(super) fn requests() -> [Request; 5] {
    let nothing = Request {
        tenant: "self-test".into(),
        span: Span { start: AT.0, end: AT_END.0 },
        subjects: Vec::new(),
        intervals: IntervalColumns::empty(),
        options: Vec::new(),
    };
    let minute = lived(&nothing, AT.0, &[(Phase::Running, NANOS)]);
    let before_1970 = lived(&nothing, -NANOS * 2, &Phase::ALL.map(|phase| (phase, NANOS)));
    let mut large = lived(&nothing, i64::MAX - NANOS * 9, &Phase::ALL.map(|phase| (phase, NANOS)));
    large.intervals.session.fill(LARGE_U32);
    large.intervals.wakes.fill(u32::MAX);
    large.intervals.fact.fill(LARGE_U64);
    let columns = large.intervals.dimensions.iter_mut().chain(&mut large.intervals.counts);
    for (column, value) in columns.zip([LARGE_U64, u64::MAX].into_iter().cycle()) {
        column.values.fill(value);
    }
    // An instance without intervals, and one without dimensions and counts.
    let mut bare = lived(&nothing, AT.0, &[(Phase::Running, 1)]);
    bare.subjects.insert(0, Subject { id: "idle".into(), name: String::new(), tags: Vec::new() });
    bare.intervals.subject.fill(1);
    bare.intervals.dimensions.clear();
    bare.intervals.counts.clear();
    [nothing, minute, before_1970, large, bare]
}

/// Names of the dimensions and counts in a request.
const DIMENSIONS: [&str; 4] = ["disk-byte", "memory-byte", "snapshot-byte", "vcpu"];
const COUNTS: [&str; 2] = ["network-in-bytes", "network-out-bytes"];

/// Makes a request with one instance that was in these phases, one after the other, for these times
/// in ns.
fn lived(nothing: &Request, start: i64, phases: &[(Phase, i64)]) -> Request {
    let mut columns = IntervalColumns::empty();
    let mut at = start;
    for (fact, &(phase, lasted)) in (1..).zip(phases) {
        columns.subject.push(0);
        columns.phase.push(phase as u8);
        columns.start.push(at);
        at += lasted;
        columns.end.push(at);
        columns.session.push(1);
        columns.wakes.push(0);
        columns.fact.push(fact);
    }
    let column = |name: &&str| Column { name: (*name).into(), values: vec![1 << 30; phases.len()] };
    columns.dimensions = DIMENSIONS.iter().map(column).collect();
    columns.counts = COUNTS.iter().map(column).collect();
    let tags = vec![Setting { name: "team".into(), value: "blue".into() }];
    Request {
        span: Span { start, end: at },
        subjects: vec![Subject { id: "one".into(), name: "one".into(), tags }],
        intervals: columns,
        ..nothing.clone()
    }
}
