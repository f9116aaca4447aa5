//! The meter clock: the only file that asks the system for the time.
//!
//! One continuous scale, integer nanoseconds: `CLOCK_BOOTTIME` plus an offset that is fixed once
//! per boot. It never steps, never runs backwards, and counts host suspend.
//!
//! The time between two boots is known to the wall clock only. It is trusted if it is synchronised
//! now and was when it was last noted ([`join`]). Otherwise the meter goes on from the last instant
//! with the time that has passed in this boot, and a fact records that time may be missing: a clock
//! that is thirty days behind at one boot, and right at the next, must not bill thirty days.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::billing::{BootId, GapReason, Reading};
use crate::mutants::Mutant;
use crate::units::{Instant, Nanos};

/// Longest single sleep. The kernel's timers stand still while the host is suspended; the meter
/// does not.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The meter clock of this boot. Clones are one clock.
#[derive(Debug, Clone)]
pub struct Clock {
    boot: BootId,
    offset_ns: i64,
    /// Time that a simulation has skipped, in nanoseconds; zero outside simulations.
    skipped_ns: Arc<watch::Sender<u64>>,
}

/// Error of reading the boot's id, without which there is no clock.
#[derive(Debug, thiserror::Error)]
#[error("can't read the boot id from {PATH}; is /proc mounted?")]
pub struct NoBootId(#[source] std::io::Error);

const PATH: &str = "/proc/sys/kernel/random/boot_id";

/// Reads the running boot's id.
///
/// # Errors
/// [`NoBootId`] if `/proc` is not mounted.
pub fn boot_id() -> Result<BootId, NoBootId> {
    let text = std::fs::read_to_string(PATH).map_err(NoBootId)?;
    Ok(BootId(text.trim().into()))
}

/// `CLOCK_BOOTTIME` in nanoseconds.
pub fn boottime_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME).unsigned_abs()
}

/// `CLOCK_REALTIME` in nanoseconds since 1970.
pub fn wall_ns() -> i64 {
    read(libc::CLOCK_REALTIME)
}

/// `CLOCK_MONOTONIC` in nanoseconds: `CLOCK_BOOTTIME` without the time in which the host was
/// suspended.
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC).unsigned_abs()
}

/// Returns whether the kernel reports the wall clock as synchronised, by NTP or the like.
pub fn is_synchronised() -> bool {
    // SAFETY: a record of integers, for which zero is a value; without modes nothing is set.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the record is ours and lives through the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0
}

