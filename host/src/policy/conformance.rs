//! The conformance kit: asks a policy everything that must hold under any rules, and reports what it costs. Needs no daemon.
//!
//! The golden vectors of `selftest` come first, then histories and requests that are made from a fixed seed, so that two runs ask the same.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::book::Book;
use super::component::{Policy, World};
use super::engine::Budget;
use super::fault::{Fault, Refused};
use super::rating::{Dimension, IntervalColumns, Price, Ratio, Request, Span, Subject, Tier, signed_words, words};
use super::selftest;
use super::wire::Step;
use super::{AdmissionError, Admitted, PolicyHost, Profile, zones};
use crate::billing::calendar::Calendar;
use crate::billing::{Totals, Tracker};
use crate::units::Instant;
use crate::vm::Phase;

/// Histories that are told.
const HISTORIES: usize = 64;

/// Most steps of a history.
const STEPS_MAX: usize = 40;

/// Intervals of the requests that are rated.
const REQUESTS: [usize; 4] = [0, 1, 30, 1_000];

/// Intervals of one instance in them.
const INTERVALS_EACH: usize = 100;

/// What an instance holds in them, and most of it.
const DIMENSIONS: [(&str, u64); 4] =
    [("disk-bytes", 1 << 40), ("memory-bytes", 1 << 36), ("snapshot-bytes", 1 << 36), ("vcpus", 8)];

/// What their books price: meters and units. Whoever measures them charges; whoever doesn't refuses, which is an answer.
const BOOKS: [&[(&str, &str)]; 4] = [
    &[],
    &[("active", "ns")],
    &[("active", "ns"), ("active", "vcpu-ns")],
    &[("active", "ns"), ("active", "vcpu-ns"), ("allocated", "ns"), ("allocated", "vcpu-ns")],
];

const SEED: u64 = 0x7a11_7a11_7a11_7a11;

/// Where histories begin: early in 2024.
const BEGIN_NS: i64 = 1_704_067_200_000_000_000;

/// What the kit found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What admission found out.
    pub admitted: Admitted,
    /// What was checked, in order.
    pub checks: Vec<Check>,
    /// What calls cost, and what they may.
    pub fuel: Vec<FuelUse>,
    /// Charge lines that were stated, all of which were checked; none if it charged for nothing that was asked.
    pub lines: u64,
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What must hold.
    pub claim: &'static str,
    /// How often it was asked.
    pub cases: u64,
    /// What was found instead, if it does not hold.
    pub failed: Option<String>,
}

/// What the dearest call of a kind cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuelUse {
    /// Which kind.
    pub what: &'static str,
    /// Fuel that it took.
    pub fuel: u64,
    /// Fuel that it had.
    pub allowed: u64,
}

impl Report {
    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.failed.is_none())
    }
}

/// Asks a component everything; with `prices`, also that it charges by them. Blocking, for seconds.
///
/// # Errors
/// [`AdmissionError`] if it would not even be admitted.
pub fn run(host: &PolicyHost, bytes: &[u8], profile: Profile, prices: Option<&Book>) -> Result<Report, AdmissionError> {
    let admitted = host.admit_in(profile, bytes)?;
    let policy = host.get(admitted.digest).ok_or(AdmissionError::Compile { reason: "it is gone".into() })?;
    let test = admitted.self_test;
    let accounting = |items| Budget::accounting(items).fuel;
    let mut checks = vec![Check { claim: "the golden vectors are answered", cases: test.vectors as u64, failed: None }];
    let mut fuel = Vec::new();
    if admitted.world == World::Policy {
        checks.extend(histories(&policy));
        checks.push(overflow(&policy));
        let rows = [
            ("a transition", test.enter_fuel, accounting(1)),
            ("a look", test.snapshot_fuel, accounting(1)),
            ("a batch of transitions", test.enter_all_fuel, accounting(test.vectors)),
            ("a batch of looks", test.snapshot_all_fuel, accounting(test.vectors)),
        ];
        fuel.extend(rows.map(|(what, fuel, allowed)| FuelUse { what, fuel, allowed }));
    }
    let (rated, burned, mut lines) = requests(&policy);
    checks.extend(rated);
    fuel.push(burned);
    if let Some(book) = prices {
        let (charged, more) = charged(&policy, book);
        checks.push(charged);
        lines += more;
    }
    Ok(Report { admitted, checks, fuel, lines })
}

