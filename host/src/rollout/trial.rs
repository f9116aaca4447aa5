//! Trials: a policy runs beside the one in force, to show the change of time and money.

use std::sync::Arc;

use super::error::GateExceeded;
use super::{Rollout, RolloutError, blocking};
use crate::billing::decimal::Decimal;
use crate::billing::{Fact, Totals};
use crate::driver::View;
use crate::id::{Digest, InstanceId, InstanceName, TenantId};
use crate::invoice::{self, Comparison, Computer, Engines, EvidenceError, InvoiceError, Named};
use crate::limits::api as limits;
use crate::policy::shadow::{CompareError, Compared};
use crate::tenant::{Actor, Move, Standing};
use crate::units::Instant;
use crate::vm::Phase;

/// The time and the money of a tenant since a trial began, counted twice.
#[derive(Debug)]
pub struct Report {
    /// The policy in force.
    pub active: Digest,
    /// Instant at which the trial began.
    pub since: Instant,
    /// First instant that was not counted.
    pub until: Instant,
    /// Number of the tenant's instances that are not deleted.
    pub instances: u64,
    /// Number of instances whose time both have counted.
    pub compared: u64,
    /// Number of instances for which the two differ.
    pub differing: u64,
    /// Time of all compared instances, by the policies in force.
    pub active_time: Totals,
    /// Time of all compared instances, by the tried policy.
    pub candidate_time: Totals,
    /// The instance for which the two differ most; none if they agree.
    pub worst: Option<Worst>,
    /// Fuel that the tried policy has used to count time.
    pub fuel: u64,
    /// Number of instances at which the tried policy failed.
    pub faults: u64,
    /// The first failure, in words; none without one.
    pub fault: Option<String>,
    /// The charges of both; an error if they could not be computed.
    pub money: Result<Comparison, InvoiceError>,
}

/// The instance for which two policies differ most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worst {
    /// Id of the instance.
    pub instance: InstanceId,
    /// Name of the instance.
    pub name: InstanceName,
    /// Nanoseconds that the two count under different phases.
    pub moved_ns: u64,
    /// Time of the instance, by the policies in force.
    pub active_time: Totals,
    /// Time of the instance, by the tried policy.
    pub candidate_time: Totals,
}

/// Bounds on the change of money by an activation, in nano-units of the currency; none for no
/// bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gates {
    /// Bound on the sum over the tenants.
    pub net: Option<i128>,
    /// Bound for each tenant alone.
    pub tenant: Option<i128>,
    /// Includes the other tenants for which the policy is tried.
    pub across_tenants: bool,
}

impl Rollout {
    /// Begins a trial; has no effect on one that is under way.
    ///
    /// # Errors
    /// [`RolloutError::NotAdmitted`], [`RolloutError::InForce`], [`RolloutError::Admission`] if the
    /// policy can't be compiled any more, and the journal's errors.
    pub async fn begin_trial(
        self: &Arc<Self>,
        tenant: &TenantId,
        digest: Digest,
        by: Actor,
        reason: Option<String>,
    ) -> Result<(), RolloutError> {
        self.check_standing(tenant, digest)?;
        if self.fleet.timeline(tenant).at(self.fleet.now()) == digest {
            return Err(RolloutError::InForce(digest));
        }
        let rollout = self.clone();
        blocking(move || rollout.make_ready(digest)).await?;
        if self.is_tried(tenant, digest) {
            return Ok(());
        }
        let reason = reason.unwrap_or_default();
        let moved = Move { digest, to: Standing::Shadow, by, reason, stand_in: None };
        Ok(self.tenancy.move_policy(tenant, moved, None).await?)
    }

    /// Ends a trial.
    ///
    /// # Errors
    /// [`RolloutError::NoSuchTrial`], and the journal's errors.
    pub async fn end_trial(
        &self,
        tenant: &TenantId,
        digest: Digest,
        by: Actor,
    ) -> Result<(), RolloutError> {
        self.check_tried(tenant, digest)?;
        let reason = String::new();
        let moved = Move { digest, to: Standing::Admitted, by, reason, stand_in: None };
        Ok(self.tenancy.move_policy(tenant, moved, None).await?)
    }

    fn is_tried(&self, tenant: &TenantId, digest: Digest) -> bool {
        let stood = self.tenancy.standing(tenant, &digest);
        stood.is_some_and(|stood| stood.standing == Standing::Shadow)
    }

    fn check_tried(&self, tenant: &TenantId, digest: Digest) -> Result<(), RolloutError> {
        match self.is_tried(tenant, digest) {
            true => Ok(()),
            false => Err(RolloutError::NoSuchTrial { digest, tenant: tenant.clone() }),
        }
    }

