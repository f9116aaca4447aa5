//! Random tenants are billed by the biller and by the oracle, which shares no code with it.

mod support;

use std::collections::BTreeMap;

use biller::input::{Balances, Span};
use biller::output::Bill;
use proptest::prelude::*;
use support::scenarios::{DAY, Period, instant, scenario};
use tallyman_oracle as oracle;
use tallyman_oracle::{Act, Document, Scenario};

/// Sums by rule and by adjustment, without zeros, and the total.
type Sums = (BTreeMap<String, i128>, BTreeMap<String, i128>, i128);

fn of_bill(bill: &Bill) -> Sums {
    let rules = bill.rules.iter().map(|rule| (rule.rule.clone(), rule.amount));
    let changes = bill.adjustments.iter().map(|one| (one.id.clone(), one.change));
    let there = |(_, amount): &(String, i128)| *amount != 0;
    (rules.filter(there).collect(), changes.filter(there).collect(), bill.total)
}

fn of_document(document: &Document) -> Sums {
    let there = |map: &BTreeMap<String, i128>| {
        map.iter().filter(|(_, amount)| **amount != 0).map(|(id, sum)| (id.clone(), *sum)).collect()
    };
    let whole = &document.whole;
    (there(&whole.rules), there(&whole.adjustments), whole.total)
}

fn agree(scenario: &Scenario, until: i64) -> Result<(), TestCaseError> {
    let mut scenario = scenario.clone();
    scenario.acts = vec![Act::Close(until)];
    let outcome = oracle::run(&scenario);
    let mut opening = Balances::default();
    for (day, document) in (0..).zip(&outcome.documents) {
        let span = Span { start: day * DAY, end: (day + 1) * DAY };
        let period = Period { scenario: &scenario, span, until: document.up_to };
        let bill = period.bill(opening);
        prop_assert_eq!(of_bill(&bill), of_document(document), "day {} of {:#?}", day, scenario);
        opening = bill.closing;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 20_000,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]
    #[test]
    fn the_biller_agrees_with_the_oracle(scenario in scenario(), until in instant()) {
        agree(&scenario, until.max(1))?;
    }
}
