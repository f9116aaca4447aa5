//! A policy of four phases: boot time is running time, and a paused instance counts as one in
//! standby.

use guest_tracker::{Phase, Policy};

/// Counts `initializing` as `running` and `paused` as `standby`.
#[derive(Debug)]
pub struct Coarse;

impl Policy for Coarse {
    fn counts_as(phase: Phase) -> Phase {
        match phase {
            Phase::Initializing | Phase::Running => Phase::Running,
            Phase::Paused | Phase::Standby => Phase::Standby,
            Phase::Created => Phase::Created,
            Phase::Shutdown => Phase::Shutdown,
            Phase::Stopped => Phase::Stopped,
            Phase::Unknown => Phase::Unknown,
        }
    }
}

guest_tracker::policy!(Coarse);
