//! Figures of the open journal, for monitoring. They begin at zero with each opening; nothing is
//! billed from them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::billing::{Totals, Tracker};
use crate::histogram::Histogram;
use crate::id::TenantId;
use crate::units::Instant;
use crate::vm::Phase;

/// Figures since the opening of a journal.
#[derive(Debug)]
pub struct Figures {
    /// Instant of the opening.
    pub opened: Instant,
    /// Transactions, with their sync if they had one.
    pub commits: Histogram,
    /// Syncs of the log.
    pub syncs: Histogram,
    /// Entries that were committed.
    pub entries: AtomicU64,
    tenants: Mutex<BTreeMap<TenantId, Counted>>,
}

/// Time and entries that the facts of a tenant have counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Completed time in each phase, as policies count it.
    pub time: Totals,
    /// Entries into each phase.
    pub entered: [u64; Phase::ALL.len()],
}

impl Counted {
    /// Adds the growth of an account since `opened`. Time that moved to another phase, as when a
    /// policy's failure is mended, is added where it went and not taken away where it was.
    pub(super) fn grown(&mut self, before: &Tracker, after: &Tracker, opened: Instant) {
        for (at, sum) in self.time.0.iter_mut().enumerate() {
            let mut more = after.totals.0[at].saturating_sub(before.totals.0[at]);
            if before.current.is_some_and(|phase| phase as usize == at) {
                // The visit may have begun before the figures did.
                let earlier = opened.since(before.since).unwrap_or_default();
                more = more.saturating_sub(earlier.0);
            }
            *sum = sum.saturating_add(more);
        }
    }

    fn add(&mut self, other: &Self) {
        for (sum, more) in self.time.0.iter_mut().zip(other.time.0) {
            *sum = sum.saturating_add(more);
        }
        for (sum, more) in self.entered.iter_mut().zip(other.entered) {
            *sum = sum.saturating_add(more);
        }
    }
}

impl Figures {
    pub(super) fn new(opened: Instant) -> Self {
        Self {
            opened,
            commits: Histogram::default(),
            syncs: Histogram::default(),
            entries: AtomicU64::default(),
            tenants: Mutex::default(),
        }
    }

    /// Time and entries of each tenant that has any.
    pub fn tenants(&self) -> BTreeMap<TenantId, Counted> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Transactions since the opening.
    pub fn committed(&self) -> u64 {
        self.commits.read().count
    }

    /// Notes a transaction that was committed.
    pub(super) fn note(&self, entries: usize, duration_ns: u64, counted: &[(TenantId, Counted)]) {
        self.commits.record(duration_ns);
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
        if counted.is_empty() {
            return;
        }
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        for (tenant, more) in counted {
            match tenants.get_mut(tenant) {
                Some(sum) => sum.add(more),
                None => drop(tenants.insert(tenant.clone(), *more)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tenants_count_is_added_up_and_never_shrinks() {
        let figures = Figures::new(Instant(0));
        let (running, standby) = (Phase::Running as usize, Phase::Standby as usize);
        let mut counted = Counted::default();
        let mut before = Tracker { current: Some(Phase::Standby), ..Tracker::default() };
        let mut after = before;
        (before.totals.0[running], after.totals.0[running]) = (5, 3);
        after.totals.0[standby] = 9;
        counted.grown(&before, &after, Instant(2));
        counted.entered[running] += 1;
        let tenant = TenantId::default_tenant();
        figures.note(2, 10, &[(tenant.clone(), counted), (tenant.clone(), counted)]);
        let sum = figures.tenants()[&tenant];
        assert_eq!((sum.time.0[running], sum.time.0[standby], sum.entered[running]), (0, 14, 2));
        assert_eq!((figures.committed(), figures.entries.load(Ordering::Relaxed)), (1, 2));
    }
}
