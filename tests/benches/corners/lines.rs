//! Nanoseconds and bytes of a charge line, guest and host together, beside an earlier build.

use std::io::Write as _;
use std::process::{Command, Stdio};

use biller::input::Balances;
use serde_json::{Value, json};
use tallyman::policy::PolicyHost;

use super::book::{self, BEGIN, Corner, DAY};
use super::{Before, Cost, ROUNDS, rate, thousands};
use crate::measure::{Line, Report, median, nanos};
use crate::memory::{forget_peak, peak_bytes, resident_bytes};

const END: i64 = BEGIN + 31 * DAY;
/// Rules, instances and intervals of each. The earlier build rates no more than these.
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 30, 1), (1, 100, 30), (1, 1_000, 30), (3, 100, 30), (3, 1_000, 30), (5, 1_000, 30)];
/// The argument with which the benchmark starts itself to be measured alone.
pub(crate) const GROWN: &str = "--grown";

fn corner(rules: usize) -> Corner {
    let meters = ["active", "resident", "allocated"];
    Corner { name: "", book: book::rules(rules, &meters, (BEGIN, END)) }
}

/// The question that a shape is, to either build.
fn question((rules, instances, intervals): (usize, usize, usize)) -> Value {
    json!({
        "book": corner(rules).book, "instances": instances, "intervals": intervals,
        "start": BEGIN, "end": END, "rounds": ROUNDS, "rules": rules,
    })
}

/// Answers one question from the standard input: the bytes by which the process was larger at most
/// while it rated, over what it was before, and the lines.
pub(crate) fn grown() {
    let question: Value = serde_json::from_reader(std::io::stdin()).unwrap();
    let number = |name: &str| question[name].as_u64().unwrap() as usize;
    let corner = corner(number("rules"));
    let folder = tempfile::tempdir().unwrap();
    let host = PolicyHost::open(&folder.path().join("cache")).unwrap();
    let biller = host.biller().unwrap();
    let small = book::request(1, 1, BEGIN, END);
    rate(host.standard(), &biller, &corner, &small, Balances::default());
    let request = book::request(number("instances"), number("intervals"), BEGIN, END);
    forget_peak();
    let before = resident_bytes();
    let (cost, _) = rate(host.standard(), &biller, &corner, &request, Balances::default());
    let bytes = peak_bytes().saturating_sub(before);
    println!("{}", json!({"bytes": bytes, "lines": cost.lines}));
}

/// The bytes of a line of this build, by a process of its own.
fn ours(question: &Value) -> Value {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program)
        .arg(GROWN)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    write!(child.stdin.take().unwrap(), "{question}").unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The bytes of a line of the earlier build, by a process of its own; none where it has none.
fn theirs(question: &Value) -> Option<Value> {
    let mut question = question.clone();
    question["grown"] = true.into();
    Some(Before::start()?.ask(&question))
}

fn bytes_a_line(answer: &Value) -> Option<f64> {
    let number = |name: &str| answer[name].as_u64().map(|number| number as f64);
    Some(number("bytes")? / number("lines")?.max(1.0))
}

fn times(host: &PolicyHost, question: &Value, before: &mut Option<Before>) -> (f64, Option<f64>) {
    let number = |name: &str| question[name].as_u64().unwrap() as usize;
    let corner = corner(number("rules"));
    let request = book::request(number("instances"), number("intervals"), BEGIN, END);
    let biller = host.biller().unwrap();
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let rated: Cost = rate(host.standard(), &biller, &corner, &request, Balances::default()).0;
        all.push(rated.nanos_a_line());
    }
    let peer = before.as_mut().map(|before| before.ask(question)).and_then(|answer| {
        Some(answer["nanos"].as_u64()? as f64 / answer["lines"].as_u64()?.max(1) as f64)
    });
    (median(&mut all), peer)
}

fn line(what: String, ours: (f64, String), peer: Option<(f64, String)>) -> Line {
    let ratio = peer.as_ref().map(|peer| ours.0 / peer.0);
    Line {
        what,
        ours: ours.1,
        peer: peer.map_or_else(String::new, |peer| peer.1),
        ratio: ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x")),
        goal: ratio.map_or_else(String::new, |_| "at most 0.5x".into()),
        holds: ratio.map(|ratio| ratio <= 0.5),
    }
}

pub(super) fn run(
    report: &mut Report,
    host: &PolicyHost,
    before: &mut Option<Before>,
    is_small: bool,
) {
    let mut lines = Vec::new();
    let shapes = if is_small { &SHAPES[..2] } else { &SHAPES };
    for shape in shapes {
        let question = question(*shape);
        let (rules, instances, each) = *shape;
        let what = format!("{rules} rules; instances x intervals: {instances} x {each}");
        let (own, peer) = times(host, &question, before);
        let peer = peer.map(|peer| (peer, nanos(peer)));
        lines.push(line(format!("{what}; time"), (own, nanos(own)), peer));
        let bytes = |value: f64| (value, format!("{} bytes", thousands(value)));
        let own = bytes_a_line(&ours(&question)).map(bytes).unwrap();
        let peer = before.as_ref().and_then(|_| theirs(&question));
        let peer = peer.as_ref().and_then(bytes_a_line).map(bytes);
        lines.push(line(format!("{what}; memory"), own, peer));
    }
    report.table(
        "Time and memory of a charge line, guest and host together, measured and billed; memory is \
         the most that a process grows; peer: the build before policies measured only",
        lines,
    );
}
