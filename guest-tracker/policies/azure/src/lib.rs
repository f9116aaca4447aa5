//! Charges instances as Microsoft Azure charges virtual machines.
//!
//! What is billed in which power state is the table in `states-billing.md` of Microsoft's documentation: not while `Creating` (our
//! `created`), but from `Starting` on, while running, while stopping, and while stopped with the host still allocated (our `paused`: the
//! memory is held); not while deallocated (`stopped`) or hibernated (`standby`).
//!
//! | meter | counts |
//! |---|---|
//! | `active` | initializing, running, paused, shutdown |
//! | `allocated` | everything up to the deletion, for disks |
//!
//! | option | |
//! |---|---|
//! | `minimum` | least time of a start; `0s`. Disputed: of a notice that machines shut down within 300 s are billed from 2025-06-01 on, one reading is a minimum of `300s` (<https://learn.microsoft.com/en-us/answers/questions/2259765/>) |
//! | `granularity`, `granularity-rounding` | `1s`, `up`. Whole minutes that were used, as the older rule has it and Azure China still does, are `1m` and `down` |
//! | `wake` | whether waking from hibernation is a `start` or `continues` the one before (the default). Without a minimum it makes no difference but the grain |
//! | `paused` | `billed` (the default) or `free` |

use guest_tracker::rating::standard::started;
use guest_tracker::rating::{Granularity, Meter, Options, Phases, Plan};
use guest_tracker::{Phase, Policy, RatingError, Request, Statement};

/// Microsoft Azure.
#[derive(Debug)]
pub struct Azure;

const OPTIONS: [&str; 5] = ["granularity", "granularity-rounding", "minimum", "paused", "wake"];

impl Policy for Azure {
    fn rate(request: Request) -> Result<Statement, RatingError> {
        let options = Options::new(&request.options, &OPTIONS)?;
        let phases = Phases::of(&[Phase::Initializing, Phase::Running, Phase::Shutdown]);
        let phases = phases.with(Phase::Paused, options.billed("paused", true)?);
        let active = Meter::new("active", phases).in_grains(Granularity::SECOND);
        Plan::new([started(active, &options)?, Meter::new("allocated", Phases::ALL)]).rate(&request)
    }
}

guest_tracker::policy!(Azure);
