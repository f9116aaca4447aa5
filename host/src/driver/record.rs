//! What is written down of one instance: what it is, and where it stands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::billing::account::Account;
use crate::id::{ImageName, InstanceId, InstanceName, TenantId};
use crate::units::Instant;
use crate::vm::{Command, ExitCause, Shape, State};

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

/// What an instance is. Written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Chosen by the host.
    pub id: InstanceId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Chosen by the client.
    pub name: InstanceName,
    /// The rest, as stored.
    pub spec: Spec,
}

/// The part of a record that is stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name of the image it was made from.
    pub image: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
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
    /// The command that was accepted and not finished.
    pub intent: Option<Command>,
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
}
