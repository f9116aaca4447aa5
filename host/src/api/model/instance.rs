//! Instances: the bodies of requests and of answers about them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AutoStandby, ExpiryAction, HealthCheck, HealthReport, HealthStatus, PerPhase, RestartPolicy,
    RestartStatus, SnapshotPolicy, Timestamp, text,
};
use crate::id::{Digest, InstanceId, InstanceName, TenantId};
use crate::journal::wire::{Command, ExitCause, Phase};
use crate::vm;

/// The state of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum InstanceState {
    /// Accepted; no vCPU has run yet.
    Created,
    /// The vCPUs run; the guest is not ready yet.
    Initializing,
    /// The guest is ready.
    Running,
    /// The vCPUs are held.
    Paused,
    /// The guest was asked to stop and has not ended yet.
    Shutdown,
    /// Nothing runs, and no memory is kept.
    Stopped,
    /// Nothing runs; the memory is on disk.
    Standby,
    /// The daemon has no evidence of the present state.
    Unknown,
    /// The instance is deleted and its record closed.
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

/// A text that is not the name of a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a state; states are {list}",
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

/// The instance to create.
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
    /// Number of virtual processors, 1 to 64; 1 if absent.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// Guest memory such as `512MB` or `2G`, in powers of 1,024, up to 1 TiB; the image's minimum
    /// if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Guest memory in bytes, instead of `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Text appended to the image's kernel command line; at most 2,047 bytes in all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    /// Extra disks in the order in which the guest sees them; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskRequest>,
    /// Labels, by name; at most 64, each name and value of 1 to 256 bytes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Set for an image without an agent: the instance is ready when its program has started.
    #[serde(default)]
    pub skip_guest_agent: bool,
    /// Time that a stop gives the guest before it is ended by force, in milliseconds; 5,000 if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace_ms: Option<u64>,
    /// Name of the hypervisor, as `GET /capabilities` lists it; the host's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    /// Most memory to which it can be resized while it runs, in bytes; if absent, it can be resized
    /// only while stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
    /// The restart policy after ends that no client asked for; never restarted if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// The health check of its workload; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// The condition under which it goes to standby on its own; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_standby: Option<AutoStandby>,
    /// Time from now until it expires, such as `1h30m`; it never expires without `ttl` and
    /// `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Instant at which it expires, later than now, instead of `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The action at expiry; `delete` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_action: Option<ExpiryAction>,
    /// The program and its first arguments, instead of the OCI image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Further arguments, instead of the OCI image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Variables beside the OCI image's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Size of its own disk above the OCI image's file system, such as `10GB`; 1 GiB if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay_size: Option<String>,
    /// The platform of the OCI image, `linux/amd64`, with a variant if wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Memory beyond `size` to which it can be resized while it runs, such as `1GB`, instead of
    /// `memory_bytes_max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotplug_size: Option<String>,
    /// Ignored: no guest gets the headers of its kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_kernel_headers: Option<bool>,
    /// The compression of what a standby writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_policy: Option<SnapshotPolicy>,
    /// Limit of the disks' bandwidth. Not supported: it has to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_io_bps: Option<String>,
    /// Volumes. Not supported: it has to be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<serde_json::Value>,
    /// Devices of the host. Not supported: it has to be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// A graphics processor. Not supported: it has to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<serde_json::Value>,
    /// Secrets that the host puts into requests. Not supported: it has to be empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, serde_json::Value>,
    /// The guest's network; if absent, it has one where the host and the hypervisor can give it
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkRequest>,
}

/// The network of an instance to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkRequest {
    /// Set if the guest is to have a network; true if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Most that the guest may send, such as `10Mbps` or `125MB/s`, from 64Kbps to 100Gbps; no
    /// limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10Mbps")]
    pub bandwidth_upload: Option<String>,
    /// Most that the guest may receive; no limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "1Gbps")]
    pub bandwidth_download: Option<String>,
    /// The places that the guest may send to; all that is not closed if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
}

/// The rules for what a guest sends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// A proxy of the host for what the guest sends. Not supported: false or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The rules of that proxy, which are not looked at without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<serde_json::Value>,
    /// The only places that the guest may send to, at most 64; an empty list is none at all, and
    /// without a list it is all that is not closed. Name servers have to be on it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<AllowedPlace>>,
}

/// A place that a guest may send to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowedPlace {
    /// An IPv4 network, or a single address.
    #[schema(example = "192.0.2.0/24")]
    pub cidr: String,
    /// `tcp`, `udp` or `icmp`; every protocol if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "tcp")]
    pub protocol: Option<String>,
    /// A port, or the first and the last one, of TCP or UDP; every port if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "8000-8010")]
    pub ports: Option<String>,
}

/// The network of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkState {
    /// Set if the guest has a network. Without one, nothing else is there.
    pub enabled: bool,
    /// Name of the network: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The guest's IPv4 address. No other instance of the host has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10.213.0.1")]
    pub ip: Option<String>,
    /// Address of its network card, the same for every guest: each is alone on its link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "02:54:4c:59:00:02")]
    pub mac: Option<String>,
    /// Most that the guest may send; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10Mbps")]
    pub bandwidth_upload: Option<String>,
    /// Most that the guest may receive; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "1Gbps")]
    pub bandwidth_download: Option<String>,
    /// The places that the guest may send to; absent if they are all that is not closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
}

fn one() -> u32 {
    1
}

/// A raw disk image on the daemon's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskRequest {
    /// Absolute path of the file.
    pub path: String,
    /// Set if the guest may not write.
    #[serde(default)]
    pub read_only: bool,
}

/// Options of a stop or a deletion.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StopOptions {
    /// Time that the guest gets before it is ended by force, in milliseconds; the instance's
    /// `stop_grace_ms` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

