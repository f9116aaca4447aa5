//! From facts to money, pure: trackers, intervals, conservation. No clock, IO or wire format.

pub mod account;
pub mod conservation;
pub mod fact;
pub mod interval;
mod tracker;

pub use fact::{BootId, Fact, FactBody, Reading};
pub use tracker::{Totals, Tracker};
