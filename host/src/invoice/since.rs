//! The begin of a bundle at the end of the period before: so its size follows the period, not the
//! tenant's life.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::carried::Carried;
use super::document::{Closing, FORM, Invoice};
use super::evidence::{Evidence, EvidenceError};
use super::rules::Rules;
use crate::heads::{GroupBegin, Under};
use crate::id::{Digest, TenantId};
use crate::journal::wire::CALENDAR;
use crate::journal::{Archive, FactHash, StoredInvoice};
use crate::merkle::Log;
use crate::units::Instant;

/// The state with which a bundle begins, in place of the facts before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BundleSince)]
pub struct Since {
    /// Number of the document of the period before, which names the state by its SHA-256, and
    /// whose closing balances are those that the period began with.
    pub document: u64,
    /// The state at the end of that period.
    pub carried: Carried,
    /// The trees over the facts that are left out: those of the tenant, and of the calendar.
    pub groups: Vec<GroupBegin>,
}

/// Lookup of the places that were noted under the head of a close.
pub type Noted<'a> = &'a dyn Fn(u64) -> Option<Under>;

/// The begin of a document's bundle, with the facts that it holds.
pub(super) struct Begun {
    pub(super) since: Since,
    /// Sequence numbers, ascending.
    pub(super) facts: Vec<u64>,
    /// Price books that hold in the period.
    pub(super) books: Vec<Digest>,
}

/// The begin of the bundle of a document; none if it can't do without the tenant's first facts, as
/// in the tenant's first period. Blocking.
pub(super) fn begin(
    archive: &Archive,
    tenant: &TenantId,
    invoice: &Invoice,
    close: u64,
    noted: Noted<'_>,
) -> Result<Option<Begun>, EvidenceError> {
    let documents = archive.invoices_of(tenant)?;
    let Some((base, until)) = base(archive, &documents, invoice)? else { return Ok(None) };
    let Some(note) = base.carried else { return Ok(None) };
    let carried = Carried::read(archive, tenant, (until, note.through))?;
    if carried.note() != note {
        let text = format!("the state that document {:?} carries is another now", base.number);
        return Err(EvidenceError::Altered(text));
    }
    let closes = documents.iter().map(|stored| stored.fact).filter(|fact| *fact <= note.through);
    let reading = Reading { archive, tenant, through: note.through, close };
    let Some(own) = reading.own(closes.rev(), noted)? else { return Ok(None) };
    let Some(calendar) = reading.calendar()? else { return Ok(None) };
    let mut facts: Vec<u64> = carried.facts.iter().map(|(seq, _)| *seq).collect();
    facts.extend(own.1.into_iter().chain(calendar.1));
    facts.sort_unstable();
    facts.dedup();
    let rules = Rules::said_by(&Evidence::tenant_facts(archive, tenant, invoice.as_of.seq)?);
    let span = (Instant(invoice.period.from_ns), Instant(invoice.period.until_ns));
    let books = rules.books_planned_at(invoice.until(), span).iter().map(|one| one.book).collect();
    let document = base.number.unwrap_or_default();
    let since = Since { document, carried, groups: vec![own.0, calendar.0] };
    Ok(Some(Begun { since, facts, books }))
}

/// The document with whose closing balances the period of another one began, and its end.
fn base(
    archive: &Archive,
    documents: &[StoredInvoice],
    invoice: &Invoice,
) -> Result<Option<(Invoice, Instant)>, EvidenceError> {
    let start = Instant(invoice.period.from_ns);
    let before = |stored: &&StoredInvoice| Some(stored.number) < invoice.number;
    for stored in documents.iter().rev().filter(before).filter(|one| one.until == start) {
        let bytes = Evidence::document(archive, stored.digest)?;
        if super::view::form(&bytes) != Some(FORM) {
            continue;
        }
        let base = super::view::read(stored.digest, &bytes)?;
        if is_base(&base, invoice) {
            return Ok(Some((base, start)));
        }
    }
    Ok(None)
}

/// Returns whether a document hands on everything with which the period of another one began.
pub(super) fn is_base(base: &Invoice, invoice: &Invoice) -> bool {
    let spans = |one: &Invoice| -> Vec<(i64, i64)> {
        one.unrated.iter().map(|span| (span.from_ns, span.until_ns)).collect()
    };
    base.carried.is_some()
        && base.period.until_ns == invoice.period.from_ns
        && Closing(base.closing.0.clone()).digest() == invoice.opening
        && spans(base) == spans(invoice)
}

/// The facts of a bundle, as they are read from the journal.
struct Reading<'a> {
    archive: &'a Archive,
    tenant: &'a TenantId,
    through: u64,
    close: u64,
}

