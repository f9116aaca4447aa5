//! The share of its tenant's limits that an instance takes, and its reservation.

use std::sync::Arc;

use super::error::ApiError;
use super::{State, blocking};
use crate::driver::{self, NewInstance, View};
use crate::id::{Digest, InstanceName, TenantId};
use crate::tenancy::{Reservation, Share, Storing};

/// Reserves, for an instance that is being created or changed, its share of the tenant's limits.
/// The reservation ends when the value is dropped.
///
/// # Errors
/// 403 with the limit that would be exceeded.
pub(super) fn reserve(
    state: &State,
    tenant: &TenantId,
    name: &InstanceName,
    share: Share,
) -> Result<Reservation, ApiError> {
    let known =
        state.tenancy.tenant(tenant).ok_or_else(|| ApiError::no_such_tenant(tenant, None))?;
    let there = || {
        state
            .fleet
            .list(tenant)
            .iter()
            .map(|view| (view.record.name.clone(), share_of(view)))
            .collect()
    };
    Ok(known.reserve(name, share, there)?)
}

/// Reserves the bytes of a price book or a component that is to be stored for a tenant. The
/// reservation ends when the value is dropped.
///
/// # Errors
/// 403 with the limit that would be exceeded.
pub(super) async fn store(
    state: &Arc<State>,
    tenant: &TenantId,
    bytes: &[u8],
) -> Result<Storing, ApiError> {
    let known =
        state.tenancy.tenant(tenant).ok_or_else(|| ApiError::no_such_tenant(tenant, None))?;
    let digest = Digest::of(bytes);
    let length = bytes.len() as u64;
    let archive = state.journal.archive();
    let stored = move || {
        let there =
            |reserved: &[Digest]| Ok::<_, ApiError>(archive.stored_bytes(known.id(), reserved)?);
        known.store(digest, length, there)
    };
    blocking(stored).await
}

/// The share of its tenant's limits that a new instance will take.
pub(super) async fn share_of_new(state: &Arc<State>, new: &NewInstance) -> Result<Share, ApiError> {
    let memory_bytes = match new.memory_bytes {
        Some(bytes) => bytes,
        None => {
            let state = state.clone();
            let image = new.image.clone();
            // A missing image is refused by the creation, with a list of the present ones.
            blocking(move || {
                Ok(state.images.get(&image).map_or(0, |image| image.manifest.memory_bytes_min))
            })
            .await?
        }
    };
    // Its disks are known, and reserved, when it is laid out.
    Ok(Share { vcpus: new.vcpus, memory_bytes, disk_bytes: 0 })
}

/// The share of its tenant's limits that an instance takes.
pub(super) fn share_of(view: &View) -> Share {
    let driver::Share { vcpus, memory_bytes, disk_bytes } = driver::Share::of(view.live.shape);
    Share { vcpus, memory_bytes, disk_bytes }
}
