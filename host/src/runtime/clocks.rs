//! The look at the host's clocks while the daemon serves: that the host is alive, steps of its wall
//! clock, and suspends.

use std::sync::Arc;
use std::time::Duration;

use crate::billing::calendar::STEP_NS_MIN;
use crate::billing::{HostFact, Reading};
use crate::clock::{self, Clock};
use crate::driver::Fleet;
use crate::journal::{Entry, Journal};
use crate::mutants::Mutant;

/// Interval at which the host notes that it is alive. After a loss of power, up to this much time
/// is `unknown`.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Interval at which the wall clock is compared with the meter clock.
const WALL_EVERY: Duration = Duration::from_secs(1);

/// Notes every five seconds that the host is alive.
pub async fn prove_alive(journal: Arc<Journal>) {
    loop {
        if let Err(error) = journal.prove_alive().await {
            tracing::warn!(%error, "could not note that the host is alive");
        }
        tokio::time::sleep(ALIVE_EVERY).await;
    }
}

/// Records every step of the wall clock and every suspend of the host. The kernel slews all clocks
/// together, so their difference changes only if the wall clock is stepped.
pub async fn watch_clocks(journal: Arc<Journal>, clock: Clock, fleet: Fleet) {
    let mut offset = wall_offset();
    let mut suspended = suspended_ns();
    let mut seen = clock.reading();
    loop {
        tokio::time::sleep(WALL_EVERY).await;
        let until = clock.reading();
        if let Some(noted) = note_suspend(&journal, until.clone(), suspended).await {
            if noted != suspended {
                fleet.suspended(&seen, &until).await;
            }
            (suspended, seen) = (noted, until);
        }
        let now = wall_offset();
        let step_ns = now.saturating_sub(offset);
        if step_ns.unsigned_abs() < STEP_NS_MIN || Mutant::StepUnseen.is_active() {
            continue;
        }
        let at = clock.reading();
        let stepped = Entry::of_host(at.clone(), HostFact::ClockStepped { step_ns });
        match journal.commit(stepped).await {
            // Not before: the calendar is that of the facts, also if the clock is stepped back.
            Ok(_) => {
                fleet.learn_calendar(at.meter, at.wall_ns);
                offset = now;
            }
            Err(error) => {
                tracing::warn!(%error, "could not record a step of the wall clock; trying again")
            }
        }
    }
}

/// Records a suspend of the host beyond the `before` nanoseconds of this boot that are on record.
/// Returns the nanoseconds that are on record then; none if that could not be recorded.
async fn note_suspend(journal: &Journal, at: Reading, before: u64) -> Option<u64> {
    let now = suspended_ns();
    let duration_ns = now.saturating_sub(before);
    if duration_ns < STEP_NS_MIN {
        return Some(before);
    }
    match journal.commit(Entry::of_host(at, HostFact::Suspended { duration_ns })).await {
        Ok(_) => Some(now),
        Err(error) => {
            tracing::warn!(%error, "could not record a suspend of the host; trying again");
            None
        }
    }
}

/// Time for which the host has been suspended in this boot, in nanoseconds.
fn suspended_ns() -> u64 {
    let running = clock::monotonic_ns();
    clock::boottime_ns().saturating_sub(running)
}

/// The wall clock minus the time since boot, in nanoseconds.
fn wall_offset() -> i64 {
    clock::wall_ns().saturating_sub_unsigned(clock::boottime_ns())
}
