//! What Tallyman adds to the hypervisor's own calls, over HTTP, with every intent and fact durable. Real machines on both sides.

mod bare;
mod client;

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant as Timer;

use serde_json::{Value, json};
use tallyman::runtime::{Daemon, Options};
use tallyman_tests::{guest, machine};
use tokio::task::{JoinSet, spawn_blocking};

use self::bare::{Bare, From};
use self::client::Client;
use crate::measure::{Line, Report, median, nanos};

const TOKEN: &str = "bench";
const ROUNDS: usize = 40;
/// Machines that are created, and how many at a time.
const MACHINES: usize = 200;
const AT_ONCE: usize = 8;
const FORKS: usize = 25;
/// Guests that are nearly idle, so that what is measured is not what they say.
const CMDLINE: &str = "beat=1000";

/// A daemon in this process, and a client for what is not measured by the microsecond.
struct Served {
    address: SocketAddr,
    http: reqwest::Client,
}

impl Served {
    async fn ask(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let asked = self.http.request(method, format!("http://{}{path}", self.address)).bearer_auth(TOKEN).json(&body);
        let answer = asked.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(reqwest::Method::POST, path, body).await
    }

    async fn create(&self, name: &str) {
        self.post("/instances", json!({"name": name, "image": "tiny", "cmdline": CMDLINE})).await;
    }

    async fn delete(&self, name: &str) {
        self.ask(reqwest::Method::DELETE, &format!("/instances/{name}?grace_ms=0"), json!({})).await;
    }
}

/// Nanoseconds of `work`.
async fn timed<T>(work: impl Future<Output = T>) -> (f64, T) {
    let begin = Timer::now();
    let done = work.await;
    (begin.elapsed().as_nanos() as f64, done)
}

/// Nanoseconds of blocking `work`.
fn timed_blocking<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begin = Timer::now();
    let done = work();
    (begin.elapsed().as_nanos() as f64, done)
}

/// One operation: ours and the peer's times, round by round.
#[derive(Default)]
struct Pair {
    ours: Vec<f64>,
    bare: Vec<f64>,
}

impl Pair {
    fn line(mut self, what: &str, syncs: &str, commit: f64) -> Line {
        let (ours, bare) = (median(&mut self.ours), median(&mut self.bare));
        let limit = bare + 1e6 + commit;
        Line {
            what: format!("{what}; {syncs}"),
            ours: nanos(ours),
            peer: nanos(bare),
            ratio: format!("{:+.2} ms", (ours - bare) / 1e6),
            goal: format!("adds under {}", nanos(1e6 + commit)),
            holds: Some(ours <= limit),
        }
    }

    fn times(mut self, what: String, goal: f64) -> Line {
        let (ours, bare) = (median(&mut self.ours), median(&mut self.bare));
        Line {
            what,
            ours: nanos(ours),
            peer: nanos(bare),
            ratio: format!("{:.2}x", ours / bare),
            goal: format!("at most {goal}x"),
            holds: Some(ours <= goal * bare),
        }
    }
}

/// Appends what a commit writes and syncs it: nanoseconds.
fn bare_commit(file: &mut File) -> f64 {
    let append = || file.write_all(&[7; 2 * 4_120]).and_then(|()| file.sync_data()).unwrap();
    timed_blocking(append).0
}

/// The operations of the instance that `client` asks for, round by round, and the median of a commit in the same rhythm: a disk that was left
/// alone for a while answers later.
fn operations(mut client: Client, folder: &Path) -> ([Pair; 4], f64) {
    let (mut file, mut commits) = (File::create(folder.join("commit")).unwrap(), Vec::new());
    let [mut pause, mut resume, mut standby, mut restore]: [Pair; 4] = Default::default();
    let memory = bare::memory_file(folder);
    let mut peer = Bare::start(folder, "peer", From::Boot);
    peer.cont();
    for _ in 0..ROUNDS {
        commits.push(bare_commit(&mut file));
        pause.ours.push(timed_blocking(|| client.ask("pause")).0);
        pause.bare.push(timed_blocking(|| peer.stop()).0);
        resume.ours.push(timed_blocking(|| client.ask("resume")).0);
        resume.bare.push(timed_blocking(|| peer.cont()).0);
        commits.push(bare_commit(&mut file));

        standby.ours.push(timed_blocking(|| client.ask("standby")).0);
        let sleep = || {
            peer.stop();
            peer.save(&memory);
            peer.quit();
        };
        standby.bare.push(timed_blocking(sleep).0);
        restore.ours.push(timed_blocking(|| client.ask("restore")).0);
        let load = || {
            let mut machine = Bare::start(folder, "peer", From::Memory(&memory));
            machine.cont();
            machine
        };
        let (took, again) = timed_blocking(load);
        restore.bare.push(took);
        peer = again;
    }
    ([pause, resume, standby, restore], median(&mut commits))
}

