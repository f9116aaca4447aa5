//! The record and state of one instance, and the journal to which every change of either goes
//! before it is published.
//!
//! Facts come from the task that makes them happen, and from nothing that is merely seen: a poll,
//! an event bus or a `watch` channel keeps the last value only, and a phase that was lived but not
//! seen is lost money.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::error::{FleetError, network_failed, refused};
use super::files::{blocking, on_disk, standby_folder};
use super::host::Host;
use super::live::{Health, Live, View};
use super::mailbox::{Reply, Slot};
use super::record::Record;
use super::request::{Intent, Request};
use super::timers;
use super::watch::Watch;
use crate::billing::account::Account;
use crate::billing::{Dated, InstanceFact, Reading};
use crate::hypervisor::{Hypervisor, MachineSpec, Observed, Stamp, ended_traffic};
use crate::journal::{CommitError, Durability, Entry, InstanceWrite};
use crate::mutants::Mutant;
use crate::network::Link;
use crate::units::{Instant, Nanos};
use crate::vm::{Asker, Command, Event, State};

/// Delay before a fact is written again after the disk was full.
const SPACE_RETRY: Duration = Duration::from_millis(500);

/// One instance as its task knows it. Differences from the published view are stored with the next
/// commit and published after it.
pub(super) struct Recorder {
    pub(super) host: Arc<Host>,
    pub(super) slot: Arc<Slot>,
    pub(super) record: Arc<Record>,
    pub(super) live: Live,
    pub(super) account: Account,
    pub(super) watch: Watch,
    /// The network of the launch under way; none without one.
    pub(super) link: Option<Arc<dyn Link>>,
    last_fact: u64,
    /// The failure of the order under way, while facts are recorded that came before it.
    pub(super) failure: Option<FleetError>,
    /// The channel to the caller of the order under way; none once it was answered.
    reply: Option<Reply>,
}

impl Recorder {
    /// The recorder of an instance, from its last published view.
    pub(super) fn new(host: Arc<Host>, slot: Arc<Slot>) -> Self {
        let view = slot.view();
        Self {
            host,
            slot,
            record: view.record.clone(),
            live: view.live.clone(),
            account: view.account.clone(),
            watch: Watch::default(),
            link: None,
            last_fact: view.last_fact,
            failure: None,
            reply: None,
        }
    }

    /// Sets the caller that is to be answered.
    pub(super) fn set_reply(&mut self, reply: Reply) {
        self.reply = Some(reply);
    }

    /// Answers the order under way, unless it was answered before.
    pub(super) fn answer(&mut self, outcome: Result<(), FleetError>) {
        if let Err(FleetError::Bug(detail)) = &outcome {
            tracing::error!(instance = %self.record.id, detail, "defect");
        }
        let Some(reply) = self.reply.take() else { return };
        // The caller may have gone away; the act stands.
        let _ = reply.send(outcome.map(|()| self.slot.view()));
    }

    /// Now, as a hypervisor would stamp it.
    pub(super) fn now(&self) -> Stamp {
        let Reading { boottime_ns, wall_ns, .. } = self.host.clock.reading();
        Stamp { boottime_ns, wall_ns }
    }

    /// The reading of a stamp of this boot, never before the interval under way and never in the
    /// future.
    pub(super) fn reading(&self, stamp: Stamp) -> Reading {
        self.bounded(self.host.clock.reading_of(stamp.boottime_ns, stamp.wall_ns))
    }

    /// The reading of the instant at which the interval under way began.
    pub(super) fn reading_since(&self) -> Reading {
        let mut reading = self.host.clock.reading();
        let since = self.account.tracker.since;
        let elapsed_ns = reading.meter.since(since).unwrap_or_default().0;
        reading.boottime_ns = reading.boottime_ns.saturating_sub(elapsed_ns);
        reading.wall_ns = reading.wall_ns.saturating_sub_unsigned(elapsed_ns);
        reading.meter = since;
        reading
    }

    /// Begin of the interval under way, on the meter.
    pub(super) fn since(&self) -> Instant {
        self.account.tracker.since
    }