/// Options of a deletion.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteOptions {
    /// Time that the guest gets before it is ended by force, in milliseconds, with
    /// `graceful_shutdown`; the instance's `stop_grace_ms` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// Set to ask a guest that runs to stop first; it is ended by force if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_shutdown: Option<bool>,
}

/// Options of a start.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartOptions {
    /// The program and its first arguments from now on, instead of the OCI image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Further arguments from now on, instead of the OCI image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
}

/// The empty body of a command without options.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

/// A virtual machine.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// The instance's id, chosen by the host; unique for good.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub id: InstanceId,
    /// The instance's name, chosen by the client; unique among the tenant's instances that are not
    /// deleted.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub name: InstanceName,
    /// Id of the tenant that it belongs to.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Name of the image that it was made from.
    pub image: String,
    /// The present state.
    pub state: InstanceState,
    /// The last failure, in words; absent if there was none, or a later command has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
    /// The commands that are legal in this state.
    pub legal: Vec<Command>,
    /// Instant at which its creation was accepted.
    pub created_at: Timestamp,
    /// Instant at which its vCPUs first ran in this session; absent before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Instant at which it last stopped or went to standby; absent before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// The cause of its last stop; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_cause: Option<ExitCause>,
    /// Instant at which it was deleted; absent before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// Exit code that the guest's program reported; absent if it reported none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Text that the guest's program reported with the exit code; absent if it reported none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_message: Option<String>,
    /// Set while its memory is on disk, to be restored: in standby.
    pub has_snapshot: bool,
    /// Name of the hypervisor that runs it.
    pub hypervisor: String,
    /// Number of virtual processors.
    pub vcpus: u32,
    /// Guest memory, such as `512MB`, in powers of 1,024.
    pub size: String,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// Sum of its writable disks in bytes.
    pub disk_bytes: u64,
    /// Size in bytes of the memory of a standby and of the snapshots that are kept, on disk.
    pub snapshot_bytes: u64,
    /// The restart policy after ends that no client asked for; never restarted if absent.
    pub restart_policy: RestartPolicy,
    /// Progress of its restarts; absent if the policy is `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_status: Option<RestartStatus>,
    /// The health check of its workload; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// The health of its workload; absent without a health check, and while nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// The health of its workload, with the counts and instants behind it.
    pub health_status: HealthReport,
    /// Variables beside the OCI image's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The platform of its image.
    pub platform: String,
    /// Size of its own disk above the OCI image's file system; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay_size: Option<String>,
    /// Memory beyond `size` to which it can be resized while it runs; absent if it can't be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotplug_size: Option<String>,
    /// The condition under which it goes to standby on its own; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_standby: Option<AutoStandby>,
    /// Start of the time that counts as idle so far; absent without auto-standby, and while it is
    /// not watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
    /// Instant at which it expires; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The action at expiry; absent if it never expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_action: Option<ExpiryAction>,
    /// Number of the start under way or last, from 1; 0 for a fork that was never started.
    pub session: u32,
    /// The guest's network.
    pub network: NetworkState,
    /// Labels, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The phase under which time counts now, as the policy sees it; absent before the first fact
    /// and after the deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_phase: Option<Phase>,
    /// Start of the current phase; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_phase_since: Option<Timestamp>,
    /// Milliseconds in each phase up to now, truncated, or in the answer of a command up to its
    /// effect; absent before the first fact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase_durations_ms: Option<PerPhase>,
    /// Digest of the policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub policy: Digest,
    /// The condition of its accounting.
    pub accounting: Accounting,
}

/// The condition of an instance's accounting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accounting {
    /// The status of an instance's accounting.
    pub status: AccountingStatus,
    /// The failure of the policy, in words; absent if the status is `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The status of an instance's accounting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccountingStatus {
    /// The policy in force answers.
    Ok,
    /// The policy in force does not answer: the figures are the standard policy's, and the time is
    /// accounted again once it does.
    Degraded,
}

/// The answer of a wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waited {
    /// The state of the instance when the wait ended.
    pub state: InstanceState,
    /// Set if the time ran out before the state was reached.
    pub timed_out: bool,
    /// The reason for which the state can't be reached any more: the instance stopped or was
    /// deleted. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
}

/// The memory to give an instance. One of the fields is required.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeInstance {
    /// Guest memory such as `512MB` or `2G`, in powers of 1,024, instead of `memory_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Guest memory in bytes, instead of `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// The host resources that the process of an instance uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceStats {
    /// The instance's id.
    #[serde(with = "super::text")]
    #[schema(value_type = String)]
    pub instance_id: crate::id::InstanceId,
    /// The instance's name.
    #[serde(with = "super::text")]
    #[schema(value_type = String)]
    pub instance_name: crate::id::InstanceName,
    /// Processor time of its virtual machine monitor since the launch, in nanoseconds; 0 while none
    /// runs.
    pub cpu_ns: u64,
    /// The same in seconds, as a fraction.
    pub cpu_seconds: f64,
    /// Resolution of `cpu_ns` in nanoseconds: the kernel counts in steps of this.
    pub cpu_resolution_ns: u64,
    /// Resident memory of the monitor in bytes; 0 while none runs.
    pub memory_rss_bytes: u64,
    /// Size of the monitor's address space in bytes; 0 while none runs.
    pub memory_vms_bytes: u64,
    /// Bytes that the guest has received since the instance was created, in layer 3.
    pub network_rx_bytes: u64,
    /// Bytes that the guest has sent since the instance was created, in layer 3.
    pub network_tx_bytes: u64,
    /// Resident memory of the monitor, which is more than the guest's, as a ratio of guest memory.
    pub memory_utilization_ratio: f64,
    /// Guest memory in bytes.
    pub allocated_memory_bytes: u64,
    /// Number of virtual processors.
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
