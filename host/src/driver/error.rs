//! The errors of the fleet.

use std::path::PathBuf;

use super::admission::Full;
use crate::causes::in_words;
use crate::disk::DiskLow;
use crate::hypervisor::HypervisorError;
use crate::id::{IdError, InstanceName, SnapshotName, TenantId};
use crate::journal::CommitError;
use crate::limits;
use crate::mutants::Mutant;
use crate::network::{NetworkError, PoolError};
use crate::tenant::Limit;
use crate::vm::Refusal;

/// The reason for which a request failed. The caller can mend the first group and the host's
/// operator the second; the third is a defect of this program.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FleetError {
    /// No instance has this id, name or prefix.
    #[error("there is no instance '{key}'")]
    NotFound {
        /// The id, name or prefix that was asked for.
        key: String,
    },
    /// Several instances have this prefix.
    #[error("'{key}' is the beginning of {count} ids; give more characters")]
    Ambiguous {
        /// The prefix that was asked for.
        key: String,
        /// Number of instances that match, 2 or more.
        count: usize,
    },
    /// The command is not legal now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another instance of the tenant has the name.
    #[error("the name '{0}' is in use; choose another, or delete the instance that has it")]
    NameInUse(InstanceName),
    /// The instance has no such snapshot.
    #[error("there is no snapshot '{name}' of this instance; there are: {known}")]
    NoSuchSnapshot {
        /// The name that was asked for.
        name: SnapshotName,
        /// The names that exist, separated by commas; `none` without any.
        known: String,
    },
    /// The instance has a snapshot of this name.
    #[error("the instance has a snapshot '{0}' already; choose another name, or delete it first")]
    SnapshotExists(SnapshotName),
    /// The instance has [`limits::snapshot::KEPT_MAX`] snapshots.
    #[error(
        "the instance has {max} snapshots, as many as one may have; delete some",
        max = limits::snapshot::KEPT_MAX
    )]
    TooManySnapshots,
    /// Standby was asked for without saved memory.
    #[error("there is no saved memory, so Standby is not possible; choose Stopped or Running")]
    NoMemory,
    /// A fork of a running instance, without permission to pause it.
    #[error(
        "the instance runs, and a fork would pause it for a moment; \
         set from_running to allow that, or stop it first"
    )]
    SourceRuns,
    /// Another machine uses a disk.
    #[error(
        "the disk {0} is in use by another machine; stop that first, or give each its own copy"
    )]
    DiskInUse(PathBuf),
    /// The request would exceed a limit of the tenant.
    #[error("tenant '{tenant}' would have {wanted} {limit}; its limit is {most}")]
    OverLimit {
        /// The tenant.
        tenant: TenantId,
        /// The limit that would be exceeded.
        limit: Limit,
        /// The amount that the request would lead to, in the limit's unit.
        wanted: u64,
        /// The largest amount that is allowed, in the limit's unit.
        most: u64,
    },
    /// The host has too little room for it.
    #[error("{0}")]
    HostFull(Full),
    /// The tenant is over a limit of its rates.
    #[error("tenant '{tenant}' is over its limit of {most} {limit}")]
    TooFast {
        /// The tenant.
        tenant: TenantId,
        /// The limit.
        limit: Limit,
        /// The limit's value, in its unit.
        most: u64,
        /// Seconds to wait before the next try, 1 or more.
        retry_after_s: u32,
    },
    /// The instance's hypervisor lacks a capability. The text is for the client.
    #[error("{0}")]
    Unsupported(String),
    /// No such image.
    #[error("there is no image '{name}'; there are: {known}")]
    NoSuchImage {
        /// The name that was asked for.
        name: String,
        /// The names that exist, separated by commas.
        known: String,
    },
    /// No such hypervisor.
    #[error("there is no hypervisor '{name}' on this host; there are: {known}")]
    NoSuchHypervisor {
        /// The name that was asked for.
        name: String,
        /// The names that exist, separated by commas; `none` without any.
        known: String,
    },
    /// A value is out of its range.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, by its JSON name.
        field: &'static str,
        /// The fault and the valid range.
        problem: String,
    },
    /// A name or id is malformed.
    #[error(transparent)]
    Id(#[from] IdError),

    /// The instance's queue of commands, of this length, is full.
    #[error("{0} commands are waiting for this instance already; try again when they are done")]
    Busy(usize),
    /// The host has this many instances, its limit.
    #[error("this host knows {0} instances, its limit; delete some")]
    TooMany(usize),
    /// The disk is full: nothing was done.
    #[error(
        "the data folder's disk is full: nothing was done and nothing is lost; \
         free some space and try again"
    )]
    NoSpace,
    /// The disk has too little space for something that can wait: nothing was done.
    #[error("{0}: nothing was done; delete snapshots or instances, or enlarge the disk")]
    DiskLow(DiskLow),
    /// The command was carried out; its fact waits for space on the disk.
    #[error(
        "done, but the data folder's disk is full: the fact is kept in memory and recorded \
         as soon as there is space; free some"
    )]
    Unrecorded,
    /// A file of the host could not be read or written. The text is for the client.
    #[error("the host could not do it: {0}")]
    Files(String),
    /// The guest's network could not be made or read. The text is for the client.
    #[error("the host could not give the guest its network: {0}")]
    Network(String),
    /// All addresses for guests are in use.
    #[error(transparent)]
    NoAddress(#[from] PoolError),
    /// The hypervisor failed. The text is for the client.
    #[error("the hypervisor could not do it: {0}")]
    Hypervisor(String),
    /// A restart of the daemon interrupted the command, and it can't be finished.
    #[error("the daemon was restarted in the middle of the command; ask for it again")]
    Interrupted,
    /// Only a guest that runs can be entered.
    #[error(
        "the instance is {state}; only one that runs can be entered: start, restore or resume it first"
    )]
    NotRunning {
        /// The instance's state.
        state: &'static str,
    },
    /// There is no agent in the guest, or no way to it.
    #[error(
        "there is no way into this guest: its image has no agent, or its hypervisor no port for one"
    )]
    NoAgent,
    /// The command needs a launched machine, and there is none.
    #[error("the instance has no running machine; start it, then ask again")]
    NoMachine,
    /// The virtual machine monitor exited in the middle of the command.
    #[error(
        "the virtual machine monitor exited before the command was done; \
         look at the instance's state, then ask again"
    )]
    MachineEnded,
    /// The command has begun, can't be undone, and can't be finished now.
    #[error(
        "the command is not finished yet and is tried again; \
         nothing else can be done with the instance until it is: {0}"
    )]
    Unfinished(Box<FleetError>),
    /// The virtual machine monitor was ordered to exit, which can't be undone, and has not exited
    /// yet.
    #[error(
        "the virtual machine monitor was ordered to exit and has not exited yet; \
         the command is finished when it has"
    )]
    StillEnding,
    /// The instance stopped before it reached the awaited state.
    #[error("the instance stopped ({cause}) before it was {wanted}")]
    Ended {
        /// The awaited state.
        wanted: String,
        /// The cause of the stop, or `deleted`.
        cause: String,
    },
    /// A wait ran out.
    #[error("not {wanted} after {seconds} s; it is {state}")]
    WaitTimedOut {
        /// The awaited state.
        wanted: String,
        /// Timeout in whole seconds, rounded down.
        seconds: u64,
        /// The state at the timeout.
        state: &'static str,
    },
    /// The daemon is shutting down, or its journal failed.
    #[error("the daemon is stopping; try again when it is back")]
    Stopping,

    /// A defect of this program. The text goes to the log, never to a client.
    #[error("an internal error; the daemon's log has the details")]
    Bug(String),
}

