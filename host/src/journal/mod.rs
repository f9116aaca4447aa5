//! The journal: every fact, durable before it is acknowledged, in one hash-chained order.
//!
//! One SQLite file for each host, one writer. Callers hand over an [`Entry`]: facts, and the
//! changes of an instance's record. The writer takes all entries that wait, numbers their facts,
//! asks the [`Accountant`] for the accounts after them, and commits all of it as one transaction.
//! [`Journal::commit`] returns once the disk has confirmed.
//!
//! The journal knows no hypervisor, no component and no HTTP: records and states are opaque text
//! here.
//!
//! [`Accountant`]: crate::billing::account::Accountant

mod account;
mod archive;
mod backup;
mod chain;
mod copies;
mod counted;
mod entry;
mod error;
mod figures;
mod hosts;
mod log;
mod migrate;
mod open;
mod period;
mod read;
mod removal;
mod replica;
mod reserve;
mod schema;
mod seal;
mod segment;
mod single;
mod slim;
mod spare;
mod tables;
mod tenants;
mod verify;
pub mod wire;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub use archive::Archive;
pub use backup::{BackupError, Loss, backup, loss, restore};
pub use copies::{
    ArchiveError, Considered, Copied, CopyStore, CopyStores, Need, NoCopy, PrunedSegments, Pruning,
    Put, RestoreError, Restored, StoreError, restore as restore_segments,
};
pub use counted::CountedQuery;
pub use entry::{
    Activation, Alive, Durability, EarlierBoot, Entry, FactHash, FirstTry, Head, InstanceEntry,
    InstanceWrite, NewActivation, NewInvoice, NewPolicy, NewPrices, NewWithdrawal, Opened, Receipt,
    RequestKey, Row, StoredAdmission, StoredGap, StoredInstance, StoredInvoice, StoredPolicy,
    StoredPrices, StoredStanding, StoredTenant, StoredToken,
};
pub use error::{CommitError, Damage, Flaw, OpenError, Place, ReadError, VerifyError};
pub use figures::{Counted, Figures};
pub use hosts::hosts_folder;
pub use period::SpanQuery;
pub use read::{FactQuery, Page};
pub use removal::Redact;
pub use replica::{Described, Handed, Replica, TakeError};
pub use segment::{Listed, SealError, Segment};
pub use verify::{
    LostLog, Shown, UNCOVERED, Verified, verify, verify_accounts, verify_reaching, verify_showing,
};

use crate::billing::Fact;
use crate::billing::life::CountedFact;
use crate::id::{Digest, InstanceId, TenantId};
use crate::units::Instant;
use hosts::Hosts;
use read::Readers;
use wire::ChainedFact;
use writer::{Pending, Request};

/// Options of opening a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Most pages of 4,096 bytes that the database may have; none for no limit but the disk's. For
    /// tests.
    pub pages_max: Option<u32>,
    /// Wait for another program that holds the database until the log says so; 10 s if none. For
    /// tests.
    pub busy: Option<Duration>,
    /// True to trust the wall clock at a new boot even if the kernel does not report it as
    /// synchronised.
    pub trusts_wall_clock: bool,
    /// Longest wait, at the first start in a boot, for the wall clock to be synchronised.
    pub clock_wait: Duration,
    /// True to keep a reserve of space, from which facts are written when the disk is full.
    pub has_reserve: bool,
}

/// The open journal. Dropping it commits what has queued up, ends the writer, and unlocks the data
/// folder.
#[derive(Debug)]
pub struct Journal {
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    head: watch::Receiver<Head>,
    failure: watch::Receiver<Option<Arc<str>>>,
    figures: Arc<Figures>,
    closing: Arc<AtomicBool>,
    waiting: Arc<AtomicBool>,
    readers: Arc<Readers>,
    hosts: Arc<Hosts>,
    path: PathBuf,
    /// Held while facts are sealed.
    sealing: tokio::sync::Mutex<()>,
    /// Held while segments are copied or pruned.
    copying: tokio::sync::Mutex<()>,
}

