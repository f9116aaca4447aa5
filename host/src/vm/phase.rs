//! Phases: the parts of an instance's lifetime that are billed apart.

use std::fmt;
use std::str::FromStr;

/// The phases that partition an instance's lifetime. Ordinals are those of the WIT enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Accepted and being prepared; no vCPU has run yet.
    Created = 0,
    /// The vCPUs run, the guest is not ready yet.
    Initializing = 1,
    /// The guest is ready.
    Running = 2,
    /// The vCPUs are held, memory is in use.
    Paused = 3,
    /// The guest was asked to stop, the virtual machine monitor has not exited.
    Shutdown = 4,
    /// Memory is on disk.
    Standby = 5,
    /// Nothing runs, nothing is kept in memory or as a snapshot.
    Stopped = 6,
    /// There is no proof of what the instance did.
    Unknown = 7,
}

impl Phase {
    /// Every phase, by ordinal.
    pub const ALL: [Phase; 8] = [
        Phase::Created,
        Phase::Initializing,
        Phase::Running,
        Phase::Paused,
        Phase::Shutdown,
        Phase::Standby,
        Phase::Stopped,
        Phase::Unknown,
    ];

    /// The phase with this ordinal; `None` above 7.
    pub fn from_ordinal(ordinal: u8) -> Option<Phase> {
        Self::ALL.get(usize::from(ordinal)).copied()
    }

    /// Lower-case name, as in WIT and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Created => "created",
            Phase::Initializing => "initializing",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Shutdown => "shutdown",
            Phase::Standby => "standby",
            Phase::Stopped => "stopped",
            Phase::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no phase's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no phase; phases are created, initializing, running, paused, shutdown, standby, \
     stopped, unknown"
)]
pub struct UnknownPhase(pub String);

impl FromStr for Phase {
    type Err = UnknownPhase;
    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| UnknownPhase(text.into()))
    }
}
