//! Changes of a tenant's prices: books, overrides, agreements. Each is checked against the rules
//! that it meets before it becomes a fact.

use biller::book::Book;

use super::door::{Refusal, check_book, check_options, check_policy};
use super::evidence::EvidenceError;
use super::issuer::{IssueError, Issuer};
use super::rules::Overriding;
use super::view::View;
use super::{Calls, Engines, Evidence, InvoiceError};
use crate::billing::agreement::Agreement;
use crate::billing::{Dated, Reading, TenantFact, zones};
use crate::id::{Digest, TenantId};
use crate::journal::{Archive, Entry, NewPrices};
use crate::policy::metering::Description;
use crate::tenant::Actor;
use crate::units::Instant;

/// A reason why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The text is not a price book.
    #[error("price book: {0}")]
    Book(#[from] biller::book::BookError),
    /// The change conflicts with the rules that it meets.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The rules that it is checked against can't be read, or the change can't be committed.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl From<InvoiceError> for ChangeError {
    fn from(error: InvoiceError) -> Self {
        Self::Issue(error.into())
    }
}

/// A book that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookSet {
    /// The book.
    pub book: Book,
    /// SHA-256 of its text.
    pub digest: Digest,
    /// First instant at which it holds.
    pub from: Instant,
    /// Sequence number of the fact.
    pub fact: u64,
}

