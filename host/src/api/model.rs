//! What goes over the wire, in both directions. The command line reads with the same types that the daemon writes with.

mod settings;
mod snapshot;

pub use settings::*;
pub use snapshot::*;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Timelike};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::billing::Totals;
use crate::id::{Digest, InstanceId, InstanceName, TenantId, TokenId};
use crate::journal::wire::{ChainedFact, Command, ExitCause, Phase, Role, Rung, Standing};
use crate::limits;
use crate::policy::Profile;
use crate::units::Nanos;
use crate::vm;

/// A type as its text, without an allocation on the way out.
mod text {
    use std::borrow::Cow;
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'a, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'a>,
    {
        Cow::<str>::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The same for what may be absent.
mod text_option {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'a, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'a>,
    {
        use serde::Deserialize;
        use serde::de::Error;
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// An instant of the calendar: nanoseconds since 1970 in UTC; RFC 3339 with nine decimals in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.000000000Z")]
pub struct Timestamp(pub i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.to_rfc3339()).map_err(|_| fmt::Error)?)
    }
}

impl Timestamp {
    /// Digit by digit: an answer may hold tens of thousands of these. All years that there are have four.
    fn to_rfc3339(self) -> [u8; 30] {
        let at = DateTime::from_timestamp_nanos(self.0).naive_utc();
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let parts = [
            (0..4, at.year().unsigned_abs()),
            (5..7, at.month()),
            (8..10, at.day()),
            (11..13, at.hour()),
            (14..16, at.minute()),
            (17..19, at.second()),
            (20..29, at.nanosecond()),
        ];
        for (place, mut rest) in parts {
            for digit in text[place].iter_mut().rev() {
                *digit += (rest % 10) as u8;
                rest /= 10;
            }
        }
        text
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no instant; write it like 2026-01-31T12:00:00Z (RFC 3339, years 1678 to 2261)")]
pub struct UnknownInstant(pub String);

impl FromStr for Timestamp {
    type Err = UnknownInstant;
    fn from_str(text: &str) -> Result<Self, UnknownInstant> {
        let parsed = DateTime::parse_from_rfc3339(text).ok().and_then(|instant| instant.timestamp_nanos_opt());
        parsed.map(Timestamp).ok_or_else(|| UnknownInstant(text.chars().take(80).collect()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(str::from_utf8(&self.to_rfc3339()).map_err(serde::ser::Error::custom)?)
    }
}

impl<'a> Deserialize<'a> for Timestamp {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        text::deserialize(from)
    }
}

/// A number for each phase; those that are zero are missing in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ToSchema)]
#[schema(value_type = std::collections::HashMap<String, u64>, example = json!({"running": 60000, "standby": 300000}))]
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

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum InstanceState {
    /// Accepted; no vCPU has run yet.
    Created,
    /// The vCPUs run, the guest is not ready yet.
    Initializing,
    /// The guest is ready.
    Running,
    /// The vCPUs are held.
    Paused,
    /// The guest was asked to stop.
    Shutdown,
    /// Nothing runs and nothing is kept.
    Stopped,
    /// Memory is on disk.
    Standby,
    /// Nothing proves what happened.
    Unknown,
    /// The record is closed.
    Deleted,
}

impl InstanceState {
    /// Every state.
    pub const ALL: [InstanceState; 9] = [
        InstanceState::Created,
        InstanceState::Initializing,
        InstanceState::Running,
        InstanceState::Paused,
        InstanceState::Shutdown,
        InstanceState::Stopped,
        InstanceState::Standby,
        InstanceState::Unknown,
        InstanceState::Deleted,
    ];

    /// The name in JSON, such as `Running`.
    pub fn as_str(self) -> &'static str {
        match self {
            InstanceState::Created => "Created",
            InstanceState::Initializing => "Initializing",
            InstanceState::Running => "Running",
            InstanceState::Paused => "Paused",
            InstanceState::Shutdown => "Shutdown",
            InstanceState::Stopped => "Stopped",
            InstanceState::Standby => "Standby",
            InstanceState::Unknown => "Unknown",
            InstanceState::Deleted => "Deleted",
        }
    }

    /// The phase of that name; none once deleted.
    pub fn phase(self) -> Option<vm::Phase> {
        match self {
            InstanceState::Created => Some(vm::Phase::Created),
            InstanceState::Initializing => Some(vm::Phase::Initializing),
            InstanceState::Running => Some(vm::Phase::Running),
            InstanceState::Paused => Some(vm::Phase::Paused),
            InstanceState::Shutdown => Some(vm::Phase::Shutdown),
            InstanceState::Stopped => Some(vm::Phase::Stopped),
            InstanceState::Standby => Some(vm::Phase::Standby),
            InstanceState::Unknown => Some(vm::Phase::Unknown),
            InstanceState::Deleted => None,
        }
    }
}

impl From<vm::State> for InstanceState {
    fn from(state: vm::State) -> Self {
        match state {
            vm::State::Created => InstanceState::Created,
            vm::State::Initializing => InstanceState::Initializing,
            vm::State::Running => InstanceState::Running,
            vm::State::Paused { .. } => InstanceState::Paused,
            vm::State::Shutdown => InstanceState::Shutdown,
            vm::State::Standby { .. } => InstanceState::Standby,
            vm::State::Stopped => InstanceState::Stopped,
            vm::State::Unknown => InstanceState::Unknown,
            vm::State::Deleted => InstanceState::Deleted,
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no state; states are {list}",
    list = InstanceState::ALL.map(InstanceState::as_str).join(", ")
)]
pub struct UnknownState(pub String);

impl FromStr for InstanceState {
    type Err = UnknownState;
    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let known = Self::ALL.into_iter().find(|state| state.as_str().eq_ignore_ascii_case(text));
        known.ok_or_else(|| UnknownState(text.chars().take(80).collect()))
    }
}

/// What to create.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInstance {
    /// 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit; unique among the tenant's instances that are not deleted.
    #[schema(example = "web-1")]
    pub name: String,
    /// The image to boot.
    #[schema(example = "debian-busybox")]
    pub image: String,
    /// Virtual processors, 1 to 64.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// Guest memory such as `512MB` or `2G`, in powers of 1,024; the image's least if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Guest memory in bytes, instead of `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Appended to the image's kernel command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    /// Extra disks in the order in which the guest sees them; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskRequest>,
    /// Free labels; at most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The image has no agent: it is ready when its program has started.
    #[serde(default)]
    pub skip_guest_agent: bool,
    /// How long a stop waits for the guest before it ends it by force, in milliseconds; 5,000 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace_ms: Option<u64>,
    /// Which hypervisor; the host's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    /// Up to which its memory may be resized while it runs, in bytes; not at all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
    /// How it is started again after an end that nobody asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// How to find out whether its workload is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// When it goes to standby by itself; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_standby: Option<AutoStandby>,
    /// Its time is over so long from now, such as `1h30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Its time is over then, instead of `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What happens when its time is over; it is deleted if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_action: Option<ExpiryAction>,
}

fn one() -> u32 {
    1
}

/// A raw disk image on the daemon's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskRequest {
    /// Absolute path.
    pub path: String,
    /// The guest may not write.
    #[serde(default)]
    pub read_only: bool,
}

/// Options of a stop or a deletion.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StopOptions {
    /// How long to wait for the guest before it is ended by force, in milliseconds; the instance's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

/// Options of a command that has none.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

/// A virtual machine.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Chosen by the host.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub id: InstanceId,
    /// Chosen by the client.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub name: InstanceName,
    /// Whose it is.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The image it was made from.
    pub image: String,
    /// Where it stands.
    pub state: InstanceState,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
    /// The commands that lead somewhere from here.
    pub legal: Vec<Command>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its vCPUs first ran in this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it stopped or went to standby last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// Why it stopped last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_cause: Option<ExitCause>,
    /// When its record was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// Exit code that the guest's program reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What it said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_message: Option<String>,
    /// Whether its memory is on disk, to be restored.
    pub has_snapshot: bool,
    /// Which hypervisor runs it.
    pub hypervisor: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory, such as `512MB`, in powers of 1,024.
    pub size: String,
    /// The same in bytes.
    pub memory_bytes: u64,
    /// Sum of its writable disks in bytes.
    pub disk_bytes: u64,
    /// Bytes on disk for the memory of a standby and for the snapshots that are kept.
    pub snapshot_bytes: u64,
    /// How it is started again after an end that nobody asked for.
    pub restart_policy: RestartPolicy,
    /// Where that stands; absent without such a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_status: Option<RestartStatus>,
    /// How it is found out whether its workload is well; absent if it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// What is known of its workload; absent if it is not asked, or nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// When it goes to standby by itself; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_standby: Option<AutoStandby>,
    /// Since when it may turn out to have been idle; absent if nobody looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
    /// When its time is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What happens then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_action: Option<ExpiryAction>,
    /// Number of the start under way or last, from 1; 0 for a fork that was never started.
    pub session: u32,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The phase under which time counts now, as the policy sees it; absent before the first fact and after the deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_phase: Option<Phase>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_phase_since: Option<Timestamp>,
    /// Milliseconds in each phase up to now, or in the answer of a command up to what it did; absent before the first fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase_durations_ms: Option<PerPhase>,
    /// Digest of the policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub policy: Digest,
    /// How its time is accounted.
    pub accounting: Accounting,
}

