//! The background part of a rollout: it derives standings from facts and faults, and records them.
//!
//! A quarantined policy gets the substitute that its tenant's fallback order names; a replaced one
//! drains and retires. Each turn compares with the recorded state: a change that was not recorded,
//! because the daemon ended or the disk was full, is recorded at the next turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::history::History;
use super::{Rollout, RolloutError, blocking};
use crate::billing::Timeline;
use crate::driver::View;
use crate::id::{Digest, TenantId};
use crate::journal::{NewActivation, StoredStanding};
use crate::policy::accounting::Quarantined;
use crate::tenancy::Tenant;
use crate::tenant::{Actor, FallbackStep, Move, Standing};
use crate::units::{Instant, Nanos};

/// Time between two turns, if no policy is quarantined in between.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(1);

/// Longest delay between two tries to account time that a policy owes, in nanoseconds: 1 min.
const RETRY_NS_MAX: u64 = 60_000_000_000;

/// First delay between two such tries, in nanoseconds: 1 s.
const RETRY_NS_MIN: u64 = 1_000_000_000;

/// A quarantined policy of a tenant that needs the operator's attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The tenant.
    pub tenant: TenantId,
    /// The policy that failed.
    pub quarantined: Quarantined,
    /// Set if the policy is still in force, so that its tenant's time is not counted; otherwise a
    /// substitute is in force.
    pub held: bool,
}

impl Rollout {
    /// Reconciles, looks at bills, and has traffic read before rules change, in loops without end.
    pub async fn run(self: Arc<Self>) {
        let reading = self.clone().read_before_changes();
        tokio::join!(self.reconcile_again(), self.watch_bills(), reading);
    }

    async fn reconcile_again(self: &Arc<Self>) {
        let mut debts = Debts::default();
        loop {
            if let Err(error) = self.reconcile().await {
                tracing::warn!(%error, "a policy's standing could not be recorded; trying again");
            }
            self.reaccount(&mut debts);
            tokio::select! {
                () = self.accounting.quarantine_signal() => {}
                () = tokio::time::sleep(RECONCILE_INTERVAL) => {}
            }
        }
    }

    /// Brings the standings of all policies up to date, once.
    ///
    /// # Errors
    /// The journal's errors; the next turn tries again.
    async fn reconcile(self: &Arc<Self>) -> Result<(), RolloutError> {
        for tenant in self.tenancy.tenants() {
            self.quarantine(&tenant).await?;
            self.retire(tenant.id()).await?;
        }
        Ok(())
    }

    /// Accounts again for every account that a policy owes time to, unless that policy is
    /// quarantined without a substitute.
    fn reaccount(&self, debts: &mut Debts) {
        let mut open = BTreeSet::new();
        for view in self.fleet.degraded() {
            let Some(degraded) = &view.account.degraded else { continue };
            open.insert((view.record.tenant.clone(), degraded.policy));
        }
        open.retain(|(tenant, policy)| !self.is_held(tenant, policy));
        for (tenant, policy) in debts.due(open, self.fleet.now()) {
            self.fleet.account_again(&tenant, |owed| owed.policy == policy);
        }
    }

    /// Returns whether a policy is quarantined without a substitute, so that its time is held.
    fn is_held(&self, tenant: &TenantId, policy: &Digest) -> bool {
        let mut quarantined = self.accounting.quarantined(tenant).into_iter();
        quarantined.any(|held| held.policy == *policy && held.substitute.is_none())
    }

    /// Applies the tenant's fallback order to each policy that has failed too often.
    async fn quarantine(self: &Arc<Self>, tenant: &Tenant) -> Result<(), RolloutError> {
        for quarantined in self.accounting.quarantined(tenant.id()) {
            let policy = quarantined.policy;
            let timeline = self.accounting.timeline(tenant.id());
            let in_force = timeline.at(self.fleet.now()) == policy;
            let substitute = match quarantined.substitute {
                Some(substitute) => Some(substitute),
                None => self.substitute(tenant, policy).await?,
            };
            let known = self.tenancy.standing(tenant.id(), &policy);
            let is_recorded = known.is_some_and(|known| {
                known.standing == Standing::Quarantined && known.stand_in == substitute
            });
            if is_recorded && (substitute.is_none() || !in_force) {
                continue;
            }
            self.record_quarantine(tenant, &quarantined, substitute, in_force).await?;
        }
        Ok(())
    }

