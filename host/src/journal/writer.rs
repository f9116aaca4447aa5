//! The writer: a thread that commits all queued requests with one transaction.
//!
//! Order within a batch: number the facts, let the accountant count, hash and insert, commit, sync,
//! answer. Nothing outside this thread changes the file, and a batch that fails leaves nothing
//! behind, on disk or in memory.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::account;
use super::chain::encode_body;
use super::entry::{
    Durability, Entry, Head, InstanceWrite, NewActivation, NewInvoice, NewPolicy, NewPrices,
    NewWithdrawal, Receipt, RequestKey, Row,
};
use super::error::{CommitError, is_no_space};
use super::figures::{self, Figures};
use super::read;
use super::removal::Removal;
use super::reserve::Reserve;
use super::schema::{self, WITHDRAWN, int, uint};
use super::tables::{self, MILESTONE_FACTS, Milestone};
use super::wire::{FactRecord, Family, What};
use crate::billing::account::{Account, Accountant, Entering, Fault};
use crate::billing::{Change, Counted, InstanceFact, Reading, TenantFact, life};
use crate::clock::{self, Clock};
use crate::id::{Digest, InstanceId, InstanceName, TenantId, TokenId};
use crate::limits::queue::JOURNAL_BATCH_MAX;
use crate::mutants::Mutant;
use crate::tenant;
use crate::units::Instant;
use crate::vm::Phase;

/// Number of facts in the log at which it is moved into the main file: some 8 to 16 MiB. A document
/// or a component counts as facts of the same size.
const CHECKPOINT_LOAD: u64 = 8_192;

/// The pages that a commit adds to the log beside those of its facts, as a number of facts.
const COMMIT_LOAD: u64 = 8;

/// Most transactions in a row that are written and not synced. A loss of power may tear this many
/// and one more, see [`super::log`].
pub(super) const UNSYNCED_MAX: u32 = 1;

/// Longest wait for further requests of a batch, in nanoseconds: a quarter of a slow disk's sync.
const GATHER_NS_MAX: u64 = 1_000_000;

/// The answer to a request.
pub(super) type Answer<T> = oneshot::Sender<Result<T, CommitError>>;

/// A request to the writer.
pub(super) enum Request {
    /// Commit an entry.
    Commit(Box<Pending>),
    /// Write a liveness record.
    Alive(Answer<Instant>),
    /// Move the log into the database, and refuse later requests.
    Close(Answer<()>),
    /// Remove something from the tables.
    Remove(Removal, Answer<()>),
}

impl Request {
    /// Refuses the request, because the journal has failed or is closed.
    fn refuse(self, reason: &Arc<str>) {
        let mut batch = Batch::default();
        batch.push(self);
        batch.refuse(&CommitError::Failed { reason: reason.clone() });
    }
}

/// An entry that is not yet committed.
pub(super) struct Pending {
    pub(super) entry: Entry,
    /// The entry's facts, in the order of the journal. The writer appends its own.
    facts: Vec<Unsealed>,
    /// True if it may be refused while the reserve is in use.
    pub(super) can_wait: bool,
    pub(super) answer: Answer<Receipt>,
}

/// A fact that is not yet in the chain.
struct Unsealed {
    family: Family,
    record: FactRecord,
    /// Set if it is a milestone of its instance's history.
    milestone: Option<Milestone>,
}

impl Pending {
    /// Encodes the facts in the caller's task; only their order is the writer's.
    pub(super) fn new(mut entry: Entry, answer: Answer<Receipt>) -> Self {
        let can_wait = entry.can_wait();
        let mut facts: Vec<Unsealed> = Vec::new();
        for (at, fact) in std::mem::take(&mut entry.host) {
            facts.push(Unsealed::of_tenant(&TenantId::default_tenant(), &at, Family::Host(fact)));
        }
        for (tenant, (at, fact)) in std::mem::take(&mut entry.tenants) {
            facts.push(Unsealed::of_tenant(&tenant, &at, Family::Tenant(fact)));
        }
        for (at, fact) in entry.instance.iter_mut().flat_map(|of| std::mem::take(&mut of.facts)) {
            // The writer fills in the instance, which it knows by the row.
            facts.push(Unsealed::new(&at, Family::Instance(fact)));
        }
        Self { entry, facts, can_wait, answer }
    }
}

impl Unsealed {
    fn new(at: &Reading, family: Family) -> Self {
        let record = FactRecord::unsealed(at, What::from(&family));
        Self { family, record, milestone: None }
    }

    fn of_tenant(tenant: &TenantId, at: &Reading, family: Family) -> Self {
        let mut fact = Self::new(at, family);
        fact.record.tenant = tenant.as_str().into();
        fact
    }

    fn is_of_instance(&self) -> bool {
        matches!(self.family, Family::Instance(_))
    }

    fn deletes(&self) -> bool {
        matches!(self.family, Family::Instance(InstanceFact::Deleted))
    }
}

