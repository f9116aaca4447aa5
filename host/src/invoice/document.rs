//! Documents: the invoices that are shown, stored under their SHA-256, and proved.
//!
//! A document states a difference: the charges of its period up to an instant, minus those that the
//! period's earlier documents billed. `docs/bill.md` defines every number.

use biller::input::{Balances, Rounding, Zone};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::billing::decimal::Decimal;
use crate::id::Digest;
use crate::journal::StoredInstance;
use crate::tenant::STANDARD;
use crate::units::Instant;

/// The version of the form below; part of every document.
pub const FORM: u32 = 2;

/// The link before a tenant's first receipt.
pub(super) const FIRST_LINK: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";

/// The kind of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = InvoiceKind)]
pub enum Kind {
    /// The outcome of a close at this moment; stored nowhere.
    Preview,
    /// A period up to an instant that no document of it had reached. Never changed afterwards.
    Invoice,
    /// A correction of time that was billed before, by facts that became known later.
    Correction,
}

/// A place in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = InvoicePlace)]
pub struct Place {
    /// Sequence number of a fact.
    pub seq: u64,
    /// Link of that fact in the hash chain: 64 hexadecimal digits.
    pub hash: String,
}

/// A stretch of time by both clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceSpan)]
pub struct Stretch {
    /// First instant inside, by the calendar: RFC 3339 in UTC.
    pub from: String,
    /// First instant after, by the calendar: RFC 3339 in UTC.
    pub until: String,
    /// First instant inside, on the meter clock, in nanoseconds.
    pub from_ns: i64,
    /// First instant after, on the meter clock, in nanoseconds.
    pub until_ns: i64,
}

/// One document of a tenant's period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invoice {
    /// Version of the document's form.
    pub form: u32,
    /// The tenant's id.
    pub tenant: String,
    /// Number among the tenant's documents, from 1; null in a preview.
    pub number: Option<u64>,
    /// The number for people, unique among the issuer's: its prefix, the tenant's id, the number;
    /// absent in a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Name of the issuer; absent if the host has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The instant of issue by the calendar: RFC 3339 in UTC; absent in a preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<String>,
    /// Name to which the document is addressed; absent if the tenant has none but its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_to: Option<String>,
    /// The kind of the document.
    pub kind: Kind,
    /// Number of the period's document before, to which this one states the difference; null for
    /// the first of a period.
    pub follows: Option<u64>,
    /// The reason for a correction, in words; null without one.
    pub reason: Option<String>,
    /// SHA-256 of the tenant's document before; null for the first.
    pub previous: Option<String>,
    /// The period, from border to border.
    pub period: Stretch,
    /// The borders of the period by the calendar, in nanoseconds since 1970 in UTC.
    pub borders_utc_ns: (i64, i64),
    /// IANA name of the zone by whose calendar the period was cut.
    pub zone: String,
    /// The zones that the books' windows name, as they were resolved for the period's first
    /// document.
    #[schema(value_type = Vec<Object>)]
    pub zones: Vec<Zone>,
    /// The part of the period that is billed: from the tenant's first instant in it up to T, the
    /// end of the document.
    pub billed: Stretch,
    /// True if T is the end of the period, or of the tenant in it, so that minimums are owed.
    pub reaches_end: bool,
    /// The last fact that was taken into account.
    pub as_of: Place,
    /// Policies that measured the billed time, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<RulesNote>,
    /// Price books that priced it, in order; time without one is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub books: Vec<RulesNote>,
    /// Overrides that were in force, in the order of their facts.
    pub overrides: Vec<OverrideNote>,
    /// Earlier periods that could not be rated and were taken as having used nothing.
    pub unrated: Vec<Stretch>,
    /// Operations begun before T and not ended, whose outcome will be a correction.
    pub unsettled: Vec<String>,
    /// ISO 4217 code; null without a book.
    pub currency: Option<String>,
    /// Digits after the point in the currency's smallest coin.
    pub minor_digits: u8,
    /// Digits after the point to which sums of rules are rounded.
    pub line_digits: u8,
    /// Rounding of sums and coins: `half-even`, `half-up`, `down` or `up`.
    pub rounding: String,
    /// The instances that stand in lines or were measured, sorted by id.
    pub instances: Vec<Named>,
    /// The charges that changed since the period's document before.
    pub lines: Vec<Line>,
    /// Sums of the rules that changed.
    pub rules: Vec<Sum>,
    /// Adjustments that changed, in the order in which they act.
    pub adjustments: Vec<Sum>,
    /// Minimums that are still to come if nothing more is used, by id.
    pub to_come: Vec<Sum>,
    /// Sum of the differences, exactly.
    pub total: String,
    /// Charges of the whole period, up to T.
    pub period_total: String,
    /// Amount to pay for this document: `period_total` rounded to coins, less the amounts of
    /// earlier documents.
    pub payable: String,
    /// Sum of the amounts to pay of the period's documents, with this one.
    pub period_payable: String,
    /// Balances at T that the next period begins with.
    #[schema(value_type = Object)]
    pub closing: Closing,
    /// SHA-256 of the balances that the period began with.
    pub opening: String,
    /// The state of the tenant at the end of the period, with which a bundle of the next one
    /// begins; absent before the end, in a preview, over several hosts, and in documents of earlier
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedNote>,
    /// The evidence of each call.
    pub receipts: Vec<Receipt>,
}

