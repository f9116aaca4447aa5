//! Documents as rows of RFC 4180.

use super::page::Page;
use super::row::{Row, rows};
use crate::billing::decimal::Decimal;

type Of = fn(&Row) -> &String;

/// Columns of a row, behind those of its document.
const COLUMNS: [(&str, Of); 19] = [
    ("day", |row| &row.day),
    ("rule", |row| &row.rule),
    ("instance", |row| &row.instance),
    ("price", |row| &row.price),
    ("quantity", |row| &row.quantity),
    ("unit", |row| &row.unit),
    ("measured", |row| &row.measured),
    ("measured_unit", |row| &row.measured_unit),
    ("divisor", |row| &row.divisor),
    ("unit_price", |row| &row.unit_price),
    ("from", |row| &row.from),
    ("until", |row| &row.until),
    ("policy", |row| &row.policy.names),
    ("policy_digest", |row| &row.policy.digests),
    ("book", |row| &row.book.names),
    ("book_digest", |row| &row.book.digests),
    ("was", |row| &row.was),
    ("is", |row| &row.is),
    ("amount", |row| &row.amount),
];

/// Columns of a document, in front of each of its rows.
const HEAD: &str = "document,reference,issued,kind,period_from,period_until,currency";

/// The rows of documents, under a row of names.
pub(super) fn of(pages: &[Page<'_>]) -> String {
    let mut text = String::from(HEAD);
    for (name, _) in COLUMNS {
        text.push(',');
        text.push_str(name);
    }
    for page in pages {
        let document = page.document;
        let head = [
            document.number.map(|number| number.to_string()).unwrap_or_default(),
            document.reference.clone().unwrap_or_default(),
            document.issued.clone().unwrap_or_default(),
            format!("{:?}", document.kind).to_lowercase(),
            document.period.from.clone(),
            document.period.until.clone(),
            document.currency.clone().unwrap_or_default(),
        ];
        for row in rows(*page) {
            let cells = COLUMNS.iter().map(|(_, of)| of(&row).clone());
            let cells: Vec<_> =
                head.iter().cloned().chain(cells).map(|cell| field(&cell)).collect();
            text.push('\n');
            text.push_str(&cells.join(","));
        }
    }
    text
}

/// A field of RFC 4180. A text that a spreadsheet would run as a formula is quoted with `'`.
fn field(text: &str) -> String {
    let is_number = Decimal::stated(text).is_ok();
    let text = match text.chars().next() {
        Some('=' | '+' | '-' | '@') if !is_number && text.len() > 1 => format!("'{text}"),
        _ => text.to_owned(),
    };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_and_never_formulas() {
        let rows = [
            ("a", "a"),
            ("a,b", "\"a,b\""),
            ("-1.5", "-1.5"),
            ("=1+2", "'=1+2"),
            ("say \"x\"", "\"say \"\"x\"\"\""),
        ];
        for (text, written) in rows {
            assert_eq!(field(text), written);
        }
    }
}
