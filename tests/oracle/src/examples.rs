//! The examples of `docs/bill.md`, as data.
//!
//! The meter begins with June 2026 in UTC, a month of 30 days. Prices are for seconds of an
//! instance on the meter `active` unless an example needs others.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::scenario::{
    Act, Agreement, AgreementSet, BookSet, Instance, Meter, Nanos, OneOff, Override, PeriodKind,
    Piece, Policy, PolicySet, Scenario, Step, StretchKind, TimeRounding,
};

/// One second.
pub const SECOND: Nanos = 1_000_000_000;
/// One day without a change of clocks.
pub const DAY: Nanos = 86_400 * SECOND;
/// The calendar's reading at the meter's zero: 2026-06-01T00:00:00Z.
pub const BEGIN: Nanos = 1_780_272_000 * SECOND;
const MONTH: Nanos = 30 * DAY;

/// A scenario and its expected outcome.
#[derive(Debug, Clone)]
pub struct Example {
    /// Id as in `docs/bill.md`, with a word after it where the row has more than one scenario.
    pub id: &'static str,
    /// Input of the oracle.
    pub scenario: Scenario,
    /// Totals of all documents in their order, in nano-units.
    pub totals: Vec<i128>,
    /// Payables of all documents in their order, in nano-units; not checked if none.
    pub payables: Option<Vec<i128>>,
    /// Nano-units used of the credit `gift` in the end; not checked if none.
    pub credit_used: Option<i128>,
}

impl Example {
    fn new(id: &'static str, scenario: Scenario, cents: &[i128]) -> Self {
        let totals = cents.iter().map(|cents| cents * 10_000_000).collect();
        Self { id, scenario, totals, payables: None, credit_used: None }
    }

    fn with_credit_used(self, cents: i128) -> Self {
        Self { credit_used: Some(cents * 10_000_000), ..self }
    }

    fn with_payables(self, units: &[i128]) -> Self {
        let payables = units.iter().map(|units| units * 1_000_000_000).collect();
        Self { payables: Some(payables), ..self }
    }
}

/// All examples, in the order of the text.
#[must_use]
pub fn all() -> Vec<Example> {
    [counters(), stretches(), adjustments(), corrections(), roundings(), one_offs()].concat()
}

fn counters() -> Vec<Example> {
    let tiers = |first: Value, last: Value, up_to: u32| {
        let first = json!({"up_to": up_to, "price": first});
        json!([first, {"price": last}])
    };
    let tenant = |first: u32, up_to: u32| {
        let tiers = tiers(json!(first), json!("0.1"), up_to);
        book(json!([price(json!({"scope": "tenant", "tiers": tiers}))]), json!([]))
    };
    let volume = |id: &str, first: Value, last: Value, more: Value| {
        let tiers = tiers(first, last, 10);
        price(merged(json!({"id": id, "model": "volume", "tiers": tiers}), more))
    };
    let one = |price: Value| book(json!([price]), json!([]));
    let by_time = [
        volume("v1", json!(1), json!("0.5"), json!({"until": "2026-06-01T00:00:06Z"})),
        volume("v2", json!(100), json!(50), json!({"from": "2026-06-01T00:00:06Z"})),
    ];
    let by_day = json!([
        price(json!({"id": "day", "per": "instance-hour", "model": "volume",
            "tiers": tiers(json!(1), json!("0.5"), 16),
            "windows": [{"zone": "UTC", "days": ["mon"], "from": "00:00", "until": "15:00"}]})),
        price(json!({"id": "night", "per": "instance-hour", "model": "volume",
            "tiers": tiers(json!(100), json!(50), 16)})),
    ]);
    let package =
        |price_: u32| one(price(json!({"model": "package", "package": 10, "price": price_})));
    let hours = 3_600;
    vec![
        Example::new(
            "4a",
            Short::new()
                .book(0, tenant(1, 10))
                .book(5, tenant(2, 10))
                .machine(0, 10)
                .machine(0, 10)
                .closed(),
            &[1_100],
        ),
        Example::new(
            "4b",
            Short::new()
                .book(0, tenant(1, 5))
                .book(6, tenant(2, 5))
                .machine(0, 5)
                .machine_of(7 * SECOND, 7 * SECOND + 8_800_000_000)
                .closed(),
            &[588],
        ),
        Example::new("4c", minutes().closed(), &[126_000]),
        Example::new("4c again", minutes().book(120, day_and_night()).closed(), &[126_000]),
        Example::new(
            "4d",
            Short::new().book(0, book(json!(by_time), json!([]))).machine(0, 12).closed(),
            &[30_300],
        ),
        Example::new(
            "4e",
            Short::new()
                .book(0, one(volume("v", json!(1), json!("0.5"), json!({}))))
                .book(9, one(volume("v", json!(2), json!(1), json!({}))))
                .machine(0, 15)
                .closed(),
            &[1_050],
        ),
        Example::new(
            "4f",
            Short::new().book(0, book(by_day, json!([]))).machine(0, 20 * hours).closed(),
            &[25_750],
        ),
        Example::new(
            "4g",
            Short::new()
                .book(0, one(volume("v", json!(1), json!("0.5"), json!({}))))
                .machine(0, 9)
                .again(DAY, DAY + 6 * SECOND)
                .acts(vec![Act::Close(DAY), Act::Close(2 * DAY)]),
            &[900, -150],
        ),
        Example::new(
            "4h",
            Short::new().book(0, package(1)).book(4, package(3)).machine(0, 14).closed(),
            &[400],
        ),
    ]
}

