//! Invoices from histories with known figures, without a journal.

use std::sync::LazyLock;

use super::*;
use crate::billing::{About, BootId, Entered, Fact, InstanceFact, Reading, TenantFact};
use crate::id::{Digest, InstanceId, TenantId};
use crate::journal::{FactHash, Head, StoredInvoice};
use crate::policy::PolicyHost;
use crate::tenant::Actor;
use crate::vm::{Phase, Shape};

const SECOND: i64 = 1_000_000_000;

/// One unit of the currency for a second of running.
const BOOK: &str = r#"{"currency": "EUR", "prices": [
    {"id": "compute-1", "rule": "compute", "meter": "active", "per": "instance-second", "price": "1"}]}"#;

/// The same for two.
const DEARER: &str = r#"{"currency": "EUR", "prices": [
    {"id": "compute-2", "rule": "compute", "meter": "active", "per": "instance-second", "price": "2"}]}"#;

static POLICIES: LazyLock<PolicyHost> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    PolicyHost::open(&folder.path().join("cache")).expect("an engine")
});

/// Facts in the order in which they were recorded, and documents.
#[derive(Default)]
struct Shelf {
    facts: Vec<Fact>,
    documents: Vec<Vec<u8>>,
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn seconds(at: i64) -> Instant {
    Instant(at * SECOND)
}

impl Shelf {
    fn with_book() -> Self {
        let mut shelf = Self::default();
        shelf.put_prices(BOOK, 0);
        shelf
    }

    fn record(&mut self, at: i64, about: About) {
        let at = Reading { boot: BootId("b".into()), boottime_ns: 0, wall_ns: at * SECOND, meter: seconds(at) };
        self.facts.push(Fact { at, tenant: tenant(), about });
    }

    fn entered(&mut self, instance: &str, at: i64, phase: Phase) {
        let entered = Entered { phase, shape: Shape::default(), session: 1, cause: None };
        let id = instance.parse().expect("an id");
        self.record(at, About::Instance(id, InstanceFact::Entered(entered)));
    }

    fn put_prices(&mut self, book: &str, at: i64) {
        self.documents.push(book.into());
        let digest = Digest::of(book.as_bytes());
        let told = TenantFact::PricesActivated { digest, from: seconds(at), by: Actor::Operator };
        self.record(at, About::Tenant(told));
    }

    fn order(&self, from: i64, until: i64) -> Order {
        let as_of = self.place(self.facts.len() as u64).expect("a place");
        Order { tenant: tenant(), from: seconds(from), until: seconds(until), as_of, policy: None, book: None }
    }

    fn make(&self, order: &Order, heading: Heading) -> Invoice {
        let named = |id: &InstanceId| Ok(Named { id: id.to_string(), name: format!("name of {id}"), tags: Vec::new() });
        Rater::new(self, &POLICIES, &named).invoice(order, heading).expect("an invoice")
    }

    fn heading(&self, kind: Kind, corrects: Option<u64>) -> Heading {
        let documents = self.invoices(&tenant(), u64::MAX).expect("documents");
        let previous = documents.last().map(|stored| stored.digest.to_string());
        Heading { number: Some(documents.len() as u64 + 1), kind, corrects, reason: None, previous }
    }

    /// Makes a period final, or what changed about one.
    fn close(&mut self, order: &Order, corrects: Option<u64>) -> Invoice {
        let kind = if corrects.is_some() { Kind::Correction } else { Kind::Invoice };
        let invoice = self.make(order, self.heading(kind, corrects));
        self.documents.push(invoice.to_bytes());
        let (number, digest) = (invoice.number.expect("a number"), invoice.digest());
        let (from, until, by) = (order.from, order.until, Actor::Operator);
        let told = TenantFact::Invoiced { number, digest, from, until, corrects, by };
        self.record(1_000, About::Tenant(told));
        invoice
    }

