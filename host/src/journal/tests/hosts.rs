//! Copies of other hosts' journals, and reading over several.

use std::ops::ControlFlow;

use super::super::replica::{Described, Handed, Replica, TakeError};
use super::*;
use crate::billing::Heard;
use crate::billing::life::Life;

/// The texts of all facts of a journal, as they were hashed.
fn texts(journal: &Journal) -> Vec<String> {
    let facts = journal.facts(&FactQuery::default()).unwrap().facts;
    facts.iter().map(|chained| serde_json::to_string(&chained.fact).unwrap()).collect()
}

fn handed<'a>(after: Head, texts: &'a [String]) -> Handed<'a> {
    Handed { after, texts, described: &[], mark: None }
}

/// The place of a fact.
fn place(journal: &Journal, seq: u64) -> Head {
    journal.archive().place_of(seq).unwrap().unwrap()
}

/// A host with an instance that runs, and one that is gone.
async fn host(folder: &TempDir) -> (Journal, Clock, Driver) {
    let (journal, opened) = open(folder.path());
    journal.commit(host_fact(&opened.clock)).await.unwrap();
    let mut a = Driver::new("a", &opened.clock);
    let mut gone = Driver::new("gone", &opened.clock);
    a.commit(&journal, [entered(Phase::Created), entered(Phase::Initializing)]).await;
    gone.commit(&journal, [entered(Phase::Created), InstanceFact::Deleted]).await;
    for _ in 0..70 {
        a.commit(&journal, [entered(Phase::Running)]).await;
    }
    (journal, opened.clock, a)
}

#[tokio::test]
async fn a_copy_is_a_journal_whatever_comes_twice_or_too_early() {
    let here = TempDir::new().unwrap();
    let there = TempDir::new().unwrap();
    let (journal, _, _) = host(&here).await;
    let all = texts(&journal);
    let mut replica = Replica::open(there.path()).unwrap();
    // A batch from the middle on is a gap: the answer says from where to send.
    let early = replica.take(handed(place(&journal, 9), &all[9..])).unwrap();
    assert_eq!(early, Head::EMPTY);
    let taken = replica.take(handed(Head::EMPTY, &all[..20])).unwrap();
    assert_eq!(taken, place(&journal, 20));
    // What overlaps is compared, also after the copy was opened again.
    drop(replica);
    let mut replica = Replica::open(there.path()).unwrap();
    assert_eq!(replica.head(), taken);
    let taken = replica.take(handed(place(&journal, 10), &all[10..50])).unwrap();
    assert_eq!(taken, place(&journal, 50));
    assert_eq!(replica.take(handed(Head::EMPTY, &all[..20])).unwrap(), taken, "nothing twice");
    assert_eq!(replica.take(handed(taken, &all[50..])).unwrap(), journal.head());
    let described =
        Described { id: "a".parse().unwrap(), name: "web".parse().unwrap(), record: "[]".into() };
    drop(replica);

    verify(there.path(), |_, _| {}).unwrap();
    let archive = Archive::open(there.path()).unwrap();
    assert_eq!(archive.head().unwrap(), journal.head());
    let ours = journal.history(&described.id).unwrap();
    let theirs = archive.history(&described.id).unwrap();
    assert_eq!(ours, theirs);
    // Nobody but the host goes on with it.
    let opened = Journal::open(there.path(), Options::default(), Arc::new(Ledger::default()));
    assert!(matches!(opened, Err(OpenError::Replica { .. })));
}

#[tokio::test]
async fn another_story_under_a_known_number_is_refused_at_that_number() {
    let folders = [(); 3].map(|()| TempDir::new().unwrap());
    let (journal, clock, mut a) = host(&folders[0]).await;
    let (other, ..) = host(&folders[1]).await;
    let mut replica = Replica::open(folders[2].path()).unwrap();
    let all = texts(&journal);
    replica.take(handed(Head::EMPTY, &all)).unwrap();
    let head = replica.head();
    let refused = |taken: Result<Head, TakeError>| match taken {
        Err(TakeError::Forked { seq, .. }) => seq,
        other => panic!("{other:?}"),
    };
    let others = texts(&other);
    assert_eq!(refused(replica.take(handed(Head::EMPTY, &others))), 1);
    let end = other.head();
    assert_eq!(refused(replica.take(handed(end, &[]))), end.seq);
    // A text that is no fact, or not the canonical one of it, leaves nothing behind.
    a.commit(&journal, [entered(Phase::Paused)]).await;
    let next = texts(&journal).pop().unwrap();
    for bad in ["{}".to_owned(), next.replacen(':', ": ", 1), all[all.len() - 1].clone()] {
        let taken = replica.take(handed(head, &[next.clone(), bad]));
        assert!(matches!(taken, Err(TakeError::Damaged(_))), "{taken:?}");
    }
    assert_eq!(replica.head(), head);
    assert_eq!(replica.take(handed(head, &[next])).unwrap(), journal.head());
    let until = replica.until();
    let reading = clock.reading();
    let empty = Handed { mark: Some((journal.head(), &reading)), ..handed(journal.head(), &[]) };
    replica.take(empty).unwrap();
    assert!(replica.until() > until && replica.until() == reading.meter);
}