/// The last fact of an instance, which its next fact links to.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    pub(super) id: InstanceId,
    pub(super) tenant: TenantId,
    pub(super) last_fact: Option<u64>,
    pub(super) last: Option<Instant>,
    /// Number of its facts.
    pub(super) facts: u64,
    /// Its last fact that counts time.
    pub(super) opened: Option<u64>,
    /// The phase that this one entered.
    pub(super) phase: Option<Phase>,
    /// Number of times that it has left standby.
    pub(super) wakes: u32,
}

impl Tail {
    fn new(id: InstanceId, tenant: TenantId) -> Self {
        Self {
            id,
            tenant,
            last_fact: None,
            last: None,
            facts: 0,
            opened: None,
            phase: None,
            wakes: 0,
        }
    }

    /// Takes note of the last fact.
    fn take(&mut self, record: &FactRecord, counted: Option<Counted>) {
        self.facts += 1;
        self.last_fact = Some(record.seq);
        self.last = Some(record.meter());
        let Some(counted) = counted else { return };
        let woken = self.phase.is_some_and(|phase| life::wakes(phase, counted.phase()));
        self.wakes = self.wakes.saturating_add(u32::from(woken));
        self.phase = counted.phase();
        self.opened = Some(record.seq);
    }
}

/// The state of the writer's thread.
pub(super) struct Writer {
    /// None if the journal keeps none.
    pub(super) reserve: Option<Reserve>,
    pub(super) db: Connection,
    pub(super) clock: Clock,
    /// True if the operator vouches for the wall clock.
    pub(super) trusts_wall_clock: bool,
    pub(super) accountant: Arc<dyn Accountant>,
    pub(super) tails: HashMap<Row, Tail>,
    pub(super) head: Head,
    pub(super) recorded: Instant,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) head_seen: watch::Sender<Head>,
    pub(super) failure: watch::Sender<Option<Arc<str>>>,
    pub(super) figures: Arc<Figures>,
    /// True once the journal closes: the writer no longer waits for another program's lock.
    pub(super) closing: Arc<AtomicBool>,
    /// True while another program holds the database.
    pub(super) waiting: Arc<AtomicBool>,
    /// Estimated content of the log that is not in the main file, in facts.
    pub(super) log_load: u64,
    /// Number of transactions since the last sync.
    pub(super) unsynced: u32,
    /// The write-ahead log, synced through this handle: the connection does not sync commits.
    pub(super) log: File,
    pub(super) last_batch_len: usize,
    pub(super) last_commit_ns: u64,
    pub(super) scratch: Scratch,
    /// Lock of the data folder, held as long as the file may be written.
    pub(super) _lock: File,
}

/// Reused buffers.
#[derive(Default)]
pub(super) struct Scratch {
    body: Vec<u8>,
    account: Vec<u8>,
}

/// Requests that share a transaction.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Pending>,
    pub(super) alive: Vec<Answer<Instant>>,
    /// Set if the batch is the last one.
    close: Option<Answer<()>>,
    /// Removal that follows it.
    remove: Option<(Removal, Answer<()>)>,
}

impl Batch {
    fn push(&mut self, request: Request) {
        match request {
            Request::Commit(pending) => self.entries.push(*pending),
            Request::Alive(answer) => self.alive.push(answer),
            Request::Remove(what, answer) => self.remove = Some((what, answer)),
            Request::Close(answer) => self.close = Some(answer),
        }
    }

    fn len(&self) -> usize {
        self.entries.len() + self.alive.len()
    }

    /// True if the batch takes no more requests: it is full, or its last entry activates or
    /// withdraws a policy, after which nothing may be counted in the same batch, or has an
    /// idempotency key, which a repeated request must find in an earlier batch.
    fn is_closed(&self) -> bool {
        let closes = |entry: &Entry| {
            entry.activation.is_some() || entry.withdrawal.is_some() || entry.request.is_some()
        };
        let is_full =
            self.len() >= JOURNAL_BATCH_MAX || self.close.is_some() || self.remove.is_some();
        is_full || self.entries.last().is_some_and(|pending| closes(&pending.entry))
    }

    /// True if a request of the batch waits for a sync.
    fn must_be_synced(&self) -> bool {
        !self.alive.is_empty()
            || self.entries.iter().any(|pending| pending.entry.durability == Durability::Synced)
    }

    fn refuse(self, error: &CommitError) {
        for pending in self.entries {
            let _ = pending.answer.send(Err(error.clone()));
        }
        for answer in self.alive {
            let _ = answer.send(Err(error.clone()));
        }
        if let Some(answer) = self.close {
            let _ = answer.send(Err(error.clone()));
        }
        if let Some((_, answer)) = self.remove {
            let _ = answer.send(Err(error.clone()));
        }
    }

    /// Refuses all requests, because the journal has failed.
    fn fail(self, reason: String) -> Arc<str> {
        let reason: Arc<str> = reason.into();
        self.refuse(&CommitError::Failed { reason: reason.clone() });
        reason
    }
}

