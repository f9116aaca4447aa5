//! Books at the limits: fuel and time of a line beside an earlier build where that rates them, and
//! a year of ten thousand instances under every shipped policy.

mod book;
mod build;
mod lines;

use std::sync::Arc;
use std::time::Instant as Timer;

use biller::input::Balances;
use serde_json::json;
use tallyman::policy::biller::Biller;
use tallyman::policy::metering::Request;
use tallyman::policy::{Policy, PolicyHost};
use tallyman_tests::policies;

use crate::measure::{Line, Report, median, nanos};
use book::{BEGIN, Corner, DAY};
pub(crate) use build::Before;
pub(crate) use lines::{GROWN, grown};

/// Instances and intervals of each, in one month.
const SHAPES: [(usize, usize); 5] = [(1, 1), (1, 100), (1, 10_000), (30, 1), (100, 30)];
const ROUNDS: usize = 5;
const INSTANCES: usize = 10_000;
const MONTHS: i64 = 12;

/// The fuel, lines and time of rating something.
#[derive(Clone, Copy)]
struct Cost {
    fuel: u64,
    lines: usize,
    nanos: f64,
}

impl Cost {
    fn fuel_a_line(&self) -> f64 {
        self.fuel as f64 / self.lines.max(1) as f64
    }

    fn nanos_a_line(&self) -> f64 {
        self.nanos / self.lines.max(1) as f64
    }
}

/// Measures a request by a policy and bills it by the biller, both as components.
fn rate(
    policy: &Policy,
    biller: &Biller,
    corner: &Corner,
    request: &Request,
    opening: Balances,
) -> (Cost, Balances) {
    let begin = Timer::now();
    let measured = policy.measure(request).unwrap();
    let span = (request.span.start, request.span.end);
    let header = book::header(&corner.book, &measured.value.terms, span, opening);
    let (subjects, intervals) = book::measured(request, measured.value.counted);
    let billed = biller.bill(&header, &subjects, &intervals, &[]).unwrap();
    let nanos = begin.elapsed().as_nanos() as f64;
    let fuel = measured.fuel + billed.fuel;
    (Cost { fuel, lines: billed.bill.lines.len(), nanos }, billed.bill.closing)
}

fn thousands(value: f64) -> String {
    let digits = (value.round() as u64).to_string();
    let parts: Vec<_> = digits.as_bytes().rchunks(3).rev().collect();
    parts.iter().map(|part| String::from_utf8_lossy(part)).collect::<Vec<_>>().join(",")
}

fn beside_before(report: &mut Report, host: &PolicyHost, before: &mut Option<Before>) {
    let policy = host.standard();
    let biller = host.biller().unwrap();
    let mut lines = Vec::new();
    for corner in book::corners() {
        for (instances, each) in SHAPES {
            let end = BEGIN + 31 * DAY;
            let request = book::request(instances, each, BEGIN, end);
            let rated = || rate(policy, &biller, &corner, &request, Balances::default()).0;
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                times.push(rated().nanos);
            }
            let ours = Cost { nanos: median(&mut times), ..rated() };
            let answer = before.as_mut().map(|before| {
                before.ask(&json!({
                    "book": corner.book, "instances": instances, "intervals": each,
                    "start": BEGIN, "end": end, "rounds": ROUNDS,
                }))
            });
            let peer = answer.as_ref().filter(|answer| answer["fault"].is_null());
            let peer = peer.map(|answer| Cost {
                fuel: answer["fuel"].as_u64().unwrap(),
                lines: answer["lines"].as_u64().unwrap() as usize,
                nanos: answer["nanos"].as_u64().unwrap() as f64,
            });
            let name = corner.name;
            let what = format!("{name}; instances x intervals: {instances} x {each}");
            lines.push(compared(what, ours, peer, answer.is_some()));
        }
    }
    report.table(
        "Fuel and time of a line under the standard policy, measured and billed by components; \
         peer: the build before policies measured only, with its own limits",
        lines,
    );
}

