//! Requests, and the plain ones of them: start, stop, pause, resume, resize, delete.

use std::time::Duration;

use tokio::time::{Instant as Deadline, sleep};

use super::Task;
use crate::billing::Reading;
use crate::driver::admission::Claim;
use crate::driver::error::{FleetError, failed, refused};
use crate::driver::files::{discard, held_folder};
use crate::driver::host::Reserved;
use crate::driver::machine::Machine;
use crate::driver::request::{Intent, Request};
use crate::driver::settings::{Share, check_memory};
use crate::hypervisor::{
    Capability, Exit, ExitStatus, Initiator, MachineSpec, Observed, Origin, Stamp, files,
};
use crate::mutants::Mutant;
use crate::vm::{Asker, Command, Decision, Event, ExitCause, Ignored, Shape, State, decide};

/// Delay before a machine without a watcher is killed again, after a kill that failed.
const KILL_RETRY: Duration = Duration::from_secs(1);

/// Requests.
impl Task {
    /// Carries out a request that is legal now.
    pub(super) async fn carry_out(
        &mut self,
        request: Request,
        by: Asker,
    ) -> Result<(), FleetError> {
        self.await_end(&request).await?;
        let lost = self.ensure_recovered().await.err();
        match (decide(self.state(), request.command()), lost) {
            (Decision::Ignore(ignored), None) => return self.ignore(ignored).await,
            (Decision::Deny(refusal), None) => return Err(refusal.into()),
            (Decision::Act, Some(error))
                if matches!(request, Request::Stop { .. } | Request::Delete) =>
            {
                return self.end_unresponsive(request, by, error).await;
            }
            (Decision::Act | Decision::Ignore(_) | Decision::Deny(_), Some(error)) => {
                return Err(error);
            }
            (Decision::Act, None) => {}
        }
        self.check(&request, by)?;
        self.require_space(&request)?;
        // Reserved until the new shape is published.
        let _reserved = self.reserve_growth(&request)?;
        self.count_launch(&request)?;
        self.accept(&request, by).await?;
        let outcome = self.act(request).await;
        self.settle(outcome).await
    }

    /// Waits for the exit of a machine that an earlier request has ordered to exit. Nothing else
    /// can be done until then; a stop or deletion kills it once more.
    async fn await_end(&mut self, request: &Request) -> Result<(), FleetError> {
        if self.live().intent.is_none() {
            return Ok(());
        }
        let Some(machine) = &self.machine else { return Ok(()) };
        if matches!(request, Request::Stop { .. } | Request::Delete) {
            machine.kill()?;
        }
        let exit = self.exit().await?;
        self.exited(&exit).await
    }

    /// Reserves what the request makes the instance grow to.
    fn reserve_growth(&self, request: &Request) -> Result<Reserved, FleetError> {
        let shape = self.live().shape;
        let before = Share::of(shape);
        let standby_bytes = self.recorder.standby_bytes();
        let memory_bytes = self.running_bytes();
        let grown = |by: u64| before.disk_bytes.saturating_add(by);
        let after = match request {
            Request::Resize { memory_bytes } => Share { memory_bytes: *memory_bytes, ..before },
            Request::Revert { snapshot } => {
                let share = self.kept(snapshot)?.share();
                // It takes the place of a standby's memory.
                let disk_bytes = grown(share.disk_bytes).saturating_sub(standby_bytes);
                Share { disk_bytes, ..share }
            }
            Request::Standby => Share { disk_bytes: grown(memory_bytes), ..before },
            Request::Snapshot(_) => {
                // Of a standby, its memory: one of both is 0.
                let memory_bytes = memory_bytes.saturating_add(standby_bytes);
                let disk_bytes = memory_bytes.saturating_add(shape.disk_bytes);
                Share { disk_bytes: grown(disk_bytes), ..before }
            }
            Request::Start
            | Request::Stop { .. }
            | Request::Pause
            | Request::Resume
            | Request::Restore
            | Request::Delete
            | Request::Discard { .. }
            // The share of each new instance is reserved when that is made.
            | Request::Fork { .. } => before,
        };
        let claim = self.claim(request);
        self.host.reserve(&self.recorder.record, (before, after), claim)
    }

