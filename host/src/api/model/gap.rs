//! Times between two boots of the host of which only the minimum is known.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// A time between two boots of the host of which only the minimum is known: the meter goes on
/// without the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimeGap {
    /// Sequence number of the journal's fact that records it.
    pub fact: u64,
    /// The last instant that is known of the boot before.
    pub from: Timestamp,
    /// Instant at which the daemon was first started after it.
    pub until: Timestamp,
    /// Reason not to trust the wall clock: `not-synchronised`, `never-synchronised` or `went-back`.
    pub reason: String,
    /// Time that has passed by the wall clock, in nanoseconds; negative where it was set back.
    pub claimed_ns: i64,
    /// Time that the meter has counted instead, in nanoseconds: since the host was booted.
    pub counted_ns: u64,
    /// The operator's word on it; null while it is open.
    pub settled: Option<GapSettlement>,
}

/// An operator's word on a time that the meter has left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleGap {
    /// The time that the meter has left out, beyond what it has counted, such as `6h`; `0s` where
    /// nobody is to be charged. At most ten years.
    pub missing: String,
    /// The reason, in words for those who pay. 1 to 900 bytes.
    pub reason: String,
    /// True to be told the charges, and record nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The settlement of a gap: each tenant is charged once for what its instances held in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GapSettlement {
    /// Sequence number of the journal's fact; null for a dry run.
    pub fact: Option<u64>,
    /// Time that the meter has left out, in nanoseconds.
    pub missing_ns: u64,
    /// The reason.
    pub reason: String,
    /// The actor who settled it.
    pub by: String,
    /// The charges, by tenant. Documents change with the next close or settlement.
    pub charges: Vec<GapCharge>,
}

/// The charge of a tenant for a time that the meter has left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GapCharge {
    /// The tenant's id.
    pub tenant: String,
    /// Its id on documents; null for a dry run.
    pub id: Option<String>,
    /// The amount.
    pub amount: String,
    /// ISO 4217 code.
    pub currency: String,
}
