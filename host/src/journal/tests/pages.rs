//! Pages of an instance's time: right, and as cheap at the end of a long history as of a short one.

use super::*;
use crate::billing::life::CountedFact;

const PHASES: [Phase; 4] = [Phase::Running, Phase::Paused, Phase::Running, Phase::Standby];

fn intended() -> InstanceFact {
    InstanceFact::Intended { command: Command::Pause, by: Asker::Client, about: None }
}

/// Gives an instance `facts` facts more, every other of which counts time.
async fn live(journal: &Journal, driver: &mut Driver, facts: usize) {
    let steps: Vec<_> = (0..facts / 2).collect();
    for steps in steps.chunks(500) {
        let of = steps.iter().flat_map(|step| [intended(), entered(PHASES[step % 4])]);
        driver.commit(journal, of).await;
    }
}

fn counted(journal: &Journal, id: &InstanceId) -> Vec<CountedFact> {
    let history = journal.history(id).unwrap();
    let counted = |(seq, fact): (u64, Fact)| Some((seq, fact.at.meter, fact.counts()?));
    history.into_iter().filter_map(counted).collect()
}

/// The pages of `limit` facts, one after the other, and what the dearest of them has cost.
fn pages(journal: &Journal, id: &InstanceId, limit: usize) -> (Vec<CountedFact>, Cost) {
    let mut found: Vec<CountedFact> = Vec::new();
    let mut most = Cost::default();
    loop {
        let after = found.last().map_or(0, |&(seq, ..)| seq);
        let query =
            CountedQuery { instance: id, after, through: journal.head().seq, limit: Some(limit) };
        let before = Cost::so_far(journal);
        let page = journal.counted(query).unwrap();
        most = most.max(Cost::so_far(journal).since(before));
        if page.is_empty() {
            return (found, most);
        }
        assert!(page.len() <= limit);
        found.extend(page);
    }
}

/// Rows of the journal and row groups of segments that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cost {
    rows: u64,
    groups: u64,
}

impl Cost {
    fn so_far(journal: &Journal) -> Self {
        let readers = &journal.readers;
        Self {
            rows: readers.facts_read.load(Ordering::Relaxed),
            groups: readers.store.groups_read.load(Ordering::Relaxed),
        }
    }

    fn since(self, before: Self) -> Self {
        Self { rows: self.rows - before.rows, groups: self.groups - before.groups }
    }

    fn max(self, other: Self) -> Self {
        Self { rows: self.rows.max(other.rows), groups: self.groups.max(other.groups) }
    }
}

#[tokio::test]
async fn a_page_of_ten_costs_the_same_at_100_and_at_100_000_facts() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut short = Driver::new("short", &opened.clock);
    let mut long = Driver::new("long", &opened.clock);
    live(&journal, &mut short, 100).await;
    live(&journal, &mut long, 100_000).await;
    let after_all = |driver: &Driver| counted(&journal, &driver.id).len();
    assert_eq!((after_all(&short), after_all(&long)), (50, 50_000));
    let page = |driver: &Driver, after: u64| {
        let through = journal.head().seq;
        let query = CountedQuery { instance: &driver.id, after, through, limit: Some(10) };
        let before = Cost::so_far(&journal);
        let page = journal.counted(query).unwrap();
        (page, Cost::so_far(&journal).since(before))
    };
    let (_, of_short) = page(&short, 0);
    let long_facts = counted(&journal, &long.id);
    for at in [0, 1, 777, 25_000, 49_970] {
        let after = if at == 0 { 0 } else { long_facts[at - 1].0 };
        let (found, cost) = page(&long, after);
        assert_eq!(found, long_facts[at..at + 10]);
        assert!(cost.rows <= 2 * 64, "{cost:?} behind {at}; the short history: {of_short:?}");
    }
    assert!(of_short.rows > 0, "{of_short:?}");

    // The same when all of it is sealed.
    journal.seal(None).await.unwrap();
    for at in [0, 1, 777, 25_000, 49_970] {
        let after = if at == 0 { 0 } else { long_facts[at - 1].0 };
        let (found, cost) = page(&long, after);
        assert_eq!(found, long_facts[at..at + 10]);
        assert!(cost.groups <= 2 && cost.rows == 0, "{cost:?} behind {at}");
    }
    let (_, of_short) = page(&short, 0);
    assert_eq!(of_short, Cost { rows: 0, groups: 1 });
}

#[tokio::test]
async fn pages_of_any_length_are_the_whole_wherever_the_facts_lie() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers = ["a", "b", "c"].map(|id| Driver::new(id, &opened.clock));
    for round in 0..6 {
        for driver in &mut drivers {
            live(&journal, driver, 30 + 10 * round).await;
        }
        if round % 2 == 1 {
            journal.seal_by(Some(opened.clock.now()), 97).await.unwrap();
        }
    }
    drivers[1].commit(&journal, [InstanceFact::Deleted]).await;
    for driver in &drivers {
        let whole = counted(&journal, &driver.id);
        for limit in [1, 7, 64, 1_000] {
            assert_eq!(pages(&journal, &driver.id, limit).0, whole, "{} by {limit}", driver.id);
        }
        let through = whole[whole.len() / 2].0;
        let query = CountedQuery { instance: &driver.id, after: 0, through, limit: None };
        assert_eq!(journal.counted(query).unwrap(), whole[..=whole.len() / 2]);
    }
}

#[tokio::test]
async fn what_was_under_way_before_a_fact_is_found_wherever_it_lies() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut drivers = ["a", "b"].map(|id| Driver::new(id, &opened.clock));
    for driver in &mut drivers {
        // Its time does not begin with its first fact.
        driver.commit(&journal, [intended(), intended()]).await;
        live(&journal, driver, 60).await;
        driver.commit(&journal, (0..200).map(|_| intended())).await;
        live(&journal, driver, 60).await;
    }
    journal.seal_by(Some(opened.clock.now()), 83).await.unwrap();
    live(&journal, &mut drivers[0], 60).await;
    for driver in &drivers {
        let mut last = None;
        for (seq, fact) in journal.history(&driver.id).unwrap() {
            last = fact.counts().map(|counted| (seq, fact.at.meter, counted)).or(last);
            let before = Cost::so_far(&journal);
            assert_eq!(journal.last_counted(&driver.id, seq).unwrap(), last, "at fact {seq}");
            let cost = Cost::so_far(&journal).since(before);
            assert!(cost.groups <= 1, "{cost:?} at fact {seq}");
        }
    }
}

#[tokio::test]
async fn each_segment_is_made_without_the_one_before() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut driver = Driver::new("a", &opened.clock);
    live(&journal, &mut driver, 1_000).await;
    let made = journal.seal_by(None, 100).await.unwrap();
    assert!(made.len() >= 10, "{}", made.len());
    assert_eq!(Cost::so_far(&journal).groups, 0);
    // The next run begins with what the last one has left.
    live(&journal, &mut driver, 1_000).await;
    journal.seal_by(None, 100).await.unwrap();
    assert_eq!(Cost::so_far(&journal).groups, 1);
}