/// Typed balances as a document keeps them: the canonical JSON of the biller's type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Closing(pub Balances);

impl Closing {
    /// SHA-256 of the balances as text.
    pub fn digest(&self) -> String {
        Digest::of(&serde_json::to_vec(&self.0).unwrap_or_default()).to_string()
    }
}

/// The state of a tenant as a document names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceCarriedNote)]
pub struct CarriedNote {
    /// Sequence number of the last fact that it is made of.
    pub through: u64,
    /// SHA-256 of the state as JSON.
    pub digest: String,
}

/// An instance with its name and tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceInstance)]
pub struct Named {
    /// Id of the instance.
    pub id: String,
    /// Name of the instance when the document was made.
    pub name: String,
    /// Tags of the instance at that time, by name.
    pub tags: Vec<(String, String)>,
}

/// An override that was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideNote {
    /// The span for which it holds.
    pub span: Stretch,
    /// The policy that was named, by its digest; null if none.
    pub policy: Option<String>,
    /// Name of that policy; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_name: Option<String>,
    /// The book that was named, by its digest; null if none.
    pub book: Option<String>,
    /// Name of that book; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub book_name: Option<String>,
    /// The reason, in words.
    pub reason: String,
    /// Sequence number of the fact.
    pub fact: u64,
}

/// A policy or a price book, and the part of the billed time in which it decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceRules)]
pub struct RulesNote {
    /// The part of the billed time.
    pub span: Stretch,
    /// SHA-256 of the component or the book.
    pub digest: String,
    /// Its name with the tenant, `standard`, or the tariff and version that it is, such as
    /// `pro/2026-12`; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A charge: its difference to the period's document before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceLine)]
pub struct Line {
    /// Number of the line in the document, from 1.
    pub number: u64,
    /// `usage`, `once` or `own`.
    pub kind: String,
    /// The rule.
    pub rule: String,
    /// The meter.
    pub meter: String,
    /// The instance; null for the tenant as a whole.
    pub instance: Option<String>,
    /// Id of the price in the book.
    pub price_id: String,
    /// Position of the price's tier, from 0.
    pub tier: u32,
    /// Unit of the price, as the operator wrote it, such as `vcpu-hour`.
    pub per: String,
    /// The unit of quantities.
    pub unit: String,
    /// Number of units in one `per`, by which quantities are divided; absent for a fee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divisor: Option<String>,
    /// Number of units used, now.
    pub quantity: String,
    /// Number of units charged for, now.
    pub billed: String,
    /// The unit price in nano-units of the currency: numerator.
    pub price_numerator: String,
    /// The unit price in nano-units of the currency: denominator.
    pub price_denominator: String,
    /// The charge now, in the currency.
    pub is: String,
    /// The charge that the period's earlier documents stated; null if none did.
    pub was: Option<String>,
    /// The difference, which this line charges.
    pub amount: String,
    /// First instant that the line covers, by the calendar; empty for a line that takes back an
    /// earlier one.
    pub from: String,
    /// First instant after the time that the line covers, by the calendar; empty likewise.
    pub until: String,
    /// Sequence numbers of the first and the last fact that opened an interval in the line; null
    /// for a line without intervals.
    pub facts: Option<(u64, u64)>,
}

/// A sum that changed: of a rule, or by an adjustment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceSum)]
pub struct Sum {
    /// The rule, or the adjustment's id.
    pub id: String,
    /// `rule`, `minimum`, `cap`, `credit`, `charge` or `goodwill`.
    pub kind: String,
    /// The sum now, in the currency.
    pub is: String,
    /// The sum that the period's earlier documents stated.
    pub was: String,
    /// The difference.
    pub amount: String,
    /// The reason for a one-off charge or a goodwill, in words; absent for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The evidence of one call: its input, component and output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceReceipt)]
pub struct Receipt {
    /// `measure` for a policy, `bill` for the biller.
    pub call: String,
    /// First instant on the meter clock of the time that the call is about, in nanoseconds.
    pub from_ns: i64,
    /// First instant after it, on the meter clock, in nanoseconds.
    pub until_ns: i64,
    /// The component that ran, by its SHA-256.
    pub component: String,
    /// The quarantined policy in force, in whose place the component ran; left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_in_for: Option<String>,
    /// Edition of the time-zone database.
    pub tzdata: String,
    /// The engine and its version.
    pub engine: String,
    /// Fuel that the call took.
    pub fuel: u64,
    /// Sequence numbers of the first and the last fact that opened an interval of the call; null
    /// without intervals.
    pub facts: Option<(u64, u64)>,
    /// Number of intervals in the input.
    pub intervals: u64,
    /// SHA-256 of the input.
    pub input: String,
    /// SHA-256 of the output.
    pub output: String,
    /// Link of the receipts' chain: SHA-256 of the previous link, followed by this receipt with an
    /// empty `chain`.
    pub chain: String,
}

impl Named {
    /// The name and tags of an instance of another host, whose record is its tags. Before it is
    /// described, that is empty.
    pub fn of_host(stored: &StoredInstance) -> Self {
        let tags = serde_json::from_str(&stored.record).unwrap_or_default();
        Self { id: stored.id.to_string(), name: stored.name.to_string(), tags }
    }
}

impl Invoice {
    /// The bytes that are stored and hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        // The type has no map and no number that JSON can't hold: serialization does not fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The standard policy of the program that made the document, by its name; none if it measured
    /// nothing of it.
    pub(super) fn standard_policy(&self) -> Option<Digest> {
        let standard = self.policies.iter().find(|one| one.name.as_deref() == Some(STANDARD));
        standard?.digest.parse().ok()
    }

