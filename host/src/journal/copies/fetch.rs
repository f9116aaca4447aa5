//! A segment's file, read from a copy of it.

use std::sync::Arc;

use rusqlite::{Connection, Row as SqlRow};

use super::seam::{CopyStore, CopyStores, StoreError};
use crate::id::Digest;

/// A copy, as a fact tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Copy {
    /// Address of the store.
    pub(in super::super) store: String,
    /// Name of the object.
    pub(in super::super) object: String,
}

/// A reason why a segment's file can't be had from a copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCopy {
    /// No fact tells of a copy.
    #[error("no fact tells of a copy of it")]
    Unknown,
    /// The store failed.
    #[error("its copy {object} in {store} can't be read")]
    Store {
        /// Address of the store.
        store: String,
        /// Name of the object.
        object: String,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// The store has no such object any more.
    #[error(
        "its copy {object} is not in {store} any more; look for it among deleted versions of \
         objects there, or put the file back from a backup"
    )]
    Missing {
        /// Address of the store.
        store: String,
        /// Name of the object.
        object: String,
    },
    /// There is no room for what was read.
    #[error("what was read from its copy can't be kept: {0}; free disk space and try again")]
    Room(String),
    /// The store answers with other bytes.
    #[error("{store} has other bytes under the name {object}: {found}")]
    Other {
        /// Address of the store.
        store: String,
        /// Name of the object.
        object: String,
        /// Length or SHA-256 of what is there.
        found: String,
    },
}

/// The copies of a segment that facts tell of, the newest first.
pub(in super::super) fn copies_of(db: &Connection, digest: &Digest) -> rusqlite::Result<Vec<Copy>> {
    let sql = "SELECT store, object FROM segment_archived WHERE digest = ?1 ORDER BY fact DESC";
    let copy = |row: &SqlRow<'_>| Ok(Copy { store: row.get(0)?, object: row.get(1)? });
    let mut statement = db.prepare_cached(sql)?;
    statement.query_map([digest.to_string()], copy)?.collect()
}

/// Reads a segment's file from the first copy that is whole. The configured store comes first, also
/// if the facts name another one: an archive may be moved.
pub(in super::super) fn fetch(
    copies: &[Copy],
    stores: &dyn CopyStores,
    (digest, length): (Digest, u64),
) -> Result<Vec<u8>, NoCopy> {
    let own = stores.own();
    let in_own = own.iter().flat_map(|own| copies.iter().map(|copy| (own.clone(), copy)));
    let mut failed = None;
    for (store, copy) in in_own {
        match read(&*store, copy, digest, length) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => drop(failed.get_or_insert(error)),
        }
    }
    let is_own = |copy: &&Copy| own.as_ref().is_some_and(|own| own.address() == copy.store);
    for copy in copies.iter().filter(|copy| !is_own(copy)) {
        let read = opened(stores, copy).and_then(|store| read(&*store, copy, digest, length));
        match read {
            Ok(bytes) => return Ok(bytes),
            Err(error) => drop(failed.get_or_insert(error)),
        }
    }
    Err(failed.unwrap_or(NoCopy::Unknown))
}

fn opened(stores: &dyn CopyStores, copy: &Copy) -> Result<Arc<dyn CopyStore>, NoCopy> {
    let Copy { store, object } = copy.clone();
    stores.at(&copy.store).map_err(|source| NoCopy::Store { store, object, source })
}

pub(super) fn read(
    store: &dyn CopyStore,
    copy: &Copy,
    digest: Digest,
    length: u64,
) -> Result<Vec<u8>, NoCopy> {
    let address = store.address().to_owned();
    let object = copy.object.clone();
    let other = |found| NoCopy::Other { store: address.clone(), object: object.clone(), found };
    match store.read(&object, length) {
        Ok(Some(bytes)) => match Digest::of(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(other(format!("their SHA-256 is {found}"))),
        },
        Ok(None) => Err(NoCopy::Missing { store: address, object }),
        Err(StoreError::Length(bytes)) => Err(other(format!("there are {bytes} of them"))),
        Err(source) => Err(NoCopy::Store { store: address, object, source }),
    }
}
