//! The bills that need somebody: documents that a settlement would correct, and periods that no
//! policy has measured.
//!
//! Both follow from the journal, and to find out takes as long as a bill. So a tenant is looked at
//! again only once there are new facts, or once an hour, as a period may have ended; and that no
//! more often than that a hundredth of the time goes into looking at all tenants.

use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant as Timer};

use super::Rollout;
use super::looked::{Attention, Look};
use crate::id::{InstanceId, TenantId};
use crate::invoice::{Directory, EvidenceError, InvoiceError, Issuer, Named};

/// Time between two turns.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Time after which a tenant is looked at without new facts: a period may have ended.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

/// Least time between two turns, in lengths of the last one.
const REST: u32 = 100;

impl Rollout {
    /// The bills of a tenant that need somebody, as of the last look.
    pub fn attention(&self, tenant: &TenantId) -> Attention {
        let looked = self.looked.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.get(tenant).map(|look| look.found).unwrap_or_default()
    }

    /// Notes how many documents of a tenant a settlement would correct, where somebody found out.
    pub fn note_stale(&self, tenant: &TenantId, stale: u64) {
        let mut looked = self.looked.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = looked.get_mut(tenant) {
            look.found.stale = stale;
        } else {
            let found = Attention { stale, unrated: 0 };
            let look = Look { found, through: 0, at: Timer::now() };
            looked.insert(tenant.clone(), look);
        }
    }

    /// Looks at the bills of all tenants in a loop, without end.
    pub(super) async fn watch_bills(self: &Arc<Self>) {
        loop {
            let begin = Timer::now();
            for tenant in self.tenancy.tenants() {
                let rollout = self.clone();
                let id = tenant.id().clone();
                let looked = crate::blocking::run(move || rollout.look(&id)).await;
                if let Ok(Err(error)) = looked {
                    tracing::warn!(%error, tenant = %tenant.id(), "a bill could not be looked at");
                }
            }
            tokio::time::sleep(LOOK_INTERVAL.max(begin.elapsed() * REST)).await;
        }
    }

    /// Looks at a tenant's bills, if there are new facts or the last look was long ago.
    fn look(&self, tenant: &TenantId) -> Result<(), InvoiceError> {
        let through = self.journal.head().seq;
        if !self.is_due(tenant, through) {
            return Ok(());
        }
        let issuer = Issuer::new(self.journal.clone(), self.policies.clone());
        let now = self.fleet.now();
        let found = issuer.compute(tenant, &self.directory(tenant), |computer, view| {
            let stale = computer.stale(&view)?.len() as u64;
            let unrated = computer.unrated(&view, now)?.len() as u64;
            Ok::<_, InvoiceError>(Attention { stale, unrated })
        })??;
        let look = Look { found, through, at: Timer::now() };
        let mut looked = self.looked.0.lock().unwrap_or_else(PoisonError::into_inner);
        looked.insert(tenant.clone(), look);
        Ok(())
    }

    fn is_due(&self, tenant: &TenantId, through: u64) -> bool {
        let looked = self.looked.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |look: &Look| look.at.elapsed() >= LOOK_AGAIN;
        looked.get(tenant).is_none_or(|look| look.through != through || is_old(look))
    }

    /// The names and tags of a tenant's instances, deleted ones included.
    pub fn directory(&self, tenant: &TenantId) -> Directory {
        let fleet = self.fleet.clone();
        let journal = self.journal.clone();
        let pseudonyms = self.tenancy.pseudonyms().clone();
        let tenant = tenant.clone();
        // Of one computation: one mapping for all of its instances.
        let read = OnceLock::new();
        Arc::new(move |id: &InstanceId| {
            let missing = || EvidenceError::Missing(format!("the record of instance {id}"));
            let mapping =
                read.get_or_init(|| pseudonyms.mapping(&tenant).map_err(|error| error.to_string()));
            let mapping = mapping.as_ref();
            let mapping = mapping.map_err(|text| EvidenceError::Missing(text.clone()))?;
            let Named { id, name, tags } = if let Ok(view) = fleet.find_closed(&tenant, id) {
                let tags = view.record.spec.tags.clone().into_iter().collect();
                Named { id: id.to_string(), name: view.record.name.to_string(), tags }
            } else {
                let found = journal.archive().instance_of_hosts(id)?;
                let stored = found.filter(|stored| stored.tenant == tenant).ok_or_else(missing)?;
                Named::of_host(&stored)
            };
            let tags = if mapping.has_tags() { tags } else { Vec::new() };
            Ok(Named { name: mapping.name(&id, &name), id, tags })
        })
    }
}