    /// Bytes of memory that a monitor holds.
    fn running_bytes(&self) -> u64 {
        if self.state().has_vmm() { self.live().shape.memory_bytes } else { 0 }
    }

    /// The claim on the host once the request is carried out; none if it does not grow.
    fn claim(&self, request: &Request) -> Option<Claim> {
        let shape = self.live().shape;
        match request {
            Request::Start | Request::Restore => Some(Claim::of_machine(shape)),
            Request::Resize { memory_bytes } if self.state().has_vmm() => {
                Some(Claim::of_machine(Shape { memory_bytes: *memory_bytes, ..shape }))
            }
            Request::Resize { .. }
            | Request::Stop { .. }
            | Request::Pause
            | Request::Resume
            | Request::Standby
            | Request::Delete
            | Request::Snapshot(_)
            | Request::Discard { .. }
            | Request::Revert { .. }
            // What each new instance has is reserved when that is made.
            | Request::Fork { .. } => None,
        }
    }

    /// Counts the launch that a request makes. A restart over the limit of the tenant waits.
    fn count_launch(&self, request: &Request) -> Result<(), FleetError> {
        match request {
            Request::Start | Request::Restore => {
                self.host.quota.launch(&self.recorder.record.tenant)
            }
            Request::Stop { .. }
            | Request::Pause
            | Request::Resume
            | Request::Standby
            | Request::Delete
            | Request::Snapshot(_)
            | Request::Discard { .. }
            | Request::Revert { .. }
            | Request::Resize { .. }
            | Request::Fork { .. } => Ok(()),
        }
    }

    /// Tries again to recover a machine that could not be recovered so far.
    pub(super) async fn ensure_recovered(&mut self) -> Result<(), FleetError> {
        if !self.needs_recovery() {
            return Ok(());
        }
        let recovered = self.recover().await;
        // The failure of an earlier command is recorded; it is not the outcome of this one.
        if self.needs_recovery() { recovered } else { Ok(()) }
    }

    /// Ends a machine that is alive and does not answer, then finishes the stop or deletion. No
    /// other request may end such a machine.
    async fn end_unresponsive(
        &mut self,
        request: Request,
        by: Asker,
        lost: FleetError,
    ) -> Result<(), FleetError> {
        if let Some(command) = self.live().command() {
            self.recorder.give_up(command, &lost).await?;
        }
        self.recorder.intend(request, by).await?;
        let outcome = match self.end_by_identity().await {
            Ok(()) => self.recover_ended().await,
            Err(error) => Err(error),
        };
        self.settle(outcome).await
    }

    /// Ends the machine through its hypervisor, or by its process if the hypervisor fails.
    async fn end_by_identity(&self) -> Result<(), FleetError> {
        if let (Ok(spec), Ok(hypervisor)) =
            (self.recorder.machine_spec(), self.recorder.hypervisor())
            && hypervisor.end(&spec).await.is_ok()
        {
            return Ok(());
        }
        let folder = self.recorder.folder();
        self.host.launches.end(&folder, self.live().incarnation).await.map_err(failed)
    }

    /// Handles a command that is already fulfilled: a stop of a stopped instance cancels its
    /// restart.
    async fn ignore(&mut self, ignored: Ignored) -> Result<(), FleetError> {
        match ignored {
            Ignored::AlreadyStopped if self.live().restarts.due_ns.is_some() => {
                self.recorder.live.restarts.due_ns = None;
                self.recorder.store().await
            }
            Ignored::AlreadyStopped
            | Ignored::AlreadyRunning
            | Ignored::NotPaused
            | Ignored::AlreadyPaused
            | Ignored::AlreadyInStandby
            | Ignored::AlreadyDeleted => Ok(()),
        }
    }

