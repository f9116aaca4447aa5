//! The columns of a segment, and facts as their rows.
//!
//! From the columns the text of a fact is made again byte for byte, and so the chain. Clocks are
//! kept as differences from the meter, which stay the same for long: `wall_ns` is `meter_ns +
//! wall_offset_ns`, `boottime_ns` is `meter_ns - boot_offset_ns`, `recorded_ns` is `meter_ns +
//! recorded_after_ns`.

use parquet::data_type::{AsBytes, ByteArray};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as NoWord, StrDeserializer};

use super::super::error::Flaw;
use super::super::wire::{self, FactRecord, Traffic, What};
use crate::billing::life::Opening;
use crate::billing::{Counted, Entered};
use crate::units::Instant;
use crate::vm;

/// The schema in Parquet's own words: first the flag, then the columns of [`Text`] and of
/// [`Number`] in their order.
pub(super) const SCHEMA: &str = "message fact {
  required boolean carried;
  required binary tenant (STRING);
  optional binary instance (STRING);
  required binary kind (STRING);
  required binary boot (STRING);
  optional binary phase (STRING);
  optional binary cause (STRING);
  optional binary command (STRING);
  optional binary asker (STRING);
  optional binary detail (STRING);
  required int64 seq;
  optional int64 previous;
  required int64 meter_ns;
  required int64 wall_offset_ns;
  required int64 boot_offset_ns;
  required int64 recorded_after_ns;
  optional int64 vcpus;
  optional int64 memory_bytes (INTEGER(64,false));
  optional int64 disk_bytes (INTEGER(64,false));
  optional int64 snapshot_bytes (INTEGER(64,false));
  optional int64 session;
  required int64 link;
  optional int64 first_fact;
  optional int64 wakes;
  optional int64 boot_began_ns;
}";

/// Columns before the first text.
pub(super) const FLAGS: usize = 1;

/// A column of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    Tenant,
    Instance,
    Kind,
    Boot,
    Phase,
    Cause,
    Command,
    Asker,
    /// The rest of a fact, beyond the typed columns: `about` of an intent, the traffic of a phase,
    /// or the fields of another kind, as JSON.
    Detail,
}

pub(super) const TEXTS: usize = Text::Detail as usize + 1;

/// A column of numbers. Unsigned ones of 64 bits keep their bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Seq,
    Previous,
    Meter,
    WallOffset,
    BootOffset,
    RecordedAfter,
    Vcpus,
    Memory,
    Disk,
    Snapshot,
    Session,
    /// The first four bytes of the fact's link: enough to name the fact that was altered.
    Link,
    FirstFact,
    Wakes,
    BootBegan,
}

pub(super) const NUMBERS: usize = Number::BootBegan as usize + 1;

/// Some rows of a segment, column by column. Columns that were not read are empty.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) carried: Vec<bool>,
    pub(super) texts: [Vec<Option<ByteArray>>; TEXTS],
    pub(super) numbers: [Vec<Option<i64>>; NUMBERS],
}

/// The state of an instance that began before a segment: the fact that opened what is under way,
/// repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) record: FactRecord,
    pub(super) link: u32,
    pub(super) first_fact: u64,
    pub(super) wakes: u32,
    pub(super) boot_began: Instant,
}

fn word<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Flaw> {
    let deserializer: StrDeserializer<'a, NoWord> = text.into_deserializer();
    T::deserialize(deserializer).map_err(|error| Flaw::Text(error.to_string()))
}

fn name(word: impl serde::Serialize) -> Option<String> {
    serde_json::to_value(word).ok()?.as_str().map(str::to_owned)
}

/// Rows, being filled.
impl Rows {
    /// Adds a fact of the segment, with its link's first bytes.
    pub(super) fn push(&mut self, record: &FactRecord, link: u32) {
        self.carried.push(false);
        self.texts.iter_mut().for_each(|column| column.push(None));
        self.numbers.iter_mut().for_each(|column| column.push(None));
        self.put_place(record, link);
        self.put_what(&record.what);
    }

    /// Adds the state of an instance.
    pub(super) fn carry(&mut self, carried: &Carried) {
        self.push(&carried.record, carried.link);
        if let Some(flag) = self.carried.last_mut() {
            *flag = true;
        }
        self.put(Number::FirstFact, carried.first_fact.cast_signed());
        self.put(Number::Wakes, i64::from(carried.wakes));
        self.put(Number::BootBegan, carried.boot_began.0);
    }

