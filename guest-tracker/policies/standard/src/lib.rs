//! The standard policy as a component: every phase counts as itself.

#[cfg(target_arch = "wasm32")]
use guest_tracker::Standard;

guest_tracker::policy!(Standard);