/// An entry inside the transaction.
struct Draft {
    /// New content of the instance's hot row; none for an entry without an instance.
    hot: Option<Hot>,
    first_seq: u64,
    last_seq: u64,
    activated_from: Option<Instant>,
}

/// The new content of an instance's row in `live`.
struct Hot {
    row: Row,
    is_new: bool,
    /// Last fact of the instance after the entry.
    tail: Option<Tail>,
    account: Account,
    state: String,
}

/// A transaction under way: its numbering, and the state to restore if it fails.
struct Plan {
    /// Reading at which the facts of this transaction are recorded, and the writer's own facts
    /// happen.
    now: Reading,
    /// Sequence number of the last fact that is numbered.
    seq: u64,
    head: Head,
    recorded: Instant,
    /// Each tail before a change, in the order of the changes; none for a new one.
    tails: Vec<(Row, Option<Tail>)>,
    /// Changes of time that the facts of the transaction make.
    steps: Vec<figures::Step>,
}

/// For each entry of a committed transaction, its draft, or the error that refused it alone.
type Outcomes = Vec<Result<Draft, CommitError>>;

impl Writer {
    /// Handles requests until every sender is gone, the journal is closed, or it has failed.
    pub(super) fn run(mut self) {
        while let Some(first) = self.requests.blocking_recv() {
            if let Err(reason) = self.serve(first) {
                while let Some(request) = self.requests.blocking_recv() {
                    request.refuse(&reason);
                }
                return;
            }
        }
        self.close();
    }

    /// Does what [`Writer::run`] does, as a task.
    pub(super) async fn run_as_task(mut self) {
        while let Some(first) = self.requests.recv().await {
            if let Err(reason) = self.serve(first) {
                while let Some(request) = self.requests.recv().await {
                    request.refuse(&reason);
                }
                return;
            }
        }
        self.close();
    }

    /// Handles a request with all that wait.
    ///
    /// # Errors
    /// The reason to refuse all later requests: the journal has failed or is closed.
    fn serve(&mut self, first: Request) -> Result<(), Arc<str>> {
        let mut batch = self.gather(first);
        let close = batch.close.take();
        let remove = batch.remove.take();
        self.spare_reserve(&mut batch);
        if batch.len() > 0
            && let Err(reason) = self.handle(batch)
        {
            tracing::error!(%reason, "the journal has failed");
            self.failure.send_replace(Some(reason.clone()));
            return Err(reason);
        }
        if let Some((what, answer)) = remove {
            let _ = answer.send(self.remove(&what));
        }
        let Some(answer) = close else { return Ok(()) };
        self.close();
        let _ = answer.send(Ok(()));
        Err(CLOSED.into())
    }

    /// Moves the log into the main file. Failing to is no loss: the next opening reads the log.
    fn close(&self) {
        match schema::mark_closed(&self.db) {
            Ok(true) => {}
            Ok(false) => tracing::warn!(
                "another program reads the database: facts stay in its log; keep both files"
            ),
            Err(error) => {
                tracing::warn!(%error, "can't move the log into the database: keep both files")
            }
        }
    }

    /// Takes all requests that wait. The callers of the last batch are likely to send again at
    /// once: the writer waits for as many requests up to a quarter of a commit's time, since a
    /// further small transaction would cost all of them a whole commit.
    ///
    /// Yields meanwhile: spinning was tried and gathered fewer, as it keeps the callers off the
    /// processor.
    fn gather(&mut self, first: Request) -> Batch {
        let mut batch = Batch::default();
        batch.push(first);
        let until = clock::boottime_ns() + (self.last_commit_ns / 4).min(GATHER_NS_MAX);
        while !batch.is_closed() {
            match self.requests.try_recv() {
                Ok(request) => batch.push(request),
                Err(_) if batch.len() < self.last_batch_len && clock::boottime_ns() < until => {
                    std::thread::yield_now()
                }
                Err(_) => break,
            }
        }
        batch
    }

