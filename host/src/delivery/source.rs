//! Events that are ready to be sent, and the maker of them.

use std::sync::atomic::{AtomicBool, AtomicU64};

use tokio::sync::watch;

use super::receivers::Topic;
use crate::id::TenantId;
use crate::journal::Head;

/// One event that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The id of the event; the same each time that it is sent.
    pub id: String,
    /// Sequence number of the fact that it comes from.
    pub fact: u64,
    /// The event as JSON.
    pub body: Vec<u8>,
}

/// The events of some facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Messages {
    /// The events, in the order of their facts.
    pub messages: Vec<Message>,
    /// Sequence number of the last fact that was looked at.
    pub after: u64,
}

/// The reason for which events can't be made.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// The maker of events.
pub trait Source: Send + Sync {
    /// The end of the journal, as it moves.
    fn follow(&self) -> watch::Receiver<Head>;

    /// Returns the link of a fact in the hash chain; none if there is no such fact. Blocking.
    ///
    /// # Errors
    /// The journal can't be read.
    fn link(&self, fact: u64) -> Result<Option<String>, SourceError>;

    /// Returns the events on these topics behind the fact `after`, of one tenant or of all, from as
    /// many facts as one look takes. Blocking.
    ///
    /// # Errors
    /// The journal can't be read.
    fn events(
        &self,
        topics: &[Topic],
        tenant: Option<&TenantId>,
        after: u64,
    ) -> Result<Messages, SourceError>;
}

/// The state of the pushes to one receiver.
#[derive(Debug, Default)]
pub struct Progress {
    /// Sequence number of the last fact whose events were taken.
    pub after: AtomicU64,
    /// Events that were taken since the start.
    pub taken: AtomicU64,
    /// Requests in a row that failed.
    pub failures: AtomicU64,
    /// True if the receiver has said that it is gone.
    pub is_gone: AtomicBool,
}
