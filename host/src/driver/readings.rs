//! Readings of traffic that somebody asks for: before prices, policies or periods change.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::fleet::Fleet;
use super::mailbox::{Order, Slot};
use crate::id::TenantId;
use crate::limits::network::{ANNOUNCED_NS, READING};
use crate::units::{Instant, Nanos};

impl Fleet {
    /// The tenants of which guests with a network run.
    pub fn tenants_with_traffic(&self) -> BTreeSet<TenantId> {
        let directory = self.0.directory();
        let sending = directory.by_row.values().filter(|slot| has_traffic(slot));
        sending.map(|slot| slot.tenant.clone()).collect()
    }

    /// Puts the traffic of a tenant's guests on record where it has moved, so that it counts before
    /// whatever comes next. A guest of which another operation is under way for long is left out:
    /// the end of that is a reading, too.
    pub async fn read_traffic(&self, tenant: &TenantId) {
        let guests: Vec<_> = {
            let directory = self.0.directory();
            directory.of_tenant(tenant).filter(|slot| has_traffic(slot)).cloned().collect()
        };
        let readings = guests.iter().map(|slot| self.read_one(slot));
        // Whoever is late is left out.
        let _ = timeout(READING, join_all(readings)).await;
    }

    /// As [`Fleet::read_traffic`], before a change of a tenant's rules at `at`, none for now. A
    /// change that is still to come is left to whoever looks out for it.
    pub async fn read_traffic_before(&self, tenant: &TenantId, at: Option<Instant>) {
        let announced = self.now().after(Nanos(ANNOUNCED_NS));
        if at.is_none_or(|at| announced.is_none_or(|announced| at < announced)) {
            self.read_traffic(tenant).await;
        }
    }

    /// Waits for an instant.
    pub async fn reaches(&self, at: Instant) {
        self.0.clock.reaches(at).await;
    }

    async fn read_one(&self, slot: &Arc<Slot>) {
        let (done, read) = oneshot::channel();
        if self.0.order(slot, Order::Read { done }).is_ok() {
            // Without an answer, its task has ended: nothing runs any more.
            let _ = read.await;
        }
    }
}

fn has_traffic(slot: &Slot) -> bool {
    let view = slot.view();
    view.record.spec.network.is_some() && view.live.runs()
}