    // A second thread that prepares the next batch while this one is synced was built and measured:
    // at most a tenth more at 64 instances, a fifth less at 16.
    /// Commits a batch and answers its requests.
    ///
    /// # Errors
    /// The reason, if the journal has failed.
    fn handle(&mut self, mut batch: Batch) -> Result<(), Arc<str>> {
        let mut plan = self.plan();
        let began = clock::boottime_ns();
        let outcomes = match self.transact(&mut batch, &mut plan) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let rolled_back = self.take_back(plan);
                if is_no_space(&error) && rolled_back.is_ok() {
                    self.use_reserve(&batch);
                    batch.refuse(&CommitError::NoSpace(Arc::new(error)));
                    return Ok(());
                }
                return Err(batch.fail(format!("can't write: {error}")));
            }
        };
        if batch.must_be_synced() || self.unsynced == UNSYNCED_MAX {
            let sync_began = clock::boottime_ns();
            if !Mutant::SyncSkipped.is_active()
                && let Err(error) = self.log.sync_data()
            {
                return Err(batch.fail(format!("can't sync: {error}")));
            }
            self.unsynced = 0;
            self.figures.syncs.record(clock::boottime_ns().saturating_sub(sync_began));
            self.last_batch_len = batch.len();
            self.last_commit_ns = clock::boottime_ns().saturating_sub(began);
            self.head_seen.send_replace(self.head);
        } else {
            self.unsynced += 1;
            if Mutant::UnsyncedShown.is_active() {
                self.head_seen.send_replace(self.head);
            }
        }
        self.log_load += batch.document_load();
        let lasted = clock::boottime_ns().saturating_sub(began);
        self.figures.note(batch.entries.len(), lasted, &plan.steps);
        self.answer(batch, outcomes);
        self.checkpoint()
    }

    fn plan(&self) -> Plan {
        let now = self.clock.reading();
        Plan {
            now,
            seq: self.head.seq,
            head: self.head,
            recorded: self.recorded,
            tails: Vec::new(),
            steps: Vec::new(),
        }
    }

    fn transact(&mut self, batch: &mut Batch, plan: &mut Plan) -> rusqlite::Result<Outcomes> {
        self.begin()?;
        self.recorded = self.recorded.max(plan.now.meter);
        let mut outcomes = Vec::with_capacity(batch.entries.len());
        for pending in &mut batch.entries {
            outcomes.push(self.place(pending, plan)?);
        }
        let faults = self.account(&batch.entries, &mut outcomes, plan);
        for (pending, outcome) in batch.entries.iter().zip(&outcomes) {
            if let Ok(draft) = outcome {
                self.write(pending, draft)?;
            }
        }
        for fault in &faults {
            self.append(fault)?;
        }
        if !batch.alive.is_empty() {
            write_alive(&self.db, &plan.now, self.trusts_wall_clock || clock::is_synchronised())?;
        }
        self.execute("COMMIT")?;
        Ok(outcomes)
    }

    /// Begins a transaction, waiting as long as another program holds the database: an auditor's
    /// shell must not end the daemon.
    fn begin(&self) -> rusqlite::Result<()> {
        let begun = loop {
            match self.execute("BEGIN IMMEDIATE") {
                Err(error) if is_busy(&error) && !self.closing.load(Ordering::Relaxed) => {
                    self.waiting.store(true, Ordering::Relaxed);
                    tracing::warn!(
                        "another program holds a write transaction on the database; nothing is \
                         recorded until it ends"
                    );
                }
                other => break other,
            }
        };
        if self.waiting.swap(false, Ordering::Relaxed) {
            tracing::info!("the database is free again");
        }
        begun
    }

    fn take_back(&mut self, plan: Plan) -> rusqlite::Result<()> {
        if !Mutant::RollbackForgotten.is_active() {
            self.head = plan.head;
        }
        self.recorded = plan.recorded;
        for (row, tail) in plan.tails.into_iter().rev() {
            match tail {
                Some(tail) => self.tails.insert(row, tail),
                None => self.tails.remove(&row),
            };
        }
        // SQLite rolls back by itself on some errors.
        if self.db.is_autocommit() { Ok(()) } else { self.execute("ROLLBACK") }
    }

    fn answer(&self, batch: Batch, outcomes: Outcomes) {
        for (pending, outcome) in batch.entries.into_iter().zip(outcomes) {
            if let Ok(draft) = &outcome
                && let Some((tenant, change)) = draft.change(&pending.entry)
            {
                self.accountant.change(tenant, change);
            }
            let _ = pending.answer.send(outcome.map(|draft| draft.receipt(self.head)));
        }
        for answer in batch.alive {
            let _ = answer.send(Ok(self.recorded));
        }
    }

    /// Moves the log into the main file once it is large, after all requests were answered. A
    /// failed sync here must not be repeated either.
    fn checkpoint(&mut self) -> Result<(), Arc<str>> {
        self.log_load += COMMIT_LOAD;
        if self.log_load < CHECKPOINT_LOAD {
            return Ok(());
        }
        self.log_load = 0;
        match schema::checkpoint(&self.db, "PASSIVE") {
            Ok(_) => Ok(()),
            Err(error) if is_no_space(&error) => Ok(()),
            Err(error) => Err(format!("can't move the log into the database: {error}").into()),
        }
    }

    fn remove(&mut self, what: &Removal) -> Result<(), CommitError> {
        let removed = self.begin().and_then(|()| {
            self.log_load += what.apply(&self.db)? / 8;
            self.execute("COMMIT")
        });
        if removed.is_err() && !self.db.is_autocommit() {
            let _ = self.execute("ROLLBACK");
        }
        removed.map_err(|error| match is_no_space(&error) {
            true => CommitError::NoSpace(Arc::new(error)),
            false => CommitError::Failed { reason: format!("can't remove rows: {error}").into() },
        })
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.db.prepare_cached(sql)?.execute([]).map(drop)
    }
}

