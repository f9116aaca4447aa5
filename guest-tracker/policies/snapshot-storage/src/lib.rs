//! Counts the time of machines in standby beside that of running ones.
//!
//! A machine in standby holds no processor and no memory, only a file as large as what was written
//! of its memory: meter `standby`, priced by the bytes of the snapshot for as long as they lie on
//! the disk. Beside it are meters for running machines, so that one book prices both.

use guest_tracker::metering::{Granularity, Meter, Options, Phases, Plan};
use guest_tracker::{MeteringError, Phase, Policy, Stretch};

/// Bytes on disk in standby.
#[derive(Debug)]
pub struct SnapshotStorage;

impl Policy for SnapshotStorage {
    fn plan(options: &mut Options<'_>) -> Result<Plan, MeteringError> {
        let minimum_ns =
            options.duration_ns("standby-minimum", 0, "least time that a snapshot owes")?;
        let grain_ns = options.grain_ns("standby-granularity", 1, "grain of a visit to standby")?;
        let standby = Meter::new("standby", Phases::of(&[Phase::Standby]))
            .each(Stretch::Visit)
            .at_least(minimum_ns)
            .in_grains(Granularity::of(grain_ns))
            .noted("price snapshot-byte-ns");
        let running = [Phase::Initializing, Phase::Running];
        let resident = [Phase::Initializing, Phase::Running, Phase::Paused, Phase::Shutdown];
        Ok(Plan::new([
            standby,
            Meter::new("active", Phases::of(&running)).chosen(options)?,
            Meter::new("resident", Phases::of(&resident)).noted("memory that is in use"),
            Meter::new("allocated", Phases::ALL).each(Stretch::Life),
        ]))
    }
}

guest_tracker::policy!(SnapshotStorage);
