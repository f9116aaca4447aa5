//! The operations: each is `intent -> act -> fact -> answer`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant as Deadline;

use super::create::check_memory;
use super::error::FleetError;
use super::record::Restarts;
use super::request::{Intent, Request};
use super::task::{Task, failed, intended, refused};
use crate::hypervisor::{Capability, Exit, HypervisorError, Origin, Stamp, Vm, VmState, files};
use crate::limits::instance::CONTROL_MS_MAX;
use crate::vm::{Asker, Decision, Event, ExitCause, Ignored, State, decide};

impl Task {
    /// Carries out a request, or says why not.
    pub(super) async fn carry_out(&mut self, request: Request, by: Asker) -> Result<(), FleetError> {
        let lost = self.find_again().await.err();
        match decide(self.live.state, request.command()) {
            Decision::Ignore(ignored) => return lost.map_or(self.leave(ignored).await, Err),
            Decision::Deny(refusal) => return Err(lost.unwrap_or_else(|| refusal.into())),
            Decision::Act => {}
        }
        match lost {
            None => {}
            Some(error) if matches!(request, Request::Stop { .. } | Request::Delete) => {
                return self.cut_off(request, by, error).await;
            }
            Some(error) => return Err(error),
        }
        self.check(&request)?;
        self.accept(&request, by).await?;
        let outcome = self.act(request).await;
        self.settle(outcome).await
    }

    /// Ends a machine that lives and does not answer, and then does what that leaves to be done. There is always a way out.
    async fn cut_off(&mut self, request: Request, by: Asker, lost: FleetError) -> Result<(), FleetError> {
        if let Some(command) = self.live.command() {
            self.give_up_on(command, &lost).await?;
        }
        self.intend(request, by).await?;
        let ended = match self.machine_spec() {
            Ok(spec) => self.hypervisor()?.end(&spec).await.map_err(failed),
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => self.take_up().await,
            Err(error) => self.settle(Err(error)).await,
        }
    }

    /// Takes a machine up that could not be taken up so far.
    pub(super) async fn find_again(&mut self) -> Result<(), FleetError> {
        if !self.is_astray() {
            return Ok(());
        }
        let taken_up = self.take_up().await;
        // What became of an earlier command is on the record; it is not the next one's outcome.
        if self.is_astray() { taken_up } else { Ok(()) }
    }

    /// What a command that is fulfilled already still means: whoever stops what has stopped wants it to stay so.
    async fn leave(&mut self, ignored: Ignored) -> Result<(), FleetError> {
        match ignored {
            Ignored::AlreadyStopped if self.live.restarts.due_ns.is_some() => {
                self.live.restarts.due_ns = None;
                self.keep().await
            }
            Ignored::AlreadyStopped
            | Ignored::AlreadyRunning
            | Ignored::NotPaused
            | Ignored::AlreadyPaused
            | Ignored::AlreadyInStandby
            | Ignored::AlreadyDeleted => Ok(()),
        }
    }

    /// Whether a request that is legal can be carried out by this instance.
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

    pub(super) fn require(&self, capability: Capability) -> Result<(), FleetError> {
        self.hypervisor()?.describe().require(capability).map_err(failed)
    }

