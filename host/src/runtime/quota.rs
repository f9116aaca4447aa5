//! The tenants' limits, as the driver asks for them.

use std::sync::Arc;

use crate::driver::{self, FleetError};
use crate::id::{InstanceName, TenantId};
use crate::tenancy::{self, Tenancy};

/// Adapter of the tenants' limits to the driver's seam.
pub(super) struct TenantLimits(pub(super) Arc<Tenancy>);

impl driver::Quota for TenantLimits {
    fn reserve(
        &self,
        tenant: &TenantId,
        name: &InstanceName,
        asked: driver::Share,
        there: &dyn Fn() -> Vec<(InstanceName, driver::Share)>,
    ) -> Result<driver::Reservation, FleetError> {
        let share = |share: driver::Share| tenancy::Share {
            vcpus: share.vcpus,
            memory_bytes: share.memory_bytes,
        };
        let unknown = || FleetError::Bug(format!("there is no tenant '{tenant}'"));
        let tenant = self.0.tenant(tenant).ok_or_else(unknown)?;
        let there = || there().into_iter().map(|(name, has)| (name, share(has))).collect();
        let reserved = tenant.reserve(name, share(asked), there);
        let reserved = reserved.map_err(|passed| FleetError::OverLimit {
            tenant: passed.tenant,
            limit: passed.limit,
            wanted: passed.wanted,
            most: passed.most,
        })?;
        Ok(Box::new(reserved))
    }
}