fn day_and_night() -> Value {
    let window = |from: &str, until: &str| {
        let days = ["mon"];
        json!({"zone": "UTC", "days": days, "from": from, "until": until})
    };
    let tiers = |first: u32, then: u32| json!([{"up_to": 120, "price": first}, {"price": then}]);
    let windows = [window("00:00", "00:01"), window("00:02", "00:03")];
    let day = json!({"id": "day", "tiers": tiers(10, 5), "windows": windows});
    let night = json!({"id": "night", "tiers": tiers(4, 2)});
    book(json!([price(day), price(night)]), json!([]))
}

fn minutes() -> Short {
    Short::new().book(0, day_and_night()).machine(0, 240)
}

fn stretches() -> Vec<Example> {
    let border = DAY / SECOND;
    let daily = |policy: Meter| {
        let mut short = Short::new().book(0, plain()).policy(0, policy);
        short.0.agreement.kind = PeriodKind::Day;
        short
    };
    let minimum = || terms(60, 0, TimeRounding::Up);
    let hour = |rounding| terms(0, 3_600, rounding);
    let two_days = || vec![Act::Close(2 * DAY)];
    vec![
        Example::new(
            "7a",
            daily(minimum()).machine(border - 10, border + 30).acts(two_days()),
            &[6_000, 0],
        ),
        Example::new(
            "7b",
            daily(hour(TimeRounding::Up)).machine(border - 1_800, border + 2_700).acts(two_days()),
            &[360_000, 360_000],
        ),
        Example::new("7c", daily(minimum()).policy(4, minimum()).machine(0, 30).closed(), &[6_000]),
        Example::new(
            "7d",
            daily(minimum()).policy(4, terms(0, 0, TimeRounding::Up)).machine(0, 30).closed(),
            &[3_000],
        ),
        Example::new("7e", daily(hour(TimeRounding::Up)).machine(0, 59 * 60).closed(), &[360_000]),
        Example::new(
            "7f below",
            daily(hour(TimeRounding::Down)).machine(0, 59 * 60).closed(),
            &[0],
        ),
        Example::new(
            "7f above",
            daily(hour(TimeRounding::Down)).machine(0, 61 * 60).closed(),
            &[360_000],
        ),
        Example::new(
            "7g",
            Short::new().policy(0, minimum()).book(4, plain()).machine(0, 14).closed(),
            &[6_000],
        ),
    ]
}

