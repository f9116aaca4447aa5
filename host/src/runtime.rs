//! The composition root: the only place that names concrete implementations and ties them together.

mod clocks;
mod confinement;
mod descriptors;
mod door;
mod error;
mod hypervisors;
mod membership;
mod modes;
mod options;
mod policies;
mod pruning;
mod quota;
mod records;
mod renewal;
mod signed;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api;
use crate::api::model::HypervisorStatus;
use crate::billing::account::Reader;
use crate::clock::Clock;
use crate::delivery::Deliveries;
use crate::disk::Disk;
use crate::driver::{Claim, Fleet, Parts};
use crate::fleet::{self, Collector, Sender};
use crate::heads::{self, Heads, Publisher};
use crate::hypervisor::log::LogWatcher;
use crate::hypervisor::{HostLaunches, Hypervisor, VmmUser};
use crate::image::Images;
use crate::invoice::Issuer;
use crate::journal::{Head, Journal};
use crate::limits::instance::CONTROL_MS_MAX;
use crate::network::{HostNetworks, Networks};
use crate::probe::HostProber;
use crate::pull::{Pace, Pulls};
use crate::retention::{self, Retention};
use crate::rollout::{self, Rollout};
use crate::tenancy::Tenancy;
pub use clocks::{prove_alive, watch_clocks};
use door::{Door, Lock};
pub use error::RuntimeError;
pub use options::{Membership, Options, PulledImages};
pub use policies::{compile_policies, load_policies};
use quota::TenantLimits;
use records::Records;
pub use records::first_facts;
use renewal::Renewal;

/// A daemon that is ready to serve.
pub struct Daemon {
    state: api::State,
    journal: Arc<Journal>,
    clock: Clock,
    rooms: Rooms,
    recovered: Recovered,
    listeners: api::Listeners,
    renewal: Renewal,
    /// The sender of facts to a collector; none on a host by itself.
    sender: Option<Sender>,
    /// The receiver of facts through an engine; none where there is none.
    receiver: Option<fleet::Receiver>,
    /// Time without a use after which a pulled image is removed; none for never.
    image_retention: Option<Duration>,
}

/// The rooms of a daemon that recover nothing.
struct Rooms {
    images: Arc<Images>,
    pulls: Arc<Pulls>,
    disk: Arc<Disk>,
    heads: Arc<Heads>,
    /// The publisher of signed heads; none without a place to publish them to.
    publisher: Option<Arc<Publisher>>,
    deliveries: Arc<Deliveries>,
    /// The copies of hosts' journals; none on a host.
    collector: Option<Arc<Collector>>,
}

/// The rooms of a daemon that recover what the journal holds.
struct Recovered {
    tenancy: Arc<Tenancy>,
    fleet: Fleet,
    rollout: Arc<Rollout>,
    keeper: Arc<Retention>,
}

impl Rooms {
    async fn open(options: &Options, end: Head) -> Result<Self, RuntimeError> {
        let data = &options.data;
        let images = Arc::new(Images::open(data)?);
        let pulls = Arc::new(Pulls::new(images.clone(), Pace::default())?);
        let deliveries = Deliveries::new(options.receivers.clone(), data.join("deliveries"));
        Ok(Self {
            images,
            pulls,
            disk: Arc::new(Disk::of(data)),
            heads: Arc::new(signed::open_heads(data, end)?),
            publisher: signed::publisher(data, options.heads_to.clone())?,
            deliveries: Arc::new(deliveries),
            collector: membership::collector(options).await?,
        })
    }
}

impl Recovered {
    fn of(
        records: &mut Records,
        options: &Options,
        rooms: &Rooms,
        hypervisors: Vec<Arc<dyn Hypervisor>>,
    ) -> Result<Self, RuntimeError> {
        let tenancy = Arc::new(records.tenancy(options));
        let fleet = recover(records, options, rooms, hypervisors, &tenancy)?;
        let parts = rollout::Parts {
            fleet: fleet.clone(),
            journal: records.journal.clone(),
            tenancy: tenancy.clone(),
            accounting: records.accounting.clone(),
            policies: records.policies.clone(),
        };
        let rollout = Arc::new(Rollout::new(parts, &records.opened.policies));
        let keeper = Arc::new(keeper(records, options, &tenancy, &rollout));
        Ok(Self { tenancy, fleet, rollout, keeper })
    }
}

/// The instances of the earlier run, which are found again in the background.
fn recover(
    records: &mut Records,
    options: &Options,
    rooms: &Rooms,
    hypervisors: Vec<Arc<dyn Hypervisor>>,
    tenancy: &Arc<Tenancy>,
) -> Result<Fleet, RuntimeError> {
    let accounts: Arc<dyn Reader> = records.accounting.clone();
    let opened = &mut records.opened;
    let parts = Parts {
        journal: records.journal.clone(),
        clock: records.clock.clone(),
        accounts,
        hypervisors,
        images: rooms.images.clone(),
        instances: options.data.join("instances"),
        alive: opened.alive.take(),
        boots: std::mem::take(&mut opened.boots),
        prober: Arc::new(HostProber::new(options.probe_networks.clone())?),
        launches: Arc::new(HostLaunches),
        networks: networks(options)?,
        quota: Arc::new(TenantLimits {
            tenancy: tenancy.clone(),
            journal: records.journal.clone(),
        }),
        machine: Claim::of_this_host(),
        ratios: options.ratios,
        disk: rooms.disk.clone(),
        exit_patience: Duration::from_millis(CONTROL_MS_MAX),
    };
    let fleet = Fleet::open(parts, std::mem::take(&mut opened.instances))?;
    for (at, wall_ns) in std::mem::take(&mut opened.calendar) {
        fleet.learn_calendar(at, wall_ns);
    }
    Ok(fleet)
}

