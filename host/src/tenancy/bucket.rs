//! Rate limits, as leaky buckets.

use std::sync::{Mutex, PoisonError};

/// A leaky bucket: units that are put in drain at the rate of the limit, and a full bucket takes no
/// more.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Instant at which the bucket is empty, in nanoseconds of `CLOCK_BOOTTIME`.
    empty_at_ns: Mutex<u128>,
}

/// A rate with its burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Units in a window; 0 lets nothing pass.
    pub(super) units: u64,
    /// Length of a window in nanoseconds.
    pub(super) window_ns: u64,
    /// Number of windows whose units may come at once, 1 or more.
    pub(super) burst: u64,
}

impl Rate {
    /// Nanoseconds in which `units` drain; rounded up, so that rounding never lets more through.
    fn drain_ns(&self, units: u64) -> u128 {
        let window_ns = u128::from(self.window_ns);
        (u128::from(units) * window_ns).checked_div(u128::from(self.units)).map_or(
            u128::MAX,
            |whole| {
                let exact = whole * u128::from(self.units) == u128::from(units) * window_ns;
                if exact { whole } else { whole + 1 }
            },
        )
    }

    fn burst_ns(&self) -> u128 {
        u128::from(self.burst) * u128::from(self.window_ns)
    }
}

impl Bucket {
    /// Puts one unit in, at `now_ns` nanoseconds of `CLOCK_BOOTTIME`.
    ///
    /// # Errors
    /// Nanoseconds until there is room; nothing was put in.
    pub(super) fn take(&self, now_ns: u64, rate: Rate) -> Result<(), u64> {
        let mut empty_at = self.empty_at_ns.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = (*empty_at).max(now_ns.into()).saturating_add(rate.drain_ns(1));
        let most = u128::from(now_ns) + rate.burst_ns();
        if full_at > most {
            return Err(wait(full_at - most, rate));
        }
        *empty_at = full_at;
        Ok(())
    }

    /// Puts in units that were spent already, even if the bucket overflows.
    pub(super) fn spend(&self, now_ns: u64, rate: Rate, units: u64) {
        let mut empty_at = self.empty_at_ns.lock().unwrap_or_else(PoisonError::into_inner);
        // A limit of 0 never drains; `check` refuses it.
        let drain_ns = if rate.units == 0 { 0 } else { rate.drain_ns(units) };
        *empty_at = (*empty_at).max(now_ns.into()).saturating_add(drain_ns);
    }

    /// Checks that units may be spent.
    ///
    /// # Errors
    /// Nanoseconds until they may.
    pub(super) fn check(&self, now_ns: u64, rate: Rate) -> Result<(), u64> {
        let empty_at = *self.empty_at_ns.lock().unwrap_or_else(PoisonError::into_inner);
        let most = u128::from(now_ns) + rate.burst_ns();
        if rate.units == 0 || empty_at > most {
            return Err(wait(empty_at.saturating_sub(most), rate));
        }
        Ok(())
    }
}

/// `ns`, at least 1; a minute for a limit of 0, which may be raised by then.
fn wait(ns: u128, rate: Rate) -> u64 {
    const MINUTE_NS: u64 = 60_000_000_000;
    if rate.units == 0 { MINUTE_NS } else { u64::try_from(ns).unwrap_or(u64::MAX).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(units: u64) -> Rate {
        Rate { units, window_ns: SECOND, burst: 2 }
    }

    #[test]
    fn twice_the_rate_may_come_at_once_and_then_one_by_one() {
        let bucket = Bucket::default();
        for _ in 0..20 {
            assert_eq!(bucket.take(5, rate(10)), Ok(()));
        }
        assert_eq!(bucket.take(5, rate(10)), Err(SECOND / 10));
        assert_eq!(bucket.take(5 + SECOND / 10, rate(10)), Ok(()));
        assert!(bucket.take(5 + SECOND / 10, rate(10)).is_err());
    }

    #[test]
    fn a_limit_of_none_lets_nothing_through() {
        let bucket = Bucket::default();
        assert_eq!(bucket.take(0, rate(0)), Err(60 * SECOND));
        bucket.spend(0, rate(0), 7);
        assert_eq!(bucket.check(0, rate(0)), Err(60 * SECOND));
    }

    #[test]
    fn what_was_overspent_is_waited_for() {
        let bucket = Bucket::default();
        assert_eq!(bucket.check(0, rate(10)), Ok(()));
        bucket.spend(0, rate(10), 35);
        assert_eq!(bucket.check(0, rate(10)), Err(SECOND * 3 / 2));
        assert_eq!(bucket.check(SECOND * 3 / 2, rate(10)), Ok(()));
    }

    proptest! {
        #[test]
        fn no_window_ever_sees_more_than_rate_and_burst(
            units in 1_u64..50, gaps in prop::collection::vec(0..SECOND / 4, 1..400),
        ) {
            let bucket = Bucket::default();
            let mut now = 7;
            let mut let_in = Vec::new();
            for gap in gaps {
                now += gap;
                if bucket.take(now, rate(units)).is_ok() {
                    let_in.push(now);
                }
            }
            for (first, &start) in let_in.iter().enumerate() {
                let seen = let_in[first..].iter().filter(|&&at| at < start + SECOND).count() as u64;
                prop_assert!(seen <= 3 * units, "{seen} in a second at {units}");
            }
        }

        #[test]
        fn whoever_waits_as_long_as_told_is_let_in(
            units in 1_u64..3_000_000_000,
            tries in 1..200_u32,
        ) {
            let bucket = Bucket::default();
            for _ in 0..tries {
                let _ = bucket.take(0, rate(units));
            }
            bucket.spend(0, rate(units), 5 * units);
            let wait = bucket.take(0, rate(units)).expect_err("it is full");
            prop_assert_eq!(bucket.take(wait, rate(units)), Ok(()));
        }
    }
}
