//! The examples of `docs/bill.md`, each named after its id.

mod support;

use biller::input::{Balances, Rounding};
use serde_json::{Value, json};
use support::{Case, DAY, MONTH, SECOND, book, cents, plain, price, terms};

fn two(first: Value, last: Value, up_to: u32) -> Value {
    json!([{"up_to": up_to, "price": first}, {"price": last}])
}

fn tenant(first: u32, up_to: u32) -> Value {
    let tiers = two(json!(first), json!("0.1"), up_to);
    book(json!([price(json!({"scope": "tenant", "tiers": tiers}))]), json!([]))
}

fn volume(first: Value, last: Value) -> Value {
    let tiers = two(first, last, 10);
    book(json!([price(json!({"model": "volume", "tiers": tiers}))]), json!([]))
}

fn day_and_night() -> Value {
    let window = |from: &str, until: &str| {
        let days = ["mon"];
        json!({"zone": "UTC", "days": days, "from": from, "until": until})
    };
    let windows = [window("00:00", "00:01"), window("00:02", "00:03")];
    let tiers = |first: u32, last: u32| two(json!(first), json!(last), 120);
    let day = json!({"id": "day", "tiers": tiers(10, 5), "windows": windows});
    let night = json!({"id": "night", "tiers": tiers(4, 2)});
    book(json!([price(day), price(night)]), json!([]))
}

fn package(number: u32) -> Value {
    let fields = json!({"model": "package", "package": 10, "price": number});
    book(json!([price(fields)]), json!([]))
}

fn total(case: &Case) -> i128 {
    case.bill().total
}

#[test]
fn example_4a() {
    let case = Case::month().until(10).book(0, tenant(1, 10)).book(5, tenant(2, 10));
    let case = case.machine(0, 10).machine(0, 10);
    assert_eq!(total(&case), cents(1_100));
    let bill = case.bill();
    let shares: Vec<_> =
        bill.lines.iter().map(|line| (line.subject, bill.tariff(line).tier, line.amount)).collect();
    let full = cents(500);
    let cheap = cents(50);
    assert_eq!(
        shares,
        [(Some(0), 0, full), (Some(0), 1, cheap), (Some(1), 0, full), (Some(1), 1, cheap)]
    );
}

#[test]
fn example_4b() {
    let mut case = Case::month().until(16).book(0, tenant(1, 5)).book(6, tenant(2, 5));
    case = case.machine(0, 5).machine(7, 16);
    case.header.until = 15_800_000_000;
    assert_eq!(total(&case), cents(588));
}

#[test]
fn example_4c() {
    let case = Case::month().until(240).book(0, day_and_night()).machine(0, 240);
    assert_eq!(total(&case), cents(126_000));
    let again = case.clone().book(120, day_and_night());
    assert_eq!(again.bill(), case.bill());
}

#[test]
fn example_4d() {
    let price = |id: &str, first: Value, last: Value, key: &str| {
        let tiers = two(first, last, 10);
        price(json!({"id": id, "model": "volume", "tiers": tiers, key: "2026-06-01T00:00:06Z"}))
    };
    let prices = json!([
        price("v1", json!(1), json!("0.5"), "until"),
        price("v2", json!(100), json!(50), "from")
    ]);
    let case = Case::month().until(12).book(0, book(prices, json!([]))).machine(0, 12);
    assert_eq!(total(&case), cents(30_300));
}

#[test]
fn example_4e() {
    let case = Case::month().until(15).book(0, volume(json!(1), json!("0.5")));
    let case = case.book(9, volume(json!(2), json!(1))).machine(0, 15);
    assert_eq!(total(&case), cents(1_050));
}

#[test]
fn example_4f() {
    let price = |id: &str, first: Value, last: Value, windows: Value| {
        let tiers = two(first, last, 16);
        let per = "instance-hour";
        price(json!({"id": id, "per": per, "model": "volume", "tiers": tiers, "windows": windows}))
    };
    let day = json!([{"zone": "UTC", "days": ["mon"], "from": "00:00", "until": "15:00"}]);
    let prices = json!([
        price("day", json!(1), json!("0.5"), day),
        price("night", json!(100), json!(50), json!([]))
    ]);
    let case = Case::month().until(20 * 3_600).book(0, book(prices, json!([])));
    assert_eq!(total(&case.machine(0, 20 * 3_600)), cents(25_750));
}

#[test]
fn example_4g() {
    let book = volume(json!(1), json!("0.5"));
    let case = Case::month().book(0, book).machine(0, 9).again(DAY, DAY + 6, 1, 1);
    assert_eq!(total(&case.clone().until(DAY)), cents(900));
    assert_eq!(total(&case.until(2 * DAY)), cents(750));
}

