//! Snapshots: taken, kept, discarded, put back in the place of what the instance is.
//!
//! Each lies in a folder of its own and is complete or not there:
//!
//! ```text
//! snapshots/<name>/snapshot.json   what it is
//!                  memory/         as the hypervisor saved it, or compressed; not there if nothing ran
//!                  disk-<n>.raw    the n-th disk, where the guest may write to it
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rand::Rng;

use super::copy;
use super::error::FleetError;
use super::operate::discard;
use super::record::{Disk, Record, SavedMemory, Schedule, Snapshot};
use super::request::{NewSnapshot, Request};
use super::task::{Task, blocking, failed, standby_folder};
use crate::billing::{Dated, InstanceFact};
use crate::hypervisor::{Capability, HypervisorError, unpack};
use crate::id::SnapshotName;
use crate::limits::snapshot as limits;
use crate::units::{Instant, Nanos};
use crate::vm::{Asker, Command, Decision, Event, ExitCause, State, decide};

const DESCRIPTION: &str = "snapshot.json";

/// Where the hypervisor's part of a snapshot lies.
pub(super) fn memory_folder(snapshot: &Path) -> PathBuf {
    snapshot.join("memory")
}

/// Where the copy of a disk lies in a snapshot.
pub(super) fn disk_file(snapshot: &Path, index: usize) -> PathBuf {
    snapshot.join(format!("disk-{index}.raw"))
}

/// Where a snapshot lies in the folder of an instance.
pub(super) fn snapshot_folder(instance: &Path, name: &SnapshotName) -> PathBuf {
    instance.join("snapshots").join(name.as_str())
}

/// Makes the new folder `to` with the memory in `from`, as a hypervisor takes it.
pub(super) fn lay_memory(from: &Path, to: &Path) -> Result<(), FleetError> {
    let unpacked = unpack(from, to).map_err(|error| match error {
        HypervisorError::File { act, path, source } => on_disk(act, &path)(source),
        damaged => failed(damaged),
    })?;
    if unpacked { Ok(()) } else { copy::link_folder(from, to).map_err(on_disk("link", from)) }
}

/// The disks that are part of a snapshot, each with its number.
pub(super) fn writable(disks: &[Disk]) -> impl Iterator<Item = (usize, &Disk)> {
    disks.iter().enumerate().filter(|(_, disk)| !disk.read_only)
}

/// A failure of the host's own files, for the client.
pub(super) fn on_disk(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FleetError {
    let path = path.display().to_string();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FleetError::NoSpace,
        _ => FleetError::Files(format!("can't {act} {path}: {error}")),
    }
}

/// Taking.
impl Task {
    /// Whether such a snapshot can be taken now.
    pub(super) fn check_snapshot(&self, new: &NewSnapshot) -> Result<(), FleetError> {
        if self.record.snapshots.iter().any(|snapshot| snapshot.name == new.name) {
            return Err(FleetError::SnapshotExists(new.name.clone()));
        }
        if new.keep == Some(0) {
            let problem = "must be 1 or more: the snapshot itself is among them".into();
            return Err(FleetError::Invalid { field: "keep", problem });
        }
        if self.record.snapshots.len() >= limits::KEPT_MAX && new.keep.is_none() {
            return Err(FleetError::TooManySnapshots);
        }
        if self.live.state.has_vmm() { self.require(Capability::Snapshots) } else { Ok(()) }
    }

    /// Holds what runs, copies it, lets it run again. That it was held is on record like every pause.
    pub(super) async fn take_snapshot(&mut self, new: NewSnapshot) -> Result<(), FleetError> {
        self.hold().await?;
        let folder = self.snapshot_folder(&new.name);
        match self.capture_as(&folder, &new).await {
            Ok(snapshot) => self.keep_snapshot(Some(snapshot), new.keep).await,
            Err(error) => {
                discard(&copy::aside(&folder)).await?;
                self.wake_if_it_ran().await?;
                Err(error)
            }
        }
    }

    /// Holds the vCPUs if they run.
    pub(super) async fn hold(&mut self) -> Result<(), FleetError> {
        match self.live.state {
            State::Initializing | State::Running => {
                let stamp = self.vm()?.pause().await.map_err(failed)?;
                self.enter(Event::Paused, stamp).await
            }
            State::Created
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => Ok(()),
        }
    }

