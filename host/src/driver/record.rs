//! The record of one instance: its identity, settings and snapshots, as opposed to its state.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::FleetError;
use super::settings::{
    AutoStandby, Expiry, HealthCheck, Program, RestartPolicyFields, Schedule, Share,
};
use crate::id::{ImageName, InstanceId, InstanceName, SnapshotName, TenantId};
use crate::network::{Place, Plan};
use crate::vm::RestartPolicy;

/// A client's request for a new instance.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Unique within the tenant.
    pub name: InstanceName,
    /// The image to boot.
    pub image: ImageName,
    /// The reference by which it was asked for; none for the name of an import.
    pub image_reference: Option<String>,
    /// Virtual processors, 1 or more.
    pub vcpus: u32,
    /// Guest memory in bytes; none takes the image's minimum.
    pub memory_bytes: Option<u64>,
    /// Largest guest memory, in bytes, that a resize of the running guest may set; none if its
    /// memory can't be resized while it runs.
    pub memory_bytes_max: Option<u64>,
    /// Appended to the image's kernel command line.
    pub cmdline: String,
    /// Extra disks, in the order the guest sees them.
    pub disks: Vec<Disk>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Set for an image without an agent: the guest is ready when its program has started.
    pub skip_guest_agent: bool,
    /// Time for which a stop waits for the guest, in milliseconds.
    pub stop_grace_ms: u64,
    /// Name of the hypervisor; none takes the host's default.
    pub hypervisor: Option<String>,
    /// Policy of restarts after an exit that nobody asked for.
    pub restart: RestartPolicy,
    /// End of the instance's time, and the act that follows; none for never.
    pub expiry: Option<Expiry>,
    /// Check of the workload's health; none if it is not checked.
    pub health: Option<HealthCheck>,
    /// Condition of an automatic standby; none for never.
    pub auto_standby: Option<AutoStandby>,
    /// The program that it runs instead of its image's.
    pub program: Program,
    /// Size of its own disk above its image's file system, in bytes; none takes the usual one.
    pub overlay_bytes: Option<u64>,
    /// Its network.
    pub network: NetworkWish,
}

/// A disk of an instance: a raw image file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Absolute path on the host.
    pub path: PathBuf,
    /// Set if the guest may not write.
    pub read_only: bool,
    /// Size at the creation of the instance, in bytes.
    pub size_bytes: u64,
}

/// The identity, settings and snapshots of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Chosen by the host.
    pub id: InstanceId,
    /// The tenant that owns and pays for the instance.
    pub tenant: TenantId,
    /// Chosen by the client.
    pub name: InstanceName,
    /// The settings.
    pub spec: Spec,
    /// The snapshots, oldest first.
    pub snapshots: Vec<Snapshot>,
}

/// A copy of an instance at an instant, in a folder of its own: writable disks, and memory if there
/// was any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Unique within the instance.
    pub name: SnapshotName,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Set if the schedule took the snapshot, not a client.
    pub scheduled: bool,
    /// Instant of the contents, in meter nanoseconds.
    pub created_ns: i64,
    /// Bytes on disk when the snapshot was taken.
    pub bytes: u64,
    /// Set if the memory is to be compressed.
    #[serde(default)]
    pub compress: bool,
    /// Bytes on disk of the compressed memory; none if it is not compressed.
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
    /// Share of its tenant's limits that an instance takes after a revert to this snapshot, of the
    /// disk what it adds to the disks and kept snapshots.
    pub(super) fn share(&self) -> Share {
        let memory_bytes = self.memory.map_or(self.memory_bytes, |memory| memory.guest_bytes);
        // Its disks take the place of those that are there.
        let disk_bytes = self.memory.map_or(0, |memory| memory.bytes);
        Share { vcpus: self.vcpus, memory_bytes, disk_bytes }
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

/// Memory on disk, and the guest's progress at that instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedMemory {
    /// Bytes on disk.
    pub bytes: u64,
    /// Guest memory at that instant, in bytes.
    pub guest_bytes: u64,
    /// Set if the guest was ready.
    pub ready: bool,
    /// Set if the guest's program had started.
    pub program_started: bool,
    /// Set if the guest's agent had answered.
    pub agent_ready: bool,
}

