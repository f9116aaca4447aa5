//! The conformance kit: checks everything that must hold for any policy, and reports the fuel.
//! Needs no daemon.
//!
//! The golden vectors of `selftest` come first, then histories and requests generated from a fixed
//! seed, so that two runs make the same calls.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::budget::Budget;
use super::component::{Policy, World};
use super::fault::{Fault, Refused};
use super::metering::{
    Column, Description, IntervalColumns, Measurement, MeterTerms, OptionKind, Request, Setting,
    Span, Subject, unsigned,
};
use super::wire::Step;
use super::{AdmissionError, Admitted, PolicyHost, Profile, Toolchain};
use crate::billing::{Totals, Tracker};
use crate::units::Instant;
use crate::vm::Phase;

/// Number of histories.
const HISTORIES: usize = 64;

/// Number of transitions of each history.
const STEPS_MAX: usize = 40;

/// Number of intervals of each request.
const REQUESTS: [usize; 4] = [0, 1, 30, 1_000];

/// Number of intervals of each instance in a request.
const INTERVALS_EACH: usize = 10;

/// Dimensions in the requests, with the greatest value of each.
const DIMENSIONS: [(&str, u64); 4] =
    [("disk-byte", 1 << 40), ("memory-byte", 1 << 36), ("snapshot-byte", 1 << 36), ("vcpu", 8)];

/// Counts in the requests, with the greatest value of each.
const COUNTS: [(&str, u64); 2] = [("network-in-bytes", 1 << 40), ("network-out-bytes", 1 << 40)];

const SEED: u64 = 0x7a11_7a11_7a11_7a11;

/// Instant at which histories begin, early in 2024.
const BEGIN_NS: i64 = 1_704_067_200_000_000_000;

/// Sums of a policy's own lines under one rule, in one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billed {
    /// The rule.
    pub rule: String,
    /// Unit of both sums.
    pub unit: String,
    /// Units used.
    pub quantity: u128,
    /// Units charged for.
    pub billed: u128,
}

impl Billed {
    /// Thousandths of what was used that are billed, rounded up; none if nothing was used.
    pub fn thousandths(&self) -> Option<u128> {
        let billed = self.billed.saturating_mul(1_000);
        (self.quantity > 0).then(|| billed.div_ceil(self.quantity))
    }
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Outcome of the admission.
    pub admitted: Admitted,
    /// Checks that were made, in order.
    pub checks: Vec<Check>,
    /// Fuel of the most expensive call of each kind, with its budget.
    pub fuel: Vec<FuelUse>,
    /// The component's description.
    pub description: Description,
    /// Number of intervals that at least one meter counted; the mask of each was checked.
    pub counted: u64,
    /// Number of the policy's own lines, all of which were checked.
    pub lines: u64,
    /// Sums of those lines, sorted by rule and unit.
    pub billed: Vec<Billed>,
    /// Warnings for the author, though everything holds.
    pub warnings: Vec<String>,
}

/// A check and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The property that must hold.
    pub claim: &'static str,
    /// Number of cases that were tried.
    pub cases: u64,
    /// Description of a case in which it does not hold; none if it holds.
    pub failed: Option<String>,
}

/// The fuel of the most expensive call of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuelUse {
    /// Kind of the call.
    pub what: &'static str,
    /// Fuel burned.
    pub fuel: u64,
    /// Fuel allowed.
    pub allowed: u64,
}

impl Report {
    /// Returns true if every check holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.failed.is_none())
    }
}

/// Options of a run.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Options to measure under, as in an activation.
    pub options: Vec<Setting>,
    /// Meters that a price book prices, all of which must be declared; empty for no such check.
    pub priced: Vec<String>,
}

/// Makes all checks of a component. Blocking, for seconds.
///
/// # Errors
/// [`AdmissionError`] if the component would not be admitted.
pub fn run(
    host: &PolicyHost,
    bytes: &[u8],
    profile: Profile,
    terms: &Terms,
) -> Result<Report, AdmissionError> {
    let admitted = host.admit_in(profile, bytes)?;
    let policy = host
        .get(admitted.digest)
        .ok_or(AdmissionError::Compile { reason: "it was unloaded meanwhile".into() })?;
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
            ("a snapshot", test.snapshot_fuel, accounting(1)),
            ("a batch of transitions", test.enter_all_fuel, accounting(test.vectors)),
            ("a batch of snapshots", test.snapshot_all_fuel, accounting(test.vectors)),
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
    let billed = asking.billed();
    checks.extend([asking.measured, asking.steady, asking.alone, asking.same_terms]);
    checks.push(counts_something(asking.counted));
    checks.push(options(&policy, &description));
    if !terms.priced.is_empty() {
        checks.push(priced(&description, &terms.priced));
    }
    fuel.push(asking.dearest);
    let mut warnings: Vec<String> = billed.iter().filter_map(warning).collect();
    let traps = Toolchain::of(bytes).map(Toolchain::warnings).unwrap_or_default();
    warnings.extend(traps.iter().map(|&trap| trap.to_owned()));
    Ok(Report {
        admitted,
        checks,
        fuel,
        description,
        counted: asking.counted,
        lines: asking.lines,
        billed,
        warnings,
    })
}

