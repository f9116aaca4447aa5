//! Properties of every bill that the oracle computes, and the features that scenarios reach.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{ProptestConfig, Strategy, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::ValueTree;
use proptest::test_runner::FileFailurePersistence;
use proptest::test_runner::RngSeed;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use tallyman_oracle::generate::{FEATURES, features, from_env, scenarios};
use tallyman_oracle::{Act, BookSet, Nanos, Outcome, PolicySet, Scenario, Sums, run};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: from_env("ORACLE_CASES", 400),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/properties.seeds",
        ))),
        rng_seed: RngSeed::Fixed(from_env("ORACLE_SEED", 1)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn cuts_change_nothing(scenario in scenarios(), place in 0_usize..64) {
        let cut = cut(&scenario, place);
        prop_assert_eq!(sums(&run(&scenario)), sums(&run(&cut)));
    }

    #[test]
    fn what_is_set_again_changes_nothing(scenario in scenarios(), place in 0_usize..64) {
        let again = set_again(&scenario, place);
        prop_assert_eq!(sums(&run(&scenario)), sums(&run(&again)));
    }

    #[test]
    fn new_names_change_no_rules_sum(scenario in scenarios()) {
        let before = run(&scenario);
        let after = run(&renamed(&scenario));
        let rules = |outcome: &Outcome| -> Vec<(String, Nanos, BTreeSet<i128>)> {
            let rules = |sums: &Sums| sums.rules.values().copied().collect();
            let documents = outcome.documents.iter();
            let documents = documents.filter(|document| !document.whole.rules.is_empty());
            documents.map(|it| (it.period.clone(), it.up_to, rules(&it.whole))).collect()
        };
        prop_assert_eq!(rules(&before), rules(&after));
    }

    #[test]
    fn another_settle_has_nothing_to_do(scenario in scenarios()) {
        let settled = run(&scenario);
        let mut again = scenario.clone();
        again.acts.push(Act::Settle);
        prop_assert_eq!(settled.documents, run(&again).documents);
        prop_assert_eq!(settled.stale, Vec::<String>::new());
    }

    #[test]
    fn no_credit_pays_more_than_it_has(scenario in scenarios()) {
        let granted = granted(&scenario);
        for (id, used) in run(&scenario).credits {
            prop_assert!(used >= 0 && used <= granted[&id], "{id}: {used} of {}", granted[&id]);
        }
    }

    #[test]
    fn nothing_is_charged_below_zero(scenario in scenarios()) {
        for document in run(&scenario).documents {
            prop_assert!(document.whole.total >= 0, "{document:?}");
            prop_assert!(document.whole.rules.values().all(|sum| *sum >= 0), "{document:?}");
        }
    }

    /// Without steps, a change of time changes the bill by at most time x price x quantity, and one
    /// nano-unit a period.
    #[test]
    fn without_steps_the_bill_is_continuous_in_time(
        scenario in scenarios(),
        place in 0_usize..3,
        more in 1_i64..50,
    ) {
        let mut smooth = smooth(&scenario);
        let sums = |scenario: &Scenario| -> (i128, i128) {
            let last = last(&run(scenario));
            let sums = last.values().flat_map(|(_, sums)| sums.rules.values());
            (sums.sum(), last.len() as i128)
        };
        let (before, _) = sums(&smooth);
        let place = place % smooth.instances.len();
        let instance = &mut smooth.instances[place];
        let Some(piece) = instance.pieces.last_mut() else { return Ok(()) };
        piece.to += more;
        let quantity: u64 = piece.dimensions.values().chain([&1]).sum();
        let (after, periods) = sums(&smooth);
        let most = highest(&smooth) * i128::from(more) * i128::from(quantity);
        let rules = 3;
        prop_assert!((after - before).abs() <= most + rules * periods, "{before} to {after}");
    }

    #[test]
    fn documents_add_up_to_the_last_view_in_coins(scenario in scenarios()) {
        let mut totals: BTreeMap<String, (i128, i128)> = BTreeMap::new();
        for document in run(&scenario).documents {
            let (total, paid) = totals.entry(document.period).or_default();
            *total += document.difference.total;
            *paid += document.payable;
            prop_assert_eq!(*total, document.whole.total);
            prop_assert!((*paid - *total).abs() < 10_000_000, "less than a coin apart");
        }
        for (_, paid) in totals.values() {
            prop_assert_eq!(paid % 10_000_000, 0);
        }
    }

    #[test]
    fn it_does_not_matter_when_something_becomes_known(scenario in scenarios()) {
        let early = known_early(&scenario);
        let late = last(&run(&scenario));
        let early = last(&run(&early));
        let ends = |last: &BTreeMap<String, (Nanos, Sums)>| -> Vec<(String, Nanos)> {
            last.iter().map(|(period, (up_to, _))| (period.clone(), *up_to)).collect()
        };
        // Caps may absorb the difference of rules, so only totals are equal.
        let totals = |last: BTreeMap<String, (Nanos, Sums)>| -> Vec<i128> {
            last.into_values().map(|(_, sums)| sums.total).collect()
        };
        if ends(&late) == ends(&early) {
            prop_assert_eq!(totals(late), totals(early));
        }
    }
}

