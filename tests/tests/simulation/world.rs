//! One simulation: a host, its machines and its clients, from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tallyman::billing::BootId;
use tallyman::billing::interval::Interval;
use tallyman::driver::{NewFork, NewInstance, NewSnapshot, Request, Target, View};
use tallyman::hypervisor::{Initiator, Observed, VmState};
use tallyman::id::{Digest, InstanceId, TenantId};
use tallyman::image::{ImageImport, Images};
use tallyman::journal::{Entry, FactQuery, NewActivation, NewPolicy, ReadError};
use tallyman::tenant::Actor;
use tallyman::vm::{Command, RestartMode, RestartPolicy};
use tallyman_tests::double::{Call, DoubleHypervisor, Plan};
use tallyman_tests::policies::component;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::bill::{self, Prices};
use crate::check;
use crate::daemon::{Daemon, FAILING, POLICIES, TRAPPING};
use crate::dice::Dice;
use crate::disk::{Disk, Remains};
use crate::host;
use crate::sky::Sky;
use crate::store::{self, Stores};

/// Guest memory of the image, in bytes.
const MEMORY_BYTES: u64 = 16 << 20;

/// Most requests under way at a time.
const BUSY_MAX: usize = 3;

/// Requests from one archiving to the next.
const ARCHIVED_EVERY: u64 = 6;

/// The mark that makes other dice for the stores of a seed.
const STORE_SEED: u64 = 0x5354_4f52_4553;

/// Most instances that are not deleted.
const INSTANCES_MAX: usize = 5;

/// The state of a simulation outside the daemon.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) folder: TempDir,
    pub(crate) double: DoubleHypervisor,
    pub(crate) sky: Arc<Sky>,
    pub(crate) tenant: TenantId,
    /// Requests, answers and events, for people and for the hash.
    pub(crate) trace: Vec<String>,
    /// Facts that a caller was told of, each with its hash.
    pub(crate) told: BTreeMap<u64, String>,
    /// Names of instances whose creation was answered by an error.
    pub(crate) refused: BTreeSet<String>,
    /// Instances with a supervisor that was silent: an exit was told late, maybe after other facts.
    pub(crate) silenced: BTreeSet<InstanceId>,
    /// Ids of all instances that were ever seen.
    pub(crate) known: BTreeSet<InstanceId>,
    /// Nanoseconds between each boot's clock and the meter.
    pub(crate) offsets: BTreeMap<BootId, i64>,
    /// The meter and the true time at the first start, in nanoseconds.
    pub(crate) first: Option<(i64, u64)>,
    /// The same when they were looked at last.
    pub(crate) last: Option<(i64, u64)>,
    /// Facts of the journal, as of the last check.
    pub(crate) written: Vec<String>,
    /// Price books that were put in force, as of the last check.
    pub(crate) prices: Vec<Prices>,
    /// Instant of the tenant's first fact, in nanoseconds on the meter clock.
    pub(crate) first_fact: i64,
    /// The stores of copies, which outlive the daemon.
    pub(crate) stores: Arc<Stores>,
    names: u64,
    requests: u64,
}

/// The end that a daemon is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is told to stop.
    Closes,
    /// The process dies after some time.
    AfterTime,
    /// The process dies in the middle of what it writes.
    AtWrite,
    /// The process dies between a machine's act and its answer.
    AtCall,
    /// The disk reports an error, and the daemon ends itself.
    AtError,
    /// The disk can't sync, and the daemon ends itself.
    AtSync,
}

/// The end that a daemon had.
enum Ended {
    Closed,
    Died,
}

/// The answer to a request.
struct Answer {
    number: u64,
    name: Option<String>,
    outcome: Result<Arc<View>, String>,
}

