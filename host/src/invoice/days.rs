//! Documents by local days: the charges of rules in each day of a period.
//!
//! A day's charge is that of section 10.2 of `docs/bill.md`: the rounded sum up to its end less the
//! rounded sum up to its begin, so that days add up to the rule's sum.

use std::collections::BTreeMap;

use biller::output::RuleSum;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::InvoiceError;
use super::calls::Calls;
use super::compute::{Components, Computer};
use super::document::Invoice;
use super::evidence::Evidence;
use super::period::Period;
use super::view::View;
use crate::billing::agreement::{Agreement, Cycle, local_date};
use crate::billing::decimal::Decimal;
use crate::units::Instant;

/// The charges of a rule in one local day of a document's period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceDay)]
pub struct DaySum {
    /// The day in the document's zone, such as `2026-11-30`.
    pub day: String,
    /// The rule.
    pub rule: String,
    /// The charges of the day now, in the currency.
    pub is: String,
    /// The charges of the day by the period's document before; null if there is none.
    pub was: Option<String>,
    /// The difference.
    pub amount: String,
}

/// Nano-units by day and rule.
type ByDay = BTreeMap<(String, String), i128>;

impl<E: Evidence, C: Calls> Computer<'_, E, C> {
    /// The documents that a close up to `to` would make now, each with its days.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn preview_days(
        &self,
        mut view: View,
        to: Instant,
    ) -> Result<Vec<(Invoice, Vec<DaySum>)>, InvoiceError> {
        let mut made = Vec::new();
        while let Some(invoice) = self.next_preview(&view, to)? {
            let days = self.days(&view, &invoice)?;
            view.add(invoice.clone());
            made.push((invoice, days));
        }
        Ok(made)
    }

    /// The days of a document. `view` is the tenant's as of the document's head.
    ///
    /// # Errors
    /// [`InvoiceError::Undivided`] if the document was made by another biller.
    pub fn days(&self, view: &View, invoice: &Invoice) -> Result<Vec<DaySum>, InvoiceError> {
        let is = self.by_day(view, invoice)?;
        let was = match invoice.follows {
            Some(number) => Some(self.days_before(view, number)?),
            None => None,
        };
        let mut keys: Vec<_> = is.keys().chain(was.iter().flatten().map(|(key, _)| key)).collect();
        keys.sort();
        keys.dedup();
        let row = |key: &(String, String)| {
            let now = is.get(key).copied().unwrap_or_default();
            let before = was.as_ref().map(|was| was.get(key).copied().unwrap_or_default());
            let amount = now.checked_sub(before.unwrap_or_default());
            Ok(DaySum {
                day: key.0.clone(),
                rule: key.1.clone(),
                is: Decimal::nanos(now).to_string(),
                was: before.map(|before| Decimal::nanos(before).to_string()),
                amount: Decimal::nanos(amount.ok_or(InvoiceError::Overflow)?).to_string(),
            })
        };
        keys.into_iter().map(row).collect()
    }

    fn days_before(&self, view: &View, number: u64) -> Result<ByDay, InvoiceError> {
        let found = view.documents().iter().find(|document| document.number == Some(number));
        let Some(document) = found else { return Ok(ByDay::new()) };
        let head = self.evidence.place(document.as_of.seq)?;
        self.by_day(&View::load(self.evidence, &view.tenant, head)?, document)
    }

    fn by_day(&self, view: &View, invoice: &Invoice) -> Result<ByDay, InvoiceError> {
        let Some((period, standing)) = self.standing_before(view, invoice)? else {
            return Ok(ByDay::new());
        };
        let days = days(view, &period, invoice)?;
        let marks: Vec<Instant> = days.iter().map(|(_, end)| *end).collect();
        let documents = view.of(&period);
        let kept = documents.first().and_then(|first| Components::of(first).biller);
        if kept.is_some_and(|biller| biller != self.calls.biller()) {
            return Err(InvoiceError::Undivided);
        }
        let marked = (invoice.until(), marks.as_slice());
        let computed = self.compute_marked(view, &period, marked, &standing.handed, &documents)?;
        let mut by_day = ByDay::new();
        for rule in &computed.bill.rules {
            add(&mut by_day, &days, rule).ok_or(InvoiceError::Overflow)?;
        }
        Ok(by_day)
    }
}

/// Adds the parts of a rule's sum that lie in each day; none where one is too large.
fn add(by_day: &mut ByDay, days: &[(String, Instant)], rule: &RuleSum) -> Option<()> {
    let mut before = 0_i128;
    for ((day, _), up_to) in days.iter().zip(&rule.before) {
        let part = up_to.checked_sub(before)?;
        before = *up_to;
        if part != 0 {
            by_day.insert((day.clone(), rule.rule.clone()), part);
        }
    }
    Some(())
}

/// The local days of a document's time, each with its end.
fn days(
    view: &View,
    period: &Period,
    invoice: &Invoice,
) -> Result<Vec<(String, Instant)>, InvoiceError> {
    let daily = Agreement { cycle: Cycle::Day, ..period.agreement.clone() };
    let start = Instant(invoice.billed.from_ns);
    let until = invoice.until();
    let mut days: Vec<(String, Instant)> = Vec::new();
    let mut utc_ns = view.calendar.utc_ns(start);
    let mut last = start;
    while last < until {
        let (from, to) = daily.around(utc_ns)?;
        let end = view.calendar.meter(to).min(until);
        utc_ns = to;
        // A clock that was set back shows a day again: its time is that of the first.
        if end > last {
            days.push((local_date(&daily.zone, from)?, end));
            last = end;
        }
    }
    Ok(days)
}
