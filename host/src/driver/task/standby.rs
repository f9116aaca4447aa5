//! Standby and restore: memory is written to disk and read back.

use super::Task;
use crate::billing::Reading;
use crate::driver::error::FleetError;
use crate::driver::files::{discard, held_folder};
use crate::driver::machine::Save;
use crate::guest::Cut;
use crate::hypervisor::{Origin, Stamp};
use crate::vm::{Command, Event};

impl Task {
    /// Saves the memory to disk, then ends the virtual machine monitor. If the memory can't be
    /// saved, vCPUs that ran before run again.
    pub(super) async fn standby(&mut self) -> Result<(), FleetError> {
        if let Some(machine) = self.machine.as_ref().filter(|_| self.live().runs()) {
            machine.hold_guest().await;
            machine.close_guest(Cut::Standby).await;
        }
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

    /// Saves the memory of a held machine into the new folder `to`. Returns its bytes on disk. If
    /// an earlier save of the same pause was lost, by a crash of the daemon or a full disk, the
    /// vCPUs run for a moment, which is recorded like every run.
    pub(super) async fn save_memory(&mut self, to: &std::path::Path) -> Result<u64, FleetError> {
        if let Save::Saved(bytes) = self.machine()?.save(to).await? {
            return Ok(bytes);
        }
        self.resume().await?;
        self.pause_if_running().await?;
        match self.machine()?.save(to).await? {
            Save::Saved(bytes) => Ok(bytes),
            Save::SavedBefore => {
                let text = "it refuses to save the memory again, although the vCPUs have run since";
                Err(FleetError::Hypervisor(text.into()))
            }
        }
    }

    /// Ends the virtual machine monitor, after its memory is durable, and records the standby at
    /// its exit, which may come late. From here on the standby can't be undone.
    pub(super) async fn finish_standby(&mut self, snapshot_bytes: u64) -> Result<(), FleetError> {
        self.machine()?.quit().await?;
        let exit = match self.exit().await {
            Err(FleetError::StillEnding) => self.end_by_force().await?,
            exit => Some(exit?),
        };
        let stamp = exit.map_or_else(|| self.recorder.now(), |exit| exit.stamp);
        self.enter_standby_at(snapshot_bytes, self.recorder.reading(stamp)).await
    }

    /// Records the standby: the virtual machine monitor has exited and its memory is on disk.
    pub(super) async fn enter_standby_at(
        &mut self,
        snapshot_bytes: u64,
        at: Reading,
    ) -> Result<(), FleetError> {
        self.machine = None;
        self.recorder.live.shape.snapshot_bytes = self.recorder.kept_bytes() + snapshot_bytes;
        self.recorder.enter_at(Event::Saved, at).await?;
        discard(&held_folder(&self.recorder.folder(), self.live().incarnation)).await
    }

    /// Bytes of the memory on disk, if a standby is complete except for its last fact.
    pub(super) fn standby_complete(&self) -> Option<u64> {
        let live = self.live();
        let held = live.command() == Some(Command::Standby) && live.is_paused();
        if held { self.saved_bytes() } else { None }
    }

    /// Bytes of the memory on disk; none without any.
    pub(super) fn saved_bytes(&self) -> Option<u64> {
        let files = std::fs::read_dir(self.recorder.standby_folder()).ok()?;
        let sizes = files.map(|file| file.and_then(|file| file.metadata()).map(|data| data.len()));
        sizes.sum::<Result<u64, _>>().ok()
    }

    /// Restores the memory from disk into a new virtual machine monitor.
    pub(super) async fn restore(&mut self) -> Result<(), FleetError> {
        self.launch(Origin::Snapshot(self.recorder.standby_folder())).await?;
        self.finish_restore(self.recorder.now()).await
    }

    /// Lets a virtual machine monitor run that has loaded the memory, and drops the memory on disk,
    /// which the disks will soon contradict.
    pub(super) async fn finish_restore(&mut self, loaded: Stamp) -> Result<(), FleetError> {
        let standby_bytes = self.recorder.standby_bytes();
        self.recorder.live.shape.snapshot_bytes = self.recorder.kept_bytes();
        self.recorder.enter(Event::Loaded, loaded).await?;
        self.resume_restored(standby_bytes).await
    }

    /// Lets a machine run that was loaded from `standby_bytes` bytes; if that fails, the instance
    /// is in standby again.
    pub(super) async fn resume_restored(&mut self, standby_bytes: u64) -> Result<(), FleetError> {
        let machine = self.machine_mut()?;
        let stamp = match machine.resume().await {
            Ok(stamp) => stamp,
            // Only the answer was lost: the vCPUs run, and the saved memory must not be used again.
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
        // The request is done; removing the memory from disk takes a while.
        self.recorder.answer(Ok(()));
        discard(&self.recorder.standby_folder()).await
    }
}