/// The begin of a group, and its facts from there on.
type Group = (GroupBegin, Vec<u64>);

impl Reading<'_> {
    /// The facts of the tenant. Those before are read from the last close on after which a tree was
    /// noted, or from the first one.
    fn own(
        &self,
        closes: impl Iterator<Item = u64>,
        noted: Noted<'_>,
    ) -> Result<Option<Group>, EvidenceError> {
        let known = |close: u64| {
            let groups = noted(close)?.groups;
            let own = groups.into_iter().find(|one| one.group == self.tenant.as_str())?;
            Some((close, own.log()?))
        };
        for (after, log) in closes.filter_map(known).chain([(0, Log::default())]) {
            let facts = self.after(after)?;
            if let Some(found) = self.split(self.tenant.as_str(), log, facts)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn calendar(&self) -> Result<Option<Group>, EvidenceError> {
        let facts = self.archive.calendar()?.into_iter().map(|(seq, ..)| seq);
        let facts = facts.filter(|seq| *seq <= self.close).collect();
        self.split(CALENDAR, Log::default(), facts)
    }

    /// The sequence numbers of the tenant's facts after one, ascending.
    fn after(&self, after: u64) -> Result<Vec<u64>, EvidenceError> {
        let mut facts = self.archive.own_facts(self.tenant, self.close)?;
        for instance in self.archive.instances_of(self.tenant)? {
            if instance.last_fact > Some(after) {
                let history = self.archive.history_after(&instance.id, after)?;
                facts.extend(history.iter().map(|(seq, _)| *seq));
            }
        }
        facts.retain(|seq| after < *seq && *seq <= self.close);
        facts.sort_unstable();
        facts.dedup();
        Ok(facts)
    }

    /// Cuts a group's facts at the last one that the state is made of: that one shows that none
    /// after the state is left out. None if there is no such fact.
    fn split(
        &self,
        group: &str,
        mut log: Log,
        mut facts: Vec<u64>,
    ) -> Result<Option<Group>, EvidenceError> {
        let place = facts.partition_point(|seq| *seq <= self.through);
        let Some(place) = place.checked_sub(1) else { return Ok(None) };
        for seq in facts.drain(..place) {
            log.push(&Evidence::place(self.archive, seq)?.hash.0);
        }
        Ok(Some((GroupBegin::of(group, facts[0], &log), facts)))
    }
}

impl Since {
    /// The first fact of the tenant that is not left out.
    pub(super) fn first(&self, tenant: &str) -> u64 {
        let own = self.groups.iter().find(|begin| begin.group == tenant);
        own.map_or(0, |begin| begin.from)
    }

    /// Checks that facts, with their groups and links, are those that the state is made of and all
    /// after it.
    pub(super) fn check(
        &self,
        under: Option<&Under>,
        facts: &[(u64, String, FactHash)],
    ) -> Result<(), EvidenceError> {
        let altered = |text: String| Err(EvidenceError::Altered(text));
        let Some(under) = under else {
            return altered("the bundle leaves facts out, and no signed head says which".into());
        };
        let names = |groups: &mut dyn Iterator<Item = &String>| groups.cloned().collect::<Vec<_>>();
        let begun = names(&mut self.groups.iter().map(|begin| &begin.group));
        if begun != names(&mut under.groups.iter().map(|one| &one.group)) {
            return altered("the groups of the bundle's begin are not those of its head".into());
        }
        for begin in &self.groups {
            let is_first = |(seq, group, _): &(u64, String, FactHash)| {
                *seq == begin.from && *group == begin.group
            };
            if begin.from > self.carried.through || !facts.iter().any(is_first) {
                let group = &begin.group;
                return altered(format!("the facts of {group} do not begin where its state ends"));
            }
        }
        self.check_kept(facts)
    }

    /// Checks that the facts before those of the period are the ones that the state names.
    fn check_kept(&self, facts: &[(u64, String, FactHash)]) -> Result<(), EvidenceError> {
        let named: BTreeMap<u64, &String> =
            self.carried.facts.iter().map(|(seq, link)| (*seq, link)).collect();
        let mut found = 0;
        for (seq, group, link) in facts {
            let from = self.groups.iter().find(|begin| begin.group == *group);
            let is_named = named.get(seq).is_some_and(|named| **named == link.to_string());
            found += usize::from(is_named);
            if !is_named && from.is_none_or(|begin| *seq < begin.from) {
                let text = format!("fact {seq} is none that the bundle's begin names");
                return Err(EvidenceError::Altered(text));
            }
        }
        match found == self.carried.facts.len() {
            true => Ok(()),
            false => Err(EvidenceError::Missing("a fact that the bundle's begin names".into())),
        }
    }
}
