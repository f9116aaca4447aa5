//! A segment as a file: row groups of sorted facts, in Parquet.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::reader::ColumnReader;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::super::wire::FactRecord;
use super::layout::{Carried, FLAGS, NUMBERS, Number, Rows, SCHEMA, TEXTS, Text};

/// Rows of one group: what a reader holds at a time.
const GROUP_ROWS: usize = 8_192;

/// Level of the compression.
const LEVEL: i32 = 3;

/// One row to be written.
pub(super) enum Entry<'a> {
    /// A fact with the first bytes of its link.
    Fact(&'a FactRecord, u32),
    /// The state of an instance.
    Carried(&'a Carried),
}

impl Entry<'_> {
    /// The order of rows.
    fn key(&self) -> (&str, Option<&str>, u64) {
        let record = match self {
            Entry::Fact(record, _) => record,
            Entry::Carried(carried) => &carried.record,
        };
        (&record.tenant, record.instance.as_deref(), record.seq)
    }
}

fn properties() -> Result<WriterProperties> {
    let mut properties = WriterProperties::builder()
        .set_created_by("tallyman".into())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    for column in ["seq", "previous", "meter_ns", "recorded_after_ns", "link"] {
        let path = ColumnPath::from(column);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
    }
    Ok(properties.build())
}

/// Writes rows, sorted. The same rows make the same bytes.
pub(super) fn write(mut entries: Vec<Entry<'_>>, to: impl Write + Send) -> Result<()> {
    entries.sort_unstable_by(|one, other| one.key().cmp(&other.key()));
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(to, schema, Arc::new(properties()?))?;
    for group in entries.chunks(GROUP_ROWS) {
        let mut rows = Rows::default();
        for entry in group {
            match entry {
                Entry::Fact(record, link) => rows.push(record, *link),
                Entry::Carried(carried) => rows.carry(carried),
            }
        }
        write_group(&mut writer, &rows)?;
    }
    writer.close().map(drop)
}

fn write_group<W: Write + Send>(writer: &mut SerializedFileWriter<W>, rows: &Rows) -> Result<()> {
    let mut group = writer.next_row_group()?;
    let mut place = 0;
    while let Some(mut column) = group.next_column()? {
        match column.untyped() {
            ColumnWriter::BoolColumnWriter(to) => {
                to.write_batch(&rows.carried, None, None)?;
            }
            ColumnWriter::ByteArrayColumnWriter(to) => {
                let (values, levels) = packed(&rows.texts[place - FLAGS]);
                to.write_batch(&values, Some(&levels), None)?;
            }
            ColumnWriter::Int64ColumnWriter(to) => {
                let (values, levels) = packed(&rows.numbers[place - FLAGS - TEXTS]);
                to.write_batch(&values, Some(&levels), None)?;
            }
            _ => return Err(not_ours()),
        }
        column.close()?;
        place += 1;
    }
    group.close().map(drop)
}

fn not_ours() -> ParquetError {
    ParquetError::General("a column of no type of ours".into())
}

/// The values that are there, and for each row whether it has one.
fn packed<T: Clone>(cells: &[Option<T>]) -> (Vec<T>, Vec<i16>) {
    let levels = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    (cells.iter().flatten().cloned().collect(), levels)
}

/// The columns that are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    texts: [bool; TEXTS],
    numbers: [bool; NUMBERS],
}

impl Columns {
    pub(super) const ALL: Self = Self { texts: [true; TEXTS], numbers: [true; NUMBERS] };

    /// The columns from which the time of instances is counted.
    pub(super) fn of_time() -> Self {
        let mut columns = Self::ALL;
        for text in [Text::Boot, Text::Command, Text::Asker] {
            columns.texts[text as usize] = false;
        }
        for number in [
            Number::Previous,
            Number::WallOffset,
            Number::BootOffset,
            Number::RecordedAfter,
            Number::Link,
        ] {
            columns.numbers[number as usize] = false;
        }
        columns
    }

    fn has(&self, place: usize) -> bool {
        match place.checked_sub(FLAGS) {
            None => true,
            Some(text) if text < TEXTS => self.texts[text],
            Some(number) => self.numbers[number - TEXTS],
        }
    }
}

/// A segment that is open for reading.
pub(super) struct Reader {
    file: SerializedFileReader<File>,
    /// Row groups that were decoded.
    groups_read: Arc<AtomicU64>,
}

impl Reader {
    pub(super) fn new(file: File) -> Result<Self> {
        let reader = SerializedFileReader::new(file)?;
        let schema = parse_message_type(SCHEMA)?;
        if reader.metadata().file_metadata().schema() != &schema {
            return Err(ParquetError::General("its columns are not those of a segment".into()));
        }
        Ok(Self { file: reader, groups_read: Arc::default() })
    }

