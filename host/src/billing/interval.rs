//! Intervals: the half-open time between two facts of an instance.

use super::fact::{Counted, Entered, Fact};
use super::life::CountedFact;
use super::timeline::Timeline;
use crate::id::Digest;
use crate::units::{Instant, Nanos};
use crate::vm::{ExitCause, Phase, Shape};

/// Time in one phase, with one shape, under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// Sequence number of the fact that opened the interval.
    pub fact: u64,
    /// The phase.
    pub phase: Phase,
    /// First instant inside.
    pub start: Instant,
    /// First instant after; for the open interval, the instant of the query.
    pub end: Instant,
    /// Set if the interval is still open, so that `end` is only the instant of the query.
    pub open: bool,
    /// The resources that the instance held.
    pub shape: Shape,
    /// Number of the session, the start that it belongs to.
    pub session: u32,
    /// Cause of the stop; none for phases other than `stopped`.
    pub cause: Option<ExitCause>,
    /// The policy in force.
    pub policy: Digest,
}

impl Interval {
    /// The length of the interval.
    pub fn length(&self) -> Nanos {
        self.end.since(self.start).unwrap_or_default()
    }
}

/// The intervals of one instance: every instant between its first fact and `now` (or its deletion)
/// lies in exactly one.
///
/// `facts` are the instance's own, ascending, with their sequence numbers.
pub fn intervals(facts: &[(u64, Fact)], timeline: &Timeline, now: Instant) -> Vec<Interval> {
    let counted =
        facts.iter().filter_map(|(seq, fact)| Some((*seq, fact.at.meter, fact.counts()?)));
    of_counted(counted, timeline, now)
}

/// The same of those facts that count time.
pub fn of_counted(
    facts: impl IntoIterator<Item = CountedFact>,
    timeline: &Timeline,
    now: Instant,
) -> Vec<Interval> {
    let mut done = Vec::new();
    let mut open: Option<Interval> = None;
    for (fact, at, counted) in facts {
        close(&mut done, open.take(), timeline, at, false);
        open = match counted {
            Counted::Ends => None,
            Counted::Enters(Entered { phase, shape, session, cause, .. }) => Some(Interval {
                fact,
                phase,
                start: at,
                end: at,
                open: true,
                shape,
                session,
                cause,
                policy: timeline.at(at),
            }),
        };
    }
    close(&mut done, open, timeline, now, true);
    done
}

/// Ends `interval` at `end`, in pieces where the policy changed inside.
fn close(
    done: &mut Vec<Interval>,
    interval: Option<Interval>,
    timeline: &Timeline,
    end: Instant,
    open: bool,
) {
    let Some(mut piece) = interval else { return };
    for (from, digest) in timeline.between(piece.start, end).filter(|&(from, _)| from < end) {
        done.push(Interval { end: from, open: false, ..piece.clone() });
        piece.start = from;
        piece.policy = digest;
    }
    done.push(Interval { end, open, ..piece });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::{About, BootId, InstanceFact, Reading};
    use crate::id::{InstanceId, TenantId};
    use crate::vm::Traffic;
    use proptest::prelude::*;

    fn fact(at: i64, fact: InstanceFact) -> Fact {
        let id: InstanceId = "i".parse().expect("an id");
        Fact {
            at: Reading {
                boot: BootId("b".into()),
                boottime_ns: 0,
                wall_ns: at,
                meter: Instant(at),
            },
            tenant: TenantId::default_tenant(),
            about: About::Instance(id, fact),
        }
    }

    fn entered(at: i64, phase: Phase) -> Fact {
        let shape = Shape::default();
        fact(
            at,
            InstanceFact::Entered(Entered {
                phase,
                shape,
                session: 1,
                cause: None,
                traffic: Traffic::NONE,
            }),
        )
    }

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    #[test]
    fn an_interval_is_split_exactly_at_an_activation() {
        let mut timeline = Timeline::starting_with(digest(1));
        timeline.set(Instant(15), digest(2));
        let facts = [(1, entered(10, Phase::Running)), (2, entered(20, Phase::Stopped))];
        let found = intervals(&facts, &timeline, Instant(30));
        let rows: Vec<_> =
            found.iter().map(|i| (i.phase, i.start.0, i.end.0, i.policy, i.open)).collect();
        assert_eq!(
            rows,
            [
                (Phase::Running, 10, 15, digest(1), false),
                (Phase::Running, 15, 20, digest(2), false),
                (Phase::Stopped, 20, 30, digest(2), true),
            ]
        );
    }

    #[test]
    fn an_activation_on_a_boundary_splits_nothing() {
        let mut timeline = Timeline::starting_with(digest(1));
        timeline.set(Instant(20), digest(2));
        let facts = [(1, entered(10, Phase::Running)), (2, entered(20, Phase::Stopped))];
        let found = intervals(&facts, &timeline, Instant(30));
        assert_eq!(found.iter().map(|i| i.policy).collect::<Vec<_>>(), [digest(1), digest(2)]);
    }

    #[test]
    fn a_deleted_instance_has_no_open_interval() {
        let timeline = Timeline::starting_with(digest(1));
        let gone = fact(20, InstanceFact::Deleted);
        let found =
            intervals(&[(1, entered(10, Phase::Stopped)), (2, gone)], &timeline, Instant(99));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].end, found[0].open), (Instant(20), false));
    }

    proptest! {
        #[test]
        fn intervals_partition_the_lifetime(
            steps in proptest::collection::vec((0_u32..1_000, 0_u8..8), 1..40),
            swaps in proptest::collection::vec(0_i64..40_000, 0..10),
            tail in 0_u32..1_000,
        ) {
            let mut at = 0_i64;
            let facts: Vec<_> = steps.iter().zip(1_u64..).map(|(&(step, phase), sequence)| {
                at += i64::from(step);
                (sequence, entered(at, Phase::from_ordinal(phase).expect("in range")))
            }).collect();
            let mut swaps = swaps;
            swaps.sort_unstable();
            let mut timeline = Timeline::starting_with(digest(0));
            for (&swap, byte) in swaps.iter().zip(1..) {
                timeline.set(Instant(swap), digest(byte));
            }
            let now = Instant(at + i64::from(tail));
            let found = intervals(&facts, &timeline, now);
            prop_assert_eq!(found[0].start, facts[0].1.at.meter);
            prop_assert_eq!(found[found.len() - 1].end, now);
            for pair in found.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
            }
            for piece in &found {
                prop_assert!(piece.start <= piece.end);
                prop_assert_eq!(timeline.at(piece.start), piece.policy);
            }
        }
    }
}