async fn fan_out(served: &Served, folder: &Path) -> Pair {
    let mut pair = Pair::default();
    served.create("source").await;
    let mut source = Bare::start(folder, "source", From::Boot);
    source.cont();
    for round in 0..3 {
        let fork = |n: usize| {
            served.post("/instances/source/fork", json!({"name": format!("child-{round}-{n}"), "from_running": true}))
        };
        pair.ours.push(timed(futures::future::join_all((0..FORKS).map(fork))).await.0);
        for n in 0..FORKS {
            served.delete(&format!("child-{round}-{n}")).await;
        }
        let place = folder.to_path_buf();
        let by_hand = move || {
            let (took, children) = timed_blocking(|| bare::fan_out(&place, &mut source, FORKS));
            drop(children);
            (took, source)
        };
        let took;
        (took, source) = spawn_blocking(by_hand).await.unwrap();
        pair.bare.push(took);
    }
    served.delete("source").await;
    pair
}

async fn many(served: &Served, folder: &Path) -> Pair {
    let mut pair = Pair::default();
    let names: Vec<_> = (0..MACHINES).map(|n| format!("many-{n}")).collect();
    let creating = async {
        for part in names.chunks(AT_ONCE) {
            futures::future::join_all(part.iter().map(|name| served.create(name))).await;
        }
    };
    pair.ours.push(timed(creating).await.0);
    for name in &names {
        served.delete(name).await;
    }
    let begin = Timer::now();
    let mut machines = Vec::new();
    for part in names.chunks(AT_ONCE) {
        let mut starting = JoinSet::new();
        for name in part {
            let (place, name) = (folder.to_path_buf(), name.clone());
            starting.spawn_blocking(move || {
                let mut machine = Bare::start(&place, &name, From::Boot);
                machine.cont();
                machine
            });
        }
        machines.extend(starting.join_all().await);
    }
    pair.bare.push(begin.elapsed().as_nanos() as f64);
    pair
}

pub(crate) fn run(report: &mut Report) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    // On the threads that serve: one hop less for whoever asks.
    let measuring = runtime.spawn(measure(folder.path().to_path_buf()));
    let ((operations, commit), fan_out, many) = runtime.block_on(measuring).unwrap();
    let [pause, resume, standby, restore] = operations;
    report.table(
        &format!(
            "Operations over HTTP; peer: QEMU's own calls, nothing written down. One bare commit in the same rhythm takes {}",
            nanos(commit)
        ),
        vec![
            pause.line("pause", "1 sync", commit),
            resume.line("resume", "1 sync", commit),
            standby.line("standby, 16 MiB", "2 syncs", commit),
            restore.line("restore, 16 MiB", "2 syncs", commit),
            fan_out.times(format!("{FORKS} forks of one running source at once"), 1.5),
            many.times(format!("{MACHINES} machines created, {AT_ONCE} at a time"), 1.5),
        ],
    );
}

async fn measure(folder: PathBuf) -> (([Pair; 4], f64), Pair, Pair) {
    let daemon = Daemon::start(Options {
        data: folder.join("data"),
        listen: ([127, 0, 0, 1], 0).into(),
        qemu: machine::program(tallyman::hypervisor::Kind::Qemu),
        cloud_hypervisor: "/nonexistent".into(),
        firecracker: "/nonexistent".into(),
        accelerator: Some(tallyman::hypervisor::Accelerator::Tcg),
        jwt: None,
        token: Some(TOKEN.into()),
        probe_networks: Vec::new(),
        supervisor: Some(env!("CARGO_BIN_EXE_daemon").into()),
        journal: tallyman::journal::Options::default(),
    });
    let daemon = daemon.await.unwrap();
    let served = Served { address: daemon.address(), http: reqwest::Client::new() };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let serving = tokio::spawn(daemon.serve(stopped));
    served
        .post("/images", json!({"name": "tiny", "kernel": guest::tiny(), "memory_bytes_min": machine::MEMORY_BYTES}))
        .await;
    served.create("one").await;
    let (client, place) = (Client::connect(served.address, "one", TOKEN), folder.clone());
    let operations = spawn_blocking(move || operations(client, &place)).await.unwrap();
    served.delete("one").await;
    let measured = (operations, fan_out(&served, &folder).await, many(&served, &folder).await);
    stop.send(true).unwrap();
    serving.await.unwrap().unwrap();
    measured
}
