//! The conformance kit says yes to what keeps the contract, and names what doesn't.

use tallyman::policy::book::Book;
use tallyman::policy::conformance::{self, Report};
use tallyman::policy::{AdmissionError, Profile};
use tallyman_tests::policies;

use crate::Host;
use crate::hostile::{Evil, When};

fn report(bytes: &[u8]) -> Report {
    let host = Host::open();
    conformance::run(&host.policies, bytes, Profile::Compact, None).unwrap_or_else(|why| panic!("{}", why.in_words()))
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
fn rating_is_tried_with_prices() {
    for name in ["ec2", "gcp", "standard"] {
        let lines = report(&policies::component(name)).lines;
        assert!(lines > 10, "{name} stated {lines} lines");
    }
}

#[test]
fn given_prices_must_be_charged() {
    let book = |meter: &str| {
        let price = format!(r#"{{"id": "a-1", "rule": "a", "meter": "{meter}", "per": "vcpu-hour", "price": "0.04"}}"#);
        Book::parse(format!(r#"{{"currency": "EUR", "prices": [{price}]}}"#).as_bytes()).expect("a book")
    };
    let host = Host::open();
    let component = policies::component("ec2");
    for (meter, fails) in [("active", None), ("moonlight", Some("moonlight"))] {
        let report = conformance::run(&host.policies, &component, Profile::Compact, Some(&book(meter)));
        let report = report.unwrap_or_else(|why| panic!("{}", why.in_words()));
        let last = report.checks.last().expect("a check");
        assert_eq!((last.claim, last.cases), ("the given prices are charged", 4));
        match fails {
            None => assert_eq!(last.failed, None),
            Some(words) => assert!(last.failed.as_ref().is_some_and(|why| why.contains(words)), "{last:?}"),
        }
    }
}

#[test]
fn two_runs_ask_and_find_the_same() {
    let component = policies::component("coarse");
    let (mut one, mut other) = (report(&component), report(&component));
    (one.admitted.compile_ms, other.admitted.compile_ms) = (0, 0);
    assert_eq!(one, other);
}

/// Honest about the golden vectors, which are about a minute in 2023; from 2024 on it is not.
fn evil_later(evil: Evil) -> Vec<u8> {
    let since_2024 = "(i64.gt_s (local.get $at) (i64.const 1704067200000000000))";
    evil.component_with(When::Never, "{evil}", since_2024)
}

#[test]
fn what_the_golden_vectors_do_not_show_is_found_in_histories() {
    use crate::hostile::{INVENTS_A_SECOND, LOSES_A_NANOSECOND, TRAPS};
    for evil in [INVENTS_A_SECOND, LOSES_A_NANOSECOND, TRAPS] {
        // In single calls only: a batch is made of other code here.
        let report = report(&evil_later(Evil { columns: "", ..evil }));
        // The hostile ones, and the honest one that they are made of, wrap around where a total would overflow.
        let expected = ["no time is lost or made in any history", "a total that would overflow is refused"];
        assert_eq!(failed(&report), expected, "{:?}", report.checks);
    }
}

#[test]
fn what_would_not_be_admitted_is_told_why() {
    let host = Host::open();
    let refused = conformance::run(&host.policies, b"no component", Profile::Compact, None);
    assert_eq!(refused, Err(AdmissionError::NotAComponent));
}