    async fn capture_as(&mut self, folder: &Path, new: &NewSnapshot) -> Result<Snapshot, FleetError> {
        let partial = copy::aside(folder);
        let (memory, created_ns) = (self.capture(&partial, true).await?, self.host.clock.now().0);
        let Record { spec, .. } = &*self.record;
        let mut snapshot = Snapshot {
            name: new.name.clone(),
            tags: new.tags.clone(),
            scheduled: self.live.intent.as_ref().is_some_and(|intent| intent.by == Asker::Schedule),
            created_ns,
            bytes: 0,
            compress: new.compress,
            compressed_bytes: None,
            memory,
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            disks: spec.disks.clone(),
        };
        let folder = folder.to_owned();
        blocking(move || {
            let publish = || {
                let disks = writable(&snapshot.disks).map(|(index, _)| copy::bytes(&disk_file(&partial, index)));
                let disk_bytes: u64 = disks.sum::<io::Result<_>>()?;
                snapshot.bytes = disk_bytes + snapshot.memory.map_or(0, |memory| memory.bytes);
                let description = partial.join(DESCRIPTION);
                fs::write(&description, serde_json::to_vec(&snapshot)?)?;
                copy::sync(&description)?;
                copy::publish(&folder)?;
                Ok(snapshot)
            };
            publish().map_err(on_disk("write the snapshot", &folder))
        })
        .await
    }

    /// Copies what the instance is now into the new folder `to`: its writable disks, and its memory if it has one and it is wanted. What runs
    /// is held.
    pub(super) async fn capture(&mut self, to: &Path, memory: bool) -> Result<Option<SavedMemory>, FleetError> {
        let (disks, target) = (self.record.spec.disks.clone(), to.to_owned());
        blocking(move || copy_disks(&disks, &target)).await?;
        let ready = match self.live.state {
            State::Paused { ready } | State::Standby { ready } if memory => ready,
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => return Ok(None),
        };
        let folder = memory_folder(to);
        let bytes = if self.live.state.has_vmm() {
            let bytes = self.save_to(&folder).await?;
            self.hold_on_to(&folder).await?;
            bytes
        } else {
            link(&self.standby_folder(), &folder).await?;
            self.standby_bytes()
        };
        Ok(Some(SavedMemory {
            bytes,
            guest_bytes: self.live.shape.memory_bytes,
            ready,
            program_started: self.live.program_started,
            agent_ready: self.live.agent_ready,
        }))
    }

    /// Saves the memory of a held machine into the new folder `to`. Answers its bytes on disk. What stays held does not change: it is written
    /// once, and a hypervisor that saves only once between two runs is not asked twice. If what it saved was lost, with the daemon that received
    /// it or by a full disk, the vCPUs run for a moment, on record like every run.
    pub(super) async fn save_to(&mut self, to: &Path) -> Result<u64, FleetError> {
        let held = self.held_folder();
        if !held.exists() {
            let saved = match self.vm()?.save(to).await {
                Err(HypervisorError::SavedBefore) => {
                    self.wake().await?;
                    self.hold().await?;
                    self.vm()?.save(to).await
                }
                saved => saved,
            };
            return Ok(saved.map_err(failed)?.bytes);
        }
        link(&held, to).await?;
        copy::bytes(to).map_err(on_disk("look at", to))
    }

