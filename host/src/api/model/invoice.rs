//! Price books in force, agreements, and a tenant's documents.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Timestamp;
use crate::billing::agreement;
use crate::invoice::{DaySum, Invoice, Kind};
use crate::journal::wire::{ChainedFact, Cycle, OneOffKind};

/// A price book in force, or planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Prices {
    /// The tenant's id.
    pub tenant: String,
    /// The book, by the SHA-256 of its text.
    pub digest: String,
    /// Its name with the tenant, or the tariff and version that it is, such as `pro/2026-12`;
    /// absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// ISO 4217 code of its prices.
    pub currency: String,
    /// The number of its prices.
    pub prices: u64,
    /// First instant at which it holds.
    pub from: Timestamp,
    /// `from` on the meter clock, in nanoseconds.
    pub from_ns: i64,
    /// Sequence number of the journal's fact.
    pub fact: u64,
    /// `past`, `in-force`, `planned` or `withdrawn`.
    pub state: PricesState,
    /// Set if the book was set for that time already and nothing was recorded; `from` and `fact`
    /// are those of the time before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
    /// The text of the book as it was given; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The state of a price book that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PricesState {
    /// A later book has replaced it.
    Past,
    /// The book is in force.
    InForce,
    /// The book is to be in force from a later instant on.
    Planned,
    /// The book was planned for later, and withdrawn.
    Withdrawn,
}

/// All price books of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PricesHistory {
    /// The one in force, with its text; null without any.
    pub current: Option<Prices>,
    /// All books that were set, in the order of their facts.
    pub history: Vec<Prices>,
}

/// The acts on a tenant's money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acts {
    /// The facts, ascending.
    pub facts: Vec<ChainedFact>,
}

/// The documents that answer a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Documents {
    /// The documents in the order of their periods; empty if there is nothing to bill.
    pub documents: Vec<Invoice>,
}

/// The days of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocumentDays {
    /// The document.
    pub document: Invoice,
    /// Charges of rules by local day, ascending; adjustments belong to no day.
    pub days: Vec<DaySum>,
}

/// The documents that a close would make, with their days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DaysOfDocuments {
    /// The documents in the order of their periods; empty if there is nothing to bill.
    pub documents: Vec<DocumentDays>,
}

/// The end of the time that a preview bills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewParams {
    /// First instant that is not billed: RFC 3339, a date in UTC, a month such as `2026-11` up to
    /// the end of the tenant's own period, or `now`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A preview of the charges under other rules. Nothing of it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewRequest {
    /// First instant of the span for which the other rules hold; the tenant's creation if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// First instant that is not billed: RFC 3339, a date in UTC, a month such as `2026-11` up to
    /// the end of the tenant's own period, or `now`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// A policy in place of those in force: its name, its digest, or a unique prefix of the digest.
    /// None if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A price book in place of those in force: the text of one, or the name or digest of one that
    /// was set. None if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// Set to apply the book also to time for which no book was in force.
    #[serde(default)]
    pub from_begin: bool,
}

/// A close: every period up to an instant gets its documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseInvoice {
    /// First instant that is not billed: RFC 3339, a date in UTC, a month such as `2026-11` up to
    /// the end of the tenant's own period, or `now`, which means now less 60
    /// s, or now with `at_once`.
    pub to: String,
    /// Set to close although less than 60 s have passed since `to`, or operations are under way.
    /// The document names the open operations.
    #[serde(default)]
    pub at_once: bool,
}

/// A settlement: every period that has documents is brought up to date with the facts known now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleInvoices {
    /// The reason for the changes, in words for the payer. 1 to 1,024 bytes.
    pub reason: String,
}

/// An override: another policy or price book for a span. Documents change with the next close or
/// settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideRules {
    /// First instant of the span: RFC 3339, or a date in UTC.
    pub from: String,
    /// First instant after it.
    pub until: String,
    /// A policy: its name, its digest, or a unique prefix of the digest. With neither policy nor
    /// prices, earlier overrides of the span end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A price book: the text of one, or the name or digest of one that was set. None if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// Set to apply the book also to time for which no book was in force.
    #[serde(default)]
    pub from_begin: bool,
    /// The reason, in words for the payer. 1 to 1,024 bytes.
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
    /// Digest of the policy that was named; null if none was.
    pub policy: Option<String>,
    /// Name of that policy; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_name: Option<String>,
    /// Digest of the price book that was named; null if none was.
    pub prices: Option<String>,
    /// Name of that book; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices_name: Option<String>,
    /// Sequence number of the journal's fact.
    pub fact: u64,
}

/// A named price book with versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tariff {
    /// Its name.
    pub name: String,
    /// Set if new tenants begin under its newest version.
    pub is_default: bool,
    /// Its versions, the newest last.
    pub versions: Vec<TariffVersion>,
}

