//! Forks: new instances made of another one, as it is or as a snapshot of it was.
//!
//! The source is held only while it is copied once, however many forks are made of the copy. A fork is on record when it is complete, and its
//! time begins then. What a crash leaves of one that is not lies in a folder that no record knows, and is swept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::copy;
use super::create::first_state;
use super::error::FleetError;
use super::host::Host;
use super::operate::discard;
use super::record::{Live, Record, SavedMemory, Spec, View};
use super::request::{Child, Request, Target};
use super::slot::Slot;
use super::snapshot::{disk_file, lay_memory, memory_folder, on_disk, writable};
use super::task::{Task, blocking, standby_folder};
use super::{Fleet, create};
use crate::billing::InstanceFact;
use crate::hypervisor::Capability;
use crate::id::{InstanceId, InstanceName, SnapshotName, TenantId};
use crate::limits::instance::KNOWN_MAX;
use crate::vm::{Asker, Decision, State, decide};

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct NewFork {
    /// Unique within the tenant.
    pub name: InstanceName,
    /// An instance that runs may be held for a moment.
    pub from_running: bool,
    /// Where the fork is to stand; none for where its source stands, or stood when the snapshot was taken.
    pub target: Option<Target>,
    /// What it is made of; none for the source as it is.
    pub snapshot: Option<SnapshotName>,
}

/// A fork that waits.
pub(super) struct ForkOrder {
    new: NewFork,
    id: InstanceId,
    reply: oneshot::Sender<Result<Arc<View>, FleetError>>,
}

/// Whoever is to hear of a fork under way.
pub(super) struct Expecting {
    child: Child,
    reply: oneshot::Sender<Result<Arc<View>, FleetError>>,
}

/// What forks are made of: files of the source as it was at an instant, and what is known of it.
#[derive(Clone)]
struct Mould {
    /// The folder with the disks, as a snapshot has it.
    disks: PathBuf,
    /// Of whatever has memory: the folder that a hypervisor restores from.
    memory_folder: PathBuf,
    memory: Option<SavedMemory>,
    spec: Spec,
    snapshot: Option<SnapshotName>,
}

impl Fleet {
    /// Makes a new instance of another one; answers when it stands where it is to stand.
    ///
    /// # Errors
    /// See [`FleetError`]. If it was made and could not be brought there, it exists and says why.
    pub async fn fork(&self, tenant: &TenantId, id: &InstanceId, new: NewFork) -> Result<Arc<View>, FleetError> {
        let slot = self.slot(tenant, id)?;
        {
            let directory = self.0.directory();
            if directory.by_row.len() >= KNOWN_MAX {
                return Err(FleetError::TooMany(KNOWN_MAX));
            }
            if directory.by_name.contains_key(&(tenant.clone(), new.name.clone())) {
                return Err(FleetError::NameInUse(new.name));
            }
        }
        let (reply, answer) = oneshot::channel();
        let (host, owned) = (self.0.clone(), slot.clone());
        slot.send_fork(ForkOrder { new, id: InstanceId::random(), reply }, |orders| {
            tokio::spawn(Task::new(host, owned, orders).run());
        })?;
        answer.await.map_err(|_| FleetError::Stopping)?
    }
}

impl Task {
    /// Makes all forks that wait, those of one mould together.
    pub(super) async fn make_forks(&mut self) {
        let mut waiting = self.slot.take_forks();
        while let Some(first) = waiting.first() {
            let snapshot = first.new.snapshot.clone();
            let (group, rest) = waiting.into_iter().partition(|order| order.new.snapshot == snapshot);
            waiting = rest;
            self.make_group(snapshot, group).await;
        }
    }

