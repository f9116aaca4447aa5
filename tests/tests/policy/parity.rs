//! One table of histories, natively and through the component.

use guest_tracker::bindings::exports::tallyman::policy::accounting::Guest as _;
use guest_tracker::{Component, Standard};
use tallyman::billing::{Totals, Tracker};
use tallyman::policy::Policy;
use tallyman::units::Instant;
use tallyman::vm::Phase;
use tallyman_tests::parity::{Millis, ROWS, Row, millis};

use crate::Host;

/// Begin of every history: in 2023, at no round number.
const BEGIN: i64 = 1_700_000_000_123_456_789;

fn instant(millis: i64) -> Instant {
    Instant(BEGIN + millis * 1_000_000)
}

fn totals(expected: Millis) -> Totals {
    Totals(Phase::ALL.map(|phase| millis(expected, phase) * 1_000_000))
}

fn tracker(row: &Row) -> Tracker {
    let (current, since) =
        row.current.map_or((None, Instant::default()), |(phase, at)| (Some(phase), instant(at)));
    Tracker { current, since, totals: totals(row.completed) }
}

fn native(tracker: &Tracker) -> guest_tracker::Tracker {
    let t = tracker.totals.0;
    guest_tracker::Tracker {
        current: tracker.current.map(native_phase),
        since: tracker.since.0,
        totals: native_totals(t),
    }
}

fn native_totals(t: [u64; 8]) -> guest_tracker::Totals {
    guest_tracker::Totals {
        created: t[0],
        initializing: t[1],
        running: t[2],
        paused: t[3],
        shutdown: t[4],
        standby: t[5],
        stopped: t[6],
        unknown: t[7],
    }
}

fn native_phase(phase: Phase) -> guest_tracker::Phase {
    match phase {
        Phase::Created => guest_tracker::Phase::Created,
        Phase::Initializing => guest_tracker::Phase::Initializing,
        Phase::Running => guest_tracker::Phase::Running,
        Phase::Paused => guest_tracker::Phase::Paused,
        Phase::Shutdown => guest_tracker::Phase::Shutdown,
        Phase::Standby => guest_tracker::Phase::Standby,
        Phase::Stopped => guest_tracker::Phase::Stopped,
        Phase::Unknown => guest_tracker::Phase::Unknown,
    }
}

#[test]
fn every_row_holds_natively() {
    for row in ROWS {
        let fresh = native(&Tracker::default());
        let end = row.entered.iter().fold(fresh, |state, &(phase, at)| {
            Component::<Standard>::enter(state, native_phase(phase), instant(at).0)
                .expect("in order")
        });
        assert_eq!(end, native(&tracker(row)), "{}", row.name);
        let seen = Component::<Standard>::snapshot(end, instant(row.looked_at).0);
        assert_eq!(seen, Ok(native_totals(totals(row.seen).0)), "{}", row.name);
        assert_eq!(end, native(&tracker(row)), "looking changed it: {}", row.name);
    }
}

fn walk(policy: &Policy, row: &Row) -> Tracker {
    row.entered.iter().fold(Tracker::default(), |state, &(phase, at)| {
        policy.enter(&state, phase, instant(at)).expect("in order")
    })
}

#[test]
fn every_row_holds_through_the_component() {
    let host = Host::open();
    for row in ROWS {
        let end = walk(host.policies.standard(), row);
        assert_eq!(end, tracker(row), "{}", row.name);
        let seen = host.policies.standard().snapshot(&end, instant(row.looked_at));
        assert_eq!(seen, Ok(totals(row.seen)), "{}", row.name);
    }
}

#[test]
fn every_row_holds_through_the_component_in_columns() {
    let host = Host::open();
    let standard = host.policies.standard();
    let mut states = vec![Tracker::default(); ROWS.len()];
    let rounds = ROWS.iter().map(|row| row.entered.len()).max().expect("rows");
    for round in 0..rounds {
        let going: Vec<usize> =
            (0..ROWS.len()).filter(|&row| round < ROWS[row].entered.len()).collect();
        let step = |&row: &usize| {
            (states[row], ROWS[row].entered[round].0, instant(ROWS[row].entered[round].1))
        };
        let steps: Vec<_> = going.iter().map(step).collect();
        let after = standard.enter_all(&steps).expect("in order");
        for (row, after) in going.into_iter().zip(after) {
            states[row] = after;
        }
    }
    for (row, end) in ROWS.iter().zip(states) {
        assert_eq!(end, tracker(row), "{}", row.name);
        let seen = standard.snapshot_all(&[end], instant(row.looked_at));
        assert_eq!(seen, Ok(vec![totals(row.seen)]), "{}", row.name);
    }
}

#[test]
fn a_transition_into_the_past_is_refused_and_nothing_moves_back() {
    let host = Host::open();
    let before =
        Tracker { current: Some(Phase::Running), since: instant(5_000), totals: Totals::default() };
    let refused =
        Component::<Standard>::enter(native(&before), guest_tracker::Phase::Standby, instant(0).0);
    assert_eq!(refused, Err(guest_tracker::AccountingError::TimeWentBack(0)));
    let fault = host.policies.standard().enter(&before, Phase::Standby, instant(0));
    let refused = tallyman::policy::Refused::TimeWentBack(0);
    assert_eq!(fault, Err(tallyman::policy::Fault::Refused(refused)));
}
