//! Copies of a journal, taken beside a running daemon, and put back.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::entry::{FactHash, Head};
use super::error::{OpenError, ReadError, VerifyError};
use super::open::{lock, private_file, publish};
use super::schema::{self, int, uint};
use super::segment::{FOLDER, Store, is_pruned, segments};
use super::verify::{LostLog, Verified, database, verify_present};

/// An error of a backup or a restore. The source and an existing journal are unchanged.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file of that name exists.
    #[error("{} exists already; choose another name, or move it away", .0.display())]
    Exists(PathBuf),
    /// The data folder holds a journal; a restore needs an empty one.
    #[error(
        "{} holds a journal already; `tallyman restore --dry-run` says what would be lost with it. \
         Stop the daemon, move the folder away, and restore into an empty one",
        .0.display()
    )]
    NotEmpty(PathBuf),
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
    /// The data folder can't be locked or used.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// The source is damaged or can't be read.
    #[error("can't read the journal {}", .path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<VerifyError>,
    },
    /// The copy failed its verification, and was removed.
    #[error("the copy failed its verification and was removed; try again")]
    Copy(#[source] Box<VerifyError>),
    /// SQLite failed to copy the database.
    #[error("can't copy the database")]
    Database(#[from] rusqlite::Error),
    /// A segment can't be copied.
    #[error("can't copy a segment")]
    Segment(#[source] Box<ReadError>),
}

/// Copies a journal, given its data folder or file, into the new file `to`: one file, which needs
/// no write-ahead log. A daemon may be writing meanwhile; the copy is a snapshot. Verifies the
/// copy. Blocking.
///
/// # Errors
/// See [`BackupError`].
pub fn backup(from: &Path, to: &Path) -> Result<Verified, BackupError> {
    if to.try_exists().map_err(file("look for", to))? {
        return Err(BackupError::Exists(to.to_owned()));
    }
    copy(from, to, LostLog::Refused, |_| Ok(()))
}

/// Restores a copy of a journal into an empty data folder. Blocking.
///
/// # Errors
/// See [`BackupError`].
pub fn restore(from: &Path, folder: &Path, lost_log: LostLog) -> Result<Verified, BackupError> {
    let _lock = lock(folder)?;
    let path = folder.join(schema::FILE);
    if path.try_exists().map_err(file("look for", &path))? || super::log::is_there(&path) {
        return Err(BackupError::NotEmpty(folder.to_owned()));
    }
    copy(from, &path, lost_log, |part| unpack(part, &folder.join(FOLDER)))
}

/// Copies a journal. `then` is done with the copy before it gets its name.
fn copy(
    from: &Path,
    to: &Path,
    lost_log: LostLog,
    then: impl FnOnce(&Path) -> Result<(), BackupError>,
) -> Result<Verified, BackupError> {
    let taking = |error| BackupError::Source { path: from.to_owned(), source: Box::new(error) };
    let (path, db) = database(from, lost_log).map_err(taking)?;
    let store = Store::beside(&path);
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    remove(&part)?;
    private_file(&part).map_err(file("create", &part))?;
    let copied = copy_into(&db, &store, &part).and_then(|verified| {
        then(&part)?;
        publish(&part, to).map_err(file("write", to))?;
        Ok(verified)
    });
    if copied.is_err() {
        remove(&part)?;
    }
    copied
}

fn copy_into(db: &Connection, store: &Store, part: &Path) -> Result<Verified, BackupError> {
    db.execute("VACUUM INTO ?1", [part.to_string_lossy()])?;
    let copy = schema::open_writer(part, None)?;
    // The copy holds the content of the log too, so it needs none.
    copy.execute("UPDATE session SET is_open = 0", [])?;
    for segment in segments(&copy)? {
        // What was pruned stays in the archive.
        if is_pruned(&copy, &segment.digest)? && !store.has(db, &segment.digest)? {
            continue;
        }
        let mut bytes = Vec::new();
        store
            .file(db, &segment)
            .map_err(|error| BackupError::Segment(Box::new(error)))?
            .read_to_end(&mut bytes)
            .map_err(file("read", &store.path(&segment.digest)))?;
        copy.execute(
            "INSERT OR REPLACE INTO segment_copy (digest, bytes) VALUES (?1, ?2)",
            (segment.digest.to_string(), bytes),
        )?;
    }
    // Nothing but the copy itself is read for the proof.
    let inside = Store::beside(&part.join("none"));
    verify_present(&copy, &inside).map_err(|error| BackupError::Copy(Box::new(error)))
}

/// Takes the segments out of a copy that becomes the journal of a data folder.
fn unpack(part: &Path, folder: &Path) -> Result<(), BackupError> {
    let copy = schema::open_writer(part, None)?;
    let segments = segments(&copy)?;
    if segments.is_empty() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file("create", folder))?;
    for segment in segments {
        let name = segment.digest.to_string();
        let sql = "SELECT bytes FROM segment_copy WHERE digest = ?1";
        let bytes = copy.query_row(sql, [&name], |row| row.get::<_, Vec<u8>>(0)).optional()?;
        let Some(bytes) = bytes else { continue };
        let path = folder.join(format!("{name}.parquet"));
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        remove(&part)?;
        private_file(&part)
            .and_then(|mut to| to.write_all(&bytes))
            .and_then(|()| publish(&part, &path))
            .map_err(file("write", &path))?;
    }
    copy.execute_batch("DELETE FROM segment_copy; VACUUM")?;
    Ok(())
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { doing, path, source }
}

/// The difference between the journal of a data folder and a copy that would replace it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The end of the copy.
    pub copy: Head,
    /// The end of the present journal; none if the folder holds no journal.
    pub place: Option<Head>,
    /// True if the present journal continues the copy's chain; otherwise the two are of different
    /// hosts, or one was forged.
    pub continues: bool,
    /// Number of facts that only the present journal holds.
    pub facts: u64,
    /// Ids of the instances that only the present journal knows and that are not deleted.
    pub instances: Vec<String>,
}

