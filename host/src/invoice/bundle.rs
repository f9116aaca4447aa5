//! A bundle: an invoice with its evidence in one file, with which a tenant can prove its charges on
//! another machine.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::document::{Invoice, Place};
use super::evidence::{Evidence, EvidenceError, News, Visit, end_said_by, sound, visit_histories};
use crate::billing::calendar::Calendar;
use crate::billing::{Fact, TenantFact};
use crate::heads::Under;
use crate::id::{Digest, InstanceId, TenantId};
use crate::journal::wire::FactRecord;
use crate::journal::{Archive, FactHash, Head, SpanQuery, StoredInvoice};
use crate::units::Instant;

/// Version of the bundle's form.
const FORM: u32 = 3;
/// The form before, which had no proof under a signed head.
const FORM_BARE: u32 = 2;

/// An invoice with all evidence that it depends on, as far as that is the tenant's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Version of this form.
    pub form: u32,
    /// Id of the tenant that the invoice charges.
    pub tenant: String,
    /// Number of the invoice that the bundle proves.
    pub number: u64,
    /// The facts, in ascending order.
    pub facts: Vec<BundledFact>,
    /// Links of the hash chain that documents name, by the sequence number of their facts, which
    /// may be another tenant's.
    pub places: BTreeMap<u64, String>,
    /// Price books and documents in base64, by SHA-256.
    pub documents: BTreeMap<String, String>,
    /// Components in base64, by SHA-256.
    pub components: BTreeMap<String, String>,
    /// The place of the facts under a signed head; absent if the close was signed by an earlier
    /// version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<Under>,
}

/// A fact as it was hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BundledFact {
    /// Link of the fact before it: 64 hexadecimal digits.
    pub before: String,
    /// Link of this fact: 64 hexadecimal digits.
    pub hash: String,
    /// The fact as JSON text, exactly as it was hashed.
    pub text: String,
}

/// The fact of the close that made a document.
///
/// # Errors
/// [`EvidenceError::Missing`] if there is no such document.
pub fn close_of(archive: &Archive, tenant: &TenantId, number: u64) -> Result<u64, EvidenceError> {
    let documents = archive.invoices_of(tenant)?;
    let found = documents.iter().find(|stored| stored.number == number);
    let missing = || EvidenceError::Missing(format!("document {number} of tenant {tenant}"));
    found.map(|stored| stored.fact).ok_or_else(missing)
}

/// Reads a document of a tenant with its evidence from a journal: all facts of the tenant and of
/// the calendar up to its close, and what they name. `under` is their place under the head of the
/// close. Blocking.
///
/// # Errors
/// [`EvidenceError`].
pub fn bundle(
    archive: &Archive,
    tenant: &TenantId,
    number: u64,
    under: Option<Under>,
) -> Result<Bundle, EvidenceError> {
    let close = close_of(archive, tenant, number)?;
    let documents = archive.invoices_of(tenant)?;
    if !archive.heard(u64::MAX)?.is_empty() {
        let what = "a bundle of a document over several hosts: a bundle holds the facts of one \
                    journal, which";
        return Err(EvidenceError::Missing(what.into()));
    }
    let mut bundle = Bundle {
        form: FORM,
        tenant: tenant.to_string(),
        number,
        facts: Vec::new(),
        places: BTreeMap::new(),
        documents: BTreeMap::new(),
        components: BTreeMap::new(),
        under,
    };
    for stored in documents.iter().filter(|stored| stored.number <= number) {
        let bytes = Evidence::document(archive, stored.digest)?;
        bundle.add_document(archive, stored.digest, &bytes)?;
    }
    for (_, fact) in Evidence::tenant_facts(archive, tenant, close)? {
        if let Some(digest) = fact.of_tenant().and_then(book_named) {
            let bytes = Evidence::document(archive, digest)?;
            bundle.documents.insert(digest.to_string(), BASE64.encode(bytes));
        }
    }
    for seq in facts_until(archive, tenant, close)? {
        bundle.facts.push(bundled(archive, seq)?);
    }
    Ok(bundle)
}

