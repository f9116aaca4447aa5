//! Reasons why an image from an OCI layout is not imported.

use std::io;
use std::path::PathBuf;

use crate::id::ImageName;

/// Reasons why an image can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file of it can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A document of it makes no sense.
    #[error("{what} can't be understood")]
    Parse {
        /// The subject.
        what: String,
        /// The reason.
        #[source]
        source: serde_json::Error,
    },
    /// It is something else than it says.
    #[error("{what}: {reason}")]
    Wrong {
        /// The subject.
        what: String,
        /// The reason.
        reason: String,
    },
}

/// Reasons why an image from a layout is not imported.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The layout can't be read, or is not what it says.
    #[error("the image can't be read")]
    Layout(#[from] LayoutError),
    /// A layer is not taken.
    #[error("the layer {digest} is refused: {reason}")]
    Layer {
        /// The subject.
        digest: String,
        /// The reason in words.
        reason: String,
    },
    /// The base has no initial RAM disk that could mount the image.
    #[error(
        "the image '{0}' can't be a base: it has no initial RAM disk with the agent; `tallyman image build debian-busybox` makes one"
    )]
    Base(ImageName),
}
