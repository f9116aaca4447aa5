//! The rows of Invoice Detail and of Billing Period.

use std::collections::BTreeMap;

use super::super::exact::Exact;
use super::rows::{self, invoice_id, second};
use super::source::{Names, Row, Source};

/// One row for each category of charges of each final document; their sum is what it asks for.
pub(super) fn details(documents: &[Source], names: Names<'_>) -> Vec<Row> {
    let mut details: Vec<Row> = Vec::new();
    for source in documents {
        let (Some(number), Some(issued)) = (source.document.number, &source.issued) else {
            continue;
        };
        let reference = source.document.follows.unwrap_or(number);
        let tenant = &source.document.tenant;
        for (charge, rows) in by_category(source, names.provider) {
            let sum = rows.iter().fold(Exact::default(), |sum, row| {
                sum.plus(&Exact::read(row.get("BilledCost").map_or("0", String::as_str)))
            });
            let mut detail = Row::from([
                ("BilledCost", sum.to_string()),
                ("InvoiceDetailCreated", second(issued, false)),
                ("InvoiceDetailDescription", format!("{charge}, {} rows", rows.len())),
                ("InvoiceDetailLastUpdated", second(issued, false)),
                ("InvoiceIssueDate", second(issued, false)),
                ("InvoiceIssueStatus", "Issued".to_owned()),
                ("PaymentTerms", names.terms.to_owned()),
                ("ReferenceInvoiceId", invoice_id(tenant, reference)),
            ]);
            for (name, value) in rows.into_iter().next().into_iter().flatten() {
                if SHARED.contains(&name) {
                    detail.insert(name, value);
                }
            }
            details.push(detail);
        }
    }
    details
}

/// Columns that all rows of a document and a category share.
const SHARED: [&str; 9] = [
    "BillingAccountId",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "InvoiceDetailId",
    "InvoiceId",
    "InvoiceIssuerName",
    "x_DocumentDigest",
];

fn by_category(source: &Source, provider: &str) -> BTreeMap<String, Vec<Row>> {
    let mut found: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    // Quantities of earlier documents have no part in amounts.
    for row in rows::rows(std::slice::from_ref(source), provider) {
        found.entry(row.get("ChargeCategory").cloned().unwrap_or_default()).or_default().push(row);
    }
    found
}

/// One row for each period that has documents. It is closed once one of them reaches its end.
pub(super) fn periods(documents: &[Source], provider: &str) -> Vec<Row> {
    let mut periods: BTreeMap<String, Row> = BTreeMap::new();
    for Source { issued, document, .. } in documents {
        let at = second(issued.as_ref().unwrap_or(&document.billed.until), false);
        let start = second(&document.period.from, false);
        let row = periods.entry(start.clone()).or_insert_with(|| {
            Row::from([
                ("BillingPeriodCreated", at.clone()),
                ("BillingPeriodEnd", second(&document.period.until, true)),
                ("BillingPeriodStart", start),
                ("BillingPeriodStatus", "Open".to_owned()),
                ("InvoiceIssuerName", provider.to_owned()),
            ])
        });
        row.insert("BillingPeriodLastUpdated", at);
        if issued.is_some() && document.reaches_end {
            row.insert("BillingPeriodStatus", "Closed".to_owned());
        }
    }
    periods.into_values().collect()
}