/// The scenario without tiers, packages, fees, windows, adjustments, minimums and grains, closed
/// once after everything.
fn smooth(scenario: &Scenario) -> Scenario {
    let mut smooth = scenario.clone();
    smooth.own.clear();
    smooth.ended = None;
    for set in &mut smooth.books {
        set.book["adjustments"] = Value::Array(Vec::new());
        set.book["line_digits"] = Value::from(9);
        let prices = set.book["prices"].as_array_mut().expect("prices");
        prices.retain(|price| price["per"] != "network-in-B" && price["windows"].is_null());
        prices.iter_mut().for_each(|price| *price = flat(price));
    }
    for set in &mut smooth.policies {
        for meter in set.policy.meters.values_mut() {
            (meter.minimum, meter.granularity) = (0, 0);
        }
    }
    let ends = smooth.instances.iter().flat_map(|instance| &instance.pieces);
    let end = ends.map(|piece| piece.to).max().unwrap_or(0);
    smooth.acts = vec![Act::Close(end + 1_000)];
    smooth
}

/// A price of one rate: the price itself, or that of its first tier.
fn flat(price: &Value) -> Value {
    let mut flat = price.clone();
    let fields = flat.as_object_mut().expect("a price");
    let first = price["tiers"][0]["price"].clone();
    if !first.is_null() {
        fields.insert("price".into(), first);
    }
    for of_steps in ["model", "tiers", "once", "included", "package"] {
        fields.remove(of_steps);
    }
    flat
}

/// The highest price of a unit for a second, in units of money, rounded up.
fn highest(scenario: &Scenario) -> i128 {
    let books = scenario.books.iter().map(|set| &set.book);
    let prices = books.flat_map(|book| book["prices"].as_array().into_iter().flatten());
    let above = |price: &Value| {
        let text = price["price"].as_str().expect("a text");
        let (above, below) = text.split_once('/').unwrap_or((text, "1"));
        let below: i128 = below.parse().expect("a number");
        (above.parse::<i128>().expect("a number") + below - 1) / below
    };
    prices.map(above).max().unwrap_or(0)
}

fn sums(outcome: &Outcome) -> Vec<(String, Nanos, Sums, i128)> {
    let documents = outcome.documents.iter();
    documents.map(|it| (it.period.clone(), it.up_to, it.whole.clone(), it.payable)).collect()
}

fn last(outcome: &Outcome) -> BTreeMap<String, (Nanos, Sums)> {
    let documents = outcome.documents.iter();
    documents.map(|it| (it.period.clone(), (it.up_to, it.whole.clone()))).collect()
}

/// Cuts each piece of the instances in two, at a place of its own.
fn cut(scenario: &Scenario, place: usize) -> Scenario {
    let mut scenario = scenario.clone();
    let learnt = scenario.acts.iter_mut().filter_map(|act| match act {
        Act::Learn(instance) => Some(instance),
        Act::Close(_) | Act::Settle | Act::OneOff(_) | Act::Override(_) | Act::Clock(_) => None,
    });
    for instance in scenario.instances.iter_mut().chain(learnt) {
        let pieces = std::mem::take(&mut instance.pieces);
        for piece in pieces {
            let length = piece.to - piece.from;
            let at = piece.from + length * Nanos::try_from(place).expect("small") / 64;
            if at > piece.from {
                let mut first = piece.clone();
                first.to = at;
                first.counts.clear();
                instance.pieces.push(first);
            }
            let mut second = piece;
            second.from = at;
            instance.pieces.push(second);
        }
    }
    scenario
}

/// Sets the book and the policy in force at some instant once more.
fn set_again(scenario: &Scenario, place: usize) -> Scenario {
    let mut scenario = scenario.clone();
    let lives = scenario.instances.iter().flat_map(|instance| &instance.pieces);
    let pieces: Vec<_> = lives.map(|piece| (piece.from, piece.to)).collect();
    let (from, to) = pieces[place % pieces.len()];
    let at = from + (to - from) / 2;
    let before = scenario.books.iter().filter(|set| set.from < at);
    if let Some(set) = before.max_by_key(|set| set.from).cloned() {
        scenario.books.insert(0, BookSet { set_at: at, from: at, book: set.book });
    }
    let before = scenario.policies.iter().filter(|set| set.from < at);
    if let Some(set) = before.max_by_key(|set| set.from).cloned() {
        scenario.policies.insert(0, PolicySet { from: at, policy: set.policy });
    }
    scenario
}

