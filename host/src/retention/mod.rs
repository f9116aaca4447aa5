//! Retention: how long facts stay rows of the journal, and where their segments lie then.
//!
//! The daemon does by itself, as configured, what can be asked for by hand.

use std::sync::Arc;
use std::time::Duration;

use crate::causes::in_words;
use crate::clock::Clock;
use crate::id::HostName;
use crate::journal::{ArchiveError, Copied, CopyStore, CopyStores, Journal, ReadError, SealError};
use crate::limits::archive as limits;
use crate::units::Instant;

/// An error of retention. Facts are where they were.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// No store is configured.
    #[error("this host has no archive; start the daemon with --archive FOLDER or s3://BUCKET")]
    NoArchive,
    /// Facts can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A copy can't be made.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

/// The care that the daemon takes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Name of this host in the store; none for one that is made of the first fact.
    pub host: Option<HostName>,
    /// Age at which facts are sealed; none to seal by hand alone.
    pub seal_after: Option<Duration>,
}

/// The keeper of a journal's segments.
#[derive(Debug)]
pub struct Retention {
    journal: Arc<Journal>,
    clock: Clock,
    stores: Arc<dyn CopyStores>,
    plan: Plan,
}

impl Retention {
    /// The keeper of a journal's segments, whose copies are read where they are needed.
    pub fn new(
        journal: Arc<Journal>,
        clock: Clock,
        stores: Arc<dyn CopyStores>,
        plan: Plan,
    ) -> Self {
        journal.reach(stores.clone());
        Self { journal, clock, stores, plan }
    }

    fn store(&self) -> Result<Arc<dyn CopyStore>, RetentionError> {
        self.stores.own().ok_or(RetentionError::NoArchive)
    }

    /// Address of the store.
    ///
    /// # Errors
    /// [`RetentionError::NoArchive`].
    pub fn address(&self) -> Result<String, RetentionError> {
        Ok(self.store()?.address().to_owned())
    }

    /// Number of segments that have no copy in the store. Blocking.
    ///
    /// # Errors
    /// See [`RetentionError`].
    pub fn without_copy(&self) -> Result<usize, RetentionError> {
        Ok(self.journal.without_copy(self.store()?.address())?)
    }

    /// Copies the next segments, some at a time.
    ///
    /// # Errors
    /// See [`RetentionError`].
    pub async fn archive(&self) -> Result<Copied, RetentionError> {
        let store = self.store()?;
        let host = self.plan.host.clone();
        Ok(self.journal.archive_segments(store, host, limits::SEGMENTS_PER_CALL).await?)
    }

    /// Does what is configured, again and again, as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let mut said = None;
        loop {
            match self.step().await {
                Ok(()) => said = None,
                Err(error) => {
                    let words = in_words(&error);
                    if said.as_ref() != Some(&words) {
                        tracing::warn!("{words}");
                    }
                    said = Some(words);
                }
            }
            tokio::time::sleep(Duration::from_secs(limits::EVERY_S)).await;
        }
    }

    async fn step(&self) -> Result<(), RetentionError> {
        if let Some(age) = self.plan.seal_after {
            self.journal.seal(Some(self.before(age))).await?;
        }
        if self.stores.own().is_some() {
            while self.archive().await?.left > 0 {}
        }
        Ok(())
    }

    /// The instant so long ago.
    fn before(&self, age: Duration) -> Instant {
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        Instant(self.clock.now().0.saturating_sub(age))
    }
}
