//! `make bench`: the cost of Tallyman against named peers, in one run. Ratios are what counts; the
//! machine is printed.
//!
//! Arguments after `--`: names of sections (`accounting durable swap lifecycle scale journal
//! rating bill machines`), and `--write` to put the report into `docs/benchmarks.md`.

// Rates and ratios for people; nothing here is money or billed time.
#![allow(clippy::float_arithmetic, clippy::unwrap_used, missing_docs)]

mod accounting;
mod bill;
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

use measure::Report;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let write = asked.iter().any(|word| word == "--write");
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
    if wanted("accounting") {
        accounting::run(&mut report);
    }
    if wanted("durable") {
        durable::run(&mut report);
    }
    if wanted("swap") {
        swap::run(&mut report);
    }
    if wanted("lifecycle") {
        lifecycle::run(&mut report);
    }
    if wanted("scale") {
        scale::run(&mut report);
    }
    if wanted("journal") {
        journal::run(&mut report);
    }
    if wanted("rating") {
        rating::run(&mut report);
    }
    if wanted("bill") {
        bill::run(&mut report);
    }
    if wanted("machines") {
        machines::run(&mut report);
    }
    report.say(&format!("\n{} goals missed", report.missed));
    if write {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).unwrap();
        std::fs::write(path, report.text()).unwrap();
        println!("written to docs/benchmarks.md");
    }
}
