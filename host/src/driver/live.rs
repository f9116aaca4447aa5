//! The state of one instance beside its account, and the one function that changes it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::admission::Claim;
use super::record::{Record, Snapshot, Spec};
use super::request::{Intent, Request};
use crate::billing::account::Account;
use crate::billing::{Entered, InstanceFact};
use crate::hypervisor::Observed;
use crate::network::Link;
use crate::units::{Instant, Nanos};
use crate::vm::{
    AfterExit, Asker, Command, Event, ExitCause, Impossible, Phase, RestartPolicy, Shape, State,
    Traffic, apply,
};

/// Automatic restarts of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restarts {
    /// Number of restarts in a row.
    pub attempts: u32,
    /// Instant of the last restart, in meter nanoseconds; none without one in this row.
    pub last_ns: Option<i64>,
    /// Instant at which the next restart is due, in meter nanoseconds; none if none is planned.
    pub due_ns: Option<i64>,
}

/// The state of an instance, beside its account. Stored with every fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The lifecycle state.
    pub state: State,
    /// The resources that the instance holds.
    pub shape: Shape,
    /// Number of the current or last session, from 1; grows with each start. 0 for a fork without
    /// memory that never ran.
    pub session: u32,
    /// Number of the current or last launch of a virtual machine monitor, from 1; grows with each
    /// launch. 0 for a fork that never ran.
    pub incarnation: u32,
    /// The request that was accepted and is not finished; none if none is under way.
    pub intent: Option<Intent>,
    /// Set once the guest's program has started in this session.
    pub program_started: bool,
    /// Set once the guest's agent has answered in this session.
    pub agent_ready: bool,
    /// Instant at which the vCPUs first ran in this session; none before that.
    pub started: Option<Instant>,
    /// Instant of the last stop, standby or revert; none without one.
    pub stopped: Option<Instant>,
    /// Cause of the last stop; none without one since the last start.
    pub cause: Option<ExitCause>,
    /// The exit code that the guest's program reported; none without a report in this session.
    pub exit_code: Option<i32>,
    /// The message that the guest's program reported with its exit code.
    pub exit_message: Option<String>,
    /// The last failure, in words for the client; none if a request or session began since.
    pub error: Option<String>,
    /// The automatic restarts.
    pub restarts: Restarts,
    /// Instant at which the schedule's next snapshot is due, in meter nanoseconds; none without
    /// one.
    pub snapshot_due_ns: Option<i64>,
    /// The guest's traffic since the creation, as it was read last.
    pub traffic: Traffic,
    /// The part of it that the last launch has counted.
    pub counted: Traffic,
}

impl Live {
    /// The fact that the instance, as it is, entered a phase.
    pub(super) fn entered(&self, phase: Phase, cause: Option<ExitCause>) -> InstanceFact {
        let Self { shape, session, traffic, .. } = *self;
        InstanceFact::Entered(Entered { phase, shape, session, cause, traffic })
    }

