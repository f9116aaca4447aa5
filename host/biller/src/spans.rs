//! Sets of instants as spans that are sorted and neither touch nor overlap.

use crate::input::Span;

/// A set of instants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spans(Vec<Span>);

impl Spans {
    /// One span; no instant where it is empty.
    pub(crate) fn of(start: i64, end: i64) -> Self {
        if start < end { Self(vec![Span { start, end }]) } else { Self::default() }
    }

    /// All spans together, in any order.
    pub(crate) fn union(mut spans: Vec<Span>) -> Self {
        spans.retain(|span| span.start < span.end);
        spans.sort_unstable_by_key(|span| (span.start, span.end));
        let mut set = Self(Vec::with_capacity(spans.len()));
        for span in spans {
            set.push(span);
        }
        set
    }

    /// Adds a span that begins at or after the beginning of the last one.
    fn push(&mut self, span: Span) {
        match self.0.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            Some(_) | None => self.0.push(span),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nanoseconds in all.
    pub(crate) fn length(&self) -> u128 {
        self.iter().map(|span| u128::from(span.end.abs_diff(span.start))).sum()
    }

    /// The part inside one span.
    pub(crate) fn within(&self, start: i64, end: i64) -> impl Iterator<Item = Span> + '_ {
        let first = self.0.partition_point(|span| span.end <= start);
        let rest = self.0[first..].iter().take_while(move |span| span.start < end);
        rest.map(move |span| Span { start: span.start.max(start), end: span.end.min(end) })
    }

    /// The instants in both.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let parts = self.iter().flat_map(|span| other.within(span.start, span.end));
        Self(parts.collect())
    }

    /// The instants that are not in the other.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut left = Vec::with_capacity(self.0.len());
        for span in self.iter() {
            let mut start = span.start;
            for gone in other.within(span.start, span.end) {
                if start < gone.start {
                    left.push(Span { start, end: gone.start });
                }
                start = gone.end;
            }
            if start < span.end {
                left.push(Span { start, end: span.end });
            }
        }
        Self(left)
    }

    /// The span that an instant lies in.
    pub(crate) fn around(&self, at: i64) -> Option<Span> {
        let number = self.0.partition_point(|span| span.end <= at);
        self.0.get(number).copied().filter(|span| span.start <= at)
    }

    pub(crate) fn contains(&self, at: i64) -> bool {
        self.within(at, at.saturating_add(1)).next().is_some()
    }

    /// Returns whether every instant of the other is in this set.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.without(self).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(spans: &[(i64, i64)]) -> Spans {
        Spans::union(spans.iter().map(|&(start, end)| Span { start, end }).collect())
    }

    #[test]
    fn sets_are_joined_met_and_subtracted() {
        let one = set(&[(5, 8), (0, 3), (3, 4), (7, 9), (9, 9)]);
        assert_eq!(one, set(&[(0, 4), (5, 9)]));
        assert_eq!(one.length(), 8);
        let other = set(&[(2, 6), (8, 20)]);
        assert_eq!(one.intersection(&other), set(&[(2, 4), (5, 6), (8, 9)]));
        assert_eq!(one.without(&other), set(&[(0, 2), (6, 8)]));
        assert_eq!(other.without(&one), set(&[(4, 5), (9, 20)]));
        assert!(one.covers(&set(&[(1, 2), (5, 9)])) && !one.covers(&set(&[(3, 5)])));
        assert!(one.contains(8) && !one.contains(9) && !one.contains(4));
        assert!(Spans::of(3, 3).is_empty());
    }
}
