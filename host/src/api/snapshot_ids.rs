//! Ids of snapshots, which name them on the whole host.

use super::error::ApiError;
use crate::driver::{self, View};
use crate::id::SnapshotName;

/// The id of a snapshot, the same for good: that of its instance, and the instant at which it was
/// taken, which no other snapshot of the instance has.
pub(super) fn id_of(view: &View, kept: &driver::Snapshot) -> String {
    format!("{}-{:016x}", view.record.id, kept.created_ns)
}

/// The name of a snapshot of an instance by its name or its id.
pub(super) fn named(view: &View, text: &str) -> Result<SnapshotName, ApiError> {
    let kept = &view.record.snapshots;
    let found = kept.iter().find(|kept| kept.name.as_str() == text);
    match found.or_else(|| kept.iter().find(|kept| id_of(view, kept) == text)) {
        Some(kept) => Ok(kept.name.clone()),
        // The error of whatever is asked for names the snapshots that there are.
        None => Ok(text.parse()?),
    }
}