/// How the time of an instance is accounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accounting {
    /// Whether the policy in force answers.
    pub status: AccountingStatus,
    /// What it did instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether the policy in force answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccountingStatus {
    /// It does.
    Ok,
    /// It does not: these are the standard policy's figures, and the time is accounted again once it does.
    Degraded,
}

/// The answer of a wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waited {
    /// Where the instance stands.
    pub state: InstanceState,
    /// Whether the time ran out before the state was reached.
    pub timed_out: bool,
    /// Why the state was not reached and won't be, if that is so: the instance stopped or was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
}

/// What an instance holds during an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shape {
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// Writable disks in bytes.
    pub disk_bytes: u64,
    /// Bytes on disk for the memory of a standby and for the snapshots that are kept.
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
    /// What the instance was doing.
    pub phase: Phase,
    /// First instant inside.
    pub start: Timestamp,
    /// First instant after; the instant of the response if `open`.
    pub end: Timestamp,
    /// `start` on the meter clock.
    pub start_ns: i64,
    /// `end` on the meter clock.
    pub end_ns: i64,
    /// `end_ns` less `start_ns`.
    pub duration_ns: u64,
    /// Whether it still goes on.
    pub open: bool,
    /// The policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub policy: Digest,
    /// What the instance held.
    pub shape: Shape,
    /// Number of the start that it belongs to.
    pub session: u32,
    /// Why it stopped, in a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<ExitCause>,
}

