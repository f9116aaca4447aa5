//! The slot of an instance: its last published view, and the mailbox of its task.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use super::error::FleetError;
use super::live::View;
use super::record::Snapshot;
use super::request::{Child, Request, Target};
use super::settings::Amendment;
use crate::billing::Reading;
use crate::guest::Guest;
use crate::hypervisor::StopSignal;
use crate::id::{InstanceId, InstanceName, SnapshotName, TenantId};
use crate::journal::Row;
use crate::limits::{fork, queue};
use crate::tenant::Actor;

/// An order to the task that owns the instance.
pub(super) enum Order {
    /// Boot an instance that was just accepted, and answer.
    Boot { reply: Reply },
    /// Find out, after a restart of the daemon, in which state the instance is.
    Recover,
    /// Carry out a request, and answer.
    Carry { request: Request, reply: Reply },
    /// Make the forks that wait in the slot.
    Fork,
    /// Change settings in the record, and answer.
    Amend { amendment: Box<Amendment>, reply: Reply },
    /// Put on record that somebody goes into the guest, and answer with the way in.
    Visit { visit: Visit, reply: oneshot::Sender<Result<Arc<Guest>, FleetError>> },
    /// Activity was reported; restore it from standby if `wake`, and answer.
    Activity { wake: bool, reply: Reply },
    /// The workload has answered a probe, which was made in this launch and after this many pauses.
    Probed { incarnation: u32, pauses: u64, answer: Result<(), String> },
    /// A snapshot was compressed.
    Compressed(Compressed),
    /// The host was suspended between these readings.
    Suspended { from: Reading, until: Reading },
    /// An act of the instance's own is due.
    Due,
    /// Put the guest's traffic up to now on record, and say so.
    Read { done: oneshot::Sender<()> },
    /// Account again for time that a failed policy has not counted.
    Reaccount,
}

/// The channel on which the caller of an order waits.
pub(super) type Reply = oneshot::Sender<Result<Arc<View>, FleetError>>;

/// A fork that a client asks for.
#[derive(Debug, Clone)]
pub struct NewFork {
    /// Unique within the tenant.
    pub name: InstanceName,
    /// Permits a brief pause of a running source.
    pub from_running: bool,
    /// The state that the fork is brought to. None follows its origin: a snapshot with memory or a
    /// running source gives a running fork, a source in pause or standby one in standby, all else a
    /// stopped one.
    pub target: Option<Target>,
    /// The snapshot that the fork is made of; none for the present state of the source.
    pub snapshot: Option<SnapshotName>,
}

/// Somebody who goes into a guest.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The actor.
    pub by: Actor,
    /// The purpose.
    pub purpose: Purpose,
    /// The command, or the path.
    pub about: String,
}

/// The purposes of visits to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run a command.
    Exec,
    /// To write files.
    CopyIn,
    /// To read files.
    CopyOut,
    /// To look at a path.
    Stat,
}

impl Purpose {
    /// The word that goes on record.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Exec => "exec",
            Purpose::CopyIn => "copy-in",
            Purpose::CopyOut => "copy-out",
            Purpose::Stat => "stat",
        }
    }
}

/// A waiting fork.
pub(super) struct ForkOrder {
    pub(super) new: NewFork,
    pub(super) id: InstanceId,
    pub(super) reply: Reply,
}

/// A fork under way, and its caller.
pub(super) struct PendingFork {
    pub(super) child: Child,
    pub(super) reply: Reply,
}

/// A snapshot to be compressed.
pub(super) struct CompressionJob {
    pub(super) slot: Arc<Slot>,
    pub(super) compressed: Compressed,
    pub(super) leave: StopSignal,
}

/// A snapshot whose memory was compressed. Its instant distinguishes it from a later one of the
/// same name.
#[derive(Clone)]
pub(super) struct Compressed {
    pub(super) name: SnapshotName,
    pub(super) created_ns: i64,
    /// Bytes on disk of the compressed memory.
    pub(super) bytes: u64,
}

