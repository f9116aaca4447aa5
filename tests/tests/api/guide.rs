//! The guide to policies: every command in it is run, as it stands, against the real daemon.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tallyman_tests::daemon::program;
use tallyman_tests::guest;

use crate::{PROGRAM, daemon};

const GUIDE: &str = include_str!("../../../docs/policies.md");

const RULES: &str = include_str!("../../../host/src/cli/policy/templates/c/rules.c");
const RULES_IN_RUST: &str = include_str!("../../../host/src/cli/policy/templates/rust/lib.rs.txt");

/// A fenced block: its language, the line at which it begins, its text.
pub(crate) type Block = (String, usize, String);

pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open = None;
    for (line, number) in text.lines().zip(1..) {
        match (line.strip_prefix("```"), open.take()) {
            (Some(language), None) => open = Some((language.to_owned(), number, String::new())),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some((language, number, text))) => {
                open = Some((language, number, text + line + "\n"))
            }
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block is not closed");
    blocks
}

/// The commands as one script that stops at the first failure and reports its place.
pub(crate) fn script(blocks: &[Block]) -> String {
    let commands = blocks.iter().filter(|(language, ..)| language == "sh");
    let commands =
        commands.map(|(_, number, text)| format!("printf '\\n# line {number}\\n' >&2\n{text}"));
    commands.fold("set -euxo pipefail\n".to_owned(), |script, block| script + block.as_str())
}

#[test]
fn every_command_of_the_guide_to_policies_does_what_it_says() {
    let daemon = daemon();
    let image =
        json!({"name": "debian-busybox", "kernel": guest::tiny(), "memory_bytes_min": 16 << 20});
    daemon.api().post("/images", &image).done();
    let folder = tempfile::tempdir().expect("a folder");
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    symlink(std::path::absolute(PROGRAM).expect("a path"), bin.join("tallyman")).expect("a link");

    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    let mut shell: Command = program(Path::new("bash"), &["-c", &script(&blocks(GUIDE))]);
    shell.current_dir(folder.path()).env("PATH", path).env_remove("MAKEFLAGS");
    shell.env("TALLYMAN_URL", &daemon.api().url).env("TALLYMAN_DATA", daemon.folder());
    let output = shell.output().expect("run bash");
    let said = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{said}");

    // Promises of the text around the commands.
    assert!(told.contains("(done by an earlier try)"), "{told}");
    let status = daemon.api().get("/tenants/acme/policy").done();
    let report =
        std::fs::read(folder.path().join("my-rules/report.json")).expect("the kit's report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(
        (&status["digest"], &report["holds"]),
        (&report["digest"], &json!(true)),
        "{status}"
    );
    let planned = status["planned"].as_array().expect("plans");
    assert_eq!(planned.len(), 1, "what was planned stays: {status}");
    assert_eq!(planned[0]["digest"], report["digest"], "{status}");
    assert_eq!(status["fallback"], json!(["last-good", "standard"]), "{status}");
    let facts = daemon.api().get("/journal?kind=policy-activated&limit=1000").done();
    let of_acme = facts["facts"]
        .as_array()
        .expect("facts")
        .iter()
        .filter(|fact| fact["tenant"] == "acme")
        .count();
    assert_eq!(of_acme, 5, "the first, planned, now, back, again: {facts}");
    let invoices = daemon.api().get("/tenants/acme/invoices").done()["invoices"].clone();
    assert_eq!(
        (&invoices[0]["follows"], &invoices[1]["follows"]),
        (&Value::Null, &json!(1)),
        "{invoices}"
    );
    assert_ne!(
        (&invoices[0]["total"], &invoices[1]["total"]),
        (&json!("0.00"), &json!("0.00")),
        "{invoices}"
    );
}

#[test]
fn no_command_of_the_guide_stands_where_it_is_not_run() {
    for (language, number, text) in blocks(GUIDE) {
        let is_command = |line: &str| line.contains("tallyman ") || line.starts_with("make");
        let template = match language.as_str() {
            "c" => RULES,
            "rust" => RULES_IN_RUST,
            _ => &text,
        };
        assert!(template.contains(&text), "line {number} is not what the template has");
        assert!(
            language == "sh" || !text.lines().any(is_command),
            "line {number} holds a command and is no `sh`"
        );
    }
}
