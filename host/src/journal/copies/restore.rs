//! Files of segments, put back from their copies.

use std::fs::{self, DirBuilder, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::super::error::VerifyError;
use super::super::open::{private_file, publish};
use super::super::segment::{Segment, Store, is_pruned, segments};
use super::super::verify::{LostLog, database};
use super::fetch::{NoCopy, copies_of, fetch};
use super::seam::CopyStores;
use crate::causes::in_words;
use crate::id::Digest;

/// A reason why nothing can be put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The journal can't be read.
    #[error("can't read the journal")]
    Journal(#[from] VerifyError),
    /// An operation on a file failed.
    #[error("can't {doing} {}", .path.display())]
    File {
        /// The operation, as a verb in the infinitive.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another call is at work in the folder.
    #[error(
        "another `tallyman journal restore` works in {}; wait until it has ended",
        .0.display()
    )]
    Busy(PathBuf),
}

impl From<rusqlite::Error> for RestoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Journal(error.into())
    }
}

/// The segments whose files are put back, and what is done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Put {
    /// True for those that were pruned, too.
    pub pruned: bool,
    /// Only tells which they are.
    pub dry_run: bool,
}

/// The files that were put back, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Their SHA-256.
    pub files: Vec<Digest>,
    /// The SHA-256 of files that can't be put back, each with the reason.
    pub failed: Vec<(Digest, String)>,
    /// Number of segments that were pruned and are left where they are.
    pub pruned: usize,
}

/// Puts the files of segments back that are not in a data folder, beside a running daemon or
/// without one. A file gets its name when it is whole. Blocking.
///
/// `progress` receives the number of segments looked at and their total.
///
/// # Errors
/// See [`RestoreError`]. A copy that can't be had is no error: it is named in the answer.
pub fn restore(
    data: &Path,
    stores: &dyn CopyStores,
    put: Put,
    mut progress: impl FnMut(usize, usize),
) -> Result<Restored, RestoreError> {
    let (path, db) = database(data, LostLog::Refused)?;
    let files = Store::beside(&path);
    let folder = files.folder();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(file("create", folder))?;
    let _one_at_a_time = lock(folder)?;
    let mut restored = Restored::default();
    let segments = segments(&db)?;
    for (done, segment) in segments.iter().enumerate() {
        progress(done, segments.len());
        let place = files.path(&segment.digest);
        if place.try_exists().map_err(file("look for", &place))? {
            continue;
        }
        if !put.pruned && is_pruned(&db, &segment.digest)? {
            restored.pruned += 1;
            continue;
        }
        match had(&db, stores, segment, put)? {
            Ok(bytes) => {
                if let Some(bytes) = bytes {
                    write(&place, segment, &bytes)?;
                }
                restored.files.push(segment.digest);
            }
            Err(error) => restored.failed.push((segment.digest, in_words(&error))),
        }
    }
    progress(segments.len(), segments.len());
    Ok(restored)
}

/// The bytes of a file that is to be put back; none in a dry run, which asks no store.
fn had(
    db: &Connection,
    stores: &dyn CopyStores,
    segment: &Segment,
    put: Put,
) -> rusqlite::Result<Result<Option<Vec<u8>>, NoCopy>> {
    let copies = copies_of(db, &segment.digest)?;
    if put.dry_run {
        return Ok(if copies.is_empty() { Err(NoCopy::Unknown) } else { Ok(None) });
    }
    Ok(fetch(&copies, stores, (segment.digest, segment.bytes)).map(Some))
}

/// Writes a file, synced, under its name.
fn write(place: &Path, segment: &Segment, bytes: &[u8]) -> Result<(), RestoreError> {
    let part = place.with_file_name(format!("{}.part", segment.digest));
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(file("remove", &part)(error));
        }
        Ok(()) | Err(_) => {}
    }
    private_file(&part)
        .and_then(|mut to| to.write_all(bytes))
        .and_then(|()| publish(&part, place))
        .map_err(file("write", place))
}

/// Holds the folder for one call, until the file is dropped.
fn lock(folder: &Path) -> Result<fs::File, RestoreError> {
    let path = folder.join("restore.lock");
    let lock = private_file(&path).map_err(file("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(RestoreError::Busy(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(file("lock", &path)(source)),
    }
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::File { doing, path, source }
}
