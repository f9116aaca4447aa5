//! The biller and the oracle agree.

use std::collections::BTreeMap;
use std::path::Path;

use biller::mutants::Mutant;
use biller::output::Bill;
use biller::{BillError, input};
use proptest::prelude::{ProptestConfig, Strategy, TestCaseError, proptest};
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, RngSeed, TestRunner};
use tallyman_oracle::generate::{from_env, scenarios};
use tallyman_oracle::{
    Balances, Meter, Nanos, Own, PeriodView, Scenario, StretchKind, TimeRounding, views,
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

/// The faults that change bills; the other one changes what they cost.
const OF_BILLS: &[Mutant] = Mutant::ALL.split_last().expect("some").1;

#[test]
fn every_mutant_is_found() {
    let mut runner = TestRunner::deterministic();
    let mut left = OF_BILLS.to_vec();
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

/// A cause of wrong bills, and the faults that put it back.
struct Cause {
    says: &'static str,
    /// Faults of the biller, which [`every_mutant_is_found`] finds.
    of_biller: &'static [Mutant],
    /// Other faults by their names, each with the test that plants and finds it: its file, from
    /// the root of the workspace, and its name.
    others: &'static [(&'static str, &'static str, &'static str)],
}

const DOCUMENTS: &str = "tests/oracle/tests/documents/main.rs";
const METERING: &str = "tests/tests/policy/metering.rs";
const SCALE: &str = "host/biller/src/scale.rs";

