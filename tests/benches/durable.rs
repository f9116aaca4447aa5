//! Durable transitions per second, against the disk itself and against the usual design.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant as Timer};

use tallyman::billing::account::{Account, Accountant};
use tallyman::billing::{Entered, InstanceFact};
use tallyman::clock::Clock;
use tallyman::driver::{Live, Record, Restarts, Spec};
use tallyman::id::{InstanceId, InstanceName, TenantId};
use tallyman::journal::{Entry, InstanceWrite, Journal, Options, Row};
use tallyman::policy::{Accounting, PolicyHost};
use tallyman::units::Instant;
use tallyman::vm::{Asker, Command, Phase, RestartPolicy, Shape, State, Traffic};

use crate::measure::{Line, Report, median};
use crate::peer;

const LENGTH: Duration = Duration::from_millis(700);
const ROUNDS: usize = 5;

/// The live state of an instance in standby that was in standby before, as JSON.
pub(crate) fn state() -> String {
    let live = Live {
        state: State::Standby { ready: true },
        shape: SHAPE,
        session: 12,
        incarnation: 24,
        intent: None,
        program_started: true,
        agent_ready: true,
        started: Some(Instant(1_790_000_000_000_000_000)),
        stopped: Some(Instant(1_790_000_000_000_000_000)),
        cause: None,
        exit_code: None,
        exit_message: None,
        error: None,
        restarts: Restarts::default(),
        snapshot_due_ns: None,
        traffic: Default::default(),
        counted: Default::default(),
    };
    live.stored()
}

/// The unchanging record of an instance, as JSON.
fn record(id: &InstanceId, name: &InstanceName) -> String {
    let spec = Spec {
        image: "tiny".into(),
        image_reference: None,
        vcpus: SHAPE.vcpus,
        memory_bytes: SHAPE.memory_bytes,
        memory_bytes_max: None,
        cmdline: String::new(),
        disks: Vec::new(),
        tags: [("team".into(), "bench".into())].into(),
        skip_guest_agent: false,
        stop_grace_ms: 5_000,
        hypervisor: "qemu".into(),
        created_ns: 1_790_000_000_000_000_000,
        restart: RestartPolicy::default(),
        expiry: None,
        schedule: None,
        health: None,
        auto_standby: None,
        program: Default::default(),
        network: None,
    };
    let id = id.clone();
    let name = name.clone();
    Record { id, tenant: TenantId::default_tenant(), name, spec, snapshots: Vec::new() }.stored()
}

const SHAPE: Shape = Shape { vcpus: 1, memory_bytes: 128 << 20, disk_bytes: 0, snapshot_bytes: 0 };

/// A journal with real accounting in a folder.
pub(crate) struct Rig {
    pub(crate) journal: Arc<Journal>,
    pub(crate) clock: Clock,
    pub(crate) policies: Arc<PolicyHost>,
}

impl Rig {
    pub(crate) fn open(folder: &Path) -> Self {
        let policies = Arc::new(PolicyHost::open(&folder.join("cache")).unwrap());
        let accounting = Arc::new(Accounting::new(policies.clone()));
        let accountant: Arc<dyn Accountant> = accounting;
        let (journal, opened) = Journal::open(folder, Options::default(), accountant).unwrap();
        Self { journal: Arc::new(journal), clock: opened.clock, policies }
    }

    /// An instance with its first fact.
    pub(crate) async fn instance(&self, number: usize) -> Moving {
        let id: InstanceId = format!("instance-{number:06}").parse().unwrap();
        let name = format!("vm-{number}").parse().unwrap();
        let write = InstanceWrite::Insert {
            record: record(&id, &name),
            id,
            tenant: TenantId::default_tenant(),
            name,
            state: state(),
            account: Account::default(),
        };
        let mut moving = Moving { row: Row(0), account: Account::default(), step: 0 };
        let receipt = self.journal.commit(moving.entry(self, write)).await.unwrap();
        moving.row = receipt.row.unwrap();
        moving.account = receipt.account.unwrap();
        moving
    }
}