    /// Checks that this instance can carry out a legal request.
    fn check(&self, request: &Request, by: Asker) -> Result<(), FleetError> {
        match request {
            Request::Standby => self.require(Capability::Snapshots),
            Request::Snapshot(new) => self.check_snapshot(new, by),
            Request::Discard { snapshot } | Request::Revert { snapshot } => {
                self.kept(snapshot).map(drop)
            }
            Request::Resize { memory_bytes } => self.check_resize(*memory_bytes),
            Request::Start
            | Request::Stop { .. }
            | Request::Pause
            | Request::Resume
            | Request::Restore
            | Request::Delete
            | Request::Fork { .. } => Ok(()),
        }
    }

    /// Requires space for what a request may write, beside what is kept for the journal.
    fn require_space(&self, request: &Request) -> Result<(), FleetError> {
        let memory_bytes = self.running_bytes();
        let needed_bytes = match request {
            Request::Standby | Request::Snapshot(_) => memory_bytes,
            Request::Fork { children, .. } => memory_bytes.saturating_mul(children.len() as u64),
            Request::Start
            | Request::Stop { .. }
            | Request::Pause
            | Request::Resume
            | Request::Restore
            | Request::Delete
            | Request::Discard { .. }
            | Request::Revert { .. }
            | Request::Resize { .. } => return Ok(()),
        };
        self.host.disk.require(needed_bytes).map_err(FleetError::DiskLow)
    }

    /// Checks that the hypervisor can do this.
    pub(super) fn require(&self, capability: Capability) -> Result<(), FleetError> {
        let hypervisor = self.recorder.hypervisor()?;
        hypervisor.describe().require(capability).map_err(failed)
    }

    /// Makes the intent durable, after the steps that must come before it.
    async fn accept(&mut self, request: &Request, by: Asker) -> Result<(), FleetError> {
        match request {
            Request::Start => return self.intend_start(by).await,
            // After a crash, memory in this folder must be that of this standby.
            Request::Standby => discard(&self.recorder.standby_folder()).await?,
            Request::Restore => self.begin_launch(),
            Request::Stop { .. }
            | Request::Pause
            | Request::Resume
            | Request::Delete
            | Request::Snapshot(_)
            | Request::Discard { .. }
            | Request::Revert { .. }
            | Request::Fork { .. }
            | Request::Resize { .. } => {}
        }
        self.recorder.intend(request.clone(), by).await
    }

    /// Begins the next launch.
    fn begin_launch(&mut self) {
        let incarnation = self.unused_incarnation();
        self.recorder.live.begin_launch(incarnation);
    }

    /// The number of the next launch. Numbers with a folder are skipped: a loss of power may have
    /// dropped the record of their launch.
    fn unused_incarnation(&self) -> u32 {
        let folder = self.recorder.folder();
        let next = self.live().incarnation.saturating_add(1);
        (next..).find(|&incarnation| !files::is_used(&folder, incarnation)).unwrap_or(next)
    }

    async fn act(&mut self, request: Request) -> Result<(), FleetError> {
        match request {
            Request::Start => self.boot().await,
            Request::Stop { grace_ms } => self.stop(self.grace(grace_ms)).await,
            Request::Pause => self.pause().await,
            Request::Resume => self.resume().await,
            Request::Standby => self.standby().await,
            Request::Restore => self.restore().await,
            Request::Delete => self.delete().await,
            Request::Snapshot(new) => self.take_snapshot(new).await,
            Request::Discard { snapshot } => self.discard_snapshot(&snapshot).await,
            Request::Revert { snapshot } => self.revert(&snapshot).await,
            Request::Fork { children, snapshot } => self.fork(children, snapshot).await,
            Request::Resize { memory_bytes } => self.resize(memory_bytes).await,
        }
    }

    /// Gives up an intended command that failed. One that can't be undone, because a machine was
    /// ordered to exit, keeps its intent until the exit is known.
    pub(super) async fn settle(
        &mut self,
        outcome: Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        let Err(error) = outcome else { return Ok(()) };
        self.recorder.failure = Some(error.clone());
        let noted = self.note_arrived().await;
        self.recorder.failure = None;
        noted?;
        if let (Some(command), false) = (self.live().command(), error.leaves_intent()) {
            self.recorder.give_up(command, &error).await?;
        }
        Err(error)
    }
}

