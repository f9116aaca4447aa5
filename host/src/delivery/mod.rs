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
mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

pub use receivers::{FILE, Receiver, ReceiversError, Topic, read};
pub use source::{Message, Messages, Progress, Source, SourceError};

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
