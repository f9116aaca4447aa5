//! The standard accounting: the component that comes with the program, and the same rule as plain
//! arithmetic for when a component can't answer.

use crate::billing::{Totals, Tracker};
use crate::id::Digest;
use crate::units::Instant;
use crate::vm::Phase;

/// The standard policy, as a component.
pub(super) const COMPONENT: &[u8] = include_bytes!(env!("TALLYMAN_STANDARD_POLICY"));

/// The policies that are built with this program, by name, with the SHA-256 of each.
pub const SHIPPED: &[(&str, [u8; 32])] = include!(env!("TALLYMAN_SHIPPED_POLICIES"));

/// Whether a component is one of those.
pub(super) fn is_shipped(digest: Digest) -> bool {
    SHIPPED.iter().any(|(_, shipped)| *shipped == digest.0)
}

/// The totals at `at`: every phase counts as itself. Never fails, so that no fact has to wait for
/// anything.
pub(super) fn snapshot(before: &Tracker, at: Instant) -> Totals {
    let mut totals = before.totals;
    if let Some(phase) = before.current {
        let total = &mut totals.0[phase as usize];
        *total = total.saturating_add(at.since(before.since).unwrap_or_default().0);
    }
    totals
}

/// The tracker after entering `to` at `at`.
pub(super) fn enter(before: &Tracker, to: Phase, at: Instant) -> Tracker {
    Tracker { current: Some(to), since: at, totals: snapshot(before, at) }
}