/// First step: checks each entry, and gives its facts their numbers and instants.
impl Writer {
    fn place(
        &mut self,
        pending: &mut Pending,
        plan: &mut Plan,
    ) -> rusqlite::Result<Result<Draft, CommitError>> {
        if let Err(error) = self.check(pending) {
            return Ok(Err(error));
        }
        if let Some(error) = self.repeated(&pending.entry)? {
            return Ok(Err(error));
        }
        let mut hot = match pending.entry.instance.take() {
            None => None,
            Some(of) => match self.admit(of.write, plan)? {
                Ok(hot) => Some(hot),
                Err(error) => return Ok(Err(error)),
            },
        };
        if let Some(refused) = self.check_number(&pending.entry)? {
            return Ok(Err(refused));
        }
        if let Some(refused) = self.check_planned(&pending.entry)? {
            return Ok(Err(refused));
        }
        let activation = &pending.entry.activation;
        let prices = &pending.entry.prices;
        let requested = activation
            .as_ref()
            .map(|new| new.requested)
            .or(prices.as_ref().map(|new| new.requested));
        let activated_from = requested.map(|requested| self.effective(requested));
        pending.facts.extend(own_facts(&pending.entry, activated_from, &plan.now));
        let first_seq = plan.seq + 1;
        for fact in &mut pending.facts {
            self.seal_place(fact, hot.as_ref().map(|hot| hot.row), plan)?;
        }
        if let Some(hot) = &mut hot {
            hot.tail = self.tails.get(&hot.row).cloned();
            self.close_if_deleted(&pending.facts, hot.row, plan)?;
        }
        Ok(Ok(Draft { hot, first_seq, last_seq: plan.seq, activated_from }))
    }

    /// Checks that the instance exists, and that none of its facts follows its deletion.
    fn check(&self, pending: &Pending) -> Result<(), CommitError> {
        let Some(of) = &pending.entry.instance else { return Ok(()) };
        if let InstanceWrite::Update { row, .. } = &of.write
            && !self.tails.contains_key(row)
        {
            return Err(CommitError::NoSuchRow(*row));
        }
        let mut from_deletion = pending.facts.iter().skip_while(|fact| !fact.deletes());
        match from_deletion.nth(1) {
            Some(_) => Err(CommitError::AfterDeletion),
            None => Ok(()),
        }
    }

    /// Looks for an earlier request with the same idempotency key.
    fn repeated(&self, entry: &Entry) -> rusqlite::Result<Option<CommitError>> {
        let Some(request) = &entry.request else { return Ok(None) };
        let first = read::first_try(&self.db, request)?;
        Ok(first.map(|(fact, same)| CommitError::Repeated { fact, same }))
    }

