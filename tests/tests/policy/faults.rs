//! Policies that keep the contract until they are asked about a certain time. Each is stopped, its
//! fault is named, and other policies are unaffected.

use tallyman::billing::conservation::Violation;
use tallyman::billing::{Totals, Tracker};
use tallyman::limits::policy as limits;
use tallyman::policy::{Exceeded, Fault, Policy, Refused};
use tallyman::units::Instant;
use tallyman::vm::Phase;

use crate::Host;
use crate::hostile::{self, EVIL_BEFORE, Evil, When};

const BEFORE: Tracker =
    Tracker { current: Some(Phase::Running), since: Instant(0), totals: Totals([10; 8]) };
const AT: Instant = Instant(100);
const HONEST_AT: Instant = Instant(EVIL_BEFORE);

fn running_until(at: Instant) -> Tracker {
    let mut totals = BEFORE.totals;
    totals.0[Phase::Running as usize] += at.0.unsigned_abs();
    Tracker { current: Some(Phase::Standby), since: at, totals }
}

fn enter(policy: &Policy, at: Instant) -> Result<Tracker, Fault> {
    policy.enter(&BEFORE, Phase::Standby, at)
}

fn enter_all(policy: &Policy, at: Instant) -> Result<Vec<Tracker>, Fault> {
    policy.enter_all(&[(BEFORE, Phase::Standby, at); 3])
}

/// Faults of `evil` in a single call and in a batch. Afterwards it and all others still answer
/// honest questions correctly.
fn faults_of(evil: Evil) -> (Result<Tracker, Fault>, Result<Vec<Tracker>, Fault>) {
    let host = Host::open();
    let bytes = evil.component(When::AskedAboutEarlyInstants);
    let admitted = host.policies.admit(&bytes).unwrap_or_else(|why| panic!("{}", why.in_words()));
    let policy = host.policies.get(admitted.digest).expect("kept");
    let faults = (enter(&policy, AT), enter_all(&policy, AT));
    for policy in [&policy, host.policies.standard()] {
        assert_eq!(enter(policy, HONEST_AT), Ok(running_until(HONEST_AT)));
        assert_eq!(enter_all(policy, HONEST_AT), Ok(vec![running_until(HONEST_AT); 3]));
    }
    faults
}

fn violation(violation: Violation) -> Fault {
    Fault::Violation { item: 0, violation }
}

/// Checks that single call and batch have the same fault.
fn assert_both(evil: Evil, expected: &Fault) {
    let (single, batch) = faults_of(evil);
    assert_eq!(single.as_ref(), Err(expected));
    assert_eq!(batch.as_ref(), Err(expected));
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    let fuel =
        |items| Fault::OutOfFuel { allowed: limits::FUEL_BASE + items * limits::FUEL_PER_ITEM };
    let (single, batch) = faults_of(hostile::LOOPS);
    assert_eq!(single, Err(fuel(1)));
    assert_eq!(batch, Err(fuel(3)));
}

#[test]
fn memory_without_end_is_refused() {
    let pages = |wanted: usize| wanted.is_multiple_of(65_536) && wanted > limits::MEMORY_BYTES_MAX;
    let (single, batch) = faults_of(hostile::EATS_MEMORY);
    assert!(
        matches!(single, Err(Fault::Exceeded(Exceeded::Memory { wanted, .. })) if pages(wanted)),
        "{single:?}"
    );
    assert!(
        matches!(batch, Err(Fault::Exceeded(Exceeded::Memory { wanted, .. })) if pages(wanted)),
        "{batch:?}"
    );
}

#[test]
fn recursion_without_end_overflows_its_own_stack() {
    assert_both(hostile::RECURSES, &Fault::StackOverflow);
}

#[test]
fn a_trap_is_told_as_the_engine_tells_it() {
    let reason = "wasm trap: wasm `unreachable` instruction executed".to_owned();
    assert_both(hostile::TRAPS, &Fault::Trap { reason });
}