    /// `reading` with its meter inside `[since, now]`: the intervals of an instance are contiguous
    /// and never go back, even if another clock does.
    pub(super) fn bounded(&self, mut reading: Reading) -> Reading {
        let tracker = &self.account.tracker;
        let since = tracker.current.map_or(reading.meter, |_| tracker.since);
        reading.meter = reading.meter.min(self.host.clock.now()).max(since);
        reading
    }

    /// Applies `event`, which happened at `at`. Returns its fact, which is not recorded yet.
    pub(super) fn step(
        &mut self,
        event: Event,
        at: Reading,
    ) -> Result<Dated<InstanceFact>, FleetError> {
        let policy = self.record.spec.restart;
        let stepped = self.live.enter(event, at.meter, &policy);
        stepped.map_err(|impossible| FleetError::Bug(impossible.to_string()))?;
        if event == Event::Paused {
            self.watch.pauses += 1;
        }
        let body = self.entered(event);
        Ok((at, body))
    }

    /// Records that `event` happened at `stamp`.
    pub(super) async fn enter(&mut self, event: Event, stamp: Stamp) -> Result<(), FleetError> {
        let at = self.reading(stamp);
        self.enter_at(event, at).await
    }

    /// Records that `event` happened at `at`.
    pub(super) async fn enter_at(&mut self, event: Event, at: Reading) -> Result<(), FleetError> {
        self.count_traffic().await;
        let fact = self.step(event, self.after_traffic(at))?;
        self.write(vec![fact]).await?;
        if !self.live.state.has_vmm() {
            self.leave_network().await;
        }
        Ok(())
    }

    /// Reads what the launch under way has counted of the guest's traffic: from its network, or,
    /// if that went while nobody looked, what its supervisor has read at its end. The next commit
    /// stores it.
    pub(super) async fn count_traffic(&mut self) {
        if self.record.spec.network.is_none() || !self.live.state.has_vmm() {
            return;
        }
        // Also of a reading that fails: the next one is due as long after it.
        self.watch.traffic_read = Some(self.host.clock.now());
        let link = self.link.clone();
        let folder = self.folder();
        let incarnation = self.live.incarnation;
        let read = blocking(move || match link {
            Some(link) => link.traffic().map(Some).map_err(network_failed),
            None => ended_traffic(&folder, incarnation).map_err(on_disk("read", &folder)),
        });
        match read.await {
            Ok(Some(counted)) => self.live.count(counted),
            Ok(None) => {}
            Err(error) => {
                let instance = &self.record.id;
                tracing::warn!(%instance, %error, "the guest's traffic could not be read");
            }
        }
    }

    /// `at`, or the nanosecond after the interval under way began, if traffic may have been read:
    /// it belongs to an interval that has a length.
    fn after_traffic(&self, at: Reading) -> Reading {
        let tracker = &self.account.tracker;
        let is_empty = tracker.current.is_some() && at.meter == tracker.since;
        let meter =
            at.meter.after(Nanos(1)).filter(|_| is_empty && self.record.spec.network.is_some());
        Reading { meter: meter.unwrap_or(at.meter), ..at }
    }

    /// Lets go of the network of a launch that has ended, or never began.
    pub(super) async fn leave_network(&mut self) {
        let held = self.link.take();
        if held.is_some() {
            self.publish();
        }
        let Some(network) = &self.record.spec.network else { return };
        let Ok(networks) = self.host.networks().cloned() else { return };
        let plan = network.plan();
        let removed = blocking(move || {
            drop(held);
            networks.remove(&plan).map_err(network_failed)
        });
        if let Err(error) = removed.await {
            let instance = &self.record.id;
            tracing::warn!(%instance, %error, "a guest's address is left on the host's network");
        }
    }

    /// The fact that `event` has led to the present state.
    fn entered(&self, event: Event) -> InstanceFact {
        let cause = match event {
            Event::Exited(cause) => Some(cause),
            Event::Created
            | Event::Booted
            | Event::Ready
            | Event::Paused
            | Event::Resumed
            | Event::ShutdownRequested
            | Event::Saved
            | Event::Loaded
            | Event::Reverted { .. }
            | Event::Reshaped
            | Event::Lost
            | Event::Deleted => None,
        };
        match self.live.state.phase() {
            Some(phase) => self.live.entered(phase, cause),
            None => InstanceFact::Deleted,
        }
    }

