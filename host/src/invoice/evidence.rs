//! The evidence of invoices: the journal of this host, those of all hosts of a fleet, or a bundle
//! that was taken from a journal.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use biller::input::{OneOff, OneOffKind};

use super::document::Invoice;
use super::period::AgreementFrom;
use crate::billing::calendar::Calendar;
use crate::billing::life::Life;
use crate::billing::{Fact, TenantFact};
use crate::id::{Digest, InstanceId, TenantId};
use crate::journal::{Archive, Head, ReadError, SpanQuery, StoredInvoice};
use crate::mutants::money::Mutant;
use crate::tenant::{self, Standing};
use crate::units::Instant;

/// A change of rules: from `from` on, `digest` is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// First instant at which it holds.
    pub from: Instant,
    /// A component or a price book.
    pub digest: Digest,
    /// Instant at which it was set, on the meter clock.
    pub set_at: Instant,
    /// Sequence number of the fact.
    pub fact: u64,
    /// Options of a policy, sorted by name; empty for a book.
    pub options: Vec<(String, String)>,
}

/// A policy or a book that was named for a span, in place of those in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// First instant of the span.
    pub from: Instant,
    /// First instant after.
    pub until: Instant,
    /// A policy; none if it names none.
    pub policy: Option<Digest>,
    /// A book; none if it names none.
    pub book: Option<Digest>,
    /// Set if the book also holds for time that no book covers.
    pub from_begin: bool,
    /// The reason, in words.
    pub reason: String,
    /// Sequence number of the fact.
    pub fact: u64,
}

impl Override {
    /// Returns whether the override names nothing, and so ends earlier ones over its span.
    pub fn is_end(&self) -> bool {
        self.policy.is_none() && self.book.is_none()
    }

    /// Returns whether its book also holds for time that no book covers.
    pub(super) fn reaches_back(&self) -> bool {
        self.from_begin || Mutant::OverridesReachBack.is_active()
    }

    /// Returns whether the override replaces everything that `earlier` names.
    pub(super) fn replaces(&self, earlier: &Self) -> bool {
        let covers =
            |mine: Option<Digest>, other: Option<Digest>| other.is_none() || mine.is_some();
        self.is_end() || covers(self.policy, earlier.policy) && covers(self.book, earlier.book)
    }
}

/// The quarantine of a tenant's policy, which is not asked any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantine {
    /// The quarantined policy.
    pub policy: Digest,
    /// The policy that answers in its place; none while its time is held.
    pub stand_in: Option<Digest>,
    /// Sequence number of the fact.
    pub fact: u64,
}

impl Quarantine {
    /// The quarantine that a tenant's fact records; none if that is about something else.
    pub(super) fn from_fact(fact: u64, said: &TenantFact) -> Option<Self> {
        match said {
            TenantFact::PolicyMoved(moved) if moved.to == Standing::Quarantined => {
                Some(Self { policy: moved.digest, stand_in: moved.stand_in, fact })
            }
            _ => None,
        }
    }
}

impl InForce {
    /// The change of policy that a tenant's fact records; none if that is about something else.
    pub(super) fn policy(seq: u64, set_at: Instant, said: &TenantFact) -> Option<Self> {
        match said {
            TenantFact::PolicyActivated { digest, from, options, .. } => Some(Self {
                from: *from,
                digest: *digest,
                set_at,
                fact: seq,
                options: options.clone(),
            }),
            _ => None,
        }
    }

    /// The change of book that a tenant's fact records; none if that is about something else.
    pub(super) fn book(seq: u64, set_at: Instant, said: &TenantFact) -> Option<Self> {
        match said {
            TenantFact::PricesActivated { digest, from, .. } => {
                Some(Self { from: *from, digest: *digest, set_at, fact: seq, options: Vec::new() })
            }
            _ => None,
        }
    }
}

impl Override {
    /// The override that a tenant's fact records; none if that is about something else.
    pub(super) fn from_fact(fact: u64, said: &TenantFact) -> Option<Self> {
        match said {
            TenantFact::Overridden { from, until, policy, book, from_begin, reason, .. } => {
                Some(Self {
                    from: *from,
                    until: *until,
                    policy: *policy,
                    book: *book,
                    from_begin: *from_begin,
                    reason: reason.clone(),
                    fact,
                })
            }
            _ => None,
        }
    }
}