/// Causes by which a bill was wrong once. Each is put back as a fault, and found within 5,000
/// cases.
const CAUSES: [Cause; 30] = [
    Cause {
        says: "a policy's own line says how much is charged, whatever was used",
        of_biller: &[],
        others: &[(
            "OwnLinesUnchecked",
            METERING,
            "a_line_that_states_more_than_there_was_is_found",
        )],
    },
    Cause {
        says: "a volume price that changes reprices what was charged at the one before",
        of_biller: &[Mutant::VolumesAtLastPrice],
        others: &[],
    },
    Cause {
        says: "the same by a second book",
        of_biller: &[Mutant::VolumesAtLastPrice, Mutant::CountersByBook],
        others: &[],
    },
    Cause { says: "the same by windows", of_biller: &[Mutant::VolumesAtLastPrice], others: &[] },
    Cause {
        says: "the cost of windows grows with the square of their number",
        of_biller: &[],
        others: &[("PricesWalked", SCALE, "a_walk_over_all_prices_is_found")],
    },
    Cause {
        says: "the cost of prices that follow each other grows with the square of their number",
        of_biller: &[],
        others: &[("PricesWalked", SCALE, "a_walk_over_all_prices_is_found")],
    },
    Cause {
        says: "a budget counts intervals where the work is more",
        of_biller: &[],
        others: &[(
            "BudgetByIntervals",
            METERING,
            "fuel_suffices_for_a_shipped_policy_in_every_shape_of_a_request",
        )],
    },
    Cause {
        says: "book and policy meet at the invoice first",
        of_biller: &[],
        others: &[(
            "MeetingSkipped",
            "host/src/invoice/door.rs",
            "a_book_is_refused_where_a_price_meets_a_policy_without_its_meter",
        )],
    },
    Cause {
        says: "a book reaches back over time without one",
        of_biller: &[Mutant::FirstBookReachesBack],
        others: &[("OverridesReachBack", DOCUMENTS, "every_mutant_that_documents_show_is_found")],
    },
    Cause {
        says: "what is carried ends with each change of policy",
        of_biller: &[
            Mutant::CreditsBySwap,
            Mutant::CountersByPolicy,
            Mutant::StretchesByPolicy,
            Mutant::StretchesByPeriod,
            Mutant::CountersByPeriod,
        ],
        others: &[],
    },
    Cause {
        says: "tiers are filled in the order of ids",
        of_biller: &[Mutant::TiersByInstance],
        others: &[],
    },
    Cause {
        says: "tiers begin anew with each book",
        of_biller: &[Mutant::CountersByBook],
        others: &[],
    },
    Cause {
        says: "caps and minimums are judged by parts of a period",
        of_biller: &[Mutant::AdjustmentsByBook, Mutant::AmountsWhole, Mutant::SpansIgnored],
        others: &[],
    },
    Cause {
        says: "corrections don't cascade",
        of_biller: &[Mutant::CreditsByPeriod],
        others: &[("CascadeForgotten", DOCUMENTS, "every_mutant_that_documents_show_is_found")],
    },
    Cause {
        says: "a credit pays for time that nobody is billed for",
        of_biller: &[],
        others: &[("UnbilledTimePays", DOCUMENTS, "every_mutant_that_documents_show_is_found")],
    },
    Cause {
        says: "the raise of a minimum is seen by no later adjustment",
        of_biller: &[Mutant::RaisesUnseen],
        others: &[],
    },
    Cause {
        says: "each document rounds alone",
        of_biller: &[],
        others: &[("PayablesAlone", DOCUMENTS, "every_mutant_that_documents_show_is_found")],
    },
    Cause {
        says: "a planned book is lost when another is set",
        of_biller: &[Mutant::PlannedForgotten],
        others: &[("PlansReplaced", DOCUMENTS, "every_mutant_that_documents_show_is_found")],
    },
    Cause {
        says: "amounts have no currency",
        of_biller: &[],
        others: &[("CurrenciesMixed", DOCUMENTS, "every_mutant_that_documents_show_is_found")],
    },
    Cause {
        says: "whoever pays sets the price",
        of_biller: &[],
        others: &[("PayerCharges", "host/src/api/access.rs", "whoever_pays_does_not_charge")],
    },
    Cause {
        says: "a close does not wait for what a starting daemon has not looked at",
        of_biller: &[],
        others: &[(
            "UnseenIgnored",
            "tests/tests/operations/faults.rs",
            "what_was_not_looked_at_since_the_start_is_unsettled",
        )],
    },
    Cause {
        says: "a second rollback undoes the first",
        of_biller: &[],
        others: &[(
            "RollbackUndone",
            "host/src/rollout/history.rs",
            "rollbacks_go_further_back_until_there_is_nothing_left",
        )],
    },
    Cause {
        says: "an account stays degraded though its policy answers",
        of_biller: &[],
        others: &[(
            "DegradedForEver",
            "tests/tests/policy/swap.rs",
            "a_policy_that_failed_once_accounts_again_as_soon_as_it_answers",
        )],
    },
    Cause {
        says: "an instant in the past is taken as now",
        of_biller: &[],
        others: &[(
            "PastIsNow",
            "host/src/invoice/door.rs",
            "a_change_for_a_past_instant_is_refused",
        )],
    },
    Cause {
        says: "an hour that is shown twice is read in two ways",
        of_biller: &[],
        others: &[(
            "TwiceIsFirst",
            "host/src/billing/calendar.rs",
            "a_plan_means_the_first_instant_to_come_that_shows_it",
        )],
    },
    Cause {
        says: "a boot that never ends is never charged",
        of_biller: &[],
        others: &[("BootsNeverEnd", DOCUMENTS, "every_mutant_that_documents_show_is_found")],
    },
    Cause {
        says: "more is billed than was used",
        of_biller: &[],
        others: &[(
            "RatioIgnored",
            METERING,
            "what_a_component_declares_to_bill_at_most_it_may_bill",
        )],
    },
    Cause {
        says: "a repeated close has another answer",
        of_biller: &[],
        others: &[("RepeatedCloseRefused", DOCUMENTS, "every_mutant_that_documents_show_is_found")],
    },
    Cause {
        says: "a credit pays for time after its end",
        of_biller: &[Mutant::CreditsAlways],
        others: &[],
    },
    Cause {
        says: "a grain that is not full is not charged",
        of_biller: &[Mutant::GranularityDown],
        others: &[],
    },
];

#[test]
fn every_cause_of_a_wrong_bill_is_put_back_and_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for Cause { says, of_biller, others } in &CAUSES {
        assert!(!of_biller.is_empty() || !others.is_empty(), "{says}");
        for (fault, file, name) in *others {
            let text = std::fs::read_to_string(root.join(file)).expect(file);
            // Not where the fault is made, but where it is asked for.
            let text = text.replace(&format!("Mutant::{fault}.is_active()"), "");
            let is_there = text.contains(&format!("fn {name}()"))
                && text.contains(&format!("Mutant::{fault}"));
            assert!(is_there, "{says}: {file} has no {name} with {fault}");
        }
    }
    let named = |mutant: &&Mutant| CAUSES.iter().any(|cause| cause.of_biller.contains(mutant));
    let unnamed: Vec<_> = OF_BILLS.iter().filter(|mutant| !named(mutant)).collect();
    // The calendar's offset is no cause of its own.
    assert_eq!(unnamed, [&Mutant::CalendarNeverSet]);
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
    biller::bill(&case.header, &case.subjects, &case.intervals, &case.own)
}

