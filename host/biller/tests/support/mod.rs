//! Bills in a few words: in seconds, from a meter whose zero is 2026-06-01T00:00:00Z, a Monday.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses its own part")]

pub mod scenarios;

use biller::input::{
    Balances, BookInForce, Column, FORM, Header, Intervals, Offset, OwnLine, Rounding, Span,
    Stretch, Subject, Terms, TermsInForce, Zone,
};
use biller::output::Bill;
use biller::{BillError, bill};
use serde_json::{Value, json};

pub const SECOND: i64 = 1_000_000_000;
pub const DAY: i64 = 86_400;
pub const MONTH: i64 = 30 * DAY;
/// The calendar's reading at the meter's zero.
pub const BEGIN: i64 = 1_780_272_000 * SECOND;

/// An interval of a machine, in seconds.
#[derive(Debug, Clone)]
pub struct Life {
    pub subject: u32,
    pub start: i64,
    pub end: i64,
    pub session: u32,
    pub vcpus: u64,
    pub bytes: u64,
}

/// The input of a bill in the making.
#[derive(Debug, Clone)]
pub struct Case {
    pub header: Header,
    pub subjects: Vec<Subject>,
    pub lives: Vec<Life>,
    pub own: Vec<OwnLine>,
}

pub fn terms(minimum: i64, granularity: i64, rounding: Rounding) -> Terms {
    Terms {
        stretch: Stretch::Life,
        minimum_ns: (minimum * SECOND).unsigned_abs(),
        granularity_ns: (granularity * SECOND).unsigned_abs().max(1),
        rounding,
    }
}

impl Case {
    /// A whole period, in seconds.
    pub fn of(start: i64, end: i64) -> Self {
        let start = start * SECOND;
        let end = end * SECOND;
        let utc = Zone { name: "UTC".into(), transitions: vec![(0, 0)] };
        let berlin = Zone { name: "Europe/Berlin".into(), transitions: vec![(0, 7_200)] };
        let header = Header {
            form: FORM,
            period: Span { start, end },
            first: start,
            last: end,
            until: end,
            calendar: vec![Offset { since: 0, offset: BEGIN }],
            zones: vec![utc, berlin],
            books: Vec::new(),
            meters: vec!["active".into()],
            terms: Vec::new(),
            opening: Balances::default(),
            one_offs: Vec::new(),
            marks: Vec::new(),
        };
        let case = Self { header, subjects: Vec::new(), lives: Vec::new(), own: Vec::new() };
        case.terms(start / SECOND, terms(0, 0, Rounding::Up))
    }

    pub fn month() -> Self {
        Self::of(0, MONTH)
    }

    /// The day of a number, from 0.
    pub fn day(number: i64) -> Self {
        Self::of(number * DAY, (number + 1) * DAY)
    }

    pub fn until(mut self, until: i64) -> Self {
        self.header.until = until * SECOND;
        self
    }

    pub fn opening(mut self, opening: &Balances) -> Self {
        self.header.opening = opening.clone();
        self
    }

    /// A book from an instant on, or from the period's start.
    pub fn book(mut self, from: i64, book: Value) -> Self {
        let from = (from * SECOND).max(self.header.period.start);
        let until = self.header.period.end;
        if let Some(last) = self.header.books.last_mut() {
            last.until = from;
        }
        self.header.books.retain(|book| book.from < book.until);
        self.header.books.push(BookInForce { from, until, text: book.to_string() });
        self
    }

    pub fn terms(mut self, from: i64, terms: Terms) -> Self {
        let from = (from * SECOND).max(self.header.period.start);
        if let Some(last) = self.header.terms.last_mut() {
            last.until = from;
        }
        let until = self.header.period.end;
        let terms = vec![Some(terms)];
        self.header.terms.push(TermsInForce { from, until, terms });
        self.header.terms.retain(|terms| terms.from < terms.until);
        self
    }