/// Observations that arrived meanwhile.
impl Task {
    /// Records what the machine has told while a call to it failed: an exit is often why, and
    /// happened before.
    async fn note_arrived(&mut self) -> Result<(), FleetError> {
        let is_deaf = Mutant::ArrivedIgnored.is_active();
        while let Some(seen) = self.machine.as_mut().filter(|_| !is_deaf).and_then(Machine::arrived)
        {
            match seen {
                Observed::Exited(exit) => self.exited(&exit).await?,
                other => self.recorder.note(other).await?,
            }
        }
        Ok(())
    }
}

/// Start.
impl Task {
    /// Records the intent of a start and the `created` phase of its new session.
    async fn intend_start(&mut self, by: Asker) -> Result<(), FleetError> {
        let at = self.recorder.reading(self.recorder.now());
        let before = (self.live().clone(), self.recorder.record.clone());
        let intent = Intent { request: Request::Start, by, ran: false, at_ns: Some(at.meter.0) };
        let intended = (at.clone(), intent.fact());
        self.recorder.live.intent = Some(intent);
        self.begin_launch();
        self.boot_with_what_it_had();
        let created = self.recorder.step(Event::Created, at)?;
        if let Err(error) = self.recorder.commit(vec![intended, created]).await {
            (self.recorder.live, self.recorder.record) = before;
            return Err(refused(error));
        }
        Ok(())
    }

    /// Makes the guest boot with the memory that its last resize has set.
    fn boot_with_what_it_had(&mut self) {
        let bytes = self.live().shape.memory_bytes;
        if self.recorder.record.spec.memory_bytes != bytes {
            self.recorder.change_record(|record| record.spec.memory_bytes = bytes);
        }
    }

    /// Launches the machine of a `created` instance, and lets its vCPUs run. If that fails, the
    /// instance is stopped, with the error in its view.
    async fn boot(&mut self) -> Result<(), FleetError> {
        let Err(error) = self.try_boot().await else { return Ok(()) };
        if !error.leaves_intent() {
            self.launch_failed(&error).await?;
        }
        Err(error)
    }

    /// Boots an instance that was just accepted. If that fails, nothing is left of it.
    pub(super) async fn boot_new(&mut self) -> Result<(), FleetError> {
        let Err(error) = self.try_boot().await else { return Ok(()) };
        if !error.leaves_intent() {
            self.undo_create(&error).await?;
        }
        Err(error)
    }

    async fn try_boot(&mut self) -> Result<(), FleetError> {
        self.launch(Origin::Boot).await?;
        self.run_vcpus().await
    }

    /// Lets the vCPUs of a launched machine run for the first time, or ends it.
    pub(super) async fn run_vcpus(&mut self) -> Result<(), FleetError> {
        match self.machine_mut()?.resume().await {
            Ok(stamp) => self.recorder.enter(Event::Booted, stamp).await,
            Err(error) => {
                self.end_by_force().await?;
                Err(error)
            }
        }
    }

    /// Undoes a create that failed. The name is free again, and no time is charged: the record is
    /// closed at the instant at which it was accepted.
    async fn undo_create(&mut self, error: &FleetError) -> Result<(), FleetError> {
        self.machine = None;
        self.recorder.live.error = Some(error.to_string());
        let at = self.recorder.reading_since();
        let failed = self.recorder.step(Event::Exited(ExitCause::LaunchFailed), at.clone())?;
        let deleted = self.recorder.step(Event::Deleted, at)?;
        self.recorder.leave_network().await;
        self.recorder.write_failure(vec![failed, deleted], error).await?;
        self.forget().await
    }

    /// Records a launch that failed: the instance is stopped, with the error in its view.
    pub(super) async fn launch_failed(&mut self, error: &FleetError) -> Result<(), FleetError> {
        self.machine = None;
        self.recorder.live.error = Some(error.to_string());
        let at = self.recorder.reading(self.recorder.now());
        let fact = self.recorder.step(Event::Exited(ExitCause::LaunchFailed), at)?;
        self.recorder.leave_network().await;
        self.recorder.write_failure(vec![fact], error).await
    }

