//! Rows as Parquet.

use std::fmt::Write as _;
use std::sync::Arc;

use chrono::DateTime;
use num_bigint::BigInt;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::super::exact::Exact;
use super::columns::{Content, Table};
use super::source::Row;

/// Digits of a number, and those behind the point.
const DIGITS: u32 = 38;
const FRACTION_DIGITS: u32 = 18;
/// Bytes of such a number.
const NUMBER_BYTES: usize = 16;
/// Rows of one group: what a reader holds at a time.
const GROUP_ROWS: usize = 65_536;
/// Level of the compression.
const LEVEL: i32 = 3;

/// Error of a table that Parquet can't hold.
#[derive(Debug, thiserror::Error)]
pub enum TooLong {
    /// A number has more digits than there is room for.
    #[error("{column} is {value}, which has more than 20 digits before the point; ask for CSV")]
    Number {
        /// The column.
        column: &'static str,
        /// The number.
        value: String,
    },
    /// The file can't be made.
    #[error("can't make the file")]
    File(#[from] ParquetError),
}

/// Writes rows as a file of Parquet: numbers as DECIMAL(38, 18), rounded half to even where they
/// have more digits, instants as UTC microseconds. The same rows make the same bytes.
///
/// # Errors
/// [`TooLong::Number`].
pub fn parquet(table: Table, rows: &[Row]) -> Result<Vec<u8>, TooLong> {
    let schema = Arc::new(parse_message_type(&schema(table))?);
    let properties = WriterProperties::builder()
        .set_created_by("tallyman".into())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    for rows in rows.chunks(GROUP_ROWS) {
        let mut group = writer.next_row_group()?;
        for column in table.columns() {
            // The schema has a column for each.
            let Some(mut to) = group.next_column()? else { break };
            let cells = rows.iter().map(|row| row.get(column.name).map(String::as_str));
            write_column(to.untyped(), column.name, cells)?;
            to.close()?;
        }
        group.close()?;
    }
    Ok(writer.into_inner()?)
}

fn schema(table: Table) -> String {
    let mut text = format!("message {} {{", table.as_str().replace(['-', '.'], "_"));
    for column in table.columns() {
        let kind = match column.content {
            Content::Text => format!("binary {} (STRING)", column.name),
            Content::Count => format!("int64 {}", column.name),
            Content::Instant => format!("int64 {} (TIMESTAMP(MICROS,true))", column.name),
            Content::Number => format!(
                "fixed_len_byte_array({NUMBER_BYTES}) {} (DECIMAL({DIGITS},{FRACTION_DIGITS}))",
                column.name
            ),
        };
        // Writing to a string can't fail.
        let _ = write!(text, "optional {kind};");
    }
    text.push('}');
    text
}

/// Writes the cells of a column; those that are null have a level of 0 and no value.
fn write_column<'a>(
    to: &mut ColumnWriter<'_>,
    column: &'static str,
    cells: impl Iterator<Item = Option<&'a str>> + Clone,
) -> Result<(), TooLong> {
    let levels: Vec<i16> = cells.clone().map(|cell| i16::from(cell.is_some())).collect();
    let values = cells.flatten();
    match to {
        ColumnWriter::ByteArrayColumnWriter(to) => {
            let values: Vec<_> = values.map(ByteArray::from).collect();
            to.write_batch(&values, Some(&levels), None)?;
        }
        ColumnWriter::FixedLenByteArrayColumnWriter(to) => {
            let values: Result<Vec<_>, _> = values.map(|text| number(column, text)).collect();
            to.write_batch(&values?, Some(&levels), None)?;
        }
        ColumnWriter::Int64ColumnWriter(to) => {
            let values: Vec<_> = values.map(whole).collect();
            to.write_batch(&values, Some(&levels), None)?;
        }
        _ => return Err(ParquetError::General(format!("{column} has no type of ours")).into()),
    }
    Ok(())
}

fn number(column: &'static str, text: &str) -> Result<FixedLenByteArray, TooLong> {
    let units = Exact::read(text).rounded(FRACTION_DIGITS);
    if *units.magnitude() >= num_bigint::BigUint::from(10_u8).pow(DIGITS) {
        return Err(TooLong::Number { column, value: text.to_owned() });
    }
    let bytes = units.to_signed_bytes_be();
    let filling = if units < BigInt::ZERO { 0xff } else { 0 };
    let mut whole = vec![filling; NUMBER_BYTES - bytes.len()];
    whole.extend(bytes);
    Ok(FixedLenByteArray::from(whole))
}

/// A count, or the microseconds of an instant. Our own texts are either.
fn whole(text: &str) -> i64 {
    let instant = || DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_micros());
    text.parse().ok().or_else(instant).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    #[test]
    fn a_file_is_read_back_as_it_was_written_and_is_the_same_each_time() {
        let row = Row::from([
            ("BilledCost", "-1.5".to_owned()),
            ("ListCost", "0.0000000000000000005".to_owned()),
            ("ChargePeriodStart", "2026-01-31T00:00:01Z".to_owned()),
            ("Tags", "{}".to_owned()),
            ("x_FactLast", "7".to_owned()),
        ]);
        let table = Table::CostAndUsage14;
        let file = parquet(table, &[row.clone(), Row::new()]).expect("a file");
        assert_eq!(file, parquet(table, &[row, Row::new()]).expect("a file"));
        let mut on_disk = tempfile::tempfile().expect("a file");
        on_disk.write_all(&file).expect("written");
        let reader = SerializedFileReader::new(on_disk).expect("read");
        let rows = reader.get_row_iter(None).expect("rows");
        let rows: Vec<_> = rows.map(|row| row.expect("a row")).collect();
        assert_eq!(rows.len(), 2);
        let of = |name: &str| {
            let found = rows[0].get_column_iter().find(|(column, _)| *column == name);
            found.expect("a column").1.clone()
        };
        assert_eq!(of("BilledCost").to_string(), "-1.500000000000000000");
        assert_eq!(of("ListCost").to_string(), "0.000000000000000000");
        assert_eq!(of("ChargePeriodStart"), Field::TimestampMicros(1_769_817_601_000_000));
        assert_eq!((of("Tags"), of("x_FactLast")), (Field::Str("{}".into()), Field::Long(7)));
        assert!(rows[1].get_column_iter().all(|(_, field)| *field == Field::Null));
    }

    #[test]
    fn a_number_without_room_is_refused() {
        let most = format!("{}.{}", "9".repeat(20), "9".repeat(18));
        assert!(number("ListCost", &most).is_ok());
        let error = number("ListCost", &format!("1{}", "0".repeat(20))).expect_err("too long");
        assert!(error.to_string().contains("CSV"), "{error}");
    }
}
