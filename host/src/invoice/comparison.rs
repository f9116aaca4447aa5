//! One span under two policies, side by side: the change of money by a change of rules.

use std::collections::BTreeMap;

use biller::input::Balances;

use super::InvoiceError;
use super::calls::Calls;
use super::compute::{Computed, Computer};
use super::evidence::Evidence;
use super::period::Period;
use super::rules::Overriding;
use super::view::View;
use crate::billing::agreement::Agreement;
use crate::id::Digest;
use crate::units::Instant;

/// The charges under two policies, in nano-units of the currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// ISO 4217 code; none without a book.
    pub currency: Option<String>,
    /// The sum under the policies in force.
    pub active: i128,
    /// The sum under the candidate.
    pub candidate: i128,
    /// The instances for which they differ, the largest difference first.
    pub differences: Vec<Worth>,
    /// Fuel that the candidate took.
    pub fuel: u64,
}

/// The charges for one instance under both, in nano-units of the currency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worth {
    /// Id of the instance; none for charges to the tenant as a whole.
    pub instance: Option<String>,
    /// By the policies in force.
    pub active: i128,
    /// By the candidate.
    pub candidate: i128,
}

impl<E: Evidence, C: Calls> Computer<'_, E, C> {
    /// Computes a span as if it were a period of its own, under the policies in force and under a
    /// candidate.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn compare(
        &self,
        mut view: View,
        (start, end): (Instant, Instant),
        candidate: Digest,
    ) -> Result<Comparison, InvoiceError> {
        let utc_ns = (view.calendar.utc_ns(start), view.calendar.utc_ns(end));
        let agreement = Agreement::default();
        let period = Period { start, end, usual_start: start, utc_ns, agreement };
        view.first = view.first.filter(|&first| first < end);
        if start >= end || view.first.is_none() {
            return Err(InvoiceError::Empty);
        }
        let active = self.compute(&view, &period, end, &Balances::default(), &[])?;
        view.name(Overriding {
            from: start,
            until: end,
            policy: Some(candidate),
            ..Overriding::default()
        });
        let candidate = self.compute(&view, &period, end, &Balances::default(), &[])?;
        Comparison::of(&active, &candidate)
    }
}

impl Comparison {
    fn of(active: &Computed, candidate: &Computed) -> Result<Self, InvoiceError> {
        let mut by_instance: BTreeMap<Option<&str>, Worth> = BTreeMap::new();
        for (instance, amount) in amounts(active) {
            let worth = by_instance.entry(instance).or_default();
            worth.active = worth.active.checked_add(amount).ok_or(InvoiceError::Overflow)?;
        }
        for (instance, amount) in amounts(candidate) {
            let worth = by_instance.entry(instance).or_default();
            worth.candidate = worth.candidate.checked_add(amount).ok_or(InvoiceError::Overflow)?;
        }
        let named = by_instance
            .into_iter()
            .map(|(instance, worth)| Worth { instance: instance.map(str::to_owned), ..worth });
        let mut differences: Vec<_> = named.filter(|worth| worth.more() != 0).collect();
        differences.sort_by_key(|worth| std::cmp::Reverse(worth.more().unsigned_abs()));
        Ok(Self {
            currency: active.bill.currency.clone().or_else(|| candidate.bill.currency.clone()),
            active: active.bill.total,
            candidate: candidate.bill.total,
            differences,
            fuel: candidate
                .receipts
                .iter()
                .map(|receipt| receipt.fuel)
                .fold(0, u64::saturating_add),
        })
    }

    /// Difference of the candidate's charges to those in force, in nano-units; negative if the
    /// candidate charges less.
    ///
    /// # Errors
    /// [`InvoiceError::Overflow`].
    pub fn net(&self) -> Result<i128, InvoiceError> {
        self.candidate.checked_sub(self.active).ok_or(InvoiceError::Overflow)
    }
}

impl Worth {
    /// Difference of the candidate's charge to that in force, in nano-units.
    fn more(&self) -> i128 {
        self.candidate.saturating_sub(self.active)
    }
}

/// Each charge with the instance that it is for; adjustments are for the tenant as a whole.
fn amounts(computed: &Computed) -> impl Iterator<Item = (Option<&str>, i128)> {
    let of_line = |line: &biller::output::Line| {
        let subject = line.subject.and_then(|subject| computed.subjects.get(subject as usize));
        (subject.map(String::as_str), line.amount)
    };
    let adjusted = computed.bill.adjustments.iter().map(|one| (None, one.change));
    // The closure borrows; the lines are few enough to be collected.
    let lines: Vec<_> = computed.bill.lines.iter().map(of_line).collect();
    lines.into_iter().chain(adjusted)
}
