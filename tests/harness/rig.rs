//! A daemon without its API on a folder of its own, with the double for a hypervisor. It can crash
//! and start again as often as a test needs.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tallyman::billing::interval::{Interval, intervals};
use tallyman::billing::{About, BootId, Counted, Entered, Fact, InstanceFact, Reading, Totals};
use tallyman::clock::Clock;
use tallyman::disk::Disk;
use tallyman::driver::{
    Amendment, Claim, Fleet, FleetError, NewFork, NewInstance, NewSnapshot, Parts, Quota, Ratios,
    Request, Reservation, Share, View,
};
use tallyman::id::{InstanceId, InstanceName, TenantId};
use tallyman::image::{ImageImport, Images};
use tallyman::journal::{self, Journal, Options};
use tallyman::network::Networks;
use tallyman::policy::{Accounting, PolicyHost};
use tallyman::tenant::Limit;
use tallyman::units::{Instant, Nanos};
use tallyman::vm::{Asker, Command, Phase};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::double::{DoubleHypervisor, DoubleProber};
use crate::linux::guests;
use crate::networks::DoubleNetworks;

/// Guest memory of the image that every rig has, in bytes.
pub const MEMORY_BYTES: u64 = 16 << 20;

/// Policy host that all rigs of a process share, as its start is slow.
static POLICIES: LazyLock<Arc<PolicyHost>> = LazyLock::new(|| {
    let folder = guests().join("compiled");
    Arc::new(PolicyHost::open(&folder).expect("a policy host"))
});

/// A data folder, the machines of its host, and the daemon while it is up.
pub struct Rig {
    /// Hypervisor of the machines.
    pub double: DoubleHypervisor,
    /// Prober of their workloads.
    pub prober: DoubleProber,
    /// Tenant of the instances that [`Rig::create`] makes.
    pub tenant: TenantId,
    folder: TempDir,
    options: Options,
    daemon: Option<Daemon>,
    /// Time that was skipped.
    skipped: Duration,
    /// Memory limit of every tenant from the next start on, in bytes.
    pub memory_bytes_max: u64,
    /// Time to wait for the end of a machine, from the next start on.
    pub exit_patience: Duration,
    /// Networks of guests, from the next start on; none for none.
    pub networks: Option<DoubleNetworks>,
    /// Processors and memory of the host, from the next start on.
    pub machine: Claim,
}

/// The same memory limit for every tenant.
struct MemoryLimit(u64);

impl Quota for MemoryLimit {
    fn reserve(
        &self,
        tenant: &TenantId,
        name: &InstanceName,
        share: Share,
        there: &dyn Fn() -> Vec<(InstanceName, Share)>,
    ) -> Result<Reservation, FleetError> {
        let others =
            there().into_iter().filter(|(other, _)| other != name).map(|(_, has)| has.memory_bytes);
        let wanted = others.sum::<u64>() + share.memory_bytes;
        let most = self.0;
        if wanted <= most {
            return Ok(Box::new(()));
        }
        Err(FleetError::OverLimit {
            tenant: tenant.clone(),
            limit: Limit::MemoryBytes,
            wanted,
            most,
        })
    }

    fn launch(&self, _: &TenantId) -> Result<(), FleetError> {
        Ok(())
    }
}

/// Everything that ends with a crash, dropped in the order of the fields.
struct Daemon {
    fleet: Fleet,
    journal: Arc<Journal>,
    clock: Clock,
    runtime: Runtime,
}

/// State of the host at the daemon's next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The host stayed up.
    StayedUp,
    /// The host lost power and booted again.
    Rebooted,
}

impl Host {
    /// The boot in which the machines ran before.
    pub fn boot_before(self) -> BootId {
        match self {
            Host::StayedUp => tallyman::clock::boot_id().expect("this is Linux"),
            Host::Rebooted => BootId("00000000-0000-4000-8000-000000000000".into()),
        }
    }
}

impl Default for Rig {
    fn default() -> Self {
        let mut rig = Self::down(Options::default());
        rig.start(Host::StayedUp);
        rig
    }
}

impl Rig {
    /// A rig whose daemon has not been started.
    pub fn down(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rig = Self {
            double: DoubleHypervisor::default(),
            prober: DoubleProber::default(),
            tenant: TenantId::default_tenant(),
            folder,
            options,
            daemon: None,
            skipped: Duration::ZERO,
            memory_bytes_max: u64::MAX,
            exit_patience: Duration::from_secs(10),
            networks: None,
            machine: Claim::ENDLESS,
        };
        rig.import("tiny", None);
        rig
    }

