//! Activation: puts a tenant's time under a policy from an instant on, or rolls it back.

use std::sync::Arc;

use super::trial::Gates;
use super::{Rollout, RolloutError, blocking};
use crate::billing::{Fact, TenantFact};
use crate::id::{Digest, TenantId};
use crate::invoice::Issuer;
use crate::journal::{self, CommitError, FirstTry, NewActivation, RequestKey};
use crate::tenant::{Actor, Standing};
use crate::units::Instant;

/// A request to put a tenant under a policy.
#[derive(Debug, Clone)]
pub struct Activation {
    /// The tenant.
    pub tenant: TenantId,
    /// The policy, one that [`Rollout::find`] has returned.
    pub digest: Digest,
    /// First instant under the policy; none for now.
    pub at: Option<Instant>,
    /// Permits a policy that was in force before, or that is quarantined.
    pub again: bool,
    /// Options of the policy, sorted by name.
    pub options: Vec<(String, String)>,
    /// Bounds on the change of money that a trial has found; none needs no trial.
    pub gates: Option<Gates>,
    /// Reason, in words, for the record; none for none.
    pub reason: Option<String>,
    /// The actor who asks.
    pub by: Actor,
    /// Key by which a repeated request is recognized; none if it can't be.
    pub request: Option<RequestKey>,
}

/// A request to put a tenant under the policy before the present one.
#[derive(Debug, Clone)]
pub struct Rollback {
    /// The tenant.
    pub tenant: TenantId,
    /// Reason, in words, for the record; none for none.
    pub reason: Option<String>,
    /// The actor who asks.
    pub by: Actor,
    /// Key by which a repeated request is recognized; none if it can't be.
    pub request: Option<RequestKey>,
}

/// A recorded activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activated {
    /// The tenant.
    pub tenant: TenantId,
    /// The policy.
    pub digest: Digest,
    /// First instant under it.
    pub from: Instant,
    /// Sequence number of the activation's fact.
    pub fact: u64,
    /// Set if an earlier try of the same request made the activation.
    pub repeated: bool,
    /// Set if the policy was in force already, so that nothing was recorded: `from` and `fact` are
    /// those of the earlier activation.
    pub already: bool,
    /// The policy that answered a probe after the change; none without a probe: for a planned,
    /// repeated or needless activation.
    pub answered_by: Option<Digest>,
}

impl Activated {
    fn repeated(first: journal::Activation) -> Self {
        let journal::Activation { tenant, from, digest, fact } = first;
        Self { tenant, digest, from, fact, repeated: true, already: false, answered_by: None }
    }
}

impl Rollout {
    /// Puts a tenant under a policy, and probes it if it is in force now.
    ///
    /// # Errors
    /// [`RolloutError`]; nothing is recorded, except with [`RolloutError::Unanswered`] and
    /// [`RolloutError::Probe`].
    pub async fn activate(self: &Arc<Self>, asked: Activation) -> Result<Activated, RolloutError> {
        if let Some(first) = self.first_try(asked.request.as_ref()).await? {
            return Ok(first);
        }
        if asked.at.is_some_and(|at| at < self.fleet.now()) {
            return Err(RolloutError::Past);
        }
        if let Some(done) = self.already(&asked).await? {
            return Ok(done);
        }
        self.check_standing(&asked.tenant, asked.digest)?;
        self.check_again(&asked)?;
        let rollout = self.clone();
        let Activation { tenant, digest, at, options, gates, reason, by, request, .. } = asked;
        let gated = tenant.clone();
        let chosen = options.clone();
        blocking(move || {
            rollout.make_ready(digest)?;
            rollout.check_billable(&gated, digest, &chosen, at)?;
            gates.map_or(Ok(()), |gates| rollout.check_gates(&gated, digest, &gates))
        })
        .await?;
        let activation = NewActivation {
            requested: at,
            reason,
            options,
            ..NewActivation::now(tenant, digest, by)
        };
        self.put_in_force(activation, request).await
    }

