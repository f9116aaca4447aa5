//! Invoices: what a tenant's period comes to, made final, corrected and proved.
//!
//! - `evidence` is what invoices are made from, in the journal or in a bundle; `lives` cuts it to a period; `stand_ins` says who is asked for whom;
//! - `rate` is the one path from evidence to charges; `document` is what comes of it, `delta` what a correction changes;
//! - `proof` makes a document again and compares; `bundle` is an invoice with its evidence, to be proved elsewhere.
//!
//! A preview, a final document and its proof differ in nothing but what is done with the bytes.

mod bundle;
mod comparison;
mod delta;
mod document;
mod evidence;
mod hash;
mod lives;
mod proof;
mod rate;
mod stand_ins;

use base64::Engine as _;

pub use bundle::{Bundle, BundledFact, Proofs, bundle};
pub use comparison::{Comparison, Worth};
pub use document::{FORM, Invoice, Kind, Line, Named, Place, Receipt};
pub use evidence::{Evidence, EvidenceError, InForce, Quarantine};
pub use proof::{Difference, ProofError, Proved, prove, time_of};
pub use rate::{InvoiceError, Order, Rated, Rater, Watched};

use crate::billing::calendar::Calendar;
use crate::billing::decimal::Decimal;
use crate::policy::rating::to_coins;
use crate::units::Instant;
use chrono::{DateTime, SecondsFormat};

/// What a document says about itself before its charges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// Its number; none for a preview.
    pub number: Option<u64>,
    /// What it is.
    pub kind: Kind,
    /// What it corrects.
    pub corrects: Option<u64>,
    /// Why.
    pub reason: Option<String>,
    /// SHA-256 of the tenant's document before.
    pub previous: Option<String>,
}

impl Heading {
    /// That of a preview.
    pub const PREVIEW: Heading =
        Heading { number: None, kind: Kind::Preview, corrects: None, reason: None, previous: None };
}

/// Puts a document together.
///
/// # Errors
/// [`InvoiceError::Overflow`].
pub fn document(order: &Order, heading: Heading, rated: Rated, calendar: &Calendar) -> Result<Invoice, InvoiceError> {
    let minor_digits = rated.currency.minor_digits();
    let mut total = 0_i128;
    for line in &rated.lines {
        let amount = line.amount_nanos().ok_or(InvoiceError::Overflow)?;
        total = total.checked_add(amount).ok_or(InvoiceError::Overflow)?;
    }
    let payable = to_coins(total, minor_digits, rated.rounding).ok_or(InvoiceError::Overflow)?;
    let payable = Decimal { units: payable, digits: minor_digits.into() };
    let utc = |at| utc_text(calendar, at);
    Ok(Invoice {
        form: FORM,
        tenant: order.tenant.to_string(),
        number: heading.number,
        kind: heading.kind,
        corrects: heading.corrects,
        reason: heading.reason,
        previous: heading.previous,
        from: utc(order.from),
        until: utc(order.until),
        from_ns: order.from.0,
        until_ns: order.until.0,
        as_of: Place { seq: order.as_of.seq, hash: order.as_of.hash.to_string() },
        policy: order.policy.map(|digest| digest.to_string()),
        book: order.book.map(|digest| digest.to_string()),
        currency: rated.currency.code().into(),
        minor_digits,
        rounding: rated.rounding.into(),
        instances: rated.instances,
        lines: rated.lines,
        total: format!("{:.width$}", Decimal::nanos(total), width = minor_digits.into()),
        payable: format!("{payable:.width$}", width = minor_digits.into()),
        receipts: rated.receipts,
        carried: base64::engine::general_purpose::STANDARD.encode(rated.carried),
    })
}

/// An instant by the calendar, to the nanosecond.
fn utc_text(calendar: &Calendar, at: Instant) -> String {
    DateTime::from_timestamp_nanos(calendar.utc_ns(at)).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

impl<E: Evidence> Rater<'_, E> {
    /// The document of an order: rates the period, and for a correction says only what changes against the documents before.
    ///
    /// # Errors
    /// [`InvoiceError`].
    pub fn invoice(&self, order: &Order, heading: Heading) -> Result<Invoice, InvoiceError> {
        let mut rated = self.rate(order)?;
        if let (Kind::Correction, Some(corrects)) = (heading.kind, heading.corrects) {
            let before = self.documents_of(order, corrects, heading.number)?;
            rated.lines = delta::changes(&before, rated.lines)?;
        }
        let calendar = self.evidence().calendar(order.as_of.seq)?;
        document(order, heading, rated, &calendar)
    }

    /// An invoice and what corrected it so far, up to the document with number `before`.
    fn documents_of(&self, order: &Order, number: u64, before: Option<u64>) -> Result<Vec<Invoice>, InvoiceError> {
        let mut documents = Vec::new();
        for stored in self.evidence().invoices(&order.tenant, u64::MAX)? {
            let is_of = stored.number == number || stored.corrects == Some(number);
            if is_of && before.is_none_or(|before| stored.number < before) {
                documents.push(self.read(stored.digest)?);
            }
        }
        Ok(documents)
    }
}

#[cfg(test)]
mod tests;
