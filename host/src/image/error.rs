//! What can go wrong with images.

use std::io;
use std::path::{Path, PathBuf};

use crate::id::ImageName;

/// Why an image could not be imported, found, read or removed. `Display` says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such image.
    #[error("no image is called '{name}'; {}", known_names(known))]
    Unknown {
        /// What was asked for.
        name: ImageName,
        /// The names that exist.
        known: Vec<ImageName>,
    },
    /// The name is taken.
    #[error(
        "an image called '{name}' is there already; choose another name, or remove that image first"
    )]
    NameInUse {
        /// The name.
        name: ImageName,
    },
    /// A setting of an import is out of its range.
    #[error("{setting} must be {expected}, got {got}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What would be right.
        expected: String,
        /// What came.
        got: String,
    },
    /// A file to import can't be read.
    #[error("can't read the {what} {}", path.display())]
    Source {
        /// What it was to be: `kernel`, `initrd` or `root disk`.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file to import is a folder, a device, or empty.
    #[error("the {what} {} must be a regular file that isn't empty", path.display())]
    NotAFile {
        /// What it was to be.
        what: &'static str,
        /// Which path.
        path: PathBuf,
    },
    /// A file to import as a kernel isn't one.
    #[error(
        "{} is no kernel: give an x86 Linux image (bzImage, such as /boot/vmlinuz-*) or an ELF file with a PVH entry",
        path.display()
    )]
    NotAKernel {
        /// Which path.
        path: PathBuf,
    },
    /// The description of an image can't be read or written.
    #[error("{} is no image description; restore it, or remove the image and import it again", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Where it is wrong, and what is known there.
        #[source]
        source: serde_json::Error,
    },
    /// The files of an image are not those that were imported.
    #[error("the image '{name}' is damaged: {reason}; remove it and import it again")]
    Damaged {
        /// Which image.
        name: ImageName,
        /// What differs.
        reason: String,
    },
    /// The disk refused.
    #[error("can't {doing} {}", path.display())]
    Store {
        /// What we were doing.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ImageError {
    pub(super) fn store(
        doing: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Store { doing, path, source }
    }

    pub(super) fn source(
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Source { what, path, source }
    }
}

fn known_names(known: &[ImageName]) -> String {
    if known.is_empty() {
        return "there is none yet: `tallyman image build debian-busybox` makes one".into();
    }
    let names: Vec<&str> = known.iter().map(ImageName::as_str).collect();
    format!("known: {}", names.join(", "))
}
