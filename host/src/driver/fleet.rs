//! The instances of a host, as the rest of the program sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use tokio::sync::{mpsc, oneshot, watch};

use super::admission::{Admission, Capacity, Claim, Ratios};
use super::aside;
use super::background;
use super::calendar::Calendar;
use super::codec;
use super::copy;
use super::error::{FleetError, failed, network_failed};
use super::host::{Directory, Host};
use super::live::{Live, View};
use super::mailbox::{NewFork, Order, Slot, Visit};
use super::record::{NewInstance, Record, find_snapshot};
use super::request::{Request, Target};
use super::settings::{Amendment, Prober, Quota, check_amendment};
use super::strays;
use super::task::Task;
use super::timers::{self, Timers};
use super::watch::Watch;
use crate::billing::account::{Degraded, Reader, Usage};
use crate::billing::interval::{self, Interval};
use crate::billing::{Counted, Reading, Timeline};
use crate::blocking;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::guest::Guest;
use crate::hypervisor::{self, Description, Hypervisor, Launches, MachineProcess, ProcessUsage};
use crate::id::{ImageName, InstanceId, SnapshotName, TenantId};
use crate::image::Images;
use crate::journal::{
    Alive, CommitError, CountedQuery, EarlierBoot, Entry, Journal, NewActivation, RequestKey,
    StoredInstance,
};
use crate::limits::instance::KNOWN_MAX;
use crate::mutants::{Mutant, money};
use crate::network::{Addresses, Networks};
use crate::units::Instant;
use crate::vm::{Phase, State, Traffic};

/// A part of the intervals of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntervalPage {
    /// The intervals, in order. Those of one fact, which changes of policy divide, are together.
    pub intervals: Vec<Interval>,
    /// The fact that the next page begins after; none if there is none.
    pub next: Option<u64>,
    /// The first instant of the instance's life; none if its time has not begun.
    pub begin: Option<Instant>,
}

/// Removes the folder of an instance that is recorded as deleted, and moves that of an unknown one
/// aside. Blocking.
fn clear(journal: &Journal, id: &InstanceId, folder: &Path) {
    let known = match journal.instance(id) {
        Ok(known) => known,
        Err(error) => {
            return tracing::warn!(instance = %id, %error, "the record of a folder can't be read");
        }
    };
    let cleared = match known {
        Some(_) => copy::remove(folder),
        None => aside::set_aside(folder).map(|place| {
            let folder = place.display();
            tracing::warn!(instance = %id, %folder, "on no record: its folder was moved aside");
        }),
    };
    if let Err(error) = cleared {
        let folder = folder.display();
        tracing::warn!(%folder, %error, "a folder that belongs to no instance is left");
    }
}

/// Delay before an order is handed again to an instance whose mailbox is full.
const BUSY_RETRY: Duration = Duration::from_millis(100);

/// All instances of a host.
#[derive(Clone)]
pub struct Fleet(pub(super) Arc<Host>);

/// The parts of a fleet. The composition root chooses them.
pub struct Parts {
    /// The journal of all facts.
    pub journal: Arc<Journal>,
    /// The meter clock.
    pub clock: Clock,
    /// The reader of accounts.
    pub accounts: Arc<dyn Reader>,
    /// The hypervisors of this host; the first is the default.
    pub hypervisors: Vec<Arc<dyn Hypervisor>>,
    /// The images that can be booted.
    pub images: Arc<Images>,
    /// The folder that holds one folder for each instance.
    pub instances: PathBuf,
    /// The last proof that the host was alive before this start; none on a first start.
    pub alive: Option<Alive>,
    /// The boots of the host before this one.
    pub boots: Vec<EarlierBoot>,
    /// The prober of workloads.
    pub prober: Arc<dyn Prober>,
    /// The processes of launches, of all hypervisors.
    pub launches: Arc<dyn Launches>,
    /// The networks that guests get; none without a pool of addresses.
    pub networks: Option<Arc<dyn Networks>>,
    /// The limits of tenants.
    pub quota: Arc<dyn Quota>,
    /// The processors and the memory that the host has.
    pub machine: Claim,
    /// The ratios by which the host gives what it has.
    pub ratios: Ratios,
    /// The disk of the data folder.
    pub disk: Arc<Disk>,
    /// Wait for the exit of a virtual machine monitor that was ordered to exit; after it, the
    /// caller gets [`FleetError::StillEnding`].
    pub exit_patience: Duration,
}

