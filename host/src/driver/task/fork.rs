//! Forks: new instances made of the present state or of a snapshot of another one.
//!
//! The source is held only while it is copied once, for any number of forks. A fork is recorded
//! when it is complete, and its time begins then. After a crash, the folder of an incomplete fork
//! has no record, and is moved aside at the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Task;
use crate::billing::InstanceFact;
use crate::driver::admission::Claim;
use crate::driver::copy;
use crate::driver::error::FleetError;
use crate::driver::files::{
    blocking, discard, disk_file, lay_memory, memory_folder, on_disk, own_disks, standby_folder,
    writable,
};
use crate::driver::host::Host;
use crate::driver::live::{Live, View};
use crate::driver::mailbox::{ForkOrder, NewFork, PendingFork, Slot};
use crate::driver::record::{Disk, Network, NetworkWish, Record, SavedMemory, Spec};
use crate::driver::request::{Child, Request, Target};
use crate::driver::settings::Share;
use crate::hypervisor::Capability;
use crate::id::{InstanceId, SnapshotName};
use crate::vm::{Asker, Command, Decision, State, decide};

/// The files of a source at an instant, with its settings: the origin of forks.
#[derive(Clone)]
struct ForkImage {
    /// The folder with the disks, as a snapshot has it.
    disks: PathBuf,
    /// The folder that a hypervisor restores from; exists if `memory` is some.
    memory_folder: PathBuf,
    memory: Option<SavedMemory>,
    spec: Spec,
    snapshot: Option<SnapshotName>,
}

impl Task {
    /// Makes all waiting forks, those of one snapshot together.
    pub(super) async fn make_forks(&mut self) {
        let mut waiting = self.slot.take_forks();
        while let Some(first) = waiting.first() {
            let snapshot = first.new.snapshot.clone();
            let (group, rest) =
                waiting.into_iter().partition(|order| order.new.snapshot == snapshot);
            waiting = rest;
            self.make_group(snapshot, group).await;
        }
    }

