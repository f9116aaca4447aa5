//! The tracker of one instance: `enter` and `snapshot`.

use crate::{AccountingError, Instant, Phase, Totals, Tracker};

// The type is generated, so `Default` can't be derived.
#[allow(clippy::derivable_impls)]
impl Default for Totals {
    fn default() -> Self {
        Self {
            created: 0,
            initializing: 0,
            running: 0,
            paused: 0,
            shutdown: 0,
            standby: 0,
            stopped: 0,
            unknown: 0,
        }
    }
}

impl Totals {
    /// The total of one phase.
    pub fn get(&self, phase: Phase) -> u64 {
        match phase {
            Phase::Created => self.created,
            Phase::Initializing => self.initializing,
            Phase::Running => self.running,
            Phase::Paused => self.paused,
            Phase::Shutdown => self.shutdown,
            Phase::Standby => self.standby,
            Phase::Stopped => self.stopped,
            Phase::Unknown => self.unknown,
        }
    }

    fn of(&mut self, phase: Phase) -> &mut u64 {
        match phase {
            Phase::Created => &mut self.created,
            Phase::Initializing => &mut self.initializing,
            Phase::Running => &mut self.running,
            Phase::Paused => &mut self.paused,
            Phase::Shutdown => &mut self.shutdown,
            Phase::Standby => &mut self.standby,
            Phase::Stopped => &mut self.stopped,
            Phase::Unknown => &mut self.unknown,
        }
    }
}

/// Nanoseconds from `since` to `at`; `None` if `at` is earlier.
#[inline]
pub(crate) fn elapsed(since: Instant, at: Instant) -> Option<u64> {
    // The distance between two i64 always fits u64, though not i64.
    (at >= since).then(|| at.wrapping_sub(since).cast_unsigned())
}

/// Closes the visit under way at `at` and opens one in `counted`.
pub(crate) fn enter(
    state: Tracker,
    counted: Phase,
    at: Instant,
) -> Result<Tracker, AccountingError> {
    Ok(Tracker { current: Some(counted), since: at, totals: snapshot(state, at)? })
}

/// The totals at `at`, the visit under way included.
pub(crate) fn snapshot(state: Tracker, at: Instant) -> Result<Totals, AccountingError> {
    let mut totals = state.totals;
    let Some(phase) = state.current else { return Ok(totals) };
    let elapsed = elapsed(state.since, at).ok_or(AccountingError::TimeWentBack(0))?;
    let total = totals.of(phase);
    *total = total.checked_add(elapsed).ok_or(AccountingError::Overflow(0))?;
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn fresh() -> Tracker {
        Tracker { current: None, since: 0, totals: Totals::default() }
    }

    fn walk(steps: &[(Phase, i64)]) -> Tracker {
        steps.iter().fold(fresh(), |state, &(to, at)| enter(state, to, at).expect("in order"))
    }

    #[test]
    fn the_first_fact_accrues_nothing() {
        let state = walk(&[(Phase::Running, 100 * SECOND)]);
        assert_eq!(
            state,
            Tracker {
                current: Some(Phase::Running),
                since: 100 * SECOND,
                totals: Totals::default()
            }
        );
    }

    #[test]
    fn entering_the_current_phase_again_keeps_the_total_going() {
        let state =
            walk(&[(Phase::Running, 0), (Phase::Running, SECOND), (Phase::Stopped, 3 * SECOND)]);
        assert_eq!(state.totals.running, 3_000_000_000);
    }

    #[test]
    fn going_back_in_time_is_refused() {
        let state = walk(&[(Phase::Running, SECOND)]);
        assert_eq!(enter(state, Phase::Standby, 0), Err(AccountingError::TimeWentBack(0)));
        assert_eq!(snapshot(state, 0), Err(AccountingError::TimeWentBack(0)));
    }

    #[test]
    fn a_closed_tracker_opens_at_any_time_and_counts_nothing() {
        let state = Tracker {
            current: None,
            since: SECOND,
            totals: Totals { running: 7, ..Totals::default() },
        };
        assert_eq!(snapshot(state, 0), Ok(state.totals));
        assert_eq!(enter(state, Phase::Running, -5).map(|after| after.totals), Ok(state.totals));
    }

    #[test]
    fn a_total_past_the_end_is_refused_and_the_last_nanosecond_is_not() {
        let totals = Totals { running: u64::MAX - 1, ..Totals::default() };
        let state = Tracker { current: Some(Phase::Running), since: 0, totals };
        assert_eq!(snapshot(state, 1).map(|totals| totals.running), Ok(u64::MAX));
        assert_eq!(snapshot(state, 2), Err(AccountingError::Overflow(0)));
    }

    #[test]
    fn the_whole_scale_fits() {
        let state =
            Tracker { current: Some(Phase::Standby), since: i64::MIN, totals: Totals::default() };
        assert_eq!(snapshot(state, i64::MAX).map(|totals| totals.standby), Ok(u64::MAX));
    }
}
