//! From intervals to meters: the pieces that policies are made of.
//!
//! Most policies are a [`Plan`]: meters, each with its phases, its minimum and its grain. A tariff
//! is some lines:
//!
//! ```
//! use guest_tracker::metering::{Granularity, MINUTE_NS, Meter, Options, Phases, Plan};
//! use guest_tracker::{MeteringError, Phase, Policy, Stretch};
//!
//! /// By the second, at least a minute for each start, and a pause only if so chosen.
//! struct Mine;
//!
//! impl Policy for Mine {
//!     fn plan(options: &mut Options<'_>) -> Result<Plan, MeteringError> {
//!         let paused = options.billed("paused", false, "whether a pause is charged")?;
//!         let phases = Phases::of(&[Phase::Initializing, Phase::Running]);
//!         let phases = phases.with(Phase::Paused, paused);
//!         let active = Meter::new("active", phases)
//!             .each(Stretch::Wake)
//!             .at_least(MINUTE_NS)
//!             .in_grains(Granularity::SECOND)
//!             .chosen(options)?;
//!         Ok(Plan::new([active, Meter::new("allocated", Phases::ALL)]))
//!     }
//! }
//!
//! guest_tracker::policy!(Mine);
//! ```
//!
//! The component's declaration is made by the same lines: the meters are those of the plan without
//! any option, and the options are those that it asked for. So the two can't disagree.

mod meter;
mod options;
mod plan;
pub mod standard;
#[cfg(test)]
mod tests;
mod text;

pub use meter::{Granularity, HOUR_NS, MINUTE_NS, Meter, Phases, SECOND_NS, phase, phase_name};
pub use options::Options;
pub use plan::Plan;