impl FleetError {
    /// Returns whether what was to be recorded may be on disk: the next start decides, and needs
    /// all that it may find on record.
    pub(super) fn may_be_recorded(&self) -> bool {
        matches!(self, FleetError::Stopping)
    }

    /// Returns whether the command can't be undone and its outcome is not known: its intent stays
    /// on record.
    pub(super) fn leaves_intent(&self) -> bool {
        matches!(self, FleetError::StillEnding | FleetError::Unfinished(_))
            && !Mutant::DeadlineEndsIntent.is_active()
    }
}

/// The error for the client after a failure of the hypervisor.
pub(super) fn failed(error: HypervisorError) -> FleetError {
    match error {
        HypervisorError::Unsupported { .. } => return FleetError::Unsupported(error.to_string()),
        HypervisorError::DiskInUse { path } => return FleetError::DiskInUse(path),
        _ => {}
    }
    // Tenants read the answer and the facts: paths and logs of the host go to the operator only.
    tracing::warn!(error = error.in_words(), "a hypervisor failed");
    FleetError::Hypervisor(error.for_tenants())
}

/// The error for the client after a failure of a network.
pub(super) fn network_failed(error: NetworkError) -> FleetError {
    tracing::warn!(error = in_words(&error), "a network failed");
    match error {
        NetworkError::Foreign { .. } => FleetError::Network(error.to_string()),
        // Tenants learn nothing of the host's own network.
        NetworkError::Unfit(_)
        | NetworkError::System { .. }
        | NetworkError::Tool { .. }
        | NetworkError::Refused { .. }
        | NetworkError::Answer(_)
        | NetworkError::Shared(_) => FleetError::Network("the daemon's log has the reason".into()),
    }
}

/// The error for a caller whose request was not carried out because a commit failed.
pub(super) fn refused(error: CommitError) -> FleetError {
    match error {
        CommitError::NoSpace(_) => FleetError::NoSpace,
        CommitError::Failed { .. } => FleetError::Stopping,
        CommitError::NameInUse { name, .. } => FleetError::NameInUse(name),
        defect @ (CommitError::IdInUse(_)
        | CommitError::NoSuchRow(_)
        | CommitError::AfterDeletion
        | CommitError::NotPlanned { .. }
        | CommitError::NumberInUse { .. }
        | CommitError::Repeated { .. }) => FleetError::Bug(defect.to_string()),
    }
}
