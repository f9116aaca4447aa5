//! Counts time as Microsoft Azure counts it for virtual machines.
//!
//! The power states that are billed are those of the table in `states-billing.md` of Microsoft's
//! documentation: not `Creating` (our `created`), but from `Starting` on, while running, while
//! stopping, and while stopped with the host still allocated (our `paused`: the memory is held);
//! not while deallocated (`stopped`) or hibernated (`standby`).
//!
//! Disputed is a minimum: of a notice that machines shut down within 300 s are billed from
//! 2025-06-01 on, one reading is `minimum` = `300s`
//! (<https://learn.microsoft.com/en-us/answers/questions/2259765/>). Whole minutes that were used,
//! as the older rule has it and Azure China still does, are `granularity` = `1m` and
//! `granularity-rounding` = `down`.

use guest_tracker::metering::{Granularity, Meter, Options, Phases, Plan};
use guest_tracker::{MeteringError, Phase, Policy, Stretch};

/// Microsoft Azure.
#[derive(Debug)]
pub struct Azure;

impl Policy for Azure {
    fn plan(options: &mut Options<'_>) -> Result<Plan, MeteringError> {
        let paused = options.billed("paused", true, "whether a host that is kept counts")?;
        let phases = Phases::of(&[Phase::Initializing, Phase::Running, Phase::Shutdown]);
        let active = Meter::new("active", phases.with(Phase::Paused, paused))
            .in_grains(Granularity::SECOND)
            .chosen(options)?;
        let allocated = Meter::new("allocated", Phases::ALL).each(Stretch::Life).noted("for disks");
        Ok(Plan::new([active, allocated]))
    }
}

guest_tracker::policy!(Azure);
