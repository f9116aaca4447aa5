//! Where an instance is found: its last published view, and the mailbox of its task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use super::error::FleetError;
use super::live::View;
use super::record::Snapshot;
use super::request::{Child, Request, Target};
use super::settings::Amendment;
use crate::hypervisor::StopSignal;
use crate::id::{InstanceId, InstanceName, SnapshotName, TenantId};
use crate::journal::Row;
use crate::limits::{fork, queue};

/// Something for the task that owns the instance to do.
pub(super) enum Order {
    /// Boot an instance that was just accepted, and answer.
    Boot { reply: Reply },
    /// Find out after a restart of the daemon what became of the instance.
    Recover,
    /// Carry out a request, and answer.
    Carry { request: Request, reply: Reply },
    /// Make the forks that wait in the slot.
    Fork,
    /// Change what is on record, and answer.
    Amend { amendment: Box<Amendment>, reply: Reply },
    /// Activity was reported; restore it from standby if `wake`, and answer.
    Activity { wake: bool, reply: Reply },
    /// The answer of its workload to a probe of this launch, which was made after so many pauses.
    Probed { incarnation: u32, pauses: u64, answer: Result<(), String> },
    /// A snapshot was compressed.
    Compressed(Compressed),
    /// Something of its own is due.
    Due,
    /// Ask again for the accounts that a failed policy has not given.
    Reaccount,
}

/// Where the caller of an order waits.
pub(super) type Reply = oneshot::Sender<Result<Arc<View>, FleetError>>;

/// A fork that a client asks for.
#[derive(Debug, Clone)]
pub struct NewFork {
    /// Unique within the tenant.
    pub name: InstanceName,
    /// An instance that runs may be held for a moment.
    pub from_running: bool,
    /// Where the fork is to stand; none for where its source stands, or stood when the snapshot was
    /// taken.
    pub target: Option<Target>,
    /// The snapshot that it is made of; none for the source as it is.
    pub snapshot: Option<SnapshotName>,
}

/// A fork that waits.
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

/// A snapshot whose memory was compressed. Its instant tells it from another one of the same name.
#[derive(Clone)]
pub(super) struct Compressed {
    pub(super) name: SnapshotName,
    pub(super) created_ns: i64,
    /// Bytes on disk of its memory from now on.
    pub(super) bytes: u64,
}

/// An instance that the host knows. It costs no task while nothing happens to it.
pub(super) struct Slot {
    pub(super) id: InstanceId,
    pub(super) tenant: TenantId,
    pub(super) name: InstanceName,
    pub(super) row: Row,
    view: watch::Sender<Arc<View>>,
    mailbox: Mutex<Option<mpsc::Sender<Order>>>,
    /// Forks that wait. They are made together: those that come while some are made share the next
    /// copy.
    forks: Mutex<Vec<ForkOrder>>,
    /// The signal at which the compression of its snapshots stops.
    leave: Mutex<StopSignal>,
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
        }
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

    /// Puts an order into the mailbox, which `start` begins to empty if nobody does so far.
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

    /// Takes a fork in, which waits until the instance's task comes to it; `post` hands in the
    /// order to make those that wait.
    pub(super) fn add_fork(
        &self,
        order: ForkOrder,
        post: impl FnOnce() -> Result<(), FleetError>,
    ) -> Result<(), FleetError> {
        let mut forks = self.forks();
        if forks.len() >= fork::WAITING_MAX {
            return Err(FleetError::Busy(fork::WAITING_MAX));
        }
        // With one that waits, the order is in the mailbox already.
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

    /// The signal at which the compression of its snapshots stops.
    pub(super) fn leave(&self) -> MutexGuard<'_, StopSignal> {
        self.leave.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The work of compressing those of `snapshots` that are to be compressed and, as far as is
    /// known, are not.
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

    /// Closes the mailbox if nothing waits in it; the task may then end. Otherwise answers what
    /// waits.
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