/// Fills a data folder with instances that have a short history.
pub(crate) fn populate(folder: &Path, count: usize) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rig = Arc::new(Rig::open(folder));
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for part in 0..256 {
            let rig = rig.clone();
            tasks.spawn(async move {
                for number in (part..count).step_by(256) {
                    let mut instance = rig.instance(number).await;
                    instance.transition(&rig).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    });
}

/// An instance that only changes its phase.
pub(crate) struct Moving {
    row: Row,
    account: Account,
    step: u64,
}

impl Moving {
    fn entry(&mut self, rig: &Rig, write: InstanceWrite) -> Entry {
        self.step += 1;
        let phase = if self.step.is_multiple_of(2) { Phase::Standby } else { Phase::Running };
        let entered =
            Entered { phase, shape: SHAPE, session: 1, cause: None, traffic: Traffic::NONE };
        Entry::of_instance(write, vec![(rig.clock.reading(), InstanceFact::Entered(entered))])
    }

    fn update(&self) -> InstanceWrite {
        InstanceWrite::Update {
            row: self.row,
            name: None,
            record: None,
            state: state(),
            account: self.account.clone(),
        }
    }

    /// An intent and the transition that comes of it, in one entry.
    pub(crate) async fn operation(&mut self, rig: &Rig) {
        let mut entry = self.entry(rig, self.update());
        let command = if self.step.is_multiple_of(2) { Command::Standby } else { Command::Restore };
        let intended = InstanceFact::Intended { command, by: Asker::Client, about: None };
        if let Some(of) = &mut entry.instance {
            of.facts.insert(0, (rig.clock.reading(), intended));
        }
        let receipt = rig.journal.commit(entry).await.unwrap();
        self.account = receipt.account.unwrap();
    }

    pub(crate) async fn transition(&mut self, rig: &Rig) {
        let entry = self.entry(rig, self.update());
        let receipt = rig.journal.commit(entry).await.unwrap();
        self.account = receipt.account.unwrap();
    }
}

/// Measures transitions per second, and the number of facts in one commit.
async fn ours(rig: &Arc<Rig>, moving: Vec<Moving>) -> (f64, f64, Vec<Moving>) {
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let commits = rig.journal.figures().committed();
    let begin = Timer::now();
    let tasks: Vec<_> = moving
        .into_iter()
        .map(|mut instance| {
            let rig = rig.clone();
            let stop = stop.clone();
            let count = count.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    instance.transition(&rig).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                instance
            })
        })
        .collect();
    tokio::time::sleep(LENGTH).await;
    stop.store(true, Ordering::Relaxed);
    let mut back = Vec::new();
    for task in tasks {
        back.push(task.await.unwrap());
    }
    let total = count.load(Ordering::Relaxed) as f64;
    let batch = total / (rig.journal.figures().committed() - commits) as f64;
    (total / begin.elapsed().as_secs_f64(), batch, back)
}

/// Measures the records per second that a bare loop appends, `batch` of them with one `fdatasync`.
fn bare(folder: &Path, batch: f64, record_bytes: usize) -> f64 {
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join("bare")).unwrap();
    let bytes = vec![b'x'; (batch * record_bytes as f64).round() as usize];
    let begin = Timer::now();
    let mut syncs = 0.0;
    while begin.elapsed() < LENGTH {
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        syncs += 1.0;
    }
    let rate = syncs * batch / begin.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(folder.join("bare")).unwrap();
    rate
}

/// Bytes that a transition writes: its fact, its hash, its account and the driver's state.
fn record_bytes(rig: &Rig) -> usize {
    let head = rig.journal.head().seq;
    let query = tallyman::journal::FactQuery { after: head - 1, ..Default::default() };
    let page = rig.journal.facts(&query).unwrap();
    let body = serde_json::to_vec(&page.facts[0].fact).unwrap().len();
    body + 32 + 82 + state().len()
}

pub(crate) fn run(report: &mut Report) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    let rig = Arc::new(Rig::open(&folder.path().join("data")));
    let go = peer::build(folder.path());
    let mut lines = Vec::new();
    for instances in [1, 16, 64, 256] {
        let mut moving = runtime.block_on(async {
            let mut moving = Vec::new();
            for number in 0..instances {
                moving.push(rig.instance(instances * 1_000 + number).await);
            }
            moving
        });
        let record_bytes = record_bytes(&rig);
        let mut rates = vec![];
        let mut batches = vec![];
        let mut bares = vec![];
        let mut ratios = vec![];
        for _ in 0..ROUNDS {
            let (rate, batch, back) = runtime.block_on(ours(&rig, moving));
            moving = back;
            let bare = bare(folder.path(), batch, record_bytes);
            ratios.push(rate / bare);
            rates.push(rate);
            batches.push(batch);
            bares.push(bare);
        }
        let rate = median(&mut rates);
        let batch = median(&mut batches);
        let ratio = median(&mut ratios);
        lines.push(Line {
            what: format!(
                "{instances} instances, {batch:.0} a commit; \
                 peer: bare append and fdatasync of the same batches"
            ),
            ours: format!("{rate:.0}/s"),
            peer: format!("{:.0}/s", median(&mut bares)),
            ratio: format!("{:.0} %", ratio * 100.0),
            goal: "at least 80 %".into(),
            holds: Some(ratio >= 0.8),
        });
        if instances == 64
            && let Some(program) = &go
        {
            for (flag, what) in
                [("-in-place=true", "in place"), ("-in-place=false", "aside and renamed")]
            {
                let target = folder.path().join(format!("go{flag}"));
                std::fs::create_dir_all(&target).unwrap();
                let peer = peer::run(
                    program,
                    &["-folder", target.to_str().unwrap(), "-instances", "64", flag],
                );
                let peer = peer["transitions_per_second"].as_f64().unwrap();
                lines.push(Line {
                    what: format!(
                        "64 instances; \
                         peer: JSON for each transition in Go, written {what}, not synced"
                    ),
                    ours: format!("{rate:.0}/s"),
                    peer: format!("{peer:.0}/s"),
                    ratio: format!("{:.1}x", rate / peer),
                    goal: "at least 20x".into(),
                    holds: Some(rate >= 20.0 * peer),
                });
            }
        }
    }
    report.table(
        "Durable transitions: policy asked, fact sealed, record and account stored, synced",
        lines,
    );
}
