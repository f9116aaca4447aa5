//! The errors of the journal: of opening, committing, reading and verifying.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copies::NoCopy;
use super::entry::Row;
use crate::clock::NoBootId;
use crate::id::{Digest, InstanceId, InstanceName, TenantId};
use crate::tenant::Plan;
use crate::vm::Phase;

/// An error of opening the journal. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder can't be created or used.
    #[error("can't prepare the data folder: {doing} {path}")]
    Folder {
        /// The operation, as a verb in the infinitive.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another process holds the lock of the data folder.
    #[error(
        "the data folder {} is in use by {}; stop it first, or choose another folder",
        .folder.display(), process(*.pid)
    )]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// Id of that process; none if the lock file does not name it.
        pid: Option<u32>,
    },
    /// The boot id of the host can't be read.
    #[error(transparent)]
    NoBootId(#[from] NoBootId),
    /// The file is an SQLite database of another program.
    #[error(
        "{} is a database of another program; move it away, or choose another data folder",
        .path.display()
    )]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// The file is a collector's copy of a host's journal.
    #[error(
        "{} is a collector's copy of another host's journal; only that host may continue it. \
         Choose another data folder",
        .path.display()
    )]
    Replica {
        /// The database file.
        path: PathBuf,
    },
    /// The database was written by a later version of this program.
    #[error(
        "the database {} was written by a newer version of this program: its schema has version \
         {found}, this program knows versions up to {known}; run the program that wrote it, or a \
         later one",
        .path.display()
    )]
    NewerVersion {
        /// The database file.
        path: PathBuf,
        /// Schema version of the database.
        found: i64,
        /// Latest schema version that this program knows.
        known: i64,
    },
    /// The file holds no journal.
    #[error(
        "{} {problem}: it holds no journal; restore a backup with `tallyman restore`, or move it \
         away to start an empty journal",
        .path.display()
    )]
    NoJournal {
        /// The database file.
        path: PathBuf,
        /// The problem, as the predicate of a sentence.
        problem: &'static str,
    },
    /// The write-ahead log that holds the last facts is missing: the daemon was not stopped
    /// cleanly, or the file was copied while it ran.
    #[error("{}", log_missing(.path, .log))]
    LogMissing {
        /// The database file.
        path: PathBuf,
        /// Path of its write-ahead log.
        log: PathBuf,
    },
    /// The database or its log is torn or was altered.
    #[error(
        "the database is damaged; nothing was changed. Keep a copy, then find the damage with \
         `tallyman journal verify` or restore a backup with `tallyman restore`"
    )]
    Damaged(#[source] Damage),
    /// An operation on the database failed.
    #[error("can't open the database: {doing}")]
    Database {
        /// The operation, as a verb in the infinitive.
        doing: &'static str,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
    /// The writer's thread could not be started.
    #[error("can't start the journal's writer thread; the system may be out of threads or memory")]
    Thread(#[source] io::Error),
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

/// An error of committing an entry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The disk is full. Nothing was written; the entry may be committed again once there is space.
    #[error("no space left for the journal; nothing was recorded. Free disk space and try again")]
    NoSpace(#[source] Arc<rusqlite::Error>),
    /// Writing or syncing failed. The entry may or may not be on disk; the next opening of the
    /// journal decides. The journal accepts no more entries; see [`super::Journal::failed`].
    #[error("the journal has failed and accepts no more entries: {reason}; restart the daemon")]
    Failed {
        /// The first failure, in free text.
        reason: Arc<str>,
    },
    /// The tenant has another instance of that name that is not deleted.
    #[error(
        "the name '{name}' is in use by another instance of tenant '{tenant}'; choose another name"
    )]
    NameInUse {
        /// Owner of both instances.
        tenant: TenantId,
        /// The name in use.
        name: InstanceName,
    },
    /// The id was used before, by an instance that may be deleted.
    #[error("the id '{0}' is in use")]
    IdInUse(InstanceId),
    /// A request with this idempotency key was committed before. Nothing was done again.
    #[error("a request with this idempotency key was committed before, with fact {fact}")]
    Repeated {
        /// Sequence number of the fact that was recorded then.
        fact: u64,
        /// True if both requests have the same content; otherwise the key was used for two
        /// requests.
        same: bool,
    },
    /// The instance does not exist or is deleted. A bug of the caller.
    #[error("row {} holds no instance, or a deleted one", .0.0)]
    NoSuchRow(Row),
    /// No such change is planned, or it is in force already.
    #[error(
        "no change of the {plan} to {digest} is planned for this instant, or it is in force already"
    )]
    NotPlanned {
        /// Kind of the planned change.
        plan: Plan,
        /// SHA-256 of the component or of the price book.
        digest: Digest,
    },
    /// The tenant's next document has another number: another request was committed first.
    #[error(
        "the tenant's next document has number {next}, not {number}; another one was recorded first"
    )]
    NumberInUse {
        /// The number in the entry.
        number: u64,
        /// The tenant's next number.
        next: u64,
    },
    /// A fact follows the one that deletes its instance. A bug of the caller.
    #[error("the entry has a fact after the deletion of its instance")]
    AfterDeletion,
}

