//! The task that owns one instance: it takes orders and observations one at a time and writes down what they lead to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant as Deadline, sleep, timeout_at};

use super::error::FleetError;
use super::fork::Expecting;
use super::health::Watched;
use super::host::Host;
use super::idle::Idle;
use super::record::{Live, Record, View};
use super::request::{Intent, Request};
use super::slot::{Order, Reply, Slot};
use crate::billing::account::Account;
use crate::billing::{Dated, Entered, InstanceFact, Reading};
use crate::hypervisor::{
    Exit, ExitStatus, Hypervisor, HypervisorError, Initiator, Launched, MachineSpec, Observed, Stamp,
};
use crate::journal::{CommitError, Durability, Entry, InstanceWrite};
use crate::units::Instant;
use crate::vm::{Asker, Command, Event, ExitCause, State, apply};

/// How long a fact waits for space on the disk before it is tried again.
const SPACE_RETRY: Duration = Duration::from_millis(500);

/// How long until the end of a machine that nobody watches is tried again.
const KILL_RETRY: Duration = Duration::from_secs(1);

/// How long a machine that could not be taken up is left alone before it is looked for again.
const ADOPT_RETRY: Duration = Duration::from_secs(5);

/// One instance, owned.
pub(super) struct Task {
    pub(super) host: Arc<Host>,
    pub(super) slot: Arc<Slot>,
    /// What it is. One that differs from the published one is stored with the next commit.
    pub(super) record: Arc<Record>,
    pub(super) live: Live,
    pub(super) account: Account,
    pub(super) last_fact: u64,
    pub(super) machine: Option<Launched>,
    /// Before this instant, nothing of its own is tried again.
    pub(super) not_before: Option<Instant>,
    /// Forks under way, each with whoever waits for it.
    pub(super) expecting: Vec<Expecting>,
    /// The probes of its workload.
    pub(super) watched: Option<Watched>,
    /// The time in which it may turn out to be idle.
    pub(super) idle: Option<Idle>,
    orders: mpsc::Receiver<Order>,
    reply: Option<Reply>,
}

/// What happens first.
enum Next {
    Order(Option<Order>),
    Seen(Option<Observed>),
    Retry,
}

impl Task {
    pub(super) fn new(host: Arc<Host>, slot: Arc<Slot>, orders: mpsc::Receiver<Order>) -> Self {
        let view = slot.view();
        Self {
            host,
            slot,
            record: view.record.clone(),
            live: view.live.clone(),
            account: view.account.clone(),
            last_fact: view.last_fact,
            machine: None,
            not_before: None,
            expecting: Vec::new(),
            watched: None,
            idle: None,
            orders,
            reply: None,
        }
    }

    /// Takes orders until nothing is left to own.
    pub(super) async fn run(mut self) {
        while let Some(next) = self.next().await {
            match next {
                Next::Order(order) => match order {
                    Some(order) => self.serve(order).await,
                    None => return,
                },
                Next::Seen(seen) => self.seen(seen).await,
                Next::Retry => self.take_up_again().await,
            }
        }
    }

    /// Waits for an order or an observation; none when the task may end.
    async fn next(&mut self) -> Option<Next> {
        let astray = self.is_astray();
        Some(match &mut self.machine {
            Some(machine) => tokio::select! {
                biased;
                seen = machine.observed.recv() => Next::Seen(seen),
                order = self.orders.recv() => Next::Order(order),
            },
            None if astray => tokio::select! {
                order = self.orders.recv() => Next::Order(order),
                () = sleep(ADOPT_RETRY) => Next::Retry,
            },
            None => Next::Order(Some(self.slot.retire(&mut self.orders)?)),
        })
    }

    /// Whether there should be a machine, or a command be finished, and the machine could not be taken up.
    pub(super) fn is_astray(&self) -> bool {
        self.machine.is_none() && (self.live.state.has_vmm() || self.live.intent.is_some())
    }

    /// Takes on the duty to answer a caller.
    pub(super) fn owe(&mut self, reply: Reply) {
        self.reply = Some(reply);
    }