    /// The outcome of a trial up to now, over at most [`limits::SHADOW_INSTANCES_MAX`] instances.
    ///
    /// # Errors
    /// [`RolloutError::NoSuchTrial`], [`RolloutError::NoSuchPolicy`] if the policy is not loaded,
    /// and the journal's errors.
    pub async fn report(
        self: &Arc<Self>,
        tenant: TenantId,
        digest: Digest,
    ) -> Result<Report, RolloutError> {
        self.check_tried(&tenant, digest)?;
        let rollout = self.clone();
        blocking(move || rollout.count_twice(&tenant, digest)).await
    }

    fn count_twice(&self, tenant: &TenantId, digest: Digest) -> Result<Report, RolloutError> {
        let since = self.began(tenant, digest)?;
        let candidate = self.policies.get(digest);
        let candidate = candidate.ok_or_else(|| RolloutError::NoSuchPolicy(digest.to_string()))?;
        let views = self.fleet.list(tenant);
        let until = self.fleet.now();
        let mut sums = Sums::default();
        for view in views.iter().take(limits::SHADOW_INSTANCES_MAX) {
            let history = self.journal.history(&view.record.id)?;
            let lived = lived(&history, since);
            sums.add(view, self.accounting.compare(tenant, &candidate, &lived, until));
        }
        let money = self.charge_twice(tenant, digest, since, until);
        let rating_fuel = money.as_ref().map_or(0, |compared| compared.fuel);
        self.accounting.charge(tenant, sums.fuel.saturating_add(rating_fuel));
        Ok(Report {
            active: self.fleet.timeline(tenant).at(until),
            since,
            until,
            instances: views.len() as u64,
            compared: sums.compared,
            differing: sums.differing,
            active_time: sums.active,
            candidate_time: sums.candidate,
            worst: sums.worst,
            fuel: sums.fuel,
            faults: sums.faults,
            fault: sums.fault,
            money,
        })
    }

    /// The charges of a candidate for a time, beside those of the policies in force.
    fn charge_twice(
        &self,
        tenant: &TenantId,
        candidate: Digest,
        since: Instant,
        until: Instant,
    ) -> Result<Comparison, InvoiceError> {
        let archive = self.journal.archive();
        let as_of = archive.head().map_err(EvidenceError::from)?;
        let view = invoice::View::load(&archive, tenant, as_of)?;
        let calls = Engines::new(&archive, &self.policies);
        let named = |id: &InstanceId| self.named(tenant, id);
        Computer::new(&archive, &calls, &named).compare(view, (since, until), candidate)
    }

    fn named(&self, tenant: &TenantId, id: &InstanceId) -> Result<Named, EvidenceError> {
        let missing = |_| EvidenceError::Missing(format!("the record of instance {id}"));
        let view = self.fleet.find_closed(tenant, id).map_err(missing)?;
        let tags = view.record.spec.tags.clone().into_iter().collect();
        Ok(Named { id: id.to_string(), name: view.record.name.to_string(), tags })
    }

    /// Refuses a policy that the tenant has not tried in its shadow, and one whose trial would have
    /// cost more than the active policy by more than a gate allows: for one tenant, or for all
    /// together. Blocking.
    pub(super) fn check_gates(
        &self,
        tenant: &TenantId,
        digest: Digest,
        gates: &Gates,
    ) -> Result<(), RolloutError> {
        if !self.is_tried(tenant, digest) {
            return Err(RolloutError::NotTried { digest, tenant: tenant.clone() });
        }
        let mut net = 0_i128;
        let mut currencies = Vec::new();
        for tenant in self.gated(tenant, digest, gates) {
            let since = self.began(&tenant, digest)?;
            let compared = self.charge_twice(&tenant, digest, since, self.fleet.now())?;
            let more = compared.net()?;
            let currency = compared.currency.as_deref().unwrap_or_default();
            check_gate("max_tenant", gates.tenant, more, currency, &format!("for '{tenant}'"))?;
            net = net.checked_add(more).ok_or(InvoiceError::Overflow)?;
            currencies.extend(compared.currency);
        }
        let currency = currencies.first().cloned().unwrap_or_default();
        match currencies.iter().find(|other| **other != currency) {
            Some(other) if gates.net.is_some() => {
                Err(RolloutError::TwoCurrencies { one: currency, other: other.clone() })
            }
            Some(_) | None => check_gate("max_net", gates.net, net, &currency, "in all"),
        }
    }

    /// The tenants whose trials a gate covers; the tenant of the activation comes first.
    fn gated(&self, tenant: &TenantId, digest: Digest, gates: &Gates) -> Vec<TenantId> {
        let mut tenants = vec![tenant.clone()];
        if gates.across_tenants {
            let others = self.tenancy.tenants().into_iter().map(|other| other.id().clone());
            tenants.extend(others.filter(|other| other != tenant && self.is_tried(other, digest)));
        }
        tenants
    }

