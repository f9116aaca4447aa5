//! Invoices for people: as a table, as rows for a spreadsheet, as a page for the browser or the
//! printer.

mod csv;
mod html;
mod number;
mod page;
mod row;
mod table;
mod words;

use clap::ValueEnum;

use crate::invoice::Invoice;
pub(super) use page::{GroupBy, Page};

/// The form in which documents are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns for a terminal.
    #[default]
    Table,
    /// The documents as they are stored.
    Json,
    /// One row for each line, adjustment and sum.
    Csv,
    /// A page for a browser and for paper.
    Html,
}

/// Formats documents for people; JSON is left to the caller.
pub(super) fn print(pages: &[Page<'_>], format: Format) -> String {
    match format {
        Format::Table | Format::Json => {
            let texts: Vec<_> = pages.iter().map(|page| table::of(*page)).collect();
            if texts.is_empty() { "nothing to bill".into() } else { texts.join("\n\n") }
        }
        Format::Csv => csv::of(pages),
        Format::Html => html::of(pages),
    }
}

/// Pages of documents whose lines are not grouped by day.
pub(super) fn pages(documents: &[Invoice], group: Option<GroupBy>) -> Vec<Page<'_>> {
    documents.iter().map(|document| Page { document, days: &[], group }).collect()
}