    async fn make_group(&mut self, snapshot: Option<SnapshotName>, orders: Vec<ForkOrder>) {
        let recovered = self.ensure_recovered().await;
        for ForkOrder { new, id, reply } in orders {
            // The caller may have gone away.
            match recovered.clone().and_then(|()| self.target_of(&new)) {
                Ok(target) => {
                    let child = Child { id, name: new.name, target };
                    self.forks.push(PendingFork { child, reply });
                }
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        let children: Vec<_> = self.forks.iter().map(|fork| fork.child.clone()).collect();
        if children.is_empty() {
            return;
        }
        let outcome = self.carry_out(Request::Fork { children, snapshot }, Asker::Client).await;
        for fork in self.forks.drain(..) {
            let forgotten = || FleetError::Bug("a fork was forgotten".into());
            let error = outcome.clone().err().unwrap_or_else(forgotten);
            let _ = fork.reply.send(Err(error));
        }
    }

    /// The target of a fork, if it can be made now.
    fn target_of(&self, new: &NewFork) -> Result<Target, FleetError> {
        let state = self.state();
        let (has_memory, default) = match &new.snapshot {
            Some(name) => match self.kept(name)?.memory {
                Some(_) => (true, Target::Running),
                None => (false, Target::Stopped),
            },
            None => match state {
                State::Initializing | State::Running if !new.from_running => {
                    return Err(FleetError::SourceRuns);
                }
                State::Initializing | State::Running => (true, Target::Running),
                State::Paused { .. } | State::Standby { .. } => (true, Target::Standby),
                State::Created
                | State::Shutdown
                | State::Stopped
                | State::Unknown
                | State::Deleted => (false, Target::Stopped),
            },
        };
        if let Decision::Deny(refusal) = decide(state, Command::Fork) {
            return Err(refusal.into());
        }
        match new.target.unwrap_or(default) {
            Target::Standby if !has_memory => Err(FleetError::NoMemory),
            target @ (Target::Standby | Target::Running) if has_memory => {
                self.require(Capability::Snapshots).map(|()| target)
            }
            target => Ok(target),
        }
    }

    /// Makes the forks and answers for each of them.
    pub(super) async fn fork(
        &mut self,
        children: Vec<Child>,
        snapshot: Option<SnapshotName>,
    ) -> Result<(), FleetError> {
        let memory = children.iter().any(|child| child.target != Target::Stopped);
        let image = match &snapshot {
            Some(name) => self.image_of_snapshot(name, memory).await?,
            None => self.capture_image(memory).await?,
        };
        let created = self.create_forks(children, &image).await;
        discard(&self.image_folder()).await?;
        let created = created?;
        self.forked(created.iter().map(|(child, _)| child.id.clone()), snapshot).await?;
        for (child, slot) in created {
            self.bring_and_reply(&child, slot);
        }
        Ok(())
    }

    /// The image of a snapshot. Compressed memory is decompressed once for all forks.
    async fn image_of_snapshot(
        &self,
        name: &SnapshotName,
        memory: bool,
    ) -> Result<ForkImage, FleetError> {
        let kept = self.kept(name)?;
        let mut spec = self.recorder.record.spec.clone();
        spec.vcpus = kept.vcpus;
        spec.memory_bytes = kept.memory_bytes;
        spec.disks = kept.disks.clone();
        let memory = kept.memory.filter(|_| memory);
        let disks = self.snapshot_folder(name);
        let folder = self.image_folder();
        if memory.is_some() {
            let from = memory_folder(&disks);
            let to = folder.clone();
            self.interrupt_compression().await?;
            let laid = blocking(move || {
                copy::fresh_folder(&to).map_err(on_disk("make the folder", &to))?;
                lay_memory(&from, &memory_folder(&to))
            })
            .await;
            self.plan_compression();
            if laid.is_err() {
                discard(&folder).await?;
            }
            laid?;
        }
        let memory_folder = memory_folder(&folder);
        Ok(ForkImage { disks, memory_folder, memory, spec, snapshot: Some(name.clone()) })
    }

    /// Copies the present state of the instance, and lets it run again if it ran.
    async fn capture_image(&mut self, memory: bool) -> Result<ForkImage, FleetError> {
        let folder = self.image_folder();
        self.pause_if_running().await?;
        let captured = self.capture(&folder, memory).await;
        if captured.is_err() {
            discard(&folder).await?;
        }
        self.resume_if_paused_for_request().await?;
        let memory = captured?;
        let mut spec = self.recorder.record.spec.clone();
        if memory.is_none() {
            spec.memory_bytes = self.live().shape.memory_bytes;
        }
        let memory_folder = memory_folder(&folder);
        Ok(ForkImage { memory_folder, disks: folder, memory, spec, snapshot: None })
    }

    fn image_folder(&self) -> PathBuf {
        copy::aside(&self.recorder.folder().join("fork"))
    }

    /// Makes and records the forks, in parallel. Returns those that were made; an error if none
    /// was.
    async fn create_forks(
        &mut self,
        children: Vec<Child>,
        image: &ForkImage,
    ) -> Result<Vec<(Child, Arc<Slot>)>, FleetError> {
        let mut making = JoinSet::new();
        for child in children {
            let host = self.host.clone();
            let parent = self.recorder.record.clone();
            let image = image.clone();
            making.spawn(async move {
                let created = create_fork(&host, &parent, &child, image).await;
                (child, created)
            });
        }
        let mut all = Vec::new();
        let mut failure = None;
        while let Some(joined) = making.join_next().await {
            let (child, created) = joined.map_err(|error| FleetError::Bug(error.to_string()))?;
            match created {
                Ok(slot) => all.push((child, slot)),
                Err(error) => {
                    self.fail_reply(&child, error.clone());
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if all.is_empty() => Err(error),
            Some(_) | None => Ok(all),
        }
    }

    /// Brings a recorded fork to its target, then answers its caller. The source does not wait for
    /// it.
    fn bring_and_reply(&mut self, child: &Child, slot: Arc<Slot>) {
        let reply = self.pending(child).map(|fork| fork.reply);
        let host = self.host.clone();
        let target = child.target;
        tokio::spawn(async move {
            let outcome = bring(&host, &slot, target).await;
            if let Some(reply) = reply {
                let _ = reply.send(outcome);
            }
        });
    }

    fn fail_reply(&mut self, child: &Child, error: FleetError) {
        if let Some(fork) = self.pending(child) {
            let _ = fork.reply.send(Err(error));
        }
    }

    fn pending(&mut self, child: &Child) -> Option<PendingFork> {
        let at = self.forks.iter().position(|fork| fork.child.id == child.id)?;
        Some(self.forks.swap_remove(at))
    }

    async fn forked(
        &mut self,
        created: impl Iterator<Item = InstanceId>,
        snapshot: Option<SnapshotName>,
    ) -> Result<(), FleetError> {
        self.recorder.live.complete();
        let at = self.recorder.reading(self.recorder.now());
        let parent = self.recorder.record.id.clone();
        let body = |child| InstanceFact::Forked {
            parent: parent.clone(),
            child,
            snapshot: snapshot.clone(),
        };
        let facts = created.map(|child| (at.clone(), body(child))).collect();
        self.recorder.write(facts).await
    }

    /// Finishes a fork request after a restart: forks that were made are recorded, the others do
    /// not exist.
    pub(super) async fn finish_fork(
        &mut self,
        children: Vec<Child>,
        snapshot: Option<SnapshotName>,
    ) -> Result<(), FleetError> {
        discard(&self.image_folder()).await?;
        let created: Vec<_> = {
            let directory = self.host.directory();
            let ids = children.into_iter().map(|child| child.id);
            ids.filter(|id| directory.by_id.contains_key(id)).collect()
        };
        if created.is_empty() {
            return self.undo_pause().await;
        }
        self.resume_if_paused_for_request().await?;
        self.forked(created.into_iter(), snapshot).await
    }
}

/// Brings a fork to its target.
async fn bring(
    host: &Arc<Host>,
    slot: &Arc<Slot>,
    target: Target,
) -> Result<Arc<View>, FleetError> {
    let request = match (target, slot.view().live.state) {
        (Target::Running, State::Standby { .. }) => Request::Restore,
        (Target::Running, _) => Request::Start,
        (Target::Standby | Target::Stopped, _) => return Ok(slot.view()),
    };
    host.request(slot, request).await
}

/// Lays out the folder of a fork and records it.
async fn create_fork(
    host: &Arc<Host>,
    parent: &Record,
    child: &Child,
    image: ForkImage,
) -> Result<Arc<Slot>, FleetError> {
    let folder = host.folder(&child.id);
    let memory = image.memory.filter(|_| child.target != Target::Stopped);
    let snapshot = image.snapshot.clone();
    let mut spec = image.spec.clone();
    let network = spec.network.as_ref();
    let network = network.map(|source| fork_network(host, source, memory.is_some()));
    spec.network = network.transpose()?;
    let network = spec.network.clone();
    own_disks(&mut spec.disks, &host.folder(&parent.id), &folder);
    spec.created_ns = host.clock.now().0;
    spec.expiry = None;
    spec.schedule = None;
    let record = Record {
        id: child.id.clone(),
        tenant: parent.tenant.clone(),
        name: child.name.clone(),
        spec,
        snapshots: Vec::new(),
    };
    let forked =
        InstanceFact::Forked { parent: parent.id.clone(), child: child.id.clone(), snapshot };
    let live = fork_state(&record.spec, memory);
    let share = Share::of(live.shape);
    let claim = match child.target {
        Target::Running => Claim::of_machine(live.shape),
        Target::Standby | Target::Stopped => Claim::at_rest(live.shape),
    };
    // Before anything is copied: what is refused costs nothing.
    let created = match host.reserve(&record, (Share::default(), share), Some(claim)) {
        Ok(reserved) => {
            let to = folder.clone();
            let disks = record.spec.disks.clone();
            match blocking(move || lay_out(&image, &to, &disks, memory.is_some())).await {
                Ok(()) => {
                    let inserted = host.insert(record, live, vec![forked]).await;
                    inserted.map(|slot| (slot, reserved))
                }
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    let created = created.map(|(slot, _until_found)| {
        host.directory_mut().insert(slot.clone());
        slot
    });
    if created.is_err() {
        host.release(network.as_ref());
    }
    let is_refused = created.as_ref().is_err_and(|error| !error.may_be_recorded());
    if is_refused && let Err(left) = discard(&folder).await {
        tracing::warn!(error = %left, "the folder of a fork that was not made is left");
    }
    created
}

/// The network of a fork: that of its source, with an address of its own.
fn fork_network(host: &Host, source: &Network, memory: bool) -> Result<Network, FleetError> {
    let wish = NetworkWish {
        enabled: Some(true),
        upload_bytes_max: source.upload_bytes_max,
        download_bytes_max: source.download_bytes_max,
        allowed: source.allowed.clone(),
    };
    Ok(Network { is_told: memory, ..host.new_network(wish)? })
}

fn lay_out(
    image: &ForkImage,
    folder: &Path,
    disks: &[Disk],
    memory: bool,
) -> Result<(), FleetError> {
    copy::fresh_folder(folder).map_err(on_disk("make the folder", folder))?;
    for (index, disk) in writable(disks) {
        let from = disk_file(&image.disks, index);
        copy::file(&from, &disk.path).map_err(on_disk("copy", &from))?;
    }
    if memory {
        let from = &image.memory_folder;
        copy::link_folder(from, &standby_folder(folder)).map_err(on_disk("link", from))?;
    }
    let parent = folder.parent().unwrap_or(Path::new("/"));
    copy::sync(folder).and_then(|()| copy::sync(parent)).map_err(on_disk("sync", folder))
}

/// The first state of a fork: in standby with the memory of its source, or stopped. Its account
/// begins empty.
fn fork_state(spec: &Spec, memory: Option<SavedMemory>) -> Live {
    let first = Live::first(spec);
    let Some(memory) = memory else {
        return Live { state: State::Stopped, session: 0, incarnation: 0, intent: None, ..first };
    };
    let mut shape = first.shape;
    shape.memory_bytes = memory.guest_bytes;
    shape.snapshot_bytes = memory.bytes;
    Live {
        state: State::Standby { ready: memory.ready },
        shape,
        session: 1,
        incarnation: 0,
        intent: None,
        program_started: memory.program_started,
        agent_ready: memory.agent_ready,
        ..first
    }
}
