use biller::input::{
    Balances, BookInForce, FORM, Offset, Rounding, Span, Stretch, Terms, TermsInForce, Zone,
};
use serde_json::json;

use super::super::Backend;
use super::super::PolicyHost;
use super::*;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

fn header() -> Header {
    let window = json!([{"zone": "UTC", "from": "22:00", "until": "06:00"}]);
    let price = |id: &str, rule: &str, per: &str, price: &str| -> serde_json::Value {
        json!({"id": id, "rule": rule, "meter": "active", "per": per, "price": price})
    };
    let mut night = price("night", "compute", "vcpu-hour", "0.02");
    night["windows"] = window;
    let book = json!({
        "currency": "EUR",
        "line_digits": 4,
        "prices": [
            night,
            price("day", "compute", "vcpu-hour", "0.0475"),
            {"id": "memory", "rule": "memory", "meter": "active", "per": "memory-GiB-hour",
                "scope": "tenant",
                "tiers": [{"up_to": 100, "price": "1/3"}, {"price": "1/7", "once": 1}]},
        ],
        "adjustments": [
            {"id": "gift", "kind": "credit", "amount": 5, "rules": ["compute"]},
            {"id": "most", "kind": "cap", "amount": 50},
        ],
    });
    let terms = Terms {
        stretch: Stretch::Start,
        minimum_ns: 60_000_000_000,
        granularity_ns: 1_000_000_000,
        rounding: Rounding::Up,
    };
    Header {
        form: FORM,
        period: Span { start: 0, end: 30 * DAY },
        first: 0,
        last: 30 * DAY,
        until: 30 * DAY,
        calendar: vec![Offset { since: 0, offset: 0 }],
        zones: vec![Zone { name: "UTC".into(), transitions: vec![(0, 0)] }],
        books: vec![BookInForce { from: 0, until: 30 * DAY, text: book.to_string() }],
        meters: vec!["active".into()],
        terms: vec![TermsInForce { from: 0, until: 30 * DAY, terms: vec![Some(terms)] }],
        opening: Balances::default(),
        one_offs: Vec::new(),
        marks: Vec::new(),
    }
}

fn lives(count: u32) -> (Vec<Subject>, Intervals) {
    let mut subjects = Vec::new();
    let mut intervals = Intervals {
        dimensions: ["vcpu", "memory-byte"]
            .map(|name| Column { name: name.into(), values: Vec::new() })
            .into(),
        ..Intervals::default()
    };
    for number in 0..count {
        subjects.push(Subject {
            id: format!("machine-{number}"),
            first_fact: number.into(),
            ended: number % 2 == 0,
        });
        let start = i64::from(number) * 7_777 * SECOND % (20 * DAY);
        for session in 0..3 {
            let start = start + i64::from(session) * DAY;
            intervals.subject.push(number);
            intervals.start.push(start);
            intervals.end.push(start + i64::from(number % 50 + 1) * 13 * SECOND);
            intervals.session.push(session);
            intervals.wakes.push(0);
            intervals.meters.push(1);
            intervals.fact.push(u64::from(number * 3 + session));
            intervals.dimensions[0].values.push(u64::from(number % 4 + 1));
            intervals.dimensions[1].values.push(u64::from(number % 7 + 1) << 30);
        }
    }
    (subjects, intervals)
}

fn host(backend: Backend) -> (PolicyHost, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (PolicyHost::open_with(&folder.path().join("compiled"), backend).expect("a host"), folder)
}

#[test]
fn the_component_bills_like_the_crate_on_both_engines() {
    let (subjects, intervals) = lives(500);
    let natively = biller::bill(&header(), &subjects, &intervals, &[]).expect("a bill");
    let billed = [Backend::Native, Backend::Interpreter].map(|backend| {
        let (host, _folder) = host(backend);
        let biller = host.biller().expect("a biller");
        biller.bill(&header(), &subjects, &intervals, &[]).expect("a bill")
    });
    for billed in &billed {
        assert_eq!(billed.bill, natively);
    }
    assert_eq!(billed[0].fuel, billed[1].fuel);
    assert_eq!((billed[0].input, billed[0].output), (billed[1].input, billed[1].output));
    assert!(natively.total > 0 && natively.lines.len() > 1_000);
}