/// The sequence numbers of all facts of a tenant and of the calendar up to one, ascending.
fn facts_until(
    archive: &Archive,
    tenant: &TenantId,
    close: u64,
) -> Result<Vec<u64>, EvidenceError> {
    let mut seqs: Vec<u64> = archive.calendar()?.into_iter().map(|(seq, _, _)| seq).collect();
    seqs.extend(archive.own_facts(tenant, close)?);
    for instance in archive.instances_of(tenant)? {
        seqs.extend(archive.history(&instance.id)?.iter().map(|(seq, _)| *seq));
    }
    seqs.retain(|seq| *seq <= close);
    seqs.sort_unstable();
    seqs.dedup();
    Ok(seqs)
}

/// The price book that a fact names; none if it names none.
fn book_named(said: &TenantFact) -> Option<Digest> {
    match said {
        TenantFact::PricesActivated { digest, .. } => Some(*digest),
        TenantFact::Overridden { book, .. } => *book,
        _ => None,
    }
}

fn bundled(archive: &Archive, seq: u64) -> Result<BundledFact, EvidenceError> {
    let missing = || EvidenceError::Missing(format!("fact {seq}"));
    let fact = archive.fact(seq)?.ok_or_else(missing)?;
    let before = archive.place(seq.saturating_sub(1))?.hash.to_string();
    let text = serde_json::to_string(&fact.fact)
        .map_err(|error| EvidenceError::Altered(error.to_string()))?;
    Ok(BundledFact { before, hash: fact.hash, text })
}

impl Bundle {
    /// Adds a document, the components that made it, and the place in the journal that it names.
    fn add_document(
        &mut self,
        archive: &Archive,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(), EvidenceError> {
        let altered = |error: &dyn std::fmt::Display| {
            EvidenceError::Altered(format!("document {digest}: {error}"))
        };
        self.documents.insert(digest.to_string(), BASE64.encode(bytes));
        // A document of the earlier form counts as an opening amount; it is not computed again.
        if super::view::form(bytes) != Some(super::FORM) {
            return Ok(());
        }
        let invoice = Invoice::from_bytes(bytes).map_err(|error| altered(&error))?;
        self.places.insert(invoice.as_of.seq, archive.place(invoice.as_of.seq)?.hash.to_string());
        for receipt in &invoice.receipts {
            let component: Digest = receipt.component.parse().map_err(|error| altered(&error))?;
            if !self.components.contains_key(&receipt.component) {
                let bytes = archive.component(component)?;
                self.components.insert(receipt.component.clone(), BASE64.encode(bytes));
            }
        }
        Ok(())
    }

    /// Reads a bundle, and checks every part of it: that each fact has its link, that no fact of an
    /// instance is missing before its last, that documents and components have their digests, that
    /// places are those that the documents name, and that the facts are all those under the head.
    ///
    /// # Errors
    /// [`EvidenceError::Altered`] with the first altered part, [`EvidenceError::Missing`] with a
    /// place that is not there.
    pub fn read(bytes: &[u8]) -> Result<Proofs, EvidenceError> {
        let bundle: Bundle = serde_json::from_slice(bytes)
            .map_err(|error| EvidenceError::Altered(format!("this is not a bundle: {error}")))?;
        bundle.check_form()?;
        let mut facts = Vec::with_capacity(bundle.facts.len());
        let mut last: Option<(u64, FactHash)> = None;
        let mut records = Vec::with_capacity(bundle.facts.len());
        let mut tails: BTreeMap<InstanceId, u64> = BTreeMap::new();
        for bundled in &bundle.facts {
            let (record, fact, hash) = bundled.check(last)?;
            if let Some(instance) = fact.instance() {
                follows(&record, tails.insert(instance.clone(), record.seq))?;
            }
            last = Some((record.seq, hash));
            facts.push((record.seq, fact, hash));
            records.push(record);
        }
        if let Some(under) = &bundle.under {
            let linked = records.iter().zip(facts.iter().map(|(_, _, link)| *link));
            under.check(linked).map_err(|error| EvidenceError::Altered(error.to_string()))?;
        }
        let proofs = Proofs { bundle, facts };
        proofs.check_parts()?;
        Ok(proofs)
    }

    fn check_form(&self) -> Result<(), EvidenceError> {
        let is_known = match self.form {
            FORM => true,
            FORM_BARE => self.under.is_none(),
            _ => false,
        };
        if is_known {
            return Ok(());
        }
        let text = format!("the bundle has form {}; this program reads {FORM}", self.form);
        Err(EvidenceError::Altered(text))
    }
}

/// Checks that a fact follows on the one before it of its instance.
fn follows(record: &FactRecord, before: Option<u64>) -> Result<(), EvidenceError> {
    if before == record.previous {
        return Ok(());
    }
    let missing = record.previous.map_or_else(|| "none".into(), |seq| format!("fact {seq}"));
    let seq = record.seq;
    let text = format!("fact {seq} follows on {missing} of its instance, which is not here");
    Err(EvidenceError::Altered(text))
}

impl BundledFact {
    /// Checks the fact, and returns it in its stored and its typed form, with its link. `last` is
    /// the fact before it in the bundle, whose link must match if the two are adjacent.
    fn check(
        &self,
        last: Option<(u64, FactHash)>,
    ) -> Result<(FactRecord, Fact, FactHash), EvidenceError> {
        let altered = |text: String| EvidenceError::Altered(text);
        let record: FactRecord = serde_json::from_str(&self.text)
            .map_err(|error| altered(format!("a fact can't be read: {error}")))?;
        let link = |text: &str| {
            hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok()).map(FactHash)
        };
        let before = link(&self.before).filter(|before| before.to_string() == self.before);
        let before = before.ok_or_else(|| {
            altered(format!("fact {}: the link before it is malformed", record.seq))
        })?;
        let hash = before.next(self.text.as_bytes());
        if hash.to_string() != self.hash {
            return Err(altered(format!(
                "fact {} was altered: its link does not follow from its text",
                record.seq
            )));
        }
        let follows = last.is_none_or(|(seq, link)| {
            seq < record.seq && (seq + 1 != record.seq || link == before)
        });
        if !follows {
            return Err(altered(format!(
                "fact {} does not follow on the fact before it",
                record.seq
            )));
        }
        let fact = Fact::try_from(&record)
            .map_err(|error| altered(format!("fact {}: {error}", record.seq)))?;
        Ok((record, fact, hash))
    }
}

