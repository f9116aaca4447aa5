//! Random histories of legal transitions, committed in random batches, with random restarts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::vm::{Event, State, apply};

#[derive(Debug, Clone)]
enum Step {
    /// The n-th lawful event happens to the n-th instance; all events of a step are committed at
    /// once.
    Events(Vec<(u8, u8)>),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        9 => proptest::collection::vec((0u8..5, any::<u8>()), 1..6).prop_map(Step::Events),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..25)
}

/// The model of an instance: its state, and the time between its first and last fact.
struct Modelled {
    driver: Driver,
    state: State,
    first: Option<Instant>,
}

fn fact_of(state: State) -> InstanceFact {
    state.phase().map_or(InstanceFact::Deleted, entered)
}

fn lawful(state: State, choice: u8) -> Option<State> {
    let next: Vec<_> =
        Event::ALL.into_iter().filter_map(|event| apply(state, event).ok()).collect();
    (!next.is_empty()).then(|| next[usize::from(choice) % next.len()])
}

async fn tell(folder: &Path, story: Vec<Step>) {
    let (mut journal, opened) = open(folder);
    let clock = opened.clock;
    let mut instances: BTreeMap<u8, Modelled> = BTreeMap::new();
    let mut facts = 0;
    for step in story {
        match step {
            Step::Restart => {
                let head = journal.head();
                drop(journal);
                let (again, opened) = open(folder);
                assert_eq!(opened.head, head);
                check(&opened, &instances);
                journal = again;
            }
            Step::Events(events) => {
                let mut by_instance: BTreeMap<u8, Vec<InstanceFact>> = BTreeMap::new();
                for (who, choice) in events {
                    let modelled = instances.entry(who).or_insert_with(|| Modelled {
                        driver: Driver::new(&format!("i{who}"), &clock),
                        state: State::Created,
                        first: None,
                    });
                    let bodies = by_instance.entry(who).or_default();
                    if modelled.first.is_none() && bodies.is_empty() {
                        bodies.push(entered(Phase::Created));
                    } else if let Some(next) = lawful(modelled.state, choice) {
                        modelled.state = next;
                        bodies.push(fact_of(next));
                    }
                }
                by_instance.retain(|_, bodies| !bodies.is_empty());
                facts += by_instance.values().map(Vec::len).sum::<usize>();
                let entries = by_instance
                    .into_iter()
                    .map(|(who, bodies)| (who, instances[&who].driver.entry(bodies)));
                let entries: Vec<_> = entries.collect();
                let commits = entries.into_iter().map(|(who, entry)| {
                    let first = own(&entry)[0].0.meter;
                    let journal = &journal;
                    async move { (who, first, journal.commit(entry).await.unwrap()) }
                });
                for (who, first, receipt) in join_all(commits).await {
                    let modelled = instances.get_mut(&who).unwrap();
                    modelled.driver.take(&receipt);
                    modelled.first.get_or_insert(first);
                }
            }
        }
    }
    assert_eq!(journal.head().seq, facts as u64);
    drop(journal);
    let verified = verify(folder, |_, _| {}).unwrap();
    assert_eq!((verified.head.seq, verified.instances), (facts as u64, instances.len() as u64));
    check(&open(folder).1, &instances);
}

/// Checks that the disk holds what the receipts said, and that each lifetime is counted exactly
/// once.
fn check(opened: &Opened, instances: &BTreeMap<u8, Modelled>) {
    let living = instances.values().filter(|one| one.state != State::Deleted).count();
    assert_eq!(opened.instances.len(), living);
    for stored in &opened.instances {
        let modelled = instances.values().find(|one| one.driver.id == stored.id).unwrap();
        assert_eq!(stored.account, modelled.driver.account);
        let tracker = stored.account.tracker;
        let lived = tracker.since.since(modelled.first.unwrap()).unwrap();
        assert_eq!(tracker.totals.sum(), u128::from(lived.0));
        assert_eq!(tracker.current, modelled.state.phase());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn any_lawful_story_is_kept_whole(story in steps()) {
        let folder = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(tell(folder.path(), story));
    }
}