    async fn serve(&mut self, order: Order) {
        match order {
            Order::Carry { request, reply } => {
                self.owe(reply);
                self.idle = None;
                let outcome = self.carry_out(request, Asker::Client).await;
                self.answer(outcome);
            }
            Order::Activity { wake, reply } => {
                self.owe(reply);
                let outcome = self.take_up_activity(wake).await;
                self.answer(outcome);
            }
            Order::Probed { incarnation, answer } => {
                if let Err(error) = self.probed(incarnation, answer).await {
                    tracing::warn!(instance = %self.record.id, %error, "what is unhealthy could not be stopped");
                }
            }
            Order::Packed(packed) => {
                if let Err(error) = self.packed(packed).await {
                    tracing::warn!(instance = %self.record.id, %error, "that a snapshot was compressed is not on record");
                }
            }
            Order::Fork => self.make_forks().await,
            Order::Amend { amendment, reply } => {
                self.owe(reply);
                let outcome = self.amend(*amendment).await;
                self.answer(outcome);
            }
            Order::Alarm => self.attend().await,
            Order::Mend => {
                if let Err(error) = self.mend().await {
                    tracing::error!(instance = %self.record.id, %error, "the account could not be mended");
                }
            }
        }
    }

    /// Makes a degraded account good, if its policy answers by now or is not in force any more.
    async fn mend(&mut self) -> Result<(), FleetError> {
        let Some(owed) = &self.account.degraded else { return Ok(()) };
        let (host, record, account, from) =
            (self.host.clone(), self.record.clone(), self.account.clone(), owed.from_fact);
        self.account = blocking(move || host.mended(&record, &account, from)).await?;
        self.keep().await
    }

    /// Answers the order under way, unless it was answered before.
    pub(super) fn answer(&mut self, outcome: Result<(), FleetError>) {
        if let Err(FleetError::Bug(detail)) = &outcome {
            tracing::error!(instance = %self.record.id, detail, "defect");
        }
        let Some(reply) = self.reply.take() else { return };
        // A caller that went away has nothing to hear; the act stands.
        let _ = reply.send(outcome.map(|()| self.slot.view()));
    }

    async fn seen(&mut self, seen: Option<Observed>) {
        let outcome = match seen {
            Some(Observed::Exited(exit)) => self.ended(&exit, cause_of(&exit)).await,
            Some(other) => self.note(other).await,
            None => self.vanished().await,
        };
        if let Err(error) = outcome {
            tracing::error!(instance = %self.record.id, %error, "an observation could not be recorded");
        }
    }

    /// Takes up what the guest said about itself.
    pub(super) async fn note(&mut self, seen: Observed) -> Result<(), FleetError> {
        match seen {
            Observed::ProgramStarted(stamp) => {
                self.live.program_started = true;
                self.ready(stamp).await
            }
            Observed::AgentReady(stamp) => {
                self.live.agent_ready = true;
                self.ready(stamp).await
            }
            Observed::ProgramExited { code, message, .. } => {
                self.live.exit_code = Some(code);
                self.live.exit_message = Some(message);
                self.keep().await
            }
            Observed::Exited(_) => Err(FleetError::Bug("an exit is no note".into())),
        }
    }

    /// Enters `running` when the later of the markers has arrived.
    async fn ready(&mut self, stamp: Stamp) -> Result<(), FleetError> {
        match (self.is_ready(), self.live.state) {
            (true, State::Initializing) => self.enter(Event::Ready, stamp).await,
            (true, State::Paused { ready: false }) => {
                self.live.state = self.after(Event::Ready)?;
                self.keep().await
            }
            (_, _) => self.keep().await,
        }
    }

    /// Whether the guest has said all that is waited for.
    pub(super) fn is_ready(&self) -> bool {
        self.live.program_started && (self.live.agent_ready || self.record.spec.skip_guest_agent)
    }

    /// The virtual machine monitor has exited: closes the interval at the time of the exit.
    pub(super) async fn ended(&mut self, exit: &Exit, cause: ExitCause) -> Result<(), FleetError> {
        self.machine = None;
        if !self.live.state.has_vmm() {
            return Ok(());
        }
        self.live.stopped = Some(self.reading(exit.stamp).meter);
        self.live.cause = Some(cause);
        if cause == ExitCause::Crashed {
            self.live.error = Some(format!("the virtual machine monitor ended by itself ({})", in_words(exit.status)));
        }
        self.live.intent = None;
        self.enter(Event::Exited(cause), exit.stamp).await?;
        self.drop_memory().await
    }

    /// The stream of observations ended without an exit: what can be proved is that it is gone now.
    async fn vanished(&mut self) -> Result<(), FleetError> {
        if let Some(machine) = &self.machine
            && let Err(error) = machine.vm.kill()
        {
            sleep(KILL_RETRY).await;
            return Err(failed(error));
        }
        let exit =
            Exit { stamp: self.now(), status: ExitStatus::Unknown, initiator: Initiator::Unknown, witnessed: false };
        self.ended(&exit, ExitCause::Crashed).await
    }

