//! The documents of the program are those of the oracle: periods, borders, rules in force,
//! differences, corrections.

mod shelf;

use std::collections::BTreeMap;

use proptest::prelude::{
    ProptestConfig, Strategy, TestCaseError, prop_assert, prop_assert_eq, proptest,
};
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, RngSeed, TestRunner};
use serde_json::Value;
use shelf::{Shelf, reachable, tenant};
use tallyman::id::InstanceId;
use tallyman::invoice::{
    Computer, EvidenceError, Goal, Heading, Invoice, InvoiceError, Named, Sum, View, prove,
};
use tallyman::mutants::money::Mutant;
use tallyman::units::Instant;
use tallyman_oracle::generate::{from_env, scenarios};
use tallyman_oracle::{Act, BookSet, Document, Nanos, Override, PolicySet, Scenario, run};

/// The part of a document that both sides state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stated {
    up_to: Nanos,
    rules: BTreeMap<String, i128>,
    adjustments: BTreeMap<String, i128>,
    total: i128,
    period_total: i128,
    payable: i128,
}

impl Stated {
    fn by_oracle(document: &Document) -> Self {
        Self {
            up_to: document.up_to,
            rules: document.difference.rules.clone(),
            adjustments: document.difference.adjustments.clone(),
            total: document.difference.total,
            period_total: document.whole.total,
            payable: document.payable,
        }
    }

    fn by_program(invoice: &Invoice, shelf: &Shelf) -> Self {
        let sums = |sums: &[Sum]| -> BTreeMap<String, i128> {
            let id = |sum: &Sum| shelf.one_offs.get(&sum.id).unwrap_or(&sum.id).clone();
            sums.iter().map(|sum| (id(sum), nanos(&sum.amount))).collect()
        };
        Self {
            up_to: invoice.until().0,
            rules: sums(&invoice.rules),
            adjustments: sums(&invoice.adjustments),
            total: nanos(&invoice.total),
            period_total: nanos(&invoice.period_total),
            payable: nanos(&invoice.payable),
        }
    }
}

/// An amount in nano-units.
fn nanos(amount: &str) -> i128 {
    let (sign, digits) = amount.strip_prefix('-').map_or((1, amount), |digits| (-1, digits));
    let (above, below) = digits.split_once('.').unwrap_or((digits, ""));
    sign * format!("{above}{below:0<9}").parse::<i128>().expect("an amount")
}

fn name(id: &InstanceId) -> Result<Named, EvidenceError> {
    Ok(Named { id: id.to_string(), name: id.to_string(), tags: Vec::new() })
}

fn view(shelf: &Shelf) -> View {
    View::load(shelf, &tenant(), shelf.head()).expect("a view")
}

fn computed<T>(
    shelf: &Shelf,
    work: impl FnOnce(&Computer<'_, Shelf, shelf::Policies>, View) -> T,
) -> T {
    work(&Computer::new(shelf, &shelf.policies, &name), view(shelf))
}

/// Makes the documents towards a goal. A period that can't be rated ends it.
fn reach(shelf: &mut Shelf, goal: Goal) -> Result<Vec<Invoice>, InvoiceError> {
    let mut made = Vec::new();
    loop {
        let next =
            computed(shelf, |computer, view| computer.next(&view, goal, &Heading::default()));
        match next {
            Ok(Some(invoice)) => {
                shelf.issue(&invoice);
                made.push(invoice);
            }
            Ok(None) => return Ok(made),
            Err(error) if error.is_unrated() => return Ok(made),
            Err(error) => return Err(error),
        }
    }
}

/// The documents of each act.
fn documents(scenario: &Scenario) -> Result<(Shelf, Vec<Vec<Invoice>>), String> {
    let mut shelf = Shelf::of(scenario);
    let mut made = Vec::new();
    for act in &scenario.acts {
        let of_act = match act {
            Act::Close(to) => reach(&mut shelf, Goal::Close(Instant(*to))),
            Act::Settle => reach(&mut shelf, Goal::Settle),
            Act::Override(with) => {
                shelf.replace(with);
                Ok(Vec::new())
            }
            Act::OneOff(one) => {
                shelf.charge(one);
                Ok(Vec::new())
            }
            Act::Learn(instance) => {
                shelf.learn(instance);
                Ok(Vec::new())
            }
            Act::Clock(_) => Ok(Vec::new()),
        };
        made.push(of_act.map_err(|error| error.to_string())?);
    }
    Ok((shelf, made))
}

/// Numbers of the documents that a settlement would correct.
fn stale(shelf: &Shelf) -> Vec<u64> {
    computed(shelf, |computer, view| computer.stale(&view)).expect("numbers")
}

/// Compares the documents of each act with the oracle's.
fn compare(scenario: &Scenario) -> Result<(), String> {
    let theirs = run(scenario);
    let (shelf, made) = documents(scenario)?;
    for (number, of_act) in made.iter().enumerate() {
        let ours: Vec<Stated> =
            of_act.iter().map(|invoice| Stated::by_program(invoice, &shelf)).collect();
        let expected = theirs.documents.iter().filter(|document| document.act == number);
        let expected: Vec<Stated> = expected.map(Stated::by_oracle).collect();
        if ours != expected {
            return Err(format!("act {number}: {ours:#?}; by the oracle {expected:#?}"));
        }
    }
    match stale(&shelf).is_empty() == theirs.stale.is_empty() {
        true => Ok(()),
        false => Err(format!("stale are {:?}; by the oracle {:?}", stale(&shelf), theirs.stale)),
    }
}

fn config(cases: u32, seeds: &'static str) -> ProptestConfig {
    ProptestConfig {
        cases: from_env("ORACLE_CASES", cases),
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(seeds))),
        rng_seed: RngSeed::Fixed(from_env("ORACLE_SEED", 1)),
        ..ProptestConfig::default()
    }
}

