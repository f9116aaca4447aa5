//! The standard accounting: the built-in component, and the same rule in Rust, for when a component
//! fails.

use crate::billing::{Totals, Tracker};
use crate::id::Digest;
use crate::units::Instant;
use crate::vm::Phase;

/// The standard policy, as a component.
pub(super) const COMPONENT: &[u8] = include_bytes!(env!("TALLYMAN_STANDARD_POLICY"));

/// The policies that are built with this program, by name, with the SHA-256 of each.
pub const SHIPPED: &[(&str, [u8; 32])] = include!(env!("TALLYMAN_SHIPPED_POLICIES"));

/// True if the component is one of [`SHIPPED`].
pub(super) fn is_shipped(digest: Digest) -> bool {
    SHIPPED.iter().any(|(_, shipped)| *shipped == digest.0)
}

// What goes on when a component fails must not fail in the same way: plain arithmetic, which a
// property test holds equal to the component.
/// Returns the totals at `at`, every phase counted as itself. Saturates, and never fails, so that
/// no fact has to wait.
pub(super) fn snapshot(before: &Tracker, at: Instant) -> Totals {
    let mut totals = before.totals;
    if let Some(phase) = before.current {
        let total = &mut totals.0[phase as usize];
        *total = total.saturating_add(at.since(before.since).unwrap_or_default().0);
    }
    totals
}

/// Returns the tracker after entering `to` at `at`.
pub(super) fn enter(before: &Tracker, to: Phase, at: Instant) -> Tracker {
    Tracker { current: Some(to), since: at, totals: snapshot(before, at) }
}
