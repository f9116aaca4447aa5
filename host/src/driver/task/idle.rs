//! Auto-standby: an instance that is idle goes to standby by itself.

use super::Task;
use crate::driver::error::{FleetError, failed};
use crate::driver::files::blocking;
use crate::driver::request::Request;
use crate::driver::watch::{Due, Idle, after};
use crate::hypervisor;
use crate::limits::idle as limits;
use crate::vm::{Asker, State};

impl Task {
    /// Brings the instance to standby if it was idle. Either way, the time for the next check
    /// begins now.
    pub(super) async fn standby_if_idle(&mut self) -> Result<(), FleetError> {
        let Some(auto) = self.recorder.record.spec.auto_standby else { return Ok(()) };
        let folder = self.recorder.folder();
        let incarnation = self.live().incarnation;
        let used = blocking(move || hypervisor::usage(&folder, incarnation).map_err(failed)).await;
        // Without the processor time, this check only begins the time for the next one.
        let cpu_ns = used.as_ref().ok().and_then(|used| used.map(|used| used.cpu_ns));
        let now = self.host.clock.now();
        let before = self.recorder.watch.idle.take();
        let before = before.filter(|idle| idle.incarnation == incarnation);
        let failures = before.as_ref().map_or(0, |idle| idle.failures);
        self.recorder.watch.idle = Some(Idle { incarnation, since: now, cpu_ns, failures });
        self.recorder.publish();
        let span = before.and_then(|before| {
            let elapsed_ns = now.since(before.since).unwrap_or_default().0;
            Some((cpu_ns?.saturating_sub(before.cpu_ns?), elapsed_ns))
        });
        let idle = span.is_some_and(|(used_ns, elapsed_ns)| {
            is_little(used_ns, elapsed_ns, auto.cpu_permille_max)
        });
        used?;
        if !idle {
            return Ok(());
        }
        match self.carry_out(Request::Standby, Asker::AutoStandby).await {
            Ok(()) => Ok(()),
            Err(error) => self.auto_standby_failed(error).await,
        }
    }

    /// Records that an automatic standby has failed. Each attempt waits four times as long as the
    /// one before; after [`limits::ATTEMPTS_MAX`] failures there is none until the instance is used
    /// or changed.
    async fn auto_standby_failed(&mut self, error: FleetError) -> Result<(), FleetError> {
        let now = self.host.clock.now();
        let Some(idle) = &mut self.recorder.watch.idle else { return Err(error) };
        idle.failures += 1;
        if let FleetError::Unsupported(_) = error {
            idle.failures = limits::ATTEMPTS_MAX;
        }
        let failures = idle.failures;
        let next = if failures >= limits::ATTEMPTS_MAX {
            "it is given up until the instance is used or changed".to_owned()
        } else {
            let wait_ms = limits::RETRY_MS.saturating_mul(4_u64.saturating_pow(failures - 1));
            self.recorder.watch.postpone(Due::Idle, Some(after(now, wait_ms)));
            format!("it is tried again in {} s", wait_ms / 1_000)
        };
        let text = format!("auto-standby has failed {failures} times; {next}: {error}");
        let instance = &self.recorder.record.id;
        tracing::warn!(%instance, %error, failures, "auto-standby has failed; {next}");
        self.recorder.live.error = Some(text);
        self.recorder.store().await
    }

    /// Notes a report of activity; restores the instance from standby if `wake`.
    pub(super) async fn take_activity(&mut self, wake: bool) -> Result<(), FleetError> {
        self.ensure_recovered().await?;
        self.recorder.watch.active();
        self.recorder.publish();
        match self.state() {
            State::Standby { .. } if wake => self.carry_out(Request::Restore, Asker::Client).await,
            State::Deleted => {
                Err(FleetError::NotFound { key: self.recorder.record.id.to_string() })
            }
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown => Ok(()),
        }
    }
}

/// Returns whether `used_ns` is at most `permille_max` thousandths of `elapsed_ns`.
fn is_little(used_ns: u64, elapsed_ns: u64, permille_max: u32) -> bool {
    u128::from(used_ns) * 1_000 <= u128::from(elapsed_ns) * u128::from(permille_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_a_share_of_the_time_that_has_passed() {
        let second = 1_000_000_000;
        let rows = [
            (0, second, 0, true),
            (1, second, 0, false),
            (second / 20, second, 50, true),
            (second / 20 + 1, second, 50, false),
            (second, second, 1_000, true),
            (u64::MAX, u64::MAX, 1_000, true),
            (u64::MAX, second, 1_000, false),
            (0, 0, 50, true),
        ];
        for (used, elapsed, permille, little) in rows {
            assert_eq!(
                is_little(used, elapsed, permille),
                little,
                "{used} of {elapsed} with {permille}"
            );
        }
    }
}
