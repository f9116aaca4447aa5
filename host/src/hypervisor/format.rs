//! Formats of the files that daemon and supervisor write for each other, which may be of different
//! versions.
//!
//! Each file names its format. One without is of format 1, which named none. Earlier formats are
//! read; a later one is refused, because it may say what can't be understood.

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
/// In words that say what to do.
pub(super) fn check(path: &Path, found: u32, known: u32) -> io::Result<()> {
    if found <= known {
        return Ok(());
    }
    let path = path.display();
    Err(io::Error::other(format!(
        "{path} has format {found}; this version reads up to format {known}: run the later version that wrote it"
    )))
}

/// What every format of a JSON file has.
#[derive(Deserialize)]
struct Named {
    #[serde(default = "first")]
    format: u32,
}

/// Refuses a JSON file, whose text is `text`, of a later format than `known`.
///
/// # Errors
/// In words that say what to do; or it is not JSON.
pub(super) fn check_json(path: &Path, text: &[u8], known: u32) -> io::Result<()> {
    let Named { format } = serde_json::from_slice(text)?;
    check(path, format, known)
}
