//! Images, and requests for new ones.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::image::{FileRecord, ImageImport, OciRecord};

/// An image to pull or to import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum NewImage {
    /// An image in a registry.
    Pull(PullImage),
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

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullImage {
    /// Its reference, such as `registry.example/team/web:1`; the registry is `docker.io` and the
    /// tag `latest` where they are left out.
    pub name: String,
    /// The platform, where there are several: `linux/amd64`, with a variant if wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Labels, by name; at most 64, each name and value of 1 to 256 bytes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Credentials that are lent for this pull; they are neither stored nor logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<RegistryCredentials>,
    /// The image whose kernel and initial RAM disk it boots with; `debian-busybox` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// Credentials for a registry: a name and a password, or a token.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryCredentials {
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password, or what stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// A token that the registry takes as it is, instead of a name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_token: Option<String>,
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryCredentials")
    }
}

/// A further name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TagImage {
    /// The new name: a reference with a tag. It may stand for another image so far.
    pub target: String,
}

/// A wish to remove pulled images that nothing uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneImages {
    /// Time since the last pull or use, such as `24h`; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_for: Option<String>,
}

/// The images that were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedImages {
    /// The images.
    pub images: Vec<Image>,
}

/// The stage of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageStatus {
    /// Its pull waits for its turn.
    Pending,
    /// Its layers are fetched.
    Pulling,
    /// Its layers are put on top of each other.
    Converting,
    /// Instances can be made of it.
    Ready,
    /// Its pull was given up; `error` says why.
    Failed,
}

/// The progress of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullProgress {
    /// Bytes that are there, packed.
    pub bytes: u64,
    /// All bytes of the image, packed.
    pub bytes_total: u64,
}

/// An image that instances boot from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Its name: that of an import, or a reference in full.
    pub name: String,
    /// The stage of it.
    pub status: ImageStatus,
    /// The digest of its content: that of an OCI image's manifest, or one of all files.
    pub digest: String,
    /// The instant of the import or pull, by the wall clock.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: DateTime<Utc>,
    /// Description for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Labels, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The platform, such as `linux/amd64`.
    pub platform: String,
    /// Size of its files, some of which it may share with others, in bytes; absent until it is
    /// ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The program and its first arguments; absent if the image has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Further arguments, or the program; absent if the image has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Variables; absent if the image has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// The folder that the program runs in; absent if the image names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The reason for which the pull was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Place of its pull among those that wait, from 1 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u64>,
    /// The progress of its pull; absent once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<PullProgress>,
    /// Least guest memory that it boots with, in bytes; absent until it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_min: Option<u64>,
    /// Kernel command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    /// The program `tallyman-agent` runs in it.
    #[serde(default)]
    pub agent: bool,
    /// The kernel; absent until it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<FileRecord>,
    /// The initial RAM disk; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<FileRecord>,
    /// The root disk, of which each instance gets a copy; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk: Option<FileRecord>,
    /// The file system that all of its instances read, if it is made of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_fs: Option<FileRecord>,
    /// The OCI image that it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciRecord>,
}
