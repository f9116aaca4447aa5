//! A tenant's rules, agreements and documents as of one place of the journal.

use biller::input::{OneOff, OneOffKind};

use super::InvoiceError;
use super::document::{FORM, Invoice};
use super::evidence::{Evidence, EvidenceError, NotedOneOff, Override};
use super::naming::Naming;
use super::period::{AgreementFrom, Cuts, Period};
use super::rules::{Overriding, PolicySpan, Rules, said};
use crate::billing::TenantFact;
use crate::billing::agreement::Agreement;
use crate::billing::calendar::Calendar;
use crate::id::{Digest, TenantId};
use crate::journal::Head;
use crate::units::Instant;

/// The inputs of a tenant's documents as of a head, except for the histories of instances.
#[derive(Debug)]
pub struct View {
    /// The tenant.
    pub(super) tenant: TenantId,
    /// The last fact that is taken into account.
    pub(super) as_of: Head,
    pub(super) rules: Rules,
    pub(super) one_offs: Vec<NotedOneOff>,
    pub(super) naming: Naming,
    /// The name to which documents are addressed; none without one.
    pub(super) billing_name: Option<String>,
    pub(super) agreements: Vec<AgreementFrom>,
    pub(super) calendar: Calendar,
    /// Documents of the present form, in order, followed by previews.
    pub(super) documents: Vec<Invoice>,
    /// SHA-256 of the tenant's last document, of any form; none without one.
    pub(super) previous: Option<Digest>,
    /// Number of the tenant's last document; 0 without one.
    pub(super) last_number: u64,
    /// Last link of the receipts' chain.
    pub(super) last_link: String,
    /// The first instant to be billed; none without any fact of the tenant.
    pub(super) first: Option<Instant>,
    /// The end of the tenant; none while it exists.
    pub(super) ended: Option<Instant>,
    /// Texts of books that overrides of a preview name, which are stored nowhere.
    pub(super) named: Vec<Vec<u8>>,
    /// A document that is made again, whose time-zone database was of another edition: borders and
    /// zones are as it states them.
    pub(super) of_other_edition: Option<Invoice>,
    /// The document with which the evidence begins; none for that of the tenant's whole time.
    pub(super) base: Option<Invoice>,
}

