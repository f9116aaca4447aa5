//! Tests of the journal: committing, reading, opening again, migrating.
#![allow(clippy::unwrap_used)]

mod archive;
mod columns;
mod copies;
mod crash;
mod damage;
mod hosts;
mod pages;
mod period;
mod prune;
mod random;
mod recipes;
mod segments;
mod upgrade;

use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::mpsc as blocking;

use futures::future::join_all;
use futures::poll;
use tempfile::TempDir;

use super::wire::{Kind, What};
use super::writer::UNSYNCED_MAX;
use super::*;
use crate::billing::account::{Account, Accountant, Entering, Fault};
use crate::billing::{BootId, Change, Dated, Entered, HostFact, InstanceFact, Reading, TenantFact};
use crate::clock::Clock;
use crate::id::{InstanceName, TenantId, TokenId};
use crate::tenant::{Actor, Move, Plan, Role, Settings, Standing};
use crate::vm::{Asker, Command, Phase, Shape, Traffic};

/// Counts each phase as itself, and notes the order of the calls.
#[derive(Default)]
struct Ledger {
    asked: Mutex<Vec<Asked>>,
    /// Faults to answer at the next question.
    faults: Mutex<Vec<Fault>>,
    /// Channels to announce a call, and then to wait for permission to answer it.
    gate: Mutex<Option<(blocking::Sender<()>, blocking::Receiver<()>)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Enter(Vec<(Option<Phase>, Instant, u64)>),
    Change(TenantId, Change),
}

impl Accountant for Ledger {
    fn enter(&self, batch: &mut [Entering]) -> Vec<Fault> {
        if let Some((reached, go)) = &*self.gate.lock().unwrap() {
            reached.send(()).unwrap();
            go.recv().unwrap();
        }
        for item in batch.iter_mut() {
            let tracker = &mut item.account.tracker;
            if let Some(current) = tracker.current {
                tracker.totals.0[current as usize] +=
                    item.at.since(tracker.since).expect("never backwards").0;
            }
            (tracker.current, tracker.since) = (item.to, item.at);
            item.account.phase = item.to;
        }
        let asked = batch.iter().map(|item| (item.to, item.at, item.fact)).collect();
        self.asked.lock().unwrap().push(Asked::Enter(asked));
        std::mem::take(&mut self.faults.lock().unwrap())
    }

    fn change(&self, tenant: &TenantId, change: Change) {
        self.asked.lock().unwrap().push(Asked::Change(tenant.clone(), change));
    }
}

