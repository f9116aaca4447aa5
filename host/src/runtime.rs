//! The composition root: the only place that names concrete implementations and ties them together.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ipnet::IpNet;
use rand::RngCore;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api;
use crate::billing::account::{Accountant, Reader};
use crate::billing::calendar::STEP_NS_MIN;
use crate::billing::{HostFact, TenantFact};
use crate::clock::{self, Clock, Gap};
use crate::driver::{self, Fleet, FleetError, Parts};
use crate::hypervisor::log::LogWatcher;
use crate::hypervisor::{
    Accelerator, CloudHypervisor, CloudHypervisorConfig, Firecracker, FirecrackerConfig,
    HostLaunches, Hypervisor, HypervisorError, Kind, Qemu, QemuConfig,
};
use crate::id::{Digest, InstanceName, TenantId};
use crate::image::{ImageError, Images};
use crate::journal::{
    self, CommitError, Entry, Head, Journal, NewActivation, NewPolicy, OpenError, Opened,
    StoredStanding, StoredTenant,
};
use crate::limits::instance::CONTROL_MS_MAX;
use crate::policy::{Accounting, PolicyHost, Profile};
use crate::probe::HostProber;
use crate::rollout::{self, Rollout};
use crate::tenancy::{self, Jwt, JwtConfig, JwtConfigError, Tenancy};
use crate::tenant::{Actor, Settings, Standing};

/// How often the host notes that it is alive. After a loss of power, up to this much time is
/// `unknown`.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Open files that the program is comfortable with: 4,096 connections and 10,000 machines.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// How often the wall clock is compared with the meter clock.
const WALL_EVERY: Duration = Duration::from_secs(1);

/// How the daemon is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data folder.
    pub data: PathBuf,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// QEMU: a path, or a name on `PATH`.
    pub qemu: PathBuf,
    /// Cloud Hypervisor: a path, or a name on `PATH`.
    pub cloud_hypervisor: PathBuf,
    /// Firecracker: a path, or a name on `PATH`.
    pub firecracker: PathBuf,
    /// What runs QEMU's guests, instead of what the processor suggests.
    pub accelerator: Option<Accelerator>,
    /// Whose signed tokens are accepted; none accepts none.
    pub jwt: Option<JwtConfig>,
    /// The operator's token; none reads the data folder's `token`, or makes one.
    pub token: Option<String>,
    /// Networks in which the workloads of guests may be asked whether they are well.
    pub probe_networks: Vec<IpNet>,
    /// This program, to be run as the supervisor of each virtual machine; none for the running
    /// executable.
    pub supervisor: Option<PathBuf>,
    /// This program, to be run to compile a policy; none compiles in the daemon.
    pub compiler: Option<PathBuf>,
    /// Most pages of the database; for tests of a full disk.
    pub journal: journal::Options,
}

