//! The journal of an earlier run, and the policies that it names.

use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::RuntimeError;
use super::options::Options;
use crate::billing::account::Accountant;
use crate::billing::{HostFact, TenantFact};
use crate::clock::{Clock, Gap};
use crate::id::{Digest, TenantId};
use crate::journal::{
    self, CommitError, Entry, Journal, NewActivation, NewPolicy, Opened, StoredStanding,
    StoredTenant,
};
use crate::policy::{Accounting, PolicyHost, Profile};
use crate::rollout;
use crate::tenancy::Tenancy;
use crate::tenant::{Actor, Settings, Standing};

/// The journal of an earlier run, and the policies that it names.
pub(super) struct Records {
    pub(super) policies: Arc<PolicyHost>,
    pub(super) accounting: Arc<Accounting>,
    pub(super) journal: Arc<Journal>,
    pub(super) clock: Clock,
    /// The rest of the journal: what was taken from it is empty.
    pub(super) opened: Opened,
}

impl Records {
    /// Opens the journal, and puts the policies that it names in force.
    pub(super) async fn open(options: &Options) -> Result<Self, RuntimeError> {
        let data = options.data.clone();
        let limits = options.journal;
        let compiler = options.compiler.clone();
        let open = move || Self::open_blocking(&data, limits, compiler);
        let opened = tokio::task::spawn_blocking(open).await;
        opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    fn open_blocking(
        data: &Path,
        options: journal::Options,
        compiler: Option<PathBuf>,
    ) -> Result<Self, RuntimeError> {
        let policies = PolicyHost::open(&data.join("cache"))?.compiling_with(compiler);
        let policies = Arc::new(policies);
        let accounting = Arc::new(Accounting::new(policies.clone()));
        let accountant: Arc<dyn Accountant> = accounting.clone();
        let (journal, opened) = Journal::open(data, options, accountant)?;
        load_policies(&journal, &policies, &accounting, &opened);
        let clock = opened.clock.clone();
        Ok(Self { policies, accounting, journal: Arc::new(journal), clock, opened })
    }

    /// Records that the daemon has started, as [`first_facts`] does.
    pub(super) async fn begin(mut self) -> Result<Self, CommitError> {
        self.opened = first_facts(&self.journal, &self.policies, &self.clock, self.opened).await?;
        Ok(self)
    }

    /// The tenants, their tokens, and the standing of their policies.
    pub(super) fn tenancy(&mut self) -> Tenancy {
        Tenancy::new(
            self.journal.clone(),
            self.clock.clone(),
            take(&mut self.opened.tenants),
            take(&mut self.opened.tokens),
            take(&mut self.opened.standings),
            take(&mut self.opened.admissions),
        )
    }
}

/// Loads every policy that some tenant is or was under, and puts the timelines in force. A policy
/// that can't be loaded any more counts as one that fails: its tenants are accounted by the
/// standard policy, and their answers say so.
pub fn load_policies(
    journal: &Journal,
    policies: &PolicyHost,
    accounting: &Accounting,
    opened: &Opened,
) {
    for activation in &opened.activations {
        if policies.get(activation.digest).is_none()
            && let Err(error) = load_policy(journal, policies, opened, activation.digest)
        {
            tracing::error!(digest = %activation.digest, error, "a policy can't be loaded");
        }
        accounting.activate(&activation.tenant, activation.from, activation.digest);
    }
    for stood in opened.standings.iter().filter(|stood| stood.standing == Standing::Quarantined) {
        accounting.quarantine(&stood.tenant, stood.digest, stood.stand_in);
    }
}

fn load_policy(
    journal: &Journal,
    policies: &PolicyHost,
    opened: &Opened,
    digest: Digest,
) -> Result<(), String> {
    let bytes = journal.policy_bytes(&digest).map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or("its bytes are not in the journal")?;
    let stored = opened.policies.iter().find(|stored| stored.digest == digest);
    let profile = stored.map_or(Profile::default(), rollout::profile_of);
    policies.load(profile, digest, &bytes).map(drop).map_err(|error| error.in_words())
}

/// Records that the daemon has started. The very first start also makes the default tenant, puts
/// the standard policy in force for it, and stores that policy's bytes.
///
/// # Errors
/// [`CommitError`] of the one commit.
pub async fn first_facts(
    journal: &Journal,
    policies: &PolicyHost,
    clock: &Clock,
    mut opened: Opened,
) -> Result<Opened, CommitError> {
    let tenant = TenantId::default_tenant();
    let at = clock.reading();
    let started = HostFact::Started { version: env!("CARGO_PKG_VERSION").into() };
    let mut entry = Entry::of_host(at.clone(), started);
    opened.calendar.push((at.meter, at.wall_ns));
    if let Some(Gap { reason, claimed_ns, counted_ns }) = opened.gap {
        tracing::warn!(
            %reason, claimed_ns, counted_ns,
            "nothing proves how much time lies between the last boot of this host and this one; \
             the meter goes on without it. Keep the clock by NTP, or say --trust-wall-clock where \
             it is kept otherwise"
        );
        entry.host.push((at.clone(), HostFact::TimeUnknown { reason, claimed_ns, counted_ns }));
    }
    if !opened.tenants.iter().any(|known| known.id == tenant) {
        entry.tenants.push((tenant.clone(), (at.clone(), TenantFact::Created { by: Actor::Host })));
        let id = tenant.clone();
        let created = at.meter;
        opened.tenants.push(StoredTenant { id, created, settings: Settings::default() });
    }
    let is_first = opened.activations.is_empty();
    let digest = policies.standard().digest();
    let standard = NewPolicy {
        tenant: tenant.clone(),
        digest,
        name: None,
        bytes: PolicyHost::standard_bytes().to_vec(),
        record: rollout::standard_record(),
        by: Actor::Host,
    };
    if is_first {
        let tenant = tenant.clone();
        let by = Some(Actor::Host);
        opened.standings.push(StoredStanding {
            tenant,
            digest,
            standing: Standing::Active,
            by,
            stand_in: None,
        });
    }
    let activation = NewActivation::now(tenant, digest, Actor::Host);
    entry.policy = is_first.then_some(standard);
    entry.activation = is_first.then_some(activation);
    journal.commit(entry).await?;
    Ok(opened)
}