/// An error of reading facts.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A query failed.
    #[error("can't read the journal")]
    Database(#[from] rusqlite::Error),
    /// A row can't be decoded, or contradicts another one.
    #[error("the journal is damaged; find the damage with `tallyman journal verify`")]
    Damaged(#[source] Damage),
    /// A segment is not in the data folder, and its copy can't be had.
    #[error("segment {digest} is not in the data folder")]
    Elsewhere {
        /// SHA-256 of its file.
        digest: Digest,
        /// The reason why its copy can't be had.
        #[source]
        why: NoCopy,
    },
}

/// An error of verifying a journal.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The journal is damaged.
    #[error("the journal is damaged")]
    Damaged(#[source] Damage),
    /// The file holds no journal of the schema version that this program reads.
    #[error(
        "{} holds no journal that this version can read: its header has application id \
         {application_id:#x} and schema version {version}, expected {expected:#x} and {known}; \
         an older journal is upgraded by `tallyman serve`",
        .path.display()
    )]
    NotAJournal {
        /// The database file.
        path: PathBuf,
        /// Application id in the file's header; 0 if none was set.
        application_id: i64,
        /// Schema version in the file's header.
        version: i64,
        /// Application id of every journal.
        expected: i64,
        /// Schema version that this program reads.
        known: i64,
    },
    /// The write-ahead log that holds the last facts is missing: the daemon was not stopped
    /// cleanly, or the file was copied while it ran.
    #[error("{}", log_missing(.path, .log))]
    LogMissing {
        /// The database file.
        path: PathBuf,
        /// Path of its write-ahead log.
        log: PathBuf,
    },
    /// A segment is not in the data folder, and its copy can't be had.
    #[error("segment {digest} is not in the data folder")]
    Elsewhere {
        /// SHA-256 of its file.
        digest: Digest,
        /// The reason why its copy can't be had.
        #[source]
        why: NoCopy,
    },
    /// A query failed.
    #[error("can't read the journal")]
    Database(#[from] rusqlite::Error),
}

/// Reports a flaw of a fact.
pub(super) fn wrong(seq: u64, flaw: Flaw) -> VerifyError {
    VerifyError::Damaged(Damage { place: Place::Fact(seq), flaw })
}

/// Reports a row that contradicts the facts.
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
        "{} needs its write-ahead log, and {} is missing or empty; put both back as they were, or \
         take a backup with `tallyman backup`. If the log is lost, `tallyman restore \
         --accept-lost-log` restores the facts before it and says how many there are",
        path.display(),
        log.display()
    )
}

/// The first flaw that was found, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {flaw}")]
pub struct Damage {
    /// The place.
    pub place: Place,
    /// The flaw.
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
    /// A segment, and a fact in it if it is known which.
    Segment {
        /// SHA-256 that its file should have.
        digest: Digest,
        /// Sequence number of the fact.
        fact: Option<u64>,
    },
    /// A row of another table.
    Table {
        /// Name of the table.
        table: &'static str,
        /// Key of the row; `*` for the table as a whole.
        key: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File => f.write_str("the file"),
            Place::Log(frame) => write!(f, "frame {frame} of the write-ahead log"),
            Place::Fact(seq) => write!(f, "fact {seq}"),
            Place::Segment { digest, fact: None } => write!(f, "segment {digest}"),
            Place::Segment { digest, fact: Some(fact) } => {
                write!(f, "fact {fact} in segment {digest}")
            }
            Place::Instance(row) => write!(f, "the instance in row {}", row.0),
            Place::Table { table, key } => write!(f, "table {table}, '{key}'"),
        }
    }
}

