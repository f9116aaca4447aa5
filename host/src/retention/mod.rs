//! Retention: how long facts stay rows of the journal, and where their segments lie then.
//!
//! The daemon does by itself, as configured, what can be asked for by hand.

mod bills;

use std::sync::Arc;
use std::time::Duration;

pub use bills::{Bills, Directories};

use crate::causes::in_words;
use crate::clock::Clock;
use crate::id::HostName;
use crate::invoice::InvoiceError;
use crate::journal::{
    ArchiveError, Considered, Copied, CopyStore, CopyStores, Journal, PrunedSegments, Pruning,
    ReadError, SealError,
};
use crate::limits::archive as limits;
use crate::tenant::Actor;
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
    /// It can't be told which facts bills are made of.
    #[error("it can't be told which facts bills are made of")]
    Bills(#[from] InvoiceError),
    /// The work broke off.
    #[error("the work broke off")]
    Broken,
}

/// The care that the daemon takes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Name of this host in the store; none for one that is made of the first fact.
    pub host: Option<HostName>,
    /// Age at which facts are sealed; none to seal by hand alone.
    pub seal_after: Option<Duration>,
    /// Age at which segments leave the data folder for good; none to prune by hand alone.
    pub prune_after: Option<Duration>,
    /// Time for which the store keeps an object; none if nobody has said so.
    pub keeps: Option<Duration>,
}

/// The keeper of a journal's segments.
#[derive(Debug)]
pub struct Retention {
    journal: Arc<Journal>,
    clock: Clock,
    stores: Arc<dyn CopyStores>,
    bills: Option<Bills>,
    plan: Plan,
}

impl Retention {
    /// The keeper of a journal's segments, whose copies are read where they are needed. `bills` are
    /// those that are made of the journal; none if they are made elsewhere.
    pub fn new(
        journal: Arc<Journal>,
        clock: Clock,
        stores: Arc<dyn CopyStores>,
        bills: Option<Bills>,
        plan: Plan,
    ) -> Self {
        journal.reach(stores.clone());
        Self { journal, clock, stores, bills, plan }
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

    /// Time for which the store keeps an object; none if nobody has said so.
    pub fn keeps(&self) -> Option<Duration> {
        self.plan.keeps
    }

    /// The segments of the data folder before an instant, and which of them may leave. Blocking.
    ///
    /// # Errors
    /// See [`RetentionError`].
    pub fn prunable(&self, before: Instant) -> Result<Vec<Considered>, RetentionError> {
        let store = self.store()?;
        let asked = self.pruning(store.address(), before, Actor::Host)?;
        Ok(self.journal.prunable(store.address(), &asked)?)
    }

    /// Prunes the next segments before an instant, some at a time.
    ///
    /// # Errors
    /// See [`RetentionError`].
    pub async fn prune(
        self: &Arc<Self>,
        before: Instant,
        by: Actor,
    ) -> Result<PrunedSegments, RetentionError> {
        let store = self.store()?;
        let own = self.clone();
        let address = store.address().to_owned();
        let asked = move || own.pruning(&address, before, by);
        let asked = tokio::task::spawn_blocking(asked).await;
        let asked = asked.map_err(|_| RetentionError::Broken)??;
        Ok(self.journal.prune_segments(store, asked, limits::SEGMENTS_PER_CALL).await?)
    }

    /// The segments that may leave. What bills need is found out only where some would leave
    /// without them: that takes as long as the bills.
    fn pruning(&self, store: &str, before: Instant, by: Actor) -> Result<Pruning, RetentionError> {
        let mut asked = Pruning { before, needs: Vec::new(), by };
        let considered = self.journal.prunable(store, &asked)?;
        if let Some(bills) = &self.bills
            && considered.iter().any(|one| one.stays.is_none())
        {
            asked.needs = bills.needs(self.clock.now())?;
        }
        Ok(asked)
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

    async fn step(self: &Arc<Self>) -> Result<(), RetentionError> {
        if let Some(age) = self.plan.seal_after {
            self.journal.seal(Some(self.before(age))).await?;
        }
        if self.stores.own().is_some() {
            while self.archive().await?.left > 0 {}
        }
        if let Some(age) = self.plan.prune_after {
            // Segments whose copies can't be read stay, and would be asked for ever.
            loop {
                let done = self.prune(self.before(age), Actor::Host).await?;
                if done.left == 0 || done.pruned.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The instant so long ago.
    fn before(&self, age: Duration) -> Instant {
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        Instant(self.clock.now().0.saturating_sub(age))
    }
}