    /// Refuses a policy that can't be billed by the tenant's books, or does not accept its options:
    /// otherwise the close of a period would fail, too late. Blocking.
    fn check_billable(
        &self,
        tenant: &TenantId,
        digest: Digest,
        options: &[(String, String)],
        at: Option<Instant>,
    ) -> Result<(), RolloutError> {
        let issuer = Issuer::new(self.journal.clone(), self.policies.clone());
        let at = at.unwrap_or_else(|| self.fleet.now());
        issuer
            .check_activation(tenant, digest, options, at)
            .map_err(|error| RolloutError::Unbillable(Box::new(error)))
    }

    /// Puts a tenant under the last policy before the present one that is not quarantined.
    ///
    /// # Errors
    /// As [`Rollout::activate`]; [`RolloutError::NothingToRollBack`]. A policy that the books in
    /// force can't be billed by is refused: nothing would be charged.
    pub async fn roll_back(self: &Arc<Self>, asked: Rollback) -> Result<Activated, RolloutError> {
        let Rollback { tenant, reason, by, request } = asked;
        if let Some(first) = self.first_try(request.as_ref()).await? {
            return Ok(first);
        }
        let digest = self.previous(&tenant).await?.ok_or(RolloutError::NothingToRollBack)?;
        // As it was: with the options under which it was in force.
        let options = self.last_options(&tenant, digest).await?;
        let rollout = self.clone();
        let whose = tenant.clone();
        let kept = options.clone();
        blocking(move || rollout.check_billable(&whose, digest, &kept, None)).await?;
        let activation = NewActivation {
            rollback: true,
            reason,
            options,
            ..NewActivation::now(tenant, digest, by)
        };
        self.put_in_force(activation, request).await
    }

    /// The options of a policy's last activation for a tenant; none without one.
    pub(super) async fn last_options(
        self: &Arc<Self>,
        tenant: &TenantId,
        policy: Digest,
    ) -> Result<Vec<(String, String)>, RolloutError> {
        let rollout = self.clone();
        let whose = tenant.clone();
        let facts =
            blocking(move || Ok(rollout.journal.archive().facts_of_tenant(&whose)?)).await?;
        let options = |fact: &Fact| match fact.of_tenant() {
            Some(TenantFact::PolicyActivated { digest, options, .. }) if *digest == policy => {
                Some(options.clone())
            }
            _ => None,
        };
        Ok(facts.iter().rev().find_map(|(_, fact)| options(fact)).unwrap_or_default())
    }

    /// The policy that a rollback would put in force: the last one before the present one that was
    /// not rolled back itself, is loaded and is not quarantined; none without one.
    ///
    /// # Errors
    /// The journal's errors.
    pub async fn previous(
        self: &Arc<Self>,
        tenant: &TenantId,
    ) -> Result<Option<Digest>, RolloutError> {
        let present = self.fleet.timeline(tenant).at(self.fleet.now());
        let history = self.history(tenant).await?;
        Ok(history.before(present).find(|digest| self.is_good(tenant, digest)))
    }

    /// Refuses a policy that is not examined yet, or has failed the examination: it can be neither
    /// activated nor tried.
    pub(super) fn check_standing(
        &self,
        tenant: &TenantId,
        digest: Digest,
    ) -> Result<(), RolloutError> {
        match self.tenancy.standing(tenant, &digest).map(|stood| stood.standing) {
            Some(standing @ (Standing::Uploaded | Standing::Refused)) => {
                Err(RolloutError::NotAdmitted { digest, standing })
            }
            Some(
                Standing::Admitted
                | Standing::Shadow
                | Standing::Active
                | Standing::Draining
                | Standing::Retired
                | Standing::Quarantined,
            )
            | None => Ok(()),
        }
    }

    /// Refuses an older or quarantined policy unless the request permits it: a request that is
    /// replayed by accident must not bring back old rules.
    fn check_again(&self, asked: &Activation) -> Result<(), RolloutError> {
        if asked.again {
            return Ok(());
        }
        let Activation { tenant, digest, .. } = asked;
        let mut quarantined = self.accounting.quarantined(tenant).into_iter();
        if quarantined.any(|quarantined| quarantined.policy == *digest) {
            return Err(RolloutError::Quarantined(*digest));
        }
        let now = self.fleet.now();
        let timeline = self.fleet.timeline(tenant);
        let until = timeline.until(asked.at.map_or(now, |at| at.max(now)));
        let was_in_force = until.iter().any(|&(_, past)| past == *digest);
        let is_in_force = until.last().is_some_and(|&(_, last)| last == *digest);
        match was_in_force && !is_in_force {
            true => Err(RolloutError::OlderPolicy(*digest)),
            false => Ok(()),
        }
    }

