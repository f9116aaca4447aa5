//! Sheets of intervals in files: JSON or CSV.

use std::path::Path;

use anyhow::{Context, bail};
use chrono::NaiveDate;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::model::Timestamp;
use crate::invoice::SheetRow;
use crate::journal::wire::Phase;
use crate::units::Instant;
use crate::vm::{Shape, Traffic};

/// A row as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    instance: String,
    phase: Phase,
    from: String,
    #[serde(default)]
    until: Option<String>,
    #[serde(default)]
    session: Option<u32>,
    #[serde(default)]
    vcpus: u32,
    #[serde(default)]
    memory_bytes: u64,
    #[serde(default)]
    disk_bytes: u64,
    #[serde(default)]
    snapshot_bytes: u64,
    #[serde(default)]
    network_in_bytes: u64,
    #[serde(default)]
    network_out_bytes: u64,
}

/// The columns that hold numbers.
const NUMBERS: [&str; 7] = [
    "session",
    "vcpus",
    "memory_bytes",
    "disk_bytes",
    "snapshot_bytes",
    "network_in_bytes",
    "network_out_bytes",
];

/// Reads the rows of a file: CSV with a row of names first, or a JSON array of objects.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<SheetRow>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    rows(&text).with_context(|| format!("{} is no sheet of intervals", file.display()))
}

/// The rows of a text.
fn rows(text: &str) -> anyhow::Result<Vec<SheetRow>> {
    let values = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text).context("invalid JSON")?,
        false => csv(text)?,
    };
    parse(values)
}

/// The rows that JSON holds.
pub(super) fn parse(values: Vec<Value>) -> anyhow::Result<Vec<SheetRow>> {
    let row = |(number, value): (u64, Value)| -> anyhow::Result<SheetRow> {
        let row: Row = serde_json::from_value(value).with_context(|| format!("row {number}"))?;
        row.read().with_context(|| format!("row {number}"))
    };
    (1..).zip(values).map(row).collect()
}

impl Row {
    fn read(self) -> anyhow::Result<SheetRow> {
        let Row { vcpus, memory_bytes, disk_bytes, snapshot_bytes, .. } = self;
        Ok(SheetRow {
            instance: self.instance.parse()?,
            phase: self.phase.into(),
            from: instant(&self.from).context("from")?,
            until: self.until.as_deref().map(instant).transpose().context("until")?,
            session: self.session,
            shape: Shape { vcpus, memory_bytes, disk_bytes, snapshot_bytes },
            traffic: Traffic::of([self.network_in_bytes, 0, self.network_out_bytes, 0]),
        })
    }
}

/// An instant, or the begin of a date in UTC.
pub(super) fn instant(text: &str) -> anyhow::Result<Instant> {
    let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_nanos_opt();
    if let Some(at) = text.parse::<NaiveDate>().ok().and_then(midnight) {
        return Ok(Instant(at));
    }
    Ok(Instant(text.parse::<Timestamp>()?.0))
}

/// The records of a CSV text as objects; an empty field is an absent one.
fn csv(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut records = records(text)?.into_iter();
    let names = records.next().context("it is empty; the first row names the columns")?;
    let object = |(number, fields): (u64, Vec<String>)| -> anyhow::Result<Value> {
        if fields.len() != names.len() {
            bail!("row {number} has {} fields; the first row names {}", fields.len(), names.len());
        }
        let mut object = Map::new();
        for (name, field) in names.iter().zip(fields).filter(|(_, field)| !field.is_empty()) {
            let value = match NUMBERS.contains(&name.as_str()) {
                true => serde_json::from_str(&field)
                    .with_context(|| format!("row {number}: {name}: '{field}' is no number"))?,
                false => Value::String(field),
            };
            object.insert(name.clone(), value);
        }
        Ok(Value::Object(object))
    };
    (1..).zip(records).map(object).collect()
}

/// Reads records as RFC 4180 has them; empty lines are left out.
fn records(text: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut field = String::new();
    let mut is_quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(next) = chars.next() {
        match (next, is_quoted) {
            ('"', true) if chars.peek() == Some(&'"') => field.extend(chars.next()),
            ('"', _) => is_quoted = !is_quoted,
            (',', false) => record.push(std::mem::take(&mut field)),
            ('\r', false) => {}
            ('\n', false) => end(&mut records, &mut record, &mut field),
            (other, _) => field.push(other),
        }
    }
    if is_quoted {
        bail!("a quoted field has no end");
    }
    end(&mut records, &mut record, &mut field);
    Ok(records)
}

fn end(records: &mut Vec<Vec<String>>, record: &mut Vec<String>, field: &mut String) {
    if record.is_empty() && field.is_empty() {
        return;
    }
    record.push(std::mem::take(field));
    records.push(std::mem::take(record));
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "instance,phase,from,until,vcpus\n\
        web,running,2026-11-01,2026-11-01T01:00:00Z,2\r\n\
        \n\
        \"web\",\"stopped\",2026-11-01T01:00:00Z,,\n";

    #[test]
    fn csv_and_json_say_the_same() {
        let json = r#"[
            {"instance": "web", "phase": "running", "from": "2026-11-01",
             "until": "2026-11-01T01:00:00Z", "vcpus": 2},
            {"instance": "web", "phase": "stopped", "from": "2026-11-01T01:00:00Z"}
        ]"#;
        let found = rows(CSV).expect("rows");
        assert_eq!(found, rows(json).expect("rows"));
        assert_eq!((found.len(), found[0].shape.vcpus, found[1].until), (2, 2, None));
        assert_eq!(records("\"a\"\"b,\",c").expect("records"), [["a\"b,", "c"]]);
    }

    #[test]
    fn what_is_no_sheet_is_refused_with_the_row() {
        let rows_and_words = [
            ("", "it is empty"),
            ("[{}]", "row 1"),
            (r#"[{"instance": "a", "phase": "running", "from": "soon"}]"#, "row 1"),
            ("instance,phase,from\na,asleep,2026-11-01", "row 1"),
            ("instance,phase,from\na,running", "row 1 has 2 fields"),
            ("instance,phase,from,vcpus\na,running,2026-11-01,two", "'two' is no number"),
            ("a,\"b", "has no end"),
        ];
        for (text, words) in rows_and_words {
            let error = format!("{:#}", rows(text).expect_err(text));
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
