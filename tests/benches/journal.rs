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
    let mut tasks = tokio::task::JoinSet::new();
    for part in 0..TASKS {
        let rig = rig.clone();
        tasks.spawn(async move {
            let mut moving = Vec::new();
            for number in (part..INSTANCES).step_by(TASKS) {
                moving.push(rig.instance(number).await);
            }
            for _ in 0..FACTS / INSTANCES / 2 {
                for instance in &mut moving {
                    instance.operation(&rig).await;
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    rig.journal.close().await.unwrap();
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
