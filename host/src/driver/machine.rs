//! The launched machine of one instance: its control, and the stream of observations of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant as Deadline, timeout_at};

use super::copy;
use super::error::{FleetError, failed};
use super::files::{blocking, discard, held_folder, link, on_disk};
use super::recorder::Recorder;
use crate::guest::{Cut, Guest, Way};
use crate::hypervisor::{
    AgentSocket, Exit, Hypervisor, HypervisorError, Launched, MachineSpec, Observed, Origin, Stamp,
    Vm, VmState, files,
};

/// A machine that is not known to have ended.
pub(super) struct Machine {
    vm: Arc<dyn Vm>,
    observed: mpsc::Receiver<Observed>,
    /// The folder with its memory; exists if that was saved in the current pause.
    held: PathBuf,
    /// The agent of its guest, if that is there and has a way out.
    guest: Option<Arc<Guest>>,
    /// Its vCPUs have run before, in this process or in the one that saved them.
    has_run: bool,
    /// Bytes on disk of the memory that it was loaded from, if its vCPUs could not be run and never
    /// ran: that memory is still current.
    pub(super) unrestored: Option<u64>,
}

/// The way to the agent behind a socket.
fn way(agent: AgentSocket) -> Way {
    match agent {
        AgentSocket::Port(socket) => Way { socket, vsock_port: None },
        AgentSocket::Vsock(socket) => Way { socket, vsock_port: Some(agent::VSOCK_PORT) },
    }
}

/// The outcome of saving memory.
pub(super) enum Save {
    /// The memory was saved, in this many bytes on disk.
    Saved(u64),
    /// The memory was saved before, by a hypervisor that saves only once between two runs of the
    /// vCPUs.
    SavedBefore,
}

impl Machine {
    /// Launches a machine with its vCPUs held.
    pub(super) async fn launch(
        hypervisor: Arc<dyn Hypervisor>,
        spec: MachineSpec,
        origin: Origin,
    ) -> Result<Self, FleetError> {
        let has_run = origin != Origin::Boot;
        let launched = hypervisor.launch(&spec, origin).await.map_err(failed)?;
        let machine = Self::of(launched, &spec, has_run);
        // The ends of all earlier launches are recorded.
        tokio::spawn(crate::blocking::run(move || {
            if let Err(error) = files::forget_before(&spec.dir, spec.incarnation) {
                tracing::warn!(instance = %spec.id, %error, "an earlier launch's folder is left");
            }
        }));
        Ok(machine)
    }

    /// The machine of `spec` that was launched or found. Its vCPUs have run before if `has_run`, so
    /// that its agent may have answered.
    pub(super) fn of(launched: Launched, spec: &MachineSpec, has_run: bool) -> Self {
        let Launched { vm, observed, pid: _, agent } = launched;
        let held = held_folder(&spec.dir, spec.incarnation);
        let guest = agent.map(|agent| Guest::new(way(agent)));
        guest.iter().filter(|_| has_run).for_each(|guest| guest.assume_met());
        Self { vm, observed, held, guest, has_run, unrestored: None }
    }

    /// The agent of its guest, if there is one.
    pub(super) fn guest(&self) -> Option<&Arc<Guest>> {
        self.guest.as_ref()
    }

    /// Has the guest be told the settings of its network card.
    pub(super) fn tell_network(&self, words: Option<String>) {
        if let (Some(guest), Some(words)) = (&self.guest, words) {
            guest.tell_network(words);
        }
    }

    /// Ends all that goes on in the guest for the host's clients.
    pub(super) async fn close_guest(&self, cut: Cut) {
        if let Some(guest) = &self.guest {
            guest.close(cut).await;
        }
    }