/// A version of a tariff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TariffVersion {
    /// Its name, such as `2026-12`.
    pub version: String,
    /// The book, by the SHA-256 of its text.
    pub digest: String,
    /// ISO 4217 code of its prices.
    pub currency: String,
    /// Number of its prices.
    pub prices: u64,
    /// Number of tenants whose last book it is.
    pub tenants: u64,
    /// Sequence number of the journal's fact.
    pub fact: u64,
}

/// The tariff of new tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetDefaultTariff {
    /// Its name; null for none.
    pub tariff: Option<String>,
}

/// The tariff by which a tenant is to be charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTariff {
    /// Its name.
    pub tariff: String,
    /// The version; the newest, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// First instant at which its book holds: RFC 3339, a date in UTC, or `border`, the end of the
    /// present period; now, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// A change of the version for all tenants of a tariff.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeTariff {
    /// The version; the newest, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// First instant at which its book holds: RFC 3339, a date in UTC, or `border`, the end of each
    /// tenant's present period, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// The outcome of a change for all tenants of a tariff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedTariff {
    /// The tariff.
    pub tariff: String,
    /// The tenants that were on it, by id.
    pub tenants: Vec<TariffChange>,
}

/// The outcome for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TariffChange {
    /// The tenant's id.
    pub tenant: String,
    /// The version that it is on; null if the change was refused.
    pub version: Option<String>,
    /// First instant at which the book holds; null if the change was refused.
    pub from: Option<Timestamp>,
    /// The reason for the refusal, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// An amount that is charged, or given, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OneOff {
    /// `charge` is added to what the period comes to, `goodwill` pays what periods come to until it
    /// is used up.
    pub kind: OneOffKind,
    /// The amount, above 0, in the currency's coins, such as `12.50`.
    pub amount: String,
    /// ISO 4217 code; that of the book in force at `at`, if absent. Another one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The instant to which it belongs: RFC 3339, or a date in UTC; now, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The reason, in words for the one who pays. 1 to 1,024 bytes.
    pub reason: String,
}

/// A one-off that is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordedOneOff {
    /// The tenant's id.
    pub tenant: String,
    /// Its id on documents.
    pub id: String,
    /// `charge` or `goodwill`.
    pub kind: OneOffKind,
    /// The amount.
    pub amount: String,
    /// ISO 4217 code.
    pub currency: String,
    /// The instant to which it belongs.
    pub at: Timestamp,
    /// Sequence number of the journal's fact.
    pub fact: u64,
}

/// A correction: an override for the period of a document, and the settlement that follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectInvoice {
    /// The reason, in words for the payer. 1 to 1,024 bytes.
    pub reason: String,
    /// A policy in place of those that were in force: its name, its digest, or a unique prefix of
    /// the digest. None if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// A price book in place of those that were in force: the text of one, or the digest of one
    /// that was set. None if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// Set to apply the book also to time for which no book was in force.
    #[serde(default)]
    pub from_begin: bool,
}

/// The agreement on how a tenant's time is cut into periods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// IANA name of the time zone in which periods begin at midnight, such as `Europe/Berlin`.
    pub zone: String,
    /// The kind of a period: `month` or `day`.
    pub cycle: Cycle,
    /// Day of the month on which a monthly period begins, 1 to 31; the last day of a month that is
    /// shorter.
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
    /// The agreement from the next period on; null if it is the same.
    pub next: Option<Agreement>,
    /// First instant of the present period.
    pub from: Timestamp,
    /// First instant after the present period, at which a change takes effect.
    pub until: Timestamp,
}

/// The summary of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceSummary {
    /// The document's number among the tenant's, from 1.
    pub number: u64,
    /// The number for people, with the issuer's prefix; absent for a document that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The instant of issue: RFC 3339 in UTC; absent for a document that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<String>,
    /// The document's kind; null for a document of the earlier form.
    pub kind: Option<Kind>,
    /// Number of the document before it for the same period; null for the first.
    pub follows: Option<u64>,
    /// The reason for a correction; null if none was given.
    pub reason: Option<String>,
    /// First instant of the period.
    pub from: String,
    /// First instant that is not billed.
    pub until: String,
    /// ISO 4217 code of the amounts; null without a price book.
    pub currency: Option<String>,
    /// The exact total, as a decimal number in the currency.
    pub total: String,
    /// The amount that this document asks for, rounded to the currency's minor unit.
    pub payable: String,
    /// Set if the period would be billed differently now; a settlement brings it up to date.
    pub stale: bool,
    /// SHA-256 of the document, as the journal has it.
    pub digest: String,
    /// Sequence number of the journal's fact.
    pub fact: u64,
}

/// All documents of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invoices {
    /// The documents, ascending by number.
    pub invoices: Vec<InvoiceSummary>,
}
