//! Readings of guests' traffic right before their tenant's rules change or its period ends. Bytes
//! belong to the instant at which they were read: so they count under the rules under which they
//! passed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Rollout, RolloutError, blocking};
use crate::billing::Timeline;
use crate::id::{Digest, TenantId};
use crate::invoice::Issuer;
use crate::limits::network::{ANNOUNCED_NS, LEAD_NS, LOOK, PERIOD_KEPT_NS};
use crate::tenant::Plan;
use crate::units::{Instant, Nanos};

/// Knowledge of the tenants with traffic.
#[derive(Debug, Default)]
struct Known {
    /// The end of the present period, and the instant up to which that is believed.
    periods: BTreeMap<TenantId, (Instant, Instant)>,
    /// The last change that was prepared for.
    prepared: BTreeMap<TenantId, Instant>,
    /// The tenants' prices, by the changes up to a fact.
    prices: (u64, BTreeMap<TenantId, Arc<Timeline>>),
}

impl Rollout {
    /// Has traffic read before each change to come, without end.
    pub(super) async fn read_before_changes(self: Arc<Self>) {
        let mut known = Known::default();
        loop {
            let tenants = self.fleet.tenants_with_traffic();
            known.periods.retain(|tenant, _| tenants.contains(tenant));
            known.prepared.retain(|tenant, _| tenants.contains(tenant));
            known.prices.1.retain(|tenant, _| tenants.contains(tenant));
            if !tenants.is_empty()
                && let Err(error) = self.forget_changed(&mut known).await
            {
                tracing::warn!(%error, "changes of prices can't be looked up");
            }
            for tenant in tenants {
                match self.next_change(&tenant, &mut known).await {
                    Ok(Some(at)) => self.prepare(tenant, at, &mut known),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%tenant, %error, "changes to come can't be looked up");
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Forgets prices if any have changed: one question for all tenants.
    async fn forget_changed(self: &Arc<Self>, known: &mut Known) -> Result<(), RolloutError> {
        let archive = self.journal.archive();
        let last = blocking(move || Ok(archive.last_change_of_prices()?)).await?;
        if known.prices.0 != last {
            known.prices = (last, BTreeMap::new());
        }
        Ok(())
    }

    /// Has the traffic of a tenant read before a change.
    fn prepare(&self, tenant: TenantId, at: Instant, known: &mut Known) {
        if known.prepared.insert(tenant.clone(), at) == Some(at) {
            return;
        }
        let fleet = self.fleet.clone();
        tokio::spawn(async move {
            fleet.reaches(Instant(at.0.saturating_sub_unsigned(LEAD_NS))).await;
            fleet.read_traffic(&tenant).await;
        });
    }

    /// The next change of a tenant's policy, prices or period, if it comes soon.
    async fn next_change(
        self: &Arc<Self>,
        tenant: &TenantId,
        known: &mut Known,
    ) -> Result<Option<Instant>, RolloutError> {
        let now = self.fleet.now();
        let soon = now.after(Nanos(ANNOUNCED_NS)).unwrap_or(now);
        let border = known.periods.get(tenant).filter(|&&(end, until)| now < end.min(until));
        let border = border.map(|&(end, _)| end);
        let prices = known.prices.1.get(tenant).cloned();
        let (end, prices) = match border.zip(prices) {
            Some(known) => known,
            None => self.look_up(tenant, now, border).await?,
        };
        known.prices.1.insert(tenant.clone(), prices.clone());
        if border.is_none() {
            let until = now.after(Nanos(PERIOD_KEPT_NS)).unwrap_or(now);
            known.periods.insert(tenant.clone(), (end, until));
        }
        let policies = self.fleet.timeline(tenant);
        let plans = [policies.planned(now).next(), prices.planned(now).next()];
        let plan = plans.into_iter().flatten().map(|(at, _)| at).min();
        let next = plan.map_or(end, |plan| plan.min(end));
        Ok((now < next && next <= soon).then_some(next))
    }

    fn end_of_period(&self, tenant: &TenantId, now: Instant) -> Result<Instant, RolloutError> {
        let issuer = Issuer::new(self.journal.clone(), self.policies.clone());
        let found = issuer.agreement(tenant, now);
        let (period, _) =
            found.map_err(|error| RolloutError::Unbillable(Box::new(error.into())))?;
        Ok(period.end)
    }

    /// The end of a tenant's period, if it is not known, and the tenant's prices.
    async fn look_up(
        self: &Arc<Self>,
        tenant: &TenantId,
        now: Instant,
        border: Option<Instant>,
    ) -> Result<(Instant, Arc<Timeline>), RolloutError> {
        let rollout = self.clone();
        let tenant = tenant.clone();
        let look = move || {
            let end = border.map_or_else(|| rollout.end_of_period(&tenant, now), Ok)?;
            let changes = rollout.journal.archive().changes_of(&tenant, Plan::Prices)?;
            let nothing = Timeline::starting_with(Digest([0; 32]));
            Ok((end, Arc::new(nothing.with(changes.into_iter().map(|(_, change)| change)))))
        };
        blocking(look).await
    }
}