/// The default hypervisor of a host that has none: nothing starts there.
const NO_HYPERVISOR: &str = "default";

/// The condition of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The instance is in this phase.
    For(Phase),
    /// The record is closed.
    ForDeletion,
}

/// The names of instances of which facts may still come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// An operation that began before is under way.
    pub begun: Vec<String>,
    /// The daemon has not yet found out what became of the machine while it was down.
    pub unseen: Vec<String>,
}

impl Fleet {
    /// Takes over the instances of an earlier run. Those with a virtual machine monitor, or with a
    /// command under way, are recovered in the background, from now on.
    ///
    /// # Errors
    /// [`FleetError::Bug`] if a stored record can't be read.
    pub fn open(parts: Parts, stored: Vec<StoredInstance>) -> Result<Fleet, FleetError> {
        let default = parts.hypervisors.first().map(|hypervisor| hypervisor.name());
        let default_hypervisor = default.unwrap_or(NO_HYPERVISOR);
        let slots: Result<Vec<_>, _> = stored.into_par_iter().map(opened).collect();
        let slots = slots?;
        let addresses = parts.networks.as_ref().map(|networks| {
            let network = |slot: &Arc<Slot>| slot.view().record.spec.network.clone();
            let taken = slots.iter().filter_map(network).map(|network| network.address);
            let taken: BTreeSet<_> = taken.collect();
            strays::sweep_networks(&**networks, &taken);
            Addresses::new(networks.pool(), taken)
        });
        let directory = Directory::of(slots);
        let (compressor, jobs) = mpsc::unbounded_channel();
        let fleet = Fleet(Arc::new(Host {
            journal: parts.journal,
            clock: parts.clock,
            accounts: parts.accounts,
            hypervisors: parts
                .hypervisors
                .into_iter()
                .map(|hypervisor| (hypervisor.name(), hypervisor))
                .collect(),
            default_hypervisor,
            images: parts.images,
            instances: parts.instances,
            alive: parts.alive,
            boots: parts.boots,
            prober: parts.prober,
            launches: parts.launches,
            networks: parts.networks,
            addresses,
            quota: parts.quota,
            machine: parts.machine,
            ratios: parts.ratios,
            admission: Admission::default(),
            disk: parts.disk,
            exit_patience: parts.exit_patience,
            compressor,
            calendar: Calendar::default(),
            timers: Timers::default(),
            strays: Mutex::default(),
            halted: Mutex::default(),
            directory: RwLock::new(directory),
            start_task: Task::start,
        }));
        fleet.sweep();
        fleet.recover()?;
        let host = Arc::downgrade(&fleet.0);
        let timers = fleet.0.timers.clone();
        let clock = fleet.0.clock.clone();
        tokio::spawn(background::run_timers(host.clone(), timers, clock));
        tokio::spawn(strays::watch(host.clone()));
        tokio::spawn(background::compress_snapshots(host, jobs));
        Ok(fleet)
    }

    /// Removes the folders of instances whose deletion a crash has interrupted, and moves those
    /// aside that no record knows: those of instances that were never completed, or that are
    /// missing in a restored journal. In the background.
    fn sweep(&self) {
        let Ok(folders) = std::fs::read_dir(&self.0.instances) else { return };
        let directory = self.0.directory();
        let id_of =
            |folder: &std::fs::DirEntry| folder.file_name().to_str()?.parse::<InstanceId>().ok();
        let unknown = folders.flatten().filter_map(|folder| {
            let id = id_of(&folder).filter(InstanceId::is_of_ours)?;
            (!directory.by_id.contains_key(&id)).then(|| (id, folder.path()))
        });
        let unknown: Vec<_> = unknown.collect();
        let journal = self.0.journal.clone();
        tokio::spawn(blocking::run(move || {
            for (id, folder) in unknown {
                clear(&journal, &id, &folder);
            }
        }));
    }

