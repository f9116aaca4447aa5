//! What is written down of one instance: what it is, and where it stands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::health::{Health, HealthCheck};
use super::idle::AutoStandby;
use super::request::Intent;
use crate::billing::account::Account;
use crate::id::{ImageName, InstanceId, InstanceName, SnapshotName, TenantId};
use crate::units::Instant;
use crate::vm::{Command, ExitCause, RestartMode, RestartPolicy, Shape, State};

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
    /// Up to which the memory may be resized while the guest runs, in bytes; none for memory that stays as it is.
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

/// The end of an instance's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expiry {
    /// When: meter nanoseconds.
    pub at_ns: i64,
    /// What happens then.
    pub action: ExpiryAction,
}

/// What happens to an instance whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpiryAction {
    /// It is deleted.
    #[default]
    Delete,
    /// It is stopped.
    Stop,
}

/// When an instance's snapshots are taken by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Between two of them, in milliseconds.
    pub interval_ms: u64,
    /// Each comes up to so many milliseconds later, at random, so that not all instances of a host do it at once.
    pub jitter_ms: u64,
    /// Only so many newest stay.
    pub keep: u32,
    /// What their names begin with.
    pub prefix: String,
    /// Their memory is compressed afterwards.
    #[serde(default)]
    pub compress: bool,
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

/// What an instance was at an instant, kept in a folder of its own: writable disks, and memory if there was any.
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
    /// Bytes on disk now.
    pub fn stored_bytes(&self) -> u64 {
        match (self.memory, self.compressed_bytes) {
            (Some(memory), Some(bytes)) => self.bytes.saturating_sub(memory.bytes).saturating_add(bytes),
            (_, _) => self.bytes,
        }
    }

    pub(super) fn waits_for_compression(&self) -> bool {
        self.compress && self.memory.is_some() && self.compressed_bytes.is_none()
    }
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
    /// Sum of the sizes of all writable disks in bytes.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.disks.iter().filter(|disk| !disk.read_only).map(|disk| disk.size_bytes).sum()
    }
}

/// A restart policy as JSON.
#[derive(Serialize)]
pub(super) struct StoredRestartPolicy(#[serde(with = "RestartPolicyFields")] pub(super) RestartPolicy);

#[derive(Serialize, Deserialize)]
#[serde(remote = "RestartPolicy", deny_unknown_fields)]
struct RestartPolicyFields {
    #[serde(with = "RestartModeText")]
    mode: RestartMode,
    backoff_ms: u64,
    attempts_max: Option<u32>,
    stable_after_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RestartMode", rename_all = "snake_case")]
enum RestartModeText {
    Never,
    Always,
    OnFailure,
}

/// Attempts to start an instance again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restarts {
    /// How many were made in a row.
    pub attempts: u32,
    /// When the last one was made: meter nanoseconds.
    pub last_ns: Option<i64>,
    /// When the next one is due: meter nanoseconds; none if there is none to come.
    pub due_ns: Option<i64>,
}

/// Where an instance stands, beside its account. Written with every fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The state.
    pub state: State,
    /// What it holds.
    pub shape: Shape,
    /// Number of the start under way or last, from 1.
    pub session: u32,
    /// Number of the virtual machine monitor's process, from 1; grows with each launch.
    pub incarnation: u32,
    /// What was accepted and is not finished.
    pub intent: Option<Intent>,
    /// The guest's program has started.
    pub program_started: bool,
    /// The guest's agent answers.
    pub agent_ready: bool,
    /// When the vCPUs ran first in this session.
    pub started: Option<Instant>,
    /// When it stopped or went to standby last.
    pub stopped: Option<Instant>,
    /// Why it stopped last.
    pub cause: Option<ExitCause>,
    /// The exit code that the guest's program reported.
    pub exit_code: Option<i32>,
    /// What it said about it.
    pub exit_message: Option<String>,
    /// What went wrong last, in words for the client.
    pub error: Option<String>,
    /// Attempts to start it again.
    pub restarts: Restarts,
    /// When the schedule's next snapshot is due: meter nanoseconds.
    pub snapshot_due_ns: Option<i64>,
}

impl Live {
    /// The command that was accepted and is not finished.
    pub fn command(&self) -> Option<Command> {
        self.intent.as_ref().map(|intent| intent.request.command())
    }
}

/// An instance as it is published to readers: one consistent value.
#[derive(Debug, Clone)]
pub struct View {
    /// What it is.
    pub record: Arc<Record>,
    /// Where it stands.
    pub live: Live,
    /// Its time.
    pub account: Account,
    /// Sequence number of its last fact.
    pub last_fact: u64,
    /// When the record was closed.
    pub deleted: Option<Instant>,
    /// What is known of its workload; none if it is not asked. Only what happens since the start of the daemon.
    pub health: Option<Health>,
    /// Since when it may turn out to be idle; none if that is of no interest.
    pub idle_since: Option<Instant>,
}
