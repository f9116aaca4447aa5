//! The conformance kit: asks a policy everything that must hold under any rules, and reports what
//! it costs. Needs no daemon.
//!
//! The golden vectors of `selftest` come first, then histories and requests that are made from a
//! fixed seed, so that two runs ask the same.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::budget::Budget;
use super::component::{Policy, World};
use super::fault::{Fault, Refused};
use super::metering::{
    Column, Description, IntervalColumns, Measurement, MeterTerms, OptionKind, Request, Setting,
    Span, Subject,
};
use super::wire::Step;
use super::{AdmissionError, Admitted, PolicyHost, Profile};
use crate::billing::{Totals, Tracker};
use crate::units::Instant;
use crate::vm::Phase;

/// Histories that are told.
const HISTORIES: usize = 64;

/// Most steps of a history.
const STEPS_MAX: usize = 40;

/// Intervals of the requests that are measured.
const REQUESTS: [usize; 4] = [0, 1, 30, 1_000];

/// Intervals of one instance in them.
const INTERVALS_EACH: usize = 10;

/// What an instance holds in them, and most of it.
const DIMENSIONS: [(&str, u64); 4] =
    [("disk-byte", 1 << 40), ("memory-byte", 1 << 36), ("snapshot-byte", 1 << 36), ("vcpu", 8)];

/// What is counted in them, and most of it.
const COUNTS: [(&str, u64); 2] = [("network-in-bytes", 1 << 40), ("network-out-bytes", 1 << 40)];

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
    /// What the component declares.
    pub description: Description,
    /// Intervals that some meter counted, each of whose masks was checked.
    pub counted: u64,
    /// Lines of its own that were stated, all of which were checked.
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

/// What the kit is to ask besides.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Options to measure under, as an activation has them.
    pub options: Vec<Setting>,
    /// Meters that must be declared: those that a price book prices.
    pub priced: Vec<String>,
}

/// Asks a component everything. Blocking, for seconds.
///
/// # Errors
/// [`AdmissionError`] if it would not even be admitted.
pub fn run(
    host: &PolicyHost,
    bytes: &[u8],
    profile: Profile,
    terms: &Terms,
) -> Result<Report, AdmissionError> {
    let admitted = host.admit_in(profile, bytes)?;
    let policy =
        host.get(admitted.digest).ok_or(AdmissionError::Compile { reason: "it is gone".into() })?;
    let test = admitted.self_test;
    let accounting = |items| Budget::accounting(items).fuel;
    let mut checks = vec![Check {
        claim: "the golden vectors are answered",
        cases: test.vectors as u64,
        failed: None,
    }];
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
    let description = policy.describe().cloned().map_err(|fault| {
        AdmissionError::SelfTest(super::SelfTestError::Fault {
            function: "describe",
            vector: 0,
            fault: Box::new(fault),
        })
    })?;
    let mut asking = Asking::new(&policy, &terms.options);
    asking.requests();
    checks.extend([asking.measured, asking.steady, asking.alone, asking.same_terms]);
    checks.push(counts_something(asking.counted));
    checks.push(options(&policy, &description));
    if !terms.priced.is_empty() {
        checks.push(priced(&description, &terms.priced));
    }
    fuel.push(asking.dearest);
    Ok(Report { admitted, checks, fuel, description, counted: asking.counted, lines: asking.lines })
}

/// Tells histories of many instances, item by item and in batches, and looks in between. The host's
/// own checks of every answer are that of conservation: totals add up, never shrink, and nothing
/// moves back.
fn histories(policy: &Policy) -> [Check; 2] {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut conserved =
        Check { claim: "no time is lost or made in any history", cases: 0, failed: None };
    let mut batched =
        Check { claim: "a batch answers what single calls answer", cases: 0, failed: None };
    let mut trackers = vec![Tracker::default(); HISTORIES];
    let mut now = vec![Instant(BEGIN_NS); HISTORIES];
    for step in 0..STEPS_MAX {
        let steps: Vec<Step> = trackers
            .iter()
            .zip(&mut now)
            .map(|(tracker, now)| next(&mut random, *tracker, now))
            .collect();
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
    let single: Result<Vec<Totals>, Fault> =
        trackers.iter().map(|tracker| policy.snapshot(tracker, at)).collect();
    match (single, policy.snapshot_all(trackers, at)) {
        (Ok(single), Ok(batch)) if single == batch => None,
        (Ok(_), Ok(_)) => Some("a look at many answers something else than a look at each".into()),
        (Err(fault), _) | (_, Err(fault)) => Some(format!("a look: {}", fault.in_words())),
    }
}

/// A total that would pass 64 bits must be refused, not wrapped or held.
fn overflow(policy: &Policy) -> Check {
    let before = Tracker {
        current: Some(Phase::Running),
        since: Instant(0),
        totals: Totals([u64::MAX - 1; 8]),
    };
    let failed = match policy.enter(&before, Phase::Stopped, Instant(2)) {
        Err(Fault::Refused(Refused::Overflow(_))) => None,
        Err(fault) => Some(format!("it must answer `overflow`; instead it {}", fault.in_words())),
        Ok(_) => Some("it must answer `overflow`; instead it answers".into()),
    };
    Check { claim: "a total that would overflow is refused", cases: 1, failed }
}

/// Has requests of several sizes measured. The host checks every answer: masks have no bit of a
/// meter that there is not, terms are those of the declared meters, and lines of the policy's own
/// state what their intervals held.
struct Asking<'a> {
    policy: &'a Policy,
    options: &'a [Setting],
    measured: Check,
    steady: Check,
    alone: Check,
    same_terms: Check,
    terms: Option<Vec<MeterTerms>>,
    counted: u64,
    lines: u64,
    dearest: FuelUse,
}