    fn put(&mut self, column: Number, value: i64) {
        if let Some(cell) = self.numbers[column as usize].last_mut() {
            *cell = Some(value);
        }
    }

    fn put_text(&mut self, column: Text, text: Option<&str>) {
        if let Some(cell) = self.texts[column as usize].last_mut() {
            *cell = text.map(ByteArray::from);
        }
    }

    fn put_place(&mut self, record: &FactRecord, link: u32) {
        self.put_text(Text::Tenant, Some(&record.tenant));
        self.put_text(Text::Boot, Some(&record.boot));
        self.put_text(Text::Instance, record.instance.as_deref());
        if let Some(previous) = record.previous {
            self.put(Number::Previous, previous.cast_signed());
        }
        let meter = record.meter_ns;
        self.put(Number::Seq, record.seq.cast_signed());
        self.put(Number::Meter, meter);
        self.put(Number::WallOffset, record.wall_ns.wrapping_sub(meter));
        self.put(Number::BootOffset, meter.wrapping_sub(record.boottime_ns.cast_signed()));
        self.put(Number::RecordedAfter, record.recorded_ns.wrapping_sub(meter));
        self.put(Number::Link, i64::from(link));
    }

    fn put_what(&mut self, what: &What) {
        self.put_text(Text::Kind, Some(what.kind().as_str()));
        match what {
            What::Entered {
                phase,
                vcpus,
                memory_bytes,
                disk_bytes,
                snapshot_bytes,
                session,
                cause,
                traffic,
            } => {
                self.put_text(Text::Phase, name(phase).as_deref());
                self.put_text(Text::Cause, cause.and_then(name).as_deref());
                self.put(Number::Vcpus, i64::from(*vcpus));
                self.put(Number::Memory, memory_bytes.cast_signed());
                self.put(Number::Disk, disk_bytes.cast_signed());
                self.put(Number::Snapshot, snapshot_bytes.cast_signed());
                self.put(Number::Session, i64::from(*session));
                let traffic = traffic.and_then(|traffic| serde_json::to_string(&traffic).ok());
                self.put_text(Text::Detail, traffic.as_deref());
            }
            What::Intended { command, by, about } => {
                self.put_text(Text::Command, name(command).as_deref());
                self.put_text(Text::Asker, name(by).as_deref());
                self.put_text(Text::Detail, about.as_deref());
            }
            What::Deleted => {}
            other => self.put_text(Text::Detail, detail(other).as_deref()),
        }
    }
}

/// The fields of a kind as JSON, without the kind.
fn detail(what: &What) -> Option<String> {
    let text = serde_json::to_string(what).ok()?;
    let (_, fields) = text.split_once(',')?;
    Some(format!("{{{fields}"))
}

/// Rows, being read.
impl Rows {
    pub(super) fn len(&self) -> usize {
        self.carried.len()
    }

    fn number(&self, column: Number, row: usize) -> Result<i64, Flaw> {
        self.number_or_none(column, row)
            .ok_or_else(|| Flaw::Malformed(format!("no {column:?} where there must be one")))
    }

    fn number_or_none(&self, column: Number, row: usize) -> Option<i64> {
        self.numbers[column as usize].get(row).copied().flatten()
    }

    fn small<T: TryFrom<i64>>(&self, column: Number, row: usize) -> Result<T, Flaw> {
        T::try_from(self.number(column, row)?)
            .map_err(|_| Flaw::Malformed(format!("{column:?} is out of its range")))
    }

    pub(super) fn text(&self, column: Text, row: usize) -> Result<&str, Flaw> {
        self.text_or_none(column, row)?
            .ok_or_else(|| Flaw::Malformed(format!("no {column:?} where there must be one")))
    }

    pub(super) fn text_or_none(&self, column: Text, row: usize) -> Result<Option<&str>, Flaw> {
        let cell = self.texts[column as usize].get(row).and_then(Option::as_ref);
        cell.map(|cell| str::from_utf8(cell.as_bytes()))
            .transpose()
            .map_err(|error| Flaw::Malformed(error.to_string()))
    }

    pub(super) fn seq(&self, row: usize) -> Result<u64, Flaw> {
        self.number(Number::Seq, row).map(i64::cast_unsigned)
    }

    pub(super) fn link(&self, row: usize) -> Result<u32, Flaw> {
        self.small(Number::Link, row)
    }

