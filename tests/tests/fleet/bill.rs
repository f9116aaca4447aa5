//! One bill over several hosts is the bill of one host with all facts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallyman::fleet::{SendError, Sender};
use tallyman::id::InstanceId;
use tallyman::invoice::{Act, Goal, Heading, Invoice};
use tallyman::journal::{self, Head};
use tallyman::tenant::Actor;
use tallyman::vm::Phase;

use super::site::{DAY, HOUR, Site, directory, tenant};
use super::way::{Desk, Dice, Way};

const HOSTS: [&str; 3] = ["h1", "h2", "h3"];

/// Tiers of the tenant, the first of them free, a minimum, a cap and a credit.
const BOOK: &str = r#"{"currency": "EUR", "rounding": "half-even", "prices": [
    {"id": "run", "rule": "run", "meter": "active", "per": "vcpu-hour",
     "scope": "tenant", "tiers": [{"up_to": "10", "price": "0"}, {"up_to": "500", "price": "0.05"}, {"price": "0.03"}]},
    {"id": "own", "rule": "own", "meter": "active", "per": "instance-hour", "price": "1/7",
     "scope": "instance"},
    {"id": "keep", "rule": "keep", "meter": "allocated", "per": "memory-GiB-hour",
     "scope": "tenant", "model": "volume", "tiers": [{"up_to": "900", "price": "0.01"},
     {"price": "0.008"}]}
], "adjustments": [
    {"id": "least", "kind": "minimum", "amount": "5", "rules": ["run"]},
    {"id": "most", "kind": "cap", "amount": "20", "rules": ["own"]},
    {"id": "welcome", "kind": "credit", "amount": "3"}
]}"#;

/// Something that happens to an instance: the instant, the instance, the phase or the end.
type Step = (u64, InstanceId, Option<Phase>);

/// The lives of some instances over two months, in order.
fn story(dice: &mut Dice) -> Vec<Step> {
    let mut steps = Vec::new();
    for number in 0..6 + dice.below(4) {
        let id: InstanceId = format!("i-{number}").parse().expect("an id");
        let mut at = HOUR + dice.below(40 * DAY);
        for phase in [Phase::Created, Phase::Initializing, Phase::Running] {
            steps.push((at, id.clone(), Some(phase)));
            at += 1 + dice.below(600_000_000_000);
        }
        for _ in 0..dice.below(4) {
            for phase in [Phase::Paused, Phase::Standby, Phase::Paused, Phase::Running] {
                steps.push((at, id.clone(), Some(phase)));
                at += 1 + dice.below(3 * DAY);
            }
        }
        if dice.below(2) == 0 {
            steps.push((at, id.clone(), Some(Phase::Stopped)));
            steps.push((at + HOUR, id, None));
        }
    }
    steps.sort_by_key(|(at, ..)| *at);
    steps
}

/// The part of a document that a payer reads: numbers of facts and of meters are the journal's own.
fn said(document: &Invoice) -> Value {
    let mut said = serde_json::to_value(document).expect("JSON");
    let all = said.as_object_mut().expect("an object");
    for own in ["as_of", "receipts", "period", "previous", "overrides", "opening"] {
        all.remove(own);
    }
    all["billed"] = json!([all["billed"]["from"], all["billed"]["until"]]);
    for rules in ["books", "policies"] {
        for one in all[rules].as_array_mut().expect("rules") {
            one["span"] = json!([one["span"]["from"], one["span"]["until"]]);
        }
    }
    for line in all["lines"].as_array_mut().expect("lines") {
        line.as_object_mut().expect("a line").remove("facts");
    }
    said
}

fn all_said(documents: &[Invoice]) -> Vec<Value> {
    documents.iter().map(said).collect()
}

/// Sends until the collector has everything, however often it fails.
async fn catch_up(sender: &Sender) {
    let mut known: Option<Head> = None;
    loop {
        match sender.step(known).await {
            Ok((_, true)) => return,
            Ok((head, false)) => known = Some(head),
            Err(SendError::Away(_)) => known = None,
            Err(refused) => panic!("{refused}"),
        }
    }
}

/// A fleet, and a single host with the same facts.
struct Fleet {
    ledger: Site,
    hosts: Vec<Site>,
    alone: Site,
    /// The host of each instance.
    places: BTreeMap<InstanceId, usize>,
}

impl Fleet {
    async fn new() -> Self {
        let ledger = Site::new().await;
        let alone = Site::new().await;
        ledger.set_book(BOOK).await;
        alone.set_book(BOOK).await;
        let mut hosts = Vec::new();
        for _ in HOSTS {
            hosts.push(Site::new().await);
        }
        Self { ledger, hosts, alone, places: BTreeMap::new() }
    }

    async fn tell(&mut self, (at, id, phase): &Step, dice: &mut Dice) {
        let place = *self.places.entry(id.clone()).or_insert_with(|| dice.below(3) as usize);
        self.hosts[place].enter(id, *at, *phase).await;
        self.alone.enter(id, *at, *phase).await;
    }

    async fn note(&self, desk: &Desk) {
        let at = self.ledger.at(80 * DAY);
        desk.collector().note(&self.ledger.journal, at).await.expect("noted");
    }
}

