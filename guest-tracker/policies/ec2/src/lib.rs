//! Charges instances as Amazon EC2 charges Linux on demand.
//!
//! By the second, at least a minute for each start. What is billed in which state is the table of instance states in the EC2 user guide
//! (`ec2-instance-lifecycle.md`): not while `pending` (our `created`), while running also if the guest still boots, not while stopping, but
//! while it prepares to hibernate (our `paused`, on the way to standby); never while stopped or hibernated. A reboot begins no further minute.
//!
//! | meter | counts |
//! |---|---|
//! | `active` | initializing, running, paused |
//! | `allocated` | everything up to the deletion, for volumes |
//!
//! | option | |
//! |---|---|
//! | `minimum` | least time of a start; `60s`. Windows used to be charged by whole hours: `granularity` = `1h` with `minimum` = `0s` |
//! | `granularity`, `granularity-rounding` | `1s`, `up` |
//! | `wake` | whether waking from hibernation is a `start` (the default: the instance goes from stopped to running) or `continues` the one before. The user guide does not say so of hibernation by name |
//! | `paused` | `billed` or `free`. EC2 knows no pause, only the way into hibernation, which it bills |

use guest_tracker::rating::standard::{MINUTE_PER_START_NS, started};
use guest_tracker::rating::{Granularity, Meter, Options, Phases, Plan, Stretch};
use guest_tracker::{Phase, Policy, RatingError, Request, Statement};

/// Amazon EC2.
#[derive(Debug)]
pub struct Ec2;

const OPTIONS: [&str; 5] = ["granularity", "granularity-rounding", "minimum", "paused", "wake"];

impl Policy for Ec2 {
    fn rate(request: Request) -> Result<Statement, RatingError> {
        let options = Options::new(&request.options, &OPTIONS)?;
        let phases = Phases::of(&[Phase::Initializing, Phase::Running]);
        let phases = phases.with(Phase::Paused, options.billed("paused", true)?);
        let active = Meter::new("active", phases)
            .each(Stretch::StartOrWake)
            .at_least(MINUTE_PER_START_NS)
            .in_grains(Granularity::SECOND);
        Plan::new([started(active, &options)?, Meter::new("allocated", Phases::ALL)]).rate(&request)
    }
}

guest_tracker::policy!(Ec2);