    /// The same reader, which counts on a counter of others.
    pub(super) fn counting(self, groups_read: Arc<AtomicU64>) -> Self {
        Self { groups_read, ..self }
    }

    pub(super) fn groups(&self) -> usize {
        self.file.num_row_groups()
    }

    /// Returns true if a group may have rows of a tenant, as far as its statistics tell.
    pub(super) fn may_have(&self, group: usize, tenant: &str) -> bool {
        self.range(group, FLAGS + Text::Tenant as usize).is_none_or(|range| holds(range, tenant))
    }

    /// Returns true if a group may have rows of an instance, as far as its statistics tell.
    pub(super) fn may_have_instance(&self, group: usize, tenant: &str, instance: &str) -> bool {
        let is_one_tenant = self
            .range(group, FLAGS + Text::Tenant as usize)
            .is_some_and(|(least, most)| least == most);
        let of = self.range(group, FLAGS + Text::Instance as usize);
        // Rows are sorted by tenant first: the range says nothing where there are several.
        self.may_have(group, tenant)
            && (!is_one_tenant || of.is_none_or(|range| holds(range, instance)))
    }

    /// The least and the greatest number of a fact in a group, as far as its statistics tell.
    pub(super) fn facts(&self, group: usize) -> Option<(u64, u64)> {
        let column = FLAGS + TEXTS + Number::Seq as usize;
        let Some(Statistics::Int64(of)) =
            self.file.metadata().row_group(group).column(column).statistics()
        else {
            return None;
        };
        of.min_opt()
            .zip(of.max_opt())
            .map(|(low, high)| (low.cast_unsigned(), high.cast_unsigned()))
    }

    fn range(&self, group: usize, column: usize) -> Option<(&[u8], &[u8])> {
        let of = self.file.metadata().row_group(group).column(column).statistics()?;
        of.min_bytes_opt().zip(of.max_bytes_opt())
    }

    /// The rows of a group.
    pub(super) fn rows(&self, group: usize, columns: &Columns) -> Result<Rows> {
        self.groups_read.fetch_add(1, Ordering::Relaxed);
        let group = self.file.get_row_group(group)?;
        let count = usize::try_from(group.metadata().num_rows())
            .map_err(|_| ParquetError::General("a negative number of rows".into()))?;
        let mut rows = Rows::default();
        for place in (0..FLAGS + TEXTS + NUMBERS).filter(|&place| columns.has(place)) {
            read_column(&*group, place, count, &mut rows)?;
        }
        match rows.len() == count {
            true => Ok(rows),
            false => Err(short()),
        }
    }
}

fn holds((least, most): (&[u8], &[u8]), text: &str) -> bool {
    (least..=most).contains(&text.as_bytes())
}

fn read_column(
    group: &dyn RowGroupReader,
    place: usize,
    count: usize,
    rows: &mut Rows,
) -> Result<()> {
    let mut levels = Vec::new();
    match group.get_column_reader(place)? {
        ColumnReader::BoolColumnReader(mut from) => {
            from.read_records(count, None, None, &mut rows.carried)?;
        }
        ColumnReader::ByteArrayColumnReader(mut from) => {
            let mut values = Vec::<ByteArray>::new();
            from.read_records(count, Some(&mut levels), None, &mut values)?;
            rows.texts[place - FLAGS] = unpacked(count, &levels, values)?;
        }
        ColumnReader::Int64ColumnReader(mut from) => {
            let mut values = Vec::<i64>::new();
            from.read_records(count, Some(&mut levels), None, &mut values)?;
            rows.numbers[place - FLAGS - TEXTS] = unpacked(count, &levels, values)?;
        }
        _ => return Err(not_ours()),
    }
    Ok(())
}

fn short() -> ParquetError {
    ParquetError::General("a column with fewer rows than its group".into())
}

/// The cells of a column; one that is required has no levels.
fn unpacked<T>(count: usize, levels: &[i16], values: Vec<T>) -> Result<Vec<Option<T>>> {
    let mut values = values.into_iter();
    let cells: Vec<_> = match levels.is_empty() {
        true => values.by_ref().map(Some).collect(),
        false => {
            let cell = |level: &i16| match level {
                0 => Ok(None),
                _ => values.next().map(Some).ok_or_else(short),
            };
            levels.iter().map(cell).collect::<Result<_>>()?
        }
    };
    if cells.len() == count && values.next().is_none() { Ok(cells) } else { Err(short()) }
}
