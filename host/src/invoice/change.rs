//! Changes of a tenant's prices: books, overrides, agreements. Each is checked against the rules
//! that it meets before it becomes a fact.

use biller::book::Book;
use biller::currency::Currency;

use super::act::Act;
use super::door::{
    Refusal, check_book, check_currencies, check_instant, check_meetings, check_options,
    check_policy,
};
use super::evidence::{EvidenceError, InForce};
use super::issuer::{IssueError, Issuer};
use super::period::AgreementFrom;
use super::rules::Overriding;
use super::view::View;
use super::{Calls, Engines, Evidence, InvoiceError};
use crate::billing::agreement::Agreement;
use crate::billing::{Dated, Reading, TenantFact, zones};
use crate::id::{BookName, Digest, TariffName, TenantId};
use crate::journal::{Archive, CommitError, Entry, FirstTry, NewPrices, NewWithdrawal};
use crate::limits::tenant as limits;
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
    /// A name stands for another book.
    #[error("the name '{name}' is that of book {known}; give this one another")]
    NameInUse {
        /// The name.
        name: BookName,
        /// The book of that name.
        known: Digest,
    },
    /// Nothing that was named is planned.
    #[error("no such change of the {plan} is planned")]
    NotPlanned {
        /// Policy or prices.
        plan: Plan,
    },
    /// There is no such proposal.
    #[error("there is no proposal {0}; `tallyman proposal list` lists them")]
    NoProposal(u64),
    /// The proposal has ended.
    #[error("proposal {number} was {} before", if *is_accepted { "accepted" } else { "declined" })]
    ProposalEnded {
        /// The proposal.
        number: u64,
        /// Set if it was accepted.
        is_accepted: bool,
    },
    /// As many proposals are open as may be.
    #[error(
        "{} proposals are open, which is the most; have one accepted or declined first",
        limits::PROPOSALS_MAX
    )]
    Proposals,
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
    /// Its name with the tenant; none without one.
    pub name: Option<String>,
    /// First instant at which it holds.
    pub from: Instant,
    /// Set if it was set for that time already, so that nothing was recorded.
    pub already: bool,
    /// Set if that instant was still to come when the book was set.
    pub planned: bool,
    /// Sequence number of the fact.
    pub fact: u64,
}

