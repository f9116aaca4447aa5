//! `image.json`, and the request of an import.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::copy::FileRecord;
use super::oci::{OciRecord, digest_of};
use super::{INITRD, ImageError, KERNEL, MANIFEST, ROOT_DISK, ROOT_FS, copy, limits};
use crate::id::ImageName;

/// Request of an import: files on this host and boot settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageImport {
    /// Name of the new image: 1 to 63 of a-z, 0-9 and '-'.
    #[serde(with = "name_text")]
    #[schema(value_type = String)]
    pub name: ImageName,
    /// Description for people; at most 1,024 bytes.
    #[serde(default)]
    pub description: String,
    /// Path of the kernel: an x86 Linux bzImage or an ELF file with a PVH entry.
    #[schema(value_type = String)]
    pub kernel: PathBuf,
    /// Path of the initial RAM disk; absent for none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub initrd: Option<PathBuf>,
    /// Path of a raw root disk, of which each instance gets a copy; absent for none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub root_disk: Option<PathBuf>,
    /// Kernel command line; at most 2,047 bytes of printable ASCII.
    #[serde(default)]
    pub cmdline: String,
    /// Least guest memory that the image boots with, in bytes; 128 MiB if absent.
    #[serde(default = "least_memory")]
    pub memory_bytes_min: u64,
    /// The program `tallyman-agent` runs in it: it gets the agent's port.
    #[serde(default)]
    pub agent: bool,
}

/// Description of an image: the content of `image.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the image.
    #[serde(with = "name_text")]
    pub name: ImageName,
    /// Description for people.
    pub description: String,
    /// Time of the import, by the wall clock.
    pub created_at: DateTime<Utc>,
    /// Least guest memory that the image boots with, in bytes.
    pub memory_bytes_min: u64,
    /// Kernel command line.
    pub cmdline: String,
    /// The program `tallyman-agent` runs in it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub agent: bool,
    /// The kernel.
    pub kernel: FileRecord,
    /// The initial RAM disk; absent if the image has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<FileRecord>,
    /// The root disk; absent if the image has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_disk: Option<FileRecord>,
    /// The file system that all of its instances read, if it is made of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_fs: Option<FileRecord>,
    /// The OCI image that it was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciRecord>,
}

/// An image on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Folder of the image's files.
    pub folder: PathBuf,
    /// Content of `image.json`.
    pub manifest: Manifest,
}

impl ImageImport {
    pub(super) fn check(&self) -> Result<(), ImageError> {
        let wrong = |setting, expected, got| Err(ImageError::Setting { setting, expected, got });
        let memory = limits::instance::MEMORY_BYTES_MIN..=limits::instance::MEMORY_BYTES_MAX;
        if !memory.contains(&self.memory_bytes_min) {
            let expected = format!("{} to {} bytes", memory.start(), memory.end());
            return wrong("memory_bytes_min", expected, self.memory_bytes_min.to_string());
        }
        let max = limits::instance::CMDLINE_BYTES_MAX;
        if self.cmdline.len() > max
            || !self.cmdline.bytes().all(|c| c == b' ' || c.is_ascii_graphic())
        {
            let got = format!("{} bytes: {:?}", self.cmdline.len(), excerpt(&self.cmdline));
            return wrong("cmdline", format!("at most {max} bytes of printable ASCII"), got);
        }
        let max = limits::image::DESCRIPTION_BYTES_MAX;
        if self.description.len() > max {
            return wrong(
                "description",
                format!("at most {max} bytes"),
                format!("{} bytes", self.description.len()),
            );
        }
        Ok(())
    }
}

impl Image {
    pub(super) fn read(folder: PathBuf) -> Result<Self, ImageError> {
        let path = folder.join(MANIFEST);
        let text = fs::read(&path).map_err(ImageError::store("read", &path))?;
        let manifest = serde_json::from_slice(&text)
            .map_err(|source| ImageError::Manifest { path, source })?;
        Ok(Self { folder, manifest })
    }

    /// Returns whether it was pulled from a registry.
    pub fn is_pulled(&self) -> bool {
        self.manifest.oci.as_ref().is_some_and(|oci| oci.source.is_some())
    }

    /// Size of all its files, in bytes. Some may be shared with other images.
    pub fn bytes(&self) -> u64 {
        self.files().map(|(_, record)| record.bytes).sum()
    }

    /// The digest of its content: that of an OCI image's manifest, or one of its files' digests.
    pub fn digest(&self) -> String {
        let files = || {
            let files: Vec<_> = self.files().map(|(_, record)| record.sha256.as_str()).collect();
            digest_of(files.join("\n").as_bytes())
        };
        self.manifest.oci.as_ref().map_or_else(files, |oci| oci.digest.clone())
    }

    /// Path of the kernel.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join(KERNEL)
    }

    /// Path of the initial RAM disk; `None` if the image has none.
    pub fn initrd(&self) -> Option<PathBuf> {
        self.manifest.initrd.as_ref().map(|_| self.folder.join(INITRD))
    }

    /// Path of the root disk that instances copy, to which nothing may write; `None` if the image
    /// has none.
    pub fn root_disk(&self) -> Option<PathBuf> {
        self.manifest.root_disk.as_ref().map(|_| self.folder.join(ROOT_DISK))
    }

    /// Path of the file system that all instances read.
    pub fn root_fs(&self) -> Option<PathBuf> {
        self.manifest.root_fs.as_ref().map(|_| self.folder.join(ROOT_FS))
    }

    pub(super) fn check_lengths(&self) -> Result<(), ImageError> {
        for (file, record) in self.files() {
            match fs::metadata(self.folder.join(file)) {
                Ok(found) if found.len() == record.bytes => {}
                Ok(found) => {
                    return Err(self.damaged(format!(
                        "{file} has {} bytes, not {}",
                        found.len(),
                        record.bytes
                    )));
                }
                Err(error) => return Err(self.damaged(format!("{file} can't be read ({error})"))),
            }
        }
        Ok(())
    }

    pub(super) fn check_digests(&self) -> Result<(), ImageError> {
        for (file, record) in self.files() {
            let found = digest(&self.folder.join(file))?;
            if found != record.sha256 {
                return Err(
                    self.damaged(format!("{file} has the SHA-256 {found}, not {}", record.sha256))
                );
            }
        }
        Ok(())
    }

    fn files(&self) -> impl Iterator<Item = (&'static str, &FileRecord)> {
        let Manifest { kernel, initrd, root_disk, root_fs, .. } = &self.manifest;
        let optional = [
            (INITRD, initrd.as_ref()),
            (ROOT_DISK, root_disk.as_ref()),
            (ROOT_FS, root_fs.as_ref()),
        ];
        std::iter::once((KERNEL, kernel))
            .chain(optional.into_iter().filter_map(|(file, record)| Some((file, record?))))
    }

    fn damaged(&self, reason: String) -> ImageError {
        ImageError::Damaged { name: self.manifest.name.clone(), reason }
    }
}

fn digest(path: &Path) -> Result<String, ImageError> {
    fs::File::open(path).and_then(copy::digest).map_err(ImageError::store("read", path))
}

fn least_memory() -> u64 {
    limits::image::MEMORY_BYTES_MIN_DEFAULT
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Serialises a name as its text.
mod name_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::id::ImageName;

    pub(super) fn serialize<S: Serializer>(name: &ImageName, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<ImageName, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
