//! Charges instances as Google Compute Engine charges virtual machines.
//!
//! By the second, at least a minute for each start; uptime goes from the start to `TERMINATED`, so shutting down is in it
//! (<https://cloud.google.com/compute/vm-instance-pricing>). A suspended machine has no uptime, but the memory it left on disk is charged
//! (<https://cloud.google.com/compute/docs/reference/rest/v1/instances/suspend>). Sustained use is a matter of the price book: a graduated
//! price, whose tiers begin at each quarter of the month.
//!
//! | meter | counts |
//! |---|---|
//! | `active` | initializing, running, shutdown; paused, if so chosen |
//! | `suspended` | standby: price `snapshot-byte-ns` |
//! | `allocated` | everything up to the deletion, for disks |
//!
//! | option | |
//! |---|---|
//! | `minimum` | least time of a start; `60s` |
//! | `granularity`, `granularity-rounding` | `1s`, `up` |
//! | `wake` | whether resuming is a `start` (the default) or `continues` the one before. The pricing page does not say |
//! | `paused` | whether suspending is `billed` (the default is `free`). The pricing page does not say |

use guest_tracker::rating::standard::{MINUTE_PER_START_NS, started};
use guest_tracker::rating::{Granularity, Meter, Options, Phases, Plan, Stretch};
use guest_tracker::{Phase, Policy, RatingError, Request, Statement};

/// Google Compute Engine.
#[derive(Debug)]
pub struct Gcp;

const OPTIONS: [&str; 5] = ["granularity", "granularity-rounding", "minimum", "paused", "wake"];

impl Policy for Gcp {
    fn rate(request: Request) -> Result<Statement, RatingError> {
        let options = Options::new(&request.options, &OPTIONS)?;
        let phases = Phases::of(&[Phase::Initializing, Phase::Running, Phase::Shutdown]);
        let phases = phases.with(Phase::Paused, options.billed("paused", false)?);
        let active = Meter::new("active", phases)
            .each(Stretch::StartOrWake)
            .at_least(MINUTE_PER_START_NS)
            .in_grains(Granularity::SECOND);
        let suspended = Meter::new("suspended", Phases::of(&[Phase::Standby]));
        Plan::new([started(active, &options)?, suspended, Meter::new("allocated", Phases::ALL)]).rate(&request)
    }
}

guest_tracker::policy!(Gcp);
