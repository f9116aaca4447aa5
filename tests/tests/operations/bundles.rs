//! Bundles of tenants that have lived for long: their size follows the period.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tallyman::billing::HostFact;
use tallyman::billing::agreement::{Agreement, Cycle};
use tallyman::heads::{self, Heads};
use tallyman::id::{Digest, InstanceId};
use tallyman::invoice::{
    Act, Bundle, Directory, Engines, Goal, Heading, Issuer, Named, bundle, close_of, prove,
};
use tallyman::journal::{self, Archive, Entry, NewPolicy};
use tallyman::policy::PolicyHost;
use tallyman::rollout::standard_record;
use tallyman::tenant::Actor;
use tallyman::vm::Command;
use tallyman_tests::linux::guests;
use tallyman_tests::rig::Rig;

use crate::running;

const BOOK: &str = r#"{"currency": "EUR", "prices": [
    {"id": "run", "rule": "run", "meter": "running", "per": "vcpu-hour", "price": "0.36"}]}"#;

/// A tenant whose periods are days, and who does the same on each.
struct Life {
    rig: Rig,
    issuer: Issuer,
    heads: Heads,
    policies: Arc<PolicyHost>,
    web: InstanceId,
}

fn directory() -> Directory {
    Arc::new(|id: &InstanceId| {
        Ok(Named { id: id.to_string(), name: "name".into(), tags: Vec::new() })
    })
}

impl Life {
    fn begin() -> Self {
        let rig = Rig::default();
        let standard = NewPolicy {
            tenant: rig.tenant.clone(),
            digest: Digest::of(PolicyHost::standard_bytes()),
            name: None,
            bytes: PolicyHost::standard_bytes().to_vec(),
            record: standard_record(),
            by: Actor::Host,
        };
        let started = HostFact::Started { version: "1".into() };
        let entry = Entry { policy: Some(standard), ..Entry::of_host(rig.reading(), started) };
        rig.run(rig.journal().commit(entry)).expect("the first facts");
        let policies = PolicyHost::open(&guests().join("compiled")).expect("a policy host");
        let policies = Arc::new(policies);
        let issuer = Issuer::new(rig.shared_journal(), policies.clone());
        let heads = Heads::open(rig.folder()).expect("heads");
        let now = rig.fleet().now();
        let act = || Act::by(Actor::Host);
        let text = BOOK.as_bytes().to_vec();
        let set = issuer.set_prices(&rig.tenant, (text, None), None, now, act());
        rig.run(set).expect("prices");
        let agreement = Agreement { cycle: Cycle::Day, ..Agreement::default() };
        let reading = rig.reading();
        let changed = issuer.change_agreement(&rig.tenant, agreement, reading, act());
        rig.run(changed).expect("an agreement");
        let web = running(&rig, "web");
        // This one does nothing after its first day, and is charged on every other.
        running(&rig, "idle");
        Self { rig, issuer, heads, policies, web }
    }

    /// A day, and the close of the one before.
    fn day(&mut self) {
        for _ in 0..4 {
            self.rig.command(&self.web, Command::Standby).expect("in standby");
            self.rig.pass(Duration::from_secs(3 * 3_600));
            self.rig.command(&self.web, Command::Restore).expect("restored");
            self.rig.pass(Duration::from_secs(3 * 3_600));
        }
        self.close();
    }

    /// Closes the periods that are over.
    fn close(&self) {
        let tenant = &self.rig.tenant;
        let (period, _) = self.issuer.agreement(tenant, self.rig.fleet().now()).expect("a period");
        let act = Act::by(Actor::Host);
        let goal = Goal::Close(period.start);
        let names = directory();
        let heading = Heading::default();
        let reaching = self.issuer.reach(tenant, goal, &heading, &act, &names);
        self.rig.run(reaching).expect("documents");
    }

    fn archive(&self) -> Archive {
        self.rig.journal().archive()
    }

    fn last(&self) -> u64 {
        let documents = self.archive().invoices_of(&self.rig.tenant).expect("documents");
        documents.last().expect("a document").number
    }

    fn bundle(&self, number: u64) -> Bundle {
        let archive = self.archive();
        let tenant = &self.rig.tenant;
        let close = close_of(&archive, tenant, number).expect("closed");
        let under = heads::under(&self.heads, &self.rig.shared_journal(), close).expect("signed");
        let noted = |close: u64| self.heads.under(close).expect("readable");
        assert!(under.is_some(), "document {number} lies under a head");
        bundle(&archive, tenant, number, under, &noted).expect("a bundle")
    }

