//! `/resources`: what the host has, and what its instances take of it.

use axum::Json;
use axum::extract::State as Extract;

use super::auth::Caller;
use super::error::ApiError;
use super::model::{Allocation, Resource, Resources};
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::driver::{Claim, Ratio, Ratios, View};

/// Show the resources of the host
///
/// Sums over the instances of all tenants; the shares are those of the caller's own.
#[utoipa::path(get, path = "/resources", tag = "host", security(("bearer" = [])), responses(
    (status = 200, description = "Capacities and shares", body = Resources),
    Failures,
))]
pub(super) async fn get_resources(
    Extract(state): Shared,
    caller: Caller,
) -> Result<Json<Resources>, ApiError> {
    Ok(Json(blocking(move || Ok(resources(&state, &caller))).await?))
}

fn resources(state: &State, caller: &Caller) -> Resources {
    let (capacity, claimed) = state.fleet.admission();
    let limit = capacity.limit();
    let Claim { vcpus, memory_bytes, disk_bytes } = capacity.has;
    let Ratios { cpu, memory, disk } = capacity.ratios;
    let own = state.fleet.list(&caller.tenant());
    Resources {
        cpu: resource("cpu", (vcpus, cpu), limit.vcpus, claimed.vcpus),
        memory: resource(
            "memory",
            (memory_bytes, memory),
            limit.memory_bytes,
            claimed.memory_bytes,
        ),
        disk: resource("disk", (disk_bytes, disk), limit.disk_bytes, claimed.disk_bytes),
        network: Resource { kind: "network".into(), oversub_ratio: 1.0, ..Resource::default() },
        allocations: own.iter().map(|view| allocation(view)).collect(),
    }
}

fn resource(kind: &str, (capacity, ratio): (u64, Ratio), limit: u64, allocated: u64) -> Resource {
    Resource {
        kind: kind.into(),
        capacity,
        effective_limit: limit,
        allocated,
        available: limit.saturating_sub(allocated),
        // A ratio is written with decimals that are read back.
        oversub_ratio: ratio.to_string().parse().unwrap_or_default(),
        source: Some("detected".into()),
    }
}

/// The share of an instance: processors and memory while it has a machine, disks always.
fn allocation(view: &View) -> Allocation {
    let Claim { vcpus, memory_bytes, disk_bytes } = view.live.claim();
    Allocation {
        instance_id: view.record.id.to_string(),
        instance_name: view.record.name.to_string(),
        cpu: u32::try_from(vcpus).unwrap_or(u32::MAX),
        memory_bytes,
        disk_bytes,
        network_download_bps: 0,
        network_upload_bps: 0,
        disk_io_bps: 0,
    }
}