fn adjustments() -> Vec<Example> {
    let minimum = |amount: u32| json!({"id": "least", "kind": "minimum", "amount": amount});
    let cap = |amount: u32| json!({"id": "most", "kind": "cap", "amount": amount});
    let month = || vec![Act::Close(MONTH)];
    let unused =
        |adjustments: Value| Short::new().book(0, book(json!([]), adjustments)).acts(month());
    let per = |per: &str, number: u32| json!([price(json!({"per": per, "price": number}))]);
    let half = MONTH / SECOND / 2;
    let on_rule = |adjustment: Value| merged(adjustment, json!({"rules": ["r"]}));
    let from_16th = merged(minimum(50), json!({"from": "2026-06-16T00:00:00Z"}));
    let until_8 = merged(gift(10), json!({"until": "2026-06-01T00:00:08Z"}));
    let swaps = [4, 8, 12];
    vec![
        Example::new("8a", unused(json!([from_16th])), &[2_500]),
        Example::new(
            "8b",
            Short::new()
                .book(0, book(per("instance-day", 1), json!([cap(10)])))
                .book(half, book(per("instance-day", 1), json!([cap(20)])))
                .machine(0, 2 * half)
                .acts(month()),
            &[1_500],
        ),
        Example::new(
            "8c",
            Short::new()
                .book(0, book(per("instance-15days", 100), json!([cap(10)])))
                .book(half, book(per("instance-15days", 100), json!([])))
                .machine(0, 2 * half)
                .acts(month()),
            &[10_500],
        ),
        Example::new("8d", unused(json!([minimum(50), gift(10)])), &[4_000])
            .with_credit_used(1_000),
        Example::new("8e", unused(json!([gift(10), minimum(50)])), &[5_000]).with_credit_used(0),
        Example::new("8f", with_adjustments(&[until_8]).machine(0, 12).closed(), &[400])
            .with_credit_used(800),
        Example::new(
            "8g",
            swaps
                .into_iter()
                .fold(with_adjustments(&[gift(10)]), Short::swap)
                .machine(0, 16)
                .closed(),
            &[600],
        )
        .with_credit_used(1_000),
        Example::new(
            "8h",
            with_adjustments(&[cap(10)])
                .book(13, book(json!([price(json!({"price": 1}))]), json!([cap(10)])))
                .machine(0, 26)
                .closed(),
            &[1_000],
        ),
        Example::new("8i", unrated(), &[0]).with_credit_used(200),
        Example::new(
            "8j",
            Short::new()
                .book(
                    0,
                    book(per("instance-day", 1), json!([on_rule(minimum(50)), on_rule(gift(10))])),
                )
                .acts(month()),
            &[4_000],
        )
        .with_credit_used(1_000),
        Example::new("8k", from_16th_on(&minimum(50)), &[5_000, 2_500]),
    ]
}

/// Months from day 1 on, and from day 16 on after the first.
fn from_16th_on(minimum: &Value) -> Scenario {
    let mut short = with_adjustments(std::slice::from_ref(minimum));
    let agreement = Agreement { anchor: 16, ..short.0.agreement.clone() };
    short.0.agreements.push(AgreementSet { at: DAY, agreement });
    short.acts(vec![Act::Close(MONTH + 15 * DAY)])
}

/// A day that can't be rated, and one after it that can.
fn unrated() -> Scenario {
    let mut short = with_adjustments(&[gift(8)]).swap(DAY / SECOND);
    short.0.agreement.kind = PeriodKind::Day;
    short.0.policies[0].policy.unrated = true;
    short.machine(0, 6).machine_of(DAY, DAY + 2 * SECOND).acts(vec![Act::Close(2 * DAY)])
}

