//! The cost of bills where prices change, where documents are large, and where another tenant is
//! billed at the same time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant as Timer;

use tallyman::id::{Digest, InstanceId, TenantId};
use tallyman::invoice::{
    Act, Computer, Directory, Engines, EvidenceError, Goal, Heading, Invoice, Issuer, Named, View,
};
use tallyman::journal::{Entry, NewPrices};
use tallyman::policy::PolicyHost;
use tallyman::tenant::Actor;
use tallyman::units::Instant;

use crate::durable::Rig;
use crate::measure::{Candidate, Line, Report, median, nanos, side_by_side};
use crate::rating::{BEGIN, BOOK, END, Month, policy};

const ROUNDS: usize = 9;
/// Changes of price in a month.
const CHANGES: i64 = 12;
/// Instances and transitions of each, for the preview under changing prices.
const PRICED: (usize, usize) = (100, 3_000);
/// Instances of a large document, which has a line for each of three rules.
const LINES: usize = 30_000;
/// Instances and transitions of each of the tenant that takes long to bill.
const LARGE: (usize, usize) = (100, 500);
/// Closes of the small tenant while nobody else is billed.
const ALONE: usize = 21;

/// A book with three rules.
const THREE: &str = r#"{"currency": "USD", "prices": [
    {"id": "time", "rule": "a", "meter": "active", "per": "instance-hour", "price": "0.01"},
    {"id": "cores", "rule": "b", "meter": "active", "per": "vcpu-hour", "price": "0.04"},
    {"id": "memory", "rule": "c", "meter": "active", "per": "memory-GiB-hour", "price": "1/200"}
]}"#;

fn named(id: &InstanceId) -> Result<Named, EvidenceError> {
    Ok(Named { id: id.to_string(), name: id.to_string(), tags: Vec::new() })
}

/// The documents of a month up to an instant, after others.
fn preview(month: &Month, host: &PolicyHost, before: &[Invoice], to: i64) -> Vec<Invoice> {
    let mut view = View::load(month, &month.tenant, month.head()).unwrap();
    before.iter().for_each(|document| view.add(document.clone()));
    let calls = Engines::new(month, host);
    Computer::new(month, &calls, &named).preview(view, Instant(to)).unwrap()
}

/// A preview of a month in which the price changed twelve times, against one price.
fn changes(host: &PolicyHost, component: &[u8]) -> Line {
    let one = Month::new(component.to_vec(), PRICED);
    let step = (END - BEGIN) / (CHANGES + 1);
    let book = |number: i64| BOOK.replace("0.0416", &format!("0.04{number:02}"));
    let books = (0..=CHANGES).map(|number| (BEGIN + step * number, book(number))).collect();
    let many = Month::new(component.to_vec(), PRICED).under(books);
    let items = one.intervals();
    let lines =
        |documents: Vec<Invoice>| documents.iter().map(|one| one.lines.len()).sum::<usize>();
    assert!(lines(preview(&many, host, &[], END)) > PRICED.0 * 12);
    let times = side_by_side(
        ROUNDS,
        &mut [
            Candidate::new(items, || preview(&many, host, &[], END)),
            Candidate::new(items, || preview(&one, host, &[], END)),
        ],
    );
    Line {
        what: "a preview, per interval, with twelve changes of price; peer: with none".into(),
        ours: nanos(times[0]),
        peer: nanos(times[1]),
        ratio: format!("{:.2}x", times[0] / times[1]),
        goal: "at most 1.3x".into(),
        holds: Some(times[0] <= 1.3 * times[1]),
    }
}

/// A document of a month half of whose time another one has stated.
fn second(host: &PolicyHost, component: &[u8], lines: usize) -> impl FnMut() -> Vec<Invoice> {
    let books = vec![(BEGIN, THREE.to_owned())];
    let month = Month::new(component.to_vec(), (lines / 3, 1)).under(books);
    let first = preview(&month, host, &[], BEGIN + (END - BEGIN) / 2);
    assert_eq!(first.iter().map(|one| one.lines.len()).sum::<usize>(), lines);
    move || preview(&month, host, &first, END)
}

