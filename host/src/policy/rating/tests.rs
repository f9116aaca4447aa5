//! Statements that lie, each in one way.

use proptest::prelude::*;

use super::super::PolicyHost;
use super::*;

const HOUR: i64 = 3_600_000_000_000;
const DAY: i64 = 24 * HOUR;
/// Monday, 2026-03-23, 00:00 UTC. On the Sunday after, Berlin puts its clocks forward at 01:00 UTC.
const MONDAY: i64 = 1_774_224_000_000_000_000;
const PERIOD: Span = Span { start: MONDAY, end: MONDAY + 14 * DAY };

fn host() -> (PolicyHost, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    (PolicyHost::open(&folder.path().join("compiled")).expect("a host"), folder)
}

fn price(id: &str, rule: &str, unit: &str) -> Price {
    let tier = |up_to: Option<u128>, nanos: i128| Tier {
        up_to: up_to.map(words),
        price: Ratio { numerator: signed_words(nanos), denominator: words(3_600_000_000_000) },
        once: signed_words(0),
    };
    Price {
        rule: rule.into(),
        id: id.into(),
        meter: "active".into(),
        unit: unit.into(),
        per: "test".into(),
        measure: "units".into(),
        measure_units: words(1_000_000_000),
        valid: Span { start: i64::MIN, end: i64::MAX },
        windows: Vec::new(),
        scope: "instance".into(),
        resets: "period".into(),
        model: "graduated".into(),
        tiers: vec![tier(Some(10_000_000_000_000), 47_500_001), tier(None, 38_000_003)],
    }
}

/// Two instances, two intervals each, under a price for time and one for processors.
fn request() -> Request {
    let hours = [(0, 0, 5), (0, 5, 9), (1, 2, 3), (1, 3, 50)];
    Request {
        tenant: "default".into(),
        invoice: PERIOD,
        period: PERIOD,
        last: true,
        subjects: ["a", "b"].map(|id| Subject { id: id.into(), name: id.into(), tags: Vec::new() }).into(),
        intervals: IntervalColumns {
            subject: hours.map(|hour| hour.0).into(),
            phase: vec![2, 1, 2, 2],
            start: hours.map(|hour| MONDAY + hour.1 * HOUR).into(),
            end: hours.map(|hour| MONDAY + hour.2 * HOUR).into(),
            session: vec![1; 4],
            fact: vec![1, 2, 3, 4],
            dimensions: vec![Dimension { name: "vcpus".into(), values: vec![1, 2, 3, 4] }],
        },
        calendar: vec![CalendarOffset { since: 0, offset: 0 }],
        zones: vec![Zone {
            name: "Europe/Berlin".into(),
            transitions: vec![
                ZoneTransition { since: 0, offset_seconds: 3_600 },
                ZoneTransition { since: MONDAY + 6 * DAY + HOUR, offset_seconds: 7_200 },
            ],
        }],
        book: PriceBook {
            digest: String::new(),
            currency: "EUR".into(),
            minor_digits: 2,
            line_digits: 6,
            rounding: "half-even".into(),
            prices: vec![price("p1", "processors", "vcpu-ns"), price("t1", "time", "ns")],
            adjustments: vec![Adjustment {
                id: "gift".into(),
                kind: "credit".into(),
                amount: signed_words(1_000),
                rules: Vec::new(),
                valid: Span { start: i64::MIN, end: i64::MAX },
            }],
        },
        options: Vec::new(),
        carried: Vec::new(),
    }
}

type Spoil = fn(&mut Statement);
type Fits = fn(&Violation) -> bool;

