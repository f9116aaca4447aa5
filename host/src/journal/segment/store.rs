//! The files of segments, and the facts that tell of them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row as SqlRow};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::super::chain::encode_body;
use super::super::copies::{CopyStores, NoCopy, copies_of};
use super::super::entry::{FactHash, Head};
use super::super::error::{Damage, Flaw, Place, ReadError};
use super::super::schema::{int, uint};
use super::super::wire::FactRecord;
use super::fetched::Fetched;
use super::file::{Columns, Reader};
use crate::id::Digest;

/// Folder of the segments inside the data folder.
pub(in super::super) const FOLDER: &str = "segments";

/// A segment as its fact tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// SHA-256 of its file.
    pub digest: Digest,
    /// Sequence number of its first fact.
    pub first: u64,
    /// Sequence number of its last fact.
    pub last: u64,
    /// The link before its first fact.
    pub before: FactHash,
    /// The link of its last fact.
    pub link: FactHash,
    /// Instant on the meter clock at which its last fact was recorded.
    pub recorded_ns: i64,
    /// Instant on the meter clock of the earliest of its facts.
    pub meter_ns: i64,
    /// Length of its file.
    pub bytes: u64,
}

/// A fact with its link.
pub(in super::super) type Linked = (FactRecord, FactHash);

/// The segments of a journal.
#[derive(Debug)]
pub(in super::super) struct Store {
    folder: PathBuf,
    /// Segments whose SHA-256 was found right.
    checked: Mutex<HashSet<Digest>>,
    /// The facts of the segment that was read last.
    last: Mutex<Option<(Digest, Arc<Vec<Linked>>)>>,
    /// Files that are not in the folder, read from copies.
    fetched: Fetched,
    /// Row groups that were decoded.
    pub(in super::super) groups_read: Arc<AtomicU64>,
}

const SEGMENTS: &str = "
    SELECT digest, first, last, before, link, recorded_ns, meter_ns, bytes
    FROM segment ORDER BY first";

