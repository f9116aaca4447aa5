//! A segment made of rows of the journal, proved before anybody hears of it.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rusqlite::Connection;

use super::super::chain::Chain;
use super::super::entry::Head;
use super::super::error::{CommitError, Damage, Flaw, Place, ReadError};
use super::super::open::{private_file, step};
use super::super::schema::{int, uint};
use super::super::wire::FactRecord;
use super::file::{Columns, Entry, Reader, write};
use super::state::States;
use super::store::{
    Linked, Segment, Store, beginning_of, damage, hash, linked, sealed_end, segments, unreadable,
};
use crate::billing::Fact;
use crate::id::Digest;
use crate::merkle::Forest;

/// A reason why a segment can't be made. The facts are where they were.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The file can't be written.
    #[error("can't write the segment")]
    File(#[from] io::Error),
    /// The file can't be made.
    #[error("can't make the segment")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// The fact about it can't be written.
    #[error("can't record the segment")]
    Commit(#[from] CommitError),
    /// The work broke off.
    #[error("sealing broke off")]
    Broken,
    /// The file was not read back as it was written.
    #[error("the segment was not read back as it was written; nothing was removed")]
    NotTheSame,
}

impl From<rusqlite::Error> for SealError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Journal(error.into())
    }
}

/// A segment whose file lies in its place, and of which no fact tells yet.
pub(in super::super) struct Draft {
    /// The segment.
    pub(in super::super) segment: Segment,
    /// Root of the Merkle tree over its facts by tenant.
    pub(in super::super) root: Digest,
    /// The states of instances at its end.
    pub(in super::super) states: States,
}

/// Makes the next segment: facts up to `through`, at most so many. None if there are no such facts.
/// `states` are those at the end of the last segment; they are read from there if they are not
/// known.
pub(in super::super) fn draft(
    db: &Connection,
    store: &Store,
    (through, facts_max): (u64, u64),
    states: Option<States>,
) -> Result<Option<Draft>, SealError> {
    let end = sealed_end(db)?;
    let facts = hot(db, end, through.min(end.seq + facts_max))?;
    let earliest = facts.iter().map(|(record, _)| record.meter_ns).min();
    let Some(((last, link), meter_ns)) = facts.last().zip(earliest) else { return Ok(None) };
    let mut segment = Segment {
        digest: Digest([0; 32]),
        first: end.seq + 1,
        last: last.seq,
        before: end.hash,
        link: *link,
        recorded_ns: last.recorded_ns,
        meter_ns,
        bytes: 0,
    };
    let mut states = match states {
        Some(states) => states,
        None => states_at_end(db, store)?,
    };
    let carried = states.carried();
    let entries = facts.iter().map(|(record, link)| Entry::Fact(record, beginning_of(link)));
    let entries = entries.chain(carried.iter().map(Entry::Carried)).collect();
    put(store, entries, &facts, &mut segment)?;
    for (record, link) in &facts {
        states.step(record, &fact(record)?, beginning_of(link));
    }
    Ok(Some(Draft { segment, root: root(&facts), states }))
}

/// The root of the Merkle tree over the facts of a segment by tenant.
pub(in super::super) fn root(facts: &[Linked]) -> Digest {
    let mut forest = Forest::default();
    for (record, link) in facts {
        record.grow(&mut forest, *link);
    }
    Digest(forest.root())
}

/// The facts after `end` and up to `last`, each held against its link.
fn hot(db: &Connection, end: Head, last: u64) -> Result<Vec<Linked>, ReadError> {
    let mut chain = Chain::after(end);
    let sql = "SELECT seq, hash, body FROM fact WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([int(end.seq), int(last)])?;
    let mut facts = Vec::new();
    while let Some(row) = rows.next()? {
        let record = step(&mut chain, row)?.map_err(ReadError::Damaged)?;
        facts.push((record, chain.head().hash));
    }
    Ok(facts)
}

