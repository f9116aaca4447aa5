//! Changes of a tenant's prices: books, overrides, agreements. Each is checked against the rules
//! that it meets before it becomes a fact.

use biller::book::Book;

use super::act::Act;
use super::door::{Refusal, check_book, check_options, check_policy};
use super::evidence::EvidenceError;
use super::issuer::{IssueError, Issuer};
use super::rules::Overriding;
use super::view::View;
use super::{Calls, Engines, Evidence, InvoiceError};
use crate::billing::agreement::Agreement;
use crate::billing::{Dated, Reading, TenantFact, zones};
use crate::id::{Digest, TariffName, TenantId};
use crate::journal::{Archive, CommitError, Entry, FirstTry, NewPrices, NewWithdrawal};
use crate::policy::metering::Description;
use crate::tenant::Plan;
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
    /// There is no such tariff, or no such version.
    #[error("there is no tariff '{0}'; `tallyman tariff list` lists what there is")]
    NoTariff(String),
    /// A version of a tariff is another book.
    #[error("tariff {tariff}: version {version} is book {known}; publish another version")]
    Published {
        /// The tariff.
        tariff: TariffName,
        /// The version.
        version: TariffName,
        /// The book that it is.
        known: Digest,
    },
    /// Nothing that was named is planned.
    #[error("no such change of the {plan} is planned")]
    NotPlanned {
        /// Policy or prices.
        plan: Plan,
    },
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
    /// Set if that instant was still to come when the book was set.
    pub planned: bool,
    /// Sequence number of the fact.
    pub fact: u64,
}

/// An override that is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overridden {
    /// First instant of the span.
    pub from: Instant,
    /// First instant after.
    pub until: Instant,
    /// The policy; none if it names none.
    pub policy: Option<Digest>,
    /// The price book; none if it names none.
    pub book: Option<Digest>,
    /// Sequence number of the fact.
    pub fact: u64,
}

impl Overridden {
    fn of(first: &FirstTry) -> Result<Self, ChangeError> {
        match first.fact.of_tenant() {
            Some(&TenantFact::Overridden { from, until, policy, book, .. }) => {
                Ok(Self { from, until, policy, book, fact: first.seq })
            }
            _ => Err(first.used_otherwise().into()),
        }
    }
}

