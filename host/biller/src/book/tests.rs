use super::*;

const HOUR_NS: u128 = 3_600_000_000_000;

/// One of everything.
const RICH: &str = r#"{
  "currency": "EUR",
  "rounding": "half-up",
  "line_digits": 6,
  "prices": [
    {"id": "night", "rule": "compute", "meter": "active", "per": "vcpu-hour", "price": "0.02",
     "from": "2026-01-01T00:00:00+01:00",
     "windows": [{"zone": "Europe/Berlin", "days": ["mon", "fri"],
                  "from": "22:00", "until": "06:00"}]},
    {"id": "day", "rule": "compute", "meter": "active", "per": "vcpu-hour", "price": "0.0475"},
    {"id": "memory", "rule": "memory", "meter": "active", "per": "memory-GiB-hour",
     "included": "100", "price": "1/3"},
    {"id": "sleep", "rule": "sleep", "meter": "standby", "per": "snapshot-GB-30days", "scope": "tenant", "resets": "never",
     "tiers": [{"up_to": "0.5", "price": 1, "once": "0.10"}, {"price": "0.000000000125"}]},
    {"id": "calls", "rule": "calls", "meter": "allocated", "per": "gpu-second",
     "model": "package", "package": 100, "price": "5"}
  ],
  "adjustments": [
    {"id": "commit", "kind": "minimum", "amount": "50.00"},
    {"id": "gift", "kind": "credit", "amount": 10, "rules": ["sleep"],
     "until": "2027-01-01T00:00:00Z"}
  ]
}"#;

fn is_zone(name: &str) -> bool {
    matches!(name, "UTC" | "Europe/Berlin" | "Asia/Tokyo")
}

fn parse(text: &str) -> Result<Book, BookError> {
    Book::parse(text.as_bytes(), is_zone)
}

fn rich() -> Book {
    parse(RICH).unwrap_or_else(|error| panic!("{error}"))
}

fn price<'a>(book: &'a Book, id: &str) -> &'a Price {
    book.prices().iter().find(|price| price.id == id).expect(id)
}

fn ratio(numerator: u128, denominator: u128) -> Ratio {
    Ratio { numerator, denominator }
}

#[test]
fn a_book_is_read_exactly() {
    let book = rich();
    assert_eq!((book.currency().code(), book.rounding()), ("EUR", Rounding::HalfUp));
    assert_eq!((book.zones(), book.line_digits()), (vec!["Europe/Berlin"], 6));
    let ids: Vec<_> = book.prices().iter().map(|price| price.id.as_str()).collect();
    assert_eq!(ids, ["night", "day", "memory", "sleep", "calls"]);
    assert_eq!(book.rules(), ["calls", "compute", "memory", "sleep"]);

    let night = price(&book, "night");
    assert_eq!(night.tiers[0].price, ratio(20_000_000, HOUR_NS));
    let window = &night.windows[0];
    assert_eq!((window.days, window.from_minute, window.until_minute), (0b001_0001, 1_320, 360));
    assert_eq!(night.valid, Span { start: 1_767_222_000_000_000_000, end: i64::MAX });

    let memory = price(&book, "memory");
    assert_eq!(
        (memory.per.unit.as_str(), memory.per.measure.as_str()),
        ("memory-byte-ns", "GiB*s")
    );
    assert_eq!(memory.model, Model::Graduated);
    assert_eq!(memory.tiers[0].up_to, Some(100 * (1 << 30) * HOUR_NS));
    assert_eq!(memory.tiers[0].price, ratio(0, 3 * (1 << 30) * HOUR_NS));
    assert_eq!(memory.tiers[1].price, ratio(1_000_000_000, 3 * (1 << 30) * HOUR_NS));

    let sleep = price(&book, "sleep");
    let gb_month = 1_000_000_000 * 30 * 24 * HOUR_NS;
    assert_eq!((sleep.scope, sleep.resets), (Scope::Tenant, Resets::Never));
    assert_eq!((sleep.tiers[0].up_to, sleep.tiers[0].once), (Some(gb_month / 2), 100_000_000));
    assert_eq!(sleep.tiers[0].price, ratio(1_000_000_000, gb_month));
    assert_eq!(sleep.tiers[1].price, ratio(125, gb_month * 1_000), "an eighth of a nano-unit");

    let calls = price(&book, "calls");
    let package = ratio(5_000_000_000, 100 * 1_000_000_000);
    assert_eq!((calls.model, calls.tiers[0].price), (Model::Package, package));
    assert_eq!(book.adjustments()[0].amount, 50_000_000_000);
    assert_eq!(book.adjustments()[1].valid.end, 1_798_761_600_000_000_000);
}