fn open(folder: &Path) -> (Journal, Opened) {
    Journal::open(folder, Options::default(), Arc::new(Ledger::default())).unwrap()
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

/// An instance as its driver sees it.
struct Driver {
    id: InstanceId,
    row: Option<Row>,
    account: Account,
    clock: Clock,
}

impl Driver {
    fn new(id: &str, clock: &Clock) -> Self {
        Self {
            id: id.parse().unwrap(),
            row: None,
            account: Account::default(),
            clock: clock.clone(),
        }
    }

    fn write(&self) -> InstanceWrite {
        let state = "{}".into();
        let account = self.account.clone();
        match self.row {
            Some(row) => InstanceWrite::Update { row, name: None, record: None, state, account },
            None => InstanceWrite::Insert {
                id: self.id.clone(),
                tenant: tenant(),
                name: self.id.as_str().parse().unwrap(),
                record: format!("record of {}", self.id),
                state,
                account,
            },
        }
    }

    fn entry(&self, facts: impl IntoIterator<Item = InstanceFact>) -> Entry {
        let facts = facts.into_iter().map(|fact| (self.clock.reading(), fact)).collect();
        Entry::of_instance(self.write(), facts)
    }

    fn take(&mut self, receipt: &Receipt) {
        self.row = receipt.row;
        self.account = receipt.account.clone().unwrap();
    }

    async fn commit(
        &mut self,
        journal: &Journal,
        facts: impl IntoIterator<Item = InstanceFact>,
    ) -> Receipt {
        let receipt = journal.commit(self.entry(facts)).await.unwrap();
        self.take(&receipt);
        receipt
    }
}

fn entered(phase: Phase) -> InstanceFact {
    let shape = Shape { vcpus: 1, ..Shape::default() };
    InstanceFact::Entered(Entered {
        phase,
        shape,
        session: 1,
        cause: None,
        traffic: Traffic::of([5, 1, u64::MAX, 2]),
    })
}

fn host_fact(clock: &Clock) -> Entry {
    Entry::of_host(clock.reading(), HostFact::Started { version: "1".into() })
}

/// The facts of an entry's instance.
fn own(entry: &Entry) -> &[Dated<InstanceFact>] {
    &entry.instance.as_ref().unwrap().facts
}

fn kinds(journal: &Journal, query: &FactQuery) -> Vec<Kind> {
    journal.facts(query).unwrap().facts.iter().map(|fact| fact.fact.what.kind()).collect()
}

#[tokio::test]
async fn everything_committed_is_there_after_reopening() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    assert_eq!((opened.head, opened.instances.len(), opened.alive), (Head::EMPTY, 0, None));
    let mut driver = Driver::new("a", &opened.clock);
    driver
        .commit(
            &journal,
            [
                InstanceFact::Intended { command: Command::Start, by: Asker::Client, about: None },
                entered(Phase::Created),
            ],
        )
        .await;
    let receipt =
        driver.commit(&journal, [entered(Phase::Initializing), entered(Phase::Running)]).await;
    assert_eq!((receipt.first_seq, receipt.last_seq, receipt.head.seq), (3, 4, 4));
    drop(journal);

    let (journal, again) = open(folder.path());
    assert_eq!(again.head, receipt.head);
    let [stored] = &again.instances[..] else { panic!("{:?}", again.instances) };
    assert_eq!(
        (stored.row, stored.last_fact, stored.deleted),
        (receipt.row.unwrap(), Some(4), None)
    );
    assert_eq!((&stored.account, stored.record.as_str()), (&driver.account, "record of a"));
    assert_eq!(again.clock.offset_ns(), opened.clock.offset_ns());
    assert!(again.alive.unwrap().meter >= driver.account.tracker.since);
    assert_eq!(
        verify(folder.path(), |_, _| {}).unwrap(),
        Verified { head: receipt.head, instances: 1, unread: 0 }
    );

    let next = Driver { row: Some(stored.row), account: stored.account.clone(), ..driver };
    let receipt = journal.commit(next.entry([entered(Phase::Paused)])).await.unwrap();
    assert_eq!(receipt.last_seq, 5);
    let history = journal.history(&next.id).unwrap();
    assert_eq!(history.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn what_is_only_written_is_told_to_nobody_until_it_is_synced() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut driver = Driver::new("a", &opened.clock);
    let durable = driver.commit(&journal, [entered(Phase::Created)]).await.head;
    for (n, phase) in
        (1..=u64::from(UNSYNCED_MAX)).zip([Phase::Initializing, Phase::Running].into_iter().cycle())
    {
        let written = Entry { durability: Durability::Written, ..driver.entry([entered(phase)]) };
        let receipt = journal.commit(written).await.unwrap();
        driver.take(&receipt);
        assert_eq!(receipt.last_seq, durable.seq + n);
        assert_eq!((journal.head(), journal.archive().head().unwrap()), (durable, durable));
        assert_eq!(journal.facts(&FactQuery::default()).unwrap().facts.len(), 1);
    }
    let synced = driver.commit(&journal, [entered(Phase::Paused)]).await.head;
    assert_eq!((journal.head(), synced.seq), (synced, durable.seq + u64::from(UNSYNCED_MAX) + 1));
    assert_eq!(journal.facts(&FactQuery::default()).unwrap().facts.len() as u64, synced.seq);
}

#[tokio::test]
async fn no_more_transactions_in_a_row_than_allowed_go_unsynced() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut driver = Driver::new("a", &opened.clock);
    driver.commit(&journal, [entered(Phase::Created)]).await;
    for n in 0..4 * u64::from(UNSYNCED_MAX + 1) {
        let written =
            Entry { durability: Durability::Written, ..driver.entry([entered(Phase::Running)]) };
        let receipt = journal.commit(written).await.unwrap();
        driver.take(&receipt);
        let behind = receipt.last_seq - journal.head().seq;
        assert_eq!(behind, (n + 1) % u64::from(UNSYNCED_MAX + 1), "after {n}");
    }
}

