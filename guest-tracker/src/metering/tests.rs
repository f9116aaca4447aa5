//! Properties of every plan, and of the standard one.

use crate::bindings::exports::tallyman::policy::metering::Guest as _;
use crate::metering::{
    Granularity, MINUTE_NS, Meter, Options, Phases, Plan, SECOND_NS, phase, phase_name,
};
use crate::{
    Component, IntervalColumns, MeteringError, NO_PHASE, OptionKind, Phase, Policy, Request,
    Rounding, Setting, Span, Standard, Stretch,
};

/// A request with one instance that was in each of these phases for a second.
fn lived(phases: &[u8], options: &[(&str, &str)]) -> Request {
    let second = |number: usize| number as i64 * SECOND_NS as i64;
    let items = || 0..phases.len();
    let setting =
        |&(name, value): &(&str, &str)| Setting { name: name.into(), value: value.into() };
    Request {
        tenant: "default".into(),
        span: Span { start: 0, end: second(phases.len()) },
        subjects: Vec::new(),
        intervals: IntervalColumns {
            subject: vec![0; phases.len()],
            phase: phases.to_vec(),
            start: items().map(second).collect(),
            end: items().map(|number| second(number + 1)).collect(),
            session: vec![1; phases.len()],
            wakes: vec![0; phases.len()],
            fact: items().map(|number| number as u64 + 1).collect(),
            dimensions: Vec::new(),
            counts: Vec::new(),
        },
        options: options.iter().map(setting).collect(),
    }
}

const EACH_PHASE: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn a_set_has_what_was_put_in_and_no_more() {
    let set = Phases::of(&[Phase::Running, Phase::Unknown])
        .with(Phase::Paused, true)
        .with(Phase::Standby, false);
    let found: Vec<_> = (0..=NO_PHASE).filter(|&ordinal| set.has(ordinal)).collect();
    assert_eq!(found, [Phase::Running as u8, Phase::Paused as u8, Phase::Unknown as u8]);
    assert_eq!((0..=NO_PHASE).filter(|&ordinal| Phases::ALL.has(ordinal)).count(), 8);
    assert_eq!((0..=NO_PHASE).filter(|&ordinal| Phases::NONE.has(ordinal)).count(), 0);
}

#[test]
fn ordinals_and_names_are_those_of_the_contract() {
    for ordinal in 0..8 {
        let phase = phase(ordinal).expect("a phase");
        assert_eq!(phase as u8, ordinal);
        assert_eq!(
            phase_name(phase),
            format!("{phase:?}").trim_start_matches("Phase::").to_lowercase()
        );
    }
    assert_eq!(phase(8), None);
}

#[test]
fn a_meter_counts_its_phases_and_bit_n_is_meter_n() {
    let meters = [
        Meter::new("running", Phases::of(&[Phase::Running])),
        Meter::new("never", Phases::NONE),
        Meter::new("always", Phases::ALL),
    ];
    let plan = Plan::new(meters);
    let measured = plan.measure(&lived(&EACH_PHASE, &[])).expect("measured");
    assert_eq!(measured.counted, [4, 4, 5, 4, 4, 4, 4, 4]);
    assert_eq!(measured.terms, meters.map(|meter| meter.terms()));
    assert!(measured.lines.is_empty());
    // An ordinal that names no phase is counted by no meter.
    assert_eq!(plan.measure(&lived(&[8, NO_PHASE], &[])).expect("measured").counted, [0, 0]);
}

#[test]
fn sixty_four_meters_fit_a_mask() {
    let meters = vec![Meter::new("all", Phases::ALL); 64];
    assert_eq!(Plan::new(meters).measure(&lived(&[2], &[])).expect("measured").counted, [u64::MAX]);
}

#[test]
fn the_options_of_a_meter_change_its_terms_and_only_those() {
    let meter = Meter::new("active", Phases::ALL).each(Stretch::Wake).at_least(MINUTE_NS);
    let chosen = |given: &[(&str, &str)]| {
        let request = lived(&[], given);
        meter.chosen(&mut Options::of(&request.options))
    };
    assert_eq!(chosen(&[]), Ok(meter));
    let all = [
        ("granularity", "1h"),
        ("granularity-rounding", "down"),
        ("minimum", "0s"),
        ("wake", "continues"),
    ];
    let granularity = Granularity { rounding: Rounding::Down, ..Granularity::HOUR };
    let expected = Meter { stretch: Stretch::Start, minimum_ns: 0, granularity, ..meter };
    assert_eq!(chosen(&all), Ok(expected));
    for (name, value) in
        [("granularity", "0s"), ("granularity-rounding", "sideways"), ("wake", "maybe")]
    {
        assert!(matches!(chosen(&[(name, value)]), Err(MeteringError::InvalidOption(_))), "{name}");
    }
}

#[test]
fn a_grain_of_which_nobody_says_more_is_rounded_up() {
    let request = lived(&[], &[("granularity", "1h")]);
    let measured = Component::<Standard>::measure(request).expect("measured");
    assert_eq!(measured.terms[0].name, "active");
    assert_eq!(
        (measured.terms[0].granularity, measured.terms[0].rounding),
        (3_600 * SECOND_NS, Rounding::Up)
    );
}

#[test]
fn the_standard_policy_declares_what_it_measures_by() {
    let declared = Component::<Standard>::describe();
    let measured = Component::<Standard>::measure(lived(&EACH_PHASE, &[])).expect("measured");
    let names: Vec<_> = declared.meters.iter().map(|meter| meter.name.as_str()).collect();
    let expected = [
        "active",
        "resident",
        "allocated",
        "created",
        "initializing",
        "running",
        "paused",
        "shutdown",
        "standby",
        "stopped",
        "unknown",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        measured.terms.iter().map(|terms| terms.name.as_str()).collect::<Vec<_>>(),
        expected
    );
    assert_eq!(declared.meters[0].counts, "time in initializing, running");
    assert_eq!(declared.meters[2].counts, "all time from the creation to the deletion");
    let options: Vec<_> = declared.options.iter().map(|option| option.name.as_str()).collect();
    assert_eq!(options, ["granularity", "granularity-rounding", "minimum", "wake"]);
    let words = ["half-even", "half-up", "down", "up"].map(str::to_owned).to_vec();
    assert_eq!(declared.options[1].kind, OptionKind::Choice(words));
    assert_eq!(declared.options[1].default, "up");
    assert_eq!(declared.billed_ratio, 1_000);
    // active, resident, allocated, and the phase by its name.
    assert_eq!(measured.counted[Phase::Running as usize], 0b111 | 1 << (3 + Phase::Running as u8));
    assert_eq!(measured.counted[Phase::Standby as usize], 0b100 | 1 << (3 + Phase::Standby as u8));
}

#[test]
fn a_policy_that_counts_boot_as_running_has_it_on_that_meter() {
    struct BootCounts;
    impl Policy for BootCounts {
        fn counts_as(phase: Phase) -> Phase {
            if phase == Phase::Initializing { Phase::Running } else { phase }
        }
    }
    let declared = Component::<BootCounts>::describe();
    assert_eq!(declared.meters[4].counts, "time in no phase");
    assert_eq!(declared.meters[5].counts, "time in initializing, running");
}

#[test]
fn an_option_that_nobody_asks_for_is_refused() {
    let refused = Component::<Standard>::measure(lived(&[2], &[("minimun", "60s")]));
    let Err(MeteringError::InvalidOption(words)) = refused else { panic!("{refused:?}") };
    assert_eq!(
        words,
        "minimun: unknown; known are: granularity, granularity-rounding, minimum, wake"
    );
}
