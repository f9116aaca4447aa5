//! Where policies stand with tenants, by the last fact about each two.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use crate::id::{Digest, TenantId};
use crate::journal::StoredStanding;
use crate::tenant::{Actor, Move, Standing};

#[derive(Debug, Default)]
pub(super) struct Standings(RwLock<BTreeMap<TenantId, BTreeMap<Digest, StoredStanding>>>);

impl Standings {
    pub(super) fn new(stored: Vec<StoredStanding>) -> Self {
        let standings = Self::default();
        stored.into_iter().for_each(|stood| standings.put(stood));
        standings
    }

    pub(super) fn get(&self, tenant: &TenantId, digest: &Digest) -> Option<StoredStanding> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(tenant)?.get(digest).cloned()
    }

    pub(super) fn of(&self, tenant: &TenantId) -> Vec<StoredStanding> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(tenant).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    pub(super) fn stands(&self, tenant: &TenantId, digest: Digest, standing: Standing, by: Actor) {
        self.put(StoredStanding { tenant: tenant.clone(), digest, standing, by: Some(by), stand_in: None });
    }

    pub(super) fn moved(&self, tenant: &TenantId, moved: Move) {
        let Move { digest, to, by, stand_in, .. } = moved;
        self.put(StoredStanding { tenant: tenant.clone(), digest, standing: to, by: Some(by), stand_in });
    }

    fn put(&self, stood: StoredStanding) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(stood.tenant.clone()).or_default().insert(stood.digest, stood);
    }
}