    /// Instant at which the trial of a policy began.
    fn began(&self, tenant: &TenantId, digest: Digest) -> Result<Instant, RolloutError> {
        let last = self.journal.policy_facts(tenant, &digest, 1)?;
        Ok(last.first().map_or_else(|| self.fleet.now(), |fact| fact.fact.meter()))
    }
}

/// Refuses a change of money that exceeds a bound, in either direction.
fn check_gate(
    gate: &'static str,
    most: Option<i128>,
    more: i128,
    currency: &str,
    scope: &str,
) -> Result<(), RolloutError> {
    let Some(most) = most.filter(|most| more.unsigned_abs() > most.unsigned_abs()) else {
        return Ok(());
    };
    let needed = more.saturating_abs();
    Err(RolloutError::Gate(Box::new(GateExceeded {
        gate,
        differs: Decimal::nanos(more).to_string(),
        currency: currency.into(),
        scope: scope.into(),
        most: Decimal::nanos(most).to_string(),
        over: Decimal::nanos(needed.saturating_sub(most)).to_string(),
        needed: Decimal::nanos(needed).to_string(),
    })))
}

/// The phases that an instance has entered since `since`, beginning with the one under way at that
/// instant.
fn lived(history: &[(u64, Fact)], since: Instant) -> Vec<(Option<Phase>, Instant)> {
    let mut lived: Vec<(Option<Phase>, Instant)> = Vec::new();
    for (_, fact) in history {
        let Some(counted) = fact.counts() else { continue };
        if fact.at.meter <= since {
            lived.clear();
        }
        lived.push((counted.phase(), fact.at.meter.max(since)));
    }
    lived
}

/// The sums of a report.
#[derive(Default)]
struct Sums {
    compared: u64,
    differing: u64,
    active: Totals,
    candidate: Totals,
    worst: Option<Worst>,
    fuel: u64,
    faults: u64,
    fault: Option<String>,
}

impl Sums {
    fn add(&mut self, view: &View, compared: Result<Compared, CompareError>) {
        let compared = match compared {
            Ok(compared) => compared,
            Err(error) => return self.failed(&view.record.id, &error),
        };
        self.compared += 1;
        self.fuel = self.fuel.saturating_add(compared.fuel);
        add(&mut self.active, &compared.active);
        add(&mut self.candidate, &compared.candidate);
        let moved_ns = u64::try_from(compared.moved_ns()).unwrap_or(u64::MAX);
        if moved_ns == 0 {
            return;
        }
        self.differing += 1;
        if self.worst.as_ref().is_none_or(|worst| worst.moved_ns < moved_ns) {
            self.worst = Some(Worst {
                instance: view.record.id.clone(),
                name: view.record.name.clone(),
                moved_ns,
                active_time: compared.active,
                candidate_time: compared.candidate,
            });
        }
    }

    fn failed(&mut self, instance: &InstanceId, error: &CompareError) {
        self.faults += u64::from(matches!(error, CompareError::Candidate(_)));
        let source = std::error::Error::source(error);
        let words = source.map_or_else(|| error.to_string(), ToString::to_string);
        self.fault.get_or_insert(format!("{instance}: {words}"));
    }
}

fn add(sum: &mut Totals, more: &Totals) {
    sum.0.iter_mut().zip(more.0).for_each(|(sum, more)| *sum = sum.saturating_add(more));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::{About, BootId, Entered, InstanceFact, Reading};
    use crate::vm::{Shape, Traffic};

    #[test]
    fn a_trial_begins_with_the_phase_that_is_under_way() {
        let fact = |at, fact| {
            let at = Reading {
                boot: BootId("b".into()),
                boottime_ns: 0,
                wall_ns: 0,
                meter: Instant(at),
            };
            let about = About::Instance("i".parse().expect("an id"), fact);
            (0, Fact { at, tenant: TenantId::default_tenant(), about })
        };
        let entered = |phase| {
            let shape = Shape::default();
            InstanceFact::Entered(Entered {
                phase,
                shape,
                session: 1,
                cause: None,
                traffic: Traffic::NONE,
            })
        };
        let history = [
            fact(10, entered(Phase::Created)),
            fact(20, entered(Phase::Running)),
            fact(30, entered(Phase::Stopped)),
            fact(40, InstanceFact::Deleted),
        ];
        let seen = |since| {
            lived(&history, Instant(since)).iter().map(|&(to, at)| (to, at.0)).collect::<Vec<_>>()
        };
        let running = Some(Phase::Running);
        let stopped = Some(Phase::Stopped);
        assert_eq!(seen(25), [(running, 25), (stopped, 30), (None, 40)]);
        assert_eq!(seen(30), [(stopped, 30), (None, 40)]);
        assert_eq!(seen(0).len(), 4);
        assert_eq!(seen(99), [(None, 99)]);
    }
}
