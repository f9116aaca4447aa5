//! Changes over time: the policy, or the price book, that is in force at an instant.

use std::sync::Arc;

use crate::id::Digest;
use crate::units::Instant;

/// A change of the policy or price book in force, as facts record it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// From `from` on, `digest` is in force.
    Set {
        /// Effective instant.
        from: Instant,
        /// A component or a price book.
        digest: Digest,
    },
    /// Earlier changes for `from` and `digest` are withdrawn.
    Withdrawn {
        /// The instant for which it was set.
        from: Instant,
        /// The component or price book.
        digest: Digest,
    },
}

/// The digest that is in force from each instant on. A clone shares the entries.
///
/// A change stays until it is withdrawn, regardless of changes before or after it. Of two for one
/// instant, the one that was set later holds; when that one is withdrawn, the other does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline(Arc<Entries>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entries {
    /// The changes that were set and not withdrawn, ascending; for one instant, in the order in
    /// which they were set.
    set: Vec<(Instant, Digest)>,
    /// The last change of each instant. The first one holds for all time before it, too.
    effective: Vec<(Instant, Digest)>,
}

/// The instant before all others, of the entry that no change has set.
const BEGIN: Instant = Instant(i64::MIN);

// A change is one row here, and no interval is closed for it: ten thousand instances of a tenant
// would be ten thousand rows in one transaction. Whoever reads an interval splits it where a change
// falls.
impl Timeline {
    /// The timeline on which `first` is in force before every change.
    pub fn starting_with(first: Digest) -> Self {
        let begin = vec![(BEGIN, first)];
        Self(Arc::new(Entries { set: begin.clone(), effective: begin }))
    }

    /// Applies changes, in the order of their facts.
    pub fn with(mut self, changes: impl IntoIterator<Item = Change>) -> Self {
        for change in changes {
            self.apply(change);
        }
        self
    }

    /// Applies a change. Withdrawing a change that is not set has no effect.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Set { from, digest } => self.set(from, digest),
            Change::Withdrawn { from, digest } => self.withdraw(from, digest),
        }
    }

    /// Sets `digest` from `from` on.
    pub fn set(&mut self, from: Instant, digest: Digest) {
        let entries = Arc::make_mut(&mut self.0);
        let after = entries.set.partition_point(|&(at, _)| at <= from);
        entries.set.insert(after, (from, digest));
        entries.settle();
    }

    /// Withdraws the changes that were set so far for `from` and `digest`.
    pub fn withdraw(&mut self, from: Instant, digest: Digest) {
        if from == BEGIN {
            return;
        }
        let entries = Arc::make_mut(&mut self.0);
        entries.set.retain(|&entry| entry != (from, digest));
        entries.settle();
    }

    /// The digest in force at `at`.
    pub fn at(&self, at: Instant) -> Digest {
        let until = self.until(at);
        until[until.len() - 1].1
    }

    /// The digests that were in force up to `at`, each with its first instant; the one at `at` is
    /// last.
    pub fn until(&self, at: Instant) -> &[(Instant, Digest)] {
        let effective = &self.0.effective;
        &effective[..effective.partition_point(|&(from, _)| from <= at).max(1)]
    }

    /// The changes strictly after `start` and not after `end`, ascending.
    pub fn between(&self, start: Instant, end: Instant) -> impl Iterator<Item = (Instant, Digest)> {
        let effective = &self.0.effective;
        let first = effective.partition_point(|&(from, _)| from <= start);
        effective[first..].iter().copied().take_while(move |&(from, _)| from <= end)
    }

    /// The changes that come after `now`, ascending: those that can still be withdrawn.
    pub fn planned(&self, now: Instant) -> impl Iterator<Item = (Instant, Digest)> {
        self.between(now, Instant(i64::MAX))
    }
}