/// The whole time of an instance, and the proof that nothing is missing and nothing is counted twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Intervals {
    /// The instance.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub instance: InstanceId,
    /// What a person calls it.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub name: InstanceName,
    /// Whose it is.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Its intervals, in order; each begins where the one before ends.
    pub intervals: Vec<Interval>,
    /// Nanoseconds in each phase, from the intervals.
    pub totals_ns: PerPhase,
    /// The proof for them.
    pub proof: Proof,
    /// What the policies made of the same time.
    pub accounted: Accounted,
}

/// Two ways to the same number: the sum of the parts, and the end less the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proof {
    /// Sum of all parts in nanoseconds.
    pub sum_ns: u64,
    /// Last instant less first instant in nanoseconds.
    pub lifetime_ns: u64,
    /// `sum_ns` less `lifetime_ns`: zero, or something is wrong.
    pub difference_ns: i64,
}

impl Proof {
    /// Compares a sum with a lifetime. What does not fit 64 bits is cut off at their end; it would be 584 years.
    pub fn new(sum_ns: u128, lifetime_ns: u64) -> Self {
        let sum_ns = u64::try_from(sum_ns).unwrap_or(u64::MAX);
        let difference = i128::from(sum_ns) - i128::from(lifetime_ns);
        let difference_ns = i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX });
        Self { sum_ns, lifetime_ns, difference_ns }
    }
}

/// What the policies made of an instance's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accounted {
    /// Up to when.
    pub at: Timestamp,
    /// Nanoseconds under each phase, as the policies count them.
    pub totals_ns: PerPhase,
    /// The proof that they have neither lost nor made time.
    pub proof: Proof,
}

