//! One period under two policies, side by side: what a change of rules would change in money.

use std::collections::BTreeMap;

use super::document::Line;
use super::rate::{InvoiceError, Rated};

/// What two policies make of one period, in nano-units of the currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// What the policies in force come to.
    pub active: i128,
    /// What the candidate comes to.
    pub candidate: i128,
    /// Where they differ, the largest difference first.
    pub differences: Vec<Worth>,
    /// Fuel that the candidate took.
    pub fuel: u64,
}

/// What one instance comes to under both, in nano-units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worth {
    /// Its id; none for what is charged to the tenant as a whole.
    pub instance: Option<String>,
    /// By the policies in force.
    pub active: i128,
    /// By the candidate.
    pub candidate: i128,
}

impl Worth {
    /// How much more the candidate charges.
    fn more(&self) -> i128 {
        self.candidate.saturating_sub(self.active)
    }
}

impl Comparison {
    /// Compares two ratings of the same period and facts.
    ///
    /// # Errors
    /// [`InvoiceError::Overflow`].
    pub fn of(active: &Rated, candidate: &Rated) -> Result<Self, InvoiceError> {
        let mut by_instance: BTreeMap<Option<&str>, (i128, i128)> = BTreeMap::new();
        for line in &active.lines {
            let sum = &mut by_instance.entry(line.instance.as_deref()).or_default().0;
            *sum = added(*sum, line)?;
        }
        for line in &candidate.lines {
            let sum = &mut by_instance.entry(line.instance.as_deref()).or_default().1;
            *sum = added(*sum, line)?;
        }
        let worth = |(instance, (active, candidate)): (Option<&str>, (i128, i128))| Worth {
            instance: instance.map(str::to_owned),
            active,
            candidate,
        };
        let mut differences: Vec<_> = by_instance.into_iter().map(worth).filter(|worth| worth.more() != 0).collect();
        differences.sort_by_key(|worth| std::cmp::Reverse(worth.more().unsigned_abs()));
        Ok(Self {
            active: sum(active)?,
            candidate: sum(candidate)?,
            differences,
            fuel: candidate.receipts.iter().map(|receipt| receipt.fuel).fold(0, u64::saturating_add),
        })
    }

    /// How much more the candidate charges in all, in nano-units; less than nothing if it charges less.
    ///
    /// # Errors
    /// [`InvoiceError::Overflow`].
    pub fn net(&self) -> Result<i128, InvoiceError> {
        self.candidate.checked_sub(self.active).ok_or(InvoiceError::Overflow)
    }
}

fn sum(rated: &Rated) -> Result<i128, InvoiceError> {
    rated.lines.iter().try_fold(0, added)
}

fn added(sum: i128, line: &Line) -> Result<i128, InvoiceError> {
    line.amount_nanos().and_then(|amount| sum.checked_add(amount)).ok_or(InvoiceError::Overflow)
}
