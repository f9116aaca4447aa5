//! Whether an instance's workload is well, and what follows if it is not.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::error::FleetError;
use super::request::Request;
use super::slot::Order;
use super::task::Task;
use crate::limits::health as limits;
use crate::units::{Instant, Nanos};
use crate::vm::{AfterExit, Asker, ExitCause, State};

/// How it is found out whether a workload is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From an answer to the next question, in milliseconds.
    pub interval_ms: u64,
    /// How long an answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// So many failures in a row make it unhealthy.
    pub failures_max: u32,
    /// Failures that come so soon after the launch do not count, in milliseconds.
    pub start_period_ms: u64,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Probe {
    /// The guest, on its console.
    Console {
        /// What is typed; may be empty.
        send: String,
        /// What the guest has to write after that.
        expect: String,
    },
    /// Whether a TCP connection is accepted.
    Tcp {
        /// Where the workload is reached from this host.
        address: SocketAddr,
    },
    /// An HTTP server, with GET; well is a status of 200 to 399.
    Http {
        /// Where the workload is reached from this host.
        address: SocketAddr,
        /// Path and query.
        path: String,
    },
}

/// Asks workloads. The composition root chooses.
pub trait Prober: Send + Sync {
    /// Whether this can be asked from here.
    ///
    /// # Errors
    /// Why not, and what would be right.
    fn admits(&self, probe: &Probe) -> Result<(), String>;

    /// Asks; `folder` is the instance's. Has no deadline of its own: the caller drops the future.
    ///
    /// # Errors
    /// What was wrong with the answer.
    fn ask<'a>(&'a self, folder: &'a Path, probe: &'a Probe) -> BoxFuture<'a, Result<(), String>>;
}

/// What is known of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// It was not well yet, and may still be starting.
    Starting,
    /// It was well when it was asked last, or has not failed often enough to be called otherwise.
    Healthy,
    /// It failed as often in a row as its check allows.
    Unhealthy,
}

/// What the probes of the launch under way have found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is known.
    pub status: HealthStatus,
    /// Failures in a row that count.
    pub failures: u32,
    /// When it was asked last: meter nanoseconds.
    pub checked_ns: Option<i64>,
    /// What was wrong then.
    pub problem: Option<String>,
}

impl Health {
    const UNKNOWN: Health = Health { status: HealthStatus::Starting, failures: 0, checked_ns: None, problem: None };

    /// Takes up an answer that came at `now`, within the start period or after it.
    fn take(&mut self, answer: Result<(), String>, starting: bool, failures_max: u32, now: Instant) {
        self.checked_ns = Some(now.0);
        self.problem = answer.err();
        match (&self.problem, self.status) {
            (None, _) => (self.status, self.failures) = (HealthStatus::Healthy, 0),
            (Some(_), HealthStatus::Starting) if starting => {}
            (Some(_), _) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= failures_max {
                    self.status = HealthStatus::Unhealthy;
                }
            }
        }
    }
}

/// The probes of one launch.
pub(super) struct Watched {
    incarnation: u32,
    since: Instant,
    due: Instant,
    health: Health,
}

/// Whether a check is inside its limits and can be made from here.
pub(super) fn check(check: &HealthCheck, prober: &dyn Prober) -> Result<(), FleetError> {
    let HealthCheck { probe, interval_ms, timeout_ms, failures_max, start_period_ms } = check;
    let rows = [
        ("health_check.interval", *interval_ms, limits::INTERVAL_MS_MIN, limits::INTERVAL_MS_MAX),
        ("health_check.timeout", *timeout_ms, limits::INTERVAL_MS_MIN, limits::TIMEOUT_MS_MAX),
        ("health_check.start_period", *start_period_ms, 0, limits::INTERVAL_MS_MAX),
    ];
    rows.into_iter().try_for_each(super::amend::within)?;
    let invalid = |field, problem: &str| Err(FleetError::Invalid { field, problem: problem.into() });
    if *failures_max == 0 {
        return invalid("health_check.failure_threshold", "must be 1 or more");
    }
    match probe {
        Probe::Console { expect, .. } if expect.is_empty() => {
            return invalid("health_check.console.expect", "say what the guest has to write");
        }
        Probe::Console { send, expect } if send.len().max(expect.len()) > limits::TEXT_BYTES_MAX => {
            return invalid("health_check.console", "send and expect may have 1024 bytes each");
        }
        Probe::Http { path, .. } if !path.starts_with('/') || path.len() > limits::TEXT_BYTES_MAX => {
            return invalid("health_check.http.path", "must begin with '/' and have at most 1024 bytes");
        }
        Probe::Console { .. } | Probe::Tcp { .. } | Probe::Http { .. } => {}
    }
    prober.admits(probe).map_err(|why| FleetError::Unsupported(format!("health_check: {why}")))
}

impl Task {
    /// What is known of the workload that runs, if it is asked at all.
    pub(super) fn health(&self) -> Option<Health> {
        self.record.spec.health.as_ref().filter(|_| self.live.state.has_vmm())?;
        let watched = self.watched.as_ref().filter(|watched| watched.incarnation == self.live.incarnation);
        Some(watched.map_or(Health::UNKNOWN, |watched| watched.health.clone()))
    }

