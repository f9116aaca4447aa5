//! The host checks every promise of the contract about descriptions and measurements: for each,
//! components that break it.

use tallyman::limits::policy as limits;
use tallyman::mutants::money::Mutant;
use tallyman::policy::metering::{
    Column, Description, DescriptionViolation as Declared, IntervalColumns, IntervalRange,
    LineViolation as Line, Measurement, MeasurementViolation as Measured, OptionError, OptionKind,
    OwnLine, Request, Setting, Span, Subject, words,
};
use tallyman::policy::{AdmissionError, Fault, Policy, Refused, SelfTestError};
use tallyman::vm::Phase;

use crate::Host;
use crate::hostile::{Answer, EVIL_SPAN_START, Metering};

/// Two instances, three intervals of 10, 20 and 30 ns.
fn evil_request() -> Request {
    let id = |id: &str| Subject { id: id.into(), name: id.into(), tags: Vec::new() };
    let at = |ns: i64| EVIL_SPAN_START + ns;
    let column = |name: &str, values: [u64; 3]| Column { name: name.into(), values: values.into() };
    Request {
        tenant: "acme".into(),
        span: Span { start: at(0), end: at(100) },
        subjects: vec![id("a"), id("b")],
        intervals: IntervalColumns {
            subject: vec![0, 0, 1],
            phase: vec![Phase::Running as u8, Phase::Standby as u8, Phase::Running as u8],
            start: vec![at(0), at(10), at(0)],
            end: vec![at(10), at(30), at(30)],
            session: vec![1; 3],
            wakes: vec![0; 3],
            fact: vec![1, 2, 3],
            dimensions: vec![column("vcpu", [1, 2, 4]), column("huge", [u64::MAX; 3])],
            counts: vec![column("network-in-bytes", [5, 6, 7])],
        },
        options: Vec::new(),
    }
}

/// A valid answer to that request: the meter `active` counts everything, `other` the second
/// interval, and each instance has a line.
fn good() -> Measurement {
    Measurement {
        terms: Metering::default().terms(),
        counted: vec![1, 3, 1],
        lines: vec![
            line(Some(0), &[(0, 2)], 50),
            line(Some(1), &[(2, 3)], 120),
            OwnLine {
                rule: "traffic".into(),
                unit: "network-in-bytes".into(),
                ..line(None, &[(0, 1), (2, 3)], 12)
            },
        ],
    }
}

fn line(subject: Option<u32>, ranges: &[(u32, u32)], quantity: u128) -> OwnLine {
    OwnLine {
        rule: "compute".into(),
        meter: "active".into(),
        subject,
        intervals: ranges.iter().map(|&(first, end)| IntervalRange { first, end }).collect(),
        unit: "vcpu-ns".into(),
        quantity: words(quantity),
        billed: words(quantity),
        price_id: "p-1".into(),
        description: "what it is".into(),
    }
}

/// The host's verdict on an answer to the evil request. Honest requests are answered correctly, so
/// that the component is admitted.
fn said_to(answer: Answer, description: Description) -> Result<Measurement, Fault> {
    let host = Host::open();
    let policy = admitted(&host, Metering { description, answer });
    policy.measure(&evil_request()).map(|answer| answer.value)
}

fn admitted(host: &Host, metering: Metering) -> std::sync::Arc<Policy> {
    let digest = host
        .policies
        .admit(&metering.component())
        .unwrap_or_else(|why| panic!("{}", why.in_words()))
        .digest;
    host.policies.get(digest).expect("kept")
}

fn said(answer: Answer) -> Result<Measurement, Fault> {
    said_to(answer, Metering::default().description)
}

#[test]
fn a_good_answer_is_believed_as_it_is() {
    assert_eq!(said(Answer::Canned(Box::new(good()))), Ok(good()));
    let honest = said(Answer::Honest).expect("believed");
    assert_eq!((honest.counted, honest.lines), (vec![1; 3], Vec::new()));
}

type Spoil = fn(&mut Measurement);

fn measured(violation: Measured) -> Fault {
    Fault::Measurement { violation: Box::new(violation) }
}

