//! Accounting in the component, against the same code compiled natively, and against the usual
//! tracker.

use std::hint::black_box;

use guest_tracker::bindings::exports::tallyman::policy::accounting::Guest;
use guest_tracker::{
    Component, Standard, TotalsColumns as NativeTotals, TrackerColumns as NativeColumns,
};
use guest_tracker::{Phase as NativePhase, Totals as NativeSums, Tracker as NativeTracker};
use tallyman::billing::{Totals, Tracker};
use tallyman::policy::PolicyHost;
use tallyman::policy::contract::{TotalsColumns, TrackerColumns};
use tallyman::units::Instant;
use tallyman::vm::Phase;

use crate::measure::{Candidate, Line, Report, nanos, side_by_side};
use crate::peer;

type Native = Component<Standard>;

const SIZES: [usize; 4] = [1, 100, 1_000, 10_000];
const ROUNDS: usize = 40;

/// Trackers with a few visits each, phases mixed.
fn lived(count: usize) -> Vec<Tracker> {
    (0..count)
        .map(|index| Tracker {
            current: Phase::from_ordinal((index % 8) as u8),
            since: Instant(1_800_000_000_000_000_000 + index as i64),
            totals: Totals(std::array::from_fn(|phase| {
                (index * 7 + phase * 13) as u64 * 1_000_003
            })),
        })
        .collect()
}

fn column(trackers: &[Tracker], phase: usize) -> Vec<u64> {
    trackers.iter().map(|tracker| tracker.totals.0[phase]).collect()
}

fn current(trackers: &[Tracker]) -> Vec<u8> {
    trackers.iter().map(|tracker| tracker.current.map_or(255, |phase| phase as u8)).collect()
}

fn since(trackers: &[Tracker]) -> Vec<i64> {
    trackers.iter().map(|tracker| tracker.since.0).collect()
}

macro_rules! columns {
    ($columns:ident, $totals:ident, $trackers:expr) => {
        $columns {
            current: current($trackers),
            since: since($trackers),
            totals: $totals {
                created: column($trackers, 0),
                initializing: column($trackers, 1),
                running: column($trackers, 2),
                paused: column($trackers, 3),
                shutdown: column($trackers, 4),
                standby: column($trackers, 5),
                stopped: column($trackers, 6),
                unknown: column($trackers, 7),
            },
        }
    };
}

/// The same trackers as the native code's own rows.
fn rows(trackers: &[Tracker]) -> Vec<NativeTracker> {
    let row = |tracker: &Tracker| {
        let [created, initializing, running, paused, shutdown, standby, stopped, unknown] =
            tracker.totals.0;
        NativeTracker {
            current: tracker.current.map(native_phase),
            since: tracker.since.0,
            totals: NativeSums {
                created,
                initializing,
                running,
                paused,
                shutdown,
                standby,
                stopped,
                unknown,
            },
        }
    };
    trackers.iter().map(row).collect()
}

fn native_phase(phase: Phase) -> NativePhase {
    match phase {
        Phase::Created => NativePhase::Created,
        Phase::Initializing => NativePhase::Initializing,
        Phase::Running => NativePhase::Running,
        Phase::Paused => NativePhase::Paused,
        Phase::Shutdown => NativePhase::Shutdown,
        Phase::Standby => NativePhase::Standby,
        Phase::Stopped => NativePhase::Stopped,
        Phase::Unknown => NativePhase::Unknown,
    }
}

fn ratio(ours: f64, peer: f64) -> String {
    format!("{:.2}x", ours / peer)
}

fn line(what: String, ours: f64, peer: f64, limit: Option<f64>) -> Line {
    Line {
        what,
        ours: nanos(ours),
        peer: nanos(peer),
        ratio: ratio(ours, peer),
        goal: limit.map(|limit| format!("at most {limit}x")).unwrap_or_default(),
        holds: limit.map(|limit| ours <= limit * peer),
    }
}

