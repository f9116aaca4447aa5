//! `make bench`: the cost of Tallyman against named peers, in one run. Ratios are what counts; the
//! machine is printed.
//!
//! Arguments after `--`: names of sections (`accounting durable swap lifecycle scale journal rating
//! bill machines corners authors tenants`; `large` only by its name, for `make bench-large`),
//! `--write` to put the report into `docs/benchmarks.md`, and `--small` to try the sections that
//! have a small size in it.

// Rates and ratios for people; nothing here is money or billed time.
#![allow(clippy::float_arithmetic, clippy::unwrap_used, missing_docs)]

mod accounting;
mod authors;
mod bill;
mod corners;
mod durable;
mod journal;
mod lifecycle;
mod machine;
mod machines;
mod measure;
mod memory;
mod peer;
mod rating;
mod scale;
mod swap;
mod tenants;

use measure::Report;

/// A section of the report.
type Section = fn(&mut Report);

/// The sections that need nothing else.
const SECTIONS: [(&str, Section); 8] = [
    ("accounting", accounting::run),
    ("durable", durable::run),
    ("swap", swap::run),
    ("lifecycle", lifecycle::run),
    ("scale", scale::run),
    ("journal", journal::run),
    ("rating", rating::run),
    ("bill", bill::run),
];

fn main() {
    if std::env::args().nth(1).as_deref() == Some(corners::GROWN) {
        return corners::grown();
    }
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let write = asked.iter().any(|word| word == "--write");
    let is_small = asked.iter().any(|word| word == "--small");
    let sections: Vec<_> = asked.iter().filter(|word| !word.starts_with("--")).collect();
    let wanted =
        |name: &str| sections.is_empty() || sections.iter().any(|section| *section == name);
    let mut report = Report::default();
    report.say("# Benchmarks\n");
    report.say(
        "Made by `make bench`. Every ratio comes from one run on one machine; \
         absolute times are that machine's.\n",
    );
    report.say(&machine::describe());
    for (name, run) in SECTIONS {
        if wanted(name) {
            run(&mut report);
        }
    }
    beside_the_old_build(&mut report, wanted, is_small);
    if wanted("tenants") {
        tenants::run(&mut report);
    }
    if sections.iter().any(|section| *section == "large") {
        journal::large(&mut report);
    }
    // Last: it leaves the host's network for one of its own.
    if wanted("machines") {
        machines::run(&mut report);
    }
    report.say(&format!("\n{} goals missed", report.missed));
    if write {
        keep(&report);
    }
}

/// The sections that hold this build against an old one.
fn beside_the_old_build(report: &mut Report, wanted: impl Fn(&str) -> bool, is_small: bool) {
    let mut before = None;
    if wanted("corners") || wanted("authors") {
        before = corners::Before::start();
    }
    if wanted("corners") {
        corners::run(report, &mut before, is_small);
    }
    if wanted("authors") {
        authors::run(report, &mut before);
    }
}

/// Writes the report into the documentation.
fn keep(report: &Report) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");
    std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).unwrap();
    std::fs::write(path, report.text()).unwrap();
    println!("written to docs/benchmarks.md");
}
