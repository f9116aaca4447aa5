//! A second computation of the bill, written from `docs/bill.md` alone.
//!
//! It shares no code with the biller. It is slow and plain: exact fractions, a sweep over all
//! instants at which anything changes, and functions of time that are evaluated anew each time.
//! `docs/bill.md` decides where it and the biller disagree.

mod acts;
mod adjust;
mod book;
mod charge;
mod clock;
mod known;
mod money;
mod period;
mod scenario;
mod usage;
mod views;

pub mod examples;
pub mod generate;

pub use acts::{borders, preview, run};
pub use scenario::*;
pub use views::*;
