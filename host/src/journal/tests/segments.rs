//! Sealed facts: everything is answered as before, and what is altered is named.

use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use rusqlite::Connection;

use super::super::schema;
use super::super::segment::FOLDER;
use super::*;
use crate::billing::life::Life;

pub(super) const FACTS_MAX: u64 = 100;
const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// A lawful life after `created`, again and again.
const PHASES: [Phase; 9] = [
    Phase::Initializing,
    Phase::Initializing,
    Phase::Running,
    Phase::Paused,
    Phase::Standby,
    Phase::Paused,
    Phase::Running,
    Phase::Stopped,
    Phase::Created,
];

fn intended() -> InstanceFact {
    InstanceFact::Intended {
        command: Command::Pause,
        by: Asker::Client,
        about: Some("\"x\"".into()),
    }
}

/// Moves instances in turn, with facts of the host and of a tenant in between.
pub(super) async fn live(
    journal: &Journal,
    clock: &Clock,
    drivers: &mut [Driver],
    steps: Range<usize>,
) {
    for step in steps {
        for driver in drivers.iter_mut() {
            if driver.row.is_none() {
                driver.commit(journal, [entered(Phase::Created)]).await;
            }
            driver.commit(journal, [intended(), entered(PHASES[step % PHASES.len()])]).await;
        }
        if step % 10 == 0 {
            journal.commit(host_fact(clock)).await.unwrap();
        }
    }
}

pub(super) fn drivers(clock: &Clock) -> Vec<Driver> {
    IDS.iter().map(|id| Driver::new(id, clock)).collect()
}

/// The answers of a journal, up to a fact.
#[derive(Debug, PartialEq)]
pub(super) struct Answers {
    pub(super) facts: Vec<ChainedFact>,
    histories: Vec<Vec<(u64, Fact)>>,
    recent: Vec<Vec<(u64, Fact)>>,
    lives: Vec<Vec<Life>>,
    places: Vec<Option<Head>>,
}

pub(super) fn answers(journal: &Journal, through: u64, now: Instant) -> Answers {
    let archive = journal.archive();
    let facts = pages(journal, &FactQuery { through: Some(through), ..FactQuery::default() });
    let ids = IDS.map(|id| id.parse::<InstanceId>().unwrap());
    let upto = |mut history: Vec<(u64, Fact)>| {
        history.retain(|(seq, _)| *seq <= through);
        history
    };
    let first = facts[0].fact.meter_ns;
    let at = |part: i64| Instant(first + (now.0 - first) / 7 * part);
    let spans = (0..7).flat_map(|one| (one..=7).map(move |other| (one, other)));
    let lives = |(one, other): (i64, i64)| {
        let tenant = tenant();
        let mut lives = Vec::new();
        let query = SpanQuery { tenant: &tenant, start: at(one), end: at(other), through };
        let take = |life| {
            lives.push(life);
            ControlFlow::Continue(())
        };
        archive.lives(query, take).unwrap();
        lives
    };
    Answers {
        histories: ids.iter().map(|id| upto(journal.history(id).unwrap())).collect(),
        recent: ids
            .iter()
            .map(|id| upto(journal.history_after(id, through / 2).unwrap()))
            .collect(),
        lives: spans.map(lives).collect(),
        places: (0..=through).map(|seq| archive.place_of(seq).unwrap()).collect(),
        facts,
    }
}

pub(super) fn pages(journal: &Journal, query: &FactQuery) -> Vec<ChainedFact> {
    let mut facts = Vec::new();
    let mut query = query.clone();
    loop {
        let page = journal.facts(&query).unwrap();
        facts.extend(page.facts);
        match page.next {
            Some(next) => query.after = next,
            None => return facts,
        }
    }
}

fn rows(folder: &TempDir) -> u64 {
    let db = Connection::open(folder.path().join(schema::FILE)).unwrap();
    db.query_row("SELECT count(*) FROM fact", [], |row| schema::uint(row, 0)).unwrap()
}

