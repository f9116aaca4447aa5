//! Recovery after a restart of the daemon: the machine and files that are found decide the state.
//!
//! An instant that no stamp proves is not guessed: the time from the last proof on is `unknown`, so
//! that nobody is billed for a machine that may have been gone.

use super::Task;
use super::lifecycle::cause_of;
use crate::billing::{BootId, Dated, InstanceFact, Reading};
use crate::clock::Clock;
use crate::driver::error::{FleetError, failed};
use crate::driver::files::{discard, writable};
use crate::driver::machine::Machine;
use crate::driver::request::Request;
use crate::hypervisor::{Adopted, Exit, Launched, MachineSpec, Observed, Stamp, VmState};
use crate::journal::EarlierBoot;
use crate::mutants::Mutant;
use crate::units::Instant;
use crate::vm::{Command, Decision, Event, ExitCause, Phase, State, decide};

impl Task {
    /// Recovers the instance; if that fails, its view has the error, and recovery is tried again
    /// later.
    pub(super) async fn recover_or_retry(&mut self) {
        let Err(error) = self.recover().await else { return };
        let instance = &self.recorder.record.id;
        tracing::error!(%instance, %error, "the instance could not be recovered; trying again");
        let text = Some(format!("after a restart of the daemon: {error}"));
        if self.live().error == text {
            return;
        }
        self.recorder.live.error = text;
        let stored = self.recorder.store().await;
        self.warn(stored, "an error could not be recorded");
    }

    /// Finds out in which state the machine is, and finishes or gives up the request under way.
    ///
    /// # Errors
    /// The error of the search for the machine: nothing has changed, and recovery may be tried
    /// again. Also that of the request that was given up.
    pub(super) async fn recover(&mut self) -> Result<(), FleetError> {
        let outcome = match self.adopt().await {
            Ok((adopted, spec)) => self.found(adopted, &spec).await,
            Err(error) => {
                self.require_gone(error).await?;
                self.doubt_since_intent().await?;
                let boot = self.boot_under_way();
                self.found_lost(&boot).await
            }
        };
        self.settle(outcome).await
    }

    /// Recovers a machine that was just ended for the stop or deletion under way.
    pub(super) async fn recover_ended(&mut self) -> Result<(), FleetError> {
        match self.adopt().await {
            Ok((adopted, spec)) => self.found(adopted, &spec).await,
            Err(error) => {
                self.require_gone(error).await?;
                let now = self.recorder.reading(self.recorder.now());
                self.found_ended(now, ExitCause::Forced).await
            }
        }
    }

    async fn adopt(&self) -> Result<(Adopted, MachineSpec), FleetError> {
        let spec = self.recorder.machine_spec()?;
        let hypervisor = self.recorder.hypervisor()?;
        let adopted = hypervisor.adopt(&spec).await.map_err(failed)?;
        Ok((adopted, spec))
    }

    /// Checks that nothing of the launch is alive, where its exit can't be read: its hypervisor is
    /// missing, or the launch's files are damaged.
    ///
    /// # Errors
    /// `error`, unless nothing of the launch is alive.
    async fn require_gone(&self, error: FleetError) -> Result<(), FleetError> {
        let folder = self.recorder.folder();
        match self.host.launches.lives(&folder, self.live().incarnation).await {
            Ok(false) => {
                let instance = &self.recorder.record.id;
                tracing::warn!(%instance, %error, "the machine is gone; its exit is not known");
                Ok(())
            }
            Ok(true) | Err(_) => Err(error),
        }
    }

    /// The boot in which the interval under way began. A machine of which nothing is left has lived
    /// in no later one.
    fn boot_under_way(&self) -> BootId {
        let since = self.recorder.since();
        let holds = |earlier: &&EarlierBoot| earlier.last.is_some_and(|last| last >= since);
        let boot = self.host.boots.iter().find(holds).map(|earlier| &earlier.boot);
        let last = self.host.alive.as_ref().map(|alive| &alive.boot);
        boot.or(last).unwrap_or_else(|| self.host.clock.boot()).clone()
    }

