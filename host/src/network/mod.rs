//! The networks of instances: a network namespace for each, with a device that the virtual machine
//! monitor opens, an address of the operator's pool, and rules that hold packets to it.
//!
//! ```text
//!   guest ── tap0 ─┤ namespace of the launch ├─ veth0 ── tally0ad50001 ─┤ host ├── the world
//!            rules, counters, limits                       NAT, what is closed
//! ```
//!
//! A namespace has no name: it lives as long as a process of its launch, or the daemon, holds it,
//! so that none is left behind. What it counts is read and never reset.

mod counters;
mod error;
mod host;
mod namespace;
mod place;
mod pool;
mod rules;
mod tools;

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::vm::Traffic;

pub use counters::Counters;
pub use error::NetworkError;
pub use host::{HostNetworks, Settings};
pub use namespace::{enter, keep_privileges};
pub use place::{Place, Ports, Protocol, UnknownPlace};
pub use pool::{Addresses, Pool, PoolError, UnknownPool};
pub use tools::{Shortcoming, examine};

/// Name of the device in every namespace that the virtual machine monitor opens. It is the same
/// for all, so that a snapshot of one machine can be loaded for another.
pub const TAP: &str = "tap0";

/// Address of every guest's network card. A guest is alone on its link.
pub const GUEST_MAC: &str = "02:54:4c:59:00:02";

/// The network of an instance, as it is to be made for a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Most bytes a second that the guest may send; none for no limit.
    pub upload_bytes_max: Option<u64>,
    /// Most bytes a second that the guest may receive; none for no limit.
    pub download_bytes_max: Option<u64>,
    /// The only places that the guest may send to; none for all that is not closed.
    pub allowed: Option<Vec<Place>>,
}

/// The networks of a host.
pub trait Networks: Send + Sync {
    /// The pool that addresses are from.
    fn pool(&self) -> Pool;

    /// Addresses of the name servers that guests are told.
    fn name_servers(&self) -> &[Ipv4Addr];

    /// Makes the network of a launch. Takes the place of what an earlier launch of the address has
    /// left. Blocking.
    ///
    /// # Errors
    /// Any [`NetworkError`]; nothing is left then.
    fn make(&self, plan: &Plan) -> Result<Arc<dyn Link>, NetworkError>;

    /// Finds the network of a launch whose virtual machine monitor is this process. Blocking.
    ///
    /// # Errors
    /// Any [`NetworkError`], also if the process is in no namespace of its own.
    fn find(&self, plan: &Plan, pid: u32) -> Result<Arc<dyn Link>, NetworkError>;

    /// Takes every address of the pool that is not one of these off the host's network. Blocking.
    ///
    /// # Errors
    /// Any [`NetworkError`].
    fn sweep(&self, in_use: &BTreeSet<Ipv4Addr>) -> Result<Vec<Ipv4Addr>, NetworkError>;

    /// Takes the address off the host's network, after the end of a launch. Blocking.
    ///
    /// # Errors
    /// Any [`NetworkError`].
    fn remove(&self, plan: &Plan) -> Result<(), NetworkError>;
}

/// The network of one launch. It lives at least as long as this value.
pub trait Link: fmt::Debug + Send + Sync {
    /// A path by which a process that this one has started can enter the namespace.
    fn namespace(&self) -> PathBuf;

    /// The traffic since the network was made. Blocking, for some microseconds.
    ///
    /// # Errors
    /// Any [`NetworkError`].
    fn traffic(&self) -> Result<Traffic, NetworkError>;
}