impl<'a> Asking<'a> {
    fn new(policy: &'a Policy, options: &'a [Setting]) -> Self {
        let check = |claim| Check { claim, cases: 0, failed: None };
        Self {
            policy,
            options,
            measured: check("every answer keeps the contract"),
            steady: check("the same request gets the same answer"),
            alone: check("an instance counts alone as it does among others"),
            same_terms: check("terms do not depend on the intervals"),
            terms: None,
            counted: 0,
            lines: 0,
            dearest: FuelUse { what: "measuring a thousand intervals", fuel: 0, allowed: 0 },
        }
    }

    fn requests(&mut self) {
        let mut random = StdRng::seed_from_u64(SEED);
        for intervals in REQUESTS {
            let request = request(&mut random, intervals, self.options);
            if let Some(whole) = self.twice(&request) {
                self.each_alone(&request, &whole);
            }
        }
    }

    /// Asks twice. None if there was no answer.
    fn twice(&mut self, request: &Request) -> Option<Measurement> {
        let once = self.policy.measure(request);
        let again = self.policy.measure(request);
        self.measured.cases += 1;
        self.steady.cases += 1;
        let intervals = request.intervals.phase.len();
        match (once, again) {
            (Ok(once), Ok(again)) => {
                if once != again {
                    self.steady.failed =
                        Some(format!("{intervals} intervals: another answer, or other fuel"));
                }
                self.counted += once.value.counted.iter().filter(|&&mask| mask != 0).count() as u64;
                self.lines += once.value.lines.len() as u64;
                if once.fuel > self.dearest.fuel {
                    let allowed = self.policy.metering_budget(request).fuel;
                    self.dearest = FuelUse { fuel: once.fuel, allowed, ..self.dearest };
                }
                self.note_terms(&once.value);
                Some(once.value)
            }
            (Err(fault), _) | (_, Err(fault)) => {
                self.measured.failed = Some(format!("{intervals} intervals: {}", fault.in_words()));
                None
            }
        }
    }

    fn note_terms(&mut self, answer: &Measurement) {
        self.same_terms.cases += 1;
        if *self.terms.get_or_insert_with(|| answer.terms.clone()) != answer.terms {
            self.same_terms.failed = Some("another request got other terms".into());
        }
    }

    /// Asks for some of the instances by themselves.
    fn each_alone(&mut self, request: &Request, whole: &Measurement) {
        for subject in (0..request.subjects.len()).step_by(ALONE_STEP) {
            let (alone, place) = only(request, subject);
            self.alone.cases += 1;
            match self.policy.measure(&alone) {
                Ok(answer) => {
                    if whole.counted.get(place..place + answer.value.counted.len())
                        != Some(&answer.value.counted)
                    {
                        self.alone.failed = Some(format!("instance {subject}: other masks"));
                    }
                    self.note_terms(&answer.value);
                }
                Err(fault) => {
                    self.alone.failed = Some(format!("instance {subject}: {}", fault.in_words()))
                }
            }
        }
    }
}

/// Every so many instances one is asked about alone: a call of an interpreted policy takes its
/// time.
const ALONE_STEP: usize = 7;

