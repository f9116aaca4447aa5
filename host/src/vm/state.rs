//! States of an instance.

use super::Phase;

/// The state of an instance. Every state but [`State::Deleted`] is a phase of the same name. A
/// guest that is held can't report readiness, so `ready` keeps what it had reported before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Accepted; the virtual machine monitor is being launched.
    Created,
    /// The vCPUs run; the boot markers are not complete.
    Initializing,
    /// The guest is ready.
    Running,
    /// The vCPUs are held.
    Paused {
        /// True if the guest was ready before.
        ready: bool,
    },
    /// The guest was asked to stop.
    Shutdown,
    /// Memory is on disk.
    Standby {
        /// True if the guest was ready before.
        ready: bool,
    },
    /// Nothing runs.
    Stopped,
    /// There is no proof of what the instance did.
    Unknown,
    /// The record is closed; time no longer counts.
    Deleted,
}

impl State {
    /// Every state.
    pub const ALL: [State; 11] = [
        State::Created,
        State::Initializing,
        State::Running,
        State::Paused { ready: false },
        State::Paused { ready: true },
        State::Shutdown,
        State::Standby { ready: false },
        State::Standby { ready: true },
        State::Stopped,
        State::Unknown,
        State::Deleted,
    ];

    /// The phase that is billed in this state; `None` once deleted.
    pub fn phase(self) -> Option<Phase> {
        match self {
            State::Created => Some(Phase::Created),
            State::Initializing => Some(Phase::Initializing),
            State::Running => Some(Phase::Running),
            State::Paused { .. } => Some(Phase::Paused),
            State::Shutdown => Some(Phase::Shutdown),
            State::Standby { .. } => Some(Phase::Standby),
            State::Stopped => Some(Phase::Stopped),
            State::Unknown => Some(Phase::Unknown),
            State::Deleted => None,
        }
    }

    /// Returns whether a virtual machine monitor belongs to this state.
    pub fn has_vmm(self) -> bool {
        match self {
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown => true,
            State::Standby { .. } | State::Stopped | State::Unknown | State::Deleted => false,
        }
    }

    /// Name in the API, such as `Running`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Created => "Created",
            State::Initializing => "Initializing",
            State::Running => "Running",
            State::Paused { .. } => "Paused",
            State::Shutdown => "Shutdown",
            State::Standby { .. } => "Standby",
            State::Stopped => "Stopped",
            State::Unknown => "Unknown",
            State::Deleted => "Deleted",
        }
    }
}