impl World {
    /// A host without instances.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let folder = tempfile::tempdir().expect("a folder");
        host::begin(Disk::default());
        let double = DoubleHypervisor::default();
        let sky = Arc::new(Sky::new(dice.split()));
        double.set_weather(sky.clone());
        if dice.one_in(4) {
            double.make_machines_silent();
        }
        let world = Self {
            dice,
            folder,
            double,
            sky,
            tenant: TenantId::default_tenant(),
            trace: Vec::new(),
            told: BTreeMap::new(),
            refused: BTreeSet::new(),
            silenced: BTreeSet::new(),
            known: BTreeSet::new(),
            offsets: BTreeMap::new(),
            first: None,
            last: None,
            written: Vec::new(),
            prices: Vec::new(),
            first_fact: 0,
            stores: Arc::new(Stores::new(Dice::new(seed ^ STORE_SEED))),
            names: 0,
            requests: 0,
        };
        world.import();
        world
    }

    fn import(&self) {
        let kernel = self.folder.path().join("kernel");
        fs::write(&kernel, b"\x7fELF and nothing else").expect("a file");
        let import = ImageImport {
            name: "tiny".parse().expect("a name"),
            description: String::new(),
            kernel,
            initrd: None,
            root_disk: None,
            cmdline: "console=ttyS0".into(),
            memory_bytes_min: MEMORY_BYTES,
            agent: false,
        };
        Images::open(self.folder.path()).expect("images").import(&import).expect("an image");
    }

    pub(crate) fn say(&mut self, what: String) {
        self.trace.push(what);
    }

    /// Runs `lives` lives of the daemon.
    pub(crate) fn run(&mut self, lives: u64) -> Result<(), String> {
        for life in 1..=lives {
            let end = match self.dice.below(10) {
                _ if life == lives => End::Closes,
                0 => End::Closes,
                1..3 => End::AfterTime,
                3..6 => End::AtWrite,
                6 => End::AtError,
                7 => End::AtSync,
                _ => End::AtCall,
            };
            self.say(format!("life {life}: {end:?}"));
            let ended = self.live(end)?;
            self.between(ended);
        }
        Ok(())
    }

    fn live(&mut self, end: End) -> Result<Ended, String> {
        let folder = self.folder.path().to_owned();
        host::with(|host| host.disk.connect(&folder));
        let died = host::with(|host| host.disk.died.clone()).expect("a host");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let ended = runtime.block_on(async {
            tokio::select! {
                biased;
                () = died.notified() => Ok(Ended::Died),
                ended = self.serve(end) => ended.map(|()| Ended::Closed),
            }
        });
        let is_gone = host::with(|host| host.disk.is_gone).unwrap_or(true);
        host::with(|host| host.disk.die());
        drop(runtime);
        // The bell may have rung a second time.
        host::with(|host| host.disk.died = Default::default());
        match ended {
            Err(_) if is_gone => Ok(Ended::Died),
            ended => ended,
        }
    }

    /// Lets things happen while no daemon runs.
    fn between(&mut self, ended: Ended) {
        let lost = matches!(ended, Ended::Died) && self.dice.one_in(2);
        if lost {
            self.double.lose_all();
            let remains = *self.dice.pick(&Remains::ALL);
            let mut dice = self.dice.split();
            let down_ns = self.dice.below(7_200_000_000_000);
            self.say(format!("power lost: {remains:?} remains, down for {down_ns} ns"));
            let step = self.dice.below(100_000_000_000_000) as i64;
            let loses_time = self.dice.one_in(4);
            host::with(|host| {
                host.disk.lose_power(remains, &mut dice);
                host.reboot(down_ns);
                match loses_time {
                    true => host.lose_time(step),
                    false => host.synchronise(),
                }
            });
            return;
        }
        let ms = self.dice.below(60_000);
        host::with(|host| host.pass(ms * 1_000_000));
        if self.dice.one_in(3)
            && let Some((id, _)) = self.one_living()
        {
            self.double.end(&id, Initiator::Unknown);
            self.say("a machine died unseen".into());
        }
    }

    /// A machine runs while the host is suspended for `asleep_ns` nanoseconds. Returns its
    /// intervals.
    pub(crate) fn sleep(&mut self, asleep_ns: u64) -> Result<Vec<Interval>, String> {
        self.brief(async |world, daemon| {
            let id = world.created(daemon).await?;
            host::with(|host| host.suspend(asleep_ns));
            world.seen(daemon, &id).await
        })
    }

    /// A machine's host loses its power, and loses it again before anybody has looked for the
    /// machine, of which nothing can be read then. Returns its intervals.
    pub(crate) fn lose_power_twice(&mut self) -> Result<Vec<Interval>, String> {
        let id = self.brief(async |world, daemon| world.created(daemon).await)?;
        self.lose_power();
        self.brief(async |_, _| Ok(()))?;
        self.lose_power();
        self.double.plan(&id, Call::Adopt, Plan::Fail);
        self.brief(async |world, daemon| world.seen(daemon, &id).await)
    }

    /// Runs the daemon for some work, after which its process dies.
    fn brief<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self, &Daemon) -> Result<T, String>,
    ) -> Result<T, String> {
        let folder = self.folder.path().to_owned();
        host::with(|host| host.disk.connect(&folder));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let done = runtime.block_on(async {
            let daemon = Daemon::start(&folder, &self.double, self.stores.clone()).await?;
            self.started(&daemon)?;
            work(self, &daemon).await
        });
        host::with(|host| host.disk.die());
        drop(runtime);
        host::with(|host| host.disk.died = Default::default());
        done
    }

    /// A new instance that nothing is under way for.
    async fn created(&mut self, daemon: &Daemon) -> Result<InstanceId, String> {
        let new = self.new_instance("vm");
        let created = daemon.fleet.create(&self.tenant, new).await;
        let view = created.map_err(|error| error.to_string())?;
        self.settle(daemon).await?;
        Ok(view.record.id.clone())
    }

    /// The intervals of an instance, once nothing is under way and all is as it must be.
    async fn seen(&mut self, daemon: &Daemon, id: &InstanceId) -> Result<Vec<Interval>, String> {
        self.settle(daemon).await?;
        check::all(self, daemon)?;
        let view = daemon.fleet.find_closed(&self.tenant, id);
        let view = view.map_err(|error| error.to_string())?;
        daemon.fleet.intervals(&view, daemon.fleet.now()).map_err(|error| error.to_string())
    }

    /// The host loses its power and is booted an hour later.
    fn lose_power(&mut self) {
        self.double.lose_all();
        let mut dice = self.dice.split();
        host::with(|host| {
            host.disk.lose_power(Remains::Everything, &mut dice);
            host.reboot(3_600_000_000_000);
            host.synchronise();
        });
    }

    fn one_living(&mut self) -> Option<(InstanceId, u32)> {
        let living = self.double.all_living();
        if living.is_empty() { None } else { Some(self.dice.pick(&living).clone()) }
    }

    /// A life of the daemon, up to its clean end.
    async fn serve(&mut self, end: End) -> Result<(), String> {
        match end {
            End::Closes => {}
            End::AfterTime => {
                let ms = self.dice.below(120_000);
                tokio::spawn(async move {
                    sleep(Duration::from_millis(ms)).await;
                    host::with(|host| host.disk.die());
                });
            }
            End::AtWrite => {
                let acts = self.dice.below(400);
                host::with(|host| host.disk.dies_at = Some(host.disk.acts + acts));
            }
            End::AtError => {
                let acts = self.dice.below(400);
                host::with(|host| host.disk.breaks_at = Some(host.disk.acts + acts));
            }
            End::AtSync => {
                let syncs = self.dice.between(1, 60);
                host::with(|host| host.disk.sync_fails_at = Some(host.disk.syncs + syncs));
            }
            End::AtCall => {
                let calls = self.dice.between(1, 25);
                self.sky.die_in(Some(calls));
            }
        }
        self.sky.calm(end == End::Closes);
        self.stores.calm(true);
        let daemon =
            match Daemon::start(self.folder.path(), &self.double, self.stores.clone()).await {
                Ok(daemon) => daemon,
                Err(_) if matches!(end, End::AtError | End::AtSync) => return Ok(()),
                Err(error) => return Err(error),
            };
        let journal = daemon.journal.clone();
        tokio::spawn(async move {
            journal.failed().await;
            host::with(|host| host.disk.die());
        });
        self.started(&daemon)?;
        self.settle(&daemon).await?;
        store::archive(&daemon.journal, &self.stores).await;
        check::all(self, &daemon)?;
        if self.prices.is_empty() {
            bill::set_prices(self, &daemon, 0).await?;
        }
        self.sky.calm(false);
        self.stores.calm(false);
        let steps = self.dice.between(5, 30);
        self.requests(&daemon, steps).await?;
        self.sky.die_in(None);
        self.sky.calm(true);
        self.stores.calm(true);
        host::with(|host| {
            host.disk.is_full = false;
            host.synchronise();
        });
        self.settle(&daemon).await?;
        check::all(self, &daemon)?;
        daemon.journal.close().await.map_err(|error| error.to_string())
    }

    fn started(&mut self, daemon: &Daemon) -> Result<(), String> {
        let present = (daemon.boot.clone(), daemon.offset_ns);
        for (boot, offset_ns) in daemon.earlier.iter().cloned().chain([present]) {
            let before = self.offsets.insert(boot, offset_ns);
            if let Some(before) = before.filter(|&before| before != offset_ns) {
                let moved_ns = offset_ns - before;
                return Err(format!("the meter of one boot was moved by {moved_ns} ns"));
            }
        }
        check::meter(self, daemon)
    }

    /// Waits until nothing is under way.
    async fn settle(&mut self, daemon: &Daemon) -> Result<(), String> {
        self.double.let_all_speak();
        // The clocks are compared once a second.
        sleep(Duration::from_secs(2)).await;
        for _ in 0..400 {
            sleep(Duration::from_secs(1)).await;
            let views = daemon.fleet.list(&self.tenant);
            self.known.extend(views.iter().map(|view| view.record.id.clone()));
            if views.iter().all(|view| check::is_settled(self, view)) {
                return Ok(());
            }
        }
        let views = daemon.fleet.list(&self.tenant);
        let busy = views.iter().filter(|view| !check::is_settled(self, view));
        let busy: Vec<_> =
            busy.map(|view| format!("{} {:?}", view.record.name, view.live)).collect();
        Err(format!("never settled: {busy:?}"))
    }

    /// Clients and guests at work.
    async fn requests(&mut self, daemon: &Daemon, steps: u64) -> Result<(), String> {
        let (answers, mut answered) = mpsc::unbounded_channel();
        let mut busy = 0;
        for _ in 0..steps {
            let wait = self.pause();
            sleep(Duration::from_millis(wait)).await;
            while let Ok(answer) = answered.try_recv() {
                busy -= 1;
                self.take(daemon, answer)?;
            }
            if busy < BUSY_MAX {
                busy += usize::from(self.request(daemon, &answers));
            }
            // Whoever notes the end of the journal elsewhere can tell later whether it was cut off.
            let head = daemon.journal.head();
            self.told.insert(head.seq, head.hash.to_string());
            self.guests();
            self.mishaps();
        }
        host::with(|host| host.disk.is_full = false);
        while busy > 0 {
            let answer = answered.recv().await.expect("a sender");
            busy -= 1;
            self.take(daemon, answer)?;
        }
        Ok(())
    }

    /// Lets things happen to the host itself.
    fn mishaps(&mut self) {
        let hour = 3_600_000_000_000;
        match self.dice.below(60) {
            0 => {
                let step = self.dice.below(100 * hour) as i64 - 50 * hour as i64;
                self.say(format!("nobody keeps the wall clock, which is stepped by {step} ns"));
                host::with(|host| host.lose_time(step));
            }
            1 => {
                let asleep = self.dice.below(2 * hour);
                self.say(format!("the host is suspended for {asleep} ns"));
                host::with(|host| host.suspend(asleep));
            }
            2 => {
                self.say("the wall clock is synchronised".into());
                host::with(|host| host.synchronise());
            }
            6..9 => {
                if let Some((id, incarnation)) = self.one_living() {
                    self.say(format!("the supervisor of launch {incarnation} falls silent"));
                    self.double.silence(&id);
                    self.silenced.insert(id);
                }
            }
            9..12 => self.double.let_all_speak(),
            3..6 => {
                let is_full = self.dice.one_in(2);
                self.say(format!("the disk is full: {is_full}"));
                host::with(|host| host.disk.is_full = is_full);
            }
            _ => {}
        }
    }

    fn pause(&mut self) -> u64 {
        match self.dice.below(10) {
            0..4 => self.dice.below(10),
            4..8 => self.dice.below(3_000),
            8 => self.dice.below(30_000),
            _ => self.dice.below(300_000),
        }
    }

    /// Notes an answer: what the caller was told must stay.
    fn take(&mut self, daemon: &Daemon, answer: Answer) -> Result<(), String> {
        let Answer { number, name, outcome } = answer;
        let head = daemon.journal.head();
        self.told.insert(head.seq, head.hash.to_string());
        match outcome {
            Ok(view) => {
                let seq = view.last_fact;
                self.known.insert(view.record.id.clone());
                self.say(format!("{number}: {} at fact {seq}", view.live.state.as_str()));
                let query = FactQuery { after: seq - 1, limit: Some(1), ..FactQuery::default() };
                let page = match daemon.journal.facts(&query) {
                    // It was sealed at once, and the store of its copy is away.
                    Err(ReadError::Elsewhere { .. }) => return Ok(()),
                    page => page.map_err(|error| error.to_string())?,
                };
                let fact = page.facts.into_iter().next();
                let fact = fact.filter(|fact| fact.fact.seq == seq);
                let fact = fact.ok_or(format!("fact {seq} was told of and is not durable"))?;
                self.told.insert(seq, fact.hash);
            }
            Err(error) => {
                self.say(format!("{number}: {error}"));
                // Its end is not on record before there is space, and may be lost with the power.
                let is_full = host::with(|host| host.disk.is_full).unwrap_or(false);
                self.refused.extend(name.filter(|_| !is_open(&error) && !is_full));
            }
        }
        Ok(())
    }

    fn fresh(&mut self) -> String {
        self.names += 1;
        format!("vm-{}", self.names)
    }

    /// Hands in a request. Returns whether there will be an answer.
    fn request(&mut self, daemon: &Daemon, answers: &mpsc::UnboundedSender<Answer>) -> bool {
        self.requests += 1;
        let number = self.requests;
        let views = daemon.fleet.list(&self.tenant);
        if views.is_empty() || (views.len() < INSTANCES_MAX && self.dice.one_in(5)) {
            self.create(daemon, number, answers.clone());
            return true;
        }
        let view = self.dice.pick(&views).clone();
        if self.dice.one_in(12) {
            self.activate(daemon);
            return false;
        }
        if number.is_multiple_of(ARCHIVED_EVERY) {
            self.archive(daemon);
        }
        if self.dice.one_in(20) {
            self.say(format!("{number}: close"));
            tokio::spawn(bill::close(self, daemon));
            return false;
        }
        let command = *self.dice.pick(&[
            Command::Start,
            Command::Start,
            Command::Stop,
            Command::Pause,
            Command::Pause,
            Command::Resume,
            Command::Resume,
            Command::Standby,
            Command::Standby,
            Command::Restore,
            Command::Restore,
            Command::Delete,
            Command::Snapshot,
            Command::Revert,
            Command::Discard,
            Command::Fork,
            Command::Resize,
        ]);
        self.command(daemon, number, &view, command, answers.clone());
        true
    }

    fn archive(&self, daemon: &Daemon) {
        let journal = daemon.journal.clone();
        let stores = self.stores.clone();
        tokio::spawn(async move { store::archive(&journal, &stores).await });
    }

    fn create(&mut self, daemon: &Daemon, number: u64, answers: mpsc::UnboundedSender<Answer>) {
        let name = self.fresh();
        let new = self.new_instance(&name);
        self.say(format!("{number}: create {name}"));
        let fleet = daemon.fleet.clone();
        let tenant = self.tenant.clone();
        tokio::spawn(async move {
            let outcome = fleet.create(&tenant, new).await.map_err(|error| error.to_string());
            let _ = answers.send(Answer { number, name: Some(name), outcome });
        });
    }

    fn new_instance(&mut self, name: &str) -> NewInstance {
        let restarts = self.dice.one_in(4);
        let mode = if restarts { RestartMode::OnFailure } else { RestartMode::Never };
        NewInstance {
            image_reference: None,
            name: name.parse().expect("a name"),
            image: "tiny".parse().expect("a name"),
            vcpus: 1,
            memory_bytes: None,
            cmdline: String::new(),
            disks: Vec::new(),
            tags: Default::default(),
            skip_guest_agent: self.dice.one_in(3),
            stop_grace_ms: self.dice.below(2_000),
            hypervisor: None,
            memory_bytes_max: Some(4 * MEMORY_BYTES),
            restart: RestartPolicy { mode, ..RestartPolicy::default() },
            expiry: None,
            health: None,
            auto_standby: None,
            program: Default::default(),
            network: Default::default(),
            overlay_bytes: None,
        }
    }

    fn command(
        &mut self,
        daemon: &Daemon,
        number: u64,
        view: &View,
        command: Command,
        answers: mpsc::UnboundedSender<Answer>,
    ) {
        let name = &view.record.name;
        self.say(format!("{number}: {command} {name} ({})", view.live.state.as_str()));
        let fleet = daemon.fleet.clone();
        let tenant = self.tenant.clone();
        let id = view.record.id.clone();
        let asked = self.asked(view, command);
        tokio::spawn(async move {
            let outcome = match asked {
                Ok(request) => fleet.request(&tenant, &id, request).await,
                Err(fork) => fleet.fork(&tenant, &id, fork).await,
            };
            let outcome = outcome.map_err(|error| error.to_string());
            // A fork that was made and did not reach its target exists.
            let _ = answers.send(Answer { number, name: None, outcome });
        });
    }

    fn asked(&mut self, view: &View, command: Command) -> Result<Request, NewFork> {
        let kept = view.record.snapshots.first().map(|snapshot| snapshot.name.clone());
        let snapshot = || kept.clone().unwrap_or_else(|| "none".parse().expect("a name"));
        Ok(match command {
            Command::Start => Request::Start,
            Command::Stop => Request::Stop { grace_ms: None },
            Command::Pause => Request::Pause,
            Command::Resume => Request::Resume,
            Command::Standby => Request::Standby,
            Command::Restore => Request::Restore,
            Command::Delete => Request::Delete,
            Command::Snapshot => {
                let name = self.fresh().parse().expect("a name");
                Request::Snapshot(NewSnapshot {
                    name,
                    tags: Default::default(),
                    keep: Some(2),
                    compress: false,
                })
            }
            Command::Discard => Request::Discard { snapshot: snapshot() },
            Command::Revert => Request::Revert { snapshot: snapshot() },
            Command::Resize => {
                Request::Resize { memory_bytes: self.dice.between(1, 4) * MEMORY_BYTES }
            }
            Command::Fork => {
                let target = *self.dice.pick(&[
                    None,
                    Some(Target::Stopped),
                    Some(Target::Standby),
                    Some(Target::Running),
                ]);
                let name = self.fresh().parse().expect("a name");
                return Err(NewFork {
                    name,
                    from_running: true,
                    target,
                    snapshot: kept.filter(|_| self.dice.one_in(2)),
                });
            }
        })
    }

    /// Puts the tenant under another policy.
    fn activate(&mut self, daemon: &Daemon) {
        let other = match self.dice.below(3) {
            0 if self.requests.is_multiple_of(2) => TRAPPING.clone(),
            0 => FAILING.clone(),
            _ => component("coarse"),
        };
        let standard = POLICIES.standard().digest();
        let digest = if self.dice.one_in(2) { Digest::of(&other) } else { standard };
        self.say(format!("activate {digest}"));
        let fleet = daemon.fleet.clone();
        let journal = daemon.journal.clone();
        let tenant = self.tenant.clone();
        let by = Actor::Host;
        tokio::spawn(async move {
            let policy = NewPolicy {
                tenant: tenant.clone(),
                digest: Digest::of(&other),
                name: None,
                bytes: other,
                record: tallyman::rollout::standard_record(),
                by: by.clone(),
            };
            let known = journal.policy_bytes(&policy.digest).is_ok_and(|bytes| bytes.is_some());
            let entry = Entry { policy: Some(policy), ..Entry::default() };
            if known || journal.commit(entry).await.is_ok() {
                let _ = fleet.activate(NewActivation::now(tenant, digest, by), None).await;
            }
        });
    }

    /// Guests that say something, or end.
    fn guests(&mut self) {
        for (id, incarnation) in self.double.all_living() {
            if self.double.state(&id) != Some(VmState::Running) {
                continue;
            }
            let mut now = self.double.now();
            if self.dice.one_in(8) {
                // Read late, and stamped by when it was written.
                let ago_ns = self.dice.below(10_000_000_000);
                now.boottime_ns = now.boottime_ns.saturating_sub(ago_ns);
            }
            match self.dice.below(12) {
                0..4 => {
                    self.double.observe(&id, Observed::ProgramStarted(now));
                    self.double.observe(&id, Observed::AgentReady(now));
                }
                4 => {
                    let by = *self.dice.pick(&[
                        Initiator::GuestPowerOff,
                        Initiator::GuestPanic,
                        Initiator::Unknown,
                    ]);
                    self.double.end(&id, by);
                    self.say(format!("launch {incarnation} ends: {by:?}"));
                }
                5 => {
                    let said =
                        Observed::ProgramExited { stamp: now, code: 3, message: "over".into() };
                    self.double.observe(&id, said);
                }
                _ => {}
            }
        }
    }

    /// Everything that happened: what was asked and answered, and the facts.
    pub(crate) fn history(&self) -> impl Iterator<Item = &String> {
        self.trace.iter().chain(&self.written)
    }

    /// The hash of everything that happened.
    pub(crate) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for line in self.history() {
            hash.update(line);
            hash.update("\n");
        }
        hex::encode(hash.finalize())
    }
}

/// Returns whether an error says that the request is done, or will be.
fn is_open(error: &str) -> bool {
    error.starts_with("done") || error.contains("the command is finished when it has")
}
