//! Networks through naps, restarts of the daemon and deletions.

use std::net::TcpListener;

use serde_json::json;
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
    daemon.api().delete("/instances/web").done();
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
