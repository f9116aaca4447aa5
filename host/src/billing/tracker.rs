//! The accounting state of one instance, as the host keeps it.

use crate::units::{Instant, Nanos};
use crate::vm::Phase;

/// Completed time in each phase, by ordinal.
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

/// What a policy continues from. The value belongs to the host: it outlives every policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tracker {
    /// The phase under which time counts now; `None` before the first fact and after the last.
    pub current: Option<Phase>,
    /// Since when; without meaning while `current` is `None`.
    pub since: Instant,
    /// Completed visits.
    pub totals: Totals,
}
