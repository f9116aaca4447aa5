//! The tenants' limits, as the driver asks for them.

use std::sync::Arc;

use crate::clock;
use crate::driver::{self, FleetError};
use crate::id::{InstanceName, TenantId};
use crate::journal::Journal;
use crate::tenancy::{self, Tenancy};

/// Adapter of the tenants' limits to the driver's seam.
pub(super) struct TenantLimits {
    pub(super) tenancy: Arc<Tenancy>,
    pub(super) journal: Arc<Journal>,
}

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
            disk_bytes: share.disk_bytes,
        };
        let unknown = || FleetError::Bug(format!("there is no tenant '{tenant}'"));
        let tenant = self.tenancy.tenant(tenant).ok_or_else(unknown)?;
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

    fn launch(&self, tenant: &TenantId) -> Result<(), FleetError> {
        // A tenant that is not known here is refused elsewhere.
        let Some(known) = self.tenancy.tenant(tenant) else { return Ok(()) };
        let now_ns = clock::boottime_ns();
        let events = self.journal.figures().entered(tenant);
        let free = known.check_events(now_ns, events).and_then(|()| known.count_launch(now_ns));
        free.map_err(|passed| FleetError::TooFast {
            tenant: passed.tenant,
            limit: passed.limit,
            most: passed.most,
            retry_after_s: passed.retry_after_s,
        })
    }
}
