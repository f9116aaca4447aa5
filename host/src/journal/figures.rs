//! Figures of the open journal, for monitoring. They begin at zero with each opening; nothing is
//! billed from them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::entry::{Row, StoredInstance};
use crate::billing::{Totals, Tracker};
use crate::histogram::Histogram;
use crate::id::TenantId;
use crate::units::Instant;
use crate::vm::Phase;

const PHASES: usize = Phase::ALL.len();

/// Figures since the opening of a journal.
#[derive(Debug)]
pub struct Figures {
    /// Instant of the opening.
    opened: Instant,
    /// Transactions, with their sync if they had one.
    pub commits: Histogram,
    /// Syncs of the log.
    pub syncs: Histogram,
    /// Entries that were committed.
    pub entries: AtomicU64,
    /// Bytes that the reserve holds; 0 without one.
    pub reserve_bytes: AtomicU64,
    /// Bytes that it holds when it is whole; 0 without one.
    pub reserve_bytes_max: AtomicU64,
    time: Mutex<Time>,
}

/// Time and entries of a tenant since the opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Time in each phase, visits under way included, as policies count it.
    pub time: Totals,
    /// Entries into each phase.
    pub entered: [u64; PHASES],
}

/// The change that one fact makes to the time of an instance.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) row: Row,
    pub(super) tenant: TenantId,
    /// The tracker before the fact.
    pub(super) before: Tracker,
    /// The tracker after it.
    pub(super) after: Tracker,
    /// The phase that the fact enters; none if it ends the instance.
    pub(super) entered: Option<Phase>,
}

/// The time of all instances. Completed visits and visits under way are under one lock: a visit is
/// in exactly one of them at each reading.
#[derive(Debug, Default)]
struct Time {
    tenants: BTreeMap<TenantId, Tally>,
    /// The visit under way of each instance that has one.
    visits: HashMap<Row, (Phase, Instant)>,
}

/// The time of a tenant.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Completed visits.
    completed: Counted,
    /// Number of visits under way, and the sum of their beginnings in nanoseconds.
    under_way: [(u64, i128); PHASES],
    /// The most that was ever read.
    read: [u64; PHASES],
}

impl Tally {
    /// Adds the growth of an account since `opened`. Time that moved to another phase, as when a
    /// policy's failure is mended, is added where it went and not taken away where it was.
    fn complete(&mut self, before: &Tracker, after: &Tracker, opened: Instant) {
        for (at, sum) in self.completed.time.0.iter_mut().enumerate() {
            let mut more = after.totals.0[at].saturating_sub(before.totals.0[at]);
            if before.current.is_some_and(|phase| phase as usize == at) {
                // The visit may have begun before the figures did.
                let earlier = opened.since(before.since).unwrap_or_default();
                more = more.saturating_sub(earlier.0);
            }
            *sum = sum.saturating_add(more);
        }
    }

    fn begin(&mut self, (phase, since): (Phase, Instant)) {
        let (count, sum) = &mut self.under_way[phase as usize];
        (*count, *sum) = (*count + 1, *sum + i128::from(since.0));
    }

    fn end(&mut self, (phase, since): (Phase, Instant)) {
        let (count, sum) = &mut self.under_way[phase as usize];
        *count = count.saturating_sub(1);
        *sum = sum.saturating_sub(since.0.into());
    }

    /// The time at `now`. A visit that is read before the fact of its end is committed has counted
    /// too far: what was read stays until the time comes up to it.
    fn read(&mut self, now: Instant) -> Counted {
        let mut counted = self.completed;
        for (at, sum) in counted.time.0.iter_mut().enumerate() {
            let (count, since) = self.under_way[at];
            let open = (i128::from(count) * i128::from(now.0) - since).max(0);
            *sum = sum.saturating_add(u64::try_from(open).unwrap_or(u64::MAX));
            self.read[at] = self.read[at].max(*sum);
            *sum = self.read[at];
        }
        counted
    }
}

impl Time {
    fn take(&mut self, step: &Step, opened: Instant) {
        let tally = self.tenants.entry(step.tenant.clone()).or_default();
        if let Some(visit) = self.visits.remove(&step.row) {
            tally.end(visit);
        }
        tally.complete(&step.before, &step.after, opened);
        if let Some(phase) = step.entered {
            tally.completed.entered[phase as usize] += 1;
        }
        if let Some(visit) = visit(&step.after, opened) {
            tally.begin(visit);
            self.visits.insert(step.row, visit);
        }
    }
}

/// The visit under way, from `opened` on.
fn visit(tracker: &Tracker, opened: Instant) -> Option<(Phase, Instant)> {
    tracker.current.map(|phase| (phase, tracker.since.max(opened)))
}

