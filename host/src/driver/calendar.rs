//! Where the calendar (UTC) lies relative to the meter clock.

use std::sync::{PoisonError, RwLock};

use crate::units::Instant;

/// The offsets of the wall clock, from each start of the daemon and each step on. Only what people read depends on it; no duration
/// does.
#[derive(Default)]
pub(super) struct Calendar(RwLock<Vec<(Instant, i64)>>);

impl Calendar {
    /// From `at` on, the wall clock reads `wall_ns` and goes on with the meter.
    pub(super) fn learn(&self, at: Instant, wall_ns: i64) {
        let offset = wall_ns.saturating_sub(at.0);
        let mut offsets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if offsets.last().is_none_or(|&(_, last)| last != offset) {
            offsets.push((at, offset));
        }
    }

    /// Nanoseconds since 1970 in UTC for a meter instant. The first offset holds for all time before it, too.
    pub(super) fn utc_ns(&self, at: Instant) -> i64 {
        let offsets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let next = offsets.partition_point(|&(from, _)| from <= at);
        let offset = offsets.get(next.saturating_sub(1)).map_or(0, |&(_, offset)| offset);
        at.0.saturating_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_step_of_the_wall_clock_moves_the_calendar_and_nothing_before_it() {
        let calendar = Calendar::default();
        assert_eq!(calendar.utc_ns(Instant(7)), 7);
        calendar.learn(Instant(1_000), 1_000);
        calendar.learn(Instant(2_000), 1_500);
        assert_eq!(calendar.utc_ns(Instant(500)), 500);
        assert_eq!(calendar.utc_ns(Instant(1_999)), 1_999);
        assert_eq!(calendar.utc_ns(Instant(2_000)), 1_500);
        assert_eq!(calendar.utc_ns(Instant(3_000)), 2_500);
    }
}
