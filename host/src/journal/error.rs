//! What can go wrong with the journal: at opening, committing, reading, verifying.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::entry::Row;
use crate::clock::NoBootId;
use crate::id::{Digest, InstanceId, InstanceName, TenantId};
use crate::tenant::Plan;
use crate::vm::Phase;

/// Why the journal can't be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder can't be made or used.
    #[error("can't prepare the data folder: {doing} {path}")]
    Folder {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another process has the data folder.
    #[error("the data folder {} is in use by {}; stop it first, or choose another folder", .folder.display(), process(*.pid))]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process, if it left its number.
        pid: Option<u32>,
    },
    /// The clock has no boot to belong to.
    #[error(transparent)]
    NoBootId(#[from] NoBootId),
    /// The file is a database, but not one of ours.
    #[error("{} is a database of another program; move it away, or choose another folder", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The database was written by a later version of this program.
    #[error(
        "the database {} was written by a newer version of this program: its format is {found}, this one knows {known}; run the program that wrote it, or a later one",
        .path.display()
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file holds no journal, and is not one that was just begun.
    #[error(
        "{} {problem}: it holds no journal; restore a backup with `tallyman restore`, or move it away to begin anew",
        .path.display()
    )]
    NoJournal {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The daemon was not stopped cleanly, or the file was copied while it ran: its last facts are
    /// in the log.
    #[error("{}", log_missing(.path, .log))]
    LogMissing {
        /// The file.
        path: PathBuf,
        /// Its log.
        log: PathBuf,
    },
    /// The file is torn or was altered.
    #[error(
        "the database is damaged; nothing was changed. Keep a copy, then restore a backup or look closer with `journal verify`"
    )]
    Damaged(#[source] Damage),
    /// The database refused.
    #[error("can't open the database: {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: rusqlite::Error,
    },
    /// The writer's thread could not be started.
    #[error("can't start the thread of the journal's writer")]
    Thread(#[source] io::Error),
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

/// Why an entry was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The disk is full. Nothing was written; the same entry may be committed once there is space.
    #[error("no space left for the journal; nothing was recorded")]
    NoSpace(#[source] Arc<rusqlite::Error>),
    /// Writing or syncing failed. Whether the entry is on disk is not known before the journal is
    /// opened again. The journal takes nothing any more; see [`super::Journal::failed`].
    #[error("the journal has failed and takes no more entries: {reason}")]
    Failed {
        /// What happened first, in words.
        reason: Arc<str>,
    },
    /// The tenant has an instance of that name.
    #[error("the name '{name}' is in use by another instance of tenant '{tenant}'")]
    NameInUse {
        /// Whose.
        tenant: TenantId,
        /// The name.
        name: InstanceName,
    },
    /// The id was given before.
    #[error("the id '{0}' is in use")]
    IdInUse(InstanceId),
    /// The entry was asked for before, under the same key. Nothing was done again.
    #[error("this was asked for before, and done with fact {fact}")]
    Repeated {
        /// The fact that was recorded then.
        fact: u64,
        /// Whether it is what is asked for now; otherwise the key was used for two things.
        same: bool,
    },
    /// There is no such instance, or it is deleted. A defect of the caller.
    #[error("no instance that is not deleted lies in row {}", .0.0)]
    NoSuchRow(Row),
    /// There is nothing to withdraw: no such change is planned, or its instant has come.
    #[error(
        "no change of the {plan} to {digest} is planned for this instant, or it has come about"
    )]
    NotPlanned {
        /// Policy or prices.
        plan: Plan,
        /// The component or the price book.
        digest: Digest,
    },
    /// The tenant's next document has another number. Somebody else was faster.
    #[error("the tenant's next document is number {next}, not {number}")]
    NumberInUse {
        /// What was asked for.
        number: u64,
        /// What would be right.
        next: u64,
    },
    /// A fact follows the one that deletes its instance. A defect of the caller.
    #[error("a deleted instance has no more facts, and the entry has one after the deletion")]
    AfterDeletion,
}

