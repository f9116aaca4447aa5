//! The journal's end.

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
