//! Images to import.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::image::ImageImport;

/// An image to import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum NewImage {
    /// Files.
    Files(ImageImport),
    /// An image in an OCI layout.
    Oci(OciImage),
}

/// An image in an OCI layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OciImage {
    /// Name of the new image: 1 to 63 of a-z, 0-9 and '-'.
    pub name: String,
    /// Path of the layout on the daemon's host.
    pub oci: String,
    /// Its name in the layout; the only image if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The image whose kernel and initial RAM disk it boots with; `debian-busybox` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}