impl AgreementFrom {
    /// The agreement that a tenant's fact records; none if that is about something else.
    pub(super) fn from_fact(fact: u64, said: &TenantFact) -> Option<Self> {
        match said {
            TenantFact::AgreementChanged { agreement, from, .. } => {
                Some(Self { from: *from, agreement: agreement.clone(), fact })
            }
            _ => None,
        }
    }
}

/// A one-off as its fact has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotedOneOff {
    pub(super) of_biller: OneOff,
    pub(super) reason: String,
}

impl NotedOneOff {
    /// The one-off that a tenant's fact says; none if that is about something else.
    pub(super) fn from_fact(seq: u64, said: &TenantFact) -> Option<Self> {
        let TenantFact::OneOff { kind, amount, currency, at, reason, .. } = said else {
            return None;
        };
        let of_biller = OneOff {
            id: one_off_id(*kind, seq),
            kind: match kind {
                tenant::OneOffKind::Charge => OneOffKind::Charge,
                tenant::OneOffKind::Goodwill => OneOffKind::Goodwill,
            },
            at: at.0,
            amount: (*amount).into(),
            currency: currency.clone(),
        };
        Some(Self { of_biller, reason: reason.clone() })
    }
}

/// The id of a one-off. No adjustment of a book has a colon in its id.
pub(super) fn one_off_id(kind: tenant::OneOffKind, seq: u64) -> String {
    format!("{}:{seq}", kind.as_str())
}

/// The facts that became known in a stretch of the journal, and matter for a document up to an
/// instant.
#[derive(Debug, Clone, Copy)]
pub struct News {
    /// Sequence number of the last fact before the stretch.
    pub after: u64,
    /// Sequence number of the last fact of the stretch.
    pub through: u64,
    /// First instant of the document's period.
    pub period_start: Instant,
    /// End of the time that the document bills.
    pub until: Instant,
    /// End of the document's period: changes of rules before it decide amounts of minimums and
    /// caps.
    pub period_end: Instant,
}

impl News {
    fn covers(&self, seq: u64) -> bool {
        self.after < seq && seq <= self.through
    }

    /// Returns whether a fact of the tenant changes the document.
    pub fn changes(&self, seq: u64, fact: &Fact) -> bool {
        let set_at = fact.at.meter;
        self.covers(seq) && fact.of_tenant().is_some_and(|said| self.changes_rules(set_at, said))
    }

    /// Returns whether an instance's fact lies in the time that the document bills.
    pub fn is_late(&self, seq: u64, fact: &Fact) -> bool {
        self.covers(seq) && fact.at.meter < self.until && fact.counts().is_some()
    }

    fn changes_rules(&self, set_at: Instant, said: &TenantFact) -> bool {
        match said {
            TenantFact::PolicyActivated { from, .. } => *from < self.until,
            // What was set later than the document's time is no plan that it knows of.
            TenantFact::PricesActivated { from, .. } => {
                *from < self.period_end && set_at <= self.until
            }
            TenantFact::PlanWithdrawn { from, .. } => *from < self.period_end,
            TenantFact::Overridden { from, until, .. } => {
                *from < self.period_end && self.period_start < *until
            }
            TenantFact::OneOff { at, .. } => *at < self.until,
            TenantFact::Changed { settings, .. } => {
                settings.ended.is_some_and(|ended| ended < self.period_end)
            }
            TenantFact::PolicyMoved(moved) => moved.to == Standing::Quarantined,
            TenantFact::PolicyAdmitted { .. }
            | TenantFact::PolicyFaulted { .. }
            | TenantFact::Created { .. }
            | TenantFact::TokenCreated { .. }
            | TenantFact::TokenRevoked { .. }
            | TenantFact::AgreementChanged { .. }
            | TenantFact::Proposed { .. }
            | TenantFact::ProposalEnded { .. }
            | TenantFact::TariffPublished { .. }
            | TenantFact::TariffDefault { .. }
            | TenantFact::TariffJoined { .. }
            | TenantFact::Invoiced { .. } => false,
        }
    }
}

