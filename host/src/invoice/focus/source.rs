//! Documents that are exported, and the rows that they make.

use std::collections::BTreeMap;

use super::super::document::Invoice;
use crate::id::Digest;

/// A row: the values that are not null, by column.
pub type Row = BTreeMap<&'static str, String>;

/// A document that is exported.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name under which the journal has it; none for a preview.
    pub digest: Option<Digest>,
    /// The instant at which it was made final, in RFC 3339 in UTC; none for a preview.
    pub issued: Option<String>,
    /// The document.
    pub document: Invoice,
}

/// Names that the documents don't have.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The one who runs the host and issues the invoices.
    pub provider: &'a str,
    /// The terms of payment.
    pub terms: &'a str,
}
