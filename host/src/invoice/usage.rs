//! The time of a tenant's instances, clipped to a span and cut for policies.

use crate::billing::Entered;
use crate::billing::life::{Life, Opening};
use crate::id::InstanceId;
use crate::units::Instant;
use crate::vm::{Phase, Shape, Traffic};

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

/// The time for which a boot counts as `initializing`, by the activation in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BootBound {
    /// First instant at which the next bound holds.
    pub(super) end: Instant,
    /// Nanoseconds from the begin of the boot.
    pub(super) max_ns: i64,
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
    /// The traffic that was read at its end, since it was read before.
    pub(super) traffic: Traffic,
}

/// The time of a life in `start..end`; none if nothing of it lies there. The last interval of an
/// instance that is not deleted extends to the end. Time in `initializing` beyond the bound in
/// force, of which the last one has no end, counts as `running`. Traffic belongs to the instant at
/// which it was read: to the last piece of the interval that a fact with it ends.
pub(super) fn usage(
    life: &Life,
    (start, end): (Instant, Instant),
    bounds: &[BootBound],
) -> Option<Usage> {
    let mut pieces = Vec::with_capacity(life.counted.len() + 1);
    let mut add = |open: &Opening, until: Instant, traffic: Traffic| {
        let before = pieces.len();
        for piece in split(open, until, bounds) {
            let piece = Piece { start: piece.start.max(start), end: piece.end.min(end), ..piece };
            if piece.start < piece.end {
                pieces.push(piece);
            }
        }
        let last = pieces[before..].last_mut();
        last.map(|last: &mut Piece| last.traffic = traffic)
    };
    let mut open = life.opening;
    // The traffic that pieces have so far.
    let mut given = open.map_or(Traffic::NONE, |open| open.entered.traffic);
    for &(fact, at, counted) in life.counted.iter().take_while(|&&(_, at, _)| at <= end) {
        let read = counted.traffic().unwrap_or(given);
        // What an interval of no length has is the next one's.
        if let Some(open) = &open
            && add(open, at, read.since(given)).is_some()
        {
            given = read;
        }
        open = Opening::after(open.as_ref(), fact, at, counted);
    }
    if let Some(open) = &open {
        add(open, end.max(open.at), Traffic::NONE);
    }
    let usage =
        Usage { id: life.id.clone(), first_fact: life.first_fact, ended: open.is_none(), pieces };
    (!usage.pieces.is_empty()).then_some(usage)
}

/// The interval, cut where a boot has lasted for so long that it counts as `running`: otherwise a
/// guest that never reports to be ready would never be charged.
fn split(open: &Opening, until: Instant, bounds: &[BootBound]) -> Vec<Piece> {
    let Entered { phase, shape, session, .. } = open.entered;
    let whole = Piece {
        fact: open.fact,
        phase,
        start: open.at,
        end: until,
        session,
        wakes: open.wakes,
        shape,
        traffic: Traffic::NONE,
    };
    if phase != Phase::Initializing || whole.start >= whole.end {
        return Vec::from_iter(Some(whole).filter(|piece| piece.start < piece.end));
    }
    let mut pieces: Vec<Piece> = Vec::new();
    let mut add = |piece: Piece| match pieces.last_mut() {
        _ if piece.start >= piece.end => {}
        Some(last) if last.phase == piece.phase => last.end = piece.end,
        Some(_) | None => pieces.push(piece),
    };
    let mut start = whole.start;
    for (place, bound) in bounds.iter().enumerate() {
        let is_last = place + 1 == bounds.len();
        let end = if is_last { until } else { bound.end.min(until) }.max(start);
        let booted = Instant(open.boot_began.0.saturating_add(bound.max_ns)).clamp(start, end);
        add(Piece { start, end: booted, ..whole });
        add(Piece { start: booted, end, phase: Phase::Running, ..whole });
        start = end;
    }
    pieces
}

