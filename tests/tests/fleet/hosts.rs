//! Real hosts with real machines, a real collector, and kills in the middle.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tallyman::journal;
use tallyman_tests::daemon::{Api, Daemon};
use tallyman_tests::deadline::eventually;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_daemon");

const BOOK: &str = r#"{"currency": "EUR", "prices": [
    {"id": "run", "rule": "run", "meter": "active", "per": "instance-second", "price": "1",
     "scope": "tenant"}]}"#;

fn token(collector: &Daemon, host: &str) -> String {
    let asked = json!({"name": host, "role": "host"});
    let made = collector.api().post("/tokens", &asked).done();
    made["secret"].as_str().expect("a secret").to_owned()
}

/// The collector's row of a host; null if there is none.
fn row(api: &Api, host: &str) -> Value {
    let hosts = api.get("/fleet/hosts").done()["hosts"].clone();
    let mut rows = hosts.as_array().expect("hosts").iter();
    rows.find(|row| row["name"] == host).cloned().unwrap_or_default()
}

/// Asks until the row of a host is as wanted.
fn until(api: &Api, host: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    eventually("such row of the host", || Some(row(api, host)).filter(&is_there))
}

/// Waits until the collector has all facts that a host has now.
fn caught_up(collector: &Daemon, host: &Daemon, name: &str) {
    let seq = host.api().get("/journal/head").done()["seq"].clone();
    until(collector.api(), name, |row| row["facts"].as_u64() >= seq.as_u64());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    // Compiled code is made again, and images are no part of a backup.
    let is_made = |name: &std::ffi::OsStr| name == "cache" || name == "images";
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        if is_made(&entry.file_name()) {
            continue;
        }
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

/// Nanoseconds of a tenant's `active` time by the preview of a daemon up to an instant.
fn active(api: &Api, to: &str) -> i128 {
    let documents = api.get(&format!("/tenants/default/invoice?to={to}")).done();
    let documents = documents["documents"].as_array().expect("documents").clone();
    let lines = documents.iter().flat_map(|one| one["lines"].as_array().expect("lines").clone());
    lines.map(|line| line["quantity"].as_str().expect("digits").parse::<i128>().expect("ns")).sum()
}

#[test]
fn three_hosts_and_their_collector_survive_kills_and_a_day_apart() {
    let mut collector = Daemon::collector(PROGRAM);
    let url = collector.api().url().to_owned();
    let book: Value = serde_json::from_str(BOOK).expect("JSON");
    collector.api().put("/tenants/default/prices", &book).done();
    let names = ["h1", "h2", "h3"];
    let mut hosts = names.map(|name| {
        let folder = TempDir::new().expect("a folder");
        Daemon::host(PROGRAM, folder, &url, &token(&collector, name))
    });
    // Prices of each host's own, for its own preview.
    hosts.iter().for_each(|host| drop(host.api().put("/tenants/default/prices", &book).done()));

    let ids = [hosts[0].api().create_running("a"), hosts[1].api().create_running("b")];
    caught_up(&collector, &hosts[0], "h1");
    let row = until(collector.api(), "h1", |row| row["behind"] == 0);
    assert!(row["clock_ahead_ns"].as_i64().expect("a number").abs() < 1_000_000_000, "{row}");

    // The collector is killed: nothing on the host waits for it.
    collector.kill();
    hosts[0].api().post(&format!("/instances/{}/stop", ids[0]), &json!({})).done();
    let third = hosts[2].api().create_running("c");
    // A host is killed while it has facts that nobody else has.
    hosts[1].kill();
    collector.start_where_it_was();
    hosts[1].start_again();
    hosts[1].api().wait(&ids[1], "Running");
    hosts[1].api().post(&format!("/instances/{}/stop", ids[1]), &json!({})).done();
    hosts[2].api().post(&format!("/instances/{third}/stop"), &json!({})).done();
    for (host, name) in hosts.iter().zip(names) {
        caught_up(&collector, host, name);
        let head = host.api().get("/journal/head").done();
        let row = until(collector.api(), name, |row| row["facts"] == head["seq"]);
        assert_eq!(row["hash"], head["hash"], "the same chain");
    }

    // One bill: all that ran is over, so that each host's own preview is its whole part.
    let mine: i128 = hosts.iter().map(|host| active(host.api(), "now")).sum();
    let ours = active(collector.api(), "now");
    assert!(ours > 0);
    assert_eq!(ours, mine, "the sum of all hosts, to the nanosecond");
    let preview = collector.api().get("/tenants/default/invoice").done();
    let instances = preview["documents"][0]["instances"].as_array().expect("instances").clone();
    let mut said: Vec<_> =
        instances.iter().map(|one| one["name"].as_str().expect("a name")).collect();
    said.sort_unstable();
    assert_eq!(said, ["a", "b", "c"]);

    // A host does not bill for itself.
    let close = json!({"to": "now", "at_once": true});
    hosts[0].api().post("/tenants/default/invoice/close", &close).refused(
        409,
        "billed_by_collector",
        &url,
    );
    // A close waits for a host that is not heard, and names it.
    hosts[2].kill();
    until(collector.api(), "h1", |row| row["behind"] == 0);
    let gone = json!({"to": "now", "at_once": false});
    let missing = token(&collector, "h4");
    collector.api().post("/tenants/default/invoice/close", &gone).refused(
        409,
        "unsettled",
        "host h4 (never heard)",
    );
    drop(missing);
    let closed = collector.api().post("/tenants/default/invoice/close", &close).done();
    let unsettled = closed["documents"][0]["unsettled"].to_string();
    assert!(unsettled.contains("host h3 (heard up to"), "{unsettled}");

    collector.stop();
    for name in names {
        let folder = journal::hosts_folder(collector.folder()).join(name);
        journal::verify(&folder, |_, _| ()).expect("the copy is a sound journal");
    }
    journal::verify(collector.folder(), |_, _| ()).expect("a sound journal");
    // The bill can be made again from the collector's folder alone.
    let proved = collector.command(&["verify", "--json"]).output().expect("run");
    assert!(proved.status.success(), "{}", String::from_utf8_lossy(&proved.stderr));
}

#[test]
fn a_restored_backup_is_refused_by_name() {
    let collector = Daemon::collector(PROGRAM);
    let url = collector.api().url().to_owned();
    let secret = token(&collector, "h1");
    let folder = TempDir::new().expect("a folder");
    let mut host = Daemon::host(PROGRAM, folder, &url, &secret);
    caught_up(&collector, &host, "h1");
    host.stop();
    let backup = TempDir::new().expect("a folder");
    copy(host.folder(), backup.path());
    host.start_again();
    caught_up(&collector, &host, "h1");
    host.stop();
    let before = row(collector.api(), "h1");

    let mut restored = Daemon::host(PROGRAM, backup, &url, &secret);
    let row = until(collector.api(), "h1", |row| row["trouble"].is_string());
    let trouble = row["trouble"].as_str().expect("a reason");
    assert!(trouble.contains("host 'h1' is refused"), "{trouble}");
    assert_eq!((&row["facts"], &row["hash"]), (&before["facts"], &before["hash"]));
    // Its machines go on all the same.
    restored.api().create_running("a");
    restored.stop();
}

#[test]
fn only_hosts_hand_over_facts_and_only_to_a_collector() {
    let collector = Daemon::collector(PROGRAM);
    let batch = json!({"form": 1, "after": {"seq": 0, "hash": "0".repeat(64)}, "facts": [],
        "instances": [], "end": {"seq": 0, "hash": "0".repeat(64)},
        "clock": {"boot": "b", "boottime_ns": 0, "wall_ns": 0, "meter_ns": 0}});
    collector.api().post("/fleet/facts", &batch).refused(400, "invalid", "a token of its own");
    let host = collector.api().with_token(&token(&collector, "h1"));
    assert_eq!(host.post("/fleet/facts", &batch).done()["head"]["seq"], 0);
    host.get("/fleet/hosts").refused(403, "forbidden", "host");
    host.get("/instances").refused(403, "forbidden", "host");
    let name = json!({"name": "Not a host", "role": "host"});
    collector.api().post("/tokens", &name).refused(400, "invalid", "a host's name");
    let mut odd = batch.clone();
    odd["form"] = json!(2);
    host.post("/fleet/facts", &odd).refused(400, "invalid", "form 2");
    // A fact that is none is refused as a whole, and nothing of it stays.
    let mut bad = batch;
    bad["facts"] = json!(["{}"]);
    bad["end"]["seq"] = json!(1);
    host.post("/fleet/facts", &bad).refused(409, "damaged_facts", "h1");
    assert_eq!(row(collector.api(), "h1")["facts"], 0);
    let created = json!({"name": "a", "image": "tiny"});
    let refused = collector.api().post("/instances", &created);
    assert!((400..500).contains(&refused.status), "a collector runs nothing: {refused:?}");
}
