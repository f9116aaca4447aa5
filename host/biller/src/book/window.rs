//! Windows: hours of the local week in which a price holds.

use super::document::WindowEntry;
use super::{Checking, wrong};

const DAY: u32 = 1_440;
const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Hours of a local week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// IANA name of the zone.
    pub zone: String,
    /// Days on which it begins; bit n is the n-th day after Monday.
    pub days: u8,
    /// Minute of the day at which it begins, 0 to 1,439.
    pub from_minute: u16,
    /// Minute of the day before which it ends, 1 to 1,440. At or before `from_minute`: of the next
    /// day.
    pub until_minute: u16,
}

impl WindowEntry {
    /// Reads a window. Errors have places inside it.
    pub(super) fn check(&self, is_zone: &dyn Fn(&str) -> bool) -> Checking<Window> {
        if !is_zone(&self.zone) {
            let zone = &self.zone;
            let problem =
                format!("'{zone}' is no time zone of the IANA database, such as Europe/Berlin");
            return Err(wrong("zone", problem));
        }
        let days = match &self.days {
            None => 0b111_1111,
            Some(days) => days.iter().fold(0, |set, &day| set | 1 << day as u8),
        };
        if days == 0 {
            return Err(wrong("days", "at least one day; all, if absent"));
        }
        let from_minute = minute(&self.from).filter(|&minute| minute < 1_440);
        let until_minute = minute(&self.until).filter(|&minute| minute > 0);
        let unknown = |field: &str, range: &str| {
            wrong(field, format!("write the local time as HH:MM, {range}"))
        };
        Ok(Window {
            zone: self.zone.clone(),
            days,
            from_minute: from_minute.ok_or_else(|| unknown("from", "00:00 to 23:59"))?,
            until_minute: until_minute.ok_or_else(|| unknown("until", "00:01 to 24:00"))?,
        })
    }
}

/// The minute of the day that `HH:MM` names.
fn minute(text: &str) -> Option<u16> {
    let is_two = |part: &str| part.len() == 2 && part.bytes().all(|c| c.is_ascii_digit());
    let (hours, minutes) = text.split_once(':').filter(|(h, m)| is_two(h) && is_two(m))?;
    let hours: u16 = hours.parse().ok()?;
    let minutes: u16 = minutes.parse().ok()?;
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= 1_440).then_some(minute)
}

impl Window {
    /// Length in minutes by the local clock.
    pub fn minutes(&self) -> u32 {
        let from = u32::from(self.from_minute);
        let until = u32::from(self.until_minute);
        if until > from { until - from } else { until + DAY - from }
    }

    /// The minutes of the week in which the window is open; an end in the next week wraps to the
    /// week's beginning.
    fn week(&self) -> impl Iterator<Item = (u32, u32)> {
        let days = (0..7_u32).filter(|day| self.days & (1 << day) != 0);
        days.flat_map(|day| {
            let from = day * DAY + u32::from(self.from_minute);
            let until = from + self.minutes();
            let wraps = until > 7 * DAY;
            [Some((from, until)), wraps.then(|| (0, until - 7 * DAY))].into_iter().flatten()
        })
    }
}

/// A time at which windows of two prices are both open, in words; none if there is never one.
/// Windows in two different zones count as overlapping: their offsets may change.
pub(super) fn meeting(one: &[Window], other: &[Window]) -> Option<String> {
    for here in one {
        for there in other {
            if here.zone != there.zone {
                return Some(format!("in windows of two zones, {} and {}", here.zone, there.zone));
            }
            if let Some((from, until)) = overlap(here, there) {
                return Some(format!("{} to {} {}", clock(from), clock(until), here.zone));
            }
        }
    }
    None
}

fn overlap(one: &Window, other: &Window) -> Option<(u32, u32)> {
    let both = one.week().flat_map(|here| {
        let common = move |there: (u32, u32)| (here.0.max(there.0), here.1.min(there.1));
        other.week().map(common)
    });
    both.filter(|(from, until)| from < until).min()
}

/// A minute of the week as `mon 19:59`.
fn clock(minute: u32) -> String {
    let day = NAMES[(minute / DAY % 7) as usize];
    format!("{day} {:02}:{:02}", minute % DAY / 60, minute % 60)
}