    /// Records a quarantine, and puts the substitute in force where the policy was.
    async fn record_quarantine(
        self: &Arc<Self>,
        tenant: &Tenant,
        quarantined: &Quarantined,
        substitute: Option<Digest>,
        in_force: bool,
    ) -> Result<(), RolloutError> {
        let policy = quarantined.policy;
        let reason = quarantined.reason.clone();
        let reason = reason.unwrap_or_else(|| "it failed too often".into());
        tracing::error!(tenant = %tenant.id(), %policy, reason, "a policy is quarantined");
        let moved = Move {
            digest: policy,
            to: Standing::Quarantined,
            by: Actor::Host,
            reason,
            stand_in: substitute,
        };
        let activation = match substitute.filter(|_| in_force) {
            Some(digest) => Some(NewActivation {
                reason: Some(format!("policy {policy} was quarantined")),
                options: self.last_options(tenant.id(), digest).await?,
                ..NewActivation::now(tenant.id().clone(), digest, Actor::Host)
            }),
            None => None,
        };
        self.tenancy.move_policy(tenant.id(), moved, activation).await?;
        self.accounting.quarantine(tenant.id(), policy, substitute);
        self.fleet.account_again(tenant.id(), |_| true);
        Ok(())
    }

    /// The policy that the tenant's fallback order puts in the place of a quarantined one; none if
    /// its time is held. `last-good` never brings back a policy that was rolled back.
    async fn substitute(
        self: &Arc<Self>,
        tenant: &Tenant,
        quarantined: Digest,
    ) -> Result<Option<Digest>, RolloutError> {
        let standard = self.policies.standard().digest();
        for step in tenant.settings().fallback.steps() {
            match step {
                FallbackStep::Hold => return Ok(None),
                FallbackStep::LastGood => {
                    let history = self.history(tenant.id()).await?;
                    let before = history.before(quarantined);
                    let mut good = before.filter(|digest| !history.is_taken_back(digest));
                    let good = good.find(|digest| self.is_good(tenant.id(), digest));
                    if good.is_some() {
                        return Ok(good);
                    }
                }
                FallbackStep::Standard => {
                    return Ok(Some(standard).filter(|&standard| standard != quarantined));
                }
            }
        }
        Ok(None)
    }

    /// Returns whether a policy can account for a tenant: it is loaded, and not quarantined.
    pub(super) fn is_good(&self, tenant: &TenantId, digest: &Digest) -> bool {
        let mut quarantined = self.accounting.quarantined(tenant).into_iter();
        self.policies.get(*digest).is_some() && !quarantined.any(|bad| bad.policy == *digest)
    }

    /// The policies that a tenant has been under up to now.
    pub(super) async fn history(
        self: &Arc<Self>,
        tenant: &TenantId,
    ) -> Result<History, RolloutError> {
        let rollout = self.clone();
        let tenant = tenant.clone();
        blocking(move || {
            let facts = rollout.journal.archive().policy_facts_of(&tenant)?;
            let timeline = rollout.fleet.timeline(&tenant);
            Ok(History::of(&timeline, facts.iter().map(|(_, fact)| fact), rollout.fleet.now()))
        })
        .await
    }

    /// Records the policies that have begun to drain, and those that have drained.
    async fn retire(&self, tenant: &TenantId) -> Result<(), RolloutError> {
        let mut due = self.tenancy.standings(tenant);
        due.retain(|stood| matches!(stood.standing, Standing::Active | Standing::Draining));
        let timeline = self.accounting.timeline(tenant);
        let now = self.fleet.now();
        due.retain(|stood| timeline.at(now) != stood.digest);
        if due.is_empty() {
            return Ok(());
        }
        let views = self.fleet.list(tenant);
        for stood in due {
            let to = past(&timeline, stood.digest, now, &views);
            let Some(to) = to.filter(|&to| to != stood.standing) else { continue };
            let reason = format!("policy {} is in force", timeline.at(now));
            let moved = Move { digest: stood.digest, to, by: Actor::Host, reason, stand_in: None };
            self.tenancy.move_policy(tenant, moved, None).await?;
        }
        Ok(())
    }