fn compare(scenario: &Scenario, view: &PeriodView) -> Result<(), String> {
    let bill = bill(scenario, view).map_err(|error| format!("the biller refuses: {error:?}"))?;
    let ours = of_oracle(view);
    let theirs = of_biller(&bill);
    let up_to = view.up_to;
    if ours != theirs {
        return Err(format!("up to {up_to} the oracle says {ours:?} and the biller {theirs:?}"));
    }
    compare_parts(scenario, view, bill)
}

/// Marks state the sums of rules up to them, and change nothing else.
fn compare_parts(scenario: &Scenario, view: &PeriodView, plain: Bill) -> Result<(), String> {
    let mut case = Case::of(scenario, view);
    case.header.marks.clone_from(&view.marks);
    let mut bill = biller::bill(&case.header, &case.subjects, &case.intervals, &case.own)
        .map_err(|error| format!("the biller refuses marks: {error:?}"))?;
    let parts = bill.rules.iter_mut();
    let parts = parts.map(|rule| (rule.rule.clone(), std::mem::take(&mut rule.before)));
    let theirs: BTreeMap<String, Vec<i128>> = parts.filter(has_some).collect();
    let ours: BTreeMap<String, Vec<i128>> =
        view.before.clone().into_iter().filter(has_some).collect();
    if ours != theirs {
        let marks = &view.marks;
        return Err(format!("up to {marks:?} the oracle says {ours:?} and the biller {theirs:?}"));
    }
    match bill == plain {
        true => Ok(()),
        false => Err(format!("marks change {plain:?} to {bill:?}")),
    }
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
    let one_offs = bill.one_offs.iter().map(|of| (of.id.clone(), of.change));
    let adjustments = bill.adjustments.iter().map(|of| (of.id.clone(), of.change)).chain(one_offs);
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

fn has_some((_, before): &(String, Vec<i128>)) -> bool {
    before.iter().any(|amount| *amount != 0)
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
    own: Vec<input::OwnLine>,
}

impl Case {
    fn of(scenario: &Scenario, view: &PeriodView) -> Self {
        Self {
            header: header(scenario, view),
            subjects: subjects(view),
            intervals: intervals(view),
            own: view.own.iter().map(own_line).collect(),
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
        period: input::Span { start: view.usual_begin, end: view.usual_end },
        first: first(view),
        last: view.end,
        until: view.up_to,
        calendar: view.calendar.iter().map(offset).collect(),
        zones: zones.collect(),
        books: books.collect(),
        terms: terms.collect(),
        meters,
        opening: balances(&view.opening, &granted(scenario)),
        one_offs: of_period(view).map(one_off).collect(),
        marks: Vec::new(),
    }
}

/// The one-offs that may act in a period: no charges of earlier ones.
fn of_period(view: &PeriodView) -> impl Iterator<Item = &tallyman_oracle::OneOff> {
    view.one_offs.iter().filter(|one| one.is_goodwill || view.begin <= one.at)
}

fn own_line((own, meter, unit): &(Own, String, String)) -> input::OwnLine {
    input::OwnLine {
        rule: own.rule.clone(),
        meter: meter.clone(),
        subject: None,
        unit: unit.clone(),
        quantity: own.quantity.into(),
        billed: own.billed.into(),
        price_id: own.price.clone(),
        at: own.at,
    }
}

fn one_off(one: &tallyman_oracle::OneOff) -> input::OneOff {
    input::OneOff {
        id: one.id.clone(),
        kind: match one.is_goodwill {
            true => input::OneOffKind::Goodwill,
            false => input::OneOffKind::Charge,
        },
        at: one.at,
        amount: one.amount,
        currency: CURRENCY.to_owned(),
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
    let goodwill = scenario.acts.iter().filter_map(|act| match act {
        tallyman_oracle::Act::OneOff(one) if one.is_goodwill => Some((one.id.clone(), one.amount)),
        _ => None,
    });
    adjustments
        .map(|it| (it["id"].as_str().expect("an id").to_owned(), nanos(&it["amount"])))
        .chain(goodwill)
        .collect()
}

fn nanos(amount: &serde_json::Value) -> i128 {
    let text = amount.as_str().expect("a text");
    let (above, below) = text.split_once('.').unwrap_or((text, ""));
    format!("{above}{below:0<9}").parse().expect("digits")
}
