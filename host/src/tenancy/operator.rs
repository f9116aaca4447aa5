//! The operator's token: a file, read again when it changes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use rand::RngCore;

use super::same;
use crate::id::Digest;
use crate::limits::token::OPERATOR_TOKENS_MAX;

/// Error of the file with the operator's token.
#[derive(Debug, thiserror::Error)]
pub enum OperatorTokenError {
    /// The file can't be read or written.
    #[error("can't {doing} the operator's token in {}", path.display())]
    File {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error(
        "{} holds the operator's token and is open to others (mode {mode:o}); chmod 600 it",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds no token, or too many.
    #[error(
        "{} holds {count} tokens, one a line; there must be 1 to {OPERATOR_TOKENS_MAX}",
        path.display()
    )]
    Count {
        /// The file.
        path: PathBuf,
        /// Number of its lines that are not empty.
        count: usize,
    },
}

/// The tokens that are the operator's, kept as their hashes.
pub struct OperatorToken {
    /// None for a token that never changes.
    file: Option<PathBuf>,
    accepted: ArcSwap<Vec<Digest>>,
}

impl OperatorToken {
    /// A token that never changes.
    pub fn fixed(text: &str) -> Self {
        let accepted = ArcSwap::from_pointee(vec![Digest::of(text.as_bytes())]);
        Self { file: None, accepted }
    }

    /// The tokens in a file, one a line: the command line here sends the first, and further ones
    /// are accepted while clients change over. Makes a file with a new token if there is none.
    /// Blocking.
    ///
    /// # Errors
    /// [`OperatorTokenError`].
    pub fn of_file(path: &Path) -> Result<Self, OperatorTokenError> {
        let is_made = match fs::metadata(path) {
            Ok(found) => found.len() > 0,
            Err(_) => false,
        };
        if !is_made {
            make(path)?;
        }
        let accepted = ArcSwap::from_pointee(read(path)?);
        Ok(Self { file: Some(path.into()), accepted })
    }

    /// Returns true if a text is one of the tokens.
    pub fn is(&self, shown: &str) -> bool {
        let shown = Digest::of(shown.as_bytes());
        // All are compared, so that the time does not tell which one it is.
        self.accepted.load().iter().fold(false, |is, token| is | same(token, &shown))
    }

    /// Reads the file again; its tokens count from then on, and no others. Returns true if they
    /// have changed. A file that can't be used changes nothing. Blocking.
    ///
    /// # Errors
    /// [`OperatorTokenError`].
    pub fn renew(&self) -> Result<bool, OperatorTokenError> {
        let Some(file) = &self.file else { return Ok(false) };
        let accepted = read(file)?;
        if **self.accepted.load() == accepted {
            return Ok(false);
        }
        self.accepted.store(accepted.into());
        Ok(true)
    }
}

fn read(path: &Path) -> Result<Vec<Digest>, OperatorTokenError> {
    let failed = |source| OperatorTokenError::File { doing: "read", path: path.into(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(OperatorTokenError::Open { path: path.into(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tokens: Vec<_> = lines.map(|line| Digest::of(line.as_bytes())).collect();
    match (1..=OPERATOR_TOKENS_MAX).contains(&tokens.len()) {
        true => Ok(tokens),
        false => Err(OperatorTokenError::Count { path: path.into(), count: tokens.len() }),
    }
}

/// Makes a file with a new token.
fn make(path: &Path) -> Result<(), OperatorTokenError> {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        writeln!(file, "{}", hex::encode(bytes))?;
        file.sync_all()
    });
    let failed = |source| OperatorTokenError::File { doing: "write", path: path.into(), source };
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_same_token_is_the_right_one() {
        let token = OperatorToken::fixed("secret");
        assert!(token.is("secret"));
        for wrong in ["", "secre", "secret ", "Secret", "secrets"] {
            assert!(!token.is(wrong), "{wrong:?}");
        }
        assert!(!token.renew().expect("nothing to read"));
    }

    #[test]
    fn a_new_token_counts_once_the_file_has_it_and_an_old_one_as_long_as_it_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let token = OperatorToken::of_file(&path).expect("made");
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        let first = fs::read_to_string(&path).expect("text").trim().to_owned();
        assert_eq!((mode & 0o777, first.len()), (0o600, 64));
        assert!(OperatorToken::of_file(&path).expect("read").is(&first), "it is made once");
        let mut steps =
            [(format!("new\n{first}\n"), [true, true]), ("new\n".to_owned(), [true, false])]
                .into_iter();
        for (text, expected) in steps.by_ref() {
            fs::write(&path, text).expect("written");
            assert!(token.renew().expect("valid"));
            assert!(!token.renew().expect("as before"));
            assert_eq!([token.is("new"), token.is(&first)], expected);
        }
    }

    #[test]
    fn a_file_that_can_t_be_used_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        fs::write(&path, "good\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        let token = OperatorToken::of_file(&path).expect("valid");
        for text in ["", " \n\n", "1\n2\n3\n4\n5\n"] {
            fs::write(&path, text).expect("written");
            let error = token.renew().expect_err(text).to_string();
            assert!(error.contains("1 to 4"), "{error}");
        }
        fs::write(&path, "other\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        assert!(token.renew().expect_err("open").to_string().contains("chmod 600"));
        fs::remove_file(&path).expect("removed");
        assert!(token.renew().expect_err("gone").to_string().contains("can't read"));
        assert!(token.is("good") && !token.is("other"));
    }
}
