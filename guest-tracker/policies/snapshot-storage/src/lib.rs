//! Charges what sleeps by what it keeps: the bytes of its snapshot, for as long as they lie on the disk.
//!
//! A machine in standby holds no processor and no memory, only a file as large as what was written of its memory. Beside that meter there are
//! those for what runs, so that one book prices both halves of a machine's life.
//!
//! | meter | counts |
//! |---|---|
//! | `standby` | standby, each visit by itself: price `snapshot-byte-ns` |
//! | `active` | initializing, running |
//! | `resident` | initializing, running, paused, shutdown: memory that is in use |
//! | `allocated` | everything up to the deletion |
//!
//! | option | |
//! |---|---|
//! | `standby-minimum` | least time that a snapshot is charged for; `0s` |
//! | `standby-granularity` | grain of a visit, rounded up; `1ns` |
//! | `minimum`, `granularity`, `granularity-rounding`, `wake` | of `active`: `0s`, `1ns`, `down`, `continues` |

use guest_tracker::rating::standard::started;
use guest_tracker::rating::{Granularity, Meter, Options, Phases, Plan, Rounding, Stretch};
use guest_tracker::{Phase, Policy, RatingError, Request, Statement};

/// Bytes on disk in standby.
#[derive(Debug)]
pub struct SnapshotStorage;

const OPTIONS: [&str; 6] =
    ["granularity", "granularity-rounding", "minimum", "standby-granularity", "standby-minimum", "wake"];

impl Policy for SnapshotStorage {
    fn rate(request: Request) -> Result<Statement, RatingError> {
        let options = Options::new(&request.options, &OPTIONS)?;
        let unit_ns = options.duration_ns("standby-granularity", 1)?.max(1);
        let standby = Meter::new("standby", Phases::of(&[Phase::Standby]))
            .each(Stretch::Visit)
            .at_least(options.duration_ns("standby-minimum", 0)?)
            .in_grains(Granularity { unit_ns, rounding: Rounding::Up });
        let active = Meter::new("active", Phases::of(&[Phase::Initializing, Phase::Running]));
        let resident = Phases::of(&[Phase::Initializing, Phase::Running, Phase::Paused, Phase::Shutdown]);
        Plan::new([
            standby,
            started(active, &options)?,
            Meter::new("resident", resident),
            Meter::new("allocated", Phases::ALL),
        ])
        .rate(&request)
    }
}

guest_tracker::policy!(SnapshotStorage);
