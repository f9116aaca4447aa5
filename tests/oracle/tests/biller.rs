//! The biller and the oracle agree.

use std::collections::BTreeMap;

use biller::mutants::Mutant;
use biller::output::Bill;
use biller::{BillError, input};
use proptest::prelude::{ProptestConfig, Strategy, TestCaseError, proptest};
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, RngSeed, TestRunner};
use tallyman_oracle::generate::{from_env, scenarios};
use tallyman_oracle::{
    Balances, Meter, Nanos, PeriodView, Scenario, StretchKind, TimeRounding, views,
};

const CURRENCY: &str = "EUR";

proptest! {
    #![proptest_config(ProptestConfig {
        cases: from_env("ORACLE_CASES", 2_000),
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/biller.seeds"))),
        rng_seed: RngSeed::Fixed(from_env("ORACLE_SEED", 1)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_biller_and_the_oracle_agree(scenario in scenarios()) {
        for view in views(&scenario) {
            compare(&scenario, &view).map_err(TestCaseError::fail)?;
        }
    }
}

/// Number of scenarios within which each fault must be found.
const SCENARIOS_MAX: usize = 5_000;

#[test]
fn every_mutant_is_found() {
    let mut runner = TestRunner::deterministic();
    let mut left = Mutant::ALL.to_vec();
    for _ in 0..SCENARIOS_MAX {
        if left.is_empty() {
            break;
        }
        let scenario = scenarios().new_tree(&mut runner).expect("a scenario").current();
        let mut views = views(&scenario);
        views.retain(|view| !is_wrong(&scenario, std::slice::from_ref(view)));
        left.retain(|mutant| !mutant.during(|| is_wrong(&scenario, &views)));
    }
    assert_eq!(left, Vec::new(), "not found in {SCENARIOS_MAX} scenarios");
}

/// Returns whether the charges differ from the oracle's; balances may differ without harm.
fn is_wrong(scenario: &Scenario, views: &[PeriodView]) -> bool {
    let is_wrong = |view: &PeriodView| {
        let ours = of_oracle(view);
        let theirs = bill(scenario, view).map(|bill| of_biller(&bill));
        let is_right =
            |theirs: &Answer| ours.rules == theirs.rules && ours.adjustments == theirs.adjustments;
        !theirs.as_ref().is_ok_and(is_right)
    };
    views.iter().any(is_wrong)
}

fn bill(scenario: &Scenario, view: &PeriodView) -> Result<Bill, BillError> {
    let case = Case::of(scenario, view);
    biller::bill(&case.header, &case.subjects, &case.intervals, &[])
}

fn compare(scenario: &Scenario, view: &PeriodView) -> Result<(), String> {
    let bill = bill(scenario, view).map_err(|error| format!("the biller refuses: {error:?}"))?;
    let (ours, theirs) = (of_oracle(view), of_biller(&bill));
    if ours == theirs {
        return Ok(());
    }
    let up_to = view.up_to;
    Err(format!("up to {up_to} the oracle says {ours:?} and the biller {theirs:?}"))
}

/// The part of a bill that both sides compute.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    rules: BTreeMap<String, i128>,
    adjustments: BTreeMap<String, i128>,
    total: i128,
    coins: i128,
    closing: input::Balances,
}

fn of_oracle(view: &PeriodView) -> Answer {
    Answer {
        rules: view.sums.rules.clone(),
        adjustments: view.sums.adjustments.clone(),
        total: view.sums.total,
        coins: view.coins,
        closing: without_amounts(balances(&view.closing, &BTreeMap::new())),
    }
}

fn of_biller(bill: &Bill) -> Answer {
    let rules = bill.rules.iter().map(|rule| (rule.rule.clone(), rule.amount));
    let adjustments = bill.adjustments.iter().map(|of| (of.id.clone(), of.change));
    let mut closing = bill.closing.clone();
    closing.counters.retain(|counter| counter.units > 0);
    Answer {
        rules: rules.filter(|(_, amount)| *amount != 0).collect(),
        adjustments: adjustments.filter(|(_, change)| *change != 0).collect(),
        total: bill.total,
        coins: bill.payable * 10_i128.pow(9 - u32::from(bill.minor_digits)),
        closing: without_amounts(closing),
    }
}

fn without_amounts(mut balances: input::Balances) -> input::Balances {
    balances.credits.retain(|credit| credit.used > 0);
    for credit in &mut balances.credits {
        credit.amount = 0;
    }
    balances
}

/// The input of the biller.
struct Case {
    header: input::Header,
    subjects: Vec<input::Subject>,
    intervals: input::Intervals,
}

impl Case {
    fn of(scenario: &Scenario, view: &PeriodView) -> Self {
        Self {
            header: header(scenario, view),
            subjects: subjects(view),
            intervals: intervals(view),
        }
    }
}

fn first(view: &PeriodView) -> Nanos {
    view.begin.max(view.first_fact)
}

fn meters(view: &PeriodView) -> Vec<String> {
    let of_terms = view.terms.iter().flat_map(|(_, _, meters)| meters.keys().cloned());
    let mut meters: Vec<String> = of_terms.collect();
    meters.sort();
    meters.dedup();
    meters
}