    /// When it has to be asked next. What is held is not asked.
    pub(super) fn probe_due(&self) -> Option<Instant> {
        self.record.spec.health.as_ref().filter(|_| self.runs())?;
        let watched = self.watched.as_ref().filter(|watched| watched.incarnation == self.live.incarnation);
        Some(watched.map_or(Instant(0), |watched| watched.due))
    }

    fn runs(&self) -> bool {
        matches!(self.live.state, State::Initializing | State::Running)
    }

    /// Asks, in the background; the answer comes as an order.
    pub(super) fn ask_workload(&mut self) {
        let Some(check) = self.record.spec.health.clone() else { return };
        let (now, incarnation) = (self.host.clock.now(), self.live.incarnation);
        let watched = self.watched.take().filter(|watched| watched.incarnation == incarnation);
        let watched = watched.unwrap_or(Watched { incarnation, since: now, due: now, health: Health::UNKNOWN });
        // If the answer finds the mailbox full, it is asked again then.
        self.watched = Some(Watched { due: after(now, check.timeout_ms.saturating_add(check.interval_ms)), ..watched });
        let (host, slot) = (self.host.clone(), self.slot.clone());
        tokio::spawn(async move {
            let (folder, limit) = (host.folder(&slot.id), Duration::from_millis(check.timeout_ms));
            let answer = match tokio::time::timeout(limit, host.prober.ask(&folder, &check.probe)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer in {} ms", check.timeout_ms)),
            };
            let owned = slot.clone();
            let spawn = |orders| drop(tokio::spawn(Task::new(host, owned, orders).run()));
            if let Err(error) = slot.send(Order::Probed { incarnation, answer }, spawn) {
                tracing::warn!(instance = %slot.id, %error, "an answer about its health was lost");
            }
        });
    }

    /// Takes up an answer. What is unhealthy is stopped, if its restart policy starts it again after that.
    pub(super) async fn probed(&mut self, incarnation: u32, answer: Result<(), String>) -> Result<(), FleetError> {
        let Some(check) = self.record.spec.health.clone().filter(|_| self.runs()) else { return Ok(()) };
        let now = self.host.clock.now();
        let current = self.watched.as_mut().filter(|watched| watched.incarnation == self.live.incarnation);
        let Some(watched) = current.filter(|watched| watched.incarnation == incarnation) else { return Ok(()) };
        let starting = now < after(watched.since, check.start_period_ms);
        watched.due = after(now, check.interval_ms);
        watched.health.take(answer, starting, check.failures_max, now);
        let health = watched.health.clone();
        self.publish();
        if health.status != HealthStatus::Unhealthy || !self.is_restarted_after_failure(now) {
            return Ok(());
        }
        tracing::warn!(instance = %self.record.id, problem = health.problem, "unhealthy; it is stopped and started again");
        self.carry_out(Request::Stop { grace_ms: None }, Asker::HealthCheck).await
    }

    fn is_restarted_after_failure(&self, now: Instant) -> bool {
        let ran_ms = self.live.started.and_then(|started| now.since(started)).map_or(0, Nanos::as_millis_truncated);
        let (policy, attempts) = (self.record.spec.restart, self.live.restarts.attempts);
        matches!(policy.after(ExitCause::Unhealthy, None, ran_ms, attempts), AfterExit::Restart { .. })
    }
}

/// `ms` milliseconds after `at`; the end of time if that is later.
pub(super) fn after(at: Instant, ms: u64) -> Instant {
    at.after(Nanos(ms.saturating_mul(1_000_000))).unwrap_or(Instant(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answers: &[(bool, bool)]) -> (HealthStatus, u32) {
        let mut health = Health::UNKNOWN;
        for (n, &(well, starting)) in (0..).zip(answers) {
            health.take(if well { Ok(()) } else { Err("no".into()) }, starting, 2, Instant(n));
            assert_eq!((health.checked_ns, health.problem.is_none()), (Some(n), well));
        }
        (health.status, health.failures)
    }

    #[test]
    fn failures_in_a_row_make_unhealthy_and_one_answer_makes_healthy_again() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        let (well, ill) = ((true, false), (false, false));
        let rows = [
            (&[][..], (Starting, 0)),
            (&[well], (Healthy, 0)),
            (&[ill], (Starting, 1)),
            (&[ill, ill], (Unhealthy, 2)),
            (&[well, ill], (Healthy, 1)),
            (&[well, ill, well, ill], (Healthy, 1)),
            (&[well, ill, ill], (Unhealthy, 2)),
            (&[ill, ill, well], (Healthy, 0)),
        ];
        for (answers, expected) in rows {
            assert_eq!(told(answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn failures_of_the_start_period_count_only_once_it_was_well() {
        assert_eq!(told(&[(false, true); 9]), (HealthStatus::Starting, 0));
        assert_eq!(told(&[(true, true), (false, true), (false, true)]), (HealthStatus::Unhealthy, 2));
    }
}
