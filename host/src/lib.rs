//! Tallyman runs virtual machines on one host and accounts every nanosecond of their lifetime
//! exactly once.
//!
//! `ARCHITECTURE.md` has the bird's eye view. Dependencies point one way: `units, id, limits <- vm,
//! tenant, billing <- driver, policy, journal, hypervisor <- objects, retention, tenancy, fleet <-
//! invoice <- rollout <- api <- runtime <- cli`.

pub mod api;
pub mod billing;
mod blocking;
mod causes;
pub mod cli;
pub mod clock;
pub mod delivery;
pub mod disk;
pub mod driver;
pub mod fleet;
pub mod guest;
pub mod heads;
pub mod histogram;
pub mod hypervisor;
pub mod id;
pub mod image;
pub mod invoice;
pub mod journal;
pub mod limits;
mod merkle;
pub mod mutants;
pub mod network;
pub mod objects;
pub mod parsers;
pub mod policy;
pub mod probe;
pub mod pull;
pub mod retention;
pub mod rollout;
pub mod runtime;
pub mod tenancy;
pub mod tenant;
pub mod tls;
pub mod units;
pub mod vm;
