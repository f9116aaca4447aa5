//! The keys of an object store, in the form that its vendor's own programs read.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A file that has no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can't be read.
    #[error("can't read the keys of the archive from {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file lacks a line.
    #[error(
        "{} has no line `{line} = ...`; it needs `aws_access_key_id` and `aws_secret_access_key`",
        .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The key of the line.
        line: &'static str,
    },
}

/// The keys of an object store.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    /// The token of a session; none for keys that last.
    pub(super) token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads a file of lines `key = value`; headings in brackets and other lines are passed over.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| KeysError::File { path: path.to_owned(), source })?;
        let value = |wanted: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let (_, value) = lines.find(|(key, _)| key.trim() == wanted)?;
            Some(value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let needed = |line: &'static str| {
            value(line).ok_or_else(|| KeysError::Missing { path: path.to_owned(), line })
        };
        Ok(Self {
            id: needed("aws_access_key_id")?,
            secret: needed("aws_secret_access_key")?,
            token: value("aws_session_token"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_a_missing_line_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            Keys::read(&path)
        };
        let whole = "[default]\naws_access_key_id = ID\naws_secret_access_key=a=b \n";
        let keys = read(whole).expect("keys");
        assert_eq!((keys.id.as_str(), keys.secret.as_str(), &keys.token), ("ID", "a=b", &None));
        assert!(!format!("{keys:?}").contains("a=b"));
        let error = read("aws_access_key_id = ID\n").expect_err("no secret").to_string();
        assert!(error.contains("no line `aws_secret_access_key = ...`"), "{error}");
        assert!(matches!(Keys::read(&folder.path().join("none")), Err(KeysError::File { .. })));
    }
}
