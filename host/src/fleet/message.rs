//! The messages between a host and its collector.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::billing::{BootId, Reading};
use crate::id::{Digest, IdError, InstanceId, InstanceName};
use crate::journal::{FactHash, Head};
use crate::limits::fleet as limits;
use crate::units::Instant;

/// Version of the messages' form.
pub(super) const FORM: u32 = 1;

/// A place in a host's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FleetPlace)]
pub struct Place {
    /// Sequence number of the fact; 0 before the first.
    pub seq: u64,
    /// Link of that fact: 64 hexadecimal digits.
    pub hash: String,
}

/// Facts of a host, and how its clocks stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FleetBatch)]
pub struct Batch {
    /// Version of this form.
    pub form: u32,
    /// The fact before the first one of `facts`.
    pub after: Place,
    /// The texts of the facts, exactly as they were hashed; may be empty.
    pub facts: Vec<String>,
    /// The instances of these facts.
    pub instances: Vec<Instance>,
    /// The end of the host's journal at `clock`.
    pub end: Place,
    /// The end of the collector, if that lies beyond the host's: facts that the host has lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Place>,
    /// A reading of the host's clocks before which everything is in the journal up to `end`.
    pub clock: ClockReading,
}

/// The name and tags of an instance, which are in no fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FleetInstance)]
pub struct Instance {
    /// Id of the instance.
    #[schema(value_type = String)]
    pub id: InstanceId,
    /// Name of the instance.
    #[schema(value_type = String)]
    pub name: InstanceName,
    /// Tags of the instance, by name.
    pub tags: Vec<(String, String)>,
}

/// A reading of a host's clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockReading {
    /// Boot id of the host.
    pub boot: String,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME` in nanoseconds since 1970.
    pub wall_ns: i64,
    /// The meter clock in nanoseconds.
    pub meter_ns: i64,
}

/// The answer of a collector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FleetAnswer)]
pub struct Answer {
    /// The last fact that the collector has of the host, on its disk. The host goes on from there,
    /// be it before what was sent or after.
    pub head: Place,
}

/// A batch that is none of this form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedBatch {
    /// It is of another form.
    #[error("the batch has form {0}, and this collector knows form {FORM}; update one of the two")]
    Form(u32),
    /// A link is no SHA-256.
    #[error("a link of the batch: {0}")]
    Link(#[from] IdError),
    /// It has more facts than [`BATCH_FACTS`](limits::BATCH_FACTS).
    #[error("the batch has {0} facts, more than are taken at once")]
    Facts(usize),
}

impl From<Head> for Place {
    fn from(head: Head) -> Self {
        Self { seq: head.seq, hash: head.hash.to_string() }
    }
}

impl Place {
    /// The place as the journal knows it.
    ///
    /// # Errors
    /// [`IdError`] if the link is not 64 hexadecimal digits.
    pub fn head(&self) -> Result<Head, IdError> {
        let link: Digest = self.hash.parse()?;
        Ok(Head { seq: self.seq, hash: FactHash(link.0) })
    }
}

impl From<&Reading> for ClockReading {
    fn from(reading: &Reading) -> Self {
        Self {
            boot: reading.boot.0.as_ref().into(),
            boottime_ns: reading.boottime_ns,
            wall_ns: reading.wall_ns,
            meter_ns: reading.meter.0,
        }
    }
}

impl From<&ClockReading> for Reading {
    fn from(read: &ClockReading) -> Self {
        Self {
            boot: BootId(read.boot.as_str().into()),
            boottime_ns: read.boottime_ns,
            wall_ns: read.wall_ns,
            meter: Instant(read.meter_ns),
        }
    }
}

impl Batch {
    /// Checks the form of a batch.
    ///
    /// # Errors
    /// [`MalformedBatch`].
    pub(super) fn check(&self) -> Result<(), MalformedBatch> {
        match (self.form, self.facts.len()) {
            (FORM, ..=limits::BATCH_FACTS) => Ok(()),
            (FORM, facts) => Err(MalformedBatch::Facts(facts)),
            (form, _) => Err(MalformedBatch::Form(form)),
        }
    }
}