    /// The activation by which the policy, with the same options, is in force already at the
    /// requested instant; none if a new one would change anything, as it does for a quarantined
    /// policy.
    async fn already(
        self: &Arc<Self>,
        asked: &Activation,
    ) -> Result<Option<Activated>, RolloutError> {
        let Activation { tenant, digest, .. } = asked;
        let at = asked.at.unwrap_or_else(|| self.fleet.now());
        let timeline = self.fleet.timeline(tenant);
        let Some(&(from, in_force)) = timeline.until(at).last() else { return Ok(None) };
        if in_force != *digest || !self.is_good(tenant, digest) {
            return Ok(None);
        }
        let rollout = self.clone();
        let tenant = tenant.clone();
        let known = blocking(move || {
            let issuer = Issuer::new(rollout.journal.clone(), rollout.policies.clone());
            Ok((
                rollout.journal.archive().activations_of(&tenant)?,
                issuer.options_at(&tenant, at)?,
            ))
        });
        let (activations, options) = known.await?;
        if options != asked.options {
            return Ok(None);
        }
        let mut activations = activations.into_iter().rev();
        let first = activations.find(|one| (one.from, one.digest) == (from, in_force));
        Ok(first.map(|first| Activated {
            already: true,
            repeated: false,
            ..Activated::repeated(first)
        }))
    }

    async fn put_in_force(
        self: &Arc<Self>,
        new: NewActivation,
        request: Option<RequestKey>,
    ) -> Result<Activated, RolloutError> {
        let tenant = new.tenant.clone();
        let digest = new.digest;
        let by = new.by.clone();
        self.fleet.read_traffic_before(&tenant, new.requested).await;
        let (from, fact) = match self.fleet.activate(new, request.clone()).await {
            Ok(done) => done,
            Err(error @ CommitError::Repeated { same: true, .. }) => {
                // A concurrent try of the same request was faster.
                return self.first_try(request.as_ref()).await?.ok_or_else(|| error.into());
            }
            Err(error) => return Err(error.into()),
        };
        self.tenancy.note_activated(&tenant, digest, by);
        let is_now = from <= self.fleet.now();
        let answered_by = is_now.then(|| self.probe(&tenant, from, digest)).transpose()?;
        Ok(Activated { tenant, digest, from, fact, repeated: false, already: false, answered_by })
    }

    /// The outcome of the first try of this request; none if this is the first.
    async fn first_try(
        self: &Arc<Self>,
        request: Option<&RequestKey>,
    ) -> Result<Option<Activated>, RolloutError> {
        let Some(request) = request.cloned() else { return Ok(None) };
        let rollout = self.clone();
        let found = blocking(move || Ok(rollout.journal.first_try(&request)?)).await?;
        let Some(FirstTry { seq, fact, same }) = found else { return Ok(None) };
        match fact.of_tenant() {
            Some(&TenantFact::PolicyActivated { digest, from, .. }) if same => {
                let tenant = fact.tenant.clone();
                let first = journal::Activation { tenant, from, digest, fact: seq };
                Ok(Some(Activated::repeated(first)))
            }
            _ => Err(CommitError::Repeated { fact: seq, same: false }.into()),
        }
    }

    /// Probes the policy that accounts for a tenant from `from` on, which must be `digest`.
    fn probe(
        &self,
        tenant: &TenantId,
        from: Instant,
        digest: Digest,
    ) -> Result<Digest, RolloutError> {
        match self.accounting.probe(tenant, from) {
            Ok(answers) if answers == digest => Ok(answers),
            Ok(answers) => Err(RolloutError::Unanswered { digest, answers }),
            Err(source) => Err(RolloutError::Probe { digest, source: Box::new(source) }),
        }
    }
}
