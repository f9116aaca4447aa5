//! The rows of Cost and Usage, with the names of both versions.
//!
//! A document states differences; so does its part of the table. Each line is one row, each
//! adjustment one, and one more is there where coins round. The rows of a document add up to what
//! it asks for, and those of a period to what the period comes to.

use std::collections::BTreeMap;

use num_bigint::BigInt;

use super::super::document::{Invoice, Kind, Line, Named, Sum, nanos};
use super::super::exact::Exact;
use super::source::{Row, Source};
use crate::id::Digest;

/// Returns the rows of documents, which are in the order of their numbers, with a preview last.
/// `provider` is the name of the one who runs the host.
pub(super) fn rows(documents: &[Source], provider: &str) -> Vec<Row> {
    let mut stated = Stated::default();
    let mut rows = Vec::new();
    for Source { digest, document, .. } in documents {
        let table = Table { document, digest: *digest, provider };
        rows.extend(table.rows(&mut stated));
    }
    rows
}

/// Quantities that earlier documents have stated: used and billed, by period and line.
#[derive(Default)]
struct Stated(BTreeMap<String, (Exact, Exact)>);

impl Stated {
    /// Notes a line, and returns by how much its quantities have changed.
    fn change(&mut self, document: &Invoice, line: &Line) -> (Exact, Exact) {
        let key = [
            &document.period.from,
            &line.rule,
            line.instance.as_deref().unwrap_or_default(),
            &line.price_id,
            &line.kind,
            &line.tier.to_string(),
            &line.meter,
            &line.unit,
            &line.price_numerator,
            &line.price_denominator,
        ]
        .join("\u{1f}");
        let now = (Exact::read(&line.quantity), Exact::read(&line.billed));
        let before = self.0.insert(key, now.clone()).unwrap_or_default();
        (now.0.less(&before.0), now.1.less(&before.1))
    }
}

/// One document on its way into the table.
struct Table<'a> {
    document: &'a Invoice,
    digest: Option<Digest>,
    provider: &'a str,
}

