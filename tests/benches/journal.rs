//! A journal of a million facts on disk, made by the writer as the daemon makes it: what it takes
//! to bill from it and to prove it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant as Timer;

use tallyman::id::{Digest, InstanceId, TenantId};
use tallyman::invoice::{Computer, Engines, Named, View};
use tallyman::journal::{Archive, Entry, FactQuery, NewActivation, NewPolicy, NewPrices, verify};
use tallyman::tenant::Actor;
use tallyman::units::Instant;
use tallyman_tests::daemon::Daemon;
use tallyman_tests::policies;

use crate::durable::Rig;
use crate::measure::{Line, Report, median};
use crate::rating::BOOK;

const FACTS: usize = 1_000_000;
const INSTANCES: usize = 1_000;
/// Instances that move at the same time.
const TASKS: usize = 250;
const ROUNDS: usize = 5;

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

/// A policy and a book in force, then lives of instances: half of the facts are intents.
async fn fill(rig: &Arc<Rig>) {
    put_under_rules(rig).await;
    live(rig, FACTS, INSTANCES).await;
    rig.journal.close().await.unwrap();
}

/// Fills the journal of a data folder with a million facts.
pub(crate) fn fill_folder(data: &Path) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(fill(&Arc::new(Rig::open(data))));
}

/// Lives of instances, with so many facts in all.
async fn live(rig: &Arc<Rig>, facts: usize, instances: usize) {
    live_from(rig, facts, 0, instances).await;
}

