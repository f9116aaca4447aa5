//! Documents from histories with known figures: no journal, no components, the biller itself.

mod traffic;

use std::collections::BTreeMap;

use biller::input::{Header, Intervals, OwnLine, Rounding, Subject};
use biller::output::Bill;

use super::*;
use crate::billing::agreement::{Agreement, Cycle};
use crate::billing::calendar::Calendar;
use crate::billing::{About, BootId, Entered, Fact, InstanceFact, Reading, TenantFact};
use crate::id::{Digest, InstanceId, TenantId};
use crate::journal::{FactHash, Head, SpanQuery, StoredInvoice};
use crate::policy::metering::{
    Measurement, MeterTerms, Request, Rounding as TermsRounding, Stretch as StatedStretch,
};
use crate::tenant::Actor;
use crate::vm::{Phase, Shape, Traffic};

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// One euro for a second in which the guest runs.
const BOOK: &str = r#"{"currency": "EUR", "prices": [
    {"id": "run-1", "rule": "run", "meter": "active", "per": "instance-second", "price": "1"}]}"#;

fn priced(price: &str) -> String {
    BOOK.replace(r#""price": "1""#, &format!(r#""price": "{price}""#))
        .replace("run-1", &format!("run-{price}"))
}

fn with(adjustments: &str) -> String {
    let end = BOOK.rfind('}').expect("an end");
    format!(r#"{}, "adjustments": [{adjustments}]}}"#, &BOOK[..end])
}

fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

/// Policies as data: the meter `active` counts what runs, with a minimum in seconds.
struct Doubles {
    standard: Digest,
    minimums: BTreeMap<Digest, u64>,
    faulty: Option<Digest>,
}

impl Doubles {
    fn new() -> Self {
        Self { standard: digest(9), minimums: [(digest(9), 0)].into(), faulty: None }
    }
}

impl Calls for Doubles {
    fn standard(&self) -> Digest {
        self.standard
    }

    fn biller(&self) -> Digest {
        digest(8)
    }

    fn engine(&self) -> String {
        "double".into()
    }

    fn measure(&self, policy: Digest, request: &Request) -> Result<Call<Measurement>, CallError> {
        let minimum = self.minimums.get(&policy).copied().expect("a known policy");
        if self.faulty == Some(policy) {
            return Err(CallError::Fault(Box::new(Fault::StackOverflow)));
        }
        let terms = MeterTerms {
            name: "active".into(),
            stretch: StatedStretch::Start,
            minimum: minimum * SECOND.unsigned_abs(),
            granularity: 1,
            rounding: TermsRounding::Up,
        };
        let runs = |phase: &u8| u64::from(*phase == Phase::Running as u8);
        let counted = request.intervals.phase.iter().map(runs).collect();
        let value = Measurement { terms: vec![terms], counted, lines: Vec::new() };
        Ok(Call { value, fuel: 1, input: hash::of_request(request), output: String::new() })
    }

    fn bill(
        &self,
        _: Digest,
        header: &Header,
        subjects: &[Subject],
        intervals: &Intervals,
        own: &[OwnLine],
    ) -> Result<Call<Bill>, CallError> {
        let value = biller::bill(header, subjects, intervals, own).expect("a bill");
        Ok(Call { value, fuel: 1, input: format!("{header:?}"), output: String::new() })
    }
}

/// Facts in the order in which they became known, and documents.
struct Shelf {
    facts: Vec<Fact>,
    documents: Vec<Vec<u8>>,
    calls: Doubles,
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn seconds(at: i64) -> Instant {
    Instant(at * SECOND)
}

impl Shelf {
    /// A tenant whose periods are days, from the first instant of 1970 on.
    fn new() -> Self {
        let mut shelf = Self { facts: Vec::new(), documents: Vec::new(), calls: Doubles::new() };
        let agreement = Agreement { cycle: Cycle::Day, ..Agreement::default() };
        shelf.say(0, TenantFact::Created { by: Actor::Operator });
        shelf.say(
            0,
            TenantFact::AgreementChanged { agreement, from: seconds(0), by: Actor::Operator },
        );
        shelf
    }

    fn with_book(text: &str) -> Self {
        let mut shelf = Self::new();
        shelf.put_prices(text, 0);
        shelf
    }

    fn record(&mut self, at: i64, about: About) {
        let at = Reading {
            boot: BootId("b".into()),
            boottime_ns: 0,
            wall_ns: at * SECOND,
            meter: seconds(at),
        };
        self.facts.push(Fact { at, tenant: tenant(), about });
    }

    fn say(&mut self, at: i64, fact: TenantFact) {
        self.record(at, About::Tenant(fact));
    }

    fn enter(&mut self, instance: &str, at: i64, phase: Phase) {
        let entered = Entered {
            phase,
            shape: Shape::default(),
            session: 1,
            cause: None,
            traffic: Traffic::NONE,
        };
        self.record(
            at,
            About::Instance(instance.parse().expect("an id"), InstanceFact::Entered(entered)),
        );
    }

    /// An instance that runs from `start` to `end`.
    fn run(&mut self, instance: &str, start: i64, end: i64) {
        self.enter(instance, start, Phase::Running);
        self.enter(instance, end, Phase::Stopped);
    }

    fn keep(&mut self, text: &str) -> Digest {
        self.documents.push(text.into());
        Digest::of(text.as_bytes())
    }

    fn put_prices(&mut self, text: &str, at: i64) {
        let digest = self.keep(text);
        self.say(
            at,
            TenantFact::PricesActivated {
                digest,
                from: seconds(at),
                by: Actor::Operator,
                name: None,
            },
        );
    }

    fn activate(&mut self, number: u8, minimum: u64, at: i64) {
        self.calls.minimums.insert(digest(number), minimum);
        self.say(at, activated(digest(number), seconds(at)));
    }

    fn overriding(&mut self, from: i64, until: i64, book: Option<&str>, policy: Option<Digest>) {
        let book = book.map(|text| self.keep(text));
        self.say(
            until,
            TenantFact::Overridden {
                from: seconds(from),
                until: seconds(until),
                policy,
                book,
                from_begin: false,
                reason: "agreed".into(),
                by: Actor::Operator,
            },
        );
    }

    fn view(&self) -> View {
        let head = self.place(self.facts.len() as u64).expect("a place");
        View::load(self, &tenant(), head).expect("a view")
    }

    /// Makes the documents on the way to a goal; what is to be paid for each.
    fn reach(&mut self, goal: Goal) -> Result<Vec<String>, InvoiceError> {
        let mut paid = Vec::new();
        loop {
            let named = names();
            let computer = Computer::new(&*self, &self.calls, &named);
            let heading = Heading { standard: Some(self.calls.standard()), ..Heading::default() };
            let Some(invoice) = computer.next(&self.view(), goal, &heading)? else {
                return Ok(paid);
            };
            paid.push(invoice.payable.clone());
            self.documents.push(invoice.to_bytes());
            let fact = TenantFact::Invoiced {
                number: invoice.number.expect("a number"),
                digest: invoice.digest(),
                from: Instant(invoice.period.from_ns),
                until: invoice.until(),
                corrects: invoice.follows,
                by: Actor::Operator,
            };
            self.say(invoice.billed.until_ns / SECOND, fact);
        }
    }

    fn close(&mut self, to: i64) -> Vec<String> {
        self.reach(Goal::Close(seconds(to))).expect("documents")
    }

    fn settle(&mut self) -> Vec<String> {
        let paid = self.reach(Goal::Settle).expect("documents");
        assert_eq!(
            self.reach(Goal::Settle).expect("none"),
            [] as [String; 0],
            "a settlement left something to settle"
        );
        self.prove_all();
        paid
    }

    fn preview(&self, to: i64) -> Vec<Invoice> {
        let named = names();
        Computer::new(self, &self.calls, &named)
            .preview(self.view(), seconds(to))
            .expect("documents")
    }

    fn prove(&self, number: u64) -> Result<Proved, ProofError> {
        prove(self, &self.calls, &tenant(), number)
    }

    fn prove_all(&self) {
        for document in self.view().documents() {
            self.prove(document.number.expect("a number")).expect("a proof");
        }
    }

    fn last(&self) -> Invoice {
        self.view().documents().last().cloned().expect("a document")
    }
}

/// Numbers of the documents that a settlement would correct.
fn stale(shelf: &Shelf) -> Vec<u64> {
    let named = names();
    Computer::new(shelf, &shelf.calls, &named).stale(&shelf.view()).expect("numbers")
}

/// Begins of the periods that nothing has measured.
fn unrated(shelf: &Shelf, now: i64) -> Vec<Instant> {
    let named = names();
    let computer = Computer::new(shelf, &shelf.calls, &named);
    computer.unrated(&shelf.view(), seconds(now)).expect("periods")
}

fn names() -> impl Fn(&InstanceId) -> Result<Named, EvidenceError> {
    |id: &InstanceId| {
        Ok(Named { id: id.to_string(), name: format!("name of {id}"), tags: Vec::new() })
    }
}

fn activated(digest: Digest, from: Instant) -> TenantFact {
    TenantFact::PolicyActivated {
        digest,
        from,
        rollback: false,
        by: None,
        reason: None,
        options: Vec::new(),
    }
}

impl Evidence for Shelf {
    fn lives(&self, query: SpanQuery<'_>, visit: &mut Visit<'_>) -> Result<(), EvidenceError> {
        let mut histories: BTreeMap<InstanceId, Vec<(u64, Fact)>> = BTreeMap::new();
        for (seq, fact) in (1..=query.through).zip(&self.facts) {
            if let Some(instance) = fact.instance() {
                histories.entry(instance.clone()).or_default().push((seq, fact.clone()));
            }
        }
        for history in histories.values_mut() {
            // A late fact counts at the instant at which it happened.
            history.sort_by_key(|(_, fact)| fact.at.meter);
        }
        evidence::visit_histories(&histories, query, visit);
        Ok(())
    }

    fn began(&self, _: &TenantId, through: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok((1..=through).zip(&self.facts).map(|(_, fact)| fact.at.meter).min())
    }

    fn ended(&self, _: &TenantId, _: u64) -> Result<Option<Instant>, EvidenceError> {
        Ok(None)
    }

    fn tenant_facts(&self, _: &TenantId, through: u64) -> Result<Vec<(u64, Fact)>, EvidenceError> {
        let own = (1..=through).zip(&self.facts).filter(|(_, fact)| fact.of_tenant().is_some());
        Ok(own.map(|(seq, fact)| (seq, fact.clone())).collect())
    }

    fn changed(&self, _: &TenantId, news: &News) -> Result<bool, EvidenceError> {
        let mut facts = (1..).zip(&self.facts);
        Ok(facts.any(|(seq, fact)| news.changes(seq, fact) || news.is_late(seq, fact)))
    }

    fn invoices(&self, _: &TenantId, through: u64) -> Result<Vec<StoredInvoice>, EvidenceError> {
        let said =
            (1..=through).zip(&self.facts).filter_map(|(fact, said)| match said.of_tenant() {
                Some(&TenantFact::Invoiced { number, digest, from, until, corrects, .. }) => {
                    Some(StoredInvoice { number, digest, from, until, corrects, fact })
                }
                _ => None,
            });
        Ok(said.collect())
    }

    fn calendar(&self, _: u64) -> Result<Calendar, EvidenceError> {
        Ok(Calendar::default())
    }

    fn document(&self, digest: Digest) -> Result<Vec<u8>, EvidenceError> {
        let found = self.documents.iter().find(|bytes| Digest::of(bytes) == digest);
        found.cloned().ok_or_else(|| EvidenceError::Missing(format!("document {digest}")))
    }

    fn component(&self, _: Digest) -> Result<Vec<u8>, EvidenceError> {
        Ok(Vec::new())
    }

    fn place(&self, seq: u64) -> Result<Head, EvidenceError> {
        Ok(Head { seq, hash: FactHash([u8::try_from(seq).expect("few facts"); 32]) })
    }
}

#[test]
fn a_preview_and_the_documents_of_a_close_say_the_same() {
    let mut shelf = Shelf::with_book(BOOK);
    shelf.run("a", 10, 30);
    shelf.run("b", DAY - 5, DAY + 5);
    let previews = shelf.preview(DAY + 100);
    assert_eq!(shelf.close(DAY + 100), ["25.00", "5.00"]);
    for (preview, invoice) in previews.iter().zip(shelf.view().documents()) {
        assert_eq!((&preview.lines, &preview.payable), (&invoice.lines, &invoice.payable));
        assert_eq!((preview.kind, invoice.kind), (Kind::Preview, Kind::Invoice));
    }
    shelf.prove_all();
    assert_eq!(shelf.preview(DAY + 100), []);
}

#[test]
fn a_repeated_close_makes_no_document() {
    let mut shelf = Shelf::with_book(BOOK);
    shelf.run("a", 10, 30);
    assert_eq!(shelf.close(100), ["20.00"]);
    assert_eq!(shelf.close(100), [] as [String; 0]);
    assert_eq!(shelf.close(50), [] as [String; 0]);
    // Up to a later instant there is one, although nothing was used since.
    assert_eq!(shelf.close(200), ["0.00"]);
    assert_eq!(shelf.last().follows, Some(1));
}

#[test]
fn example_4g_a_volume_price_gives_back_by_a_document_of_its_own() {
    let book = r#"{"currency": "EUR", "prices": [{"id": "run-1", "rule": "run", "meter": "active",
        "per": "instance-second", "model": "volume", "scope": "tenant",
        "tiers": [{"up_to": "10", "price": "1"}, {"price": "0.5"}]}]}"#;
    let mut shelf = Shelf::with_book(book);
    shelf.run("a", 0, 9);
    assert_eq!(shelf.close(100), ["9.00"]);
    shelf.run("b", 200, 206);
    assert_eq!(shelf.close(300), ["-1.50"]);
    shelf.prove_all();
}

