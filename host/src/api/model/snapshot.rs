//! Snapshots and forks: the bodies of requests and of answers about them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Compression, Timestamp, text};
use crate::driver;
use crate::id::{InstanceId, SnapshotName};

/// The snapshot to take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    /// 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit; unique within the
    /// instance. Generated from the time if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kind that the snapshot has to be: `Standby` with the memory, `Stopped` without. The
    /// request is refused if the instance's state gives the other kind; either is taken if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SnapshotKind>,
    /// Labels, by name; at most 64, each name and value of 1 to 256 bytes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Number of the newest snapshots asked for by clients that are kept, 1 to 256; older ones are
    /// deleted. All are kept if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// Set to compress the memory afterwards, in the background.
    #[serde(default)]
    pub compress: bool,
    /// The compression of the memory, instead of `compress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
}

/// The contents of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum SnapshotKind {
    /// The memory and the writable disks, of an instance that ran, was paused or in standby.
    Standby,
    /// The writable disks, of a stopped instance.
    Stopped,
}

impl SnapshotKind {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            SnapshotKind::Standby => "Standby",
            SnapshotKind::Stopped => "Stopped",
        }
    }
}

/// The stage of the compression of a snapshot's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompressionState {
    /// The memory is as the hypervisor saved it, and stays so.
    None,
    /// It is to be compressed.
    Compressing,
    /// It is compressed with Zstandard.
    Compressed,
}

/// A snapshot: the disks, and with kind `Standby` the memory, of an instance at an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// The snapshot's id, unique on the host for good.
    pub id: String,
    /// The snapshot's name, unique within the instance.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub name: SnapshotName,
    /// Id of the instance.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub source_instance_id: InstanceId,
    /// Name of the instance.
    pub source_instance_name: String,
    /// Name of the hypervisor that wrote it.
    pub source_hypervisor: String,
    /// The contents of the snapshot.
    pub kind: SnapshotKind,
    /// Instant at which it was taken.
    pub created_at: Timestamp,
    /// Size on disk in bytes when it was taken, which is billed. Files that it shares with other
    /// snapshots count in each.
    pub size_bytes: u64,
    /// The compression of its memory that was asked for.
    pub compression: Compression,
    /// The stage of the compression.
    pub compression_state: CompressionState,
    /// Size on disk in bytes without a compression.
    pub uncompressed_size_bytes: u64,
    /// Size on disk in bytes with the compression; absent until that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed_size_bytes: Option<u64>,
    /// Present size on disk in bytes; less than `size_bytes` if it is compressed.
    pub stored_bytes: u64,
    /// Number of virtual processors.
    pub vcpus: u32,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// Set if the snapshot schedule took it, not a client.
    pub scheduled: bool,
    /// Labels, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// The state that an instance is to be brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum TargetState {
    /// Nothing runs; the memory, if there was any, is discarded.
    Stopped,
    /// The memory is on disk.
    Standby,
    /// The vCPUs run: resumed from the memory if there is any, booted otherwise.
    Running,
}

impl From<TargetState> for driver::Target {
    fn from(target: TargetState) -> Self {
        match target {
            TargetState::Stopped => driver::Target::Stopped,
            TargetState::Standby => driver::Target::Standby,
            TargetState::Running => driver::Target::Running,
        }
    }
}

/// Options of a return to a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreSnapshot {
    /// The state to bring the instance to. If absent, `Running` if the snapshot holds memory,
    /// `Stopped` if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_state: Option<TargetState>,
    /// Name of the hypervisor that is to run it: the snapshot's, if it is not absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_hypervisor: Option<String>,
}

/// The instance to create from another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkInstance {
    /// 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit; unique among the
    /// tenant's instances that are not deleted.
    #[schema(example = "web-2")]
    pub name: String,
    /// Set to allow a running instance to be paused for a moment; without it, the fork of a running
    /// instance is refused.
    #[serde(default)]
    pub from_running: bool,
    /// The state to bring the fork to; the state of its source if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_state: Option<TargetState>,
}

/// The instance to create from a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkSnapshot {
    /// 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit; unique among the
    /// tenant's instances that are not deleted.
    #[schema(example = "web-2")]
    pub name: String,
    /// The state to bring the fork to. If absent, `Running` if the snapshot holds memory, `Stopped`
    /// if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_state: Option<TargetState>,
    /// Name of the hypervisor that is to run it: the snapshot's, if it is not absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_hypervisor: Option<String>,
}

/// The schedule on which snapshots are taken automatically.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSnapshotSchedule {
    /// Time between two snapshots, such as `1h`, from 1 minute to 366 days.
    #[schema(example = "1h")]
    pub interval: String,
    /// Longest random delay of each snapshot, such as `5m`, up to the interval; no delay if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// The number and the age up to which snapshots of this schedule are kept. Other snapshots are
    /// never removed by a schedule.
    pub retention: Retention,
    /// Prefix of their names, at most 47 characters; `scheduled` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_prefix: Option<String>,
    /// Set to compress the memory of each afterwards, in the background.
    #[serde(default)]
    pub compress: bool,
    /// Labels of each snapshot, by name; at most 64, each name and value of 1 to 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// The snapshots of a schedule that are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Number of the newest ones that are kept, 1 to 256; older ones are deleted. 256 if absent
    /// or 0.
    #[serde(default)]
    pub max_count: u32,
    /// Age from which they are deleted, at the schedule's next run, such as `168h`; at least the
    /// interval. Absent or zero, they are deleted by number alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
}

/// A snapshot schedule and its next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotSchedule {
    /// Id of the instance.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub instance_id: InstanceId,
    /// Time between two snapshots.
    pub interval: String,
    /// Longest random delay of each snapshot.
    pub jitter: String,
    /// The snapshots of the schedule that are kept.
    pub retention: Retention,
    /// Prefix of their names.
    pub name_prefix: String,
    /// Set if the memory of each is compressed afterwards.
    pub compress: bool,
    /// Labels of each snapshot, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Instant at which the instance got a schedule.
    pub created_at: Timestamp,
    /// Instant at which this schedule was set.
    pub updated_at: Timestamp,
    /// Instant of its last snapshot that is kept; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_at: Option<Timestamp>,
    /// Id of its last snapshot that is kept; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_snapshot_id: Option<String>,
    /// Instant at which the next one is due; absent if none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<Timestamp>,
}