    /// Imports an image whose kernel is a file that passes the checks.
    pub fn import(&self, name: &str, root_disk: Option<PathBuf>) {
        let kernel = self.folder.path().join("kernel");
        fs::write(&kernel, b"\x7fELF and nothing else").expect("a file");
        let import = ImageImport {
            name: name.parse().expect("a name"),
            description: String::new(),
            kernel,
            initrd: None,
            root_disk,
            cmdline: "console=ttyS0".into(),
            memory_bytes_min: MEMORY_BYTES,
            agent: false,
        };
        self.images().import(&import).expect("an image");
    }

    /// The images of the data folder.
    pub fn images(&self) -> Images {
        Images::open(self.folder.path()).expect("images")
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sets the database's options from the next start on.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Starts the daemon.
    pub fn start(&mut self, host: Host) {
        assert!(self.daemon.is_none(), "it is up");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let accounting = Arc::new(Accounting::new(POLICIES.clone()));
        let (journal, mut opened) =
            Journal::open(self.folder.path(), self.options, accounting.clone()).expect("a journal");
        if let Some(alive) = &mut opened.alive {
            alive.boot = host.boot_before();
        }
        let journal = Arc::new(journal);
        let clock = opened.clock;
        clock.skip(nanos(self.skipped));
        let parts = Parts {
            journal: journal.clone(),
            clock: clock.clone(),
            accounts: accounting,
            hypervisors: vec![Arc::new(self.double.clone())],
            images: Arc::new(self.images()),
            instances: self.folder.path().join("instances"),
            alive: opened.alive,
            boots: opened.boots,
            prober: Arc::new(self.prober.clone()),
            launches: Arc::new(self.double.clone()),
            quota: Arc::new(MemoryLimit(self.memory_bytes_max)),
            networks: self.networks.clone().map(|networks| Arc::new(networks) as Arc<dyn Networks>),
            machine: self.machine,
            ratios: Ratios::default(),
            disk: Arc::new(Disk::of(self.folder.path())),
            exit_patience: self.exit_patience,
        };
        let fleet = {
            let _inside = runtime.enter();
            Fleet::open(parts, opened.instances).expect("a fleet")
        };
        self.daemon = Some(Daemon { fleet, journal, clock, runtime });
    }

    /// Advances the clock at once, for the daemon and the machines.
    pub fn pass(&mut self, time: Duration) {
        self.skipped += time;
        self.double.skip(nanos(time));
        if let Some(daemon) = &self.daemon {
            daemon.clock.skip(nanos(time));
        }
    }

    /// Ends the daemon as `kill -9` would: its operations under way stop, the machines continue.
    pub fn crash(&mut self) {
        let Daemon { fleet, journal, clock: _, runtime } = self.daemon.take().expect("it is down");
        drop(runtime);
        drop(fleet);
        drop(journal);
    }

    /// Takes the data folder. The daemon must be down.
    pub fn into_folder(self) -> TempDir {
        self.folder
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("the daemon is down")
    }

    /// The instances.
    pub fn fleet(&self) -> &Fleet {
        &self.daemon().fleet
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.daemon().journal
    }

    /// The journal, for those that keep it.
    pub fn shared_journal(&self) -> Arc<Journal> {
        self.daemon().journal.clone()
    }

    /// The clock's reading now.
    pub fn reading(&self) -> Reading {
        self.daemon().clock.reading()
    }

    /// Runs `future` in the daemon's runtime; fails after a minute.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let limited = async { tokio::time::timeout(Duration::from_secs(60), future).await };
        self.daemon().runtime.block_on(limited).expect("it hangs")
    }

