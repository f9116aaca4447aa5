//! The signed heads of a host, one line each in a file that only grows.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::key::{Groups, HeadKey, KeyError, PublicKey, SignedHead};
use super::trees::Trees;
use super::under::{GroupUnder, Under};
use crate::clock;
use crate::disk::write_whole;
use crate::journal::Head;

/// Name of the file with the key, in the data folder.
pub(super) const KEY: &str = "head-key.pem";
/// Name of the file with the heads, in the data folder.
pub(super) const HEADS: &str = "heads.jsonl";
/// Name of the file with the trees at the last hourly head, in the data folder.
const TREES: &str = "head-trees.json";
/// Name of the folder with the places of tenants under the heads of closes, in the data folder.
pub(super) const PLACES: &str = "head-places";

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

/// Reads the key of a data folder's host, or makes one. Blocking.
///
/// # Errors
/// [`HeadsError::Key`].
pub fn open_key(data: &Path) -> Result<HeadKey, HeadsError> {
    Ok(HeadKey::open(&data.join(KEY))?)
}

/// The signed heads of a host.
pub struct Heads {
    key: HeadKey,
    folder: PathBuf,
    path: PathBuf,
    known: Mutex<Known>,
    /// Last fact of the last head.
    signed: watch::Sender<u64>,
    /// The trees; none until they were read. Whoever signs holds them.
    trees: Mutex<Option<Trees>>,
}

struct Known {
    heads: Vec<SignedHead>,
    file: File,
    /// Length of the file's whole lines, in bytes.
    length: u64,
    /// Number of the last fact that was looked at for closes.
    looked: u64,
}

impl Heads {
    /// Opens the heads of a data folder, and makes the host's key if there is none. Blocking.
    ///
    /// # Errors
    /// [`HeadsError`].
    pub fn open(data: &Path) -> Result<Self, HeadsError> {
        let key = open_key(data)?;
        let path = data.join(HEADS);
        let failed = |source| HeadsError::File { doing: "open", path: path.clone(), source };
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        // A crash may have torn the last line, which was not answered to anybody.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let length = whole as u64;
        file.set_len(length).map_err(failed)?;
        let heads: Vec<SignedHead> = text[..whole].lines().filter_map(parse).collect();
        let looked = heads.last().map_or(0, |last| last.seq);
        let known = Mutex::new(Known { heads, file, length, looked });
        let signed = watch::Sender::new(looked);
        Ok(Self { key, folder: data.into(), path, known, signed, trees: Mutex::default() })
    }

    /// The trees, held for signing.
    pub(super) fn trees(&self) -> MutexGuard<'_, Option<Trees>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of the trees.
    pub(super) fn trees_file(&self) -> PathBuf {
        self.folder.join(TREES)
    }

    /// Keeps the trees for the next start. Blocking.
    pub(super) fn keep(&self, trees: &Trees) -> Result<(), HeadsError> {
        let path = self.trees_file();
        trees.write(&path).map_err(|source| HeadsError::File { doing: "keep", path, source })
    }

    /// Notes the places of groups under the head of a close, if its trees are those that were
    /// signed. Blocking.
    pub(super) fn note(
        &self,
        close: u64,
        signed: &Groups,
        groups: Vec<GroupUnder>,
    ) -> Result<(), HeadsError> {
        let head = self.after(close.saturating_sub(1), 1).pop();
        let Some(head) = head.filter(|head| head.seq == close) else { return Ok(()) };
        if head.groups.as_ref() != Some(signed) {
            if head.groups.is_some() {
                tracing::error!(close, "the facts up to a signed head are not those it signed");
            }
            return Ok(());
        }
        let path = self.place(close);
        let failed = |source| HeadsError::File { doing: "write", path: path.clone(), source };
        let under = Under { head, key: self.key().to_string(), groups };
        let text = serde_json::to_vec(&under).map_err(io::Error::from).map_err(failed)?;
        write_whole(&path, &text).map_err(failed)
    }

    /// The places that were noted under the head of a close; none if there are none. Blocking.
    ///
    /// # Errors
    /// [`HeadsError::File`].
    pub fn under(&self, close: u64) -> Result<Option<Under>, HeadsError> {
        let path = self.place(close);
        let read = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)),
        };
        read.map(Some).map_err(|source| HeadsError::File { doing: "read", path, source })
    }

    fn place(&self, close: u64) -> PathBuf {
        self.folder.join(PLACES).join(format!("{close}.json"))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host's public key.
    pub fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// The last fact of the last head, and its changes.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.signed.subscribe()
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
    pub(super) fn sign(&self, head: Head, groups: Groups, at_s: u64) -> Result<(), HeadsError> {
        let mut known = self.known();
        if known.heads.last().is_some_and(|last| last.seq >= head.seq) {
            return Ok(());
        }
        let signed = self.key.sign(head, groups, at_s);
        let failed = |source| HeadsError::File { doing: "write", path: self.path.clone(), source };
        let mut line = serde_json::to_string(&signed).map_err(io::Error::from).map_err(failed)?;
        line.push('\n');
        // Of a line that could not be written or synced, nothing may stay before the next one.
        known.file.set_len(known.length).map_err(failed)?;
        known.file.write_all(line.as_bytes()).map_err(failed)?;
        known.file.sync_data().map_err(failed)?;
        known.length += line.len() as u64;
        known.heads.push(signed);
        drop(known);
        self.signed.send_replace(head.seq);
        Ok(())
    }

    /// The heads after a fact, in their order, at most `limit`.
    pub fn after(&self, seq: u64, limit: usize) -> Vec<SignedHead> {
        let known = self.known();
        let from = known.heads.partition_point(|head| head.seq <= seq);
        known.heads[from..].iter().take(limit).cloned().collect()
    }
}

/// A line of the file; none if it is not a head.
fn parse(line: &str) -> Option<SignedHead> {
    serde_json::from_str(line).ok()
}

/// Moves what was signed into a folder beside it if the last head is of a fact that the journal
/// does not have, as after a backup was put back. Returns the folder; none if nothing was moved.
/// Blocking.
///
/// # Errors
/// [`HeadsError::File`].
pub fn set_aside(data: &Path, end: Head) -> Result<Option<PathBuf>, HeadsError> {
    let path = data.join(HEADS);
    let failed = |source| HeadsError::File { doing: "set aside", path: path.clone(), source };
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(failed)?,
    };
    let last = text.lines().filter_map(parse).next_back();
    if last.is_none_or(|last| last.seq <= end.seq) {
        return Ok(None);
    }
    let folder = data.join(format!("heads-before-{}", clock::wall_ns()));
    DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
    for name in [PLACES, TREES, HEADS] {
        match fs::rename(data.join(name), folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Some(folder))
}
