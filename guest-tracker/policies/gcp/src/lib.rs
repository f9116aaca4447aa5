//! Counts time as Google Compute Engine counts it for virtual machines.
//!
//! By the second, at least a minute for each start; uptime goes from the start to `TERMINATED`, so
//! shutting down is in it (<https://cloud.google.com/compute/vm-instance-pricing>). A suspended
//! machine has no uptime, but the memory it left on disk is charged
//! (<https://cloud.google.com/compute/docs/reference/rest/v1/instances/suspend>). The pricing page
//! does not say whether resuming is a start, nor whether suspending is billed. Sustained use is a
//! matter of the price book: a graduated price, whose tiers begin at each quarter of the month.

use guest_tracker::metering::{Granularity, MINUTE_NS, Meter, Options, Phases, Plan};
use guest_tracker::{MeteringError, Phase, Policy, Stretch};

/// Google Compute Engine.
#[derive(Debug)]
pub struct Gcp;

impl Policy for Gcp {
    fn plan(options: &mut Options<'_>) -> Result<Plan, MeteringError> {
        let paused = options.billed("paused", false, "whether suspending counts as uptime")?;
        let phases = Phases::of(&[Phase::Initializing, Phase::Running, Phase::Shutdown]);
        let active = Meter::new("active", phases.with(Phase::Paused, paused))
            .each(Stretch::Wake)
            .at_least(MINUTE_NS)
            .in_grains(Granularity::SECOND)
            .chosen(options)?;
        let suspended = Meter::new("suspended", Phases::of(&[Phase::Standby]));
        let allocated = Meter::new("allocated", Phases::ALL).each(Stretch::Life).noted("for disks");
        Ok(Plan::new([active, suspended.noted("price snapshot-byte-ns"), allocated]))
    }
}

guest_tracker::policy!(Gcp);
