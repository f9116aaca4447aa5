//! The times between two boots that nobody has settled.

use std::sync::Mutex;

use crate::journal::StoredGap;
use crate::units::Instant;

/// The gaps that are open, and the lock under which they are settled.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// The open ones, as they were read; none before that. Only a start of the daemon brings one.
    pub(super) open: Mutex<Option<OpenGaps>>,
    pub(super) settling: tokio::sync::Mutex<()>,
}

/// The gaps that nobody has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenGaps {
    /// Number of them.
    pub count: u64,
    /// The last instant that is known before the first; none without one.
    pub since: Option<Instant>,
    /// Time in them by the wall clock beyond what the meter has counted, in nanoseconds.
    pub claimed_ns: u64,
}

impl OpenGaps {
    pub(super) fn of(gaps: &[StoredGap]) -> Self {
        let mut open = Self::default();
        for gap in gaps.iter().filter(|gap| gap.settled.is_none()) {
            open.count += 1;
            open.since.get_or_insert(gap.from());
            let claimed_ns = u64::try_from(gap.claimed_ns).unwrap_or_default();
            let beyond_ns = claimed_ns.saturating_sub(gap.counted_ns);
            open.claimed_ns = open.claimed_ns.saturating_add(beyond_ns);
        }
        open
    }
}
