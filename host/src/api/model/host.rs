//! The daemon and its hypervisors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{JournalHead, Timestamp};
use crate::hypervisor::{self, Capability, Description, HypervisorError, Kind};

/// The condition of a daemon that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`: a daemon that does not serve does not answer.
    pub status: String,
    /// Version of the daemon.
    pub version: String,
    /// Number of quarantined policies that need an operator's attention: of all tenants for an
    /// operator's token, of one for a tenant's, 0 without one. `GET /tenants/{id}/policy` lists
    /// them.
    pub alerts: u64,
    /// The end of the journal.
    pub journal: JournalHead,
    /// Number of instance folders that the journal does not know. They were moved into the data
    /// folder's `set-aside` and stay there until an operator removes them.
    pub set_aside: u64,
    /// Number of processes of machines that no record knows. They are never ended; the daemon's log
    /// names them.
    #[serde(default)]
    pub strays: u64,
    /// Number of processes of machines that somebody outside has stopped or frozen, for half a
    /// minute at least. They do nothing; the daemon's log names them, with the remedy.
    #[serde(default)]
    pub halted: u64,
    /// The space of the data folder's disk; absent if it can't be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskHealth>,
    /// The signed heads of the journal.
    #[serde(default)]
    pub heads: HeadsHealth,
    /// The times between two boots that nothing proves and nobody has settled; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gaps: Option<GapsHealth>,
}

/// The times between two boots that nothing proves and nobody has settled: the meter goes on
/// without them, so that nobody is billed for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GapsHealth {
    /// Number of them.
    pub open: u64,
    /// The last instant that is known before the first of them.
    pub since: Timestamp,
    /// Nanoseconds that have passed in them by the wall clock beyond what the meter has counted.
    /// Nothing proves that; a wall clock that was set back claims nothing.
    pub claimed_ns: u64,
    /// The way to settle them, in words.
    pub remedy: String,
}

/// The signed heads of the journal, and how far they are published.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct HeadsHealth {
    /// Last fact of the last head that was signed; 0 before the first.
    pub signed: u64,
    /// Last fact of the last head that the hook has taken; absent without a hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u64>,
    /// Instant since which the hook does not take a head; absent while it takes all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
}

/// The space of the data folder's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskHealth {
    /// The meaning of the space that is free.
    pub state: DiskState,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that are kept free for the journal: snapshots, memories, forks, new instances and
    /// uploads leave them.
    pub kept_bytes: u64,
    /// Bytes of the reserve from which facts are written when the disk is full; 0 without one.
    pub reserve_bytes: u64,
}

/// The meaning of the space that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskState {
    /// There is enough.
    Good,
    /// Less than twice what is kept is free: make room before anything is refused.
    GettingLow,
    /// Snapshots, standby, forks, new instances and uploads are refused.
    Low,
    /// The reserve is in use: facts, ends, deletions and revocations are recorded, nothing else.
    Full,
}

/// The capabilities of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostCapabilities {
    /// All hypervisors that the daemon can drive, installed or not.
    pub hypervisors: Vec<HypervisorStatus>,
    /// The daemon.
    pub server: ServerVersion,
    /// The host's system.
    pub host: HostSystem,
    /// The hypervisor that runs instances which name none.
    pub default_runtime: DefaultRuntime,
    /// The hypervisors once more, with names of abilities that other services know.
    pub runtimes: Vec<Runtime>,
    /// Abilities of the daemon whatever runs an instance.
    pub features: Vec<String>,
    /// The guests' network.
    pub network: NetworkAbility,
    /// The platforms of images.
    pub images: ImagePlatforms,
}

/// A version of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerVersion {
    /// Version of the daemon.
    pub version: String,
    /// Version of its API.
    pub api_version: String,
}

/// The system of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostSystem {
    /// Its operating system, `linux`.
    pub os: String,
    /// Its processor, `amd64`.
    pub arch: String,
}

/// A hypervisor by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DefaultRuntime {
    /// The hypervisor's name; empty if there is none.
    pub name: String,
    /// Set if instances can be created with it.
    pub available: bool,
}

/// A hypervisor with its abilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Runtime {
    /// The hypervisor's name.
    pub name: String,
    /// Set if instances can be created with it.
    pub available: bool,
    /// Its abilities: `snapshots`, `standby`, `fork`, `pause`, `hotplug-memory`.
    pub features: Vec<String>,
}

/// The network that guests can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkAbility {
    /// The kind, `nat`.
    pub model: String,
    /// Set if guests reach each other.
    pub guest_to_guest: bool,
}

/// The platforms of images that guests can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImagePlatforms {
    /// The one that is taken if none is asked for.
    pub default_platform: String,
    /// All of them.
    pub platforms: Vec<String>,
}

/// A hypervisor that the daemon can drive, and its availability on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HypervisorStatus {
    /// The hypervisor's name, as the creation of an instance takes it.
    pub name: String,
    /// Set if instances can be created with it.
    pub available: bool,
    /// Set if instances that name no hypervisor are created with this one.
    pub default: bool,
    /// The reason for which it is not available; absent if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Version of the hypervisor; absent if it is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Path of the program that is run; absent if it is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The accelerator that executes the guest's instructions: `kvm` or `tcg`; absent if the
    /// hypervisor is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// The reason for the choice of the accelerator; absent if the hypervisor is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_reason: Option<String>,
    /// The machine type of a boot; absent where there is no choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_type: Option<String>,
    /// Largest number of vCPUs that the hypervisor gives one instance on this host.
    pub vcpus_max: u32,
    /// Support of each capability in which hypervisors differ, by name.
    pub capabilities: BTreeMap<String, bool>,
}

impl HypervisorStatus {
    /// A hypervisor that works on this host.
    pub fn available(description: &Description, default: bool) -> Self {
        let capabilities = described(description.capabilities);
        Self {
            name: description.name.into(),
            available: true,
            default,
            reason: None,
            version: Some(description.version.clone()),
            program: Some(description.program.display().to_string()),
            accelerator: Some(description.accelerator.as_str().into()),
            accelerator_reason: Some(description.accelerator_reason.clone()),
            machine_type: description.machine_type.clone(),
            vcpus_max: description.vcpus_max,
            capabilities,
        }
    }

    /// A hypervisor that does not work on this host, with the reason.
    pub fn unavailable(kind: Kind, why: &HypervisorError) -> Self {
        Self {
            name: kind.as_str().into(),
            available: false,
            default: false,
            reason: Some(why.to_string()),
            version: None,
            program: None,
            accelerator: None,
            accelerator_reason: None,
            machine_type: None,
            vcpus_max: kind.vcpus_max(),
            capabilities: described(kind.capabilities()),
        }
    }
}

fn described(set: hypervisor::Capabilities) -> BTreeMap<String, bool> {
    Capability::ALL
        .into_iter()
        .map(|capability| (capability.to_string(), set.has(capability)))
        .collect()
}