impl Usage {
    /// The pieces inside `start..end`, cut there.
    pub(super) fn within(&self, start: Instant, end: Instant) -> impl Iterator<Item = Piece> {
        let clipped = self.pieces.iter().map(move |piece| Piece {
            start: piece.start.max(start),
            end: piece.end.min(end),
            traffic: if piece.end <= end { piece.traffic } else { Traffic::NONE },
            ..*piece
        });
        clipped.filter(|piece| piece.start < piece.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::billing::{About, BootId, Fact, InstanceFact, Reading};
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
                traffic: Traffic::NONE,
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

    fn of(history: &[(u64, Fact)], span: (i64, i64), max_ns: u64) -> Option<Usage> {
        let span = (Instant(span.0), Instant(span.1));
        let life = Life::of(&"i".parse().expect("an id"), history, span)?;
        let max_ns = i64::try_from(max_ns).expect("some nanoseconds");
        usage(&life, span, &[BootBound { end: span.1, max_ns }])
    }

    fn rows(
        history: &[(u64, Fact)],
        start: i64,
        end: i64,
        initializing_max_ns: u64,
    ) -> Vec<(u64, i64, i64, u32)> {
        let usage = of(history, (start, end), initializing_max_ns);
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
        let usage = of(&history(), (0, 30), 4).expect("some use");
        let rows: Vec<_> =
            usage.pieces.iter().map(|piece| (piece.phase, piece.start.0, piece.end.0)).collect();
        let boot =
            [(Phase::Initializing, 10, 14), (Phase::Running, 14, 20), (Phase::Running, 20, 30)];
        assert_eq!(rows, boot);
    }

    #[test]
    fn the_bound_of_a_boot_is_that_of_the_activation_in_force() {
        let bound = |end: i64, max_ns: i64| BootBound { end: Instant(end), max_ns };
        let span = (Instant(0), Instant(30));
        let life = Life::of(&"i".parse().expect("an id"), &history(), span).expect("a life");
        let rows = |bounds: &[BootBound]| -> Vec<(Phase, i64, i64)> {
            let usage = usage(&life, span, bounds).expect("some use");
            usage.pieces.iter().map(|piece| (piece.phase, piece.start.0, piece.end.0)).collect()
        };
        let running = |start: i64, end: i64| (Phase::Running, start, end);
        let boot = |start: i64, end: i64| (Phase::Initializing, start, end);
        let shorter = rows(&[bound(16, 100), bound(30, 3)]);
        assert_eq!(shorter, [boot(10, 16), running(16, 20), running(20, 30)]);
        let longer = rows(&[bound(16, 3), bound(30, 100)]);
        assert_eq!(longer, [boot(10, 13), running(13, 16), boot(16, 20), running(20, 30)]);
    }

    fn with(mut fact: Fact, bytes: u64) -> Fact {
        if let About::Instance(_, InstanceFact::Entered(entered)) = &mut fact.about {
            entered.traffic = Traffic::of([bytes, 1, 0, 0]);
        }
        fact
    }

    fn traffic(history: &[(u64, Fact)], span: (i64, i64)) -> Vec<(i64, i64, u64)> {
        let pieces = of(history, span, 1_000).map(|usage| usage.pieces).unwrap_or_default();
        pieces.iter().map(|piece| (piece.start.0, piece.end.0, piece.traffic.in_bytes)).collect()
    }

    #[test]
    fn traffic_belongs_to_the_instant_at_which_it_was_read() {
        let history = vec![
            (1, entered(10, Phase::Created)),
            (2, entered(20, Phase::Running)),
            (3, with(entered(40, Phase::Running), 700)),
            (4, with(entered(60, Phase::Paused), 1_000)),
            // An interval of no length leaves what it has to the next one.
            (5, with(entered(60, Phase::Stopped), 1_005)),
            (6, with(entered(90, Phase::Created), 1_005)),
            (7, fact(95, InstanceFact::Deleted)),
        ];
        let whole = [(10, 20, 0), (20, 40, 700), (40, 60, 300), (60, 90, 5), (90, 95, 0)];
        assert_eq!(traffic(&history, (0, 100)), whole);
        assert_eq!(traffic(&history, (0, 30)), [(10, 20, 0), (20, 30, 0)]);
        assert_eq!(traffic(&history, (30, 60)), [(30, 40, 700), (40, 60, 300)]);
        let usage = of(&history, (0, 100), 1_000).expect("some use");
        let cut = |start, end| {
            let pieces = usage.within(Instant(start), Instant(end));
            pieces.map(|piece| piece.traffic.in_bytes).sum::<u64>()
        };
        assert_eq!((cut(0, 39), cut(39, 50), cut(50, 61), cut(61, 100)), (0, 700, 300, 5));
    }

    proptest! {
        /// A span says of an instance the same as its whole history, cut there.
        #[test]
        fn a_span_says_what_the_whole_history_says_of_it(
            steps in proptest::collection::vec((0_i64..4, 0_u8..8), 1..20),
            ends in any::<bool>(),
            start in 0_i64..50,
            length in 1_i64..50,
            max_ns in 0_u64..9,
        ) {
            let mut at = 0;
            let mut history: Vec<_> = (1..).zip(steps).map(|(seq, (step, phase))| {
                at += step;
                (seq, entered(at, Phase::from_ordinal(phase).expect("a phase")))
            }).collect();
            if ends {
                history.push((history.len() as u64 + 1, fact(at + 1, InstanceFact::Deleted)));
            }
            let end = start + length;
            let whole = of(&history, (i64::MIN, 1_000), max_ns);
            let whole = whole.map(|whole| whole.within(Instant(start), Instant(end)).collect::<Vec<_>>());
            let cut = of(&history, (start, end), max_ns).map(|usage| usage.pieces);
            prop_assert_eq!(cut.unwrap_or_default(), whole.unwrap_or_default());
        }
    }
}