/// The same for instances that are numbered from `first` on.
async fn live_from(rig: &Arc<Rig>, facts: usize, first: usize, instances: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for part in 0..TASKS {
        let rig = rig.clone();
        tasks.spawn(async move {
            let mut moving = Vec::new();
            for number in (part..instances).step_by(TASKS) {
                moving.push(rig.instance(first + number).await);
            }
            for _ in 0..facts / instances / 2 {
                for instance in &mut moving {
                    instance.operation(&rig).await;
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

async fn put_under_rules(rig: &Rig) {
    let bytes = policies::component("ec2");
    let digest = rig.policies.admit(&bytes).unwrap().digest;
    let by = || Actor::Operator;
    let policy =
        NewPolicy { tenant: tenant(), digest, name: None, bytes, record: "{}".into(), by: by() };
    let activation = NewActivation::now(tenant(), digest, by());
    let book = BOOK.as_bytes().to_vec();
    let digest = Digest::of(&book);
    let prices =
        NewPrices { tenant: tenant(), digest, bytes: book, requested: None, by: by(), name: None };
    for entry in [
        Entry { policy: Some(policy), ..Entry::default() },
        Entry { activation: Some(activation), ..Entry::default() },
        Entry { prices: Some(prices), ..Entry::default() },
    ] {
        rig.journal.commit(entry).await.unwrap();
    }
}

/// Bytes of the files of a folder that hold facts.
fn bytes_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let of = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() && path.ends_with("segments") => bytes_of(&path),
        path if path.is_dir() => 0,
        path if path.to_string_lossy().ends_with(".parquet")
            || path.to_string_lossy().contains("tallyman.db") =>
        {
            entry.metadata().unwrap().len()
        }
        _ => 0,
    };
    entries.map(of).sum()
}

/// Seconds of the median round.
fn timed(rounds: usize, mut work: impl FnMut()) -> f64 {
    let mut seconds = Vec::new();
    for _ in 0..rounds {
        let begin = Timer::now();
        work();
        seconds.push(begin.elapsed().as_secs_f64());
    }
    median(&mut seconds)
}

fn millis(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

/// Questions to a journal in a folder that nobody writes to.
struct Questions<'a> {
    rig: &'a Rig,
    archive: Archive,
    /// The instants between which the last thousandth of the facts lies.
    last: (Instant, Instant),
}

impl<'a> Questions<'a> {
    fn new(rig: &'a Rig, folder: &Path) -> Self {
        let archive = Archive::open(folder).unwrap();
        let head = archive.head().unwrap().seq;
        let meter = |seq| archive.fact(seq).unwrap().unwrap().fact.meter();
        let last = (meter(head - FACTS as u64 / 1_000), Instant(meter(head).0 + 1));
        Self { rig, archive, last }
    }

    fn computed<T>(
        &self,
        work: impl FnOnce(&Computer<'_, Archive, Engines<'_, Archive>>, View) -> T,
    ) -> T {
        let named = |id: &InstanceId| {
            Ok(Named { id: id.to_string(), name: id.to_string(), tags: Vec::new() })
        };
        let head = self.archive.head().unwrap();
        let view = View::load(&self.archive, &tenant(), head).unwrap();
        let calls = Engines::new(&self.archive, &self.rig.policies);
        work(&Computer::new(&self.archive, &calls, &named), view)
    }

    fn preview(&self) {
        let documents = self.computed(|computer, view| computer.preview(view, self.last.1));
        assert!(documents.unwrap().iter().any(|document| document.lines.len() >= INSTANCES));
    }

    fn compare(&self) {
        let candidate = Digest::of(&policies::component("ec2"));
        self.computed(|computer, view| computer.compare(view, self.last, candidate)).unwrap();
    }
}

fn note(what: &str, ours: String) -> Line {
    Line {
        what: what.into(),
        ours,
        peer: String::new(),
        ratio: String::new(),
        goal: String::new(),
        holds: None,
    }
}

/// The cost of the questions, and the bytes of a fact.
fn asked(rig: &Rig, data: &Path) -> Vec<Line> {
    let facts = rig.journal.head().seq;
    let each = bytes_of(data) as f64 / facts as f64;
    let questions = Questions::new(rig, data);
    let preview = timed(ROUNDS, || questions.preview());
    let compare = timed(ROUNDS, || questions.compare());
    let page = FactQuery { after: facts / 2, ..FactQuery::default() };
    let page = timed(ROUNDS, || drop(rig.journal.facts(&page).unwrap()));
    let proved = timed(1, || assert_eq!(verify(data, |_, _| ()).unwrap().head.seq, facts));
    vec![
        note("bytes of a fact, all included", format!("{each:.0} B")),
        note("preview of everything", millis(preview)),
        note("the last thousandth of the facts under two policies", millis(compare)),
        note("a page of 1,000 facts from the middle", millis(page)),
        note("verify of everything", millis(proved)),
    ]
}

pub(crate) fn run(report: &mut Report) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    let data = folder.path().join("data");
    let begin = Timer::now();
    runtime.block_on(fill(&Arc::new(Rig::open(&data))));
    let filled = begin.elapsed().as_secs_f64();
    let rig = Rig::open(&data);
    let facts = rig.journal.head().seq;
    let mut lines = vec![note("written", format!("{:.0} facts/s", facts as f64 / filled))];
    lines.extend(asked(&rig, &data));
    report.table(&format!("A journal of {facts} facts of {INSTANCES} instances, on disk"), lines);

    let begin = Timer::now();
    runtime.block_on(rig.journal.seal(None)).unwrap();
    let sealed = begin.elapsed().as_secs_f64();
    runtime.block_on(rig.journal.close()).unwrap();
    drop(rig);
    // The next opening gives the free pages back.
    let rig = Rig::open(&data);
    let mut lines = vec![note("sealing", format!("{sealed:.1} s"))];
    lines.extend(asked(&rig, &data));
    report.table("The same journal, sealed", lines);
}

/// Facts of a month of a fleet's host: 10,000 instances, 100 transitions a day, each with its
/// intent, less the days on which they rest.
const MONTH_FACTS: usize = 30_000_000;
const MONTH_INSTANCES: usize = 10_000;
/// Instances that live, and are then sealed, at a time.
const MONTH_PARTS: usize = 10;

/// Lives a month, sealing as it goes on. Returns the seconds that sealing took.
async fn month(rig: &Arc<Rig>) -> f64 {
    let mut sealed = 0.0;
    put_under_rules(rig).await;
    for part in 0..MONTH_PARTS {
        let first = part * MONTH_INSTANCES / MONTH_PARTS;
        live_from(rig, MONTH_FACTS / MONTH_PARTS, first, MONTH_INSTANCES / MONTH_PARTS).await;
        let begin = Timer::now();
        rig.journal.seal(None).await.unwrap();
        sealed += begin.elapsed().as_secs_f64();
    }
    rig.journal.close().await.unwrap();
    sealed
}

/// The questions to a month's journal, and the bytes of its facts.
fn asked_of_a_month(rig: &Rig, data: &Path) -> Vec<Line> {
    let facts = rig.journal.head().seq;
    let each = bytes_of(data) as f64 / facts as f64;
    let questions = Questions::new(rig, data);
    let everything = timed(1, || questions.preview());
    let last = timed(ROUNDS, || questions.compare());
    let page = FactQuery { after: facts / 2, limit: Some(10), ..FactQuery::default() };
    let page = timed(ROUNDS, || drop(rig.journal.facts(&page).unwrap()));
    let bytes = format!("{each:.0} B");
    vec![
        Line::alone("bytes of a fact, all included", bytes, "at most 30", each <= 30.0),
        Line::alone("preview of everything", millis(everything), "under 30 s", everything < 30.0),
        Line::alone("the last thousandth", millis(last), "under 50 ms", last < 0.05),
        note("a page of 10 facts from the middle", millis(page)),
    ]
}

/// A month of a host, sealed as it goes on: start, memory, and previews of it.
pub(crate) fn large(report: &mut Report) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    let data = folder.path().to_owned();
    let sealed = runtime.block_on(month(&Arc::new(Rig::open(&data))));
    let rig = Rig::open(&data);
    let facts = rig.journal.head().seq;
    let mut lines = vec![note("sealing, all of it", format!("{sealed:.0} s"))];
    lines.extend(asked_of_a_month(&rig, &data));
    runtime.block_on(rig.journal.close()).unwrap();
    drop(rig);
    let begin = Timer::now();
    let daemon = Daemon::on(env!("CARGO_BIN_EXE_daemon"), folder);
    let started = begin.elapsed().as_secs_f64();
    let memory = crate::memory::resident_bytes_of(daemon.pid()) as f64 / f64::from(1 << 20);
    let mib = format!("{memory:.0} MiB");
    lines.push(Line::alone("start of the daemon", millis(started), "under 2 s", started < 2.0));
    lines.push(Line::alone("memory of the daemon", mib, "under 300 MiB", memory < 300.0));
    report.table(&format!("A month: {facts} facts of {MONTH_INSTANCES} instances, sealed"), lines);
}
