//! When instances have something of their own to do: a restart, the end of their time, a snapshot that is due.
//!
//! An instance at rest costs no task. Its next instant lies here, and one task for all of them wakes it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::host::Host;
use super::slot::{Order, Slot};
use super::task::Task;
use crate::clock::Clock;
use crate::journal::Row;
use crate::units::{Instant, Nanos};

/// How long an instance that takes no more orders is left alone.
const BUSY_RETRY: Nanos = Nanos(1_000_000_000);

/// The instants at which instances want to be woken, at most one each. Clones are one.
#[derive(Clone, Default)]
pub(super) struct Alarms(Arc<Shared>);

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

impl Alarms {
    /// From now on, the instance wants to be woken at `at`, or not at all.
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

    /// Waits for the first alarm and takes it. Cancel-safe.
    async fn next(&self, clock: &Clock) -> Row {
        loop {
            let first = self.plan().by_time.first().copied();
            let Some((at, row)) = first else {
                self.0.sooner.notified().await;
                continue;
            };
            tokio::select! {
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

/// Wakes instances for as long as their host is there.
pub(super) async fn wake(host: Weak<Host>, alarms: Alarms, clock: Clock) {
    loop {
        let row = alarms.next(&clock).await;
        let Some(host) = host.upgrade() else { return };
        let slot = host.directory().by_row.get(&row).cloned();
        if let Some(slot) = slot
            && !ring(&host, &slot)
        {
            alarms.set(row, clock.now().after(BUSY_RETRY));
        }
    }
}

fn ring(host: &Arc<Host>, slot: &Arc<Slot>) -> bool {
    let (host, owned) = (host.clone(), slot.clone());
    slot.send(Order::Alarm, |orders| {
        tokio::spawn(Task::new(host, owned, orders).run());
    })
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::boot_id;

    fn clock() -> Clock {
        Clock::first_in_boot(boot_id().expect("proc"), None)
    }

    fn in_s(clock: &Clock, seconds: u64) -> Option<Instant> {
        clock.now().after(Nanos(seconds * 1_000_000_000))
    }

    #[tokio::test]
    async fn alarms_come_in_the_order_of_their_instants_and_each_once() {
        let (alarms, clock) = (Alarms::default(), clock());
        for (row, seconds) in [(1, 300), (2, 100), (3, 200)] {
            alarms.set(Row(row), in_s(&clock, seconds));
        }
        clock.skip(Nanos(400_000_000_000));
        let rows = [alarms.next(&clock).await, alarms.next(&clock).await, alarms.next(&clock).await];
        assert_eq!(rows, [Row(2), Row(3), Row(1)]);
        assert!(alarms.plan().by_row.is_empty() && alarms.plan().by_time.is_empty());
    }

    #[tokio::test]
    async fn an_alarm_can_be_moved_and_taken_back_while_it_is_waited_for() {
        let (alarms, clock) = (Alarms::default(), clock());
        alarms.set(Row(1), in_s(&clock, 100));
        alarms.set(Row(2), in_s(&clock, 200));
        let change = async {
            alarms.set(Row(1), None);
            alarms.set(Row(2), in_s(&clock, 50));
            clock.skip(Nanos(60_000_000_000));
        };
        let (row, ()) = tokio::join!(alarms.next(&clock), change);
        assert_eq!(row, Row(2));
    }
}