impl View {
    /// Reads the view as of a head.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn load<E: Evidence>(
        evidence: &E,
        tenant: &TenantId,
        as_of: Head,
    ) -> Result<Self, EvidenceError> {
        let seq = as_of.seq;
        let facts = evidence.tenant_facts(tenant, seq)?;
        let mut view = Self {
            tenant: tenant.clone(),
            as_of,
            rules: Rules::said_by(&facts),
            one_offs: said(&facts, NotedOneOff::from_fact),
            naming: Naming::said_by(&facts),
            billing_name: said(&facts, |_, said| match said {
                TenantFact::Changed { settings, .. } => Some(settings.billing_name.clone()),
                _ => None,
            })
            .pop()
            .flatten(),
            agreements: said(&facts, AgreementFrom::from_fact),
            calendar: evidence.calendar(seq)?,
            documents: Vec::new(),
            previous: None,
            last_number: 0,
            last_link: super::document::FIRST_LINK.into(),
            first: evidence.began(tenant, seq)?,
            ended: evidence.ended(tenant, seq)?,
            named: Vec::new(),
            of_other_edition: None,
            base: evidence.base().cloned(),
        };
        for stored in evidence.invoices(tenant, seq)? {
            let bytes = evidence.document(stored.digest)?;
            view.previous = Some(stored.digest);
            view.last_number = stored.number;
            match form(&bytes) {
                Some(FORM) => view.add(read(stored.digest, &bytes)?),
                // Time up to the end of documents of the earlier form was billed by them.
                _ => view.first = view.first.map(|first| first.max(stored.until)),
            }
        }
        Ok(view)
    }

    /// Adds an override for a preview, which is not recorded.
    pub fn name(&mut self, asked: Overriding) {
        self.rules.overrides.push(Override {
            from: asked.from,
            until: asked.until,
            policy: asked.policy,
            book: asked.book.as_deref().map(Digest::of),
            from_begin: asked.from_begin,
            reason: asked.reason,
            fact: u64::MAX,
        });
        self.named.extend(asked.book);
    }

    /// Adds a document that follows the others.
    pub fn add(&mut self, document: Invoice) {
        self.last_link = document.last_link();
        self.documents.push(document);
    }

    /// The documents so far, in order.
    pub fn documents(&self) -> &[Invoice] {
        &self.documents
    }

    /// The periods up to the one that holds `last`; none before the tenant's first instant.
    pub(super) fn periods(&self, last: Instant) -> Result<Vec<Period>, InvoiceError> {
        // The last period of a tenant ends with it.
        let last = self.ended.map_or(last, |ended| ended.min(last));
        match self.first.filter(|&first| first < last) {
            // The instant at which a period ends belongs to the next one, and a bill up to it to
            // this one.
            Some(first) => self.cuts().periods(first, Instant(last.0 - 1)),
            None => Ok(Vec::new()),
        }
    }

    fn cuts(&self) -> Cuts<'_> {
        let documents = self.documents.iter().chain(&self.of_other_edition).collect();
        Cuts { agreements: &self.agreements, calendar: &self.calendar, documents }
    }

    /// The period that holds an instant, and the agreement that cuts the one after it.
    pub(super) fn agreements_at(&self, now: Instant) -> Result<(Period, Agreement), InvoiceError> {
        let cuts = self.cuts();
        let first = self.first.unwrap_or(now).min(now);
        let period = cuts.periods(first, now)?.pop().ok_or(InvoiceError::Empty)?;
        let next = cuts.agreement(period.end);
        Ok((period, next))
    }

    /// Returns whether a book was in force before an instant.
    pub(super) fn has_book(&self, until: Instant) -> bool {
        !self.rules.books((Instant(i64::MIN), until)).is_empty()
    }

    /// The policies of the tenant's time up to an instant.
    pub(super) fn policies_until(&self, until: Instant, standard: Digest) -> Vec<PolicySpan> {
        match self.first.filter(|&first| first < until) {
            Some(first) => self.rules.policies((first, until), standard),
            None => Vec::new(),
        }
    }

    /// The documents of a period, in order.
    pub(super) fn of(&self, period: &Period) -> Vec<&Invoice> {
        self.documents.iter().filter(|document| document.period.from_ns == period.start.0).collect()
    }

    /// The first document of the period of a document.
    pub(super) fn first_of(&self, document: &Invoice) -> Option<&Invoice> {
        let from_ns = document.period.from_ns;
        self.documents.iter().find(|one| one.period.from_ns == from_ns)
    }

    /// The tenant's own part of a period.
    pub(super) fn own(&self, period: &Period) -> (Instant, Instant) {
        let start = self.first.map_or(period.start, |first| first.max(period.start));
        let end = self.ended.map_or(period.end, |ended| ended.min(period.end));
        (start, end.max(start))
    }
}

impl View {
    /// The one-offs that may act in a period up to an instant.
    pub(super) fn one_offs(&self, period: &Period, until: Instant) -> Vec<OneOff> {
        let may_act = |one: &&OneOff| {
            let is_goodwill = one.kind == OneOffKind::Goodwill;
            one.at < until.0 && (is_goodwill || period.start.0 <= one.at)
        };
        self.one_offs.iter().map(|one| &one.of_biller).filter(may_act).cloned().collect()
    }

    /// The reason of a one-off.
    pub(super) fn reason_of(&self, id: &str) -> Option<String> {
        let found = self.one_offs.iter().find(|one| one.of_biller.id == id);
        found.map(|one| one.reason.clone())
    }
}

/// The form of a stored document; none for bytes that are not one.
pub(super) fn form(bytes: &[u8]) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Form {
        form: u32,
    }
    serde_json::from_slice::<Form>(bytes).ok().map(|document| document.form)
}

pub(super) fn read(digest: Digest, bytes: &[u8]) -> Result<Invoice, EvidenceError> {
    Invoice::from_bytes(bytes).map_err(|error| {
        EvidenceError::Altered(format!("document {digest} can't be read: {error}"))
    })
}