/// An instance that the host knows. It has no task while it is at rest.
pub(super) struct Slot {
    pub(super) id: InstanceId,
    pub(super) tenant: TenantId,
    pub(super) name: InstanceName,
    pub(super) row: Row,
    view: watch::Sender<Arc<View>>,
    mailbox: Mutex<Option<mpsc::Sender<Order>>>,
    /// Waiting forks. They are made together: forks that arrive while others are made share the
    /// next copy.
    forks: Mutex<Vec<ForkOrder>>,
    /// The signal that stops the compression of the instance's snapshots.
    leave: Mutex<StopSignal>,
    /// Set from the daemon's start until the instance's task has found out what became of it.
    unseen: AtomicBool,
}

impl Slot {
    pub(super) fn new(row: Row, view: View) -> Self {
        let record = &view.record;
        Self {
            id: record.id.clone(),
            tenant: record.tenant.clone(),
            name: record.name.clone(),
            row,
            view: watch::Sender::new(Arc::new(view)),
            mailbox: Mutex::default(),
            forks: Mutex::default(),
            leave: Mutex::default(),
            unseen: AtomicBool::new(false),
        }
    }

    /// Notes whether facts of an earlier run of the daemon may still be missing.
    pub(super) fn set_unseen(&self, unseen: bool) {
        self.unseen.store(unseen, Ordering::Release);
    }

    /// Returns whether the daemon has not yet found out what became of the instance while it was
    /// down.
    pub(super) fn is_unseen(&self) -> bool {
        self.unseen.load(Ordering::Acquire)
    }

    /// The last published view.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    pub(super) fn publish(&self, view: View) -> Arc<View> {
        let view = Arc::new(view);
        self.view.send_replace(view.clone());
        view
    }

    /// Puts an order into the mailbox; `start` is called with the receiver if no task has it.
    pub(super) fn post(
        &self,
        order: Order,
        start: impl FnOnce(mpsc::Receiver<Order>),
    ) -> Result<(), FleetError> {
        let mut mailbox = self.mailbox();
        let sender = mailbox.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(queue::INSTANCE_COMMANDS_MAX);
            start(receiver);
            sender
        });
        sender.try_send(order).map_err(|_| FleetError::Busy(queue::INSTANCE_COMMANDS_MAX))
    }

    /// Adds a fork to those that wait. The first of them calls `post`, which puts a message into
    /// the mailbox: to make all forks that wait by then.
    pub(super) fn add_fork(
        &self,
        order: ForkOrder,
        post: impl FnOnce() -> Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        let mut forks = self.forks();
        if forks.len() >= fork::WAITING_MAX {
            return Err(FleetError::Busy(fork::WAITING_MAX));
        }
        // If another fork waits, the order is in the mailbox already.
        if forks.is_empty() {
            post()?;
        }
        forks.push(order);
        Ok(())
    }

    /// The forks that wait.
    pub(super) fn take_forks(&self) -> Vec<ForkOrder> {
        std::mem::take(&mut self.forks())
    }

    /// The signal that stops the compression of the instance's snapshots.
    pub(super) fn leave(&self) -> MutexGuard<'_, StopSignal> {
        self.leave.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The compression jobs for those of `snapshots` that wait for compression.
    pub(super) fn compression_jobs(
        self: &Arc<Self>,
        snapshots: &[Snapshot],
    ) -> impl Iterator<Item = CompressionJob> {
        let leave = self.leave().clone();
        let waiting = snapshots.iter().filter(|snapshot| snapshot.waits_for_compression());
        waiting.map(move |Snapshot { name, created_ns, .. }| CompressionJob {
            slot: self.clone(),
            compressed: Compressed { name: name.clone(), created_ns: *created_ns, bytes: 0 },
            leave: leave.clone(),
        })
    }

    fn forks(&self) -> MutexGuard<'_, Vec<ForkOrder>> {
        self.forks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the mailbox if it is empty, so that the task may end; otherwise returns the next
    /// order.
    pub(super) fn retire(&self, orders: &mut mpsc::Receiver<Order>) -> Option<Order> {
        let mut mailbox = self.mailbox();
        let waiting = orders.try_recv().ok();
        if waiting.is_none() {
            *mailbox = None;
        }
        waiting
    }

    fn mailbox(&self) -> MutexGuard<'_, Option<mpsc::Sender<Order>>> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