    /// Keeps what was just saved of a machine that stays held, for the next time.
    async fn hold_on_to(&mut self, saved: &Path) -> Result<(), FleetError> {
        let (from, held) = (saved.to_owned(), self.held_folder());
        if held.exists() || self.live.intent.as_ref().is_none_or(|intent| intent.ran) {
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

    /// Where the memory of a machine that is held lies, if it was saved since it is: until its vCPUs run again. No other launch takes it for its
    /// own.
    pub(super) fn held_folder(&self) -> PathBuf {
        self.host.folder(&self.record.id).join(format!("held-{}", self.live.incarnation))
    }
}

async fn link(from: &Path, to: &Path) -> Result<(), FleetError> {
    let (from, to) = (from.to_owned(), to.to_owned());
    blocking(move || copy::link_folder(&from, &to).map_err(on_disk("link", &from))).await
}

/// Makes the folder `to` with copies of the writable disks.
fn copy_disks(disks: &[Disk], to: &Path) -> Result<(), FleetError> {
    copy::fresh_folder(to).map_err(on_disk("make the folder", to))?;
    for (index, disk) in writable(disks) {
        copy::file(&disk.path, &disk_file(to, index)).map_err(on_disk("copy", &disk.path))?;
    }
    copy::sync(to).map_err(on_disk("sync", to))
}

/// Keeping.
impl Task {
    /// Where a snapshot lies.
    pub(super) fn snapshot_folder(&self, name: &SnapshotName) -> PathBuf {
        snapshot_folder(&self.host.folder(&self.record.id), name)
    }

    /// The snapshot of this name.
    pub(super) fn kept(&self, name: &SnapshotName) -> Result<&Snapshot, FleetError> {
        let known = &self.record.snapshots;
        known.iter().find(|snapshot| snapshot.name == *name).ok_or_else(|| no_such(name, known))
    }

    /// Bytes on disk of all snapshots that are kept.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.record.snapshots.iter().map(|snapshot| snapshot.bytes).sum()
    }

    /// Puts a snapshot that is complete on record, if it is new, lets what was held for it run again, and drops the oldest beyond `keep`.
    async fn keep_snapshot(&mut self, new: Option<Snapshot>, keep: Option<u32>) -> Result<(), FleetError> {
        let (mut facts, known) = (Vec::new(), self.record.snapshots.len());
        if let Some(snapshot) = new {
            facts.push(self.reshape(|kept| kept.push(snapshot))?);
        }
        let scheduled = self.live.intent.as_ref().is_some_and(|intent| intent.by == Asker::Schedule);
        let doomed = keep.map(|keep| superfluous(&self.record.snapshots, scheduled, keep)).unwrap_or_default();
        if let Err(error) = self.run_again(&mut facts).await {
            self.record(facts).await?;
            return Err(error);
        }
        if doomed.is_empty() {
            self.live.intent = None;
        }
        self.record(facts).await?;
        self.plan_compression(&self.record.snapshots[known..]);
        if doomed.is_empty() { Ok(()) } else { self.drop_snapshots(&doomed).await }
    }

    /// Lets vCPUs that were held only for the request under way run again.
    async fn run_again(&mut self, facts: &mut Vec<Dated<InstanceFact>>) -> Result<(), FleetError> {
        let ran = self.live.intent.as_ref().is_some_and(|intent| intent.ran);
        if !ran || !matches!(self.live.state, State::Paused { .. }) {
            return Ok(());
        }
        let at = self.let_run().await?;
        let at = self.reading(at);
        self.step(Event::Resumed, at.meter)?;
        facts.push((at, self.entered(Event::Resumed)));
        Ok(())
    }

    /// Bytes on disk of the memory of a standby.
    pub(super) fn standby_bytes(&self) -> u64 {
        self.live.shape.snapshot_bytes.saturating_sub(self.kept_bytes())
    }

    /// Changes what is kept. Answers the fact that the instance holds more or less from now on.
    fn reshape(&mut self, change: impl FnOnce(&mut Vec<Snapshot>)) -> Result<Dated<InstanceFact>, FleetError> {
        let standby_bytes = self.standby_bytes();
        self.change_record(|record| change(&mut record.snapshots));
        self.live.shape.snapshot_bytes = self.kept_bytes() + standby_bytes;
        let at = self.reading(self.now());
        self.step(Event::Reshaped, at.meter)?;
        Ok((at, self.entered(Event::Reshaped)))
    }

    /// Drops a snapshot that a client does not want any more.
    pub(super) async fn discard_snapshot(&mut self, name: &SnapshotName) -> Result<(), FleetError> {
        self.drop_snapshots(std::slice::from_ref(name)).await
    }

    /// Removes snapshots, then takes them off the record; after a crash in between, it is done again.
    async fn drop_snapshots(&mut self, names: &[SnapshotName]) -> Result<(), FleetError> {
        self.interrupt_compression().await?;
        for name in names {
            discard(&self.snapshot_folder(name)).await?;
        }
        self.live.intent = None;
        let fact = self.reshape(|kept| kept.retain(|snapshot| !names.contains(&snapshot.name)))?;
        self.plan_compression(&self.record.snapshots);
        self.record(vec![fact]).await
    }

    /// After a restart in the middle of a snapshot: it is complete and kept, or it was never taken.
    pub(super) async fn finish_snapshot(&mut self, new: NewSnapshot) -> Result<(), FleetError> {
        let folder = self.snapshot_folder(&new.name);
        if self.kept(&new.name).is_ok() {
            return self.keep_snapshot(None, new.keep).await;
        }
        match read(&folder) {
            Ok(snapshot) => self.keep_snapshot(Some(snapshot), new.keep).await,
            Err(_) => {
                discard(&copy::aside(&folder)).await?;
                self.undo_hold().await
            }
        }
    }
}

/// The description of a snapshot that is complete.
fn read(folder: &Path) -> io::Result<Snapshot> {
    Ok(serde_json::from_slice(&fs::read(folder.join(DESCRIPTION))?)?)
}

pub(super) fn no_such(name: &SnapshotName, known: &[Snapshot]) -> FleetError {
    let known: Vec<_> = known.iter().map(|snapshot| snapshot.name.as_str()).collect();
    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
    FleetError::NoSuchSnapshot { name: name.clone(), known }
}

/// The oldest snapshots of one kind beyond the `keep` newest.
fn superfluous(snapshots: &[Snapshot], scheduled: bool, keep: u32) -> Vec<SnapshotName> {
    let of_kind: Vec<_> = snapshots.iter().filter(|snapshot| snapshot.scheduled == scheduled).collect();
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    of_kind.iter().take(of_kind.len().saturating_sub(keep)).map(|snapshot| snapshot.name.clone()).collect()
}

/// Putting back.
impl Task {
    /// Puts a snapshot in the place of what the instance is. Its history goes on; it is not part of a snapshot. May be done again after a crash
    /// at any point.
    pub(super) async fn revert(&mut self, name: &SnapshotName) -> Result<(), FleetError> {
        let (snapshot, from) = (self.kept(name)?.clone(), self.snapshot_folder(name));
        let (instance, disks) = (self.host.folder(&self.record.id), self.record.spec.disks.clone());
        let with_memory = snapshot.memory.is_some();
        self.interrupt_compression().await?;
        let installed = blocking(move || install(&from, &instance, &disks, with_memory)).await;
        self.plan_compression(&self.record.snapshots);
        installed?;
        self.reverted(snapshot).await
    }

