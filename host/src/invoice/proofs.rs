//! The evidence that a bundle holds.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::bundle::{Bundle, follows};
use super::carried::UnderWay;
use super::document::{Invoice, Place};
use super::evidence::{Evidence, EvidenceError, News, Visit, end_said_by, sound};
use crate::billing::calendar::Calendar;
use crate::billing::life::Life;
use crate::billing::{Fact, TenantFact};
use crate::heads::Under;
use crate::id::{Digest, IdError, InstanceId, TenantId};
use crate::journal::{FactHash, Head, SpanQuery, StoredInvoice};
use crate::units::Instant;

impl Bundle {
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
        let first = bundle.since.as_ref().map_or(0, |since| since.first(&bundle.tenant));
        let mut facts = Vec::with_capacity(bundle.facts.len());
        let mut last: Option<(u64, FactHash)> = None;
        let mut records = Vec::with_capacity(bundle.facts.len());
        let mut tails: BTreeMap<InstanceId, u64> = BTreeMap::new();
        for bundled in &bundle.facts {
            let (record, fact, hash) = bundled.check(last)?;
            if let Some(instance) = fact.instance() {
                follows(&record, tails.insert(instance.clone(), record.seq), first)?;
            }
            last = Some((record.seq, hash));
            facts.push((record.seq, fact, hash));
            records.push(record);
        }
        bundle.check_under(&records, &facts)?;
        let recorded = records.iter().map(|one| (one.seq, Instant(one.recorded_ns))).collect();
        Proofs::of(bundle, facts, recorded)
    }
}

/// A bundle that passed all checks: evidence without a host.
pub struct Proofs {
    bundle: Bundle,
    facts: Vec<(u64, Fact, FactHash)>,
    /// The instant at which each fact was recorded.
    recorded: Vec<(u64, Instant)>,
    /// The document with whose end the bundle begins.
    base: Option<Invoice>,
}

impl Proofs {
    /// The evidence of a bundle whose facts were checked.
    pub(super) fn of(
        bundle: Bundle,
        facts: Vec<(u64, Fact, FactHash)>,
        recorded: Vec<(u64, Instant)>,
    ) -> Result<Self, EvidenceError> {
        let mut proofs = Self { bundle, facts, recorded, base: None };
        proofs.check_parts()?;
        proofs.base = proofs.stated_base()?;
        Ok(proofs)
    }

    /// The document that states the bundle's begin.
    fn stated_base(&self) -> Result<Option<Invoice>, EvidenceError> {
        let Some(since) = &self.bundle.since else { return Ok(None) };
        let missing = || EvidenceError::Missing(format!("document {}", since.document));
        let tenant = self.bundle.tenant.parse().map_err(|_| missing())?;
        let documents = self.invoices(&tenant, u64::MAX)?;
        let found = documents.iter().find(|stored| stored.number == since.document);
        let digest = found.ok_or_else(missing)?.digest;
        let base = super::view::read(digest, &self.document(digest)?)?;
        let is_its = base.until().0 == since.carried.until_ns
            && base.carried.as_ref() == Some(&since.carried.note());
        if is_its {
            return Ok(Some(base));
        }
        let text = "the state that the bundle begins with is not the one that document";
        Err(EvidenceError::Altered(format!("{text} {} states", since.document)))
    }

    /// The lives of the instances that the bundle begins with.
    fn begun(&self) -> Result<BTreeMap<InstanceId, Life>, EvidenceError> {
        let Some(since) = &self.bundle.since else { return Ok(BTreeMap::new()) };
        let begun = since.carried.instances.iter().map(|one| {
            let id: InstanceId = one.id.parse()?;
            let opening = one.under_way.as_ref().map(UnderWay::opening);
            let first_fact = one.first_fact;
            Ok((id.clone(), Life { id, first_fact, opening, counted: Vec::new() }))
        });
        let begun = begun.collect::<Result<_, IdError>>();
        begun.map_err(|error| EvidenceError::Altered(error.to_string()))
    }

    /// The last fact that the bundle's begin is made of.
    fn begin(&self) -> u64 {
        self.bundle.since.as_ref().map_or(0, |since| since.carried.through)
    }

    /// Refuses a question about what was before the bundle's begin.
    fn reach(&self, through: u64, at: Instant) -> Result<(), EvidenceError> {
        let Some(since) = &self.bundle.since else { return Ok(()) };
        if since.carried.through <= through && since.carried.until_ns <= at.0 {
            return Ok(());
        }
        let text = "the evidence of time before the period that the bundle is of";
        Err(EvidenceError::Missing(text.into()))
    }

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
        let SpanQuery { tenant, start, end, through } = query;
        self.reach(through, start)?;
        let begin = self.begin();
        let mut histories: BTreeMap<InstanceId, Vec<(u64, Fact)>> = BTreeMap::new();
        let facts = self.facts.iter().filter(|(seq, ..)| begin < *seq && *seq <= through);
        for (seq, fact, _) in facts {
            if let Some(instance) = fact.instance().filter(|_| fact.tenant == *tenant) {
                histories.entry(instance.clone()).or_default().push((*seq, fact.clone()));
            }
        }
        let mut begun = self.begun()?;
        begun.retain(|_, life| life.first_fact <= through);
        for (id, history) in &histories {
            let first_fact = history[0].0;
            begun.entry(id.clone()).or_insert_with(|| Life {
                id: id.clone(),
                first_fact,
                opening: None,
                counted: Vec::new(),
            });
        }
        for (id, life) in begun {
            let history = histories.remove(&id).unwrap_or_default();
            let life = life.with(&history, (start, end));
            if !life.is_over(&history) && visit(life).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn began(&self, tenant: &TenantId, through: u64) -> Result<Option<Instant>, EvidenceError> {
        // The period before is the first that the evidence knows of.
        if let Some(base) = &self.base {
            return Ok(Some(Instant(base.period.from_ns)));
        }
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
        let begin = self.begin();
        let begun = self.bundle.since.iter().flat_map(|since| &since.carried.calendar);
        let begun = begun.map(|&(since, offset)| (Instant(since), offset)).collect();
        let facts = self.facts.iter().filter(|(seq, ..)| begin < *seq && *seq <= through);
        Ok(Calendar::going_on(begun, facts.map(|(_, fact, _)| fact)))
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

    fn is_recorded_by(&self, seq: u64, at: Instant) -> Result<bool, EvidenceError> {
        Ok(self.recorded.iter().all(|&(own, recorded)| own > seq || recorded <= at))
    }

    fn base(&self) -> Option<&Invoice> {
        self.base.as_ref()
    }
}