pub(super) fn files(folder: &TempDir) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path().join(FOLDER)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn sealed_facts_are_answered_as_before() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers = drivers(&opened.clock);
    live(&journal, &opened.clock, &mut drivers, 0..25).await;
    drivers[1].commit(&journal, [InstanceFact::Deleted]).await;
    let head = journal.head().seq;
    let now = opened.clock.now();
    let before = answers(&journal, head, now);
    let made = journal.seal_by(Some(now), FACTS_MAX).await.unwrap();
    assert_eq!(made.len() as u64, head.div_ceil(FACTS_MAX));
    assert_eq!(answers(&journal, head, now), before);
    // Beside what is hot, the rows of the host and the last ones of four instances.
    assert!(rows(&folder) < 40, "{} rows are left", rows(&folder));
    verify(folder.path(), |_, _| {}).unwrap();

    // Life goes on, over a restart too, and is sealed again.
    let mut rest: Vec<_> = drivers.into_iter().filter(|driver| driver.id.as_str() != "b").collect();
    live(&journal, &opened.clock, &mut rest, 25..38).await;
    let head = journal.head().seq;
    let now = opened.clock.now();
    let before = answers(&journal, head, now);
    drop(journal);
    let (journal, _) = open(folder.path());
    assert_eq!(answers(&journal, head, now), before);
    journal.seal_by(None, FACTS_MAX).await.unwrap();
    assert_eq!(answers(&journal, head, now), before);
    verify(folder.path(), |_, _| {}).unwrap();
    live(&journal, &opened.clock, &mut rest, 38..68).await;
    let head = journal.head().seq;
    let now = opened.clock.now();
    let before = answers(&journal, head, now);
    let half = Instant(before.facts[before.facts.len() - 100].fact.recorded_ns);
    journal.seal_by(Some(half), FACTS_MAX).await.unwrap();
    assert_eq!(answers(&journal, head, now), before);
    drop(journal);
    verify(folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn sealing_that_was_interrupted_goes_on() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers = drivers(&opened.clock);
    live(&journal, &opened.clock, &mut drivers, 0..20).await;
    let head = journal.head().seq;
    let now = opened.clock.now();
    let before = answers(&journal, head, now);
    journal.close().await.unwrap();
    let copy = TempDir::new().unwrap();
    let database = folder.path().join(schema::FILE);
    std::fs::copy(&database, copy.path().join(schema::FILE)).unwrap();
    drop(journal);

    // A file whose fact was never written, and one that was never finished.
    let (journal, _) = open(folder.path());
    let made = journal.seal_by(Some(now), FACTS_MAX).await.unwrap();
    drop(journal);
    std::fs::create_dir(copy.path().join(FOLDER)).unwrap();
    for file in files(&folder) {
        std::fs::copy(&file, copy.path().join(FOLDER).join(file.file_name().unwrap())).unwrap();
    }
    std::fs::write(copy.path().join(FOLDER).join("new.part"), b"half").unwrap();
    let (journal, _) = open(copy.path());
    let again = journal.seal_by(Some(now), FACTS_MAX).await.unwrap();
    assert_eq!(again, made, "the same facts make the same bytes");
    assert_eq!(answers(&journal, head, now), before);
    drop(journal);

    // Rows that were not removed, or only in part, after the fact was written.
    let of_facts: Vec<_> = before.facts.iter().collect();
    let db = Connection::open(copy.path().join(schema::FILE)).unwrap();
    for chained in of_facts.iter().rev().step_by(3) {
        let body = serde_json::to_string(&chained.fact).unwrap();
        let sql = "INSERT OR IGNORE INTO fact (seq, hash, body) VALUES (?1, ?2, ?3)";
        let hash = hex::decode(&chained.hash).unwrap();
        db.execute(sql, rusqlite::params![chained.fact.seq.cast_signed(), hash, body]).unwrap();
    }
    drop(db);
    verify(copy.path(), |_, _| {}).unwrap();
    let left = rows(&copy);
    let (journal, _) = open(copy.path());
    assert_eq!(answers(&journal, head, now), before);
    assert_eq!(journal.seal_by(Some(now), FACTS_MAX).await.unwrap(), []);
    assert!(rows(&copy) < left / 2, "{} of {left} rows are left", rows(&copy));
    assert_eq!(answers(&journal, head, now), before);
    drop(journal);
    verify(copy.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn each_flipped_byte_of_a_segment_is_found_and_most_name_their_fact() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers = drivers(&opened.clock);
    live(&journal, &opened.clock, &mut drivers, 0..8).await;
    let made = journal.seal_by(None, u64::MAX >> 1).await.unwrap();
    journal.close().await.unwrap();
    drop(journal);
    let file = files(&folder).remove(0);
    let whole = std::fs::read(&file).unwrap();
    for place in (0..whole.len()).step_by(61) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        std::fs::write(&file, &bytes).unwrap();
        match verify(folder.path(), |_, _| {}) {
            Err(VerifyError::Damaged(Damage { place: Place::Segment { digest, .. }, .. })) => {
                assert_eq!(digest, made[0].digest, "byte {place}");
            }
            other => panic!("byte {place}: {other:?}"),
        }
    }
    std::fs::remove_file(&file).unwrap();
    let missing = verify(folder.path(), |_, _| {}).unwrap_err();
    let VerifyError::Damaged(damage) = missing else { panic!("{missing:?}") };
    assert!(damage.to_string().contains("put it back"), "{damage}");
    std::fs::write(&file, &whole).unwrap();
    verify(folder.path(), |_, _| {}).unwrap();
    // A row that says otherwise than its segment, or that was needed and is gone.
    let rows = [
        "UPDATE fact SET body = replace(body, '\"vcpus\":1', '\"vcpus\":2') WHERE seq = (SELECT opened FROM live)",
        "UPDATE fact SET hash = x'00' WHERE seq = (SELECT opened FROM live)",
        "DELETE FROM fact WHERE seq = (SELECT opened FROM live)",
        "DELETE FROM fact WHERE body ->> '$.kind' = 'host-started'",
        "UPDATE segment SET recorded_ns = recorded_ns + 1",
        "UPDATE segment SET link = zeroblob(32)",
    ];
    let database = folder.path().join(schema::FILE);
    let whole = std::fs::read(&database).unwrap();
    for sql in rows {
        Connection::open(&database).unwrap().execute_batch(sql).unwrap();
        let found = verify(folder.path(), |_, _| {});
        assert!(matches!(found, Err(VerifyError::Damaged(_))), "{sql}: {found:?}");
        std::fs::write(&database, &whole).unwrap();
    }
}