    async fn make_group(&mut self, snapshot: Option<SnapshotName>, orders: Vec<ForkOrder>) {
        let found = self.find_again().await;
        for ForkOrder { new, id, reply } in orders {
            // A caller that went away has nothing to hear.
            match found.clone().and_then(|()| self.target_of(&new)) {
                Ok(target) => self.expecting.push(Expecting { child: Child { id, name: new.name, target }, reply }),
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        let children: Vec<_> = self.expecting.iter().map(|expecting| expecting.child.clone()).collect();
        if children.is_empty() {
            return;
        }
        let outcome = self.carry_out(Request::Fork { children, snapshot }, Asker::Client).await;
        for expecting in self.expecting.drain(..) {
            let error = outcome.clone().err().unwrap_or_else(|| FleetError::Bug("a fork was forgotten".into()));
            let _ = expecting.reply.send(Err(error));
        }
    }

    /// Where a fork is to stand, if it can be made now.
    fn target_of(&self, new: &NewFork) -> Result<Target, FleetError> {
        let state = self.live.state;
        let (has_memory, default) = match &new.snapshot {
            Some(name) => match self.kept(name)?.memory {
                Some(_) => (true, Target::Running),
                None => (false, Target::Stopped),
            },
            None => match state {
                State::Initializing | State::Running if !new.from_running => return Err(FleetError::SourceRuns),
                State::Initializing | State::Running => (true, Target::Running),
                State::Paused { .. } | State::Standby { .. } => (true, Target::Standby),
                State::Created | State::Shutdown | State::Stopped | State::Unknown | State::Deleted => {
                    (false, Target::Stopped)
                }
            },
        };
        if let Decision::Deny(refusal) = decide(state, crate::vm::Command::Fork) {
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
        let mould = match &snapshot {
            Some(name) => self.mould_of(name, memory).await?,
            None => self.cast(memory).await?,
        };
        let born = self.bear(children, &mould).await;
        discard(&self.mould_folder()).await?;
        let born = born?;
        self.forked(born.iter().map(|(child, _)| child.id.clone()), snapshot).await?;
        for (child, slot) in born {
            self.deliver(&child, slot);
        }
        Ok(())
    }

    /// What a snapshot holds. If its memory is compressed, it is decompressed once for all forks.
    async fn mould_of(&self, name: &SnapshotName, memory: bool) -> Result<Mould, FleetError> {
        let kept = self.kept(name)?;
        let mut spec = self.record.spec.clone();
        (spec.vcpus, spec.memory_bytes, spec.disks) = (kept.vcpus, kept.memory_bytes, kept.disks.clone());
        let memory = kept.memory.filter(|_| memory);
        let (disks, folder) = (self.snapshot_folder(name), self.mould_folder());
        if memory.is_some() {
            let (from, to) = (memory_folder(&disks), folder.clone());
            self.interrupt_compression().await?;
            let laid = blocking(move || {
                copy::fresh_folder(&to).map_err(on_disk("make the folder", &to))?;
                lay_memory(&from, &memory_folder(&to))
            })
            .await;
            self.plan_compression(&self.record.snapshots);
            if laid.is_err() {
                discard(&folder).await?;
            }
            laid?;
        }
        Ok(Mould { memory_folder: memory_folder(&folder), disks, memory, spec, snapshot: Some(name.clone()) })
    }

    /// Copies the instance as it is, and lets it run again if it ran.
    async fn cast(&mut self, memory: bool) -> Result<Mould, FleetError> {
        let folder = self.mould_folder();
        self.hold().await?;
        let captured = self.capture(&folder, memory).await;
        if captured.is_err() {
            discard(&folder).await?;
        }
        self.wake_if_it_ran().await?;
        let memory = captured?;
        let mut spec = self.record.spec.clone();
        if memory.is_none() {
            spec.memory_bytes = self.live.shape.memory_bytes;
        }
        Ok(Mould { memory_folder: memory_folder(&folder), disks: folder, memory, spec, snapshot: None })
    }

    fn mould_folder(&self) -> PathBuf {
        copy::aside(&self.host.folder(&self.record.id).join("fork"))
    }

    /// Makes each fork and puts it on record, side by side. Answers which were made; an error if none was.
    async fn bear(&mut self, children: Vec<Child>, mould: &Mould) -> Result<Vec<(Child, Arc<Slot>)>, FleetError> {
        let mut births = JoinSet::new();
        for child in children {
            let (host, mould, parent) = (self.host.clone(), mould.clone(), self.record.clone());
            births.spawn(async move {
                let born = bear_one(&host, &parent, &child, mould).await;
                (child, born)
            });
        }
        let (mut born, mut failure) = (Vec::new(), None);
        while let Some(joined) = births.join_next().await {
            let (child, outcome) = joined.map_err(|error| FleetError::Bug(error.to_string()))?;
            match outcome {
                Ok(slot) => born.push((child, slot)),
                Err(error) => {
                    self.disappoint(&child, error.clone());
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if born.is_empty() => Err(error),
            Some(_) | None => Ok(born),
        }
    }

    /// The fork is there: brings it to where it is to stand, and then answers. The source does not wait for it.
    fn deliver(&mut self, child: &Child, slot: Arc<Slot>) {
        let reply = self.expected(child).map(|expecting| expecting.reply);
        let (fleet, target) = (Fleet(self.host.clone()), child.target);
        tokio::spawn(async move {
            let outcome = fleet.bring(&slot, target).await;
            if let Some(reply) = reply {
                let _ = reply.send(outcome);
            }
        });
    }

    fn disappoint(&mut self, child: &Child, error: FleetError) {
        if let Some(expecting) = self.expected(child) {
            let _ = expecting.reply.send(Err(error));
        }
    }

    fn expected(&mut self, child: &Child) -> Option<Expecting> {
        let at = self.expecting.iter().position(|expecting| expecting.child.id == child.id)?;
        Some(self.expecting.swap_remove(at))
    }

    async fn forked(
        &mut self,
        born: impl Iterator<Item = InstanceId>,
        snapshot: Option<SnapshotName>,
    ) -> Result<(), FleetError> {
        self.live.intent = None;
        let at = self.reading(self.now());
        let parent = self.record.id.clone();
        let forked = |child| InstanceFact::Forked { parent: parent.clone(), child, snapshot: snapshot.clone() };
        let facts = born.map(|child| (at.clone(), forked(child))).collect();
        self.record(facts).await
    }

    /// After a restart in the middle of a fork: those that were made are on record, the others were never there.
    pub(super) async fn finish_fork(
        &mut self,
        children: Vec<Child>,
        snapshot: Option<SnapshotName>,
    ) -> Result<(), FleetError> {
        discard(&self.mould_folder()).await?;
        let born: Vec<_> = {
            let directory = self.host.directory();
            children.into_iter().map(|child| child.id).filter(|id| directory.by_id.contains_key(id)).collect()
        };
        if born.is_empty() {
            return self.undo_hold().await;
        }
        self.wake_if_it_ran().await?;
        self.forked(born.into_iter(), snapshot).await
    }
}

impl Fleet {
    /// Brings a fork to where it is to stand.
    async fn bring(&self, slot: &Arc<Slot>, target: Target) -> Result<Arc<View>, FleetError> {
        let request = match (target, slot.view().live.state) {
            (Target::Running, State::Standby { .. }) => Request::Restore,
            (Target::Running, _) => Request::Start,
            (Target::Standby | Target::Stopped, _) => return Ok(slot.view()),
        };
        self.request(&slot.tenant, &slot.id, request).await
    }
}

/// Lays out the folder of a fork and puts it on record.
async fn bear_one(host: &Arc<Host>, parent: &Record, child: &Child, mould: Mould) -> Result<Arc<Slot>, FleetError> {
    let folder = host.folder(&child.id);
    let memory = mould.memory.filter(|_| child.target != Target::Stopped);
    let mut spec = mould.spec.clone();
    create::own_disks(&mut spec.disks, &host.folder(&parent.id), &folder);
    let (from, to, disks) = (mould.clone(), folder.clone(), spec.disks.clone());
    let laid_out = blocking(move || lay_out(&from, &to, &disks, memory.is_some())).await;
    spec.created_ns = host.clock.now().0;
    (spec.expiry, spec.schedule) = (None, None);
    let record = Record {
        id: child.id.clone(),
        tenant: parent.tenant.clone(),
        name: child.name.clone(),
        spec,
        snapshots: Vec::new(),
    };
    let forked =
        InstanceFact::Forked { parent: parent.id.clone(), child: child.id.clone(), snapshot: mould.snapshot.clone() };
    let live = fork_state(&record.spec, memory);
    let born = match laid_out {
        Ok(()) => host.insert(record, live, vec![forked]).await,
        Err(error) => Err(error),
    };
    if born.is_err()
        && let Err(left) = discard(&folder).await
    {
        tracing::warn!(error = %left, "the folder of a fork that was not made is left");
    }
    born
}

fn lay_out(mould: &Mould, folder: &Path, disks: &[super::record::Disk], memory: bool) -> Result<(), FleetError> {
    copy::fresh_folder(folder).map_err(on_disk("make the folder", folder))?;
    for (index, disk) in writable(disks) {
        let from = disk_file(&mould.disks, index);
        copy::file(&from, &disk.path).map_err(on_disk("copy", &from))?;
    }
    if memory {
        let from = &mould.memory_folder;
        copy::link_folder(from, &standby_folder(folder)).map_err(on_disk("link", from))?;
    }
    let parent = folder.parent().unwrap_or(Path::new("/"));
    copy::sync(folder).and_then(|()| copy::sync(parent)).map_err(on_disk("sync", folder))
}

/// Where a fork stands at first: in standby with the memory of its source, or stopped. Its time begins with nothing.
fn fork_state(spec: &Spec, memory: Option<SavedMemory>) -> Live {
    let first = first_state(spec);
    let Some(memory) = memory else {
        return Live { state: State::Stopped, session: 0, incarnation: 0, intent: None, ..first };
    };
    let mut shape = first.shape;
    (shape.memory_bytes, shape.snapshot_bytes) = (memory.guest_bytes, memory.bytes);
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