/// Renames instances, rules and prices, and changes their order.
fn renamed(scenario: &Scenario) -> Scenario {
    let mut text = serde_json::to_string(scenario).expect("JSON");
    for (rule, other) in [("a", "z"), ("b", "y"), ("c", "x")] {
        text = text.replace(&format!("\"rule\":\"{rule}\""), &format!("\"rule\":\"{other}\""));
        text = text.replace(&format!("\"id\":\"{rule}-"), &format!("\"id\":\"{other}-"));
        text = text.replace(&format!("\"price\":\"{rule}-"), &format!("\"price\":\"{other}-"));
    }
    for (number, other) in [(0, 5), (1, 4), (2, 3)] {
        text = text.replace(&format!("instance-{number}"), &format!("instance-{other}"));
    }
    let mut scenario: Scenario = serde_json::from_str(&text).expect("a scenario");
    let overrides = scenario.acts.iter_mut().filter_map(|act| match act {
        Act::Override(with) => with.book.as_mut(),
        Act::Close(_) | Act::Settle | Act::OneOff(_) | Act::Learn(_) | Act::Clock(_) => None,
    });
    for book in scenario.books.iter_mut().map(|set| &mut set.book).chain(overrides) {
        for adjustment in book["adjustments"].as_array_mut().into_iter().flatten() {
            for rule in adjustment["rules"].as_array_mut().into_iter().flatten() {
                *rule = Value::from(match rule.as_str() {
                    Some("a") => "z",
                    Some("b") => "y",
                    _ => "x",
                });
            }
        }
    }
    scenario
}

fn granted(scenario: &Scenario) -> BTreeMap<String, i128> {
    let overrides = scenario.acts.iter().filter_map(|act| match act {
        Act::Override(with) => with.book.as_ref(),
        Act::Close(_) | Act::Settle | Act::OneOff(_) | Act::Learn(_) | Act::Clock(_) => None,
    });
    let books = scenario.books.iter().map(|set| &set.book).chain(overrides);
    let adjustments = books.flat_map(|book| book["adjustments"].as_array().into_iter().flatten());
    let goodwill = scenario.acts.iter().filter_map(|act| match act {
        Act::OneOff(one) if one.is_goodwill => Some((one.id.clone(), one.amount)),
        _ => None,
    });
    adjustments
        .map(|it| (it["id"].as_str().expect("an id").to_owned(), nanos(&it["amount"])))
        .chain(goodwill)
        .collect()
}

fn nanos(amount: &Value) -> i128 {
    let text = amount.as_str().expect("a text");
    let (above, below) = text.split_once('.').unwrap_or((text, ""));
    format!("{above}{below:0<9}").parse().expect("digits")
}

/// The same scenario, but everything is known before the first close.
fn known_early(scenario: &Scenario) -> Scenario {
    let mut scenario = scenario.clone();
    if scenario.acts.iter().any(|act| matches!(act, Act::Clock(_))) {
        // The position of borders depends on when the clock's news came.
        return scenario;
    }
    let is_news = |act: &Act| match act {
        Act::Learn(_) | Act::Override(_) | Act::OneOff(_) => true,
        Act::Close(_) | Act::Settle | Act::Clock(_) => false,
    };
    scenario.acts.sort_by_key(|act| !is_news(act));
    scenario
}

/// One scenario in a hundred at least has each pair of features. `ORACLE_PAIRS` scenarios are
/// counted; a run with 100,000 is reported in `docs/reliability.md`.
#[test]
fn scenarios_reach_every_pair_of_features() {
    let count = from_env("ORACLE_PAIRS", 1_000);
    let mut runner = TestRunner::deterministic();
    let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (place, first) in FEATURES.iter().enumerate() {
        pairs.extend(FEATURES[place + 1..].iter().map(|second| ((*first, *second), 0)));
    }
    for _ in 0..count {
        let scenario = scenarios().new_tree(&mut runner).expect("a scenario").current();
        let reached = features(&scenario);
        for ((first, second), times) in &mut pairs {
            *times += usize::from(reached.contains(first) && reached.contains(second));
        }
    }
    let mut rare: Vec<_> = pairs.iter().map(|(pair, times)| (*times, *pair)).collect();
    rare.sort_unstable();
    println!("{count} scenarios, {} pairs; the rarest: {:?}", rare.len(), &rare[..8]);
    let missing: Vec<_> = rare.iter().filter(|(times, _)| times * 100 < count).collect();
    assert!(missing.is_empty(), "too rare: {missing:?}");
}