    /// Runs `future` in the background.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.daemon().runtime.spawn(future)
    }

    /// A request for an instance with the usual shape and a name.
    pub fn new_instance(&self, name: &str) -> NewInstance {
        NewInstance {
            image_reference: None,
            name: name.parse().expect("a name"),
            image: "tiny".parse().expect("a name"),
            vcpus: 1,
            memory_bytes: None,
            cmdline: String::new(),
            disks: Vec::new(),
            tags: Default::default(),
            skip_guest_agent: false,
            stop_grace_ms: 0,
            hypervisor: None,
            memory_bytes_max: Some(4 * MEMORY_BYTES),
            restart: Default::default(),
            expiry: None,
            health: None,
            auto_standby: None,
            program: Default::default(),
            network: Default::default(),
            overlay_bytes: None,
        }
    }

    /// Creates an instance.
    ///
    /// # Errors
    /// [`FleetError`] of the fleet.
    pub fn try_create(&self, new: NewInstance) -> Result<Arc<View>, FleetError> {
        self.run(self.fleet().create(&self.tenant, new))
    }

    /// Creates an instance and waits until its vCPUs run.
    pub fn create(&self, name: &str) -> InstanceId {
        self.try_create(self.new_instance(name)).expect("created").record.id.clone()
    }

    /// The plainest request for a command. A snapshot is taken under a new name; other commands on
    /// snapshots name [`KEPT`].
    pub fn request(&self, command: Command) -> Request {
        let snapshot = KEPT.parse().expect("a name");
        match command {
            Command::Start => Request::Start,
            Command::Stop => Request::Stop { grace_ms: None },
            Command::Pause => Request::Pause,
            Command::Resume => Request::Resume,
            Command::Standby => Request::Standby,
            Command::Restore => Request::Restore,
            Command::Delete => Request::Delete,
            Command::Snapshot => Request::Snapshot(NewSnapshot {
                name: fresh().parse().expect("a name"),
                tags: Default::default(),
                keep: None,
                compress: false,
            }),
            Command::Discard => Request::Discard { snapshot },
            Command::Revert => Request::Revert { snapshot },
            Command::Fork => unreachable!("a fork has an answer of its own"),
            Command::Resize => Request::Resize { memory_bytes: 2 * MEMORY_BYTES },
        }
    }

    /// Takes the snapshot [`KEPT`] of an instance.
    pub fn keep(&self, id: &InstanceId) {
        self.snapshot(id, KEPT, None).expect("kept");
    }

    /// Takes a snapshot of an instance.
    ///
    /// # Errors
    /// [`FleetError`] of the fleet.
    pub fn snapshot(
        &self,
        id: &InstanceId,
        name: &str,
        keep: Option<u32>,
    ) -> Result<Arc<View>, FleetError> {
        let new = NewSnapshot {
            name: name.parse().expect("a name"),
            tags: Default::default(),
            keep,
            compress: false,
        };
        self.ask(id, Request::Snapshot(new))
    }

    /// A request for a fork under a new name.
    pub fn new_fork(&self) -> NewFork {
        NewFork {
            name: fresh().parse().expect("a name"),
            from_running: true,
            target: None,
            snapshot: None,
        }
    }

    /// Forks an instance.
    ///
    /// # Errors
    /// [`FleetError`] of the fleet.
    pub fn fork(&self, id: &InstanceId, new: NewFork) -> Result<Arc<View>, FleetError> {
        self.run(self.fleet().fork(&self.tenant, id, new))
    }

    /// Carries out a request.
    ///
    /// # Errors
    /// [`FleetError`] of the fleet.
    pub fn ask(&self, id: &InstanceId, request: Request) -> Result<Arc<View>, FleetError> {
        self.run(self.fleet().request(&self.tenant, id, request))
    }

    /// Changes the record of an instance.
    ///
    /// # Errors
    /// [`FleetError`] of the fleet.
    pub fn amend(&self, id: &InstanceId, amendment: Amendment) -> Result<Arc<View>, FleetError> {
        self.run(self.fleet().amend(&self.tenant, id, amendment))
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// [`FleetError`] of the fleet.
    pub fn command(&self, id: &InstanceId, command: Command) -> Result<Arc<View>, FleetError> {
        self.run(self.commanding(id, command))
    }

    /// Carries out a command in the background.
    pub fn commanded(
        &self,
        id: &InstanceId,
        command: Command,
    ) -> tokio::task::JoinHandle<Result<Arc<View>, FleetError>> {
        self.spawn(self.commanding(id, command))
    }

    fn commanding(
        &self,
        id: &InstanceId,
        command: Command,
    ) -> impl Future<Output = Result<Arc<View>, FleetError>> + Send + use<> {
        let fleet = self.fleet().clone();
        let tenant = self.tenant.clone();
        let id = id.clone();
        let request = match command {
            Command::Fork => Err(self.new_fork()),
            other => Ok(self.request(other)),
        };
        async move {
            match request {
                Ok(request) => fleet.request(&tenant, &id, request).await,
                Err(fork) => fleet.fork(&tenant, &id, fork).await,
            }
        }
    }

    /// The published view of an instance, also if it is deleted.
    pub fn view(&self, id: &InstanceId) -> Arc<View> {
        self.fleet().find_closed(&self.tenant, id).expect("it is known")
    }

    /// All facts of an instance.
    pub fn history(&self, id: &InstanceId) -> Vec<(u64, Fact)> {
        self.journal().history(id).expect("readable")
    }

    /// The facts of an instance in words, such as `intended stop`, `shutdown`, `stopped requested`.
    pub fn story(&self, id: &InstanceId) -> Vec<String> {
        self.history(id).iter().map(|(_, fact)| in_words(fact)).collect()
    }

    /// The facts that came after the first `count`, in words.
    pub fn story_after(&self, id: &InstanceId, count: usize) -> Vec<String> {
        self.story(id).split_off(count)
    }

    /// The last fact of an instance that is `words`.
    pub fn fact(&self, id: &InstanceId, words: &str) -> Fact {
        let found = self.history(id).into_iter().rev().find(|(_, fact)| in_words(fact) == words);
        found.unwrap_or_else(|| panic!("no fact '{words}' in {:?}", self.story(id))).1
    }

    /// Checks that every nanosecond of the instance's lifetime is in one interval and in one total;
    /// returns the intervals.
    pub fn check_time(&self, id: &InstanceId) -> Vec<Interval> {
        let view = self.view(id);
        // The instance may continue meanwhile: both are read as of the view's last fact.
        let mut history = self.history(id);
        history.retain(|&(fact, _)| fact <= view.last_fact);
        let now = self.fleet().now();
        let usage = self.fleet().usage(std::slice::from_ref(&view), now);
        let pieces = intervals(&history, &self.fleet().timeline(&view.record.tenant), now);
        let end = view.deleted.unwrap_or(now);
        let first = history
            .iter()
            .find(|(_, fact)| matches!(fact.counts(), Some(Counted::Enters(_))))
            .expect("a phase");
        assert_eq!(pieces[0].start, first.1.at.meter);
        assert_eq!(pieces[pieces.len() - 1].end, end);
        for pair in pieces.windows(2) {
            assert_eq!(pair[0].end, pair[1].start, "the intervals must touch");
        }
        let totals = usage[0].totals;
        assert_eq!(
            totals,
            summed(&pieces),
            "the totals must be those of the intervals: {:?}",
            self.story(id)
        );
        let lifetime = end.since(first.1.at.meter).expect("time goes on");
        assert_eq!(totals.sum(), u128::from(lifetime.0));
        let instants: Vec<Instant> = history.iter().map(|(_, fact)| fact.at.meter).collect();
        assert!(instants.is_sorted(), "an instance's facts never go back");
        pieces
    }

    /// Checks the chain and the records of the whole journal.
    pub fn check_journal(&self) {
        journal::verify(self.journal().path(), |_, _| ()).expect("a sound journal");
    }
}