#[tokio::test]
async fn a_fact_read_back_is_the_fact_written() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut driver = Driver::new("a", &opened.clock);
    let shape = Shape { vcpus: 3, memory_bytes: u64::MAX, disk_bytes: 1 << 63, snapshot_bytes: 7 };
    let cause = Some(crate::vm::ExitCause::HostLost);
    let bodies = [
        entered(Phase::Created),
        InstanceFact::Entered(Entered {
            phase: Phase::Stopped,
            shape,
            session: 4_000_000_000,
            cause,
            traffic: Traffic::of([u64::MAX, 0, 1 << 63, 7]),
        }),
        InstanceFact::Abandoned {
            command: Command::Restore,
            reason: "quote \" newline \n é \u{0}".into(),
        },
        InstanceFact::Deleted,
    ];
    let entry = driver.entry(bodies);
    let written = own(&entry).to_vec();
    let receipt = journal.commit(entry).await.unwrap();
    driver.take(&receipt);
    let history = journal.history(&driver.id).unwrap();
    assert!(
        history
            .iter()
            .all(|(_, fact)| (&fact.tenant, fact.instance()) == (&tenant(), Some(&driver.id)))
    );
    let read: Vec<_> = history
        .iter()
        .map(|(_, fact)| (fact.at.clone(), fact.of_instance().unwrap().clone()))
        .collect();
    assert_eq!(read, written);
    verify(folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn the_account_in_the_receipt_and_on_disk_is_the_one_after_the_facts() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut driver = Driver::new("a", &opened.clock);
    let at = |back: i64, fact| {
        (Reading { meter: Instant(opened.clock.now().0 - back), ..opened.clock.reading() }, fact)
    };
    let facts = vec![
        at(2_000_000_000, entered(Phase::Created)),
        at(1_000_000_000, entered(Phase::Initializing)),
    ];
    let lived = facts[1].0.meter.since(facts[0].0.meter).unwrap();
    let receipt = journal.commit(Entry::of_instance(driver.write(), facts)).await.unwrap();
    driver.take(&receipt);
    assert_eq!(driver.account.tracker.totals.get(Phase::Created), lived);
    assert_eq!(driver.account.phase, Some(Phase::Initializing));
    assert_eq!(journal.instance(&driver.id).unwrap().unwrap().account, driver.account);
}

