//! Why the fleet will not do something.

use std::path::PathBuf;

use crate::hypervisor::HypervisorError;
use crate::id::{IdError, InstanceName, SnapshotName, TenantId};
use crate::journal::CommitError;
use crate::limits;
use crate::tenant::Limit;
use crate::vm::Refusal;

/// Why a request failed. The first group is the caller's to mend, the second the host's, the third
/// ours.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FleetError {
    /// Nothing answers to this id, name or prefix.
    #[error("there is no instance '{key}'")]
    NotFound {
        /// What was looked for.
        key: String,
    },
    /// Several do.
    #[error("'{key}' is the beginning of {count} ids; give more characters")]
    Ambiguous {
        /// What was looked for.
        key: String,
        /// How many match.
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
        /// What was asked for.
        name: SnapshotName,
        /// What there is.
        known: String,
    },
    /// The instance has a snapshot of this name.
    #[error("the instance has a snapshot '{0}' already; choose another name, or delete it first")]
    SnapshotExists(SnapshotName),
    /// The instance has as many snapshots as it may.
    #[error("the instance has {max} snapshots, as many as one may have; delete some", max = limits::snapshot::KEPT_MAX)]
    TooManySnapshots,
    /// There is no memory that could be in standby.
    #[error(
        "nothing ran there, so that there is no memory to be in Standby with; choose Stopped or Running"
    )]
    NoMemory,
    /// A fork of an instance that runs, without leave to pause it.
    #[error(
        "the instance runs, and a fork would pause it for a moment; say so with from_running, or stop it first"
    )]
    SourceRuns,
    /// Another machine uses a disk.
    #[error(
        "the disk {0} is in use by another machine; stop that first, or give each its own copy"
    )]
    DiskInUse(PathBuf),
    /// The tenant may not have so much.
    #[error("tenant '{tenant}' would have {wanted} {limit}; its limit is {most}")]
    OverLimit {
        /// The tenant.
        tenant: TenantId,
        /// The limit that would be passed.
        limit: Limit,
        /// The amount that there would be.
        wanted: u64,
        /// The amount that there may be.
        most: u64,
    },
    /// The instance's hypervisor can't do this.
    #[error("{0}")]
    Unsupported(String),
    /// No such image.
    #[error("there is no image '{name}'; there are: {known}")]
    NoSuchImage {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No such hypervisor.
    #[error("there is no hypervisor '{name}' on this host; there are: {known}")]
    NoSuchHypervisor {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A value is out of its range.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, by its JSON name.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A name or id is malformed.
    #[error(transparent)]
    Id(#[from] IdError),

    /// The instance has as many waiting commands as it takes.
    #[error("{0} commands are waiting for this instance already; try again when they are done")]
    Busy(usize),
    /// The host knows as many instances as it takes.
    #[error("this host knows {0} instances, its limit; delete some")]
    TooMany(usize),
    /// The disk is full: nothing was done.
    #[error(
        "the data folder's disk is full: nothing was done and nothing is lost; free some space and try again"
    )]
    NoSpace,
    /// The act was done, its fact waits for space on the disk.
    #[error(
        "done, but the data folder's disk is full: the fact is kept in memory and recorded as soon as there is space"
    )]
    Unrecorded,
    /// A file of the host could not be read or written. The text is for the client.
    #[error("the host could not do it: {0}")]
    Files(String),
    /// The hypervisor failed. The text is for the client.
    #[error("the hypervisor could not do it: {0}")]
    Hypervisor(String),
    /// A restart of the daemon interrupted it, and it can't be finished.
    #[error("the daemon was restarted in the middle of it; ask for it again")]
    Interrupted,
    /// There is no machine that could do it.
    #[error("the instance has no machine that runs")]
    NoMachine,
    /// The virtual machine monitor ended in the middle of it.
    #[error("the virtual machine monitor ended before it was done")]
    MachineEnded,
    /// It has begun, can't be undone, and can't be finished now.
    #[error(
        "it is not finished yet, and nothing else can be done until it is; it is tried again: {0}"
    )]
    Unfinished(Box<FleetError>),
    /// The virtual machine monitor was told to end, which can't be taken back, and has not ended
    /// yet.
    #[error(
        "the virtual machine monitor was told to end and has not ended yet; the command is finished when it has"
    )]
    StillEnding,
    /// The instance ended before the state that was waited for was reached.
    #[error("the instance stopped ({cause}) before it was {wanted}")]
    Ended {
        /// What was waited for.
        wanted: String,
        /// Why it stopped.
        cause: String,
    },
    /// A wait ran out.
    #[error("not {wanted} after {seconds} s; it is {state}")]
    WaitTimedOut {
        /// What was waited for.
        wanted: String,
        /// For how long.
        seconds: u64,
        /// Where it stands.
        state: &'static str,
    },
    /// The daemon is going down, or its journal failed.
    #[error("the daemon is stopping; try again when it is back")]
    Stopping,

    /// A defect of ours. Details are in the log.
    #[error("an internal error; the daemon's log has the details")]
    Bug(String),
}

impl FleetError {
    /// Says whether the act can't be undone and its end is not known: its intent stays on record.
    pub(super) fn leaves_intent(&self) -> bool {
        matches!(self, FleetError::StillEnding | FleetError::Unfinished(_))
    }
}

/// A failure of the hypervisor, for the client.
pub(super) fn failed(error: HypervisorError) -> FleetError {
    match error {
        HypervisorError::Unsupported { .. } => return FleetError::Unsupported(error.to_string()),
        HypervisorError::DiskInUse { path } => return FleetError::DiskInUse(path),
        _ => {}
    }
    // Tenants read the answer and the facts; the host's folders and logs are for its operator.
    tracing::warn!(error = error.in_words(), "a hypervisor failed");
    FleetError::Hypervisor(error.for_tenants())
}

/// The answer to a caller for whom nothing was done because a commit failed.
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
