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
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::CostAndUsage12 => &COST_AND_USAGE_12,
            Self::CostAndUsage14 => &COST_AND_USAGE_14,
            Self::InvoiceDetail14 => &INVOICE_DETAIL_14,
            Self::BillingPeriod14 => &BILLING_PERIOD_14,
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

const COST_AND_USAGE_12: [Column; 53] = [
    text("AvailabilityZone"),
    number("BilledCost"),
    text("BillingAccountId"),
    text("BillingAccountName"),
    text("BillingAccountType"),
    text("BillingCurrency"),
    instant("BillingPeriodEnd"),
    instant("BillingPeriodStart"),
    text("ChargeCategory"),
    text("ChargeClass"),
    text("ChargeDescription"),
    text("ChargeFrequency"),
    instant("ChargePeriodEnd"),
    instant("ChargePeriodStart"),
    number("ConsumedQuantity"),
    text("ConsumedUnit"),
    number("ContractedCost"),
    number("ContractedUnitPrice"),
    number("EffectiveCost"),
    text("InvoiceId"),
    text("InvoiceIssuerName"),
    number("ListCost"),
    number("ListUnitPrice"),
    text("PricingCategory"),
    number("PricingQuantity"),
    text("PricingUnit"),
    text("ProviderName"),
    text("PublisherName"),
    text("RegionId"),
    text("RegionName"),
    text("ResourceId"),
    text("ResourceName"),
    text("ResourceType"),
    text("ServiceCategory"),
    text("ServiceName"),
    text("ServiceSubcategory"),
    text("SkuId"),
    text("SkuMeter"),
    text("SkuPriceDetails"),
    text("SkuPriceId"),
    text("SubAccountId"),
    text("SubAccountName"),
    text("SubAccountType"),
    text("Tags"),
    text("x_ChargePeriodEnd"),
    text("x_ChargePeriodStart"),
    text("x_DocumentDigest"),
    count("x_FactFirst"),
    count("x_FactLast"),
    text("x_Policies"),
    text("x_PriceDenominator"),
    text("x_PriceNumerator"),
    text("x_Rule"),
];

const COST_AND_USAGE_14: [Column; 54] = [
    text("AvailabilityZone"),
    number("BilledCost"),
    text("BillingAccountId"),
    text("BillingAccountName"),
    text("BillingAccountType"),
    text("BillingCurrency"),
    instant("BillingPeriodEnd"),
    instant("BillingPeriodStart"),
    text("ChargeCategory"),
    text("ChargeClass"),
    text("ChargeDescription"),
    text("ChargeFrequency"),
    instant("ChargePeriodEnd"),
    instant("ChargePeriodStart"),
    number("ConsumedQuantity"),
    text("ConsumedUnit"),
    number("ContractedCost"),
    number("ContractedUnitPrice"),
    number("EffectiveCost"),
    text("HostProviderName"),
    text("InvoiceDetailId"),
    text("InvoiceId"),
    text("InvoiceIssuerName"),
    number("ListCost"),
    number("ListUnitPrice"),
    text("PricingCategory"),
    number("PricingQuantity"),
    text("PricingUnit"),
    text("RegionId"),
    text("RegionName"),
    text("ResourceId"),
    text("ResourceName"),
    text("ResourceType"),
    text("ServiceCategory"),
    text("ServiceName"),
    text("ServiceProviderName"),
    text("ServiceSubcategory"),
    text("SkuId"),
    text("SkuMeter"),
    text("SkuPriceDetails"),
    text("SkuPriceId"),
    text("SubAccountId"),
    text("SubAccountName"),
    text("SubAccountType"),
    text("Tags"),
    text("x_ChargePeriodEnd"),
    text("x_ChargePeriodStart"),
    text("x_DocumentDigest"),
    count("x_FactFirst"),
    count("x_FactLast"),
    text("x_Policies"),
    text("x_PriceDenominator"),
    text("x_PriceNumerator"),
    text("x_Rule"),
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