    /// Makes the intent durable, after what must be out of the way by then.
    async fn accept(&mut self, request: &Request, by: Asker) -> Result<(), FleetError> {
        match request {
            Request::Start => return self.intend_start(by).await,
            // After a crash, a snapshot that is there must be the one of this standby.
            Request::Standby => discard(&self.standby_folder()).await?,
            Request::Restore => self.live.incarnation = self.unused_incarnation(),
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
        self.intend(request.clone(), by).await
    }

    /// The number of the next launch. One that was begun may have been forgotten by a loss of power, and left its folder.
    fn unused_incarnation(&self) -> u32 {
        let folder = self.host.folder(&self.record.id);
        let next = self.live.incarnation.saturating_add(1);
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

    /// How long a stop waits for the guest, unless the client says otherwise.
    pub(super) fn grace(&self, grace_ms: Option<u64>) -> Duration {
        Duration::from_millis(grace_ms.unwrap_or(self.record.spec.stop_grace_ms))
    }

    /// Gives up an intended command that failed.
    pub(super) async fn settle(&mut self, outcome: Result<(), FleetError>) -> Result<(), FleetError> {
        match (outcome, self.live.command()) {
            (Err(error), Some(command)) => Err(self.abandon(command, error).await),
            (outcome, _) => outcome,
        }
    }

    pub(super) fn vm(&self) -> Result<Arc<dyn Vm>, FleetError> {
        let machine = self.machine.as_ref();
        machine.map(|machine| machine.vm.clone()).ok_or_else(|| FleetError::Hypervisor("nothing runs".into()))
    }

    /// A new session from nothing: `created` with the intent, then as for a create.
    async fn intend_start(&mut self, by: Asker) -> Result<(), FleetError> {
        let at = self.reading(self.now());
        let before = (self.live.clone(), self.record.clone());
        let intent = Intent { request: Request::Start, by, ran: false };
        let intended = (at.clone(), intended(&intent));
        self.live.state = self.after(Event::Created)?;
        self.live.session += 1;
        self.live.incarnation = self.unused_incarnation();
        self.live.intent = Some(intent);
        self.live.restarts = match by {
            Asker::RestartPolicy => Restarts {
                attempts: self.live.restarts.attempts.saturating_add(1),
                last_ns: Some(at.meter.0),
                due_ns: None,
            },
            Asker::Client | Asker::Expiry | Asker::Schedule | Asker::HealthCheck | Asker::AutoStandby => {
                Restarts::default()
            }
        };
        self.live.error = None;
        self.live.cause = None;
        self.live.exit_code = None;
        self.live.exit_message = None;
        self.live.started = None;
        self.live.program_started = false;
        self.live.agent_ready = false;
        self.boot_with_what_it_had();
        let created = (at, self.entered(Event::Created));
        if let Err(error) = self.commit(vec![intended, created]).await {
            (self.live, self.record) = before;
            return Err(refused(error));
        }
        Ok(())
    }

    /// Launches the virtual machine monitor of an instance that is `created`, and lets its vCPUs run.
    pub(super) async fn boot(&mut self) -> Result<(), FleetError> {
        match self.launch(Origin::Boot).await {
            Ok(()) => self.run_vcpus().await,
            Err(error) => Err(self.stillborn(error).await),
        }
    }

    /// Lets the vCPUs of a launched machine run for the first time.
    pub(super) async fn run_vcpus(&mut self) -> Result<(), FleetError> {
        match self.vm()?.resume().await {
            Ok(stamp) => {
                self.live.intent = None;
                self.live.started = Some(self.reading(stamp).meter);
                self.enter(Event::Booted, stamp).await
            }
            Err(error) => {
                self.end_by_force().await?;
                Err(self.stillborn(failed(error)).await)
            }
        }
    }

    /// A launch failed: the instance is stopped, and says why.
    pub(super) async fn stillborn(&mut self, error: FleetError) -> FleetError {
        self.machine = None;
        self.live.intent = None;
        self.live.error = Some(error.to_string());
        self.live.cause = Some(ExitCause::LaunchFailed);
        let stamp = self.now();
        self.live.stopped = Some(self.reading(stamp).meter);
        match self.enter(Event::Exited(ExitCause::LaunchFailed), stamp).await {
            Ok(()) => error,
            Err(worse) => worse,
        }
    }

    async fn launch(&mut self, origin: Origin) -> Result<(), FleetError> {
        let spec = self.machine_spec()?;
        let launched = self.hypervisor()?.launch(&spec, origin).await.map_err(failed)?;
        self.machine = Some(launched);
        // What became of all earlier ones is on record.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = files::forget_before(&spec.dir, spec.incarnation) {
                tracing::warn!(instance = %spec.id, %error, "an earlier launch's folder is left");
            }
        });
        Ok(())
    }

    async fn pause(&mut self) -> Result<(), FleetError> {
        let stamp = self.vm()?.pause().await.map_err(failed)?;
        self.live.intent = None;
        self.enter(Event::Paused, stamp).await
    }

    pub(super) async fn resume(&mut self) -> Result<(), FleetError> {
        let stamp = self.let_run().await?;
        self.live.intent = None;
        self.enter(Event::Resumed, stamp).await
    }

    /// Lets held vCPUs run. What was saved of them is not what they are any more.
    pub(super) async fn let_run(&self) -> Result<Stamp, FleetError> {
        discard(&self.held_folder()).await?;
        self.vm()?.resume().await.map_err(failed)
    }

    /// Memory to disk, then the virtual machine monitor's end. If memory can't be saved, what ran before runs again.
    pub(super) async fn standby(&mut self) -> Result<(), FleetError> {
        self.hold().await?;
        match self.save_to(&self.standby_folder()).await {
            Ok(bytes) => self.fall_asleep(bytes).await,
            Err(error) => {
                self.wake_if_it_ran().await?;
                Err(error)
            }
        }
    }

    /// What was held only for the request under way runs again, also if another daemon has held it.
    pub(super) async fn wake_if_it_ran(&mut self) -> Result<(), FleetError> {
        let ran = self.live.intent.as_ref().is_some_and(|intent| intent.ran);
        if ran && matches!(self.live.state, State::Paused { .. }) { self.wake().await } else { Ok(()) }
    }

    /// Held vCPUs run again, while a request is still under way.
    pub(super) async fn wake(&mut self) -> Result<(), FleetError> {
        let stamp = self.let_run().await?;
        self.enter(Event::Resumed, stamp).await
    }

    /// The snapshot is durable: ends the virtual machine monitor and records the standby at its exit.
    pub(super) async fn fall_asleep(&mut self, snapshot_bytes: u64) -> Result<(), FleetError> {
        let vm = self.vm()?;
        if vm.quit().await.is_err() {
            vm.kill().map_err(failed)?;
        }
        let exit = self.exited().await?;
        self.live.intent = None;
        self.asleep(snapshot_bytes, exit.stamp).await?;
        discard(&self.held_folder()).await
    }

    /// The virtual machine monitor is gone and its memory is on disk.
    async fn asleep(&mut self, snapshot_bytes: u64, stamp: Stamp) -> Result<(), FleetError> {
        self.machine = None;
        self.live.shape.snapshot_bytes = self.kept_bytes() + snapshot_bytes;
        self.live.stopped = Some(self.reading(stamp).meter);
        self.enter(Event::Slept, stamp).await
    }

    async fn restore(&mut self) -> Result<(), FleetError> {
        self.launch(Origin::Snapshot(self.standby_folder())).await?;
        self.awaken(self.now()).await
    }

    /// A new virtual machine monitor has loaded the snapshot: lets it run, and drops the snapshot, which the disks will soon contradict.
    pub(super) async fn awaken(&mut self, loaded: Stamp) -> Result<(), FleetError> {
        let kept_bytes = self.kept_bytes();
        let snapshot_bytes = self.live.shape.snapshot_bytes.saturating_sub(kept_bytes);
        self.live.shape.snapshot_bytes = kept_bytes;
        self.enter(Event::Loaded, loaded).await?;
        self.let_go(snapshot_bytes).await
    }

    /// Lets a machine run that was loaded from a snapshot of so many bytes; if it can't, the instance is in standby again.
    pub(super) async fn let_go(&mut self, snapshot_bytes: u64) -> Result<(), FleetError> {
        let vm = self.vm()?;
        let stamp = match vm.resume().await {
            Ok(stamp) => stamp,
            // The answer was lost, the act was not: its snapshot must not be used again.
            Err(_) if matches!(vm.state().await, Ok(VmState::Running)) => self.now(),
            Err(error) => {
                let exit = self.end_by_force().await?;
                self.asleep(snapshot_bytes, exit.map_or_else(|| self.now(), |exit| exit.stamp)).await?;
                return Err(failed(error));
            }
        };
        self.live.intent = None;
        self.enter(Event::Resumed, stamp).await?;
        // All that was asked for is done; to give the memory's pages back takes a while.
        self.answer(Ok(()));
        discard(&self.standby_folder()).await
    }

    /// Asks the guest, waits, then ends it by force.
    pub(super) async fn stop(&mut self, grace: Duration) -> Result<(), FleetError> {
        match self.live.state {
            State::Standby { .. } => self.drop_standby().await,
            State::Unknown => self.give_up(self.now()).await,
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Stopped
            | State::Deleted => self.shut_down(grace).await,
        }
    }

    async fn drop_standby(&mut self) -> Result<(), FleetError> {
        self.live.shape.snapshot_bytes = self.kept_bytes();
        self.gone(ExitCause::Discarded, self.now()).await
    }

    async fn give_up(&mut self, stamp: Stamp) -> Result<(), FleetError> {
        self.gone(ExitCause::Forced, stamp).await
    }

    /// Nothing runs any more: closes the interval.
    pub(super) async fn gone(&mut self, cause: ExitCause, stamp: Stamp) -> Result<(), FleetError> {
        let cause = self.cause_of_stop(cause);
        if cause == ExitCause::Unhealthy {
            let problem = self.health().and_then(|health| health.problem).unwrap_or_default();
            self.live.error = Some(format!("its workload was unhealthy: {problem}"));
        }
        self.machine = None;
        self.live.intent = None;
        self.live.cause = Some(cause);
        self.live.stopped = Some(self.reading(stamp).meter);
        self.enter(Event::Exited(cause), stamp).await?;
        self.drop_memory().await
    }

    /// Why it stopped, if it did so because of the stop under way: what was unhealthy was not asked to stay so.
    pub(super) fn cause_of_stop(&self, cause: ExitCause) -> ExitCause {
        let by = self.live.intent.as_ref().map(|intent| intent.by);
        if by == Some(Asker::HealthCheck) { ExitCause::Unhealthy } else { cause }
    }

    /// Removes what is left of the memory of a machine that has ended.
    pub(super) async fn drop_memory(&self) -> Result<(), FleetError> {
        discard(&self.standby_folder()).await?;
        discard(&self.held_folder()).await
    }

    async fn shut_down(&mut self, grace: Duration) -> Result<(), FleetError> {
        let asked = self.ask_guest().await?;
        let deadline = Deadline::now() + if asked { grace } else { Duration::ZERO };
        match self.exit_until(deadline).await? {
            Some(exit) => self.gone(ExitCause::Requested, exit.stamp).await,
            None => {
                let exit = self.end_by_force().await?;
                self.gone(ExitCause::Forced, exit.map_or_else(|| self.now(), |exit| exit.stamp)).await
            }
        }
    }

    /// Enters `shutdown` and asks the guest to power itself off. Held vCPUs run again for it: a held guest can't obey. Answers
    /// whether the guest could be asked.
    async fn ask_guest(&mut self) -> Result<bool, FleetError> {
        let vm = self.vm()?;
        match self.live.state {
            State::Paused { .. } => {
                self.enter(Event::ShutdownRequested, self.now()).await?;
                Ok(ask(vm.resume().await) && ask(vm.request_stop().await))
            }
            State::Shutdown => Ok(ask(vm.request_stop().await)),
            State::Created
            | State::Initializing
            | State::Running
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => {
                let answer = vm.request_stop().await;
                let stamp = *answer.as_ref().unwrap_or(&self.now());
                self.enter(Event::ShutdownRequested, stamp).await?;
                Ok(ask(answer))
            }
        }
    }

    pub(super) fn check_resize(&self, bytes: u64) -> Result<(), FleetError> {
        let image = self.host.image(&self.record.spec.image)?;
        check_memory("size", bytes, &image)?;
        let (least, max) = (self.record.spec.memory_bytes, self.record.spec.memory_bytes_max);
        let invalid = |problem| Err(FleetError::Invalid { field: "size", problem });
        if let Some(max) = max.filter(|&max| bytes > max) {
            return invalid(format!("must be at most {max} bytes, the memory_bytes_max of this instance; is {bytes}"));
        }
        if self.live.state == State::Stopped {
            return Ok(());
        }
        self.require(Capability::MemoryResize)?;
        match max {
            None => invalid("this instance was created without memory_bytes_max; stop it first".into()),
            Some(_) if bytes < least => invalid(format!("must be {least} or more, what it booted with; is {bytes}")),
            Some(_) => Ok(()),
        }
    }

    /// Gives it more or less memory: at once if it runs, else from the next start on. May be done again after a crash.
    pub(super) async fn resize(&mut self, bytes: u64) -> Result<(), FleetError> {
        let stamp = match self.live.state {
            State::Stopped => {
                self.change_record(|record| record.spec.memory_bytes = bytes);
                self.now()
            }
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Unknown
            | State::Deleted => self.vm()?.resize_memory(bytes).await.map_err(failed)?,
        };
        self.live.intent = None;
        self.live.shape.memory_bytes = bytes;
        self.enter(Event::Reshaped, stamp).await
    }

    /// A guest that was given more or less memory while it ran boots with that.
    fn boot_with_what_it_had(&mut self) {
        let bytes = self.live.shape.memory_bytes;
        if self.record.spec.memory_bytes != bytes {
            self.change_record(|record| record.spec.memory_bytes = bytes);
        }
    }

    /// Kills the virtual machine monitor, if there is one, and waits until it is gone.
    pub(super) async fn end_by_force(&mut self) -> Result<Option<Exit>, FleetError> {
        let Some(machine) = &self.machine else { return Ok(None) };
        machine.vm.kill().map_err(failed)?;
        self.exited().await.map(Some)
    }

    async fn exited(&mut self) -> Result<Exit, FleetError> {
        let deadline = Deadline::now() + Duration::from_millis(CONTROL_MS_MAX);
        let exit = self.exit_until(deadline).await?;
        exit.ok_or_else(|| FleetError::Hypervisor("the virtual machine monitor does not end; stop it again".into()))
    }

    /// Ends whatever runs, closes the record, and removes the instance's files.
    pub(super) async fn delete(&mut self) -> Result<(), FleetError> {
        if let Some(exit) = self.end_by_force().await? {
            self.machine = None;
            self.live.cause = Some(ExitCause::Forced);
            self.live.stopped = Some(self.reading(exit.stamp).meter);
            self.enter(Event::Exited(ExitCause::Forced), exit.stamp).await?;
        }
        self.live.intent = None;
        self.live.shape.snapshot_bytes = 0;
        self.enter(Event::Deleted, self.now()).await?;
        self.host.forget(&self.slot);
        self.interrupt_compression().await?;
        discard(&self.host.folder(&self.record.id)).await
    }
}

/// Whether the virtual machine monitor took a request; a refusal is told to the operator, force follows.
fn ask(answer: Result<Stamp, HypervisorError>) -> bool {
    if let Err(error) = &answer {
        tracing::warn!(%error, "the guest could not be asked to stop");
    }
    answer.is_ok()
}

/// Removes a folder and all in it, if it is there.
pub(super) async fn discard(folder: &Path) -> Result<(), FleetError> {
    // A look costs less than the way to a thread that may block.
    if matches!(folder.try_exists(), Ok(false)) {
        return Ok(());
    }
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FleetError::Bug(format!("can't remove {}: {error}", folder.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