fn lives(archive: &Archive, start: Instant, end: Instant) -> Vec<Life> {
    let tenant = tenant();
    let mut lives = Vec::new();
    let query = SpanQuery { tenant: &tenant, start, end, through: u64::MAX };
    archive
        .lives(query, |life| {
            lives.push(life);
            ControlFlow::Continue(())
        })
        .unwrap();
    lives
}

#[tokio::test]
async fn lives_of_hosts_are_read_as_far_as_facts_say_that_they_were_heard() {
    let here = TempDir::new().unwrap();
    let there = TempDir::new().unwrap();
    let (journal, clock, mut a) = host(&here).await;
    let (ledger, opened) = open(there.path());
    // Both calendars show the same UTC, an hour ahead of the collector's meter.
    let at = opened.clock.reading();
    let wall_ns = at.meter.0 + 3_600_000_000_000;
    let started = HostFact::Started { version: "1".into() };
    ledger.commit(Entry::of_host(Reading { wall_ns, ..at }, started)).await.unwrap();
    let copy = hosts_folder(there.path()).join("h1");
    let mut replica = Replica::open(&copy).unwrap();
    replica.take(handed(Head::EMPTY, &texts(&journal))).unwrap();
    let all = (Instant(0), Instant(i64::MAX / 2));
    let archive = ledger.archive();
    assert_eq!(lives(&archive, all.0, all.1), [], "nothing was heard yet");

    let heard = |replica: &Replica| {
        let Head { seq, hash } = replica.head();
        let host = "h1".parse().unwrap();
        let heard = Heard { host, seq, link: Digest(hash.0), until: replica.until() };
        Entry::of_host(opened.clock.reading(), HostFact::Heard(heard))
    };
    let first = ledger.commit(heard(&replica)).await.unwrap().last_seq;
    let told = lives(&archive, all.0, all.1);
    assert_eq!(told.iter().map(|life| life.id.as_str()).collect::<Vec<_>>(), ["a", "gone"]);
    let own = lives(&journal.archive(), all.0, all.1);
    let (last, rest) = told[0].counted.split_last().unwrap();
    assert_eq!(rest.len(), own[0].counted.len());
    let shift = rest[0].1.0 - own[0].counted[0].1.0;
    for (told, own) in rest.iter().zip(&own[0].counted) {
        assert_eq!((told.0, told.1.0 - own.1.0, told.2), (own.0, shift, own.2));
    }
    // After the last news nothing is proved.
    assert!(matches!(last.2, crate::billing::Counted::Enters(entered)
        if entered.phase == Phase::Unknown));
    assert_eq!(last.1.0, replica.until().0 + shift);

    a.commit(&journal, [entered(Phase::Paused)]).await;
    replica.take(handed(replica.head(), &texts(&journal)[replica.head().seq as usize..])).unwrap();
    assert_eq!(lives(&archive, all.0, all.1), told, "as it was heard, not as it is");
    let news = |through, until| archive.is_news_of_hosts(&tenant(), (first, through), until);
    assert!(!news(first, all.1).unwrap());
    let second = ledger.commit(heard(&replica)).await.unwrap().last_seq;
    assert!(news(second, all.1).unwrap());
    assert!(!news(second, told[0].counted[0].1).unwrap(), "not for what ended before");
    assert_ne!(lives(&archive, all.0, all.1), told);
    drop((replica, clock));
    journal.close().await.unwrap();
    verify(&copy, |_, _| {}).unwrap();
    verify(there.path(), |_, _| {}).unwrap();
}
