//! Books at the limits, and instances to be rated under them.

use biller::input::{
    Balances, BookInForce, Column, FORM, Header, Intervals, Offset, Rounding, Span, Stretch,
    Subject, Terms, TermsInForce, Zone,
};
use serde_json::{Value, json};
use tallyman::policy::metering::{self, IntervalColumns, MeterTerms, Request};
use tallyman::vm::Phase;

pub(super) const DAY: i64 = 86_400_000_000_000;
/// 2026-01-01T00:00:00Z, where the meter reads as the calendar does.
pub(super) const BEGIN: i64 = 1_767_225_600_000_000_000;

/// Dimensions of every interval, each 1.
const DIMENSIONS: [&str; 4] = ["disk-byte", "memory-byte", "snapshot-byte", "vcpu"];

/// Meters of the standard policy, those that count a running machine first.
const METERS: [&str; 11] = [
    "active",
    "resident",
    "allocated",
    "running",
    "created",
    "initializing",
    "paused",
    "shutdown",
    "standby",
    "stopped",
    "unknown",
];
const UNITS: [&str; 5] =
    ["instance-hour", "vcpu-hour", "memory-GiB-hour", "disk-GiB-hour", "snapshot-GiB-hour"];

/// A book of the comparison.
pub(super) struct Corner {
    pub(super) name: &'static str,
    pub(super) book: Value,
}

fn price(number: usize, rule: usize, meter: &str, per: &str) -> Value {
    json!({
        "id": format!("p{number:04}"),
        "rule": format!("r{rule:02}"),
        "meter": meter,
        "per": per,
        "price": "0.01",
    })
}

fn with(mut price: Value, field: &str, value: Value) -> Value {
    price[field] = value;
    price
}

fn book(prices: Vec<Value>) -> Value {
    json!({"currency": "EUR", "prices": prices})
}

