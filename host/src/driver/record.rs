//! The record of one instance: what it is, as opposed to where it stands.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::FleetError;
use super::settings::{AutoStandby, Expiry, HealthCheck, RestartPolicyFields, Schedule, Share};
use crate::id::{ImageName, InstanceId, InstanceName, SnapshotName, TenantId};
use crate::vm::RestartPolicy;

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Unique within the tenant.
    pub name: InstanceName,
    /// What to boot.
    pub image: ImageName,
    /// Virtual processors, 1 or more.
    pub vcpus: u32,
    /// Guest memory in bytes; none takes what the image recommends.
    pub memory_bytes: Option<u64>,
    /// Up to which the memory may be resized while the guest runs, in bytes; none for memory that
    /// stays as it is.
    pub memory_bytes_max: Option<u64>,
    /// Appended to the image's kernel command line.
    pub cmdline: String,
    /// Extra disks, in the order the guest sees them.
    pub disks: Vec<Disk>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// The image has no agent: it is ready when its program has started.
    pub skip_guest_agent: bool,
    /// How long a stop waits for the guest, in milliseconds.
    pub stop_grace_ms: u64,
    /// Which hypervisor; none takes the host's default.
    pub hypervisor: Option<String>,
    /// How it is started again after an end that nobody asked for.
    pub restart: RestartPolicy,
    /// When its time is over.
    pub expiry: Option<Expiry>,
    /// How it is found out whether its workload is well.
    pub health: Option<HealthCheck>,
    /// When it goes to standby by itself.
    pub auto_standby: Option<AutoStandby>,
}

/// A disk of an instance: a raw image file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Absolute path on the host.
    pub path: PathBuf,
    /// The guest may not write.
    pub read_only: bool,
    /// Size when the instance was created, in bytes.
    pub size_bytes: u64,
}

/// What an instance is, as opposed to where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Chosen by the host.
    pub id: InstanceId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Chosen by the client.
    pub name: InstanceName,
    /// What it runs, and how.
    pub spec: Spec,
    /// What is kept of it, oldest first.
    pub snapshots: Vec<Snapshot>,
}

/// What an instance was at an instant, kept in a folder of its own: writable disks, and memory if
/// there was any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Unique within the instance.
    pub name: SnapshotName,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// The schedule took it, not a client.
    pub scheduled: bool,
    /// When what it holds was so: meter nanoseconds.
    pub created_ns: i64,
    /// Bytes on disk as it was taken.
    pub bytes: u64,
    /// The memory is to be compressed.
    #[serde(default)]
    pub compress: bool,
    /// Bytes on disk of the memory since it is compressed; none if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compressed_bytes: Option<u64>,
    /// The memory; none if nothing ran and nothing was in standby.
    pub memory: Option<SavedMemory>,
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory at the boot, in bytes.
    pub memory_bytes: u64,
    /// The disks, in the order the guest sees them.
    pub disks: Vec<Disk>,
}

impl Snapshot {
    /// What an instance takes of its tenant's limits once this is put back.
    pub(super) fn share(&self) -> Share {
        let memory_bytes = self.memory.map_or(self.memory_bytes, |memory| memory.guest_bytes);
        Share { vcpus: self.vcpus, memory_bytes }
    }

    /// Bytes on disk now.
    pub fn stored_bytes(&self) -> u64 {
        match (self.memory, self.compressed_bytes) {
            (Some(memory), Some(bytes)) => {
                self.bytes.saturating_sub(memory.bytes).saturating_add(bytes)
            }
            (_, _) => self.bytes,
        }
    }

    pub(super) fn waits_for_compression(&self) -> bool {
        self.compress && self.memory.is_some() && self.compressed_bytes.is_none()
    }
}

/// The snapshot of this name.
pub(super) fn find_snapshot<'a>(
    known: &'a [Snapshot],
    name: &SnapshotName,
) -> Result<&'a Snapshot, FleetError> {
    let found = known.iter().find(|snapshot| snapshot.name == *name);
    found.ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|snapshot| snapshot.name.as_str()).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        FleetError::NoSuchSnapshot { name: name.clone(), known }
    })
}

/// Memory on disk, and how far the guest was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedMemory {
    /// Bytes on disk.
    pub bytes: u64,
    /// Guest memory then, in bytes.
    pub guest_bytes: u64,
    /// The guest was ready.
    pub ready: bool,
    /// Its program had started.
    pub program_started: bool,
    /// Its agent had answered.
    pub agent_ready: bool,
}

/// The settings of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name of the image it was made from.
    pub image: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory at the boot, in bytes.
    pub memory_bytes: u64,
    /// Up to which it may be resized while the guest runs, in bytes.
    pub memory_bytes_max: Option<u64>,
    /// Appended to the image's kernel command line.
    pub cmdline: String,
    /// Extra disks.
    pub disks: Vec<Disk>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Ready when its program has started.
    pub skip_guest_agent: bool,
    /// How long a stop waits for the guest, in milliseconds.
    pub stop_grace_ms: u64,
    /// Which hypervisor runs it.
    pub hypervisor: String,
    /// When it was accepted: meter nanoseconds.
    pub created_ns: i64,
    /// How it is started again after an end that nobody asked for.
    #[serde(with = "RestartPolicyFields")]
    pub restart: RestartPolicy,
    /// When its time is over.
    pub expiry: Option<Expiry>,
    /// When its snapshots are taken by themselves.
    pub schedule: Option<Schedule>,
    /// How it is found out whether its workload is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// When it goes to standby by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_standby: Option<AutoStandby>,
}

impl Spec {
    /// Becomes what it was when the snapshot was taken, as far as that is part of one.
    pub(super) fn put_back(&mut self, snapshot: &Snapshot) {
        self.vcpus = snapshot.vcpus;
        self.memory_bytes = snapshot.memory_bytes;
        for (now, then) in self.disks.iter_mut().zip(&snapshot.disks) {
            now.size_bytes = then.size_bytes;
        }
    }

    /// Sum of the sizes of all writable disks in bytes.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.disks.iter().filter(|disk| !disk.read_only).map(|disk| disk.size_bytes).sum()
    }
}