/// Why the daemon can't run, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A file of the data folder.
    #[error("can't {doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The journal.
    #[error("can't open the journal")]
    Journal(#[from] OpenError),
    /// The policy host.
    #[error("can't set up the policy host")]
    Policies(#[from] crate::policy::OpenError),
    /// The images.
    #[error("can't open the images")]
    Images(#[from] ImageError),
    /// No hypervisor.
    #[error(
        "no hypervisor can be used here; install QEMU (Debian: apt-get install qemu-system-x86)"
    )]
    Hypervisor(#[from] HypervisorError),
    /// The instances of an earlier run.
    #[error("can't take up the instances")]
    Fleet(#[from] FleetError),
    /// What asks workloads.
    #[error(transparent)]
    Prober(#[from] crate::probe::SetupError),
    /// The watcher of logs.
    #[error(
        "can't watch logs; end other programs of this user that watch files, or raise \
         fs.inotify.max_user_instances"
    )]
    Logs(#[source] io::Error),
    /// Signed tokens.
    #[error("can't accept signed tokens")]
    Jwt(#[from] JwtConfigError),
    /// The first facts.
    #[error("can't write the journal's first facts")]
    Commit(#[from] CommitError),
    /// The address.
    #[error(
        "can't listen on {address}; is another daemon running there? Choose another with --listen"
    )]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The journal failed while serving: what is durable is known at the next start.
    #[error(
        "the journal failed ({0}); the daemon ends so that nothing is acknowledged that may not be on disk. Check the disk and start again"
    )]
    JournalFailed(Arc<str>),
    /// The server failed.
    #[error("the server failed")]
    Serve(#[source] io::Error),
}

/// A daemon that is ready to serve.
pub struct Daemon {
    state: api::State,
    fleet: Fleet,
    journal: Arc<Journal>,
    clock: Clock,
    rollout: Arc<Rollout>,
    listener: TcpListener,
}

/// The limits of tenants, as the driver asks for them.
struct TenantLimits(Arc<Tenancy>);

impl driver::Quota for TenantLimits {
    fn reserve(
        &self,
        tenant: &TenantId,
        name: &InstanceName,
        asked: driver::Share,
        there: &dyn Fn() -> Vec<(InstanceName, driver::Share)>,
    ) -> Result<driver::Reservation, FleetError> {
        let share = |share: driver::Share| tenancy::Share {
            vcpus: share.vcpus,
            memory_bytes: share.memory_bytes,
        };
        let unknown = || FleetError::Bug(format!("there is no tenant '{tenant}'"));
        let tenant = self.0.tenant(tenant).ok_or_else(unknown)?;
        let there = || there().into_iter().map(|(name, has)| (name, share(has))).collect();
        let reserved = tenant.reserve(name, share(asked), there);
        let reserved = reserved.map_err(|passed| FleetError::OverLimit {
            tenant: passed.tenant,
            limit: passed.limit,
            wanted: passed.wanted,
            most: passed.most,
        })?;
        Ok(Box::new(reserved))
    }
}

impl Daemon {
    /// Opens everything, takes up earlier instances, and binds the address.
    ///
    /// # Errors
    /// See [`RuntimeError`]; each says what to do.
    pub async fn start(mut options: Options) -> Result<Daemon, RuntimeError> {
        let descriptors = raise_descriptors();
        let jwt = options.jwt.take().map(Jwt::new).transpose()?;
        let (data, limits) = (options.data.clone(), options.journal);
        let compiler = options.compiler.clone();
        let opening = tokio::task::spawn_blocking(move || Records::open(&data, limits, compiler));
        // Whoever asks the hypervisors waits for them, most of the time.
        let (records, found) = tokio::join!(opening, hypervisors(&options));
        let records = records.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let Records { policies, accounting, journal, opened } = records?;
        let (hypervisors, statuses) = found?;
        let images = Arc::new(Images::open(&options.data)?);
        let token = match &options.token {
            Some(token) => token.clone(),
            None => token(&options.data)?,
        };
        let listener = TcpListener::bind(options.listen)
            .await
            .map_err(|source| RuntimeError::Listen { address: options.listen, source })?;
        let clock = opened.clock.clone();
        let opened = first_facts(&journal, &policies, &clock, opened).await?;
        let calendar = opened.calendar;
        let reader: Arc<dyn Reader> = accounting.clone();
        let tenancy = Arc::new(Tenancy::new(
            journal.clone(),
            clock.clone(),
            opened.tenants,
            opened.tokens,
            opened.standings,
            opened.admissions,
        ));
        let parts = Parts {
            journal: journal.clone(),
            clock: clock.clone(),
            accounts: reader,
            hypervisors,
            images: images.clone(),
            instances: options.data.join("instances"),
            alive: opened.alive,
            prober: Arc::new(HostProber::new(std::mem::take(&mut options.probe_networks))?),
            launches: Arc::new(HostLaunches),
            quota: Arc::new(TenantLimits(tenancy.clone())),
            exit_patience: Duration::from_millis(CONTROL_MS_MAX),
        };
        let fleet = Fleet::open(parts, opened.instances)?;
        for (at, wall_ns) in calendar {
            fleet.learn_calendar(at, wall_ns);
        }
        let parts = rollout::Parts {
            fleet: fleet.clone(),
            journal: journal.clone(),
            tenancy: tenancy.clone(),
            accounting: accounting.clone(),
            policies,
        };
        let rollout = Arc::new(Rollout::new(parts, &opened.policies));
        let state = api::State::new(api::Parts {
            fleet: fleet.clone(),
            images,
            journal: journal.clone(),
            accounting,
            tenancy,
            rollout: rollout.clone(),
            jwt,
            token,
            hypervisors: statuses,
            logs: LogWatcher::new().map_err(RuntimeError::Logs)?,
            connections: api::ConnectionLimits::of_descriptors(descriptors),
        });
        Ok(Daemon { state, fleet, journal, clock, rollout, listener })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// The end of the journal: whoever notes it elsewhere can tell later whether the end was cut
    /// off.
    pub fn head(&self) -> Head {
        self.journal.head()
    }

    /// Serves until `stop` is set or the journal fails. Instances go on.
    ///
    /// # Errors
    /// [`RuntimeError::JournalFailed`], [`RuntimeError::Serve`].
    pub async fn serve(self, stop: watch::Receiver<bool>) -> Result<(), RuntimeError> {
        let Daemon { state, fleet, journal, clock, rollout, listener } = self;
        let alive = tokio::spawn(prove_alive(journal.clone()));
        let wall = tokio::spawn(watch_clocks(journal.clone(), clock, fleet));
        let reconciling = tokio::spawn(rollout.run());
        let served = tokio::select! {
            served = api::serve(listener, state, stop) => served.map_err(RuntimeError::Serve),
            reason = journal.failed() => Err(RuntimeError::JournalFailed(reason)),
        };
        alive.abort();
        wall.abort();
        reconciling.abort();
        if !matches!(served, Err(RuntimeError::JournalFailed(_)))
            && let Err(error) = journal.close().await
        {
            tracing::warn!(%error, "the journal could not be closed");
        }
        served
    }
}

/// Files that this process may open, after the limit was raised as far as it may raise it itself.
fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let (current, maximum) = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => (maximum, maximum),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            (current, maximum)
        }
    };
    // No limit is answered as none.
    let descriptors = current.unwrap_or(u64::MAX);
    if descriptors < DESCRIPTORS_WANTED {
        tracing::warn!(
            descriptors,
            ?maximum,
            "few files may be open at a time: a machine takes 4, a connection 1; raise the limit \
             (`ulimit -n`, LimitNOFILE=) to {DESCRIPTORS_WANTED} or more",
        );
    }
    descriptors
}