    async fn found(&mut self, adopted: Adopted, spec: &MachineSpec) -> Result<(), FleetError> {
        match adopted {
            Adopted::Alive { launched, state, since } => {
                self.found_alive(launched, spec, Vcpus { state, since }).await
            }
            Adopted::Exited { boot, history, exit } => {
                let is_silent = !history.iter().any(is_of_vcpus);
                self.replay(&boot, history).await?;
                if is_silent {
                    self.doubt_since_intent().await?;
                }
                match self.unresumed(!is_silent) {
                    Some(bytes) => self.found_unresumed(bytes, &boot, &exit).await,
                    None => self.found_dead(&boot, &exit).await,
                }
            }
            Adopted::Lost { boot, history } => {
                let is_silent = !history.iter().any(is_of_vcpus);
                self.replay(&boot, history).await?;
                if is_silent {
                    self.doubt_since_intent().await?;
                }
                self.found_lost(&boot).await
            }
            Adopted::NeverLaunched => self.found_nothing().await,
        }
    }

    /// Records what guest and VMM have reported before the end, each report at the instant at which
    /// the host received it.
    async fn replay(&mut self, boot: &BootId, history: Vec<Observed>) -> Result<(), FleetError> {
        let is_deaf = Mutant::ReplayForgotten.is_active();
        for seen in history.into_iter().filter(|_| !is_deaf) {
            self.recorder.live.note(&seen);
            match seen {
                Observed::ProgramStarted(stamp) | Observed::AgentReady(stamp) => {
                    self.ready_in(boot, stamp).await?;
                }
                Observed::Paused(stamp) => self.paused_in(boot, stamp).await?,
                Observed::Resumed(stamp) => self.resumed_in(boot, stamp).await?,
                Observed::Launched(_) | Observed::ProgramExited { .. } | Observed::Exited(_) => {}
            }
        }
        Ok(())
    }

    /// Records that the vCPUs were held, if the fact of it was lost.
    async fn paused_in(&mut self, boot: &BootId, stamp: Stamp) -> Result<(), FleetError> {
        match (self.state(), self.news_in(boot, stamp)) {
            (State::Initializing | State::Running, Some(at)) => {
                self.recorder.enter_at(Event::Paused, at).await
            }
            (_, _) => Ok(()),
        }
    }

    /// Records that the vCPUs were let run, if the fact of it was lost.
    async fn resumed_in(&mut self, boot: &BootId, stamp: Stamp) -> Result<(), FleetError> {
        match (self.state(), self.news_in(boot, stamp)) {
            (State::Created, Some(at)) => self.recorder.enter_at(Event::Booted, at).await,
            (State::Paused { .. }, Some(at)) => self.recorder.enter_at(Event::Resumed, at).await,
            (_, _) => Ok(()),
        }
    }

    /// The reading of a stamp; none if it is not later than the last recorded change.
    fn news_in(&self, boot: &BootId, stamp: Stamp) -> Option<Reading> {
        let since = self.recorder.account.tracker.since;
        self.reading_in(boot, stamp).filter(|at| at.meter > since)
    }

    /// Records that the guest became ready, if this was its last marker and its instant is known.
    async fn ready_in(&mut self, boot: &BootId, stamp: Stamp) -> Result<(), FleetError> {
        if self.state() != State::Initializing || !self.recorder.is_ready() {
            return Ok(());
        }
        match self.reading_in(boot, stamp) {
            Some(at) => self.recorder.enter_at(Event::Ready, at).await,
            None => Ok(()),
        }
    }

    /// Takes over a live machine: finishes the request under way, or brings the record in line.
    async fn found_alive(
        &mut self,
        launched: Launched,
        spec: &MachineSpec,
        vcpus: Vcpus,
    ) -> Result<(), FleetError> {
        self.find_network(launched.pid).await;
        let machine = Machine::of(launched, spec, true);
        machine.tell_network(self.network_to_tell());
        self.machine = Some(machine);
        if vcpus.state == VmState::Ended {
            let exit = self.end_by_force().await?;
            let stamp = exit.map_or_else(|| self.recorder.now(), |exit| exit.stamp);
            let at = self.recorder.reading(stamp);
            return self.found_ended(at, ExitCause::Guest).await;
        }
        match self.state() {
            State::Standby { .. } if self.live().command() == Some(Command::Restore) => {
                self.found_restored(vcpus).await
            }
            State::Standby { .. } | State::Stopped | State::Unknown | State::Deleted => {
                self.end_by_force().await?;
                self.machine = None;
                self.finish().await
            }
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown => self.found_running_machine(vcpus).await,
        }
    }