/// The networks of guests, with the host's rules for them in force.
fn networks(options: &Options) -> Result<Option<Arc<dyn Networks>>, RuntimeError> {
    let user = options.vmm_user.as_ref();
    let owner = user.map_or_else(|| rustix::process::geteuid().as_raw(), VmmUser::uid);
    let made = options.network.clone().map(|asked| HostNetworks::new(asked, owner)).transpose()?;
    Ok(made.map(|networks| Arc::new(networks) as Arc<dyn Networks>))
}

/// The care of old facts. A collector bills what its hosts keep.
fn keeper(
    records: &Records,
    options: &Options,
    tenancy: &Arc<Tenancy>,
    rollout: &Arc<Rollout>,
) -> Retention {
    let journal = records.journal.clone();
    let is_billed_here = options.fleet.billed_at().is_none();
    let bills = is_billed_here.then(|| {
        let rollout = rollout.clone();
        retention::Bills {
            issuer: Issuer::new(journal.clone(), records.policies.clone()),
            tenancy: tenancy.clone(),
            directories: Arc::new(move |tenant| rollout.directory(tenant)),
        }
    });
    let stores = options.stores.clone();
    Retention::new(journal, records.clock.clone(), stores, bills, options.retention.clone())
}

impl Daemon {
    /// Opens the data folder, recovers the instances of an earlier run, and binds the address.
    ///
    /// # Errors
    /// Any [`RuntimeError`] that can precede serving; each says what to do.
    pub async fn start(options: Options) -> Result<Daemon, RuntimeError> {
        let lock = Lock::of(&options)?;
        // Both at once: detecting the hypervisors is mostly waiting for their programs.
        let detecting = hypervisors::detect_all(&options);
        let (records, found) = tokio::join!(Records::open(&options), detecting);
        let records = records?;
        modes::close_to_others(&options.data).map_err(|(path, source)| RuntimeError::File {
            doing: "close to others",
            path,
            source,
        })?;
        confinement::warn();
        let (hypervisors, statuses) = found?;
        let way = membership::way(&options.fleet)?;
        let rooms = Rooms::open(&options, records.journal.head()).await?;
        let door = lock.open(&options).await?;
        let mut records = records.begin().await?;
        let recovered = Recovered::of(&mut records, &options, &rooms, hypervisors)?;
        let Records { journal, clock, .. } = &records;
        let collector = rooms.collector.as_ref();
        let receiver = membership::receiver(&options.fleet, collector, &recovered.tenancy)?;
        let sender = way.map(|way| membership::sender(journal, clock, &recovered.fleet, way));
        Ok(Daemon {
            state: state(&options, &records, &rooms, &recovered, &door, statuses)?,
            journal: records.journal,
            clock: records.clock,
            rooms,
            recovered,
            listeners: door.listeners,
            renewal: door.renewal,
            sender,
            receiver,
            image_retention: options.images.retention,
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
        let Daemon { state, journal, clock, rooms, recovered, listeners, .. } = self;
        let Recovered { fleet, rollout, keeper, .. } = recovered;
        let mut tasks = JoinSet::new();
        if let Some(publisher) = rooms.publisher {
            let signed = rooms.heads.follow();
            tasks.spawn(publisher.run(rooms.heads.clone(), signed));
        }
        tasks.spawn(heads::run(rooms.heads, journal.clone()));
        tasks.spawn(keeper.run());
        tasks.spawn(self.renewal.run());
        if let Some(unused_for) = self.image_retention {
            tasks.spawn(pruning::prune(rooms.images, fleet.clone(), unused_for));
        }
        if let Some(sender) = self.sender {
            tasks.spawn(sender.run());
        }
        if let Some(receiver) = self.receiver {
            tasks.spawn(receiver.run());
        }
        tasks.spawn(prove_alive(journal.clone()));
        tasks.spawn(watch_clocks(journal.clone(), clock, fleet));
        tasks.spawn(rollout.run());
        tasks.spawn(rooms.deliveries.run(state.events()));
        let served = tokio::select! {
            served = api::serve(listeners, state, stop) => served.map_err(RuntimeError::Serve),
            reason = journal.failed() => Err(RuntimeError::JournalFailed(reason)),
        };
        tasks.abort_all();
        if !matches!(served, Err(RuntimeError::JournalFailed(_)))
            && let Err(error) = journal.close().await
        {
            tracing::warn!(%error, "the journal could not be closed");
        }
        served
    }
}

/// The state that the API serves.
fn state(
    options: &Options,
    records: &Records,
    rooms: &Rooms,
    recovered: &Recovered,
    door: &Door,
    hypervisors: Vec<HypervisorStatus>,
) -> Result<api::State, RuntimeError> {
    Ok(api::State::new(api::Parts {
        fleet: recovered.fleet.clone(),
        images: rooms.images.clone(),
        pulls: rooms.pulls.clone(),
        pull_registries: options.images.registries.clone(),
        journal: records.journal.clone(),
        accounting: records.accounting.clone(),
        tenancy: recovered.tenancy.clone(),
        rollout: recovered.rollout.clone(),
        jwt: door.jwt.clone(),
        token: door.token.clone(),
        hypervisors,
        logs: LogWatcher::new().map_err(RuntimeError::Logs)?,
        disk: rooms.disk.clone(),
        heads: rooms.heads.clone(),
        publisher: rooms.publisher.clone(),
        connections: door.connections,
        letterhead: options.letterhead.clone(),
        deliveries: rooms.deliveries.clone(),
        retention: recovered.keeper.clone(),
        collector: rooms.collector.clone(),
        billed_at: options.fleet.billed_at(),
    }))
}
