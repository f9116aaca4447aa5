//! The time of a tenant's instances, clipped to a span and cut for policies.

use crate::billing::interval::{Interval, intervals};
use crate::billing::{Fact, Timeline};
use crate::id::{Digest, InstanceId};
use crate::units::Instant;
use crate::vm::{Phase, Shape};

/// The option of an activation that bounds the time for which a boot counts as `initializing`. The
/// host applies it, for every policy.
pub const INITIALIZING_MAX: &str = "initializing-max";

/// The use of one instance in a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Usage {
    /// The instance.
    pub(super) id: InstanceId,
    /// Sequence number of the instance's first fact.
    pub(super) first_fact: u64,
    /// Set if the instance was deleted inside the span or before.
    pub(super) ended: bool,
    /// The instance's time inside the span, ascending.
    pub(super) pieces: Vec<Piece>,
}

/// Time in one phase with one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) fact: u64,
    pub(super) phase: Phase,
    pub(super) start: Instant,
    pub(super) end: Instant,
    pub(super) session: u32,
    pub(super) wakes: u32,
    pub(super) shape: Shape,
}

/// The part of a history that lies in `start..end`; none if nothing of it does. The last interval
/// of an instance that is not deleted extends to the end. Time in `initializing` beyond
/// `initializing_max_ns` counts as `running`.
pub(super) fn usage(
    id: &InstanceId,
    history: &[(u64, Fact)],
    (start, end): (Instant, Instant),
    initializing_max_ns: &dyn Fn(Instant) -> u64,
) -> Option<Usage> {
    let &(first_fact, _) = history.first()?;
    // The cut by policies comes later; here the whole history is under one.
    let rules = Timeline::starting_with(Digest([0; 32]));
    let last = history.last().map_or(end, |(_, fact)| fact.at.meter);
    let intervals = intervals(history, &rules, end.max(last));
    let ended = intervals.last().is_none_or(|interval| !interval.open && interval.end <= end);
    let mut pieces = Vec::with_capacity(intervals.len());
    let mut wakes = 0;
    let mut before = None;
    // A boot may be several intervals, if the shape changes in it.
    let mut boot_began = Instant(i64::MIN);
    for interval in &intervals {
        if before == Some(Phase::Standby) && interval.phase != Phase::Standby {
            wakes += 1;
        }
        if before != Some(Phase::Initializing) {
            boot_began = interval.start;
        }
        before = Some(interval.phase);
        let bound = i64::try_from(initializing_max_ns(boot_began)).unwrap_or(i64::MAX);
        let booted = Instant(boot_began.0.saturating_add(bound));
        for piece in split(interval, wakes, booted) {
            let piece = Piece { start: piece.start.max(start), end: piece.end.min(end), ..piece };
            if piece.start < piece.end {
                pieces.push(piece);
            }
        }
    }
    (!pieces.is_empty()).then(|| Usage { id: id.clone(), first_fact, ended, pieces })
}

/// The interval as one piece, or as two if it is a boot that continues after `booted`: otherwise a
/// guest that never reports to be ready would never be charged.
fn split(interval: &Interval, wakes: u32, booted: Instant) -> impl Iterator<Item = Piece> {
    let whole = Piece {
        fact: interval.fact,
        phase: interval.phase,
        start: interval.start,
        end: interval.end,
        session: interval.session,
        wakes,
        shape: interval.shape,
    };
    let is_late = interval.phase == Phase::Initializing && booted < interval.end;
    let cut = booted.max(interval.start);
    let boot = Piece { end: if is_late { cut } else { interval.end }, ..whole };
    let rest = is_late.then_some(Piece { start: cut, phase: Phase::Running, ..whole });
    std::iter::once(boot).filter(|piece| piece.start < piece.end).chain(rest)
}

impl Usage {
    /// The pieces inside `start..end`, cut there.
    pub(super) fn within(&self, start: Instant, end: Instant) -> impl Iterator<Item = Piece> {
        let clipped = self.pieces.iter().map(move |piece| Piece {
            start: piece.start.max(start),
            end: piece.end.min(end),
            ..*piece
        });
        clipped.filter(|piece| piece.start < piece.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::{About, BootId, Entered, InstanceFact, Reading};
    use crate::id::TenantId;

    fn fact(at: i64, fact: InstanceFact) -> Fact {
        let at =
            Reading { boot: BootId("b".into()), boottime_ns: 0, wall_ns: at, meter: Instant(at) };
        let about = About::Instance("i".parse().expect("an id"), fact);
        Fact { at, tenant: TenantId::default_tenant(), about }
    }

    fn entered(at: i64, phase: Phase) -> Fact {
        fact(
            at,
            InstanceFact::Entered(Entered {
                phase,
                shape: Shape::default(),
                session: 1,
                cause: None,
            }),
        )
    }

    fn history() -> Vec<(u64, Fact)> {
        vec![
            (3, entered(10, Phase::Created)),
            (5, entered(10, Phase::Initializing)),
            (8, entered(20, Phase::Running)),
            (9, entered(40, Phase::Standby)),
            (10, entered(45, Phase::Running)),
        ]
    }

    fn rows(
        history: &[(u64, Fact)],
        start: i64,
        end: i64,
        initializing_max_ns: u64,
    ) -> Vec<(u64, i64, i64, u32)> {
        let id: InstanceId = "i".parse().expect("an id");
        let usage = usage(&id, history, (Instant(start), Instant(end)), &|_| initializing_max_ns);
        let pieces = usage.into_iter().flat_map(|usage| usage.pieces);
        pieces.map(|piece| (piece.fact, piece.start.0, piece.end.0, piece.wakes)).collect()
    }

    #[test]
    fn a_history_is_cut_to_the_span_and_nothing_empty_is_left() {
        let whole = [(5, 10, 20, 0), (8, 20, 40, 0), (9, 40, 45, 0), (10, 45, 100, 1)];
        assert_eq!(rows(&history(), 0, 100, 1_000), whole);
        assert_eq!(rows(&history(), 15, 40, 1_000), [(5, 15, 20, 0), (8, 20, 40, 0)]);
        assert_eq!(rows(&history(), 50, 60, 1_000), [(10, 50, 60, 1)]);
        assert_eq!(rows(&history(), 0, 10, 1_000), []);
        let mut gone = history();
        gone.push((11, fact(50, InstanceFact::Deleted)));
        assert_eq!(rows(&gone, 45, 100, 1_000), [(10, 45, 50, 1)]);
        assert_eq!(rows(&gone, 50, 100, 1_000), []);
    }

    #[test]
    fn a_boot_that_takes_too_long_counts_as_running() {
        let id: InstanceId = "i".parse().expect("an id");
        let usage = usage(&id, &history(), (Instant(0), Instant(30)), &|_| 4).expect("some use");
        let rows: Vec<_> =
            usage.pieces.iter().map(|piece| (piece.phase, piece.start.0, piece.end.0)).collect();
        let boot =
            [(Phase::Initializing, 10, 14), (Phase::Running, 14, 20), (Phase::Running, 20, 30)];
        assert_eq!(rows, boot);
    }
}