/// A warning of a rule that bills more than was used.
fn warning(billed: &Billed) -> Option<String> {
    let thousandths = billed.thousandths().filter(|&thousandths| thousandths > 1_000)?;
    let Billed { rule, unit, quantity, billed } = billed;
    Some(format!(
        "rule '{rule}' bills more than was used: {billed} {unit} for {quantity}, {}.{:03} times as \
         much",
        thousandths / 1_000,
        thousandths % 1_000
    ))
}

/// Accounts for histories of many instances, in single calls and in batches, with snapshots in
/// between. The host itself checks conservation in every answer: totals add up and never shrink,
/// and no instant goes back.
fn histories(policy: &Policy) -> [Check; 2] {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut conserved =
        Check { claim: "no time is lost or made in any history", cases: 0, failed: None };
    let mut batched =
        Check { claim: "a batch answers what single calls answer", cases: 0, failed: None };
    let mut trackers = vec![Tracker::default(); HISTORIES];
    let mut now: Vec<Instant> = (0..HISTORIES).map(begin).collect();
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

/// The instant at which a history begins; every other one before 1970.
fn begin(history: usize) -> Instant {
    Instant(if history.is_multiple_of(2) { BEGIN_NS } else { -BEGIN_NS })
}

/// Makes a transition after a random time: none, a nanosecond, or up to months.
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

/// Takes snapshots of all instances at the latest instant of any.
fn look(policy: &Policy, trackers: &[Tracker], now: &[Instant]) -> Option<String> {
    let at = now.iter().copied().max()?;
    let single: Result<Vec<Totals>, Fault> =
        trackers.iter().map(|tracker| policy.snapshot(tracker, at)).collect();
    match (single, policy.snapshot_all(trackers, at)) {
        (Ok(single), Ok(batch)) if single == batch => None,
        (Ok(_), Ok(_)) => Some("a batch of snapshots answers other than single snapshots".into()),
        (Err(fault), _) | (_, Err(fault)) => Some(format!("a snapshot: {}", fault.in_words())),
    }
}

/// Checks that a total that would exceed 64 bits is refused, not wrapped or saturated.
fn overflow(policy: &Policy) -> Check {
    let before = Tracker {
        current: Some(Phase::Running),
        since: Instant(0),
        totals: Totals([u64::MAX - 1; 8]),
    };
    let failed = match policy.enter(&before, Phase::Stopped, Instant(2)) {
        Err(Fault::Refused(Refused::Overflow(_))) => None,
        Err(fault) => Some(format!("it must answer `overflow`; instead it {}", fault.in_words())),
        Ok(_) => Some("it must answer `overflow`; instead it answered with a tracker".into()),
    };
    Check { claim: "a total that would overflow is refused", cases: 1, failed }
}

/// The checks of measuring, with requests of several sizes. The host itself checks every answer:
/// masks have bits of declared meters only, terms are those of the declared meters, and the
/// policy's own lines state what their intervals held.
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
    /// Units used and billed by lines of the policy's own, by rule and unit.
    sums: BTreeMap<(String, String), (u128, u128)>,
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
            sums: BTreeMap::new(),
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

    /// Measures a request twice. None if a call failed.
    fn twice(&mut self, request: &Request) -> Option<Measurement> {
        let once = self.policy.measure(request);
        let again = self.policy.measure(request);
        self.measured.cases += 1;
        self.steady.cases += 1;
        let intervals = request.intervals.phase.len();
        match (once, again) {
            (Ok(once), Ok(again)) => {
                if once != again {
                    self.steady.failed = Some(format!(
                        "{intervals} intervals: a repeated call differs in answer or fuel"
                    ));
                }
                self.counted += once.value.counted.iter().filter(|&&mask| mask != 0).count() as u64;
                self.lines += once.value.lines.len() as u64;
                self.add_up(&once.value);
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

    fn add_up(&mut self, answer: &Measurement) {
        for line in &answer.lines {
            let key = (line.rule.clone(), line.unit.clone());
            let (quantity, billed) = self.sums.entry(key).or_default();
            *quantity = quantity.saturating_add(unsigned(line.quantity));
            *billed = billed.saturating_add(unsigned(line.billed));
        }
    }

    fn billed(&self) -> Vec<Billed> {
        let sums = self.sums.iter();
        let billed = sums.map(|((rule, unit), &(quantity, billed))| Billed {
            rule: rule.clone(),
            unit: unit.clone(),
            quantity,
            billed,
        });
        billed.collect()
    }

    fn note_terms(&mut self, answer: &Measurement) {
        self.same_terms.cases += 1;
        if *self.terms.get_or_insert_with(|| answer.terms.clone()) != answer.terms {
            self.same_terms.failed = Some("another request got other terms".into());
        }
    }

    /// Measures some of the instances alone.
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

/// Distance between the instances that are measured alone: calls of an interpreted policy are slow.
const ALONE_STEP: usize = 7;

/// Returns the request for one instance, and the index of its first interval in the whole request.
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

/// Checks that the policy counts some time: otherwise it would charge nothing, which nobody would
/// notice before the end of the month.
fn counts_something(counted: u64) -> Check {
    let failed = (counted == 0).then(|| "no interval in any phase is counted for any meter".into());
    Check { claim: "some time is counted", cases: REQUESTS.len() as u64, failed }
}

/// Sets each option to its default, and to each word of a choice. None of them may be refused, and
/// setting a default must not change the terms.
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
                        Some(format!("{named} is declared as the default, but changes the terms"))
                }
            }
        }
    }
    check
}

/// Checks that every meter that a book prices is declared.
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

/// Generates a request with this many intervals.
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