/// Reads a clock, in nanoseconds, through the C library, which tests can interpose.
fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the record is ours and lives through the call, which fails only for a clock that is
    // not there.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// A reading of the host's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostTime {
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME` in nanoseconds since 1970.
    pub wall_ns: i64,
    /// True if the kernel reports the wall clock as synchronised.
    pub is_synchronised: bool,
}

impl HostTime {
    /// Reads the clocks.
    pub fn now() -> Self {
        Self { boottime_ns: boottime_ns(), wall_ns: wall_ns(), is_synchronised: is_synchronised() }
    }
}

/// The last that is known of an earlier boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastKnown {
    /// The last instant at which the host is proved to have run.
    pub meter: Instant,
    /// UTC at that instant, in nanoseconds since 1970, by the calendar.
    pub utc_ns: i64,
    /// True if the wall clock was synchronised at that instant.
    pub is_synchronised: bool,
}

/// A time between two boots of which only the minimum is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Reason not to trust the wall clock.
    pub reason: GapReason,
    /// Time passed by the wall clock, in nanoseconds; negative if it was set back.
    pub claimed_ns: i64,
    /// Time that the meter counts instead, in nanoseconds: since this boot began.
    pub counted_ns: u64,
}

/// Returns the clock of a new boot after an earlier one that is known up to `last`, and the gap if
/// nothing proves how much time lies between the two.
pub fn join(boot: BootId, now: &HostTime, last: &LastKnown) -> (Clock, Option<Gap>) {
    let claimed_ns = now.wall_ns.saturating_sub(last.utc_ns);
    let counted_ns = now.boottime_ns;
    let reason = if Mutant::GapBelieved.is_active() {
        None
    } else if !last.is_synchronised {
        Some(GapReason::NeverSynchronised)
    } else if !now.is_synchronised {
        Some(GapReason::NotSynchronised)
    } else {
        let is_less = u64::try_from(claimed_ns).is_ok_and(|claimed| claimed >= counted_ns);
        (!is_less).then_some(GapReason::WentBack)
    };
    let passed_ns = match reason {
        None => claimed_ns.unsigned_abs(),
        Some(_) => counted_ns,
    };
    let meter = Instant(last.meter.0.saturating_add_unsigned(passed_ns));
    (Clock::at(boot, now, meter), reason.map(|reason| Gap { reason, claimed_ns, counted_ns }))
}

impl Clock {
    /// The clock of `boot` with the offset, in nanoseconds, that an earlier start in the same boot
    /// has fixed.
    pub fn resume(boot: BootId, offset_ns: i64) -> Self {
        Self { boot, offset_ns, skipped_ns: Arc::default() }
    }

    /// The clock of a host's first boot, which begins at the wall clock.
    pub fn first_in_boot(boot: BootId) -> Self {
        let now = HostTime::now();
        Self::at(boot, &now, Instant(now.wall_ns))
    }

    /// The clock of a boot that reads `meter` at `now`.
    fn at(boot: BootId, now: &HostTime, meter: Instant) -> Self {
        Self::resume(boot, meter.0.saturating_sub_unsigned(now.boottime_ns))
    }

    /// The meter minus `CLOCK_BOOTTIME`, in nanoseconds.
    pub fn offset_ns(&self) -> i64 {
        self.offset_ns
    }

    /// The boot this clock belongs to.
    pub fn boot(&self) -> &BootId {
        &self.boot
    }

    /// The present instant.
    pub fn now(&self) -> Instant {
        self.meter(boottime_ns().saturating_add(self.skipped_ns()))
    }

    /// The present instant with its boot, `CLOCK_BOOTTIME` and wall clock.
    pub fn reading(&self) -> Reading {
        let skipped = self.skipped_ns();
        self.reading_of(
            boottime_ns().saturating_add(skipped),
            wall_ns().saturating_add_unsigned(skipped),
        )
    }

    /// Waits until the meter reaches `at`. Cancel-safe.
    pub async fn reaches(&self, at: Instant) {
        let mut skips = self.skipped_ns.subscribe();
        while let Some(left) = at.since(self.now()).filter(|left| left.0 > 0) {
            tokio::select! {
                biased;
                () = tokio::time::sleep(Duration::from_nanos(left.0).min(SLEEP_MAX)) => {}
                // Never an error: this clock holds a sender.
                _ = skips.changed() => {}
            }
        }
    }

    /// Moves the clock and all its clones ahead, for simulations of long times.
    pub fn skip(&self, time: Nanos) {
        self.skipped_ns.send_modify(|skipped| *skipped = skipped.saturating_add(time.0));
    }

    fn skipped_ns(&self) -> u64 {
        *self.skipped_ns.borrow()
    }

    /// The reading of an instant of this boot that another process noted, such as an instance's
    /// supervisor. Both arguments are in nanoseconds.
    pub fn reading_of(&self, boottime_ns: u64, wall_ns: i64) -> Reading {
        Reading { boot: self.boot.clone(), boottime_ns, wall_ns, meter: self.meter(boottime_ns) }
    }

    /// The `CLOCK_BOOTTIME` of this boot at an instant, in nanoseconds; 0 before it.
    pub fn boottime_ns(&self, at: Instant) -> u64 {
        u64::try_from(at.0.saturating_sub(self.offset_ns)).unwrap_or_default()
    }

    /// The instant of a `CLOCK_BOOTTIME` of this boot, in nanoseconds.
    pub fn meter(&self, boottime_ns: u64) -> Instant {
        Instant(self.offset_ns.saturating_add_unsigned(boottime_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000_000;

    fn time(boottime_ns: u64, wall_ns: i64, is_synchronised: bool) -> HostTime {
        HostTime { boottime_ns, wall_ns, is_synchronised }
    }

    /// The instant on the meter at which a boot begins to be served, and the gap before it.
    fn joined(now: HostTime, last: LastKnown) -> (i64, Option<GapReason>) {
        let (clock, gap) = join(BootId("b".into()), &now, &last);
        (clock.meter(now.boottime_ns).0, gap.map(|gap| gap.reason))
    }

    #[test]
    fn a_first_boot_starts_at_the_wall_clock() {
        let now = time(10, 1_000, false);
        assert_eq!(
            Clock::at(BootId("b".into()), &now, Instant(now.wall_ns)).meter(12),
            Instant(1_002)
        );
    }

    #[test]
    fn a_new_boot_goes_on_by_what_the_calendar_knows() {
        use GapReason::{NeverSynchronised, NotSynchronised, WentBack};
        // The meter reads day 100. UTC is the calendar's: the wall clock was stepped by 30 days
        // since.
        let last = |is_synchronised| LastKnown {
            meter: Instant(100 * DAY),
            utc_ns: 130 * DAY,
            is_synchronised,
        };
        let boot = u64::try_from(DAY / 1_440).expect("a minute");
        let minute = DAY / 1_440;
        let rows = [
            (
                "down for an hour",
                time(boot, 130 * DAY + 60 * minute, true),
                last(true),
                60 * minute,
                None,
            ),
            ("down for days", time(boot, 133 * DAY, true), last(true), 3 * DAY, None),
            (
                "right for the first time",
                time(boot, 160 * DAY, true),
                last(false),
                minute,
                Some(NeverSynchronised),
            ),
            ("behind", time(boot, 100 * DAY, false), last(true), minute, Some(NotSynchronised)),
            ("ahead", time(boot, 500 * DAY, false), last(true), minute, Some(NotSynchronised)),
            (
                "right, but before the last instant",
                time(boot, 129 * DAY, true),
                last(true),
                minute,
                Some(WentBack),
            ),
            (
                "less than this boot is old",
                time(boot, 130 * DAY + 1, true),
                last(true),
                minute,
                Some(WentBack),
            ),
            (
                "as much as this boot is old",
                time(boot, 130 * DAY + minute, true),
                last(true),
                minute,
                None,
            ),
        ];
        for (what, now, last, passed, gap) in rows {
            assert_eq!(joined(now, last), (100 * DAY + passed, gap), "{what}");
        }
    }

    #[test]
    fn whatever_the_clocks_say_the_meter_goes_on() {
        let extremes = [i64::MIN, -1, 0, 1, i64::MAX];
        for (wall_ns, utc_ns) in
            extremes.into_iter().flat_map(|wall| extremes.map(|utc| (wall, utc)))
        {
            for (now, was) in [(true, true), (true, false), (false, true), (false, false)] {
                let last = LastKnown { meter: Instant(7), utc_ns, is_synchronised: was };
                let (meter, _) = joined(time(5, wall_ns, now), last);
                assert!(meter >= 12, "{wall_ns} {utc_ns} {now} {was}: {meter}");
            }
        }
    }

    #[test]
    fn the_host_says_whether_its_clock_is_right() {
        // Either answer; but the clocks agree on how long the host was suspended.
        let _ = is_synchronised();
        let running = monotonic_ns();
        assert!(boottime_ns() >= running);
    }

    #[tokio::test]
    async fn time_that_is_skipped_has_passed_for_all_clones_and_for_whoever_waits() {
        let clock = Clock::first_in_boot(boot_id().expect("proc"));
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
        let clock = Clock::first_in_boot(boot_id().expect("proc"));
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