/// A component that was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// SHA-256 of its bytes: its name.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// `policy` if it accounts and rates, `rater` if it rates only; empty while it is examined.
    pub world: String,
    /// Which bounds it runs under: `compact` or `large`.
    #[serde(default = "compact")]
    pub profile: String,
    /// It is the one inside this program.
    pub standard: bool,
    /// Where it stands with the tenant; absent if they have nothing to do with each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Standing>,
    /// When it was admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted_at: Option<Timestamp>,
    /// How long the compiler took, in milliseconds; 0 if it was known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_ms: Option<u64>,
    /// How it did on the golden vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTest>,
}

fn compact() -> String {
    Profile::Compact.to_string()
}

/// How a policy did on the golden vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SelfTest {
    /// Vectors asked.
    pub vectors: u64,
    /// Most fuel that a single transition took.
    pub enter_fuel: u64,
    /// Most fuel that a single snapshot took.
    pub snapshot_fuel: u64,
    /// Fuel of all vectors in one batch of transitions.
    pub enter_all_fuel: u64,
    /// Fuel of all vectors in one batch of snapshots.
    pub snapshot_all_fuel: u64,
}

/// What every policy may cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyLimits {
    /// Largest component in bytes.
    pub component_bytes_max: u64,
    /// Most functions in a component.
    pub functions_max: u64,
    /// Largest custom section in bytes.
    pub custom_section_bytes_max: u64,
    /// Linear memory of a call in bytes.
    pub memory_bytes_max: u64,
    /// Table elements of a call.
    pub table_elements_max: u64,
    /// Stack of a call in bytes.
    pub stack_bytes_max: u64,
    /// Fuel of an accounting call before its items.
    pub fuel_base: u64,
    /// Fuel for each of its items.
    pub fuel_per_item: u64,
    /// Fuel of a rating call before its intervals.
    pub rating_fuel_base: u64,
    /// Fuel for each of its intervals.
    pub rating_fuel_per_interval: u64,
    /// Most items in one call.
    pub batch_items_max: u64,
    /// Wall clock of a call in milliseconds, as a backstop.
    pub deadline_ms: u64,
    /// Faults in a row after which a policy is no longer asked for a tenant.
    pub faults_in_a_row_max: u64,
}

impl PolicyLimits {
    /// Those of a profile. Accounting calls have the same in both: in profile large there are none.
    pub fn of(profile: Profile) -> PolicyLimits {
        let bounds = profile.bounds();
        PolicyLimits {
            component_bytes_max: bounds.component_bytes_max as u64,
            functions_max: bounds.functions_max.into(),
            custom_section_bytes_max: bounds.custom_section_bytes_max as u64,
            memory_bytes_max: bounds.memory_bytes_max as u64,
            table_elements_max: bounds.table_elements_max as u64,
            stack_bytes_max: bounds.stack_bytes_max as u64,
            fuel_base: limits::policy::FUEL_BASE,
            fuel_per_item: limits::policy::FUEL_PER_ITEM,
            rating_fuel_base: bounds.rating_fuel_base,
            rating_fuel_per_interval: bounds.rating_fuel_per_interval,
            batch_items_max: limits::policy::BATCH_ITEMS_MAX as u64,
            deadline_ms: bounds.deadline_ticks * limits::policy::TICK_MS,
            faults_in_a_row_max: limits::policy::FAULTS_IN_A_ROW_MAX.into(),
        }
    }
}

/// All policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policies {
    /// The standard policy first.
    pub policies: Vec<Policy>,
    /// What each of profile compact may cost.
    pub limits: PolicyLimits,
    /// What each of profile large may cost.
    pub large: PolicyLimits,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyDetails {
    /// The policy.
    #[serde(flatten)]
    pub policy: Policy,
    /// The last facts about it and the tenant, newest first: by whom, when and why.
    pub history: Vec<ChainedFact>,
    /// What it may cost.
    pub limits: PolicyLimits,
}

