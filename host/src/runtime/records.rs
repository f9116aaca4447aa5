//! The journal of an earlier run, and the policies that it names.

use std::mem::take;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::RuntimeError;
use super::options::Options;
use super::policies;
use crate::billing::account::Accountant;
use crate::billing::{HostFact, TenantFact};
use crate::clock::{Clock, Gap};
use crate::disk::Disk;
use crate::id::TenantId;
use crate::journal::{
    self, CommitError, Entry, Journal, NewActivation, NewPolicy, Opened, StoredStanding,
    StoredTenant,
};
use crate::policy::{Accounting, PolicyHost};
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
        let policies = Arc::new(policies::open(data, compiler)?);
        let accounting = Arc::new(Accounting::new(policies.clone()));
        let accountant: Arc<dyn Accountant> = accounting.clone();
        let (journal, opened) = Journal::open(data, options, accountant)?;
        let journal = Arc::new(journal);
        let missing = policies::load_policies(&policies, &accounting, &opened);
        policies::compile_aside(journal.clone(), policies.clone(), missing);
        let clock = opened.clock.clone();
        Ok(Self { policies, accounting, journal, clock, opened })
    }

    /// Records that the daemon has started, as [`first_facts`] does.
    pub(super) async fn begin(mut self) -> Result<Self, CommitError> {
        self.opened = first_facts(&self.journal, &self.policies, &self.clock, self.opened).await?;
        Ok(self)
    }

    /// The tenants, their tokens, and the standing of their policies.
    pub(super) fn tenancy(&mut self, options: &Options) -> Tenancy {
        // A disk that can't be asked bounds nobody by its size.
        let space = Disk::of(&options.data).space().map_or(u64::MAX, |space| space.total_bytes);
        Tenancy::new(
            self.journal.clone(),
            self.clock.clone(),
            take(&mut self.opened.tenants),
            take(&mut self.opened.tokens),
            take(&mut self.opened.standings),
            take(&mut self.opened.admissions),
            options.ratios.disk.of(space),
        )
    }
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
