//! Prices the usage that policies measured, and bills it; `docs/bill.md` defines every number.
//!
//! Everything here is pure and in integers: the same input gives the same output, in this process,
//! in the component that is built from this crate, and on the engine's interpreter. [`bill`] is the
//! whole of it: from the intervals of one tenant and one period, with the meters that count each,
//! the books in force and the balances of the period before, to sums, lines, adjustments and the
//! balances for the next period.
//!
//! A bill passes through these modules: the input is checked (`check`) and the [`book`]s are read;
//! the prices that read a `counter` become a `schedule` by the `clock`; the time that a meter
//! counted is cut into `stretches`; a `sweep` of each scope finds the tiers, packages and fees;
//! `charge` makes `lines` of it; `rounding` gives them their amounts in `exact` arithmetic; and
//! `adjustments` act on the rules' `timeline`s.

mod adjustments;
mod bill;
pub mod book;
mod charge;
mod check;
mod clock;
mod counter;
pub mod currency;
pub mod decimal;
mod error;
mod exact;
pub mod handed;
pub mod input;
mod instant;
pub mod limits;
mod lines;
pub mod mutants;
mod one_offs;
pub mod output;
pub mod per;
mod rounding;
#[cfg(test)]
mod scale;
mod schedule;
mod spans;
mod steps;
mod stretches;
mod sweep;
mod timeline;

pub use bill::{bill, make};
pub use error::BillError;