    /// Launches the machine with its vCPUs held. If that fails, nothing of it is left.
    pub(super) async fn launch(&mut self, origin: Origin) -> Result<(), FleetError> {
        let spec = self.recorder.machine_spec()?;
        let hypervisor = self.recorder.hypervisor()?;
        let network = self.make_network().await?;
        match Machine::launch(hypervisor, MachineSpec { network, ..spec }, origin).await {
            Ok(machine) => {
                machine.tell_network(self.network_to_tell());
                self.machine = Some(machine);
                Ok(())
            }
            Err(error) if Mutant::LaunchLeft.is_active() => Err(error),
            Err(error) => {
                // No record would lead to a monitor that came up too late.
                let folder = self.recorder.folder();
                let ended = self.host.launches.end(&folder, self.live().incarnation).await;
                self.warn(ended.map_err(failed), "a launch that failed may have left a process");
                self.recorder.leave_network().await;
                Err(error)
            }
        }
    }
}

/// Pause and resume.
impl Task {
    /// Holds the vCPUs.
    async fn pause(&mut self) -> Result<(), FleetError> {
        let stamp = self.machine()?.pause().await?;
        self.recorder.enter(Event::Paused, stamp).await
    }

    /// Holds the vCPUs if they run.
    pub(super) async fn pause_if_running(&mut self) -> Result<(), FleetError> {
        if self.live().runs() { self.pause().await } else { Ok(()) }
    }

    /// Lets held vCPUs run.
    pub(super) async fn resume(&mut self) -> Result<(), FleetError> {
        let stamp = self.machine_mut()?.resume().await?;
        self.recorder.enter(Event::Resumed, stamp).await
    }

    /// Lets vCPUs run again that were held only for the request under way, also before a restart of
    /// the daemon.
    pub(super) async fn resume_if_paused_for_request(&mut self) -> Result<(), FleetError> {
        if self.live().is_paused_for_request() { self.resume().await } else { Ok(()) }
    }
}