impl Entries {
    /// Finds the last change of each instant.
    fn settle(&mut self) {
        self.effective.clear();
        for &entry in &self.set {
            if self.effective.last().is_some_and(|&(from, _)| from == entry.0) {
                self.effective.pop();
            }
            self.effective.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn set(from: i64, byte: u8) -> Change {
        Change::Set { from: Instant(from), digest: digest(byte) }
    }

    fn withdrawn(from: i64, byte: u8) -> Change {
        Change::Withdrawn { from: Instant(from), digest: digest(byte) }
    }

    /// Changes in the order of their facts, and what is in force at 0, 15, 25 and 35 by them.
    type Row = (&'static str, Vec<Change>, [u8; 4]);

    fn rows() -> Vec<Row> {
        vec![
            ("nothing", vec![], [0, 0, 0, 0]),
            ("one", vec![set(10, 1)], [0, 1, 1, 1]),
            ("in order", vec![set(10, 1), set(20, 2)], [0, 1, 2, 2]),
            ("an earlier one leaves a plan", vec![set(30, 3), set(10, 1)], [0, 1, 1, 3]),
            (
                "one between two plans leaves both",
                vec![set(30, 3), set(10, 1), set(20, 2)],
                [0, 1, 2, 3],
            ),
            ("of two for one instant the later set", vec![set(20, 1), set(20, 2)], [0, 0, 2, 2]),
            ("the same again", vec![set(20, 1), set(20, 1)], [0, 0, 1, 1]),
            ("a withdrawn plan", vec![set(10, 1), set(20, 2), withdrawn(20, 2)], [0, 1, 1, 1]),
            (
                "the later of two withdrawn",
                vec![set(20, 1), set(20, 2), withdrawn(20, 2)],
                [0, 0, 1, 1],
            ),
            (
                "the earlier of two withdrawn",
                vec![set(20, 1), set(20, 2), withdrawn(20, 1)],
                [0, 0, 2, 2],
            ),
            (
                "both withdrawn",
                vec![set(20, 1), set(20, 2), withdrawn(20, 2), withdrawn(20, 1)],
                [0; 4],
            ),
            ("set twice, withdrawn once", vec![set(20, 1), set(20, 1), withdrawn(20, 1)], [0; 4]),
            ("set again after", vec![set(20, 1), withdrawn(20, 1), set(20, 1)], [0, 0, 1, 1]),
            ("another instant", vec![set(20, 1), withdrawn(21, 1)], [0, 0, 1, 1]),
            ("another digest", vec![set(20, 1), withdrawn(20, 2)], [0, 0, 1, 1]),
            ("what there was from the begin", vec![withdrawn(i64::MIN, 0)], [0; 4]),
        ]
    }

    #[test]
    fn a_plan_stays_until_it_is_withdrawn() {
        for (name, changes, expected) in rows() {
            let timeline = Timeline::starting_with(digest(0)).with(changes);
            let found = [0, 15, 25, 35].map(|at| timeline.at(Instant(at)));
            assert_eq!(found, expected.map(digest), "{name}");
        }
    }

    #[test]
    fn what_is_planned_comes_after_now_and_once_for_each_instant() {
        let timeline = Timeline::starting_with(digest(0)).with([
            set(30, 3),
            set(10, 1),
            set(30, 4),
            set(20, 2),
        ]);
        let planned = |now| {
            timeline
                .planned(Instant(now))
                .map(|(from, digest)| (from.0, digest.0[0]))
                .collect::<Vec<_>>()
        };
        assert_eq!(planned(9), [(10, 1), (20, 2), (30, 4)]);
        assert_eq!(planned(10), [(20, 2), (30, 4)]);
        assert_eq!(planned(30), []);
        assert_eq!(timeline.until(Instant(30)).len(), 4);
    }

    #[test]
    fn what_is_withdrawn_leaves_no_trace() {
        let mut timeline = Timeline::starting_with(digest(0)).with([set(10, 1)]);
        let before = timeline.clone();
        timeline.apply(withdrawn(11, 1));
        timeline.apply(withdrawn(i64::MIN, 0));
        assert_eq!(timeline, before);
        timeline.apply(withdrawn(10, 1));
        assert_eq!(timeline, Timeline::starting_with(digest(0)));
    }

    proptest! {
        /// The definition, word for word: of all that was set and not withdrawn later, up to the
        /// instant, the one for the latest instant, and of those the last.
        #[test]
        fn in_force_is_what_the_rule_says(
            changes in proptest::collection::vec((any::<bool>(), 0_i64..6, 1_u8..4), 0..12),
            at in 0_i64..6,
        ) {
            let change = |(is_set, from, byte)| match is_set {
                true => set(from, byte),
                false => withdrawn(from, byte),
            };
            let changes: Vec<Change> = changes.into_iter().map(change).collect();
            let mut expected = (i64::MIN, 0, digest(0));
            for (order, change) in changes.iter().enumerate() {
                let Change::Set { from, digest } = *change else { continue };
                let ended = changes[order..].contains(&Change::Withdrawn { from, digest });
                if from.0 <= at && !ended && (from.0, order) >= (expected.0, expected.1) {
                    expected = (from.0, order, digest);
                }
            }
            let timeline = Timeline::starting_with(digest(0)).with(changes);
            prop_assert_eq!(timeline.at(Instant(at)), expected.2);
        }
    }
}
