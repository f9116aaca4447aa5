//! Where an instance is found: its last published view, and the mailbox of its task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use super::amend::Amendment;
use super::compress::Packed;
use super::error::FleetError;
use super::fork::ForkOrder;
use super::record::View;
use super::request::Request;
use crate::hypervisor::Leave;
use crate::id::{InstanceId, InstanceName, TenantId};
use crate::journal::Row;
use crate::limits::{fork, queue};

/// Something for the task that owns the instance to do.
pub(super) enum Order {
    /// Carry out a request, and answer.
    Carry { request: Request, reply: Reply },
    /// Make the forks that wait in the slot.
    Fork,
    /// Change what is on record, and answer.
    Amend { amendment: Box<Amendment>, reply: Reply },
    /// Something came in for it; wake it if that is wanted, and answer.
    Activity { wake: bool, reply: Reply },
    /// What its workload has answered in this launch.
    Probed { incarnation: u32, answer: Result<(), String> },
    /// A snapshot was compressed.
    Packed(Packed),
    /// Something of its own is due.
    Alarm,
    /// Ask again for what a failed policy owes.
    Mend,
}

pub(super) type Reply = oneshot::Sender<Result<Arc<View>, FleetError>>;

/// An instance that the host knows. It costs no task while nothing happens to it.
pub(super) struct Slot {
    pub(super) id: InstanceId,
    pub(super) tenant: TenantId,
    pub(super) name: InstanceName,
    pub(super) row: Row,
    view: watch::Sender<Arc<View>>,
    mailbox: Mutex<Option<mpsc::Sender<Order>>>,
    /// Forks that wait. They are made together: whatever comes while some are made shares the next copy.
    forks: Mutex<Vec<ForkOrder>>,
    /// What tells the compression of its snapshots to leave them alone.
    leave: Mutex<Leave>,
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

    /// Hands an order to the instance's task, which `spawn` starts if there is none.
    pub(super) fn send(&self, order: Order, spawn: impl FnOnce(mpsc::Receiver<Order>)) -> Result<(), FleetError> {
        let mut mailbox = self.mailbox();
        let sender = mailbox.get_or_insert_with(|| open(spawn));
        sender.try_send(order).map_err(|_| FleetError::Busy(queue::INSTANCE_COMMANDS_MAX))
    }

    /// Hands in a fork, which waits until the instance's task comes to it.
    pub(super) fn send_fork(
        &self,
        order: ForkOrder,
        spawn: impl FnOnce(mpsc::Receiver<Order>),
    ) -> Result<(), FleetError> {
        let mut forks = self.forks();
        if forks.len() >= fork::WAITING_MAX {
            return Err(FleetError::Busy(fork::WAITING_MAX));
        }
        // With one that waits, the order is in the mailbox already.
        if forks.is_empty() {
            self.send(Order::Fork, spawn)?;
        }
        forks.push(order);
        Ok(())
    }

    /// The forks that wait.
    pub(super) fn take_forks(&self) -> Vec<ForkOrder> {
        std::mem::take(&mut self.forks())
    }

    pub(super) fn leave(&self) -> MutexGuard<'_, Leave> {
        self.leave.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forks(&self) -> MutexGuard<'_, Vec<ForkOrder>> {
        self.forks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the instance's task without an order, if there is none.
    pub(super) fn wake(&self, spawn: impl FnOnce(mpsc::Receiver<Order>)) {
        self.mailbox().get_or_insert_with(|| open(spawn));
    }

    /// Closes the mailbox if nothing waits in it; the task may then end. Otherwise answers what waits.
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

fn open(spawn: impl FnOnce(mpsc::Receiver<Order>)) -> mpsc::Sender<Order> {
    let (sender, receiver) = mpsc::channel(queue::INSTANCE_COMMANDS_MAX);
    spawn(receiver);
    sender
}
