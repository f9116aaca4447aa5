//! The next document: the difference between a period's charges and those that its documents have
//! stated.

use std::collections::BTreeMap;

use biller::input::{Balances, OneOffKind};
use biller::output::{AdjustmentKind, Bill, Line as Charge, LineKind, Tariff};
use biller::per::Per;
use chrono::{DateTime, SecondsFormat};

use super::InvoiceError;
use super::compute::Computed;
use super::document::{
    Closing, FORM, Invoice, Kind, Line, Named, OverrideNote, Place, RulesNote, Stretch, Sum, nanos,
    rounding_name,
};
use super::period::Period;
use super::rules::{BookSpan, PolicySpan};
use super::view::View;
use crate::billing::calendar::Calendar;
use crate::billing::decimal::Decimal;
use crate::id::Digest;
use crate::mutants::money::Mutant;
use crate::tenant::STANDARD;
use crate::units::Instant;

/// The parts of a document beside its charges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heading {
    /// The reason for a correction, in words; none for none.
    pub reason: Option<String>,
    /// Operations begun before the document's end and not ended.
    pub unsettled: Vec<String>,
    /// Set for a preview, which is stored nowhere.
    pub is_preview: bool,
    /// The instant of issue, as the document writes it; none for a preview.
    pub issued: Option<String>,
    /// The issuer, as it is named on documents.
    pub letterhead: Letterhead,
    /// The standard policy, which is named so; none to name none.
    pub standard: Option<Digest>,
}

/// The issuer of documents, as it is named on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letterhead {
    /// Its name; none to leave it out.
    pub issuer: Option<String>,
    /// Text in front of documents' numbers.
    pub prefix: String,
}

impl Heading {
    /// The heading that a document has.
    pub(super) fn stated_by(invoice: &Invoice) -> Self {
        let own = invoice.reference.as_deref().zip(invoice.number);
        let prefix =
            own.and_then(|(text, number)| text.strip_suffix(&own_number(&invoice.tenant, number)));
        Self {
            reason: invoice.reason.clone(),
            unsettled: invoice.unsettled.clone(),
            is_preview: false,
            issued: invoice.issued.clone(),
            letterhead: Letterhead {
                issuer: invoice.issuer.clone(),
                prefix: prefix.unwrap_or_default().to_owned(),
            },
            standard: invoice.standard_policy(),
        }
    }
}

/// The number of a tenant's document, which no other tenant's has.
fn own_number(tenant: &str, number: u64) -> String {
    format!("{tenant}-{number}")
}

/// A document that is not issued yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) invoice: Invoice,
    /// Set if a rule or an adjustment differs from those that the period's documents stated.
    pub(super) differs: bool,
}

/// The parts from which a document is put together.
pub(super) struct Parts<'a> {
    pub(super) view: &'a View,
    pub(super) period: &'a Period,
    pub(super) until: Instant,
    pub(super) opening: &'a Balances,
    pub(super) unrated: &'a [(Instant, Instant)],
    pub(super) heading: &'a Heading,
}