/// A reason why evidence can't be read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The journal can't be read.
    #[error("can't read the journal")]
    Journal(#[from] ReadError),
    /// A part that an invoice depends on is missing.
    #[error("{0} is missing")]
    Missing(String),
    /// A part does not match its digest or link.
    #[error("{0}")]
    Altered(String),
}

/// The visitor of lives. It breaks off if it wants no more.
pub type Visit<'a> = dyn FnMut(Life) -> ControlFlow<()> + 'a;

/// Visits the lives that whole histories tell of.
pub(super) fn visit_histories(
    histories: &BTreeMap<InstanceId, Vec<(u64, Fact)>>,
    query: SpanQuery<'_>,
    visit: &mut Visit<'_>,
) {
    let span = (query.start, query.end);
    let life = |(id, history): (&InstanceId, &Vec<_>)| {
        Life::of(id, history, span).filter(|life| !life.is_over(history))
    };
    let mut lives = histories.iter().filter_map(life);
    let _ = lives.try_for_each(visit);
}

/// The facts and documents that invoices are made from. Everything is as of the fact `through`:
/// later facts are left out.
pub trait Evidence {
    /// Visits the lives of a tenant's instances in a span, sorted by the instance's id.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn lives(&self, query: SpanQuery<'_>, visit: &mut Visit<'_>) -> Result<(), EvidenceError>;

    /// The tenant's first instant: that of its creation, or of its first fact; none without any.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn began(&self, tenant: &TenantId, through: u64) -> Result<Option<Instant>, EvidenceError>;

    /// The end of the tenant; none while it exists.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn ended(&self, tenant: &TenantId, through: u64) -> Result<Option<Instant>, EvidenceError>;

    /// The facts of a tenant that are about the tenant itself, in their order.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn tenant_facts(
        &self,
        tenant: &TenantId,
        through: u64,
    ) -> Result<Vec<(u64, Fact)>, EvidenceError>;

    /// Returns whether a fact became known that may change a document.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn changed(&self, tenant: &TenantId, news: &News) -> Result<bool, EvidenceError>;

    /// The documents that were issued to a tenant, in the order of their facts.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn invoices(
        &self,
        tenant: &TenantId,
        through: u64,
    ) -> Result<Vec<StoredInvoice>, EvidenceError>;

    /// The calendar.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn calendar(&self, through: u64) -> Result<Calendar, EvidenceError>;

    /// The bytes of a price book or an invoice, checked against the digest.
    ///
    /// # Errors
    /// [`EvidenceError::Missing`], [`EvidenceError::Altered`].
    fn document(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError>;

    /// The bytes of a component, checked against the digest.
    ///
    /// # Errors
    /// [`EvidenceError::Missing`], [`EvidenceError::Altered`].
    fn component(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError>;

    /// The place of a fact: its sequence number and link.
    ///
    /// # Errors
    /// [`EvidenceError::Missing`].
    fn place(&self, seq: u64) -> Result<Head, EvidenceError>;

    /// A fact up to which all were recorded by an instant, the last one or one before it; none if a
    /// bundle of the time from then on can't do without the facts before.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn recorded_by(&self, _: Instant) -> Result<Option<u64>, EvidenceError> {
        Ok(None)
    }

    /// Returns whether a fact, and so all before it, was recorded by an instant.
    ///
    /// # Errors
    /// [`EvidenceError`].
    fn is_recorded_by(&self, _: u64, _: Instant) -> Result<bool, EvidenceError> {
        Ok(true)
    }

    /// The document with whose closing balances and state the evidence begins; none if it begins
    /// with the tenant's first fact.
    fn base(&self) -> Option<&Invoice> {
        None
    }
}

/// The end of a tenant by its facts. It is final, so that the last one decides.
pub(super) fn end_said_by(facts: &[(u64, Fact)]) -> Option<Instant> {
    let said = facts.iter().rev().find_map(|(_, fact)| match fact.of_tenant() {
        Some(TenantFact::Changed { settings, .. }) => Some(settings.ended),
        _ => None,
    });
    said.flatten()
}