#[test]
fn a_gigabyte_that_is_not_there_is_no_value() {
    let (single, batch) = faults_of(hostile::CLAIMS_A_GIGABYTE);
    assert!(matches!(single, Err(Fault::Malformed { .. })), "{single:?}");
    assert!(
        matches!(batch, Err(Fault::Malformed { .. } | Fault::AnswerTooLarge { .. })),
        "{batch:?}"
    );
}

#[test]
fn megabytes_that_are_there_are_not_copied() {
    let allowed = |items| limits::ANSWER_BYTES_BASE + items * limits::ANSWER_BYTES_PER_ITEM;
    let (single, batch) = faults_of(hostile::RETURNS_MEGABYTES);
    assert_eq!(single, Err(Fault::AnswerTooLarge { allowed: allowed(1) }));
    assert_eq!(batch, Err(Fault::AnswerTooLarge { allowed: allowed(3) }));
}

#[test]
fn a_refusal_without_reason_is_a_fault() {
    let (single, batch) = faults_of(hostile::REFUSES);
    assert_eq!(single, Err(Fault::Refused(Refused::InvalidState(0))));
    assert_eq!(batch, Err(Fault::Refused(Refused::InvalidState(1))));
}

#[test]
fn an_invented_second_is_counted_to_the_nanosecond() {
    assert_both(hostile::INVENTS_A_SECOND, &violation(Violation::Invented(1_000_000_000)));
}

#[test]
fn a_lost_nanosecond_is_noticed() {
    assert_both(hostile::LOSES_A_NANOSECOND, &violation(Violation::Lost(1)));
}

#[test]
fn a_total_never_shrinks() {
    let shrank = Violation::Shrank { phase: Phase::Stopped, before: 10, after: 0 };
    assert_both(hostile::SHRINKS_A_TOTAL, &violation(shrank));
}

#[test]
fn since_never_moves_back() {
    let since = Violation::Since { answered: Instant(AT.0 - 1), expected: AT };
    assert_both(hostile::MOVES_SINCE_BACK, &violation(since));
}

#[test]
fn a_phase_is_current_after_a_transition() {
    assert_both(hostile::FORGETS_THE_PHASE, &violation(Violation::NoCurrent));
}

#[test]
fn a_made_up_phase_is_none() {
    let (single, batch) = faults_of(hostile::MAKES_UP_A_PHASE);
    assert!(matches!(single, Err(Fault::Malformed { .. })), "{single:?}");
    assert_eq!(batch, Err(Fault::InvalidPhase { item: 0, ordinal: 9 }));
}

#[test]
fn a_list_that_is_too_short_is_named() {
    let (single, batch) = faults_of(hostile::SHORTENS_A_LIST);
    assert_eq!(single, Ok(running_until(AT)));
    assert_eq!(batch, Err(Fault::WrongLength { list: "since", expected: 3, got: 2 }));
}

#[test]
fn faults_in_a_later_chunk_name_the_item_of_the_whole_batch() {
    let host = Host::open();
    let bytes = hostile::INVENTS_A_SECOND.component(When::AskedAboutEarlyInstants);
    let digest = host.policies.admit(&bytes).expect("honest in the self-test").digest;
    let mut steps = vec![(BEFORE, Phase::Standby, HONEST_AT); limits::BATCH_ITEMS * 2];
    steps[limits::BATCH_ITEMS].2 = AT;
    let fault = host.policies.get(digest).expect("kept").enter_all(&steps);
    let invented = Violation::Invented(1_000_000_000);
    assert_eq!(fault, Err(Fault::Violation { item: limits::BATCH_ITEMS, violation: invented }));
}

#[test]
fn more_callers_than_slots_wait_and_are_answered() {
    let host = Host::open();
    let standard = host.policies.standard();
    let callers = limits::INSTANCES_MAX as usize * 2;
    let start = std::sync::Barrier::new(callers);
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                start.wait();
                for _ in 0..20 {
                    assert_eq!(enter(standard, AT), Ok(running_until(AT)));
                }
            });
        }
    });
}