fn assert_spoilt(rows: Vec<(&str, Spoil, Fault)>) {
    for (name, spoil, fault) in rows {
        let mut answer = good();
        spoil(&mut answer);
        assert_eq!(said(Answer::Canned(Box::new(answer))), Err(fault), "{name}");
    }
}

#[test]
fn terms_are_those_of_the_declared_meters_within_bounds() {
    let terms = |place, declared: Option<&str>, answered: Option<&str>| {
        measured(Measured::Terms {
            place,
            declared: declared.map(Into::into),
            answered: answered.map(Into::into),
        })
    };
    let other = || "other".to_owned();
    let too_long = limits::TERMS_NS_MAX + 1;
    let active = || "active".to_owned();
    assert_spoilt(vec![
        ("none", |answer| answer.terms.clear(), terms(0, Some("active"), None)),
        ("one is missing", |answer| drop(answer.terms.pop()), terms(1, Some("other"), None)),
        ("another order", |answer| answer.terms.reverse(), terms(0, Some("active"), Some("other"))),
        (
            "one that is not declared",
            |answer| answer.terms.push(answer.terms[0].clone()),
            terms(2, None, Some("active")),
        ),
        (
            "no grain",
            |answer| answer.terms[1].granularity = 0,
            measured(Measured::Granularity { meter: other(), ns: 0 }),
        ),
        (
            "a grain of years",
            |answer| answer.terms[0].granularity = limits::TERMS_NS_MAX + 1,
            measured(Measured::Granularity { meter: active(), ns: too_long }),
        ),
        (
            "a minimum of years",
            |answer| answer.terms[0].minimum = limits::TERMS_NS_MAX + 1,
            measured(Measured::Minimum { meter: active(), ns: too_long }),
        ),
    ]);
}

#[test]
fn there_is_one_mask_for_each_interval_and_no_bit_without_a_meter() {
    let length = |got| Fault::WrongLength { list: "counted", expected: 3, got };
    let mask = |meter| measured(Measured::Mask { interval: 1, meter, meters: 2 });
    assert_spoilt(vec![
        ("too few", |answer| answer.counted.truncate(2), length(2)),
        ("too many", |answer| answer.counted.push(1), length(4)),
        ("a bit beyond the meters", |answer| answer.counted[1] = 0b111, mask(2)),
        ("the last bit", |answer| answer.counted[1] = 1 << 63, mask(63)),
    ]);
}