    async fn reverted(&mut self, snapshot: Snapshot) -> Result<(), FleetError> {
        let (at, was_asleep) = (self.reading(self.now()), matches!(self.live.state, State::Standby { .. }));
        let Snapshot { memory, vcpus, memory_bytes, disks, .. } = snapshot;
        self.change_record(|record| {
            (record.spec.vcpus, record.spec.memory_bytes) = (vcpus, memory_bytes);
            for (now, then) in record.spec.disks.iter_mut().zip(&disks) {
                now.size_bytes = then.size_bytes;
            }
        });
        let (disk_bytes, kept_bytes) = (self.record.spec.disk_bytes(), self.kept_bytes());
        let live = &mut self.live;
        live.intent = None;
        (live.exit_code, live.exit_message, live.cause) = (None, None, None);
        live.program_started = memory.is_some_and(|memory| memory.program_started);
        live.agent_ready = memory.is_some_and(|memory| memory.agent_ready);
        live.stopped = Some(at.meter);
        live.shape.vcpus = vcpus;
        live.shape.memory_bytes = memory.map_or(memory_bytes, |memory| memory.guest_bytes);
        live.shape.disk_bytes = disk_bytes;
        live.shape.snapshot_bytes = kept_bytes + memory.map_or(0, |memory| memory.bytes);
        let event = match memory {
            Some(memory) => Event::Reverted { ready: memory.ready },
            None if was_asleep => Event::Exited(ExitCause::Discarded),
            None => Event::Reshaped,
        };
        self.enter_at(event, at).await
    }
}

/// Puts the files of a snapshot in the place of an instance's own, each at once.
fn install(snapshot: &Path, instance: &Path, disks: &[Disk], with_memory: bool) -> Result<(), FleetError> {
    let standby = standby_folder(instance);
    let partial = copy::aside(&standby);
    if with_memory {
        // First: if it is damaged, nothing has changed.
        copy::remove(&partial).map_err(on_disk("remove", &partial))?;
        lay_memory(&memory_folder(snapshot), &partial)?;
    }
    copy::remove(&standby).map_err(on_disk("remove", &standby))?;
    for (index, disk) in writable(disks) {
        let replace = || {
            let partial = copy::aside(&disk.path);
            if partial.exists() {
                fs::remove_file(&partial)?;
            }
            copy::file(&disk_file(snapshot, index), &partial)?;
            copy::publish(&disk.path)
        };
        replace().map_err(on_disk("replace", &disk.path))?;
    }
    if with_memory { copy::publish(&standby).map_err(on_disk("write", &standby)) } else { Ok(()) }
}

/// By itself.
impl Task {
    /// Takes the snapshot that the schedule wants, unless nothing has changed since the last one; either way the next is planned.
    pub(super) async fn take_scheduled_snapshot(&mut self) -> Result<(), FleetError> {
        let Some(schedule) = self.record.spec.schedule.clone() else {
            self.live.snapshot_due_ns = None;
            return self.keep().await;
        };
        self.live.snapshot_due_ns = next_due(&schedule, self.host.clock.now());
        if decide(self.live.state, Command::Snapshot) != Decision::Act || self.is_unchanged() {
            return self.keep().await;
        }
        let name = self.scheduled_name(&schedule.prefix)?;
        let new =
            NewSnapshot { name, tags: Default::default(), keep: Some(schedule.keep), compress: schedule.compress };
        let outcome = self.carry_out(Request::Snapshot(new), Asker::Schedule).await;
        if outcome.is_err() {
            // The plan may have been stored with the intent, or not at all.
            self.keep().await?;
        }
        outcome
    }

