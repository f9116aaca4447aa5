//! Networks through naps, restarts of the daemon and deletions.

use std::net::TcpListener;

use serde_json::{Value, json};
use tallyman_tests::daemon::Daemon;
use tallyman_tests::deadline::eventually;
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

pub(crate) fn sweeps(_world: &World) {
    // One of the pool's, and one of another's, which may be another daemon's.
    let device = |name: &str| {
        output("ip", &["link", "add", name, "type", "veth", "peer", "name", &format!("p{name}")]);
    };
    device("tally0ad50051");
    device("tally0ad60051");
    let daemon = daemon();
    let names = output("ip", &["-o", "link", "show"]);
    assert!(!names.contains("tally0ad50051") && names.contains("tally0ad60051"), "{names}");
    output("ip", &["link", "delete", "dev", "tally0ad60051"]);
    drop(daemon);
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

/// Prices change at once, by a plan, and with the policy.
pub(crate) fn priced(world: &World) {
    let daemon = daemon();
    daemon.api().put("/tenants/default/prices", &book()).done();
    create(&daemon, "web", "qemu");
    let before = world.seen();
    exchange(&daemon, "web");
    let first = as_seen(world.seen().since(before));
    daemon.api().put("/tenants/default/prices", &named("later-")).done();
    exchange(&daemon, "web");
    let second = as_seen(world.seen().since(before));
    // Planned for an instant that is far enough ahead to be looked out for.
    let at = in_future(15);
    let path = format!("/tenants/default/prices?at={at}");
    daemon.api().put(&path, &named("last-")).done();
    exchange(&daemon, "web");
    let third = as_seen(world.seen().since(before));
    passed(&daemon, "last-");
    exchange(&daemon, "web");
    daemon.api().post("/instances/web/stop", &json!({})).done();
    let all = as_seen(world.seen().since(before));
    let minus = |more: (u64, u64), less: (u64, u64)| (more.0 - less.0, more.1 - less.1);
    assert_eq!(billed_as(&daemon, ""), first);
    assert_eq!(billed_as(&daemon, "later-"), minus(third, first), "{second:?}");
    assert_eq!(billed_as(&daemon, "last-"), minus(all, third));
}

/// An instant to come, as requests have it.
fn in_future(seconds: u64) -> String {
    let at = std::time::SystemTime::now() + std::time::Duration::from_secs(seconds);
    let since = at.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    output("date", &["-u", "-d", &format!("@{}", since.as_secs()), "+%Y-%m-%dT%H:%M:%SZ"])
        .trim()
        .to_owned()
}

/// Waits until a planned book is in force.
fn passed(daemon: &Daemon, prefix: &str) {
    let is_in_force = || {
        let shown = daemon.api().get("/tenants/default/prices").done();
        shown["current"]["text"].as_str().is_some_and(|text| text.contains(prefix))
    };
    eventually("book in force", || is_in_force().then_some(()));
}

/// The usual book, with other rules.
fn named(prefix: &str) -> Value {
    let mut book = book();
    for price in book["prices"].as_array_mut().expect("prices") {
        for name in ["id", "rule"] {
            let plain = price[name].as_str().expect("a text");
            price[name] = format!("{prefix}{plain}").into();
        }
    }
    book
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
    billed_as(daemon, "")
}

/// As [`billed`], by rules with this prefix.
fn billed_as(daemon: &Daemon, prefix: &str) -> (u64, u64) {
    let preview = daemon.api().get("/tenants/default/invoice?to=now").done();
    let of = |rule: &str| {
        let documents = preview["documents"].as_array().expect("documents").iter();
        let lines = documents.flat_map(|document| document["lines"].as_array().expect("lines"));
        let own = lines.filter(|line| line["rule"] == format!("{prefix}{rule}"));
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