#[tokio::test]
async fn entries_that_wait_share_one_transaction() {
    let folder = TempDir::new().unwrap();
    let ledger = Arc::new(Ledger::default());
    let (journal, opened) =
        Journal::open(folder.path(), Options::default(), ledger.clone()).unwrap();
    let (reached, is_reached) = blocking::channel();
    let (go, may_go) = blocking::channel();
    *ledger.gate.lock().unwrap() = Some((reached, may_go));

    let first = Driver::new("first", &opened.clock);
    let mut first = Box::pin(journal.commit(first.entry([entered(Phase::Created)])));
    assert!(poll!(&mut first).is_pending());
    is_reached.recv().unwrap();
    let others: Vec<_> = (0..100).map(|n| Driver::new(&format!("i{n}"), &opened.clock)).collect();
    let mut others: Vec<_> = others
        .iter()
        .map(|one| Box::pin(journal.commit(one.entry([entered(Phase::Created)]))))
        .collect();
    for other in &mut others {
        assert!(poll!(other).is_pending());
    }
    go.send(()).unwrap();
    go.send(()).unwrap();
    first.await.unwrap();
    let receipts: Vec<_> = join_all(others).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(journal.figures().committed(), 2);
    assert!(receipts.iter().all(|receipt| receipt.head == journal.head()));
    assert_eq!(
        receipts.iter().map(|receipt| receipt.last_seq).collect::<Vec<_>>(),
        (2..=101).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_name_is_refused_while_in_use_and_free_after_deletion() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let named = |id: &str, name: &str| {
        let driver = Driver::new(id, &opened.clock);
        let mut entry = driver.entry([entered(Phase::Created)]);
        if let InstanceWrite::Insert { name: own, .. } = &mut entry.instance.as_mut().unwrap().write
        {
            *own = name.parse().unwrap();
        }
        entry
    };
    let web = journal.commit(named("a", "web")).await.unwrap();
    let row = web.row.unwrap();
    let before = journal.head();
    let refused = journal.commit(named("b", "web")).await.unwrap_err();
    assert!(
        matches!(&refused, CommitError::NameInUse { name, .. } if name.as_str() == "web"),
        "{refused}"
    );
    let refused = journal.commit(named("a", "other")).await.unwrap_err();
    assert!(matches!(&refused, CommitError::IdInUse(id) if id.as_str() == "a"), "{refused}");
    assert_eq!(journal.head(), before, "a refused entry leaves no fact");

    let db = journal.commit(named("c", "db")).await.unwrap();
    let other = db.row.unwrap();
    let rename = |row, name: &str| {
        let name = Some(name.parse::<InstanceName>().unwrap());
        let state = "s".into();
        let account = db.account.clone().unwrap();
        let write = InstanceWrite::Update { row, name, record: None, state, account };
        Entry::of_instance(write, Vec::new())
    };
    let refused = journal.commit(rename(other, "web")).await.unwrap_err();
    assert!(matches!(refused, CommitError::NameInUse { .. }), "{refused}");
    journal.commit(rename(other, "cache")).await.unwrap();
    assert_eq!(journal.instance(&"c".parse().unwrap()).unwrap().unwrap().name.as_str(), "cache");

    let account = web.account.unwrap();
    let owner = Driver { row: Some(row), account, ..Driver::new("a", &opened.clock) };
    let deletion = owner.entry([entered(Phase::Stopped), InstanceFact::Deleted]);
    let (deleted, reused) =
        tokio::join!(journal.commit(deletion), journal.commit(named("d", "web")));
    assert!(deleted.is_ok() && reused.is_ok(), "{deleted:?} {reused:?}");
    let refused = journal.commit(owner.entry([entered(Phase::Created)])).await.unwrap_err();
    assert!(matches!(refused, CommitError::NoSuchRow(gone) if gone == row), "{refused}");
    assert!(journal.instance(&owner.id).unwrap().unwrap().deleted.is_some());
    verify(folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn a_fact_after_the_deletion_of_its_instance_is_refused() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut a = Driver::new("a", &opened.clock);
    let story = [entered(Phase::Created), InstanceFact::Deleted, entered(Phase::Created)];
    let refused = journal.commit(a.entry(story.clone())).await.unwrap_err();
    assert!(matches!(refused, CommitError::AfterDeletion), "{refused}");
    a.commit(&journal, [entered(Phase::Created)]).await;
    let refused = journal.commit(a.entry(story)).await.unwrap_err();
    assert!(matches!(refused, CommitError::AfterDeletion), "{refused}");
    assert_eq!(journal.head().seq, 1);
}

#[tokio::test]
async fn an_instant_lies_neither_before_the_instances_last_fact_nor_in_the_future() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let driver = Driver::new("a", &opened.clock);
    let now = opened.clock.now();
    let at = |meter, fact| (Reading { meter, ..opened.clock.reading() }, fact);
    let facts = vec![
        at(now, entered(Phase::Created)),
        at(Instant(now.0 - 1), entered(Phase::Initializing)),
        at(Instant(i64::MAX), entered(Phase::Running)),
    ];
    journal.commit(Entry::of_instance(driver.write(), facts)).await.unwrap();
    let page = journal.facts(&FactQuery::default()).unwrap().facts;
    assert_eq!(page[1].fact.meter_ns, now.0);
    assert_eq!(page[2].fact.meter_ns, page[2].fact.recorded_ns);
    verify(folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn an_activation_is_in_force_for_what_is_counted_after_it_and_never_in_the_past() {
    let folder = TempDir::new().unwrap();
    let ledger = Arc::new(Ledger::default());
    let (journal, opened) =
        Journal::open(folder.path(), Options::default(), ledger.clone()).unwrap();
    let digest = Digest::of(b"component");
    let before = Driver::new("a", &opened.clock);
    let after = Driver::new("b", &opened.clock);
    let activation = |requested| Entry {
        activation: Some(NewActivation {
            requested,
            ..NewActivation::now(tenant(), digest, Actor::Host)
        }),
        ..Entry::default()
    };
    let asked_at = opened.clock.now();
    let (_, past, _, future) = tokio::join!(
        journal.commit(before.entry([entered(Phase::Created)])),
        journal.commit(activation(Some(Instant(1)))),
        journal.commit(after.entry([entered(Phase::Created)])),
        journal.commit(activation(Some(Instant(i64::MAX)))),
    );
    let past = past.unwrap();
    let future = future.unwrap();
    let from = past.activated_from.unwrap();
    assert!(from >= asked_at && from <= opened.clock.now());
    assert_eq!(future.activated_from, Some(Instant(i64::MAX)));
    let asked = ledger.asked.lock().unwrap().clone();
    let facts: Vec<_> = asked
        .iter()
        .map(|asked| match asked {
            Asked::Enter(items) => items.iter().map(|item| item.2).collect::<Vec<_>>(),
            Asked::Change(..) => vec![],
        })
        .collect();
    assert_eq!(facts, [vec![1], vec![], vec![3], vec![]], "{asked:?}");
    assert_eq!(asked[1], Asked::Change(tenant(), Change::Set { from, digest }));
    drop(journal);
    let (_journal, again) = open(folder.path());
    let told: Vec<_> = again.activations.iter().map(|one| (one.from, one.fact)).collect();
    assert_eq!(told, [(from, 2), (Instant(i64::MAX), 4)]);
}

#[tokio::test]
async fn only_a_plan_that_has_not_come_about_can_be_withdrawn() {
    let folder = TempDir::new().unwrap();
    let ledger = Arc::new(Ledger::default());
    let (journal, opened) =
        Journal::open(folder.path(), Options::default(), ledger.clone()).unwrap();
    let one = Digest::of(b"one");
    let two = Digest::of(b"two");
    let later = Instant(opened.clock.now().0 + (1 << 50));
    let set = |requested, digest| Entry {
        activation: Some(NewActivation {
            requested,
            ..NewActivation::now(tenant(), digest, Actor::Operator)
        }),
        ..Entry::default()
    };
    let withdraw = |plan, from, digest| {
        let tenant = tenant();
        let by = Actor::Operator;
        let reason = Some("a mistake".into());
        Entry {
            withdrawal: Some(NewWithdrawal { tenant, plan, digest, from, by, reason }),
            ..Entry::default()
        }
    };
    let now = journal.commit(set(None, one)).await.unwrap().activated_from.unwrap();
    journal.commit(set(Some(later), one)).await.unwrap();
    journal.commit(set(Some(later), two)).await.unwrap();
    let refused = [
        withdraw(Plan::Policy, now, one),
        withdraw(Plan::Policy, Instant(later.0 + 1), one),
        withdraw(Plan::Policy, later, Digest::of(b"three")),
        withdraw(Plan::Prices, later, one),
    ];
    for entry in refused {
        let error = journal.commit(entry).await.unwrap_err();
        assert!(matches!(error, CommitError::NotPlanned { .. }), "{error}");
    }
    let (first, second) = tokio::join!(
        journal.commit(withdraw(Plan::Policy, later, two)),
        journal.commit(withdraw(Plan::Policy, later, two))
    );
    let outcomes = [first.is_ok(), matches!(second, Err(CommitError::NotPlanned { .. }))];
    assert_eq!(outcomes, [true, true], "{second:?}");
    let asked = ledger.asked.lock().unwrap().last().cloned();
    assert_eq!(
        asked,
        Some(Asked::Change(tenant(), Change::Withdrawn { from: later, digest: two }))
    );
    let changes = journal.archive().changes_of(&tenant(), Plan::Policy).unwrap();
    let expected = [
        (1, Change::Set { from: now, digest: one }),
        (2, Change::Set { from: later, digest: one }),
        (3, Change::Set { from: later, digest: two }),
        (4, Change::Withdrawn { from: later, digest: two }),
    ];
    assert_eq!(changes, expected);
    assert_eq!(journal.archive().changes_of(&tenant(), Plan::Prices).unwrap(), []);
    verify(folder.path(), |_, _| {}).unwrap();
    drop(journal);
    let (_journal, again) = open(folder.path());
    let left: Vec<_> = again.activations.iter().map(|one| one.fact).collect();
    assert_eq!(left, [1, 2], "the other one for the same instant holds again");
}

#[tokio::test]
async fn a_policy_that_failed_is_told_in_the_journal() {
    let folder = TempDir::new().unwrap();
    let ledger = Arc::new(Ledger::default());
    let (journal, opened) =
        Journal::open(folder.path(), Options::default(), ledger.clone()).unwrap();
    let policy = Digest::of(b"bad");
    ledger.faults.lock().unwrap().push(Fault { tenant: tenant(), policy, reason: "loops".into() });
    let receipt = Driver::new("a", &opened.clock).commit(&journal, [entered(Phase::Created)]).await;
    assert_eq!((receipt.last_seq, receipt.head.seq), (1, 2));
    let told = journal.facts(&FactQuery { after: 1, ..FactQuery::default() }).unwrap().facts;
    assert_eq!(
        told[0].fact.what,
        What::PolicyFaulted { digest: policy.to_string(), reason: "loops".into() }
    );
    verify(folder.path(), |_, _| {}).unwrap();
}

fn request(key: &str, asked: Digest) -> RequestKey {
    RequestKey { tenant: tenant(), key: key.into(), asked }
}

#[tokio::test]
async fn prices_that_are_sent_again_are_put_in_force_once() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path());
    let one = Digest::of(b"one");
    let two = Digest::of(b"two");
    let entry = |digest: Digest| {
        let bytes = b"one".to_vec();
        let by = Actor::Operator;
        let prices = NewPrices { tenant: tenant(), digest, bytes, requested: None, by, name: None };
        Entry { prices: Some(prices), request: Some(request("k", digest)), ..Entry::default() }
    };
    let sent = join_all((0..4).map(|_| journal.commit(entry(one)))).await;
    assert_eq!(sent.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let other = journal.commit(entry(two)).await;
    assert!(matches!(other, Err(CommitError::Repeated { fact: 1, same: false })), "{other:?}");
    assert_eq!(journal.head().seq, 1);
}

#[tokio::test]
async fn an_activation_with_a_key_is_done_once_however_often_it_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path());
    let entry = |key: &str, digest: Digest| {
        let activation = NewActivation::now(tenant(), digest, Actor::Operator);
        Entry {
            activation: Some(activation),
            request: Some(request(key, digest)),
            ..Entry::default()
        }
    };
    let one = Digest::of(b"one");
    let two = Digest::of(b"two");
    // Sent at once, in one batch or in several: one of them is first.
    let sent = join_all((0..5).map(|_| journal.commit(entry("a", one)))).await;
    let done = sent.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(done, 1);
    for again in &sent[1..] {
        assert!(matches!(again, Err(CommitError::Repeated { fact: 1, same: true })), "{again:?}");
    }
    let other = journal.commit(entry("a", two)).await;
    assert!(matches!(other, Err(CommitError::Repeated { same: false, .. })), "{other:?}");
    journal.commit(entry("b", one)).await.unwrap();
    let known = journal.first_try(&request("a", one)).unwrap().expect("a first try");
    let activated = known.fact.of_tenant();
    assert!(
        matches!(activated, Some(TenantFact::PolicyActivated { digest, .. }) if *digest == one)
    );
    assert_eq!((known.seq, known.same), (1, true));
    assert_eq!(journal.first_try(&request("c", one)).unwrap(), None);
    assert_eq!(journal.head().seq, 2);
    verify(folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn where_a_policy_stands_is_told_by_the_last_fact_about_it() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let digest = Digest::of(b"policy");
    let moved = |to, stand_in| {
        let moved = Move { digest, to, by: Actor::Host, reason: "loops".into(), stand_in };
        Entry::of_tenant(tenant(), opened.clock.reading(), TenantFact::PolicyMoved(moved))
    };
    let activation = NewActivation::now(tenant(), digest, Actor::Operator);
    journal.commit(Entry { activation: Some(activation), ..Entry::default() }).await.unwrap();
    journal.commit(moved(Standing::Draining, None)).await.unwrap();
    journal.commit(moved(Standing::Quarantined, Some(Digest::of(b"other")))).await.unwrap();
    let told = journal.policy_facts(&tenant(), &digest, 2).unwrap();
    assert_eq!(told.iter().map(|fact| fact.fact.seq).collect::<Vec<_>>(), [3, 2], "newest first");
    drop(journal);
    let (_journal, again) = open(folder.path());
    let stood = StoredStanding {
        tenant: tenant(),
        digest,
        standing: Standing::Quarantined,
        by: Some(Actor::Host),
        stand_in: Some(Digest::of(b"other")),
    };
    assert_eq!(again.standings, [stood]);
}

/// Makes a database of the version before instances and milestones said where they stand.
const TO_VERSION_8: &str = "
    DROP TABLE IF EXISTS gap; DROP TABLE IF EXISTS gap_settled;
    DROP TABLE IF EXISTS tenant_fact; DROP INDEX IF EXISTS activation_of;
    DROP INDEX IF EXISTS prices_of; DROP INDEX IF EXISTS rule_fact_of;
    DROP TABLE segment_archived; DROP TABLE segment_pruned;
    DROP TABLE heard; DROP TABLE segment; DROP TABLE segment_copy; DROP INDEX instance_of;
    ALTER TABLE instance DROP COLUMN first_fact; ALTER TABLE instance DROP COLUMN first_ns;
    ALTER TABLE live DROP COLUMN facts; ALTER TABLE live DROP COLUMN opened;
    ALTER TABLE live DROP COLUMN wakes; ALTER TABLE boot DROP COLUMN last_ns;
    DROP TABLE milestone;
    CREATE TABLE milestone (row INTEGER NOT NULL, fact INTEGER NOT NULL, PRIMARY KEY (row, fact)) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 8;";

/// And of that one, the version before plans stayed.
const TO_VERSION_3: &str = "
    ALTER TABLE alive DROP COLUMN is_synchronised;
    DROP TABLE rule_fact; DROP TABLE request;
    ALTER TABLE activation ADD COLUMN request TEXT; ALTER TABLE activation ADD COLUMN asked TEXT;
    CREATE UNIQUE INDEX activation_request ON activation (tenant, request)
      WHERE request IS NOT NULL;
    DROP TABLE session; DROP TABLE milestone; DROP TABLE withdrawal; PRAGMA user_version = 3;";

/// And of that one, the first.
const TO_VERSION_1: &str = "
    DROP TABLE document; DROP TABLE prices; DROP TABLE invoice;
    DROP TABLE tenant; DROP TABLE token; DROP TABLE policy_fact; DROP INDEX activation_request;
    ALTER TABLE activation DROP COLUMN request; ALTER TABLE activation DROP COLUMN asked;
    PRAGMA user_version = 1;";

#[tokio::test]
async fn a_plan_that_an_earlier_version_dropped_stays_dropped() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let one = Digest::of(b"one");
    let two = Digest::of(b"two");
    let three = Digest::of(b"three");
    let later = |nanos: i64| Some(Instant(opened.clock.now().0 + (1 << 50) + nanos));
    let far = later(2_000_000_000_000);
    let near = later(0);
    journal.commit(host_fact(&opened.clock)).await.unwrap();
    // The second drops the first; the fourth drops the third, which is set again.
    for (requested, digest) in [(far, one), (near, two), (far, three), (near, one), (far, three)] {
        let activation =
            NewActivation { requested, ..NewActivation::now(tenant(), digest, Actor::Operator) };
        journal.commit(Entry { activation: Some(activation), ..Entry::default() }).await.unwrap();
    }
    drop(journal);
    rusqlite::Connection::open(folder.path().join(schema::FILE))
        .unwrap()
        .execute_batch(&[TO_VERSION_8, TO_VERSION_3].concat())
        .unwrap();
    let (journal, again) = open(folder.path());
    let held: Vec<_> = again.activations.iter().map(|held| held.fact).collect();
    assert_eq!(held, [3, 4, 5, 6], "of two for one instant, the later set holds");
    let changes = journal.archive().changes_of(&tenant(), Plan::Policy).unwrap();
    assert_eq!(changes.last(), Some(&(7, Change::Withdrawn { from: far.unwrap(), digest: one })));
    drop(journal);
    verify(folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn a_database_of_the_first_version_takes_the_steps_it_lacks() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path());
    let digest = Digest::of(b"policy");
    let activation = NewActivation::now(tenant(), digest, Actor::Operator);
    journal.commit(Entry { activation: Some(activation), ..Entry::default() }).await.unwrap();
    drop(journal);
    let older = [TO_VERSION_8, TO_VERSION_3, TO_VERSION_1].concat();
    rusqlite::Connection::open(folder.path().join(schema::FILE))
        .unwrap()
        .execute_batch(&older)
        .unwrap();
    let (journal, again) = open(folder.path());
    assert_eq!(
        again.standings.iter().map(|stood| (stood.digest, stood.standing)).collect::<Vec<_>>(),
        [(digest, Standing::Active)]
    );
    drop(journal);
    verify(folder.path(), |_, _| {}).unwrap();
}

