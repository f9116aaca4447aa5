//! Making copies.

use std::io::Read;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::super::Journal;
use super::super::entry::{Entry, FactHash};
use super::super::error::{CommitError, ReadError};
use super::super::segment::{Segment, Store, segments};
use super::fetch::copies_of;
use super::object::{self, Named};
use super::seam::{CopyStore, StoreError};
use crate::billing::{Archived, HostFact};
use crate::id::{Digest, HostName};

/// A reason why a copy can't be made. Segments stay where they are.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The fact about the copy can't be written.
    #[error("can't record the copy")]
    Commit(#[from] CommitError),
    /// The file of a segment can't be read.
    #[error("can't read segment {digest}")]
    File {
        /// SHA-256 of the file.
        digest: Digest,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The text beside a segment can't be written.
    #[error("can't write the manifest of a segment")]
    Manifest(#[from] serde_json::Error),
    /// The store failed.
    #[error(
        "{store} failed at {object}; nothing is lost: the segment stays in the data folder until \
         a later copy is whole"
    )]
    Store {
        /// Address of the store.
        store: String,
        /// Name of the object or folder.
        object: String,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// The store has other bytes under the name.
    #[error(
        "{store} has other bytes under the name {object}: {found}. No fact names that object, and \
         the segment stays in the data folder. Look at what wrote it; once it is moved away, a new \
         copy is made"
    )]
    Other {
        /// Address of the store.
        store: String,
        /// Name of the object.
        object: String,
        /// Length or SHA-256 of what is there.
        found: String,
    },
    /// The store took the object and does not have it.
    #[error(
        "{store} said that it took {object}, and does not have it; the segment stays in the data \
         folder"
    )]
    Lost {
        /// Address of the store.
        store: String,
        /// Name of the object.
        object: String,
    },
    /// The store holds other facts under this host's name.
    #[error(
        "{store} holds other facts {first} to {last} of a host '{host}': {object}. Two hosts have \
         one name there, or this journal was restored from a backup. Choose another name with \
         --archive-as"
    )]
    OtherJournal {
        /// Address of the store.
        store: String,
        /// The host's name there.
        host: HostName,
        /// Number of the first fact.
        first: u64,
        /// Number of the last fact.
        last: u64,
        /// Name of the object.
        object: String,
    },
    /// The work broke off.
    #[error("the archiving broke off")]
    Broken,
}

impl From<rusqlite::Error> for ArchiveError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Journal(error.into())
    }
}

/// Digits of the first link in the name of a journal that has no other.
const NAME_DIGITS: usize = 12;

/// The copies that were made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copied {
    /// The segments, in the order of their facts.
    pub made: Vec<Segment>,
    /// Number of segments that have no copy in the store yet.
    pub left: usize,
}

/// A store, and the name of this host there.
#[derive(Debug, Clone)]
struct Target {
    store: Arc<dyn CopyStore>,
    host: HostName,
}

impl Journal {
    /// Copies segments that have no copy in a store yet, at most so many, and answers which. Each
    /// copy is read back before a fact names it. A host without a name is named after its first
    /// fact.
    ///
    /// # Errors
    /// See [`ArchiveError`]. The copies that were made before stay.
    pub async fn archive_segments(
        &self,
        store: Arc<dyn CopyStore>,
        host: Option<HostName>,
        most: usize,
    ) -> Result<Copied, ArchiveError> {
        let _one_at_a_time = self.copying.lock().await;
        let pending = self.beside(move |db, files| {
            let host = host.map_or_else(|| name_of(db, files), Ok)?;
            Target { store, host }.pending(db)
        });
        let (target, pending) = pending.await?;
        let mut copied = Copied { left: pending.len(), ..Copied::default() };
        for segment in pending.into_iter().take(most) {
            let to = target.clone();
            let of = segment.clone();
            let archived = self.beside(move |db, files| to.copy(db, files, &of)).await?;
            let fact = Some(HostFact::Archived(archived));
            self.commit(Entry { segment: fact, ..Entry::default() }).await?;
            copied.left -= 1;
            copied.made.push(segment);
        }
        Ok(copied)
    }

