//! The daemon and its hypervisors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::JournalHead;
use crate::hypervisor::{self, Capability, Description, HypervisorError, Kind};

/// The daemon serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Version of the program.
    pub version: String,
    /// Quarantined policies that somebody should look at, of all tenants; `GET
    /// /tenants/{id}/policy` says which.
    pub alerts: u64,
    /// The end of the journal.
    pub journal: JournalHead,
    /// Folders of instances that the journal did not know: they were moved into the data folder's
    /// `set-aside`, and lie there until an operator removes them.
    pub set_aside: u64,
}

/// What the host can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostCapabilities {
    /// All hypervisors that the daemon can drive, whether they are here or not.
    pub hypervisors: Vec<HypervisorStatus>,
}

/// A hypervisor, and whether it is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HypervisorStatus {
    /// The name to create an instance with.
    pub name: String,
    /// Whether instances can be created with it.
    pub available: bool,
    /// Whether an instance gets it that names none.
    pub default: bool,
    /// Why it is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The program that is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// What runs a guest's instructions: `kvm` or `tcg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// Why that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_reason: Option<String>,
    /// The machine type of a boot, where there is a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_type: Option<String>,
    /// Most virtual processors of one instance.
    pub vcpus_max: u32,
    /// Whether it can do each thing in which hypervisors differ.
    pub capabilities: BTreeMap<String, bool>,
}

impl HypervisorStatus {
    /// One that works here.
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

    /// One that does not work here.
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