#[tokio::test]
async fn a_component_is_kept_with_its_bytes() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let digest = Digest::of(b"wasm");
    let bytes = b"wasm".to_vec();
    let name = "night-v3".parse().ok();
    let record = "one".into();
    let policy =
        NewPolicy { tenant: tenant(), digest, name, bytes: bytes.clone(), record, by: Actor::Host };
    for record in ["one", "two"] {
        let policy = Some(NewPolicy { record: record.into(), ..policy.clone() });
        journal.commit(Entry { policy, ..host_fact(&opened.clock) }).await.unwrap();
    }
    assert_eq!(journal.policy_bytes(&digest).unwrap(), Some(bytes));
    assert_eq!(journal.policy_bytes(&Digest::of(b"")).unwrap(), None);
    let admitted =
        kinds(&journal, &FactQuery { kind: Some(Kind::PolicyAdmitted), ..FactQuery::default() });
    assert_eq!(admitted.len(), 2);
    verify(folder.path(), |_, _| {}).unwrap();
    drop(journal);
    let (_journal, again) = open(folder.path());
    assert_eq!(again.policies, [StoredPolicy { digest, size_bytes: 4, record: "one".into() }]);
    let names: Vec<_> = again.admissions.iter().map(|admitted| admitted.name.clone()).collect();
    assert_eq!(names, ["night-v3".parse().ok(), "night-v3".parse().ok()]);
}

