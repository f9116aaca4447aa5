//! Files of segments that are not in the data folder, read from copies elsewhere.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::super::copies::{CopyStores, NoCopy, StoreError, copies_of, fetch};
use super::super::error::ReadError;
use crate::id::Digest;

/// Most files that are kept. They have no name, and their room is free when they are dropped.
const KEPT_MAX: usize = 16;

/// The files that were read last.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    stores: Mutex<Option<Arc<dyn CopyStores>>>,
    kept: Mutex<VecDeque<(Digest, File)>>,
}

impl Fetched {
    /// Reads from these stores from now on.
    pub(super) fn reach(&self, stores: Arc<dyn CopyStores>) {
        *self.stores.lock().unwrap_or_else(PoisonError::into_inner) = Some(stores);
    }

    /// The file of a segment, given its SHA-256 and length.
    pub(super) fn file(
        &self,
        db: &Connection,
        segment: (Digest, u64),
        folder: &Path,
    ) -> Result<Result<File, NoCopy>, ReadError> {
        if let Some(file) = self.kept(&segment.0) {
            return Ok(Ok(file));
        }
        let copies = copies_of(db, &segment.0)?;
        let Some(newest) = copies.first() else { return Ok(Err(NoCopy::Unknown)) };
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(stores) = stores else {
            let source = StoreError::Refused(
                "this program was not told how to reach it: say so with --archive, or put the file \
                 back with `tallyman journal restore --pruned`"
                    .into(),
            );
            let store = newest.store.clone();
            let object = newest.object.clone();
            return Ok(Err(NoCopy::Store { store, object, source }));
        };
        let kept = fetch(&copies, &*stores, segment).and_then(|bytes| {
            let kept = self.keep(segment.0, &bytes, folder);
            kept.map_err(|error| NoCopy::Room(error.to_string()))
        });
        Ok(kept)
    }

    fn kept(&self, digest: &Digest) -> Option<File> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, file) = kept.iter().find(|(known, _)| known == digest)?;
        again(file).ok()
    }

    fn keep(&self, digest: Digest, bytes: &[u8], folder: &Path) -> io::Result<File> {
        let mut file = tempfile::tempfile_in(folder).or_else(|_| tempfile::tempfile())?;
        file.write_all(bytes)?;
        file.rewind()?;
        let opened = again(&file)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((digest, file));
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
        Ok(opened)
    }
}

/// Opens a file without a name once more: readers of one file each have a place of their own.
fn again(file: &File) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
