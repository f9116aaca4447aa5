//! Networks of guests, beside the same devices without our rules; and all counters of a host.

use std::net::Ipv4Addr;
use std::time::Instant;

use serde_json::json;
use tallyman::network::{HostNetworks, Networks, Plan, Pool, Settings};
use tallyman_tests::daemon::Daemon;

use super::world::{HOST, WORLD, World, output};
use super::{create, daemon};
use crate::measure::{Line, median, nanos};

/// Guests whose counters are read.
const GUESTS: u32 = 1_000;

/// Bytes of one transfer, and transfers each way.
const BYTES: u64 = 32 << 20;
const ROUNDS: usize = 5;

pub(super) fn lines(world: &World) -> Vec<Line> {
    let mut lines = throughput(world);
    lines.extend(counters());
    lines
}

/// Nanoseconds of a transfer to a guest.
fn transfer(daemon: &Daemon) -> f64 {
    let script = format!("wget -q -O - http://{WORLD}/{BYTES} | wc -c");
    let begin = Instant::now();
    let words = ["instance", "exec", "web", "--", "sh", "-c", &script];
    let done = daemon.client(&words).output().unwrap();
    let took = begin.elapsed().as_nanos() as f64;
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), BYTES.to_string());
    took
}

fn throughput(world: &World) -> Vec<Line> {
    let daemon = daemon(&["--network-pool", "10.213.0.0/24", "--network-dns", "192.0.2.53"]);
    let created = create(&daemon, "web", json!({}));
    world.inside(|| output("ip", &["route", "replace", "10.213.0.0/24", "via", HOST]));
    let mut with: Vec<_> = (0..ROUNDS).map(|_| transfer(&daemon)).collect();
    let id = created["id"].as_str().unwrap();
    let pid = daemon.machines_of(id)[0].as_raw_nonzero().get();
    output("nsenter", &["-t", &pid.to_string(), "-n", "nft", "flush", "ruleset"]);
    output("nft", &["flush", "ruleset"]);
    let mut without: Vec<_> = (0..ROUNDS).map(|_| transfer(&daemon)).collect();
    let ours = median(&mut with);
    let bare = median(&mut without);
    let rate = |ns: f64| format!("{:.1} MB/s", BYTES as f64 * 1e3 / ns);
    vec![Line {
        what: "throughput to a guest; peer: the same devices without our rules".into(),
        ours: rate(ours),
        peer: rate(bare),
        ratio: format!("{:.2}x", bare / ours),
        goal: "at least 0.9x".into(),
        holds: Some(bare / ours >= 0.9),
    }]
}

fn counters() -> Vec<Line> {
    let pool: Pool = "10.214.0.0/16".parse().unwrap();
    let settings = Settings { pool, name_servers: Vec::new(), open: Vec::new() };
    let networks = HostNetworks::new(settings, rustix::process::geteuid().as_raw()).unwrap();
    let first = pool.network().network().to_bits() + 1;
    let plans = (0..GUESTS).map(|number| Plan {
        address: Ipv4Addr::from_bits(first + 2 * number),
        upload_bytes_max: None,
        download_bytes_max: None,
        allowed: None,
    });
    let links: Vec<_> = plans.map(|plan| networks.make(&plan).unwrap()).collect();
    let mut read: Vec<_> = (0..10)
        .map(|_| {
            let begin = Instant::now();
            for link in &links {
                std::hint::black_box(link.traffic().unwrap());
            }
            begin.elapsed().as_nanos() as f64
        })
        .collect();
    let took = median(&mut read);
    let what = format!("counters of {GUESTS} guests, read one after another");
    vec![Line::alone(what, nanos(took), "under 20 ms", took < 20e6)]
}