    fn admit(
        &mut self,
        write: InstanceWrite,
        plan: &mut Plan,
    ) -> rusqlite::Result<Result<Hot, CommitError>> {
        match write {
            InstanceWrite::Insert { id, tenant, name, record, state, account } => {
                let inserted = self
                    .db
                    .prepare_cached(
                        "INSERT INTO instance (id, tenant, name, record) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![id.as_str(), tenant.as_str(), name.as_str(), record]);
                if let Err(error) = inserted {
                    return taken(error, &id, &tenant, &name).map(Err);
                }
                let row = Row(self.db.last_insert_rowid().unsigned_abs());
                plan.tails.push((row, None));
                self.tails.insert(row, Tail::new(id, tenant));
                Ok(Ok(Hot { row, is_new: true, tail: None, account, state }))
            }
            InstanceWrite::Update { row, name, record, state, account } => {
                if name.is_some() || record.is_some() {
                    let updated = self.rewrite(row, name.as_ref(), record.as_deref());
                    if let (Err(error), Some(tail), Some(name)) =
                        (updated?, self.tails.get(&row), &name)
                    {
                        return taken(error, &tail.id, &tail.tenant, name).map(Err);
                    }
                }
                Ok(Ok(Hot { row, is_new: false, tail: None, account, state }))
            }
        }
    }

    /// Changes the name or record of an instance. The inner error is a violation of the unique
    /// index of names, the outer one any other.
    fn rewrite(
        &self,
        row: Row,
        name: Option<&InstanceName>,
        record: Option<&str>,
    ) -> rusqlite::Result<Result<usize, rusqlite::Error>> {
        let updated = self
            .db
            .prepare_cached(
                "UPDATE instance SET name = coalesce(?2, name), record = coalesce(?3, record) \
                 WHERE row = ?1",
            )?
            .execute(params![int(row.0), name.map(InstanceName::as_str), record]);
        match updated {
            Err(error) if name.is_none() => Err(error),
            other => Ok(other),
        }
    }

    /// Returns the instant from which an activation is in force, never in the past: counted time
    /// stays counted.
    fn effective(&self, requested: Option<Instant>) -> Instant {
        requested.map_or(self.recorded, |requested| requested.max(self.recorded))
    }

    /// Checks that the documents of a tenant are numbered without a gap.
    fn check_number(&self, entry: &Entry) -> rusqlite::Result<Option<CommitError>> {
        let Some(new) = &entry.invoice else { return Ok(None) };
        let sql = "SELECT coalesce(max(number), 0) + 1 FROM invoice WHERE tenant = ?1";
        let next =
            self.db.prepare_cached(sql)?.query_row([new.tenant.as_str()], |row| uint(row, 0))?;
        Ok((next != new.number).then_some(CommitError::NumberInUse { number: new.number, next }))
    }

    /// Checks that the planned change of a withdrawal exists and is not in force yet.
    fn check_planned(&self, entry: &Entry) -> rusqlite::Result<Option<CommitError>> {
        let Some(NewWithdrawal { tenant, plan, digest, from, .. }) = &entry.withdrawal else {
            return Ok(None);
        };
        let table = match plan {
            tenant::Plan::Policy => "activation",
            tenant::Plan::Prices => "prices",
        };
        let sql = format!(
            "SELECT 1 FROM {table} AS one WHERE tenant = ?1 AND from_ns = ?2 AND digest = ?3 \
             AND NOT EXISTS {WITHDRAWN}"
        );
        let values = params![tenant.as_str(), from.0, digest.to_string(), plan.as_str()];
        let is_planned = *from > self.recorded && self.db.prepare_cached(&sql)?.exists(values)?;
        Ok((!is_planned).then_some(CommitError::NotPlanned { plan: *plan, digest: *digest }))
    }

    /// Gives a fact its number and an instant that is not in the future. A fact of an instance also
    /// gets its instance, its link to the previous fact, and an instant that is not before that
    /// fact's.
    fn seal_place(
        &mut self,
        fact: &mut Unsealed,
        row: Option<Row>,
        plan: &mut Plan,
    ) -> rusqlite::Result<()> {
        let is_of_instance = fact.is_of_instance();
        let record = &mut fact.record;
        plan.seq += 1;
        record.seq = plan.seq;
        record.recorded_ns = self.recorded.0;
        record.meter_ns = record.meter_ns.min(self.recorded.0);
        let Some(row) = row.filter(|_| is_of_instance) else { return Ok(()) };
        let Some(tail) = self.tails.get_mut(&row) else { return Ok(()) };
        plan.tails.push((row, Some(tail.clone())));
        record.tenant = tail.tenant.as_str().into();
        record.instance = Some(tail.id.as_str().into());
        record.previous = tail.last_fact.filter(|_| !Mutant::LinkLost.is_active());
        let least = tail.last.filter(|_| !Mutant::FactsGoBack.is_active());
        record.meter_ns = least.map_or(record.meter_ns, |last| record.meter_ns.max(last.0));
        if tail.last_fact.is_none() {
            self.db
                .prepare_cached(
                    "UPDATE instance SET first_fact = ?2, first_ns = ?3 WHERE row = ?1",
                )?
                .execute(params![int(row.0), int(record.seq), record.meter_ns])?;
        }
        tail.take(record, fact.family.counts());
        let is_milestone = tail.facts.is_multiple_of(MILESTONE_FACTS);
        fact.milestone = is_milestone.then_some(Milestone { row, wakes: tail.wakes });
        Ok(())
    }

    /// Closes the record of a deleted instance, which frees its name for the next entry and refuses
    /// further facts.
    fn close_if_deleted(
        &mut self,
        facts: &[Unsealed],
        row: Row,
        plan: &mut Plan,
    ) -> rusqlite::Result<()> {
        let Some(Unsealed { record, .. }) = facts.iter().find(|fact| fact.deletes()) else {
            return Ok(());
        };
        plan.tails.push((row, self.tails.remove(&row)));
        self.db
            .prepare_cached("UPDATE instance SET deleted = ?2 WHERE row = ?1")?
            .execute(params![int(row.0), int(record.seq)])
            .map(drop)
    }
}

/// Second step: asks the accountant how the time counts.
impl Writer {
    /// Asks the accountant for the account after each fact that counts time, and returns the facts
    /// about policies that failed.
    ///
    /// One call holds the k-th such fact of every entry, so that an instance occurs in a call once
    /// and its account is the one that the last call returned.
    fn account(
        &self,
        entries: &[Pending],
        outcomes: &mut Outcomes,
        plan: &mut Plan,
    ) -> Vec<Unsealed> {
        let mut faults = Vec::new();
        for round in 0.. {
            let mut batch = Vec::new();
            let mut whose = Vec::new();
            let mut before = Vec::new();
            for (index, (pending, outcome)) in entries.iter().zip(outcomes.iter_mut()).enumerate() {
                let Ok(Draft { hot: Some(hot), .. }) = outcome else { continue };
                let Some(tail) = &hot.tail else { continue };
                if let Some((record, counted)) = pending.counted().nth(round) {
                    before.push(hot.account.tracker);
                    batch.push(Entering {
                        tenant: tail.tenant.clone(),
                        account: std::mem::take(&mut hot.account),
                        to: counted.phase(),
                        at: record.meter(),
                        fact: record.seq,
                    });
                    whose.push(index);
                }
            }
            if batch.is_empty() {
                break;
            }
            faults.extend(self.accountant.enter(&mut batch));
            for ((index, entering), before) in whose.into_iter().zip(batch).zip(before) {
                let Ok(Draft { hot: Some(hot), .. }) = &mut outcomes[index] else { continue };
                plan.steps.push(figures::Step {
                    row: hot.row,
                    tenant: entering.tenant,
                    before,
                    after: entering.account.tracker,
                    entered: entering.to,
                });
                hot.account = entering.account;
            }
        }
        faults.into_iter().map(|fault| self.fault(fault, plan)).collect()
    }

