//! The price in force of a rule, instant by instant.

use crate::input::Span;
use crate::mutants::Mutant;
use crate::spans::Spans;
use crate::steps;

/// A time in which one price holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Number of the price.
    pub(crate) price: u32,
    /// Nanoseconds with a price before it.
    priced: u64,
    /// Nanoseconds with the same price before it.
    same: u64,
}

/// Part of a time in which one price holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) price: u32,
    pub(crate) nanos: u64,
    /// First instant of it.
    pub(crate) first: i64,
    /// First instant after it.
    pub(crate) last: i64,
}

/// Times in which prices hold. Gaps are time that the rule does not count.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    segments: Vec<Segment>,
    /// Numbers of the segments of each price.
    by_price: Vec<Vec<u32>>,
    /// Prices that hold at some time.
    prices: Vec<u32>,
}

impl Schedule {
    /// Prices with windows take precedence over those without. Of two that hold at one instant,
    /// which no book may have, the one that began earlier stays.
    pub(crate) fn of(windowed: Vec<(Span, u32)>, plain: &[(Span, u32)]) -> Self {
        let open = Spans::union(windowed.iter().map(|&(span, _)| span).collect());
        let mut all = windowed;
        for &(span, price) in plain {
            let left = Spans::of(span.start, span.end).without(&open);
            all.extend(left.iter().map(|span| (span, price)));
        }
        all.sort_unstable_by_key(|&(span, price)| (span.start, span.end, price));
        let mut schedule = Self::default();
        for (span, price) in all {
            schedule.push(span, price);
        }
        schedule.index();
        schedule
    }

    fn push(&mut self, span: Span, price: u32) {
        let start = self.segments.last().map_or(span.start, |last| span.start.max(last.end));
        match self.segments.last_mut() {
            Some(last) if last.end == start && last.price == price => {
                last.end = span.end.max(start)
            }
            Some(_) | None if start < span.end => {
                self.segments.push(Segment { start, end: span.end, price, priced: 0, same: 0 });
            }
            Some(_) | None => {}
        }
    }

    fn index(&mut self) {
        let mut priced = 0;
        let most = self.segments.iter().map(|segment| segment.price).max();
        let mut same = vec![0_u64; most.map_or(0, |price| price as usize + 1)];
        self.by_price = vec![Vec::new(); same.len()];
        for (number, segment) in self.segments.iter_mut().enumerate() {
            let price = segment.price as usize;
            (segment.priced, segment.same) = (priced, same[price]);
            let nanos = segment.end.abs_diff(segment.start);
            priced += nanos;
            same[price] += nanos;
            if self.by_price[price].is_empty() {
                self.prices.push(segment.price);
            }
            self.by_price[price].push(u32::try_from(number).unwrap_or(u32::MAX));
        }
    }

    /// Prices that hold at some time.
    pub(crate) fn prices(&self) -> &[u32] {
        &self.prices
    }

    /// The number of the first segment that ends after an instant.
    fn after(&self, at: i64) -> usize {
        if Mutant::PricesWalked.is_active() {
            let before = self.segments.iter().take_while(|segment| segment.end <= at);
            return before.inspect(|_| steps::count()).count();
        }
        match self.segments.as_slice() {
            [only] => usize::from(only.end <= at),
            segments => segments.partition_point(|segment| segment.end <= at),
        }
    }

