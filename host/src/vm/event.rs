//! Where an event leads.

use super::State;

/// Something that happened to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Accepted, or launched again after a stop.
    Created,
    /// The vCPUs began to run for the first time since the launch.
    Booted,
    /// The later of the two boot markers arrived.
    Ready,
    /// The hypervisor acknowledged that the vCPUs are held.
    Paused,
    /// It acknowledged that they run again.
    Resumed,
    /// The guest was asked to stop.
    ShutdownRequested,
    /// The snapshot is durable and the virtual machine monitor has exited.
    Slept,
    /// A new virtual machine monitor has loaded the snapshot, with the vCPUs held.
    Loaded,
    /// The virtual machine monitor is gone, or a standby's snapshot was discarded.
    Exited(ExitCause),
    /// A kept copy took the place of what it was: memory on disk.
    Reverted {
        /// The guest was ready when the copy was made.
        ready: bool,
    },
    /// It holds more or less than before.
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
        Event::Slept,
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

/// Why an instance stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCause {
    /// It was asked to stop and did.
    Requested,
    /// It was asked, or had to be ended, and was ended by force.
    Forced,
    /// The guest powered itself off or reset.
    Guest,
    /// The virtual machine monitor died.
    Crashed,
    /// The host lost power or was rebooted.
    HostLost,
    /// The virtual machine monitor never came up.
    LaunchFailed,
    /// A standby was stopped: its snapshot is gone.
    Discarded,
    /// Its workload failed its health check, and it was ended to be started again.
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

    /// Lower-case words joined by hyphens, as in the journal.
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

/// An event that can't follow a state: a defect of ours or of a hypervisor. Nothing is recorded for
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} can't happen to an instance that is {}", .state.as_str())]
pub struct Impossible {
    /// Where the instance stood.
    pub state: State,
    /// What was reported.
    pub event: Event,
}

/// The state after `event`.
///
/// # Errors
/// [`Impossible`] where the event can't follow the state.
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
        Event::Slept => match state {
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