fn compared(what: String, ours: Cost, peer: Option<Cost>, was_asked: bool) -> Line {
    let told = |cost: Cost| {
        format!("{} fuel, {}", thousands(cost.fuel_a_line()), nanos(cost.nanos_a_line()))
    };
    let ratio = peer.map(|peer| peer.fuel_a_line() / ours.fuel_a_line());
    let nothing = if was_asked { "out of fuel" } else { "" };
    Line {
        what,
        ours: told(ours),
        peer: peer.map_or_else(|| nothing.into(), told),
        ratio: ratio.map_or_else(String::new, |ratio| format!("{ratio:.1}x less fuel")),
        goal: ratio.map_or_else(String::new, |_| "at least 10x less fuel".into()),
        holds: ratio.map(|ratio| ratio >= 10.0),
    }
}

/// The months of a year, from border to border.
fn months() -> Vec<(i64, i64)> {
    const DAYS: [i64; MONTHS as usize] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut start = BEGIN;
    let month = |days: i64| {
        let span = (start, start + days * DAY);
        start = span.1;
        span
    };
    DAYS.into_iter().map(month).collect()
}

/// Books at the limits on some meters, whose prices divide a year.
fn limits(meters: &[&str], year: (i64, i64)) -> Vec<Corner> {
    vec![
        Corner {
            name: "1 rule x 1,000 prices",
            book: book::prices(1_000, meters[0], year.0, year.1),
        },
        Corner { name: "64 rules", book: book::rules(64, meters, year) },
        Corner { name: "8 rules x 8 windows", book: book::windows(8, 8, meters) },
    ]
}

/// Rates a year of instances with one interval each, month by month.
fn year(report: &mut Report, host: &PolicyHost, is_small: bool) {
    let instances = if is_small { INSTANCES / 100 } else { INSTANCES };
    let months = months();
    let months = &months[..if is_small { 2 } else { months.len() }];
    let whole = (months[0].0, months[months.len() - 1].1);
    let biller = host.biller().unwrap();
    let mut lines = Vec::new();
    for name in policies::names() {
        let digest = host.admit(&policies::component(&name)).unwrap().digest;
        let policy = host.get(digest).unwrap();
        let described = policy.describe().unwrap().clone();
        let meters: Vec<&str> = described.meters.iter().map(|meter| meter.name.as_str()).collect();
        for corner in limits(&meters, whole) {
            let cost = rated_year(&policy, &biller, &corner, instances, months);
            lines.push(Line {
                what: format!("{name}; {}; {} lines", corner.name, thousands(cost.lines as f64)),
                ours: nanos(cost.nanos),
                peer: String::new(),
                ratio: format!("{} fuel a line", thousands(cost.fuel_a_line())),
                goal: "rated".into(),
                holds: Some(cost.lines > 0),
            });
        }
    }
    report.table(
        &format!(
            "{} instances with one interval each, {} months, billed one after the other",
            thousands(instances as f64),
            months.len()
        ),
        lines,
    );
}

fn rated_year(
    policy: &Arc<Policy>,
    biller: &Biller,
    corner: &Corner,
    instances: usize,
    months: &[(i64, i64)],
) -> Cost {
    let mut opening = Balances::default();
    let mut sum = Cost { fuel: 0, lines: 0, nanos: 0.0 };
    for &(start, end) in months {
        let request = book::request(instances, 1, start, end);
        let (cost, closing) = rate(policy, biller, corner, &request, opening);
        opening = closing;
        sum.fuel += cost.fuel;
        sum.lines += cost.lines;
        sum.nanos += cost.nanos;
    }
    sum
}

/// A request of one instance with this many intervals in a month.
pub(crate) fn month_of(intervals: usize) -> Request {
    book::request(1, intervals, BEGIN, BEGIN + 31 * DAY)
}

pub(crate) fn run(report: &mut Report, before: &mut Option<Before>, is_small: bool) {
    let folder = tempfile::tempdir().unwrap();
    let host = PolicyHost::open(&folder.path().join("cache")).unwrap();
    lines::run(report, &host, before, is_small);
    beside_before(report, &host, before);
    year(report, &host, is_small);
}
