//! Segments: facts that are old enough, in immutable files that others can read too.
//!
//! - `layout` has the columns, and facts as their rows; `file` is Parquet;
//! - `store` is where segments lie and what the journal says of them; `fetched` has the files of
//!   those that were read from a copy elsewhere;
//! - `state` is where instances stand at a border, which each segment begins with;
//! - `draft` makes a segment of rows of the journal; `cursor` reads one tenant's rows in order;
//! - `counted` reads the time of one instance from the groups that hold it.
//!
//! A segment is written, synced, read back and compared before a fact tells of it, and only then
//! its rows are removed. A row that is still there after that, or is there for good (facts that are
//! not about instances, and the last ones of instances that live on), says the same as the segment.

mod counted;
mod cursor;
mod draft;
mod fetched;
mod file;
mod layout;
mod state;
mod store;

pub(super) use counted::Place;
pub(super) use cursor::Cursor;
pub use draft::SealError;
pub(super) use draft::{Draft, draft, removable};
pub(super) use store::{FOLDER, Linked, Store, is_pruned, sealed_end, segment_after, segments};
pub use store::{Listed, Segment};