/// A request to put a tenant under a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// The policy's digest, the digest's unique beginning, or `standard`.
    pub digest: String,
    /// From when on; now if absent or past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Whether it is meant that a policy comes back which was in force before, or was quarantined.
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
    /// Why, for the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Refuse if its trial differs by more than this in all, up or down, over all tenants it is tried for: an amount in the currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_net: Option<String>,
    /// Refuse if its trial differs by more than this for any one of those tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tenant: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A request to put the policy before the present one in force again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Why, for the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A request to try a policy beside the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowRequest {
    /// The policy's digest, the digest's unique beginning, or `standard`.
    pub digest: String,
    /// Why, for the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The time of a tenant's instances since a trial began, counted twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowReport {
    /// The policy that is tried.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub active: Digest,
    /// When the trial began.
    pub since: Timestamp,
    /// Up to when was counted.
    pub until: Timestamp,
    /// Instances of the tenant that are not deleted.
    pub instances: u64,
    /// Those whose time both have counted.
    pub compared: u64,
    /// Those for which they differ.
    pub differing: u64,
    /// Nanoseconds in each phase by the policies in force, of all that were compared.
    pub active_ns: PerPhase,
    /// The same by the policy that is tried.
    pub candidate_ns: PerPhase,
    /// Where they differ most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<ShadowWorst>,
    /// Fuel that the policy that is tried took.
    pub fuel: u64,
    /// Instances at which it failed.
    pub faults: u64,
    /// The first failure, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What both would charge by the tenant's prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<ShadowMoney>,
    /// Why there is nothing about money, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrated: Option<String>,
}

/// What two policies charge for the same time. Amounts are exact, and in `currency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowMoney {
    /// ISO 4217 code; `XXX` without prices.
    pub currency: String,
    /// What the policies in force come to.
    pub active: String,
    /// What the policy that is tried comes to.
    pub candidate: String,
    /// How much more that is; less than nothing if it charges less.
    pub net: String,
    /// Where they differ, the largest difference first: the worst case is the first one. At most 1,000.
    pub instances: Vec<ShadowWorth>,
    /// Fuel that the policy that is tried took to rate.
    pub fuel: u64,
}

/// What two policies charge for one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowWorth {
    /// Its id; null for what is charged to the tenant as a whole.
    pub instance: Option<String>,
    /// What the policies in force come to.
    pub active: String,
    /// What the policy that is tried comes to.
    pub candidate: String,
}

/// The instance for which two policies differ most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowWorst {
    /// Its id.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub instance: InstanceId,
    /// What a person calls it.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub name: InstanceName,
    /// Nanoseconds that stand under another phase.
    pub moved_ns: u64,
    /// Nanoseconds in each phase by the policies in force.
    pub active_ns: PerPhase,
    /// The same by the policy that is tried.
    pub candidate_ns: PerPhase,
}

/// Where a policy stands with a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyStanding {
    /// The policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Where it stands.
    pub state: Standing,
}

/// A tenant was put under a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Activated {
    /// Whose rules.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Effective instant.
    pub from: Timestamp,
    /// The same on the meter clock.
    pub from_ns: i64,
    /// Sequence number of the journal's fact.
    pub fact: u64,
    /// Whether this was done before, by an earlier try of the same request.
    #[serde(default)]
    pub repeated: bool,
    /// The policy that answered a probe after the change; absent for one that is to come.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub answered_by: Option<Digest>,
}

/// A policy and the instant from which on it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Activation {
    /// The policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// From when on.
    pub from: Timestamp,
    /// The same on the meter clock.
    pub from_ns: i64,
}

/// A policy that failed too often in a row to be asked any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantined {
    /// The policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// How often it failed, one time after the other.
    pub faults: u32,
    /// Whether somebody should look at it: it is in force still, or another one was put in its place without anybody's doing.
    pub alert: bool,
    /// What it did last, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The policy that accounts what this one owes; absent while it is held.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stand_in: Option<Digest>,
}

/// Under which policy a tenant's time counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantPolicy {
    /// Whose rules.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The one that a rollback puts in force again.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub previous: Option<Digest>,
    /// All activations up to now, ascending.
    pub activations: Vec<Activation>,
    /// Those that are to come.
    pub planned: Vec<Activation>,
    /// Policies that are not asked any more because they failed.
    pub quarantined: Vec<Quarantined>,
    /// What is tried when the policy in force is quarantined, in this order.
    pub fallback: Vec<Rung>,
    /// Where every policy stands that the tenant has to do with.
    pub policies: Vec<PolicyStanding>,
}

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.
    #[schema(example = "acme")]
    pub id: String,
}

