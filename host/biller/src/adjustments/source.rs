//! Sources of charges: rules and raises, as functions of time, and what adjustments have left of
//! them.

use std::collections::{BTreeMap, BTreeSet};

use ethnum::U256;

use super::view::Rules;
use crate::exact::Summing;
use crate::input::Span;
use crate::rounding::Digits;
use crate::spans::Spans;
use crate::timeline::{RuleCursor, RuleTimeline};

/// Charges over time.
pub(crate) struct Source<'a> {
    /// Rules of which a view has to contain all to see this source.
    seen: Rules,
    /// Nano-units in all.
    total: i128,
    /// Time that is billed; all charges lie in it.
    billed: Span,
    flow: Flow<'a>,
    digits: Digits,
    /// Time whose charges are left.
    kept: Spans,
    /// Nano-units that remain of single nanoseconds.
    lumps: BTreeMap<i64, i128>,
    /// Nano-units before the instants asked about so far.
    known: BTreeMap<i64, i128>,
    /// Nano-units that remain inside the nanosecond that is being cut.
    inside: i128,
}

enum Flow<'a> {
    Rule(Box<Rated<'a>>),
    /// Spread evenly.
    Raise(Spans),
}

/// A rule's units over time, and how they are added up.
struct Rated<'a> {
    timeline: RuleTimeline<'a>,
    summing: Summing,
}

impl<'a> Source<'a> {
    /// The charges of a rule, whose rounded sum is given.
    pub(crate) fn rule(
        name: &str,
        total: i128,
        timeline: RuleTimeline<'a>,
        billed: Span,
        digits: Digits,
    ) -> Self {
        let summing = timeline.summing(digits);
        let seen = Rules::Some(BTreeSet::from([name.to_owned()]));
        Self::new(seen, total, Flow::Rule(Box::new(Rated { timeline, summing })), billed, digits)
    }

    /// The raise of a minimum that names some rules.
    pub(super) fn raise(rules: Rules, total: i128, spans: Spans, digits: Digits) -> Self {
        let edges = spans.iter().next().zip(spans.iter().last());
        let billed = edges.map(|(first, last)| Span { start: first.start, end: last.end });
        let billed = billed.unwrap_or(Span { start: 0, end: 0 });
        Self::new(rules, total, Flow::Raise(spans), billed, digits)
    }

    fn new(seen: Rules, total: i128, flow: Flow<'a>, billed: Span, digits: Digits) -> Self {
        let kept = Spans::of(i64::MIN, i64::MAX);
        let lumps = BTreeMap::new();
        let known = BTreeMap::new();
        Self { seen, total, billed, flow, digits, kept, lumps, known, inside: 0 }
    }

    pub(super) fn seen(&self) -> &Rules {
        &self.seen
    }

    /// Nano-units that remain of the source in some time.
    pub(super) fn left(&mut self, spans: &Spans) -> Option<i128> {
        let probe = self.probe(spans)?;
        Some(probe.before(i64::MAX, None))
    }

    /// Prepares the search for what remains of the source before an instant, in some time.
    pub(super) fn probe(&mut self, spans: &Spans) -> Option<Probe> {
        let lumps = self.lumps.iter().map(|(&at, &nanos)| (at, nanos));
        let lumps = lumps.filter(|&(at, _)| spans.contains(at)).collect();
        let spans = self.kept.intersection(spans);
        let mut pieces = Vec::new();
        let mut before = 0_i128;
        let edges: Vec<_> = spans.iter().flat_map(|span| [span.start, span.end]).collect();
        let values = self.values(&edges)?;
        for (span, values) in spans.iter().zip(values.chunks(2)) {
            pieces.push(Piece { span, value: values[0], before });
            before = before.checked_add(values[1].checked_sub(values[0])?)?;
        }
        Some(Probe { pieces, all: before, lumps })
    }

