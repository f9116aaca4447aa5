//! Cost of a change of rules for transitions under way, and of an admission.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as Timer};

use tallyman::id::{Digest, TenantId};
use tallyman::journal::wire::Kind;
use tallyman::journal::{Entry, FactQuery, NewActivation};
use tallyman::policy::PolicyHost;
use tallyman::tenant::Actor;

use crate::durable::Rig;
use crate::measure::{Line, Report, median, nanos, percentile};
use crate::memory::resident_bytes;

const LOAD: usize = 64;
const SWAPS: usize = 200;
const MANY: usize = 10_000;
/// Most that ten thousand swaps may add to the memory: their instants and digests are some hundred
/// kilobytes, the rest is the allocator's.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

fn goal(what: &str, ours: f64, goal: &str, limit: f64) -> Line {
    Line::alone(what, nanos(ours), goal, ours < limit)
}

/// A transition under way at a swap, against one under way at a write that changes no rules.
fn added(which: &str, (swap, note): (f64, f64)) -> Line {
    Line {
        what: format!("a transition under way at a swap, {which}; peer: at another write"),
        ours: nanos(swap),
        peer: nanos(note),
        ratio: format!("{:+.2} ms", (swap - note) / 1e6),
        goal: "adds under 1 ms".into(),
        holds: Some(swap - note < 1e6),
    }
}

fn coarse() -> Vec<u8> {
    std::fs::read(tallyman_tests::policies::folder().join("coarse.wasm")).unwrap()
}

type Span = (Timer, Timer);

/// Begin and end of every operation under full load.
struct Spans {
    transitions: Vec<Span>,
    swaps: Vec<Span>,
    /// Writes that change no rules, made in turn with the swaps: a transition under way at one
    /// waits as long as at a swap, but for the swap itself.
    notes: Vec<Span>,
}

/// The lengths of the transitions that were under way at one of `events`, in nanoseconds.
fn lengths_at(transitions: &[Span], events: &[Span]) -> Vec<f64> {
    let mut lengths = Vec::new();
    for &(begin, end) in transitions {
        let next = events.partition_point(|event| event.1 <= begin);
        if events.get(next).is_some_and(|event| event.0 < end) {
            lengths.push(end.duration_since(begin).as_nanos() as f64);
        }
    }
    lengths
}

async fn under_load(rig: &Arc<Rig>, other: Digest) -> Spans {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..LOAD {
        let mut instance = rig.instance(number).await;
        let rig = rig.clone();
        let stop = stop.clone();
        let seen = seen.clone();
        tasks.spawn(async move {
            let mut own = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let begin = Timer::now();
                instance.transition(&rig).await;
                own.push((begin, Timer::now()));
            }
            seen.lock().unwrap().extend(own);
        });
    }
    let standard = rig.policies.standard().digest();
    let mut swaps = Vec::new();
    let mut notes = Vec::new();
    for swap in 0..SWAPS {
        let digest = if swap % 2 == 0 { other } else { standard };
        let activation = NewActivation::now(TenantId::default_tenant(), digest, Actor::Operator);
        let begin = Timer::now();
        rig.journal
            .commit(Entry { activation: Some(activation), ..Entry::default() })
            .await
            .unwrap();
        swaps.push((begin, Timer::now()));
        tokio::time::sleep(Duration::from_millis(10)).await;
        let begin = Timer::now();
        rig.journal.prove_alive().await.unwrap();
        notes.push((begin, Timer::now()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    Spans { transitions: seen, swaps, notes }
}

/// Changes the rules as fast as the journal takes it while instances move. Returns the memory after
/// a tenth and after all of it, the time of a swap, and the number of reported faults.
async fn many(rig: &Arc<Rig>, other: Digest) -> (u64, u64, f64, usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for number in LOAD..2 * LOAD {
        let mut instance = rig.instance(number).await;
        let rig = rig.clone();
        let stop = stop.clone();
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                instance.transition(&rig).await;
            }
        });
    }
    let standard = rig.policies.standard().digest();
    let mut early = 0;
    let begin = Timer::now();
    for swap in 0..MANY {
        let digest = if swap % 2 == 0 { other } else { standard };
        let activation = NewActivation::now(TenantId::default_tenant(), digest, Actor::Operator);
        rig.journal
            .commit(Entry { activation: Some(activation), ..Entry::default() })
            .await
            .unwrap();
        if swap == MANY / 10 {
            early = resident_bytes();
        }
    }
    let each = begin.elapsed().as_nanos() as f64 / MANY as f64;
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let query = FactQuery { kind: Some(Kind::PolicyFaulted), ..FactQuery::default() };
    let mut faults = 0;
    let mut after = Some(0);
    while let Some(from) = after {
        let page = rig.journal.facts(&FactQuery { after: from, ..query.clone() }).unwrap();
        faults += page.facts.len();
        after = page.next;
    }
    (early, resident_bytes(), each, faults)
}

pub(crate) fn run(report: &mut Report) {
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    let standard = PolicyHost::standard_bytes();
    let coarse = coarse();
    let mut admissions: Vec<f64> = (0..7)
        .map(|round| {
            // A host of its own each time, so that the component is compiled anew; that of the
            // standard policy at its opening.
            let begin = Timer::now();
            let host = PolicyHost::open(&folder.path().join(format!("cache{round}"))).unwrap();
            let length = begin.elapsed().as_nanos() as f64;
            host.admit(standard).unwrap();
            length
        })
        .collect();
    let admission = median(&mut admissions);

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rig = Arc::new(Rig::open(&folder.path().join("data")));
    let other = rig.policies.admit(&coarse).unwrap().digest;
    let spans = runtime.block_on(under_load(&rig, other));
    let mut swap = lengths_at(&spans.transitions, &spans.swaps);
    let mut note = lengths_at(&spans.transitions, &spans.notes);
    let tail = (percentile(&mut swap, 99), percentile(&mut note, 99));
    let middle = (median(&mut swap), median(&mut note));
    report.table(
        &format!("{SWAPS} swaps while {LOAD} instances move as fast as they can"),
        vec![
            added("99th percentile", tail),
            added("median", middle),
            goal(
                "admission of the standard policy: examined, compiled, engine started",
                admission,
                "under 150 ms",
                150e6,
            ),
        ],
    );

    let (early, late, each, faults) = runtime.block_on(many(&rig, other));
    let grown = late.saturating_sub(early);
    report.table(
        &format!(
            "{MANY} swaps one after the other while {LOAD} instances move as fast as they can"
        ),
        vec![
            Line {
                what: format!("memory: after all of them; peer: after a tenth; {faults} faults"),
                ours: format!("{} MiB", late >> 20),
                peer: format!("{} MiB", early >> 20),
                ratio: format!("{:+.1} MiB", (late as f64 - early as f64) / f64::from(1 << 20)),
                goal: "grows less than 16 MiB, no fault".into(),
                holds: Some(grown < GROWTH_BYTES_MAX && faults == 0),
            },
            Line {
                what: "a swap, durable, under load".into(),
                ours: nanos(each),
                peer: String::new(),
                ratio: String::new(),
                goal: String::new(),
                holds: None,
            },
        ],
    );
}