    /// Number of segments that have no copy in a store yet. Blocking.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn without_copy(&self, store: &str) -> Result<usize, ReadError> {
        self.readers.with(|db| Ok(without_copy(db, store)?.len()))
    }

    /// Asks a question that takes long, beside everything else.
    pub(super) async fn beside<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection, &Store) -> Result<T, ArchiveError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let readers = self.readers.clone();
        let asked = move || readers.ask(|db| question(db, &readers.store));
        crate::blocking::run(asked).await.map_err(|_| ArchiveError::Broken)?
    }
}

/// A name for a journal that has none: `journal-` and the beginning of its first link.
fn name_of(db: &Connection, files: &Store) -> Result<HostName, ArchiveError> {
    let row = "SELECT hash FROM fact WHERE seq = 1";
    let row = db.query_row(row, [], |row| row.get(0)).optional()?.map(FactHash);
    let first = match row {
        Some(link) => link,
        None => files.fact(db, 1)?.map_or(FactHash::GENESIS, |(_, link)| link),
    };
    let text = format!("journal-{}", &first.to_string()[..NAME_DIGITS]);
    text.parse().map_err(|_| ArchiveError::Broken)
}

fn without_copy(db: &Connection, store: &str) -> rusqlite::Result<Vec<Segment>> {
    let mut pending = Vec::new();
    for segment in segments(db)? {
        if !copies_of(db, &segment.digest)?.iter().any(|copy| copy.store == store) {
            pending.push(segment);
        }
    }
    Ok(pending)
}

impl Target {
    /// The segments without a copy, once it is known that the name is this host's.
    fn pending(self, db: &Connection) -> Result<(Self, Vec<Segment>), ArchiveError> {
        let pending = without_copy(db, self.store.address())?;
        if !pending.is_empty() {
            self.check_name(&segments(db)?)?;
        }
        Ok((self, pending))
    }

    /// Refuses a name under which the store holds other facts with the same numbers.
    fn check_name(&self, own: &[Segment]) -> Result<(), ArchiveError> {
        let listed = self.store.list(self.host.as_str());
        let listed = listed.map_err(|source| self.failed(self.host.as_str(), source))?;
        for object in listed {
            let Some(there) = Named::read(&object) else { continue };
            if own.iter().any(|one| Named::of(one).contradicts(&there)) {
                return Err(ArchiveError::OtherJournal {
                    store: self.store.address().into(),
                    host: self.host.clone(),
                    first: there.first,
                    last: there.last,
                    object,
                });
            }
        }
        Ok(())
    }

    fn copy(
        &self,
        db: &Connection,
        files: &Store,
        segment: &Segment,
    ) -> Result<Archived, ArchiveError> {
        let digest = segment.digest;
        let mut bytes = Vec::new();
        let mut file = files.whole_file(db, segment)?;
        let read = file.read_to_end(&mut bytes);
        read.map_err(|source| ArchiveError::File { digest, source })?;
        let named = Named::of(segment);
        let object = named.segment(&self.host);
        self.put(&object, &bytes)?;
        self.put(&named.manifest(&self.host), &object::manifest(segment, &self.host)?)?;
        Ok(Archived { digest, store: self.store.address().into(), object: object.into() })
    }

    /// Creates an object and reads it back. An answer that was lost or came too late does not
    /// matter if the object is there, nor does an object that an interrupted call has made.
    fn put(&self, object: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
        let created = self.store.create(object, bytes);
        let store = self.store.address().to_owned();
        let other =
            |found| ArchiveError::Other { store: store.clone(), object: object.into(), found };
        match (self.store.read(object, bytes.len() as u64), created) {
            (Ok(Some(found)), _) if found == bytes => Ok(()),
            (Ok(Some(found)), _) => Err(other(format!("their SHA-256 is {}", Digest::of(&found)))),
            (Err(StoreError::Length(length)), _) => {
                Err(other(format!("there are {length} of them")))
            }
            (_, Err(source)) | (Err(source), Ok(())) => Err(self.failed(object, source)),
            (Ok(None), Ok(())) => Err(ArchiveError::Lost { store, object: object.into() }),
        }
    }

    fn failed(&self, object: &str, source: StoreError) -> ArchiveError {
        let store = self.store.address().into();
        ArchiveError::Store { store, object: object.into(), source }
    }
}