    /// Proves the document of a bundle, as its payer does.
    fn check(&self, bundle: &Value) -> Result<(), String> {
        let bytes = serde_json::to_vec(bundle).expect("text");
        let proofs = Bundle::read(&bytes).map_err(|error| error.to_string())?;
        let calls = Engines::new(&proofs, &self.policies);
        let proved = prove(&proofs, &calls, &self.rig.tenant, proofs.number());
        proved
            .map(drop)
            .map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))
    }
}

fn bytes(bundle: &Bundle) -> usize {
    // Components are the same in each, and as long as many facts.
    let parts = Bundle { components: Default::default(), ..bundle.clone() };
    serde_json::to_vec(&parts).expect("text").len()
}

fn json(bundle: &Bundle) -> Value {
    serde_json::to_value(bundle).expect("JSON")
}

#[test]
fn a_bundle_is_as_long_after_24_periods_as_after_one() {
    let mut life = Life::begin();
    while life.rig.journal().archive().invoices_of(&life.rig.tenant).expect("read").len() < 3 {
        life.day();
    }
    let early = life.last();
    let early = life.bundle(early);
    let before = bytes(&early);
    for _ in 0..24 {
        life.day();
    }
    let late = life.bundle(life.last());
    assert!(late.number >= early.number + 24);
    assert!(late.since.is_some() && life.bundle(1).since.is_none());
    let after = bytes(&late);
    assert!(after * 10 <= before * 11, "{before} bytes after a period, {after} after 24 more");
    assert!(late.facts.len() <= early.facts.len() + 2, "{}", late.facts.len());
    for number in 1..=late.number {
        life.check(&json(&life.bundle(number))).unwrap_or_else(|why| panic!("{number}: {why}"));
    }
    // Facts in segments make the same bundle.
    let whole = json(&late);
    life.rig.run(life.rig.journal().seal(None)).expect("sealed");
    assert_eq!(json(&life.bundle(late.number)), whole);
    let verified = journal::verify(life.rig.journal().path(), |_, _| ());
    verified.expect("a whole journal");
}

#[test]
fn nothing_of_a_bundle_s_begin_can_be_changed() {
    let mut life = Life::begin();
    while life.rig.journal().archive().invoices_of(&life.rig.tenant).expect("read").len() < 4 {
        life.day();
    }
    let good = json(&life.bundle(life.last()));
    life.check(&good).expect("whole");
    type Spoil = fn(&mut Value);
    let lies: [(Spoil, &str); 8] = [
        (|one| one["since"]["carried"]["instances"][0]["under_way"]["wakes"] = json!(99), "states"),
        (|one| one["since"]["carried"]["instances"] = json!([]), "states"),
        (|one| one["since"]["carried"]["calendar"][0][1] = json!(5), "states"),
        (|one| one["since"]["document"] = json!(1), "document 1"),
        (|one| one["since"]["groups"][0]["peaks"][0] = json!("00".repeat(32)), "not those"),
        (|one| one["since"]["groups"][0]["from"] = json!(1_u64 << 40), "begin where"),
        (|one| drop(one.as_object_mut().expect("an object").remove("since")), "not here"),
        (|one| drop(one.as_object_mut().expect("an object").remove("under")), "no signed head"),
    ];
    for (spoil, words) in lies {
        let mut bad = good.clone();
        spoil(&mut bad);
        let refused = life.check(&bad).expect_err(words);
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let text = serde_json::to_string(&life.bundle(life.last())).expect("text");
    let begin = text.find("\"since\":").expect("a begin");
    for (round, place) in (begin..text.len()).step_by(5).enumerate() {
        let mut bad = text.clone().into_bytes();
        bad[place] ^= [1, 0x20, 2, 4][round % 4];
        let Ok(bad) = serde_json::from_slice::<Value>(&bad) else { continue };
        let around = &text[place.saturating_sub(20)..(place + 20).min(text.len())];
        assert!(life.check(&bad).is_err(), "byte {place} was changed unnoticed: {around}");
    }
    // No fact can be left out, those before the period included.
    for place in 0..good["facts"].as_array().expect("facts").len() {
        let mut fewer = good.clone();
        fewer["facts"].as_array_mut().expect("facts").remove(place);
        life.check(&fewer).expect_err("a fact less");
    }
}