/// The settings of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name of the image that the instance was made from.
    pub image: String,
    /// The reference by which it was asked for; none for the name of an import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_reference: Option<String>,
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory at the boot, in bytes.
    pub memory_bytes: u64,
    /// Largest guest memory, in bytes, that a resize of the running guest may set; none if its
    /// memory can't be resized while it runs.
    pub memory_bytes_max: Option<u64>,
    /// Appended to the image's kernel command line.
    pub cmdline: String,
    /// All disks, in the order the guest sees them.
    pub disks: Vec<Disk>,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Set if the guest is ready when its program has started, without an agent.
    pub skip_guest_agent: bool,
    /// Time for which a stop waits for the guest, in milliseconds.
    pub stop_grace_ms: u64,
    /// Name of the hypervisor that runs the instance.
    pub hypervisor: String,
    /// Instant at which the instance was accepted, in meter nanoseconds.
    pub created_ns: i64,
    /// Policy of restarts after an exit that nobody asked for.
    #[serde(with = "RestartPolicyFields")]
    pub restart: RestartPolicy,
    /// End of the instance's time, and the act that follows; none for never.
    pub expiry: Option<Expiry>,
    /// Schedule of automatic snapshots; none for none.
    pub schedule: Option<Schedule>,
    /// Check of the workload's health; none if it is not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// Condition of an automatic standby; none for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_standby: Option<AutoStandby>,
    /// The program that it runs instead of its image's.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub program: Program,
    /// The guest's network; none for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

/// The network of an instance, from its creation to its deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The guest's address, which no other instance of the host has.
    pub address: Ipv4Addr,
    /// The guest was copied with its memory, in which it has its source's address: its agent is
    /// told this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_told: bool,
    /// Most bytes a second that the guest may send; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_bytes_max: Option<u64>,
    /// Most bytes a second that the guest may receive; none for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_bytes_max: Option<u64>,
    /// The only places that the guest may send to; none for all that is not closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<Place>>,
}

/// The network that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkWish {
    /// Set for a network; none for one where the host and the hypervisor can give it.
    pub enabled: Option<bool>,
    /// Most bytes a second that the guest may send; none for no limit.
    pub upload_bytes_max: Option<u64>,
    /// Most bytes a second that the guest may receive; none for no limit.
    pub download_bytes_max: Option<u64>,
    /// The only places that the guest may send to; none for all that is not closed.
    pub allowed: Option<Vec<Place>>,
}

impl Network {
    /// The network as it is to be made for a launch.
    pub(super) fn plan(&self) -> Plan {
        Plan {
            address: self.address,
            upload_bytes_max: self.upload_bytes_max,
            download_bytes_max: self.download_bytes_max,
            allowed: self.allowed.clone(),
        }
    }
}

fn is_usual(program: &Program) -> bool {
    *program == Program::default()
}

impl Spec {
    /// Restores the settings that are part of a snapshot.
    pub(super) fn put_back(&mut self, snapshot: &Snapshot) {
        self.vcpus = snapshot.vcpus;
        self.memory_bytes = snapshot.memory_bytes;
        for (now, then) in self.disks.iter_mut().zip(&snapshot.disks) {
            now.size_bytes = then.size_bytes;
        }
    }

    /// Size of the disk above the image's file system, in bytes; none if there is no such.
    pub fn overlay_bytes(&self) -> Option<u64> {
        match self.disks.as_slice() {
            [below, above, ..] if below.read_only && below.path.ends_with("root.erofs") => {
                Some(above.size_bytes)
            }
            _ => None,
        }
    }

    /// Sum of the sizes of all writable disks in bytes.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.disks.iter().filter(|disk| !disk.read_only).map(|disk| disk.size_bytes).sum()
    }
}
