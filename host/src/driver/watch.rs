//! What is observed of a launch that runs and lies in no record: the health of its workload, and
//! how long it has been idle. It begins anew with each launch and with each start of the daemon.

use super::live::{Health, Live};
use super::record::Record;
use super::settings::ExpiryAction;
use crate::limits::idle as limits;
use crate::units::{Instant, Nanos};
use crate::vm::State;

/// What is observed of an instance.
#[derive(Default)]
pub(super) struct Watch {
    /// The probes of its workload; none before the first.
    pub(super) probes: Option<Probes>,
    /// The time in which it may turn out to be idle; none before the first look.
    pub(super) idle: Option<Idle>,
    /// How often the vCPUs were held since the task began.
    pub(super) pauses: u64,
    /// Acts that have failed, each with the instant before which it is not tried again: one that
    /// can't succeed keeps no other from being done.
    postponed: Vec<(Due, Instant)>,
}

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The end of its time.
    Expiry(ExpiryAction),
    /// The next attempt to start it again.
    Restart,
    /// The next snapshot of its schedule.
    Snapshot,
    /// The next probe of its workload.
    Probe,
    /// The next look whether it was idle.
    Idle,
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
    /// Processor time that its monitor had used by then, in nanoseconds; none if that was not
    /// known.
    pub(super) cpu_ns: Option<u64>,
    /// Attempts to bring it to standby that have failed in a row.
    pub(super) failures: u32,
}

impl Watch {
    /// Leaves an act that has failed alone until `until`.
    pub(super) fn postpone(&mut self, due: Due, until: Option<Instant>) {
        self.postponed.retain(|&(postponed, _)| postponed != due);
        self.postponed.extend(until.map(|until| (due, until)));
    }

    /// When an act that is due at `at` is tried.
    pub(super) fn not_before(&self, at: Instant, due: Due) -> Instant {
        let postponed = self.postponed.iter().find(|&&(postponed, _)| postponed == due);
        postponed.map_or(at, |&(_, until)| at.max(until))
    }

    /// Something has changed: what may turn out to be idle from now on, and any attempt before this
    /// one, count no more.
    pub(super) fn active(&mut self) {
        self.idle = None;
        self.postpone(Due::Idle, None);
    }

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

    /// When to look whether it was idle; none where standby has failed too often. The first look is
    /// due at once, and each sets the next, whether it learned anything or not.
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

/// `ms` milliseconds after `at`; the end of time if that is later.
pub(super) fn after(at: Instant, ms: u64) -> Instant {
    at.after(Nanos(ms.saturating_mul(1_000_000))).unwrap_or(Instant(i64::MAX))
}
