//! What comes to be known late, and rules that change afterwards: what was charged stays as it is, byte for byte.

use std::sync::Arc;

use serde_json::{Value, json};
use tallyman::billing::calendar::Calendar;
use tallyman::clock;
use tallyman::id::TenantId;
use tallyman::invoice::{Evidence, EvidenceError, Heading, Kind, Named, Order, Rater};
use tallyman::journal::{self, Entry, Journal, NewInvoice};
use tallyman::policy::{Accounting, PolicyHost};
use tallyman::tenant::Actor;
use tallyman::units::Instant;
use tallyman_tests::daemon::{Daemon, Handle};
use tallyman_tests::policies;

use crate::daemon;
use crate::invoices::{BOOK, close, lines, lived, nanos, proves, put_prices, sum};

/// Under EC2's rules a start is charged as a minute at least, and sleeping bytes can't be charged for.
fn book() -> String {
    BOOK.replace("standby", "allocated")
}

fn activations(daemon: &Daemon) -> Value {
    daemon.api().get("/journal?kind=policy-activated").done()["facts"].clone()
}

/// The instant of a fact, when it was recorded, and its phase.
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
    let planned = daemon.api().put("/tenants/default/policy", &json!({"digest": ec2, "at": at})).done();
    daemon.kill();
    end(&daemon, &id);
    // The new rules come into force while the daemon is down: what it finds out afterwards is from before.
    while clock::wall_ns() <= begin_ns {
        std::thread::yield_now();
    }
    daemon.start_again();
    let api = daemon.api();
    api.wait(&id, "Stopped");
    let (ended, recorded, phase) = last_fact(&daemon, &id);
    let from = planned["from_ns"].as_i64().expect("nanoseconds");
    assert_eq!(phase, json!("stopped"));
    assert!(ended < from && from < recorded, "it is no late fact: {ended} {from} {recorded}");

    let invoice = close(api);
    let receipts = invoice["receipts"].as_array().expect("receipts");
    let parts: Vec<_> = receipts.iter().map(|receipt| (&receipt["policy"], &receipt["from_ns"])).collect();
    assert_eq!(parts, [(&standard, &invoice["from_ns"]), (&ec2, &planned["from_ns"])]);
    let of = |receipt: u64| {
        let compute = lines(&invoice).iter().filter(|line| line["rule"] == "compute");
        compute.filter(|line| line["receipt"] == json!(receipt)).collect::<Vec<_>>()
    };
    let [line] = of(0)[..] else { panic!("{invoice}") };
    let pieces = api.check_time(&id);
    let ran: u64 = pieces
        .iter()
        .filter(|piece| ["initializing", "running"].contains(&piece["phase"].as_str().expect("a phase")))
        .map(|piece| {
            assert_eq!(piece["policy"], standard, "{piece}");
            piece["duration_ns"].as_u64().expect("nanoseconds")
        })
        .sum();
    assert_eq!((&line["quantity"], &line["billed"]), (&json!(ran.to_string()), &json!(ran.to_string())));
    assert_eq!(of(1), Vec::<&Value>::new(), "nothing ran any more under the new rules");
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
    let (history, before) = (api.facts(&id), activations(&daemon));

    let path = "/tenants/default/invoices/1/corrections";
    let wanted = json!({"reason": "minutes were agreed", "policy": ec2});
    let correction = api.post(path, &wanted).done();
    let heading = [&correction["number"], &correction["corrects"], &correction["reason"], &correction["policy"]];
    assert_eq!(heading, [&json!(2), &json!(1), &json!("minutes were agreed"), &ec2]);
    // Each line that no longer holds is taken back by its place, and a new one stands for it, with a receipt of the other policy.
    let (reversals, new): (Vec<_>, Vec<_>) = lines(&correction).iter().partition(|line| line["kind"] == "reversal");
    assert!(!reversals.is_empty() && !new.is_empty(), "{correction}");
    for line in &reversals {
        let place = line["reverses"].as_str().expect("a place").strip_prefix("1/").expect("of invoice 1");
        let taken_back = &lines(&invoice)[place.parse::<usize>().expect("a number") - 1];
        assert_eq!(nanos(&line["amount"]), -nanos(&taken_back["amount"]));
        assert_eq!((&line["quantity"], &line["facts"]), (&taken_back["quantity"], &taken_back["facts"]));
    }
    for line in &new {
        let receipt = usize::try_from(line["receipt"].as_u64().expect("a receipt")).expect("few");
        assert_eq!((&correction["receipts"][receipt]["policy"], &line["reverses"]), (&ec2, &Value::Null));
    }
    let preview = api.get(&format!(
        "/tenants/default/invoice?from={}&to={}&policy={}",
        invoice["from"].as_str().expect("an instant"),
        invoice["until"].as_str().expect("an instant"),
        ec2.as_str().expect("a digest")
    ));
    assert_eq!(sum(&correction), sum(&preview.done()) - sum(&invoice), "the difference, and nothing else");
    assert!(sum(&correction) > 0, "a start is a minute at least");

    // What was final is what it was, and so is history.
    assert_eq!(api.text("/tenants/default/invoices/1"), stored);
    assert_eq!((api.facts(&id), activations(&daemon)), (history, before));
    api.post(path, &wanted).refused(409, "nothing_to_correct", "the same again");
    let (second, back) = (api.text("/tenants/default/invoices/2"), json!({"reason": "they were not"}));
    assert_eq!(sum(&api.post(path, &back).done()), -sum(&correction));
    assert_eq!(api.text("/tenants/default/invoices/1"), stored);
    assert_eq!(api.text("/tenants/default/invoices/2"), second);
    daemon.stop();
    let proved = proves(&["verify"], daemon.folder());
    assert_eq!(proved["documents"].as_array().map(Vec::len), Some(3));
}