impl Figures {
    /// The figures of a journal that is opened with these instances.
    pub(super) fn new(opened: Instant, instances: &[StoredInstance]) -> Self {
        let mut time = Time::default();
        for instance in instances {
            if let Some(visit) = visit(&instance.account.tracker, opened) {
                time.tenants.entry(instance.tenant.clone()).or_default().begin(visit);
                time.visits.insert(instance.row, visit);
            }
        }
        Self {
            opened,
            commits: Histogram::default(),
            syncs: Histogram::default(),
            entries: AtomicU64::default(),
            reserve_bytes: AtomicU64::default(),
            reserve_bytes_max: AtomicU64::default(),
            time: Mutex::new(time),
        }
    }

    /// Time and entries at `now` of each tenant that has any. No figure is ever below one that was
    /// read before.
    pub fn tenants(&self, now: Instant) -> BTreeMap<TenantId, Counted> {
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |(tenant, tally): (&TenantId, &mut Tally)| (tenant.clone(), tally.read(now));
        time.tenants.iter_mut().map(read).collect()
    }

    /// Entries into phases of a tenant's instances since the opening.
    pub fn entered(&self, tenant: &TenantId) -> u64 {
        let time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        time.tenants.get(tenant).map_or(0, |tally| tally.completed.entered.iter().sum())
    }

    /// Transactions since the opening.
    pub fn committed(&self) -> u64 {
        self.commits.read().count
    }

    /// Notes a transaction that was committed.
    pub(super) fn note(&self, entries: usize, duration_ns: u64, steps: &[Step]) {
        self.commits.record(duration_ns);
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
        if steps.is_empty() {
            return;
        }
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        steps.iter().for_each(|step| time.take(step, self.opened));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn step(row: u64, before: Tracker, after: Tracker) -> Step {
        let tenant = TenantId::default_tenant();
        Step { row: Row(row), tenant, before, after, entered: after.current }
    }

    fn time(figures: &Figures, now: i64) -> [u64; PHASES] {
        figures.tenants(Instant(now)).values().next().map(|sum| sum.time.0).unwrap_or_default()
    }

    #[test]
    fn what_tenants_count_is_added_up_and_never_shrinks() {
        let figures = Figures::new(Instant(0), &[]);
        let running = Phase::Running as usize;
        let standby = Phase::Standby as usize;
        let mut before = Tracker { current: Some(Phase::Standby), ..Tracker::default() };
        let mut after = before;
        (before.totals.0[running], after.totals.0[running]) = (5, 3);
        after.totals.0[standby] = 9;
        after.current = None;
        figures.note(2, 10, &[step(1, before, after), step(2, before, after)]);
        let sum = time(&figures, 100);
        assert_eq!((sum[running], sum[standby]), (0, 18));
        assert_eq!((figures.committed(), figures.entries.load(Ordering::Relaxed)), (1, 2));
    }

    /// Goes to another phase at an instant, as the standard policy counts it.
    fn moved(tracker: Tracker, to: Option<Phase>, at: Instant) -> Tracker {
        let mut after = Tracker { current: to, since: at, ..tracker };
        if let Some(phase) = tracker.current {
            after.totals.0[phase as usize] += at.since(tracker.since).unwrap_or_default().0;
        }
        after
    }

    proptest! {
        /// Each step is one instance's transition, committed some time after it happened, with a
        /// reading between the two.
        #[test]
        fn time_never_goes_down_and_is_exact_once_it_has_caught_up(
            steps in prop::collection::vec(
                (0..4_usize, 0..=PHASES, 0..1_000_i64, 0..1_000_i64), 1..60,
            )
        ) {
            let figures = Figures::new(Instant(500), &[]);
            let mut trackers = [Tracker::default(); 4];
            let mut now = 0;
            let mut last = [0; PHASES];
            let read = |now: i64, last: &mut [u64; PHASES]| {
                let sum = time(&figures, now);
                prop_assert!(sum.iter().zip(*last).all(|(sum, last)| *sum >= last));
                *last = sum;
                Ok(sum)
            };
            let mut expected = [0_u64; PHASES];
            let end = (0..4).map(|row| (row, PHASES, 0, 0));
            for (row, phase, waited, late) in steps.into_iter().chain(end) {
                now += waited;
                let before = trackers[row];
                let after = moved(before, Phase::ALL.get(phase).copied(), Instant(now));
                if let Some((phase, since)) = visit(&before, Instant(500)) {
                    expected[phase as usize] += Instant(now).since(since).unwrap_or_default().0;
                }
                now += late;
                read(now, &mut last)?;
                figures.note(1, 1, &[step(row as u64, before, after)]);
                trackers[row] = after;
                read(now, &mut last)?;
            }
            let sum = read(now, &mut last)?;
            let tenants = figures.time.lock().expect("whole").tenants.clone();
            let tally = tenants[&TenantId::default_tenant()];
            prop_assert_eq!(tally.under_way, [(0, 0); PHASES]);
            prop_assert_eq!(tally.completed.time.0, expected);
            prop_assert!(sum.iter().zip(expected).all(|(sum, all)| *sum >= all));
        }
    }
}