#[test]
fn each_lie_in_a_statement_is_found_and_named() {
    let (host, _folder) = host();
    let request = request();
    let honest = host.standard().rate(&request).expect("rated");
    assert_eq!(check(&request, &honest), Ok(()));
    assert_eq!(honest.lines.len(), 9, "two tiers for two rules and two instances, and a credit: {:#?}", honest.lines);
    let lies: [(&str, Spoil, Fits); 30] = [
        ("a nano more", |s| add(&mut s.lines[0].amount, 1), |v| matches!(v, Violation::Amount)),
        ("a coin more and less left", |s| shift(&mut s.lines[0], 1), |v| matches!(v, Violation::Amount)),
        ("more billed, not more charged", |s| s.lines[0].billed.lower += 1, |v| matches!(v, Violation::Amount)),
        ("a nanosecond more", |s| s.lines[0].quantity.lower += 1, |v| matches!(v, Violation::Quantity { .. })),
        ("an interval less", |s| s.lines[0].intervals.truncate(1), |v| matches!(v, Violation::Quantity { .. })),
        ("an interval again", |s| s.lines[0].intervals.push(1), |v| matches!(v, Violation::Pieces(1))),
        ("another's interval", |s| s.lines[0].intervals.push(2), |v| matches!(v, Violation::ForeignInterval(2))),
        ("no interval", |s| s.lines[0].intervals.push(9), |v| matches!(v, Violation::Interval(9))),
        ("backwards", |s| s.lines[0].intervals.reverse(), |v| matches!(v, Violation::Pieces(0))),
        ("the line again", |s| s.lines.insert(2, s.lines[0].clone()), |v| matches!(v, Violation::Twice { .. })),
        ("a piece outside", |s| pieces(s, MONDAY - 1), |v| matches!(v, Violation::Pieces(0))),
        ("pieces for some", |s| s.lines[0].starts.push(MONDAY), |v| matches!(v, Violation::Pieces(0))),
        ("no such subject", |s| s.lines[0].subject = Some(2), |v| matches!(v, Violation::Subject(2))),
        ("out of order", |s| s.lines[..8].rotate_left(4), |v| matches!(v, Violation::Order)),
        ("after the adjustments", |s| s.lines.rotate_right(1), |v| matches!(v, Violation::Order)),
        ("another kind", |s| s.lines[0].kind = "gift".into(), |v| matches!(v, Violation::Kind(_))),
        ("another price", |s| s.lines[0].price_id = "p2".into(), |v| matches!(v, Violation::Price(_))),
        ("another rule's price", |s| s.lines[0].price_id = "t1".into(), |v| matches!(v, Violation::OtherRule(_))),
        ("another meter", |s| s.lines[0].meter = "idle".into(), |v| matches!(v, Violation::OtherRule(_))),
        ("another unit", |s| s.lines[0].unit = "ns".into(), |v| matches!(v, Violation::OtherRule(_))),
        ("another tier", |s| s.lines[0].tier = 1, |v| matches!(v, Violation::UnitPrice(1))),
        ("no tier", |s| s.lines[0].tier = 2, |v| matches!(v, Violation::UnitPrice(2))),
        ("a dearer price", |s| s.lines[0].price.numerator.lower += 1, |v| matches!(v, Violation::UnitPrice(0))),
        (
            "a reversal at a price that has none",
            |s| s.lines[1].kind = "reversal".into(),
            |v| matches!(v, Violation::UnitPrice(1)),
        ),
        ("free", |s| s.lines[0].price_id.clear(), |v| matches!(v, Violation::Unpriced)),
        ("a larger gift", |s| s.lines[8].billed.lower += 1, |v| matches!(v, Violation::Adjustment(_))),
        ("a gift twice", |s| s.lines.push(s.lines[8].clone()), |v| matches!(v, Violation::Adjustment(_))),
        (
            "a long story",
            |s| s.lines[0].description = "x".repeat(513),
            |v| matches!(v, Violation::Text { what: "description", .. }),
        ),
        ("a line break", |s| s.lines[0].description.push('\n'), |v| matches!(v, Violation::Text { .. })),
        (
            "too much carried",
            |s| s.carried = vec![0; limits::CARRIED_BYTES_MAX + 1],
            |v| matches!(v, Violation::Carried(_)),
        ),
    ];
    for (name, spoil, fits) in lies {
        let mut statement = honest.clone();
        spoil(&mut statement);
        match check(&request, &statement) {
            Err(Fault::Charge { violation, .. }) => assert!(fits(&violation), "{name}: {violation:?}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

fn add(words: &mut S128Words, value: i128) {
    *words = signed_words(signed(*words) + value);
}

/// A coin more, and what is left less by as much: the sum is right, the rounding is not.
fn shift(line: &mut ChargeLine, coins: i128) {
    let coin = 1_000;
    add(&mut line.amount, coins * coin);
    add(&mut line.remainder, -coins * coin * unsigned(line.price.denominator).cast_signed());
}

fn pieces(statement: &mut Statement, start: i64) {
    let line = &mut statement.lines[0];
    line.starts = vec![start, MONDAY + 5 * HOUR];
    line.ends = vec![MONDAY + 5 * HOUR, MONDAY + 9 * HOUR];
}

#[test]
fn a_price_is_used_only_while_it_holds() {
    let (host, _folder) = host();
    let mut request = request();
    request.book.prices.truncate(1);
    request.book.prices[0].valid.end = MONDAY + 7 * HOUR;
    let honest = host.standard().rate(&request).expect("rated");
    let mut late = honest.clone();
    let priced = late.lines.iter_mut().find(|line| !line.price_id.is_empty()).expect("a line");
    (priced.starts, priced.ends) = (Vec::new(), Vec::new());
    let Err(Fault::Charge { violation, .. }) = check(&request, &late) else { panic!("believed") };
    assert_eq!(violation, Violation::NotInForce { price: "p1".into(), at: MONDAY + 7 * HOUR });
    let free = honest.lines.iter().position(|line| line.price_id.is_empty()).expect("time without a price");
    let mut early = honest;
    early.lines[free].starts[0] = MONDAY + 6 * HOUR;
    let Err(Fault::Charge { violation, .. }) = check(&request, &early) else { panic!("believed") };
    assert!(matches!(violation, Violation::NotInForce { .. } | Violation::Twice { .. }), "{violation:?}");
}

fn window() -> impl Strategy<Value = Window> {
    (1..128_u8, 0..1_440_u16, 1..=1_440_u16).prop_map(|(days, from_minute, until_minute)| Window {
        zone: "Europe/Berlin".into(),
        days,
        from_minute,
        until_minute,
    })
}

#[test]
fn host_and_library_read_windows_and_changes_of_price_alike() {
    let (host, _folder) = host();
    let hour = 0..14 * 24_i64;
    let inputs = (window(), window(), hour.clone(), prop::option::of(hour.clone()), hour, -30..30_i64);
    proptest!(ProptestConfig::with_cases(96), |((one, other, change, step, begins, by) in inputs)| {
        let mut request = request();
        let always = price("a-always", "time", "ns");
        let mut before = Price { windows: vec![one.clone()], ..price("b-before", "time", "ns") };
        let mut after = Price { windows: vec![other], ..price("c-after", "time", "ns") };
        before.valid.end = MONDAY + change * HOUR;
        after.valid.start = MONDAY + change * HOUR;
        request.book.prices = vec![always, before, after];
        request.intervals.start[2] = MONDAY + begins * HOUR;
        request.intervals.end[2] = PERIOD.end;
        for column in [&mut request.intervals.subject, &mut request.intervals.session] {
            column.truncate(3);
        }
        request.intervals.phase.truncate(3);
        request.intervals.start.truncate(3);
        request.intervals.end.truncate(3);
        request.intervals.fact.truncate(3);
        request.intervals.dimensions[0].values.truncate(3);
        if let Some(step) = step {
            request.calendar.push(CalendarOffset { since: MONDAY + step * HOUR, offset: by * HOUR / 7 });
        }
        let rated = host.standard().rate(&request);
        prop_assert!(rated.is_ok(), "{:?}", rated.map_err(|fault| fault.in_words()));
    });
}

#[test]
fn rounding_is_that_of_the_mode_on_both_sides_of_zero() {
    let rows = [
        // dividend over 4: half-even, half-up, down, up
        (0, [0, 0, 0, 0]),
        (1, [0, 0, 0, 1]),
        (2, [0, 1, 0, 1]),
        (3, [1, 1, 0, 1]),
        (4, [1, 1, 1, 1]),
        (6, [2, 2, 1, 2]),
        (10, [2, 3, 2, 3]),
    ];
    for (dividend, expected) in rows {
        for (mode, value) in ["half-even", "half-up", "down", "up"].into_iter().zip(expected) {
            let of = |dividend: i32| rounded(&BigInt::from(dividend), &BigInt::from(4), mode);
            assert_eq!(of(dividend), Some(BigInt::from(value)), "{mode} {dividend}");
            assert_eq!(of(-dividend), Some(BigInt::from(-value)), "{mode} -{dividend}");
        }
    }
    assert_eq!(rounded(&BigInt::from(1), &BigInt::from(4), "sideways"), None);
}

#[test]
fn words_carry_every_bit_and_the_sign() {
    for value in [0, 1, u128::from(u64::MAX), u128::MAX] {
        assert_eq!(unsigned(words(value)), value);
    }
    for value in [0, -1, i128::from(i64::MIN), i128::MIN, i128::MAX] {
        assert_eq!(signed(signed_words(value)), value);
    }
}
