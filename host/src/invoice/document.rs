//! The invoice as a document: what is shown, stored under its SHA-256, and proved.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::billing::decimal::Decimal;
use crate::id::Digest;

/// Version of the form below; part of every document.
pub const FORM: u32 = 1;

/// Link before a tenant's first receipt.
pub(super) const FIRST_LINK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = InvoiceKind)]
pub enum Kind {
    /// What a close would make final now.
    Preview,
    /// A closed period. It is never changed.
    Invoice,
    /// What a closed period would be now, less what it was: reversals and new lines.
    Correction,
}

/// A place in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = InvoicePlace)]
pub struct Place {
    /// Sequence number of a fact.
    pub seq: u64,
    /// Its link in the hash chain: 64 hexadecimal digits.
    pub hash: String,
}

/// A tenant's period, charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invoice {
    /// Version of the document's form.
    pub form: u32,
    /// Whose.
    pub tenant: String,
    /// Its number among the tenant's documents, from 1; null in a preview.
    pub number: Option<u64>,
    /// What it is.
    pub kind: Kind,
    /// Number of the invoice that a correction corrects.
    pub corrects: Option<u64>,
    /// Why it was corrected, in words.
    pub reason: Option<String>,
    /// SHA-256 of the tenant's document before; null for the first.
    pub previous: Option<String>,
    /// First instant of the period, by the calendar.
    pub from: String,
    /// First instant after it, by the calendar.
    pub until: String,
    /// First instant of the period on the meter clock.
    pub from_ns: i64,
    /// First instant after it on the meter clock.
    pub until_ns: i64,
    /// The facts up to here were taken into account, and none after.
    pub as_of: Place,
    /// A policy that was asked for instead of those in force.
    pub policy: Option<String>,
    /// A price book that was asked for instead of those in force.
    pub book: Option<String>,
    /// ISO 4217 code; `XXX` without prices.
    pub currency: String,
    /// Digits after the point in the currency's smallest coin.
    pub minor_digits: u8,
    /// Rounding of the sum to coins.
    pub rounding: String,
    /// The instances that the policies were asked about, sorted by id.
    pub instances: Vec<Named>,
    /// The charges.
    pub lines: Vec<Line>,
    /// Sum of all amounts, exactly.
    pub total: String,
    /// What is to be paid: `total`, rounded once to the currency's smallest coin.
    pub payable: String,
    /// How each line came about.
    pub receipts: Vec<Receipt>,
    /// What the last call left for the next period, in base64; empty if nothing.
    pub carried: String,
}

/// An instance by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceInstance)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// What it was called when the document was made.
    pub name: String,
    /// Its tags then, by name.
    pub tags: Vec<(String, String)>,
}

/// One charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceLine)]
pub struct Line {
    /// Its number in the document, from 1.
    pub number: u64,
    /// `usage`, `once`, `reversal`, `minimum`, `cap` or `credit`.
    pub kind: String,
    /// In a correction: the line of an earlier document that this takes back, as `NUMBER/LINE`.
    pub reverses: Option<String>,
    /// The rule of the price book; an adjustment's id.
    pub rule: String,
    /// The meter.
    pub meter: String,
    /// The instance; null for the tenant as a whole.
    pub instance: Option<String>,
    /// What was used, in `unit`.
    pub quantity: String,
    /// What is charged for.
    pub billed: String,
    /// The unit.
    pub unit: String,
    /// The price in the book; empty where only a quantity is stated.
    pub price_id: String,
    /// Index of the price's tier.
    pub tier: u32,
    /// The unit price in nano-units of the currency: numerator.
    pub price_numerator: String,
    /// And denominator.
    pub price_denominator: String,
    /// The amount in the currency, exactly as it was rounded.
    pub amount: String,
    /// What the rounding left, over the price's denominator.
    pub remainder: String,
    /// A sentence for the person who pays.
    pub description: String,
    /// How many pieces of intervals it covers; `verify` shows them.
    pub intervals: u64,
    /// In how many sessions a minimum applied.
    pub minimums: u64,
    /// Sequence numbers of the first and the last fact that opened one of them.
    pub facts: Option<(u64, u64)>,
    /// Index of its receipt; null where it takes back a line, which has its own in its document.
    pub receipt: Option<u64>,
}

/// The proof of one call of a policy: what went in, what ran, what came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceReceipt)]
pub struct Receipt {
    /// First instant on the meter clock of what was rated.
    pub from_ns: i64,
    /// First instant after it.
    pub until_ns: i64,
    /// The component that ran, by its SHA-256.
    pub policy: String,
    /// The policy in whose place it ran: it was in force, and was quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_in_for: Option<String>,
    /// The price book, by its SHA-256.
    pub book: String,
    /// Edition of the time zone database.
    pub tzdata: String,
    /// The engine and its version.
    pub engine: String,
    /// Fuel that the call took.
    pub fuel: u64,
    /// Sequence numbers of the first and the last fact that opened an interval in it.
    pub facts: Option<(u64, u64)>,
    /// How many intervals went in.
    pub intervals: u64,
    /// SHA-256 of the request: of all but its columns and what is carried as JSON, then of these, each as its length and its values in
    /// little-endian bytes.
    pub input: String,
    /// SHA-256 of the statement: of its lines as JSON, then of what is carried as for the request.
    pub output: String,
    /// SHA-256 of the receipt before and of this one without this field: the chain.
    pub chain: String,
}

impl Invoice {
    /// The bytes that are stored and hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        // The type has no map and no number that JSON can't hold: nothing in it refuses, and the fallback is never seen.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Its name: the SHA-256 of its bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Fuel that the policies took.
    pub fn fuel(&self) -> u64 {
        self.receipts.iter().map(|receipt| receipt.fuel).fold(0, u64::saturating_add)
    }

    /// The link that the tenant's next receipt follows on.
    pub(super) fn last_link(&self) -> String {
        self.receipts.last().map_or_else(|| FIRST_LINK.into(), |receipt| receipt.chain.clone())
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// What the parser says.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

impl Line {
    /// The amount in nano-units; none for a text that is no amount.
    pub fn amount_nanos(&self) -> Option<i128> {
        self.amount.parse::<Decimal>().ok()?.scaled(9)
    }
}

impl Receipt {
    /// Closes the link: sets `chain` from the receipt before and everything else in this one.
    pub(super) fn chained(mut self, before: &str) -> Self {
        self.chain = String::new();
        let text = serde_json::to_string(&self).unwrap_or_default();
        self.chain = Digest::of([before, &text].concat().as_bytes()).to_string();
        self
    }
}