    /// The number of folders of unknown instances that were moved aside.
    pub fn set_aside(&self) -> u64 {
        aside::count(&self.0.instances)
    }

    fn recover(&self) -> Result<(), FleetError> {
        for slot in self.0.directory().by_row.values() {
            let View { record, live, .. } = &*slot.view();
            // Before any task runs, which might interrupt the compression.
            self.0.plan_compression(slot, &record.snapshots);
            if live.state.has_vmm() || live.intent.is_some() {
                slot.set_unseen(true);
                self.0.order(slot, Order::Recover)?;
            } else {
                let next = timers::next_due(record, live, &Watch::default());
                let next = next.filter(|_| !Mutant::RestartForgotten.is_active());
                self.0.timers.set(slot.row, next);
            }
        }
        Ok(())
    }

    /// Accepts an instance and boots it; returns when its vCPUs run.
    ///
    /// # Errors
    /// See [`FleetError`]. If the launch failed, nothing is left of the instance.
    pub async fn create(
        &self,
        tenant: &TenantId,
        new: NewInstance,
    ) -> Result<Arc<View>, FleetError> {
        self.0.create(tenant.clone(), new).await
    }

    /// Forks an instance; returns when the fork has reached its target.
    ///
    /// # Errors
    /// See [`FleetError`]. If the fork was made and did not reach its target, it exists, and its
    /// view has the error.
    pub async fn fork(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        new: NewFork,
    ) -> Result<Arc<View>, FleetError> {
        let slot = self.slot(tenant, id)?;
        {
            let directory = self.0.directory();
            if directory.by_row.len() >= KNOWN_MAX {
                return Err(FleetError::TooMany(KNOWN_MAX));
            }
            if directory.by_name.contains_key(&(tenant.clone(), new.name.clone())) {
                return Err(FleetError::NameInUse(new.name));
            }
        }
        self.0.fork(&slot, new).await
    }