fn corrections() -> Vec<Example> {
    let credited = |amount: u32, price_: u32| {
        book(json!([price(json!({"price": price_}))]), json!([gift(amount)]))
    };
    let over = |book: Value| {
        Act::Override(Override {
            from: 0,
            to: DAY,
            policy: None,
            book: Some(book),
            from_begin: false,
        })
    };
    let mut two_days =
        Short::new().book(0, credited(10, 1)).machine(0, 6).machine_of(DAY, DAY + 8 * SECOND);
    two_days.0.agreement.kind = PeriodKind::Day;
    let two_days = two_days.acts(vec![
        Act::Close(DAY),
        Act::Close(2 * DAY),
        over(credited(10, 2)),
        Act::Settle,
    ]);
    let cap = json!({"id": "most", "kind": "cap", "amount": 10});
    let late = |seconds: Nanos| {
        let mut short = with_adjustments(std::slice::from_ref(&cap)).machine(0, 26);
        let known_late = Short::new().machine(0, seconds).0.instances.remove(0);
        short.0.acts.push(Act::Close(30 * SECOND));
        short.acts(vec![Act::Learn(known_late), Act::Settle])
    };
    let begun = Short::new().book(8, credited(5, 1)).machine(0, 12);
    let begun = begun.acts(vec![Act::Close(20 * SECOND), over(credited(5, 1)), Act::Settle]);
    vec![
        Example::new("9a", two_days, &[0, 400, 200, 400]).with_credit_used(1_000),
        Example::new("9b", late(20), &[1_000]),
        Example::new("9c", late(8), &[1_000, -200]),
        Example::new("9d", begun, &[0]).with_credit_used(400),
    ]
}

fn roundings() -> Vec<Example> {
    let least = |amount: &str| {
        json!({"currency": "JPY", "rounding": "half-even", "prices": [],
            "adjustments": [{"id": "least", "kind": "minimum", "amount": amount}]})
    };
    let mut acts = vec![Act::Close(MONTH)];
    for amount in ["101", "101.5", "102", "102.5"] {
        let book = Some(least(amount));
        let with = Override { from: 0, to: MONTH, policy: None, book, from_begin: false };
        acts.extend([Act::Override(with), Act::Settle]);
    }
    let scenario = Short::new().book(0, least("100.5")).acts(acts);
    let example = Example::new("10a", scenario, &[10_050, 50, 50, 50, 50]);
    vec![example.with_payables(&[100, 1, 1, 0, 0])]
}

fn one_offs() -> Vec<Example> {
    let one = |id: &str, coins: i128, at: Nanos| {
        Act::OneOff(OneOff {
            id: id.to_owned(),
            at: at * SECOND,
            amount: coins * 1_000_000_000,
            is_goodwill: id == "goodwill",
        })
    };
    let close = |at: Nanos| Act::Close(at * SECOND);
    let minimum = json!({"id": "least", "kind": "minimum", "amount": 50});
    let cap = json!({"id": "most", "kind": "cap", "amount": 10});
    let unused =
        |adjustments: Value, acts| Short::new().book(0, book(json!([]), adjustments)).acts(acts);
    let plain = || Short::new().book(0, plain());
    let mut two_days = plain().machine(0, 6).machine_of(DAY, DAY + 8 * SECOND);
    two_days.0.agreement.kind = PeriodKind::Day;
    let days = vec![one("goodwill", 10, 1), Act::Close(DAY), Act::Close(2 * DAY)];
    vec![
        Example::new(
            "17a",
            plain().machine(0, 4).acts(vec![one("charge", 10, 2), close(1), close(4)]),
            &[100, 1_300],
        ),
        Example::new(
            "17b",
            with_adjustments(&[cap]).machine(0, 26).acts(vec![one("charge", 5, 1), close(30)]),
            &[1_500],
        ),
        Example::new(
            "17c",
            unused(json!([minimum]), vec![one("charge", 5, 1), Act::Close(MONTH)]),
            &[5_500],
        ),
        Example::new("17d", two_days.acts(days), &[0, 400]),
        Example::new(
            "17e",
            plain().machine(0, 6).acts(vec![close(10), one("goodwill", 10, 1), Act::Settle]),
            &[600, -600],
        ),
        Example::new(
            "17f",
            unused(json!([minimum, gift(10)]), vec![one("goodwill", 15, 1), Act::Close(MONTH)]),
            &[2_500],
        ),
    ]
}