/// A bundle that passed all checks: evidence without a host.
pub struct Proofs {
    bundle: Bundle,
    facts: Vec<(u64, Fact, FactHash)>,
}

impl Proofs {
    /// Id of the tenant whose invoice the bundle proves.
    pub fn tenant(&self) -> &str {
        &self.bundle.tenant
    }

    /// Number of the invoice that the bundle proves.
    pub fn number(&self) -> u64 {
        self.bundle.number
    }

    /// The place of the facts under a signed head; none if the close was signed by an earlier
    /// version.
    pub fn under(&self) -> Option<&Under> {
        self.bundle.under.as_ref()
    }

    /// Checks all parts, also those that the proof of this invoice does not read.
    fn check_parts(&self) -> Result<(), EvidenceError> {
        let altered = |text: String| Err(EvidenceError::Altered(text));
        for (what, parts) in
            [("document", &self.bundle.documents), ("component", &self.bundle.components)]
        {
            for (name, text) in parts {
                let Ok(digest) = name.parse::<Digest>() else {
                    return altered(format!("{what} '{name}' has a name that is not a SHA-256"));
                };
                let bytes = sound(what, digest, BASE64.decode(text).ok())?;
                if digest.to_string() != *name || BASE64.encode(bytes) != *text {
                    return altered(format!(
                        "{what} {name} was altered: it is not written as it was"
                    ));
                }
            }
        }
        let stated = self.stated_places()?;
        for (seq, hash) in &self.bundle.places {
            if !stated.iter().any(|place| (place.seq, &place.hash) == (*seq, hash)) {
                return altered(format!(
                    "the place of fact {seq} was altered: no document names fact {seq} with {hash}"
                ));
            }
        }
        match stated.iter().find(|place| !self.bundle.places.contains_key(&place.seq)) {
            Some(place) => Err(EvidenceError::Missing(format!("the place of fact {}", place.seq))),
            None => Ok(()),
        }
    }

