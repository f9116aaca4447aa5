//! Events that are pushed to receivers over HTTP: at least once, in order, from a cursor that
//! outlives the daemon.
//!
//! One engine serves usage and webhooks. Events come from facts, and their ids from what they are
//! about, so that the same event has the same id however often it is sent. A receiver that answers
//! with an error is asked again until it takes the event: nothing is dropped. The module knows
//! neither what an event says nor how the journal is read: a [`Source`] does.

mod cursor;
mod push;
mod receivers;
mod sign;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

pub use receivers::{FILE, Receiver, ReceiversError, Topic, read};

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

/// The receivers of a host, with the state of each.
#[derive(Debug, Default)]
pub struct Deliveries {
    receivers: Vec<Receiver>,
    /// The folder of the cursors.
    folder: PathBuf,
    progress: Mutex<BTreeMap<String, Arc<Progress>>>,
}

impl Deliveries {
    /// The pushes to these receivers, whose cursors are in `folder`.
    pub fn new(receivers: Vec<Receiver>, folder: PathBuf) -> Self {
        Self { receivers, folder, progress: Mutex::default() }
    }

    /// The state of each receiver, by name.
    pub fn progress(&self) -> BTreeMap<String, Arc<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn progress_of(&self, name: &str) -> Arc<Progress> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.entry(name.to_owned()).or_default().clone()
    }

    /// Pushes events to all receivers for as long as it is polled.
    pub async fn run(self: Arc<Self>, source: Arc<dyn Source>) {
        let pushes = self.receivers.iter().map(|receiver| {
            let progress = self.progress_of(&receiver.name);
            let cursor = cursor::Cursor::new(&self.folder, &receiver.name);
            push::run(receiver, cursor, progress, source.clone())
        });
        futures::future::join_all(pushes).await;
    }
}

impl Progress {
    fn taken(&self, events: usize, after: u64) {
        self.taken.fetch_add(events as u64, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.after.store(after, Ordering::Relaxed);
    }
}