/// The identity of a line across the documents of a period.
type Key<'a> =
    (&'a str, Option<&'a str>, &'a str, &'a str, u32, &'a str, &'a str, &'a str, &'a str, &'a str);

impl Parts<'_> {
    /// Puts the document together.
    ///
    /// # Errors
    /// [`InvoiceError::Overflow`], [`InvoiceError::Currencies`].
    pub(super) fn draft(&self, computed: Computed) -> Result<Draft, InvoiceError> {
        let before = self.view.of(self.period);
        let bill = &computed.bill;
        check_currency(&before, bill)?;
        let (start, last) = self.view.own(self.period);
        let lines = self.lines(&before, &computed)?;
        let rules = rules(&before, bill)?;
        let mut adjustments = adjustments(&before, bill)?;
        for sum in &mut adjustments {
            sum.reason = self.view.reason_of(&sum.id);
        }
        let last_document = before.last();
        let was_total = last_document.map_or(Some(0), |document| nanos(&document.period_total));
        let total = bill
            .total
            .checked_sub(was_total.ok_or(InvoiceError::Overflow)?)
            .ok_or(InvoiceError::Overflow)?;
        // If caps absorb the differences of rules, nothing else is owed than before.
        let capped = !adjustments.is_empty()
            && adjustments.iter().all(|sum| sum.kind == "cap")
            && total == 0;
        let is_same = rules.is_empty() && adjustments.is_empty();
        let differs = !is_same && !capped;
        let was_payable = last_document
            .map_or(Some(0), |document| coins(&document.period_payable, bill.minor_digits));
        let payable = bill
            .payable
            .checked_sub(was_payable.ok_or(InvoiceError::Overflow)?)
            .ok_or(InvoiceError::Overflow)?;
        let is_alone = Mutant::PayablesAlone.is_active() && last_document.is_some();
        let coin = 10_i128.pow(9 - u32::from(bill.minor_digits));
        let payable = if is_alone { total / coin } else { payable };
        let goes_on = last_document.is_none_or(|document| document.until() < self.until);
        let kind = match (self.heading.is_preview, goes_on) {
            (true, _) => Kind::Preview,
            (false, true) => Kind::Invoice,
            (false, false) => Kind::Correction,
        };
        let money = |nanos: i128| {
            format!("{:.width$}", Decimal::nanos(nanos), width = bill.minor_digits.into())
        };
        let in_coins = |units: i128| {
            let amount = Decimal { units, digits: bill.minor_digits.into() };
            format!("{amount:.width$}", width = bill.minor_digits.into())
        };
        let mut link = self.view.last_link.clone();
        let receipts = computed.receipts.into_iter().map(|receipt| {
            let receipt = receipt.chained(&link);
            link.clone_from(&receipt.chain);
            receipt
        });
        let to_come = bill.adjustments.iter().filter(|one| one.to_come != 0).map(|one| Sum {
            id: one.id.clone(),
            kind: adjustment_name(one.kind).into(),
            is: money(one.to_come),
            was: money(0),
            amount: money(one.to_come),
            reason: None,
        });
        let number = (!self.heading.is_preview).then_some(self.view.last_number + 1);
        let Letterhead { issuer, prefix } = &self.heading.letterhead;
        let tenant = self.view.tenant.as_str();
        let invoice = Invoice {
            form: FORM,
            tenant: tenant.to_owned(),
            number,
            reference: number.map(|number| format!("{prefix}{}", own_number(tenant, number))),
            issuer: issuer.clone(),
            issued: self.heading.issued.clone(),
            billed_to: self.view.billing_name.clone(),
            kind,
            follows: last_document.and_then(|document| document.number),
            reason: self.heading.reason.clone().filter(|_| kind == Kind::Correction),
            previous: self.view.previous.map(|digest| digest.to_string()),
            period: stretch(&self.view.calendar, (self.period.start, self.period.end)),
            borders_utc_ns: self.period.utc_ns,
            zone: self.period.agreement.zone.clone(),
            zones: computed.zones,
            billed: stretch(&self.view.calendar, (start, self.until)),
            reaches_end: self.until >= last,
            as_of: Place { seq: self.view.as_of.seq, hash: self.view.as_of.hash.to_string() },
            policies: self.policies(&computed.policies),
            books: self.books(&computed.books),
            overrides: self.overrides(),
            unrated: self.unrated.iter().map(|&span| stretch(&self.view.calendar, span)).collect(),
            unsettled: self.heading.unsettled.clone(),
            currency: bill.currency.clone(),
            minor_digits: bill.minor_digits,
            line_digits: bill.line_digits,
            rounding: rounding_name(bill.rounding).into(),
            instances: sorted(computed.instances),
            lines,
            rules,
            adjustments,
            to_come: to_come.collect(),
            total: money(total),
            period_total: money(bill.total),
            payable: in_coins(payable),
            period_payable: in_coins(bill.payable),
            closing: Closing(bill.closing.clone()),
            opening: Closing(self.opening.clone()).digest(),
            carried: None,
            receipts: receipts.collect(),
        };
        Ok(Draft { invoice, differs })
    }

    fn policies(&self, spans: &[PolicySpan]) -> Vec<RulesNote> {
        let spans = spans.iter().map(|span| {
            let digest = span.asked.unwrap_or(span.in_force);
            ((span.start, span.end), digest, self.policy_name(digest))
        });
        self.rules(spans)
    }

    fn policy_name(&self, digest: Digest) -> Option<String> {
        // A later program settles by the standard policy of the first document.
        let first = self.view.of(self.period).first().and_then(|first| first.standard_policy());
        match first.or(self.heading.standard) == Some(digest) {
            true => Some(STANDARD.to_owned()),
            false => self.view.naming.policy(digest).map(str::to_owned),
        }
    }

    fn book_name(&self, digest: Digest) -> Option<String> {
        self.view.naming.book(digest).map(str::to_owned)
    }

    fn books(&self, spans: &[BookSpan]) -> Vec<RulesNote> {
        let billed = spans.iter().filter(|span| span.start < self.until).map(|span| {
            let name = self.book_name(span.book);
            ((span.start, span.end.min(self.until)), span.book, name)
        });
        self.rules(billed)
    }

    /// Notes of rules that were in force one after the other.
    fn rules(
        &self,
        spans: impl Iterator<Item = ((Instant, Instant), Digest, Option<String>)>,
    ) -> Vec<RulesNote> {
        let mut merged: Vec<((Instant, Instant), Digest, Option<String>)> = Vec::new();
        for (span, digest, name) in spans {
            match merged.last_mut().filter(|(last, of, _)| *of == digest && last.1 == span.0) {
                Some((last, _, _)) => last.1 = span.1,
                None => merged.push((span, digest, name)),
            }
        }
        let note = |(span, digest, name): (_, Digest, _)| RulesNote {
            span: stretch(&self.view.calendar, span),
            digest: digest.to_string(),
            name,
        };
        merged.into_iter().map(note).collect()
    }

    fn overrides(&self) -> Vec<OverrideNote> {
        let in_force = self.view.rules.overrides((self.period.start, self.period.end));
        let note = |one: &super::evidence::Override| OverrideNote {
            span: stretch(&self.view.calendar, (one.from, one.until)),
            policy: one.policy.map(|digest| digest.to_string()),
            policy_name: one.policy.and_then(|policy| self.policy_name(policy)),
            book: one.book.map(|digest| digest.to_string()),
            book_name: one.book.and_then(|book| self.book_name(book)),
            reason: one.reason.clone(),
            fact: one.fact,
        };
        in_force.into_iter().map(note).collect()
    }

    /// The lines that changed: those of the bill, and earlier ones that the bill does not have any
    /// more.
    fn lines(&self, before: &[&Invoice], computed: &Computed) -> Result<Vec<Line>, InvoiceError> {
        let now: Vec<Line> =
            computed.bill.lines.iter().map(|charge| self.line(charge, computed)).collect();
        let mut known: BTreeMap<Key<'_>, &Line> = BTreeMap::new();
        // Later documents overwrite the lines of earlier ones.
        for line in before.iter().flat_map(|document| &document.lines) {
            known.insert(key(line), line);
        }
        let mut lines = Vec::new();
        for line in &now {
            let was = known.remove(&key(line)).filter(|was| !is_gone(was));
            lines.extend(changed(was, line)?);
        }
        for was in known.into_values().filter(|was| !is_gone(was)) {
            lines.push(gone(was)?);
        }
        lines.sort_by(|one, other| key(one).cmp(&key(other)));
        for (line, number) in lines.iter_mut().zip(1..) {
            line.number = number;
        }
        Ok(lines)
    }

    fn line(&self, charge: &Charge, computed: &Computed) -> Line {
        let subject = charge.subject.and_then(|subject| computed.subjects.get(subject as usize));
        let tariff = computed.bill.tariff(charge);
        let utc = |at| utc_text(&self.view.calendar, Instant(at));
        Line {
            number: 0,
            kind: kind_name(tariff.kind).into(),
            rule: tariff.rule.clone(),
            meter: tariff.meter.clone(),
            instance: subject.cloned(),
            price_id: tariff.price_id.clone(),
            tier: tariff.tier,
            per: tariff.per.clone(),
            unit: tariff.unit.clone(),
            divisor: divisor(tariff),
            quantity: charge.quantity.to_string(),
            billed: charge.billed.to_string(),
            price_numerator: tariff.price_numerator.to_string(),
            price_denominator: tariff.price_denominator.to_string(),
            is: Decimal::nanos(charge.amount).to_string(),
            was: None,
            amount: Decimal::nanos(charge.amount).to_string(),
            from: utc(charge.from),
            until: utc(charge.until),
            facts: charge.facts,
        }
    }
}