#[test]
fn example_4h() {
    let case = Case::month().until(14).book(0, package(1)).book(4, package(3)).machine(0, 14);
    assert_eq!(total(&case), cents(400));
}

/// Bills consecutive days, each with the balances that the one before handed on.
fn days(count: i64, of_day: impl Fn(i64) -> Case) -> Vec<i128> {
    let mut opening = Balances::default();
    let bills = (0..count).map(|day| {
        let bill = of_day(day).opening(&opening).bill();
        opening = bill.closing.clone();
        bill.total
    });
    bills.collect()
}

fn over_a_border(before: i64, after: i64, minimum: i64, granularity: i64) -> Vec<i128> {
    days(2, |day| {
        let case = Case::day(day).book(day * DAY, plain(json!([])));
        let case = case.terms(day * DAY, terms(minimum, granularity, Rounding::Up));
        case.machine(DAY - before, DAY + after)
    })
}

#[test]
fn example_7a() {
    assert_eq!(over_a_border(10, 30, 60, 0), [cents(6_000), 0]);
}

#[test]
fn example_7b() {
    assert_eq!(over_a_border(1_800, 2_700, 0, 3_600), [cents(360_000), cents(360_000)]);
}

fn billed(case: Case) -> i128 {
    total(&case.book(0, plain(json!([])))) / cents(100)
}

#[test]
fn example_7c() {
    let minimum = terms(60, 0, Rounding::Up);
    assert_eq!(billed(Case::month().terms(0, minimum).terms(4, minimum).machine(0, 30)), 60);
}

#[test]
fn example_7d() {
    let case =
        Case::month().terms(0, terms(60, 0, Rounding::Up)).terms(4, terms(0, 0, Rounding::Up));
    assert_eq!(billed(case.machine(0, 30)), 30);
}

#[test]
fn example_7e() {
    let case = Case::month().terms(0, terms(0, 3_600, Rounding::Up));
    assert_eq!(billed(case.machine(0, 59 * 60)), 3_600);
}

#[test]
fn example_7f() {
    let case = Case::month().terms(0, terms(0, 3_600, Rounding::Down));
    assert_eq!(billed(case.clone().machine(0, 59 * 60)), 0);
    assert_eq!(billed(case.machine(0, 61 * 60)), 3_600);
}

#[test]
fn example_7g() {
    let case = Case::month().terms(0, terms(60, 0, Rounding::Up)).book(4, plain(json!([])));
    assert_eq!(total(&case.machine(0, 14)), cents(6_000));
}

fn least(amount: u32) -> Value {
    json!({"id": "least", "kind": "minimum", "amount": amount})
}

fn most(amount: u32) -> Value {
    json!({"id": "most", "kind": "cap", "amount": amount})
}

fn gift(amount: u32) -> Value {
    json!({"id": "gift", "kind": "credit", "amount": amount})
}

fn with(mut value: Value, key: &str, field: Value) -> Value {
    value[key] = field;
    value
}

fn used(balances: &Balances) -> i128 {
    balances.credits.iter().map(|credit| credit.used).sum()
}

fn per(per: &str, number: u32, adjustments: Value) -> Value {
    book(json!([price(json!({"per": per, "price": number}))]), adjustments)
}

#[test]
fn example_8a() {
    let least = with(least(50), "from", json!("2026-06-16T00:00:00Z"));
    let case = Case::month().book(0, book(json!([]), json!([least])));
    assert_eq!(total(&case), cents(2_500));
    let before = case.until(20 * DAY).bill();
    assert_eq!((before.total, before.adjustments[0].to_come), (0, cents(2_500)));
}

#[test]
fn example_8b() {
    let case = Case::month().book(0, per("instance-day", 1, json!([most(10)])));
    let case = case.book(MONTH / 2, per("instance-day", 1, json!([most(20)])));
    assert_eq!(total(&case.machine(0, MONTH)), cents(1_500));
}

#[test]
fn example_8c() {
    let case = Case::month().book(0, per("instance-15days", 100, json!([most(10)])));
    let case = case.book(MONTH / 2, per("instance-15days", 100, json!([])));
    assert_eq!(total(&case.machine(0, MONTH)), cents(10_500));
}

#[test]
fn example_8d() {
    let case = Case::month().book(0, book(json!([]), json!([least(50), gift(10)])));
    let bill = case.bill();
    assert_eq!((bill.total, used(&bill.closing)), (cents(4_000), cents(1_000)));
}