#[test]
fn a_line_of_its_own_keeps_to_what_the_intervals_held() {
    let own = |line, violation| Fault::OwnLine { line, violation: Box::new(violation) };
    let text = |what, bytes, min, max| own(0, Line::Text { what, bytes, min, max });
    let word = |what, bytes| text(what, bytes, 1, limits::WORD_BYTES_MAX);
    let range = |first, end| own(0, Line::Range { first, end, intervals: 3 });
    let twice = |line, first, end| own(line, Line::Twice { first, end });
    let quantity =
        |stated, measured| own(0, Line::Quantity { stated, measured, unit: "vcpu-ns".into() });
    assert_spoilt(vec![
        ("no rule", |answer| answer.lines[0].rule.clear(), word("rule", 0)),
        ("a long rule", |answer| answer.lines[0].rule = "r".repeat(129), word("rule", 129)),
        ("a rule on two lines", |answer| answer.lines[0].rule = "r\n".into(), word("rule", 2)),
        ("no price", |answer| answer.lines[0].price_id.clear(), word("price-id", 0)),
        ("no unit", |answer| answer.lines[0].unit.clear(), word("unit", 0)),
        ("no meter", |answer| answer.lines[0].meter.clear(), word("meter", 0)),
        (
            "a novel",
            |answer| answer.lines[0].description = "w".repeat(513),
            text("description", 513, 0, limits::DESCRIPTION_BYTES_MAX),
        ),
        (
            "an unknown meter",
            |answer| answer.lines[0].meter = "mine".into(),
            own(0, Line::Meter("mine".into())),
        ),
        (
            "an unknown subject",
            |answer| answer.lines[0].subject = Some(2),
            own(0, Line::Subject(2)),
        ),
        ("out of order", |answer| answer.lines.reverse(), own(1, Line::Order)),
        (
            "the tenant before an instance",
            |answer| {
                answer.lines.truncate(2);
                answer.lines[0].subject = None;
            },
            own(1, Line::Order),
        ),
        ("no interval", |answer| answer.lines[0].intervals.clear(), own(0, Line::NoInterval)),
        ("an empty range", |answer| answer.lines[0].intervals[0].end = 0, range(0, 0)),
        ("a range beyond the end", |answer| answer.lines[0].intervals[0].end = 4, range(0, 4)),
        (
            "ranges that go back",
            |answer| answer.lines[0].intervals = line(None, &[(1, 2), (0, 1)], 0).intervals,
            range(0, 1),
        ),
        (
            "ranges that overlap",
            |answer| answer.lines[0].intervals = line(None, &[(0, 2), (1, 2)], 0).intervals,
            range(1, 2),
        ),
        (
            "another's interval",
            |answer| answer.lines[0].intervals[0].end = 3,
            own(0, Line::ForeignInterval { first: 0, end: 3 }),
        ),
        (
            "time that its meter does not count",
            |answer| answer.counted[1] = 0,
            own(0, Line::Uncounted { meter: "active".into(), first: 0, end: 2 }),
        ),
        (
            "the same time twice",
            |answer| answer.lines.insert(1, line(Some(0), &[(1, 2)], 40)),
            twice(1, 1, 2),
        ),
        (
            "the same time twice, around",
            |answer| {
                answer.lines[0] = line(Some(0), &[(1, 2)], 40);
                answer.lines.insert(1, line(Some(0), &[(0, 2)], 50));
            },
            twice(1, 0, 2),
        ),
        (
            "an unknown unit",
            |answer| answer.lines[0].unit = "gpu-ns".into(),
            own(0, Line::Unit("gpu-ns".into())),
        ),
        (
            "a dimension without time",
            |answer| answer.lines[0].unit = "vcpu".into(),
            own(0, Line::Unit("vcpu".into())),
        ),
        ("too much", |answer| answer.lines[0].quantity = words(51), quantity(51, 50)),
        ("too little", |answer| answer.lines[0].quantity = words(49), quantity(49, 50)),
        (
            "a count that was not read",
            |answer| answer.lines[2].quantity = words(18),
            own(2, Line::Quantity { stated: 18, measured: 12, unit: "network-in-bytes".into() }),
        ),
        (
            "more billed than used",
            |answer| answer.lines[0].billed = words(51),
            own(0, Line::Billed { billed: 51, quantity: 50, ratio: 1_000 }),
        ),
        (
            "all that there is",
            |answer| answer.lines[0].billed = words(u128::MAX),
            own(0, Line::Billed { billed: u128::MAX, quantity: 50, ratio: 1_000 }),
        ),
    ]);
}

#[test]
fn what_does_not_fit_128_bits_is_told() {
    let mut request = evil_request();
    request.intervals.start = vec![EVIL_SPAN_START, i64::MIN, i64::MIN];
    request.intervals.end = vec![i64::MAX; 3];
    let mut answer = good();
    answer.lines = vec![OwnLine { unit: "huge-ns".into(), ..line(Some(0), &[(0, 2)], 0) }];
    let host = Host::open();
    let policy = admitted(
        &host,
        Metering { answer: Answer::Canned(Box::new(answer)), ..Metering::default() },
    );
    let fault = policy.measure(&request).map(|answer| answer.value);
    assert_eq!(
        fault,
        Err(Fault::OwnLine { line: 0, violation: Box::new(Line::Overflow("huge-ns".into())) })
    );
}

#[test]
fn lines_of_its_own_are_bounded_in_number() {
    // Lines whose texts and lists are all empty: memory that was never written.
    let empty =
        "(i32.store (i32.const 1044) (i32.mul (memory.grow (i32.const 20)) (i32.const 65536)))";
    let lines =
        format!("{empty} (i32.store (i32.const 1048) (i32.const {}))", limits::OWN_LINES_MAX + 1);
    let fault = said(Answer::Code(lines.leak()));
    assert_eq!(fault, Err(measured(Measured::Lines(limits::OWN_LINES_MAX + 1))));
}

