//! Requests, and the plain ones of them: start, stop, pause, resume, resize, delete.

use std::time::Duration;

use tokio::time::{Instant as Deadline, sleep};

use super::Task;
use crate::driver::error::{FleetError, failed, refused};
use crate::driver::files::{discard, held_folder};
use crate::driver::machine::Machine;
use crate::driver::request::{Intent, Request};
use crate::driver::settings::check_memory;
use crate::hypervisor::{Capability, Exit, ExitStatus, Initiator, Origin, Stamp, files};
use crate::limits::instance::CONTROL_MS_MAX;
use crate::vm::{Asker, Decision, Event, ExitCause, Ignored, State, decide};

/// How long until the end of a machine that nobody watches is tried again.
const KILL_RETRY: Duration = Duration::from_secs(1);

/// Requests.
impl Task {
    /// Carries out a request, or says why not.
    pub(super) async fn carry_out(&mut self, request: Request, by: Asker) -> Result<(), FleetError> {
        let lost = self.ensure_recovered().await.err();
        match (decide(self.state(), request.command()), lost) {
            (Decision::Ignore(ignored), None) => return self.ignore(ignored).await,
            (Decision::Deny(refusal), None) => return Err(refusal.into()),
            (Decision::Act, Some(error)) if matches!(request, Request::Stop { .. } | Request::Delete) => {
                return self.end_unresponsive(request, by, error).await;
            }
            (Decision::Act | Decision::Ignore(_) | Decision::Deny(_), Some(error)) => {
                return Err(error);
            }
            (Decision::Act, None) => {}
        }
        self.check(&request)?;
        self.accept(&request, by).await?;
        let outcome = self.act(request).await;
        self.settle(outcome).await
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
    async fn end_unresponsive(&mut self, request: Request, by: Asker, lost: FleetError) -> Result<(), FleetError> {
        if let Some(command) = self.live().command() {
            self.recorder.give_up(command, &lost).await?;
        }
        self.recorder.intend(request, by).await?;
        match self.end_by_identity().await {
            Ok(()) => self.recover().await,
            Err(error) => self.settle(Err(error)).await,
        }
    }

    async fn end_by_identity(&self) -> Result<(), FleetError> {
        let spec = self.recorder.machine_spec()?;
        let hypervisor = self.recorder.hypervisor()?;
        hypervisor.end(&spec).await.map_err(failed)
    }

    /// The meaning that a fulfilled command still has: whoever stops what has stopped wants it to stay
    /// so.
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
    fn check(&self, request: &Request) -> Result<(), FleetError> {
        match request {
            Request::Standby => self.require(Capability::Snapshots),
            Request::Snapshot(new) => self.check_snapshot(new),
            Request::Discard { snapshot } | Request::Revert { snapshot } => self.kept(snapshot).map(drop),
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

    /// The number of the next launch. One that was begun may have been forgotten by a loss of power,
    /// and left its folder.
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

    /// Gives up an intended command that failed.
    pub(super) async fn settle(&mut self, outcome: Result<(), FleetError>) -> Result<(), FleetError> {
        let Err(error) = outcome else { return Ok(()) };
        if let Some(command) = self.live().command() {
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
        let intent = Intent { request: Request::Start, by, ran: false };
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

    /// Launches the machine of an instance that is `created`, and lets its vCPUs run.
    pub(super) async fn boot(&mut self) -> Result<(), FleetError> {
        match self.launch(Origin::Boot).await {
            Ok(()) => self.run_vcpus().await,
            Err(error) => {
                self.launch_failed(&error).await?;
                Err(error)
            }
        }
    }

    /// Lets the vCPUs of a launched machine run for the first time.
    pub(super) async fn run_vcpus(&mut self) -> Result<(), FleetError> {
        match self.machine()?.resume().await {
            Ok(stamp) => self.recorder.enter(Event::Booted, stamp).await,
            Err(error) => {
                self.end_by_force().await?;
                self.launch_failed(&error).await?;
                Err(error)
            }
        }
    }

    /// A launch failed: the instance is stopped, and says why.
    pub(super) async fn launch_failed(&mut self, error: &FleetError) -> Result<(), FleetError> {
        self.machine = None;
        self.recorder.live.error = Some(error.to_string());
        let stamp = self.recorder.now();
        self.recorder.enter(Event::Exited(ExitCause::LaunchFailed), stamp).await
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
        let stamp = self.machine()?.resume().await?;
        self.recorder.enter(Event::Resumed, stamp).await
    }

    /// Lets vCPUs run again that were held only for the request under way, also if another daemon has
    /// held them.
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
            let problem = format!("must be at most {max} bytes, the memory_bytes_max of this instance; is {bytes}");
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
            Some(_) if bytes < least => invalid(format!("must be {least} or more, what it booted with; is {bytes}")),
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

    /// Asks the guest, waits, then ends it by force. Accepted in every state in which something could
    /// be left, so that there is a way out that is not a deletion.
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

    /// Enters `shutdown` and asks the guest to power itself off. Held vCPUs run again for it: a held
    /// guest can't obey. Answers whether the guest could be asked; if not, force follows.
    async fn ask_guest(&mut self) -> Result<bool, FleetError> {
        let paused = self.live().is_paused();
        if paused {
            let now = self.recorder.now();
            self.recorder.enter(Event::ShutdownRequested, now).await?;
        }
        let machine = self.machine()?;
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

    /// Why it stopped, if it did so because of the stop under way: what was unhealthy was not asked to
    /// stay so.
    pub(super) fn cause_of_stop(&self, cause: ExitCause) -> ExitCause {
        match self.live().asker() {
            Some(Asker::HealthCheck) => ExitCause::Unhealthy,
            Some(Asker::Client | Asker::RestartPolicy | Asker::Expiry | Asker::Schedule | Asker::AutoStandby)
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
    pub(super) async fn exit(&mut self) -> Result<Exit, FleetError> {
        let deadline = Deadline::now() + Duration::from_millis(CONTROL_MS_MAX);
        let exit = match &mut self.machine {
            Some(machine) => machine.exit_until(&mut self.recorder, deadline).await?,
            None => None,
        };
        exit.ok_or_else(|| {
            let text = "the virtual machine monitor does not end; stop it again";
            FleetError::Hypervisor(text.into())
        })
    }

    /// The virtual machine monitor has exited by itself: closes the interval at the time of the exit.
    pub(super) async fn exited(&mut self, exit: &Exit) -> Result<(), FleetError> {
        self.ended(exit, cause_of(exit)).await
    }

    async fn ended(&mut self, exit: &Exit, cause: ExitCause) -> Result<(), FleetError> {
        self.machine = None;
        if !self.state().has_vmm() {
            return Ok(());
        }
        if cause == ExitCause::Crashed {
            let how = in_words(exit.status);
            let text = format!("the virtual machine monitor ended by itself ({how})");
            self.recorder.live.error = Some(text);
        }
        self.recorder.live.complete();
        self.recorder.enter(Event::Exited(cause), exit.stamp).await?;
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
        self.ended(&exit, ExitCause::Crashed).await
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
