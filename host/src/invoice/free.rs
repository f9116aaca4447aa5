//! Previews of tenants without a price book: what they used, and no money.

use std::collections::BTreeSet;

use super::document::Invoice;
use super::rules::Overriding;
use crate::units::Instant;

/// A book that prices every meter at nothing, for all time. Its currency is in no answer.
pub(super) fn overriding(meters: &BTreeSet<String>) -> Overriding {
    let price = |meter: &String| {
        serde_json::json!({
            "id": meter, "rule": meter, "meter": meter, "per": "instance-hour", "price": "0",
        })
    };
    let prices: Vec<_> = meters.iter().map(price).collect();
    let book = serde_json::json!({ "currency": "EUR", "prices": prices });
    Overriding {
        from: Instant(i64::MIN),
        until: Instant(i64::MAX),
        book: Some(book.to_string().into_bytes()),
        from_begin: true,
        ..Overriding::default()
    }
}

/// A document under that book, without a trace of it.
pub(super) fn usage(mut document: Invoice) -> Invoice {
    document.currency = None;
    document.books.clear();
    document.overrides.retain(|one| one.fact != u64::MAX);
    document.lines.iter_mut().for_each(|line| line.price_id.clear());
    document
}
