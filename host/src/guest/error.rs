//! Reasons why something in a guest was not done, or not to its end.

use std::time::Duration;

/// Reasons why sessions were cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The guest's memory goes to disk.
    Standby,
    /// The guest's memory is copied.
    Snapshot,
    /// The machine has ended, or is being ended.
    Ended,
    /// The agent ended the connection, or a message was lost on the way.
    Lost,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cut::Standby => "the instance goes to standby, which ends every session in it",
            Cut::Snapshot => "the instance's memory is copied, which ends every session in it",
            Cut::Ended => "the instance's machine has ended, and every session in it",
            Cut::Lost => "the connection to the agent in the guest broke off",
        })
    }
}

/// Reasons why something in a guest was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// The agent did not answer in time.
    #[error(
        "the agent in the guest did not answer within {} ms; the guest may still be starting, or its agent has ended", .0.as_millis()
    )]
    Silent(Duration),
    /// The agent did not begin it.
    #[error("the guest would not do it: {text}")]
    Refused {
        /// A number of the guest's operating system; 0 if it has none.
        errno: i32,
        /// The agent's words.
        text: String,
    },
    /// It was cut off.
    #[error("{0}")]
    Cut(Cut),
    /// The agent is of another version.
    #[error("the agent in the guest speaks version {found} of the protocol, this daemon {known}")]
    Version {
        /// The agent's.
        found: u16,
        /// Ours.
        known: u16,
    },
    /// The guest's messages make no sense.
    #[error("the guest's agent broke the protocol: {0}")]
    Protocol(String),
}
