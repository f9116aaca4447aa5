//! `/resources`: what the host has, and what its instances take of it.

use axum::Json;
use axum::extract::State as Extract;
use rustix::fs::statvfs;

use super::auth::Caller;
use super::error::ApiError;
use super::model::{Allocation, Resource, Resources};
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::driver::View;
use crate::vm;

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
    Ok(Json(blocking(move || resources(&state, &caller)).await?))
}

fn resources(state: &State, caller: &Caller) -> Result<Resources, ApiError> {
    let [mut cpu, mut memory, mut disk] = [0_u64; 3];
    for view in state.fleet.by_tenant().values().flatten() {
        let share = allocation(view);
        cpu += u64::from(share.cpu);
        memory = memory.saturating_add(share.memory_bytes);
        disk = disk.saturating_add(share.disk_bytes);
    }
    let own = state.fleet.list(&caller.tenant());
    let folder = state.journal.path().parent().unwrap_or(state.journal.path());
    let space = statvfs(folder).map_err(|error| ApiError::bug(&std::io::Error::from(error)))?;
    let system = rustix::system::sysinfo();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Resources {
        cpu: resource("cpu", processors as u64, cpu),
        memory: resource("memory", system.totalram * u64::from(system.mem_unit), memory),
        disk: resource("disk", space.f_blocks.saturating_mul(space.f_frsize), disk),
        network: resource("network", 0, 0),
        allocations: own.iter().map(|view| allocation(view)).collect(),
    })
}

fn resource(kind: &str, capacity: u64, allocated: u64) -> Resource {
    Resource {
        kind: kind.into(),
        capacity,
        effective_limit: capacity,
        allocated,
        available: capacity.saturating_sub(allocated),
        oversub_ratio: 1.0,
    }
}

/// The share of an instance: processors and memory while it has a process, disks always.
fn allocation(view: &View) -> Allocation {
    let shape = view.live.shape;
    let runs = !matches!(view.live.state, vm::State::Stopped | vm::State::Standby { .. });
    Allocation {
        instance_id: view.record.id.to_string(),
        instance_name: view.record.name.to_string(),
        cpu: if runs { shape.vcpus } else { 0 },
        memory_bytes: if runs { shape.memory_bytes } else { 0 },
        disk_bytes: shape.disk_bytes,
        network_download_bps: 0,
        network_upload_bps: 0,
        disk_io_bps: 0,
    }
}
