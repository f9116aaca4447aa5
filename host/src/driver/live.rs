//! Where one instance stands, and the one function that moves it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::{Record, Snapshot, Spec};
use super::request::{Intent, Request};
use crate::billing::account::Account;
use crate::units::{Instant, Nanos};
use crate::vm::{
    AfterExit, Asker, Command, Event, ExitCause, Impossible, RestartPolicy, Shape, State, apply,
};

/// Attempts to start an instance again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restarts {
    /// How many were made in a row.
    pub attempts: u32,
    /// When the last one was made: meter nanoseconds.
    pub last_ns: Option<i64>,
    /// When the next one is due: meter nanoseconds; none if there is none to come.
    pub due_ns: Option<i64>,
}

/// Where an instance stands, beside its account. Written with every fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The state.
    pub state: State,
    /// What it holds.
    pub shape: Shape,
    /// Number of the start under way or last, from 1.
    pub session: u32,
    /// Number of the virtual machine monitor's process, from 1; grows with each launch.
    pub incarnation: u32,
    /// What was accepted and is not finished.
    pub intent: Option<Intent>,
    /// The guest's program has started.
    pub program_started: bool,
    /// The guest's agent answers.
    pub agent_ready: bool,
    /// When the vCPUs ran first in this session.
    pub started: Option<Instant>,
    /// When it stopped or went to standby last.
    pub stopped: Option<Instant>,
    /// Why it stopped last.
    pub cause: Option<ExitCause>,
    /// The exit code that the guest's program reported.
    pub exit_code: Option<i32>,
    /// What it said about it.
    pub exit_message: Option<String>,
    /// What went wrong last, in words for the client.
    pub error: Option<String>,
    /// Attempts to start it again.
    pub restarts: Restarts,
    /// When the schedule's next snapshot is due: meter nanoseconds.
    pub snapshot_due_ns: Option<i64>,
}

impl Live {
    /// Where an instance stands that was just accepted.
    pub(super) fn first(spec: &Spec) -> Self {
        let shape = Shape {
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            disk_bytes: spec.disk_bytes(),
            snapshot_bytes: 0,
        };
        Self {
            state: State::Created,
            shape,
            session: 1,
            incarnation: 1,
            intent: Some(Intent {
                request: Request::Start,
                by: Asker::Client,
                ran: false,
                at_ns: None,
            }),
            program_started: false,
            agent_ready: false,
            started: None,
            stopped: None,
            cause: None,
            exit_code: None,
            exit_message: None,
            error: None,
            restarts: Restarts::default(),
            snapshot_due_ns: None,
        }
    }

    /// The command that was accepted and is not finished.
    pub fn command(&self) -> Option<Command> {
        self.intent.as_ref().map(|intent| intent.request.command())
    }

    /// On whose behalf it was accepted.
    pub(super) fn asker(&self) -> Option<Asker> {
        self.intent.as_ref().map(|intent| intent.by)
    }

    /// The vCPUs run.
    pub(super) fn runs(&self) -> bool {
        match self.state {
            State::Initializing | State::Running => true,
            State::Created
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => false,
        }
    }

    /// The vCPUs are held.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.state, State::Paused { .. })
    }

    /// They are held for the sake of the request under way alone, and run again when it ends.
    pub(super) fn is_paused_for_request(&self) -> bool {
        self.is_paused() && self.intent.as_ref().is_some_and(|intent| intent.ran)
    }

    /// Takes the step that `event` is at `at`, with all that follows from it: there is no other
    /// place where the state moves, and nothing that depends on it is left behind.
    pub(super) fn enter(
        &mut self,
        event: Event,
        at: Instant,
        policy: &RestartPolicy,
    ) -> Result<(), Impossible> {
        self.state = apply(self.state, event)?;
        let command = self.command();
        match event {
            Event::Created => self.begin_session(at),
            Event::Booted => self.started = Some(at),
            Event::Exited(cause) => {
                self.stopped = Some(at);
                self.cause = Some(cause);
            }
            Event::Slept | Event::Reverted { .. } => self.stopped = Some(at),
            // Other disks than before: the schedule takes its next snapshot of them.
            Event::Reshaped if command == Some(Command::Revert) => self.stopped = Some(at),
            Event::Ready
            | Event::Paused
            | Event::Resumed
            | Event::ShutdownRequested
            | Event::Loaded
            | Event::Reshaped
            | Event::Lost
            | Event::Deleted => {}
        }
        if command.is_some_and(|command| completes(event, command)) {
            self.complete();
        }
        self.plan_restart(event, at, policy);
        Ok(())
    }

    /// The request under way has come to its end.
    pub(super) fn complete(&mut self) {
        self.intent = None;
    }

    /// Becomes what it was when the snapshot was taken, as far as that is part of one. `disk_bytes`
    /// is the size of its disks then, `kept_bytes` what all its snapshots take.
    pub(super) fn put_back(&mut self, snapshot: &Snapshot, disk_bytes: u64, kept_bytes: u64) {
        let memory = snapshot.memory;
        self.exit_code = None;
        self.exit_message = None;
        self.cause = None;
        self.program_started = memory.is_some_and(|memory| memory.program_started);
        self.agent_ready = memory.is_some_and(|memory| memory.agent_ready);
        self.shape = Shape {
            vcpus: snapshot.vcpus,
            memory_bytes: memory.map_or(snapshot.memory_bytes, |memory| memory.guest_bytes),
            disk_bytes,
            snapshot_bytes: kept_bytes + memory.map_or(0, |memory| memory.bytes),
        };
    }

    /// A new session from nothing: what was said of the one before is not said of this one.
    fn begin_session(&mut self, at: Instant) {
        self.session += 1;
        self.restarts = match self.asker() {
            Some(Asker::RestartPolicy) => Restarts {
                attempts: self.restarts.attempts.saturating_add(1),
                last_ns: Some(at.0),
                due_ns: None,
            },
            Some(
                Asker::Client
                | Asker::Expiry
                | Asker::Schedule
                | Asker::HealthCheck
                | Asker::AutoStandby,
            )
            | None => Restarts::default(),
        };
        self.error = None;
        self.cause = None;
        self.exit_code = None;
        self.exit_message = None;
        self.started = None;
        self.program_started = false;
        self.agent_ready = false;
    }

    /// Decides, with the fact of an end and in the same commit, whether and when the instance is
    /// started again.
    fn plan_restart(&mut self, event: Event, at: Instant, policy: &RestartPolicy) {
        if self.state != State::Stopped {
            self.restarts.due_ns = None;
        }
        let Event::Exited(cause) = event else { return };
        // Whoever asked for the start has been told that it failed.
        if cause == ExitCause::LaunchFailed && self.restarts.last_ns.is_none() {
            return;
        }
        let ran = self.started.and_then(|started| at.since(started));
        let ran_ms = ran.map_or(0, Nanos::as_millis_truncated);
        match policy.after(cause, self.exit_code, ran_ms, self.restarts.attempts) {
            AfterExit::Rest | AfterExit::Exhausted => {}
            AfterExit::Restart { attempt, wait_ms } => {
                self.restarts.attempts = attempt - 1;
                let wait = Nanos(wait_ms.saturating_mul(1_000_000));
                self.restarts.due_ns = at.after(wait).map(|at| at.0);
            }
        }
    }
}