fn reachable_scenarios() -> impl Strategy<Value = Scenario> {
    scenarios().prop_map(reachable)
}

proptest! {
    #![proptest_config(config(1_000, "tests/documents.seeds"))]

    #[test]
    fn the_documents_are_the_oracles(scenario in reachable_scenarios()) {
        compare(&scenario).map_err(TestCaseError::fail)?;
    }
}

proptest! {
    #![proptest_config(config(200, "tests/documents.seeds"))]

    #[test]
    fn a_preview_says_what_a_close_makes(scenario in reachable_scenarios(), to in 0..3_i64) {
        let (mut shelf, _) = documents(&scenario).map_err(TestCaseError::fail)?;
        let last = scenario.acts.iter().map(|act| match act {
            Act::Close(to) => *to,
            _ => 0,
        });
        let to = last.max().unwrap_or(0) + to * 20 * 3_600_000_000_000;
        let preview = computed(&shelf, |computer, view| computer.preview(view, Instant(to)));
        let preview = match preview {
            Ok(preview) => preview,
            // A period that no policy has measured has no preview.
            Err(error) if error.is_unrated() => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let made = reach(&mut shelf, Goal::Close(Instant(to)));
        let made = made.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let of = |invoices: &[Invoice]| -> Vec<_> {
            let lines = invoices.iter().map(|one| (one.lines.clone(), one.adjustments.clone()));
            lines.zip(invoices.iter().map(|one| Stated::by_program(one, &shelf))).collect()
        };
        prop_assert!(of(&preview) == of(&made), "{preview:#?}; made is {made:#?}");
    }

    #[test]
    fn every_document_is_proved(scenario in reachable_scenarios()) {
        let (shelf, made) = documents(&scenario).map_err(TestCaseError::fail)?;
        for number in (1..).take(made.iter().flatten().count()) {
            let proved = prove(&shelf, &shelf.policies, &tenant(), number);
            prop_assert!(proved.is_ok(), "document {number}: {proved:?}");
        }
    }
}

proptest! {
    #![proptest_config(config(200, "tests/documents.seeds"))]

    /// Setting the book in force again in other words, or a component that differs in nothing that
    /// counts, changes no amount.
    #[test]
    fn the_same_content_again_changes_no_amount(
        scenario in reachable_scenarios(),
        place in 0_usize..64,
    ) {
        let stated = |scenario: &Scenario| -> Result<Vec<Vec<Stated>>, TestCaseError> {
            let (shelf, made) = documents(scenario).map_err(TestCaseError::fail)?;
            let of_act = |of_act: &Vec<Invoice>| {
                of_act.iter().map(|invoice| Stated::by_program(invoice, &shelf)).collect()
            };
            Ok(made.iter().map(of_act).collect())
        };
        prop_assert_eq!(stated(&scenario)?, stated(&in_other_words(&scenario, place))?);
    }

    #[test]
    fn no_period_is_billed_in_two_currencies(scenario in reachable_scenarios()) {
        prop_assert!(!mixes_currencies(&scenario));
    }
}

/// Sets the book and the policy in force at some instant once more: the book in another text, the
/// policy as another component.
fn in_other_words(scenario: &Scenario, place: usize) -> Scenario {
    let mut scenario = scenario.clone();
    let lives = scenario.instances.iter().flat_map(|instance| &instance.pieces);
    let pieces: Vec<_> = lives.map(|piece| (piece.from, piece.to)).collect();
    let Some((from, to)) = pieces.get(place % pieces.len().max(1)) else { return scenario };
    let at = from + (to - from) / 2;
    let before = scenario.books.iter().filter(|set| set.from < at);
    if let Some(set) = before.max_by_key(|set| (set.from, set.set_at)).cloned() {
        let book = twice_over(&set.book);
        scenario.books.insert(0, BookSet { set_at: at, from: at, book });
    }
    let before = scenario.policies.iter().filter(|set| set.from < at);
    if let Some(set) = before.max_by_key(|set| set.from).cloned() {
        scenario.policies.insert(0, PolicySet { from: at, policy: set.policy });
    }
    scenario
}

/// The same book in another text: prices as other fractions of the same value.
fn twice_over(book: &Value) -> Value {
    let mut book = book.clone();
    let prices = book["prices"].as_array_mut().into_iter().flatten();
    for price in prices {
        double(&mut price["price"]);
        price["tiers"].as_array_mut().into_iter().flatten().for_each(|tier| {
            double(&mut tier["price"]);
        });
        // An index makes what is not there.
        let fields = price.as_object_mut().expect("a price");
        fields.retain(|_, value| !value.is_null());
    }
    book
}

/// Doubles both parts of a fraction.
fn double(price: &mut Value) {
    if let Some((above, below)) = price.as_str().and_then(|text| text.split_once('/')) {
        let twice = |part: &str| 2 * part.parse::<i128>().expect("a number");
        *price = Value::from(format!("{}/{}", twice(above), twice(below)));
    }
}

/// Returns whether some period gets documents in two currencies once its books are overridden by
/// one in another currency.
fn mixes_currencies(scenario: &Scenario) -> bool {
    let mut book = scenario.books[0].book.clone();
    book["currency"] = Value::from("USD");
    let ever = (Nanos::MIN, Nanos::MAX / 2);
    let with =
        Override { from: ever.0, to: ever.1, policy: None, book: Some(book), from_begin: true };
    let mut scenario = scenario.clone();
    scenario.acts.extend([Act::Override(with), Act::Settle]);
    let Ok((shelf, _)) = documents(&scenario) else { return false };
    let mut currencies: BTreeMap<i64, String> = BTreeMap::new();
    view(&shelf).documents().iter().any(|document| {
        let Some(named) = document.currency.clone() else { return false };
        let known = currencies.entry(document.period.from_ns).or_insert_with(|| named.clone());
        *known != named
    })
}

/// Number of scenarios within which each fault must be found.
const SCENARIOS_MAX: usize = 5_000;

/// The causes of wrong bills that documents show.
const SHOWN: [Mutant; 8] = [
    Mutant::CascadeForgotten,
    Mutant::UnbilledTimePays,
    Mutant::PayablesAlone,
    Mutant::PlansReplaced,
    Mutant::CurrenciesMixed,
    Mutant::RepeatedCloseRefused,
    Mutant::BootsNeverEnd,
    Mutant::OverridesReachBack,
];

/// The scenario under a first policy that can't rate.
fn begun_unrated(scenario: &Scenario) -> Scenario {
    let mut scenario = scenario.clone();
    scenario.policies.iter_mut().take(1).for_each(|set| set.policy.unrated = true);
    scenario
}

/// Returns whether the documents of a scenario show a fault, which may be planted.
fn shows(mutant: Mutant, scenario: &Scenario) -> bool {
    match mutant {
        Mutant::CurrenciesMixed => mixes_currencies(scenario),
        Mutant::UnbilledTimePays => compare(&begun_unrated(scenario)).is_err(),
        _ => compare(scenario).is_err(),
    }
}

#[test]
fn every_mutant_that_documents_show_is_found() {
    let mut runner = TestRunner::deterministic();
    let mut left = SHOWN.to_vec();
    for _ in 0..SCENARIOS_MAX {
        if left.is_empty() {
            break;
        }
        let tree = reachable_scenarios().new_tree(&mut runner);
        let scenario = tree.expect("a scenario").current();
        assert_eq!(compare(&scenario), Ok(()), "a case without the fault: {scenario:#?}");
        for &mutant in &left {
            if matches!(mutant, Mutant::CurrenciesMixed | Mutant::UnbilledTimePays) {
                assert!(!shows(mutant, &scenario), "a case without the fault: {scenario:#?}");
            }
        }
        left.retain(|&mutant| !mutant.during(|| shows(mutant, &scenario)));
    }
    assert_eq!(left, Vec::new(), "not found in {SCENARIOS_MAX} scenarios");
}
