//! Documents as tables for a terminal.

use std::fmt::Write;

use super::number::align;
use super::page::Page;
use super::row::{columns, rows};
use super::words::{heading, notes, title, totals};
use crate::cli::output;

/// Stands for a space that is not trimmed; of no meaning, so that it is in no name.
const FILLER: char = '\u{e000}';

/// A document as a table, with its sums and its notes.
pub(super) fn of(page: Page<'_>) -> String {
    let document = page.document;
    let mut text = format!("{}\n", title(document));
    for line in heading(document) {
        let _ = writeln!(text, "{line}");
    }
    let rows = rows(page);
    let columns = columns(page, &rows);
    if !rows.is_empty() {
        let cells = columns.iter().map(|column| {
            let mut cells: Vec<_> = rows.iter().map(|row| (column.of)(row).clone()).collect();
            if column.is_number {
                align(&mut cells, FILLER, FILLER);
            }
            cells
        });
        let cells: Vec<_> = cells.collect();
        let row = |place: usize| cells.iter().map(|column| column[place].clone()).collect();
        let head: Vec<_> = columns.iter().map(|column| column.head).collect();
        let right: Vec<_> =
            (0..columns.len()).filter(|&column| columns[column].is_number).collect();
        let table = output::table(&head, &right, (0..rows.len()).map(row));
        let _ = writeln!(text, "\n{}", table.replace(FILLER, " "));
    }
    let totals = totals(document);
    let width = totals.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, amount) in totals {
        let _ = write!(text, "\n{name:width$}  {amount}");
    }
    let _ = write!(text, "\n\n{}", notes(document).join("\n"));
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
