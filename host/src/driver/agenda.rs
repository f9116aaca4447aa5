//! What an instance does by itself: it is started again after an end, ends when its time is over, has its snapshots taken, is asked whether it is
//! well, and goes to standby when it has nothing to do.

use super::error::FleetError;
use super::host::Host;
use super::record::{ExpiryAction, Live, Record, View};
use super::request::Request;
use super::task::Task;
use crate::journal::Row;
use crate::units::{Instant, Nanos};
use crate::vm::{AfterExit, Asker, Event, ExitCause, State};

/// How long something that failed is left alone before it is tried again.
const RETRY: Nanos = Nanos(5_000_000_000);

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Expiry(ExpiryAction),
    Restart,
    Snapshot,
    Probe,
    Idle,
}

impl Task {
    /// Does what is due, one thing at a time: the alarm comes again for the next.
    pub(super) async fn attend(&mut self) {
        let now = self.host.clock.now();
        let due = self.agenda().into_iter().filter(|&(at, _)| at <= now).min_by_key(|&(at, _)| at);
        if let Some((_, due)) = due
            && let Err(error) = self.attend_to(due).await
        {
            tracing::warn!(instance = %self.record.id, ?due, %error, "could not be done by itself");
            self.not_before = self.host.clock.now().after(RETRY);
        }
        self.set_alarm();
    }

    async fn attend_to(&mut self, due: Due) -> Result<(), FleetError> {
        match due {
            Due::Expiry(ExpiryAction::Delete) => self.carry_out(Request::Delete, Asker::Expiry).await,
            Due::Expiry(ExpiryAction::Stop) => self.stop_for_good().await,
            Due::Restart => self.carry_out(Request::Start, Asker::RestartPolicy).await,
            Due::Snapshot => self.take_scheduled_snapshot().await,
            Due::Probe => {
                self.ask_workload();
                Ok(())
            }
            Due::Idle => self.look_for_idleness().await,
        }
    }

    /// Its time is over: it stops, nothing starts it again by itself, and what a client does from here on is the client's own affair.
    async fn stop_for_good(&mut self) -> Result<(), FleetError> {
        self.carry_out(Request::Stop { grace_ms: None }, Asker::Expiry).await?;
        self.change_record(|record| record.spec.expiry = None);
        self.keep().await
    }

    /// Asks to be woken for what comes next.
    pub(super) fn set_alarm(&self) {
        if self.live.state != State::Deleted {
            let next = self.agenda().into_iter().map(|(at, _)| at).min();
            let next = next.map(|next| self.not_before.map_or(next, |earliest| next.max(earliest)));
            self.host.alarms.set(self.slot.row, next);
        }
    }

    fn agenda(&self) -> Vec<(Instant, Due)> {
        let probe = self.probe_due().map(|at| (at, Due::Probe));
        let idle = self.idle_due().map(|at| (at, Due::Idle));
        agenda(&self.record, &self.live).into_iter().chain(probe).chain(idle).collect()
    }

    /// Decides, with the fact of an end and in the same commit, whether and when the instance is started again.
    pub(super) fn plan_restart(&mut self, event: Event, at: Instant) {
        if self.live.state != State::Stopped {
            self.live.restarts.due_ns = None;
        }
        let Event::Exited(cause) = event else { return };
        // Whoever asked for the start has been told that it failed.
        if cause == ExitCause::LaunchFailed && self.live.restarts.last_ns.is_none() {
            return;
        }
        let started = self.live.started.and_then(|started| at.since(started));
        let ran_ms = started.map_or(0, Nanos::as_millis_truncated);
        let policy = self.record.spec.restart;
        match policy.after(cause, self.live.exit_code, ran_ms, self.live.restarts.attempts) {
            AfterExit::Rest | AfterExit::Exhausted => {}
            AfterExit::Restart { attempt, wait_ms } => {
                self.live.restarts.attempts = attempt - 1;
                self.live.restarts.due_ns = at.after(Nanos(wait_ms.saturating_mul(1_000_000))).map(|at| at.0);
            }
        }
    }
}

/// What is to come, each with its instant.
fn agenda(record: &Record, live: &Live) -> Vec<(Instant, Due)> {
    let expiry = record.spec.expiry.map(|expiry| (Instant(expiry.at_ns), Due::Expiry(expiry.action)));
    let restart = live.restarts.due_ns.map(|at| (Instant(at), Due::Restart));
    let snapshot = live.snapshot_due_ns.map(|at| (Instant(at), Due::Snapshot));
    [expiry, restart, snapshot].into_iter().flatten().collect()
}

/// Has an instance woken that rests since before the daemon's start.
pub(super) fn plan(host: &Host, row: Row, view: &View) {
    host.alarms.set(row, agenda(&view.record, &view.live).into_iter().map(|(at, _)| at).min());
}
