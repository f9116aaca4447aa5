//! Snapshots: taken, kept, compressed, discarded, reverted to.
//!
//! A snapshot holds disks, memory and the guest's progress, never time: accounts are keyed by
//! instance, so that neither a fork nor a revert can copy, lose or take back a nanosecond.

use std::path::{Path, PathBuf};

use super::Task;
use crate::billing::{Dated, InstanceFact};
use crate::driver::copy;
use crate::driver::error::FleetError;
use crate::driver::files::{
    PutBack, blocking, copy_disks, discard, link, lock_disks, memory_folder, on_disk,
    publish_snapshot, read_snapshot, snapshot_folder,
};
use crate::driver::mailbox::Compressed;
use crate::driver::record::{SavedMemory, Snapshot, find_snapshot};
use crate::driver::request::{NewSnapshot, Request};
use crate::driver::settings::{Schedule, check_keep};
use crate::hypervisor::Capability;
use crate::id::SnapshotName;
use crate::limits::snapshot as limits;
use crate::units::Instant;
use crate::vm::{Asker, Command, Decision, Event, ExitCause, State, decide};

/// Taking.
impl Task {
    /// Checks that such a snapshot can be taken now.
    pub(super) fn check_snapshot(&self, new: &NewSnapshot, by: Asker) -> Result<(), FleetError> {
        let kept = &self.recorder.record.snapshots;
        if kept.iter().any(|snapshot| snapshot.name == new.name) {
            return Err(FleetError::SnapshotExists(new.name.clone()));
        }
        new.keep.map_or(Ok(()), |keep| check_keep("keep", keep))?;
        // `keep` drops only snapshots of the same kind as this one.
        let scheduled = by == Asker::Schedule;
        let of_kind = kept.iter().filter(|snapshot| snapshot.scheduled == scheduled).count();
        let stay = new.keep.map_or(usize::MAX, |keep| usize::try_from(keep).unwrap_or(usize::MAX));
        if kept.len() - of_kind + stay.min(of_kind + 1) > limits::KEPT_MAX {
            return Err(FleetError::TooManySnapshots);
        }
        if self.state().has_vmm() { self.require(Capability::Snapshots) } else { Ok(()) }
    }

    /// Pauses a running instance, copies it, lets it run again. The pause is recorded like every
    /// other.
    pub(super) async fn take_snapshot(&mut self, new: NewSnapshot) -> Result<(), FleetError> {
        self.pause_if_running().await?;
        let folder = self.snapshot_folder(&new.name);
        match self.capture_snapshot(&folder, &new).await {
            Ok(snapshot) => self.keep_snapshot(Some(snapshot), new.keep).await,
            Err(error) => {
                discard(&copy::aside(&folder)).await?;
                self.resume_if_paused_for_request().await?;
                Err(error)
            }
        }
    }

    async fn capture_snapshot(
        &mut self,
        folder: &Path,
        new: &NewSnapshot,
    ) -> Result<Snapshot, FleetError> {
        let memory = self.capture(&copy::aside(folder), true).await?;
        let spec = &self.recorder.record.spec;
        let snapshot = Snapshot {
            name: new.name.clone(),
            tags: new.tags.clone(),
            scheduled: self.live().asker() == Some(Asker::Schedule),
            created_ns: self.host.clock.now().0,
            bytes: 0,
            compress: new.compress,
            compressed_bytes: None,
            memory,
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            disks: spec.disks.clone(),
        };
        let folder = folder.to_owned();
        blocking(move || publish_snapshot(&folder, snapshot)).await
    }

    /// Copies the present state of the instance into the new folder `to`: its memory, if there is
    /// any and `memory` is set, and its writable disks. Running vCPUs must be held.
    ///
    /// Memory first: saving it may let the vCPUs run for a moment, and memory and disks have to be
    /// of one instant. From the save on they are held, so the disks match that memory.
    pub(super) async fn capture(
        &mut self,
        to: &Path,
        memory: bool,
    ) -> Result<Option<SavedMemory>, FleetError> {
        let target = to.to_owned();
        blocking(move || copy::fresh_folder(&target).map_err(on_disk("make the folder", &target)))
            .await?;
        let memory = if memory { self.capture_memory(&memory_folder(to)).await? } else { None };
        let disks = self.recorder.record.spec.disks.clone();
        let target = to.to_owned();
        // The instance's own machine has its disks locked; without one, another may be using them.
        let unused = !self.state().has_vmm();
        blocking(move || {
            let _locked = if unused { lock_disks(&disks, true)? } else { Vec::new() };
            copy_disks(&disks, &target)
        })
        .await?;
        Ok(memory)
    }

