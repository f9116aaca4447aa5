//! The composition root: the only place that names concrete implementations and ties them together.

mod membership;
mod renewal;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;

use crate::api;
use crate::billing::account::{Accountant, Reader};
use crate::billing::calendar::STEP_NS_MIN;
use crate::billing::{HostFact, Reading, TenantFact};
use crate::blocking;
use crate::causes::in_words;
use crate::clock::{self, Clock, Gap};
use crate::delivery::{Deliveries, Receiver};
use crate::disk::Disk;
use crate::driver::{self, Claim, Fleet, FleetError, Parts, Ratios};
use crate::fleet::{self, Sender};
use crate::heads::{self, Heads, HeadsError, Hook, Publisher};
use crate::hypervisor::log::LogWatcher;
use crate::hypervisor::{
    Accelerator, CloudHypervisor, CloudHypervisorConfig, Firecracker, FirecrackerConfig,
    HostLaunches, Hypervisor, HypervisorError, Kind, Qemu, QemuConfig,
};
use crate::id::{Digest, InstanceName, TenantId};
use crate::image::{ImageError, Images};
use crate::invoice::{Issuer, Letterhead};
use crate::journal::{
    self, CommitError, Entry, Head, Journal, NewActivation, NewPolicy, OpenError, Opened,
    StoredStanding, StoredTenant,
};
use crate::limits::instance::CONTROL_MS_MAX;
use crate::mutants::Mutant;
use crate::network::{self, HostNetworks, NetworkError, Networks};
use crate::objects::Stores;
use crate::policy::{Accounting, PolicyHost, Profile};
use crate::probe::HostProber;
use crate::pull::{Pace, Pulls};
use crate::retention::{self, Retention};
use crate::rollout::{self, Rollout};
use crate::tenancy::{
    self, Jwt, JwtConfig, JwtConfigError, OperatorToken, OperatorTokenError, Tenancy,
};
use crate::tenant::{Actor, Settings, Standing};
pub use membership::Membership;
use renewal::Renewal;

/// Interval at which the host notes that it is alive. After a loss of power, up to this much time
/// is `unknown`.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Limit of open files below which the daemon warns: enough for 4,096 connections and 10,000
/// machines.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// Interval at which the wall clock is compared with the meter clock.
const WALL_EVERY: Duration = Duration::from_secs(1);

/// Configuration of the daemon.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data folder.
    pub data: PathBuf,
    /// The places at which the API is served.
    pub listen: api::Listen,
    /// QEMU: a path, or a name on `PATH`.
    pub qemu: PathBuf,
    /// Cloud Hypervisor: a path, or a name on `PATH`.
    pub cloud_hypervisor: PathBuf,
    /// Firecracker: a path, or a name on `PATH`.
    pub firecracker: PathBuf,
    /// Accelerator of QEMU's guests; `None` for the best that the host has.
    pub accelerator: Option<Accelerator>,
    /// Issuer and key of accepted signed tokens; `None` accepts no signed tokens.
    pub jwt: Option<JwtConfig>,
    /// The operator's token, which then never changes; `None` reads the file.
    pub token: Option<String>,
    /// The file with the operator's token, which is made if there is none; `None` for `token` in
    /// the data folder.
    pub token_file: Option<PathBuf>,
    /// Networks in which health checks may probe addresses; empty for none.
    pub probe_networks: Vec<IpNet>,
    /// The ratios by which instances are given what the host has.
    pub ratios: Ratios,
    /// The networks of guests; `None` gives them none.
    pub network: Option<network::Settings>,
    /// Images from registries.
    pub images: PulledImages,
    /// The issuer, as documents name it.
    pub letterhead: Letterhead,
    /// This program, to be run as the supervisor of each virtual machine; `None` for the running
    /// executable.
    pub supervisor: Option<PathBuf>,
    /// This program, to be run to compile a policy; `None` compiles in the daemon.
    pub compiler: Option<PathBuf>,
    /// The receivers of events.
    pub receivers: Vec<Receiver>,
    /// Options of the journal.
    pub journal: journal::Options,
    /// The part in a fleet.
    pub fleet: Membership,
    /// The stores of copies of the journal's segments.
    pub stores: Arc<Stores>,
    /// The daemon's own care of old facts.
    pub retention: retention::Plan,
    /// The place that signed heads are published to; `None` for none.
    pub heads_to: Option<Hook>,
}