/// A book as a tenant knows it.
pub(super) struct KnownBook {
    /// Its name; none without one.
    name: Option<String>,
    /// Since when, and by which fact, it is set for the time that is asked for; none if another is.
    set: Option<(Instant, u64)>,
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
    /// Puts a price book in force from `at` on; none for now. One that is set for that time already
    /// changes nothing.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn set_prices(
        &self,
        tenant: &TenantId,
        (text, name): (Vec<u8>, Option<BookName>),
        at: Option<Instant>,
        now: Instant,
        act: Act,
    ) -> Result<BookSet, ChangeError> {
        self.put_prices(tenant, (text, name), at, now, (act, Vec::new())).await
    }

    /// Puts a price book in force, together with facts that belong to it.
    pub(super) async fn put_prices(
        &self,
        tenant: &TenantId,
        (text, name): (Vec<u8>, Option<BookName>),
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
        let is_alone = with.is_empty();
        let (book, text, name, known) = blocking(move || {
            let book = Book::parse(&text, zones::is_known)?;
            let digest = Digest::of(&text);
            issuer.check_prices(&whose, (&book, digest), at, now)?;
            let asked = (digest, name.as_ref());
            let known = issuer.known_book(&whose, asked, at.unwrap_or(now))?;
            Ok((book, text, name, known))
        })
        .await?;
        let digest = Digest::of(&text);
        let KnownBook { name: known_as, set } = known;
        if let Some((from, fact)) = set.filter(|_| is_alone) {
            let planned = from > now;
            return Ok(BookSet {
                book,
                digest,
                name: known_as,
                from,
                already: true,
                planned,
                fact,
            });
        }
        let Act { by, request } = act;
        let shown = name.as_ref().map(ToString::to_string).or(known_as);
        let new =
            NewPrices { tenant: tenant.clone(), digest, bytes: text, requested: at, by, name };
        let tenants = with.into_iter().map(|dated| (tenant.clone(), dated)).collect();
        let entry = Entry { tenants, prices: Some(new), request, ..Entry::default() };
        let receipt = self.journal().commit(entry).await.map_err(IssueError::from)?;
        let from = receipt.activated_from.unwrap_or(now);
        let planned = at == Some(from);
        let fact = receipt.last_seq;
        Ok(BookSet { book, digest, name: shown, from, already: false, planned, fact })
    }

    /// A book as the tenant knows it so far. A name that stands for another one is refused.
    pub(super) fn known_book(
        &self,
        tenant: &TenantId,
        (digest, name): (Digest, Option<&BookName>),
        at: Instant,
    ) -> Result<KnownBook, ChangeError> {
        let view = self.view(&self.journal().archive(), tenant)?;
        let named = name.and_then(|name| Some((name, view.naming.book_named(name.as_str())?)));
        if let Some((name, known)) = named.filter(|(_, known)| *known != digest) {
            return Err(ChangeError::NameInUse { name: name.clone(), known });
        }
        let known_as = view.naming.book(digest).map(str::to_owned);
        let is_new_name = name.is_some_and(|name| known_as.as_deref() != Some(name.as_str()));
        let set = view.rules.book_set(at).filter(|set| set.digest == digest && !is_new_name);
        Ok(KnownBook { name: known_as, set: set.map(|set| (set.from, set.fact)) })
    }

    /// The answer to the first try of setting a book.
    pub(super) fn book_set(&self, first: &FirstTry) -> Result<BookSet, ChangeError> {
        let Some(TenantFact::PricesActivated { digest, from, name, .. }) = first.fact.of_tenant()
        else {
            return Err(first.used_otherwise().into());
        };
        let digest = *digest;
        let from = *from;
        let name = name.as_ref().map(ToString::to_string);
        let bytes = Evidence::document(&self.journal().archive(), digest);
        let book = Book::parse_stored(&bytes.map_err(InvoiceError::from)?)?;
        let planned = from > first.fact.at.meter;
        Ok(BookSet { book, digest, name, from, already: false, planned, fact: first.seq })
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
        let issuer = self.clone();
        let whose = tenant.clone();
        let left_out = plans.to_vec();
        blocking(move || issuer.check_withdrawal(&whose, plan, &left_out)).await?;
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
        let (from, agreement) = blocking(move || {
            let from = issuer.border(&whose, now)?;
            issuer.check_agreement(&whose, &agreement, from)?;
            Ok((from, agreement))
        })
        .await?;
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

    pub(super) fn check_prices(
        &self,
        tenant: &TenantId,
        (book, digest): (&Book, Digest),
        at: Option<Instant>,
        now: Instant,
    ) -> Result<(), ChangeError> {
        let archive = self.journal().archive();
        let mut view = self.view(&archive, tenant)?;
        check_instant(&view.calendar, at, now)?;
        let from = at.unwrap_or(now);
        let describe = |digest| self.describe(&archive, digest);
        let others = self.others(&view)?;
        let next = view.rules.books((from, Instant(i64::MAX))).into_iter().map(|span| span.start);
        let next = next.filter(|&start| start > from).min().unwrap_or(Instant(i64::MAX));
        let standard = self.engines(&archive).standard();
        check_book(&view, book, (from, next), standard, &describe, &others)??;
        let options = Vec::new();
        let set = InForce { from, digest, set_at: now, fact: u64::MAX, options };
        view.rules.books.push(set);
        Ok(self.one_currency(&view, from, Some((digest, book.currency())))??)
    }

    fn check_override(&self, tenant: &TenantId, asked: &Overriding) -> Result<(), ChangeError> {
        let archive = self.journal().archive();
        let mut view = self.view(&archive, tenant)?;
        let others = self.others(&view)?;
        let span = (asked.from, asked.until);
        let before = self.meet(&archive, &view, span)?;
        view.name(asked.clone());
        let named = match &asked.book {
            Some(text) => Some((Digest::of(text), Book::parse(text, zones::is_known)?)),
            None => None,
        };
        if let Some((_, book)) = &named {
            let describe = |digest| self.describe(&archive, digest);
            let standard = self.engines(&archive).standard();
            check_book(&view, book, span, standard, &describe, &others)??;
        } else if before.is_ok() {
            // Rules that did not go together before are not the override's fault.
            self.meet(&archive, &view, span)??;
        }
        let named = named.map(|(digest, book)| (digest, book.currency()));
        Ok(self.one_currency(&view, asked.from, named)??)
    }

    /// Refuses an agreement whose borders are not those at which the currency is to change.
    fn check_agreement(
        &self,
        tenant: &TenantId,
        agreement: &Agreement,
        from: Instant,
    ) -> Result<(), ChangeError> {
        let mut view = self.view(&self.journal().archive(), tenant)?;
        let agreement = agreement.clone();
        view.agreements.push(AgreementFrom { from, agreement, fact: u64::MAX });
        Ok(self.one_currency(&view, from, None)??)
    }

    /// Refuses to withdraw plans where the rules that are left would not go together.
    fn check_withdrawal(
        &self,
        tenant: &TenantId,
        plan: Plan,
        plans: &[(Instant, Digest)],
    ) -> Result<(), ChangeError> {
        let archive = self.journal().archive();
        let mut view = self.view(&archive, tenant)?;
        let Some(&(from, _)) = plans.iter().min() else { return Ok(()) };
        let span = (from, Instant(i64::MAX));
        let before = self.meet(&archive, &view, span)?;
        plans.iter().for_each(|&one| view.rules.withdraw(plan, one));
        // Rules that did not go together before are not the withdrawal's fault.
        if before.is_ok() {
            self.meet(&archive, &view, span)??;
        }
        Ok(self.one_currency(&view, from, None)??)
    }

    /// Refuses policies and books that meet in a span and do not go together.
    fn meet(
        &self,
        archive: &Archive,
        view: &View,
        span: (Instant, Instant),
    ) -> Result<Result<(), Refusal>, InvoiceError> {
        let standard = self.engines(archive).standard();
        let describe = |digest| self.describe(archive, digest);
        check_meetings(view, span, standard, &describe, &|digest| self.book(digest))
    }

    fn one_currency(
        &self,
        view: &View,
        from: Instant,
        named: Option<(Digest, Currency)>,
    ) -> Result<Result<(), Refusal>, InvoiceError> {
        let of = |digest: Digest| match named.filter(|(named, _)| *named == digest) {
            Some((_, currency)) => Ok(currency),
            None => self.summary(digest).map(|summary| summary.currency),
        };
        check_currencies(view, from, &of, named.map(|(_, currency)| currency))
    }

    /// The tenant's books that hold at some time, also those that overrides stand in for.
    fn others(&self, view: &View) -> Result<Vec<Book>, InvoiceError> {
        let mut digests: Vec<_> = view.rules.all_books().iter().map(|span| span.book).collect();
        digests.sort_unstable();
        digests.dedup();
        digests.into_iter().map(|digest| self.book(digest)).collect()
    }

    /// A book of the journal.
    fn book(&self, digest: Digest) -> Result<Book, InvoiceError> {
        let bytes = Evidence::document(&self.journal().archive(), digest)?;
        Book::parse_stored(&bytes)
            .map_err(|problem| InvoiceError::Book { problem: problem.to_string() })
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
