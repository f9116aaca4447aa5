//! The journal's end and its segments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;
use crate::heads::SignedHead;

/// The end of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalHead {
    /// Sequence number of the last fact; 0 if there is none.
    pub seq: u64,
    /// Hash of the last fact in the chain: 64 hexadecimal digits.
    pub hash: String,
}

/// The signed ends of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedHeads {
    /// The host's Ed25519 public key: 64 hexadecimal digits.
    pub key: String,
    /// The signed ends of the journal, in their order.
    pub heads: Vec<SignedHead>,
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
    /// True if the file is in the data folder.
    pub is_here: bool,
    /// True if it was pruned: it is kept in a store alone.
    pub is_pruned: bool,
    /// Its copies in stores, which were read back and found whole; the newest first.
    pub copies: Vec<SegmentCopy>,
}

/// A copy of a segment in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SegmentCopy {
    /// Address of the store, such as `s3://bucket/prefix`.
    pub store: String,
    /// Name of the object in the store.
    pub object: String,
}

/// The segments to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSegments {
    /// Only tells how many segments would be copied.
    #[serde(default)]
    pub dry_run: bool,
}

/// The segments that were copied, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchivedSegments {
    /// Address of the store.
    pub store: String,
    /// SHA-256 of the segments that were copied in this call, in the order of their facts. One
    /// call copies some of them.
    pub copied: Vec<String>,
    /// Number of segments that have no copy in the store yet: call again until there is none.
    pub left: usize,
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

/// The segments to prune.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneSegments {
    /// Only segments whose facts were all recorded before this: RFC 3339 in UTC, or a date.
    pub before: String,
    /// Only tells which segments would leave, and why others stay.
    #[serde(default)]
    pub dry_run: bool,
}

/// A segment that stays in the data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StayingSegment {
    /// SHA-256 of the file.
    pub digest: String,
    /// Sequence number of its first fact.
    pub first: u64,
    /// Sequence number of its last fact.
    pub last: u64,
    /// The reason, in words.
    pub reason: String,
}

/// The segments that have left the data folder, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedSegments {
    /// Address of the store that has their copies.
    pub store: String,
    /// SHA-256 of the segments that have left in this call, or would, in the order of their facts.
    /// One call prunes some of them.
    pub pruned: Vec<String>,
    /// Length of their files in bytes.
    pub bytes: u64,
    /// The segments before the instant that stay.
    pub stay: Vec<StayingSegment>,
    /// Number of segments that may leave and have not: call again until there is none.
    pub left: usize,
    /// Instant up to which periods in these segments can still be corrected and proved, in a dry
    /// run: as long as the store keeps its first copy. Null if nobody has said how long that is.
    pub correctable_until: Option<Timestamp>,
}
