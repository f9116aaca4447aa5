//! Standby and restore: memory to disk and back.

use super::Task;
use crate::billing::Reading;
use crate::driver::error::FleetError;
use crate::driver::files::{discard, held_folder};
use crate::driver::machine::Save;
use crate::hypervisor::{Origin, Stamp};
use crate::vm::{Command, Event};

impl Task {
    /// Memory to disk, then the virtual machine monitor's end. If memory can't be saved, what ran
    /// before runs again.
    pub(super) async fn standby(&mut self) -> Result<(), FleetError> {
        self.pause_if_running().await?;
        let folder = self.recorder.standby_folder();
        match self.save_memory(&folder).await {
            Ok(bytes) => self.finish_standby(bytes).await,
            Err(error) => {
                self.resume_if_paused_for_request().await?;
                Err(error)
            }
        }
    }

    /// Saves the memory of a held machine into the new folder `to`. Answers its bytes on disk. If
    /// what it saved before was lost, with the daemon that received it or by a full disk, the vCPUs
    /// run for a moment, on record like every run.
    pub(super) async fn save_memory(&mut self, to: &std::path::Path) -> Result<u64, FleetError> {
        if let Save::Saved(bytes) = self.machine()?.save(to).await? {
            return Ok(bytes);
        }
        self.resume().await?;
        self.pause_if_running().await?;
        match self.machine()?.save(to).await? {
            Save::Saved(bytes) => Ok(bytes),
            Save::SavedBefore => {
                let text = "it has run since, and will not save its memory once more";
                Err(FleetError::Hypervisor(text.into()))
            }
        }
    }

    /// The memory is durable: ends the virtual machine monitor and records the standby at its exit,
    /// which may come late. From here on the standby can't be undone.
    pub(super) async fn finish_standby(&mut self, snapshot_bytes: u64) -> Result<(), FleetError> {
        self.machine()?.quit().await?;
        let exit = match self.exit().await {
            Err(FleetError::StillEnding) => self.end_by_force().await?,
            exit => Some(exit?),
        };
        let stamp = exit.map_or_else(|| self.recorder.now(), |exit| exit.stamp);
        self.enter_standby_at(snapshot_bytes, self.recorder.reading(stamp)).await
    }

    /// The virtual machine monitor is gone and its memory is on disk.
    pub(super) async fn enter_standby_at(
        &mut self,
        snapshot_bytes: u64,
        at: Reading,
    ) -> Result<(), FleetError> {
        self.machine = None;
        self.recorder.live.shape.snapshot_bytes = self.recorder.kept_bytes() + snapshot_bytes;
        self.recorder.enter_at(Event::Slept, at).await?;
        discard(&held_folder(&self.recorder.folder(), self.live().incarnation)).await
    }

    /// Bytes of the memory, if a standby had got so far that nothing of it is missing but the last
    /// fact.
    pub(super) fn standby_complete(&self) -> Option<u64> {
        let live = self.live();
        let held = live.command() == Some(Command::Standby) && live.is_paused();
        if held { self.saved_bytes() } else { None }
    }

    /// Bytes of the memory that lies on disk; none if there is none.
    pub(super) fn saved_bytes(&self) -> Option<u64> {
        let files = std::fs::read_dir(self.recorder.standby_folder()).ok()?;
        let sizes = files.map(|file| file.and_then(|file| file.metadata()).map(|data| data.len()));
        sizes.sum::<Result<u64, _>>().ok()
    }

    /// Memory from disk into a new virtual machine monitor.
    pub(super) async fn restore(&mut self) -> Result<(), FleetError> {
        self.launch(Origin::Snapshot(self.recorder.standby_folder())).await?;
        self.finish_restore(self.recorder.now()).await
    }

    /// A new virtual machine monitor has loaded the memory: lets it run, and drops what lies on
    /// disk, which the disks will soon contradict.
    pub(super) async fn finish_restore(&mut self, loaded: Stamp) -> Result<(), FleetError> {
        let standby_bytes = self.recorder.standby_bytes();
        self.recorder.live.shape.snapshot_bytes = self.recorder.kept_bytes();
        self.recorder.enter(Event::Loaded, loaded).await?;
        self.resume_restored(standby_bytes).await
    }

    /// Lets a machine run that was loaded from so many bytes; if it can't, the instance is in
    /// standby again.
    pub(super) async fn resume_restored(&mut self, standby_bytes: u64) -> Result<(), FleetError> {
        let machine = self.machine_mut()?;
        let stamp = match machine.resume().await {
            Ok(stamp) => stamp,
            // The answer was lost, the act was not: its snapshot must not be used again.
            Err(_) if machine.is_running().await => self.recorder.now(),
            Err(error) => {
                machine.unrestored = Some(standby_bytes);
                let exit = self.end_by_force().await?;
                let stamp = exit.map_or_else(|| self.recorder.now(), |exit| exit.stamp);
                self.enter_standby_at(standby_bytes, self.recorder.reading(stamp)).await?;
                return Err(error);
            }
        };
        self.recorder.enter(Event::Resumed, stamp).await?;
        // All that was asked for is done; to give the memory's pages back takes a while.
        self.recorder.answer(Ok(()));
        discard(&self.recorder.standby_folder()).await
    }
}
