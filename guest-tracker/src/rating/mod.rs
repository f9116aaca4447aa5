//! From intervals to charge lines: the pieces that rating policies are made of.
//!
//! Most policies are a [`Plan`]: meters, each with its phases, grain and minimum, over which the rules of the tenant's price book are
//! rated. A policy that needs more uses the pieces by themselves; each is pure, in integers, and checked for overflow:
//!
//! - [`Meter`], [`Phases`], [`Granularity`], [`Stretch`]: which time counts, in which grain, and at least how much at each start;
//! - [`Schedule`], [`LocalTime`]: which price holds when, across changes of price and hours of the local week;
//! - [`bands`]: flat, graduated, volume and package prices, fees and included quantities;
//! - [`amount`], [`Rounding`]: one rounding, and what it left;
//! - [`shares`]: one amount for several, by largest remainder;
//! - [`Change`], [`portion`]: minimum commitments, caps and credits;
//! - [`Options`]: what a tenant may choose.

mod adjustments;
mod amounts;
mod bill;
mod carried;
mod line;
mod local;
mod meter;
mod options;
mod plan;
#[cfg(test)]
mod plan_tests;
pub(crate) mod quantities;
mod rounding;
mod rule;
#[cfg(test)]
pub(crate) mod sample;
mod schedule;
mod sharing;
pub mod standard;
mod stretch;
mod text;
mod tiers;

pub use adjustments::{Change, portion};
pub use amounts::{Amount, amount, coin};
pub use local::LocalTime;
pub use meter::{Granularity, HOUR_NS, MINUTE_NS, Meter, Phases, SECOND_NS, Stretch, phase, phase_name};
pub use options::Options;
pub use plan::Plan;
pub use rounding::Rounding;
pub use schedule::{Schedule, Segment};
pub use sharing::shares;
pub use text::{decimal, fraction, signed_decimal};
pub use tiers::{Band, Kind, Model, bands};