#[test]
fn what_a_component_declares_to_bill_at_most_it_may_bill() {
    for (ratio, billed, is_believed) in
        [(1_500, 75, true), (1_500, 76, false), (0, 0, true), (0, 1, false)]
    {
        let mut answer = good();
        answer.lines.truncate(1);
        answer.lines[0].billed = words(billed);
        let description = Description { billed_ratio: ratio, ..Metering::default().description };
        let asked = || said_to(Answer::Canned(Box::new(answer.clone())), description.clone());
        let fault = asked();
        assert_eq!(fault.is_ok(), is_believed, "{ratio} {billed}: {fault:?}");
        assert!(Mutant::RatioIgnored.during(asked).is_ok(), "{ratio} {billed}");
    }
}

#[test]
fn a_line_that_states_more_than_there_was_is_found() {
    let mut answer = good();
    answer.lines.truncate(1);
    answer.lines[0].quantity = words(1_000_000_000_000_000);
    answer.lines[0].billed = answer.lines[0].quantity;
    let asked = || said(Answer::Canned(Box::new(answer.clone())));
    assert!(asked().is_err());
    assert!(Mutant::OwnLinesUnchecked.during(asked).is_ok());
}

#[test]
fn code_that_misbehaves_is_a_fault_of_its_own_kind() {
    let refuses =
        "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store (i32.const 1028) (i32.const 1))";
    assert_eq!(said(Answer::Code(refuses)), Err(Fault::Refused(Refused::TooMuch)));
    assert!(matches!(said(Answer::Code("unreachable")), Err(Fault::Trap { .. })));
    let endless = said(Answer::Code("(loop $for_ever (br $for_ever))"));
    assert!(matches!(endless, Err(Fault::OutOfFuel { .. })), "{endless:?}");
    // A list outside its memory, and one that is larger than any answer may be.
    let far = "(i32.store (i32.const 1040) (i32.const 100000000))";
    assert!(matches!(
        said(Answer::Code(far)),
        Err(Fault::Malformed { .. } | Fault::AnswerTooLarge { .. })
    ));
    let long = "(drop (memory.grow (i32.const 200))) \
                (i32.store (i32.const 1036) (i32.const 0)) \
                (i32.store (i32.const 1040) (i32.const 1500000))";
    assert!(matches!(said(Answer::Code(long)), Err(Fault::AnswerTooLarge { .. })));
}

type Undeclare = fn(&mut Description);