/// Computes what would be lost if the copy `from` replaced the journal of `folder`. Changes
/// nothing. Blocking.
///
/// # Errors
/// [`BackupError::Source`] for the one of the two that is damaged or can't be read.
pub fn loss(from: &Path, folder: &Path, lost_log: LostLog) -> Result<Loss, BackupError> {
    let reading = |path: &Path| {
        let path = path.to_owned();
        move |error| BackupError::Source { path, source: Box::new(error) }
    };
    let (path, copy) = database(from, lost_log).map_err(reading(from))?;
    let store = Store::beside(&path);
    let copied = verify_present(&copy, &store).map_err(reading(from))?.head;
    if !folder.join(schema::FILE).try_exists().map_err(file("look for", folder))? {
        return Ok(Loss {
            copy: copied,
            place: None,
            continues: true,
            facts: 0,
            instances: Vec::new(),
        });
    }
    let (path, place) = database(folder, LostLog::Accepted).map_err(reading(folder))?;
    let store = Store::beside(&path);
    let head = head(&place)?;
    let continues = link(&place, &store, copied.seq)? == Some(copied.hash);
    let common = if continues { copied.seq } else { 0 };
    let known: BTreeSet<String> =
        if continues { living(&copy)?.into_iter().collect() } else { BTreeSet::new() };
    let instances = living(&place)?.into_iter().filter(|id| !known.contains(id)).collect();
    Ok(Loss {
        copy: copied,
        place: Some(head),
        continues,
        facts: head.seq - common.min(head.seq),
        instances,
    })
}

fn head(db: &Connection) -> rusqlite::Result<Head> {
    let sql = "SELECT seq, hash FROM fact ORDER BY seq DESC LIMIT 1";
    let last =
        |row: &rusqlite::Row<'_>| Ok(Head { seq: uint(row, 0)?, hash: FactHash(row.get(1)?) });
    Ok(db.query_row(sql, [], last).optional()?.unwrap_or(Head::EMPTY))
}

/// The hash of a fact; none if there is no such fact.
fn link(db: &Connection, store: &Store, seq: u64) -> Result<Option<FactHash>, BackupError> {
    if seq == 0 {
        return Ok(Some(FactHash::GENESIS));
    }
    let sealed = store.fact(db, seq).map_err(|error| BackupError::Segment(Box::new(error)))?;
    if let Some((_, link)) = sealed {
        return Ok(Some(link));
    }
    let hash = db
        .query_row("SELECT hash FROM fact WHERE seq = ?1", [int(seq)], |row| row.get(0))
        .optional()?;
    Ok(hash.map(FactHash))
}

fn living(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare("SELECT id FROM instance WHERE deleted IS NULL ORDER BY row")?;
    statement.query_map([], |row| row.get(0))?.collect()
}
