//! The operations: each is `intent -> act -> fact -> answer`.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant as Deadline;

use super::error::FleetError;
use super::task::{Task, failed, refused};
use crate::billing::FactBody;
use crate::hypervisor::{Exit, HypervisorError, Origin, Stamp, Vm, VmState};
use crate::limits::instance::CONTROL_MS_MAX;
use crate::vm::{Command, Decision, Event, ExitCause, State, decide};
use std::sync::Arc;

impl Task {
    /// Carries out a command, or says why not.
    pub(super) async fn carry_out(&mut self, command: Command, grace: Option<Duration>) -> Result<(), FleetError> {
        if self.is_astray() {
            let taken_up = self.take_up().await;
            // What became of an earlier command is on the record; it is not this one's outcome.
            if self.is_astray() {
                taken_up?;
            }
        }
        match decide(self.live.state, command) {
            Decision::Ignore(_) => return Ok(()),
            Decision::Deny(refusal) => return Err(refusal.into()),
            Decision::Act => {}
        }
        self.accept(command).await?;
        let outcome = match command {
            Command::Start => self.boot().await,
            Command::Stop => self.stop(grace.unwrap_or(self.grace())).await,
            Command::Pause => self.pause().await,
            Command::Resume => self.resume().await,
            Command::Standby => self.standby().await,
            Command::Restore => self.restore().await,
            Command::Delete => self.delete().await,
        };
        self.settle(command, outcome).await
    }

    /// Makes the intent durable, after what must be out of the way by then.
    async fn accept(&mut self, command: Command) -> Result<(), FleetError> {
        match command {
            Command::Start => return self.intend_start().await,
            // After a crash, a snapshot that is there must be the one of this standby.
            Command::Standby => discard(&self.snapshot()).await?,
            Command::Restore => self.live.incarnation += 1,
            Command::Stop | Command::Pause | Command::Resume | Command::Delete => {}
        }
        self.intend(command).await
    }