#[test]
fn a_description_keeps_its_bounds_or_the_component_is_not_admitted() {
    let name = |what, name: &str| Declared::Name { what, name: name.into() };
    let twice = |what, name: &str| Declared::Twice { what, name: name.into() };
    let words = |name: &str, bytes| Declared::Words { name: name.into(), bytes };
    let wrong_default = |option: &str, value: &str, wants: &str| Declared::Default {
        option: option.into(),
        problem: Box::new(OptionError::Value {
            name: option.into(),
            value: value.into(),
            wants: wants.into(),
        }),
    };
    let length = "a whole number with ns, ms, s, m or h, such as 60s";
    let rows: Vec<(&str, Undeclare, Declared)> = vec![
        ("no meter", |it| it.meters.clear(), Declared::Meters(0)),
        (
            "65 meters",
            |it| {
                let meter = it.meters[0].clone();
                it.meters = (0..65)
                    .map(|n| {
                        let mut m = meter.clone();
                        m.name = format!("m{n}");
                        m
                    })
                    .collect();
            },
            Declared::Meters(65),
        ),
        ("a meter without a name", |it| it.meters[0].name.clear(), name("a meter", "")),
        (
            "a meter in capitals",
            |it| it.meters[0].name = "Active".into(),
            name("a meter", "Active"),
        ),
        (
            "a meter of 129 bytes",
            |it| it.meters[0].name = "m".repeat(129),
            name("a meter", &"m".repeat(80)),
        ),
        (
            "two meters of one name",
            |it| it.meters[1].name = "active".into(),
            twice("meter", "active"),
        ),
        ("a meter without words", |it| it.meters[0].counts.clear(), words("active", 0)),
        ("a meter with a novel", |it| it.meters[0].counts = "w".repeat(513), words("active", 513)),
        ("a meter that rings", |it| it.meters[0].counts = "\u{7}".into(), words("active", 1)),
        (
            "65 options",
            |it| {
                let option = it.options[2].clone();
                it.options = (10..75)
                    .map(|n| {
                        let mut o = option.clone();
                        o.name = format!("o{n}");
                        o
                    })
                    .collect();
            },
            Declared::Options(65),
        ),
        (
            "an option with a space",
            |it| it.options[0].name = "a b".into(),
            name("an option", "a b"),
        ),
        (
            "an option of the host's",
            |it| it.options[0].name = "initializing-max".into(),
            Declared::Reserved,
        ),
        ("options out of order", |it| it.options.reverse(), Declared::Order("how".into())),
        (
            "two options of one name",
            |it| it.options[1].name = "grain".into(),
            twice("option", "grain"),
        ),
        ("an option without words", |it| it.options[0].does.clear(), words("grain", 0)),
        (
            "a choice of nothing",
            |it| it.options[1].kind = OptionKind::Choice(Vec::new()),
            Declared::Choices { option: "how".into(), words: 0 },
        ),
        (
            "a choice of 33",
            |it| {
                it.options[1].kind = OptionKind::Choice((0..33).map(|n| format!("w{n}")).collect())
            },
            Declared::Choices { option: "how".into(), words: 33 },
        ),
        (
            "a choice of one twice",
            |it| it.options[1].kind = OptionKind::Choice(vec!["so".into(), "so".into()]),
            twice("the word", "so"),
        ),
        (
            "a choice of no word",
            |it| it.options[1].kind = OptionKind::Choice(vec!["so".into(), String::new()]),
            name("a word to choose", ""),
        ),
        (
            "a default that is no choice",
            |it| it.options[1].default = "x".into(),
            wrong_default("how", "x", "so or else"),
        ),
        (
            "a default that is no length",
            |it| it.options[0].default = "1".into(),
            wrong_default("grain", "1", length),
        ),
        (
            "a length past 64 bits",
            |it| it.options[0].default = "9999999999999h".into(),
            wrong_default("grain", "9999999999999h", length),
        ),
        (
            "a default that rings",
            |it| it.options[2].default = "\u{7}".into(),
            wrong_default("word", "?", "at most 4096 bytes of text without control characters"),
        ),
        (
            "a ratio beyond bounds",
            |it| it.billed_ratio = 1_000_001,
            Declared::BilledRatio(1_000_001),
        ),
    ];
    for (name, spoil, violation) in rows {
        let mut metering = Metering::default();
        spoil(&mut metering.description);
        let refused = Host::open().policies.admit(&metering.component()).expect_err(name);
        let fault = Fault::Description { violation: Box::new(violation) };
        let expected =
            SelfTestError::Fault { function: "describe", vector: 0, fault: Box::new(fault) };
        assert_eq!(refused, AdmissionError::SelfTest(expected), "{name}");
    }
}

#[test]
fn sixty_four_meters_and_every_mask_of_them_are_taken() {
    let mut metering = Metering::default();
    let meter = metering.description.meters[0].clone();
    let named = |number| {
        let mut meter = meter.clone();
        meter.name = format!("m{number}");
        meter
    };
    metering.description.meters = (0..64).map(named).collect();
    let terms = metering.terms();
    let answer = Measurement { terms, counted: vec![u64::MAX; 3], lines: Vec::new() };
    metering.answer = Answer::Canned(Box::new(answer.clone()));
    assert_eq!(said_to(metering.answer, metering.description), Ok(answer));
}

#[test]
fn a_tenants_options_are_held_against_the_declared_ones() {
    let description = Metering::default().description;
    let check = |name: &str, value: &str| {
        description
            .check_options(&[Setting { name: name.into(), value: value.into() }])
            .map_err(|why| why.to_string())
    };
    assert_eq!(check("grain", "90s"), Ok(()));
    assert_eq!(check("how", "else"), Ok(()));
    assert_eq!(check("word", "anything at all"), Ok(()));
    let refused = [
        ("grian", "90s", "option 'grian' is unknown to this policy; known are: grain, how, word"),
        (
            "grain",
            "90",
            "'90' is no value for option 'grain': \
             write a whole number with ns, ms, s, m or h, such as 60s",
        ),
        ("how", "both", "'both' is no value for option 'how': write so or else"),
    ];
    for (name, value, words) in refused {
        assert_eq!(check(name, value), Err(words.to_owned()));
    }
}

