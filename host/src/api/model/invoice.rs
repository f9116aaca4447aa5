//! Price books in force, agreements, and a tenant's documents.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Timestamp;
use crate::billing::agreement;
use crate::invoice::{Invoice, Kind};
use crate::journal::wire::Cycle;

/// A price book in force, or planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Prices {
    /// The tenant's id.
    pub tenant: String,
    /// The book, by the SHA-256 of its text.
    pub digest: String,
    /// ISO 4217 code of its prices.
    pub currency: String,
    /// The number of its prices.
    pub prices: u64,
    /// First instant at which it holds.
    pub from: Timestamp,
    /// The same on the meter clock, in nanoseconds.
    pub from_ns: i64,
    /// Sequence number of the journal's fact.
    pub fact: u64,
    /// `past`, `in-force`, `planned` or `withdrawn`.
    pub state: PricesState,
    /// The book as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The state of a price book that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PricesState {
    /// Another one has replaced it.
    Past,
    /// It holds now.
    InForce,
    /// It is to hold later.
    Planned,
    /// It was planned, and withdrawn.
    Withdrawn,
}

/// All price books of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PricesHistory {
    /// The one in force, with its text; null without any.
    pub current: Option<Prices>,
    /// Everything that was set, by its fact.
    pub history: Vec<Prices>,
}

/// The documents that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Documents {
    /// In the order of their periods; empty if there is nothing to say.
    pub documents: Vec<Invoice>,
}

/// The time up to which is billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewParams {
    /// First instant that is not billed: RFC 3339, a date in UTC, or `now`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A question what time would come to under other rules. Nothing of it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewRequest {
    /// First instant of the span for which the other rules hold; the tenant's begin, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// First instant that is not billed: RFC 3339, a date in UTC, or `now`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// A policy in place of those in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A price book in place of those in force: the text of one, or the digest of one that was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// Whether the book also holds for time without one.
    #[serde(default)]
    pub from_begin: bool,
}

/// A close: every period up to an instant gets its documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseInvoice {
    /// First instant that is not billed: RFC 3339, a date in UTC, or `now`, which means now less 60
    /// s.
    pub to: String,
    /// Whether to close although less than 60 s have passed, or operations are under way. The
    /// document names what was open.
    #[serde(default)]
    pub at_once: bool,
}

/// A settlement: every period that has documents says what is known now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleInvoices {
    /// The reason for what changes, in words for the one who pays. 1 to 1,024 bytes.
    pub reason: String,
}

/// An override: another policy or book for a span. It says nothing about money until the next close
/// or settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideRules {
    /// First instant of the span: RFC 3339, or a date in UTC.
    pub from: String,
    /// First instant after it.
    pub until: String,
    /// A policy: its name, its digest, or the digest's unique beginning. With neither policy nor
    /// prices, earlier overrides of the span end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A price book: the text of one, or the digest of one that was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// Whether the book also holds for time without one.
    #[serde(default)]
    pub from_begin: bool,
    /// The reason, in words for the one who pays. 1 to 1,024 bytes.
    pub reason: String,
}

/// An override that is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Overridden {
    /// The tenant's id.
    pub tenant: String,
    /// First instant of the span.
    pub from: Timestamp,
    /// First instant after it.
    pub until: Timestamp,
    /// The policy that was named.
    pub policy: Option<String>,
    /// The book that was named, by its digest.
    pub prices: Option<String>,
    /// Sequence number of the journal's fact.
    pub fact: u64,
}

/// A correction: an override for the period of a document, and the settlement that follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectInvoice {
    /// The reason, in words for the one who pays. 1 to 1,024 bytes.
    pub reason: String,
    /// A policy in place of those that were in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A price book in place of those that were in force: the text of one, or the digest of one
    /// that was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// Whether the book also holds for time without one.
    #[serde(default)]
    pub from_begin: bool,
}

/// The cut of a tenant's time into periods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// IANA name of the zone whose days are meant, such as `Europe/Berlin`.
    pub zone: String,
    /// The kind of a period: `month` or `day`.
    pub cycle: Cycle,
    /// Day of the month on which a month begins, 1 to 31; the last day of a month that is shorter.
    pub anchor_day: u8,
}

impl From<agreement::Agreement> for Agreement {
    fn from(core: agreement::Agreement) -> Self {
        let agreement::Agreement { zone, cycle, anchor_day } = core;
        Self { zone, cycle: cycle.into(), anchor_day }
    }
}

impl From<Agreement> for agreement::Agreement {
    fn from(wire: Agreement) -> Self {
        let Agreement { zone, cycle, anchor_day } = wire;
        Self { zone, cycle: cycle.into(), anchor_day }
    }
}

/// A tenant's agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgreementInForce {
    /// The agreement that cuts the present period.
    pub agreement: Agreement,
    /// The agreement from the next border on, if it is another.
    pub next: Option<Agreement>,
    /// First instant of the present period.
    pub from: Timestamp,
    /// First instant after it: the border at which a change begins.
    pub until: Timestamp,
}

/// A document in one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceSummary {
    /// Its number among the tenant's documents.
    pub number: u64,
    /// Its kind; null for a document of the earlier form.
    pub kind: Option<Kind>,
    /// Number of the period's document before it.
    pub follows: Option<u64>,
    /// The reason for a correction.
    pub reason: Option<String>,
    /// First instant of the period.
    pub from: String,
    /// First instant that is not billed.
    pub until: String,
    /// ISO 4217 code; null without a book.
    pub currency: Option<String>,
    /// The exact sum.
    pub total: String,
    /// What is to be paid.
    pub payable: String,
    /// Whether it would come out otherwise now: `settle` brings it up to date.
    pub stale: bool,
    /// SHA-256 of the document, as the journal has it.
    pub digest: String,
    /// Sequence number of the journal's fact.
    pub fact: u64,
}

/// All documents of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invoices {
    /// By number.
    pub invoices: Vec<InvoiceSummary>,
}