fn gift(amount: u32) -> Value {
    json!({"id": "gift", "kind": "credit", "amount": amount})
}

fn plain() -> Value {
    book(json!([price(json!({"price": 1}))]), json!([]))
}

fn with_adjustments(adjustments: &[Value]) -> Short {
    Short::new().book(0, book(json!([price(json!({"price": 1}))]), json!(adjustments)))
}

/// A book in euros.
#[must_use]
pub fn book(prices: Value, adjustments: Value) -> Value {
    json!({"currency": "EUR", "prices": prices, "adjustments": adjustments})
}

/// A price of the rule `r` for seconds, with the given fields.
#[must_use]
pub fn price(fields: Value) -> Value {
    merged(json!({"id": "p", "rule": "r", "meter": "active", "per": "instance-second"}), fields)
}

fn merged(mut into: Value, fields: Value) -> Value {
    if let (Some(into), Value::Object(fields)) = (into.as_object_mut(), fields) {
        into.extend(fields);
    }
    into
}

fn terms(minimum: Nanos, granularity: Nanos, rounding: TimeRounding) -> Meter {
    Meter {
        phases: ["running".to_owned()].into(),
        stretch: StretchKind::Life,
        minimum: minimum * SECOND,
        granularity: granularity * SECOND,
        rounding,
    }
}

/// A scenario in the making, in seconds.
struct Short(Scenario);

impl Short {
    fn new() -> Self {
        let short = Self(Scenario {
            agreement: Agreement { zone: "UTC".into(), kind: PeriodKind::Month, anchor: 1 },
            agreements: Vec::new(),
            first_fact: 0,
            ended: None,
            calendar: vec![Step { at: 0, offset: BEGIN }],
            policies: Vec::new(),
            books: Vec::new(),
            instances: Vec::new(),
            acts: Vec::new(),
            own: Vec::new(),
        });
        short.policy(0, terms(0, 0, TimeRounding::Up))
    }

    fn policy(mut self, at: Nanos, active: Meter) -> Self {
        let policy = Policy {
            meters: BTreeMap::from([("active".to_owned(), active)]),
            initializing_max: 600 * SECOND,
            unrated: false,
        };
        self.0.policies.push(PolicySet { from: at * SECOND, policy });
        self
    }

    /// Changes to a policy that differs in nothing.
    fn swap(self, at: Nanos) -> Self {
        self.policy(at, terms(0, 0, TimeRounding::Up))
    }

    fn book(mut self, at: Nanos, book: Value) -> Self {
        let at = at * SECOND;
        self.0.books.push(BookSet { set_at: at, from: at, book });
        self
    }

    fn machine(self, from: Nanos, to: Nanos) -> Self {
        self.machine_of(from * SECOND, to * SECOND)
    }

    fn machine_of(mut self, from: Nanos, to: Nanos) -> Self {
        let piece = Piece {
            from,
            to,
            phase: "running".into(),
            session: 1,
            wakes: 0,
            dimensions: BTreeMap::new(),
            counts: BTreeMap::new(),
        };
        let id = format!("machine-{}", self.0.instances.len());
        self.0.instances.push(Instance { id, first_fact: from, pieces: vec![piece] });
        self
    }

    /// Lets the last machine run once more.
    fn again(mut self, from: Nanos, to: Nanos) -> Self {
        if let Some(machine) = self.0.instances.last_mut() {
            let again = Piece { from, to, session: 2, ..machine.pieces[0].clone() };
            machine.pieces.push(again);
        }
        self
    }

    fn acts(mut self, acts: Vec<Act>) -> Scenario {
        self.0.acts.extend(acts);
        self.0
    }

    /// Closes after the end of all instances, inside the period.
    fn closed(self) -> Scenario {
        let lives = self.0.instances.iter().flat_map(|instance| &instance.pieces);
        let end = lives.map(|piece| piece.to).max().unwrap_or(0);
        self.acts(vec![Act::Close(end)])
    }
}
