//! Bodies in the shapes that published client libraries of similar services read.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// The compression of a snapshot's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Compression {
    /// Set if the memory is, or is to be, compressed.
    pub enabled: bool,
    /// The algorithm, `zstd`; absent while nothing is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// Level of the algorithm; 3 if absent, which is the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<i32>,
}

/// The compression of what a standby writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotPolicy {
    /// The compression. It has to be off: what a standby writes is read again soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Ignored without a compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby_compression_delay: Option<String>,
}

/// Options of a standby.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StandbyOptions {
    /// The compression. It has to be off: what a standby writes is read again soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Ignored without a compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression_delay: Option<String>,
}

/// The progress of an instance towards a standby on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AutoStandbyStatus {
    /// Set if its hypervisor can do it.
    pub supported: bool,
    /// Set if the instance has the setting.
    pub configured: bool,
    /// Set if the setting is in force.
    pub enabled: bool,
    /// Set if it can go to standby now.
    pub eligible: bool,
    /// Connections that keep it awake. None is counted: activity is reported.
    pub active_inbound_connections: u64,
    /// The evidence of activity: `activity`, which is commands, reports and processor use.
    pub tracking_mode: String,
    /// The stage of it.
    pub status: AutoStandbyStage,
    /// The reason for the stage.
    pub reason: AutoStandbyReason,
    /// Start of the time that counts as idle so far; absent while it is not watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
    /// Idle time after which it goes to standby; absent without the setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
    /// Earliest instant of the standby; absent while it is not watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_standby_at: Option<Timestamp>,
    /// Time until then; absent while it is not watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countdown_remaining: Option<String>,
}

/// The stage of an instance on its way to standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutoStandbyStage {
    /// Its hypervisor can't do it.
    Unsupported,
    /// It has no such setting.
    Disabled,
    /// It does not run.
    Ineligible,
    /// Its idle time has not begun.
    Active,
    /// It is idle, and not for long enough.
    IdleCountdown,
    /// Its idle time is over.
    ReadyForStandby,
}

/// The reason for such a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutoStandbyReason {
    /// Its hypervisor can't do it.
    UnsupportedPlatform,
    /// It has no such setting.
    PolicyMissing,
    /// It does not run.
    InstanceNotRunning,
    /// Its idle time is not over.
    IdleTimeoutNotElapsed,
    /// Its idle time is over.
    ReadyForStandby,
}

/// The resources of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    /// Processors.
    pub cpu: Resource,
    /// Memory, in bytes.
    pub memory: Resource,
    /// The disk of the data folder, in bytes.
    pub disk: Resource,
    /// Bandwidth of the network, in bits per second. None is given out: all are 0.
    pub network: Resource,
    /// The share of each instance of the caller's tenant.
    pub allocations: Vec<Allocation>,
}

/// A resource of the host. Instances are given no more than the limit; what some have of it beyond
/// a limit that was lowered stays theirs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resource {
    /// The kind: `cpu`, `memory`, `disk` or `network`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The amount that the host has.
    pub capacity: u64,
    /// The amount that the host gives out: the capacity times the ratio.
    pub effective_limit: u64,
    /// The amount that instances of all tenants have, or are about to have.
    pub allocated: u64,
    /// The amount that is free.
    pub available: u64,
    /// The ratio of the limit and the capacity, which the operator sets.
    pub oversub_ratio: f64,
    /// The way in which the capacity is known: `detected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The share of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Allocation {
    /// The instance's id.
    pub instance_id: String,
    /// The instance's name.
    pub instance_name: String,
    /// Virtual processors; 0 while none is used.
    pub cpu: u32,
    /// Guest memory in bytes; 0 while none is used.
    pub memory_bytes: u64,
    /// Its disks in bytes.
    pub disk_bytes: u64,
    /// Bandwidth from the network, in bits per second: 0.
    pub network_download_bps: u64,
    /// Bandwidth to the network, in bits per second: 0.
    pub network_upload_bps: u64,
    /// Limit of its disks' bandwidth, in bytes per second: 0 for none.
    pub disk_io_bps: u64,
}
