//! The requests to an instance, with their parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::billing::InstanceFact;
use crate::id::{InstanceId, InstanceName, SnapshotName};
use crate::journal::Durability;
use crate::vm::{Asker, Command};

/// A command with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// [`Command::Start`].
    Start,
    /// [`Command::Stop`].
    Stop {
        /// Time to wait for the guest, in milliseconds; none takes the instance's own.
        grace_ms: Option<u64>,
    },
    /// [`Command::Pause`].
    Pause,
    /// [`Command::Resume`].
    Resume,
    /// [`Command::Standby`].
    Standby,
    /// [`Command::Restore`].
    Restore,
    /// [`Command::Delete`].
    Delete,
    /// [`Command::Snapshot`].
    Snapshot(NewSnapshot),
    /// [`Command::Discard`].
    Discard {
        /// Name of the snapshot.
        snapshot: SnapshotName,
    },
    /// [`Command::Revert`].
    Revert {
        /// Name of the snapshot.
        snapshot: SnapshotName,
    },
    /// [`Command::Fork`].
    Fork {
        /// The new instances.
        children: Vec<Child>,
        /// The snapshot that they are made of; none for the present state of the instance.
        snapshot: Option<SnapshotName>,
    },
    /// [`Command::Resize`].
    Resize {
        /// Guest memory from now on, in bytes.
        memory_bytes: u64,
    },
}

/// A snapshot to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSnapshot {
    /// Unique within the instance.
    pub name: SnapshotName,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Number of newest snapshots that stay, counted apart for those of clients and those of the
    /// schedule; none keeps all.
    pub keep: Option<u32>,
    /// Set if the memory is compressed afterwards.
    #[serde(default)]
    pub compress: bool,
}

/// A new instance that is being made of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Child {
    /// Chosen by the host.
    pub id: InstanceId,
    /// Chosen by the client.
    pub name: InstanceName,
    /// The state that it is brought to.
    pub target: Target,
}

/// The state that an instance is brought to after a fork or a revert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Nothing runs; the memory, if there was any, is dropped.
    Stopped,
    /// The memory is on disk.
    Standby,
    /// The instance runs: restored from the memory if there is any, else booted.
    Running,
}

/// A request that was accepted and is not finished. It is recorded before anything is done, so that
/// it is finished or undone after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The request under way.
    pub request: Request,
    /// The origin of the request.
    #[serde(with = "AskerText")]
    pub by: Asker,
    /// Set if the vCPUs ran when the request was accepted.
    pub ran: bool,
    /// Instant of the acceptance, in meter nanoseconds; none for a new instance, and for intents of
    /// earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ns: Option<i64>,
}

impl Intent {
    /// The fact that the request was accepted.
    pub(super) fn fact(&self) -> InstanceFact {
        let Intent { request, by, ran: _, at_ns: _ } = self;
        InstanceFact::Intended { command: request.command(), by: *by, about: request.about() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Asker", rename_all = "kebab-case")]
enum AskerText {
    Client,
    RestartPolicy,
    Expiry,
    Schedule,
    HealthCheck,
    AutoStandby,
}

impl Request {
    /// The command alone.
    pub fn command(&self) -> Command {
        match self {
            Request::Start => Command::Start,
            Request::Stop { .. } => Command::Stop,
            Request::Pause => Command::Pause,
            Request::Resume => Command::Resume,
            Request::Standby => Command::Standby,
            Request::Restore => Command::Restore,
            Request::Delete => Command::Delete,
            Request::Snapshot(_) => Command::Snapshot,
            Request::Discard { .. } => Command::Discard,
            Request::Revert { .. } => Command::Revert,
            Request::Fork { .. } => Command::Fork,
            Request::Resize { .. } => Command::Resize,
        }
    }

    /// The durability that the request's intent needs. A request that starts in a running machine
    /// and changes nothing on disk before its first fact is void after a loss of power, and so is
    /// its intent.
    pub(super) fn durability(&self, runs: bool) -> Durability {
        match self {
            Request::Pause | Request::Resume => Durability::Written,
            // The vCPUs are held first, which is a fact of its own.
            Request::Standby if runs => Durability::Written,
            // No vCPU runs before the fact that the memory is loaded; until then the saved memory
            // is current.
            Request::Restore => Durability::Written,
            Request::Standby
            | Request::Start
            | Request::Stop { .. }
            | Request::Delete
            | Request::Snapshot(_)
            | Request::Discard { .. }
            | Request::Revert { .. }
            | Request::Fork { .. }
            | Request::Resize { .. } => Durability::Synced,
        }
    }

    /// The request's parameter in the journal; none without one.
    fn about(&self) -> Option<String> {
        match self {
            Request::Start
            | Request::Stop { .. }
            | Request::Pause
            | Request::Resume
            | Request::Standby
            | Request::Restore
            | Request::Delete => None,
            Request::Snapshot(new) => Some(new.name.to_string()),
            Request::Discard { snapshot } | Request::Revert { snapshot } => {
                Some(snapshot.to_string())
            }
            Request::Fork { children, .. } => {
                Some(children.iter().map(|child| child.id.as_str()).collect::<Vec<_>>().join(" "))
            }
            Request::Resize { memory_bytes } => Some(memory_bytes.to_string()),
        }
    }
}
