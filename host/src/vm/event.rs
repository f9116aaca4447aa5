//! Events of an instance, and the transition function.

use super::State;

/// A thing that happened to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The instance was accepted, or launched again after a stop.
    Created,
    /// The vCPUs began to run for the first time since the launch.
    Booted,
    /// The later of the two boot markers arrived.
    Ready,
    /// The hypervisor acknowledged that the vCPUs are held.
    Paused,
    /// The hypervisor acknowledged that the vCPUs run again.
    Resumed,
    /// The guest was asked to stop.
    ShutdownRequested,
    /// The snapshot is durable and the virtual machine monitor has exited.
    Saved,
    /// A new virtual machine monitor has loaded the snapshot, with the vCPUs held.
    Loaded,
    /// The virtual machine monitor is gone, or a standby's snapshot was discarded.
    Exited(ExitCause),
    /// A kept snapshot with memory replaced the present disks and memory.
    Reverted {
        /// True if the guest was ready when the snapshot was made.
        ready: bool,
    },
    /// The resources of the instance changed ([`Shape`](super::Shape)).
    Reshaped,
    /// There is no proof of what happened from here on.
    Lost,
    /// The record was closed.
    Deleted,
}

impl Event {
    /// Every event; each cause once.
    pub const ALL: [Event; 20] = [
        Event::Created,
        Event::Booted,
        Event::Ready,
        Event::Paused,
        Event::Resumed,
        Event::ShutdownRequested,
        Event::Saved,
        Event::Loaded,
        Event::Exited(ExitCause::Requested),
        Event::Exited(ExitCause::Forced),
        Event::Exited(ExitCause::Guest),
        Event::Exited(ExitCause::Crashed),
        Event::Exited(ExitCause::HostLost),
        Event::Exited(ExitCause::LaunchFailed),
        Event::Exited(ExitCause::Discarded),
        Event::Reverted { ready: false },
        Event::Reverted { ready: true },
        Event::Reshaped,
        Event::Lost,
        Event::Deleted,
    ];
}

/// Reason for the end of an instance's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCause {
    /// The guest was asked to shut down and did.
    Requested,
    /// The virtual machine monitor was ended by force.
    Forced,
    /// The guest powered itself off or reset.
    Guest,
    /// The virtual machine monitor died.
    Crashed,
    /// The host lost power or was rebooted.
    HostLost,
    /// The virtual machine monitor never came up.
    LaunchFailed,
    /// A standby was stopped, and its memory on disk dropped.
    Discarded,
    /// The workload failed its health check, and the instance was ended to be started again.
    Unhealthy,
}

impl ExitCause {
    /// Every cause.
    pub const ALL: [ExitCause; 8] = [
        ExitCause::Requested,
        ExitCause::Forced,
        ExitCause::Guest,
        ExitCause::Crashed,
        ExitCause::HostLost,
        ExitCause::LaunchFailed,
        ExitCause::Discarded,
        ExitCause::Unhealthy,
    ];

    /// Name in the journal: lower-case words joined by hyphens.
    pub fn as_str(self) -> &'static str {
        match self {
            ExitCause::Requested => "requested",
            ExitCause::Forced => "forced",
            ExitCause::Guest => "guest",
            ExitCause::Crashed => "crashed",
            ExitCause::HostLost => "host-lost",
            ExitCause::LaunchFailed => "launch-failed",
            ExitCause::Discarded => "discarded",
            ExitCause::Unhealthy => "unhealthy",
        }
    }
}

/// An event that can't follow a state: a defect of this program or of a hypervisor. Nothing is
/// recorded for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} can't happen to an instance that is {}", .state.as_str())]
pub struct Impossible {
    /// State of the instance before the event.
    pub state: State,
    /// Event that was reported.
    pub event: Event,
}

/// Returns the state after `event`.
///
/// # Errors
/// [`Impossible`] if the event can't follow the state.
pub fn apply(state: State, event: Event) -> Result<State, Impossible> {
    let impossible = Err(Impossible { state, event });
    match event {
        Event::Created => match state {
            State::Stopped => Ok(State::Created),
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Unknown
            | State::Deleted => impossible,
        },
        Event::Booted => match state {
            State::Created => Ok(State::Initializing),
            State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => impossible,
        },
        Event::Ready => match state {
            State::Initializing => Ok(State::Running),
            State::Paused { ready: false } => Ok(State::Paused { ready: true }),
            State::Created
            | State::Running
            | State::Paused { ready: true }
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => impossible,
        },
        Event::Paused => match state {
            State::Initializing => Ok(State::Paused { ready: false }),
            State::Running => Ok(State::Paused { ready: true }),
            State::Created
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => impossible,
        },
        Event::Resumed => match state {
            State::Paused { ready: true } => Ok(State::Running),
            State::Paused { ready: false } => Ok(State::Initializing),
            State::Created
            | State::Initializing
            | State::Running
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => impossible,
        },
        Event::ShutdownRequested => match state {
            State::Created | State::Initializing | State::Running | State::Paused { .. } => {
                Ok(State::Shutdown)
            }
            State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => impossible,
        },
        Event::Saved => match state {
            State::Paused { ready } => Ok(State::Standby { ready }),
            State::Created
            | State::Initializing
            | State::Running
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => impossible,
        },
        Event::Loaded => match state {
            State::Standby { ready } => Ok(State::Paused { ready }),
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Stopped
            | State::Unknown
            | State::Deleted => impossible,
        },
        Event::Exited(_) => match state {
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Unknown => Ok(State::Stopped),
            State::Stopped | State::Deleted => impossible,
        },
        Event::Reverted { ready } => match state {
            State::Standby { .. } | State::Stopped => Ok(State::Standby { ready }),
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Unknown
            | State::Deleted => impossible,
        },
        Event::Reshaped => match state {
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown => Ok(state),
            State::Deleted => impossible,
        },
        Event::Lost => match state {
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown => Ok(State::Unknown),
            State::Standby { .. } | State::Stopped | State::Unknown | State::Deleted => impossible,
        },
        Event::Deleted => match state {
            State::Standby { .. } | State::Stopped | State::Unknown => Ok(State::Deleted),
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Deleted => impossible,
        },
    }
}