fn utc(at: i64) -> String {
    let second = at.div_euclid(1_000_000_000);
    let days = second.div_euclid(86_400);
    let rest = second.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    let hour = rest / 3_600;
    let minute = rest / 60 % 60;
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", rest % 60)
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// One rule whose prices follow each other from `start` to `end`.
pub(super) fn prices(count: usize, meter: &str, start: i64, end: i64) -> Value {
    let each = (end - start) / count as i64 / 1_000_000_000 * 1_000_000_000;
    let at = |number: usize| if number == count { end } else { start + each * number as i64 };
    let one = |number| {
        let from = json!(utc(at(number)));
        let until = json!(utc(at(number + 1)));
        with(with(price(number, 0, meter, UNITS[0]), "from", from), "until", until)
    };
    book((0..count).map(one).collect())
}

/// Rules with one price each, on the meters in turn. Where these have too few units, each rule has
/// its part of the time from `start` to `end`.
pub(super) fn rules(count: usize, meters: &[&str], (start, end): (i64, i64)) -> Value {
    let at_once = meters.len() * UNITS.len();
    let parts = count.div_ceil(at_once);
    let each = (end - start) / parts as i64 / 1_000_000_000 * 1_000_000_000;
    let one = |rule: usize| {
        let place = rule % at_once;
        let part = (rule / at_once) as i64;
        let price = price(rule, rule, meters[place / UNITS.len()], UNITS[place % UNITS.len()]);
        if parts == 1 {
            return price;
        }
        let from = json!(utc(start + each * part));
        with(with(price, "from", from), "until", json!(utc(start + each * (part + 1))))
    };
    book((0..count).map(one).collect())
}

/// Rules with a price for each of some hours of every day, and one for the others. As many as the
/// meters have units, at most.
pub(super) fn windows(rules: usize, windows: usize, meters: &[&str]) -> Value {
    let mut prices = Vec::new();
    for rule in 0..rules.min(meters.len() * UNITS.len()) {
        let meter = meters[rule / UNITS.len()];
        let unit = UNITS[rule % UNITS.len()];
        prices.push(price(prices.len(), rule, meter, unit));
        for hour in 0..windows {
            let from = format!("{:02}:00", 2 * hour);
            let until = format!("{:02}:00", 2 * hour + 1);
            let window = json!([{"zone": "UTC", "from": from, "until": until}]);
            prices.push(with(price(prices.len(), rule, meter, unit), "windows", window));
        }
    }
    book(prices)
}

/// The books of the comparison, for a month from [`BEGIN`] on.
pub(super) fn corners() -> Vec<Corner> {
    let end = BEGIN + 31 * DAY;
    let span = (BEGIN, end);
    let corner = |name, book| Corner { name, book };
    vec![
        corner("1 price", rules(1, &METERS, span)),
        corner("20 rules", rules(20, &METERS, span)),
        corner("55 rules", rules(55, &METERS, span)),
        corner("1 rule x 20 prices", prices(20, "active", BEGIN, end)),
        corner("1 rule x 100 prices", prices(100, "active", BEGIN, end)),
        corner("1 rule x 1,000 prices", prices(1_000, "active", BEGIN, end)),
        corner("1 rule x 8 windows", windows(1, 8, &METERS)),
        corner("8 rules x 8 windows", windows(8, 8, &METERS)),
    ]
}

/// Instances that run all the time from `start` to `end`, each in some intervals.
pub(super) fn request(instances: usize, intervals: usize, start: i64, end: i64) -> Request {
    let each = (end - start) / intervals as i64;
    let count = instances * intervals;
    let numbers = || (0..count).map(|place| (place % intervals) as i64);
    let finish = |number: i64| match number + 1 == intervals as i64 {
        true => end,
        false => start + each * (number + 1),
    };
    let subject = |number: usize| metering::Subject {
        id: format!("i{number:05}"),
        name: String::new(),
        tags: Vec::new(),
    };
    let column = |name: &str| metering::Column { name: name.into(), values: vec![1; count] };
    Request {
        tenant: "default".into(),
        span: metering::Span { start, end },
        subjects: (0..instances).map(subject).collect(),
        intervals: IntervalColumns {
            subject: (0..count).map(|place| (place / intervals) as u32).collect(),
            phase: vec![Phase::Running as u8; count],
            start: numbers().map(|number| start + each * number).collect(),
            end: numbers().map(finish).collect(),
            session: vec![1; count],
            wakes: vec![0; count],
            fact: (1..).take(count).collect(),
            dimensions: DIMENSIONS.map(column).into(),
            counts: Vec::new(),
        },
        options: Vec::new(),
    }
}

/// The terms of a policy's meters, as the biller takes them.
fn terms(stated: &MeterTerms) -> Option<Terms> {
    Some(Terms {
        stretch: match stated.stretch {
            metering::Stretch::Start => Stretch::Start,
            metering::Stretch::Wake => Stretch::Wake,
            metering::Stretch::Visit => Stretch::Visit,
            metering::Stretch::Life => Stretch::Life,
        },
        minimum_ns: stated.minimum,
        granularity_ns: stated.granularity,
        rounding: match stated.rounding {
            metering::Rounding::HalfEven => Rounding::HalfEven,
            metering::Rounding::HalfUp => Rounding::HalfUp,
            metering::Rounding::Down => Rounding::Down,
            metering::Rounding::Up => Rounding::Up,
        },
    })
}

/// The input of a bill but for its columns: one book and one policy over the whole period.
pub(super) fn header(
    book: &Value,
    stated: &[MeterTerms],
    (start, end): (i64, i64),
    opening: Balances,
) -> Header {
    Header {
        form: FORM,
        period: Span { start, end },
        first: start,
        last: end,
        until: end,
        calendar: vec![Offset { since: 0, offset: 0 }],
        zones: vec![Zone { name: "UTC".into(), transitions: vec![(0, 0)] }],
        books: vec![BookInForce { from: start, until: end, text: book.to_string() }],
        meters: stated.iter().map(|terms| terms.name.clone()).collect(),
        terms: vec![TermsInForce {
            from: start,
            until: end,
            terms: stated.iter().map(terms).collect(),
        }],
        opening,
        one_offs: Vec::new(),
        marks: Vec::new(),
    }
}

/// The columns of a bill: a request and what its policy counted.
pub(super) fn measured(request: &Request, counted: Vec<u64>) -> (Vec<Subject>, Intervals) {
    let columns = request.intervals.clone();
    let named = |columns: Vec<metering::Column>| {
        let columns = columns.into_iter();
        columns.map(|column| Column { name: column.name, values: column.values }).collect()
    };
    let intervals = Intervals {
        subject: columns.subject,
        start: columns.start,
        end: columns.end,
        session: columns.session,
        wakes: columns.wakes,
        meters: counted,
        fact: columns.fact,
        dimensions: named(columns.dimensions),
        counts: named(columns.counts),
    };
    let subject = |(first_fact, of): (u64, &metering::Subject)| Subject {
        id: of.id.clone(),
        first_fact,
        ended: false,
    };
    ((1..).zip(&request.subjects).map(subject).collect(), intervals)
}