fn header(scenario: &Scenario, view: &PeriodView) -> input::Header {
    let meters = meters(view);
    let terms = view.terms.iter().map(|(from, until, terms)| input::TermsInForce {
        from: *from,
        until: *until,
        terms: meters.iter().map(|meter| terms.get(meter).map(terms_of)).collect(),
    });
    let books = view.books.iter().map(|(from, until, text)| input::BookInForce {
        from: *from,
        until: *until,
        text: text.to_string(),
    });
    let zones = view.zones.iter().map(|(name, transitions)| input::Zone {
        name: name.clone(),
        transitions: transitions.clone(),
    });
    let offset =
        |step: &tallyman_oracle::Step| input::Offset { since: step.at, offset: step.offset };
    input::Header {
        form: input::FORM,
        period: input::Span { start: view.begin, end: view.usual_end },
        first: first(view),
        last: view.end,
        until: view.up_to,
        calendar: view.calendar.iter().map(offset).collect(),
        zones: zones.collect(),
        books: books.collect(),
        terms: terms.collect(),
        meters,
        opening: balances(&view.opening, &granted(scenario)),
    }
}

fn terms_of(meter: &Meter) -> input::Terms {
    input::Terms {
        stretch: stretch(meter.stretch),
        minimum_ns: meter.minimum.unsigned_abs(),
        granularity_ns: meter.granularity.max(1).unsigned_abs(),
        rounding: match meter.rounding {
            TimeRounding::Up => input::Rounding::Up,
            TimeRounding::Down => input::Rounding::Down,
            TimeRounding::HalfUp => input::Rounding::HalfUp,
        },
    }
}

fn stretch(kind: StretchKind) -> input::Stretch {
    match kind {
        StretchKind::Start => input::Stretch::Start,
        StretchKind::Wake => input::Stretch::Wake,
        StretchKind::Visit => input::Stretch::Visit,
        StretchKind::Life => input::Stretch::Life,
    }
}

fn subjects(view: &PeriodView) -> Vec<input::Subject> {
    let mut order: Vec<(Nanos, &str)> =
        view.instances.iter().map(|instance| (instance.first_fact, instance.id.as_str())).collect();
    order.sort_unstable();
    let subject = |instance: &tallyman_oracle::Instance| input::Subject {
        id: instance.id.clone(),
        first_fact: order.iter().position(|(_, id)| *id == instance.id).unwrap_or(0) as u64,
        ended: instance.pieces.iter().all(|piece| piece.to <= view.up_to),
    };
    view.instances.iter().map(subject).collect()
}

fn intervals(view: &PeriodView) -> input::Intervals {
    let meters = meters(view);
    let names = ["vcpu", "memory-byte"];
    let column = |name: &str| input::Column { name: name.to_owned(), values: Vec::new() };
    let mut intervals = input::Intervals {
        dimensions: names.iter().map(|name| column(name)).collect(),
        counts: vec![column("network-in-bytes")],
        ..input::Intervals::default()
    };
    for (number, cut) in view.cuts.iter().enumerate() {
        intervals.subject.push(u32::try_from(cut.instance).expect("few"));
        intervals.start.push(cut.from);
        intervals.end.push(cut.to);
        intervals.session.push(cut.piece.session);
        intervals.wakes.push(cut.piece.wakes);
        let bit = |(place, meter): (usize, &String)| u64::from(cut.meters.contains(meter)) << place;
        intervals.meters.push(meters.iter().enumerate().map(bit).sum());
        intervals.fact.push(number as u64);
        for (column, name) in intervals.dimensions.iter_mut().zip(names) {
            column.values.push(cut.piece.dimensions.get(name).copied().unwrap_or(0));
        }
        let count = cut.piece.counts.get("network-in-bytes").copied().unwrap_or(0);
        intervals.counts[0].values.push(count);
    }
    intervals
}

fn balances(of: &Balances, granted: &BTreeMap<String, i128>) -> input::Balances {
    let counters = of.counters.iter().map(|counter| input::CounterBalance {
        rule: counter.rule.clone(),
        meter: counter.meter.clone(),
        unit: counter.unit.clone(),
        instance: counter.instance.clone(),
        units: counter.value,
        covered: counter.covered,
        fees: counter.reached.iter().map(|place| u32::try_from(*place).expect("few")).collect(),
    });
    let stretches = of.stretches.iter().map(|of| {
        let has_session = matches!(of.kind, StretchKind::Start | StretchKind::Wake);
        let is_wake = of.kind == StretchKind::Wake;
        let is_visit = of.kind == StretchKind::Visit;
        input::StretchBalance {
            instance: of.instance.clone(),
            meter: of.meter.clone(),
            stretch: stretch(of.kind),
            session: if has_session { of.session } else { 0 },
            wakes: if is_wake { of.wakes } else { 0 },
            last: if is_visit { of.counted_until } else { 0 },
            used_ns: of.used.unsigned_abs(),
            owed_ns: of.owed_most.unsigned_abs(),
        }
    });
    let credits = of.credits.iter().map(|(id, used)| input::CreditBalance {
        id: id.clone(),
        currency: CURRENCY.to_owned(),
        amount: granted.get(id).copied().unwrap_or(0),
        used: *used,
    });
    let mut balances = input::Balances {
        counters: counters.collect(),
        stretches: stretches.collect(),
        credits: credits.collect(),
    };
    balances.counters.sort();
    balances.stretches.sort();
    balances.credits.sort();
    balances
}

fn granted(scenario: &Scenario) -> BTreeMap<String, i128> {
    let overrides = scenario.acts.iter().filter_map(|act| match act {
        tallyman_oracle::Act::Override(with) => with.book.as_ref(),
        _ => None,
    });
    let books = scenario.books.iter().map(|set| &set.book).chain(overrides);
    let adjustments = books.flat_map(|book| book["adjustments"].as_array().into_iter().flatten());
    adjustments
        .map(|it| (it["id"].as_str().expect("an id").to_owned(), nanos(&it["amount"])))
        .collect()
}

fn nanos(amount: &serde_json::Value) -> i128 {
    let text = amount.as_str().expect("a text");
    let (above, below) = text.split_once('.').unwrap_or((text, ""));
    format!("{above}{below:0<9}").parse().expect("digits")
}
