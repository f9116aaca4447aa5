//! Restart policies: the decision whether and when an instance that ended is started again.

use super::ExitCause;
use crate::limits::restart::{
    BACKOFF_MS, BACKOFF_MS_MAX, BACKOFF_MS_MIN, STABLE_AFTER_MS, STABLE_AFTER_MS_MIN,
};

/// Ends after which an instance is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RestartMode {
    /// No end.
    #[default]
    Never,
    /// Every end that was not requested.
    Always,
    /// Failures: the machine died, its workload was unhealthy, or the guest's program reported an
    /// exit code other than zero.
    OnFailure,
}

impl RestartMode {
    /// Every mode.
    pub const ALL: [RestartMode; 3] =
        [RestartMode::Never, RestartMode::Always, RestartMode::OnFailure];

    /// Name in JSON: lower-case words joined by underscores.
    pub fn as_str(self) -> &'static str {
        match self {
            RestartMode::Never => "never",
            RestartMode::Always => "always",
            RestartMode::OnFailure => "on_failure",
        }
    }
}

/// Rule for starting an instance again after an end that was not requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RestartPolicy {
    /// Ends after which the instance is started again.
    pub mode: RestartMode,
    /// Wait before the first attempt, in milliseconds, at least [`BACKOFF_MS_MIN`]; doubled for
    /// each further attempt, up to [`BACKOFF_MS_MAX`].
    pub backoff_ms: u64,
    /// Most attempts in a row; `None` for no limit.
    pub attempts_max: Option<u32>,
    /// Run time of the guest, in milliseconds, that resets the row of attempts; at least
    /// [`STABLE_AFTER_MS_MIN`].
    pub stable_after_ms: u64,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            mode: RestartMode::Never,
            backoff_ms: BACKOFF_MS,
            attempts_max: None,
            stable_after_ms: STABLE_AFTER_MS,
        }
    }
}

/// Consequence of an end under a restart policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterExit {
    /// No start: the end was requested, or the mode does not cover it.
    Rest,
    /// No start: the policy's attempts in a row are used up.
    Exhausted,
    /// The instance is started again.
    Restart {
        /// Number of the attempt in its row, from 1.
        attempt: u32,
        /// Wait before the attempt, in milliseconds.
        wait_ms: u64,
    },
}

impl RestartPolicy {
    /// Decides what follows an end because of `cause`, after the guest had run for `ran_ms`
    /// milliseconds and `attempts` attempts had been made in a row. `exit_code` is the one that the
    /// guest's program reported, `None` if it reported none.
    pub fn after(
        &self,
        cause: ExitCause,
        exit_code: Option<i32>,
        ran_ms: u64,
        attempts: u32,
    ) -> AfterExit {
        if !self.concerns(cause, exit_code) {
            return AfterExit::Rest;
        }
        let stable = ran_ms >= self.stable_after_ms.max(STABLE_AFTER_MS_MIN);
        let attempts = if stable { 0 } else { attempts };
        match self.attempts_max {
            Some(max) if attempts >= max => AfterExit::Exhausted,
            Some(_) | None => AfterExit::Restart {
                attempt: attempts.saturating_add(1),
                wait_ms: self.wait_ms(attempts),
            },
        }
    }

    fn concerns(&self, cause: ExitCause, exit_code: Option<i32>) -> bool {
        let failed = match cause {
            ExitCause::Requested | ExitCause::Forced | ExitCause::Discarded => return false,
            ExitCause::Guest => exit_code.is_some_and(|code| code != 0),
            ExitCause::Crashed
            | ExitCause::HostLost
            | ExitCause::LaunchFailed
            | ExitCause::Unhealthy => true,
        };
        match self.mode {
            RestartMode::Never => false,
            RestartMode::Always => true,
            RestartMode::OnFailure => failed,
        }
    }

    fn wait_ms(&self, attempts: u32) -> u64 {
        let factor = 1_u64.checked_shl(attempts).unwrap_or(u64::MAX);
        // A record of an earlier version may hold less than the least.
        let first = self.backoff_ms.max(BACKOFF_MS_MIN);
        first.saturating_mul(factor).min(BACKOFF_MS_MAX.max(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: RestartMode) -> RestartPolicy {
        RestartPolicy { mode, backoff_ms: 1_000, attempts_max: Some(3), stable_after_ms: 60_000 }
    }

    #[test]
    fn an_end_that_somebody_asked_for_is_final_under_every_policy() {
        for mode in RestartMode::ALL {
            for cause in [ExitCause::Requested, ExitCause::Forced, ExitCause::Discarded] {
                assert_eq!(
                    policy(mode).after(cause, Some(1), 0, 0),
                    AfterExit::Rest,
                    "{mode:?} {cause:?}"
                );
            }
        }
    }

    #[test]
    fn every_cause_has_its_answer_in_every_mode() {
        for cause in ExitCause::ALL {
            for exit_code in [None, Some(0), Some(1)] {
                let asked = matches!(
                    cause,
                    ExitCause::Requested | ExitCause::Forced | ExitCause::Discarded
                );
                let failed = !asked && (cause != ExitCause::Guest || exit_code == Some(1));
                for mode in RestartMode::ALL {
                    let expected = match mode {
                        RestartMode::Never => false,
                        RestartMode::Always => !asked,
                        RestartMode::OnFailure => failed,
                    };
                    let found = policy(mode).after(cause, exit_code, 0, 0);
                    assert_eq!(
                        found != AfterExit::Rest,
                        expected,
                        "{mode:?} {cause:?} {exit_code:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn each_attempt_waits_twice_as_long_until_there_are_no_more() {
        let waits = [1_000, 2_000, 4_000];
        for (attempts, wait_ms) in (0..).zip(waits) {
            let expected = AfterExit::Restart { attempt: attempts + 1, wait_ms };
            assert_eq!(
                policy(RestartMode::Always).after(ExitCause::Crashed, None, 59_999, attempts),
                expected
            );
        }
        let exhausted = policy(RestartMode::Always).after(ExitCause::Crashed, None, 59_999, 3);
        assert_eq!(exhausted, AfterExit::Exhausted);
    }

    #[test]
    fn a_guest_that_ran_long_enough_begins_a_new_row() {
        let found = policy(RestartMode::Always).after(ExitCause::Crashed, None, 60_000, 3);
        assert_eq!(found, AfterExit::Restart { attempt: 1, wait_ms: 1_000 });
    }

    #[test]
    fn no_policy_starts_a_guest_that_ends_at_once_without_a_pause() {
        let hasty = RestartPolicy {
            backoff_ms: 1,
            stable_after_ms: 1,
            attempts_max: None,
            ..policy(RestartMode::Always)
        };
        for (ran_ms, attempts, wait_ms) in
            [(50, 0, 50), (50, 1, 100), (50, 4, 800), (10_000, 4, 50)]
        {
            let AfterExit::Restart { wait_ms: found, .. } =
                hasty.after(ExitCause::Guest, None, ran_ms, attempts)
            else {
                panic!("there is no limit");
            };
            assert_eq!(found, wait_ms, "after {ran_ms} ms and {attempts} attempts");
        }
    }

    #[test]
    fn the_wait_has_an_end() {
        let endless = RestartPolicy { attempts_max: None, ..policy(RestartMode::Always) };
        for attempts in [9, 63, 64, u32::MAX] {
            let AfterExit::Restart { attempt, wait_ms } =
                endless.after(ExitCause::Crashed, None, 0, attempts)
            else {
                panic!("there is no limit");
            };
            assert_eq!((attempt, wait_ms), (attempts.saturating_add(1), BACKOFF_MS_MAX));
        }
    }
}