impl FirstTry {
    /// The error of a key that was used for another kind of act.
    pub(super) fn used_otherwise(&self) -> IssueError {
        CommitError::Repeated { fact: self.seq, same: false }.into()
    }
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
        act: Act,
    ) -> Result<BookSet, ChangeError> {
        self.put_prices(tenant, text, at, now, (act, Vec::new())).await
    }

    /// Puts a price book in force, together with facts that belong to it.
    pub(super) async fn put_prices(
        &self,
        tenant: &TenantId,
        text: Vec<u8>,
        at: Option<Instant>,
        now: Instant,
        (act, with): (Act, Vec<Dated<TenantFact>>),
    ) -> Result<BookSet, ChangeError> {
        let changing = self.lock(tenant);
        let _changing = changing.lock().await;
        if let Some(first) = self.first_try(&act).await? {
            return self.book_set(&first);
        }
        let issuer = self.clone();
        let whose = tenant.clone();
        let (book, text) = blocking(move || {
            let book = Book::parse(&text, zones::is_known)?;
            issuer.check_prices(&whose, &book, at, now)?;
            Ok((book, text))
        })
        .await?;
        let digest = Digest::of(&text);
        let Act { by, request } = act;
        let new = NewPrices { tenant: tenant.clone(), digest, bytes: text, requested: at, by };
        let tenants = with.into_iter().map(|dated| (tenant.clone(), dated)).collect();
        let entry = Entry { tenants, prices: Some(new), request, ..Entry::default() };
        let receipt = self.journal().commit(entry).await.map_err(IssueError::from)?;
        let from = receipt.activated_from.unwrap_or(now);
        Ok(BookSet { book, digest, from, planned: at == Some(from), fact: receipt.last_seq })
    }

    /// The answer to the first try of setting a book.
    fn book_set(&self, first: &FirstTry) -> Result<BookSet, ChangeError> {
        let Some(&TenantFact::PricesActivated { digest, from, .. }) = first.fact.of_tenant() else {
            return Err(first.used_otherwise().into());
        };
        let bytes = Evidence::document(&self.journal().archive(), digest);
        let book = Book::parse_stored(&bytes.map_err(InvoiceError::from)?)?;
        let planned = from > first.fact.at.meter;
        Ok(BookSet { book, digest, from, planned, fact: first.seq })
    }

    /// Withdraws planned changes. The client's key stays with the last of them, so that a try that
    /// broke off before is done to the end by the next one.
    ///
    /// # Errors
    /// [`ChangeError::NotPlanned`] if there are none.
    pub async fn withdraw(
        &self,
        tenant: &TenantId,
        plan: Plan,
        plans: &[(Instant, Digest)],
        reason: Option<String>,
        act: Act,
    ) -> Result<(), ChangeError> {
        let changing = self.lock(tenant);
        let _changing = changing.lock().await;
        if self.first_try(&act).await?.is_some() {
            return Ok(());
        }
        if plans.is_empty() {
            return Err(ChangeError::NotPlanned { plan });
        }
        for (number, &(from, digest)) in plans.iter().enumerate() {
            let withdrawal = NewWithdrawal {
                tenant: tenant.clone(),
                plan,
                digest,
                from,
                by: act.by.clone(),
                reason: reason.clone(),
            };
            let request = act.request.clone().filter(|_| number + 1 == plans.len());
            let entry = Entry { withdrawal: Some(withdrawal), request, ..Entry::default() };
            self.journal().commit(entry).await.map_err(IssueError::from)?;
        }
        Ok(())
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
        act: Act,
    ) -> Result<Overridden, ChangeError> {
        let changing = self.lock(tenant);
        let _changing = changing.lock().await;
        if let Some(first) = self.first_try(&act).await? {
            return Overridden::of(&first);
        }
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
            by: act.by.clone(),
        };
        let Overriding { from, until, policy, .. } = asked;
        let documents = asked.book.into_iter().collect();
        let fact = self.say(tenant, (at, fact), documents, act).await?;
        Ok(Overridden { from, until, policy, book, fact })
    }

    /// Cuts the tenant's time by another agreement from the next border on. Returns the
    /// instant of the change itself.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change_agreement(
        &self,
        tenant: &TenantId,
        agreement: Agreement,
        at: Reading,
        act: Act,
    ) -> Result<Instant, ChangeError> {
        agreement.check().map_err(InvoiceError::from)?;
        let changing = self.lock(tenant);
        let _changing = changing.lock().await;
        if let Some(first) = self.first_try(&act).await? {
            return Ok(first.fact.at.meter);
        }
        let issuer = self.clone();
        let whose = tenant.clone();
        let now = at.meter;
        let from = blocking(move || Ok(issuer.border(&whose, now)?)).await?;
        let by = act.by.clone();
        let fact = TenantFact::AgreementChanged { agreement, from, by };
        self.say(tenant, (at, fact), Vec::new(), act).await?;
        Ok(now)
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

    pub(super) fn view(&self, archive: &Archive, tenant: &TenantId) -> Result<View, InvoiceError> {
        let head = archive.head().map_err(EvidenceError::from)?;
        Ok(View::load(archive, tenant, head)?)
    }

    fn engines<'a>(&'a self, archive: &'a Archive) -> Engines<'a, Archive> {
        Engines::new(archive, self.policies())
    }

    fn describe(&self, archive: &Archive, policy: Digest) -> Result<Description, InvoiceError> {
        self.engines(archive).describe(policy)
    }

    pub(super) async fn say(
        &self,
        tenant: &TenantId,
        fact: Dated<TenantFact>,
        documents: Vec<Vec<u8>>,
        act: Act,
    ) -> Result<u64, ChangeError> {
        let tenants = vec![(tenant.clone(), fact)];
        let entry = Entry { tenants, documents, request: act.request, ..Entry::default() };
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

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, ChangeError> {
    let done = crate::blocking::run(work).await;
    done.map_err(|error| IssueError::Broken(std::sync::Arc::new(error)))?
}
