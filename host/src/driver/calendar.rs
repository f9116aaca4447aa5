//! Where the calendar (UTC) lies relative to the meter clock.

use std::sync::{PoisonError, RwLock};

use crate::units::Instant;

/// Differences below this, in nanoseconds, are the noise of reading two clocks one after the other, not a step.
pub(crate) const STEP_NS_MIN: u64 = 2_000_000;

/// The offsets of the wall clock, from each start of the daemon and each step on. Only what people read depends on it; no duration
/// does.
#[derive(Default)]
pub(super) struct Calendar(RwLock<Vec<(Instant, i64)>>);

impl Calendar {
    /// From `at` on, the wall clock reads `wall_ns` and goes on with the meter. What is no step changes nothing: an instant that was shown
    /// once is shown the same after every restart.
    pub(super) fn learn(&self, at: Instant, wall_ns: i64) {
        let offset = wall_ns.saturating_sub(at.0);
        let mut offsets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if offsets.last().is_none_or(|&(_, last)| last.abs_diff(offset) >= STEP_NS_MIN) {
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
        let step = i64::try_from(STEP_NS_MIN).expect("small");
        assert_eq!(calendar.utc_ns(Instant(7)), 7);
        calendar.learn(Instant(1_000), 1_000);
        calendar.learn(Instant(2_000), 2_000 - step);
        assert_eq!(calendar.utc_ns(Instant(500)), 500);
        assert_eq!(calendar.utc_ns(Instant(1_999)), 1_999);
        assert_eq!(calendar.utc_ns(Instant(2_000)), 2_000 - step);
        assert_eq!(calendar.utc_ns(Instant(3_000)), 3_000 - step);
    }

    #[test]
    fn the_noise_of_a_reading_moves_nothing() {
        let calendar = Calendar::default();
        calendar.learn(Instant(1_000), 5_000);
        calendar.learn(Instant(2_000), 6_221);
        assert_eq!(calendar.utc_ns(Instant(2_500)), 6_500);
    }
}
