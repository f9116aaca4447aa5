//! Documents as tables of FOCUS, the FinOps Open Cost and Usage Specification.
//!
//! A row has its values under the names of all versions; a table chooses its columns.

mod columns;
mod invoices;
mod packed;
mod rows;
mod source;

pub use packed::{TooLong, parquet};
pub use source::{Names, Row, Source};

pub use columns::{Column, Content, Table, UnknownTable};

/// Returns the rows of documents, which are in the order of their numbers, with a preview last.
pub fn rows(table: Table, documents: &[Source], names: Names<'_>) -> Vec<Row> {
    match table {
        Table::CostAndUsage12 | Table::CostAndUsage14 => rows::rows(documents, names.provider),
        Table::InvoiceDetail14 => invoices::details(documents, names),
        Table::BillingPeriod14 => invoices::periods(documents, names.provider),
    }
}

/// Keeps the columns of a table.
pub fn chosen(table: Table, rows: Vec<Row>) -> Vec<Row> {
    let columns = table.columns();
    let keep = |mut row: Row| {
        row.retain(|name, _| columns.iter().any(|column| column.name == *name));
        row
    };
    rows.into_iter().map(keep).collect()
}

/// Writes rows as CSV, with a head. A null is an empty field.
pub fn csv(table: Table, rows: &[Row]) -> String {
    let columns = table.columns();
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    let mut text = names.join(",");
    text.push('\n');
    for row in rows {
        for (at, name) in names.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            text.push_str(&field(row.get(name).map_or("", String::as_str)));
        }
        text.push('\n');
    }
    text
}

fn field(value: &str) -> String {
    match value.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", value.replace('"', "\"\"")),
        false => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let row = Row::from([("Tags", r#"{"a":"b,c"}"#.to_owned())]);
        let text = csv(Table::CostAndUsage12, &[row]);
        let line = text.lines().nth(1).expect("a row");
        assert!(line.contains(r#","{""a"":""b,c""}","#), "{line}");
        assert_eq!(line.split(",\"").count(), 2);
    }

    #[test]
    fn a_version_has_its_own_names() {
        let row = Row::from([("ProviderName", "a".into()), ("ServiceProviderName", "b".into())]);
        let of = |table| chosen(table, vec![row.clone()]).remove(0);
        assert_eq!(of(Table::CostAndUsage12).into_keys().collect::<Vec<_>>(), ["ProviderName"]);
        let newer: Vec<_> = of(Table::CostAndUsage14).into_keys().collect();
        assert_eq!(newer, ["ServiceProviderName"]);
    }
}