    /// SHA-256 of the document's bytes, under which it is stored.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Fuel that the calls took.
    pub fn fuel(&self) -> u64 {
        self.receipts.iter().map(|receipt| receipt.fuel).fold(0, u64::saturating_add)
    }

    /// The document as it was before documents had names, dates and divisors.
    pub(super) fn without_names(mut self) -> Self {
        (self.reference, self.issuer, self.issued, self.billed_to) = (None, None, None, None);
        self.policies.clear();
        self.books.clear();
        self.lines.iter_mut().for_each(|line| line.divisor = None);
        for one in &mut self.overrides {
            (one.policy_name, one.book_name) = (None, None);
        }
        self
    }

    /// The link that the tenant's next receipt follows on.
    pub(super) fn last_link(&self) -> String {
        self.receipts.last().map_or_else(|| FIRST_LINK.into(), |receipt| receipt.chain.clone())
    }

    /// T: the instant up to which the document bills.
    pub fn until(&self) -> Instant {
        Instant(self.billed.until_ns)
    }

    /// The borders that this document has reached: their meter instants, and those of the calendar
    /// in nanoseconds since 1970 in UTC.
    pub(super) fn borders(&self) -> impl Iterator<Item = (Instant, i64)> + use<> {
        let (start, end) = self.borders_utc_ns;
        let first = (Instant(self.period.from_ns), start);
        let last = (Instant(self.period.until_ns), end);
        let is_reached = self.billed.until_ns >= self.period.until_ns;
        std::iter::once(first).chain(is_reached.then_some(last))
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// The error of the parser.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

impl Line {
    /// The difference in nano-units; none for a text that is not an amount.
    pub fn amount_nanos(&self) -> Option<i128> {
        nanos(&self.amount)
    }
}

/// The nano-units of an amount as a document writes it; none for a text that is not an amount.
pub(super) fn nanos(text: &str) -> Option<i128> {
    Decimal::stated(text).ok()?.scaled(9)
}

/// The name of a rounding, as books write it.
pub(super) fn rounding_name(rounding: Rounding) -> &'static str {
    match rounding {
        Rounding::HalfEven => "half-even",
        Rounding::HalfUp => "half-up",
        Rounding::Down => "down",
        Rounding::Up => "up",
    }
}

impl Receipt {
    /// Sets `chain`, from the link before and everything else in this receipt.
    pub(super) fn chained(mut self, before: &str) -> Self {
        self.chain = String::new();
        let text = serde_json::to_string(&self).unwrap_or_default();
        self.chain = Digest::of([before, &text].concat().as_bytes()).to_string();
        self
    }
}
