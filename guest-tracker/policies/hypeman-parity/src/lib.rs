//! Counts time as hypeman's phase tracking counts it, for those who compare bills across a
//! migration.
//!
//! hypeman records five phases: `created`, `initializing`, `running`, `standby`, `stopped`. Time in
//! which it pauses a machine to write its memory, and time in which it waits for a guest to shut
//! down, is `running` there, as is time of which nothing is known; so it is here. What this policy
//! does not copy: truncation to milliseconds at each transition, and instants that are late by the
//! bookkeeping.
//!
//! The meters are the standard ones over these phases; see `guest_tracker::metering::standard`.

use guest_tracker::{Phase, Policy};

/// hypeman.
#[derive(Debug)]
pub struct HypemanParity;

impl Policy for HypemanParity {
    fn counts_as(phase: Phase) -> Phase {
        match phase {
            Phase::Running | Phase::Paused | Phase::Shutdown | Phase::Unknown => Phase::Running,
            Phase::Created => Phase::Created,
            Phase::Initializing => Phase::Initializing,
            Phase::Standby => Phase::Standby,
            Phase::Stopped => Phase::Stopped,
        }
    }
}

guest_tracker::policy!(HypemanParity);
