//! Lives in a span of time: the same as by whole histories, and no more read than needed.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rusqlite::Connection;

use super::super::schema;
use super::*;
use crate::billing::life::Life;

const PHASES: [Phase; 5] =
    [Phase::Initializing, Phase::Running, Phase::Standby, Phase::Initializing, Phase::Running];

fn intended() -> InstanceFact {
    InstanceFact::Intended { command: Command::Pause, by: Asker::Client, about: None }
}

fn lives(archive: &Archive, span: (Instant, Instant), through: u64) -> Vec<Life> {
    let mut lives = Vec::new();
    let tenant = tenant();
    let query = SpanQuery { tenant: &tenant, start: span.0, end: span.1, through };
    let take = |life| {
        lives.push(life);
        std::ops::ControlFlow::Continue(())
    };
    archive.lives(query, take).unwrap();
    lives
}

/// Five instances, moved in turn, each of them deleted or not.
async fn five(journal: &Journal, clock: &Clock, facts: usize) -> Vec<Driver> {
    let mut drivers: Vec<_> =
        ["e", "d", "c", "b", "a"].iter().map(|id| Driver::new(id, clock)).collect();
    for step in 0..facts {
        for (number, driver) in drivers.iter_mut().enumerate() {
            driver.commit(journal, [intended(), entered(PHASES[(step + number) % 5])]).await;
        }
    }
    drivers
}

#[tokio::test]
async fn a_span_costs_the_facts_inside_and_one_for_each_instance() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers = five(&journal, &opened.clock, 100).await;
    drivers[4].commit(&journal, [InstanceFact::Deleted]).await;
    // No boot is under way: its begin would be looked for.
    for driver in &mut drivers[..4] {
        driver.commit(&journal, [entered(Phase::Running)]).await;
    }
    let border = opened.clock.now();
    for _ in 0..3 {
        drivers[1].commit(&journal, [intended(), entered(Phase::Paused)]).await;
    }
    let archive = journal.archive();
    let head = journal.head().seq;
    let found = lives(&archive, (border, opened.clock.now()), head);
    assert_eq!(found.iter().map(|life| life.counted.len()).collect::<Vec<_>>(), [0, 0, 3, 0]);
    // Three idle ones, and one with six facts since its last one before the border.
    assert_eq!(archive.facts_read(), 3 + (6 - 1) + 1 + 1);
    // A span long ago: no further than from the next milestone.
    let first = journal.facts(&FactQuery { limit: Some(200), ..FactQuery::default() }).unwrap();
    let start = first.facts[150].fact.meter();
    let end = first.facts[160].fact.meter();
    let before = archive.facts_read();
    assert_eq!(lives(&archive, (start, end), head).len(), 5);
    let read = archive.facts_read() - before;
    assert!(read < 5 * 64 + 10, "{read} facts for a span of ten");
}

#[tokio::test]
async fn a_span_says_what_the_whole_history_says() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers = five(&journal, &opened.clock, 70).await;
    drivers[0].commit(&journal, [InstanceFact::Deleted]).await;
    let begin = journal.facts(&FactQuery::default()).unwrap().facts[0].fact.meter_ns;
    let end = opened.clock.now().0;
    let head = journal.head().seq;
    let archive = journal.archive();
    let histories: Vec<_> = ["a", "b", "c", "d", "e"]
        .map(|id: &str| {
            (id.parse::<InstanceId>().unwrap(), journal.history(&id.parse().unwrap()).unwrap())
        })
        .into();
    let spans = (0..=1_000_i64, 0..=1_000_i64, 0..=head, any::<bool>());
    let at = |part: i64| Instant(begin - 1 + (end - begin + 2) / 1_000 * part);
    TestRunner::deterministic()
        .run(&spans, |(one, other, through, whole)| {
            let span = (at(one.min(other)), at(one.max(other)));
            let through = if whole { head } else { through };
            let told = histories.iter().filter_map(|(id, history)| {
                let known: Vec<_> =
                    history.iter().filter(|(seq, _)| *seq <= through).cloned().collect();
                Life::of(id, &known, span)
            });
            let is_empty = |life: &Life| life.opening.is_none() && life.counted.is_empty();
            let told: Vec<_> = told.filter(|life| !is_empty(life)).collect();
            let mut found = lives(&archive, span, through);
            found.retain(|life| !is_empty(life));
            prop_assert_eq!(found, told);
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_journal_of_the_version_before_gets_its_borders() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers = five(&journal, &opened.clock, 70).await;
    drivers[0].commit(&journal, [InstanceFact::Deleted]).await;
    journal.close().await.unwrap();
    drop(journal);
    let path = folder.path().join(schema::FILE);
    let borders = "SELECT * FROM milestone ORDER BY row, fact";
    let standings = "SELECT first_fact, first_ns, opened, wakes, facts FROM instance JOIN live USING (row) ORDER BY row";
    let rows = |sql: &str| {
        let db = Connection::open(&path).unwrap();
        let mut statement = db.prepare(sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            (0..row.as_ref().column_count())
                .map(|column| row.get::<_, Option<i64>>(column))
                .collect::<Result<Vec<_>, _>>()
        };
        let rows = statement.query_map([], row).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    let before = (rows(borders), rows(standings));
    assert!(before.0.len() >= 10);
    Connection::open(&path).unwrap().execute_batch(TO_VERSION_8).unwrap();
    let (journal, _) = open(folder.path());
    journal.close().await.unwrap();
    assert_eq!((rows(borders), rows(standings)), before);
}
