//! The calendar that all readers of the fleet share.

use arc_swap::ArcSwap;

use crate::billing::calendar;
use crate::units::Instant;

/// A [`calendar::Calendar`] that can be extended while others read it.
#[derive(Default)]
pub(super) struct Calendar(ArcSwap<calendar::Calendar>);

impl Calendar {
    /// See [`calendar::Calendar::learn`].
    pub(super) fn learn(&self, at: Instant, wall_ns: i64) {
        self.0.rcu(|known| {
            let mut known = calendar::Calendar::clone(known);
            known.learn(at, wall_ns);
            known
        });
    }

    /// See [`calendar::Calendar::meter`].
    pub(super) fn meter(&self, utc_ns: i64) -> Instant {
        self.0.load().meter(utc_ns)
    }

    /// See [`calendar::Calendar::meter_to_come`].
    pub(super) fn meter_to_come(&self, utc_ns: i64, now: Instant) -> Instant {
        self.0.load().meter_to_come(utc_ns, now)
    }

    /// See [`calendar::Calendar::utc_ns`].
    pub(super) fn utc_ns(&self, at: Instant) -> i64 {
        self.0.load().utc_ns(at)
    }
}
