//! A bundle: an invoice with its evidence in one file, with which a tenant can prove its charges on
//! another machine.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::evidence::{Evidence, EvidenceError};
use super::since::{self, Begun, Noted, Since};
use crate::billing::{Fact, TenantFact};
use crate::heads::Under;
use crate::id::{Digest, IdError, TenantId};
use crate::journal::wire::FactRecord;
use crate::journal::{Archive, FactHash, StoredInvoice};

/// Version of the bundle's form.
const FORM: u32 = 4;
/// The form before, which always began with the tenant's first fact.
const FORM_WHOLE: u32 = 3;
/// The form before that, which had no proof under a signed head.
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
    /// The end of the period before, with which the bundle begins; absent if it begins with the
    /// tenant's first fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
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

/// Reads a document of a tenant with its evidence from a journal: the facts of the tenant and of
/// the calendar up to its close, from the end of the period before or from the first one on, and
/// what they name. `under` is their place under the head of the close, `noted` those under earlier
/// ones. Blocking.
///
/// # Errors
/// [`EvidenceError`].
pub fn bundle(
    archive: &Archive,
    tenant: &TenantId,
    number: u64,
    under: Option<Under>,
    noted: Noted<'_>,
) -> Result<Bundle, EvidenceError> {
    let close = close_of(archive, tenant, number)?;
    if !archive.heard(u64::MAX)?.is_empty() {
        let what = "a bundle of a document over several hosts: a bundle holds the facts of one \
                    journal, which";
        return Err(EvidenceError::Missing(what.into()));
    }
    let begun = match &under {
        Some(_) => begun(archive, tenant, (number, close), noted)?,
        None => None,
    };
    let mut bundle = Bundle {
        form: FORM,
        tenant: tenant.to_string(),
        number,
        facts: Vec::new(),
        places: BTreeMap::new(),
        documents: BTreeMap::new(),
        components: BTreeMap::new(),
        under,
        since: None,
    };
    let seqs = match begun {
        Some(begun) => {
            bundle.add_documents(archive, tenant, begun.since.first(tenant.as_str()))?;
            bundle.add_books(archive, begun.books)?;
            bundle.since = Some(begun.since);
            begun.facts
        }
        None => {
            bundle.add_documents(archive, tenant, 0)?;
            let facts = Evidence::tenant_facts(archive, tenant, close)?;
            let books = facts.iter().filter_map(|(_, fact)| fact.of_tenant().and_then(book_named));
            bundle.add_books(archive, books)?;
            facts_until(archive, tenant, close)?
        }
    };
    for seq in seqs {
        bundle.facts.push(bundled(archive, seq)?);
    }
    Ok(bundle)
}

/// The begin of the bundle of a document at the end of the period before; none if it begins with
/// the tenant's first fact.
fn begun(
    archive: &Archive,
    tenant: &TenantId,
    (number, close): (u64, u64),
    noted: Noted<'_>,
) -> Result<Option<Begun>, EvidenceError> {
    let documents = archive.invoices_of(tenant)?;
    let Some(stored) = documents.iter().find(|stored| stored.number == number) else {
        return Ok(None);
    };
    let bytes = Evidence::document(archive, stored.digest)?;
    if super::view::form(&bytes) != Some(super::FORM) {
        return Ok(None);
    }
    let invoice = super::view::read(stored.digest, &bytes)?;
    since::begin(archive, tenant, &invoice, close, noted)
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
    /// Adds the documents of the tenant whose facts are not before one, up to the bundle's own.
    fn add_documents(
        &mut self,
        archive: &Archive,
        tenant: &TenantId,
        from: u64,
    ) -> Result<(), EvidenceError> {
        let documents = archive.invoices_of(tenant)?;
        let holds = |stored: &&StoredInvoice| from <= stored.fact && stored.number <= self.number;
        let held: Vec<&StoredInvoice> = documents.iter().filter(holds).collect();
        for stored in held {
            let bytes = Evidence::document(archive, stored.digest)?;
            // Documents before the bundle's own are not made again if their period is closed.
            let is_made = from == 0 || stored.number == self.number;
            self.add_document(archive, stored.digest, (&bytes, is_made))?;
        }
        Ok(())
    }

    fn add_books(
        &mut self,
        archive: &Archive,
        books: impl IntoIterator<Item = Digest>,
    ) -> Result<(), EvidenceError> {
        for digest in books {
            let name = digest.to_string();
            if let Entry::Vacant(place) = self.documents.entry(name) {
                place.insert(BASE64.encode(Evidence::document(archive, digest)?));
            }
        }
        Ok(())
    }

    /// Adds a document, the place in the journal that it names, and the components that make it.
    fn add_document(
        &mut self,
        archive: &Archive,
        digest: Digest,
        (bytes, is_made): (&[u8], bool),
    ) -> Result<(), EvidenceError> {
        self.documents.insert(digest.to_string(), BASE64.encode(bytes));
        // A document of the earlier form counts as an opening amount; it is not computed again.
        if super::view::form(bytes) != Some(super::FORM) {
            return Ok(());
        }
        let invoice = super::view::read(digest, bytes)?;
        self.places.insert(invoice.as_of.seq, archive.place(invoice.as_of.seq)?.hash.to_string());
        let altered =
            |error: IdError| EvidenceError::Altered(format!("document {digest}: {error}"));
        for receipt in invoice.receipts.iter().filter(|_| is_made) {
            if !self.components.contains_key(&receipt.component) {
                let bytes = archive.component(receipt.component.parse().map_err(altered)?)?;
                self.components.insert(receipt.component.clone(), BASE64.encode(bytes));
            }
        }
        Ok(())
    }

    /// Checks that the facts are all those under the head, from the bundle's begin on.
    pub(super) fn check_under(
        &self,
        records: &[FactRecord],
        facts: &[(u64, Fact, FactHash)],
    ) -> Result<(), EvidenceError> {
        let links = || facts.iter().map(|(_, _, link)| *link);
        if let Some(since) = &self.since {
            let named = records.iter().zip(links());
            let named = named.map(|(one, link)| (one.seq, one.group().to_owned(), link));
            since.check(self.under.as_ref(), &named.collect::<Vec<_>>())?;
        }
        let begins = self.since.as_ref().map_or(&[][..], |since| &since.groups);
        match &self.under {
            Some(under) => under
                .check(begins, records.iter().zip(links()))
                .map_err(|error| EvidenceError::Altered(error.to_string())),
            None => Ok(()),
        }
    }

    pub(super) fn check_form(&self) -> Result<(), EvidenceError> {
        let is_known = match self.form {
            FORM => true,
            FORM_WHOLE => self.since.is_none(),
            FORM_BARE => self.under.is_none() && self.since.is_none(),
            _ => false,
        };
        if is_known {
            return Ok(());
        }
        let text = format!("the bundle has form {}; this program reads {FORM}", self.form);
        Err(EvidenceError::Altered(text))
    }
}

/// Checks that a fact follows on the one before it of its instance. Facts before `first` are left
/// out.
pub(super) fn follows(
    record: &FactRecord,
    before: Option<u64>,
    first: u64,
) -> Result<(), EvidenceError> {
    let is_left_out = before.is_none() && record.previous.is_some_and(|seq| seq < first);
    if before == record.previous || is_left_out {
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
    pub(super) fn check(
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
