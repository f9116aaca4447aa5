//! The signed heads of a host, one line each in a file that only grows.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::key::{HeadKey, KeyError, PublicKey, SignedHead};
use crate::journal::Head;

/// Name of the file with the key, in the data folder.
const KEY: &str = "head-key.pem";
/// Name of the file with the heads, in the data folder.
const HEADS: &str = "heads.jsonl";

/// An error of the files of signed heads.
#[derive(Debug, thiserror::Error)]
pub enum HeadsError {
    /// The key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The heads can't be read or written.
    #[error("can't {doing} the signed heads in {}", path.display())]
    File {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
}

/// The signed heads of a host.
pub struct Heads {
    key: HeadKey,
    path: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    heads: Vec<SignedHead>,
    file: File,
    /// Number of the last fact that was looked at for closes.
    looked: u64,
}

impl Heads {
    /// Opens the heads of a data folder, and makes the host's key if there is none. Blocking.
    ///
    /// # Errors
    /// [`HeadsError`].
    pub fn open(data: &Path) -> Result<Self, HeadsError> {
        let key = HeadKey::open(&data.join(KEY))?;
        let path = data.join(HEADS);
        let failed = |source| HeadsError::File { doing: "open", path: path.clone(), source };
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        // A crash may have torn the last line, which was not answered to anybody.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(failed)?;
        let lines = text[..whole].lines();
        let heads: Vec<SignedHead> =
            lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
        let looked = heads.last().map_or(0, |last| last.seq);
        Ok(Self { key, path, known: Mutex::new(Known { heads, file, looked }) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host's public key.
    pub fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// The last head that was signed; none if none was.
    pub fn last(&self) -> Option<SignedHead> {
        self.known().heads.last().cloned()
    }

    /// Number of the last fact that was looked at for closes.
    pub(super) fn looked(&self) -> u64 {
        self.known().looked
    }

    /// Notes that closes were looked for up to a fact.
    pub(super) fn look(&self, seq: u64) {
        let mut known = self.known();
        known.looked = known.looked.max(seq);
    }

    /// Signs a head durably, unless one at that fact or later was signed. Blocking.
    ///
    /// # Errors
    /// [`HeadsError`].
    pub(super) fn sign(&self, head: Head, at_s: u64) -> Result<(), HeadsError> {
        let mut known = self.known();
        if known.heads.last().is_some_and(|last| last.seq >= head.seq) {
            return Ok(());
        }
        let signed = self.key.sign(head, at_s);
        let failed = |source| HeadsError::File { doing: "write", path: self.path.clone(), source };
        let mut line = serde_json::to_string(&signed).map_err(io::Error::from).map_err(failed)?;
        line.push('\n');
        known.file.write_all(line.as_bytes()).map_err(failed)?;
        known.file.sync_data().map_err(failed)?;
        known.heads.push(signed);
        known.looked = known.looked.max(head.seq);
        Ok(())
    }

    /// The heads after a fact, in their order, at most `limit`.
    pub fn after(&self, seq: u64, limit: usize) -> Vec<SignedHead> {
        let known = self.known();
        let from = known.heads.partition_point(|head| head.seq <= seq);
        known.heads[from..].iter().take(limit).cloned().collect()
    }
}