    /// How long a stop waits for the guest, unless the client says otherwise.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_millis(self.slot.record.spec.stop_grace_ms)
    }

    /// Gives up an intended command that failed.
    pub(super) async fn settle(&mut self, command: Command, outcome: Result<(), FleetError>) -> Result<(), FleetError> {
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if self.live.intent == Some(command) => Err(self.abandon(command, error).await),
            Err(error) => Err(error),
        }
    }

    pub(super) fn vm(&self) -> Result<Arc<dyn Vm>, FleetError> {
        let machine = self.machine.as_ref();
        machine.map(|machine| machine.vm.clone()).ok_or_else(|| FleetError::Hypervisor("nothing runs".into()))
    }

    /// A new session from nothing: `created` with the intent, then as for a create.
    async fn intend_start(&mut self) -> Result<(), FleetError> {
        let at = self.reading(Stamp::now());
        let before = self.live.clone();
        self.live.state = self.after(Event::Created)?;
        self.live.session += 1;
        self.live.incarnation += 1;
        self.live.intent = Some(Command::Start);
        self.live.error = None;
        self.live.cause = None;
        self.live.exit_code = None;
        self.live.exit_message = None;
        self.live.started = None;
        self.live.program_started = false;
        self.live.agent_ready = false;
        let intent = self.fact(at.clone(), FactBody::Intended { command: Command::Start });
        let created = self.fact(at, self.entered(Event::Created));
        if let Err(error) = self.commit(vec![intent, created]).await {
            self.live = before;
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
        let stamp = Stamp::now();
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
        Ok(())
    }

    async fn pause(&mut self) -> Result<(), FleetError> {
        let stamp = self.vm()?.pause().await.map_err(failed)?;
        self.live.intent = None;
        self.enter(Event::Paused, stamp).await
    }

    pub(super) async fn resume(&mut self) -> Result<(), FleetError> {
        let stamp = self.vm()?.resume().await.map_err(failed)?;
        self.live.intent = None;
        self.enter(Event::Resumed, stamp).await
    }

    /// Memory to disk, then the virtual machine monitor's end. If memory can't be saved, what ran before runs again.
    pub(super) async fn standby(&mut self) -> Result<(), FleetError> {
        let vm = self.vm()?;
        let running = matches!(self.live.state, State::Initializing | State::Running);
        if running {
            let stamp = vm.pause().await.map_err(failed)?;
            self.enter(Event::Paused, stamp).await?;
        }
        match vm.save(&self.snapshot()).await {
            Ok(saved) => self.fall_asleep(saved.bytes).await,
            Err(error) => {
                if running {
                    self.wake().await?;
                }
                Err(failed(error))
            }
        }
    }

    /// After a standby that failed: the vCPUs run again. The command is still to be given up.
    pub(super) async fn wake(&mut self) -> Result<(), FleetError> {
        let stamp = self.vm()?.resume().await.map_err(failed)?;
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
        self.asleep(snapshot_bytes, exit.stamp).await
    }

    /// The virtual machine monitor is gone and its memory is on disk.
    async fn asleep(&mut self, snapshot_bytes: u64, stamp: Stamp) -> Result<(), FleetError> {
        self.machine = None;
        self.live.shape.snapshot_bytes = snapshot_bytes;
        self.live.stopped = Some(self.reading(stamp).meter);
        self.enter(Event::Slept, stamp).await
    }

    async fn restore(&mut self) -> Result<(), FleetError> {
        self.launch(Origin::Snapshot(self.snapshot())).await?;
        self.awaken(Stamp::now()).await
    }

    /// A new virtual machine monitor has loaded the snapshot: lets it run, and drops the snapshot, which the disks will soon contradict.
    pub(super) async fn awaken(&mut self, loaded: Stamp) -> Result<(), FleetError> {
        let snapshot_bytes = self.live.shape.snapshot_bytes;
        self.live.shape.snapshot_bytes = 0;
        self.enter(Event::Loaded, loaded).await?;
        self.let_go(snapshot_bytes).await
    }

    /// Lets a machine run that was loaded from a snapshot of so many bytes; if it can't, the instance is in standby again.
    pub(super) async fn let_go(&mut self, snapshot_bytes: u64) -> Result<(), FleetError> {
        let vm = self.vm()?;
        let stamp = match vm.resume().await {
            Ok(stamp) => stamp,
            // The answer was lost, the act was not: its snapshot must not be used again.
            Err(_) if matches!(vm.state().await, Ok(VmState::Running)) => Stamp::now(),
            Err(error) => {
                let exit = self.end_by_force().await?;
                self.asleep(snapshot_bytes, exit.map_or_else(Stamp::now, |exit| exit.stamp)).await?;
                return Err(failed(error));
            }
        };
        self.live.intent = None;
        self.enter(Event::Resumed, stamp).await?;
        discard(&self.snapshot()).await
    }

    /// Asks the guest, waits, then ends it by force.
    pub(super) async fn stop(&mut self, grace: Duration) -> Result<(), FleetError> {
        match self.live.state {
            State::Standby { .. } => self.drop_standby().await,
            State::Unknown => self.give_up(Stamp::now()).await,
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
        self.live.shape.snapshot_bytes = 0;
        self.gone(ExitCause::Discarded, Stamp::now()).await?;
        discard(&self.snapshot()).await
    }

    async fn give_up(&mut self, stamp: Stamp) -> Result<(), FleetError> {
        self.gone(ExitCause::Forced, stamp).await
    }

    /// Nothing runs any more: closes the interval.
    pub(super) async fn gone(&mut self, cause: ExitCause, stamp: Stamp) -> Result<(), FleetError> {
        self.machine = None;
        self.live.intent = None;
        self.live.cause = Some(cause);
        self.live.stopped = Some(self.reading(stamp).meter);
        self.enter(Event::Exited(cause), stamp).await
    }

    async fn shut_down(&mut self, grace: Duration) -> Result<(), FleetError> {
        let asked = self.ask_guest().await?;
        let deadline = Deadline::now() + if asked { grace } else { Duration::ZERO };
        match self.exit_until(deadline).await? {
            Some(exit) => self.gone(ExitCause::Requested, exit.stamp).await,
            None => {
                let exit = self.end_by_force().await?;
                self.gone(ExitCause::Forced, exit.map_or_else(Stamp::now, |exit| exit.stamp)).await
            }
        }
    }

    /// Enters `shutdown` and asks the guest to power itself off. Held vCPUs run again for it: a held guest can't obey. Answers
    /// whether the guest could be asked.
    async fn ask_guest(&mut self) -> Result<bool, FleetError> {
        let vm = self.vm()?;
        match self.live.state {
            State::Paused { .. } => {
                self.enter(Event::ShutdownRequested, Stamp::now()).await?;
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
                let stamp = *answer.as_ref().unwrap_or(&Stamp::now());
                self.enter(Event::ShutdownRequested, stamp).await?;
                Ok(ask(answer))
            }
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
        self.enter(Event::Deleted, Stamp::now()).await?;
        self.host.forget(&self.slot);
        discard(&self.host.folder(&self.slot.record.id)).await
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
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FleetError::Bug(format!("can't remove {}: {error}", folder.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