/// How much a tenant may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantLimits {
    /// Instances that are not deleted.
    pub instances: u64,
    /// Their virtual processors, added up.
    pub vcpus: u64,
    /// Their memory in bytes, added up.
    pub memory_bytes: u64,
    /// Policies that it has.
    pub policies: u64,
    /// Requests in a second, on average; twice as many may come at once.
    pub requests_per_s: u64,
    /// Fuel that its policies burn in a minute, on average.
    pub fuel_per_minute: u64,
}

/// Who is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Its id.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub id: TenantId,
    /// When it was made.
    pub created_at: Timestamp,
    /// How much it may have.
    pub limits: TenantLimits,
    /// Instances that it has.
    pub instances: u64,
    /// Their virtual processors, added up.
    pub vcpus: u64,
    /// Their memory in bytes, added up.
    pub memory_bytes: u64,
    /// Policies that it has, the standard one included.
    pub policies: u64,
    /// Fuel that its policies have burned since the daemon's start.
    pub fuel: u64,
    /// What is tried when its policy is quarantined, in this order.
    pub fallback: Vec<Rung>,
    /// Digest of the policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub policy: Digest,
    /// Quarantined policies that somebody should look at.
    pub alerts: u64,
}

/// What is done when a tenant's policy fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// What is tried, in this order; the first that can be done is.
    pub ladder: Vec<Rung>,
}

/// A token to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// For people, 1 to 63 characters.
    #[schema(example = "ci")]
    pub name: String,
    /// What it will be good for.
    pub role: Role,
    /// Whose it will be; the asker's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// For how long, in seconds, at most 366 days; 90 days if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// 24 hexadecimal digits.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub id: TokenId,
    /// Whose it is.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// What a person calls it.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// Whether it is good.
    pub status: TokenStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom: `host`, `operator`, `token:<id>` or `jwt:<subject>`.
    pub created_by: String,
    /// First instant at which it is no good any more.
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// Whether a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenStatus {
    /// It is.
    Good,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

/// A token that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// What is sent as `Authorization: Bearer <secret>`. Shown this once.
    pub secret: String,
    /// The token.
    #[serde(flatten)]
    pub token: Token,
}

/// The end of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalHead {
    /// Sequence number of the last fact; 0 if there is none.
    pub seq: u64,
    /// Its link in the hash chain: 64 hexadecimal digits.
    pub hash: String,
}

/// The daemon serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// Quarantined policies that somebody should look at, of all tenants; `GET /tenants/{id}/policy` says which.
    pub alerts: u64,
    /// The end of the journal.
    pub journal: JournalHead,
    /// Folders of instances that the journal did not know: they were moved into the data folder's
    /// `set-aside`, and lie there until an operator removes them.
    pub set_aside: u64,
}

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_instant_is_written_as_the_calendar_writes_it(nanos: i64) {
            let written = DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::Nanos, true);
            prop_assert_eq!(Timestamp(nanos).to_string(), written);
        }
    }

    #[test]
    fn instants_have_nine_decimals_and_are_read_back_exactly() {
        for nanos in [0, 1, 1_700_000_000_123_456_789, -1, i64::MAX, i64::MIN] {
            let text = Timestamp(nanos).to_string();
            assert_eq!(text.parse(), Ok(Timestamp(nanos)), "{text}");
            assert_eq!(text.split_once('.').expect("a point").1.len(), "123456789Z".len());
        }
        assert_eq!(Timestamp(1_700_000_000_123_456_789).to_string(), "2023-11-14T22:13:20.123456789Z");
    }

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
    fn every_state_has_the_name_that_the_core_gives_it() {
        for state in vm::State::ALL {
            let shown = InstanceState::from(state);
            assert_eq!(shown.as_str(), state.as_str());
            assert_eq!(shown.phase(), state.phase());
            assert_eq!(serde_json::to_string(&shown).expect("json"), format!("\"{}\"", state.as_str()));
            assert_eq!(state.as_str().parse(), Ok(shown));
        }
    }

    #[test]
    fn a_proof_shows_a_missing_nanosecond_and_one_too_many() {
        assert_eq!(Proof::new(10, 10).difference_ns, 0);
        assert_eq!(Proof::new(9, 10).difference_ns, -1);
        assert_eq!(Proof::new(11, 10).difference_ns, 1);
        assert_eq!(Proof::new(u128::MAX, 0).difference_ns, i64::MAX);
    }
}