    /// Nano-units before some instants, which are ascending.
    pub(crate) fn values(&mut self, instants: &[i64]) -> Option<Vec<i128>> {
        let unknown: Vec<_> =
            instants.iter().copied().filter(|at| !self.known.contains_key(at)).collect();
        let mut cursor = self.cursor();
        for at in unknown {
            let value = match at {
                at if at <= self.billed.start => 0,
                at if at >= self.billed.end => self.total,
                at => self.value(&mut cursor, at)?,
            };
            self.known.insert(at, value);
        }
        Some(instants.iter().map(|at| self.known[at]).collect())
    }

    fn cursor(&self) -> Option<RuleCursor> {
        match &self.flow {
            Flow::Rule(rated) => Some(rated.timeline.cursor()),
            Flow::Raise(_) => None,
        }
    }

    /// Nano-units before an instant that is not before the cursor's place.
    fn value(&self, cursor: &mut Option<RuleCursor>, at: i64) -> Option<i128> {
        match (&self.flow, cursor) {
            (Flow::Rule(rated), Some(cursor)) => {
                rated.timeline.advance(cursor, at)?;
                self.digits.nanos(rated.summing.sum(&rated.timeline.units(cursor)?)?)
            }
            (Flow::Raise(spans), _) => {
                let before = spans.intersection(&Spans::of(i64::MIN, at)).length();
                let share =
                    U256::from(self.total.unsigned_abs()).checked_mul(U256::from(before))?;
                self.digits.nanos(self.digits.round(share, spans.length())?)
            }
            (Flow::Rule(_), None) => None,
        }
    }

    /// Remembers the nano-units that remain inside the nanosecond that is cut next.
    pub(super) fn note_inside(&mut self, nanos: i128) {
        self.inside = nanos;
    }

    /// In some time, keeps what comes before an instant, and a share of its nanosecond.
    pub(super) fn keep_before(&mut self, spans: &Spans, at: i64, share: i128) {
        self.drop(&spans.intersection(&Spans::of(at, i64::MAX)));
        self.lump(at, share);
    }

    /// In some time, keeps what comes after the nanosecond of an instant, and all but a share of
    /// it.
    pub(super) fn keep_after(&mut self, spans: &Spans, at: i64, share: i128) {
        self.drop(&spans.intersection(&Spans::of(i64::MIN, at.saturating_add(1))));
        self.lump(at, self.inside - share);
    }

    fn lump(&mut self, at: i64, nanos: i128) {
        if nanos > 0 {
            self.lumps.insert(at, nanos);
        }
    }

    fn drop(&mut self, spans: &Spans) {
        self.kept = self.kept.without(spans);
        self.lumps.retain(|&at, _| !spans.contains(at));
    }
}

/// The part of a source that remains in some time.
pub(super) struct Probe {
    pieces: Vec<Piece>,
    /// Nano-units of all pieces.
    all: i128,
    lumps: Vec<(i64, i128)>,
}

struct Piece {
    span: Span,
    /// Nano-units of the source before it.
    value: i128,
    /// Nano-units of the pieces before it.
    before: i128,
}

impl Probe {
    /// The piece that an instant lies inside of.
    fn piece(&self, at: i64) -> Option<&Piece> {
        let count = self.pieces.partition_point(|piece| piece.span.start < at);
        self.pieces[..count].last().filter(|piece| at < piece.span.end)
    }

    /// Nano-units that remain before an instant; `value` is the source's before it, needed only for
    /// an instant inside a piece.
    fn before(&self, at: i64, value: Option<i128>) -> i128 {
        let lumps: i128 =
            self.lumps.iter().filter(|(one, _)| *one < at).map(|(_, nanos)| nanos).sum();
        let pieces = match (self.piece(at), value) {
            (Some(piece), Some(value)) => piece.before + (value - piece.value),
            (Some(piece), None) => piece.before,
            (None, _) => {
                let next = self.pieces.partition_point(|piece| piece.span.start < at);
                self.pieces.get(next).map_or(self.all, |piece| piece.before)
            }
        };
        pieces + lumps
    }
}

