//! The meter clock: the only file that asks the system for the time.
//!
//! One continuous scale, integer nanoseconds: `CLOCK_BOOTTIME` plus an offset that is fixed once per boot. It never steps, never runs
//! backwards, and counts host suspend.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::sync::watch;

use crate::billing::{BootId, Reading};
use crate::units::{Instant, Nanos};

/// Longest time to sleep at once. The kernel's timers stand still while the host is suspended; the meter does not.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The meter clock of this boot. Clones are one clock.
#[derive(Debug, Clone)]
pub struct Clock {
    boot: BootId,
    offset_ns: i64,
    /// Time that a simulation has let pass at once, in nanoseconds. Nothing else does.
    skipped_ns: Arc<watch::Sender<u64>>,
}

/// Why there is no clock.
#[derive(Debug, thiserror::Error)]
#[error("can't read the boot id from {PATH}; is /proc mounted?")]
pub struct NoBootId(#[source] std::io::Error);

const PATH: &str = "/proc/sys/kernel/random/boot_id";

/// The running boot's id.
///
/// # Errors
/// [`NoBootId`] where `/proc` is not there.
pub fn boot_id() -> Result<BootId, NoBootId> {
    let text = std::fs::read_to_string(PATH).map_err(NoBootId)?;
    Ok(BootId(text.trim().into()))
}

/// `CLOCK_BOOTTIME` in nanoseconds.
pub fn boottime_ns() -> u64 {
    nanos(clock_gettime(ClockId::Boottime)).unsigned_abs()
}

/// `CLOCK_REALTIME` in nanoseconds since 1970.
pub fn wall_ns() -> i64 {
    nanos(clock_gettime(ClockId::Realtime))
}

fn nanos(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

impl Clock {
    /// The clock of `boot` with an offset that an earlier start in the same boot has fixed.
    pub fn resume(boot: BootId, offset_ns: i64) -> Self {
        Self { boot, offset_ns, skipped_ns: Arc::default() }
    }

    /// The clock of a boot that the journal does not know yet: the wall clock now, but never before `last`, the last instant in the
    /// journal.
    pub fn first_in_boot(boot: BootId, last: Option<Instant>) -> Self {
        Self::anchored(boot, boottime_ns(), wall_ns(), last)
    }

    fn anchored(boot: BootId, boottime_ns: u64, wall_ns: i64, last: Option<Instant>) -> Self {
        let now = last.map_or(wall_ns, |last| wall_ns.max(last.0));
        Self::resume(boot, now.saturating_sub_unsigned(boottime_ns))
    }

    /// Nanoseconds between `CLOCK_BOOTTIME` and the meter.
    pub fn offset_ns(&self) -> i64 {
        self.offset_ns
    }

    /// The boot this clock belongs to.
    pub fn boot(&self) -> &BootId {
        &self.boot
    }

    /// Now.
    pub fn now(&self) -> Instant {
        self.meter(boottime_ns().saturating_add(self.skipped_ns()))
    }

    /// Now, on all four clocks.
    pub fn reading(&self) -> Reading {
        let skipped = self.skipped_ns();
        self.reading_of(boottime_ns().saturating_add(skipped), wall_ns().saturating_add_unsigned(skipped))
    }

    /// Waits until `at` has come. Cancel-safe.
    pub async fn reaches(&self, at: Instant) {
        let mut skips = self.skipped_ns.subscribe();
        while let Some(left) = at.since(self.now()).filter(|left| left.0 > 0) {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_nanos(left.0).min(SLEEP_MAX)) => {}
                // The sender is ours.
                _ = skips.changed() => {}
            }
        }
    }

    /// Lets time pass at once, for all clones: whoever simulates hours has not to wait for them.
    pub fn skip(&self, time: Nanos) {
        self.skipped_ns.send_modify(|skipped| *skipped = skipped.saturating_add(time.0));
    }

    fn skipped_ns(&self) -> u64 {
        *self.skipped_ns.borrow()
    }

    /// The reading of an instant of this boot that was noted elsewhere, such as by an instance's supervisor.
    pub fn reading_of(&self, boottime_ns: u64, wall_ns: i64) -> Reading {
        Reading { boot: self.boot.clone(), boottime_ns, wall_ns, meter: self.meter(boottime_ns) }
    }

    /// The instant of a `CLOCK_BOOTTIME` of this boot.
    pub fn meter(&self, boottime_ns: u64) -> Instant {
        Instant(self.offset_ns.saturating_add_unsigned(boottime_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_boot_starts_at_the_wall_clock_but_never_before_the_journal() {
        let boot = BootId("b".into());
        let fresh = Clock::anchored(boot.clone(), 10, 1_000, None);
        assert_eq!(fresh.meter(10), Instant(1_000));
        let behind = Clock::anchored(boot.clone(), 10, 1_000, Some(Instant(5_000)));
        assert_eq!(behind.meter(10), Instant(5_000));
        let ahead = Clock::anchored(boot, 10, 9_000, Some(Instant(5_000)));
        assert_eq!(ahead.meter(12), Instant(9_002));
    }

    #[tokio::test]
    async fn time_that_is_skipped_has_passed_for_all_clones_and_for_whoever_waits() {
        let clock = Clock::first_in_boot(boot_id().expect("proc"), None);
        let before = clock.now();
        let at = before.after(Nanos(3_600_000_000_000)).expect("an hour");
        let waiting = clock.reaches(at);
        let skipping = async { clock.clone().skip(Nanos(3_600_000_000_000)) };
        tokio::join!(waiting, skipping);
        assert!(clock.now() >= at);
        let reading = clock.reading();
        assert_eq!(clock.meter(reading.boottime_ns), reading.meter);
        clock.reaches(before).await;
    }

    #[test]
    fn it_never_runs_backwards() {
        let clock = Clock::first_in_boot(boot_id().expect("proc"), None);
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