/// A flaw at a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// SQLite, or the decoder of a value, can't read it.
    #[error("{0}")]
    Malformed(String),
    /// A fact is missing before this one.
    #[error("follows fact {after}; facts in between are missing")]
    Gap {
        /// Sequence number of the last fact before the gap.
        after: u64,
    },
    /// The hash is not SHA-256 of the previous hash and the body.
    #[error("its hash does not follow from the previous hash and its own text")]
    Hash,
    /// The body can't be decoded as a fact.
    #[error("its text is not a fact: {0}")]
    Text(String),
    /// The body decodes to a fact, but is not its canonical text.
    #[error("its text is not canonical")]
    NotCanonical,
    /// The body states another sequence number than its row.
    #[error("its text states sequence number {0}")]
    Seq(u64),
    /// The fact was recorded earlier than the previous fact.
    #[error("was recorded at {recorded_ns} ns, before the previous fact at {before_ns} ns")]
    RecordedBackwards {
        /// `recorded_ns` of the fact.
        recorded_ns: i64,
        /// `recorded_ns` of the previous fact.
        before_ns: i64,
    },
    /// The fact happened earlier than the previous fact of its instance.
    #[error(
        "happened at {meter_ns} ns, before the previous fact of its instance at {before_ns} ns"
    )]
    MeterBackwards {
        /// `meter_ns` of the fact.
        meter_ns: i64,
        /// `meter_ns` of the previous fact of the instance.
        before_ns: i64,
    },
    /// The fact happened later than it was recorded.
    #[error("happened at {meter_ns} ns, after it was recorded at {recorded_ns} ns")]
    FromTheFuture {
        /// `meter_ns` of the fact.
        meter_ns: i64,
        /// `recorded_ns` of the fact.
        recorded_ns: i64,
    },
    /// The fact names the wrong previous fact of its instance.
    #[error(
        "names {} as the previous fact of its instance; expected {}",
        seq_or_none(*.found), seq_or_none(*.expected)
    )]
    Previous {
        /// Sequence number that the fact names; none if it names none.
        found: Option<u64>,
        /// Sequence number of the previous fact; none if there is none.
        expected: Option<u64>,
    },
    /// No transition leads from the previous phase to this one.
    #[error("enters {to} from {}", .from.map_or("nothing", Phase::as_str))]
    Phase {
        /// The previous phase; none for the first one.
        from: Option<Phase>,
        /// The phase that the fact enters.
        to: Phase,
    },
    /// The record of an instance names the wrong fact as the instance's last one.
    #[error(
        "names {} as its last fact; expected {}",
        seq_or_none(*.found), seq_or_none(*.expected)
    )]
    LastFact {
        /// Sequence number that the record names; none if it names none.
        found: Option<u64>,
        /// Sequence number of the last fact; none if there is none.
        expected: Option<u64>,
    },
    /// The record of an instance names the wrong fact as the instance's deletion.
    #[error("names {} as its deletion; expected {}", seq_or_none(*.found), seq_or_none(*.expected))]
    Deletion {
        /// Sequence number that the record names; none if it names none.
        found: Option<u64>,
        /// Sequence number of the deletion; none if the instance is not deleted.
        expected: Option<u64>,
    },
    /// A row that contradicts the facts or that no fact accounts for, or a fact without its row.
    #[error("does not agree with the facts: {0}")]
    Disagrees(String),
}

fn seq_or_none(seq: Option<u64>) -> String {
    seq.map_or_else(|| "none".into(), |seq| format!("fact {seq}"))
}

/// True if nothing was written because the disk is full, so that a retry is safe. Growing the log's
/// index reports a full disk with its own code.
pub(super) fn is_no_space(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|cause| {
        cause.code == rusqlite::ErrorCode::DiskFull
            || cause.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    })
}
