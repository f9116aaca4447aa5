//! Snapshots and forks on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Timestamp, text};
use crate::driver;
use crate::id::{InstanceId, SnapshotName};

/// A snapshot to be taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshot {
    /// 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit; unique within the
    /// instance. Made of the time if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the instance has to be for it: `Standby` if its memory is to be part of it, `Stopped`
    /// if not; whatever it is, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SnapshotKind>,
    /// Free labels; at most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Of the snapshots that clients have asked for, only so many newest stay; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// The memory is compressed afterwards, in the background.
    #[serde(default)]
    pub compress: bool,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum SnapshotKind {
    /// The memory and the writable disks.
    Standby,
    /// The writable disks.
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

/// How the memory of a snapshot lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As the hypervisor saved it.
    None,
    /// Compressed with Zstandard.
    Zstd,
}

/// What an instance was at an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Unique within the instance.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub name: SnapshotName,
    /// The instance.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub source_instance_id: InstanceId,
    /// What a person calls it.
    pub source_instance_name: String,
    /// What wrote it.
    pub source_hypervisor: String,
    /// What it holds.
    pub kind: SnapshotKind,
    /// When the instance was so.
    pub created_at: Timestamp,
    /// Bytes on disk as it was taken: they are billed. Files that it shares with other snapshots
    /// count in each.
    pub size_bytes: u64,
    /// How its memory lies on disk now.
    pub compression: Compression,
    /// Bytes on disk now: fewer if it is compressed.
    pub stored_bytes: u64,
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// The schedule took it, not a client.
    pub scheduled: bool,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// Where an instance is to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum TargetState {
    /// Nothing runs; the memory, if there was any, is dropped.
    Stopped,
    /// The memory is on disk.
    Standby,
    /// It runs: from the memory if there is any, else it boots.
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

/// How to go back to a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreSnapshot {
    /// Where the instance is to stand; `Running` if the snapshot holds memory, `Stopped` if not,
    /// where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_state: Option<TargetState>,
}

/// A new instance that is to be made of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkInstance {
    /// 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit; unique among the
    /// tenant's instances that are not deleted.
    #[schema(example = "web-2")]
    pub name: String,
    /// An instance that runs may be held for a moment; it is refused otherwise.
    #[serde(default)]
    pub from_running: bool,
    /// Where the fork is to stand; where its source stands, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_state: Option<TargetState>,
}

/// A new instance that is to be made of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkSnapshot {
    /// As in a fork of an instance.
    #[schema(example = "web-2")]
    pub name: String,
    /// Where the fork is to stand; `Running` if the snapshot holds memory, `Stopped` if not, where
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_state: Option<TargetState>,
}

/// When snapshots are taken by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSnapshotSchedule {
    /// Between two of them, such as `1h`; 1 minute or more.
    #[schema(example = "1h")]
    pub interval: String,
    /// Each comes up to so much later, at random; not at all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// Which stay.
    pub retention: Retention,
    /// What their names begin with, at most 44 characters; `scheduled` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_prefix: Option<String>,
    /// The memory of each is compressed afterwards, in the background.
    #[serde(default)]
    pub compress: bool,
}

/// Which snapshots of a schedule stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// So many newest.
    pub max_count: u32,
}

/// A snapshot schedule, and what comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotSchedule {
    /// The instance.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub instance_id: InstanceId,
    /// Between two snapshots.
    pub interval: String,
    /// Each comes up to so much later, at random.
    pub jitter: String,
    /// Which stay.
    pub retention: Retention,
    /// What their names begin with.
    pub name_prefix: String,
    /// The memory of each is compressed afterwards.
    pub compress: bool,
    /// When the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run_at: Option<Timestamp>,
}
