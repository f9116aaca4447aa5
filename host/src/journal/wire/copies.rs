//! The facts about copies of segments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::billing::{Archived, Pruned};
use crate::id::IdError;

/// The fields of the fact about a copy of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SegmentArchived {
    /// SHA-256 of the segment's file.
    pub digest: String,
    /// Address of the store, such as `s3://bucket/prefix`.
    pub store: String,
    /// Name of the object in the store.
    pub object: String,
}

/// The fields of the fact that a segment leaves the data folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SegmentPruned {
    /// SHA-256 of the segment's file.
    pub digest: String,
    /// Actor that asked for it: `host`, `operator`, `token:<id>` or `jwt:<subject>`.
    pub by: String,
}

impl From<&Archived> for SegmentArchived {
    fn from(Archived { digest, store, object }: &Archived) -> Self {
        Self { digest: digest.to_string(), store: store.to_string(), object: object.to_string() }
    }
}

impl TryFrom<&SegmentArchived> for Archived {
    type Error = IdError;
    fn try_from(told: &SegmentArchived) -> Result<Self, IdError> {
        let SegmentArchived { digest, store, object } = told;
        let digest = digest.parse()?;
        Ok(Self { digest, store: store.as_str().into(), object: object.as_str().into() })
    }
}

impl From<&Pruned> for SegmentPruned {
    fn from(Pruned { digest, by }: &Pruned) -> Self {
        Self { digest: digest.to_string(), by: by.to_string() }
    }
}

impl TryFrom<&SegmentPruned> for Pruned {
    type Error = IdError;
    fn try_from(SegmentPruned { digest, by }: &SegmentPruned) -> Result<Self, IdError> {
        Ok(Self { digest: digest.parse()?, by: by.parse()? })
    }
}
