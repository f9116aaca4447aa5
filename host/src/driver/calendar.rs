//! The calendar as the fleet's readers share it.

use std::sync::{PoisonError, RwLock};

use crate::billing::calendar;
use crate::units::Instant;

/// A [`calendar::Calendar`] that is learned while it is read.
#[derive(Default)]
pub(super) struct Calendar(RwLock<calendar::Calendar>);

impl Calendar {
    /// See [`calendar::Calendar::learn`].
    pub(super) fn learn(&self, at: Instant, wall_ns: i64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).learn(at, wall_ns);
    }

    /// See [`calendar::Calendar::meter`].
    pub(super) fn meter(&self, utc_ns: i64) -> Instant {
        self.0.read().unwrap_or_else(PoisonError::into_inner).meter(utc_ns)
    }

    /// See [`calendar::Calendar::utc_ns`].
    pub(super) fn utc_ns(&self, at: Instant) -> i64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).utc_ns(at)
    }
}