    async fn capture_memory(&mut self, folder: &Path) -> Result<Option<SavedMemory>, FleetError> {
        let ready = match self.state() {
            State::Paused { ready } | State::Standby { ready } => ready,
            State::Created
            | State::Initializing
            | State::Running
            | State::Shutdown
            | State::Stopped
            | State::Unknown
            | State::Deleted => return Ok(None),
        };
        let bytes = self.copy_memory(folder).await?;
        let live = self.live();
        Ok(Some(SavedMemory {
            bytes,
            guest_bytes: live.shape.memory_bytes,
            ready,
            program_started: live.program_started,
            agent_ready: live.agent_ready,
        }))
    }

    async fn copy_memory(&mut self, folder: &Path) -> Result<u64, FleetError> {
        if !self.state().has_vmm() {
            link(&self.recorder.standby_folder(), folder).await?;
            return Ok(self.recorder.standby_bytes());
        }
        let bytes = self.save_memory(folder).await?;
        // Memory that runs again after the request is soon out of date.
        if !self.live().is_paused_for_request() {
            self.machine()?.keep_saved(folder).await?;
        }
        Ok(bytes)
    }
}

/// Keeping.
impl Task {
    /// The folder of a snapshot.
    pub(super) fn snapshot_folder(&self, name: &SnapshotName) -> PathBuf {
        snapshot_folder(&self.recorder.folder(), name)
    }

    /// The snapshot of this name.
    pub(super) fn kept(&self, name: &SnapshotName) -> Result<&Snapshot, FleetError> {
        find_snapshot(&self.recorder.record.snapshots, name)
    }

    /// Records a complete snapshot, if it is new, lets vCPUs that were held for it run again, and
    /// drops the oldest snapshots beyond `keep`.
    async fn keep_snapshot(
        &mut self,
        new: Option<Snapshot>,
        keep: Option<u32>,
    ) -> Result<(), FleetError> {
        let mut facts = Vec::new();
        let known = self.recorder.record.snapshots.len();
        if let Some(snapshot) = new {
            facts.push(self.recorder.reshape(|record| record.snapshots.push(snapshot))?);
        }
        let scheduled = self.live().asker() == Some(Asker::Schedule);
        let kept = &self.recorder.record.snapshots;
        let surplus = keep.map(|keep| superfluous(kept, scheduled, keep)).unwrap_or_default();
        if let Err(error) = self.resume_with(&mut facts).await {
            self.recorder.write(facts).await?;
            return Err(error);
        }
        if surplus.is_empty() {
            self.recorder.live.complete();
        }
        self.recorder.write(facts).await?;
        self.host.plan_compression(&self.slot, &self.recorder.record.snapshots[known..]);
        if surplus.is_empty() { Ok(()) } else { self.drop_snapshots(&surplus).await }
    }

    /// Lets vCPUs that were held only for the request under way run again, and adds the fact of it
    /// to `facts`.
    async fn resume_with(
        &mut self,
        facts: &mut Vec<Dated<InstanceFact>>,
    ) -> Result<(), FleetError> {
        if !self.live().is_paused_for_request() {
            return Ok(());
        }
        let stamp = self.machine_mut()?.resume().await?;
        let at = self.recorder.reading(stamp);
        facts.push(self.recorder.step(Event::Resumed, at)?);
        Ok(())
    }

    /// Drops one snapshot.
    pub(super) async fn discard_snapshot(&mut self, name: &SnapshotName) -> Result<(), FleetError> {
        self.drop_snapshots(std::slice::from_ref(name)).await
    }

