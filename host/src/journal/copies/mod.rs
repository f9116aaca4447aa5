//! Copies of segments in a store: another folder, or an object store.
//!
//! An object is created once and never changed, and its name says whose facts it holds, which ones,
//! and its SHA-256. A copy counts when it was read back and found whole: then a fact names it.
//!
//! - `seam` is what a store can do;
//! - `object` has the names of objects, and the manifest beside each segment;
//! - `archive` makes copies, `fetch` reads one, `restore` puts files back;
//! - `prune` removes files whose copies are enough.

mod archive;
mod fetch;
mod object;
mod prune;
mod restore;
mod seam;

pub use archive::{ArchiveError, Copied};
pub use fetch::NoCopy;
pub(super) use fetch::{copies_of, fetch};
pub use prune::{Considered, Need, PrunedSegments, Pruning};
pub use restore::{Put, RestoreError, Restored, restore};
pub use seam::{CopyStore, CopyStores, StoreError};