/// What an earlier run has left.
struct Records {
    policies: Arc<PolicyHost>,
    accounting: Arc<Accounting>,
    journal: Arc<Journal>,
    opened: Opened,
}

impl Records {
    /// Opens the journal, with the policies that it names in force. Blocking.
    fn open(
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
        Ok(Self { policies, accounting, journal: Arc::new(journal), opened })
    }
}

/// The hypervisors that work here, the default first, and what is to be told of all that there
/// could be.
async fn hypervisors(
    options: &Options,
) -> Result<(Vec<Arc<dyn Hypervisor>>, Vec<api::model::HypervisorStatus>), RuntimeError> {
    let own = || {
        std::env::current_exe().map_err(|source| RuntimeError::File {
            doing: "find",
            path: "this program".into(),
            source,
        })
    };
    let supervisor = options.supervisor.clone().map_or_else(own, Ok)?;
    let (mut usable, mut statuses, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let detected = join_all(Kind::ALL.map(|kind| detect(kind, options, supervisor.clone()))).await;
    for (kind, detected) in Kind::ALL.into_iter().zip(detected) {
        match detected {
            Ok(hypervisor) => {
                statuses.push(api::model::HypervisorStatus::available(
                    hypervisor.describe(),
                    usable.is_empty(),
                ));
                usable.push(hypervisor);
            }
            Err(error) => {
                tracing::info!(hypervisor = %kind, %error, "not here");
                statuses.push(api::model::HypervisorStatus::unavailable(kind, &error));
                missing.push(error);
            }
        }
    }
    match missing.into_iter().next() {
        Some(first) if usable.is_empty() => Err(RuntimeError::Hypervisor(first)),
        Some(_) | None => Ok((usable, statuses)),
    }
}

async fn detect(
    kind: Kind,
    options: &Options,
    supervisor: PathBuf,
) -> Result<Arc<dyn Hypervisor>, HypervisorError> {
    let qemu = |supervisor| QemuConfig {
        program: options.qemu.clone(),
        supervisor,
        accelerator: options.accelerator,
    };
    Ok(match kind {
        Kind::Qemu => Arc::new(Qemu::detect(qemu(supervisor)).await?),
        Kind::QemuMicrovm => Arc::new(Qemu::detect_microvm(qemu(supervisor)).await?),
        Kind::CloudHypervisor => {
            let program = options.cloud_hypervisor.clone();
            Arc::new(CloudHypervisor::detect(CloudHypervisorConfig { program, supervisor }).await?)
        }
        Kind::Firecracker => {
            let program = options.firecracker.clone();
            Arc::new(Firecracker::detect(FirecrackerConfig { program, supervisor }).await?)
        }
    })
}

/// Loads every policy that some tenant is or was under, and puts the timelines in force. A policy
/// that can't be loaded any more counts as one that fails: its tenants are accounted by the
/// standard one, and say so.
fn load_policies(
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

/// The daemon has started; on the very first start, the default tenant is made and comes under the
/// standard policy, whose bytes are kept.
async fn first_facts(
    journal: &Journal,
    policies: &PolicyHost,
    clock: &Clock,
    mut opened: Opened,
) -> Result<Opened, CommitError> {
    let (tenant, at) = (TenantId::default_tenant(), clock.reading());
    let started = HostFact::Started { version: env!("CARGO_PKG_VERSION").into() };
    let mut entry = Entry::of_host(at.clone(), started);
    opened.calendar.push((at.meter, at.wall_ns));
    if let Some(Gap { reason, claimed_ns, counted_ns }) = opened.gap {
        tracing::warn!(
            %reason, claimed_ns, counted_ns,
            "nothing proves how much time lies between the last boot of this host and this one; the meter goes on without \
             it. Keep the clock by NTP, or say --trust-wall-clock where it is kept otherwise"
        );
        entry.host.push((at.clone(), HostFact::TimeUnknown { reason, claimed_ns, counted_ns }));
    }
    if !opened.tenants.iter().any(|known| known.id == tenant) {
        entry.tenants.push((tenant.clone(), (at.clone(), TenantFact::Created { by: Actor::Host })));
        let (id, created) = (tenant.clone(), at.meter);
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
        let (tenant, by) = (tenant.clone(), Some(Actor::Host));
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

async fn prove_alive(journal: Arc<Journal>) {
    loop {
        if let Err(error) = journal.prove_alive().await {
            tracing::warn!(%error, "could not note that the host is alive");
        }
        tokio::time::sleep(ALIVE_EVERY).await;
    }
}

/// Records every step of the wall clock, and every time in which the host was suspended. The kernel
/// slews all clocks together, so that they part only when somebody steps one, or nothing runs.
async fn watch_clocks(journal: Arc<Journal>, clock: Clock, fleet: Fleet) {
    let mut offset = wall_offset();
    let mut suspended = suspended_ns();
    loop {
        tokio::time::sleep(WALL_EVERY).await;
        suspended = note_suspend(&journal, &clock, suspended).await;
        let now = wall_offset();
        let step_ns = now.saturating_sub(offset);
        if step_ns.unsigned_abs() < STEP_NS_MIN {
            continue;
        }
        let at = clock.reading();
        fleet.learn_calendar(at.meter, at.wall_ns);
        match journal.commit(Entry::of_host(at, HostFact::ClockStepped { step_ns })).await {
            Ok(_) => offset = now,
            Err(error) => {
                tracing::warn!(%error, "a step of the wall clock could not be recorded; trying again")
            }
        }
    }
}

/// Records that the host was suspended since it had been for `before` nanoseconds in all. Answers
/// how long it has been in all, as far as that is on record.
async fn note_suspend(journal: &Journal, clock: &Clock, before: u64) -> u64 {
    let now = suspended_ns();
    let duration_ns = now.saturating_sub(before);
    if duration_ns < STEP_NS_MIN {
        return before;
    }
    match journal.commit(Entry::of_host(clock.reading(), HostFact::Suspended { duration_ns })).await
    {
        Ok(_) => now,
        Err(error) => {
            tracing::warn!(%error, "a suspend of the host could not be recorded; trying again");
            before
        }
    }
}

/// How long the host has been suspended in this boot, in nanoseconds.
fn suspended_ns() -> u64 {
    let running = clock::monotonic_ns();
    clock::boottime_ns().saturating_sub(running)
}

/// How far the wall clock is ahead of the time since boot.
fn wall_offset() -> i64 {
    clock::wall_ns().saturating_sub_unsigned(clock::boottime_ns())
}

/// The data folder's token, made if there is none.
fn token(data: &Path) -> Result<String, RuntimeError> {
    let path = data.join("token");
    let failed = |doing| {
        let path = path.clone();
        move |source| RuntimeError::File { doing, path, source }
    };
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("read")(error)),
        Ok(_) | Err(_) => {}
    }
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    let text = hex::encode(bytes);
    let file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| {
        writeln!(file, "{text}")?;
        file.sync_all()
    })
    .map_err(failed("write"))?;
    Ok(text)
}