    /// Removes the files of snapshots, then their records. May be repeated after a crash in
    /// between.
    async fn drop_snapshots(&mut self, names: &[SnapshotName]) -> Result<(), FleetError> {
        self.interrupt_compression().await?;
        for name in names {
            discard(&self.snapshot_folder(name)).await?;
        }
        let fact = self.recorder.reshape(|record| {
            record.snapshots.retain(|snapshot| !names.contains(&snapshot.name));
        })?;
        self.recorder.live.complete();
        self.plan_compression();
        self.recorder.write(vec![fact]).await
    }

    /// Finishes a snapshot request after a restart: a complete snapshot is kept, an incomplete one
    /// dropped.
    pub(super) async fn finish_snapshot(&mut self, new: NewSnapshot) -> Result<(), FleetError> {
        let folder = self.snapshot_folder(&new.name);
        if self.kept(&new.name).is_ok() {
            return self.keep_snapshot(None, new.keep).await;
        }
        match read_snapshot(&folder) {
            Ok(snapshot) => self.keep_snapshot(Some(snapshot), new.keep).await,
            Err(_) => {
                discard(&copy::aside(&folder)).await?;
                self.undo_pause().await
            }
        }
    }
}

/// Compression, which stops while something else uses the snapshots.
impl Task {
    /// Stops the compression of the snapshots, until it is planned again.
    pub(super) async fn interrupt_compression(&self) -> Result<(), FleetError> {
        let signal = std::mem::take(&mut *self.slot.leave());
        blocking(move || {
            signal.now();
            Ok(())
        })
        .await
    }

    /// Queues the compression of the snapshots that wait for it.
    pub(super) fn plan_compression(&self) {
        self.host.plan_compression(&self.slot, &self.recorder.record.snapshots);
    }

    /// Records that a snapshot was compressed.
    pub(super) async fn compressed(&mut self, compressed: Compressed) -> Result<(), FleetError> {
        let Compressed { name, created_ns, bytes } = compressed;
        let is_it = |kept: &Snapshot| kept.name == name && kept.created_ns == created_ns;
        let kept = &self.recorder.record.snapshots;
        let Some(at) = kept.iter().position(is_it) else { return Ok(()) };
        if kept[at].compressed_bytes == Some(bytes) {
            return Ok(());
        }
        self.recorder.change_record(|record| record.snapshots[at].compressed_bytes = Some(bytes));
        self.recorder.store().await
    }
}

/// The oldest snapshots of one kind beyond the `keep` newest.
fn superfluous(snapshots: &[Snapshot], scheduled: bool, keep: u32) -> Vec<SnapshotName> {
    let of_kind: Vec<_> =
        snapshots.iter().filter(|snapshot| snapshot.scheduled == scheduled).collect();
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let surplus = of_kind.len().saturating_sub(keep);
    of_kind.iter().take(surplus).map(|snapshot| snapshot.name.clone()).collect()
}

/// The schedule's snapshots that are older than it keeps them.
fn aged(snapshots: &[Snapshot], schedule: &Schedule, now: Instant) -> Vec<SnapshotName> {
    let Some(age_ms) = schedule.age_ms_max else { return Vec::new() };
    let age_ns = age_ms.saturating_mul(1_000_000);
    let is_aged = |kept: &&Snapshot| {
        let age = now.since(Instant(kept.created_ns));
        kept.scheduled && age.is_some_and(|age| age.0 >= age_ns)
    };
    snapshots.iter().filter(is_aged).map(|kept| kept.name.clone()).collect()
}

/// Reverting.
impl Task {
    /// Replaces the present state of the instance by a snapshot, all of it or nothing. Facts and
    /// accounts are not part of a snapshot and go on. May be repeated after a crash at any point.
    pub(super) async fn revert(&mut self, name: &SnapshotName) -> Result<(), FleetError> {
        let snapshot = self.kept(name)?.clone();
        let put_back = PutBack {
            snapshot: self.snapshot_folder(name),
            instance: self.recorder.folder(),
            disks: self.recorder.record.spec.disks.clone(),
            with_memory: snapshot.memory.is_some(),
            unpacked_bytes: snapshot
                .compressed_bytes
                .and(snapshot.memory)
                .map_or(0, |memory| memory.bytes),
        };
        self.interrupt_compression().await?;
        let done = blocking(move || put_back.run()).await;
        self.plan_compression();
        done?;
        self.reverted(snapshot).await
    }