    /// Accepts a request: its intent is written before anything is done, as durably as
    /// [`Request::durability`] asks, so that the request is finished or undone after a crash.
    ///
    /// # Errors
    /// The error of the commit; nothing was done.
    pub(super) async fn intend(&mut self, request: Request, by: Asker) -> Result<(), FleetError> {
        // An intent that begins in a running machine needs no sync of its own: a loss of power ends
        // the machine too, and nothing is left to settle.
        let ran = self.live.runs();
        let durability = request.durability(ran);
        let at = self.reading(self.now());
        let intent = Intent { request, by, ran, at_ns: Some(at.meter.0) };
        let fact = (at, intent.fact());
        self.live.intent = Some(intent);
        self.live.error = None;
        let facts = if Mutant::IntentUnwritten.is_active() { Vec::new() } else { vec![fact] };
        let committed = self.commit_as(durability, facts).await;
        if committed.is_err() {
            self.live.complete();
        }
        committed.map_err(refused)
    }

    /// Gives up a request that failed. Changes that it made have facts of their own.
    pub(super) async fn give_up(
        &mut self,
        command: Command,
        error: &FleetError,
    ) -> Result<(), FleetError> {
        self.live.complete();
        self.live.error = Some(error.to_string());
        let body = InstanceFact::Abandoned { command, reason: error.to_string() };
        let fact = (self.reading(self.now()), body);
        self.write_failure(vec![fact], error).await
    }

    /// Puts a visit on record. A loss of power ends it too, so it needs no sync of its own.
    pub(super) async fn note_visit(&mut self, visit: InstanceFact) -> Result<(), FleetError> {
        let fact = (self.reading(self.now()), visit);
        self.commit_as(Durability::Written, vec![fact]).await.map_err(refused)
    }

    /// Stores the present state without a fact.
    pub(super) async fn store(&mut self) -> Result<(), FleetError> {
        self.write(Vec::new()).await
    }

    /// Writes the facts of an act. A full disk delays them and can't undo the act: the caller gets
    /// [`FleetError::Unrecorded`], and the write is tried until there is space.
    pub(super) async fn write(
        &mut self,
        facts: Vec<Dated<InstanceFact>>,
    ) -> Result<(), FleetError> {
        let error = self.failure.clone().unwrap_or(FleetError::Unrecorded);
        self.write_failure(facts, &error).await
    }

    /// Writes the facts of a failure. If they have to wait for space on the disk, the caller gets
    /// `error` at once.
    pub(super) async fn write_failure(
        &mut self,
        facts: Vec<Dated<InstanceFact>>,
        error: &FleetError,
    ) -> Result<(), FleetError> {
        loop {
            match self.commit(facts.clone()).await {
                Ok(()) => return Ok(()),
                Err(CommitError::NoSpace(_)) => {
                    self.answer(Err(error.clone()));
                    sleep(SPACE_RETRY).await;
                }
                Err(error) => return Err(refused(error)),
            }
        }
    }

    /// Commits facts with the present state and record, durably, and publishes them.
    pub(super) async fn commit(
        &mut self,
        facts: Vec<Dated<InstanceFact>>,
    ) -> Result<(), CommitError> {
        self.commit_as(Durability::Synced, facts).await
    }

    async fn commit_as(
        &mut self,
        durability: Durability,
        facts: Vec<Dated<InstanceFact>>,
    ) -> Result<(), CommitError> {
        let state = self.live.stored();
        let changed = !Arc::ptr_eq(&self.record, &self.slot.view().record);
        let write = InstanceWrite::Update {
            row: self.slot.row,
            name: None,
            record: changed.then(|| self.record.stored()),
            state,
            account: self.account.clone(),
        };
        let empty = facts.is_empty();
        let entry = Entry { durability, ..Entry::of_instance(write, facts) };
        let receipt = self.host.journal.commit(entry).await?;
        if let Some(account) = receipt.account.filter(|_| !Mutant::BalanceLost.is_active()) {
            self.account = account;
        }
        if !empty {
            self.last_fact = receipt.last_seq;
        }
        self.publish();
        Ok(())
    }