/// The sources that an adjustment looks at, in one search.
pub(super) struct Probes<'s, 'a> {
    probes: Vec<Probe>,
    sources: &'s [Source<'a>],
}

/// The nanosecond in which charges pass an amount.
pub(super) struct Passed {
    pub(super) at: i64,
    /// Nano-units before it.
    pub(super) before: i128,
    /// Nano-units of each source inside it.
    pub(super) inside: Vec<i128>,
}

impl<'s, 'a> Probes<'s, 'a> {
    pub(super) fn new(probes: Vec<Probe>, sources: &'s [Source<'a>]) -> Self {
        Self { probes, sources }
    }

    /// Finds the nanosecond in which the remaining charges from `first` to `until` pass an amount.
    pub(super) fn pass(&self, amount: i128, first: i64, until: i64) -> Option<Passed> {
        let mut low = (first, self.cursors());
        let instants = self.instants(first, until);
        // First between instants at which something changes, so that the walks halve, then inside.
        let mut from = 0;
        let mut to = instants.len();
        while from < to {
            let middle = from + (to - from) / 2;
            match self.at_most(&low.1, instants[middle], amount)? {
                Some(cursors) => {
                    low = (instants[middle], cursors);
                    from = middle + 1;
                }
                None => to = middle,
            }
        }
        let mut high = instants.get(to).copied().unwrap_or(until);
        while low.0.abs_diff(high) > 1 {
            let middle = low.0.saturating_add_unsigned(low.0.abs_diff(high) / 2);
            match self.at_most(&low.1, middle, amount)? {
                Some(cursors) => low = (middle, cursors),
                None => high = middle,
            }
        }
        let (at, mut cursors) = low;
        let before = self.left(&mut cursors, at)?;
        let after = self.left(&mut cursors, at.saturating_add(1))?;
        let inside = after.iter().zip(&before).map(|(after, before)| after - before).collect();
        Some(Passed { at, before: before.iter().sum(), inside })
    }

    fn cursors(&self) -> Vec<Option<RuleCursor>> {
        self.sources.iter().map(Source::cursor).collect()
    }

    /// Instants inside a time at which something changes, ascending.
    fn instants(&self, first: i64, until: i64) -> Vec<i64> {
        let mut instants = Vec::new();
        for (probe, source) in self.probes.iter().zip(self.sources) {
            instants.extend(probe.pieces.iter().flat_map(|one| [one.span.start, one.span.end]));
            instants.extend(probe.lumps.iter().map(|&(at, _)| at));
            match &source.flow {
                Flow::Rule(rated) if !probe.pieces.is_empty() => {
                    instants.extend(rated.timeline.instants());
                }
                Flow::Rule(_) => {}
                Flow::Raise(spans) => {
                    instants.extend(spans.iter().flat_map(|span| [span.start, span.end]));
                }
            }
        }
        instants.retain(|&at| first < at && at < until);
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    /// Cursors at an instant, if no more than an amount is left before it.
    #[allow(clippy::type_complexity, reason = "absence is an overflow outside, and a no inside")]
    fn at_most(
        &self,
        from: &[Option<RuleCursor>],
        at: i64,
        amount: i128,
    ) -> Option<Option<Vec<Option<RuleCursor>>>> {
        let mut cursors = from.to_vec();
        let left: i128 = self.left(&mut cursors, at)?.iter().sum();
        Some((left <= amount).then_some(cursors))
    }

    /// Nano-units that remain of each source before an instant.
    fn left(&self, cursors: &mut [Option<RuleCursor>], at: i64) -> Option<Vec<i128>> {
        let sources = self.probes.iter().zip(self.sources).zip(cursors);
        let left = sources.map(|((probe, source), cursor)| {
            let is_inside = probe.piece(at).is_some();
            let value = if is_inside { Some(source.value(cursor, at)?) } else { None };
            Some(probe.before(at, value))
        });
        left.collect()
    }
}
