//! Which price of a rule holds when.

use super::local::LocalTime;
use super::text::join;
use crate::{Instant, Price, RatingError, Request, Span};

/// A stretch of the period in which one price of a rule holds, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// When.
    pub span: Span,
    /// Index into the rule's prices.
    pub price: Option<usize>,
}

/// The segments of a period, ascending, without a gap, neighbours under different prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Segment>);

impl Schedule {
    /// The schedule of a rule without prices.
    pub fn unpriced(period: Span) -> Self {
        Self(vec![Segment { span: period, price: None }])
    }

    /// The schedule of the prices of one rule.
    ///
    /// # Errors
    /// If a zone is missing in the request, or two prices hold at the same time.
    pub fn new(prices: &[&Price], request: &Request) -> Result<Self, RatingError> {
        let mut ranked = Vec::with_capacity(prices.len());
        for price in prices {
            ranked.push(validity(price, request)?);
        }
        let mut segments: Vec<Segment> = Vec::new();
        let Span { mut start, end: last } = request.period;
        while start < last {
            let bounds = ranked.iter().flatten().flat_map(|span| [span.start, span.end]);
            let end = bounds.filter(|&bound| bound > start).fold(last, Instant::min);
            let price = holding(prices, &ranked, start)?;
            let span = Span { start, end };
            match segments.last_mut() {
                Some(last) if last.price == price => last.span.end = span.end,
                _ => segments.push(Segment { span, price }),
            }
            start = end;
        }
        Ok(Self(segments))
    }

    /// The parts of a span, which lies in the period, each with its price.
    #[inline]
    pub fn pieces(&self, span: Span) -> impl Iterator<Item = Segment> + '_ {
        let first = match self.0.len() {
            1 => 0,
            _ => self.0.partition_point(|segment| segment.span.end <= span.start),
        };
        let within = self.0[first..].iter().take_while(move |segment| segment.span.start < span.end);
        within.map(move |segment| Segment {
            span: Span { start: segment.span.start.max(span.start), end: segment.span.end.min(span.end) },
            price: segment.price,
        })
    }
}

/// The spans in the period in which a price holds unless one with a window does.
fn validity(price: &Price, request: &Request) -> Result<Vec<Span>, RatingError> {
    let valid =
        Span { start: price.valid.start.max(request.period.start), end: price.valid.end.min(request.period.end) };
    if valid.start >= valid.end {
        return Ok(Vec::new());
    }
    if price.windows.is_empty() {
        return Ok(vec![valid]);
    }
    let mut open = Vec::new();
    for window in &price.windows {
        let zone = request.zones.iter().find(|zone| zone.name == window.zone);
        let zone = zone.ok_or_else(|| RatingError::Other(join(&["the request has no zone ", &window.zone])))?;
        open.extend(LocalTime::new(&request.calendar, zone, valid).open(window));
    }
    Ok(open)
}

/// The price that holds at an instant: one with windows goes before one without.
fn holding(prices: &[&Price], ranked: &[Vec<Span>], at: Instant) -> Result<Option<usize>, RatingError> {
    let mut found: Option<usize> = None;
    for (index, spans) in ranked.iter().enumerate() {
        if !spans.iter().any(|span| span.start <= at && at < span.end) {
            continue;
        }
        let is_special = |index: usize| !prices[index].windows.is_empty();
        match found {
            Some(other) if is_special(other) == is_special(index) => {
                let (one, other) = (&prices[other].id, &prices[index].id);
                return Err(RatingError::Other(join(&["the prices ", one, " and ", other, " hold at the same time"])));
            }
            Some(other) if is_special(other) => {}
            _ => found = Some(index),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rating::sample;
    use crate::{Window, Zone, ZoneTransition};

    const HOUR: i64 = 3_600_000_000_000;

    fn valid(id: &str, start: i64, end: i64) -> Price {
        Price { id: id.into(), valid: Span { start, end }, ..sample::price() }
    }

    fn rows(schedule: &Schedule, start: i64, end: i64) -> Vec<(i64, i64, Option<usize>)> {
        schedule.pieces(Span { start, end }).map(|piece| (piece.span.start, piece.span.end, piece.price)).collect()
    }

    #[test]
    fn a_change_of_price_cuts_exactly() {
        let request = sample::request(Span { start: 0, end: 100 });
        let (old, new) = (valid("old", i64::MIN, 30), valid("new", 30, i64::MAX));
        let schedule = Schedule::new(&[&old, &new], &request).expect("a schedule");
        assert_eq!(rows(&schedule, 0, 100), [(0, 30, Some(0)), (30, 100, Some(1))]);
        assert_eq!(rows(&schedule, 29, 31), [(29, 30, Some(0)), (30, 31, Some(1))]);
        assert_eq!(rows(&schedule, 30, 31), [(30, 31, Some(1))]);
        assert_eq!(rows(&schedule, 10, 30), [(10, 30, Some(0))]);
    }

    #[test]
    fn where_no_price_holds_there_is_none() {
        let request = sample::request(Span { start: 0, end: 100 });
        let schedule = Schedule::new(&[&valid("late", 40, 60)], &request).expect("a schedule");
        assert_eq!(rows(&schedule, 0, 100), [(0, 40, None), (40, 60, Some(0)), (60, 100, None)]);
        assert_eq!(rows(&Schedule::unpriced(request.period), 3, 4), [(3, 4, None)]);
    }

    #[test]
    fn a_window_goes_before_the_price_without() {
        let mut request = sample::request(Span { start: 0, end: 24 * HOUR });
        request.zones =
            vec![Zone { name: "UTC".into(), transitions: vec![ZoneTransition { since: 0, offset_seconds: 0 }] }];
        let day = valid("day", i64::MIN, i64::MAX);
        let night = Price {
            windows: vec![Window { zone: "UTC".into(), days: 127, from_minute: 22 * 60, until_minute: 6 * 60 }],
            ..valid("night", i64::MIN, i64::MAX)
        };
        let schedule = Schedule::new(&[&day, &night], &request).expect("a schedule");
        let expected = [(0, 6, Some(1)), (6, 22, Some(0)), (22, 24, Some(1))];
        assert_eq!(rows(&schedule, 0, 24 * HOUR), expected.map(|(from, to, price)| (from * HOUR, to * HOUR, price)));
        request.zones.clear();
        assert!(Schedule::new(&[&night], &request).is_err());
    }

    #[test]
    fn two_prices_at_one_time_are_refused_by_name() {
        let request = sample::request(Span { start: 0, end: 100 });
        let refused = Schedule::new(&[&valid("a", 0, 50), &valid("b", 49, 90)], &request).expect_err("refused");
        assert_eq!(refused, RatingError::Other("the prices a and b hold at the same time".into()));
    }
}
