//! The share of its tenant's limits that an instance takes, and its reservation.

use std::sync::Arc;

use super::error::ApiError;
use super::{State, blocking};
use crate::driver::{NewInstance, View};
use crate::id::{InstanceName, TenantId};
use crate::tenancy::{Reservation, Share};

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
    Ok(Share { vcpus: new.vcpus, memory_bytes })
}

/// The share of its tenant's limits that an instance takes.
pub(super) fn share_of(view: &View) -> Share {
    let shape = view.live.shape;
    Share { vcpus: shape.vcpus, memory_bytes: shape.memory_bytes }
}