    fn fault(&self, fault: Fault, plan: &mut Plan) -> Unsealed {
        let told = TenantFact::PolicyFaulted { digest: fault.policy, reason: fault.reason };
        let mut told = Unsealed::of_tenant(&fault.tenant, &plan.now, Family::Tenant(told));
        plan.seq += 1;
        told.record.seq = plan.seq;
        told.record.recorded_ns = self.recorded.0;
        told
    }
}

impl Pending {
    /// The facts that count time, each with its record.
    fn counted(&self) -> impl Iterator<Item = (&FactRecord, Counted)> {
        self.facts
            .iter()
            .filter_map(|Unsealed { family, record, .. }| Some((record, family.counts()?)))
    }
}

/// Third step: writes the facts and records to the database.
impl Writer {
    fn write(&mut self, pending: &Pending, draft: &Draft) -> rusqlite::Result<()> {
        for fact in &pending.facts {
            self.append(fact)?;
        }
        if let Some(hot) = &draft.hot {
            self.write_hot(hot)?;
        }
        if let Some(policy) = &pending.entry.policy {
            self.write_policy(policy)?;
        }
        if let Some(secret) = &pending.entry.secret {
            self.write_secret(secret)?;
        }
        for bytes in &pending.entry.documents {
            self.write_document(&Digest::of(bytes), bytes)?;
        }
        if let Some(NewPrices { digest, bytes, .. }) = &pending.entry.prices {
            self.write_document(digest, bytes)?;
        }
        if let Some(NewInvoice { digest, bytes, .. }) = &pending.entry.invoice {
            self.write_document(digest, bytes)?;
        }
        if let Some(request) = &pending.entry.request {
            self.write_request(request, draft.last_seq)?;
        }
        Ok(())
    }

    fn append(&mut self, fact: &Unsealed) -> rusqlite::Result<()> {
        let record = &fact.record;
        let body = &mut self.scratch.body;
        body.clear();
        encode_body(record, body)?;
        let hash = self.head.hash.next(body);
        self.db
            .prepare_cached("INSERT INTO fact (seq, hash, body) VALUES (?1, ?2, ?3)")?
            .execute(params![int(record.seq), hash.0, str::from_utf8(body)?])?;
        self.head = Head { seq: record.seq, hash };
        self.log_load += 1;
        if let Some(milestone) = fact.milestone {
            tables::write_milestone(&self.db, milestone, record)?;
        }
        match &fact.family {
            Family::Host(of) => tables::index_host(&self.db, of, record),
            Family::Tenant(of) => tables::index_tenant(&self.db, of, record),
            Family::Instance(_) => Ok(()),
        }
    }

    fn write_hot(&mut self, hot: &Hot) -> rusqlite::Result<()> {
        account::encode(&hot.account, &mut self.scratch.account);
        let tail = hot.tail.as_ref();
        let sql = if hot.is_new {
            "INSERT INTO live (row, last_fact, last_ns, account, state, opened, wakes, facts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
        } else {
            "UPDATE live SET last_fact = ?2, last_ns = ?3, account = ?4, state = ?5, opened = ?6, wakes = ?7, facts = ?8
             WHERE row = ?1"
        };
        self.db
            .prepare_cached(sql)?
            .execute(params![
                int(hot.row.0),
                tail.and_then(|tail| tail.last_fact).map(int),
                tail.and_then(|tail| tail.last).map(|last| last.0),
                self.scratch.account,
                hot.state,
                tail.and_then(|tail| tail.opened).map(int),
                tail.map_or(0, |tail| tail.wakes),
                tail.map_or(0, |tail| int(tail.facts))
            ])
            .map(drop)
    }

    fn write_policy(&self, policy: &NewPolicy) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                // The record of one tenant's examination is not replaced by another's.
                "INSERT OR IGNORE INTO policy (digest, bytes, record) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![policy.digest.to_string(), policy.bytes, policy.record])
            .map(drop)
    }

