//! What is observed of a launch that runs and lies in no record: the health of its workload, and how
//! long it has been idle. It begins anew with each launch and with each start of the daemon.

use super::live::{Health, Live};
use super::record::Record;
use crate::units::{Instant, Nanos};
use crate::vm::State;

/// What is observed of an instance.
#[derive(Default)]
pub(super) struct Watch {
    /// The probes of its workload; none before the first.
    pub(super) probes: Option<Probes>,
    /// The time in which it may turn out to be idle; none before the first look.
    pub(super) idle: Option<Idle>,
    /// Before this instant, nothing that is due is tried again.
    pub(super) not_before: Option<Instant>,
}

/// The probes of one launch.
pub(super) struct Probes {
    pub(super) incarnation: u32,
    pub(super) since: Instant,
    pub(super) due: Instant,
    pub(super) health: Health,
}

/// A time in which a launch may turn out to be idle.
pub(super) struct Idle {
    pub(super) incarnation: u32,
    pub(super) since: Instant,
    /// Processor time that its monitor had used by then, in nanoseconds.
    pub(super) cpu_ns: u64,
}

impl Watch {
    /// The health of the workload that runs; none if it is not probed.
    pub(super) fn health(&self, record: &Record, live: &Live) -> Option<Health> {
        record.spec.health.as_ref().filter(|_| live.state.has_vmm())?;
        let probes = self.probes.as_ref().filter(|probes| probes.incarnation == live.incarnation);
        Some(probes.map_or(Health::UNKNOWN, |probes| probes.health.clone()))
    }

    /// When it has to be probed next. What is held is not probed.
    pub(super) fn probe_due(&self, record: &Record, live: &Live) -> Option<Instant> {
        record.spec.health.as_ref().filter(|_| live.runs())?;
        let probes = self.probes.as_ref().filter(|probes| probes.incarnation == live.incarnation);
        Some(probes.map_or(Instant(0), |probes| probes.due))
    }

    /// Since when nothing is known to have happened; none if that is of no interest.
    pub(super) fn idle_since(&self, record: &Record, live: &Live) -> Option<Instant> {
        record.spec.auto_standby.filter(|_| live.state == State::Running)?;
        let idle = self.idle.as_ref().filter(|idle| idle.incarnation == live.incarnation);
        idle.map(|idle| idle.since)
    }

    /// When to look whether it was idle.
    pub(super) fn idle_due(&self, record: &Record, live: &Live) -> Option<Instant> {
        let auto = record.spec.auto_standby.filter(|_| live.state == State::Running)?;
        let since = self.idle_since(record, live);
        Some(since.map_or(Instant(0), |since| after(since, auto.idle_after_ms)))
    }
}

/// `ms` milliseconds after `at`; the end of time if that is later.
pub(super) fn after(at: Instant, ms: u64) -> Instant {
    at.after(Nanos(ms.saturating_mul(1_000_000))).unwrap_or(Instant(i64::MAX))
}