    /// Nothing has run since the last snapshot that the schedule took.
    fn is_unchanged(&self) -> bool {
        let last = self.record.snapshots.iter().rev().find(|snapshot| snapshot.scheduled);
        let rests = matches!(self.live.state, State::Stopped | State::Standby { .. });
        rests && last.is_some_and(|last| self.live.stopped.is_some_and(|stopped| last.created_ns >= stopped.0))
    }

    /// The prefix and the calendar's time, as in `daily-20260131-120000`.
    fn scheduled_name(&self, prefix: &str) -> Result<SnapshotName, FleetError> {
        let utc_ns = self.host.calendar.utc_ns(self.host.clock.now());
        let time = chrono::DateTime::from_timestamp_nanos(utc_ns).format("%Y%m%d-%H%M%S");
        let name = format!("{prefix}-{time}");
        // The calendar may be set back.
        let names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}")));
        let free = |name: &String| !self.record.snapshots.iter().any(|snapshot| snapshot.name.as_str() == name);
        Ok(names.take(limits::KEPT_MAX + 1).find(free).unwrap_or(name).parse()?)
    }
}

/// When the next snapshot of a schedule is due, after one at `now`.
pub(super) fn next_due(schedule: &Schedule, now: Instant) -> Option<i64> {
    let jitter_ms = rand::rng().random_range(0..=schedule.jitter_ms);
    let wait_ms = schedule.interval_ms.saturating_add(jitter_ms);
    now.after(Nanos(wait_ms.saturating_mul(1_000_000))).map(|at| at.0)
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
        let kept = [snapshot("a", true), snapshot("b", false), snapshot("c", true), snapshot("d", true)];
        let names =
            |scheduled, keep| superfluous(&kept, scheduled, keep).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(true, 1), ["a", "c"]);
        assert_eq!(names(true, 2), ["a"]);
        assert_eq!(names(true, 3), [""; 0]);
        assert_eq!(names(false, 1), [""; 0]);
    }

    #[test]
    fn a_schedule_is_late_by_its_jitter_at_most_and_never_early() {
        let schedule =
            Schedule { interval_ms: 60_000, jitter_ms: 5_000, keep: 1, prefix: "daily".into(), compress: false };
        for _ in 0..1_000 {
            let due = next_due(&schedule, Instant(7)).unwrap();
            assert!((60_000_000_007..=65_000_000_007).contains(&due), "{due}");
        }
        let never = Schedule { interval_ms: u64::MAX, ..schedule };
        assert_eq!(next_due(&never, Instant(i64::MAX)), None);
    }
}
