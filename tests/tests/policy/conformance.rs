//! The conformance kit accepts components that keep the contract, and names the faults of others.

use tallyman::policy::conformance::{self, Report, Terms};
use tallyman::policy::metering::Setting;
use tallyman::policy::{AdmissionError, Profile};
use tallyman_tests::policies;

use crate::Host;
use crate::hostile::{Evil, HONEST, Metering, When};

fn report(bytes: &[u8]) -> Report {
    let host = Host::open();
    conformance::run(&host.policies, bytes, Profile::Compact, &Terms::default())
        .unwrap_or_else(|why| panic!("{}", why.in_words()))
}

fn failed(report: &Report) -> Vec<&'static str> {
    report.checks.iter().filter(|check| check.failed.is_some()).map(|check| check.claim).collect()
}

#[test]
fn every_policy_that_comes_with_the_program_conforms() {
    for name in policies::names() {
        let report = report(&policies::component(&name));
        assert!(report.holds(), "{name}: {:?}", report.checks);
        for burned in &report.fuel {
            assert!(burned.fuel <= burned.allowed, "{name}: {burned:?}");
        }
        assert!(report.checks.iter().all(|check| check.cases > 0), "{name}: {:?}", report.checks);
    }
}

#[test]
fn every_shipped_policy_counts_time_and_declares_its_options() {
    for name in policies::names() {
        let report = report(&policies::component(&name));
        assert!(report.counted > 200, "{name} counted {} intervals", report.counted);
        assert!(
            !report.description.meters.is_empty() && !report.description.options.is_empty(),
            "{name}"
        );
    }
}

fn asked(metering: Metering, terms: &Terms) -> Report {
    let host = Host::open();
    let report = conformance::run(&host.policies, &metering.component(), Profile::Compact, terms);
    report.unwrap_or_else(|why| panic!("{}", why.in_words()))
}

#[test]
fn a_policy_that_counts_nothing_at_all_fails() {
    // No meter counts any interval.
    let host = Host::open();
    let nothing = "(i64.store (i32.add (local.get $masks) (i32.mul (local.get $i) (i32.const 8))) \
                   (i64.const 0))";
    let one = nothing.replace("(i64.const 0))", "(i64.const 1))");
    let component = HONEST.component_with(When::Never, &one, nothing);
    let report = conformance::run(&host.policies, &component, Profile::Compact, &Terms::default())
        .expect("admitted");
    assert!(failed(&report).contains(&"some time is counted"), "{:?}", report.checks);
    assert_eq!(report.counted, 0);
}

#[test]
fn a_policy_whose_masks_depend_on_who_else_is_asked_about_fails() {
    let host = Host::open();
    let one = "(i64.const 1))\n      (local.set $i";
    let by_size = "(i64.extend_i32_u (i32.add (i32.const 1) \
                   (i32.gt_u (local.get $n) (i32.const 20)))))\n      (local.set $i";
    let component = HONEST.component_with(When::Never, one, by_size);
    let report = conformance::run(&host.policies, &component, Profile::Compact, &Terms::default())
        .expect("admitted");
    assert!(
        failed(&report).contains(&"an instance counts alone as it does among others"),
        "{:?}",
        report.checks
    );
}

#[test]
fn a_policy_that_refuses_its_own_words_fails() {
    // The component refuses every request with an option.
    let host = Host::open();
    let honest = "(call $measured {terms} (local.get $masks) (local.get $n))";
    let picky = format!(
        "{honest} (if (i32.load offset=108 (local.get $request))
           (then (i32.store8 (i32.const 1024) (i32.const 1))
           (i32.store (i32.const 1028) (i32.const 1))))"
    );
    let component = HONEST.component_with(When::Never, honest, &picky);
    let report = conformance::run(&host.policies, &component, Profile::Compact, &Terms::default())
        .expect("admitted");
    assert!(
        failed(&report).contains(&"declared options are taken, and their defaults hold"),
        "{:?}",
        report.checks
    );
}

#[test]
fn priced_meters_must_be_measured() {
    let claim = "the meters that the prices are for are measured";
    for (meter, holds) in [("active", true), ("moonlight", false)] {
        let terms = Terms { priced: vec![meter.into()], ..Terms::default() };
        let report = asked(Metering::default(), &terms);
        assert_eq!(failed(&report).contains(&claim), !holds, "{:?}", report.checks);
    }
}

#[test]
fn options_are_given_to_the_policy_that_is_tried() {
    let ec2 = policies::component("ec2");
    let holds = |value: &str| {
        let options = vec![Setting { name: "minimum".into(), value: value.into() }];
        let terms = Terms { options, ..Terms::default() };
        let host = Host::open();
        let report =
            conformance::run(&host.policies, &ec2, Profile::Compact, &terms).expect("admitted");
        report.holds()
    };
    assert!(holds("90s"));
    assert!(!holds("ninety"));
}

#[test]
fn two_runs_ask_and_find_the_same() {
    let component = policies::component("coarse");
    let mut one = report(&component);
    let mut other = report(&component);
    (one.admitted.compile_ms, other.admitted.compile_ms) = (0, 0);
    assert_eq!(one, other);
}

/// A policy that is honest about the golden vectors, which are about a minute in 2023, and
/// misbehaves from 2024 on.
fn evil_later(evil: Evil) -> Vec<u8> {
    let since_2024 = "(i64.gt_s (local.get $at) (i64.const 1704067200000000000))";
    evil.component_with(When::Never, "{evil}", since_2024)
}

#[test]
fn what_the_golden_vectors_do_not_show_is_found_in_histories() {
    use crate::hostile::{INVENTS_A_SECOND, LOSES_A_NANOSECOND, TRAPS};
    for evil in [INVENTS_A_SECOND, LOSES_A_NANOSECOND, TRAPS] {
        // Single calls only: other code makes the batches here.
        let report = report(&evil_later(Evil { columns: "", ..evil }));
        // The hostile components, and the honest one that they derive from, wrap around where a
        // total would overflow.
        let expected =
            ["no time is lost or made in any history", "a total that would overflow is refused"];
        assert_eq!(failed(&report), expected, "{:?}", report.checks);
    }
}

#[test]
fn what_would_not_be_admitted_is_told_why() {
    let host = Host::open();
    let refused =
        conformance::run(&host.policies, b"no component", Profile::Compact, &Terms::default());
    assert_eq!(refused, Err(AdmissionError::NotAComponent));
}
