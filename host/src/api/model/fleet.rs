//! The hosts of a fleet, as their collector knows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// The hosts of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetHosts {
    /// The hosts, by name: those that have a token, and those of which there are facts.
    pub hosts: Vec<FleetHost>,
}

/// A host of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetHost {
    /// Name of the host, which is that of its token.
    pub name: String,
    /// Number of facts that were taken.
    pub facts: u64,
    /// Link of the last one in the host's chain: 64 hexadecimal digits.
    pub hash: String,
    /// Number of facts that the host has and the collector has not, by its last message; null if
    /// there was none since the collector's start.
    pub behind: Option<u64>,
    /// Instant of its last message, by the collector's wall clock; null as for `behind`.
    pub heard_at: Option<Timestamp>,
    /// Instant up to which all its facts were taken, by its own calendar; null before the first.
    pub complete_until: Option<Timestamp>,
    /// The host's wall clock less the collector's, in nanoseconds, by its last message; null as for
    /// `behind`.
    pub clock_ahead_ns: Option<i64>,
    /// The reason why its facts are refused; null while they are not.
    pub trouble: Option<String>,
    /// True if a close does not wait for it: each of its tokens was revoked.
    pub retired: bool,
}