/// Number of the quantity's units in one `per`; none for a fee, and for a unit that is none.
fn divisor(tariff: &Tariff) -> Option<String> {
    match tariff.kind {
        LineKind::Usage | LineKind::Own => {
            tariff.per.parse::<Per>().ok().map(|per| per.units.to_string())
        }
        LineKind::Once => None,
    }
}

fn kind_name(kind: LineKind) -> &'static str {
    match kind {
        LineKind::Usage => "usage",
        LineKind::Once => "once",
        LineKind::Own => "own",
    }
}

/// The name of an adjustment's kind, as books write it.
pub(super) fn adjustment_name(kind: AdjustmentKind) -> &'static str {
    match kind {
        AdjustmentKind::Minimum => "minimum",
        AdjustmentKind::Cap => "cap",
        AdjustmentKind::Credit => "credit",
    }
}

fn one_off_name(kind: OneOffKind) -> &'static str {
    match kind {
        OneOffKind::Charge => "charge",
        OneOffKind::Goodwill => "goodwill",
    }
}

fn key(line: &Line) -> Key<'_> {
    (
        &line.rule,
        line.instance.as_deref(),
        &line.price_id,
        &line.kind,
        line.tier,
        &line.meter,
        &line.unit,
        &line.per,
        &line.price_numerator,
        &line.price_denominator,
    )
}

/// Returns whether a line takes back an earlier one.
fn is_gone(line: &Line) -> bool {
    line.until.is_empty()
}