    /// Waits for the exit of the virtual machine monitor; takes up what the guest says meanwhile. None if `deadline` comes first.
    pub(super) async fn exit_until(&mut self, deadline: Deadline) -> Result<Option<Exit>, FleetError> {
        loop {
            let Some(machine) = &mut self.machine else { return Ok(None) };
            match timeout_at(deadline, machine.observed.recv()).await {
                Err(_) => return Ok(None),
                Ok(Some(Observed::Exited(exit))) => return Ok(Some(exit)),
                Ok(Some(other)) => self.note(other).await?,
                Ok(None) => return Err(FleetError::Hypervisor("nothing watches the machine any more".into())),
            }
        }
    }

    /// The state that follows, by the one transition function.
    pub(super) fn after(&self, event: Event) -> Result<State, FleetError> {
        apply(self.live.state, event).map_err(|impossible| FleetError::Bug(impossible.to_string()))
    }

    /// Records that `event` happened at `stamp`.
    pub(super) async fn enter(&mut self, event: Event, stamp: Stamp) -> Result<(), FleetError> {
        let at = self.reading(stamp);
        self.enter_at(event, at).await
    }

    /// Records that `event` happened at `at`.
    pub(super) async fn enter_at(&mut self, event: Event, at: Reading) -> Result<(), FleetError> {
        self.step(event, at.meter)?;
        self.record(vec![(at, self.entered(event))]).await
    }

    /// Takes the step that `event` is, without recording it yet.
    pub(super) fn step(&mut self, event: Event, at: Instant) -> Result<(), FleetError> {
        self.live.state = self.after(event)?;
        self.plan_restart(event, at);
        Ok(())
    }

    /// The fact of being in the present state.
    pub(super) fn entered(&self, event: Event) -> InstanceFact {
        let cause = match event {
            Event::Exited(cause) => Some(cause),
            Event::Created
            | Event::Booted
            | Event::Ready
            | Event::Paused
            | Event::Resumed
            | Event::ShutdownRequested
            | Event::Slept
            | Event::Loaded
            | Event::Reverted { .. }
            | Event::Reshaped
            | Event::Lost
            | Event::Deleted => None,
        };
        match self.live.state.phase() {
            Some(phase) => {
                let Live { shape, session, .. } = self.live;
                InstanceFact::Entered(Entered { phase, shape, session, cause })
            }
            None => InstanceFact::Deleted,
        }
    }

    /// Now, as a hypervisor would stamp it.
    pub(super) fn now(&self) -> Stamp {
        let Reading { boottime_ns, wall_ns, .. } = self.host.clock.reading();
        Stamp { boottime_ns, wall_ns }
    }

    /// The reading of a stamp of this boot, never before the interval under way and never in the future.
    pub(super) fn reading(&self, stamp: Stamp) -> Reading {
        self.bounded(self.host.clock.reading_of(stamp.boottime_ns, stamp.wall_ns))
    }

    /// `reading` with its meter inside `[since, now]`.
    pub(super) fn bounded(&self, mut reading: Reading) -> Reading {
        let since = self.account.tracker.current.map_or(reading.meter, |_| self.account.tracker.since);
        reading.meter = reading.meter.min(self.host.clock.now()).max(since);
        reading
    }

