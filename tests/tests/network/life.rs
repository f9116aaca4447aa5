//! Networks through naps, restarts of the daemon and deletions.

use std::net::TcpListener;

use serde_json::{Value, json};
use tallyman_tests::daemon::Daemon;
use tallyman_tests::linux;

use crate::PROGRAM;
use crate::guest::{create, daemon, run, runs, says, traffic};
use crate::world::{SINK, Seen, WORLD, World, output};

const BYTES: u64 = 1_000_000;

/// A port that is closed at first.
const GATE: u16 = 82;

/// Exchanges bytes with the world, and fails unless that many arrive.
fn exchange(daemon: &Daemon, name: &str) {
    let script = format!("wget -q -O - http://{WORLD}/{BYTES} | wc -c");
    assert_eq!(says(daemon, name, &script).trim(), BYTES.to_string());
    let script = format!("head -c {BYTES} /dev/zero | nc {WORLD} {SINK}");
    assert_eq!(says(daemon, name, &script).trim(), BYTES.to_string());
}

/// The traffic of an instance as the world has seen it.
fn as_seen(seen: Seen) -> (u64, u64) {
    (seen.sent_bytes, seen.received_bytes)
}

pub(crate) fn survives(world: &World) {
    let mut daemon = daemon();
    daemon.api().put("/tenants/default/prices", &book()).done();
    let before = world.seen();
    let address = create(&daemon, "web", "qemu");
    exchange(&daemon, "web");
    let seen = world.seen().since(before);
    assert!(seen.sent_bytes > BYTES && seen.sent_packets > BYTES / 1_448, "{seen:?}");
    assert_eq!(traffic(&daemon, "web"), as_seen(seen));
    daemon.kill();
    daemon.start_again();
    runs(&daemon, "web");
    exchange(&daemon, "web");
    assert_eq!(traffic(&daemon, "web"), as_seen(world.seen().since(before)), "a restart");
    daemon.api().post("/instances/web/standby", &json!({})).done();
    assert_eq!(traffic(&daemon, "web"), as_seen(world.seen().since(before)), "a nap");
    assert!(!output("ip", &["-o", "link", "show"]).contains(": tally"), "nobody is there");
    let woken = daemon.api().post("/instances/web/restore", &json!({})).done();
    assert_eq!(woken["network"]["ip"], json!(address));
    assert_eq!(billed(&daemon), as_seen(world.seen().since(before)), "up to the nap");
    exchange(&daemon, "web");
    assert_eq!(traffic(&daemon, "web"), as_seen(world.seen().since(before)), "after the nap");
    ends_unseen(&mut daemon, world, before);
}

