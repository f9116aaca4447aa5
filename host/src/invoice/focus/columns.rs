//! The tables, their columns, and the content of each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// The content of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text,
    /// A decimal number.
    Number,
    /// A whole number.
    Count,
    /// An instant in whole seconds.
    Instant,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its content.
    pub content: Content,
}

const fn text(name: &'static str) -> Column {
    Column { name, content: Content::Text }
}

const fn number(name: &'static str) -> Column {
    Column { name, content: Content::Number }
}

const fn count(name: &'static str) -> Column {
    Column { name, content: Content::Count }
}

const fn instant(name: &'static str) -> Column {
    Column { name, content: Content::Instant }
}

/// A table of FOCUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Cost and Usage of FOCUS 1.2.
    CostAndUsage12,
    /// Cost and Usage of FOCUS 1.4.
    CostAndUsage14,
    /// Invoice Detail of FOCUS 1.4.
    InvoiceDetail14,
    /// Billing Period of FOCUS 1.4.
    BillingPeriod14,
}

/// A name that no table has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no table '{0}'; there are focus-1.2, focus-1.4, focus-1.4-invoice-detail and \
     focus-1.4-billing-period"
)]
pub struct UnknownTable(String);

impl Table {
    /// All tables.
    pub const ALL: [Self; 4] =
        [Self::CostAndUsage12, Self::CostAndUsage14, Self::InvoiceDetail14, Self::BillingPeriod14];

    /// The name in addresses and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CostAndUsage12 => "focus-1.2",
            Self::CostAndUsage14 => "focus-1.4",
            Self::InvoiceDetail14 => "focus-1.4-invoice-detail",
            Self::BillingPeriod14 => "focus-1.4-billing-period",
        }
    }

    /// The columns in their order: those of FOCUS, then our own.
    pub fn columns(self) -> Vec<Column> {
        match self {
            Self::CostAndUsage12 => cost_and_usage(Versions::Only12),
            Self::CostAndUsage14 => cost_and_usage(Versions::Only14),
            Self::InvoiceDetail14 => INVOICE_DETAIL_14.to_vec(),
            Self::BillingPeriod14 => BILLING_PERIOD_14.to_vec(),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Table {
    type Err = UnknownTable;
    fn from_str(text: &str) -> Result<Self, UnknownTable> {
        let found = Self::ALL.into_iter().find(|table| table.as_str() == text);
        found.ok_or_else(|| UnknownTable(text.chars().take(80).collect()))
    }
}

impl<'a> Deserialize<'a> for Table {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The versions of FOCUS that have a column of Cost and Usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versions {
    Both,
    Only12,
    Only14,
}

const fn both(column: Column) -> (Versions, Column) {
    (Versions::Both, column)
}

const fn only_12(column: Column) -> (Versions, Column) {
    (Versions::Only12, column)
}

const fn only_14(column: Column) -> (Versions, Column) {
    (Versions::Only14, column)
}

/// Returns the columns of Cost and Usage that all versions have, and those of one alone.
fn cost_and_usage(alone: Versions) -> Vec<Column> {
    let is_there = |versions| versions == Versions::Both || versions == alone;
    let there = COST_AND_USAGE.iter().filter(|(versions, _)| is_there(*versions));
    there.map(|(_, column)| *column).collect()
}

const COST_AND_USAGE: [(Versions, Column); 56] = [
    both(text("AvailabilityZone")),
    both(number("BilledCost")),
    both(text("BillingAccountId")),
    both(text("BillingAccountName")),
    both(text("BillingAccountType")),
    both(text("BillingCurrency")),
    both(instant("BillingPeriodEnd")),
    both(instant("BillingPeriodStart")),
    both(text("ChargeCategory")),
    both(text("ChargeClass")),
    both(text("ChargeDescription")),
    both(text("ChargeFrequency")),
    both(instant("ChargePeriodEnd")),
    both(instant("ChargePeriodStart")),
    both(number("ConsumedQuantity")),
    both(text("ConsumedUnit")),
    both(number("ContractedCost")),
    both(number("ContractedUnitPrice")),
    both(number("EffectiveCost")),
    only_14(text("HostProviderName")),
    only_14(text("InvoiceDetailId")),
    both(text("InvoiceId")),
    both(text("InvoiceIssuerName")),
    both(number("ListCost")),
    both(number("ListUnitPrice")),
    both(text("PricingCategory")),
    both(number("PricingQuantity")),
    both(text("PricingUnit")),
    only_12(text("ProviderName")),
    only_12(text("PublisherName")),
    both(text("RegionId")),
    both(text("RegionName")),
    both(text("ResourceId")),
    both(text("ResourceName")),
    both(text("ResourceType")),
    both(text("ServiceCategory")),
    both(text("ServiceName")),
    only_14(text("ServiceProviderName")),
    both(text("ServiceSubcategory")),
    both(text("SkuId")),
    both(text("SkuMeter")),
    both(text("SkuPriceDetails")),
    both(text("SkuPriceId")),
    both(text("SubAccountId")),
    both(text("SubAccountName")),
    both(text("SubAccountType")),
    both(text("Tags")),
    both(text("x_ChargePeriodEnd")),
    both(text("x_ChargePeriodStart")),
    both(text("x_DocumentDigest")),
    both(count("x_FactFirst")),
    both(count("x_FactLast")),
    both(text("x_Policies")),
    both(text("x_PriceDenominator")),
    both(text("x_PriceNumerator")),
    both(text("x_Rule")),
];

const INVOICE_DETAIL_14: [Column; 19] = [
    number("BilledCost"),
    text("BillingAccountId"),
    text("BillingCurrency"),
    instant("BillingPeriodEnd"),
    instant("BillingPeriodStart"),
    text("ChargeCategory"),
    instant("InvoiceDetailCreated"),
    text("InvoiceDetailDescription"),
    text("InvoiceDetailGrain"),
    text("InvoiceDetailId"),
    instant("InvoiceDetailLastUpdated"),
    text("InvoiceId"),
    instant("InvoiceIssueDate"),
    text("InvoiceIssueStatus"),
    text("InvoiceIssuerName"),
    instant("PaymentDueDate"),
    text("PaymentTerms"),
    text("ReferenceInvoiceId"),
    text("x_DocumentDigest"),
];

const BILLING_PERIOD_14: [Column; 6] = [
    instant("BillingPeriodCreated"),
    instant("BillingPeriodEnd"),
    instant("BillingPeriodLastUpdated"),
    instant("BillingPeriodStart"),
    text("BillingPeriodStatus"),
    text("InvoiceIssuerName"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_sorted_and_each_is_there_once() {
        for table in Table::ALL {
            assert!(table.columns().windows(2).all(|pair| pair[0].name < pair[1].name), "{table}");
            assert_eq!(table.as_str().parse(), Ok(table));
        }
        assert!("focus-1.3".parse::<Table>().is_err_and(|error| error.to_string().contains("1.4")));
    }
}