#[tokio::test]
async fn pages_give_every_fact_once_in_order() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let mut a = Driver::new("a", &opened.clock);
    let mut b = Driver::new("b", &opened.clock);
    for phase in [Phase::Created, Phase::Initializing, Phase::Running, Phase::Paused] {
        a.commit(&journal, [entered(phase)]).await;
        journal.commit(host_fact(&opened.clock)).await.unwrap();
        b.commit(&journal, [entered(phase)]).await;
    }
    let all = |query: FactQuery| {
        let mut seqs = Vec::new();
        let mut after = Some(query.after);
        while let Some(from) = after {
            let page = journal.facts(&FactQuery { after: from, ..query.clone() }).unwrap();
            seqs.extend(page.facts.iter().map(|fact| fact.fact.seq));
            after = page.next;
        }
        seqs
    };
    for limit in [Some(1), Some(2), Some(3), Some(12), None] {
        let query = FactQuery { limit, ..FactQuery::default() };
        assert_eq!(all(query.clone()), (1..=12).collect::<Vec<_>>());
        assert_eq!(all(FactQuery { instance: Some(b.id.clone()), ..query.clone() }), [3, 6, 9, 12]);
        let kind = Some(Kind::HostStarted);
        assert_eq!(all(FactQuery { kind, after: 2, through: Some(8), ..query.clone() }), [5, 8]);
        assert!(all(FactQuery { tenant: Some("nobody".parse().unwrap()), ..query }).is_empty());
    }
    let rare = FactQuery {
        kind: Some(Kind::HostStarted),
        after: 2,
        through: Some(11),
        ..FactQuery::default()
    };
    let mut seqs = Vec::new();
    let mut pages = 0;
    let mut after = Some(rare.after);
    while let Some(from) = after {
        let query = FactQuery { after: from, ..rare.clone() };
        let page = journal.readers.with(|db| read::facts_within(db, &query, 2)).unwrap();
        seqs.extend(page.facts.iter().map(|fact| fact.fact.seq));
        (pages, after) = (pages + 1, page.next);
    }
    assert_eq!(
        (seqs, pages),
        (vec![5, 8, 11], 5),
        "a search that ends before its time goes on from there"
    );

    let page = journal.facts(&FactQuery::default()).unwrap();
    let mut hash = FactHash::GENESIS;
    for fact in &page.facts {
        hash = hash.next(&serde_json::to_vec(&fact.fact).unwrap());
        assert_eq!(fact.hash, hash.to_string());
    }
    assert_eq!(serde_json::from_str::<Page>(&serde_json::to_string(&page).unwrap()).unwrap(), page);
}