/// Writes the file, reads it back, and gives it its name.
fn put(
    store: &Store,
    entries: Vec<Entry<'_>>,
    facts: &[Linked],
    segment: &mut Segment,
) -> Result<(), SealError> {
    DirBuilder::new().recursive(true).mode(0o700).create(store.folder())?;
    let part = store.folder().join("new.part");
    remove(&part)?;
    let mut to = BufWriter::new(private_file(&part)?);
    write(entries, &mut to)?;
    to.flush()?;
    let file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    segment.bytes = file.metadata()?.len();
    segment.digest = hash(&file)?;
    let reader = Reader::new(File::open(&part)?)?;
    if linked(&reader, segment).is_ok_and(|again| again == facts) {
        fs::rename(&part, store.path(&segment.digest))?;
        File::open(store.folder())?.sync_all()?;
        if let Some(data) = store.folder().parent() {
            File::open(data)?.sync_all()?;
        }
        return Ok(());
    }
    remove(&part)?;
    Err(SealError::NotTheSame)
}

fn remove(part: &Path) -> io::Result<()> {
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The states of instances at the end of the last segment.
fn states_at_end(db: &Connection, store: &Store) -> Result<States, ReadError> {
    let mut states = States::default();
    let Some(segment) = segments(db)?.pop() else { return Ok(states) };
    let reader = store.open(db, &segment)?;
    let wrong = |flaw| ReadError::Damaged(damage(&segment, None, flaw));
    for group in 0..reader.groups() {
        let rows =
            reader.rows(group, &Columns::ALL).map_err(|error| unreadable(&segment, &error))?;
        for row in 0..rows.len() {
            let record = rows.record(row).map_err(wrong)?;
            let link = rows.link(row).map_err(wrong)?;
            if rows.carried[row] {
                let (first_fact, opening) = rows.opening(row).map_err(wrong)?;
                states.begin((record, link), first_fact, opening);
            } else {
                states.step(&record, &fact(&record)?, link);
            }
        }
    }
    Ok(states)
}

fn fact(record: &FactRecord) -> Result<Fact, ReadError> {
    Fact::try_from(record).map_err(|error| {
        let flaw = Flaw::Text(error.to_string());
        ReadError::Damaged(Damage { place: Place::Fact(record.seq), flaw })
    })
}

/// The rows of sealed facts that are not needed any more, as ranges of at most so many rows. Rows
/// stay of facts that are not about instances, of those from which a life is read on, and of those
/// that a request is answered with.
pub(in super::super) fn removable(
    db: &Connection,
    rows_max: u64,
) -> Result<Vec<(u64, u64)>, ReadError> {
    let last = sealed_end(db)?.seq;
    let (states, of_instances) = left(db, last)?;
    let mut kept: HashSet<u64> = states.kept().collect();
    let mut requests = db.prepare_cached("SELECT fact FROM request WHERE fact <= ?1")?;
    for fact in requests.query_map([int(last)], |row| uint(row, 0))? {
        kept.insert(fact?);
    }
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for seq in of_instances.into_iter().filter(|seq| !kept.contains(seq)) {
        let goes_on =
            |&&mut (first, end): &&mut (u64, u64)| end + 1 == seq && seq - first < rows_max;
        match ranges.last_mut().filter(goes_on) {
            Some((_, end)) => *end = seq,
            None => ranges.push((seq, seq)),
        }
    }
    Ok(ranges)
}

/// The states of instances by the rows that are left of sealed facts, and those of the rows that
/// are about instances.
fn left(db: &Connection, last: u64) -> Result<(States, Vec<u64>), ReadError> {
    let mut states = States::default();
    let mut of_instances = Vec::new();
    let sql = "SELECT seq, body FROM fact WHERE seq <= ?1 ORDER BY seq";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([int(last)])?;
    while let Some(row) = rows.next()? {
        let body = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let record = super::super::read::record(uint(row, 0)?, body).map_err(ReadError::Damaged)?;
        states.step(&record, &fact(&record)?, 0);
        if record.instance.is_some() {
            of_instances.push(record.seq);
        }
    }
    Ok((states, of_instances))
}
