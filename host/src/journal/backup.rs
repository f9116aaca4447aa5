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

/// Why a journal can't be copied or put back. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is a file of that name.
    #[error("{} is there already; choose another name, or move it away", .0.display())]
    Exists(PathBuf),
    /// A journal is put back into an empty data folder alone.
    #[error(
        "{} holds a journal already; `tallyman restore --dry-run` says what would be lost with it. Stop the daemon, \
         move the folder away, and restore into an empty one",
        .0.display()
    )]
    NotEmpty(PathBuf),
    /// A file could not be written.
    #[error("can't {doing} {}", .path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The data folder can't be used.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// What is copied is not whole, or can't be read.
    #[error("can't take {}", .path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifyError,
    },
    /// The copy is not what was copied.
    #[error("the copy is not whole; it was removed")]
    Copy(#[source] VerifyError),
    /// The engine could not copy.
    #[error("can't copy the database")]
    Database(#[from] rusqlite::Error),
}

/// Copies a journal, given its data folder or file, into the new file `to`: one file, which needs
/// no log. A daemon may be writing meanwhile; the copy is the journal at one instant. Proves the
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

/// Makes a journal that was copied the one of an empty data folder. Blocking.
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
    // Whatever its log held is in the copy.
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

/// The difference between a journal that is in place and a copy that would take its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The end of the copy.
    pub copy: Head,
    /// The end of the journal in place; none where there is none.
    pub place: Option<Head>,
    /// Whether the one in place is the copy's own continuation; otherwise they are of two hosts, or
    /// one was forged.
    pub continues: bool,
    /// Facts of the journal in place that the copy has not.
    pub facts: u64,
    /// Ids of the instances that only the journal in place knows, and which it has not deleted.
    pub instances: Vec<String>,
}

/// Says what would be lost if the copy `from` took the place of the journal of `folder`. Changes
/// nothing. Blocking.
///
/// # Errors
/// [`BackupError::Source`], for the one that can't be read.
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

/// The link of a fact.
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