    /// The next observation; none if nothing watches it any more. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Observed> {
        self.observed.recv().await
    }

    /// An observation that has arrived; none if none has.
    pub(super) fn arrived(&mut self) -> Option<Observed> {
        self.observed.try_recv().ok()
    }

    /// Holds the guest's processes, as long as its vCPUs still run.
    pub(super) async fn hold_guest(&self) {
        if let Some(guest) = &self.guest {
            guest.hold().await;
        }
    }

    /// Holds the vCPUs, after the guest's processes: none of them runs on before its clock is set.
    pub(super) async fn pause(&self) -> Result<Stamp, FleetError> {
        self.hold_guest().await;
        let paused = self.vm.pause().await.map_err(failed);
        if let (Err(_), Some(guest)) = (&paused, &self.guest) {
            guest.wake();
        }
        paused
    }

    /// Lets the vCPUs run, after dropping the saved memory, which is then out of date.
    pub(super) async fn resume(&mut self) -> Result<Stamp, FleetError> {
        self.unrestored = None;
        discard(&self.held).await?;
        let stamp = self.vm.resume().await.map_err(failed)?;
        let has_run = std::mem::replace(&mut self.has_run, true);
        if let Some(guest) = self.guest.as_ref().filter(|_| has_run) {
            guest.wake();
        }
        Ok(stamp)
    }

    /// Returns whether the machine reports that its vCPUs run.
    pub(super) async fn is_running(&self) -> bool {
        matches!(self.vm.state().await, Ok(VmState::Running))
    }

    /// Saves the memory of a held machine into the new folder `to`. Held memory does not change: it
    /// is written once and linked from then on, until the vCPUs run.
    pub(super) async fn save(&self, to: &Path) -> Result<Save, FleetError> {
        if self.held.exists() {
            link(&self.held, to).await?;
            return copy::bytes(to).map(Save::Saved).map_err(on_disk("look at", to));
        }
        match self.vm.save(to).await {
            Ok(saved) => Ok(Save::Saved(saved.bytes)),
            Err(HypervisorError::SavedBefore) => Ok(Save::SavedBefore),
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps the memory that was just saved of a machine that stays held, for the next save.
    pub(super) async fn keep_saved(&self, saved: &Path) -> Result<(), FleetError> {
        let from = saved.to_owned();
        let held = self.held.clone();
        if held.exists() {
            return Ok(());
        }
        blocking(move || {
            let partial = copy::aside(&held);
            copy::remove(&partial)
                .and_then(|()| copy::link_folder(&from, &partial))
                .and_then(|()| copy::publish(&held))
                .map_err(on_disk("write", &held))
        })
        .await
    }

    /// Sets the guest's memory, in bytes.
    pub(super) async fn resize_memory(&self, bytes: u64) -> Result<Stamp, FleetError> {
        self.vm.resize_memory(bytes).await.map_err(failed)
    }

    /// Asks the guest to power itself off.
    pub(super) async fn request_stop(&self) -> Result<Stamp, FleetError> {
        self.vm.request_stop().await.map_err(failed)
    }

    /// Ends the virtual machine monitor in an orderly way, or by force if that fails.
    pub(super) async fn quit(&self) -> Result<(), FleetError> {
        match self.vm.quit().await {
            Ok(()) => Ok(()),
            Err(_) => self.kill(),
        }
    }

    /// Ends the virtual machine monitor by force.
    pub(super) fn kill(&self) -> Result<(), FleetError> {
        self.vm.kill().map_err(failed)
    }

    /// Waits for the exit of the virtual machine monitor, and records the guest's reports
    /// meanwhile. None if `deadline` comes first.
    pub(super) async fn exit_until(
        &mut self,
        recorder: &mut Recorder,
        deadline: Deadline,
    ) -> Result<Option<Exit>, FleetError> {
        loop {
            match timeout_at(deadline, self.observed.recv()).await {
                Err(_) => return Ok(None),
                Ok(Some(Observed::Exited(exit))) => return Ok(Some(exit)),
                Ok(Some(other)) => recorder.note(other).await?,
                // The watcher has ended; the task finds that out with its next observation.
                Ok(None) => return Ok(None),
            }
        }
    }
}
