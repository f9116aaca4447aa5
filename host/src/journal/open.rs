//! Opening a journal: the lock, the checks of the file, and the state that an earlier run left.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{mpsc, watch};

use super::chain::{self, Chain};
use super::entry::{
    Activation, Alive, EarlierBoot, FactHash, Head, Opened, StoredInstance, StoredPolicy,
};
use super::error::{Damage, Flaw, OpenError, Place};
use super::figures::Figures;
use super::hosts::Hosts;
use super::log;
use super::migrate;
use super::read::{INSTANCE_COLUMNS, Readers, stored_instance};
use super::reserve::Reserve;
use super::schema::{self, WITHDRAWN, int, uint};
use super::segment;
use super::tenants;
use super::wire::FactRecord;
use super::writer::{Request, Scratch, Tail, Writer, write_alive};
use super::{Journal, Options};
use crate::billing::BootId;
use crate::billing::account::Accountant;
use crate::billing::calendar::Calendar;
use crate::clock::{self, Clock, Gap, HostTime, LastKnown};
use crate::limits::queue::JOURNAL_ENTRIES_MAX;
use crate::mutants::Mutant;
use crate::units::Instant;

/// Number of facts at the end of the chain that are checked at each opening.
const TAIL_FACTS: u64 = 1_000;

impl Journal {
    /// Opens the journal of a data folder, or creates one. Blocking.
    ///
    /// Checks the end of the chain only; [`super::verify`] checks all of it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        folder: &Path,
        options: Options,
        accountant: Arc<dyn Accountant>,
    ) -> Result<(Journal, Opened), OpenError> {
        let (writer, requests, opened) = writer(folder, options, accountant)?;
        Ok((start(writer, requests, folder)?, opened))
    }

    /// Opens a journal as [`Journal::open`] does, with its writer as a task that the caller runs:
    /// for a simulation, in which everything happens on one thread. Dropping the task is a crash.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_as_task(
        folder: &Path,
        options: Options,
        accountant: Arc<dyn Accountant>,
    ) -> Result<(Journal, Opened, impl Future<Output = ()> + Send + use<>), OpenError> {
        let (writer, requests, opened) = writer(folder, options, accountant)?;
        let journal = journal(&writer, requests, folder);
        Ok((journal, opened, writer.run_as_task()))
    }
}

/// Returns a writer that is ready to run, the sender of its requests, and the state read back.
pub(super) fn writer(
    folder: &Path,
    options: Options,
    accountant: Arc<dyn Accountant>,
) -> Result<(Writer, mpsc::Sender<Request>, Opened), OpenError> {
    let lock = lock(folder)?;
    let path = folder.join(schema::FILE);
    let reserve = options.has_reserve.then(|| Reserve::open(folder));
    let db = open_database(&path, options, schema::APPLICATION_ID)?;
    let tail = check_tail(&db)?;
    let opened = load(&db, &tail, options)?;
    schema::mark_open(&db).map_err(|source| refused("mark the file as open", source))?;
    let log = log::path_of(&path);
    let log = File::open(&log).map_err(|source| OpenError::Folder {
        doing: "open",
        path: log,
        source,
    })?;
    schema::leave_syncs(&db).map_err(|source| refused("set up durability", source))?;
    let (requests, queue) = mpsc::channel(JOURNAL_ENTRIES_MAX);
    let writer = Writer {
        reserve,
        tails: opened.instances.iter().map(|instance| (instance.row, tail_of(instance))).collect(),
        db,
        log,
        clock: opened.clock.clone(),
        trusts_wall_clock: options.trusts_wall_clock,
        accountant,
        head: opened.head,
        recorded: tail.recorded,
        requests: queue,
        head_seen: watch::Sender::new(opened.head),
        failure: watch::Sender::new(None),
        figures: Arc::new(Figures::new(opened.clock.now(), &opened.instances)),
        closing: Arc::default(),
        waiting: Arc::default(),
        log_load: 0,
        unsynced: 0,
        last_batch_len: 0,
        last_commit_ns: 0,
        scratch: Scratch::default(),
        _lock: lock,
    };
    writer.note_reserve();
    Ok((writer, requests, opened))
}

