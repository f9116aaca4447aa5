//! Times that authors of policies wait: for a test, for an admission; and one tariff in four
//! languages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant as Timer;

use serde_json::json;
use tallyman::policy::{Backend, PolicyHost, Profile, Setup};
use tallyman_tests::policies;

use crate::corners::{Before, month_of};
use crate::measure::{Candidate, Line, Report, median, nanos, side_by_side};

const PROGRAM: &str = env!("CARGO_BIN_EXE_daemon");
const ROUNDS: usize = 15;
/// Intervals of the request that is measured in each language.
const INTERVALS: usize = 1_000;
/// The same tariff in each language, as `scripts/interpreted` builds it.
const LANGUAGES: [(&str, &str, Profile); 4] = [
    ("Rust", "rust", Profile::Compact),
    ("C", "c", Profile::Compact),
    ("Python", "py", Profile::Large),
    ("JavaScript", "js", Profile::Large),
];

/// The median time of some rounds, in nanoseconds.
fn timed(mut work: impl FnMut()) -> f64 {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begin = Timer::now();
        work();
        times.push(begin.elapsed().as_nanos() as f64);
    }
    median(&mut times)
}

fn tested() -> f64 {
    let file = policies::folder().join("standard.wasm");
    timed(|| {
        let mut program = Command::new(PROGRAM);
        let output = program.args(["policy", "test"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    })
}

/// The time to admit a component that the host does not know, with a compiler in a child or none.
fn admitted(folder: &Path, compiler: Option<PathBuf>) -> f64 {
    let cache = folder.join(if compiler.is_some() { "child" } else { "here" });
    let setup = Setup { cache: &cache, key: None, backend: Backend::Native, compiler };
    let host = PolicyHost::open_as(setup).unwrap();
    let mut round = 0;
    timed(|| {
        let name = format!("round {round:06}");
        round += 1;
        let mut bytes = PolicyHost::standard_bytes().to_vec();
        // A custom section, so that it is another component.
        bytes.extend([0, name.len() as u8 + 1, name.len() as u8]);
        bytes.extend(name.as_bytes());
        host.admit(&bytes).unwrap();
    })
}

fn waits(report: &mut Report, before: &mut Option<Before>) {
    let folder = tempfile::tempdir().unwrap();
    let test = tested();
    let here = admitted(folder.path(), None);
    let child = admitted(folder.path(), Some(PROGRAM.into()));
    let peer = before.as_mut().map(|before| before.ask(&json!({"admit": ROUNDS})));
    let peer = peer.map(|answer| answer["nanos"].as_u64().unwrap() as f64);
    let line = |what: &str, ours: f64| Line {
        what: what.into(),
        ours: nanos(ours),
        peer: peer.map_or_else(String::new, nanos),
        ratio: peer.map_or_else(String::new, |peer| format!("{:.2}x", ours / peer)),
        goal: String::new(),
        holds: None,
    };
    let lines = vec![
        Line::alone(
            "`policy test` of the standard policy, the program's start included",
            nanos(test),
            "under 500 ms",
            test < 5e8,
        ),
        line("admission of the standard policy, compiled in the daemon's process", here),
        Line {
            goal: peer.map_or_else(String::new, |_| "at most 1.5x".into()),
            holds: peer.map(|peer| child <= 1.5 * peer),
            ..line("admission of the standard policy, compiled in a bounded child", child)
        },
    ];
    report.table(
        "What authors wait for; peer: admission by the build before policies measured only, in its \
         own process",
        lines,
    );
}

fn languages(report: &mut Report) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/interpreted");
    let cache = tempfile::tempdir().unwrap();
    let host = PolicyHost::open(&cache.path().join("compiled")).unwrap();
    let request = month_of(INTERVALS);
    let mut costs: Vec<(String, f64, u64)> = Vec::new();
    for (language, file, profile) in LANGUAGES {
        let file = Path::new(folder).join(format!("{file}.wasm"));
        let Ok(bytes) = std::fs::read(&file) else {
            println!("NOT MEASURED: {language}: no {}; run `make interpreted`", file.display());
            continue;
        };
        let admitted = host.admit_in(profile, &bytes).unwrap();
        let policy = host.get(admitted.digest).unwrap();
        let answer = policy.measure(&request).unwrap();
        let mut candidates = [Candidate::new(1, || policy.measure(&request).unwrap())];
        let each = side_by_side(9, &mut candidates)[0];
        let kilobytes = bytes.len() / 1_000;
        let what = format!("{language}: {kilobytes} kB, compiled in {} ms", admitted.compile_ms);
        costs.push((what, each, answer.fuel));
    }
    report.table(
        &format!(
            "One tariff in four languages, as `policy new` writes it: {INTERVALS} intervals \
             measured in a fresh instance; peer: Rust"
        ),
        beside_the_first(costs),
    );
}

/// Lines of names, nanoseconds and fuel, each beside the first.
fn beside_the_first(costs: Vec<(String, f64, u64)>) -> Vec<Line> {
    let first = costs.first().map(|&(_, each, fuel)| (each, fuel));
    let line = |(what, each, fuel): (String, f64, u64)| {
        let (first_each, first_fuel) = first.unwrap_or((each, fuel));
        let slower = each / first_each;
        let dearer = fuel as f64 / first_fuel as f64;
        Line {
            what,
            ours: format!("{}, {fuel} fuel", nanos(each)),
            peer: format!("{}, {first_fuel} fuel", nanos(first_each)),
            ratio: format!("{slower:.1}x the time, {dearer:.1}x the fuel"),
            goal: String::new(),
            holds: None,
        }
    };
    costs.into_iter().map(line).collect()
}

pub(crate) fn run(report: &mut Report, before: &mut Option<Before>) {
    waits(report, before);
    languages(report);
}