async fn one_bill(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut fleet = Fleet::new().await;
    let desk = Desk::new(&fleet.ledger.folder);
    let ways: Vec<_> =
        (0..).zip(HOSTS).map(|(n, host)| Way::faulty(&desk, host, seed * 3 + n)).collect();
    let story = story(&mut dice);
    for (number, step) in story.iter().enumerate() {
        fleet.tell(step, &mut dice).await;
        // A sender that is ended at any time loses nothing: the next one asks how far it got.
        let host = dice.below(3) as usize;
        if number % 3 == 0 {
            let _ = fleet.hosts[host].sender(ways[host].clone()).step(None).await;
        }
        if number % 17 == 0 {
            fleet.note(&desk).await;
            let _ = fleet.ledger.preview(step.0);
        }
    }
    for (site, way) in fleet.hosts.iter().zip(&ways) {
        catch_up(&site.sender(way.clone())).await;
    }
    for (status, site) in desk.collector().hosts().iter().zip(&fleet.hosts) {
        assert_eq!(status.head, site.journal.head(), "nothing lost, nothing twice");
    }
    fleet.note(&desk).await;
    for to in [20 * DAY, 31 * DAY, 59 * DAY] {
        let one = fleet.alone.preview(to);
        let all = fleet.ledger.preview(to);
        assert_eq!(all_said(&all), all_said(&one), "seed {seed}, up to day {}", to / DAY);
        assert!(!all.is_empty());
    }
    for host in HOSTS {
        let copy = journal::hosts_folder(fleet.ledger.folder.path()).join(host);
        journal::verify(&copy, |_, _| ()).expect("the copy is a sound journal");
    }
    journal::verify(fleet.ledger.folder.path(), |_, _| ()).expect("a sound journal");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bill_of_a_fleet_is_that_of_one_host_whatever_the_way_does() {
    for seed in 1..=3 {
        one_bill(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_brings_after_the_close_is_a_correction() {
    let mut dice = Dice::new(7);
    let mut fleet = Fleet::new().await;
    let desk = Desk::new(&fleet.ledger.folder);
    let ways = HOSTS.map(|host| Way::straight(&desk, host));
    let story = story(&mut dice);
    // Until the tenth day all hosts are heard; then the last one is cut off.
    let (early, late) = story.split_at(story.partition_point(|(at, ..)| *at < 10 * DAY));
    for step in early {
        fleet.tell(step, &mut dice).await;
    }
    for (site, way) in fleet.hosts.iter().zip(&ways) {
        catch_up(&site.sender(way.clone())).await;
    }
    for step in late {
        fleet.tell(step, &mut dice).await;
    }
    for (site, way) in fleet.hosts.iter().zip(&ways).take(2) {
        catch_up(&site.sender(way.clone())).await;
    }
    fleet.note(&desk).await;
    let issuer = fleet.ledger.issuer();
    let act = Act::by(Actor::Operator);
    let heading = Heading::default();
    let to = Goal::Close(fleet.ledger.meter(31 * DAY));
    let closed = issuer.reach(&tenant(), to, &heading, &act, &directory()).await.expect("closed");
    assert_eq!(closed.len(), 1);
    let again = issuer.reach(&tenant(), to, &heading, &act, &directory()).await.expect("closed");
    assert_eq!(again, [], "nothing new");

    catch_up(&fleet.hosts[2].sender(ways[2].clone())).await;
    fleet.note(&desk).await;
    let late = issuer.reach(&tenant(), Goal::Settle, &heading, &act, &directory()).await;
    let late = late.expect("settled");
    assert_eq!(late.len(), 1, "one correction");
    let whole = fleet.alone.preview(31 * DAY);
    assert_eq!(late[0].period_total, whole[0].period_total);
    assert_ne!(closed[0].period_total, whole[0].period_total, "something was missing before");
    let rest = issuer.reach(&tenant(), Goal::Settle, &heading, &act, &directory()).await;
    assert_eq!(rest.expect("settled"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stories_of_one_host_are_refused_by_name() {
    let fleet = Fleet::new().await;
    let desk = Desk::new(&fleet.ledger.folder);
    let id: InstanceId = "i-1".parse().expect("an id");
    let mut hosts = fleet.hosts.into_iter();
    let mut one = hosts.next().expect("three");
    let mut other = hosts.next().expect("three");
    one.enter(&id, HOUR, Some(Phase::Created)).await;
    other.enter(&id, 2 * HOUR, Some(Phase::Created)).await;
    catch_up(&one.sender(Way::straight(&desk, "h1"))).await;
    let head = desk.collector().hosts()[0].head;

    // Another machine with the same name, and the same machine under another name.
    let refused = other.sender(Way::straight(&desk, "h1")).step(None).await;
    let refused = refused.expect_err("a fork").to_string();
    assert!(refused.contains("host 'h1'") && refused.contains("Two machines"), "{refused}");
    let twin = one.sender(Way::straight(&desk, "h2"));
    let at = twin.step(None).await.expect("it has nothing yet").0;
    let refused = twin.step(Some(at)).await.expect_err("a copy").to_string();
    assert!(refused.contains("host 'h2'") && refused.contains("'h1'"), "{refused}");

    let status = desk.collector().hosts();
    assert_eq!(status[0].head, head, "what was taken stays");
    assert!(status.iter().all(|status| status.trouble.is_some()), "{status:?}");
    catch_up(&one.sender(Way::straight(&desk, "h1"))).await;
    assert_eq!(desk.collector().hosts()[0].trouble, None, "the true one goes on");
}
