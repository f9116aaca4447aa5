//! Copies of a journal, taken beside a running daemon, and put back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::entry::{FactHash, Head};
use super::error::{OpenError, VerifyError};
use super::open::{lock, private_file, publish};
use super::schema::{self, int, uint};
use super::verify::{LostLog, Verified, database, verify_database};

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
        source: VerifyError,
    },
    /// The copy failed its verification, and was removed.
    #[error("the copy failed its verification and was removed; try again")]
    Copy(#[source] VerifyError),
    /// SQLite failed to copy the database.
    #[error("can't copy the database")]
    Database(#[from] rusqlite::Error),
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
    copy(from, to, LostLog::Refused)
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
    copy(from, &path, lost_log)
}

fn copy(from: &Path, to: &Path, lost_log: LostLog) -> Result<Verified, BackupError> {
    let taking = |source| BackupError::Source { path: from.to_owned(), source };
    let (_, db) = database(from, lost_log).map_err(taking)?;
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    remove(&part)?;
    private_file(&part).map_err(file("create", &part))?;
    let copied = copy_into(&db, &part).and_then(|verified| {
        publish(&part, to).map_err(file("write", to))?;
        Ok(verified)
    });
    if copied.is_err() {
        remove(&part)?;
    }
    copied
}

fn copy_into(db: &Connection, part: &Path) -> Result<Verified, BackupError> {
    db.execute("VACUUM INTO ?1", [part.to_string_lossy()])?;
    let copy = schema::open_writer(part, None)?;
    // The copy holds the content of the log too, so it needs none.
    copy.execute("UPDATE session SET is_open = 0", [])?;
    verify_database(&copy, &[], |_, _| ()).map_err(BackupError::Copy)
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
        move |source| BackupError::Source { path, source }
    };
    let (_, copy) = database(from, lost_log).map_err(reading(from))?;
    let copied = verify_database(&copy, &[], |_, _| ()).map_err(reading(from))?.head;
    if !folder.join(schema::FILE).try_exists().map_err(file("look for", folder))? {
        return Ok(Loss {
            copy: copied,
            place: None,
            continues: true,
            facts: 0,
            instances: Vec::new(),
        });
    }
    let (_, place) = database(folder, LostLog::Accepted).map_err(reading(folder))?;
    let head = head(&place)?;
    let continues = link(&place, copied.seq)? == Some(copied.hash);
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
    let seq = db.query_row("SELECT coalesce(max(seq), 0) FROM fact", [], |row| uint(row, 0))?;
    Ok(Head { seq, hash: link(db, seq)?.unwrap_or(FactHash::GENESIS) })
}

/// The hash of a fact; none if there is no such fact.
fn link(db: &Connection, seq: u64) -> rusqlite::Result<Option<FactHash>> {
    if seq == 0 {
        return Ok(Some(FactHash::GENESIS));
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