    pub fn machine(self, start: i64, end: i64) -> Self {
        self.shaped(start, end, 1, 1)
    }

    pub fn shaped(mut self, start: i64, end: i64, vcpus: u64, bytes: u64) -> Self {
        let number = self.subjects.len();
        self.subjects.push(Subject {
            id: format!("machine-{number}"),
            first_fact: number as u64,
            ended: false,
        });
        self.again(start, end, vcpus, bytes)
    }

    /// The last machine runs once more.
    pub fn again(mut self, start: i64, end: i64, vcpus: u64, bytes: u64) -> Self {
        let subject = u32::try_from(self.subjects.len() - 1).expect("few");
        self.lives.push(Life { subject, start, end, session: 1, vcpus, bytes });
        self
    }

    /// The machines' time as columns, cut where policies change, at the ends of the period, and at
    /// `cuts` (in nanoseconds).
    pub fn intervals(&self, cuts: &[i64]) -> Intervals {
        let dimension = |name: &str| Column { name: name.into(), values: Vec::new() };
        let mut intervals = Intervals {
            dimensions: vec![dimension("vcpu"), dimension("memory-byte")],
            ..Intervals::default()
        };
        let changes = self.header.terms.iter().map(|terms| terms.from);
        let mut cuts: Vec<_> = changes.chain(cuts.iter().copied()).collect();
        cuts.sort_unstable();
        for life in &self.lives {
            let start = (life.start * SECOND).max(self.header.first);
            let end = (life.end * SECOND).min(self.header.until);
            let mut edges = vec![start, end];
            edges.extend(cuts.iter().copied().filter(|&cut| start < cut && cut < end));
            edges.sort_unstable();
            edges.dedup();
            for edge in edges.windows(2).filter(|edge| edge[0] < edge[1]) {
                intervals.subject.push(life.subject);
                intervals.start.push(edge[0]);
                intervals.end.push(edge[1]);
                intervals.session.push(life.session);
                intervals.wakes.push(0);
                intervals.meters.push(1);
                intervals.fact.push(u64::from(life.subject));
                intervals.dimensions[0].values.push(life.vcpus);
                intervals.dimensions[1].values.push(life.bytes);
            }
        }
        intervals
    }

    pub fn try_bill(&self) -> Result<Bill, BillError> {
        bill(&self.header, &self.subjects, &self.intervals(&[]), &self.own)
    }

    pub fn bill(&self) -> Bill {
        checked(self.try_bill().unwrap_or_else(|error| panic!("{error}")))
    }
}

/// A bill whose lines add up to its rules, and rules and adjustments to its total.
pub fn checked(bill: Bill) -> Bill {
    for rule in &bill.rules {
        let lines = bill.lines.iter().filter(|line| bill.tariff(line).rule == rule.rule);
        assert_eq!(lines.map(|line| line.amount).sum::<i128>(), rule.amount, "{bill:#?}");
    }
    let rules: i128 = bill.rules.iter().map(|rule| rule.amount).sum();
    let changes: i128 = bill.adjustments.iter().map(|one| one.change).sum();
    assert_eq!(rules + changes, bill.total, "{bill:#?}");
    bill
}

/// A book in euros.
pub fn book(prices: Value, adjustments: Value) -> Value {
    json!({"currency": "EUR", "prices": prices, "adjustments": adjustments})
}

/// A price of the rule `r` for seconds, but for what `fields` say.
pub fn price(fields: Value) -> Value {
    let mut price = json!({"id": "p", "rule": "r", "meter": "active", "per": "instance-second"});
    if let (Some(price), Value::Object(fields)) = (price.as_object_mut(), fields) {
        price.extend(fields);
    }
    price
}

/// A book with the price 1 for a second.
pub fn plain(adjustments: Value) -> Value {
    book(json!([price(json!({"price": 1}))]), adjustments)
}

/// Cents in nano-units.
pub fn cents(cents: i128) -> i128 {
    cents * 10_000_000
}
