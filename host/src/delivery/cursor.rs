//! The place up to which a receiver has taken events, on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::write_whole;

/// A place in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// Sequence number of the last fact whose events were taken.
    pub(super) after: u64,
    /// Its link in the hash chain; none before the first fact.
    pub(super) link: Option<String>,
}

/// The file of a cursor.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
}

impl Cursor {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        Self { path: folder.join(format!("{name}.json")) }
    }

    /// Reads the place; none if there is none yet. Blocking.
    pub(super) fn read(&self) -> io::Result<Option<Place>> {
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(serde_json::from_slice(&read?)?)),
        }
    }

    /// Writes the place, whole or not at all. Blocking.
    pub(super) fn write(&self, place: &Place) -> io::Result<()> {
        write_whole(&self.path, &serde_json::to_vec(place)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let cursor = Cursor::new(&folder.path().join("deliveries"), "a");
        assert_eq!(cursor.read().expect("none"), None);
        for after in [0, u64::MAX] {
            let place = Place { after, link: (after > 0).then(|| "ab".into()) };
            cursor.write(&place).expect("written");
            assert_eq!(cursor.read().expect("there"), Some(place));
        }
    }
}
