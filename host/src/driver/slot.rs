//! Where an instance is found: its last published view, and the mailbox of its task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::error::FleetError;
use super::record::{Record, View};
use crate::journal::Row;
use crate::limits::queue;
use crate::vm::Command;

/// Something for the task that owns the instance to do.
pub(super) enum Order {
    /// Carry out a command, and answer.
    Carry { command: Command, grace: Option<Duration>, reply: Reply },
    /// Ask again for what a failed policy owes.
    Mend,
}

pub(super) type Reply = oneshot::Sender<Result<Arc<View>, FleetError>>;

/// An instance that the host knows. It costs no task while nothing happens to it.
pub(super) struct Slot {
    pub(super) record: Arc<Record>,
    pub(super) row: Row,
    view: watch::Sender<Arc<View>>,
    mailbox: Mutex<Option<mpsc::Sender<Order>>>,
}

impl Slot {
    pub(super) fn new(row: Row, view: View) -> Self {
        Self { record: view.record.clone(), row, view: watch::Sender::new(Arc::new(view)), mailbox: Mutex::new(None) }
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