/// The request for one instance, and where its intervals are in the whole.
fn only(request: &Request, subject: usize) -> (Request, usize) {
    let columns = &request.intervals;
    let places =
        || (0..columns.subject.len()).filter(|&place| columns.subject[place] as usize == subject);
    let pick = |values: &[u64]| places().map(|place| values[place]).collect();
    let column =
        |column: &Column| Column { name: column.name.clone(), values: pick(&column.values) };
    let intervals = IntervalColumns {
        subject: places().map(|_| 0).collect(),
        phase: places().map(|place| columns.phase[place]).collect(),
        start: places().map(|place| columns.start[place]).collect(),
        end: places().map(|place| columns.end[place]).collect(),
        session: places().map(|place| columns.session[place]).collect(),
        wakes: places().map(|place| columns.wakes[place]).collect(),
        fact: pick(&columns.fact),
        dimensions: columns.dimensions.iter().map(column).collect(),
        counts: columns.counts.iter().map(column).collect(),
    };
    let subjects = vec![request.subjects[subject].clone()];
    (Request { subjects, intervals, ..request.clone() }, places().next().unwrap_or_default())
}

/// A policy that counts nothing charges nothing, which nobody would notice before the month is
/// over.
fn counts_something(counted: u64) -> Check {
    let failed = (counted == 0).then(|| "no interval in any phase is counted for any meter".into());
    Check { claim: "some time is counted", cases: REQUESTS.len() as u64, failed }
}

/// Gives each option its default, and each word that it may have. None of them may be refused, and
/// the defaults must be what holds anyway.
fn options(policy: &Policy, description: &Description) -> Check {
    let mut check = Check {
        claim: "declared options are taken, and their defaults hold",
        cases: 0,
        failed: None,
    };
    let plain = policy.terms(&[]).map(|answer| answer.value);
    for option in &description.options {
        let words = match &option.kind {
            OptionKind::Choice(words) => words.as_slice(),
            OptionKind::Duration | OptionKind::Text => &[],
        };
        for value in std::iter::once(&option.default).chain(words) {
            check.cases += 1;
            let given = [Setting { name: option.name.clone(), value: value.clone() }];
            let terms = policy.terms(&given).map(|answer| answer.value);
            let named = format!("{} = {value}", option.name);
            match terms {
                Err(fault) => check.failed = Some(format!("{named}: {}", fault.in_words())),
                Ok(_) if *value != option.default => {}
                terms if terms == plain => {}
                Ok(_) => {
                    check.failed =
                        Some(format!("{named} is said to be the default, and changes the terms"))
                }
            }
        }
    }
    check
}

/// Whether every meter that a book prices is declared.
fn priced(description: &Description, priced: &[String]) -> Check {
    let missing = priced.iter().find(|meter| description.meter(meter).is_none());
    let failed = missing.map(|meter| {
        let known: Vec<&str> = description.meters.iter().map(|meter| meter.name.as_str()).collect();
        format!("there is no meter '{meter}'; there are: {}", known.join(", "))
    });
    Check {
        claim: "the meters that the prices are for are measured",
        cases: priced.len() as u64,
        failed,
    }
}

/// Some time of a few instances in so many intervals.
fn request(random: &mut StdRng, intervals: usize, options: &[Setting]) -> Request {
    let mut subjects: Vec<Subject> = Vec::new();
    let mut columns = IntervalColumns::empty();
    columns.dimensions =
        DIMENSIONS.map(|(name, _)| Column { name: name.into(), values: Vec::new() }).into();
    columns.counts =
        COUNTS.map(|(name, _)| Column { name: name.into(), values: Vec::new() }).into();
    let mut at = BEGIN_NS;
    let mut until = BEGIN_NS;
    for number in 0..intervals {
        if number % INTERVALS_EACH == 0 {
            let id = format!("instance-{:04}", subjects.len());
            subjects.push(Subject { name: id.clone(), id, tags: Vec::new() });
            at = BEGIN_NS;
        }
        columns.subject.push(subjects.len() as u32 - 1);
        columns.start.push(at);
        at += random.random_range(1..20_000_000_000_i64);
        until = until.max(at);
        columns.end.push(at);
        columns.phase.push(Phase::ALL[random.random_range(0..Phase::ALL.len())] as u8);
        let session = (number % INTERVALS_EACH) as u32 / 3;
        columns.session.push(1 + session);
        columns.wakes.push(session);
        columns.fact.push(1 + number as u64);
        let all = columns.dimensions.iter_mut().chain(&mut columns.counts);
        for (column, (_, most)) in all.zip(DIMENSIONS.into_iter().chain(COUNTS)) {
            column.values.push(random.random_range(1..=most));
        }
    }
    let span = Span { start: BEGIN_NS, end: until };
    Request {
        tenant: "conformance".into(),
        span,
        subjects,
        intervals: columns,
        options: options.to_vec(),
    }
}
