//! Inputs that can't be billed, each with its reason.

mod support;

use biller::BillError;
use biller::input::{Balances, CreditBalance, OwnLine, Rounding};
use serde_json::{Value, json};
use support::{Case, SECOND, book, cents, plain, price, terms};

fn refusal(case: &Case) -> String {
    let error = case.try_bill().expect_err("a refusal");
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

fn usual() -> Case {
    Case::month().book(0, plain(json!([]))).machine(0, 10)
}

#[test]
fn an_input_that_is_not_of_its_form_is_refused() {
    type Spoil = fn(&mut Case);
    let rows: [(Spoil, &str); 13] = [
        (|case| case.header.form = 2, "of form 2"),
        (|case| case.header.until = -1, "first <= until <= last"),
        (|case| case.header.last = i64::MAX, "last <= period.end"),
        (|case| case.header.calendar.clear(), "calendar must have one entry"),
        (|case| case.header.zones[0].transitions.clear(), "zones must have one entry"),
        (|case| case.header.books[0].until = 0, "books must be ascending"),
        (|case| case.header.terms[0].until = 5, "must cover the time"),
        (|case| case.header.terms[0].terms.clear(), "one entry for each meter"),
        (|case| case.header.terms[0].terms = vec![None], "which the policy does not have"),
        (|case| case.header.meters = vec!["m".into(); 65], "at most 64"),
        (|case| case.subjects.clear(), "of a subject that was not given"),
        (|case| case.subjects.push(case.subjects[0].clone()), "'machine-0' is two"),
        (|case| case.lives.push(case.lives[0].clone()), "overlaps"),
    ];
    for (spoil, words) in rows {
        let mut case = usual();
        spoil(&mut case);
        let error = refusal(&case);
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_book_that_is_none_names_where_it_begins() {
    let case = usual().book(7, json!({"currency": "EUR", "prices": [{}]}));
    let error = refusal(&case);
    assert!(error.contains("from 7000000000 ns") && error.contains("missing field"), "{error}");
}

#[test]
fn a_zone_that_a_book_names_has_to_be_given() {
    let window = json!([{"zone": "Asia/Tokyo", "from": "08:00", "until": "09:00"}]);
    let price = price(json!({"price": 1, "windows": window}));
    let error = refusal(&Case::month().book(0, book(json!([price]), json!([]))));
    assert!(error.contains("'Asia/Tokyo'"), "{error}");
}

#[test]
fn a_period_has_one_currency() {
    let mut dollars = plain(json!([]));
    dollars["currency"] = json!("USD");
    let error = usual().book(5, dollars).try_bill().expect_err("two");
    assert_eq!(error, BillError::Currency { one: "EUR".into(), other: "USD".into() });
}

fn with(adjustment: Value) -> Value {
    plain(json!([adjustment]))
}

#[test]
fn an_id_is_one_adjustment_for_ever() {
    let gift = |amount: u32| with(json!({"id": "gift", "kind": "credit", "amount": amount}));
    let cap = with(json!({"id": "gift", "kind": "cap", "amount": 10}));
    let case = Case::month().book(0, gift(10)).machine(0, 10);
    let kind = BillError::Kind { id: "gift".into() };
    let grant = BillError::Grant { id: "gift".into() };
    assert_eq!(case.clone().book(5, cap.clone()).try_bill(), Err(kind.clone()));
    assert_eq!(case.clone().book(5, gift(11)).try_bill(), Err(grant.clone()));
    let credit = CreditBalance {
        id: "gift".into(),
        currency: "EUR".into(),
        amount: cents(1_000),
        used: cents(300),
    };
    let opening = |credit: CreditBalance| Balances { credits: vec![credit], ..Balances::default() };
    let known = opening(credit.clone());
    assert_eq!(case.clone().opening(&known).bill().total, cents(300));
    assert_eq!(Case::month().book(0, cap).opening(&known).try_bill(), Err(kind));
    let others = [
        CreditBalance { amount: cents(1_100), ..credit.clone() },
        CreditBalance { currency: "USD".into(), ..credit },
    ];
    for other in others {
        assert_eq!(case.clone().opening(&opening(other)).try_bill(), Err(grant.clone()));
    }
}

#[test]
fn a_sum_that_is_too_large_names_its_rule() {
    let price = price(json!({"per": "vcpu-second", "price": "999999999999999999999"}));
    let case = Case::month().book(0, book(json!([price]), json!([])));
    let case = case.shaped(0, 86_400, u64::MAX, 0);
    assert_eq!(case.try_bill(), Err(BillError::Overflow { rule: "r".into() }));
    let mut terms = terms(0, 0, Rounding::Up);
    terms.minimum_ns = u64::MAX;
    terms.granularity_ns = u64::MAX - 1;
    let error = usual().terms(0, terms).try_bill().expect_err("too long");
    assert_eq!(error, BillError::Overflow { rule: "active".into() });
}

#[test]
fn a_line_of_a_policys_own_has_a_price_of_its_own() {
    let elsewhere = price(json!({"id": "own", "rule": "boost", "meter": "elsewhere", "price": 1}));
    let counted = price(json!({"price": 1}));
    let case = Case::month().book(3, book(json!([elsewhere, counted]), json!([]))).machine(0, 9);
    let line = OwnLine {
        rule: "boost".into(),
        meter: "elsewhere".into(),
        subject: Some(0),
        unit: "ns".into(),
        quantity: 1,
        billed: 1,
        price_id: "own".into(),
        at: 5 * SECOND,
    };
    let rows = [
        (OwnLine { rule: "r".into(), ..line.clone() }, "which a book prices by meter"),
        (OwnLine { subject: Some(1), ..line.clone() }, "of a subject that was not given"),
        (OwnLine { at: i64::MAX, ..line.clone() }, "from `first` to `until`"),
        (OwnLine { at: SECOND, ..line.clone() }, "without a book"),
        (OwnLine { price_id: "none".into(), ..line.clone() }, "the price 'none'"),
    ];
    for (line, words) in rows {
        let error = refusal(&Case { own: vec![line], ..case.clone() });
        assert!(error.contains("line 0") && error.contains(words), "{words}: {error}");
    }
    Case { own: vec![line], ..case }.bill();
}
