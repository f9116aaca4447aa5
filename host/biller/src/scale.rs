//! Large tenants: the steps of a bill grow with intervals, boundaries and lines, and no faster.

use serde_json::{Value, json};

use crate::bill;
use crate::input::{
    Balances, BookInForce, FORM, Header, Intervals, Offset, Rounding, Span, Stretch, Subject,
    Terms, TermsInForce, Zone,
};
use crate::instant;
use crate::mutants::Mutant;
use crate::output::Bill;
use crate::steps;

const METERS: usize = 64;
const DAY: i64 = 86_400_000_000_000;
const MONTH: i64 = 30 * DAY;
/// The calendar's reading at the meter's zero: 2026-06-01T00:00:00Z.
const BEGIN: i64 = 1_780_272_000_000_000_000;

fn header(month: i64, prices: &[Value], adjustments: &Value, opening: Balances) -> Header {
    let start = month * MONTH;
    let end = (month + 1) * MONTH;
    let book = json!({"currency": "EUR", "prices": prices, "adjustments": adjustments});
    let terms = Terms {
        stretch: Stretch::Start,
        minimum_ns: 60_000_000_000,
        granularity_ns: 1_000_000_000,
        rounding: Rounding::Up,
    };
    Header {
        form: FORM,
        period: Span { start, end },
        first: start,
        last: end,
        until: end,
        calendar: vec![Offset { since: 0, offset: BEGIN }],
        zones: vec![Zone { name: "UTC".into(), transitions: vec![(0, 0)] }],
        books: vec![BookInForce { from: start, until: end, text: book.to_string() }],
        meters: (0..METERS).map(|meter| format!("m{meter}")).collect(),
        terms: vec![TermsInForce { from: start, until: end, terms: vec![Some(terms); METERS] }],
        opening,
        one_offs: Vec::new(),
        marks: Vec::new(),
    }
}

/// Instances that each live some days of a month, in two intervals.
fn lives(month: i64, count: u32, days: i64) -> (Vec<Subject>, Intervals) {
    let mut subjects = Vec::new();
    let mut intervals = Intervals::default();
    for number in 0..count {
        let id = format!("machine-{number}");
        subjects.push(Subject { id, first_fact: number.into(), ended: false });
        let offset = i64::from(number) * (DAY / 7 + 1_000_003) % (MONTH - days * DAY + 1);
        let start = month * MONTH + offset;
        let middle = start + days * DAY / 3;
        let end = start + days * DAY;
        for (start, end) in [(start, middle), (middle, end)] {
            intervals.subject.push(number);
            intervals.start.push(start);
            intervals.end.push(end);
            intervals.session.push(u32::try_from(month).expect("few"));
            intervals.wakes.push(0);
            intervals.meters.push(u64::MAX);
            intervals.fact.push(number.into());
        }
    }
    (subjects, intervals)
}

fn price(number: usize, rule: usize, fields: Value) -> Value {
    let mut price = json!({
        "id": format!("p{number}"), "rule": format!("r{rule}"), "meter": format!("m{rule}"),
        "per": "instance-hour", "price": "0.01"
    });
    if let (Some(price), Value::Object(fields)) = (price.as_object_mut(), fields) {
        price.extend(fields);
    }
    price
}

fn rules(count: usize) -> Vec<Value> {
    (0..count).map(|number| price(number, number, json!({}))).collect()
}

/// Prices of one rule that follow each other through the first month.
fn prices(count: usize) -> Vec<Value> {
    let each = MONTH / i64::try_from(count).expect("few");
    let text = |at: i64| instant::text(BEGIN + at);
    (0..count)
        .map(|number| {
            let from = i64::try_from(number).expect("few") * each;
            price(number, 0, json!({"from": text(from), "until": text(from + each)}))
        })
        .collect()
}

/// Rules with windows, each an hour of the day, on every day.
fn windows(rules: usize, windows: usize) -> Vec<Value> {
    let mut prices = Vec::new();
    for rule in 0..rules {
        prices.push(price(prices.len(), rule, json!({})));
        for hour in 0..windows {
            let from = format!("{:02}:00", 2 * hour);
            let until = format!("{:02}:00", 2 * hour + 1);
            let window = json!([{"zone": "UTC", "from": from, "until": until}]);
            prices.push(price(prices.len(), rule, json!({"windows": window})));
        }
    }
    prices
}

