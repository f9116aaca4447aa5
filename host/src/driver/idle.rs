//! Whether an instance has anything to do. One that has not goes to standby by itself, if it was told to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Fleet;
use super::error::FleetError;
use super::health::after;
use super::record::View;
use super::request::Request;
use super::slot::Order;
use super::task::{Task, blocking, failed};
use crate::hypervisor::{self, Capability, Description};
use crate::id::{InstanceId, TenantId};
use crate::limits::idle as limits;
use crate::units::Instant;
use crate::vm::{Asker, State};

/// When an instance goes to standby by itself: nobody has reported activity for so long, and its virtual machine monitor has used little of a
/// processor in that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoStandby {
    /// How long, in milliseconds.
    pub idle_after_ms: u64,
    /// So much of one processor is little, in thousandths, on average over that time.
    pub cpu_permille_max: u32,
}

/// The time in which it may turn out to be idle.
pub(super) struct Idle {
    incarnation: u32,
    since: Instant,
    /// What its monitor had used by then.
    cpu_ns: u64,
}

/// Whether a setting is inside its limits and the hypervisor can do that.
pub(super) fn check(auto: &AutoStandby, hypervisor: &Description) -> Result<(), FleetError> {
    hypervisor.require(Capability::Snapshots).map_err(failed)?;
    let row = ("auto_standby.idle_after", auto.idle_after_ms, limits::AFTER_MS_MIN, limits::AFTER_MS_MAX);
    super::amend::within(row)?;
    if auto.cpu_permille_max <= limits::CPU_PERMILLE_MAX {
        return Ok(());
    }
    let problem = format!("must be 0 to {}, is {}", limits::CPU_PERMILLE_MAX, auto.cpu_permille_max);
    Err(FleetError::Invalid { field: "auto_standby.cpu_permille", problem })
}

/// Whether a processor was used so little in `elapsed_ns` nanoseconds.
fn is_little(used_ns: u64, elapsed_ns: u64, permille_max: u32) -> bool {
    u128::from(used_ns) * 1_000 <= u128::from(elapsed_ns) * u128::from(permille_max)
}

impl Fleet {
    /// Takes up a report that something came in for an instance, and wakes it from standby if it is to be woken.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub async fn report_activity(
        &self,
        tenant: &TenantId,
        id: &InstanceId,
        wake: bool,
    ) -> Result<Arc<View>, FleetError> {
        let slot = self.slot(tenant, id)?;
        let (reply, answer) = oneshot::channel();
        let (host, owned) = (self.0.clone(), slot.clone());
        slot.send(Order::Activity { wake, reply }, |orders| {
            tokio::spawn(Task::new(host, owned, orders).run());
        })?;
        answer.await.map_err(|_| FleetError::Stopping)?
    }
}

impl Task {
    /// Since when nothing is known to have happened, if that is of interest.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.record.spec.auto_standby.filter(|_| self.live.state == State::Running)?;
        self.idle.as_ref().filter(|idle| idle.incarnation == self.live.incarnation).map(|idle| idle.since)
    }

    /// When to look whether it was idle.
    pub(super) fn idle_due(&self) -> Option<Instant> {
        let auto = self.record.spec.auto_standby.filter(|_| self.live.state == State::Running)?;
        Some(self.idle_since().map_or(Instant(0), |since| after(since, auto.idle_after_ms)))
    }

    /// Puts it to standby if it was idle. Either way, what happens from now on counts for the next look.
    pub(super) async fn look_for_idleness(&mut self) -> Result<(), FleetError> {
        let Some(auto) = self.record.spec.auto_standby else { return Ok(()) };
        let (folder, incarnation) = (self.host.folder(&self.record.id), self.live.incarnation);
        let used = blocking(move || hypervisor::usage(&folder, incarnation).map_err(failed)).await?;
        let now = self.host.clock.now();
        let before = self.idle.take().filter(|idle| idle.incarnation == incarnation);
        // Without a number for its monitor, that is about to be known to have ended.
        let Some(cpu_ns) = used.map(|used| used.cpu_ns) else { return Ok(()) };
        self.idle = Some(Idle { incarnation, since: now, cpu_ns });
        let idle = before.is_some_and(|before| {
            let elapsed_ns = now.since(before.since).unwrap_or_default().0;
            is_little(cpu_ns.saturating_sub(before.cpu_ns), elapsed_ns, auto.cpu_permille_max)
        });
        self.publish();
        if idle { self.carry_out(Request::Standby, Asker::AutoStandby).await } else { Ok(()) }
    }

    /// Something came in.
    pub(super) async fn take_up_activity(&mut self, wake: bool) -> Result<(), FleetError> {
        self.find_again().await?;
        self.idle = None;
        self.publish();
        match self.live.state {
            State::Standby { .. } if wake => self.carry_out(Request::Restore, Asker::Client).await,
            State::Deleted => Err(FleetError::NotFound { key: self.record.id.to_string() }),
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
