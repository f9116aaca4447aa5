//! The README: the commands under "Use it" are run as they stand, against the real daemon.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tallyman_tests::daemon::{Daemon, program};
use tallyman_tests::{linux, policies};

use crate::guide::{blocks, script};
use crate::{PROGRAM, daemon};

const README: &str = include_str!("../../../README.md");

const PRICES: &str = include_str!("../../../docs/prices.json");

/// Lays out what a working copy has after `make run`, with the data folder of the daemon.
fn working_copy(daemon: &Daemon, at: &Path) {
    for folder in ["target/release", "target/policies", "docs"] {
        fs::create_dir_all(at.join(folder)).expect("a folder");
    }
    let tallyman = std::path::absolute(PROGRAM).expect("a path");
    symlink(tallyman, at.join("target/release/tallyman")).expect("a link");
    symlink(daemon.folder(), at.join(".tallyman")).expect("a link");
    let coarse = policies::folder().join("coarse.wasm");
    fs::copy(coarse, at.join("target/policies/coarse.wasm")).expect("the policy is built");
    fs::write(at.join("docs/prices.json"), PRICES).expect("written");
}

#[test]
fn every_command_under_use_it_does_what_it_says() {
    let daemon = daemon();
    daemon.api().post("/images", &linux::import("debian-busybox")).done();
    let copy = tempfile::tempdir().expect("a folder");
    working_copy(&daemon, copy.path());
    let (_, section) = README.split_once("\n## Use it\n").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("its end");

    let mut shell: Command = program(Path::new("bash"), &["-c", &script(&blocks(section))]);
    shell.current_dir(copy.path()).env("TALLYMAN_URL", &daemon.api().url);
    let output = shell.output().expect("run bash");
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{errors}");

    // What the comments beside the commands promise.
    assert!(text.contains("intervals: sum") && text.contains("difference 0 ns"), "{text}");
    assert!(text.contains("invoice default-1"), "{text}");
    assert!(text.contains("verified byte for byte"), "{text}");
    assert!(text.contains("the journal is whole"), "{text}");
    assert!(copy.path().join("journal.db").exists(), "the backup is there");
}
