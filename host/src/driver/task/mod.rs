//! The task that owns one instance: it takes orders and observations one at a time and records
//! their outcome.

mod amend;
mod due;
mod fork;
mod health;
mod idle;
mod lifecycle;
mod network;
mod recover;
mod snapshot;
mod standby;
mod suspend;
mod visit;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::error::FleetError;
use super::files::blocking;
use super::host::Host;
use super::live::Live;
use super::machine::Machine;
use super::mailbox::{Order, PendingFork, Slot};
use super::recorder::Recorder;
use crate::billing::account::Account;
use crate::hypervisor::Observed;
use crate::vm::{Asker, State};

/// Delay before the recovery of a machine is tried again.
const RECOVERY_RETRY: Duration = Duration::from_secs(5);

/// The owner of one instance.
pub(super) struct Task {
    host: Arc<Host>,
    slot: Arc<Slot>,
    recorder: Recorder,
    machine: Option<Machine>,
    /// Forks under way.
    forks: Vec<PendingFork>,
    orders: mpsc::Receiver<Order>,
}

/// The next event of a task.
enum Next {
    Order(Option<Order>),
    Seen(Option<Observed>),
    Retry,
}

impl Task {
    /// Starts the task of an instance. It ends by itself when there is no machine and no order.
    pub(super) fn start(host: Arc<Host>, slot: Arc<Slot>, orders: mpsc::Receiver<Order>) {
        let recorder = Recorder::new(host.clone(), slot.clone());
        let task = Self { host, slot, recorder, machine: None, forks: Vec::new(), orders };
        tokio::spawn(task.run());
    }

    /// Takes orders and observations until there is no machine and no order.
    async fn run(mut self) {
        while let Some(next) = self.next().await {
            match next {
                Next::Order(Some(order)) => self.serve(order).await,
                Next::Order(None) => return,
                Next::Seen(seen) => self.seen(seen).await,
                Next::Retry => self.recover_or_retry().await,
            }
            if !self.needs_recovery() {
                self.slot.set_unseen(false);
            }
        }
    }

    /// Waits for an order or an observation; none when the task may end.
    async fn next(&mut self) -> Option<Next> {
        let retry = self.needs_recovery();
        Some(match &mut self.machine {
            // Observations come before orders, so that an order finds the present state.
            Some(machine) => tokio::select! {
                biased;
                seen = machine.next() => Next::Seen(seen),
                order = self.orders.recv() => Next::Order(order),
            },
            None if retry => tokio::select! {
                biased;
                order = self.orders.recv() => Next::Order(order),
                () = sleep(RECOVERY_RETRY) => Next::Retry,
            },
            None => Next::Order(Some(self.slot.retire(&mut self.orders)?)),
        })
    }

    fn live(&self) -> &Live {
        &self.recorder.live
    }

    fn state(&self) -> State {
        self.recorder.live.state
    }

    /// The machine of an instance that has one.
    fn machine(&self) -> Result<&Machine, FleetError> {
        self.machine.as_ref().ok_or(FleetError::NoMachine)
    }

    fn machine_mut(&mut self) -> Result<&mut Machine, FleetError> {
        self.machine.as_mut().ok_or(FleetError::NoMachine)
    }

    /// Returns whether the state or the intent needs a machine that was not found yet.
    fn needs_recovery(&self) -> bool {
        let Live { state, intent, .. } = self.live();
        self.machine.is_none() && (state.has_vmm() || intent.is_some())
    }

    async fn serve(&mut self, order: Order) {
        match order {
            Order::Boot { reply } => {
                self.recorder.set_reply(reply);
                let outcome = self.boot_new().await;
                let outcome = self.settle(outcome).await;
                self.recorder.answer(outcome);
            }
            Order::Recover => self.recover_or_retry().await,
            Order::Carry { request, reply } => {
                self.recorder.set_reply(reply);
                self.recorder.watch.active();
                let outcome = self.carry_out(request, Asker::Client).await;
                self.recorder.answer(outcome);
            }
            Order::Activity { wake, reply } => {
                self.recorder.set_reply(reply);
                let outcome = self.take_activity(wake).await;
                self.recorder.answer(outcome);
            }
            Order::Visit { visit, reply } => {
                // Whoever has gone does not go in.
                let _ = reply.send(self.let_in(visit).await);
            }
            Order::Amend { amendment, reply } => {
                self.recorder.set_reply(reply);
                let outcome = self.amend(*amendment).await;
                self.recorder.answer(outcome);
            }
            Order::Fork => self.make_forks().await,
            Order::Due => self.run_due().await,
            Order::Read { done } => {
                let outcome = self.tell_traffic().await;
                self.warn(outcome, "the guest's traffic could not be recorded");
                // Whoever has gone needs no answer.
                let _ = done.send(());
            }
            Order::Probed { incarnation, pauses, answer } => {
                let outcome = self.probed(incarnation, pauses, answer).await;
                self.warn(outcome, "an unhealthy workload could not be stopped");
            }
            Order::Compressed(compressed) => {
                let outcome = self.compressed(compressed).await;
                self.warn(outcome, "the compression of a snapshot could not be recorded");
            }
            Order::Suspended { from, until } => {
                let outcome = self.suspended(from, until).await;
                self.warn(outcome, "a suspend of the host could not be recorded");
            }
            Order::Reaccount => {
                let outcome = self.reaccount().await;
                self.warn(
                    outcome,
                    "the time that a failed policy has not counted could not be accounted",
                );
            }
        }
    }

    fn warn(&self, outcome: Result<(), FleetError>, what: &'static str) {
        if let Err(error) = outcome {
            tracing::warn!(instance = %self.recorder.record.id, %error, what);
        }
    }

    async fn seen(&mut self, seen: Option<Observed>) {
        let outcome = match seen {
            Some(Observed::Exited(exit)) => self.exited(&exit).await,
            Some(other) => self.recorder.note(other).await,
            None => self.vanished().await,
        };
        self.warn(outcome, "an observation could not be recorded");
    }

    /// Completes a degraded account, if its policy answers by now or is not in force any more.
    async fn reaccount(&mut self) -> Result<(), FleetError> {
        let account = self.recorder.account.clone();
        let Some(degraded) = &account.degraded else { return Ok(()) };
        let from = degraded.from_fact;
        let host = self.host.clone();
        let record = self.recorder.record.clone();
        let reaccounted: Account =
            blocking(move || host.reaccounted(&record, &account, from)).await?;
        if reaccounted == self.recorder.account {
            return Ok(());
        }
        self.recorder.account = reaccounted;
        self.recorder.store().await
    }
}
