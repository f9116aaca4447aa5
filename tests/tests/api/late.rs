//! Late facts, and rules that change afterwards: charges that were made stay as they are, byte for
//! byte.

use std::sync::Arc;

use serde_json::{Value, json};
use tallyman::clock;
use tallyman::id::TenantId;
use tallyman::invoice::{Act, Directory, Goal, Heading, Issuer, Named};
use tallyman::journal::{self, Journal};
use tallyman::policy::{Accounting, PolicyHost};
use tallyman::tenant::Actor;
use tallyman::units::Instant;
use tallyman_tests::daemon::{Daemon, Handle};
use tallyman_tests::deadline::eventually;
use tallyman_tests::policies;

use crate::daemon;
use crate::invoices::{BOOK, close, last, lines, lived, nanos, proves, put_prices, sum};

/// Prices for EC2's rules: a start is charged as a minute at least, and bytes in standby can't be
/// charged for.
fn book() -> String {
    BOOK.replace("standby", "allocated")
}

fn activations(daemon: &Daemon) -> Value {
    daemon.api().get("/journal?kind=policy-activated").done()["facts"].clone()
}

/// Instant, instant of recording, and phase of the last fact.
fn last_fact(daemon: &Daemon, id: &str) -> (i64, i64, Value) {
    let fact = daemon.api().facts(id).pop().expect("facts");
    let number = |name: &str| fact[name].as_i64().expect("nanoseconds");
    (number("meter_ns"), number("recorded_ns"), fact["phase"].clone())
}

/// Lets the guest end by itself while the daemon is down.
fn end(daemon: &Daemon, id: &str) {
    let handles: Vec<_> = daemon.machines_of(id).into_iter().map(Handle::of).collect();
    daemon.type_to(id, 'q');
    handles.iter().for_each(Handle::wait);
}

#[test]
fn a_late_fact_is_rated_by_the_policy_that_was_in_force_at_its_own_time() {
    const AHEAD_NS: i64 = 4_000_000_000;
    let mut daemon = daemon();
    put_prices(daemon.api(), &book());
    let id = daemon.api().create_running("web");
    let standard = daemon.api().get("/tenants/default/policy").done()["digest"].clone();
    let ec2 = daemon.api().upload(policies::component("ec2")).done()["digest"].clone();
    let begin_ns = clock::wall_ns() + AHEAD_NS;
    let at = chrono(begin_ns);
    let planned =
        daemon.api().put("/tenants/default/policy", &json!({"digest": ec2, "at": at})).done();
    daemon.kill();
    end(&daemon, &id);
    // The new rules come into force while the daemon is down: facts that it finds afterwards are
    // from before.
    eventually("begin of the new rules", || (clock::wall_ns() > begin_ns).then_some(()));
    daemon.start_again();
    let api = daemon.api();
    api.wait(&id, "Stopped");
    let (ended, recorded, phase) = last_fact(&daemon, &id);
    let from = planned["from_ns"].as_i64().expect("nanoseconds");
    assert_eq!(phase, json!("stopped"));
    assert!(ended < from && from < recorded, "it is no late fact: {ended} {from} {recorded}");

    let invoice = close(api);
    let receipts = invoice["receipts"].as_array().expect("receipts").iter();
    let measured = receipts.filter(|receipt| receipt["call"] == "measure");
    let parts: Vec<_> =
        measured.map(|receipt| (&receipt["component"], &receipt["from_ns"])).collect();
    assert_eq!(parts, [(&standard, &invoice["billed"]["from_ns"]), (&ec2, &planned["from_ns"])]);
    let compute = lines(&invoice).iter().find(|line| line["rule"] == "compute").expect("a line");
    let pieces = api.check_time(&id);
    let ran: u64 = pieces
        .iter()
        .filter(|piece| {
            ["initializing", "running"].contains(&piece["phase"].as_str().expect("a phase"))
        })
        .map(|piece| {
            assert_eq!(piece["policy"], standard, "{piece}");
            piece["duration_ns"].as_u64().expect("nanoseconds")
        })
        .sum();
    // Nothing ran under the new rules, so their minimum is not charged.
    assert_eq!(
        (&compute["quantity"], &compute["billed"]),
        (&json!(ran.to_string()), &json!(ran.to_string()))
    );
    daemon.stop();
    proves(&["verify"], daemon.folder());
}

fn chrono(wall_ns: i64) -> String {
    tallyman::api::model::Timestamp(wall_ns).to_string()
}