    fn write_secret(&self, secret: &Digest) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("UPDATE token SET secret = ?2 WHERE id = ?1")?
            .execute(params![TokenId::of(secret).to_string(), secret.0])
            .map(drop)
    }

    fn write_document(&self, digest: &Digest, bytes: &[u8]) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO document (digest, bytes) VALUES (?1, ?2)")?
            .execute(params![digest.to_string(), bytes])
            .map(drop)
    }

    /// Stores an idempotency key, with the last fact of its entry.
    fn write_request(&self, request: &RequestKey, fact: u64) -> rusqlite::Result<()> {
        let RequestKey { tenant, key, asked } = request;
        self.db
            .prepare_cached(
                "INSERT INTO request (tenant, key, asked, fact) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![tenant.as_str(), key, asked.to_string(), int(fact)])
            .map(drop)
    }
}

/// Replaces the liveness record.
pub(super) fn write_alive(
    db: &Connection,
    now: &Reading,
    is_synchronised: bool,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO alive (one, boot_id, boottime_ns, meter_ns, is_synchronised) \
               VALUES (1, ?1, ?2, ?3, ?4)";
    db.prepare_cached(sql)?
        .execute(params![now.boot.0.as_ref(), int(now.boottime_ns), now.meter.0, is_synchronised])
        .map(drop)
}

/// The facts that the writer adds to an entry. The fact about an activation, prices, a withdrawal
/// or an invoice comes last; an entry has one of them.
fn own_facts(
    entry: &Entry,
    activated_from: Option<Instant>,
    now: &Reading,
) -> impl Iterator<Item = Unsealed> {
    let own = |tenant: &TenantId, fact| Unsealed::of_tenant(tenant, now, Family::Tenant(fact));
    let admitted = entry.policy.as_ref().map(|new| {
        let size_bytes = new.bytes.len() as u64;
        let by = Some(new.by.clone());
        let name = new.name.clone();
        own(&new.tenant, TenantFact::PolicyAdmitted { digest: new.digest, size_bytes, by, name })
    });
    let activated = entry.activation.as_ref().zip(activated_from).map(|(new, from)| {
        let NewActivation { tenant, digest, rollback, by, reason, options, .. } = new.clone();
        own(
            &tenant,
            TenantFact::PolicyActivated { digest, from, rollback, by: Some(by), reason, options },
        )
    });
    let prices = entry.prices.as_ref().zip(activated_from).map(|(new, from)| {
        own(
            &new.tenant,
            TenantFact::PricesActivated {
                digest: new.digest,
                from,
                by: new.by.clone(),
                name: new.name.clone(),
            },
        )
    });
    let invoiced = entry.invoice.as_ref().map(|new| {
        let NewInvoice { tenant, number, digest, from, until, corrects, by, bytes: _ } = new;
        own(
            tenant,
            TenantFact::Invoiced {
                number: *number,
                digest: *digest,
                from: *from,
                until: *until,
                corrects: *corrects,
                by: by.clone(),
            },
        )
    });
    let withdrawn = entry.withdrawal.as_ref().map(|new| {
        let NewWithdrawal { tenant, plan, digest, from, by, reason } = new.clone();
        own(&tenant, TenantFact::PlanWithdrawn { plan, digest, from, by, reason })
    });
    let segment = entry
        .segment
        .clone()
        .map(|fact| Unsealed::of_tenant(&TenantId::default_tenant(), now, Family::Host(fact)));
    segment
        .into_iter()
        .chain(admitted)
        .chain(activated)
        .chain(prices)
        .chain(withdrawn)
        .chain(invoiced)
}

/// Maps a violation of a unique index to its refusal; any other error is returned as it is.
fn taken(
    error: rusqlite::Error,
    id: &InstanceId,
    tenant: &TenantId,
    name: &InstanceName,
) -> rusqlite::Result<CommitError> {
    match &error {
        rusqlite::Error::SqliteFailure(cause, Some(text))
            if cause.code == ErrorCode::ConstraintViolation =>
        {
            if text.contains("instance.id") {
                Ok(CommitError::IdInUse(id.clone()))
            } else {
                Ok(CommitError::NameInUse { tenant: tenant.clone(), name: name.clone() })
            }
        }
        _ => Err(error),
    }
}

const CLOSED: &str = "the journal is closed";

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

impl Draft {
    /// The change of the tenant's policies to announce to the accountant; none if there is none.
    fn change<'a>(&self, entry: &'a Entry) -> Option<(&'a TenantId, Change)> {
        match (&entry.activation, &entry.withdrawal) {
            (Some(new), _) => {
                let from = self.activated_from?;
                Some((&new.tenant, Change::Set { from, digest: new.digest }))
            }
            (
                None,
                Some(NewWithdrawal { tenant, plan: tenant::Plan::Policy, digest, from, .. }),
            ) => Some((tenant, Change::Withdrawn { from: *from, digest: *digest })),
            (None, Some(NewWithdrawal { plan: tenant::Plan::Prices, .. }) | None) => None,
        }
    }

    fn receipt(self, head: Head) -> Receipt {
        Receipt {
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            head,
            row: self.hot.as_ref().map(|hot| hot.row),
            account: self.hot.map(|hot| hot.account),
            activated_from: self.activated_from,
        }
    }
}
