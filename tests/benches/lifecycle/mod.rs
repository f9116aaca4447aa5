//! Time that Tallyman adds to the hypervisor's own calls, over HTTP, with every intent and fact
//! durable. Real machines on both sides.

mod bare;
mod client;

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant as Timer;

use futures::future::join_all;
use serde_json::{Value, json};
use tallyman::driver::Ratios;
use tallyman::invoice::Letterhead;
use tallyman::runtime::{Daemon, Options};
use tallyman_tests::{guest, machine};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use self::bare::{Bare, From};
use self::client::Client;
use crate::measure::{Line, Report, median, nanos};

const TOKEN: &str = "bench";
const ROUNDS: usize = 300;
/// Number of machines that are created, and the number at a time.
const MACHINES: usize = 200;
const AT_ONCE: usize = 8;
const FORKS: usize = 25;
/// Number of single forks, and of rounds of fan-outs and of creations.
const SINGLE_FORKS: usize = 100;
const FAN_OUTS: usize = 5;
const CREATIONS: usize = 3;
/// Guests that are nearly idle, so that their output does not add to the measurement.
const CMDLINE: &str = "beat=1000";

/// A daemon in this process, and a client for the calls that are not measured by the microsecond.
struct Served {
    address: SocketAddr,
    http: reqwest::Client,
}

impl Served {
    async fn ask(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let asked = self
            .http
            .request(method, format!("http://{}{path}", self.address))
            .bearer_auth(TOKEN)
            .json(&body);
        let answer = asked.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(reqwest::Method::POST, path, body).await
    }

    async fn create(&self, name: &str) {
        self.post("/instances", json!({"name": name, "image": "tiny", "cmdline": CMDLINE})).await;
    }

    fn delete_all(&self, names: &[String]) {
        names
            .chunks(AT_ONCE)
            .for_each(|names| drop(wait(join_all(names.iter().map(|name| self.delete(name))))));
    }

    async fn delete(&self, name: &str) {
        self.ask(reqwest::Method::DELETE, &format!("/instances/{name}?grace_ms=0"), json!({}))
            .await;
    }
}

/// Nanoseconds that `work` takes, and its result.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begin = Timer::now();
    let done = work();
    (begin.elapsed().as_nanos() as f64, done)
}

/// Runs both, in changing order: the second one finds the hypervisor's code warm. Returns the
/// peer's result.
fn in_turn<T>(round: usize, ours: impl FnOnce(), bare: impl FnOnce() -> T) -> T {
    if round.is_multiple_of(2) {
        ours();
        bare()
    } else {
        let done = bare();
        ours();
        done
    }
}

/// Waits for a future of the daemon's, on a thread that may block.
fn wait<T>(work: impl Future<Output = T>) -> T {
    Handle::current().block_on(work)
}

/// One operation: ours and the peer's times, round by round.
#[derive(Default)]
struct Pair {
    ours: Vec<f64>,
    bare: Vec<f64>,
}

impl Pair {
    /// Measures both once; returns the peer's result.
    fn measure<T>(&mut self, round: usize, ours: impl FnOnce(), bare: impl FnOnce() -> T) -> T {
        let ours = || self.ours.push(timed(ours).0);
        let bare = || {
            let (took, done) = timed(bare);
            self.bare.push(took);
            done
        };
        in_turn(round, ours, bare)
    }