pub(crate) fn run(report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    let host = PolicyHost::open(&folder.path().join("cache")).unwrap();
    let policy = host.standard();
    let one = lived(3)[2];
    let at = Instant(1_900_000_000_000_000_000);
    let mut single = [
        Candidate::new(1, || policy.enter(black_box(&one), Phase::Standby, at).unwrap()),
        Candidate::new(1, || policy.snapshot(black_box(&one), at).unwrap()),
    ];
    let alone = side_by_side(ROUNDS, &mut single);
    let mut lines = Vec::new();
    let mut snapshot_1k = 0.0;
    for size in SIZES {
        let trackers = lived(size);
        let at = Instant(1_900_000_000_000_000_000);
        let to: Vec<u8> = (0..size).map(|index| ((index + 1) % 8) as u8).collect();
        let ats = vec![at.0; size];
        let ours = columns!(TrackerColumns, TotalsColumns, &trackers);
        let native = columns!(NativeColumns, NativeTotals, &trackers);
        let steps: Vec<_> = trackers
            .iter()
            .zip(&to)
            .map(|(&tracker, &to)| (tracker, Phase::from_ordinal(to).unwrap(), at))
            .collect();
        let rows = rows(&trackers);
        let phases: Vec<_> = steps.iter().map(|step| native_phase(step.1)).collect();
        let mut candidates = [
            Candidate::new(size, || policy.answer_enter_all(black_box(&ours), &to, &ats).unwrap()),
            Candidate::new(size, || policy.answer_snapshot_all(black_box(&ours), at.0).unwrap()),
            Candidate::new(size, || {
                let enter = |(row, &to): (&NativeTracker, &NativePhase)| {
                    Native::enter(*row, to, at.0).unwrap()
                };
                black_box(&rows).iter().zip(&phases).map(enter).collect::<Vec<_>>()
            }),
            Candidate::new(size, || {
                let look = |row: &NativeTracker| Native::snapshot(*row, at.0).unwrap();
                black_box(&rows).iter().map(look).collect::<Vec<_>>()
            }),
            Candidate::new(size, || {
                Native::enter_all(black_box(&native).clone(), to.clone(), ats.clone()).unwrap()
            }),
            Candidate::new(size, || {
                Native::snapshot_all(black_box(&native).clone(), at.0).unwrap()
            }),
            Candidate::new(size, || policy.enter_all(black_box(&steps)).unwrap()),
            Candidate::new(size, || policy.snapshot_all(black_box(&trackers), at).unwrap()),
        ];
        let times = side_by_side(ROUNDS, &mut candidates);
        let goal = |limit| (size == 1_000).then_some(limit);
        lines.push(line(
            format!("transition, {size} a call; native rows"),
            times[0],
            times[2],
            goal(1.25),
        ));
        lines.push(line(
            format!("snapshot, {size} a call; native rows"),
            times[1],
            times[3],
            goal(2.0),
        ));
        lines.push(line(
            format!("transition, {size} a call; native columns"),
            times[0],
            times[4],
            None,
        ));
        lines.push(line(
            format!("snapshot, {size} a call; native columns"),
            times[1],
            times[5],
            None,
        ));
        lines.push(line(
            format!("transition of the host's rows, checked, {size} a call; native rows"),
            times[6],
            times[2],
            None,
        ));
        lines.push(line(
            format!("snapshot of the host's rows, checked, {size} a call; native rows"),
            times[7],
            times[3],
            None,
        ));
        if size == 1_000 {
            snapshot_1k = times[1];
        }
    }
    report.table("Accounting in the component, per item; peer: the same code native", lines);

    let mut lines: Vec<_> = ["transition", "snapshot"]
        .iter()
        .zip(&alone)
        .map(|(what, &time)| {
            let what = format!(
                "one {what}, in a fresh store and instance, checked; before any large batch"
            );
            Line::alone(what, nanos(time), "under 10 us", time < 10_000.0)
        })
        .collect();
    if let Some(program) = peer::build(folder.path()) {
        let go = peer::run(&program, &["-items", "1000"]);
        let snapshot = go["snapshot_ns"].as_f64().unwrap();
        lines.push(Line {
            what: "snapshot, batch of 1000; peer: the map tracker in Go".into(),
            ours: nanos(snapshot_1k),
            peer: nanos(snapshot),
            ratio: format!("{:.0}x faster", snapshot / snapshot_1k),
            goal: "at least 20x faster".into(),
            holds: Some(snapshot >= 20.0 * snapshot_1k),
        });
    }
    report.table("Single calls, and the usual way", lines);
}
