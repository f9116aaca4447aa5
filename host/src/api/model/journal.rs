//! The journal's end and its segments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The end of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalHead {
    /// Sequence number of the last fact; 0 if there is none.
    pub seq: u64,
    /// Hash of the last fact in the chain: 64 hexadecimal digits.
    pub hash: String,
}

/// A segment: facts in an immutable file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Segment {
    /// SHA-256 of the file, which is also its name in the folder `segments` of the data folder.
    pub digest: String,
    /// Sequence number of its first fact.
    pub first: u64,
    /// Sequence number of its last fact.
    pub last: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
}

/// The facts to seal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SealFacts {
    /// Only those that were recorded at least so long ago, such as `720h`; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Only tells how many facts would be sealed.
    #[serde(default)]
    pub dry_run: bool,
}

/// The facts that were sealed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SealedFacts {
    /// Number of the facts.
    pub facts: u64,
    /// The new segments; none in a dry run.
    pub segments: Vec<Segment>,
}