    /// Accepts a request: its intent is written before anything is done, and durable as far as it matters.
    ///
    /// # Errors
    /// Nothing was done then.
    pub(super) async fn intend(&mut self, request: Request, by: Asker) -> Result<(), FleetError> {
        let ran = matches!(self.live.state, State::Initializing | State::Running);
        let durability = request.durability(ran);
        let intent = Intent { request, by, ran };
        let fact = (self.reading(self.now()), intended(&intent));
        self.live.intent = Some(intent);
        self.live.error = None;
        match self.commit_as(durability, vec![fact]).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.live.intent = None;
                Err(refused(error))
            }
        }
    }

    /// Gives a command up. What has changed meanwhile has facts of its own.
    pub(super) async fn abandon(&mut self, command: Command, error: FleetError) -> FleetError {
        self.give_up_on(command, &error).await.err().unwrap_or(error)
    }

    /// Records that a command was given up.
    pub(super) async fn give_up_on(&mut self, command: Command, error: &FleetError) -> Result<(), FleetError> {
        self.live.intent = None;
        self.live.error = Some(error.to_string());
        let fact = InstanceFact::Abandoned { command, reason: error.to_string() };
        self.record(vec![(self.reading(self.now()), fact)]).await
    }

    /// Stores the present state without a fact.
    pub(super) async fn keep(&mut self) -> Result<(), FleetError> {
        self.record(Vec::new()).await
    }

    /// Writes down what has happened. A full disk delays it and can't undo it: the caller hears so, and it is tried until there is space.
    pub(super) async fn record(&mut self, facts: Vec<Dated<InstanceFact>>) -> Result<(), FleetError> {
        loop {
            match self.commit(facts.clone()).await {
                Ok(()) => return Ok(()),
                Err(CommitError::NoSpace(_)) => {
                    self.answer(Err(FleetError::Unrecorded));
                    sleep(SPACE_RETRY).await;
                }
                Err(error) => return Err(refused(error)),
            }
        }
    }

    pub(super) async fn commit(&mut self, facts: Vec<Dated<InstanceFact>>) -> Result<(), CommitError> {
        self.commit_as(Durability::Synced, facts).await
    }

    async fn commit_as(&mut self, durability: Durability, facts: Vec<Dated<InstanceFact>>) -> Result<(), CommitError> {
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
        if let Some(account) = receipt.account {
            self.account = account;
        }
        if !empty {
            self.last_fact = receipt.last_seq;
        }
        self.publish();
        Ok(())
    }

    pub(super) fn publish(&self) {
        self.slot.publish(View {
            record: self.record.clone(),
            live: self.live.clone(),
            account: self.account.clone(),
            last_fact: self.last_fact,
            deleted: (self.live.state == State::Deleted).then_some(self.account.tracker.since),
            health: self.health(),
            idle_since: self.idle_since(),
        });
        self.set_alarm();
    }

    pub(super) fn hypervisor(&self) -> Result<Arc<dyn Hypervisor>, FleetError> {
        self.host.hypervisor(&self.record.spec.hypervisor)
    }

    /// What the hypervisor is to run.
    pub(super) fn machine_spec(&self) -> Result<MachineSpec, FleetError> {
        self.host.machine_spec(&self.record, self.live.incarnation)
    }

    /// Where the memory of a standby lies.
    pub(super) fn standby_folder(&self) -> PathBuf {
        standby_folder(&self.host.folder(&self.record.id))
    }
}

/// Runs what blocks where it holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FleetError> + Send + 'static,
) -> Result<T, FleetError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| FleetError::Bug(error.to_string()))?
}

/// Where the memory of a standby lies in the folder of an instance.
pub(super) fn standby_folder(instance: &Path) -> PathBuf {
    instance.join("standby")
}

/// The fact that a request was accepted.
pub(super) fn intended(intent: &Intent) -> InstanceFact {
    let Intent { request, by, ran: _ } = intent;
    InstanceFact::Intended { command: request.command(), by: *by, about: request.about() }
}

/// A failure of the hypervisor with all its causes, for the client.
pub(super) fn failed(error: HypervisorError) -> FleetError {
    if let HypervisorError::Unsupported { .. } = error {
        return FleetError::Unsupported(error.to_string());
    }
    let mut text = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    FleetError::Hypervisor(text)
}

/// What a commit that failed means to a caller for whom nothing was done.
pub(super) fn refused(error: CommitError) -> FleetError {
    match error {
        CommitError::NoSpace(_) => FleetError::NoSpace,
        CommitError::Failed { .. } => FleetError::Stopping,
        CommitError::NameInUse { name, .. } => FleetError::NameInUse(name),
        defect @ (CommitError::IdInUse(_)
        | CommitError::NoSuchRow(_)
        | CommitError::AfterDeletion
        | CommitError::NotPlanned { .. }
        | CommitError::NumberInUse { .. }
        | CommitError::Repeated { .. }) => FleetError::Bug(defect.to_string()),
    }
}

/// Why a virtual machine monitor that nobody asked to stop has stopped.
pub(super) fn cause_of(exit: &Exit) -> ExitCause {
    match exit.initiator {
        Initiator::GuestPowerOff | Initiator::GuestReset => ExitCause::Guest,
        Initiator::GuestPanic | Initiator::Unknown => ExitCause::Crashed,
        Initiator::Host => ExitCause::Forced,
    }
}

fn in_words(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
        ExitStatus::Unknown => "nobody saw how".into(),
    }
}