/// Tells histories of many instances, item by item and in batches, and looks in between. The host's own checks of every answer are that of
/// conservation: totals add up, never shrink, and nothing moves back.
fn histories(policy: &Policy) -> [Check; 2] {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut conserved = Check { claim: "no time is lost or made in any history", cases: 0, failed: None };
    let mut batched = Check { claim: "a batch answers what single calls answer", cases: 0, failed: None };
    let mut trackers = vec![Tracker::default(); HISTORIES];
    let mut now = vec![Instant(BEGIN_NS); HISTORIES];
    for step in 0..STEPS_MAX {
        let steps: Vec<Step> =
            trackers.iter().zip(&mut now).map(|(tracker, now)| next(&mut random, *tracker, now)).collect();
        let single: Result<Vec<Tracker>, Fault> =
            steps.iter().map(|(before, to, at)| policy.enter(before, *to, *at)).collect();
        conserved.cases += steps.len() as u64;
        batched.cases += 1;
        let (single, batch) = match (single, policy.enter_all(&steps)) {
            (Ok(single), Ok(batch)) => (single, batch),
            (Err(fault), _) => {
                conserved.failed = Some(format!("transition {step}: {}", fault.in_words()));
                break;
            }
            (Ok(_), Err(fault)) => {
                batched.failed = Some(format!("transition {step}: {}", fault.in_words()));
                break;
            }
        };
        if let Some(item) = single.iter().zip(&batch).position(|(one, other)| one != other) {
            batched.failed = Some(format!("transition {step}: item {item} differs"));
            break;
        }
        trackers = single;
        if let Some(problem) = look(policy, &trackers, &now) {
            conserved.failed = Some(problem);
            break;
        }
    }
    [conserved, batched]
}

/// A transition after a while that may be nothing, a nanosecond, or months.
fn next(random: &mut StdRng, before: Tracker, now: &mut Instant) -> Step {
    let passed = match random.random_range(0..4) {
        0 => 0,
        1 => 1,
        2 => random.random_range(0..1_000_000_000),
        _ => random.random_range(0..10_000_000_000_000_000_i64),
    };
    *now = Instant(now.0 + passed);
    (before, Phase::ALL[random.random_range(0..Phase::ALL.len())], *now)
}

/// Looks at all of them at the latest instant of any.
fn look(policy: &Policy, trackers: &[Tracker], now: &[Instant]) -> Option<String> {
    let at = now.iter().copied().max()?;
    let single: Result<Vec<Totals>, Fault> = trackers.iter().map(|tracker| policy.snapshot(tracker, at)).collect();
    match (single, policy.snapshot_all(trackers, at)) {
        (Ok(single), Ok(batch)) if single == batch => None,
        (Ok(_), Ok(_)) => Some("a look at many answers something else than a look at each".into()),
        (Err(fault), _) | (_, Err(fault)) => Some(format!("a look: {}", fault.in_words())),
    }
}

/// A total that would pass 64 bits must be refused, not wrapped or held.
fn overflow(policy: &Policy) -> Check {
    let before = Tracker { current: Some(Phase::Running), since: Instant(0), totals: Totals([u64::MAX - 1; 8]) };
    let failed = match policy.enter(&before, Phase::Stopped, Instant(2)) {
        Err(Fault::Refused(Refused::Overflow(_))) => None,
        Err(fault) => Some(format!("it must answer `overflow`; instead it {}", fault.in_words())),
        Ok(_) => Some("it must answer `overflow`; instead it answers".into()),
    };
    Check { claim: "a total that would overflow is refused", cases: 1, failed }
}

/// Rates requests of several sizes under several books, each twice. To refuse one in words is an answer; the host checks every statement: no
/// interval is charged twice by one meter, quantities are what the intervals held, amounts follow from quantity and price.
fn requests(policy: &Policy) -> ([Check; 2], FuelUse, u64) {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut rated = Check { claim: "every statement adds up", cases: 0, failed: None };
    let mut steady = Check { claim: "the same request gets the same statement", cases: 0, failed: None };
    let mut lines = 0;
    let mut dearest = FuelUse { what: "rating a thousand intervals", fuel: 0, allowed: 0 };
    for (intervals, priced) in REQUESTS.into_iter().flat_map(|size| BOOKS.map(|priced| (size, priced))) {
        let request = request(&mut random, intervals, priced);
        let (once, again) = (policy.rate_metered(&request), policy.rate_metered(&request));
        rated.cases += 1;
        steady.cases += 1;
        let found = |what: &str| Some(format!("{intervals} intervals, {} prices: {what}", priced.len()));
        match (once, again) {
            (Ok(once), Ok(again)) => {
                if once != again {
                    steady.failed = found("another statement, or other fuel");
                }
                lines += once.value.lines.len() as u64;
                if once.fuel > dearest.fuel {
                    dearest = FuelUse { fuel: once.fuel, allowed: policy.rating_budget(intervals).fuel, ..dearest };
                }
            }
            (Err(Fault::Refused(_)), Err(Fault::Refused(_))) => {}
            (Err(fault), _) | (_, Err(fault)) => rated.failed = found(&fault.in_words()),
        }
    }
    ([rated, steady], dearest, lines)
}