    async fn found_running_machine(&mut self, vcpus: Vcpus) -> Result<(), FleetError> {
        match self.live().command() {
            Some(Command::Stop | Command::Delete) => return self.finish().await,
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
            | None => {}
        }
        match self.state() {
            State::Created => self.found_created(vcpus).await,
            State::Initializing | State::Running => self.found_started(vcpus).await,
            State::Paused { .. } => self.found_paused(vcpus).await,
            State::Shutdown => {
                self.stop(self.grace(None)).await?;
                self.finish().await
            }
            State::Standby { .. } | State::Stopped | State::Unknown | State::Deleted => {
                Err(FleetError::Bug("no machine belongs to this state".into()))
            }
        }
    }

    async fn found_created(&mut self, vcpus: Vcpus) -> Result<(), FleetError> {
        match vcpus.state {
            VmState::Running => {
                let from = self.intended_at();
                self.enter_found(Event::Booted, vcpus.since, from).await
            }
            VmState::NotStarted | VmState::Paused => {
                let Err(error) = self.run_vcpus().await else { return Ok(()) };
                if !error.leaves_intent() {
                    self.launch_failed(&error).await?;
                }
                Err(error)
            }
            VmState::Loading | VmState::Ended => {
                self.end_by_force().await?;
                let error = FleetError::Interrupted;
                self.launch_failed(&error).await?;
                Err(error)
            }
        }
    }

    async fn found_restored(&mut self, vcpus: Vcpus) -> Result<(), FleetError> {
        match vcpus.state {
            VmState::NotStarted | VmState::Paused => self.finish_restore(self.recorder.now()).await,
            // It had loaded before it ran: without proof of when it ran, there is none of when it
            // had loaded.
            VmState::Running => {
                let from = self.intended_at();
                self.recorder.live.shape.snapshot_bytes = self.recorder.kept_bytes();
                self.enter_found(Event::Loaded, vcpus.since, from).await?;
                self.found_resumed(vcpus).await
            }
            VmState::Loading | VmState::Ended => {
                self.end_by_force().await?;
                self.machine = None;
                self.finish().await
            }
        }
    }

    async fn found_started(&mut self, vcpus: Vcpus) -> Result<(), FleetError> {
        if vcpus.state == VmState::Running {
            return self.finish().await;
        }
        let command = self.live().command();
        let from = self.intended_at();
        self.enter_found(Event::Paused, vcpus.since, from).await?;
        match command {
            Some(Command::Pause) => Ok(()),
            Some(Command::Standby) => self.standby().await,
            Some(Command::Snapshot | Command::Fork) => self.finish().await,
            Some(
                Command::Start
                | Command::Stop
                | Command::Resume
                | Command::Restore
                | Command::Delete
                | Command::Discard
                | Command::Revert
                | Command::Resize,
            )
            | None => {
                self.resume().await?;
                self.finish().await
            }
        }
    }

    async fn found_paused(&mut self, vcpus: Vcpus) -> Result<(), FleetError> {
        if vcpus.state == VmState::Running {
            return self.found_resumed(vcpus).await;
        }
        match self.live().command() {
            Some(Command::Resume) => self.resume().await,
            Some(Command::Restore) => {
                self.resume_restored(self.saved_bytes().unwrap_or_default()).await
            }
            Some(Command::Standby) => match self.standby_complete() {
                Some(bytes) => self.finish_standby(bytes).await,
                None => self.standby().await,
            },
            Some(
                Command::Start
                | Command::Stop
                | Command::Pause
                | Command::Delete
                | Command::Snapshot
                | Command::Discard
                | Command::Revert
                | Command::Fork
                | Command::Resize,
            )
            | None => self.finish().await,
        }
    }