fn steps_of(count: u32, days: i64, prices: &[Value], adjustments: &Value) -> (u64, Bill) {
    let header = header(0, prices, adjustments, Balances::default());
    let (subjects, intervals) = lives(0, count, days);
    steps::taken();
    let bill = bill(&header, &subjects, &intervals, &[]).expect("a bill");
    (steps::taken(), bill)
}

/// Asserts that twice the instances take no more than twice the steps, and that a step is for an
/// interval and meter or rule, or for a line.
fn is_linear(count: u32, days: i64, prices: &[Value], rules: u64) {
    let (half, _) = steps_of(count / 2, days, prices, &json!([]));
    let (whole, bill) = steps_of(count, days, prices, &json!([]));
    assert!(whole <= 2 * half + 1_000, "{half} and {whole}");
    let intervals = 2 * u64::from(count);
    // Each interval gives the lines of an instance once at most.
    let most = 64 * intervals + 2 * rules * intervals + 2 * bill.lines.len() as u64;
    assert!(whole <= most, "{whole} of {most}");
}

/// Returns whether a bill of machines that run for some days stays within the steps of its prices.
fn keeps_to_its_steps(count: u32, days: i64, prices: &[Value], rules: u64) -> bool {
    let (steps, bill) = steps_of(count, days, prices, &json!([]));
    steps <= (64 + 2 * rules) * 2 * u64::from(count) + 2 * bill.lines.len() as u64
}

#[test]
fn a_walk_over_all_prices_is_found() {
    let prices = prices(1_000);
    let keeps = || keeps_to_its_steps(100, 3, &prices, 1);
    assert!(keeps());
    assert!(!Mutant::PricesWalked.during(keeps));
}

#[test]
fn sixty_four_rules_are_linear() {
    is_linear(10_000, 30, &rules(64), 64);
}

#[test]
fn a_thousand_prices_of_a_rule_are_linear() {
    is_linear(2_000, 30, &prices(1_000), 1);
    is_linear(10_000, 3, &prices(1_000), 1);
}

#[test]
fn windows_cost_lines_and_not_boundaries() {
    is_linear(10_000, 30, &windows(7, 8), 7);
}

#[test]
fn tiers_of_the_tenant_cost_no_pair_of_instances() {
    let tiers: Vec<_> = (1..100).map(|end| json!({"up_to": end * 500, "price": 1})).collect();
    let tiers = [tiers, vec![json!({"price": "0.5"})]].concat();
    let prices = [price(0, 0, json!({"scope": "tenant", "price": null, "tiers": tiers}))];
    // Every tier is met by all instances that run then, each in a line of its own.
    is_linear(4_000, 3, &prices, 1);
}

#[test]
fn adjustments_of_parts_walk_a_few_times_over_what_happened() {
    let adjustments = json!([
        {"id": "gift", "kind": "credit", "amount": 1_000, "rules": ["r0", "r1"]},
        {"id": "most", "kind": "cap", "amount": 5_000, "rules": ["r1", "r2"],
            "until": "2026-06-20T00:00:00Z"},
        {"id": "least", "kind": "minimum", "amount": 500_000},
    ]);
    let (without, _) = steps_of(10_000, 30, &rules(4), &json!([]));
    let (with, bill) = steps_of(10_000, 30, &rules(4), &adjustments);
    assert!(bill.adjustments.iter().all(|one| one.change != 0), "{:?}", bill.adjustments);
    assert!(with < 20 * without, "{with} and {without}");
}

#[test]
fn a_year_of_months_hands_on() {
    let mut opening = Balances::default();
    for month in 0..12 {
        let header = header(month, &rules(2), &json!([]), opening);
        let (subjects, mut intervals) = lives(month, 10_000, 20);
        intervals.meters.fill(0b11);
        let bill = bill(&header, &subjects, &intervals, &[]).expect("a bill");
        let expected = 10_000 * 20 * 24 * 10_000_000;
        assert_eq!(bill.rules.iter().map(|rule| rule.amount).collect::<Vec<_>>(), [expected; 2]);
        assert_eq!(bill.closing.stretches.len(), 20_000);
        opening = bill.closing;
    }
}