    fn prove(&self, number: u64) -> Result<Proved, ProofError> {
        prove(self, &POLICIES, &tenant(), number)
    }
}

impl Evidence for Shelf {
    fn instances(&self, _: &TenantId, through: u64) -> Result<Vec<InstanceId>, EvidenceError> {
        let known = self.facts.iter().take(usize::try_from(through).unwrap_or(usize::MAX));
        let mut ids: Vec<_> = known.filter_map(|fact| fact.instance().cloned()).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn history(&self, instance: &InstanceId, through: u64) -> Result<Vec<(u64, Fact)>, EvidenceError> {
        let facts = (1..=through).zip(&self.facts);
        Ok(facts.filter(|(_, fact)| fact.instance() == Some(instance)).map(|(seq, fact)| (seq, fact.clone())).collect())
    }

    fn began(&self, instance: &InstanceId, through: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok(self.history(instance, through)?.first().map(|(_, fact)| fact.at.meter))
    }

    fn policies(&self, _: &TenantId, _: u64) -> Result<Vec<InForce>, EvidenceError> {
        Ok(Vec::new())
    }

    fn quarantines(&self, _: &TenantId, through: u64) -> Result<Vec<Quarantine>, EvidenceError> {
        let told = (1..=through).zip(&self.facts).filter_map(|(fact, told)| Quarantine::told(fact, told.of_tenant()?));
        Ok(told.collect())
    }

    fn books(&self, _: &TenantId, through: u64) -> Result<Vec<InForce>, EvidenceError> {
        let told = (1..=through).zip(&self.facts).filter_map(|(fact, told)| match told.of_tenant()? {
            TenantFact::PricesActivated { digest, from, .. } => Some(InForce { from: *from, digest: *digest, fact }),
            _ => None,
        });
        Ok(told.collect())
    }

    fn invoices(&self, _: &TenantId, through: u64) -> Result<Vec<StoredInvoice>, EvidenceError> {
        let told = (1..=through).zip(&self.facts).filter_map(|(fact, told)| match told.of_tenant()? {
            TenantFact::Invoiced { number, digest, from, until, corrects, .. } => {
                let (number, digest, from, until, corrects) = (*number, *digest, *from, *until, *corrects);
                Some(StoredInvoice { number, digest, from, until, corrects, fact })
            }
            _ => None,
        });
        Ok(told.collect())
    }

    fn calendar(&self, _: u64) -> Result<Calendar, EvidenceError> {
        Ok(Calendar::default())
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        let found = self.documents.iter().find(|bytes| Digest::of(bytes) == digest);
        found.cloned().ok_or_else(|| EvidenceError::Missing(format!("document {digest}")))
    }

    fn component(&self, _: Digest) -> Result<Vec<u8>, EvidenceError> {
        Ok(PolicyHost::standard_bytes().to_vec())
    }

    fn place(&self, seq: u64) -> Result<Head, EvidenceError> {
        Ok(Head { seq, hash: FactHash([u8::try_from(seq).expect("few facts"); 32]) })
    }
}

/// Rule, kind and amount of each line.
fn rows(invoice: &Invoice) -> Vec<(&str, &str, &str)> {
    invoice.lines.iter().map(|line| (line.price_id.as_str(), line.kind.as_str(), line.amount.as_str())).collect()
}

/// A machine that runs from second 10 to second 30, and another one that still runs.
fn lived() -> Shelf {
    let mut shelf = Shelf::with_book();
    shelf.entered("a", 10, Phase::Running);
    shelf.entered("b", 20, Phase::Running);
    shelf.entered("a", 30, Phase::Stopped);
    shelf
}

#[test]
fn a_preview_and_the_final_document_differ_in_their_heading_alone() {
    let mut shelf = lived();
    let order = shelf.order(0, 100);
    let preview = shelf.make(&order, Heading::PREVIEW);
    let invoice = shelf.close(&order, None);
    assert_eq!(rows(&invoice), [("compute-1", "usage", "20"), ("compute-1", "usage", "80")]);
    assert_eq!((invoice.total.as_str(), invoice.payable.as_str()), ("100.00", "100.00"));
    let plain = Invoice { number: preview.number, kind: preview.kind, ..invoice };
    assert_eq!(plain, preview);
}

#[test]
fn closed_periods_add_up_to_what_the_whole_would_be() {
    let mut shelf = lived();
    let whole = shelf.make(&shelf.order(0, 100), Heading::PREVIEW);
    let parts = [(0, 15), (15, 25), (25, 100)].map(|(from, until)| {
        let order = shelf.order(from, until);
        shelf.close(&order, None)
    });
    let sum: i128 = parts.iter().flat_map(|part| &part.lines).filter_map(Line::amount_nanos).sum();
    assert_eq!(whole.lines.iter().filter_map(Line::amount_nanos).sum::<i128>(), sum);
    for number in 1..=3 {
        shelf.prove(number).expect("a proof");
    }
    // Each document's chain goes on where the one before it ended.
    let links: Vec<_> = parts.iter().map(Invoice::last_link).collect();
    assert!(links.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn a_late_fact_changes_no_invoice_and_is_what_a_correction_says() {
    let mut shelf = lived();
    let order = shelf.order(0, 100);
    let invoice = shelf.close(&order, None);
    // It comes to be known afterwards that the second machine ended at second 40.
    shelf.entered("b", 40, Phase::Stopped);
    assert_eq!(shelf.prove(1).expect("a proof").invoice, invoice);
    let order = shelf.order(0, 100);
    let correction = shelf.close(&order, Some(1));
    assert_eq!(rows(&correction), [("compute-1", "reversal", "-80"), ("compute-1", "usage", "20")]);
    assert_eq!((correction.lines[0].reverses.as_deref(), correction.total.as_str()), (Some("1/2"), "-60.00"));
    shelf.prove(2).expect("a proof");
    // Nothing is left to correct.
    let order = shelf.order(0, 100);
    assert_eq!(rows(&shelf.make(&order, shelf.heading(Kind::Correction, Some(1)))), []);
}

#[test]
fn other_prices_for_a_closed_period_are_a_difference_and_no_new_history() {
    let mut shelf = lived();
    let order = shelf.order(0, 100);
    shelf.close(&order, None);
    shelf.put_prices(DEARER, 200);
    let order = Order { book: Some(Digest::of(DEARER.as_bytes())), ..shelf.order(0, 100) };
    let correction = shelf.close(&order, Some(1));
    assert_eq!(correction.total, "100.00");
    let order = shelf.order(0, 100);
    let back = shelf.close(&order, Some(1));
    assert_eq!((back.total.as_str(), back.lines.len()), ("-100.00", 4));
    for number in 1..=3 {
        shelf.prove(number).expect("a proof");
    }
}

#[test]
fn prices_that_change_split_what_goes_on_exactly_there() {
    let mut shelf = lived();
    shelf.put_prices(DEARER, 25);
    let invoice = shelf.make(&shelf.order(0, 40), Heading::PREVIEW);
    let amounts = [
        ("compute-1", "usage", "15"),
        ("compute-1", "usage", "5"),
        ("compute-2", "usage", "10"),
        ("compute-2", "usage", "30"),
    ];
    assert_eq!(rows(&invoice), amounts);
    let ends: Vec<_> = invoice.receipts.iter().map(|receipt| (receipt.from_ns, receipt.until_ns)).collect();
    assert_eq!(ends, [(0, 25 * SECOND), (25 * SECOND, 40 * SECOND)]);
}

#[test]
fn a_document_that_states_anything_else_is_not_proved() {
    let shelf = |spoil: fn(&mut Invoice)| {
        let mut shelf = lived();
        let order = shelf.order(0, 100);
        let mut invoice = shelf.make(&order, shelf.heading(Kind::Invoice, None));
        spoil(&mut invoice);
        shelf.documents.push(invoice.to_bytes());
        let (digest, from, until) = (invoice.digest(), order.from, order.until);
        let told = TenantFact::Invoiced { number: 1, digest, from, until, corrects: None, by: Actor::Operator };
        shelf.record(1_000, About::Tenant(told));
        shelf.prove(1)
    };
    shelf(|_| ()).expect("a proof");
    type Lie = fn(&mut Invoice);
    let lies: [(Lie, &str); 7] = [
        (|invoice| invoice.lines[1].amount = "79".into(), "line 2"),
        (|invoice| drop(invoice.lines.pop()), "the number of lines"),
        (|invoice| invoice.total = "99.00".into(), "the total"),
        (|invoice| invoice.receipts[0].fuel += 1, "fuel"),
        (|invoice| invoice.receipts[0].input = "00".into(), "input"),
        (|invoice| invoice.receipts[0].chain = "00".into(), "chain"),
        (|invoice| invoice.instances[0].name = "another".into(), "input"),
    ];
    for (spoil, words) in lies {
        let Err(ProofError::Differs { difference, .. }) = shelf(spoil) else { panic!("{words} was believed") };
        assert!(difference.to_string().contains(words), "'{words}' is not in: {difference}");
    }
}
