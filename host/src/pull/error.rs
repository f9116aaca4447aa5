//! Reasons why an image is not pulled.

use crate::image::{ImageError, LayoutError};

/// Reasons why an image is not pulled. None holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry has no such image.
    #[error(
        "the registry has no image {0}, or does not show it to everybody; check the name, or lend \
         credentials"
    )]
    NotFound(String),
    /// The registry refuses it.
    #[error(
        "the registry {registry} refuses {reference}: {reason}; lend credentials that may read it"
    )]
    Denied {
        /// The registry.
        registry: String,
        /// The image.
        reference: String,
        /// The registry's reason.
        reason: String,
    },
    /// The registry wants fewer requests.
    #[error(
        "the registry {0} takes no more requests for now; try again later, or lend credentials"
    )]
    Throttled(String),
    /// No answer of the registry.
    #[error("the registry {registry} does not answer")]
    Away {
        /// The registry.
        registry: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// An answer of the registry that is not taken.
    #[error("the registry {registry} is not trusted any further: {reason}")]
    Registry {
        /// The registry.
        registry: String,
        /// The fault of its answer.
        reason: String,
    },
    /// The image is larger than any that is taken.
    #[error("the image has {bytes} bytes, packed; at most {most} are taken")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The largest.
        most: u64,
    },
    /// A document of the image makes no sense, or a blob is not the one that was asked for.
    #[error("the image is refused")]
    Image(#[from] LayoutError),
    /// A blob can't be written.
    #[error("the image can't be written down")]
    Disk(#[source] std::io::Error),
    /// The image can't be converted or stored.
    #[error("the image can't be stored")]
    Store(#[source] ImageError),
    /// Too many pulls wait.
    #[error("{0} images are being pulled, which is the limit; wait for one to end")]
    Full(usize),
    /// The pull was broken off.
    #[error("the pull was broken off; pull it again, which goes on where it was")]
    Interrupted,
}

/// The fault of an answer, with the registry that gave it.
pub(super) fn fault(registry: &str, reason: impl Into<String>) -> PullError {
    PullError::Registry { registry: registry.to_owned(), reason: reason.into() }
}