#[test]
fn example_8e() {
    let case = Case::month().book(0, book(json!([]), json!([gift(10), least(50)])));
    let bill = case.bill();
    assert_eq!((bill.total, used(&bill.closing)), (cents(5_000), 0));
}

#[test]
fn example_8f() {
    let gift = with(gift(10), "until", json!("2026-06-01T00:00:08Z"));
    let bill = Case::month().until(12).book(0, plain(json!([gift]))).machine(0, 12).bill();
    assert_eq!((bill.total, used(&bill.closing)), (cents(400), cents(800)));
}

#[test]
fn example_8g() {
    let plain_terms = terms(0, 0, Rounding::Up);
    let case = Case::month().until(16).book(0, plain(json!([gift(10)]))).machine(0, 16);
    let case = case.terms(4, plain_terms).terms(8, plain_terms).terms(12, plain_terms);
    assert_eq!(total(&case), cents(600));
}

#[test]
fn example_8h() {
    let case = Case::month().until(26).book(0, plain(json!([most(10)])));
    let case = case.book(13, plain(json!([most(10)]))).machine(0, 26);
    assert_eq!(total(&case), cents(1_000));
}

#[test]
fn example_8i() {
    // The period without a document hands on nothing.
    let case = Case::day(1).book(DAY, plain(json!([gift(8)]))).machine(DAY, DAY + 2);
    let bill = case.bill();
    assert_eq!((bill.total, used(&bill.closing)), (0, cents(200)));
}

#[test]
fn example_8j() {
    let on = |value| with(value, "rules", json!(["r"]));
    let case = Case::month().book(0, per("instance-day", 1, json!([on(least(50)), on(gift(10))])));
    assert_eq!(total(&case), cents(4_000));
}

#[test]
fn example_9a() {
    let at = |number: u32| {
        let price = price(json!({"price": number}));
        book(json!([price]), json!([gift(10)]))
    };
    let both = |first: u32| {
        days(2, |day| match day {
            0 => Case::day(0).book(0, at(first)).machine(0, 6),
            _ => Case::day(1).book(DAY, at(1)).machine(DAY, DAY + 8),
        })
    };
    assert_eq!(both(1), [0, cents(400)]);
    assert_eq!(both(2), [cents(200), cents(800)]);
}

#[test]
fn examples_9b_and_9c() {
    let used = |seconds: i64| {
        total(&Case::month().until(30).book(0, plain(json!([most(10)]))).machine(0, seconds))
    };
    assert_eq!([used(26), used(20), used(8)], [cents(1_000), cents(1_000), cents(800)]);
}

#[test]
fn example_9d() {
    let bill = Case::month().until(20).book(8, plain(json!([gift(5)]))).machine(0, 12).bill();
    assert_eq!((bill.total, used(&bill.closing)), (0, cents(400)));
}

#[test]
fn example_10a() {
    let payable = |amount: &str| {
        let least = json!({"id": "least", "kind": "minimum", "amount": amount});
        let book = json!({"currency": "JPY", "rounding": "half-even", "adjustments": [least]});
        Case::month().book(0, book).bill().payable
    };
    let payables = ["100.5", "101", "101.5", "102", "102.5"].map(payable);
    assert_eq!(payables, [100, 101, 102, 102, 102]);
}

#[test]
fn the_fee_of_a_tier_is_owed_once_for_each_counter() {
    let tiers = json!([{"up_to": 10, "price": 1, "once": "0.5"}, {"price": 2, "once": 7}]);
    let fees = |scope: &str, resets: &str, first: i64, second: i64| {
        let price = price(json!({"tiers": tiers, "scope": scope, "resets": resets}));
        let book = book(json!([price]), json!([]));
        days(2, |day| {
            let case = Case::day(day).book(day * DAY, book.clone());
            let start = day * DAY;
            case.machine(start, start + first).machine(start, start + second)
        })
    };
    let sum = cents(450 + 2_150);
    assert_eq!(fees("instance", "period", 4, 12), [sum, sum]);
    assert_eq!(fees("tenant", "never", 4, 4), [cents(850), cents(200 + 1_200 + 700)]);
}

#[test]
fn a_bill_up_to_an_earlier_instant_stands_by_itself() {
    let book = book(json!([price(json!({"tiers": two(json!(1), json!(3), 5)}))]), json!([]));
    let case = Case::month().book(0, book).machine(0, 9);
    assert_eq!(total(&case.clone().until(4)), cents(400));
    assert_eq!(total(&case), cents(1_700));
    assert_eq!(case.header.until, MONTH * SECOND);
}