/// Makes everything up to now final while the daemon is down, by what the journal knows.
fn close_without_the_daemon(daemon: &Daemon) -> Instant {
    let cache = tempfile::tempdir().expect("a folder");
    let policies = Arc::new(PolicyHost::open(&cache.path().join("compiled")).expect("an engine"));
    let accounting = Arc::new(Accounting::new(policies.clone()));
    let opened = Journal::open(daemon.folder(), journal::Options::default(), accounting).expect("nobody has it");
    let (journal, opened) = opened;
    let (archive, tenant) = (journal.archive(), TenantId::default_tenant());
    let stored = archive.instances_of(&tenant).expect("instances").remove(0);
    let from = archive.history(&stored.id).expect("facts")[0].1.at.meter;
    let (until, as_of) = (opened.clock.now(), archive.head().expect("a head"));
    let order = Order { tenant: tenant.clone(), from, until, as_of, policy: None, book: None };
    let named = |id: &_| -> Result<Named, EvidenceError> {
        Ok(Named { id: tallyman::id::InstanceId::to_string(id), name: "web".into(), tags: Vec::new() })
    };
    let heading = Heading { number: Some(1), kind: Kind::Invoice, ..Heading::PREVIEW };
    let invoice = Rater::new(&archive, &policies, &named).invoice(&order, heading).expect("an invoice");
    let (digest, bytes, by) = (invoice.digest(), invoice.to_bytes(), Actor::Operator);
    let new = NewInvoice { tenant, number: 1, digest, bytes, from, until, corrects: None, by };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(journal.commit(Entry { invoice: Some(new), ..Entry::default() })).expect("durable");
    let calendar: Calendar = Evidence::calendar(&archive, u64::MAX).expect("a calendar");
    assert_eq!(calendar.offsets().len(), 1, "no step of the clock");
    until
}

#[test]
fn a_late_fact_in_a_closed_period_is_what_a_correction_says() {
    let mut daemon = daemon();
    put_prices(daemon.api(), &book());
    let id = daemon.api().create_running("web");
    daemon.kill();
    end(&daemon, &id);
    // Nobody has told the journal yet: the machine is charged as if it ran.
    let until = close_without_the_daemon(&daemon);
    daemon.start_again();
    let api = daemon.api();
    api.wait(&id, "Stopped");
    let (ended, recorded, _) = last_fact(&daemon, &id);
    assert!(ended < until.0 && until.0 < recorded, "it is no late fact: {ended} {until:?} {recorded}");

    let stored = api.text("/tenants/default/invoices/1");
    let invoice: Value = serde_json::from_str(&stored).expect("JSON");
    let quantity = |line: &Value| line["quantity"].as_str().expect("digits").parse::<i64>().expect("digits");
    let compute = lines(&invoice).iter().find(|line| line["rule"] == "compute").expect("a line").clone();
    let path = "/tenants/default/invoices/1/corrections";
    let correction = api.post(path, &json!({"reason": "it had ended before"})).done();
    let rows: Vec<_> = lines(&correction).iter().filter(|line| line["rule"] == "compute").collect();
    let [back, new] = rows[..] else { panic!("{correction}") };
    assert_eq!((&back["kind"], &back["reverses"]), (&json!("reversal"), &json!(format!("1/{}", compute["number"]))));
    assert_eq!(nanos(&back["amount"]), -nanos(&compute["amount"]));
    assert_eq!((&new["kind"], quantity(&compute) - quantity(new)), (&json!("usage"), until.0 - ended));
    assert!(sum(&correction) < 0, "{correction}");
    assert_eq!(api.text("/tenants/default/invoices/1"), stored, "byte for byte");
    daemon.stop();
    let proved = proves(&["verify"], daemon.folder());
    assert_eq!(proved["documents"].as_array().map(Vec::len), Some(2));
}
