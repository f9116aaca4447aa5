//! Clocks: from what the calendar and a local clock read back to instants of the meter.

use crate::book::Window;
use crate::input::{Offset, Span, Zone};
use crate::mutants::Mutant;

const MINUTE_NS: i128 = 60_000_000_000;
const DAY_NS: i128 = 1_440 * MINUTE_NS;

/// The calendar of the host: UTC is the meter plus an offset that now and then changes.
pub(crate) struct Clock<'a> {
    pub(crate) offsets: &'a [Offset],
    pub(crate) zones: &'a [Zone],
}

/// Meter time in which UTC is the meter plus one offset.
struct Step {
    meter: Span,
    offset: i64,
}

impl Clock<'_> {
    fn known<'a>(&'a self, offset: &'a Offset) -> &'a Offset {
        if Mutant::CalendarNeverSet.is_active() { &self.offsets[0] } else { offset }
    }

    /// The steps inside a span of the meter.
    fn steps(&self, within: Span) -> impl Iterator<Item = Step> + '_ {
        // The first offset holds for all time before the second, too.
        let starts =
            std::iter::once(i64::MIN).chain(self.offsets.iter().skip(1).map(|one| one.since));
        let ends = self.offsets.iter().skip(1).map(|one| one.since).chain([i64::MAX]);
        let steps = starts.zip(ends).zip(self.offsets.iter().map(|offset| self.known(offset)));
        steps.filter_map(move |((start, end), offset)| {
            let meter = Span { start: start.max(within.start), end: end.min(within.end) };
            (meter.start < meter.end).then_some(Step { meter, offset: offset.offset })
        })
    }

    /// The meter time inside `within` at which the calendar reads what lies in `utc`.
    pub(crate) fn valid(&self, utc: Span, within: Span) -> Vec<Span> {
        let spans = self.steps(within).filter_map(|step| {
            let meter = |reading: i64| match reading {
                i64::MIN | i64::MAX => reading,
                reading => reading.saturating_sub(step.offset),
            };
            let start = meter(utc.start).max(step.meter.start);
            let end = meter(utc.end).min(step.meter.end);
            (start < end).then_some(Span { start, end })
        });
        spans.collect()
    }

    /// Adds the meter time inside `within` in which a window is open.
    pub(crate) fn open(&self, window: &Window, within: Span, spans: &mut Vec<Span>) {
        let Some(zone) = self.zones.iter().find(|zone| zone.name == window.zone) else { return };
        for step in self.steps(within) {
            let utc = |meter: i64| i128::from(meter) + i128::from(step.offset);
            let start = utc(step.meter.start);
            let end = utc(step.meter.end);
            for (piece_start, piece_end, east) in pieces(zone, start, end) {
                let local = (piece_start + east, piece_end + east);
                let shift = east + i128::from(step.offset);
                openings(window, local, |from, until| {
                    spans.push(Span { start: clamp(from - shift), end: clamp(until - shift) });
                });
            }
        }
    }
}

/// The parts of a span of UTC in which a zone has one offset, in nanoseconds east.
fn pieces(zone: &Zone, start: i128, end: i128) -> impl Iterator<Item = (i128, i128, i128)> + '_ {
    let since = |&(at, _): &(i64, i32)| i128::from(at);
    // The first transition holds for all time before the second, too.
    let first = zone.transitions.iter().skip(1).take_while(|one| since(one) <= start).count();
    let ends = zone.transitions.iter().skip(first + 1).map(since).chain([i128::MAX]);
    let pieces = zone.transitions.iter().skip(first).zip(ends);
    pieces.take_while(move |(one, _)| since(one) < end || since(one) <= start).filter_map(
        move |(&(at, east), until)| {
            let from = if at == zone.transitions[first].0 { start } else { i128::from(at) };
            let until = until.min(end);
            (from < until).then_some((from, until, i128::from(east) * 1_000_000_000))
        },
    )
}

