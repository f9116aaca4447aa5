//! The time of a tenant's instances as a policy gets it: clipped to a period, in columns.

use super::document::Named;
use crate::billing::interval::intervals;
use crate::billing::{Fact, Timeline};
use crate::id::{Digest, InstanceId};
use crate::policy::rating::{Dimension, IntervalColumns, Setting, Span, Subject};
use crate::units::Instant;
use crate::vm::{Phase, Shape};

/// What one instance did in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) id: InstanceId,
    pub(super) pieces: Vec<Piece>,
}

/// Time in one phase with one shape, inside the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    fact: u64,
    phase: Phase,
    start: Instant,
    end: Instant,
    session: u32,
    shape: Shape,
}

/// A day in nanoseconds.
const DAY_NS: u64 = 86_400_000_000_000;

impl Life {
    /// Into how many pieces this falls at most: each interval is one, and hours of the week cut a day in two.
    pub(super) fn pieces(&self, has_windows: bool) -> usize {
        let days = |piece: &Piece| piece.end.since(piece.start).unwrap_or_default().0.div_ceil(DAY_NS);
        let cuts = |piece: &Piece| if has_windows { usize::try_from(2 * days(piece)).unwrap_or(usize::MAX) } else { 0 };
        self.pieces.iter().fold(0_usize, |sum, piece| sum.saturating_add(cuts(piece)).saturating_add(1))
    }

    /// The part of a history that lies in the period; none if nothing of it does. An instance that still lives does so up to the period's end.
    pub(super) fn within(id: &InstanceId, history: &[(u64, Fact)], period: Span) -> Option<Self> {
        // Which policy is in force is the period's affair: it lies under one.
        let rules = Timeline::starting_with(Digest([0; 32]));
        let (start, end) = (Instant(period.start), Instant(period.end));
        let intervals = intervals(history, &rules, end.max(last(history)));
        let mut pieces = Vec::with_capacity(intervals.len());
        for interval in intervals {
            let piece = Piece {
                fact: interval.fact,
                phase: interval.phase,
                start: interval.start.max(start),
                end: interval.end.min(end),
                session: interval.session,
                shape: interval.shape,
            };
            if piece.start < piece.end {
                pieces.push(piece);
            }
        }
        (!pieces.is_empty()).then(|| Self { id: id.clone(), pieces })
    }
}

fn last(history: &[(u64, Fact)]) -> Instant {
    history.last().map_or(Instant(i64::MIN), |(_, fact)| fact.at.meter)
}

/// Several lives as columns, in the order given.
pub(super) fn columns(lives: &[Life]) -> IntervalColumns {
    let pieces = || lives.iter().flat_map(|life| &life.pieces);
    let dimension = |name: &str, value: fn(&Shape) -> u64| Dimension {
        name: name.into(),
        values: pieces().map(|piece| value(&piece.shape)).collect(),
    };
    let subjects = (0_u32..).zip(lives).flat_map(|(index, life)| std::iter::repeat_n(index, life.pieces.len()));
    IntervalColumns {
        subject: subjects.collect(),
        phase: pieces().map(|piece| piece.phase as u8).collect(),
        start: pieces().map(|piece| piece.start.0).collect(),
        end: pieces().map(|piece| piece.end.0).collect(),
        session: pieces().map(|piece| piece.session).collect(),
        fact: pieces().map(|piece| piece.fact).collect(),
        dimensions: vec![
            dimension("vcpus", |shape| shape.vcpus.into()),
            dimension("memory-bytes", |shape| shape.memory_bytes),
            dimension("disk-bytes", |shape| shape.disk_bytes),
            dimension("snapshot-bytes", |shape| shape.snapshot_bytes),
        ],
    }
}

/// The subjects of lives, by the names that were told.
pub(super) fn subjects(lives: &[Life], named: &[Named]) -> Vec<Subject> {
    let subject = |life: &Life| {
        let known = named.binary_search_by(|one| one.id.as_str().cmp(life.id.as_str())).ok().map(|place| &named[place]);
        let setting = |(name, value): &(String, String)| Setting { name: name.clone(), value: value.clone() };
        Subject {
            id: life.id.to_string(),
            name: known.map(|named| named.name.clone()).unwrap_or_default(),
            tags: known.map(|named| named.tags.iter().map(setting).collect()).unwrap_or_default(),
        }
    };
    lives.iter().map(subject).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::{About, BootId, Entered, InstanceFact, Reading};
    use crate::id::TenantId;

    fn fact(at: i64, fact: InstanceFact) -> Fact {
        let at = Reading { boot: BootId("b".into()), boottime_ns: 0, wall_ns: at, meter: Instant(at) };
        let about = About::Instance("i".parse().expect("an id"), fact);
        Fact { at, tenant: TenantId::default_tenant(), about }
    }

    fn entered(at: i64, phase: Phase, vcpus: u32) -> Fact {
        let shape = Shape { vcpus, ..Shape::default() };
        fact(at, InstanceFact::Entered(Entered { phase, shape, session: 1, cause: None }))
    }

    fn history() -> Vec<(u64, Fact)> {
        vec![
            (3, entered(10, Phase::Created, 1)),
            (5, entered(10, Phase::Initializing, 1)),
            (8, entered(20, Phase::Running, 2)),
            (9, entered(40, Phase::Stopped, 2)),
        ]
    }

    fn rows(life: Option<Life>) -> Vec<(u64, i64, i64)> {
        life.into_iter().flat_map(|life| life.pieces).map(|piece| (piece.fact, piece.start.0, piece.end.0)).collect()
    }

    #[test]
    fn a_history_is_cut_to_the_period_and_nothing_empty_is_left() {
        let id: InstanceId = "i".parse().expect("an id");
        let within = |start, end| rows(Life::within(&id, &history(), Span { start, end }));
        assert_eq!(within(0, 100), [(5, 10, 20), (8, 20, 40), (9, 40, 100)]);
        assert_eq!(within(15, 40), [(5, 15, 20), (8, 20, 40)]);
        assert_eq!(within(25, 30), [(8, 25, 30)]);
        assert_eq!(within(0, 10), []);
        let mut gone = history();
        gone.push((11, fact(50, InstanceFact::Deleted)));
        assert_eq!(rows(Life::within(&id, &gone, Span { start: 45, end: 100 })), [(9, 45, 50)]);
        assert_eq!(rows(Life::within(&id, &gone, Span { start: 50, end: 100 })), []);
    }

    #[test]
    fn columns_have_one_length_and_keep_the_order() {
        let life = |id: &str| Life::within(&id.parse().expect("an id"), &history(), Span { start: 0, end: 50 });
        let lives = [life("a").expect("lives"), life("b").expect("lives")];
        let columns = columns(&lives);
        assert_eq!(columns.subject, [0, 0, 0, 1, 1, 1]);
        assert_eq!(columns.dimensions[0].values, [1, 2, 2, 1, 2, 2]);
        assert!(columns.dimensions.iter().all(|dimension| dimension.values.len() == 6));
        let named = [Named { id: "b".into(), name: "web".into(), tags: vec![("team".into(), "x".into())] }];
        let subjects = subjects(&lives, &named);
        assert_eq!((subjects[0].name.as_str(), subjects[1].name.as_str()), ("", "web"));
        assert_eq!(subjects[1].tags[0].value, "x");
    }
}
