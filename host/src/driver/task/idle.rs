//! Auto-standby: an instance that is idle goes to standby by itself.

use super::Task;
use crate::driver::error::{FleetError, failed};
use crate::driver::files::blocking;
use crate::driver::request::Request;
use crate::driver::watch::Idle;
use crate::hypervisor;
use crate::vm::{Asker, State};

impl Task {
    /// Puts it to standby if it was idle. Either way, what happens from now on counts for the next
    /// look.
    pub(super) async fn standby_if_idle(&mut self) -> Result<(), FleetError> {
        let Some(auto) = self.recorder.record.spec.auto_standby else { return Ok(()) };
        let folder = self.recorder.folder();
        let incarnation = self.live().incarnation;
        let used = blocking(move || hypervisor::usage(&folder, incarnation).map_err(failed)).await?;
        let now = self.host.clock.now();
        let before = self.recorder.watch.idle.take();
        let before = before.filter(|idle| idle.incarnation == incarnation);
        // Without a number for its monitor, that is about to be known to have ended.
        let Some(cpu_ns) = used.map(|used| used.cpu_ns) else { return Ok(()) };
        self.recorder.watch.idle = Some(Idle { incarnation, since: now, cpu_ns });
        let idle = before.is_some_and(|before| {
            let elapsed_ns = now.since(before.since).unwrap_or_default().0;
            let used_ns = cpu_ns.saturating_sub(before.cpu_ns);
            is_little(used_ns, elapsed_ns, auto.cpu_permille_max)
        });
        self.recorder.publish();
        if !idle {
            return Ok(());
        }
        self.carry_out(Request::Standby, Asker::AutoStandby).await
    }

    /// Takes up a report of activity; restores the instance from standby if `wake`.
    pub(super) async fn take_activity(&mut self, wake: bool) -> Result<(), FleetError> {
        self.ensure_recovered().await?;
        self.recorder.watch.idle = None;
        self.recorder.publish();
        match self.state() {
            State::Standby { .. } if wake => self.carry_out(Request::Restore, Asker::Client).await,
            State::Deleted => Err(FleetError::NotFound { key: self.recorder.record.id.to_string() }),
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

/// Says whether a processor was used so little in `elapsed_ns` nanoseconds.
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
            assert_eq!(is_little(used, elapsed, permille), little, "{used} of {elapsed} with {permille}");
        }
    }
}
