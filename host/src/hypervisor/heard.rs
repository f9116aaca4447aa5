//! The parsers of all that virtual machine monitors report, at once.

use super::{qemu, rest, supervisor};

/// Hands bytes to the parsers of monitors' events, logs and answers. Returns whether one of them
/// knows their meaning.
pub(crate) fn hears(bytes: &[u8]) -> bool {
    let is_answer = qemu::answers(bytes);
    let _ = rest::reason(bytes);
    supervisor::hears(bytes) || is_answer
}