    /// The places in the journal that the documents name.
    fn stated_places(&self) -> Result<Vec<Place>, EvidenceError> {
        let mut places = Vec::new();
        for (_, fact, _) in &self.facts {
            let Some(TenantFact::Invoiced { digest, .. }) = fact.of_tenant() else { continue };
            let bytes = self.document(*digest)?;
            if super::view::form(&bytes) != Some(super::FORM) {
                continue;
            }
            let unreadable =
                |error| EvidenceError::Altered(format!("document {digest} can't be read: {error}"));
            places.push(Invoice::from_bytes(&bytes).map_err(unreadable)?.as_of);
        }
        Ok(places)
    }
}

impl Evidence for Proofs {
    fn lives(&self, query: SpanQuery<'_>, visit: &mut Visit<'_>) -> Result<(), EvidenceError> {
        let SpanQuery { tenant, through, .. } = query;
        let mut histories: BTreeMap<InstanceId, Vec<(u64, Fact)>> = BTreeMap::new();
        for (seq, fact, _) in self.facts.iter().filter(|(seq, ..)| *seq <= through) {
            if let Some(instance) = fact.instance().filter(|_| fact.tenant == *tenant) {
                histories.entry(instance.clone()).or_default().push((*seq, fact.clone()));
            }
        }
        visit_histories(&histories, query, visit);
        Ok(())
    }

    fn began(&self, tenant: &TenantId, through: u64) -> Result<Option<Instant>, EvidenceError> {
        let own =
            self.facts.iter().filter(|(seq, fact, _)| *seq <= through && fact.tenant == *tenant);
        // Facts of the host are under the default tenant; they do not begin its time.
        Ok(own
            .filter(|(_, fact, _)| fact.of_host().is_none())
            .map(|(_, fact, _)| fact.at.meter)
            .min())
    }

    fn ended(&self, tenant: &TenantId, through: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok(end_said_by(&self.tenant_facts(tenant, through)?))
    }

    fn tenant_facts(
        &self,
        tenant: &TenantId,
        through: u64,
    ) -> Result<Vec<(u64, Fact)>, EvidenceError> {
        let own =
            self.facts.iter().filter(|(seq, fact, _)| *seq <= through && fact.tenant == *tenant);
        let own = own.filter(|(_, fact, _)| fact.of_tenant().is_some());
        Ok(own.map(|(seq, fact, _)| (*seq, fact.clone())).collect())
    }

    fn changed(&self, tenant: &TenantId, news: &News) -> Result<bool, EvidenceError> {
        let mut own = self.facts.iter().filter(|(_, fact, _)| fact.tenant == *tenant);
        Ok(own.any(|(seq, fact, _)| news.changes(*seq, fact) || news.is_late(*seq, fact)))
    }

    fn invoices(
        &self,
        tenant: &TenantId,
        through: u64,
    ) -> Result<Vec<StoredInvoice>, EvidenceError> {
        let facts = Evidence::tenant_facts(self, tenant, through)?;
        Ok(super::rules::said(&facts, StoredInvoice::from_fact))
    }

    fn calendar(&self, through: u64) -> Result<Calendar, EvidenceError> {
        let facts = self.facts.iter().filter(|(seq, _, _)| *seq <= through);
        Ok(Calendar::told_by(facts.map(|(_, fact, _)| fact)))
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        let found = self.bundle.documents.get(&digest.to_string());
        sound("document", digest, found.and_then(|text| BASE64.decode(text).ok()))
    }

    fn component(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        let found = self.bundle.components.get(&digest.to_string());
        sound("component", digest, found.and_then(|text| BASE64.decode(text).ok()))
    }

    fn place(&self, seq: u64) -> Result<Head, EvidenceError> {
        let own = self.facts.iter().find(|(own, _, _)| *own == seq).map(|(_, _, hash)| *hash);
        let link = |text: &String| {
            hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok()).map(FactHash)
        };
        let hash = own.or_else(|| self.bundle.places.get(&seq).and_then(link));
        hash.map(|hash| Head { seq, hash })
            .ok_or_else(|| EvidenceError::Missing(format!("fact {seq}")))
    }
}
