//! The issuer: one close or settlement of a tenant at a time, each document committed before the
//! next is computed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use biller::book::Book;
use biller::currency::Currency;
use tokio::sync::OwnedMutexGuard;

use super::act::{Act, Done};
use super::compute::Computer;
use super::days::DaySum;
use super::difference::{Heading, Letterhead};
use super::document::{Invoice, Named, Receipt};
use super::evidence::{Evidence, EvidenceError};
use super::free;
use super::issue::Goal;
use super::naming::Naming;
use super::open_gaps::Gaps;
use super::period::Period;
use super::rules::Overriding;
use super::view::View;
use super::{Calls, Engines, InvoiceError};
use crate::billing::agreement::Agreement;
use crate::blocking;
use crate::id::{Digest, InstanceId, TenantId};
use crate::journal::{CommitError, Entry, Journal, NewInvoice};
use crate::policy::PolicyHost;
use crate::policy::biller::COMPONENT;
use crate::units::Instant;

/// Lookup of an instance's name and tags by id, from any thread.
pub type Directory = Arc<dyn Fn(&InstanceId) -> Result<Named, EvidenceError> + Send + Sync>;

/// A reason why a document was not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The document can't be computed.
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    /// The document can't be committed.
    #[error("the document can't be committed")]
    Commit(#[from] CommitError),
    /// The computation was aborted or panicked.
    #[error("the computation of the document was aborted; the daemon's log has the details")]
    Broken(#[source] Arc<tokio::task::JoinError>),
}

/// The issuer of tenants' documents.
#[derive(Clone)]
pub struct Issuer {
    journal: Arc<Journal>,
    policies: Arc<PolicyHost>,
    /// Held while a tenant's documents are issued, as their numbers are consecutive. Tenants do not
    /// wait for each other.
    issuing: Locks,
    /// Held while a tenant's proposals are decided on: before [`Self::issuing`].
    deciding: Locks,
    /// Summaries of books that were asked for.
    summaries: Arc<Mutex<HashMap<Digest, BookSummary>>>,
    letterhead: Letterhead,
    gaps: Arc<Gaps>,
}

/// The row of a price book in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BookSummary {
    /// The currency.
    pub currency: Currency,
    /// Number of prices.
    pub prices: u64,
}

/// Largest number of books whose summaries are kept.
const SUMMARIES_MAX: usize = 4_096;

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").finish_non_exhaustive()
    }
}

impl Issuer {
    /// An issuer of documents of `journal`, computed by the components of `policies`.
    pub fn new(journal: Arc<Journal>, policies: Arc<PolicyHost>) -> Self {
        Self {
            journal,
            policies,
            issuing: Arc::default(),
            deciding: Arc::default(),
            summaries: Arc::default(),
            letterhead: Letterhead::default(),
            gaps: Arc::default(),
        }
    }

    /// Names the issuer on the documents to come.
    #[must_use]
    pub fn named(self, letterhead: Letterhead) -> Self {
        Self { letterhead, ..self }
    }