fn segment(row: &SqlRow<'_>) -> rusqlite::Result<Segment> {
    let digest = row.get_ref(0)?.as_str()?.parse().map_err(|error: crate::id::IdError| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(Segment {
        digest,
        first: uint(row, 1)?,
        last: uint(row, 2)?,
        before: FactHash(row.get(3)?),
        link: FactHash(row.get(4)?),
        recorded_ns: row.get(5)?,
        meter_ns: row.get(6)?,
        bytes: uint(row, 7)?,
    })
}

/// The segments that facts tell of, in the order of their facts.
pub(in super::super) fn segments(db: &Connection) -> rusqlite::Result<Vec<Segment>> {
    db.prepare_cached(SEGMENTS)?.query_map([], segment)?.collect()
}

/// The segment that holds the first sealed fact after `after`; none if there is none.
pub(in super::super) fn segment_after(
    db: &Connection,
    after: u64,
) -> rusqlite::Result<Option<Segment>> {
    let sql = "SELECT digest, first, last, before, link, recorded_ns, meter_ns, bytes
               FROM segment WHERE last > ?1 ORDER BY last LIMIT 1";
    db.prepare_cached(sql)?.query_row([int(after)], segment).optional()
}

/// The end of what is sealed: the rows after it are complete.
pub(in super::super) fn sealed_end(db: &Connection) -> rusqlite::Result<Head> {
    let sql = "SELECT last, link FROM segment ORDER BY last DESC LIMIT 1";
    let end = |row: &SqlRow<'_>| Ok(Head { seq: uint(row, 0)?, hash: FactHash(row.get(1)?) });
    Ok(db.prepare_cached(sql)?.query_row([], end).optional()?.unwrap_or(Head::EMPTY))
}

impl Store {
    /// The segments beside a database.
    pub(in super::super) fn beside(database: &Path) -> Self {
        let folder = database.parent().unwrap_or(database).join(FOLDER);
        Self {
            folder,
            checked: Mutex::default(),
            last: Mutex::default(),
            fetched: Fetched::default(),
            groups_read: Arc::default(),
        }
    }

    /// The file of a segment.
    pub(in super::super) fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.parquet"))
    }

    /// Reads segments that are not in the folder from their copies, from now on.
    pub(in super::super) fn reach(&self, stores: Arc<dyn CopyStores>) {
        self.fetched.reach(stores);
    }

    /// True if the file of a segment is in the folder, or in a backup.
    pub(in super::super) fn has(&self, db: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
        let sql = "SELECT 1 FROM segment_copy WHERE digest = ?1";
        let is_copied = || db.prepare_cached(sql)?.exists([digest.to_string()]);
        Ok(self.path(digest).exists() || is_copied()?)
    }

    pub(in super::super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens a segment: its file, or the copy that a backup has of it. Its SHA-256 is checked once.
    pub(super) fn open(&self, db: &Connection, segment: &Segment) -> Result<Reader, ReadError> {
        let is_checked = self.checked().contains(&segment.digest);
        let file = match is_checked {
            true => self.file(db, segment)?,
            false => self.whole_file(db, segment)?,
        };
        self.checked().insert(segment.digest);
        let reader = Reader::new(file).map_err(|error| unreadable(segment, &error))?;
        Ok(reader.counting(self.groups_read.clone()))
    }

    /// The file of a segment, from its beginning, once its SHA-256 was found right.
    pub(in super::super) fn whole_file(
        &self,
        db: &Connection,
        segment: &Segment,
    ) -> Result<File, ReadError> {
        let file = self.file(db, segment)?;
        match hash(&file).map_err(|error| unreadable(segment, &error))? {
            found if found == segment.digest => Ok(file),
            found => Err(ReadError::Damaged(altered(segment, found))),
        }
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a segment, from its beginning.
    pub(in super::super) fn file(
        &self,
        db: &Connection,
        segment: &Segment,
    ) -> Result<File, ReadError> {
        let path = self.path(&segment.digest);
        match File::open(&path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                match copied(db, &segment.digest)? {
                    Some(file) => Ok(file),
                    None => self.elsewhere(db, segment),
                }
            }
            opened => opened.map_err(|error| unreadable(segment, &error)),
        }
    }

    /// The file of a segment that is not in the folder, from a copy.
    fn elsewhere(&self, db: &Connection, segment: &Segment) -> Result<File, ReadError> {
        let digest = segment.digest;
        let fetched = self.fetched.file(db, (digest, segment.bytes), &self.folder)?;
        fetched.map_err(|why| match why {
            NoCopy::Unknown => {
                let path = self.path(&digest);
                let text =
                    format!("{} is not there; put it back, or restore a backup", path.display());
                ReadError::Damaged(damage(segment, None, Flaw::Malformed(text)))
            }
            why => ReadError::Elsewhere { digest, why },
        })
    }

    /// All facts of a segment in order, each made again from its columns and held against its link.
    pub(in super::super) fn facts(
        &self,
        db: &Connection,
        segment: &Segment,
    ) -> Result<Arc<Vec<Linked>>, ReadError> {
        let kept = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, facts)) = kept.filter(|(digest, _)| *digest == segment.digest) {
            return Ok(facts);
        }
        let reader = self.open(db, segment)?;
        let facts = Arc::new(linked(&reader, segment).map_err(ReadError::Damaged)?);
        let kept = (segment.digest, facts.clone());
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        Ok(facts)
    }

    /// The same for a proof: a file that is not what it is called is read all the same, so that the
    /// fact is named that was altered.
    pub(in super::super) fn prove(
        &self,
        db: &Connection,
        segment: &Segment,
    ) -> Result<Vec<Linked>, ReadError> {
        let file = self.file(db, segment)?;
        let found = hash(&file).map_err(|error| unreadable(segment, &error))?;
        let read = || {
            let reader = Reader::new(file).map_err(|error| unreadable(segment, &error))?;
            linked(&reader, segment).map_err(ReadError::Damaged)
        };
        if found == segment.digest {
            return read();
        }
        // Nothing is certain of such a file, not even that its reader comes to an end in order.
        match catch_unwind(AssertUnwindSafe(read)) {
            Ok(Err(named)) => Err(named),
            Ok(Ok(_)) | Err(_) => Err(ReadError::Damaged(altered(segment, found))),
        }
    }

    /// A fact that is sealed, if it is.
    pub(in super::super) fn fact(
        &self,
        db: &Connection,
        seq: u64,
    ) -> Result<Option<Linked>, ReadError> {
        let segments = segments(db)?;
        let Some(segment) = segments.iter().find(|one| (one.first..=one.last).contains(&seq))
        else {
            return Ok(None);
        };
        let place = usize::try_from(seq - segment.first).unwrap_or(usize::MAX);
        Ok(self.facts(db, segment)?.get(place).cloned())
    }
}

/// True if a fact tells that the segment leaves the data folder.
pub(in super::super) fn is_pruned(db: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM segment_pruned WHERE digest = ?1";
    db.prepare_cached(sql)?.exists([digest.to_string()])
}

/// A copy of a segment inside a backup, as a file without a name.
fn copied(db: &Connection, digest: &Digest) -> Result<Option<File>, ReadError> {
    let sql = "SELECT bytes FROM segment_copy WHERE digest = ?1";
    let bytes: Option<Vec<u8>> =
        db.prepare_cached(sql)?.query_row([digest.to_string()], |row| row.get(0)).optional()?;
    let Some(bytes) = bytes else { return Ok(None) };
    let made = || {
        let mut file = tempfile::tempfile()?;
        file.write_all(&bytes)?;
        file.rewind()?;
        Ok(file)
    };
    made().map(Some).map_err(|error: io::Error| {
        ReadError::Database(rusqlite::Error::ToSqlConversionFailure(error.into()))
    })
}

