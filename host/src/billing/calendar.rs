//! The offset of the calendar (UTC) from the meter clock.

use super::fact::{Fact, HostFact};
use crate::mutants::money::Mutant;
use crate::units::Instant;

/// Differences below this, in nanoseconds, are the noise of reading two clocks one after the other,
/// not a step.
pub const STEP_NS_MIN: u64 = 2_000_000;

/// The offsets of the wall clock from the meter, from each start of the daemon and each step on.
/// Displayed times depend on it, and the month or hour of the week that an instant belongs to; no
/// duration does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Calendar(Vec<(Instant, i64)>);

impl Calendar {
    /// The calendar that these facts of the host give, in their order.
    pub fn told_by<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Self {
        Self::going_on(Vec::new(), facts)
    }

    /// The calendar that facts give which follow on known offsets, each with its first instant.
    pub fn going_on<'a>(
        known: Vec<(Instant, i64)>,
        facts: impl IntoIterator<Item = &'a Fact>,
    ) -> Self {
        let mut calendar = Self(known);
        for fact in facts {
            if fact.of_host().is_some_and(HostFact::tells_the_time) {
                calendar.learn(fact.at.meter, fact.at.wall_ns);
            }
        }
        calendar
    }

    /// Learns that at `at` the wall clock reads `wall_ns`, and advances with the meter from there.
    /// A difference below [`STEP_NS_MIN`] changes nothing: an instant is displayed the same after
    /// every restart.
    pub fn learn(&mut self, at: Instant, wall_ns: i64) {
        let offset = wall_ns.saturating_sub(at.0);
        if self.0.last().is_none_or(|&(_, last)| last.abs_diff(offset) >= STEP_NS_MIN) {
            self.0.push((at, offset));
        }
    }

    /// The offsets in nanoseconds, each with its first instant, ascending. The first holds for all
    /// time before the second; there is at least one.
    pub fn offsets(&self) -> Vec<(Instant, i64)> {
        if self.0.is_empty() { vec![(Instant(i64::MIN), 0)] } else { self.0.clone() }
    }

    /// Nanoseconds since 1970 in UTC for a meter instant. The first offset holds for all time
    /// before it, too.
    pub fn utc_ns(&self, at: Instant) -> i64 {
        let next = self.0.partition_point(|&(from, _)| from <= at);
        let offset = self.0.get(next.saturating_sub(1)).map_or(0, |&(_, offset)| offset);
        at.0.saturating_add(offset)
    }

    /// The first meter instant at which the calendar shows `utc_ns` or later.
    ///
    /// An hour that the wall clock showed twice is taken the first time; one that it jumped over is
    /// taken at the jump.
    pub fn meter(&self, utc_ns: i64) -> Instant {
        let offsets = self.offsets();
        for (place, &(from, offset)) in offsets.iter().enumerate() {
            let from = if place == 0 { Instant(i64::MIN) } else { from };
            let at = Instant(utc_ns.saturating_sub(offset)).max(from);
            if offsets.get(place + 1).is_none_or(|&(next, _)| at < next) {
                return at;
            }
        }
        Instant(utc_ns)
    }

    /// The first meter instant from `now` on at which the calendar shows `utc_ns`; if there is
    /// none, as [`Calendar::meter`].
    ///
    /// This is the conversion for plans: an hour that the wall clock shows twice means the one to
    /// come.
    pub fn meter_to_come(&self, utc_ns: i64, now: Instant) -> Instant {
        if Mutant::TwiceIsFirst.is_active() {
            return self.meter(utc_ns);
        }
        let offsets = self.offsets();
        for (place, &(from, offset)) in offsets.iter().enumerate() {
            let at = Instant(utc_ns.saturating_sub(offset));
            let has_begun = place == 0 || from <= at;
            let is_over = offsets.get(place + 1).is_some_and(|&(next, _)| next <= at);
            if at >= now && has_begun && !is_over {
                return at;
            }
        }
        self.meter(utc_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::money::is_found;
    use proptest::prelude::*;

    const STEP: i64 = STEP_NS_MIN as i64;

    #[test]
    fn a_step_of_the_wall_clock_moves_the_calendar_and_nothing_before_it() {
        let mut calendar = Calendar::default();
        assert_eq!(calendar.utc_ns(Instant(7)), 7);
        calendar.learn(Instant(1_000), 1_000);
        calendar.learn(Instant(2_000), 2_000 - STEP);
        assert_eq!(calendar.utc_ns(Instant(500)), 500);
        assert_eq!(calendar.utc_ns(Instant(1_999)), 1_999);
        assert_eq!(calendar.utc_ns(Instant(2_000)), 2_000 - STEP);
        assert_eq!(calendar.utc_ns(Instant(3_000)), 3_000 - STEP);
    }

    #[test]
    fn the_noise_of_a_reading_moves_nothing() {
        let mut calendar = Calendar::default();
        calendar.learn(Instant(1_000), 5_000);
        calendar.learn(Instant(2_000), 6_221);
        assert_eq!(calendar.utc_ns(Instant(2_500)), 6_500);
        assert_eq!(calendar.offsets(), [(Instant(1_000), 4_000)]);
    }

    #[test]
    fn an_instant_of_the_calendar_is_the_first_that_shows_it() {
        let mut calendar = Calendar::default();
        calendar.learn(Instant(0), 0);
        // Back by one step at 10 steps, forward by three at 20.
        calendar.learn(Instant(10 * STEP), 9 * STEP);
        calendar.learn(Instant(20 * STEP), 22 * STEP);
        let rows = [(5, 5), (9, 9), (10, 11), (18, 19), (19, 20), (21, 20), (22, 20), (23, 21)];
        for (utc, meter) in rows {
            assert_eq!(calendar.meter(utc * STEP), Instant(meter * STEP), "{utc}");
        }
        assert_eq!(Calendar::default().meter(5), Instant(5));
    }

    #[test]
    fn a_plan_for_an_hour_that_is_shown_twice_means_the_one_to_come() {
        let mut calendar = Calendar::default();
        calendar.learn(Instant(0), 0);
        // At 10 steps the wall clock goes back by 6: 4 to 10 are shown twice.
        calendar.learn(Instant(10 * STEP), 4 * STEP);
        // What is planned, when, and the meter instant that is meant.
        let rows = [(7, 2, 7), (7, 10, 13), (7, 12, 13), (7, 14, 7), (11, 12, 17), (3, 12, 3)];
        for (utc, now, meter) in rows {
            let found = calendar.meter_to_come(utc * STEP, Instant(now * STEP));
            assert_eq!(found, Instant(meter * STEP), "{utc} at {now}");
        }
    }

    #[test]
    fn a_plan_means_the_first_instant_to_come_that_shows_it() {
        let steps = prop::collection::vec((1..100_i64, -200..200_i64), 0..4);
        let cases = (steps, 0..500_i64, 0..500_i64);
        let holds = |(steps, wanted, now): &(Vec<(i64, i64)>, i64, i64)| {
            let mut calendar = Calendar::default();
            let mut meter = 0;
            for (after, by) in steps {
                meter += after;
                calendar.learn(Instant(meter * STEP), (meter + by) * STEP);
            }
            let shows = |at: &i64| calendar.utc_ns(Instant(at * STEP)) == wanted * STEP;
            let to_come = (*now..2_000).find(shows);
            let found = calendar.meter_to_come(wanted * STEP, Instant(now * STEP));
            to_come.is_none_or(|to_come| found == Instant(to_come * STEP))
        };
        assert!(is_found(Mutant::TwiceIsFirst, &cases, holds));
    }

    proptest! {
        #[test]
        fn what_the_calendar_shows_is_found_no_later(
            steps in prop::collection::vec((1..1_000_i64, -2_000..2_000_i64), 0..6),
            at in 0..8_000_i64,
        ) {
            let mut calendar = Calendar::default();
            let mut meter = 0;
            for (after, by) in steps {
                meter += after;
                calendar.learn(Instant(meter * STEP), (meter + by) * STEP);
            }
            let at = Instant(at * STEP);
            let found = calendar.meter(calendar.utc_ns(at));
            prop_assert!(found <= at);
            prop_assert!(calendar.utc_ns(found) >= calendar.utc_ns(at));
        }
    }
}