    /// Records that the vCPUs run, after the fact of it was lost. Saved memory is out of date and
    /// contradicts the disks: it is dropped.
    async fn found_resumed(&mut self, vcpus: Vcpus) -> Result<(), FleetError> {
        let is_saved = matches!(self.live().command(), Some(Command::Standby | Command::Restore));
        let from = self.intended_at();
        // Resuming running vCPUs changes nothing, but drops the memory that was saved while they
        // were held.
        let resumed = self.machine_mut()?.resume().await;
        if is_saved {
            discard(&self.recorder.standby_folder()).await?;
        }
        // They have run, whatever becomes of the call: a machine may die during it.
        self.enter_found(Event::Resumed, vcpus.since, from).await?;
        resumed?;
        self.finish().await
    }

    /// Records a change of the vCPUs that happened while the daemon was down: at its instant
    /// `since`, if that is proved; otherwise the time from `from` until now is `unknown`.
    async fn enter_found(
        &mut self,
        event: Event,
        since: Option<Stamp>,
        from: Reading,
    ) -> Result<(), FleetError> {
        match since {
            Some(stamp) => self.recorder.enter(event, stamp).await,
            None => {
                let doubt = self.doubt(from);
                let now = self.recorder.reading(self.recorder.now());
                let entered = self.recorder.step(event, now)?;
                let facts = if Mutant::DoubtForgotten.is_active() {
                    vec![entered]
                } else {
                    vec![doubt, entered]
                };
                self.recorder.write(facts).await
            }
        }
    }

    /// The fact that from `at` on there is no proof of what the vCPUs did.
    fn doubt(&self, at: Reading) -> Dated<InstanceFact> {
        (at, self.live().entered(Phase::Unknown, None))
    }

    /// Records the time since the command under way was accepted as `unknown`, if that command
    /// holds or resumes vCPUs.
    async fn doubt_since_intent(&mut self) -> Result<(), FleetError> {
        let changes_vcpus = match self.live().command() {
            Some(
                Command::Pause
                | Command::Resume
                | Command::Standby
                | Command::Snapshot
                | Command::Fork
                | Command::Start
                | Command::Restore,
            ) => self.live().runs() || self.live().is_paused() || self.state() == State::Created,
            Some(
                Command::Stop
                | Command::Delete
                | Command::Discard
                | Command::Revert
                | Command::Resize,
            )
            | None => false,
        };
        // A complete standby was held all the time.
        if !changes_vcpus || self.standby_complete().is_some() {
            return Ok(());
        }
        let doubt = self.doubt(self.intended_at());
        self.recorder.write(vec![doubt]).await
    }

    /// The instant at which the command under way was accepted, inside the interval under way;
    /// without one, the last instant at which the host is known to have been alive.
    fn intended_at(&self) -> Reading {
        let at_ns = self.live().intent.as_ref().and_then(|intent| intent.at_ns);
        let at = match at_ns {
            Some(at_ns) => Instant(at_ns),
            // The intent of a new instance is as old as the instance.
            None if self.state() == State::Created => self.recorder.account.tracker.since,
            None => return self.last_proof(&self.boot_under_way()),
        };
        let now = self.host.clock.reading();
        let is_of_this_boot = at >= self.host.clock.meter(0);
        let known = if is_of_this_boot { now } else { self.last_proof(&self.boot_under_way()) };
        let ago = known.meter.since(at).map_or(0, |ago| ago.0);
        self.recorder.bounded(Reading {
            boottime_ns: known.boottime_ns.saturating_sub(ago),
            wall_ns: known.wall_ns.saturating_sub_unsigned(ago),
            meter: at,
            ..known
        })
    }

    /// Gives up a request that has changed nothing: vCPUs that were paused only for it run again.
    pub(super) async fn undo_pause(&mut self) -> Result<(), FleetError> {
        self.resume_if_paused_for_request().await?;
        self.interrupted().await
    }