    /// The fact of a row, whole.
    pub(super) fn record(&self, row: usize) -> Result<FactRecord, Flaw> {
        let meter_ns = self.number(Number::Meter, row)?;
        let boottime = meter_ns.wrapping_sub(self.number(Number::BootOffset, row)?);
        Ok(FactRecord {
            seq: self.seq(row)?,
            boot: self.text(Text::Boot, row)?.into(),
            boottime_ns: boottime.cast_unsigned(),
            wall_ns: meter_ns.wrapping_add(self.number(Number::WallOffset, row)?),
            meter_ns,
            recorded_ns: meter_ns.wrapping_add(self.number(Number::RecordedAfter, row)?),
            tenant: self.text(Text::Tenant, row)?.into(),
            instance: self.text_or_none(Text::Instance, row)?.map(Into::into),
            previous: self.number_or_none(Number::Previous, row).map(i64::cast_unsigned),
            what: self.what(row)?,
        })
    }

    fn what(&self, row: usize) -> Result<What, Flaw> {
        let detail = self.text_or_none(Text::Detail, row)?;
        match self.text(Text::Kind, row)? {
            "entered" => Ok(What::Entered {
                phase: word(self.text(Text::Phase, row)?)?,
                vcpus: self.small(Number::Vcpus, row)?,
                memory_bytes: self.number(Number::Memory, row)?.cast_unsigned(),
                disk_bytes: self.number(Number::Disk, row)?.cast_unsigned(),
                snapshot_bytes: self.number(Number::Snapshot, row)?.cast_unsigned(),
                session: self.small(Number::Session, row)?,
                cause: self.text_or_none(Text::Cause, row)?.map(word).transpose()?,
                traffic: self.traffic(row)?,
            }),
            "intended" => Ok(What::Intended {
                command: word(self.text(Text::Command, row)?)?,
                by: word(self.text(Text::Asker, row)?)?,
                about: detail.map(Into::into),
            }),
            "deleted" => Ok(What::Deleted),
            kind => {
                let fields = detail.and_then(|detail| detail.strip_prefix('{'));
                let fields = fields.ok_or_else(|| Flaw::Malformed("no detail".into()))?;
                serde_json::from_str(&format!("{{\"kind\":\"{kind}\",{fields}"))
                    .map_err(|error| Flaw::Text(error.to_string()))
            }
        }
    }

    /// The instant of a row, and its meaning for the time of its instance.
    pub(super) fn counts(&self, row: usize) -> Result<(Instant, Option<Counted>), Flaw> {
        let at = Instant(self.number(Number::Meter, row)?);
        let counted = match self.text(Text::Kind, row)? {
            "entered" => Some(Counted::Enters(self.entered(row)?)),
            "deleted" => Some(Counted::Ends),
            _ => None,
        };
        Ok((at, counted))
    }

    fn entered(&self, row: usize) -> Result<Entered, Flaw> {
        let phase: wire::Phase = word(self.text(Text::Phase, row)?)?;
        let cause: Option<wire::ExitCause> =
            self.text_or_none(Text::Cause, row)?.map(word).transpose()?;
        Ok(Entered {
            phase: phase.into(),
            shape: vm::Shape {
                vcpus: self.small(Number::Vcpus, row)?,
                memory_bytes: self.number(Number::Memory, row)?.cast_unsigned(),
                disk_bytes: self.number(Number::Disk, row)?.cast_unsigned(),
                snapshot_bytes: self.number(Number::Snapshot, row)?.cast_unsigned(),
            },
            session: self.small(Number::Session, row)?,
            cause: cause.map(vm::ExitCause::from),
            traffic: Traffic::or_none(self.traffic(row)?),
        })
    }

    /// The traffic of a row with a phase; none without any.
    fn traffic(&self, row: usize) -> Result<Option<Traffic>, Flaw> {
        let detail = self.text_or_none(Text::Detail, row)?;
        let traffic = detail.map(serde_json::from_str).transpose();
        traffic.map_err(|error| Flaw::Text(error.to_string()))
    }

    /// The first fact of the instance whose state a row carries, and what is under way by it.
    pub(super) fn opening(&self, row: usize) -> Result<(u64, Opening), Flaw> {
        let opening = Opening {
            fact: self.seq(row)?,
            at: Instant(self.number(Number::Meter, row)?),
            entered: self.entered(row)?,
            wakes: self.small(Number::Wakes, row)?,
            boot_began: Instant(self.number(Number::BootBegan, row)?),
        };
        Ok((self.number(Number::FirstFact, row)?.cast_unsigned(), opening))
    }
}
