//! Observations of a running launch that are never recorded: the health of its workload, and its
//! idle time. They begin anew with each launch and with each start of the daemon.

use super::live::{Health, Live};
use super::record::Record;
use super::settings::ExpiryAction;
use crate::limits::idle as limits;
use crate::limits::network::TOLD_NS;
use crate::units::{Instant, Nanos};
use crate::vm::State;

/// The observations of an instance.
#[derive(Default)]
pub(super) struct Watch {
    /// The probes of the workload; none before the first.
    pub(super) probes: Option<Probes>,
    /// The time that is examined for idleness; none before the first check.
    pub(super) idle: Option<Idle>,
    /// Number of times the vCPUs were held since the task began.
    pub(super) pauses: u64,
    /// Instant at which the guest's traffic was looked at last; none before that.
    pub(super) traffic_read: Option<Instant>,
    /// Acts that have failed, each with the instant before which it is not tried again, so that it
    /// does not hold up the others.
    postponed: Vec<(Due, Instant)>,
}

/// An act that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The end of the instance's time.
    Expiry(ExpiryAction),
    /// The next automatic restart.
    Restart,
    /// The next scheduled snapshot.
    Snapshot,
    /// The next probe of the workload.
    Probe,
    /// The next check for idleness.
    Idle,
    /// The next look at the guest's traffic.
    Traffic,
}

/// The probes of one launch.
pub(super) struct Probes {
    pub(super) incarnation: u32,
    pub(super) since: Instant,
    pub(super) due: Instant,
    pub(super) health: Health,
}

/// A time that is examined for idleness.
pub(super) struct Idle {
    pub(super) incarnation: u32,
    pub(super) since: Instant,
    /// Processor time that the monitor had used until `since`, in nanoseconds; none if unknown.
    pub(super) cpu_ns: Option<u64>,
    /// Number of failed automatic standbys in a row.
    pub(super) failures: u32,
}

impl Watch {
    /// Postpones an act that has failed to `until`; `None` lifts that.
    pub(super) fn postpone(&mut self, due: Due, until: Option<Instant>) {
        self.postponed.retain(|&(postponed, _)| postponed != due);
        self.postponed.extend(until.map(|until| (due, until)));
    }

    /// Instant at which an act that is due at `at` is tried: later if it was postponed.
    pub(super) fn not_before(&self, at: Instant, due: Due) -> Instant {
        let postponed = self.postponed.iter().find(|&&(postponed, _)| postponed == due);
        postponed.map_or(at, |&(_, until)| at.max(until))
    }

    /// Notes activity: the time that is examined for idleness begins anew, and failed standbys are
    /// forgotten.
    pub(super) fn active(&mut self) {
        self.idle = None;
        self.postpone(Due::Idle, None);
    }

    /// The health of the running workload; none if it is not probed.
    pub(super) fn health(&self, record: &Record, live: &Live) -> Option<Health> {
        record.spec.health.as_ref().filter(|_| live.state.has_vmm())?;
        let probes = self.probes.as_ref().filter(|probes| probes.incarnation == live.incarnation);
        Some(probes.map_or(Health::UNKNOWN, |probes| probes.health.clone()))
    }

    /// Instant of the next probe; none without a check or while the vCPUs are held.
    pub(super) fn probe_due(&self, record: &Record, live: &Live) -> Option<Instant> {
        record.spec.health.as_ref().filter(|_| live.runs())?;
        let probes = self.probes.as_ref().filter(|probes| probes.incarnation == live.incarnation);
        Some(probes.map_or(Instant(0), |probes| probes.due))
    }

    /// Instant of the next look at the guest's traffic; none without a network or if nothing runs.
    pub(super) fn traffic_due(&self, record: &Record, live: &Live) -> Option<Instant> {
        record.spec.network.as_ref().filter(|_| live.runs())?;
        let read = self.traffic_read.unwrap_or(Instant(0));
        Some(read.after(Nanos(TOLD_NS)).unwrap_or(Instant(i64::MAX)))
    }

    /// Begin of the time that is examined for idleness; none without auto-standby or if nothing
    /// runs.
    pub(super) fn idle_since(&self, record: &Record, live: &Live) -> Option<Instant> {
        record.spec.auto_standby.filter(|_| live.state == State::Running)?;
        let idle = self.idle.as_ref().filter(|idle| idle.incarnation == live.incarnation);
        idle.map(|idle| idle.since)
    }

    /// Instant of the next check for idleness; none after too many failed standbys. The first check
    /// is due at once, and each sets the next.
    pub(super) fn idle_due(&self, record: &Record, live: &Live) -> Option<Instant> {
        let auto = record.spec.auto_standby.filter(|_| live.state == State::Running)?;
        let idle = self.idle.as_ref().filter(|idle| idle.incarnation == live.incarnation);
        match idle {
            None => Some(Instant(0)),
            Some(idle) if idle.failures >= limits::ATTEMPTS_MAX => None,
            Some(idle) => Some(after(idle.since, auto.idle_after_ms)),
        }
    }
}

/// `ms` milliseconds after `at`, at most the end of the meter.
pub(super) fn after(at: Instant, ms: u64) -> Instant {
    at.after(Nanos(ms.saturating_mul(1_000_000))).unwrap_or(Instant(i64::MAX))
}
