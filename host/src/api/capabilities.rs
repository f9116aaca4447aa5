//! `/capabilities`: the hypervisors of this host and what each can do.

use axum::Json;
use axum::extract::State as Extract;

use super::Shared;
use super::error::ApiError;
use super::model::{
    DefaultRuntime, HostCapabilities, HostSystem, HypervisorStatus, ImagePlatforms, NetworkAbility,
    Runtime, ServerVersion,
};
use super::shared::Failures;
use crate::hypervisor::Capability;
use crate::image::Platform;

/// Show the capabilities of the host
///
/// As found when the daemon started.
#[utoipa::path(get, path = "/capabilities", tag = "host", security(("bearer" = [])), responses(
    (status = 200, description = "The hypervisors", body = HostCapabilities),
    Failures,
))]
pub(super) async fn get_capabilities(
    Extract(state): Shared,
) -> Result<Json<HostCapabilities>, ApiError> {
    let hypervisors = state.hypervisors.clone();
    let default = hypervisors.iter().find(|one| one.default);
    let platform = Platform::of_guests().to_string();
    let text = |text: &&str| (*text).to_owned();
    Ok(Json(HostCapabilities {
        server: ServerVersion {
            version: env!("CARGO_PKG_VERSION").into(),
            api_version: env!("CARGO_PKG_VERSION").into(),
        },
        host: HostSystem { os: "linux".into(), arch: "amd64".into() },
        default_runtime: DefaultRuntime {
            name: default.map_or_else(String::new, |one| one.name.clone()),
            available: default.is_some_and(|one| one.available),
        },
        runtimes: hypervisors.iter().map(runtime).collect(),
        features: FEATURES.iter().map(text).collect(),
        network: NetworkAbility { model: "nat".into(), guest_to_guest: false },
        images: ImagePlatforms { default_platform: platform.clone(), platforms: vec![platform] },
        hypervisors,
    }))
}

/// Abilities of the daemon, by the names that other services have for them.
const FEATURES: [&str; 4] = ["exec", "images", "instances", "logs"];

/// A hypervisor, with the names of abilities that other services know.
fn runtime(status: &HypervisorStatus) -> Runtime {
    let can = |capability: Capability| status.capabilities.get(capability.as_str()) == Some(&true);
    let of_snapshots: &[&str] = match can(Capability::Snapshots) {
        true => &["snapshots", "standby"],
        false => &[],
    };
    let of_memory: &[&str] = match can(Capability::MemoryResize) {
        true => &["hotplug-memory"],
        false => &[],
    };
    let all = of_snapshots.iter().chain(of_memory).chain(&["fork", "pause"]);
    Runtime {
        name: status.name.clone(),
        available: status.available,
        features: all.map(|name| (*name).to_owned()).collect(),
    }
}
