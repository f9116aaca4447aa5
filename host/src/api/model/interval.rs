//! The time of an instance: its intervals, their sums, and the proof that these agree.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Timestamp, text};
use crate::billing::Totals;
use crate::id::{Digest, InstanceId, InstanceName, TenantId};
use crate::journal::wire::{ExitCause, Phase};
use crate::units::Nanos;
use crate::vm;

/// A number for each phase. Zeros are absent in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ToSchema)]
#[schema(
    value_type = std::collections::HashMap<String, u64>,
    example = json!({"running": 60000, "standby": 300000}),
)]
pub struct PerPhase(pub [u64; vm::Phase::ALL.len()]);

impl PerPhase {
    /// Whole milliseconds, truncated once from the finished sums.
    pub fn millis(totals: &Totals) -> Self {
        Self(totals.0.map(|nanos| Nanos(nanos).as_millis_truncated()))
    }

    /// The entries that are not zero, in the order of the phases.
    pub fn entries(&self) -> impl Iterator<Item = (vm::Phase, u64)> {
        vm::Phase::ALL.into_iter().zip(self.0).filter(|(_, value)| *value != 0)
    }
}

impl From<&Totals> for PerPhase {
    fn from(totals: &Totals) -> Self {
        Self(totals.0)
    }
}

impl Serialize for PerPhase {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (phase, value) in self.entries() {
            map.serialize_entry(phase.as_str(), &value)?;
        }
        map.end()
    }
}

impl<'a> Deserialize<'a> for PerPhase {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'a> Visitor<'a> for Entries {
            type Value = PerPhase;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number for each phase")
            }
            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<PerPhase, A::Error> {
                let mut values = PerPhase::default();
                while let Some((phase, value)) = map.next_entry::<String, u64>()? {
                    let phase: vm::Phase = phase.parse().map_err(serde::de::Error::custom)?;
                    values.0[phase as usize] = value;
                }
                Ok(values)
            }
        }
        from.deserialize_map(Entries)
    }
}

/// The resources that an instance holds during an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shape {
    /// Number of virtual processors.
    pub vcpus: u32,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// Size of the writable disks in bytes.
    pub disk_bytes: u64,
    /// Size in bytes of the memory of a standby and of the snapshots that are kept, on disk.
    pub snapshot_bytes: u64,
}

impl From<vm::Shape> for Shape {
    fn from(shape: vm::Shape) -> Self {
        let vm::Shape { vcpus, memory_bytes, disk_bytes, snapshot_bytes } = shape;
        Self { vcpus, memory_bytes, disk_bytes, snapshot_bytes }
    }
}

/// Time in one phase, with one shape, under one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interval {
    /// Sequence number of the fact that opened it.
    pub fact: u64,
    /// The phase that the instance was in.
    pub phase: Phase,
    /// First instant inside.
    pub start: Timestamp,
    /// First instant after it; the instant of the response if `open`.
    pub end: Timestamp,
    /// `start` on the meter clock, in nanoseconds.
    pub start_ns: i64,
    /// `end` on the meter clock, in nanoseconds.
    pub end_ns: i64,
    /// Length in nanoseconds: `end_ns` less `start_ns`.
    pub duration_ns: u64,
    /// Set if the interval has not ended.
    pub open: bool,
    /// Digest of the policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub policy: Digest,
    /// The resources that the instance held.
    pub shape: Shape,
    /// Number of the start that it belongs to, from 1; 0 before the first start of a fork.
    pub session: u32,
    /// The cause of a stop; absent in other phases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<ExitCause>,
}

/// The time of an instance, or a page of it, and the proof that nothing is missing and nothing is
/// counted twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Intervals {
    /// The instance's id.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub instance: InstanceId,
    /// The instance's name.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub name: InstanceName,
    /// Id of the tenant that it belongs to.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The instance's intervals, in order; each begins where the one before it ends.
    pub intervals: Vec<Interval>,
    /// Value of `after` for the next page; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Nanoseconds in each phase, from these intervals.
    pub totals_ns: PerPhase,
    /// The proof that these intervals cover the time from the first to the last of them: the
    /// lifetime, if they are all.
    pub proof: Proof,
    /// The whole lifetime as the policies account it.
    pub accounted: Accounted,
}

/// Two independent computations of the same time: the sum of the parts, and the end less the
/// beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proof {
    /// Sum of all parts in nanoseconds.
    pub sum_ns: u64,
    /// Last instant less first instant in nanoseconds.
    pub lifetime_ns: u64,
    /// `sum_ns` less `lifetime_ns`. Anything but 0 is a defect.
    pub difference_ns: i64,
}

impl Proof {
    /// Compares a sum with a lifetime. Values are clamped to 64 bits, which hold 584 years.
    pub fn new(sum_ns: u128, lifetime_ns: u64) -> Self {
        let sum_ns = u64::try_from(sum_ns).unwrap_or(u64::MAX);
        let difference = i128::from(sum_ns) - i128::from(lifetime_ns);
        let difference_ns =
            i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX });
        Self { sum_ns, lifetime_ns, difference_ns }
    }
}

/// The time of an instance as the policies account it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accounted {
    /// The end of the time that is accounted, exclusive: the instant at which the request was
    /// answered, or that of the last fact if the instance is deleted.
    pub at: Timestamp,
    /// Nanoseconds under each phase, as the policies count them.
    pub totals_ns: PerPhase,
    /// The proof that the policies have neither lost nor added time.
    pub proof: Proof,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_without_time_are_missing() {
        let mut totals = Totals::default();
        totals.0[vm::Phase::Running as usize] = 61_999_999;
        totals.0[vm::Phase::Standby as usize] = 999_999;
        let json = serde_json::to_string(&PerPhase::millis(&totals)).expect("json");
        assert_eq!(json, r#"{"running":61}"#);
        let json = serde_json::to_string(&PerPhase::from(&totals)).expect("json");
        assert_eq!(json, r#"{"running":61999999,"standby":999999}"#);
        assert_eq!(serde_json::from_str::<PerPhase>(&json).expect("read"), PerPhase::from(&totals));
    }

    #[test]
    fn a_proof_shows_a_missing_nanosecond_and_one_too_many() {
        assert_eq!(Proof::new(10, 10).difference_ns, 0);
        assert_eq!(Proof::new(9, 10).difference_ns, -1);
        assert_eq!(Proof::new(11, 10).difference_ns, 1);
        assert_eq!(Proof::new(u128::MAX, 0).difference_ns, i64::MAX);
    }
}