    /// Changes the settings of an instance; returns when the change is durable.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub async fn amend(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        amendment: Amendment,
    ) -> Result<Arc<View>, FleetError> {
        check_amendment(&amendment, self.now())?;
        let slot = self.slot(tenant, id)?;
        let amendment = Box::new(amendment);
        self.0.ask(&slot, |reply| Order::Amend { amendment, reply }).await
    }

    /// Puts on record that somebody goes into the guest, and answers the way in.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub async fn visit(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        visit: Visit,
    ) -> Result<Arc<Guest>, FleetError> {
        let slot = self.slot(tenant, id)?;
        let (reply, answer) = oneshot::channel();
        self.0.order(&slot, Order::Visit { visit, reply })?;
        answer.await.map_err(|_| FleetError::Stopping)?
    }

    /// Notes a report of activity, and restores the instance from standby if `wake`.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub async fn report_activity(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        wake: bool,
    ) -> Result<Arc<View>, FleetError> {
        let slot = self.slot(tenant, id)?;
        self.0.ask(&slot, |reply| Order::Activity { wake, reply }).await
    }

    /// Carries out a request; returns when it is done and recorded. A command that is already
    /// fulfilled succeeds.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub async fn request(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        request: Request,
    ) -> Result<Arc<View>, FleetError> {
        self.0.request(&self.slot(tenant, id)?, request).await
    }

    /// Reverts an instance to a snapshot and brings it to `target`. Without one, the instance runs
    /// if the snapshot holds memory, and is stopped if not.
    ///
    /// # Errors
    /// See [`FleetError`]. If the target was not reached, the instance is where [`Request::Revert`]
    /// alone leads: in standby with memory, or stopped.
    pub async fn revert(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        name: SnapshotName,
        target: Option<Target>,
    ) -> Result<Arc<View>, FleetError> {
        let view = self.slot(tenant, id)?.view();
        let kept = find_snapshot(&view.record.snapshots, &name)?;
        let default = if kept.memory.is_some() { Target::Running } else { Target::Stopped };
        let next = match (target.unwrap_or(default), kept.memory) {
            (Target::Standby, None) => return Err(FleetError::NoMemory),
            (Target::Standby, Some(_)) | (Target::Stopped, None) => None,
            (Target::Stopped, Some(_)) => Some(Request::Stop { grace_ms: None }),
            (Target::Running, Some(_)) => Some(Request::Restore),
            (Target::Running, None) => Some(Request::Start),
        };
        let reverted = self.request(tenant, id, Request::Revert { snapshot: name }).await?;
        match next {
            Some(next) => self.request(tenant, id, next).await,
            None => Ok(reverted),
        }
    }

    fn slot(&self, tenant: &TenantId, id: &InstanceId) -> Result<Arc<Slot>, FleetError> {
        let directory = self.0.directory();
        let slot = directory.by_id.get(id).filter(|slot| slot.tenant == *tenant);
        slot.cloned().ok_or_else(|| FleetError::NotFound { key: id.to_string() })
    }

    /// The instance behind an id, a name, or an id's unique prefix; not a deleted one.
    ///
    /// # Errors
    /// [`FleetError::NotFound`], [`FleetError::Ambiguous`].
    pub fn find(&self, tenant: &TenantId, key: &str) -> Result<Arc<View>, FleetError> {
        self.0.directory().find(tenant, key).map(|slot| slot.view())
    }

    /// The record of an instance by its full id, also if it is deleted. Reads the journal;
    /// blocking.
    ///
    /// # Errors
    /// [`FleetError::NotFound`], and the journal's.
    pub fn find_closed(&self, tenant: &TenantId, id: &InstanceId) -> Result<Arc<View>, FleetError> {
        if let Ok(slot) = self.slot(tenant, id) {
            return Ok(slot.view());
        }
        let stored =
            self.0.journal.instance(id).map_err(|error| FleetError::Bug(error.to_string()))?;
        let stored = stored.filter(|stored| stored.tenant == *tenant);
        let stored = stored.ok_or_else(|| FleetError::NotFound { key: id.to_string() })?;
        opened(stored).map(|slot| slot.view())
    }

    /// The view of an instance of any tenant, deleted or not; none if it is not known. Blocking.
    pub fn find_known(&self, id: &InstanceId) -> Option<Arc<View>> {
        let stored = self.0.journal.instance(id).ok()??;
        self.find_closed(&stored.tenant, id).ok()
    }

    /// The instances of a tenant that are not deleted, oldest first.
    pub fn list(&self, tenant: &TenantId) -> Vec<Arc<View>> {
        let directory = self.0.directory();
        directory.of_tenant(tenant).map(|slot| slot.view()).collect()
    }

    /// The instances of every tenant that has any, oldest first; none of those that are deleted.
    pub fn by_tenant(&self) -> BTreeMap<TenantId, Vec<Arc<View>>> {
        let mut found: BTreeMap<TenantId, Vec<Arc<View>>> = BTreeMap::new();
        for slot in self.0.directory().by_row.values() {
            match found.get_mut(&slot.tenant) {
                Some(views) => views.push(slot.view()),
                None => drop(found.insert(slot.tenant.clone(), vec![slot.view()])),
            }
        }
        found
    }

    /// Names of at most `most` instances of all tenants that were made of an image.
    pub fn users_of(&self, image: &ImageName, most: usize) -> Vec<String> {
        let directory = self.0.directory();
        let views = directory.by_row.values().map(|slot| slot.view());
        let users = views.filter(|view| view.record.spec.image == image.as_str());
        users.map(|view| view.record.name.to_string()).take(most).collect()
    }

    /// The totals of these instances at an instant: one component call for each policy that is in
    /// force among them.
    pub fn usage(&self, views: &[Arc<View>], at: Instant) -> Vec<Usage> {
        let accounts: Vec<_> =
            views.iter().map(|view| (&view.record.tenant, &view.account)).collect();
        self.0.accounts.usage(&accounts, at)
    }

    /// Subscribes to the published views of an instance. Only the last view is kept: a short phase
    /// may never be seen.
    ///
    /// # Errors
    /// [`FleetError::NotFound`].
    pub fn views(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
    ) -> Result<watch::Receiver<Arc<View>>, FleetError> {
        Ok(self.slot(tenant, id)?.subscribe())
    }

    /// Waits until an instance is in a state.
    ///
    /// # Errors
    /// [`FleetError::WaitTimedOut`]; [`FleetError::Ended`] if the instance stopped or was deleted
    /// meanwhile and the wait was for another state.
    pub async fn wait(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        waiting: Waiting,
        timeout: Duration,
    ) -> Result<Arc<View>, FleetError> {
        let slot = self.slot(tenant, id)?;
        let mut views = slot.subscribe();
        let reached = views.wait_for(|view| reached(view, waiting).is_some());
        let view = match tokio::time::timeout(timeout, reached).await {
            Ok(view) => view.map_err(|_| FleetError::Stopping)?.clone(),
            Err(_) => {
                let state = slot.view().live.state.as_str();
                return Err(FleetError::WaitTimedOut {
                    wanted: wanted(waiting),
                    seconds: timeout.as_secs(),
                    state,
                });
            }
        };
        match reached_fully(&view, waiting) {
            true => Ok(view),
            false => Err(FleetError::Ended {
                wanted: wanted(waiting),
                cause: view.live.cause.map_or("deleted", |cause| cause.as_str()).into(),
            }),
        }
    }

    /// The intervals of an instance up to `at`, from the facts up to the view's last one: they
    /// agree with the view's account. Reads the journal; blocking.
    ///
    /// # Errors
    /// [`FleetError::Bug`] if the journal can't be read.
    pub fn intervals(&self, view: &View, at: Instant) -> Result<Vec<Interval>, FleetError> {
        Ok(self.intervals_after(view, at, (0, None))?.intervals)
    }

    /// The same of those that facts after `after` have opened, as many facts as `limit` says. What
    /// it costs follows the page, not the history.
    ///
    /// # Errors
    /// As [`Fleet::intervals`].
    pub fn intervals_after(
        &self,
        view: &View,
        at: Instant,
        (after, limit): (u64, Option<usize>),
    ) -> Result<IntervalPage, FleetError> {
        let counted = |after, limit| {
            let instance = &view.record.id;
            let through = view.last_fact;
            let query = CountedQuery { instance, after, through, limit };
            self.0.journal.counted(query).map_err(|error| FleetError::Bug(error.to_string()))
        };
        // The fact behind the page ends its last interval.
        let facts = counted(after, limit.map(|limit| limit.saturating_add(1)))?;
        let behind = limit.and_then(|limit| facts.get(limit)).copied();
        let begin = if after == 0 { facts.first().copied() } else { counted(0, Some(1))?.pop() };
        // The end of a life opens nothing.
        let opens = behind.is_some_and(|(.., counted)| counted != Counted::Ends);
        let last = facts.len().checked_sub(2).and_then(|last| facts.get(last));
        let next = last.filter(|_| opens).map(|&(fact, ..)| fact);
        let mut intervals = interval::of_counted(facts, &self.timeline(&view.record.tenant), at);
        intervals.retain(|interval| behind.is_none_or(|(fact, ..)| interval.fact != fact));
        Ok(IntervalPage { intervals, next, begin: begin.map(|(_, at, _)| at) })
    }

    /// The policies in force for a tenant, over time.
    pub fn timeline(&self, tenant: &TenantId) -> Timeline {
        self.0.accounts.timeline(tenant)
    }

    /// Puts a tenant under a policy, which the caller knows to be admitted. Returns the effective
    /// instant and the fact's sequence number.
    ///
    /// # Errors
    /// The errors of [`Journal::commit`], with [`CommitError::Repeated`] for a repeated `request`.
    pub async fn activate(
        &self,
        activation: NewActivation,
        request: Option<RequestKey>,
    ) -> Result<(Instant, u64), CommitError> {
        let tenant = activation.tenant.clone();
        let entry = Entry { activation: Some(activation), request, ..Entry::default() };
        let receipt = self.0.journal.commit(entry).await?;
        self.account_again(&tenant, |_| true);
        // The journal's writer sets the instant of every activation.
        Ok((receipt.activated_from.unwrap_or_else(|| self.now()), receipt.last_seq))
    }

    /// The instances, of all tenants, whose account lacks time because a policy has failed.
    pub fn degraded(&self) -> Vec<Arc<View>> {
        let directory = self.0.directory();
        let views = directory.by_row.values().map(|slot| slot.view());
        views.filter(|view| view.account.degraded.is_some()).collect()
    }

    /// Accounts again, in the background, for time that failed policies have not counted for the
    /// instances of a tenant, where `due` returns true.
    pub fn account_again(&self, tenant: &TenantId, due: impl Fn(&Degraded) -> bool) {
        let mut views = self.list(tenant);
        views.retain(|view| view.account.degraded.as_ref().is_some_and(&due));
        for view in views {
            let Ok(slot) = self.slot(tenant, &view.record.id) else { continue };
            if let Err(error) = self.0.order(&slot, Order::Reaccount) {
                tracing::warn!(instance = %view.record.id, %error, "not accounted again now");
            }
        }
    }

    /// Records that the host was suspended between two readings: for what runs, that time is
    /// `unknown`.
    pub async fn suspended(&self, from: &Reading, until: &Reading) {
        let running: Vec<_> = {
            let directory = self.0.directory();
            directory.by_row.values().filter(|slot| slot.view().live.runs()).cloned().collect()
        };
        for slot in running {
            let order = || Order::Suspended { from: from.clone(), until: until.clone() };
            while let Err(FleetError::Busy(_)) = self.0.order(&slot, order()) {
                tokio::time::sleep(BUSY_RETRY).await;
            }
        }
    }

    /// Learns that the wall clock shows `wall_ns` (UTC, nanoseconds since 1970) at the meter
    /// instant `at`.
    pub fn learn_calendar(&self, at: Instant, wall_ns: i64) {
        self.0.calendar.learn(at, wall_ns);
    }

    /// The calendar's (UTC) nanoseconds since 1970 for a meter instant.
    pub fn calendar_ns(&self, at: Instant) -> i64 {
        self.0.calendar.utc_ns(at)
    }

    /// The first meter instant at which the calendar shows this instant (UTC, nanoseconds since
    /// 1970) or a later one.
    pub fn meter(&self, utc_ns: i64) -> Instant {
        self.0.calendar.meter(utc_ns)
    }

    /// All clocks now.
    pub fn reading(&self) -> Reading {
        self.0.clock.reading()
    }

    /// The instances of a tenant of which facts before an instant may still come.
    pub fn unsettled(&self, tenant: &TenantId, before: Instant) -> Unsettled {
        let directory = self.0.directory();
        let mut unsettled = Unsettled::default();
        for slot in directory.of_tenant(tenant) {
            let view = slot.view();
            let intent = view.live.intent.as_ref();
            let name = view.record.name.to_string();
            match intent.is_some_and(|intent| intent.at_ns.is_none_or(|at| at < before.0)) {
                _ if slot.is_unseen() && !money::Mutant::UnseenIgnored.is_active() => {
                    unsettled.unseen.push(name);
                }
                true => unsettled.begun.push(name),
                false => {}
            }
        }
        unsettled.begun.sort_unstable();
        unsettled.unseen.sort_unstable();
        unsettled
    }

    /// The meter instant for a planned act: the first one from now on at which the calendar shows
    /// this instant (UTC, nanoseconds since 1970); for a past instant, that of [`Fleet::meter`].
    pub fn meter_to_come(&self, utc_ns: i64) -> Instant {
        self.0.calendar.meter_to_come(utc_ns, self.now())
    }

    /// Now, on the meter clock.
    pub fn now(&self) -> Instant {
        self.0.clock.now()
    }

    /// Number of instances that are not deleted.
    pub fn count(&self) -> usize {
        self.0.directory().by_row.len()
    }

    /// The resources of the host with the part that it gives, and the claims of all instances.
    pub fn admission(&self) -> (Capacity, Claim) {
        (self.0.capacity(), self.0.claimed())
    }

    /// Running virtual machine monitors that belong to no recorded instance.
    pub fn strays(&self) -> Vec<MachineProcess> {
        self.0.strays()
    }

    /// Processes of machines that somebody outside has stopped or frozen.
    pub fn halted(&self) -> Vec<MachineProcess> {
        self.0.halted()
    }

    /// The descriptions and capabilities of this host's hypervisors.
    pub fn hypervisors(&self) -> impl Iterator<Item = &Description> {
        self.0.hypervisors.values().map(|hypervisor| hypervisor.describe())
    }

    /// The resource use of an instance's virtual machine monitor; none without one. Blocking.
    ///
    /// # Errors
    /// [`FleetError::Hypervisor`] if it can't be read.
    pub fn process(&self, view: &View) -> Result<Option<ProcessUsage>, FleetError> {
        hypervisor::usage(&self.0.folder(&view.record.id), view.live.incarnation).map_err(failed)
    }

    /// The traffic of an instance's guest since the creation. Blocking.
    ///
    /// # Errors
    /// [`FleetError::Network`] if it can't be read.
    pub fn traffic(&self, view: &View) -> Result<Traffic, FleetError> {
        let Live { traffic, counted, .. } = view.live;
        let Some(link) = &view.link else { return Ok(traffic) };
        Ok(traffic.plus(link.traffic().map_err(network_failed)?.since(counted)))
    }

    /// The folder of an instance, where its console log is.
    pub fn folder(&self, id: &InstanceId) -> PathBuf {
        self.0.folder(id)
    }
}