/// The machine ends while no daemon is there to see it.
fn ends_unseen(daemon: &mut Daemon, world: &World, before: Seen) {
    // It waits until the daemon is gone: then the world opens a gate.
    let script = format!(
        "(until nc {WORLD} {GATE}; do usleep 100000; done
          head -c {BYTES} /dev/zero | nc {WORLD} {SINK}; poweroff -f) </dev/null >/dev/null 2>&1 &"
    );
    says(daemon, "web", &script);
    daemon.kill();
    let gate = world.inside(|| TcpListener::bind((WORLD, GATE)).expect("a port of ours"));
    drop(gate.accept().expect("the guest knocks"));
    let machines: Vec<_> = daemon.machines().into_iter().collect();
    machines.into_iter().map(tallyman_tests::daemon::Handle::of).for_each(|one| one.wait());
    daemon.start_again();
    daemon.api().get("/instances/web/wait?state=Stopped&timeout=55s").done();
    let seen = world.seen().since(before);
    assert_eq!(traffic(daemon, "web"), as_seen(seen), "an end that nobody saw");
    assert!(seen.received_bytes > 4 * BYTES, "{seen:?}");
    assert_eq!(billed(daemon), as_seen(seen), "what is billed is what the world has seen");
    daemon.api().delete("/instances/web").done();
    assert_eq!(billed(daemon), as_seen(seen), "deleted");
    let close = json!({"to": "now", "at_once": true});
    daemon.api().post("/tenants/default/invoice/close", &close).done();
    let output = daemon.cli(&["verify", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn without_a_pool(_world: &World) {
    let daemon = Daemon::start(PROGRAM);
    daemon.api().post("/images", &linux::import("linux")).done();
    let new = json!({"name": "web", "image": "linux", "network": {"enabled": true}});
    daemon.api().post("/instances", &new).refused(409, "unsupported", "--network-pool");
    let new = json!({"name": "web", "image": "linux"});
    let created = daemon.api().post("/instances", &new).done();
    assert_eq!(created["network"], json!({"enabled": false}));
    runs(&daemon, "web");
    let output = run(&daemon, "web", "ls /sys/class/net");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "lo");
}

/// A price for a kilobyte in, and another one for one out.
fn book() -> Value {
    let price = |rule: &str, per: &str, price: &str| {
        let meter = "allocated";
        json!({"id": rule, "rule": rule, "meter": meter, "per": per, "price": price})
    };
    let prices = [price("in", "network-in-kB", "0.01"), price("out", "network-out-kB", "0.1")];
    json!({"currency": "EUR", "prices": prices})
}

/// The quantities of a bill's lines, by rule: bytes in and out.
fn billed(daemon: &Daemon) -> (u64, u64) {
    let preview = daemon.api().get("/tenants/default/invoice?to=now").done();
    let of = |rule: &str| {
        let documents = preview["documents"].as_array().expect("documents").iter();
        let lines = documents.flat_map(|document| document["lines"].as_array().expect("lines"));
        let own = lines.filter(|line| line["rule"] == rule);
        own.map(|line| line["quantity"].as_str().expect("a text").parse::<u64>().expect("bytes"))
            .sum()
    };
    (of("in"), of("out"))
}

pub(crate) fn forks(_world: &World) {
    let daemon = daemon();
    let address = create(&daemon, "web", "qemu");
    exchange(&daemon, "web");
    let fork = json!({"name": "twin", "from_running": true, "target_state": "Running"});
    let twin = daemon.api().post("/instances/web/fork", &fork).done();
    let own = twin["network"]["ip"].as_str().expect("an address").to_owned();
    assert_ne!(own, address);
    for (name, address) in [("twin", &own), ("web", &address)] {
        exchange(&daemon, name);
        let told = says(&daemon, name, "ip -4 -o address show dev eth0");
        assert!(told.contains(&format!(" {address}/31 ")), "{name}: {told}");
        assert_eq!(told.lines().count(), 1, "{name}: {told}");
    }
    daemon.api().post("/instances/twin/standby", &json!({})).done();
    daemon.api().post("/instances/twin/restore", &json!({})).done();
    exchange(&daemon, "twin");
}

pub(crate) fn limits(world: &World) {
    let daemon = daemon();
    let network = json!({"bandwidth_upload": "4Mbps", "bandwidth_download": "500KB/s"});
    let new = json!({"name": "web", "image": "linux", "network": network});
    let created = daemon.api().post("/instances", &new).done();
    let shown = &created["network"];
    assert_eq!(
        (&shown["bandwidth_upload"], &shown["bandwidth_download"]),
        (&json!("4Mbps"), &json!("4Mbps"))
    );
    runs(&daemon, "web");
    let before = world.seen();
    exchange(&daemon, "web");
    let seen = world.seen().since(before);
    let (received, sent) = traffic(&daemon, "web");
    assert!(received < seen.sent_bytes, "nothing was dropped: {received} of {seen:?}");
    assert_eq!(sent, seen.received_bytes, "what was dropped on its way out is not counted");
    let new = json!({"name": "other", "image": "linux", "network": {"bandwidth_upload": "1bps"}});
    daemon.api().post("/instances", &new).refused(400, "invalid", "network.bandwidth_upload");
}