/// Checks bytes against their digest.
pub(super) fn sound(
    what: &str,
    digest: Digest,
    bytes: Option<Vec<u8>>,
) -> Result<Vec<u8>, EvidenceError> {
    let bytes = bytes.ok_or_else(|| EvidenceError::Missing(format!("{what} {digest}")))?;
    let is = Digest::of(&bytes);
    if is == digest {
        return Ok(bytes);
    }
    Err(EvidenceError::Altered(format!("{what} {digest} was altered: its SHA-256 is {is}")))
}

impl Evidence for Archive {
    fn lives(&self, query: SpanQuery<'_>, visit: &mut Visit<'_>) -> Result<(), EvidenceError> {
        Ok(Archive::lives(self, query, visit)?)
    }

    fn began(&self, tenant: &TenantId, through: u64) -> Result<Option<Instant>, EvidenceError> {
        let of_tenant = Evidence::tenant_facts(self, tenant, through)?;
        let first = of_tenant.iter().map(|(_, fact)| fact.at.meter).min();
        Ok(first.into_iter().chain(self.first_of_instances(tenant, through)?).min())
    }

    fn ended(&self, tenant: &TenantId, through: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok(end_said_by(&Evidence::tenant_facts(self, tenant, through)?))
    }

    fn tenant_facts(
        &self,
        tenant: &TenantId,
        through: u64,
    ) -> Result<Vec<(u64, Fact)>, EvidenceError> {
        let mut facts = self.facts_of_tenant(tenant)?;
        facts.retain(|(seq, _)| *seq <= through);
        Ok(facts)
    }

    fn changed(&self, tenant: &TenantId, news: &News) -> Result<bool, EvidenceError> {
        let of_tenant = self.facts_of_tenant(tenant)?;
        if of_tenant.iter().any(|(seq, fact)| news.changes(*seq, fact)) {
            return Ok(true);
        }
        for instance in
            self.instances_of(tenant)?.iter().filter(|stored| stored.last_fact > Some(news.after))
        {
            let recent = self.history_between(&instance.id, news.after, news.until)?;
            if recent.iter().any(|(seq, fact)| news.is_late(*seq, fact)) {
                return Ok(true);
            }
        }
        Ok(self.is_news_of_hosts(tenant, (news.after, news.through), news.until)?)
    }

    fn invoices(
        &self,
        tenant: &TenantId,
        through: u64,
    ) -> Result<Vec<StoredInvoice>, EvidenceError> {
        let mut invoices = self.invoices_of(tenant)?;
        invoices.retain(|invoice| invoice.fact <= through);
        Ok(invoices)
    }

    fn calendar(&self, through: u64) -> Result<Calendar, EvidenceError> {
        let mut calendar = Calendar::default();
        for (fact, at, wall_ns) in Archive::calendar(self)? {
            if fact <= through {
                calendar.learn(at, wall_ns);
            }
        }
        Ok(calendar)
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        sound("document", digest, Archive::document(self, &digest)?)
    }

    fn component(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        // Billers are stored with the documents, not with the policies.
        let bytes = self.policy_bytes(&digest)?;
        let bytes =
            bytes.map_or_else(|| Archive::document(self, &digest), |bytes| Ok(Some(bytes)))?;
        sound("component", digest, bytes)
    }

    fn place(&self, seq: u64) -> Result<Head, EvidenceError> {
        self.place_of(seq)?.ok_or_else(|| EvidenceError::Missing(format!("fact {seq}")))
    }

    fn recorded_by(&self, at: Instant) -> Result<Option<u64>, EvidenceError> {
        // A bundle holds the facts of one journal.
        match self.heard(u64::MAX)?.is_empty() {
            true => Ok(Some(Archive::recorded_by(self, at)?)),
            false => Ok(None),
        }
    }

    fn is_recorded_by(&self, seq: u64, at: Instant) -> Result<bool, EvidenceError> {
        let fact = self.fact(seq)?;
        Ok(fact.is_some_and(|chained| chained.fact.recorded_ns <= at.0))
    }
}