#[tokio::test]
async fn a_proof_of_life_is_found_at_the_next_opening() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    let noted = journal.prove_alive().await.unwrap();
    drop(journal);
    let (journal, again) = open(folder.path());
    let alive = again.alive.unwrap();
    assert_eq!((alive.meter, &alive.boot), (noted, opened.clock.boot()));
    assert_eq!(opened.clock.meter(alive.boottime_ns), noted);
    journal.commit(host_fact(&opened.clock)).await.unwrap();
    let recorded = journal.facts(&FactQuery::default()).unwrap().facts[0].fact.recorded_ns;
    drop(journal);
    let (_journal, third) = open(folder.path());
    assert!(third.alive.unwrap().meter >= Instant(recorded), "a fact proves life, too");
}

#[tokio::test]
async fn after_a_new_boot_the_meter_goes_on_from_the_last_proof_of_life() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path());
    let far = journal.prove_alive().await.unwrap().0 + (1 << 60);
    drop(journal);
    let db = rusqlite::Connection::open(folder.path().join(schema::FILE)).unwrap();
    db.execute("UPDATE boot SET boot_id = 'another'", []).unwrap();
    db.execute("UPDATE alive SET boot_id = 'another', meter_ns = ?1", [far]).unwrap();
    drop(db);
    let (_journal, opened) = open(folder.path());
    assert!(opened.clock.now() >= Instant(far));
    assert_eq!(opened.alive.unwrap().boot, BootId("another".into()));
}