impl Table<'_> {
    fn rows(&self, stated: &mut Stated) -> Vec<Row> {
        let document = self.document;
        // Without a book there is no currency, and nothing is charged.
        if document.currency.is_none() {
            return Vec::new();
        }
        let mut rows: Vec<Row> = document
            .lines
            .iter()
            .map(|line| self.line(line, stated.change(document, line)))
            .collect();
        rows.extend(document.adjustments.iter().map(|one| self.adjustment(one)));
        rows.extend(self.rounding());
        rows
    }

    /// The columns that all rows of the document share.
    fn common(&self, cost: &str, category: &str, description: String) -> Row {
        let document = self.document;
        let text = str::to_owned;
        let mut row = Row::from([
            ("BilledCost", decimal(cost)),
            ("BillingAccountId", document.tenant.clone()),
            ("BillingAccountName", document.tenant.clone()),
            ("BillingAccountType", text("Tenant")),
            ("BillingCurrency", document.currency.clone().unwrap_or_default()),
            ("BillingPeriodEnd", second(&document.period.until, true)),
            ("BillingPeriodStart", second(&document.period.from, false)),
            ("ChargeCategory", text(category)),
            ("ChargeDescription", description),
            ("ContractedCost", decimal(cost)),
            ("EffectiveCost", decimal(cost)),
            ("InvoiceIssuerName", text(self.provider)),
            ("ListCost", decimal(cost)),
            ("HostProviderName", text(self.provider)),
            ("ProviderName", text(self.provider)),
            ("PublisherName", text(self.provider)),
            ("ServiceProviderName", text(self.provider)),
            ("ServiceCategory", text("Compute")),
            ("ServiceName", text("Virtual machines")),
            ("ServiceSubcategory", text("Virtual Machines")),
        ]);
        self.charge_period(&mut row, &document.billed.from, &document.billed.until);
        if let Some(number) = document.number {
            let id = invoice_id(&document.tenant, number);
            row.insert("InvoiceDetailId", format!("{id}-{category}"));
            row.insert("InvoiceId", id);
        }
        if let Some(digest) = self.digest {
            row.insert("x_DocumentDigest", digest.to_string());
        }
        if document.kind == Kind::Correction {
            row.insert("ChargeClass", text("Correction"));
        }
        row
    }

    /// FOCUS has whole seconds; our own columns say the rest.
    fn charge_period(&self, row: &mut Row, from: &str, until: &str) {
        let start = second(from, false);
        let mut end = second(until, true);
        if end <= start {
            end = later(&start);
        }
        row.insert("ChargePeriodStart", start);
        row.insert("ChargePeriodEnd", end);
        row.insert("x_ChargePeriodStart", from.to_owned());
        row.insert("x_ChargePeriodEnd", until.to_owned());
    }

    fn line(&self, line: &Line, (used, billed): (Exact, Exact)) -> Row {
        let named = line.instance.as_deref().and_then(|id| self.named(id));
        let whose = named.map_or("the tenant", |one| one.name.as_str());
        let what = if line.per.is_empty() { &line.meter } else { &line.per };
        let description = format!("{}: {what} of {whose}, tier {}", line.rule, line.tier + 1);
        let mut row = self.common(&line.amount, "Usage", description);
        let price = Exact::price(&line.price_numerator, &line.price_denominator);
        // The product of the two numbers as they are written, so that it is theirs exactly.
        let list = price.times(&billed).to_string();
        let sku = format!("{}-{}", line.price_id, line.tier + 1);
        let frequency = if line.kind == "once" { "One-Time" } else { "Usage-Based" };
        row.extend([
            ("ChargeFrequency", frequency.to_owned()),
            ("ConsumedQuantity", used.to_string()),
            ("ConsumedUnit", line.unit.clone()),
            ("ContractedCost", list.clone()),
            ("ContractedUnitPrice", price.to_string()),
            ("ListCost", list),
            ("ListUnitPrice", price.to_string()),
            ("PricingCategory", "Standard".to_owned()),
            ("PricingQuantity", billed.to_string()),
            ("PricingUnit", line.unit.clone()),
            ("SkuId", line.price_id.clone()),
            ("SkuMeter", line.meter.clone()),
            ("SkuPriceId", format!("{sku}@{}/{}", line.price_numerator, line.price_denominator)),
            ("x_PriceDenominator", line.price_denominator.clone()),
            ("x_PriceNumerator", line.price_numerator.clone()),
            ("x_Rule", line.rule.clone()),
        ]);
        if !line.until.is_empty() {
            self.charge_period(&mut row, &line.from, &line.until);
        }
        if let Some(named) = named {
            resource(&mut row, named);
        }
        if let Some((first, last)) = line.facts {
            row.insert("x_FactFirst", first.to_string());
            row.insert("x_FactLast", last.to_string());
            row.insert("x_Policies", self.policies(first, last));
        }
        row
    }

    fn named(&self, id: &str) -> Option<&Named> {
        self.document.instances.iter().find(|one| one.id == id)
    }

    /// The policies that measured facts between two, by their digests.
    fn policies(&self, first: u64, last: u64) -> String {
        let receipts = self.document.receipts.iter().filter(|receipt| receipt.call == "measure");
        let about = receipts
            .filter(|receipt| receipt.facts.is_some_and(|(from, to)| from <= last && first <= to));
        let mut policies: Vec<_> = about.map(|receipt| receipt.component.as_str()).collect();
        policies.sort_unstable();
        policies.dedup();
        policies.join(";")
    }

    fn adjustment(&self, sum: &Sum) -> Row {
        let (category, frequency) = match sum.kind.as_str() {
            "credit" => ("Credit", "Recurring"),
            "goodwill" => ("Credit", "One-Time"),
            "charge" => ("Adjustment", "One-Time"),
            _ => ("Adjustment", "Recurring"),
        };
        let mut row = self.common(&sum.amount, category, format!("{} {}", sum.kind, sum.id));
        row.insert("ChargeFrequency", frequency.to_owned());
        row
    }

    /// The difference between the coins that are asked for and the exact sum.
    fn rounding(&self) -> Option<Row> {
        let total = nanos(&self.document.total)?;
        let payable = nanos(&self.document.payable)?;
        let difference = payable.checked_sub(total)?;
        let amount = Exact::new(BigInt::from(difference), 9).to_string();
        (difference != 0)
            .then(|| self.common(&amount, "Adjustment", "rounding to coins".to_owned()))
    }
}

/// The id of a document, among those of all tenants.
pub(super) fn invoice_id(tenant: &str, number: u64) -> String {
    format!("{tenant}-{number}")
}

fn resource(row: &mut Row, named: &Named) {
    let tags: serde_json::Map<String, serde_json::Value> = named
        .tags
        .iter()
        .map(|(name, value)| (name.clone(), serde_json::Value::String(value.clone())))
        .collect();
    row.insert("ResourceId", named.id.clone());
    row.insert("ResourceName", named.name.clone());
    row.insert("ResourceType", "Virtual machine".to_owned());
    row.insert("Tags", serde_json::Value::Object(tags).to_string());
}

/// A number of ours as the table writes it.
fn decimal(text: &str) -> String {
    Exact::read(text).to_string()
}

/// An instant (RFC 3339 in UTC) in whole seconds, rounded down, or up.
pub(super) fn second(text: &str, up: bool) -> String {
    let whole = text.trim_end_matches('Z');
    let (whole, fraction) = whole.split_once('.').unwrap_or((whole, ""));
    let whole = format!("{whole}Z");
    match up && fraction.bytes().any(|digit| digit != b'0') {
        true => later(&whole),
        false => whole,
    }
}

fn later(text: &str) -> String {
    let at = chrono::DateTime::parse_from_rfc3339(text);
    let next = at.ok().and_then(|at| at.checked_add_signed(chrono::TimeDelta::seconds(1)));
    next.map_or_else(
        || text.to_owned(),
        |next| next.to_utc().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_hold_what_begins_and_ends_within_them() {
        let rows = [
            ("2026-01-01T00:00:00Z", false, "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00.000000000Z", true, "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00.000000001Z", false, "2026-01-01T00:00:00Z"),
            ("2025-12-31T23:59:59.000000001Z", true, "2026-01-01T00:00:00Z"),
        ];
        for (text, up, expected) in rows {
            assert_eq!(second(text, up), expected, "{text}");
        }
    }
}
