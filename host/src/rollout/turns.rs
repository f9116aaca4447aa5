//! One examination at a time for each tenant, so that none takes the compiler from the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::id::TenantId;

/// The turns of tenants.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<TenantId, Arc<Turn<()>>>>);

impl Turns {
    /// Waits until the tenant's examination before has ended.
    pub(super) async fn take(&self, tenant: &TenantId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(tenant.clone()).or_default())
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_tenant_waits_for_itself_alone() {
        let tenant = |name: &str| name.parse::<TenantId>().expect("a name");
        let turns = Turns::default();
        let held = turns.take(&tenant("one")).await;
        assert!(turns.take(&tenant("one")).now_or_never().is_none());
        assert!(turns.take(&tenant("two")).now_or_never().is_some());
        drop(held);
        assert!(turns.take(&tenant("one")).now_or_never().is_some());
    }
}
