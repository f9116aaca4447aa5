//! One tenant that asks for everything at once, and what another one notices of it; the processor
//! time of an idle daemon; a backup beside a plain copy.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant as Timer};

use serde_json::{Value, json};
use tallyman::journal::backup;
use tallyman_tests::daemon::{Api, Daemon};

use crate::durable::populate;
use crate::measure::{Line, Report, median, nanos, percentile};

const PROGRAM: &str = env!("CARGO_BIN_EXE_daemon");
/// Requests of each kind that the other tenant makes, at rest and beside the hostile one.
const ASKED: usize = 200;
/// Standbys of the other tenant.
const STANDBYS: usize = 60;
/// Connections that the hostile one opens and leaves.
const IDLE: usize = 900;
/// Logs that it follows.
const FOLLOWERS: usize = 122;
/// Threads that ask as fast as they are answered.
const THREADS: usize = 4;
/// Time over which the idle daemon is watched.
const WATCHED: Duration = Duration::from_secs(30);
const INSTANCES: usize = 10_000;

/// A book of 1 MiB whose windows overlap as much as they may.
fn large_book() -> Value {
    let windows: Vec<Value> = (0..1_000)
        .map(|number| {
            json!({"id": format!("p{number}"), "rule": "r", "meter": "active", "per": "vcpu-hour",
                   "price": "1"})
        })
        .collect();
    json!({"currency": "EUR", "prices": windows})
}

/// One thread of the hostile tenant, which asks for one kind of thing until `over` is set.
fn asks(api: &Api, id: &str, kind: usize, over: &AtomicBool) {
    let component = tallyman_tests::policies::component("ec2");
    while !over.load(Ordering::Relaxed) {
        match kind % 4 {
            0 => drop(api.get("/instances")),
            1 => drop(api.put("/tenants/self/prices", &large_book())),
            2 => drop(api.upload(component.clone())),
            _ => {
                drop(api.act(&format!("/instances/{id}/pause")));
                drop(api.act(&format!("/instances/{id}/resume")));
                drop(api.get("/tenants/self/invoice"));
            }
        }
    }
}

/// Connections that follow a log and read nothing.
fn followers(api: &Api, id: &str, address: &str) -> Vec<TcpStream> {
    let followed = format!(
        "GET /instances/{id}/logs?follow=true HTTP/1.1\r\nhost: x\r\n\
         authorization: Bearer {}\r\n\r\n",
        api.secret()
    );
    let follow = |_| {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(followed.as_bytes()).ok()?;
        Some(stream)
    };
    (0..FOLLOWERS).filter_map(follow).collect()
}

/// The hostile tenant: everything at once, until `over` is set.
fn hostile(api: &Api, address: &str, over: &AtomicBool) {
    let idle: Vec<_> = (0..IDLE).filter_map(|_| TcpStream::connect(address).ok()).collect();
    let id = api.create("hostile");
    let followers = followers(api, &id, address);
    thread::scope(|scope| {
        for kind in 0..THREADS {
            let id = &id;
            scope.spawn(move || asks(api, id, kind, over));
        }
    });
    drop((idle, followers));
}

/// The 99th percentile of a GET, a standby and a preview of one tenant, in nanoseconds.
fn asked(api: &Api, id: &str) -> [f64; 3] {
    let timed = |times: usize, work: &dyn Fn()| {
        let mut lengths = Vec::new();
        for _ in 0..times {
            let begin = Timer::now();
            work();
            lengths.push(begin.elapsed().as_nanos() as f64);
            // A tenant within its rate.
            thread::sleep(Duration::from_millis(10));
        }
        percentile(&mut lengths, 99)
    };
    let get = timed(ASKED, &|| drop(api.get(&format!("/instances/{id}")).done()));
    let standby = timed(STANDBYS, &|| {
        api.command(id, "standby");
        api.command(id, "restore");
    });
    let preview = timed(ASKED, &|| drop(api.get("/tenants/self/invoice").done()));
    [get, standby, preview]
}

fn two_tenants(report: &mut Report) {
    let daemon = Daemon::start(PROGRAM);
    let operator = daemon.api();
    let first = operator.tenant("hostile", "tenant-admin");
    operator.patch("/tenants/hostile/limits", &json!({"requests_per_s": null})).done();
    let other = operator.tenant("other", "tenant-admin");
    let id = other.create_running("other");
    let quiet = asked(&other, &id);
    let over = AtomicBool::new(false);
    let beside = thread::scope(|scope| {
        let address = operator.url().trim_start_matches("http://");
        let hostile = scope.spawn(|| hostile(&first, address, &over));
        let beside = asked(&other, &id);
        over.store(true, Ordering::Relaxed);
        hostile.join().unwrap();
        beside
    });
    let names = ["GET of an instance", "standby and restore, 16 MiB", "preview"];
    let rows = names.into_iter().zip(quiet.into_iter().zip(beside));
    let lines = rows.map(|(what, (quiet, beside))| Line {
        what: format!("{what}, p99"),
        ours: nanos(beside),
        peer: nanos(quiet),
        ratio: format!("{:.2}", beside / quiet),
        goal: "at most 2".into(),
        holds: Some(beside <= 2.0 * quiet),
    });
    let title = "A tenant beside one that asks for everything at once; peer: the same at rest";
    report.table(title, lines.collect());
}

/// Processor time of a process so far.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn idle(report: &mut Report) {
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    populate(folder.path(), INSTANCES);
    let daemon = Daemon::on(PROGRAM, folder);
    thread::sleep(Duration::from_secs(3));
    let before = cpu(daemon.pid());
    thread::sleep(WATCHED);
    let used = cpu(daemon.pid()) - before;
    let permille = used.as_secs_f64() / WATCHED.as_secs_f64() * 1e3;
    let line = Line::alone(
        "processor time of a daemon at rest",
        format!("{:.2} % of a core", permille / 10.0),
        "under 0.5 %",
        permille < 5.0,
    );
    report.table("At rest, 10,000 instances", vec![line]);
}

/// Seconds that a plain copy takes, synced.
fn copied(from: &Path, to: &Path) -> f64 {
    let begin = Timer::now();
    std::fs::copy(from, to).unwrap();
    std::fs::File::open(to).unwrap().sync_all().unwrap();
    let lasted = begin.elapsed().as_secs_f64();
    std::fs::remove_file(to).unwrap();
    lasted
}

fn copies(report: &mut Report) {
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    let data = folder.path().join("data");
    crate::journal::fill_folder(&data);
    let to = folder.path().join("copy.db");
    let rounds = 3;
    let mut ours = Vec::new();
    let mut plain = Vec::new();
    for _ in 0..rounds {
        plain.push(copied(&data.join("tallyman.db"), &to));
        let begin = Timer::now();
        backup(&data, &to).unwrap();
        ours.push(begin.elapsed().as_secs_f64());
        std::fs::remove_file(&to).unwrap();
    }
    let ours = median(&mut ours);
    let plain = median(&mut plain);
    let line = Line {
        what: "backup, verified".into(),
        ours: format!("{ours:.2} s"),
        peer: format!("{plain:.2} s"),
        ratio: format!("{:.2}", ours / plain),
        goal: "at most 1.5".into(),
        holds: Some(ours <= 1.5 * plain),
    };
    report.table("A copy of 1,000,000 facts; peer: a plain copy, synced", vec![line]);
}

pub(crate) fn run(report: &mut Report) {
    two_tenants(report);
    idle(report);
    copies(report);
}
