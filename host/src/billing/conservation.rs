//! The checks that a policy's answer must pass before the host accepts it.
//!
//! A policy decides *under which phase* time counts. It can't make time, lose it, count it twice or
//! move it: in every answer, the totals must grow by exactly the time that passed.

use super::tracker::{Totals, Tracker};
use crate::units::Instant;
use crate::vm::Phase;

/// The rule that an answer broke. The host treats it as a fault of the policy, like a trap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More time came out than went in.
    #[error("invented {0} ns: the totals must grow by exactly the time since the last fact")]
    Invented(u128),
    /// Less time came out than went in.
    #[error("lost {0} ns: the totals must grow by exactly the time since the last fact")]
    Lost(u128),
    /// A total became smaller.
    #[error("shrank the total of {phase} from {before} to {after} ns: totals only grow")]
    Shrank {
        /// The phase of the total.
        phase: Phase,
        /// Nanoseconds before the call.
        before: u64,
        /// Nanoseconds after it.
        after: u64,
    },
    /// The new visit does not begin at the transition.
    #[error("moved `since` to {answered:?} where the transition was at {expected:?}")]
    Since {
        /// The `since` of the answer.
        answered: Instant,
        /// The instant of the transition.
        expected: Instant,
    },
    /// No phase is current after a transition.
    #[error("answered a tracker without a current phase")]
    NoCurrent,
    /// The host was about to ask about the past: a defect of this program, caught before the call.
    #[error("asked about {at:?}, before the tracker's {since:?}")]
    Backwards {
        /// The instant asked about.
        at: Instant,
        /// The tracker's `since`.
        since: Instant,
    },
}

/// The time under way in `before` at `at`: zero when no phase is current.
///
/// # Errors
/// [`Violation::Backwards`] if `at` lies before the tracker's `since`.
pub fn elapsed(before: &Tracker, at: Instant) -> Result<u64, Violation> {
    match before.current {
        None => Ok(0),
        Some(_) => at
            .since(before.since)
            .map(|nanos| nanos.0)
            .ok_or(Violation::Backwards { at, since: before.since }),
    }
}

fn check_totals(before: &Totals, after: &Totals, elapsed: u64) -> Result<(), Violation> {
    // Every answer passes here, so the sound ones pass quickly: without a shrunk total and without
    // a carry, 64 bits are exact.
    let mut grown = 0_u64;
    let mut unsound = false;
    for (was, is) in before.0.iter().zip(&after.0) {
        let (sum, carry) = grown.overflowing_add(is.wrapping_sub(*was));
        unsound |= carry | (is < was);
        grown = sum;
    }
    if !unsound && grown == elapsed { Ok(()) } else { explain(before, after, elapsed) }
}

/// The same check with room for every number, to name what is wrong.
#[cold]
fn explain(before: &Totals, after: &Totals, elapsed: u64) -> Result<(), Violation> {
    for phase in Phase::ALL {
        let was = before.get(phase).0;
        let is = after.get(phase).0;
        if is < was {
            return Err(Violation::Shrank { phase, before: was, after: is });
        }
    }
    let grown = after.sum() - before.sum();
    let expected = u128::from(elapsed);
    match grown.cmp(&expected) {
        std::cmp::Ordering::Greater => Err(Violation::Invented(grown - expected)),
        std::cmp::Ordering::Less => Err(Violation::Lost(expected - grown)),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// Checks the answer to "`before` enters a phase at `at`".
///
/// # Errors
/// The first rule that `after` breaks.
pub fn check_enter(before: &Tracker, at: Instant, after: &Tracker) -> Result<(), Violation> {
    check_totals(&before.totals, &after.totals, elapsed(before, at)?)?;
    if after.current.is_none() {
        return Err(Violation::NoCurrent);
    }
    if after.since != at {
        return Err(Violation::Since { answered: after.since, expected: at });
    }
    Ok(())
}

/// Checks the answer to "what are the totals of `before` at `at`".
///
/// # Errors
/// The first rule that `answer` breaks.
pub fn check_snapshot(before: &Tracker, at: Instant, answer: &Totals) -> Result<(), Violation> {
    check_totals(&before.totals, answer, elapsed(before, at)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(since: i64, nanos: u64) -> Tracker {
        let mut totals = Totals::default();
        totals.0[Phase::Running as usize] = nanos;
        Tracker { current: Some(Phase::Running), since: Instant(since), totals }
    }

    #[test]
    fn an_honest_answer_passes_whatever_phase_it_counts_under() {
        for phase in Phase::ALL {
            let before = running(100, 7);
            let mut after = before;
            after.totals.0[phase as usize] += 50;
            after.since = Instant(150);
            assert_eq!(check_enter(&before, Instant(150), &after), Ok(()));
            assert_eq!(check_snapshot(&before, Instant(150), &after.totals), Ok(()));
        }
    }

    #[test]
    fn each_dishonest_answer_is_named() {
        let before = running(100, 7);
        let honest = Tracker { since: Instant(150), totals: running(0, 57).totals, ..before };
        let mut invented = honest;
        invented.totals.0[Phase::Standby as usize] = 1;
        let lost = Tracker { totals: running(0, 56).totals, ..honest };
        let mut shrank = honest;
        shrank.totals.0[Phase::Running as usize] = 6;
        shrank.totals.0[Phase::Paused as usize] = 51;
        let moved = Tracker { since: Instant(149), ..honest };
        let closed = Tracker { current: None, ..honest };
        let rows = [
            (invented, Violation::Invented(1)),
            (lost, Violation::Lost(1)),
            (shrank, Violation::Shrank { phase: Phase::Running, before: 7, after: 6 }),
            (moved, Violation::Since { answered: Instant(149), expected: Instant(150) }),
            (closed, Violation::NoCurrent),
        ];
        for (answer, violation) in rows {
            assert_eq!(check_enter(&before, Instant(150), &answer), Err(violation));
        }
    }

    #[test]
    fn totals_near_the_end_of_the_scale_do_not_wrap() {
        let before = Tracker { totals: Totals([u64::MAX; 8]), ..running(100, 0) };
        assert_eq!(check_snapshot(&before, Instant(100), &before.totals), Ok(()));
        assert_eq!(check_snapshot(&before, Instant(101), &before.totals), Err(Violation::Lost(1)));
    }

    #[test]
    fn a_question_about_the_past_is_our_own_defect() {
        let before = running(100, 0);
        let expected = Violation::Backwards { at: Instant(99), since: Instant(100) };
        assert_eq!(check_snapshot(&before, Instant(99), &before.totals), Err(expected));
    }
}