/// Options of images from registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PulledImages {
    /// Registries that tenants may pull from, by name; operators may pull from all.
    pub registries: Vec<String>,
    /// Time without a use after which an image is removed that no instance was made of; `None` for
    /// never.
    pub retention: Option<Duration>,
}

/// Error that keeps the daemon from starting, or ends it.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A file can't be read or written.
    #[error("can't {doing} {}", path.display())]
    File {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The journal can't be opened.
    #[error("can't open the journal")]
    Journal(#[from] OpenError),
    /// The policy host can't be set up.
    #[error("can't set up the policy host")]
    Policies(#[from] crate::policy::OpenError),
    /// The folder of images can't be opened.
    #[error("can't open the images")]
    Images(#[from] ImageError),
    /// No hypervisor works on this host; the source is the first one's error.
    #[error(
        "no hypervisor can be used here; install QEMU (Debian: apt-get install qemu-system-x86)"
    )]
    Hypervisor(#[from] HypervisorError),
    /// The host can't give guests a network.
    #[error("can't serve with a pool of addresses for guests")]
    Network(#[from] NetworkError),
    /// The instances of an earlier run can't be recovered.
    #[error("can't recover the instances of the earlier run")]
    Fleet(#[from] FleetError),
    /// The client of health checks can't be set up.
    #[error(transparent)]
    Prober(#[from] crate::probe::SetupError),
    /// The client of registries can't be set up.
    #[error(transparent)]
    Registries(#[from] crate::pull::SetupError),
    /// Logs can't be watched.
    #[error(
        "can't watch logs; end other programs of this user that watch files, or raise \
         fs.inotify.max_user_instances"
    )]
    Logs(#[source] io::Error),
    /// The way to the collector can't be set up.
    #[error("can't hand facts to a collector")]
    Way(#[from] fleet::HttpError),
    /// The way through an engine can't be set up.
    #[error("can't hand facts over through an engine")]
    Engine(#[from] fleet::EngineError),
    /// A copy of a host's journal can't be opened.
    #[error("can't open the copies of hosts' journals")]
    Copies(#[source] OpenError),
    /// The heads of the journal can't be signed.
    #[error(transparent)]
    Heads(#[from] HeadsError),
    /// The operator's token can't be read.
    #[error(transparent)]
    Token(#[from] OperatorTokenError),
    /// The configuration of signed tokens is not valid.
    #[error("can't accept signed tokens")]
    Jwt(#[from] JwtConfigError),
    /// The facts about the start can't be written.
    #[error("can't write the facts about the start to the journal")]
    Commit(#[from] CommitError),
    /// The API can't be served where it should be.
    #[error(transparent)]
    Listen(#[from] api::ListenError),
    /// The signal that asks for a renewal can't be received.
    #[error("can't receive the signal SIGHUP")]
    Signal(#[source] io::Error),
    /// The journal failed while serving. The next start finds out what is durable.
    #[error(
        "the journal failed ({0}); the daemon ends so that nothing is acknowledged that may not \
         be on disk. Check the disk and start again"
    )]
    JournalFailed(Arc<str>),
    /// The API server failed.
    #[error("the API server failed")]
    Serve(#[source] io::Error),
}

/// A daemon that is ready to serve.
pub struct Daemon {
    state: api::State,
    deliveries: Arc<Deliveries>,
    fleet: Fleet,
    journal: Arc<Journal>,
    clock: Clock,
    rollout: Arc<Rollout>,
    heads: Arc<Heads>,
    publisher: Option<Arc<Publisher>>,
    listeners: api::Listeners,
    renewal: Renewal,
    /// The sender of facts to a collector; none on a host by itself.
    sender: Option<Sender>,
    /// The receiver of facts through an engine; none where there is none.
    receiver: Option<fleet::Receiver>,
    images: Arc<Images>,
    /// Time without a use after which a pulled image is removed.
    retention: Option<Duration>,
    keeper: Arc<Retention>,
}

/// Adapter of the tenants' limits to the driver's seam.
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

/// The signed heads. Those of facts that the journal does not have, since a backup was put back,
/// are moved aside.
fn open_heads(data: &Path, end: Head) -> Result<Heads, HeadsError> {
    if let Some(folder) = heads::set_aside(data, end)? {
        tracing::warn!(
            folder = %folder.display(),
            "signed heads of facts that the journal does not have were moved aside: the journal \
             was put back from a copy"
        );
    }
    Heads::open(data)
}

/// The publisher of signed heads; none without a place to publish them to.
fn publisher(data: &Path, hook: Option<Hook>) -> Result<Option<Arc<Publisher>>, RuntimeError> {
    let path = data.to_owned();
    let opened = hook.map(|hook| Publisher::open(data, hook)).transpose();
    let doing = "read the place of published heads in";
    let failed = |source| RuntimeError::File { doing, path, source };
    Ok(opened.map_err(failed)?.map(Arc::new))
}

/// The networks of guests, with the host's rules for them in force.
fn networks(
    settings: Option<network::Settings>,
) -> Result<Option<Arc<dyn Networks>>, NetworkError> {
    let made = settings.map(HostNetworks::new).transpose()?;
    Ok(made.map(|networks| Arc::new(networks) as Arc<dyn Networks>))
}

impl Daemon {
    /// Opens the data folder, recovers the instances of an earlier run, and binds the address.
    ///
    /// # Errors
    /// Any [`RuntimeError`] that can precede serving; each says what to do.
    pub async fn start(mut options: Options) -> Result<Daemon, RuntimeError> {
        let descriptors = raise_descriptors();
        let places = options.listen.check()?;
        let jwt = options.jwt.take().map(Jwt::new).transpose()?.map(Arc::new);
        let data = options.data.clone();
        let limits = options.journal;
        let compiler = options.compiler.clone();
        let opening = tokio::task::spawn_blocking(move || Records::open(&data, limits, compiler));
        // Both at once: detecting the hypervisors is mostly waiting for their programs.
        let (records, found) = tokio::join!(opening, hypervisors(&options));
        let records = records.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let Records { policies, accounting, journal, opened } = records?;
        let (hypervisors, statuses) = found?;
        let way = membership::way(&options.fleet)?;
        let collector = membership::collector(&options).await?;
        let images = Arc::new(Images::open(&options.data)?);
        let disk = Arc::new(Disk::of(&options.data));
        let heads = Arc::new(open_heads(&options.data, journal.head())?);
        let publisher = publisher(&options.data, options.heads_to.take())?;
        let pulls = Pulls::new(images.clone(), Pace::default())?;
        let token = Arc::new(operator_token(&options)?);
        let listeners = api::Listeners::bind(options.listen, places).await?;
        let mut renewal = Renewal::new().map_err(RuntimeError::Signal)?;
        renewal.watch_all(listeners.certificate(), &token, jwt.as_ref());
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
            boots: opened.boots,
            prober: Arc::new(HostProber::new(std::mem::take(&mut options.probe_networks))?),
            launches: Arc::new(HostLaunches),
            networks: networks(options.network.take())?,
            quota: Arc::new(TenantLimits(tenancy.clone())),
            machine: Claim::of_this_host(),
            ratios: options.ratios,
            disk: disk.clone(),
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
        let deliveries = Arc::new(Deliveries::new(
            std::mem::take(&mut options.receivers),
            options.data.join("deliveries"),
        ));
        let receiver = membership::receiver(&options.fleet, collector.as_ref(), &tenancy)?;
        let sender = way.map(|way| membership::sender(&journal, &clock, &fleet, way));
        // A collector bills what its hosts keep.
        let is_billed_here = options.fleet.billed_at().is_none();
        let bills = is_billed_here.then(|| {
            let rollout = rollout.clone();
            retention::Bills {
                issuer: Issuer::new(journal.clone(), rollout.policies().clone()),
                tenancy: tenancy.clone(),
                directories: Arc::new(move |tenant| rollout.directory(tenant)),
            }
        });
        let keeper = Arc::new(Retention::new(
            journal.clone(),
            clock.clone(),
            options.stores,
            bills,
            options.retention,
        ));
        let state = api::State::new(api::Parts {
            fleet: fleet.clone(),
            images: images.clone(),
            pulls: Arc::new(pulls),
            pull_registries: options.images.registries,
            journal: journal.clone(),
            accounting,
            tenancy,
            rollout: rollout.clone(),
            jwt,
            token,
            hypervisors: statuses,
            logs: LogWatcher::new().map_err(RuntimeError::Logs)?,
            disk,
            heads: heads.clone(),
            publisher: publisher.clone(),
            connections: api::ConnectionLimits::of_descriptors(descriptors),
            letterhead: options.letterhead,
            deliveries: deliveries.clone(),
            retention: keeper.clone(),
            collector,
            billed_at: options.fleet.billed_at(),
        });
        let retention = options.images.retention;
        Ok(Daemon {
            state,
            deliveries,
            fleet,
            journal,
            clock,
            rollout,
            heads,
            publisher,
            listeners,
            renewal,
            sender,
            receiver,
            images,
            retention,
            keeper,
        })
    }

    /// Address on which the API listens.
    pub fn address(&self) -> SocketAddr {
        self.listeners.address()
    }

    /// The places at which the API is served, as clients name them.
    pub fn urls(&self) -> Vec<String> {
        self.listeners.urls()
    }

    /// The end of the journal. Noted elsewhere, it later proves whether the journal was cut off.
    pub fn head(&self) -> Head {
        self.journal.head()
    }

    /// Serves until `stop` is true or the journal fails. Instances go on running.
    ///
    /// # Errors
    /// [`RuntimeError::JournalFailed`], [`RuntimeError::Serve`].
    pub async fn serve(self, stop: watch::Receiver<bool>) -> Result<(), RuntimeError> {
        let Daemon { state, deliveries, fleet, journal, clock, rollout, listeners, .. } = self;
        let Daemon {
            renewal, sender, receiver, images, retention, keeper, heads, publisher, ..
        } = self;
        let publishing = publisher.map(|one| {
            let signed = heads.follow();
            tokio::spawn(one.run(heads.clone(), signed))
        });
        let signing = tokio::spawn(heads::run(heads, journal.clone()));
        let keeping = tokio::spawn(keeper.run());
        let renewing = tokio::spawn(renewal.run());
        let pruning = retention.map(|after| tokio::spawn(prune(images, fleet.clone(), after)));
        let sending = sender.map(|sender| tokio::spawn(sender.run()));
        let receiving = receiver.map(|receiver| tokio::spawn(receiver.run()));
        let alive = tokio::spawn(prove_alive(journal.clone()));
        let wall = tokio::spawn(watch_clocks(journal.clone(), clock, fleet));
        let reconciling = tokio::spawn(rollout.run());
        let pushing = tokio::spawn(deliveries.run(state.events()));
        let served = tokio::select! {
            served = api::serve(listeners, state, stop) => served.map_err(RuntimeError::Serve),
            reason = journal.failed() => Err(RuntimeError::JournalFailed(reason)),
        };
        renewing.abort();
        alive.abort();
        wall.abort();
        reconciling.abort();
        pushing.abort();
        keeping.abort();
        for task in [sending, receiving, pruning, publishing, Some(signing)].into_iter().flatten() {
            task.abort();
        }
        if !matches!(served, Err(RuntimeError::JournalFailed(_)))
            && let Err(error) = journal.close().await
        {
            tracing::warn!(%error, "the journal could not be closed");
        }
        served
    }
}

/// Removes pulled images that nothing has used for so long, every now and then.
async fn prune(images: Arc<Images>, fleet: Fleet, unused_for: Duration) {
    loop {
        let images = images.clone();
        let fleet = fleet.clone();
        let pruned = blocking::run(move || {
            images.prune(unused_for, |image| !fleet.users_of(&image.manifest.name, 1).is_empty())
        });
        match pruned.await {
            Ok(Ok(removed)) => {
                for image in removed {
                    let digest = image.digest();
                    tracing::info!(digest, "an image that nothing used is removed");
                }
            }
            Ok(Err(error)) => tracing::warn!(error = in_words(&error), "images are not pruned"),
            Err(error) => tracing::error!(%error, "images are not pruned"),
        }
        tokio::time::sleep(Duration::from_millis(crate::limits::pull::PRUNE_EVERY_MS)).await;
    }
}

/// Raises the limit of open files as far as this process may, and returns it.
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
    // `None` stands for no limit.
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

/// The operator's token, as the options have it.
fn operator_token(options: &Options) -> Result<OperatorToken, OperatorTokenError> {
    match (&options.token, &options.token_file) {
        (Some(token), _) => Ok(OperatorToken::fixed(token)),
        (None, Some(file)) => OperatorToken::of_file(file),
        (None, None) => OperatorToken::of_file(&options.data.join("token")),
    }
}

/// The journal of an earlier run, and the policies that it names.
struct Records {
    policies: Arc<PolicyHost>,
    accounting: Arc<Accounting>,
    journal: Arc<Journal>,
    opened: Opened,
}

impl Records {
    /// Opens the journal and puts the policies that it names in force. Blocking.
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

/// Detects the hypervisors. Returns those that work on this host, the default first, and the status
/// of each kind for the API.
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
    if options.fleet.is_collector() {
        return Ok((Vec::new(), Vec::new()));
    }
    let supervisor = options.supervisor.clone().map_or_else(own, Ok)?;
    let mut usable = Vec::new();
    let mut statuses = Vec::new();
    let mut missing = Vec::new();
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
                tracing::info!(hypervisor = %kind, %error, "hypervisor not available");
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

/// Notes every five seconds that the host is alive.
pub async fn prove_alive(journal: Arc<Journal>) {
    loop {
        if let Err(error) = journal.prove_alive().await {
            tracing::warn!(%error, "could not note that the host is alive");
        }
        tokio::time::sleep(ALIVE_EVERY).await;
    }
}

/// Records every step of the wall clock and every suspend of the host. The kernel slews all clocks
/// together, so their difference changes only if the wall clock is stepped.
pub async fn watch_clocks(journal: Arc<Journal>, clock: Clock, fleet: Fleet) {
    let mut offset = wall_offset();
    let mut suspended = suspended_ns();
    let mut seen = clock.reading();
    loop {
        tokio::time::sleep(WALL_EVERY).await;
        let until = clock.reading();
        if let Some(noted) = note_suspend(&journal, until.clone(), suspended).await {
            if noted != suspended {
                fleet.suspended(&seen, &until).await;
            }
            (suspended, seen) = (noted, until);
        }
        let now = wall_offset();
        let step_ns = now.saturating_sub(offset);
        if step_ns.unsigned_abs() < STEP_NS_MIN || Mutant::StepUnseen.is_active() {
            continue;
        }
        let at = clock.reading();
        let stepped = Entry::of_host(at.clone(), HostFact::ClockStepped { step_ns });
        match journal.commit(stepped).await {
            // Not before: the calendar is that of the facts, also if the clock is stepped back.
            Ok(_) => {
                fleet.learn_calendar(at.meter, at.wall_ns);
                offset = now;
            }
            Err(error) => {
                tracing::warn!(%error, "could not record a step of the wall clock; trying again")
            }
        }
    }
}

/// Records a suspend of the host beyond the `before` nanoseconds of this boot that are on record.
/// Returns the nanoseconds that are on record then; none if that could not be recorded.
async fn note_suspend(journal: &Journal, at: Reading, before: u64) -> Option<u64> {
    let now = suspended_ns();
    let duration_ns = now.saturating_sub(before);
    if duration_ns < STEP_NS_MIN {
        return Some(before);
    }
    match journal.commit(Entry::of_host(at, HostFact::Suspended { duration_ns })).await {
        Ok(_) => Some(now),
        Err(error) => {
            tracing::warn!(%error, "could not record a suspend of the host; trying again");
            None
        }
    }
}

/// Time for which the host has been suspended in this boot, in nanoseconds.
fn suspended_ns() -> u64 {
    let running = clock::monotonic_ns();
    clock::boottime_ns().saturating_sub(running)
}

/// The wall clock minus the time since boot, in nanoseconds.
fn wall_offset() -> i64 {
    clock::wall_ns().saturating_sub_unsigned(clock::boottime_ns())
}