#[test]
fn a_folder_in_use_is_refused_with_the_process_that_has_it() {
    let folder = TempDir::new().unwrap();
    let (journal, _) = open(folder.path());
    let again = || Journal::open(folder.path(), Options::default(), Arc::new(Ledger::default()));
    match again() {
        Err(OpenError::InUse { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(journal);
    again().unwrap();
}

#[test]
fn only_the_owner_can_read_the_files() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("data");
    let (_journal, _) = open(&folder);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "database, log, index of the log, lock: {files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
}

#[tokio::test]
async fn a_journal_that_can_not_write_says_so_to_everybody_and_takes_nothing_more() {
    let folder = TempDir::new().unwrap();
    let (journal, opened) = open(folder.path());
    journal.commit(host_fact(&opened.clock)).await.unwrap();
    let db = rusqlite::Connection::open(journal.path()).unwrap();
    db.execute("ALTER TABLE fact RENAME TO gone", []).unwrap();
    let mut failed = Box::pin(journal.failed());
    assert!(poll!(&mut failed).is_pending());
    let first = journal.commit(host_fact(&opened.clock)).await.unwrap_err();
    assert!(matches!(first, CommitError::Failed { .. }), "{first}");
    assert!(failed.await.contains("no such table"));
    db.execute("ALTER TABLE gone RENAME TO fact", []).unwrap();
    let later = journal.commit(host_fact(&opened.clock)).await.unwrap_err();
    assert!(matches!(later, CommitError::Failed { .. }), "{later}");
    assert!(matches!(journal.prove_alive().await, Err(CommitError::Failed { .. })));
    drop(journal);
    assert_eq!(open(folder.path()).1.head.seq, 1);
}

#[tokio::test]
async fn an_accountant_that_panics_ends_the_journal_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let ledger = Arc::new(Ledger::default());
    let (journal, opened) =
        Journal::open(folder.path(), Options::default(), ledger.clone()).unwrap();
    let (reached, _is_reached) = blocking::channel();
    let (_, nobody_gives_permission) = blocking::channel();
    *ledger.gate.lock().unwrap() = Some((reached, nobody_gives_permission));
    let created = Driver::new("a", &opened.clock).entry([entered(Phase::Created)]);
    let (first, second) = tokio::join!(journal.commit(created.clone()), journal.commit(created));
    assert!(matches!(first, Err(CommitError::Failed { .. })), "{first:?}");
    assert!(matches!(second, Err(CommitError::Failed { .. })), "{second:?}");
    assert_eq!(&*journal.failed().await, WRITER_GONE);
    drop(journal);
    let (_journal, again) = open(folder.path());
    assert_eq!((again.head, again.instances.len()), (Head::EMPTY, 0));
}