    async fn reverted(&mut self, snapshot: Snapshot) -> Result<(), FleetError> {
        let at = self.recorder.reading(self.recorder.now());
        let was_in_standby = matches!(self.state(), State::Standby { .. });
        self.recorder.change_record(|record| record.spec.put_back(&snapshot));
        let disk_bytes = self.recorder.record.spec.disk_bytes();
        let kept_bytes = self.recorder.kept_bytes();
        self.recorder.live.put_back(&snapshot, disk_bytes, kept_bytes);
        let event = match snapshot.memory {
            Some(memory) => Event::Reverted { ready: memory.ready },
            None if was_in_standby => Event::Exited(ExitCause::Discarded),
            None => Event::Reshaped,
        };
        self.recorder.enter_at(event, at).await
    }
}

/// Scheduled snapshots.
impl Task {
    /// Takes the snapshot that the schedule asks for, unless nothing has run since the last one;
    /// either way the next is planned.
    pub(super) async fn take_scheduled_snapshot(&mut self) -> Result<(), FleetError> {
        let Some(schedule) = self.recorder.record.spec.schedule.clone() else {
            self.recorder.live.snapshot_due_ns = None;
            return self.recorder.store().await;
        };
        let now = self.host.clock.now();
        self.recorder.live.snapshot_due_ns = schedule.next_due(now);
        for snapshot in aged(&self.recorder.record.snapshots, &schedule, now) {
            self.carry_out(Request::Discard { snapshot }, Asker::Schedule).await?;
        }
        if decide(self.state(), Command::Snapshot) != Decision::Act || self.is_unchanged() {
            return self.recorder.store().await;
        }
        let new = NewSnapshot {
            name: self.scheduled_name(&schedule.prefix)?,
            tags: schedule.tags.clone(),
            keep: Some(schedule.keep),
            compress: schedule.compress,
        };
        let outcome = self.carry_out(Request::Snapshot(new), Asker::Schedule).await;
        if outcome.is_err() {
            // The plan may have been stored with the intent, or not at all.
            self.recorder.store().await?;
        }
        outcome
    }

    /// Returns whether the machine rests and has not run since the schedule's last snapshot. False
    /// if there is none.
    fn is_unchanged(&self) -> bool {
        let kept = &self.recorder.record.snapshots;
        let Some(last) = kept.iter().rev().find(|snapshot| snapshot.scheduled) else {
            return false;
        };
        let rests = matches!(self.state(), State::Stopped | State::Standby { .. });
        rests && self.live().stopped.is_some_and(|stopped| last.created_ns >= stopped.0)
    }

    /// The prefix and the calendar's time (UTC), as in `daily-20260131-120000`.
    fn scheduled_name(&self, prefix: &str) -> Result<SnapshotName, FleetError> {
        let utc_ns = self.host.calendar.utc_ns(self.host.clock.now());
        let time = chrono::DateTime::from_timestamp_nanos(utc_ns).format("%Y%m%d-%H%M%S");
        let name = format!("{prefix}-{time}");
        // The calendar may be set back, so that the name is taken: a number is appended then.
        let names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}")));
        let kept = &self.recorder.record.snapshots;
        let free = |name: &String| !kept.iter().any(|snapshot| snapshot.name.as_str() == name);
        Ok(names.take(limits::KEPT_MAX + 1).find(free).unwrap_or(name).parse()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn snapshot(name: &str, scheduled: bool) -> Snapshot {
        Snapshot {
            name: name.parse().unwrap(),
            tags: Default::default(),
            scheduled,
            created_ns: 0,
            bytes: 1,
            compress: false,
            compressed_bytes: None,
            memory: None,
            vcpus: 1,
            memory_bytes: 1,
            disks: Vec::new(),
        }
    }

    #[test]
    fn the_newest_of_a_kind_stay_and_the_other_kind_is_not_touched() {
        let kept =
            [snapshot("a", true), snapshot("b", false), snapshot("c", true), snapshot("d", true)];
        let names = |scheduled, keep| {
            superfluous(&kept, scheduled, keep).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(true, 1), ["a", "c"]);
        assert_eq!(names(true, 2), ["a"]);
        assert_eq!(names(true, 3), [""; 0]);
        assert_eq!(names(false, 1), [""; 0]);
    }
}
