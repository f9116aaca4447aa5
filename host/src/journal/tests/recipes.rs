//! The recipes of `docs/journal-format.md`, run as they stand there.

use std::collections::BTreeMap;
use std::process::Command as Process;

use rusqlite::{Connection, named_params};

use super::super::schema;
use super::*;

const FORMAT: &str = include_str!("../../../../docs/journal-format.md");

/// The block of a language in the document.
fn recipe(language: &str) -> &'static str {
    let (_, rest) = FORMAT.split_once(&format!("```{language}\n")).expect("a recipe");
    rest.split_once("```").expect("its end").0
}

async fn folder_with_lives() -> (TempDir, Journal, Opened, Vec<Driver>) {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers: Vec<_> = ["a", "b"].iter().map(|id| Driver::new(id, &opened.clock)).collect();
    for phase in
        [Phase::Created, Phase::Initializing, Phase::Running, Phase::Standby, Phase::Running]
    {
        for driver in &mut drivers {
            driver.commit(&journal, [entered(phase)]).await;
        }
    }
    drivers[1].commit(&journal, [InstanceFact::Deleted]).await;
    (folder, journal, opened, drivers)
}

#[tokio::test]
async fn the_chain_is_checked_in_python() {
    let (folder, journal, _, mut drivers) = folder_with_lives().await;
    let program = folder.path().join("chain.py");
    std::fs::write(&program, recipe("python")).unwrap();
    let run = |database: &Path| {
        let done = Process::new("python3").arg(&program).arg(database).output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let path = journal.path().to_owned();
    for seals in [false, true] {
        if seals {
            journal.seal(None).await.unwrap();
            drivers[0].commit(&journal, [entered(Phase::Paused)]).await;
        }
        let head = journal.head();
        assert_eq!(run(&path), (true, format!("{} {}", head.seq, head.hash)));
    }
    journal.close().await.unwrap();
    drop(journal);
    let sql = "UPDATE fact SET body = replace(body, 'paused', 'paused ')";
    Connection::open(&path).unwrap().execute(sql, []).unwrap();
    assert!(!run(&path).0);
}

#[tokio::test]
async fn time_by_phase_is_counted_in_sql() {
    let (folder, journal, opened, _) = folder_with_lives().await;
    let facts = journal.facts(&FactQuery::default()).unwrap().facts;
    let from = facts[3].fact.meter();
    let until = opened.clock.now();
    let db = Connection::open(folder.path().join(schema::FILE)).unwrap();
    let mut statement = db.prepare(recipe("sql")).unwrap();
    let asked = named_params! { ":from": from.0, ":until": until.0 };
    let row = |row: &rusqlite::Row<'_>| {
        Ok(((row.get::<_, String>(0)?, row.get::<_, String>(1)?), row.get::<_, i64>(2)?))
    };
    let found: BTreeMap<_, _> =
        statement.query_map(asked, row).unwrap().map(Result::unwrap).collect();
    let mut told = BTreeMap::new();
    for id in ["a", "b"] {
        let history = journal.history(&id.parse().unwrap()).unwrap();
        let rules = crate::billing::Timeline::starting_with(Digest([0; 32]));
        for interval in crate::billing::interval::intervals(&history, &rules, until) {
            let length = interval.end.0.min(until.0) - interval.start.0.max(from.0);
            if length > 0 {
                *told.entry((id.to_owned(), interval.phase.to_string())).or_insert(0) += length;
            }
        }
    }
    assert_eq!(found, told);
}