/// SHA-256 of a file. It stands at its beginning before and after.
pub(super) fn hash(file: &File) -> io::Result<Digest> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher)?;
    file.rewind()?;
    Ok(Digest(hasher.finalize().into()))
}

pub(super) fn damage(segment: &Segment, fact: Option<u64>, flaw: Flaw) -> Damage {
    Damage { place: Place::Segment { digest: segment.digest, fact }, flaw }
}

pub(super) fn unreadable(segment: &Segment, error: &dyn std::fmt::Display) -> ReadError {
    ReadError::Damaged(damage(segment, None, Flaw::Malformed(error.to_string())))
}

fn altered(segment: &Segment, found: Digest) -> Damage {
    let flaw = Flaw::Malformed(format!("its file was altered: its SHA-256 is {found}"));
    damage(segment, None, flaw)
}

/// The facts of a segment, in the order of the chain.
pub(super) fn linked(reader: &Reader, segment: &Segment) -> Result<Vec<Linked>, Damage> {
    let mut facts = Vec::new();
    for group in 0..reader.groups() {
        let rows = reader.rows(group, &Columns::ALL).map_err(|error| {
            damage(segment, None, Flaw::Malformed(format!("row group {group}: {error}")))
        })?;
        for row in (0..rows.len()).filter(|&row| !rows.carried[row]) {
            let fact = rows.record(row).and_then(|record| Ok((record, rows.link(row)?)));
            facts.push(fact.map_err(|flaw| damage(segment, rows.seq(row).ok(), flaw))?);
        }
    }
    facts.sort_unstable_by_key(|(record, _)| record.seq);
    chained(facts, segment)
}

/// The facts with their whole links; each must be the one whose beginning stands beside it.
fn chained(facts: Vec<(FactRecord, u32)>, segment: &Segment) -> Result<Vec<Linked>, Damage> {
    let wrong = |fact: u64, flaw| damage(segment, Some(fact), flaw);
    let mut linked = Vec::with_capacity(facts.len());
    let mut link = segment.before;
    let mut body = Vec::new();
    let mut after = segment.first - 1;
    for (record, beginning) in facts {
        let seq = record.seq;
        if seq != after + 1 {
            return Err(wrong(seq, Flaw::Gap { after }));
        }
        body.clear();
        encode_body(&record, &mut body)
            .map_err(|error| wrong(seq, Flaw::Text(error.to_string())))?;
        link = link.next(&body);
        if beginning_of(&link) != beginning {
            return Err(wrong(seq, Flaw::Hash));
        }
        after = seq;
        linked.push((record, link));
    }
    if after != segment.last || link != segment.link {
        return Err(wrong(segment.last, Flaw::Hash));
    }
    Ok(linked)
}

/// The first four bytes of a link.
pub(super) fn beginning_of(link: &FactHash) -> u32 {
    let [one, two, three, four, ..] = link.0;
    u32::from_be_bytes([one, two, three, four])
}

/// A segment, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// SHA-256 of its file, which is also its name.
    pub digest: String,
    /// Number of its first fact.
    pub first: u64,
    /// Number of its last fact.
    pub last: u64,
    /// Length of its file in bytes.
    pub bytes: u64,
    /// Path of its file.
    pub path: PathBuf,
    /// True if the file is there.
    pub is_here: bool,
    /// True if a fact tells that it leaves the data folder.
    pub is_pruned: bool,
    /// Its copies, as (address of the store, name of the object), the newest first.
    pub copies: Vec<(String, String)>,
}

impl Store {
    /// The segments as they are listed.
    pub(in super::super) fn list(&self, db: &Connection) -> rusqlite::Result<Vec<Listed>> {
        segments(db)?.iter().map(|one| self.listed(db, one)).collect()
    }

    /// A segment as it is listed.
    pub(in super::super) fn listed(
        &self,
        db: &Connection,
        segment: &Segment,
    ) -> rusqlite::Result<Listed> {
        let path = self.path(&segment.digest);
        let copies = copies_of(db, &segment.digest)?;
        Ok(Listed {
            digest: segment.digest.to_string(),
            first: segment.first,
            last: segment.last,
            bytes: segment.bytes,
            is_here: path.exists(),
            path,
            is_pruned: is_pruned(db, &segment.digest)?,
            copies: copies.into_iter().map(|copy| (copy.store, copy.object)).collect(),
        })
    }
}