/// Starts the thread of a writer.
pub(super) fn start(
    writer: Writer,
    requests: mpsc::Sender<Request>,
    folder: &Path,
) -> Result<Journal, OpenError> {
    let mut journal = journal(&writer, requests, folder);
    let thread = std::thread::Builder::new().name("journal".into());
    journal.writer = Some(thread.spawn(|| writer.run()).map_err(OpenError::Thread)?);
    Ok(journal)
}

/// The journal of a writer that has no thread yet.
fn journal(writer: &Writer, requests: mpsc::Sender<Request>, folder: &Path) -> Journal {
    let path = folder.join(schema::FILE);
    Journal {
        requests: Some(requests),
        writer: None,
        head: writer.head_seen.subscribe(),
        failure: writer.failure.subscribe(),
        figures: writer.figures.clone(),
        closing: writer.closing.clone(),
        waiting: writer.waiting.clone(),
        readers: Arc::new(Readers::new(path.clone())),
        hosts: Arc::new(Hosts::beside(&path)),
        path,
        sealing: tokio::sync::Mutex::default(),
        copying: tokio::sync::Mutex::default(),
    }
}

/// Locks the data folder for this process until the returned file is dropped.
pub(super) fn lock(folder: &Path) -> Result<File, OpenError> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Folder { doing, path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed("create", folder))?;
    let path = folder.join("lock");
    let mut file = private_file(&path).map_err(failed("open", &path))?;
    let mut waits = 0;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        let pid = owner(&mut file);
        if waits == ORPHAN_WAITS_MAX || pid.is_none_or(is_there) {
            return Err(OpenError::InUse { folder: folder.to_owned(), pid });
        }
        waits += 1;
        std::thread::sleep(ORPHAN_WAIT);
    }
    sign(&mut file).map_err(failed("write", &path))?;
    Ok(file)
}

/// Wait for a lock whose owner is dead: a daemon that was killed between fork and exec leaves a
/// child that holds the lock until its exec.
const ORPHAN_WAIT: Duration = Duration::from_millis(10);
const ORPHAN_WAITS_MAX: u32 = 200;

/// The process id in the lock file; none if it has no valid one.
fn owner(file: &mut File) -> Option<u32> {
    let mut pid = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut pid)).ok()?;
    pid.trim().parse().ok()
}

