//! Lines: instance, price and tier, quantity and amount.

mod support;

use biller::input::{OwnLine, Rounding};
use biller::output::{Bill, LineKind};
use serde_json::json;
use support::{Case, SECOND, book, cents, plain, price, terms};

const NS: u128 = 1_000_000_000;

/// Subject, tier, quantity, billed and cents of all lines of a kind.
fn rows(bill: &Bill, kind: LineKind) -> Vec<(Option<u32>, u32, u128, u128, i128)> {
    let lines = bill.lines.iter().filter(|line| bill.tariff(line).kind == kind);
    let row = |line: &biller::output::Line| {
        let tier = bill.tariff(line).tier;
        (line.subject, tier, line.quantity, line.billed, line.amount / cents(1))
    };
    lines.map(row).collect()
}

#[test]
fn a_tier_that_ends_inside_a_nanosecond_is_shared_by_weight() {
    let tiers = json!([{"up_to": "3.000000001", "price": 1}, {"price": 2}]);
    let price = price(json!({"per": "vcpu-second", "scope": "tenant", "tiers": tiers}));
    let case = Case::month().book(0, book(json!([price]), json!([])));
    let bill = case.shaped(0, 2, 1, 0).shaped(0, 2, 2, 0).bill();
    // One unit of the three of a nanosecond is left of the first tier: two thirds of it are the
    // second's.
    let expected = [
        (Some(0), 0, NS, NS, 100),
        (Some(0), 1, NS, NS, 200),
        (Some(1), 0, 2 * NS + 1, 2 * NS + 1, 200),
        (Some(1), 1, 2 * NS - 1, 2 * NS - 1, 399),
    ];
    assert_eq!(rows(&bill, LineKind::Usage), expected);
}

#[test]
fn a_top_up_is_billed_and_not_used_and_fills_tiers() {
    let tiers = json!([{"up_to": 100, "price": 1}, {"price": 2}]);
    let price = price(json!({"scope": "tenant", "tiers": tiers}));
    let case = Case::month().terms(0, terms(60, 0, Rounding::Up));
    let case = case.book(0, book(json!([price]), json!([])));
    // The tier has 92 seconds left where the two jumps of 56 seconds each come together.
    let bill = case.machine(0, 4).machine(0, 4).bill();
    let expected = [
        (Some(0), 0, 4 * NS, 50 * NS, 5_000),
        (Some(0), 1, 0, 10 * NS, 2_000),
        (Some(1), 0, 4 * NS, 50 * NS, 5_000),
        (Some(1), 1, 0, 10 * NS, 2_000),
    ];
    assert_eq!(rows(&bill, LineKind::Usage), expected);
}

#[test]
fn packages_of_a_tenant_stand_in_a_line_of_no_instance() {
    let fields =
        json!({"model": "package", "package": 10, "price": 3, "once": 1, "scope": "tenant"});
    let bill = Case::month().book(0, book(json!([price(fields)]), json!([])));
    let bill = bill.machine(0, 8).machine(1, 9).bill();
    let expected =
        [(Some(0), 0, 8 * NS, 0, 0), (Some(1), 0, 8 * NS, 0, 0), (None, 0, 0, 20 * NS, 600)];
    assert_eq!(rows(&bill, LineKind::Usage), expected);
    assert_eq!(rows(&bill, LineKind::Once), [(None, 0, 1, 1, 100)]);
    let line = bill.lines.iter().find(|line| line.billed == 20 * NS).expect("packages");
    // The second one begins inside the second 5, when both have run ten seconds together.
    assert_eq!((line.from, line.until), (0, 5_500_000_001));
}

#[test]
fn what_is_used_and_not_billed_stands_in_its_tier_without_an_amount() {
    let case = Case::month().terms(0, terms(0, 60, Rounding::Down));
    let bill = case.book(0, plain(json!([]))).machine(0, 100).bill();
    assert_eq!(rows(&bill, LineKind::Usage), [(Some(0), 0, 100 * NS, 60 * NS, 6_000)]);
    assert_eq!(bill.lines[0].until, 100 * SECOND);
}

#[test]
fn lines_share_a_rounded_sum_by_largest_remainder_and_first_fact() {
    let prices = json!([price(json!({"price": "1/3"}))]);
    let mut book = book(prices, json!([]));
    book["line_digits"] = json!(0);
    let mut case = Case::month().book(0, book).machine(0, 4).machine(0, 4).machine(0, 1);
    // 4/3 + 4/3 + 1/3 = 3: one unit is missing, for one of three equal remainders.
    case.subjects[1].first_fact = 0;
    case.subjects[0].first_fact = 1;
    let amounts: Vec<_> = case.bill().lines.iter().map(|line| line.amount / cents(100)).collect();
    assert_eq!(amounts, [1, 2, 0]);
}

#[test]
fn lines_of_a_policys_own_come_before_adjustments_and_fill_no_tier() {
    let tiers = json!([{"up_to": 5, "price": 2}, {"price": 1}]);
    let priced = price(json!({"id": "own", "rule": "boost", "meter": "elsewhere", "tiers": tiers}));
    let cap = json!({"id": "most", "kind": "cap", "amount": 30});
    let mut case = Case::month().book(0, book(json!([priced]), json!([cap]))).machine(0, 9);
    let line = |seconds: u128, at: i64| OwnLine {
        rule: "boost".into(),
        meter: "elsewhere".into(),
        subject: Some(0),
        unit: "ns".into(),
        quantity: seconds * NS,
        billed: seconds * NS,
        price_id: "own".into(),
        at: at * SECOND,
    };
    case.own = vec![line(10, 3), line(10, 4)];
    let bill = case.bill();
    assert_eq!(rows(&bill, LineKind::Own), [(Some(0), 0, 10 * NS, 10 * NS, 2_000); 2]);
    assert_eq!((bill.rules[0].amount, bill.total), (cents(4_000), cents(3_000)));
    // The first tier's price, whatever was billed before.
    case.own[0].unit = "vcpu-ns".into();
    let error = case.try_bill().expect_err("another unit").to_string();
    assert!(error.contains("line 0") && error.contains("its price is for ns"), "{error}");
}
