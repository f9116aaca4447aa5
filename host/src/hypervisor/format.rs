//! Formats of the files that daemon and supervisor, which may be of different versions, write for
//! each other.
//!
//! Each file names its format, except for files of format 1. Earlier formats are read; a later one
//! is refused, because its meaning is unknown.

use std::io;
use std::path::Path;

use serde::Deserialize;

/// The format of a file that names none.
pub(super) const fn first() -> u32 {
    1
}

/// Refuses a file of a later format than `known`.
///
/// # Errors
/// An error whose text says what to do.
pub(super) fn check(path: &Path, found: u32, known: u32) -> io::Result<()> {
    if found <= known {
        return Ok(());
    }
    let path = path.display();
    Err(io::Error::other(format!(
        "{path} has format {found}; this version reads up to format {known}: run the later \
         version that wrote it"
    )))
}

/// The part that all formats of a JSON file share.
#[derive(Deserialize)]
struct Named {
    #[serde(default = "first")]
    format: u32,
}

/// Refuses a JSON file, whose text is `text`, of a later format than `known`.
///
/// # Errors
/// An error whose text says what to do, or that of the JSON parser.
pub(super) fn check_json(path: &Path, text: &[u8], known: u32) -> io::Result<()> {
    let Named { format } = serde_json::from_slice(text)?;
    check(path, format, known)
}
