//! Local time on the meter clock, and the hours of the week in which a window is open.

use crate::{CalendarOffset, Instant, Span, Window, Zone};

const MINUTE_NS: i128 = 60_000_000_000;
const DAY_NS: i128 = 1_440 * MINUTE_NS;
const SECOND_NS: i128 = 1_000_000_000;
/// 1970-01-01 was a Thursday, and weeks begin on Monday.
const WEEKDAY_OF_DAY_0: i128 = 3;

/// How far local clocks are ahead of the meter clock over a span: piece by piece, each with one offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTime {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    span: Span,
    /// Nanoseconds that the local clock is ahead of the meter clock.
    ahead: i128,
}

impl LocalTime {
    /// The clocks of `zone` over `period`, the calendar being read by `calendar`. Both need an entry; without one the clock is UTC, or the meter's.
    pub fn new(calendar: &[CalendarOffset], zone: &Zone, period: Span) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        for (index, offset) in calendar.iter().enumerate() {
            let start = if index == 0 { period.start } else { offset.since.max(period.start) };
            let end = calendar.get(index + 1).map_or(period.end, |next| next.since.min(period.end));
            if start < end {
                zone_pieces(zone, Span { start, end }, offset.offset, &mut pieces);
            }
        }
        if calendar.is_empty() {
            zone_pieces(zone, period, 0, &mut pieces);
        }
        Self { pieces }
    }

    /// When `window` is open, in ascending spans that don't touch.
    pub fn open(&self, window: &Window) -> Vec<Span> {
        let mut open: Vec<Span> = Vec::new();
        for piece in &self.pieces {
            let day_of = |at: Instant| (i128::from(at) + piece.ahead).div_euclid(DAY_NS);
            // A window that began yesterday may reach into the first day.
            for day in day_of(piece.span.start) - 1..=day_of(piece.span.end) {
                if let Some(span) = piece.opening(window, day) {
                    join(&mut open, span);
                }
            }
        }
        open
    }
}

impl Piece {
    /// The part of this piece in which the window that begins on that local day is open.
    fn opening(&self, window: &Window, day: i128) -> Option<Span> {
        let weekday = (day + WEEKDAY_OF_DAY_0).rem_euclid(7);
        if window.days & (1 << weekday) == 0 {
            return None;
        }
        let overnight = if window.until_minute <= window.from_minute { DAY_NS } else { 0 };
        let midnight = day * DAY_NS - self.ahead;
        let start = midnight + i128::from(window.from_minute) * MINUTE_NS;
        let end = midnight + i128::from(window.until_minute) * MINUTE_NS + overnight;
        // Not `clamp`, here and below: the words of its panic would be two kilobytes of a component.
        let inside = |at: i128| {
            let at = at.max(self.span.start.into()).min(self.span.end.into());
            Instant::try_from(at).unwrap_or(self.span.end)
        };
        let span = Span { start: inside(start), end: inside(end) };
        (span.start < span.end).then_some(span)
    }
}

/// Cuts a span in which UTC is `utc_ahead` of the meter at the transitions of a zone.
#[inline(never)]
fn zone_pieces(zone: &Zone, span: Span, utc_ahead: i64, pieces: &mut Vec<Piece>) {
    let mut start = span.start;
    for (index, transition) in zone.transitions.iter().enumerate() {
        let next = zone.transitions.get(index + 1).map(|next| i128::from(next.since) - i128::from(utc_ahead));
        let inside = |at: i128| Instant::try_from(at.max(start.into()).min(span.end.into())).unwrap_or(span.end);
        let end = next.map_or(span.end, inside);
        if start < end {
            let ahead = i128::from(utc_ahead) + i128::from(transition.offset_seconds) * SECOND_NS;
            pieces.push(Piece { span: Span { start, end }, ahead });
            start = end;
        }
    }
    if start < span.end {
        pieces.push(Piece { span: Span { start, end: span.end }, ahead: utc_ahead.into() });
    }
}