/// Says whether a request for `command` ends with `event`. Those that end without an event of their
/// own, a fork and a snapshot, end with [`Live::complete`].
fn completes(event: Event, command: Command) -> bool {
    match event {
        Event::Booted => command == Command::Start,
        Event::Paused => command == Command::Pause,
        Event::Resumed => matches!(command, Command::Resume | Command::Restore),
        Event::Slept => command == Command::Standby,
        Event::Exited(cause) => match command {
            Command::Stop | Command::Revert => true,
            Command::Start => cause == ExitCause::LaunchFailed,
            Command::Pause
            | Command::Resume
            | Command::Standby
            | Command::Restore
            | Command::Delete
            | Command::Snapshot
            | Command::Discard
            | Command::Fork
            | Command::Resize => false,
        },
        Event::Reverted { .. } => command == Command::Revert,
        Event::Reshaped => {
            matches!(command, Command::Discard | Command::Revert | Command::Resize)
        }
        Event::Deleted => true,
        Event::Created | Event::Ready | Event::ShutdownRequested | Event::Loaded | Event::Lost => {
            false
        }
    }
}

/// An instance as it is published to readers: one consistent value.
#[derive(Debug, Clone)]
pub struct View {
    /// What it is.
    pub record: Arc<Record>,
    /// Where it stands.
    pub live: Live,
    /// Its time.
    pub account: Account,
    /// Sequence number of its last fact.
    pub last_fact: u64,
    /// When the record was closed.
    pub deleted: Option<Instant>,
    /// What is known of its workload; none if it is not asked. Only what happens since the start of
    /// the daemon.
    pub health: Option<Health>,
    /// Since when it may turn out to be idle; none if that is of no interest.
    pub idle_since: Option<Instant>,
}

/// The findings of the probes of the launch under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The finding.
    pub status: HealthStatus,
    /// Failures in a row that count.
    pub failures: u32,
    /// When it was asked last: meter nanoseconds.
    pub checked_ns: Option<i64>,
    /// The failure of the last probe; none if it succeeded.
    pub problem: Option<String>,
}

/// The health of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// It was not healthy yet, and may still be starting.
    Starting,
    /// It was healthy when it was asked last, or has not failed often enough to be called
    /// otherwise.
    Healthy,
    /// It failed as often in a row as its check allows.
    Unhealthy,
}

impl Health {
    /// That of a launch of which nothing is known.
    pub(super) const UNKNOWN: Health =
        Health { status: HealthStatus::Starting, failures: 0, checked_ns: None, problem: None };

    /// Takes up an answer that came at `now`, within the start period or after it.
    pub(super) fn take(
        &mut self,
        answer: Result<(), String>,
        starting: bool,
        failures_max: u32,
        now: Instant,
    ) {
        self.checked_ns = Some(now.0);
        self.problem = answer.err();
        match (&self.problem, self.status) {
            (None, _) => {
                self.status = HealthStatus::Healthy;
                self.failures = 0;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(answers: &[(bool, bool)]) -> (HealthStatus, u32) {
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
            assert_eq!(taken(answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn failures_of_the_start_period_count_only_once_it_was_well() {
        assert_eq!(taken(&[(false, true); 9]), (HealthStatus::Starting, 0));
        assert_eq!(
            taken(&[(true, true), (false, true), (false, true)]),
            (HealthStatus::Unhealthy, 2)
        );
    }
}