#[test]
fn example_7a_a_minimum_is_charged_once_over_a_border() {
    let mut shelf = Shelf::with_book(BOOK);
    shelf.activate(1, 60, 0);
    shelf.run("a", DAY - 10, DAY + 30);
    assert_eq!(shelf.close(DAY + 100), ["60.00", "0.00"]);
    shelf.prove_all();
}

#[test]
fn example_7c_a_change_to_equal_terms_is_no_new_start() {
    let mut shelf = Shelf::with_book(BOOK);
    shelf.activate(1, 60, 0);
    shelf.run("a", 100, 130);
    shelf.activate(2, 60, 104);
    assert_eq!(shelf.close(200), ["60.00"]);
}

#[test]
fn example_7d_a_change_to_no_minimum_charges_what_was_used() {
    let mut shelf = Shelf::with_book(BOOK);
    shelf.activate(1, 60, 0);
    shelf.run("a", 100, 130);
    shelf.activate(2, 0, 104);
    assert_eq!(shelf.close(200), ["30.00"]);
}

#[test]
fn example_9a_a_correction_cascades_through_a_credit() {
    let credit = |price: &str| {
        with(r#"{"id": "c", "kind": "credit", "amount": "10"}"#)
            .replace(r#""price": "1""#, &format!(r#""price": "{price}""#))
    };
    let mut shelf = Shelf::with_book(&credit("1"));
    shelf.run("a", 0, 6);
    shelf.run("b", DAY, DAY + 8);
    assert_eq!(shelf.close(2 * DAY), ["0.00", "4.00"]);
    shelf.overriding(0, DAY, Some(&credit("2")), None);
    assert_eq!(stale(&shelf), [1, 2]);
    assert_eq!(shelf.settle(), ["2.00", "4.00"]);
    assert_eq!(stale(&shelf), [] as [u64; 0]);
    assert_eq!(shelf.last().kind, Kind::Correction);
}

/// An agreement that cuts the time after the period that holds `at`.
fn agree(shelf: &mut Shelf, at: i64, from: i64, agreement: Agreement) {
    let from = seconds(from);
    shelf.say(at, TenantFact::AgreementChanged { agreement, from, by: Actor::Operator });
}

#[test]
fn example_8k_a_minimum_has_the_share_of_a_first_period_that_is_shorter() {
    let minimum = with(r#"{"id": "m", "kind": "minimum", "amount": "62"}"#);
    let mut shelf = Shelf::with_book(&minimum);
    agree(&mut shelf, 0, 0, Agreement::default());
    // The second month is shorter: days 1 to 15 of February, of 31 days from 16 January on.
    agree(&mut shelf, DAY, 31 * DAY, Agreement { anchor_day: 16, ..Agreement::default() });
    assert_eq!(shelf.close(46 * DAY), ["62.00", "30.00"]);
    // The one after it is a usual one.
    assert_eq!(shelf.close(74 * DAY), ["62.00"]);
    shelf.prove_all();
}

/// A zone whose clocks turn out to have been changed at another time than was known.
#[test]
fn news_of_a_zone_move_no_border_that_a_document_has_fixed() {
    for (zone, moved) in [("Etc/GMT-1", -3_600), ("Etc/GMT+1", 3_600)] {
        let agreement =
            |zone: &str| Agreement { zone: zone.into(), cycle: Cycle::Day, ..Agreement::default() };
        let mut shelf = Shelf::with_book(BOOK);
        agree(&mut shelf, 0, 0, agreement("Etc/UTC"));
        let fact = shelf.facts.len() - 1;
        shelf.enter("a", 10, Phase::Running);
        assert_eq!(shelf.close(2 * DAY), ["86390.00", "86400.00"]);
        shelf.facts[fact].about = About::Tenant(TenantFact::AgreementChanged {
            agreement: agreement(zone),
            from: seconds(0),
            by: Actor::Operator,
        });
        assert_eq!(shelf.reach(Goal::Settle).expect("none"), [] as [String; 0]);
        // The third day ends where the zone says now, and begins where the second ended.
        let third = format!("{}.00", 86_400 + moved);
        assert_eq!(shelf.close(4 * DAY + moved), [third.as_str(), "86400.00"], "{zone}");
        shelf.prove(3).expect("a proof");
        shelf.prove(4).expect("a proof");
    }
}

/// A document keeps the borders of the edition of the database with which it was made.
#[test]
fn a_document_of_another_edition_is_proved_with_the_borders_that_it_states() {
    let proved = |edition: Option<&str>| {
        let mut shelf = Shelf::with_book(BOOK);
        let agreement = |zone: &str| TenantFact::AgreementChanged {
            agreement: Agreement { zone: zone.into(), cycle: Cycle::Day, ..Agreement::default() },
            from: seconds(0),
            by: Actor::Operator,
        };
        shelf.say(0, agreement("Etc/UTC"));
        let fact = shelf.facts.len() - 1;
        shelf.run("a", 10, 30);
        shelf.close(DAY);
        let mut document = shelf.last();
        // The same zone, which has another offset by now.
        document.zone = "Etc/GMT-1".into();
        let mut link = document::FIRST_LINK.to_owned();
        for receipt in &mut document.receipts {
            receipt.tzdata = edition.map_or_else(|| receipt.tzdata.clone(), str::to_owned);
            *receipt = receipt.clone().chained(&link);
            link.clone_from(&receipt.chain);
        }
        let bytes = document.to_bytes();
        let digest = Digest::of(&bytes);
        shelf.documents.push(bytes);
        let last = shelf.facts.last_mut().expect("the document's");
        if let About::Tenant(TenantFact::Invoiced { digest: stated, .. }) = &mut last.about {
            *stated = digest;
        }
        shelf.facts[fact].about = About::Tenant(agreement("Etc/GMT-1"));
        shelf.prove(1)
    };
    proved(Some("2020a")).expect("a proof");
    proved(None).expect_err("another border by the same edition");
}

/// A later program has another standard policy; what was measured by an earlier one stays so.
#[test]
fn time_before_any_policy_is_proved_and_corrected_by_the_standard_policy_of_its_document() {
    let mut shelf = Shelf::with_book(BOOK);
    shelf.run("a", 10, 30);
    shelf.activate(1, 0, 40);
    shelf.run("b", 50, 60);
    shelf.close(100);
    shelf.calls.standard = digest(7);
    shelf.calls.minimums.insert(digest(7), 3_600);
    shelf.prove(1).expect("a proof");
    assert_eq!(shelf.settle(), [] as [String; 0]);
    shelf.close(DAY);
    shelf.prove_all();
    assert_eq!(shelf.last().policies[0].digest, digest(9).to_string());
    let mut other = Shelf::with_book(BOOK);
    other.calls.standard = digest(7);
    other.calls.minimums.insert(digest(7), 3_600);
    other.run("a", 10, 30);
    other.close(DAY);
    assert_eq!(other.last().policies[0].digest, digest(7).to_string());
}

/// The first day whose facts are needed, and the document that would differ.
fn needed(shelf: &Shelf, until: i64) -> Option<(i64, Option<u64>)> {
    let named = names();
    let computer = Computer::new(shelf, &shelf.calls, &named);
    let needed = computer.needed(&shelf.view(), seconds(until)).expect("numbers")?;
    Some(((needed.from.0 - seconds(0).0) / (seconds(DAY).0 - seconds(0).0), needed.stale))
}

#[test]
fn facts_are_needed_from_the_first_period_that_is_open_or_would_differ() {
    let mut shelf = Shelf::with_book(&priced("1"));
    shelf.run("a", 0, 6);
    shelf.run("b", DAY, DAY + 8);
    assert_eq!(needed(&shelf, DAY), Some((0, None)));
    shelf.close(DAY);
    assert_eq!(needed(&shelf, DAY), None);
    assert_eq!(needed(&shelf, 2 * DAY), Some((1, None)));
    // Closed in part is open.
    shelf.close(DAY + 10);
    assert_eq!(needed(&shelf, 2 * DAY), Some((1, None)));
    shelf.close(2 * DAY);
    assert_eq!(needed(&shelf, 2 * DAY), None);
    shelf.overriding(0, DAY, Some(&priced("2")), None);
    assert_eq!(needed(&shelf, 2 * DAY), Some((0, Some(1))));
    shelf.settle();
    assert_eq!(needed(&shelf, 2 * DAY), None);
    // Without a book nothing is charged, and nothing is waited for.
    let mut free = Shelf::new();
    free.run("a", 0, 6);
    assert_eq!(needed(&free, 2 * DAY), None);
}

#[test]
fn examples_9b_and_9c_a_cap_is_computed_whole_and_then_differenced() {
    let rows = [(20, &[] as &[&str]), (8, &["-2.00"])];
    for (used, documents) in rows {
        let mut shelf = Shelf::with_book(&with(r#"{"id": "c", "kind": "cap", "amount": "10"}"#));
        shelf.run("a", 0, 26);
        assert_eq!(shelf.close(DAY), ["10.00"]);
        shelf.enter("a", used, Phase::Stopped);
        assert_eq!(shelf.settle(), documents);
    }
}

#[test]
fn example_9d_an_override_by_the_same_book_changes_nothing() {
    let mut shelf = Shelf::new();
    shelf.run("a", 0, 12);
    let book = with(r#"{"id": "c", "kind": "credit", "amount": "5"}"#);
    shelf.put_prices(&book, 8);
    assert_eq!(shelf.close(DAY), ["0.00"]);
    shelf.overriding(0, DAY, Some(&book), None);
    assert_eq!(stale(&shelf), [] as [u64; 0]);
    assert_eq!(shelf.settle(), [] as [String; 0]);
}

#[test]
fn example_10a_payables_of_corrections_add_up_to_one_rounding() {
    let minimum = |amount: &str| {
        format!(
            r#"{{"currency": "JPY",
                "adjustments": [{{"id": "m", "kind": "minimum", "amount": "{amount}"}}]}}"#
        )
    };
    let mut shelf = Shelf::with_book(&minimum("100.5"));
    let mut paid = shelf.close(DAY);
    for amount in ["101", "101.5", "102", "102.5"] {
        shelf.overriding(0, DAY, Some(&minimum(amount)), None);
        paid.extend(shelf.settle());
    }
    assert_eq!(paid, ["100", "1", "1", "0", "0"]);
}

#[test]
fn a_late_fact_changes_no_document_and_is_settled_by_one() {
    let mut shelf = Shelf::with_book(BOOK);
    shelf.enter("a", 10, Phase::Running);
    shelf.enter("b", 20, Phase::Running);
    assert_eq!(shelf.close(100), ["170.00"]);
    let before = shelf.last();
    shelf.enter("b", 40, Phase::Stopped);
    assert_eq!(shelf.prove(1).expect("a proof").invoice, Some(before));
    assert_eq!(shelf.settle(), ["-60.00"]);
    let line = &shelf.last().lines[0];
    assert_eq!(
        (line.was.as_deref(), line.is.as_str(), line.amount.as_str()),
        (Some("80"), "20", "-60")
    );
    assert_eq!(shelf.last().rules[0].amount, "-60.00");
}

#[test]
fn a_period_that_is_unrated_blocks_itself_alone() {
    let mut shelf = Shelf::with_book(&with(r#"{"id": "c", "kind": "credit", "amount": "8"}"#));
    shelf.activate(1, 0, 0);
    shelf.calls.faulty = Some(digest(1));
    shelf.run("a", 0, 6);
    shelf.activate(2, 0, DAY);
    shelf.run("b", DAY, DAY + 2);
    assert!(shelf.reach(Goal::Close(seconds(DAY))).is_err());
    assert_eq!(shelf.close(2 * DAY), ["0.00"]);
    assert_eq!(unrated(&shelf, DAY), [] as [Instant; 0], "it may still be settled");
    assert_eq!(unrated(&shelf, 2 * DAY), [seconds(0)]);
    let document = shelf.last();
    assert_eq!((document.unrated.len(), document.closing.0.credits[0].used), (1, 2_000_000_000));
    // An override frees it; the credit was used where a document used it first.
    shelf.overriding(0, DAY, None, Some(digest(2)));
    assert_eq!(shelf.close(2 * DAY), ["0.00"]);
    assert_eq!(shelf.last().closing.0.credits[0].used, 6_000_000_000);
    assert_eq!(unrated(&shelf, 2 * DAY), [] as [Instant; 0]);
    // The second day pays from what is left of it, as before; the third has nothing left to pay
    // from.
    shelf.run("c", 2 * DAY, 2 * DAY + 5);
    assert_eq!(shelf.close(3 * DAY), ["5.00"]);
    shelf.prove_all();
}

#[test]
fn currencies_of_a_period_cant_be_mixed() {
    let mut shelf = Shelf::with_book(BOOK);
    shelf.run("a", 0, 10);
    shelf.close(100);
    shelf.overriding(0, DAY, Some(&BOOK.replace("EUR", "USD")), None);
    let error = shelf.reach(Goal::Settle).expect_err("two currencies");
    let is_both = |known: &str, named: &str| (known, named) == ("EUR", "USD");
    assert!(
        matches!(&error, InvoiceError::Currencies { known, named } if is_both(known, named)),
        "{error}"
    );
}

/// A book that was set later is no plan that a document knew of, however late it is made.
#[test]
fn a_book_that_was_set_after_a_documents_time_does_not_change_it() {
    let cap =
        |amount: &str| with(&format!(r#"{{"id": "c", "kind": "cap", "amount": "{amount}"}}"#));
    let mut shelf = Shelf::with_book(&cap("100"));
    shelf.run("a", 0, 500);
    let mut later = Shelf { facts: shelf.facts.clone(), ..Shelf::with_book(&cap("100")) };
    assert_eq!(shelf.close(1_000), ["100.00"]);
    let half = DAY / 2;
    for shelf in [&mut shelf, &mut later] {
        shelf.put_prices(&cap("200"), half);
    }
    assert_eq!(shelf.settle(), [] as [String; 0]);
    assert_eq!(later.close(1_000), ["100.00"]);
    // From then on it counts.
    assert_eq!(shelf.close(half), ["50.00"]);
    assert_eq!(later.close(half), ["50.00"]);
}

#[test]
fn setting_the_same_book_again_changes_no_amount() {
    let book = with(r#"{"id": "c", "kind": "cap", "amount": "10"}"#);
    for again in [None, Some(13)] {
        let mut shelf = Shelf::with_book(&book);
        shelf.run("a", 0, 26);
        if let Some(at) = again {
            shelf.put_prices(&book.replace("}, {", "},  {"), at);
        }
        assert_eq!(shelf.close(DAY), ["10.00"]);
    }
}

#[test]
fn a_document_that_states_anything_else_is_not_proved() {
    let spoiled = |spoil: fn(&mut Invoice)| {
        let mut shelf = Shelf::with_book(&priced("1"));
        shelf.run("a", 10, 30);
        let named = names();
        let computer = Computer::new(&shelf, &shelf.calls, &named);
        let invoice = computer.next(&shelf.view(), Goal::Close(seconds(100)), &Heading::default());
        let mut invoice = invoice.expect("rated").expect("a document");
        spoil(&mut invoice);
        shelf.documents.push(invoice.to_bytes());
        let fact = TenantFact::Invoiced {
            number: 1,
            digest: invoice.digest(),
            from: seconds(0),
            until: seconds(100),
            corrects: None,
            by: Actor::Operator,
        };
        shelf.say(100, fact);
        shelf.prove(1)
    };
    spoiled(|_| ()).expect("a proof");
    type Lie = fn(&mut Invoice);
    let lies: [(Lie, &str); 9] = [
        (|invoice| invoice.lines[0].amount = "79".into(), "lines[0].amount"),
        (|invoice| drop(invoice.lines.pop()), "lines is a list of 0"),
        (|invoice| invoice.total = "99.00".into(), "total"),
        (|invoice| invoice.receipts[0].fuel += 1, "fuel"),
        (|invoice| invoice.receipts[0].input = "00".into(), "input"),
        (|invoice| invoice.receipts[1].chain = "00".into(), "chain"),
        (|invoice| invoice.instances[0].name = "another".into(), "input"),
        (|invoice| invoice.rounding = rounding_of(Rounding::Up).into(), "rounding"),
        (|invoice| invoice.closing.0.stretches[0].used_ns += 1, "closing"),
    ];
    for (spoil, words) in lies {
        let Err(ProofError::Differs { difference, .. }) = spoiled(spoil) else {
            panic!("{words} was believed")
        };
        assert!(difference.to_string().contains(words), "'{words}' is not in: {difference}");
    }
}

fn rounding_of(rounding: Rounding) -> &'static str {
    document::rounding_name(rounding)
}

/// Days add up to the rule's sum, and a document that follows says what each day was.
#[test]
fn a_document_is_divided_into_local_days() {
    let mut shelf = Shelf::new();
    let agreement = Agreement::default();
    let say = TenantFact::AgreementChanged { agreement, from: seconds(0), by: Actor::Operator };
    shelf.say(0, say);
    shelf.put_prices(BOOK, 0);
    shelf.enter("a", DAY - 10, Phase::Running);
    shelf.enter("b", 2 * DAY - 5, Phase::Running);
    let days = |shelf: &Shelf, invoice: &Invoice| -> Vec<(String, Option<String>, String)> {
        let named = names();
        let head = shelf.place(invoice.as_of.seq).expect("a place");
        let view = View::load(shelf, &tenant(), head).expect("a view");
        let days = Computer::new(shelf, &shelf.calls, &named).days(&view, invoice);
        days.expect("days").into_iter().map(|day| (day.day, day.was, day.amount)).collect()
    };
    let row = |day: &str, was: Option<&str>, amount: &str| {
        (day.to_owned(), was.map(str::to_owned), amount.to_owned())
    };
    shelf.close(2 * DAY + 3);
    let first = shelf.last();
    let expected = [
        row("1970-01-01", None, "10"),
        row("1970-01-02", None, "86405"),
        row("1970-01-03", None, "6"),
    ];
    assert_eq!(days(&shelf, &first), expected);
    shelf.enter("b", 2 * DAY - 2, Phase::Stopped);
    shelf.settle();
    let expected = [
        row("1970-01-01", Some("10"), "0"),
        row("1970-01-02", Some("86405"), "-2"),
        row("1970-01-03", Some("6"), "-3"),
    ];
    assert_eq!(days(&shelf, &shelf.last()), expected);
    assert_eq!(days(&shelf, &first).len(), 3, "as of its own place");
}

/// A price that two books state for different units is two lines, in each document.
#[test]
fn lines_for_different_units_are_not_mixed_up() {
    let by_minute = BOOK
        .replace("instance-second", "instance-minute")
        .replace(r#""price": "1""#, r#""price": "60""#);
    let mut shelf = Shelf::with_book(BOOK);
    shelf.put_prices(&by_minute, 50);
    shelf.enter("a", 20, Phase::Running);
    assert_eq!(shelf.close(100), ["80.00"]);
    assert_eq!(shelf.close(110), ["10.00"]);
    let lines = shelf.last().lines;
    let changes: Vec<_> = lines.iter().map(|line| (line.was.as_deref(), &*line.amount)).collect();
    assert_eq!(changes, [(Some("50"), "10")]);
    shelf.prove_all();
}

/// The names of documents are evidence, too; a document that had none is proved as it was.
#[test]
fn names_on_documents_are_proved() {
    let mut shelf = Shelf::with_book(BOOK);
    let settings = crate::tenant::Settings {
        billing_name: Some("Acme GmbH".into()),
        ..crate::tenant::Settings::default()
    };
    shelf.say(0, TenantFact::Changed { settings, by: Actor::Operator });
    shelf.run("a", 10, 30);
    let heading = Heading {
        issued: Some("1970-01-01T00:02:00Z".into()),
        letterhead: Letterhead { issuer: Some("Example Ltd".into()), prefix: "EX-".into() },
        standard: Some(digest(9)),
        ..Heading::default()
    };
    let named = names();
    let computer = Computer::new(&shelf, &shelf.calls, &named);
    let made = computer.next(&shelf.view(), Goal::Close(seconds(100)), &heading);
    let made = made.expect("rated").expect("a document");
    assert_eq!(made.reference.as_deref(), Some("EX-default-1"));
    assert_eq!(made.billed_to.as_deref(), Some("Acme GmbH"));
    assert_eq!(made.policies[0].name.as_deref(), Some("standard"));
    assert_eq!(made.lines[0].divisor.as_deref(), Some("1000000000"));
    for document in [made.clone(), made.without_names()] {
        let mut shelf = Shelf { facts: shelf.facts.clone(), ..Shelf::with_book(BOOK) };
        shelf.documents.push(document.to_bytes());
        let fact = TenantFact::Invoiced {
            number: 1,
            digest: document.digest(),
            from: seconds(0),
            until: seconds(100),
            corrects: None,
            by: Actor::Operator,
        };
        shelf.say(100, fact);
        shelf.prove(1).expect("a proof");
    }
}

/// The policy of an override measures its span alone: the rest is measured by the standard policy,
/// also when the document is proved and settled.
#[test]
fn an_override_of_the_first_days_measures_no_other_time() {
    let mut shelf = Shelf::with_book(BOOK);
    shelf.calls.minimums.insert(digest(1), 100);
    shelf.run("a", 12, 14);
    shelf.say(
        40,
        TenantFact::Overridden {
            from: seconds(0),
            until: seconds(10),
            policy: Some(digest(1)),
            book: None,
            from_begin: false,
            reason: "agreed".into(),
            by: Actor::Operator,
        },
    );
    assert_eq!(shelf.close(100), ["2.00"]);
    assert_eq!(shelf.settle(), [] as [String; 0]);
}
