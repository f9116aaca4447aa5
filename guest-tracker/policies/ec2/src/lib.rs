//! Counts time as Amazon EC2 counts it for Linux on demand.
//!
//! By the second, at least a minute for each start. The states that are billed are those of the
//! table of instance states in the EC2 user guide (`ec2-instance-lifecycle.md`): not `pending` (our
//! `created`), but running, also if the guest still boots; not stopping, but preparing to hibernate
//! (our `paused`, on the way to standby); never stopped or hibernated. A reboot begins no further
//! minute. Windows used to be charged by whole hours: `granularity` = `1h` with `minimum` = `0s`.
//! Resuming from hibernation counts as a start, which is our reading: the instance goes from
//! stopped to running, and the user guide does not say so of hibernation by name.

use guest_tracker::metering::{Granularity, MINUTE_NS, Meter, Options, Phases, Plan};
use guest_tracker::{MeteringError, Phase, Policy, Stretch};

/// Amazon EC2.
#[derive(Debug)]
pub struct Ec2;

impl Policy for Ec2 {
    fn plan(options: &mut Options<'_>) -> Result<Plan, MeteringError> {
        let does =
            "whether a pause counts; EC2 knows none, only the way into hibernation, which it bills";
        let paused = options.billed("paused", true, does)?;
        let phases = Phases::of(&[Phase::Initializing, Phase::Running]).with(Phase::Paused, paused);
        let active = Meter::new("active", phases)
            .each(Stretch::Wake)
            .at_least(MINUTE_NS)
            .in_grains(Granularity::SECOND)
            .chosen(options)?;
        let allocated =
            Meter::new("allocated", Phases::ALL).each(Stretch::Life).noted("for volumes");
        Ok(Plan::new([active, allocated]))
    }
}

guest_tracker::policy!(Ec2);