impl Issuer {
    /// Puts a price book in force from `at` on; none for now.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn set_prices(
        &self,
        tenant: &TenantId,
        text: Vec<u8>,
        at: Option<Instant>,
        now: Instant,
        by: Actor,
    ) -> Result<BookSet, ChangeError> {
        let changing = self.lock(tenant);
        let _changing = changing.lock().await;
        let issuer = self.clone();
        let whose = tenant.clone();
        let (book, text) = blocking(move || {
            let book = Book::parse(&text, zones::is_known)?;
            issuer.check_prices(&whose, &book, at, now)?;
            Ok((book, text))
        })
        .await?;
        let digest = Digest::of(&text);
        let new = NewPrices { tenant: tenant.clone(), digest, bytes: text, requested: at, by };
        let receipt = self.journal().commit(Entry { prices: Some(new), ..Entry::default() }).await;
        let receipt = receipt.map_err(IssueError::from)?;
        let from = receipt.activated_from.unwrap_or(now);
        Ok(BookSet { book, digest, from, fact: receipt.last_seq })
    }

    /// Names another policy or book for a span. Returns the fact's sequence number and the book's
    /// digest. Charges change with the next correction only.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn override_rules(
        &self,
        tenant: &TenantId,
        asked: Overriding,
        at: Reading,
        by: Actor,
    ) -> Result<(u64, Option<Digest>), ChangeError> {
        let changing = self.lock(tenant);
        let _changing = changing.lock().await;
        let issuer = self.clone();
        let whose = tenant.clone();
        let asked = blocking(move || {
            issuer.check_override(&whose, &asked)?;
            Ok(asked)
        })
        .await?;
        let book = asked.book.as_deref().map(Digest::of);
        let fact = TenantFact::Overridden {
            from: asked.from,
            until: asked.until,
            policy: asked.policy,
            book,
            from_begin: asked.from_begin,
            reason: asked.reason,
            by,
        };
        let seq = self.say(tenant, (at, fact), asked.book.into_iter().collect()).await?;
        Ok((seq, book))
    }

    /// Cuts the tenant's time by another agreement from the next border on. Returns that border.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change_agreement(
        &self,
        tenant: &TenantId,
        agreement: Agreement,
        at: Reading,
        by: Actor,
    ) -> Result<Instant, ChangeError> {
        agreement.check().map_err(InvoiceError::from)?;
        let changing = self.lock(tenant);
        let _changing = changing.lock().await;
        let issuer = self.clone();
        let whose = tenant.clone();
        let now = at.meter;
        let from = blocking(move || Ok(issuer.border(&whose, now)?)).await?;
        self.say(tenant, (at, TenantFact::AgreementChanged { agreement, from, by }), Vec::new())
            .await?;
        Ok(from)
    }

    /// Checks a policy and its options against the tenant's books, for the time from `at` on.
    /// Blocking.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn check_activation(
        &self,
        tenant: &TenantId,
        policy: Digest,
        options: &[(String, String)],
        at: Instant,
    ) -> Result<(), ChangeError> {
        let archive = self.journal().archive();
        let view = self.view(&archive, tenant)?;
        let description = self.describe(&archive, policy)?;
        check_options(&description, options)?;
        Ok(check_policy(&view, (policy, &description), options, at, &books(&archive, &view)?)?)
    }

    /// The options of the policy in force at an instant. Blocking.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn options_at(
        &self,
        tenant: &TenantId,
        at: Instant,
    ) -> Result<Vec<(String, String)>, InvoiceError> {
        let archive = self.journal().archive();
        let view = self.view(&archive, tenant)?;
        let standard = self.engines(&archive).standard();
        let spans = view.rules.policies((at, Instant(at.0.saturating_add(1))), standard);
        Ok(spans.into_iter().next().map(|span| span.options).unwrap_or_default())
    }

    fn check_prices(
        &self,
        tenant: &TenantId,
        book: &Book,
        at: Option<Instant>,
        now: Instant,
    ) -> Result<(), ChangeError> {
        let archive = self.journal().archive();
        let view = self.view(&archive, tenant)?;
        if let Some(at) = at.filter(|&at| at < now) {
            return Err(Refusal::Past(super::difference::utc_text(&view.calendar, at)).into());
        }
        let describe = |digest| self.describe(&archive, digest);
        let standard = self.engines(&archive).standard();
        let others = books(&archive, &view)?;
        check_book(&view, book, at.unwrap_or(now), standard, &describe, &others)??;
        Ok(())
    }

    fn check_override(&self, tenant: &TenantId, asked: &Overriding) -> Result<(), ChangeError> {
        let archive = self.journal().archive();
        let mut view = self.view(&archive, tenant)?;
        let Some(text) = &asked.book else { return Ok(()) };
        let book = Book::parse(text, zones::is_known)?;
        let others = books(&archive, &view)?;
        view.name(Overriding { book: None, ..asked.clone() });
        let describe = |digest| self.describe(&archive, digest);
        let standard = self.engines(&archive).standard();
        let mut others = others;
        // The override's book holds up to the end of its span, regardless of planned books.
        others.retain(|(from, _)| *from <= asked.from);
        check_book(&view, &book, asked.from, standard, &describe, &others)??;
        Ok(())
    }

    /// The end of the period that holds `now`.
    fn border(&self, tenant: &TenantId, now: Instant) -> Result<Instant, InvoiceError> {
        let archive = self.journal().archive();
        let view = self.view(&archive, tenant)?;
        let periods = view.periods(Instant(now.0.saturating_add(1)))?;
        Ok(periods.last().map_or(now, |period| period.end))
    }

    fn view(&self, archive: &Archive, tenant: &TenantId) -> Result<View, InvoiceError> {
        let head = archive.head().map_err(EvidenceError::from)?;
        Ok(View::load(archive, tenant, head)?)
    }

    fn engines<'a>(&'a self, archive: &'a Archive) -> Engines<'a, Archive> {
        Engines::new(archive, self.policies())
    }

    fn describe(&self, archive: &Archive, policy: Digest) -> Result<Description, InvoiceError> {
        self.engines(archive).describe(policy)
    }

    async fn say(
        &self,
        tenant: &TenantId,
        fact: Dated<TenantFact>,
        documents: Vec<Vec<u8>>,
    ) -> Result<u64, ChangeError> {
        let entry = Entry { tenants: vec![(tenant.clone(), fact)], documents, ..Entry::default() };
        let receipt = self.journal().commit(entry).await.map_err(IssueError::from)?;
        Ok(receipt.last_seq)
    }
}

/// The books of a tenant with their first instants, ascending.
fn books(archive: &Archive, view: &View) -> Result<Vec<(Instant, Book)>, InvoiceError> {
    let mut books = Vec::new();
    for span in view.rules.books((Instant(i64::MIN), Instant(i64::MAX))) {
        let bytes = Evidence::document(archive, span.book)?;
        let book = Book::parse_stored(&bytes);
        let book = book.map_err(|problem| InvoiceError::Book { problem: problem.to_string() })?;
        books.push((span.start, book));
    }
    Ok(books)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, ChangeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| IssueError::Broken(std::sync::Arc::new(error)))?
}
