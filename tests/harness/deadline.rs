//! Waits for what nothing reports.

use std::time::{Duration, Instant};

/// Longest time for it to come about.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Looks until there is something to see, and returns it.
///
/// # Panics
/// Panics if there is nothing within a minute.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "still no {what} after {PATIENCE:?}");
        std::thread::sleep(LOOK_AGAIN);
    }
}