/// Two documents with as many lines each, one made as the difference to the other.
fn differences(host: &PolicyHost, component: &[u8]) -> Line {
    let half = second(host, component, LINES / 2);
    let whole = second(host, component, LINES);
    let mut candidates = [Candidate::new(LINES, whole), Candidate::new(LINES / 2, half)];
    let times = side_by_side(ROUNDS, &mut candidates);
    Line {
        what: "a document as the difference to another, per line: 30,000 each; peer: 15,000 each"
            .into(),
        ours: nanos(times[0]),
        peer: nanos(times[1]),
        ratio: format!("{:.2}x", times[0] / times[1]),
        goal: "at most 1.25x: linear".into(),
        holds: Some(times[0] <= 1.25 * times[1]),
    }
}

/// Two tenants of one journal: one whose bill takes long, one without instances.
struct Two {
    rig: Arc<Rig>,
    issuer: Issuer,
    small: TenantId,
}

impl Two {
    async fn new(folder: &Path) -> Self {
        let rig = Arc::new(Rig::open(folder));
        let issuer = Issuer::new(rig.journal.clone(), rig.policies.clone());
        let two = Self { rig, issuer, small: "small".parse().unwrap() };
        two.put_prices(TenantId::default_tenant()).await;
        two.put_prices(two.small.clone()).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..LARGE.0 {
            let rig = two.rig.clone();
            tasks.spawn(async move {
                let mut moving = rig.instance(number).await;
                for _ in 0..LARGE.1 {
                    moving.operation(&rig).await;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        two
    }

    async fn put_prices(&self, tenant: TenantId) {
        let bytes = BOOK.as_bytes().to_vec();
        let digest = Digest::of(&bytes);
        let by = Actor::Operator;
        let new = NewPrices { tenant, digest, bytes, requested: None, by, name: None };
        self.rig.journal.commit(Entry { prices: Some(new), ..Entry::default() }).await.unwrap();
    }

    /// Nanoseconds of a close up to now.
    async fn close(&self, tenant: &TenantId) -> f64 {
        let directory: Directory = Arc::new(named);
        let heading = Heading::default();
        let act = Act::by(Actor::Operator);
        let goal = Goal::Close(self.rig.clock.now());
        let begin = Timer::now();
        let made = self.issuer.reach(tenant, goal, &heading, &act, &directory).await.unwrap();
        assert_eq!(made.len(), 1);
        begin.elapsed().as_nanos() as f64
    }
}

/// Closes of a small tenant while a large one is closed again and again.
async fn beside(folder: &Path) -> Vec<Line> {
    let two = Arc::new(Two::new(folder).await);
    let large = two.close(&TenantId::default_tenant()).await;
    let mut alone = Vec::new();
    for _ in 0..ALONE {
        alone.push(two.close(&two.small).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let two = two.clone();
        let stop = stop.clone();
        async move {
            let mut lengths = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                lengths.push(two.close(&TenantId::default_tenant()).await);
            }
            lengths
        }
    });
    let mut beside = Vec::new();
    for _ in 0..ALONE {
        beside.push(two.close(&two.small).await);
    }
    stop.store(true, Ordering::Relaxed);
    let mut large_ones = other.await.unwrap();
    large_ones.push(large);
    compared(alone, beside, large_ones)
}

/// Closes of the small tenant alone and beside those of the large one.
fn compared(mut alone: Vec<f64>, mut beside: Vec<f64>, mut large: Vec<f64>) -> Vec<Line> {
    let slowest = beside.iter().copied().fold(0.0, f64::max);
    let alone = median(&mut alone);
    let beside = median(&mut beside);
    let large = median(&mut large);
    vec![
        Line {
            what: "a close of a small tenant while a large one is closed; peer: alone".into(),
            ours: nanos(beside),
            peer: nanos(alone),
            ratio: format!("{:.2}x", beside / alone),
            goal: "at most 2x".into(),
            holds: Some(beside <= 2.0 * alone),
        },
        Line {
            what: "the slowest of them; peer: a close of the large tenant".into(),
            ours: nanos(slowest),
            peer: nanos(large),
            ratio: format!("{:.2}x", slowest / large),
            goal: "less than half of it".into(),
            holds: Some(slowest < large / 2.0),
        },
    ]
}

pub(crate) fn run(report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    let host = PolicyHost::open(&folder.path().join("cache")).unwrap();
    let (_, component) = policy(&host);
    let mut lines = vec![changes(&host, &component), differences(&host, &component)];
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let data = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    lines.extend(runtime.block_on(beside(&data.path().join("data"))));
    report.table("Bills: changing prices, large documents, two tenants at once", lines);
}
