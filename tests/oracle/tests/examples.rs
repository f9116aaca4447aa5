//! The examples of `docs/bill.md` come out as the text says.

use std::collections::BTreeSet;

use tallyman_oracle::{examples, run};

fn holds(id: &str) {
    let all = examples::all();
    let example = all.iter().find(|example| example.id == id).expect("an example");
    let outcome = run(&example.scenario);
    let totals: Vec<i128> =
        outcome.documents.iter().map(|document| document.difference.total).collect();
    assert_eq!(totals, example.totals, "totals of {outcome:#?}");
    if let Some(payables) = &example.payables {
        let paid: Vec<i128> = outcome.documents.iter().map(|document| document.payable).collect();
        assert_eq!(paid, *payables);
    }
    if let Some(used) = example.credit_used {
        assert_eq!(outcome.credits.get("gift").copied().unwrap_or(0), used);
    }
    assert_eq!(outcome.stale, Vec::<String>::new());
}

macro_rules! examples {
    ($($name:ident: $id:literal,)*) => {
        $(#[test]
        fn $name() {
            holds($id);
        })*

        const IDS: &[&str] = &[$($id),*];
    };
}

examples! {
    example_4a: "4a",
    example_4b: "4b",
    example_4c: "4c",
    example_4c_with_the_book_set_again: "4c again",
    example_4d: "4d",
    example_4e: "4e",
    example_4f: "4f",
    example_4g: "4g",
    example_4h: "4h",
    example_7a: "7a",
    example_7b: "7b",
    example_7c: "7c",
    example_7d: "7d",
    example_7e: "7e",
    example_7f_below_the_granularity: "7f below",
    example_7f_above_the_granularity: "7f above",
    example_7g: "7g",
    example_8a: "8a",
    example_8b: "8b",
    example_8c: "8c",
    example_8d: "8d",
    example_8e: "8e",
    example_8f: "8f",
    example_8g: "8g",
    example_8h: "8h",
    example_8i: "8i",
    example_8j: "8j",
    example_8k: "8k",
    example_9a: "9a",
    example_9b: "9b",
    example_9c: "9c",
    example_9d: "9d",
    example_10a: "10a",
    example_17a: "17a",
    example_17b: "17b",
    example_17c: "17c",
    example_17d: "17d",
    example_17e: "17e",
    example_17f: "17f",
}

/// Examples of acts of the host, which the oracle does not know: `tests/tests/api/boots.rs` has
/// them, on a daemon whose clocks are moved.
const OF_THE_HOST: [&str; 2] = ["18a", "18b"];

#[test]
fn every_example_of_the_text_is_a_test() {
    let text = include_str!("../../../docs/bill.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| **"));
    let of_text: BTreeSet<&str> = rows.filter_map(|row| row.split("**").next()).collect();
    let tested = IDS.iter().filter_map(|id| id.split_whitespace().next());
    let tested: BTreeSet<&str> = tested.chain(OF_THE_HOST).collect();
    assert_eq!(of_text, tested);
    let all: Vec<&str> = examples::all().iter().map(|example| example.id).collect();
    assert_eq!(all, IDS);
}