    /// Issues every document towards a goal, in order. Documents that were issued before an error
    /// stay.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn reach(
        &self,
        tenant: &TenantId,
        goal: Goal,
        heading: &Heading,
        act: &Act,
        directory: &Directory,
    ) -> Result<Vec<Invoice>, IssueError> {
        let one_at_a_time = self.lock(tenant);
        let _issuing = one_at_a_time.lock().await;
        let Done { mut documents, is_all } = self.done_before(act).await?;
        if is_all {
            return Ok(documents);
        }
        while let Some(invoice) = self.next(tenant, goal, heading, directory).await? {
            let act = act.part(&documents.len().to_string());
            self.commit(tenant, &invoice, act).await?;
            documents.push(invoice);
        }
        self.finish(act).await?;
        Ok(documents)
    }

    /// Runs `work` on the present state of the journal. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn compute<T>(
        &self,
        tenant: &TenantId,
        directory: &Directory,
        work: impl FnOnce(
            &Computer<'_, crate::journal::Archive, Engines<'_, crate::journal::Archive>>,
            View,
        ) -> T,
    ) -> Result<T, InvoiceError> {
        let archive = self.journal.archive();
        let head = archive.head().map_err(EvidenceError::from)?;
        let view = View::load(&archive, tenant, head)?;
        let calls = Engines::new(&archive, &self.policies);
        let names = |id: &InstanceId| directory(id);
        Ok(work(&Computer::new(&archive, &calls, &names), view))
    }

    /// The documents that a close up to `to` would make now, under `rules` if there are any.
    /// Without any book, they state what was used. Nothing is written. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn preview(
        &self,
        tenant: &TenantId,
        directory: &Directory,
        to: Instant,
        rules: Option<Overriding>,
    ) -> Result<Vec<Invoice>, InvoiceError> {
        self.compute(tenant, directory, |computer, mut view| {
            let is_free = rules.is_none() && !view.has_book(to);
            let rules = match is_free {
                true => Some(free::overriding(&self.meters(&view, to)?)),
                false => rules,
            };
            if let Some(rules) = rules {
                view.name(rules);
            }
            let documents = computer.preview(view, to)?;
            Ok(match is_free {
                true => documents.into_iter().map(free::usage).collect(),
                false => documents,
            })
        })?
    }

    /// The meters of all policies up to an instant.
    fn meters(&self, view: &View, to: Instant) -> Result<BTreeSet<String>, InvoiceError> {
        let archive = self.journal.archive();
        let engines = Engines::new(&archive, &self.policies);
        let mut meters = BTreeSet::new();
        for span in view.policies_until(to, engines.standard()) {
            let description = span.asked.map(|policy| engines.describe(policy)).transpose()?;
            let described = description.into_iter().flat_map(|one| one.meters);
            meters.extend(described.map(|meter| meter.name));
        }
        Ok(meters)
    }

    /// The documents that a close up to `to` would make now, each with its days. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn preview_days(
        &self,
        tenant: &TenantId,
        directory: &Directory,
        to: Instant,
        rules: Option<Overriding>,
    ) -> Result<Vec<(Invoice, Vec<DaySum>)>, InvoiceError> {
        self.compute(tenant, directory, |computer, mut view| {
            if let Some(rules) = rules {
                view.name(rules);
            }
            computer.preview_days(view, to)
        })?
    }

    /// The days of a document of the journal. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn days(
        &self,
        tenant: &TenantId,
        directory: &Directory,
        invoice: &Invoice,
    ) -> Result<Vec<DaySum>, InvoiceError> {
        let place = Evidence::place(&self.journal.archive(), invoice.as_of.seq)?;
        self.compute(tenant, directory, |computer, _| {
            computer.days(&View::load(&self.journal.archive(), tenant, place)?, invoice)
        })?
    }

    /// The names of a tenant's policies and books. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError::Evidence`].
    pub fn naming(&self, tenant: &TenantId) -> Result<Naming, InvoiceError> {
        let facts = self.journal.archive().facts_of_tenant(tenant).map_err(EvidenceError::from)?;
        Ok(Naming::said_by(&facts))
    }

    /// The period that holds `now`, and the agreement that cuts the one after it. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn agreement(
        &self,
        tenant: &TenantId,
        now: Instant,
    ) -> Result<(Period, Agreement), InvoiceError> {
        let archive = self.journal.archive();
        let head = archive.head().map_err(EvidenceError::from)?;
        View::load(&archive, tenant, head)?.agreements_at(now)
    }

    async fn next(
        &self,
        tenant: &TenantId,
        goal: Goal,
        heading: &Heading,
        directory: &Directory,
    ) -> Result<Option<Invoice>, IssueError> {
        let issuer = self.clone();
        let tenant = tenant.clone();
        let heading = Heading {
            letterhead: self.letterhead.clone(),
            standard: Some(self.policies.standard().digest()),
            ..heading.clone()
        };
        let directory = directory.clone();
        let work = move || {
            issuer.compute(&tenant, &directory, |computer, view| {
                computer.next(&view, goal, &heading)
            })?
        };
        let made =
            blocking::run(work).await.map_err(|error| IssueError::Broken(Arc::new(error)))?;
        Ok(made?)
    }

    async fn commit(
        &self,
        tenant: &TenantId,
        invoice: &Invoice,
        act: Act,
    ) -> Result<(), IssueError> {
        let bytes = invoice.to_bytes();
        let new = NewInvoice {
            tenant: tenant.clone(),
            number: invoice.number.unwrap_or_default(),
            digest: Digest::of(&bytes),
            bytes,
            from: Instant(invoice.period.from_ns),
            until: invoice.until(),
            corrects: invoice.follows,
            by: act.by,
        };
        let documents = self.components(&invoice.receipts)?;
        let request = act.request;
        let entry = Entry { invoice: Some(new), documents, request, ..Entry::default() };
        self.journal.commit(entry).await?;
        Ok(())
    }

    /// The components that this program brings, if they made these receipts and the journal does
    /// not have them yet: a document is proved with those that made it, even years later.
    fn components(&self, receipts: &[Receipt]) -> Result<Vec<Vec<u8>>, InvoiceError> {
        let archive = self.journal.archive();
        let mut missing = Vec::new();
        for bytes in [COMPONENT, PolicyHost::standard_bytes()] {
            let own = Digest::of(bytes);
            let name = own.to_string();
            if !receipts.iter().any(|receipt| receipt.component == name) {
                continue;
            }
            let document = archive.document(&own).map_err(EvidenceError::from)?;
            let policy = archive.policy_bytes(&own).map_err(EvidenceError::from)?;
            if document.is_none() && policy.is_none() {
                missing.push(bytes.to_vec());
            }
        }
        Ok(missing)
    }

    /// Summarises a book of the journal. Each one is read once, so that a list costs no parsing of
    /// all its books. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError::Book`], [`InvoiceError::Evidence`].
    pub fn summary(&self, digest: Digest) -> Result<BookSummary, InvoiceError> {
        let known = || self.summaries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(summary) = known().get(&digest) {
            return Ok(*summary);
        }
        let bytes = Evidence::document(&self.journal.archive(), digest)?;
        let book = Book::parse_stored(&bytes)
            .map_err(|problem| InvoiceError::Book { problem: problem.to_string() })?;
        let summary = BookSummary { currency: book.currency(), prices: book.prices().len() as u64 };
        let mut summaries = known();
        if summaries.len() >= SUMMARIES_MAX {
            summaries.clear();
        }
        summaries.insert(digest, summary);
        Ok(summary)
    }

    /// The journal.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The engine.
    pub(super) fn policies(&self) -> &PolicyHost {
        &self.policies
    }

    /// The times that the meter has left out.
    pub(super) fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// The lock under which a tenant's documents and prices change.
    pub(super) fn lock(&self, tenant: &TenantId) -> Arc<tokio::sync::Mutex<()>> {
        lock_of(&self.issuing, tenant)
    }

    /// Waits until nobody else decides on the tenant's proposals, and keeps others waiting until
    /// the result is dropped.
    pub async fn decide(&self, tenant: &TenantId) -> OwnedMutexGuard<()> {
        lock_of(&self.deciding, tenant).lock_owned().await
    }
}

/// Locks by tenant.
type Locks = Arc<Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>>>;

fn lock_of(locks: &Locks, tenant: &TenantId) -> Arc<tokio::sync::Mutex<()>> {
    let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
    // Unused locks are dropped, so that unknown tenants take no memory.
    locks.retain(|_, lock| Arc::strong_count(lock) > 1);
    locks.entry(tenant.clone()).or_default().clone()
}