/// Burns fuel with the square of the intervals: too much for many, and little for few.
const SLOW_FOR_MANY: &str = "
    (local.set $i (i32.mul (i32.mul (local.get $n) (local.get $n)) (i32.const 500)))
    (block $burned (loop $burn
      (br_if $burned (i32.eqz (local.get $i)))
      (local.set $i (i32.sub (local.get $i) (i32.const 1)))
      (br $burn)))";

/// An evil request with this number of instances, each with one interval.
fn many(instances: u32) -> Request {
    let mut request = evil_request();
    let columns = &mut request.intervals;
    request.subjects = (0..instances)
        .map(|n| Subject { id: format!("i{n:05}"), name: "x".into(), tags: Vec::new() })
        .collect();
    columns.subject = (0..instances).collect();
    let items = instances as usize;
    columns.phase = vec![Phase::Running as u8; items];
    columns.start = vec![EVIL_SPAN_START; items];
    columns.end = (0..i64::from(instances)).map(|n| EVIL_SPAN_START + 1 + n).collect();
    columns.session = vec![1; items];
    columns.wakes = vec![0; items];
    columns.fact = (1..=u64::from(instances)).collect();
    columns
        .dimensions
        .iter_mut()
        .chain(&mut columns.counts)
        .for_each(|column| column.values = vec![1; items]);
    request
}

#[test]
fn what_runs_out_of_fuel_is_asked_again_in_halves() {
    let host = Host::open();
    let policy =
        admitted(&host, Metering { answer: Answer::Code(SLOW_FOR_MANY), ..Metering::default() });
    let answer = policy.measure(&many(500)).expect("in parts");
    assert_eq!(answer.value.counted, [1; 500]);
    assert_eq!(answer.value.terms, Metering::default().terms());
    let few = policy.measure(&many(5)).expect("at once");
    assert!(answer.fuel > 100 * few.fuel, "{} {}", answer.fuel, few.fuel);
    // A request for one instance can't be halved.
    let endless = Answer::Code("(loop $for_ever (br $for_ever))");
    let policy = admitted(&host, Metering { answer: endless, ..Metering::default() });
    let fault = policy.measure(&many(500)).map(|answer| answer.value);
    assert!(matches!(fault, Err(Fault::OutOfFuel { .. })), "{fault:?}");
}

#[test]
fn fuel_suffices_for_a_shipped_policy_in_every_shape_of_a_request() {
    let host = Host::open();
    let standard = host.policies.standard();
    let mut tagged = many(1_000);
    let tag = |n: usize| Setting { name: format!("tag-{n}"), value: "x".repeat(256) };
    tagged.subjects.iter_mut().for_each(|subject| subject.tags = (0..64).map(tag).collect());
    let mut wide = many(1_000);
    let column = |n: usize| Column { name: format!("count-{n}"), values: vec![u64::MAX; 1_000] };
    wide.intervals.counts = (0..50).map(column).collect();
    let mut long = many(1);
    long.intervals = {
        let mut columns = many(limits::METERING_INTERVALS as u32).intervals;
        columns.subject.fill(0);
        columns
    };
    for (name, request) in
        [("many", many(10_000)), ("tagged", tagged), ("wide", wide), ("long", long)]
    {
        // It is about fuel: a host that is busy with other tests may run out of time.
        let in_time = |_| match standard.measure(&request) {
            Err(Fault::Deadline { .. }) => None,
            answer => Some(answer),
        };
        let answer = (0..30)
            .find_map(in_time)
            .expect("an answer within the time of thirty calls")
            .unwrap_or_else(|fault| panic!("{name}: {}", fault.in_words()));
        assert_eq!(answer.value.counted.len(), request.intervals.phase.len(), "{name}");
        // A request that runs out is split, and its parts burn more.
        let by_intervals = Mutant::BudgetByIntervals.during(|| standard.measure(&request));
        let is_split = by_intervals.is_ok_and(|again| again.fuel > answer.fuel);
        assert_eq!(is_split, name == "tagged", "{name}");
    }
}