    /// Publishes the present state, and sets the timer for the next act that is due.
    pub(super) fn publish(&self) {
        let Self { record, live, watch, .. } = self;
        self.slot.publish(View {
            record: record.clone(),
            live: live.clone(),
            account: self.account.clone(),
            last_fact: self.last_fact,
            deleted: (live.state == State::Deleted).then_some(self.account.tracker.since),
            health: self.health(),
            idle_since: watch.idle_since(record, live),
            link: self.link.clone(),
        });
        self.set_timer();
    }

    /// Sets the timer for the next act that is due.
    pub(super) fn set_timer(&self) {
        if self.live.state != State::Deleted {
            let next = timers::next_due(&self.record, &self.live, &self.watch);
            self.host.timers.set(self.slot.row, next);
        }
    }

    /// The health of the running workload; none if it is not probed.
    pub(super) fn health(&self) -> Option<Health> {
        self.watch.health(&self.record, &self.live)
    }

    /// Records a report of the guest.
    pub(super) async fn note(&mut self, seen: Observed) -> Result<(), FleetError> {
        self.live.note(&seen);
        match seen {
            Observed::ProgramStarted(stamp) | Observed::AgentReady(stamp) => {
                self.ready(stamp).await
            }
            Observed::ProgramExited { .. } => self.store().await,
            // The answers of the machine's control are recorded instead.
            Observed::Launched(_) | Observed::Paused(_) | Observed::Resumed(_) => Ok(()),
            Observed::Exited(_) => Err(FleetError::Bug("an exit is no note".into())),
        }
    }

    /// Enters `running` when the guest's last marker has arrived.
    async fn ready(&mut self, stamp: Stamp) -> Result<(), FleetError> {
        match (self.is_ready(), self.live.state) {
            (true, State::Initializing) => self.enter(Event::Ready, stamp).await,
            // A held guest has a phase of its own: no phase begins now, and the resume leads to
            // `running`.
            (true, State::Paused { ready: false }) => {
                let at = self.reading(stamp);
                self.step(Event::Ready, at)?;
                self.store().await
            }
            (_, _) => self.store().await,
        }
    }

    /// Returns whether the guest has sent all markers that its readiness needs.
    pub(super) fn is_ready(&self) -> bool {
        let Live { program_started, agent_ready, .. } = self.live;
        program_started && (agent_ready || self.record.spec.skip_guest_agent)
    }

    /// Changes the record; the next commit stores it.
    pub(super) fn change_record(&mut self, change: impl FnOnce(&mut Record)) {
        change(Arc::make_mut(&mut self.record));
    }

    /// Bytes on disk of all kept snapshots.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.record.snapshots.iter().map(|snapshot| snapshot.bytes).sum()
    }

    /// Bytes on disk of the memory of a standby.
    pub(super) fn standby_bytes(&self) -> u64 {
        self.live.shape.snapshot_bytes.saturating_sub(self.kept_bytes())
    }

    /// Changes the record's snapshots, and the shape with them; the memory of a standby stays.
    /// Returns the fact of the change.
    pub(super) fn reshape(
        &mut self,
        change: impl FnOnce(&mut Record),
    ) -> Result<Dated<InstanceFact>, FleetError> {
        let standby_bytes = self.standby_bytes();
        self.change_record(change);
        self.live.shape.snapshot_bytes = self.kept_bytes() + standby_bytes;
        let at = self.reading(self.now());
        self.step(Event::Reshaped, at)
    }

    /// The hypervisor of this instance.
    pub(super) fn hypervisor(&self) -> Result<Arc<dyn Hypervisor>, FleetError> {
        self.host.hypervisor(&self.record.spec.hypervisor)
    }

    /// The machine that the hypervisor is to run.
    pub(super) fn machine_spec(&self) -> Result<MachineSpec, FleetError> {
        self.host.machine_spec(&self.record, self.live.incarnation)
    }

    /// The instance's folder.
    pub(super) fn folder(&self) -> PathBuf {
        self.host.folder(&self.record.id)
    }

    /// The folder with the memory of a standby.
    pub(super) fn standby_folder(&self) -> PathBuf {
        standby_folder(&self.folder())
    }
}