/// Calls for each opening of a window inside a span of local time.
fn openings(window: &Window, local: (i128, i128), mut each: impl FnMut(i128, i128)) {
    let first = local.0.div_euclid(DAY_NS) - 1;
    let last = (local.1 - 1).div_euclid(DAY_NS);
    let length = i128::from(window.minutes()) * MINUTE_NS;
    for day in first..=last {
        // The first day of 1970 was a Thursday.
        let weekday = (day + 3).rem_euclid(7);
        if window.days & (1 << weekday) == 0 {
            continue;
        }
        let from = day * DAY_NS + i128::from(window.from_minute) * MINUTE_NS;
        let until = (from + length).min(local.1);
        let from = from.max(local.0);
        if from < until {
            each(from, until);
        }
    }
}

fn clamp(at: i128) -> i64 {
    i64::try_from(at).unwrap_or(if at < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;
    const DAY: i64 = 24 * HOUR;

    fn window(zone: &str, days: u8, from: u16, until: u16) -> Window {
        Window { zone: zone.into(), days, from_minute: from, until_minute: until }
    }

    fn open(
        offsets: &[(i64, i64)],
        transitions: &[(i64, i32)],
        window: &Window,
    ) -> Vec<(i64, i64)> {
        let offsets: Vec<_> =
            offsets.iter().map(|&(since, offset)| Offset { since, offset }).collect();
        let zones = [Zone { name: window.zone.clone(), transitions: transitions.to_vec() }];
        let clock = Clock { offsets: &offsets, zones: &zones };
        let mut spans = Vec::new();
        clock.open(window, Span { start: 0, end: 3 * DAY }, &mut spans);
        spans.iter().map(|span| (span.start / HOUR, span.end / HOUR)).collect()
    }

    #[test]
    fn windows_open_by_the_local_clock() {
        let night = window("Z", 0x7f, 22 * 60, 6 * 60);
        assert_eq!(open(&[(0, 0)], &[(0, 0)], &night), [(0, 6), (22, 30), (46, 54), (70, 72)]);
        // Two hours east, the local night begins two hours earlier.
        assert_eq!(open(&[(0, 0)], &[(0, 7_200)], &night), [(0, 4), (20, 28), (44, 52), (68, 72)]);
        // The calendar was an hour behind at first.
        let offsets = [(0, HOUR), (25 * HOUR, 0)];
        assert_eq!(
            open(&offsets, &[(0, 0)], &night),
            [(0, 5), (21, 25), (25, 30), (46, 54), (70, 72)]
        );
        // 1970 began with a Thursday.
        let thursday = window("Z", 1 << 3, 0, 1_440);
        assert_eq!(open(&[(0, 0)], &[(0, 0)], &thursday), [(0, 24)]);
        let friday_night = window("Z", 1 << 4, 12 * 60, 12 * 60);
        assert_eq!(open(&[(0, 0)], &[(0, 0)], &friday_night), [(36, 60)]);
    }

    #[test]
    fn an_hour_that_comes_twice_is_open_twice_and_a_skipped_one_never() {
        let small = window("Z", 0x7f, 2 * 60, 3 * 60);
        let back = [(0, 7_200), (25 * HOUR, 3_600)];
        assert_eq!(open(&[(0, 0)], &back, &small), [(0, 1), (24, 25), (25, 26), (49, 50)]);
        let forth = [(0, 3_600), (25 * HOUR, 7_200)];
        assert_eq!(open(&[(0, 0)], &forth, &small), [(1, 2), (48, 49)]);
    }

    #[test]
    fn validity_follows_each_step_of_the_calendar() {
        let offsets = [Offset { since: 0, offset: 0 }, Offset { since: 10, offset: -5 }];
        let clock = Clock { offsets: &offsets, zones: &[] };
        let within = Span { start: 0, end: 100 };
        let span = |start, end| Span { start, end };
        assert_eq!(clock.valid(span(i64::MIN, 10), within), [span(0, 10), span(10, 15)]);
        assert_eq!(clock.valid(span(10, i64::MAX), within), [span(15, 100)]);
        assert_eq!(clock.valid(span(200, 300), within), []);
    }
}