#[test]
fn what_is_refused_is_refused_with_its_reason() {
    let (host, _folder) = host(Backend::Native);
    let biller = host.biller().expect("a biller");
    let (subjects, mut intervals) = lives(2);
    intervals.end.pop();
    let error = biller.bill(&header(), &subjects, &intervals, &[]).expect_err("too short");
    assert!(error.to_string().contains("columns of one length"), "{error}");
    let mut header = header();
    header.books[0].text = "{}".into();
    let error = biller.bill(&header, &subjects, &lives(2).1, &[]).expect_err("no book");
    assert!(error.to_string().contains("missing field `currency`"), "{error}");
}

#[test]
fn a_biller_is_what_its_digest_says() {
    let (host, _folder) = host(Backend::Native);
    let biller = host.biller().expect("a biller");
    assert_eq!(biller.digest(), Digest::of(COMPONENT));
    assert!(host.load_biller(Digest::of(b""), COMPONENT).is_err());
    let other = &COMPONENT[..COMPONENT.len() - 1];
    assert!(host.load_biller(Digest::of(other), other).is_err());
}

#[test]
fn fuel_follows_the_work() {
    let (host, _folder) = host(Backend::Native);
    let biller = host.biller().expect("a biller");
    let fuel = |count: u32| {
        let (subjects, intervals) = lives(count);
        let billed = biller.bill(&header(), &subjects, &intervals, &[]).expect("a bill");
        (billed.fuel, billed.bill.lines.len())
    };
    let few = fuel(1_000);
    let many = fuel(2_000);
    let more = many.0 - few.0;
    let lines = (many.1 - few.1) as u64;
    println!("{} fuel for each of {lines} more lines", more / lines);
    assert!(more < few.0 * 3 / 2, "{few:?} and {many:?}");
}

/// A price of a rule and meter of its own.
fn price(id: String, rule: usize) -> serde_json::Value {
    let meter = format!("meter-{rule}");
    let rule = format!("rule-{rule}");
    json!({"id": id, "rule": rule, "meter": meter, "per": "vcpu-hour", "price": "0.0475"})
}

/// The largest books that there may be: many rules, many prices one after the other, many windows.
fn corners() -> [(&'static str, Vec<serde_json::Value>); 3] {
    let rules = (0..64).map(|number| price(format!("p-{number}"), number));
    let hour = |number: i64| {
        chrono::DateTime::from_timestamp(number * 3_600, 0).expect("an instant").to_rfc3339()
    };
    let hourly = (0..720).map(|number| {
        let mut price = price(format!("p-{number}"), 0);
        price["from"] = json!(hour(number));
        price["until"] = json!(hour(number + 1));
        price
    });
    let windows = |rule: usize| {
        (0..8).map(move |number| {
            let mut price = price(format!("p-{rule}-{number}"), rule);
            let from = format!("{:02}:00", number * 3);
            let until = format!("{:02}:00", number * 3 + 3);
            price["windows"] = json!([{"zone": "UTC", "from": from, "until": until}]);
            price
        })
    };
    [
        ("rules", rules.collect()),
        ("prices", hourly.collect()),
        ("windows", (0..8).flat_map(windows).collect()),
    ]
}

#[test]
fn fuel_suffices_in_every_corner_of_the_limits() {
    let (host, _folder) = host(Backend::Native);
    let biller = host.biller().expect("a biller");
    // One machine that is always on, and many that run now and then; all meters count them.
    let (one, mut always) = lives(1);
    let Intervals { subject, start, end, session, wakes, meters, fact, dimensions, .. } =
        &mut always;
    (start[0], end[0]) = (0, 30 * DAY);
    start.truncate(1);
    end.truncate(1);
    for column in [subject, session, wakes] {
        column.truncate(1);
    }
    meters.truncate(1);
    fact.truncate(1);
    dimensions.iter_mut().for_each(|column| column.values.truncate(1));
    let (many, mut now_and_then) = lives(300);
    for column in [&mut always.meters, &mut now_and_then.meters] {
        column.fill(u64::MAX);
    }
    for (name, prices) in corners() {
        let mut header = header();
        header.meters = (0..64).map(|number| format!("meter-{number}")).collect();
        header.terms[0].terms = vec![header.terms[0].terms[0]; 64];
        header.books[0].text = json!({"currency": "EUR", "prices": prices}).to_string();
        for (subjects, intervals) in [(&one, &always), (&many, &now_and_then)] {
            let billed = biller.bill(&header, subjects, intervals, &[]);
            assert!(billed.is_ok(), "{name}, {} machines: {billed:?}", subjects.len());
        }
    }
}