/// Rates requests of several sizes under a price book. It is there to be charged by: to refuse it is no answer here.
fn charged(policy: &Policy, book: &Book) -> (Check, u64) {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut charged = Check { claim: "the given prices are charged", cases: 0, failed: None };
    let mut lines = 0;
    for intervals in REQUESTS {
        charged.cases += 1;
        match policy.rate(&under(book, request(&mut random, intervals, &[]))) {
            Ok(statement) => lines += statement.lines.len() as u64,
            Err(fault) => charged.failed = Some(format!("{intervals} intervals: {}", fault.in_words())),
        }
    }
    if lines == 0 && charged.failed.is_none() {
        charged.failed = Some("no line was stated".into());
    }
    (charged, lines)
}

/// The request under a price book, by a calendar that is the meter clock.
fn under(book: &Book, mut request: Request) -> Request {
    request.book = book.on_meter(&Calendar::default());
    request.options = book.options().to_vec();
    // A book names known zones only.
    request.zones = book.zones().into_iter().filter_map(|name| zones::resolve(name, request.period)).collect();
    request
}

/// Some time of a few instances in so many intervals, and what is priced of it.
fn request(random: &mut StdRng, intervals: usize, priced: &[(&str, &str)]) -> Request {
    let mut request = selftest::request();
    let begin = request.period.start;
    let mut subjects: Vec<Subject> = Vec::new();
    let mut dimensions = DIMENSIONS.map(|(name, _)| Dimension { name: name.into(), values: Vec::new() });
    let mut columns = IntervalColumns {
        subject: Vec::new(),
        phase: Vec::new(),
        start: Vec::new(),
        end: Vec::new(),
        session: Vec::new(),
        fact: Vec::new(),
        dimensions: Vec::new(),
    };
    let (mut at, mut until) = (begin, begin + 1);
    for number in 0..intervals {
        if number % INTERVALS_EACH == 0 {
            let id = format!("instance-{:04}", subjects.len());
            subjects.push(Subject { name: id.clone(), id, tags: Vec::new() });
            at = begin;
        }
        columns.subject.push(subjects.len() as u32 - 1);
        columns.start.push(at);
        at += random.random_range(1..20_000_000_000_i64);
        until = until.max(at);
        columns.end.push(at);
        columns.phase.push(Phase::ALL[random.random_range(0..Phase::ALL.len())] as u8);
        columns.session.push(1 + (number % INTERVALS_EACH) as u32 / 10);
        columns.fact.push(1 + number as u64);
        for (dimension, (_, most)) in dimensions.iter_mut().zip(DIMENSIONS) {
            dimension.values.push(random.random_range(1..=most));
        }
    }
    columns.dimensions = dimensions.into();
    request.period.end = until;
    request.invoice = request.period;
    request.book.prices = priced.iter().map(|(meter, unit)| price(meter, unit, request.period)).collect();
    request.subjects = subjects;
    request.intervals = columns;
    request
}

/// A flat price for time; for all else a graduated one, whose tiers count all instances together.
fn price(meter: &str, unit: &str, valid: Span) -> Price {
    const HOUR_NS: u128 = 3_600_000_000_000;
    let tier = |up_to: Option<u128>, nanos_an_hour: i128| Tier {
        up_to: up_to.map(words),
        price: Ratio { numerator: signed_words(nanos_an_hour), denominator: words(HOUR_NS) },
        once: signed_words(0),
    };
    let (scope, model, tiers) = match unit {
        "ns" => ("instance", "flat", vec![tier(None, 46_400_000)]),
        _ => ("tenant", "graduated", vec![tier(Some(HOUR_NS / 7), 33_333_333), tier(None, 10_000_001)]),
    };
    Price {
        rule: format!("{meter}-{unit}"),
        id: format!("{meter}-{unit}-1"),
        meter: meter.into(),
        unit: unit.into(),
        per: "hour".into(),
        measure: "s".into(),
        measure_units: words(1_000_000_000),
        valid,
        windows: Vec::new(),
        scope: scope.into(),
        resets: "period".into(),
        model: model.into(),
        tiers,
    }
}