    fn line(mut self, what: &str, syncs: &str, commit: f64) -> Line {
        let ours = median(&mut self.ours);
        let bare = median(&mut self.bare);
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
        let ours = median(&mut self.ours);
        let bare = median(&mut self.bare);
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

/// Appends and syncs as many bytes as a commit; returns the nanoseconds.
fn bare_commit(file: &mut File) -> f64 {
    let append = || file.write_all(&[7; 2 * 4_120]).and_then(|()| file.sync_data()).unwrap();
    timed(append).0
}

/// Measures the operations of the instance that `client` asks for, round by round, and the median
/// of a commit in the same rhythm: a disk that was left alone for a while answers later.
fn operations(mut client: Client, folder: &Path) -> ([Pair; 4], f64) {
    let mut file = File::create(folder.join("commit")).unwrap();
    let mut commits = Vec::new();
    let [mut pause, mut resume, mut standby, mut restore]: [Pair; 4] = Default::default();
    let memory = bare::memory_file(folder);
    let mut peer = Bare::start(folder, "peer", From::Boot);
    peer.cont();
    for round in 0..ROUNDS {
        commits.push(bare_commit(&mut file));
        pause.measure(round, || client.ask("pause"), || peer.stop());
        resume.measure(round, || client.ask("resume"), || peer.cont());
        commits.push(bare_commit(&mut file));

        let sleep = || {
            peer.stop();
            peer.save(&memory);
            peer.quit();
        };
        standby.measure(round, || client.ask("standby"), sleep);
        let load = || {
            let mut machine = Bare::start(folder, "peer", From::Memory(&memory));
            machine.cont();
            machine
        };
        peer = restore.measure(round, || client.ask("restore"), load);
    }
    ([pause, resume, standby, restore], median(&mut commits))
}

/// Measures one child of a running source, and then as many at once as there are forks.
fn forks(served: &Served, folder: &Path) -> [Pair; 2] {
    wait(served.create("source"));
    let mut client = Client::connect(served.address, "source", TOKEN);
    let mut source = Bare::start(folder, "source", From::Boot);
    source.cont();
    let mut single = Pair::default();
    for round in 0..SINGLE_FORKS {
        let name = format!("single-{round}");
        let body = json!({"name": name, "from_running": true}).to_string();
        let fork = || client.ask_with("fork", &body, 201);
        single.measure(round, fork, || bare::fan_out(folder, &mut source, 1));
        wait(served.delete(&name));
    }
    let many = fan_out(served, folder, source);
    wait(served.delete("source"));
    [single, many]
}

fn fan_out(served: &Served, folder: &Path, mut source: Bare) -> Pair {
    let Pair { mut ours, mut bare } = Pair::default();
    for round in 0..FAN_OUTS {
        let names: Vec<_> = (0..FORKS).map(|n| format!("child-{round}-{n}")).collect();
        let fork = |name| {
            served.post("/instances/source/fork", json!({"name": name, "from_running": true}))
        };
        let ours = || {
            ours.push(timed(|| wait(join_all(names.iter().map(fork)))).0);
            served.delete_all(&names);
        };
        let bare = || bare.push(timed(|| bare::fan_out(folder, &mut source, FORKS)).0);
        in_turn(round, ours, bare);
    }
    Pair { ours, bare }
}

fn many(served: &Served, folder: &Path) -> Pair {
    let Pair { mut ours, mut bare } = Pair::default();
    for round in 0..CREATIONS {
        let names: Vec<_> = (0..MACHINES).map(|n| format!("many-{round}-{n}")).collect();
        let ours = || {
            let create = |names: &[String]| {
                drop(wait(join_all(names.iter().map(|name| served.create(name)))))
            };
            ours.push(timed(|| names.chunks(AT_ONCE).for_each(create)).0);
            served.delete_all(&names);
        };
        let bare = || {
            let start = |names: &[String]| bare::all_at_once(folder, names, From::Boot);
            bare.push(timed(|| names.chunks(AT_ONCE).flat_map(start).collect::<Vec<_>>()).0);
        };
        in_turn(round, ours, bare);
    }
    Pair { ours, bare }
}

pub(crate) fn run(report: &mut Report) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    let ((operations, commit), [fork, fan_out], many) =
        runtime.block_on(measure(folder.path().to_path_buf()));
    let [pause, resume, standby, restore] = operations;
    report.table(
        &format!(
            "Operations over HTTP; peer: QEMU's own calls, nothing written down. \
             One bare commit in the same rhythm takes {}",
            nanos(commit)
        ),
        vec![
            pause.line("pause", "1 sync", commit),
            resume.line("resume", "1 sync", commit),
            standby.line("standby, 16 MiB", "2 syncs", commit),
            restore.line("restore, 16 MiB", "2 syncs", commit),
            fork.line("fork of a running source, 16 MiB", "memory and facts synced", commit),
            fan_out.times(format!("{FORKS} forks of one running source at once"), 1.5),
            many.times(format!("{MACHINES} machines created, {AT_ONCE} at a time"), 1.5),
        ],
    );
}

/// A host that admits more machines than it has processors and memory for.
fn unlimited() -> Ratios {
    let most = || "1000".parse().unwrap();
    Ratios { cpu: most(), memory: most(), disk: most() }
}

async fn measure(folder: PathBuf) -> (([Pair; 4], f64), [Pair; 2], Pair) {
    let daemon = Daemon::start(Options {
        data: folder.join("data"),
        listen: tallyman::api::Listen::on(([127, 0, 0, 1], 0).into()),
        qemu: machine::program(tallyman::hypervisor::Kind::Qemu),
        cloud_hypervisor: "/nonexistent".into(),
        firecracker: "/nonexistent".into(),
        accelerator: Some(tallyman::hypervisor::Accelerator::Tcg),
        jwt: None,
        token: Some(TOKEN.into()),
        token_file: None,
        probe_networks: Vec::new(),
        ratios: unlimited(),
        network: None,
        images: Default::default(),
        letterhead: Letterhead::default(),
        receivers: Vec::new(),
        supervisor: Some(env!("CARGO_BIN_EXE_daemon").into()),
        vmm_user: None,
        compiler: None,
        journal: tallyman::journal::Options::default(),
        fleet: Default::default(),
        stores: Default::default(),
        retention: Default::default(),
        heads_to: None,
    });
    let daemon = daemon.await.unwrap();
    let served =
        Served { address: daemon.address(), http: tallyman::tls::plain_client().build().unwrap() };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let serving = tokio::spawn(daemon.serve(stopped));
    served
        .post(
            "/images",
            json!({
                "name": "tiny",
                "kernel": guest::tiny(),
                "memory_bytes_min": machine::MEMORY_BYTES,
            }),
        )
        .await;
    let measured = spawn_blocking(move || {
        wait(served.create("one"));
        let operations = operations(Client::connect(served.address, "one", TOKEN), &folder);
        wait(served.delete("one"));
        (operations, forks(&served, &folder), many(&served, &folder))
    });
    let measured = measured.await.unwrap();
    stop.send(true).unwrap();
    serving.await.unwrap().unwrap();
    measured
}