    /// Finishes a request that the restart has interrupted, or gives it up, and records that.
    async fn finish(&mut self) -> Result<(), FleetError> {
        let Some(intent) = self.live().intent.clone() else { return Ok(()) };
        match intent.request {
            Request::Delete => self.delete().await,
            Request::Stop { .. } if self.state() == State::Stopped => {
                self.recorder.live.complete();
                self.recorder.store().await
            }
            Request::Stop { grace_ms } => self.stop(self.grace(grace_ms)).await,
            Request::Snapshot(new) => self.finish_snapshot(new).await,
            Request::Discard { snapshot } => self.discard_snapshot(&snapshot).await,
            Request::Revert { snapshot } => self.revert(&snapshot).await,
            Request::Fork { children, snapshot } => self.finish_fork(children, snapshot).await,
            Request::Resize { memory_bytes }
                if decide(self.state(), Command::Resize) == Decision::Act =>
            {
                self.resize(memory_bytes).await
            }
            Request::Resize { .. }
            | Request::Start
            | Request::Pause
            | Request::Resume
            | Request::Standby
            | Request::Restore => self.interrupted().await,
        }
    }

    /// Gives up a request that the restart has interrupted, and records that.
    async fn interrupted(&mut self) -> Result<(), FleetError> {
        let Some(command) = self.live().command() else { return Ok(()) };
        let reason = FleetError::Interrupted;
        self.recorder.give_up(command, &reason).await
    }

    /// Records an exit while the daemon was down, at the instant that the supervisor has seen.
    async fn found_dead(&mut self, boot: &BootId, exit: &Exit) -> Result<(), FleetError> {
        let at = self.reading_in(boot, exit.stamp).map(|at| {
            let now = Mutant::RecoveryStampsNow.is_active();
            if now { self.recorder.reading(self.recorder.now()) } else { at }
        });
        let Some(at) = at else {
            return self.found_lost(boot).await;
        };
        self.found_ended(at, cause_of(exit)).await
    }

    /// Bytes of the memory on disk of a restore whose machine is dead, if that memory is still the
    /// guest's. It is, unless the vCPUs ran: then a disk may have gone on without it. Where that is
    /// not `proved`, a guest that can write to a disk counts as one that did.
    fn unresumed(&self, proved: bool) -> Option<u64> {
        let live = self.live();
        let is_loaded = live.command() == Some(Command::Restore) && live.is_paused();
        let writes = writable(&self.recorder.record.spec.disks).next().is_some();
        let is_kept = (proved || !writes) && !Mutant::MemoryDropped.is_active();
        if is_loaded && is_kept { self.saved_bytes() } else { None }
    }

    /// Records the exit of a machine that had loaded its memory, which is still the guest's: it is
    /// in standby again.
    async fn found_unresumed(
        &mut self,
        bytes: u64,
        boot: &BootId,
        exit: &Exit,
    ) -> Result<(), FleetError> {
        let at = self.reading_in(boot, exit.stamp).unwrap_or_else(|| self.last_proof(boot));
        self.enter_standby_at(bytes, at).await?;
        self.finish().await
    }

    async fn found_ended(&mut self, at: Reading, cause: ExitCause) -> Result<(), FleetError> {
        self.machine_ended(at, cause).await?;
        self.finish().await
    }

    /// Records an end that was not witnessed: `unknown` from the last proof of life, then
    /// `stopped`. A machine that was held for a standby, with its memory on disk, is in standby.
    async fn found_lost(&mut self, boot: &BootId) -> Result<(), FleetError> {
        if !self.state().has_vmm() {
            return self.finish().await;
        }
        let proof = if Mutant::LostAsAlive.is_active() {
            self.recorder.reading(self.recorder.now())
        } else {
            self.last_proof(boot)
        };
        if let Some(bytes) = self.standby_complete() {
            return self.enter_standby_at(bytes, proof).await;
        }
        if let Some(bytes) = self.unresumed(false) {
            self.recorder.write(vec![self.doubt(proof)]).await?;
            let now = self.recorder.reading(self.recorder.now());
            self.enter_standby_at(bytes, now).await?;
            return self.finish().await;
        }
        let cause =
            if boot == self.host.clock.boot() { ExitCause::Crashed } else { ExitCause::HostLost };
        let now = self.recorder.reading(self.recorder.now());
        // In one commit: after a crash between two, nothing would look for it again, and it would
        // stay unknown.
        let mut facts = Vec::new();
        for (event, at) in [(Event::Lost, proof), (Event::Exited(cause), now)] {
            facts.push(self.recorder.step(event, at)?);
        }
        self.recorder.write(facts).await?;
        self.drop_memory().await?;
        self.finish().await
    }

