//! Charges instances as Fly.io charges Machines.
//!
//! A started machine by the second; a stopped or suspended one only for its root file system, by the second; volumes and snapshots by the
//! hour (`about/billing`, `about/pricing` and `reference/suspend-resume` in Fly's documentation). No minimum is stated.
//!
//! | meter | counts |
//! |---|---|
//! | `active` | running; initializing, if so chosen |
//! | `stopped` | standby, stopped: price `disk-byte-ns` for the root file system |
//! | `volume` | everything up to the deletion, by the hour: price `disk-byte-ns` |
//! | `snapshot` | standby, by the hour: price `snapshot-byte-ns` |
//!
//! | option | |
//! |---|---|
//! | `minimum` | least time of a start; `0s` |
//! | `granularity`, `granularity-rounding` | of `active`: `1s`, `up` |
//! | `wake` | whether resuming is a `start` or `continues` the one before (the default) |
//! | `initializing` | whether starting is `billed` or `free` (the default). The pricing page does not say |

use guest_tracker::rating::standard::started;
use guest_tracker::rating::{Granularity, Meter, Options, Phases, Plan, Stretch};
use guest_tracker::{Phase, Policy, RatingError, Request, Statement};

/// Fly.io.
#[derive(Debug)]
pub struct Fly;

const OPTIONS: [&str; 5] = ["granularity", "granularity-rounding", "initializing", "minimum", "wake"];

impl Policy for Fly {
    fn rate(request: Request) -> Result<Statement, RatingError> {
        let options = Options::new(&request.options, &OPTIONS)?;
        let phases = Phases::of(&[Phase::Running]);
        let phases = phases.with(Phase::Initializing, options.billed("initializing", false)?);
        let active = Meter::new("active", phases).in_grains(Granularity::SECOND);
        let snapshot = Meter::new("snapshot", Phases::of(&[Phase::Standby]));
        Plan::new([
            started(active, &options)?,
            Meter::new("stopped", Phases::of(&[Phase::Standby, Phase::Stopped])),
            Meter::new("volume", Phases::ALL).each(Stretch::Life).in_grains(Granularity::HOUR),
            snapshot.each(Stretch::Visit).in_grains(Granularity::HOUR),
        ])
        .rate(&request)
    }
}

guest_tracker::policy!(Fly);