/// Why facts can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database refused.
    #[error("can't read the journal")]
    Database(#[from] rusqlite::Error),
    /// What was read is not what was written.
    #[error("the journal is damaged; see `journal verify`")]
    Damaged(#[source] Damage),
}

/// Why a journal is not proved to be whole.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not.
    #[error("the journal is damaged")]
    Damaged(#[source] Damage),
    /// There is no journal here, or not one that this version reads.
    #[error("{} holds no journal that this version can read (application id {application_id:#x}, version {version})", .path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
        /// What it says it is.
        application_id: i64,
        /// Its version.
        version: i64,
    },
    /// The daemon was not stopped cleanly, or the file was copied while it ran: its last facts are
    /// in the log.
    #[error("{}", log_missing(.path, .log))]
    LogMissing {
        /// The file.
        path: PathBuf,
        /// Its log.
        log: PathBuf,
    },
    /// It could not be read to the end.
    #[error("can't read the journal")]
    Database(#[from] rusqlite::Error),
}

/// A fact that is wrong.
pub(super) fn wrong(seq: u64, flaw: Flaw) -> VerifyError {
    VerifyError::Damaged(Damage { place: Place::Fact(seq), flaw })
}

/// A row that does not agree with the facts.
pub(super) fn wrong_row(
    table: &'static str,
    key: impl Into<String>,
    text: impl Into<String>,
) -> VerifyError {
    let place = Place::Table { table, key: key.into() };
    VerifyError::Damaged(Damage { place, flaw: Flaw::Disagrees(text.into()) })
}

fn log_missing(path: &Path, log: &Path) -> String {
    format!(
        "{} needs its log, and {} is missing or empty; put both back as they were, or take a backup with \
         `tallyman backup`. If the log is lost, `tallyman restore --accept-lost-log` says how far the journal goes \
         without it",
        path.display(),
        log.display()
    )
}

/// The first thing found wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {flaw}")]
pub struct Damage {
    /// Where.
    pub place: Place,
    /// What.
    pub flaw: Flaw,
}

/// A place in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A frame of the write-ahead log, from 1; 0 is the log's header.
    Log(u64),
    /// A fact, by sequence number.
    Fact(u64),
    /// An instance's record, by row.
    Instance(Row),
    /// A row of another table.
    Table {
        /// The table.
        table: &'static str,
        /// Its key, or what is there instead.
        key: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File => f.write_str("the file"),
            Place::Log(frame) => write!(f, "frame {frame} of the write-ahead log"),
            Place::Fact(seq) => write!(f, "fact {seq}"),
            Place::Instance(row) => write!(f, "the instance in row {}", row.0),
            Place::Table { table, key } => write!(f, "table {table}, '{key}'"),
        }
    }
}

/// What is wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The database engine can't make sense of it.
    #[error("{0}")]
    Malformed(String),
    /// A fact is missing before this one.
    #[error("follows fact {after}; facts in between are missing")]
    Gap {
        /// The last one there is.
        after: u64,
    },
    /// The link is not SHA-256 of the link before and the body.
    #[error("its hash does not follow from the fact before and its own text")]
    Hash,
    /// The body can't be read as a fact.
    #[error("its text is not a fact: {0}")]
    Text(String),
    /// The body says the right thing in other bytes than we write.
    #[error("its text is not in the one form that facts are written in")]
    NotCanonical,
    /// The body has another sequence number than its row.
    #[error("its text says that it is fact {0}")]
    Seq(u64),
    /// It was recorded before the fact before it.
    #[error("was recorded at {recorded_ns}, before the fact before it at {before_ns}")]
    RecordedBackwards {
        /// Its own.
        recorded_ns: i64,
        /// The one before.
        before_ns: i64,
    },
    /// It happened before the last fact of its instance.
    #[error("happened at {meter_ns}, before the last fact of its instance at {before_ns}")]
    MeterBackwards {
        /// Its own.
        meter_ns: i64,
        /// The one before.
        before_ns: i64,
    },
    /// It happened after it was recorded.
    #[error("happened at {meter_ns}, after it was recorded at {recorded_ns}")]
    FromTheFuture {
        /// When it happened.
        meter_ns: i64,
        /// When it was recorded.
        recorded_ns: i64,
    },
    /// The link to the instance's fact before is wrong.
    #[error("names {} as the fact before of its instance; it is {}", seq_or_none(*.found), seq_or_none(*.expected))]
    Previous {
        /// What it says.
        found: Option<u64>,
        /// What is right.
        expected: Option<u64>,
    },
    /// The phase can't follow the one before.
    #[error("enters {to} from {}", .from.map_or("nothing", Phase::as_str))]
    Phase {
        /// The phase before.
        from: Option<Phase>,
        /// This one.
        to: Phase,
    },
    /// The record of an instance names another fact as its last than the journal.
    #[error("names {} as its last fact; it is {}", seq_or_none(*.found), seq_or_none(*.expected))]
    LastFact {
        /// What it says.
        found: Option<u64>,
        /// What is right.
        expected: Option<u64>,
    },
    /// The record of an instance names another fact as its deletion than the journal.
    #[error("names {} as its deletion; it is {}", seq_or_none(*.found), seq_or_none(*.expected))]
    Deletion {
        /// What it says.
        found: Option<u64>,
        /// What is right.
        expected: Option<u64>,
    },
    /// A row that no fact accounts for, or a fact without its row.
    #[error("does not agree with the facts: {0}")]
    Disagrees(String),
}

fn seq_or_none(seq: Option<u64>) -> String {
    seq.map_or_else(|| "none".into(), |seq| format!("fact {seq}"))
}