#[tokio::test]
async fn a_backup_holds_the_segments_and_a_restore_puts_them_back() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers = drivers(&opened.clock);
    live(&journal, &opened.clock, &mut drivers, 0..20).await;
    let head = journal.head().seq;
    let now = opened.clock.now();
    let before = answers(&journal, head, now);
    journal.seal_by(Some(now), FACTS_MAX).await.unwrap();
    let copies = TempDir::new().unwrap();
    let copy = copies.path().join("copy.db");
    backup(folder.path(), &copy).unwrap();
    drop(journal);
    verify(&copy, |_, _| {}).unwrap();
    let new = TempDir::new().unwrap();
    restore(&copy, new.path(), LostLog::Refused).unwrap();
    assert_eq!(
        files(&new).iter().map(|file| file.file_name().unwrap().to_owned()).collect::<Vec<_>>(),
        files(&folder).iter().map(|file| file.file_name().unwrap().to_owned()).collect::<Vec<_>>()
    );
    let loss = loss(&copy, folder.path(), LostLog::Refused).unwrap();
    assert!(loss.continues && loss.facts == 0, "{loss:?}");
    let (journal, _) = open(new.path());
    assert_eq!(answers(&journal, head, now), before);
    let mut more = vec![Driver::new("f", &opened.clock)];
    live(&journal, &opened.clock, &mut more, 0..3).await;
    journal.seal_by(None, FACTS_MAX).await.unwrap();
    drop(journal);
    verify(new.path(), |_, _| {}).unwrap();
}
