//! Errors of the image store.

use std::io;
use std::path::{Path, PathBuf};

use super::oci::OciError;
use super::reference::ReferenceError;
use crate::id::{IdError, ImageName};

/// Error of importing, finding, reading or removing an image. `Display` says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such image.
    #[error("no image is called '{name}'; {}", known_names(known))]
    Unknown {
        /// The name that was asked for.
        name: ImageName,
        /// The names that exist, sorted.
        known: Vec<ImageName>,
    },
    /// No image that was pulled has this name.
    #[error("no image of this host is called '{0}'; `tallyman image pull {0}` gets it")]
    UnknownReference(String),
    /// A text is no reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A folder of an image can't be named after its digest.
    #[error("'{name}' can't be the name of an image")]
    Name {
        /// The name.
        name: String,
        /// The fault of it.
        #[source]
        source: IdError,
    },
    /// The name is taken.
    #[error(
        "an image called '{name}' exists already; choose another name, or remove that image first"
    )]
    NameInUse {
        /// The name.
        name: ImageName,
    },
    /// A setting of an import is out of its range.
    #[error("{setting} must be {expected}, got {got}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// The range that is accepted, in words.
        expected: String,
        /// The value that was given.
        got: String,
    },
    /// A file to import can't be read.
    #[error("can't read the {what} {}", path.display())]
    Source {
        /// Role of the file: `kernel`, `initrd` or `root disk`.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// A file to import is a folder, a device, or empty.
    #[error("the {what} {} must be a regular file that isn't empty", path.display())]
    NotAFile {
        /// Role of the file: `kernel`, `initrd` or `root disk`.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
    },
    /// A file to import as a kernel isn't one.
    #[error(
        "{} is no kernel: give an x86 Linux image (bzImage, such as /boot/vmlinuz-*) or an ELF \
         file with a PVH entry",
        path.display()
    )]
    NotAKernel {
        /// Path of the file.
        path: PathBuf,
    },
    /// The description of an image, `image.json`, is not valid.
    #[error(
        "{} is no image description; restore it, or remove the image and import it again",
        path.display()
    )]
    Manifest {
        /// Path of the file.
        path: PathBuf,
        /// The parser's error, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The files of an image are not those that were imported.
    #[error("the image '{name}' is damaged: {reason}; remove it and import it again")]
    Damaged {
        /// Name of the image.
        name: ImageName,
        /// The difference, in words.
        reason: String,
    },
    /// An image from an OCI layout is not imported.
    #[error("the OCI image can't be imported")]
    Oci(#[from] OciError),
    /// A file or folder of the store can't be read or written.
    #[error("can't {doing} {}", path.display())]
    Store {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
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
