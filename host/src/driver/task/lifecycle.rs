//! Requests, and the plain ones of them: start, stop, pause, resume, resize, delete.

use std::time::Duration;

use tokio::time::{Instant as Deadline, sleep};

use super::Task;
use crate::billing::Reading;
use crate::driver::error::{FleetError, failed, refused};
use crate::driver::files::{discard, held_folder};
use crate::driver::machine::Machine;
use crate::driver::request::{Intent, Request};
use crate::driver::settings::{Reservation, Share, check_memory};
use crate::hypervisor::{Capability, Exit, ExitStatus, Initiator, Origin, Stamp, files};
use crate::vm::{Asker, Command, Decision, Event, ExitCause, Ignored, State, decide};

/// How long until the end of a machine that nobody watches is tried again.
const KILL_RETRY: Duration = Duration::from_secs(1);

/// Requests.
impl Task {
    /// Carries out a request, or says why not.
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
        // Kept until what it grows to is published.
        let _reserved = self.reserve_growth(&request)?;
        self.accept(&request, by).await?;
        let outcome = self.act(request).await;
        self.settle(outcome).await
    }

    /// Waits for the end of a machine that was told to end for an earlier request. Until it is
    /// known, nothing else can be done; a stop and a deletion tell it once more.
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

    /// Keeps what the instance will grow by when the request is carried out.
    fn reserve_growth(&self, request: &Request) -> Result<Option<Reservation>, FleetError> {
        let before = Share::of(self.live().shape);
        let after = match request {
            Request::Resize { memory_bytes } => Share { memory_bytes: *memory_bytes, ..before },
            Request::Revert { snapshot } => self.kept(snapshot)?.share(),
            Request::Start
            | Request::Stop { .. }
            | Request::Pause
            | Request::Resume
            | Request::Standby
            | Request::Restore
            | Request::Delete
            | Request::Snapshot(_)
            | Request::Discard { .. }
            // Each of the new instances is reserved for when it is made.
            | Request::Fork { .. } => before,
        };
        let record = &self.recorder.record;
        self.host.reserve(&record.tenant, &record.name, before, after)
    }

    /// Finds a machine that could not be found so far.
    pub(super) async fn ensure_recovered(&mut self) -> Result<(), FleetError> {
        if !self.needs_recovery() {
            return Ok(());
        }
        let recovered = self.recover().await;
        // What became of an earlier command is on the record; it is not the next one's outcome.
        if self.needs_recovery() { recovered } else { Ok(()) }
    }

    /// Ends a machine that lives and does not answer, and then does what that leaves to be done: a
    /// machine that does not answer is not dead, and only a stop or a deletion may end it. There is
    /// always a way out.
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

    /// Ends the machine by its hypervisor, or as what the kernel knows of it where that can't be
    /// asked.
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

    /// The meaning that a fulfilled command still has: whoever stops what has stopped wants it to
    /// stay so.
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

    /// Checks that a request that is legal can be carried out by this instance.
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

    /// Checks that the hypervisor can do this.
    pub(super) fn require(&self, capability: Capability) -> Result<(), FleetError> {
        let hypervisor = self.recorder.hypervisor()?;
        hypervisor.describe().require(capability).map_err(failed)
    }

    /// Makes the intent durable, after what must be out of the way by then.
    async fn accept(&mut self, request: &Request, by: Asker) -> Result<(), FleetError> {
        match request {
            Request::Start => return self.intend_start(by).await,
            // After a crash, a snapshot that is there must be the one of this standby.
            Request::Standby => discard(&self.recorder.standby_folder()).await?,
            Request::Restore => self.recorder.live.incarnation = self.unused_incarnation(),
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

    /// The number of the next launch. One that was begun may have been forgotten by a loss of
    /// power, and left its folder.
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

    /// Gives up an intended command that failed. One whose act can't be undone, because a machine
    /// was told to end, keeps its intent until that end is known: what follows depends on it.
    pub(super) async fn settle(
        &mut self,
        outcome: Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        let Err(error) = outcome else { return Ok(()) };
        if let (Some(command), false) = (self.live().command(), error.leaves_intent()) {
            self.recorder.give_up(command, &error).await?;
        }
        Err(error)
    }
}

/// Start.
impl Task {
    /// A new session from nothing: `created` with the intent, then as for a create.
    async fn intend_start(&mut self, by: Asker) -> Result<(), FleetError> {
        let at = self.recorder.reading(self.recorder.now());
        let before = (self.live().clone(), self.recorder.record.clone());
        let intent = Intent { request: Request::Start, by, ran: false, at_ns: Some(at.meter.0) };
        let intended = (at.clone(), intent.fact());
        self.recorder.live.intent = Some(intent);
        self.recorder.live.incarnation = self.unused_incarnation();
        self.boot_with_what_it_had();
        let created = self.recorder.step(Event::Created, at)?;
        if let Err(error) = self.recorder.commit(vec![intended, created]).await {
            (self.recorder.live, self.recorder.record) = before;
            return Err(refused(error));
        }
        Ok(())
    }

    /// A guest that was given more or less memory while it ran boots with that.
    fn boot_with_what_it_had(&mut self) {
        let bytes = self.live().shape.memory_bytes;
        if self.recorder.record.spec.memory_bytes != bytes {
            self.recorder.change_record(|record| record.spec.memory_bytes = bytes);
        }
    }

    /// Launches the machine of an instance that is `created`, and lets its vCPUs run. If that
    /// fails, it is stopped and says why.
    async fn boot(&mut self) -> Result<(), FleetError> {
        let Err(error) = self.try_boot().await else { return Ok(()) };
        if !error.leaves_intent() {
            self.launch_failed(&error).await?;
        }
        Err(error)
    }

    /// The same for an instance that was just accepted. If that fails, nothing is left of it.
    pub(super) async fn boot_new(&mut self) -> Result<(), FleetError> {
        let Err(error) = self.try_boot().await else { return Ok(()) };
        if !error.leaves_intent() {
            self.undo_create(&error).await?;
        }
        Err(error)
    }

    async fn try_boot(&mut self) -> Result<(), FleetError> {
        if let Err(error) = self.launch(Origin::Boot).await {
            // A monitor that came up too late is on no record: nobody would look for it again.
            let folder = self.recorder.folder();
            let ended = self.host.launches.end(&folder, self.live().incarnation).await;
            self.warn(ended.map_err(failed), "a launch that failed may have left a process");
            return Err(error);
        }
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

    /// A create has failed. Its caller hears why, and has nothing that keeps a name or that time
    /// could be charged for: the record is closed at the instant at which it was accepted.
    async fn undo_create(&mut self, error: &FleetError) -> Result<(), FleetError> {
        self.machine = None;
        self.recorder.live.error = Some(error.to_string());
        let at = self.recorder.reading_since();
        let failed = self.recorder.step(Event::Exited(ExitCause::LaunchFailed), at.clone())?;
        let deleted = self.recorder.step(Event::Deleted, at)?;
        self.recorder.write_failure(vec![failed, deleted], error).await?;
        self.forget().await
    }

    /// A launch failed: the instance is stopped, and says why.
    pub(super) async fn launch_failed(&mut self, error: &FleetError) -> Result<(), FleetError> {
        self.machine = None;
        self.recorder.live.error = Some(error.to_string());
        let at = self.recorder.reading(self.recorder.now());
        let fact = self.recorder.step(Event::Exited(ExitCause::LaunchFailed), at)?;
        self.recorder.write_failure(vec![fact], error).await
    }

    /// Launches the machine. Its vCPUs are held.
    pub(super) async fn launch(&mut self, origin: Origin) -> Result<(), FleetError> {
        let spec = self.recorder.machine_spec()?;
        let hypervisor = self.recorder.hypervisor()?;
        self.machine = Some(Machine::launch(hypervisor, spec, origin).await?);
        Ok(())
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

    /// Lets vCPUs run again that were held only for the request under way, also if another daemon
    /// has held them.
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
                let problem = "this instance was created without memory_bytes_max; stop it first";
                invalid(problem.into())
            }
            Some(_) if bytes < least => {
                invalid(format!("must be {least} or more, what it booted with; is {bytes}"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Gives it more or less memory: at once if it runs, else from the next start on. May be done
    /// again after a crash.
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

/// The end: by a stop, a deletion, or by itself.
impl Task {
    /// How long a stop waits for the guest, unless the client says otherwise.
    pub(super) fn grace(&self, grace_ms: Option<u64>) -> Duration {
        Duration::from_millis(grace_ms.unwrap_or(self.recorder.record.spec.stop_grace_ms))
    }

    /// Asks the guest, waits, then ends it by force. Accepted in every state in which something
    /// could be left, so that there is a way out that is not a deletion.
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
    /// held guest can't obey. Answers whether the guest could be asked; if not, force follows.
    async fn ask_guest(&mut self) -> Result<bool, FleetError> {
        let paused = self.live().is_paused();
        if paused {
            let now = self.recorder.now();
            self.recorder.enter(Event::ShutdownRequested, now).await?;
        }
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
            let stamp = *answer.as_ref().unwrap_or(&self.recorder.now());
            self.recorder.enter(Event::ShutdownRequested, stamp).await?;
        }
        Ok(answer.is_ok())
    }

    /// Nothing runs any more: closes the interval at the end of the stop under way.
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

    /// Why it stopped, if it did so because of the stop under way: what was unhealthy was not asked
    /// to stay so.
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

    /// Removes what is left of the memory of a machine that has ended.
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

    /// Waits for the exit of a virtual machine monitor that was told to end.
    ///
    /// # Errors
    /// [`FleetError::StillEnding`] if it takes longer than a caller should wait. It ends all the
    /// same.
    pub(super) async fn exit(&mut self) -> Result<Exit, FleetError> {
        let deadline = Deadline::now() + self.host.exit_patience;
        let exit = match &mut self.machine {
            Some(machine) => machine.exit_until(&mut self.recorder, deadline).await?,
            None => None,
        };
        exit.ok_or(FleetError::StillEnding)
    }

    /// The virtual machine monitor has exited: closes the interval at the time of the exit.
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

    /// The machine has ended, for `cause` as far as the exit tells. The same question for a live
    /// machine and one that a restarted daemon finds dead: what was under way decides what its end
    /// means, and what lies complete on disk is never thrown away.
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

    /// The stream of observations ended without an exit: what can be proved is that it is gone now.
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

    /// Ends whatever runs, closes the record, and removes the instance's files.
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
