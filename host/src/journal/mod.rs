//! The journal: every fact, durable before it is answered, in one hash-chained order.
//!
//! One SQLite file for each host, one writer. Callers hand over an [`Entry`]: facts, and what they
//! change in an instance's record. The writer takes all entries that wait, gives their facts a
//! place, asks the [`Accountant`] for the accounts after them, and commits all of it as one
//! transaction. Whoever awaits [`Journal::commit`] is answered when the disk has confirmed.
//!
//! The journal knows no hypervisor, no component and no HTTP: records and states are opaque text
//! here.

mod account;
mod archive;
mod backup;
mod chain;
mod entry;
mod error;
mod log;
mod migrate;
mod open;
mod read;
mod schema;
mod tables;
mod tenants;
mod verify;
pub mod wire;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub use archive::Archive;
pub use backup::{BackupError, Loss, backup, loss, restore};
pub use entry::{
    Activation, Alive, Durability, Entry, FactHash, FirstTry, Head, InstanceEntry, InstanceWrite,
    NewActivation, NewInvoice, NewPolicy, NewPrices, NewWithdrawal, Opened, Receipt, RequestKey,
    Row, StoredAdmission, StoredInstance, StoredInvoice, StoredPolicy, StoredPrices,
    StoredStanding, StoredTenant, StoredToken,
};
pub use error::{CommitError, Damage, Flaw, OpenError, Place, ReadError, VerifyError};
pub use read::{FactQuery, Page};
pub use verify::{LostLog, UNCOVERED, Verified, verify, verify_accounts};

use crate::billing::Fact;
use crate::billing::account::Accountant;
use crate::id::{Digest, InstanceId, TenantId};
use crate::units::Instant;
use read::Readers;
use wire::ChainedFact;
use writer::{Pending, Request};

/// What may be chosen at opening. Limits that matter to tests only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Most pages of 4,096 bytes that the database may have; none for no limit but the disk's.
    pub pages_max: Option<u32>,
    /// How long another program may hold the database before that is worth a word; 10 s if none.
    pub busy: Option<Duration>,
    /// Whether the wall clock is taken for right at a new boot although the kernel does not know it
    /// to be.
    pub trusts_wall_clock: bool,
    /// How long a new boot waits for the wall clock to be synchronised.
    pub clock_wait: Duration,
}

/// The open journal. Dropping it ends the writer after what has queued up, and lets go of the data
/// folder.
#[derive(Debug)]
pub struct Journal {
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    head: watch::Receiver<Head>,
    failure: watch::Receiver<Option<Arc<str>>>,
    commits: Arc<AtomicU64>,
    closing: Arc<AtomicBool>,
    waiting: Arc<AtomicBool>,
    readers: Arc<Readers>,
    path: PathBuf,
}

impl Journal {
    /// Opens the journal of a data folder, or begins one. Blocking.
    ///
    /// The end of the chain is checked; [`verify`] checks all of it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        folder: &Path,
        options: Options,
        accountant: Arc<dyn Accountant>,
    ) -> Result<(Journal, Opened), OpenError> {
        open::open(folder, options, accountant)
    }

    /// Commits an entry; answers when it is as durable as it asks to be. Waits while the queue is
    /// full.
    ///
    /// The accountant has counted the facts, and an activation of the entry is in force, when this
    /// answers. Cancel-safe in the sense that an entry is committed wholly or not at all; which of
    /// both is not known to a caller that stopped waiting.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit(&self, entry: Entry) -> Result<Receipt, CommitError> {
        let (answer, answered) = oneshot::channel();
        self.request(Request::Commit(Box::new(Pending::new(entry, answer))), answered).await
    }

    /// Notes durably that the host is alive now, and answers that instant. After a loss of power,
    /// time is `unknown` from the last such note.
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
            // If the writer is gone, `answered` says so.
            let _ = requests.send(request).await;
        }
        answered.await.unwrap_or_else(|_| Err(CommitError::Failed { reason: WRITER_GONE.into() }))
    }

    /// Commits what has queued up and moves the log into the database, so that the one file holds
    /// it all. What comes later is refused.
    ///
    /// # Errors
    /// [`CommitError::Failed`]: what is in the log stays there, and is found at the next opening.
    pub async fn close(&self) -> Result<(), CommitError> {
        self.closing.store(true, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.request(Request::Close(answer), answered).await
    }

    /// Whether the writer waits for another program that holds the database.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The end of the journal: the last commit that is durable.
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// Follows the end of the journal. It tells that there are new facts, not which: read them with
    /// [`Journal::facts`].
    pub fn follow(&self) -> watch::Receiver<Head> {
        self.head.clone()
    }

    /// Waits until the journal has failed, and answers why. The process should exit then: what is
    /// durable is not known before the next start.
    pub async fn failed(&self) -> Arc<str> {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(|| WRITER_GONE.into()),
            Err(_) => WRITER_GONE.into(),
        }
    }

    /// Transactions since the opening.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A page of facts, ascending; none that is not durable. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn facts(&self, query: &FactQuery) -> Result<Page, ReadError> {
        let durable = self.head().seq;
        let through = Some(query.through.map_or(durable, |through| through.min(durable)));
        self.readers.with(|db| read::facts(db, &FactQuery { through, ..query.clone() }))
    }

    /// All facts of one instance, ascending, with their sequence numbers; empty for one that is not
    /// known. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn history(&self, instance: &InstanceId) -> Result<Vec<(u64, Fact)>, ReadError> {
        self.readers.with(|db| read::history(db, instance))
    }

    /// An instance as it was last committed, deleted or not. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn instance(&self, instance: &InstanceId) -> Result<Option<StoredInstance>, ReadError> {
        self.readers.with(|db| read::instance(db, instance))
    }

    /// The fact that was recorded when this request was sent for the first time, if it was.
    /// Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn first_try(&self, request: &RequestKey) -> Result<Option<FirstTry>, ReadError> {
        self.readers.with(|db| {
            let Some((seq, same)) = read::first_try(db, request)? else { return Ok(None) };
            Ok(Some(FirstTry { seq, fact: read::fact(db, seq)?, same }))
        })
    }

    /// The last `limit` facts about a policy and a tenant, newest first: what it has been through,
    /// by whom, when and why. Blocking.
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

    /// A reader for those who prove what the journal says.
    pub fn archive(&self) -> Archive {
        Archive::of(self.readers.clone(), self.head.clone())
    }

    /// The bytes of a component. Blocking.
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
            // Its panic was reported when it happened.
            let _ = writer.join();
        }
    }
}
