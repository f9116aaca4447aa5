//! The health of an instance's workload, and the restart of an unhealthy one.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use super::Task;
use crate::driver::error::FleetError;
use crate::driver::live::{Health, HealthStatus};
use crate::driver::mailbox::Order;
use crate::driver::request::Request;
use crate::driver::settings::Probe;
use crate::driver::watch::{Probes, after};
use crate::guest::protocol::{Ending, Exec, Open, What};
use crate::guest::{Guest, SessionEvent};
use crate::limits::health as limits;
use crate::units::{Instant, Nanos};
use crate::vm::{AfterExit, Asker, ExitCause};

impl Task {
    /// Probes the workload in the background; the answer arrives as an order.
    pub(super) fn probe(&mut self) {
        let Some(check) = self.recorder.record.spec.health.clone() else { return };
        let now = self.host.clock.now();
        let incarnation = self.live().incarnation;
        let known = self.recorder.watch.probes.take();
        let probes = known.filter(|probes| probes.incarnation == incarnation);
        let first = Probes { incarnation, since: now, due: now, health: Health::UNKNOWN };
        // The next probe, should the answer be lost because the mailbox is full.
        let due = after(now, check.timeout_ms.saturating_add(check.interval_ms));
        self.recorder.watch.probes = Some(Probes { due, ..probes.unwrap_or(first) });
        let pauses = self.recorder.watch.pauses;
        let host = self.host.clone();
        let slot = self.slot.clone();
        let guest = self.machine.as_ref().and_then(|machine| machine.guest().cloned());
        tokio::spawn(async move {
            let folder = host.folder(&slot.id);
            let limit = Duration::from_millis(check.timeout_ms);
            let asked = match &check.probe {
                Probe::Exec { command, working_dir } => {
                    run(guest, command, working_dir.as_deref(), limit).boxed()
                }
                Probe::Console { .. } | Probe::Tcp { .. } | Probe::Http { .. } => {
                    host.prober.ask(&folder, &check.probe)
                }
            };
            let answer = match tokio::time::timeout(limit, asked).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer in {} ms", check.timeout_ms)),
            };
            if let Err(error) = host.order(&slot, Order::Probed { incarnation, pauses, answer }) {
                tracing::warn!(instance = %slot.id, %error, "the answer to a probe was lost");
            }
        });
    }

    /// Takes the answer to a probe. An unhealthy instance is stopped if its restart policy starts
    /// it again after that.
    pub(super) async fn probed(
        &mut self,
        incarnation: u32,
        pauses: u64,
        answer: Result<(), String>,
    ) -> Result<(), FleetError> {
        let check = self.recorder.record.spec.health.clone().filter(|_| self.live().runs());
        let Some(check) = check else { return Ok(()) };
        let now = self.host.clock.now();
        let current = self.live().incarnation;
        // A guest that was held may fail to answer in time: only a success counts then.
        let was_held = pauses != self.recorder.watch.pauses;
        let probes = self.recorder.watch.probes.as_mut();
        let probes = probes.filter(|probes| probes.incarnation == current);
        let Some(probes) = probes.filter(|probes| probes.incarnation == incarnation) else {
            return Ok(());
        };
        let starting = now < after(probes.since, check.start_period_ms);
        probes.due = after(now, check.interval_ms);
        if answer.is_err() && was_held {
            self.recorder.set_timer();
            return Ok(());
        }
        probes.health.take(answer, starting, check.failures_max, now);
        let health = probes.health.clone();
        self.recorder.publish();
        if health.status != HealthStatus::Unhealthy || !self.is_restarted_after_failure(now) {
            return Ok(());
        }
        let instance = &self.recorder.record.id;
        tracing::warn!(%instance, problem = health.problem, "unhealthy; the instance is restarted");
        self.carry_out(Request::Stop { grace_ms: None }, Asker::HealthCheck).await
    }

    fn is_restarted_after_failure(&self, now: Instant) -> bool {
        let live = self.live();
        let ran = live.started.and_then(|started| now.since(started));
        let ran_ms = ran.map_or(0, Nanos::as_millis_truncated);
        let policy = self.recorder.record.spec.restart;
        let next = policy.after(ExitCause::Unhealthy, None, ran_ms, live.restarts.attempts);
        matches!(next, AfterExit::Restart { .. })
    }
}

/// Runs a program in the guest, which is healthy if that ends well. Its end is that of the future:
/// a program that takes too long is ended.
async fn run(
    guest: Option<Arc<Guest>>,
    command: &[String],
    working_dir: Option<&str>,
    limit: Duration,
) -> Result<(), String> {
    let guest = guest.ok_or("there is no agent in the guest, or no port for it")?;
    let bytes = |text: &str| text.as_bytes().to_vec();
    let exec = Exec {
        argv: command.iter().map(|word| bytes(word)).collect(),
        cwd: bytes(working_dir.unwrap_or("/")),
        ..Exec::default()
    };
    let open = Open { what: What::Exec(exec), timeout_ms: 0 };
    let mut session = guest.open(open, limit).await.map_err(|error| error.to_string())?;
    let mut said = Vec::new();
    loop {
        match session.next().await.map_err(|error| error.to_string())? {
            SessionEvent::Output { bytes, .. } => {
                said.extend(bytes);
                said.drain(..said.len().saturating_sub(limits::SAID_BYTES_MAX));
            }
            SessionEvent::Ended(Ending::Code(0)) => return Ok(()),
            SessionEvent::Ended(ending) => {
                let said = String::from_utf8_lossy(&said).trim().to_owned();
                let how = match ending {
                    Ending::Code(code) => format!("{} ended with {code}", command[0]),
                    Ending::Signal(signal) => format!("{} was killed by {signal}", command[0]),
                    Ending::TimedOut => format!("{} took too long", command[0]),
                };
                return Err(if said.is_empty() { how } else { format!("{how}: {said}") });
            }
        }
    }
}