    /// The segments that reach into a time, cut to it.
    pub(crate) fn within(&self, start: i64, end: i64) -> impl Iterator<Item = Holding> + '_ {
        let rest = self.segments[self.after(start)..].iter();
        rest.take_while(move |segment| segment.start < end).map(move |segment| {
            steps::count();
            let first = segment.start.max(start);
            let last = segment.end.min(end);
            Holding { price: segment.price, nanos: last.abs_diff(first), first, last }
        })
    }

    /// The segment that an instant lies in.
    pub(crate) fn segment_at(&self, at: i64) -> Option<&Segment> {
        self.segments.get(self.after(at)).filter(|segment| segment.start <= at)
    }

    pub(crate) fn price_at(&self, at: i64) -> Option<u32> {
        self.segment_at(at).map(|segment| segment.price)
    }

    /// The last instant before `end` at which a price holds.
    pub(crate) fn last_before(&self, end: i64) -> Option<(i64, u32)> {
        let count = self.segments.partition_point(|segment| segment.start < end);
        let segment = self.segments[..count].last()?;
        Some((segment.end.min(end) - 1, segment.price))
    }

    /// Nanoseconds with a price.
    pub(crate) fn priced(&self, start: i64, end: i64) -> u64 {
        if let [only] = self.segments.as_slice() {
            let first = only.start.max(start);
            let last = only.end.min(end);
            return if first < last { last.abs_diff(first) } else { 0 };
        }
        self.priced_before(end) - self.priced_before(start)
    }

    fn priced_before(&self, at: i64) -> u64 {
        let count = self.segments.partition_point(|segment| segment.start < at);
        let Some(segment) = self.segments[..count].last() else { return 0 };
        segment.priced + segment.end.min(at).abs_diff(segment.start)
    }

    /// The instant of the nanosecond with a price before which, from `start` on, there are `count`
    /// others; the end of all segments if there are no more.
    pub(crate) fn nth(&self, start: i64, count: u64) -> i64 {
        let priced = self.priced_before(start) + count;
        let number = self.segments.partition_point(|segment| segment.priced <= priced);
        let Some(segment) = self.segments[..number].last() else { return start };
        let inside = (priced - segment.priced).min(segment.end.abs_diff(segment.start));
        segment.start.saturating_add_unsigned(inside)
    }

    /// Calls once for each price that holds in a time, with its nanoseconds. Takes as many steps as
    /// there are segments in the time or prices in all, whichever is less.
    pub(crate) fn each(&self, start: i64, end: i64, mut call: impl FnMut(Holding)) {
        let first = self.after(start);
        let rest = &self.segments[first..];
        let many = rest.get(self.prices.len()).is_some_and(|segment| segment.start < end);
        if many {
            let held = self.prices.iter().filter_map(|&price| self.held(price, start, end));
            return held.for_each(call);
        }
        for segment in rest.iter().take_while(|segment| segment.start < end) {
            steps::count();
            let first = segment.start.max(start);
            let last = segment.end.min(end);
            call(Holding { price: segment.price, nanos: last.abs_diff(first), first, last });
        }
    }

    /// The part of a time in which one price holds.
    fn held(&self, price: u32, start: i64, end: i64) -> Option<Holding> {
        steps::count();
        let segment = |&number: &u32| &self.segments[number as usize];
        let numbers = &self.by_price[price as usize];
        let from = numbers.partition_point(|number| segment(number).end <= start);
        let until = numbers.partition_point(|number| segment(number).start < end);
        if from >= until {
            return None;
        }
        let one = segment(&numbers[from]);
        let other = segment(&numbers[until - 1]);
        let first = one.start.max(start);
        let last = other.end.min(end);
        let before = one.same + first.abs_diff(one.start);
        let nanos = other.same + last.abs_diff(other.start) - before;
        Some(Holding { price, nanos, first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(start: i64, end: i64) -> Span {
        Span { start, end }
    }

    fn rows(schedule: &Schedule) -> Vec<(i64, i64, u32)> {
        schedule.segments.iter().map(|one| (one.start, one.end, one.price)).collect()
    }

    #[test]
    fn windows_go_before_what_has_none() {
        let windowed = vec![(span(20, 30), 1), (span(2, 5), 1), (span(45, 60), 2)];
        let plain = [(span(0, 25), 0), (span(25, 50), 3)];
        let schedule = Schedule::of(windowed, &plain);
        let expected = [(0, 2, 0), (2, 5, 1), (5, 20, 0), (20, 30, 1), (30, 45, 3), (45, 60, 2)];
        assert_eq!(rows(&schedule), expected);
        let at = |at| schedule.price_at(at);
        assert_eq!([at(-1), at(0), at(4), at(59), at(60)], [None, Some(0), Some(1), Some(2), None]);
        assert_eq!(schedule.last_before(100), Some((59, 2)));
        assert_eq!(schedule.last_before(0), None);
    }

    #[test]
    fn one_price_that_is_set_again_stays_one_segment() {
        let schedule = Schedule::of(Vec::new(), &[(span(5, 9), 0), (span(0, 5), 0)]);
        assert_eq!(rows(&schedule), [(0, 9, 0)]);
    }

    proptest! {
        #[test]
        fn sums_over_prices_are_those_over_segments(
            cuts in proptest::collection::vec((0..40_i64, 0..40_i64, 0..4_u32), 0..12),
            (one, other) in (-5..45_i64, -5..45_i64),
        ) {
            let plain: Vec<_> = cuts.iter().map(|&(a, b, price)| (span(a, b), price)).collect();
            let schedule = Schedule::of(Vec::new(), &plain);
            let start = one.min(other);
            let end = one.max(other);
            let mut each = [0; 4];
            schedule.each(start, end, |held| each[held.price as usize] += held.nanos);
            let mut plainly = [0; 4];
            for at in start..end {
                if let Some(price) = schedule.price_at(at) {
                    plainly[price as usize] += 1;
                }
            }
            prop_assert_eq!(each, plainly);
            prop_assert_eq!(schedule.priced(start, end), plainly.iter().sum::<u64>());
            let instants = (start..41).filter(|&at| schedule.price_at(at).is_some());
            for (number, at) in instants.enumerate() {
                prop_assert_eq!(schedule.nth(start, number as u64), at);
            }
        }
    }
}