impl Journal {
    /// Commits an entry; returns when it is as durable as it asks to be. Waits while the queue is
    /// full.
    ///
    /// On return the accountant has counted the facts, and an activation of the entry is in force.
    /// Cancel-safe in the sense that an entry is committed wholly or not at all; a caller that
    /// stops waiting can't know which.
    ///
    /// An entry of what has happened, of an end or of a revocation is written from the reserve if
    /// the disk is full; see [`Entry::can_wait`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit(&self, entry: Entry) -> Result<Receipt, CommitError> {
        if entry.can_wait() {
            return self.commit_once(entry).await;
        }
        loop {
            let held = self.figures.reserve_bytes.load(Ordering::Relaxed);
            match self.commit_once(entry.clone()).await {
                // A piece of the reserve was given back to the disk for this entry, or another one.
                Err(CommitError::NoSpace(_))
                    if self.figures.reserve_bytes.load(Ordering::Relaxed) < held => {}
                committed => return committed,
            }
        }
    }

    async fn commit_once(&self, entry: Entry) -> Result<Receipt, CommitError> {
        let (answer, answered) = oneshot::channel();
        self.request(Request::Commit(Box::new(Pending::new(entry, answer))), answered).await
    }

    /// Writes a liveness record durably, and returns its instant. After a loss of power, time
    /// counts as `unknown` from the last such record or fact.
    ///
    /// # Errors
    /// [`CommitError::NoSpace`] and [`CommitError::Failed`].
    pub async fn prove_alive(&self) -> Result<Instant, CommitError> {
        let (answer, answered) = oneshot::channel();
        self.request(Request::Alive(answer), answered).await
    }

    async fn request<T>(
        &self,
        request: Request,
        answered: oneshot::Receiver<Result<T, CommitError>>,
    ) -> Result<T, CommitError> {
        if let Some(requests) = &self.requests {
            // A writer that is gone has dropped `answer`; the next line reports it.
            let _ = requests.send(request).await;
        }
        answered.await.unwrap_or_else(|_| Err(CommitError::Failed { reason: WRITER_GONE.into() }))
    }

    /// Commits what has queued up and moves the write-ahead log into the database file, so that one
    /// file holds everything. Later entries are refused.
    ///
    /// # Errors
    /// [`CommitError::Failed`]; facts in the log stay there, and the next opening reads them.
    pub async fn close(&self) -> Result<(), CommitError> {
        self.closing.store(true, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.request(Request::Close(answer), answered).await
    }

    /// True while the writer waits for another program that holds the database.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns the end of the journal: the last fact that is durable.
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// Subscribes to the end of the journal. The channel keeps the last value only: read the facts
    /// with [`Journal::facts`].
    pub fn follow(&self) -> watch::Receiver<Head> {
        self.head.clone()
    }

    /// Waits until the journal has failed, and returns the reason. The process should exit then:
    /// only the next opening can tell which of the last facts are durable.
    pub async fn failed(&self) -> Arc<str> {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(|| WRITER_GONE.into()),
            Err(_) => WRITER_GONE.into(),
        }
    }

    /// Figures since the opening.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Number of entries that wait for a transaction.
    pub fn queued(&self) -> usize {
        let requests = self.requests.as_ref();
        requests.map_or(0, |requests| requests.max_capacity() - requests.capacity())
    }

    /// Path of the database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a page of durable facts, ascending. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn facts(&self, query: &FactQuery) -> Result<Page, ReadError> {
        let durable = self.head().seq;
        let through = Some(query.through.map_or(durable, |through| through.min(durable)));
        let query = FactQuery { through, ..query.clone() };
        self.readers.with(|db| read::facts(db, &self.readers.store, &query))
    }

    /// Returns all facts of one instance, ascending, with their sequence numbers; empty if the id
    /// is unknown. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn history(&self, instance: &InstanceId) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| read::history(db, &self.readers.store, instance))
    }

    /// Returns the facts of one instance after a place in the journal, ascending. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn history_after(
        &self,
        instance: &InstanceId,
        after: u64,
    ) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| read::history_after(db, &self.readers.store, instance, after))
    }

    /// Returns a page of the facts of one instance that count its time, ascending. Its cost follows
    /// the length of the page. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn counted(&self, query: CountedQuery<'_>) -> Result<Vec<CountedFact>, ReadError> {
        let read = self.readers.with(|db| counted::page(db, &self.readers.store, query));
        let (found, rows_read) = read?;
        self.readers.facts_read.fetch_add(rows_read, Ordering::Relaxed);
        Ok(found)
    }

    /// Returns the last fact of an instance, at or before one of its facts, that counts its time;
    /// none before its time begins. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn last_counted(
        &self,
        instance: &InstanceId,
        from: u64,
    ) -> Result<Option<CountedFact>, ReadError> {
        self.readers.with(|db| counted::last(db, &self.readers.store, instance, from))
    }

    /// Returns an instance as it was last committed, deleted or not; none if the id is unknown.
    /// Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn instance(&self, instance: &InstanceId) -> Result<Option<StoredInstance>, ReadError> {
        self.readers.with(|db| read::instance(db, instance))
    }

    /// Returns the outcome of the first request with this key; none if the key is new. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn first_try(&self, request: &RequestKey) -> Result<Option<FirstTry>, ReadError> {
        self.readers.with(|db| {
            let Some((seq, same)) = read::first_try(db, request)? else { return Ok(None) };
            Ok(Some(FirstTry { seq, fact: read::fact(db, seq)?, same }))
        })
    }

    /// Returns the last `limit` facts about a policy and a tenant (admission, activations, faults,
    /// moves), newest first. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn policy_facts(
        &self,
        tenant: &TenantId,
        digest: &Digest,
        limit: usize,
    ) -> Result<Vec<ChainedFact>, ReadError> {
        self.readers.with(|db| read::policy_facts(db, tenant, digest, limit))
    }

    /// Reads segments that are not in the data folder from their copies, from now on.
    pub fn reach(&self, stores: Arc<dyn CopyStores>) {
        self.readers.store.reach(stores);
    }

    /// Returns a reader for proofs.
    pub fn archive(&self) -> Archive {
        Archive::of(self.readers.clone(), self.hosts.clone(), self.head.clone())
    }

    /// Returns the bytes of a component; none if none was recorded under this digest. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn policy_bytes(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ReadError> {
        self.readers.with(|db| read::policy_bytes(db, digest))
    }
}

const WRITER_GONE: &str = "the journal's writer has ended";

impl Drop for Journal {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        drop(self.requests.take());
        if let Some(writer) = self.writer.take() {
            // A panic of the writer was reported when it happened.
            let _ = writer.join();
        }
    }
}