/// Resize.
impl Task {
    fn check_resize(&self, bytes: u64) -> Result<(), FleetError> {
        let spec = &self.recorder.record.spec;
        check_memory("size", bytes, &self.host.image(&spec.image)?)?;
        let invalid = |problem| Err(FleetError::Invalid { field: "size", problem });
        if let Some(max) = spec.memory_bytes_max.filter(|&max| bytes > max) {
            let problem = format!(
                "must be at most {max} bytes, the memory_bytes_max of this instance; is {bytes}"
            );
            return invalid(problem);
        }
        if self.state() == State::Stopped {
            return Ok(());
        }
        self.require(Capability::MemoryResize)?;
        let least = spec.memory_bytes;
        match spec.memory_bytes_max {
            None => {
                let problem = "can't change while this instance runs, as it was created without \
                               memory_bytes_max; stop it first";
                invalid(problem.into())
            }
            Some(_) if bytes < least => {
                invalid(format!("must be {least} or more, what it booted with; is {bytes}"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Sets the memory: at once if the guest runs, else from the next start on. May be repeated
    /// after a crash.
    pub(super) async fn resize(&mut self, bytes: u64) -> Result<(), FleetError> {
        let stamp = if self.state() == State::Stopped {
            self.recorder.change_record(|record| record.spec.memory_bytes = bytes);
            self.recorder.now()
        } else {
            self.machine()?.resize_memory(bytes).await?
        };
        self.recorder.live.shape.memory_bytes = bytes;
        self.recorder.enter(Event::Reshaped, stamp).await
    }
}

/// The end of a machine: by a stop, by a deletion, or by itself.
impl Task {
    /// The time for which a stop waits for the guest: `grace_ms`, or the instance's own.
    pub(super) fn grace(&self, grace_ms: Option<u64>) -> Duration {
        Duration::from_millis(grace_ms.unwrap_or(self.recorder.record.spec.stop_grace_ms))
    }

    /// Asks the guest to power off, waits, then kills the monitor. Accepted in every state that
    /// could leave a process, so that no such state needs a deletion.
    pub(super) async fn stop(&mut self, grace: Duration) -> Result<(), FleetError> {
        match self.state() {
            State::Standby { .. } => {
                self.recorder.live.shape.snapshot_bytes = self.recorder.kept_bytes();
                self.stopped(ExitCause::Discarded, self.recorder.now()).await
            }
            State::Unknown => self.stopped(ExitCause::Forced, self.recorder.now()).await,
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Stopped
            | State::Deleted => self.shut_down(grace).await,
        }
    }

    async fn shut_down(&mut self, grace: Duration) -> Result<(), FleetError> {
        let asked = self.ask_guest().await?;
        let deadline = Deadline::now() + if asked { grace } else { Duration::ZERO };
        let exit = match &mut self.machine {
            Some(machine) => machine.exit_until(&mut self.recorder, deadline).await?,
            None => None,
        };
        match exit {
            Some(exit) => self.stopped(ExitCause::Requested, exit.stamp).await,
            None => {
                let exit = self.end_by_force().await?;
                let stamp = exit.map_or_else(|| self.recorder.now(), |exit| exit.stamp);
                self.stopped(ExitCause::Forced, stamp).await
            }
        }
    }

    /// Enters `shutdown` and asks the guest to power itself off. Held vCPUs run again for it: a
    /// held guest can't obey. Returns whether the guest could be asked; if not, the monitor is
    /// killed.
    async fn ask_guest(&mut self) -> Result<bool, FleetError> {
        let paused = self.live().is_paused();
        if paused {
            let now = self.recorder.now();
            self.recorder.enter(Event::ShutdownRequested, now).await?;
        }
        let asked = self.recorder.now();
        let machine = self.machine_mut()?;
        let answer = match paused {
            true => match machine.resume().await {
                Ok(_) => machine.request_stop().await,
                refused => refused,
            },
            false => machine.request_stop().await,
        };
        if let Err(error) = &answer {
            tracing::warn!(%error, "the guest could not be asked to stop");
        }
        if self.state() != State::Shutdown {
            // A machine that does not answer may be dead since it was asked.
            let stamp = *answer.as_ref().unwrap_or(&asked);
            self.recorder.enter(Event::ShutdownRequested, stamp).await?;
        }
        Ok(answer.is_ok())
    }

    /// Records the end of the stop under way, after the machine has exited.
    async fn stopped(&mut self, cause: ExitCause, stamp: Stamp) -> Result<(), FleetError> {
        let cause = self.cause_of_stop(cause);
        if cause == ExitCause::Unhealthy {
            let problem = self.recorder.health().and_then(|health| health.problem);
            let problem = problem.unwrap_or_default();
            self.recorder.live.error = Some(format!("its workload was unhealthy: {problem}"));
        }
        self.machine = None;
        self.recorder.enter(Event::Exited(cause), stamp).await?;
        self.drop_memory().await
    }

    /// The cause of an exit that the stop under way has led to: [`ExitCause::Unhealthy`] for one of
    /// the health check, which is restarted, else `cause`.
    pub(super) fn cause_of_stop(&self, cause: ExitCause) -> ExitCause {
        match self.live().asker() {
            Some(Asker::HealthCheck) => ExitCause::Unhealthy,
            Some(
                Asker::Client
                | Asker::RestartPolicy
                | Asker::Expiry
                | Asker::Schedule
                | Asker::AutoStandby,
            )
            | None => cause,
        }
    }

    /// Removes the saved memory of a machine that has ended.
    pub(super) async fn drop_memory(&self) -> Result<(), FleetError> {
        discard(&self.recorder.standby_folder()).await?;
        discard(&held_folder(&self.recorder.folder(), self.live().incarnation)).await
    }

    /// Kills the virtual machine monitor, if there is one, and waits until it is gone.
    pub(super) async fn end_by_force(&mut self) -> Result<Option<Exit>, FleetError> {
        let Some(machine) = &self.machine else { return Ok(None) };
        machine.kill()?;
        self.exit().await.map(Some)
    }

    /// Waits for the exit of a virtual machine monitor that was ordered to exit.
    ///
    /// # Errors
    /// [`FleetError::StillEnding`] after the host's exit patience; the monitor still exits later.
    pub(super) async fn exit(&mut self) -> Result<Exit, FleetError> {
        let deadline = Deadline::now() + self.host.exit_patience;
        let exit = match &mut self.machine {
            Some(machine) => machine.exit_until(&mut self.recorder, deadline).await?,
            None => None,
        };
        exit.ok_or(FleetError::StillEnding)
    }

    /// Records the exit of the virtual machine monitor, and finishes or gives up the command under
    /// way.
    pub(super) async fn exited(&mut self, exit: &Exit) -> Result<(), FleetError> {
        let cause = cause_of(exit);
        if cause == ExitCause::Crashed && self.live().intent.is_none() {
            let how = in_words(exit.status);
            let text = format!("the virtual machine monitor ended by itself ({how})");
            self.recorder.live.error = Some(text);
        }
        let at = self.recorder.reading(exit.stamp);
        self.machine_ended(at, cause).await?;
        match self.live().command() {
            None => Ok(()),
            Some(Command::Delete) => self.delete().await,
            Some(command) => self.recorder.give_up(command, &FleetError::MachineEnded).await,
        }
    }

    /// Records the end of the machine, for `cause` as far as the exit shows. Used for a watched
    /// machine and for one that a restarted daemon finds dead: the command under way decides the
    /// final cause, and memory that is complete on disk is never dropped.
    pub(super) async fn machine_ended(
        &mut self,
        at: Reading,
        cause: ExitCause,
    ) -> Result<(), FleetError> {
        if let Some(bytes) = self.standby_complete() {
            return self.enter_standby_at(bytes, at).await;
        }
        let never_ran = self.machine.take().and_then(|machine| machine.unrestored);
        if let Some(bytes) = never_ran {
            return self.enter_standby_at(bytes, at).await;
        }
        if !self.state().has_vmm() {
            return Ok(());
        }
        let cause = match self.live().command() {
            Some(Command::Stop) if cause == ExitCause::Guest => {
                self.cause_of_stop(ExitCause::Requested)
            }
            Some(Command::Stop | Command::Delete) => self.cause_of_stop(ExitCause::Forced),
            Some(Command::Start) if cause != ExitCause::Guest => ExitCause::LaunchFailed,
            Some(
                Command::Start
                | Command::Pause
                | Command::Resume
                | Command::Standby
                | Command::Restore
                | Command::Snapshot
                | Command::Discard
                | Command::Revert
                | Command::Fork
                | Command::Resize,
            )
            | None => cause,
        };
        self.recorder.enter_at(Event::Exited(cause), at).await?;
        self.drop_memory().await
    }

    /// Handles a stream of observations that ended without an exit: kills the monitor and takes the
    /// present as its end.
    pub(super) async fn vanished(&mut self) -> Result<(), FleetError> {
        if let Some(machine) = &self.machine
            && let Err(error) = machine.kill()
        {
            sleep(KILL_RETRY).await;
            return Err(error);
        }
        let exit = Exit {
            stamp: self.recorder.now(),
            status: ExitStatus::Unknown,
            initiator: Initiator::Unknown,
            witnessed: false,
        };
        self.exited(&exit).await
    }

    /// Kills the machine if there is one, closes the record, and removes the instance's files.
    pub(super) async fn delete(&mut self) -> Result<(), FleetError> {
        if let Some(exit) = self.end_by_force().await? {
            self.machine = None;
            self.recorder.enter(Event::Exited(ExitCause::Forced), exit.stamp).await?;
        }
        self.recorder.live.shape.snapshot_bytes = 0;
        let now = self.recorder.now();
        self.recorder.enter(Event::Deleted, now).await?;
        self.forget().await
    }

    /// Removes the files of an instance whose record is closed.
    async fn forget(&mut self) -> Result<(), FleetError> {
        self.host.forget(&self.slot);
        self.interrupt_compression().await?;
        discard(&self.recorder.folder()).await
    }
}

/// The cause of an exit that nobody has asked for.
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
        ExitStatus::Unknown => "exit status not known".into(),
    }
}