/// The slot of a stored instance.
fn opened(stored: StoredInstance) -> Result<Arc<Slot>, FleetError> {
    let unreadable = |error: String| FleetError::Bug(format!("instance {}: {error}", stored.id));
    let live = codec::decode(&stored.state).map_err(|error| unreadable(error.to_string()))?;
    let (spec, snapshots) =
        codec::decode_record(&stored.record).map_err(|error| unreadable(error.to_string()))?;
    let deleted = stored.deleted.map(|_| stored.account.tracker.since);
    let record = Arc::new(Record {
        id: stored.id,
        tenant: stored.tenant,
        name: stored.name,
        spec,
        snapshots,
    });
    let last_fact = stored.last_fact.unwrap_or_default();
    let account = stored.account;
    let view = View {
        record,
        live,
        account,
        last_fact,
        deleted,
        health: None,
        idle_since: None,
        link: None,
    };
    Ok(Arc::new(Slot::new(stored.row, view)))
}

/// Returns `Some` if a wait is over: the condition holds, or can't come to hold any more.
fn reached(view: &View, waiting: Waiting) -> Option<()> {
    let over = match waiting {
        Waiting::For(_) => {
            let live = &view.live;
            let rests = live.intent.is_none() && live.restarts.due_ns.is_none();
            matches!(live.state, State::Stopped | State::Deleted) && rests
        }
        Waiting::ForDeletion => false,
    };
    (reached_fully(view, waiting) || over).then_some(())
}

fn reached_fully(view: &View, waiting: Waiting) -> bool {
    match waiting {
        Waiting::For(phase) => view.live.state.phase() == Some(phase),
        Waiting::ForDeletion => view.live.state == State::Deleted,
    }
}

fn wanted(waiting: Waiting) -> String {
    match waiting {
        Waiting::For(phase) => phase.as_str().into(),
        Waiting::ForDeletion => "deleted".into(),
    }
}
