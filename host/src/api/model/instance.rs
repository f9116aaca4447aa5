//! Instances: requests about them, and how they are shown.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AutoStandby, ExpiryAction, HealthCheck, HealthStatus, PerPhase, RestartPolicy, RestartStatus,
    Timestamp, text,
};
use crate::id::{Digest, InstanceId, InstanceName, TenantId};
use crate::journal::wire::{Command, ExitCause, Phase};
use crate::vm;

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
    /// 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit; unique among the
    /// tenant's instances that are not deleted.
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
    /// How long a stop waits for the guest before it ends it by force, in milliseconds; 5,000 if
    /// absent.
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
    /// How long to wait for the guest before it is ended by force, in milliseconds; the instance's
    /// own if absent.
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
    /// The phase under which time counts now, as the policy sees it; absent before the first fact
    /// and after the deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_phase: Option<Phase>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_phase_since: Option<Timestamp>,
    /// Milliseconds in each phase up to now, or in the answer of a command up to what it did;
    /// absent before the first fact.
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
    /// It does not: these are the standard policy's figures, and the time is accounted again once
    /// it does.
    Degraded,
}

/// The answer of a wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waited {
    /// Where the instance stands.
    pub state: InstanceState,
    /// Whether the time ran out before the state was reached.
    pub timed_out: bool,
    /// Why the state was not reached and won't be, if that is so: the instance stopped or was
    /// deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
}

/// How much memory an instance is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeInstance {
    /// Guest memory such as `512MB` or `2G`, in powers of 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// The same in bytes, instead of `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// What the process of an instance uses of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceStats {
    /// The instance.
    #[serde(with = "super::text")]
    #[schema(value_type = String)]
    pub instance_id: crate::id::InstanceId,
    /// What a person calls it.
    #[serde(with = "super::text")]
    #[schema(value_type = String)]
    pub instance_name: crate::id::InstanceName,
    /// Processor time of its virtual machine monitor since the launch, in nanoseconds; 0 while
    /// there is none.
    pub cpu_ns: u64,
    /// In which steps that is counted, in nanoseconds.
    pub cpu_resolution_ns: u64,
    /// The monitor's memory that is present in the host's, in bytes; 0 while there is none.
    pub memory_rss_bytes: u64,
    /// The monitor's address space, in bytes; 0 while there is none.
    pub memory_vms_bytes: u64,
    /// Guest memory in bytes.
    pub allocated_memory_bytes: u64,
    /// Virtual processors.
    pub allocated_vcpus: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_the_name_that_the_core_gives_it() {
        for state in vm::State::ALL {
            let shown = InstanceState::from(state);
            assert_eq!(shown.as_str(), state.as_str());
            assert_eq!(shown.phase(), state.phase());
            assert_eq!(
                serde_json::to_string(&shown).expect("json"),
                format!("\"{}\"", state.as_str())
            );
            assert_eq!(state.as_str().parse(), Ok(shown));
        }
    }
}