#[test]
fn another_policy_for_a_closed_period_is_a_difference_and_no_new_history() {
    let mut daemon = daemon();
    put_prices(daemon.api(), &book());
    let id = lived(daemon.api(), "web");
    let api = daemon.api();
    let ec2 = api.upload(policies::component("ec2")).done()["digest"].clone();
    let invoice = close(api);
    let stored = api.text("/tenants/default/invoices/1");
    let history = api.facts(&id);
    let before = activations(&daemon);

    let until = &invoice["billed"]["until"];
    let asked = json!({"to": until, "policy": ec2, "from": invoice["period"]["from"]});
    let preview = last(&api.post("/tenants/default/invoice/preview", &asked).done());
    let path = "/tenants/default/invoices/1/corrections";
    let wanted = json!({"reason": "minutes were agreed", "policy": ec2});
    let correction = last(&api.post(path, &wanted).done());
    let heading =
        [&correction["number"], &correction["follows"], &correction["overrides"][0]["policy"]];
    assert_eq!(heading, [&json!(2), &json!(1), &ec2]);
    for line in lines(&correction) {
        let was = line["was"].as_str().map_or(0, |was| nanos(&json!(was)));
        assert_eq!(nanos(&line["amount"]), nanos(&line["is"]) - was, "{line}");
    }
    assert_eq!(sum(&correction), sum(&preview), "the difference, and nothing else");
    assert!(sum(&correction) > 0, "a start is a minute at least");

    // Final documents and the history are unchanged.
    assert_eq!(api.text("/tenants/default/invoices/1"), stored);
    assert_eq!((api.facts(&id), activations(&daemon)), (history, before));
    assert_eq!(api.post(path, &wanted).done(), json!({"documents": []}));
    let second = api.text("/tenants/default/invoices/2");
    let period = &invoice["period"];
    let span = json!({"from": period["from"], "until": period["until"], "reason": "they were not"});
    api.post("/tenants/default/invoice/overrides", &span).done();
    let back = last(
        &api.post("/tenants/default/invoice/settle", &json!({"reason": "they were not"})).done(),
    );
    assert_eq!(sum(&back), -sum(&correction));
    assert_eq!(api.text("/tenants/default/invoices/1"), stored);
    assert_eq!(api.text("/tenants/default/invoices/2"), second);
    daemon.stop();
    let proved = proves(&["verify"], daemon.folder());
    assert_eq!(proved["documents"].as_array().map(Vec::len), Some(3));
}

/// Makes everything up to now final while the daemon is down, from the journal alone.
fn close_without_the_daemon(daemon: &Daemon) -> Instant {
    let cache = tempfile::tempdir().expect("a folder");
    let policies = Arc::new(PolicyHost::open(&cache.path().join("compiled")).expect("an engine"));
    let accounting = Arc::new(Accounting::new(policies.clone()));
    let opened = Journal::open(daemon.folder(), journal::Options::default(), accounting)
        .expect("nobody has it");
    let (journal, opened) = opened;
    let tenant = TenantId::default_tenant();
    let until = opened.clock.now();
    let named: Directory =
        Arc::new(|id| Ok(Named { id: id.to_string(), name: "web".into(), tags: Vec::new() }));
    let issuer = Issuer::new(Arc::new(journal), policies);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let heading = Heading::default();
    let act = Act::by(Actor::Operator);
    let issued = issuer.reach(&tenant, Goal::Close(until), &heading, &act, &named);
    assert_eq!(runtime.block_on(issued).expect("documents").len(), 1);
    until
}

#[test]
fn a_late_fact_in_a_closed_period_is_what_a_correction_says() {
    let mut daemon = daemon();
    put_prices(daemon.api(), &book());
    let id = daemon.api().create_running("web");
    daemon.kill();
    end(&daemon, &id);
    // The end is not in the journal yet: the machine is charged as if it ran.
    let until = close_without_the_daemon(&daemon);
    daemon.start_again();
    let api = daemon.api();
    api.wait(&id, "Stopped");
    let (ended, recorded, _) = last_fact(&daemon, &id);
    assert!(
        ended < until.0 && until.0 < recorded,
        "it is no late fact: {ended} {until:?} {recorded}"
    );

    let stored = api.text("/tenants/default/invoices/1");
    let invoice: Value = serde_json::from_str(&stored).expect("JSON");
    let quantity =
        |line: &Value| line["quantity"].as_str().expect("digits").parse::<i64>().expect("digits");
    let compute =
        lines(&invoice).iter().find(|line| line["rule"] == "compute").expect("a line").clone();
    let listed = api.get("/tenants/default/invoices").done()["invoices"].clone();
    assert_eq!(listed[0]["stale"], json!(true));
    let settle = json!({"reason": "it had ended before"});
    let correction = last(&api.post("/tenants/default/invoice/settle", &settle).done());
    let line = lines(&correction).iter().find(|line| line["rule"] == "compute").expect("a line");
    assert_eq!(line["was"], compute["is"]);
    assert_eq!(quantity(&compute) - quantity(line), until.0 - ended);
    assert!(sum(&correction) < 0, "{correction}");
    assert_eq!(api.text("/tenants/default/invoices/1"), stored, "byte for byte");
    daemon.stop();
    let proved = proves(&["verify"], daemon.folder());
    assert_eq!(proved["documents"].as_array().map(Vec::len), Some(2));
}
