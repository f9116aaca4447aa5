//! Charges of vendors, from the component's measurement through the biller.

use biller::input::{
    Balances, BookInForce, Column, FORM, Header, Intervals, Offset, Rounding, Span, Stretch,
    Subject, Terms, TermsInForce,
};
use biller::output::Bill;
use serde_json::{Value, json};
use tallyman::policy::metering::{self, Measurement, MeterTerms, Request};
use tallyman_tests::policies;
use tallyman_tests::vectors::{BEGIN, Expected, PERIOD, Priced, ROWS, Row, host};

use crate::Host;

fn stretch(of: metering::Stretch) -> Stretch {
    match of {
        metering::Stretch::Start => Stretch::Start,
        metering::Stretch::Wake => Stretch::Wake,
        metering::Stretch::Visit => Stretch::Visit,
        metering::Stretch::Life => Stretch::Life,
    }
}

fn rounding(of: metering::Rounding) -> Rounding {
    match of {
        metering::Rounding::HalfEven => Rounding::HalfEven,
        metering::Rounding::HalfUp => Rounding::HalfUp,
        metering::Rounding::Down => Rounding::Down,
        metering::Rounding::Up => Rounding::Up,
    }
}

fn terms(of: &MeterTerms) -> Terms {
    Terms {
        stretch: stretch(of.stretch),
        minimum_ns: of.minimum,
        granularity_ns: of.granularity,
        rounding: rounding(of.rounding),
    }
}

fn common_divisor(one: u128, other: u128) -> u128 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}

/// A row's price in the form of a book.
fn price(priced: &Priced) -> Value {
    let per = match priced.unit.strip_suffix("-ns") {
        None => "instance-second".into(),
        Some(dimension) => match dimension.strip_suffix("-byte") {
            Some(bytes) => format!("{bytes}-B-second"),
            None => format!("{dimension}-second"),
        },
    };
    // Nano-units for a number of units equal as many units of currency for that many units and
    // seconds.
    let number = |nanos: i128| {
        let shared = common_divisor(nanos.unsigned_abs(), priced.per);
        json!(format!("{}/{}", nanos.unsigned_abs() / shared, priced.per / shared))
    };
    let mut price = json!({
        "id": priced.rule, "rule": priced.rule, "meter": priced.meter, "per": per,
        "scope": priced.scope,
    });
    if priced.model == "flat" {
        price["price"] = number(priced.tiers[0].1);
    } else {
        let tier = |&(up_to, nanos): &(Option<u128>, i128)| match up_to {
            Some(units) => json!({"up_to": format!("{units}/1000000000"), "price": number(nanos)}),
            None => json!({"price": number(nanos)}),
        };
        price["tiers"] = priced.tiers.iter().map(tier).collect();
    }
    price
}

/// The book of a row; for a row without prices, one that charges the meter in question.
fn book(row: &Row) -> String {
    let plain = |meter: &str| {
        let per = "instance-second";
        json!({"id": "plain", "rule": meter, "meter": meter, "per": per, "price": 1})
    };
    let prices: Vec<Value> = match row.expected {
        Expected::Millis(meter, _) => vec![plain(meter)],
        Expected::Nanos(_) | Expected::Billed(..) => row.prices.iter().map(price).collect(),
    };
    json!({"currency": "USD", "line_digits": row.digits, "prices": prices}).to_string()
}

fn bill(row: &Row, request: Request, measured: &Measurement) -> Bill {
    let period = Span { start: BEGIN, end: BEGIN + PERIOD };
    let header = Header {
        form: FORM,
        period,
        first: period.start,
        last: period.end,
        until: period.end,
        calendar: vec![Offset { since: 0, offset: 0 }],
        zones: Vec::new(),
        books: vec![BookInForce { from: period.start, until: period.end, text: book(row) }],
        meters: measured.terms.iter().map(|terms| terms.name.clone()).collect(),
        terms: vec![TermsInForce {
            from: period.start,
            until: period.end,
            terms: measured.terms.iter().map(|of| Some(terms(of))).collect(),
        }],
        opening: Balances::default(),
        one_offs: Vec::new(),
        marks: Vec::new(),
    };
    let subject = |(fact, of): (u64, &metering::Subject)| Subject {
        id: of.id.clone(),
        first_fact: fact,
        ended: false,
    };
    let subjects: Vec<Subject> = (1..).zip(&request.subjects).map(subject).collect();
    let columns = request.intervals;
    let column = |of: metering::Column| Column { name: of.name, values: of.values };
    let intervals = Intervals {
        subject: columns.subject,
        start: columns.start,
        end: columns.end,
        session: columns.session,
        wakes: columns.wakes,
        meters: measured.counted.clone(),
        fact: columns.fact,
        dimensions: columns.dimensions.into_iter().map(column).collect(),
        counts: columns.counts.into_iter().map(column).collect(),
    };
    biller::bill(&header, &subjects, &intervals, &[])
        .unwrap_or_else(|error| panic!("{}: {error:?}", row.name))
}

#[test]
fn every_row_comes_to_the_same_by_the_biller() {
    let host = Host::open();
    for name in policies::names() {
        let digest = host.policies.admit(&policies::component(&name)).expect("a policy").digest;
        let policy = host.policies.get(digest).expect("kept");
        for row in ROWS.iter().filter(|row| row.policy == name) {
            let request = host::request(row);
            let measured = policy
                .measure(&request)
                .unwrap_or_else(|fault| panic!("{}: {}", row.name, fault.in_words()));
            let bill = bill(row, request, &measured.value);
            let billed = |rule: &str| -> u128 {
                let of = bill.lines.iter().filter(|line| bill.tariff(line).rule == rule);
                of.map(|line| line.billed).sum()
            };
            match row.expected {
                Expected::Millis(meter, millis) => {
                    assert_eq!(billed(meter), millis * 1_000_000, "{}", row.name)
                }
                Expected::Billed(rule, units) => assert_eq!(billed(rule), units, "{}", row.name),
                Expected::Nanos(nanos) => assert_eq!(bill.total, nanos, "{}", row.name),
            }
        }
    }
}
