//! The standings of policies with tenants, by the last fact about each pair, and the policies'
//! names.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use crate::id::{Digest, PolicyName, TenantId};
use crate::journal::{StoredAdmission, StoredStanding};
use crate::tenant::{Actor, Move, Standing};
use crate::units::Instant;

#[derive(Debug, Default)]
pub(super) struct Standings(RwLock<BTreeMap<TenantId, OfTenant>>);

#[derive(Debug, Default)]
struct OfTenant {
    standings: BTreeMap<Digest, StoredStanding>,
    admissions: BTreeMap<Digest, Admission>,
}

/// The admission of a component for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Name among the tenant's policies; none without one.
    pub name: Option<PolicyName>,
    /// Instant of the first admission for the tenant.
    pub at: Instant,
}

impl Standings {
    pub(super) fn new(stored: Vec<StoredStanding>, admissions: Vec<StoredAdmission>) -> Self {
        let standings = Self::default();
        stored.into_iter().for_each(|stood| standings.put(stood));
        for StoredAdmission { tenant, digest, name, at } in admissions {
            standings.admitted(&tenant, digest, name, at);
        }
        standings
    }

    pub(super) fn get(&self, tenant: &TenantId, digest: &Digest) -> Option<StoredStanding> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(tenant)?.standings.get(digest).cloned()
    }

    pub(super) fn of(&self, tenant: &TenantId) -> Vec<StoredStanding> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(tenant).into_iter().flat_map(|one| one.standings.values()).cloned().collect()
    }

    pub(super) fn stands(&self, tenant: &TenantId, digest: Digest, standing: Standing, by: Actor) {
        let tenant = tenant.clone();
        self.put(StoredStanding { tenant, digest, standing, by: Some(by), stand_in: None });
    }

    pub(super) fn moved(&self, tenant: &TenantId, moved: Move) {
        let Move { digest, to, by, stand_in, .. } = moved;
        let tenant = tenant.clone();
        self.put(StoredStanding { tenant, digest, standing: to, by: Some(by), stand_in });
    }

    /// Notes an admission. A repeated one keeps the first instant and name.
    pub(super) fn admitted(
        &self,
        tenant: &TenantId,
        digest: Digest,
        name: Option<PolicyName>,
        at: Instant,
    ) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let admissions = &mut all.entry(tenant.clone()).or_default().admissions;
        let admission = admissions.entry(digest).or_insert(Admission { name: None, at });
        admission.name = admission.name.take().or(name);
    }

    pub(super) fn admission(&self, tenant: &TenantId, digest: &Digest) -> Option<Admission> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(tenant)?.admissions.get(digest).cloned()
    }

    /// The policy with this name among the tenant's; none without one.
    pub(super) fn named(&self, tenant: &TenantId, name: &str) -> Option<Digest> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_called = |admission: &Admission| {
            admission.name.as_ref().is_some_and(|known| known.as_str() == name)
        };
        let mut admissions = all.get(tenant)?.admissions.iter();
        admissions.find(|(_, admission)| is_called(admission)).map(|(&digest, _)| digest)
    }

    fn put(&self, stood: StoredStanding) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(stood.tenant.clone()).or_default().standings.insert(stood.digest, stood);
    }
}