    /// The present standing of a policy with a tenant; `stood` is that of the last fact.
    pub fn standing(&self, stood: &StoredStanding) -> Standing {
        let tenant = &stood.tenant;
        let digest = stood.digest;
        let now = self.fleet.now();
        if matches!(stood.standing, Standing::Uploaded | Standing::Refused) {
            return stood.standing;
        }
        let mut quarantined = self.accounting.quarantined(tenant).into_iter();
        if quarantined.any(|quarantined| quarantined.policy == digest) {
            return Standing::Quarantined;
        }
        let timeline = self.accounting.timeline(tenant);
        if timeline.at(now) == digest {
            return Standing::Active;
        }
        if stood.standing == Standing::Shadow {
            return Standing::Shadow;
        }
        past(&timeline, digest, now, &self.fleet.list(tenant)).unwrap_or(Standing::Admitted)
    }

    /// The quarantined policies of a tenant that need the operator's attention: one that is still
    /// in force, and one that the host has replaced by a substitute.
    pub fn alerts(&self, tenant: &TenantId) -> Vec<Alert> {
        let in_force = self.accounting.timeline(tenant).at(self.fleet.now());
        let by = self.tenancy.standing(tenant, &in_force).and_then(|stood| stood.by);
        let alert = |quarantined: Quarantined| {
            let held = quarantined.policy == in_force;
            let replaced = quarantined.substitute == Some(in_force) && by == Some(Actor::Host);
            (held || replaced).then(|| Alert { tenant: tenant.clone(), quarantined, held })
        };
        self.accounting.quarantined(tenant).into_iter().filter_map(alert).collect()
    }
}

/// The standing of a policy that was in force before `now` and is not any more; none if it never
/// was.
fn past(
    timeline: &Timeline,
    digest: Digest,
    now: Instant,
    views: &[Arc<View>],
) -> Option<Standing> {
    let until = timeline.until(now);
    if !until.iter().any(|&(_, past)| past == digest) {
        return None;
    }
    let waits = |view: &Arc<View>| {
        let tracker = &view.account.tracker;
        let owed = &view.account.degraded;
        if owed.as_ref().is_some_and(|owed| owed.policy == digest) {
            return true;
        }
        // A visit under way is closed by every policy that was in force since it began, each at the
        // end of its own time.
        let began = timeline.until(tracker.since).len() - 1;
        let mut since = until.get(began..).unwrap_or_default().iter();
        tracker.current.is_some() && since.any(|&(_, at)| at == digest)
    };
    Some(if views.iter().any(waits) { Standing::Draining } else { Standing::Retired })
}

/// The time that is owed, by tenant and failed policy, with the next try: the first at once, then
/// at intervals that double, so that a policy that keeps failing costs little.
#[derive(Debug, Default)]
struct Debts(BTreeMap<(TenantId, Digest), Retry>);

#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    wait_ns: u64,
}

impl Debts {
    /// The debts of `open` that are due at `now`. Debts that are not in `open` are forgotten.
    fn due(&mut self, open: BTreeSet<(TenantId, Digest)>, now: Instant) -> Vec<(TenantId, Digest)> {
        self.0.retain(|debt, _| open.contains(debt));
        let mut due = Vec::new();
        for debt in open {
            let first = Retry { at: now, wait_ns: RETRY_NS_MIN };
            let retry = self.0.entry(debt.clone()).or_insert(first);
            if retry.at <= now {
                retry.at = now.after(Nanos(retry.wait_ns)).unwrap_or(Instant(i64::MAX));
                retry.wait_ns = retry.wait_ns.saturating_mul(2).min(RETRY_NS_MAX);
                due.push(debt);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_tried_at_once_and_then_at_growing_intervals() {
        let mut debts = Debts::default();
        let open = || BTreeSet::from([(TenantId::default_tenant(), Digest([7; 32]))]);
        let second = |at: i64| Instant(at * 1_000_000_000);
        let tries: Vec<i64> =
            (0..200).filter(|&at| !debts.due(open(), second(at)).is_empty()).collect();
        assert_eq!(tries, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        assert!(debts.due(BTreeSet::new(), second(200)).is_empty());
        assert_eq!(debts.due(open(), second(201)).len(), 1, "a new debt is tried at once");
    }
}