    /// Handles a launch for which no virtual machine monitor was ever started.
    async fn found_nothing(&mut self) -> Result<(), FleetError> {
        match self.state() {
            State::Created => {
                let reason = FleetError::Interrupted;
                self.launch_failed(&reason).await
            }
            State::Initializing | State::Running | State::Paused { .. } | State::Shutdown => {
                let boot = self.boot_under_way();
                self.found_lost(&boot).await
            }
            State::Standby { .. } | State::Stopped | State::Unknown | State::Deleted => {
                self.finish().await
            }
        }
    }

    /// The last instant at which the host is known to have been alive in `boot`, inside the
    /// interval under way. A machine of an earlier boot has not lived in a later one.
    fn last_proof(&self, boot: &BootId) -> Reading {
        let earlier = self.host.boots.iter().find(|earlier| earlier.boot == *boot);
        let earlier = earlier.filter(|_| !Mutant::BootsMixed.is_active());
        if let Some((clock, last)) =
            earlier.and_then(|earlier| Some((earlier.clock(), earlier.last?)))
        {
            let boottime_ns = clock.boottime_ns(last);
            return self.recorder.bounded(clock.reading_of(boottime_ns, last.0));
        }
        match &self.host.alive {
            Some(alive) => {
                let clock = clock_of(&alive.boot, alive.boottime_ns, alive.meter);
                self.recorder.bounded(clock.reading_of(alive.boottime_ns, alive.meter.0))
            }
            None => self.recorder.reading(self.recorder.now()),
        }
    }

    /// The reading of a stamp of `boot`; none if that boot's clock is not known any more. Where
    /// nothing proves how much time lies between two boots, the meter of the later one begins at
    /// the last proof of the earlier one: what happened after that ends with its boot.
    fn reading_in(&self, boot: &BootId, stamp: Stamp) -> Option<Reading> {
        if boot == self.host.clock.boot() {
            return Some(self.recorder.reading(stamp));
        }
        let alive = self.host.alive.as_ref().filter(|alive| alive.boot == *boot);
        let clock = match alive {
            Some(alive) => clock_of(boot, alive.boottime_ns, alive.meter),
            None if Mutant::BootsMixed.is_active() => return None,
            None => self.host.boots.iter().find(|earlier| earlier.boot == *boot)?.clock(),
        };
        let mut reading = clock.reading_of(stamp.boottime_ns, stamp.wall_ns);
        if let Some(end) = self.end_of(boot) {
            reading.meter = reading.meter.min(end);
        }
        Some(self.recorder.bounded(reading))
    }

    /// The first instant of the boot after an earlier one; none if the meter has it before the last
    /// proof of the earlier one, so that it bounds nothing.
    fn end_of(&self, boot: &BootId) -> Option<Instant> {
        let mut behind = self.host.boots.iter().skip_while(|earlier| earlier.boot != *boot);
        let last = behind.next()?.last?;
        let next = behind.next().map(|next| next.clock().meter(0));
        Some(next.unwrap_or_else(|| self.host.clock.meter(0))).filter(|next| *next >= last)
    }
}

/// The state of the vCPUs of a machine that was found.
#[derive(Debug, Clone, Copy)]
struct Vcpus {
    state: VmState,
    /// Begin of that state; none if it is not proved.
    since: Option<Stamp>,
}

/// Returns whether an observation is about the vCPUs.
fn is_of_vcpus(seen: &Observed) -> bool {
    match seen {
        Observed::Paused(_) | Observed::Resumed(_) => true,
        Observed::Launched(_)
        | Observed::ProgramStarted(_)
        | Observed::AgentReady(_)
        | Observed::ProgramExited { .. }
        | Observed::Exited(_) => false,
    }
}

/// The meter clock of an earlier boot, from one instant of which both readings are known.
fn clock_of(boot: &BootId, boottime_ns: u64, meter: Instant) -> Clock {
    Clock::resume(boot.clone(), meter.0.saturating_sub_unsigned(boottime_ns))
}
