//! From facts to money, pure: trackers, intervals, conservation, periods. No clock, IO or wire
//! format.

pub mod account;
pub mod agreement;
pub mod calendar;
pub mod conservation;
pub mod fact;
pub mod interval;
pub mod life;
mod substitute;
mod timeline;
mod tracker;
pub mod zones;

pub use biller::{currency, decimal, per};
pub use fact::{
    About, Archived, BootId, Counted, Dated, Entered, Fact, GapReason, GapSettled, Heard, HostFact,
    InstanceFact, Pruned, Reading, Sealed, TenantFact,
};
pub use substitute::Substitutes;
pub use timeline::{Change, Timeline};
pub use tracker::{Totals, Tracker};
