//! From facts to money, pure: trackers, intervals, conservation. No clock, IO or wire format.

pub mod account;
pub mod calendar;
pub mod conservation;
pub mod currency;
pub mod decimal;
pub mod fact;
pub mod interval;
pub mod per;
mod substitute;
mod timeline;
mod tracker;

pub use fact::{About, BootId, Counted, Dated, Entered, Fact, HostFact, InstanceFact, Reading, TenantFact};
pub use substitute::Substitutes;
pub use timeline::{Change, Timeline};
pub use tracker::{Totals, Tracker};
