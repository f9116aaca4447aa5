//! Counts time as Fly.io counts it for Machines.
//!
//! A started machine by the second; a stopped or suspended one only for its root file system, by
//! the second; volumes and snapshots by the hour (`about/billing`, `about/pricing` and
//! `reference/suspend-resume` in Fly's documentation). No minimum is stated, and the pricing page
//! does not say whether starting is billed.

use guest_tracker::metering::{Granularity, Meter, Options, Phases, Plan};
use guest_tracker::{MeteringError, Phase, Policy, Stretch};

/// Fly.io.
#[derive(Debug)]
pub struct Fly;

impl Policy for Fly {
    fn plan(options: &mut Options<'_>) -> Result<Plan, MeteringError> {
        let starting = options.billed("initializing", false, "whether starting counts")?;
        let active =
            Meter::new("active", Phases::of(&[Phase::Running]).with(Phase::Initializing, starting))
                .in_grains(Granularity::SECOND)
                .chosen(options)?;
        let stopped = Meter::new("stopped", Phases::of(&[Phase::Standby, Phase::Stopped]));
        let volume =
            Meter::new("volume", Phases::ALL).each(Stretch::Life).in_grains(Granularity::HOUR);
        let snapshot = Meter::new("snapshot", Phases::of(&[Phase::Standby]));
        Ok(Plan::new([
            active,
            stopped.noted("price disk-byte-ns for the root file system"),
            volume.noted("by the hour, price disk-byte-ns"),
            snapshot
                .each(Stretch::Visit)
                .in_grains(Granularity::HOUR)
                .noted("by the hour, price snapshot-byte-ns"),
        ]))
    }
}

guest_tracker::policy!(Fly);