/// The present line with its difference; none if nothing changed.
fn changed(was: Option<&Line>, now: &Line) -> Result<Option<Line>, InvoiceError> {
    let Some(was) = was else { return Ok(Some(now.clone())) };
    if (&was.is, &was.quantity, &was.billed) == (&now.is, &now.quantity, &now.billed) {
        return Ok(None);
    }
    let amount = difference(&now.is, &was.is)?;
    Ok(Some(Line { amount, was: Some(was.is.clone()), ..now.clone() }))
}

/// The line that takes back an earlier one.
fn gone(was: &Line) -> Result<Line, InvoiceError> {
    Ok(Line {
        quantity: "0".into(),
        billed: "0".into(),
        is: "0".into(),
        was: Some(was.is.clone()),
        amount: difference("0", &was.is)?,
        from: String::new(),
        until: String::new(),
        facts: None,
        ..was.clone()
    })
}

fn difference(is: &str, was: &str) -> Result<String, InvoiceError> {
    let nanos = nanos(is).zip(nanos(was)).and_then(|(is, was)| is.checked_sub(was));
    Ok(Decimal::nanos(nanos.ok_or(InvoiceError::Overflow)?).to_string())
}

/// The sums of rules that changed.
fn rules(before: &[&Invoice], bill: &Bill) -> Result<Vec<Sum>, InvoiceError> {
    let now = bill.rules.iter().map(|sum| (sum.rule.as_str(), "rule", sum.amount));
    sums(before.iter().flat_map(|document| &document.rules), now, bill.minor_digits)
}

/// The adjustments that changed.
fn adjustments(before: &[&Invoice], bill: &Bill) -> Result<Vec<Sum>, InvoiceError> {
    let now =
        bill.adjustments.iter().map(|one| (one.id.as_str(), adjustment_name(one.kind), one.change));
    let one_offs =
        bill.one_offs.iter().map(|one| (one.id.as_str(), one_off_name(one.kind), one.change));
    let now = now.chain(one_offs);
    sums(before.iter().flat_map(|document| &document.adjustments), now, bill.minor_digits)
}

fn sums<'a>(
    before: impl Iterator<Item = &'a Sum>,
    now: impl Iterator<Item = (&'a str, &'a str, i128)>,
    digits: u8,
) -> Result<Vec<Sum>, InvoiceError> {
    let mut known: BTreeMap<&str, &Sum> = before.map(|sum| (sum.id.as_str(), sum)).collect();
    let mut changed = Vec::new();
    let mut add = |id: &str, kind: &str, is: i128, was: i128| {
        if is != was {
            let amount = is.checked_sub(was).ok_or(InvoiceError::Overflow)?;
            let money =
                |nanos: i128| format!("{:.width$}", Decimal::nanos(nanos), width = digits.into());
            let id = id.to_owned();
            let kind = kind.to_owned();
            let is = money(is);
            let was = money(was);
            let amount = money(amount);
            changed.push(Sum { id, kind, is, was, amount, reason: None });
        }
        Ok::<_, InvoiceError>(())
    };
    for (id, kind, is) in now {
        let was = known.remove(id).map_or(Some(0), |sum| nanos(&sum.is));
        add(id, kind, is, was.ok_or(InvoiceError::Overflow)?)?;
    }
    for sum in known.into_values() {
        add(&sum.id, &sum.kind, 0, nanos(&sum.is).ok_or(InvoiceError::Overflow)?)?;
    }
    Ok(changed)
}

/// Refuses a second currency in one period: its amounts could not be added up.
fn check_currency(before: &[&Invoice], bill: &Bill) -> Result<(), InvoiceError> {
    let known = before.iter().filter_map(|document| document.currency.as_deref()).next();
    match (known, bill.currency.as_deref()) {
        (Some(known), Some(now)) if known != now && !Mutant::CurrenciesMixed.is_active() => {
            Err(InvoiceError::Currencies { known: known.into(), named: now.into() })
        }
        _ => Ok(()),
    }
}

fn coins(text: &str, digits: u8) -> Option<i128> {
    Decimal::stated(text).ok()?.scaled(digits.into())
}

fn sorted(mut instances: Vec<Named>) -> Vec<Named> {
    instances.sort_by(|one, other| one.id.cmp(&other.id));
    instances.dedup_by(|one, other| one.id == other.id);
    instances
}

/// A stretch of time by both clocks.
pub(super) fn stretch(calendar: &Calendar, (from, until): (Instant, Instant)) -> Stretch {
    Stretch {
        from: utc_text(calendar, from),
        until: utc_text(calendar, until),
        from_ns: from.0,
        until_ns: until.0,
    }
}

/// An instant by the calendar: RFC 3339 in UTC, to the nanosecond.
pub(super) fn utc_text(calendar: &Calendar, at: Instant) -> String {
    DateTime::from_timestamp_nanos(calendar.utc_ns(at)).to_rfc3339_opts(SecondsFormat::Nanos, true)
}