/// The name of the snapshot that [`Rig::keep`] takes.
pub const KEPT: &str = "kept";

/// A name that no other call returns.
pub fn fresh() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("vm-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn nanos(time: Duration) -> Nanos {
    Nanos(u64::try_from(time.as_nanos()).expect("less than centuries"))
}

fn summed(pieces: &[Interval]) -> Totals {
    let mut totals = Totals::default();
    for piece in pieces {
        totals.0[piece.phase as usize] += piece.length().0;
    }
    totals
}

/// A fact in words: `intended stop`, `abandoned save`, `running`, `stopped guest`, `deleted`.
pub fn in_words(fact: &Fact) -> String {
    match &fact.about {
        About::Instance(_, fact) => instance_in_words(fact),
        About::Host(_) | About::Tenant(_) => "about something else".into(),
    }
}

fn instance_in_words(fact: &InstanceFact) -> String {
    match fact {
        InstanceFact::Intended { command, by: Asker::Client, .. } => format!("intended {command}"),
        InstanceFact::Intended { command, by, .. } => {
            format!("intended {command} by {}", by.as_str())
        }
        InstanceFact::Abandoned { command, .. } => format!("abandoned {command}"),
        InstanceFact::Entered(Entered { phase, cause: Some(cause), .. }) => {
            format!("{} {}", Phase::as_str(*phase), cause.as_str())
        }
        InstanceFact::Entered(Entered { phase, cause: None, .. }) => phase.as_str().into(),
        InstanceFact::Forked { .. } => "forked".into(),
        InstanceFact::Amended { field, .. } => format!("amended {field}"),
        InstanceFact::Visited { what, .. } => format!("visited {what}"),
        InstanceFact::Deleted => "deleted".into(),
    }
}