fn is_there(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Opens the database of a journal, or of a copy of one, as `application_id` says; a missing one is
/// made.
pub(super) fn open_database(
    path: &Path,
    options: Options,
    application_id: i64,
) -> Result<Connection, OpenError> {
    let failed = |doing| {
        let path = path.to_owned();
        move |source| OpenError::Folder { doing, path, source }
    };
    let has_log = log::is_there(path);
    if !path.try_exists().map_err(failed("look for"))? {
        if has_log {
            return Err(no_journal(path, "is missing, and its log is there"));
        }
        begin(path, application_id)?;
    }
    let length = private_file(path).and_then(|file| file.metadata()).map_err(failed("open"))?.len();
    if length == 0 {
        return Err(no_journal(path, "is empty"));
    }
    check_length(path, length).map_err(OpenError::Damaged)?;
    if let Some(frame) =
        log::first_altered_frame(&log::path_of(path)).map_err(failed("read the log of"))?
    {
        let flaw =
            Flaw::Malformed("it was altered after it was written: whole commits follow it".into());
        return Err(OpenError::Damaged(Damage { place: Place::Log(frame), flaw }));
    }
    let db = schema::open_writer(path, options.busy)
        .map_err(|source| refused("open the file", source))?;
    let header = schema::header(&db).map_err(|source| refused("read the header", source))?;
    if header.empty {
        return Err(no_journal(path, "is a database without tables"));
    }
    match header.application_id {
        id if id == application_id => {}
        schema::REPLICA_ID => return Err(OpenError::Replica { path: path.to_owned() }),
        _ => return Err(OpenError::Foreign { path: path.to_owned() }),
    }
    if header.version > schema::VERSION {
        let path = path.to_owned();
        let found = header.version;
        let known = schema::VERSION;
        return Err(OpenError::NewerVersion { path, found, known });
    }
    schema::tune(&db).map_err(|source| refused("set up durability", source))?;
    if let Some(pages) = options.pages_max {
        db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .map_err(|source| refused("limit the size", source))?;
    }
    let take_over = |db: &Connection| migrate::take_over(db, header.version);
    schema::upgrade(&db, header.version, take_over)
        .map_err(|source| refused("make the tables", source))?;
    schema::shrink(&db).map_err(|source| refused("give back free pages", source))?;
    if !has_log && schema::is_open(&db).map_err(|source| refused("read the header", source))? {
        return Err(OpenError::LogMissing { path: path.to_owned(), log: log::path_of(path) });
    }
    Ok(db)
}

fn no_journal(path: &Path, problem: &'static str) -> OpenError {
    OpenError::NoJournal { path: path.to_owned(), problem }
}

/// Creates a journal without facts. The file is renamed into place once it is whole: a file of that
/// name always holds a journal.
fn begin(path: &Path, application_id: i64) -> Result<(), OpenError> {
    let failed = |doing| {
        let path = path.to_owned();
        move |source| OpenError::Folder { doing, path, source }
    };
    let new = path.with_extension("db.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("make")(error)),
        Ok(()) | Err(_) => {}
    }
    private_file(&new).map_err(failed("create"))?;
    let making = |source| refused("make the tables", source);
    let db = schema::open_writer(&new, None).map_err(making)?;
    schema::upgrade(&db, 0, |db| db.pragma_update(None, "application_id", application_id))
        .map_err(making)?;
    drop(db);
    publish(&new, path).map_err(failed("create"))
}

/// Renames a complete file into place, durably.
pub(super) fn publish(new: &Path, path: &Path) -> io::Result<()> {
    File::open(new)?.sync_all()?;
    fs::rename(new, path)?;
    // The parent of a bare name is an empty path.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Refuses a torn file: SQLite takes a file that is shorter than its header for a new one, and
/// reads a page that is cut off as if it ended in zeros.
fn check_length(path: &Path, length: u64) -> Result<(), Damage> {
    let has_log = log::is_there(path);
    let is_torn = if has_log {
        (1..schema::HEADER_BYTES).contains(&length)
    } else {
        !length.is_multiple_of(schema::PAGE_BYTES)
    };
    if !is_torn {
        return Ok(());
    }
    Err(Damage {
        place: Place::File,
        flaw: Flaw::Malformed(format!("it ends in the middle of a page, after {length} bytes")),
    })
}

/// Maps an error of SQLite to damage or to a failed operation.
pub(super) fn refused(doing: &'static str, source: rusqlite::Error) -> OpenError {
    match schema::damage(&source) {
        Some(damage) => OpenError::Damaged(damage),
        None => OpenError::Database { doing, source },
    }
}

/// The end of the chain, after its check.
pub(super) struct ChainTail {
    pub(super) head: Head,
    pub(super) recorded: Instant,
    /// Last fact before those that were checked.
    from: u64,
    /// The last fact of each instance that occurs in the checked facts, by instance id.
    last_facts: HashMap<String, u64>,
}

/// Checks the last [`TAIL_FACTS`] facts: each must follow from the one before.
pub(super) fn check_tail(db: &Connection) -> Result<ChainTail, OpenError> {
    let reading = |source| refused("read the facts", source);
    let last: i64 = db
        .query_row("SELECT coalesce(max(seq), 0) FROM fact", [], |row| row.get(0))
        .map_err(reading)?;
    let end = segment::sealed_end(db).map_err(reading)?;
    let first = last.unsigned_abs().saturating_sub(TAIL_FACTS);
    let trusted = if first <= end.seq { end } else { trusted_link(db, first)? };
    let mut chain = Chain::after(trusted);
    let mut tail = ChainTail {
        head: trusted,
        from: trusted.seq,
        recorded: Instant(i64::MIN),
        last_facts: HashMap::new(),
    };
    let mut statement = db
        .prepare("SELECT seq, hash, body FROM fact WHERE seq > ?1 ORDER BY seq")
        .map_err(reading)?;
    let mut rows = statement.query([int(trusted.seq)]).map_err(reading)?;
    while let Some(row) = rows.next().map_err(reading)? {
        let record = step(&mut chain, row).map_err(reading)?.map_err(OpenError::Damaged)?;
        tail.recorded = Instant(record.recorded_ns);
        if let Some(instance) = record.instance {
            tail.last_facts.insert(instance, record.seq);
        }
    }
    Ok(ChainTail { head: chain.head(), ..tail })
}

/// Checks a row of `seq, hash, body`, and returns its fact.
pub(super) fn step(
    chain: &mut Chain,
    row: &rusqlite::Row<'_>,
) -> rusqlite::Result<Result<FactRecord, Damage>> {
    let seq = uint(row, 0)?;
    let Ok(body) = row.get_ref(2)?.as_str() else {
        return Ok(Err(Damage { place: Place::Fact(seq), flaw: Flaw::Text("not UTF-8".into()) }));
    };
    Ok(chain.step(seq, row.get_ref(1)?.as_blob()?, body))
}

fn trusted_link(db: &Connection, seq: u64) -> Result<Head, OpenError> {
    if seq == 0 {
        return Ok(Head::EMPTY);
    }
    let hash: Option<Vec<u8>> = db
        .query_row("SELECT hash FROM fact WHERE seq = ?1", [int(seq)], |row| row.get(0))
        .optional()
        .map_err(|source| refused("read the facts", source))?;
    let gap =
        Damage { place: Place::Fact(seq + 1), flaw: Flaw::Gap { after: seq.saturating_sub(1) } };
    let hash: FactHash = hash.and_then(|hash| chain::link(&hash)).ok_or(OpenError::Damaged(gap))?;
    Ok(Head { seq, hash })
}

/// Reads the state that an earlier run left. Anchors the clock, which writes, only after all of it
/// was read without error.
fn load(db: &Connection, tail: &ChainTail, options: Options) -> Result<Opened, OpenError> {
    let instances = load_instances(db, tail)?;
    let activations = rows(db, &activations(), "activation", |row| {
        Ok(Activation {
            tenant: parsed(row, 0)?,
            from: Instant(row.get(1)?),
            digest: parsed(row, 2)?,
            fact: uint(row, 3)?,
        })
    })?;
    let policies = rows(
        db,
        "SELECT digest, length(bytes), record FROM policy ORDER BY rowid",
        "policy",
        |row| {
            Ok(StoredPolicy {
                digest: parsed(row, 0)?,
                size_bytes: uint(row, 1)?,
                record: row.get(2)?,
            })
        },
    )?;
    let tenants = facts(db, tenants::TENANTS, "tenant", tenants::tenant)?;
    let tokens = facts(db, tenants::TOKENS, "token", tenants::token)?;
    let standings = facts(db, tenants::STANDINGS, "policy_fact", tenants::standing)?;
    let admissions = facts(db, tenants::ADMISSIONS, "policy_fact", tenants::admission)?;
    let alive = rows(
        db,
        "SELECT boot_id, boottime_ns, meter_ns, is_synchronised FROM alive",
        "alive",
        |row| {
            let boot: String = row.get(0)?;
            Ok(Alive {
                boot: BootId(boot.into()),
                boottime_ns: uint(row, 1)?,
                meter: Instant(row.get(2)?),
                is_synchronised: row.get(3)?,
            })
        },
    )?;
    let calendar =
        rows(db, "SELECT meter_ns, wall_ns FROM calendar ORDER BY fact", "calendar", |row| {
            Ok((Instant(row.get(0)?), row.get(1)?))
        })?;
    let alive = alive.into_iter().next();
    let last = alive.as_ref().map(|alive| last_known(alive, tail.recorded, &calendar));
    let alive = alive.map(|alive| later(alive, tail.recorded));
    let ended = alive.as_ref().map(|alive| (&alive.boot, alive.meter));
    let (clock, gap) = anchor(db, last, ended, options)?;
    let boots = earlier_boots(db, clock.boot())?;
    Ok(Opened {
        clock,
        instances,
        activations,
        policies,
        tenants,
        tokens,
        standings,
        admissions,
        calendar,
        alive,
        boots,
        gap,
        head: tail.head,
    })
}

/// The boots before the present one.
fn earlier_boots(db: &Connection, present: &BootId) -> Result<Vec<EarlierBoot>, OpenError> {
    let sql = "SELECT boot_id, offset_ns, last_ns FROM boot ORDER BY rowid";
    let mut boots = rows(db, sql, "boot", |row| {
        let boot: String = row.get(0)?;
        let last: Option<i64> = row.get(2)?;
        Ok(EarlierBoot {
            boot: BootId(boot.into()),
            offset_ns: row.get(1)?,
            last: last.map(Instant),
        })
    })?;
    boots.retain(|earlier| earlier.boot != *present);
    Ok(boots)
}

/// The query for activations that were not withdrawn.
fn activations() -> String {
    let withdrawn = WITHDRAWN.replace("?4", "'policy'");
    format!(
        "SELECT tenant, from_ns, digest, fact FROM activation AS one \
         WHERE NOT EXISTS {withdrawn} ORDER BY fact"
    )
}

/// Moves the liveness record on to the last fact, which proves as much. Each opening writes a
/// liveness record, so both are of the same boot.
fn later(alive: Alive, recorded: Instant) -> Alive {
    match recorded.since(alive.meter) {
        Some(more) => Alive {
            boottime_ns: alive.boottime_ns.saturating_add(more.0),
            meter: recorded,
            ..alive
        },
        None => alive,
    }
}

fn load_instances(db: &Connection, tail: &ChainTail) -> Result<Vec<StoredInstance>, OpenError> {
    let sql = format!("{INSTANCE_COLUMNS} WHERE deleted IS NULL ORDER BY row");
    let found = rows(db, &sql, "instance", stored_instance)?;
    let instances = found.into_iter().collect::<Result<Vec<_>, _>>().map_err(OpenError::Damaged)?;
    for instance in &instances {
        check_last_fact(instance, tail).map_err(OpenError::Damaged)?;
    }
    Ok(instances)
}

/// Refuses a record of an instance that does not name the instance's last fact.
fn check_last_fact(instance: &StoredInstance, tail: &ChainTail) -> Result<(), Damage> {
    let wrong = |expected| {
        let flaw = Flaw::LastFact { found: instance.last_fact, expected };
        Err(Damage { place: Place::Instance(instance.row), flaw })
    };
    match tail.last_facts.get(instance.id.as_str()) {
        Some(&last) if instance.last_fact != Some(last) => wrong(Some(last)),
        Some(_) => Ok(()),
        None if instance.last_fact.is_some_and(|last| last > tail.from) => wrong(None),
        None => Ok(()),
    }
}

fn rows<T>(
    db: &Connection,
    sql: &str,
    table: &'static str,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, OpenError> {
    let read = || db.prepare(sql)?.query_map([], read)?.collect::<rusqlite::Result<Vec<T>>>();
    read().map_err(|source| match schema::damage(&source) {
        Some(Damage { flaw, .. }) => {
            OpenError::Damaged(Damage { place: Place::Table { table, key: "*".into() }, flaw })
        }
        None => OpenError::Database { doing: table, source },
    })
}

/// Reads the facts that the rows of an index point at.
fn facts<T>(
    db: &Connection,
    sql: &str,
    table: &'static str,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<Result<T, Damage>>,
) -> Result<Vec<T>, OpenError> {
    rows(db, sql, table, read)?.into_iter().collect::<Result<_, _>>().map_err(OpenError::Damaged)
}

fn parsed<T: std::str::FromStr<Err = crate::id::IdError>>(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error: crate::id::IdError| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

/// The last fact of an instance, for the writer.
fn tail_of(instance: &StoredInstance) -> Tail {
    let StoredInstance { id, tenant, last_fact, last, facts, opened, wakes, account, .. } =
        instance;
    Tail {
        id: id.clone(),
        tenant: tenant.clone(),
        last_fact: *last_fact,
        last: *last,
        facts: *facts,
        opened: *opened,
        phase: account.phase,
        wakes: *wakes,
    }
}

/// The end of the previous run, at the liveness record or at the last fact. UTC is computed from
/// the calendar as of the liveness record, which says whether the wall clock could be trusted then:
/// a step after it may be one of a clock that nobody kept any more.
fn last_known(alive: &Alive, recorded: Instant, calendar: &[(Instant, i64)]) -> LastKnown {
    let mut known = Calendar::default();
    for &(at, wall_ns) in calendar {
        known.learn(at, wall_ns);
    }
    let Alive { meter, is_synchronised, .. } = *alive;
    let utc_ns = if Mutant::OffsetIgnored.is_active() { meter.0 } else { known.utc_ns(meter) };
    let more_ns = recorded.since(meter).unwrap_or_default().0;
    LastKnown {
        meter: meter.max(recorded),
        utc_ns: utc_ns.saturating_add_unsigned(more_ns),
        is_synchronised,
    }
}

/// Returns the meter clock of this boot, and the gap before it, if any. The first start in a boot
/// fixes the offset, durably.
fn anchor(
    db: &Connection,
    last: Option<LastKnown>,
    ended: Option<(&BootId, Instant)>,
    options: Options,
) -> Result<(Clock, Option<Gap>), OpenError> {
    let boot = clock::boot_id()?;
    let known = db
        .query_row("SELECT offset_ns FROM boot WHERE boot_id = ?1", [boot.0.as_ref()], |row| {
            row.get(0)
        })
        .optional()
        .map_err(|source| refused("anchor the clock", source))?
        .filter(|_| !Mutant::AnchorMoved.is_active());
    let was_kept = last.is_none_or(|last| last.is_synchronised);
    let (clock, gap) = match (known, last) {
        (Some(offset_ns), _) => (Clock::resume(boot, offset_ns), None),
        (None, None) => (Clock::first_in_boot(boot), None),
        (None, Some(last)) => clock::join(boot, &await_synchronised(options), &last),
    };
    // The calendar does not know yet where the wall clock of a boot stands that was not joined by
    // it: a loss of power before the first fact must not count by what an earlier boot has noted.
    let is_noted = if known.is_some() { was_kept } else { gap.is_none() };
    let is_kept = is_noted && (options.trusts_wall_clock || clock::is_synchronised());
    // The liveness record is about to be replaced.
    let ended = ended.filter(|(boot, _)| *boot != clock.boot());
    keep_anchor(db, &clock, ended, is_kept)
        .map_err(|source| refused("anchor the clock", source))?;
    Ok((clock, gap))
}

fn keep_anchor(
    db: &Connection,
    clock: &Clock,
    ended: Option<(&BootId, Instant)>,
    is_kept: bool,
) -> rusqlite::Result<()> {
    let transaction = db.unchecked_transaction()?;
    if let Some((boot, last)) = ended {
        let sql = "UPDATE boot SET last_ns = ?2 WHERE boot_id = ?1";
        db.execute(sql, (boot.0.as_ref(), last.0))?;
    }
    db.execute(
        "INSERT OR IGNORE INTO boot (boot_id, offset_ns) VALUES (?1, ?2)",
        (clock.boot().0.as_ref(), clock.offset_ns()),
    )?;
    write_alive(db, &clock.reading(), is_kept)?;
    transaction.commit()
}

/// Interval of polling for a synchronised wall clock.
const SYNCHRONISED_AGAIN: Duration = Duration::from_millis(250);

/// Reads the clocks once the wall clock is synchronised, or after `options.clock_wait`. Blocking.
fn await_synchronised(options: Options) -> HostTime {
    let began = clock::boottime_ns();
    let wait_ns = u64::try_from(options.clock_wait.as_nanos()).unwrap_or(u64::MAX);
    loop {
        let now = HostTime::now();
        let now =
            HostTime { is_synchronised: now.is_synchronised || options.trusts_wall_clock, ..now };
        if now.is_synchronised || now.boottime_ns.saturating_sub(began) >= wait_ns {
            return now;
        }
        std::thread::sleep(SYNCHRONISED_AGAIN);
    }
}
