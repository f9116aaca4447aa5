//! The types of the API's JSON, one file for each resource. The command line parses answers with
//! the same types that the daemon serializes.

mod automation;
mod client;
mod declared;
mod fleet;
mod gap;
mod guest;
mod host;
mod image;
mod instance;
mod interval;
mod invoice;
mod journal;
mod policy;
mod proof;
mod proposal;
mod session;
mod snapshot;
mod tenant;
mod text;
mod time;
mod token;
mod trial;
mod usage;

pub use automation::*;
pub use client::*;
pub use declared::*;
pub use fleet::*;
pub use gap::*;
pub use guest::*;
pub use host::*;
pub use image::*;
pub use instance::*;
pub use interval::*;
pub use invoice::*;
pub use journal::*;
pub use policy::*;
pub use proof::*;
pub use proposal::*;
pub use session::*;
pub use snapshot::*;
pub use tenant::*;
pub use time::*;
pub use token::*;
pub use trial::*;
pub use usage::*;
