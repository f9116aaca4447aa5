//! Timers of the acts that instances have due: a restart, the end of their time, a snapshot, a
//! probe, a check for idleness.
//!
//! An instance at rest has no task, and may still have acts to come. Its next instant is kept here,
//! and one task for all instances wakes it. The clock is the meter, which a simulation can advance.
//! Planned acts are stored with the facts they follow from, so a restart of the daemon loses none.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::live::Live;
use super::record::Record;
use super::watch::{Due, Watch};
use crate::clock::Clock;
use crate::journal::Row;
use crate::units::Instant;

/// The acts that an instance has to come, each with its instant.
pub(super) fn upcoming(record: &Record, live: &Live, watch: &Watch) -> Vec<(Instant, Due)> {
    let expiry = record.spec.expiry.map(|at| (Instant(at.at_ns), Due::Expiry(at.action)));
    let restart = live.restarts.due_ns.map(|at| (Instant(at), Due::Restart));
    let snapshot = live.snapshot_due_ns.map(|at| (Instant(at), Due::Snapshot));
    let probe = watch.probe_due(record, live).map(|at| (at, Due::Probe));
    let idle = watch.idle_due(record, live).map(|at| (at, Due::Idle));
    let traffic = watch.traffic_due(record, live).map(|at| (at, Due::Traffic));
    let all = [expiry, restart, snapshot, probe, idle, traffic].into_iter().flatten();
    all.map(|(at, due)| (watch.not_before(at, due), due)).collect()
}

/// Instant of the first act that an instance has to come; none without one.
pub(super) fn next_due(record: &Record, live: &Live, watch: &Watch) -> Option<Instant> {
    upcoming(record, live, watch).into_iter().map(|(at, _)| at).min()
}

/// The instants at which instances are to be woken, at most one each. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Timers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    plan: Mutex<Plan>,
    sooner: Notify,
}

#[derive(Default)]
struct Plan {
    by_row: HashMap<Row, Instant>,
    by_time: BTreeSet<(Instant, Row)>,
}

impl Plan {
    fn set(&mut self, row: Row, at: Option<Instant>) {
        if let Some(before) = self.by_row.remove(&row) {
            self.by_time.remove(&(before, row));
        }
        if let Some(at) = at {
            self.by_row.insert(row, at);
            self.by_time.insert((at, row));
        }
    }
}

impl Timers {
    /// Sets the instant at which the instance is to be woken; `None` clears it.
    pub(super) fn set(&self, row: Row, at: Option<Instant>) {
        let mut plan = self.plan();
        if plan.by_row.get(&row).copied() == at {
            return;
        }
        let first = plan.by_time.first().copied();
        plan.set(row, at);
        if plan.by_time.first().copied() != first {
            self.0.sooner.notify_one();
        }
    }

    /// Waits for the first timer and takes it. Cancel-safe.
    pub(super) async fn next(&self, clock: &Clock) -> Row {
        loop {
            let first = self.plan().by_time.first().copied();
            let Some((at, row)) = first else {
                self.0.sooner.notified().await;
                continue;
            };
            tokio::select! {
                biased;
                () = clock.reaches(at) => {
                    let mut plan = self.plan();
                    if plan.by_time.contains(&(at, row)) {
                        plan.set(row, None);
                        return row;
                    }
                }
                () = self.0.sooner.notified() => {}
            }
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::boot_id;
    use crate::units::Nanos;

    fn clock() -> Clock {
        Clock::first_in_boot(boot_id().expect("proc"))
    }

    fn in_s(clock: &Clock, seconds: u64) -> Option<Instant> {
        clock.now().after(Nanos(seconds * 1_000_000_000))
    }

    #[tokio::test]
    async fn timers_come_in_the_order_of_their_instants_and_each_once() {
        let timers = Timers::default();
        let clock = clock();
        for (row, seconds) in [(1, 300), (2, 100), (3, 200)] {
            timers.set(Row(row), in_s(&clock, seconds));
        }
        clock.skip(Nanos(400_000_000_000));
        let rows =
            [timers.next(&clock).await, timers.next(&clock).await, timers.next(&clock).await];
        assert_eq!(rows, [Row(2), Row(3), Row(1)]);
        assert!(timers.plan().by_row.is_empty() && timers.plan().by_time.is_empty());
    }

    #[tokio::test]
    async fn a_timer_can_be_moved_and_taken_back_while_it_is_waited_for() {
        let timers = Timers::default();
        let clock = clock();
        timers.set(Row(1), in_s(&clock, 100));
        timers.set(Row(2), in_s(&clock, 200));
        let change = async {
            timers.set(Row(1), None);
            timers.set(Row(2), in_s(&clock, 50));
            clock.skip(Nanos(60_000_000_000));
        };
        let (row, ()) = tokio::join!(timers.next(&clock), change);
        assert_eq!(row, Row(2));
    }
}
