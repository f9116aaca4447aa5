//! The accounting state of one instance, as the host keeps it.

use crate::units::{Instant, Nanos};
use crate::vm::Phase;

/// Completed time in each phase, in nanoseconds, by ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals(pub [u64; Phase::ALL.len()]);

impl Totals {
    /// Nanoseconds in `phase`.
    pub fn get(&self, phase: Phase) -> Nanos {
        Nanos(self.0[phase as usize])
    }

    /// The sum over all phases. It fits: eight times 2^64 is below 2^128.
    pub fn sum(&self) -> u128 {
        self.0.iter().map(|&nanos| u128::from(nanos)).sum()
    }
}

/// The state that a policy continues from. The value belongs to the host and outlives every policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tracker {
    /// The phase under which time counts now; `None` before the first fact and after the last.
    pub current: Option<Phase>,
    /// Instant at which `current` began; without meaning while that is `None`.
    pub since: Instant,
    /// Time of completed visits.
    pub totals: Totals,
}