    /// The state of an instance that was just accepted.
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
            traffic: Traffic::NONE,
            counted: Traffic::NONE,
        }
    }

    /// Begins the launch of a virtual machine monitor, of a number that was never used.
    pub(super) fn begin_launch(&mut self, incarnation: u32) {
        self.incarnation = incarnation;
        self.counted = Traffic::NONE;
    }

    /// Takes what the launch under way has counted since it began.
    pub(super) fn count(&mut self, counted: Traffic) {
        self.traffic = self.traffic.plus(counted.since(self.counted));
        self.counted = counted;
    }

    /// The instance's claim on the host: processors and memory while it has a machine or is about
    /// to have one, disks always.
    pub fn claim(&self) -> Claim {
        let has_machine = match self.state {
            State::Stopped | State::Standby { .. } | State::Deleted => {
                matches!(self.command(), Some(Command::Start | Command::Restore))
            }
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Unknown => true,
        };
        if has_machine { Claim::of_machine(self.shape) } else { Claim::at_rest(self.shape) }
    }

    /// The command that was accepted and is not finished.
    pub fn command(&self) -> Option<Command> {
        self.intent.as_ref().map(|intent| intent.request.command())
    }

    /// The origin of the request that is under way.
    pub(super) fn asker(&self) -> Option<Asker> {
        self.intent.as_ref().map(|intent| intent.by)
    }

    /// Returns whether the vCPUs run.
    pub fn runs(&self) -> bool {
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

    /// Returns whether the vCPUs are held.
    pub(super) fn is_paused(&self) -> bool {
        matches!(self.state, State::Paused { .. })
    }

    /// Returns whether the vCPUs are held only for the request under way, and run again when it
    /// ends.
    pub(super) fn is_paused_for_request(&self) -> bool {
        self.is_paused() && self.intent.as_ref().is_some_and(|intent| intent.ran)
    }

    /// Applies `event`, which happened at `at`, with all that follows from it. The state changes
    /// nowhere else, and no field that depends on it is left behind.
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
            Event::Saved | Event::Reverted { .. } => self.stopped = Some(at),
            // The disks have changed: the schedule has a new state to take a snapshot of.
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

    /// Takes what the guest says of itself. What a VMM says of its vCPUs and its end is an event.
    pub(super) fn note(&mut self, seen: &Observed) {
        match seen {
            Observed::ProgramStarted(_) => self.program_started = true,
            Observed::AgentReady(_) => self.agent_ready = true,
            Observed::ProgramExited { code, message, .. } => {
                self.exit_code = Some(*code);
                self.exit_message = Some(message.clone());
            }
            Observed::Launched(_)
            | Observed::Paused(_)
            | Observed::Resumed(_)
            | Observed::Exited(_) => {}
        }
    }

    /// Ends the request under way.
    pub(super) fn complete(&mut self) {
        self.intent = None;
    }

    /// Restores the fields that are part of a snapshot. `disk_bytes` is the sum of the sizes of its
    /// writable disks, `kept_bytes` the size on disk of all kept snapshots.
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

    /// Begins a new session, at `at`: findings about the one before are cleared.
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

    /// Decides whether and when the instance is restarted, in the same commit as the fact of its
    /// exit.
    fn plan_restart(&mut self, event: Event, at: Instant, policy: &RestartPolicy) {
        if self.state != State::Stopped {
            self.restarts.due_ns = None;
        }
        let Event::Exited(cause) = event else { return };
        // The caller of the start gets its failure as the answer.
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

/// Returns whether `event` ends a request for `command`. Forks and snapshots, which have no event
/// of their own, end with [`Live::complete`].
fn completes(event: Event, command: Command) -> bool {
    match event {
        Event::Booted => command == Command::Start,
        Event::Paused => command == Command::Pause,
        Event::Resumed => matches!(command, Command::Resume | Command::Restore),
        Event::Saved => command == Command::Standby,
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
    /// The instance's record.
    pub record: Arc<Record>,
    /// The instance's state.
    pub live: Live,
    /// The instance's account of time.
    pub account: Account,
    /// Sequence number of the instance's last fact.
    pub last_fact: u64,
    /// Instant of the deletion; none while the instance exists.
    pub deleted: Option<Instant>,
    /// Health of the workload since the start of the daemon; none if it is not probed.
    pub health: Option<Health>,
    /// Begin of the time that is examined for idleness; none without auto-standby or if nothing
    /// runs.
    pub idle_since: Option<Instant>,
    /// The guest's network; none without one, or while nothing runs.
    pub link: Option<Arc<dyn Link>>,
}

/// The findings of the probes of the launch under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The finding.
    pub status: HealthStatus,
    /// Number of failures in a row, without those of the start period.
    pub failures: u32,
    /// Number of successes in a row.
    pub successes: u32,
    /// Instant of the last success, in meter nanoseconds; none before the first.
    pub success_ns: Option<i64>,
    /// Instant of the last failure, in meter nanoseconds; none before the first.
    pub failure_ns: Option<i64>,
    /// Instant of the last answer, in meter nanoseconds; none before the first.
    pub checked_ns: Option<i64>,
    /// The failure of the last probe; none if it succeeded.
    pub problem: Option<String>,
}

/// The health of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// The workload was not healthy yet, and may still be starting.
    Starting,
    /// The last probe succeeded, or fewer have failed in a row than the check allows.
    Healthy,
    /// As many probes failed in a row as the check allows.
    Unhealthy,
}

impl Health {
    /// The health of a launch that was not probed yet.
    pub(super) const UNKNOWN: Health = Health {
        status: HealthStatus::Starting,
        failures: 0,
        successes: 0,
        success_ns: None,
        failure_ns: None,
        checked_ns: None,
        problem: None,
    };

    /// Takes the answer to a probe at `now`. While `starting`, failures before the first success do
    /// not count.
    pub(super) fn take(
        &mut self,
        answer: Result<(), String>,
        starting: bool,
        failures_max: u32,
        now: Instant,
    ) {
        self.checked_ns = Some(now.0);
        self.problem = answer.err();
        let last = if self.problem.is_none() { &mut self.success_ns } else { &mut self.failure_ns };
        *last = Some(now.0);
        self.successes = match self.problem {
            None => self.successes.saturating_add(1),
            Some(_) => 0,
        };
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
        let well = (true, false);
        let ill = (false, false);
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