#[test]
fn options_are_refused_in_new_books_and_passed_over_in_stored_ones() {
    let old = spoilt(r#""line_digits": 6,"#, r#""line_digits": 6, "options": {"minimum": "60s"},"#);
    let error = parse(&old).expect_err("options").to_string();
    assert!(error.contains("options") && error.contains("activated"), "{error}");
    assert_eq!(Book::parse_stored(old.as_bytes()), Ok(rich()));
}

#[test]
fn currencies_have_their_coins() {
    for (code, digits) in [("JPY", 0), ("USD", 2), ("KWD", 3)] {
        let book = parse(&format!(r#"{{"currency": "{code}"}}"#)).expect("a book");
        assert_eq!(book.currency().minor_digits(), digits);
        assert!(book.prices().is_empty());
    }
}

/// The rich book with one thing replaced.
fn spoilt(from: &str, to: &str) -> String {
    assert!(RICH.contains(from), "{from}");
    RICH.replacen(from, to, 1)
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let rows = [
        (r#""EUR""#, r#""euro""#, "currency", "ISO 4217"),
        (r#""line_digits": 6"#, r#""line_digits": 10"#, "line_digits", "9"),
        (r#""rounding": "half-up""#, r#""rounding": "banker""#, "unknown variant", "half-even"),
        (
            r#""per": "vcpu-hour", "price": "0.02""#,
            r#""per": "vcpu-hour", "price": 0.02"#,
            "a whole number",
            "",
        ),
        (r#""price": "0.02""#, r#""price": "-0.02""#, "prices[0].price", "negative"),
        (r#""price": "0.02""#, r#""price": "2e-2""#, "prices[0].price", "0.0475"),
        (r#""price": "0.02""#, r#""preis": "0.02""#, "unknown field `preis`", "`price`"),
        (r#""price": "1/3""#, r#""price": "1/0""#, "prices[2].price", "not be 0"),
        (
            r#""per": "vcpu-hour", "price": "0.02""#,
            r#""per": "vcpu-month", "price": "0.02""#,
            "prices[0].per",
            "disk-GB-30days",
        ),
        (r#""id": "day""#, r#""id": "night""#, "id", "'night' stands twice"),
        (r#""id": "day""#, r#""id": """#, "prices[1].id", "1 to 128"),
        (r#""id": "gift""#, r#""id": "day""#, "id", "'day' stands twice"),
        (
            r#""zone": "Europe/Berlin""#,
            r#""zone": "Berlin""#,
            "prices[0].windows[0].zone",
            "Europe/Berlin",
        ),
        (r#""from": "22:00""#, r#""from": "24:00""#, "prices[0].windows[0].from", "00:00 to 23:59"),
        (r#""until": "06:00""#, r#""until": "6:00""#, "prices[0].windows[0].until", "HH:MM"),
        (r#"["mon", "fri"]"#, "[]", "prices[0].windows[0].days", "at least one"),
        (
            r#""from": "2026-01-01T00:00:00+01:00""#,
            r#""from": "2026-01-01""#,
            "prices[0].from",
            "2026-02-01T00:00:00Z",
        ),
        (
            r#""until": "2027-01-01T00:00:00Z""#,
            r#""from": "2027-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z""#,
            "adjustments[1].until",
            "after",
        ),
        (r#"{"up_to": "0.5", "#, r#"{"up_to": "0", "#, "prices[3].tiers[0].up_to", "more than"),
        (r#"{"up_to": "0.5", "#, "{", "prices[3].tiers[0].up_to", "only the last"),
        (
            r#"{"price": "0.000000000125"}"#,
            r#"{"up_to": 9, "price": 1}"#,
            "prices[3].tiers[1].up_to",
            "no end",
        ),
        (r#""package": 100, "#, "", "prices[4].package", "missing"),
        (r#""package": 100, "#, r#""package": 0, "#, "prices[4].package", "more than 0"),
        (
            r#""included": "100", "#,
            r#""included": "0.0000000000000000001", "#,
            "prices[2].included",
            "decimal",
        ),
        (
            r#""model": "package", "#,
            r#""model": "graduated", "#,
            "prices[4].tiers",
            "`tiers` and no `price`",
        ),
        (
            r#""rule": "memory", "meter": "active", "per": "memory-GiB-hour""#,
            r#""rule": "memory", "meter": "active", "per": "vcpu-hour""#,
            "prices[2]",
            "twice on one meter",
        ),
        (
            r#""rule": "compute", "meter": "active", "per": "vcpu-hour", "price": "0.0475""#,
            r#""rule": "compute", "meter": "resident", "per": "vcpu-hour", "price": "0.0475""#,
            "prices[1]",
            "differs from price 'night'",
        ),
        (
            r#""id": "sleep", "rule": "sleep", "meter": "standby", "per": "snapshot-GB-30days", "scope": "tenant", "resets": "never""#,
            r#""id": "sleep", "rule": "compute", "meter": "active", "per": "vcpu-hour""#,
            "prices[3]",
            "'sleep' holds at the same time as price 'day' of the same rule 'compute': at all times",
        ),
        (
            r#""model": "package", "package": 100, "price": "5""#,
            r#""model": "volume", "resets": "never", "tiers": [{"price": "5"}]"#,
            "prices[4].resets",
            "anew",
        ),
        (r#""price": "0.0475""#, r#""price": "99999999999999999999""#, "prices[1]", "too dear"),
        (r#""line_digits": 6"#, r#""options": {}"#, "options", "activated"),
        (r#""amount": "50.00""#, r#""amount": "0""#, "adjustments[0].amount", "more than 0"),
        (
            r#""amount": "50.00""#,
            r#""amount": "0.0000000001""#,
            "adjustments[0].amount",
            "9 digits",
        ),
        (r#""rules": ["sleep"]"#, r#""rules": ["slep"]"#, "adjustments[1].rules", "'slep'"),
    ];
    for (from, to, place, words) in rows {
        let error = parse(&spoilt(from, to)).expect_err(to).to_string();
        assert!(error.contains(place) && error.contains(words), "{to}: {error}");
    }
    let long = format!(r#"{{"currency": "EUR"{}}}"#, " ".repeat(limits::BOOK_BYTES_MAX));
    assert_eq!(parse(&long), Err(BookError::TooLarge(long.len())));
    assert!(parse("").is_err());
}

#[test]
fn windows_that_meet_anywhere_in_the_week_are_refused() {
    let two = |one: &str, other: &str| {
        let price = |id: &str, window: &str| {
            format!(
                r#"{{"id": "{id}", "rule": "r", "meter": "active", "per": "vcpu-hour", "price": 1, "windows": [{window}]}}"#
            )
        };
        let text = format!(
            r#"{{"currency": "EUR", "prices": [{}, {}]}}"#,
            price("a", one),
            price("b", other)
        );
        parse(&text).map(drop)
    };
    let window = |days: &str, from: &str, until: &str| {
        format!(r#"{{"zone": "UTC", "days": [{days}], "from": "{from}", "until": "{until}"}}"#)
    };
    let day = window(r#""mon""#, "08:00", "20:00");
    assert!(two(&day, &window(r#""mon""#, "20:00", "08:00")).is_ok());
    let meeting =
        two(&day, &window(r#""mon""#, "19:59", "20:00")).expect_err("a minute").to_string();
    assert!(meeting.contains("mon 19:59 to mon 20:00 UTC, at all times"), "{meeting}");
    // Equal ends are a whole day.
    assert!(two(&day, &window(r#""sun""#, "09:00", "09:00")).is_err());
    // Sunday night reaches into Monday.
    assert!(two(&day, &window(r#""sun""#, "20:00", "08:01")).is_err());
    assert!(two(&day, &window(r#""tue""#, "08:00", "20:00")).is_ok());
    assert!(two(&day, &window(r#""tue""#, "08:00", "20:00").replace("UTC", "Asia/Tokyo")).is_err());
}

#[test]
fn prices_that_follow_each_other_stand_side_by_side() {
    let price = |id: &str, rule: &str, from: &str, until: &str| {
        format!(
            r#"{{"id": "{id}", "rule": "{rule}", "meter": "active", "per": "vcpu-hour", "price": 1,
                "from": "2026-0{from}-01T00:00:00Z", "until": "2026-0{until}-01T00:00:00Z"}}"#
        )
    };
    let book = |prices: &[String]| {
        let prices = prices.join(",");
        parse(&format!(r#"{{"currency": "EUR", "prices": [{prices}]}}"#)).map(drop)
    };
    let three = [price("a", "r", "3", "5"), price("b", "s", "5", "6"), price("c", "r", "1", "3")];
    assert_eq!(book(&three), Ok(()));
    let error = book(&[price("a", "r", "3", "5"), price("b", "r", "4", "6")]).expect_err("a month");
    let error = error.to_string();
    let overlap = "from 2026-04-01T00:00:00Z until 2026-05-01T00:00:00Z";
    assert!(
        error.contains("prices[1]: 'b'") && error.contains("'a'") && error.contains(overlap),
        "{error}"
    );
    let long = [
        price("a", "r", "1", "9"),
        price("b", "r", "9", "9").replace("09-01T00:00:00Z\"}", "09-02T00:00:00Z\"}"),
        price("c", "s", "2", "3"),
    ];
    assert!(book(&long).expect_err("twice").to_string().contains("twice on one meter"));
}

#[test]
fn counts_of_rules_and_windows_are_bounded() {
    let price = |number: usize, windows: usize| {
        let window = r#"{"zone": "UTC", "from": "08:00", "until": "09:00"}"#;
        let windows = vec![window; windows].join(",");
        format!(
            r#"{{"id": "p{number}", "rule": "r{number}", "meter": "m{number}", "per": "instance-hour",
                "price": 1, "windows": [{windows}]}}"#
        )
    };
    let book = |rules: usize, windows: usize| {
        let prices: Vec<_> = (0..rules).map(|rule| price(rule, windows)).collect();
        format!(r#"{{"currency": "EUR", "prices": [{}]}}"#, prices.join(","))
    };
    assert!(parse(&book(64, 1)).is_ok());
    for (text, words) in
        [(book(65, 0), "at most 64 rules; this book has 65"), (book(1, 65), "at most 64 windows")]
    {
        let error = parse(&text).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
        assert!(Book::parse_stored(text.as_bytes()).is_ok());
    }
}

#[test]
fn the_book_of_the_documentation_is_one() {
    let document = include_str!("../../../../docs/prices.md");
    let book =
        document.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("a book");
    assert_eq!(book.trim(), include_str!("../../../../docs/prices.json").trim());
    let book = parse(book).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((book.prices().len(), book.currency().code()), (4, "EUR"));
}
