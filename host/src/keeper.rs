//! Moves policies along their life: what is quarantined, and what takes its place; what drains, and what is done.
//!
//! Where a policy stands follows from the timeline, the accounts and the faults. The keeper writes each change down as a fact and does what the
//! tenant's ladder says. It only catches up: whatever it did not get to do, before an end of the daemon or for want of space, it does next time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::billing::Timeline;
use crate::driver::{Fleet, View};
use crate::id::{Digest, TenantId};
use crate::journal::{CommitError, NewActivation, StoredStanding};
use crate::policy::accounting::Quarantined;
use crate::policy::{Accounting, PolicyHost};
use crate::tenancy::{Tenancy, Tenant};
use crate::tenant::{Actor, Move, Rung, Standing};
use crate::units::Instant;

/// How often it looks, if nothing tells it to look at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks after the policies of all tenants.
pub struct Keeper {
    fleet: Fleet,
    tenancy: Arc<Tenancy>,
    accounting: Arc<Accounting>,
    policies: Arc<PolicyHost>,
}

/// A tenant's policy that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Whose.
    pub tenant: TenantId,
    /// Which policy failed.
    pub ill: Quarantined,
    /// Whether it is in force still, so that its tenant's time is owed; otherwise another one has taken its place.
    pub held: bool,
}

impl Keeper {
    /// A keeper; it does nothing before it runs.
    pub fn new(fleet: Fleet, tenancy: Arc<Tenancy>, accounting: Arc<Accounting>, policies: Arc<PolicyHost>) -> Self {
        Self { fleet, tenancy, accounting, policies }
    }

    /// Looks again and again, as long as it is polled.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "the standing of a policy could not be recorded; trying again");
            }
            tokio::select! {
                () = self.accounting.fell_ill() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Brings everything up to date, once.
    ///
    /// # Errors
    /// The journal's; what was not recorded is recorded next time.
    pub async fn look(&self) -> Result<(), CommitError> {
        for tenant in self.tenancy.tenants() {
            self.quarantine(&tenant).await?;
            self.retire(tenant.id()).await?;
        }
        Ok(())
    }

    /// Does for each policy that has failed too often what the tenant's ladder says.
    async fn quarantine(&self, tenant: &Tenant) -> Result<(), CommitError> {
        for ill in self.accounting.quarantined(tenant.id()) {
            let timeline = self.accounting.timeline(tenant.id());
            let in_force = timeline.at(self.fleet.now()) == ill.policy;
            let stand_in = ill.stand_in.or_else(|| self.stand_in(tenant, &timeline, ill.policy));
            let known = self.tenancy.standing(tenant.id(), &ill.policy);
            let is_recorded =
                |known: &StoredStanding| known.standing == Standing::Quarantined && known.stand_in == stand_in;
            if known.as_ref().is_some_and(is_recorded) && (stand_in.is_none() || !in_force) {
                // Whoever was counted under it just then may have come to owe time after debtors were looked for.
                if stand_in.is_some() {
                    self.fleet.mend(tenant.id(), |owed| owed.policy == ill.policy);
                }
                continue;
            }
            let reason = ill.reason.clone().unwrap_or_else(|| "it failed again and again".into());
            let moved = Move { digest: ill.policy, to: Standing::Quarantined, by: Actor::Host, reason, stand_in };
            let activation = stand_in.filter(|_| in_force).map(|digest| NewActivation {
                reason: Some(format!("policy {} was quarantined", ill.policy)),
                ..NewActivation::now(tenant.id().clone(), digest, Actor::Host)
            });
            tracing::error!(tenant = %tenant.id(), policy = %ill.policy, reason = moved.reason, "a policy is quarantined");
            self.tenancy.move_policy(tenant.id(), moved, activation).await?;
            self.accounting.quarantine(tenant.id(), ill.policy, stand_in);
            self.fleet.mend(tenant.id(), |_| true);
        }
        Ok(())
    }

    /// The policy that the tenant's ladder puts in the place of `ill`; none holds.
    fn stand_in(&self, tenant: &Tenant, timeline: &Timeline, ill: Digest) -> Option<Digest> {
        let standard = self.policies.standard().digest();
        for rung in tenant.settings().ladder.rungs() {
            match rung {
                Rung::Hold => return None,
                Rung::LastGood => {
                    let good = self.last_good(tenant.id(), timeline, ill);
                    if good.is_some() {
                        return good;
                    }
                }
                Rung::Standard => return Some(standard).filter(|&standard| standard != ill),
            }
        }
        None
    }

    /// The last policy that was in force before now, is not `not`, is well, and is loaded.
    pub fn last_good(&self, tenant: &TenantId, timeline: &Timeline, not: Digest) -> Option<Digest> {
        let ill: BTreeSet<_> = self.accounting.quarantined(tenant).into_iter().map(|ill| ill.policy).collect();
        let before = timeline.until(self.fleet.now()).iter().rev().map(|&(_, digest)| digest);
        let mut good = before.filter(|digest| *digest != not && !ill.contains(digest));
        good.find(|&digest| self.policies.get(digest).is_some())
    }

    /// Writes down which policies have begun to drain, and which have drained.
    async fn retire(&self, tenant: &TenantId) -> Result<(), CommitError> {
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

    /// Where a policy stands with a tenant at this moment; `stood` is what the last fact says.
    pub fn standing(&self, stood: &StoredStanding) -> Standing {
        let (tenant, digest, now) = (&stood.tenant, stood.digest, self.fleet.now());
        if matches!(stood.standing, Standing::Uploaded | Standing::Refused) {
            return stood.standing;
        }
        if self.accounting.quarantined(tenant).iter().any(|ill| ill.policy == digest) {
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

    /// What of a tenant somebody should look at: a policy in force that is not asked any more, and one that another one was put in the place of.
    pub fn alerts(&self, tenant: &TenantId) -> Vec<Alert> {
        let in_force = self.accounting.timeline(tenant).at(self.fleet.now());
        let by = self.tenancy.standing(tenant, &in_force).and_then(|stood| stood.by);
        let ill = self.accounting.quarantined(tenant).into_iter();
        let alert = |ill: Quarantined| {
            let held = ill.policy == in_force;
            let replaced = ill.stand_in == Some(in_force) && by == Some(Actor::Host);
            (held || replaced).then(|| Alert { tenant: tenant.clone(), ill, held })
        };
        ill.filter_map(alert).collect()
    }
}

/// Where a policy that is not in force at `now` stands, having been in force before; none if it never was.
fn past(timeline: &Timeline, digest: Digest, now: Instant, views: &[Arc<View>]) -> Option<Standing> {
    let until = timeline.until(now);
    if !until.iter().any(|&(_, past)| past == digest) {
        return None;
    }
    let waits = |view: &Arc<View>| {
        let (tracker, owed) = (&view.account.tracker, &view.account.degraded);
        if owed.as_ref().is_some_and(|owed| owed.policy == digest) {
            return true;
        }
        // A visit under way is closed by every policy that was in force since it began, each at the end of its own time.
        let began = timeline.until(tracker.since).len() - 1;
        tracker.current.is_some() && until.get(began..).is_some_and(|since| since.iter().any(|&(_, at)| at == digest))
    };
    Some(if views.iter().any(waits) { Standing::Draining } else { Standing::Retired })
}