/// Adds a span, which begins nowhere before the last one, to a list of such.
fn join(spans: &mut Vec<Span>, span: Span) {
    match spans.last_mut() {
        Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
        _ => spans.push(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ZoneTransition;
    use proptest::prelude::*;

    const HOUR: i64 = 3_600_000_000_000;
    const DAY: i64 = 24 * HOUR;
    /// Monday, 2026-03-23, 00:00 UTC. On the Sunday after, Berlin puts its clocks forward at 01:00 UTC.
    const MONDAY: i64 = 1_774_224_000_000_000_000;
    const SUNDAY: i64 = MONDAY + 6 * DAY;
    /// Sunday, 2026-10-25: back, at 01:00 UTC.
    const AUTUMN_SUNDAY: i64 = 1_792_886_400_000_000_000;

    fn utc() -> Vec<CalendarOffset> {
        vec![CalendarOffset { since: 0, offset: 0 }]
    }

    fn berlin() -> Zone {
        let at = |since, hours| ZoneTransition { since, offset_seconds: hours * 3_600 };
        Zone {
            name: "Europe/Berlin".into(),
            transitions: vec![at(0, 1), at(SUNDAY + HOUR, 2), at(AUTUMN_SUNDAY + HOUR, 1)],
        }
    }

    fn window(days: u8, from_hour: u16, until_hour: u16) -> Window {
        Window { zone: "Europe/Berlin".into(), days, from_minute: from_hour * 60, until_minute: until_hour * 60 }
    }

    fn hours(spans: &[Span], zero: i64) -> Vec<(i64, i64)> {
        spans.iter().map(|span| ((span.start - zero) / HOUR, (span.end - zero) / HOUR)).collect()
    }

    #[test]
    fn office_hours_are_open_on_weekdays_in_local_time() {
        let local = LocalTime::new(&utc(), &berlin(), Span { start: MONDAY, end: MONDAY + 7 * DAY });
        let open = local.open(&window(0b1_1111, 8, 20));
        assert_eq!(hours(&open, MONDAY), [(7, 19), (31, 43), (55, 67), (79, 91), (103, 115)]);
    }

    #[test]
    fn a_night_goes_on_into_the_next_day_and_begins_before_the_period() {
        let local = LocalTime::new(&utc(), &berlin(), Span { start: MONDAY, end: MONDAY + DAY });
        assert_eq!(hours(&local.open(&window(0b111_1111, 22, 6)), MONDAY), [(0, 5), (21, 24)]);
        assert_eq!(hours(&local.open(&window(0b100_0000, 22, 6)), MONDAY), [(0, 5)], "Sunday's night ends on Monday");
        assert_eq!(hours(&local.open(&window(0b000_0001, 22, 6)), MONDAY), [(21, 24)]);
    }

    #[test]
    fn an_hour_that_is_skipped_is_not_there_and_one_that_comes_twice_is_open_twice() {
        let spring = LocalTime::new(&utc(), &berlin(), Span { start: SUNDAY, end: SUNDAY + DAY });
        assert_eq!(hours(&spring.open(&window(0b100_0000, 2, 3)), SUNDAY), []);
        assert_eq!(hours(&spring.open(&window(0b100_0000, 1, 4)), SUNDAY), [(0, 2)]);
        let autumn = LocalTime::new(&utc(), &berlin(), Span { start: AUTUMN_SUNDAY, end: AUTUMN_SUNDAY + DAY });
        assert_eq!(hours(&autumn.open(&window(0b100_0000, 2, 3)), AUTUMN_SUNDAY), [(0, 2)]);
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_the_windows_from_there_on() {
        let calendar = vec![
            CalendarOffset { since: MONDAY - DAY, offset: 0 },
            CalendarOffset { since: MONDAY + 10 * HOUR, offset: HOUR },
        ];
        let local = LocalTime::new(&calendar, &berlin(), Span { start: MONDAY, end: MONDAY + DAY });
        // 08:00 in Berlin is 07:00 UTC; the end, 20:00, is 18:00 on the meter by then.
        assert_eq!(hours(&local.open(&window(1, 8, 20)), MONDAY), [(7, 18)]);
    }

    #[test]
    fn a_whole_week_has_no_gap_at_midnight() {
        let period = Span { start: MONDAY + 5, end: MONDAY + 7 * DAY };
        let local = LocalTime::new(&utc(), &berlin(), period);
        assert_eq!(local.open(&window(0b111_1111, 0, 24)), [period]);
        assert_eq!(local.open(&window(0b111_1111, 9, 9)), [period], "a day from nine to nine");
    }

    proptest! {
        #[test]
        fn an_instant_is_open_if_the_local_clock_says_so(
            days in 1..128_u8, from in 0..1_440_u16, until in 1..=1_440_u16, at in 0..14 * 1_440_i64,
        ) {
            let period = Span { start: MONDAY, end: MONDAY + 14 * DAY };
            let window = Window { zone: String::new(), days, from_minute: from, until_minute: until };
            let open = LocalTime::new(&utc(), &berlin(), period).open(&window);
            let at = MONDAY + at * 60_000_000_000;
            let ahead = if at < SUNDAY + HOUR { HOUR } else { 2 * HOUR };
            let minute = (at + ahead - MONDAY) / 60_000_000_000;
            let (day, minute) = (minute / 1_440 % 7, u16::try_from(minute % 1_440).expect("a minute"));
            let on = |day: i64| days & (1 << day.rem_euclid(7)) != 0;
            let expected = if until > from {
                on(day) && (from..until).contains(&minute)
            } else {
                (on(day) && minute >= from) || (on(day - 1) && minute < until)
            };
            prop_assert_eq!(open.iter().any(|span| span.start <= at && at < span.end), expected);
        }
    }
}
