//! Policies of other authors: the output of `policy new` is built with the language's own tools,
//! conforms, and is admitted.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tallyman_tests::daemon::program;
use tallyman_tests::policies;
use tempfile::TempDir;

use crate::hostile::{self, When};
use crate::{PROGRAM, daemon};

fn tallyman(arguments: &[&str]) -> Output {
    program(Path::new(PROGRAM), arguments).output().expect("run the program")
}

fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with a fresh policy called `my-rules`.
fn fresh(lang: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().join("mine");
    done(&tallyman(&[
        "policy",
        "new",
        "my-rules",
        "--lang",
        lang,
        "--into",
        &into.display().to_string(),
    ]));
    (folder, into)
}

fn run(command: &mut Command) {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?} can't be run: {error}"));
    done(&output);
}

/// Report of the conformance kit on a component.
fn tested(file: &Path) -> Value {
    let told = done(&tallyman(&["policy", "test", &file.display().to_string(), "--json"]));
    serde_json::from_str(&told).expect("JSON")
}

/// Checks that a component conforms, and that a daemon admits it and counts boot time as the
/// templates do.
fn conforms_and_counts(file: &Path) {
    let report = tested(file);
    assert_eq!((&report["holds"], &report["world"]), (&json!(true), &json!("policy")), "{report}");
    assert!(report["counted"].as_u64() > Some(0), "it counts nothing: {report}");
    let names = |list: &str| {
        report[list]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("meters"), ["active", "allocated"], "{report}");
    assert!(names("options").contains(&json!("minimum")), "{report}");
    for burned in report["fuel"].as_array().expect("rows") {
        assert!(burned["fuel"].as_u64() <= burned["allowed"].as_u64(), "{burned}");
    }
    let daemon = daemon();
    let api = daemon.api();
    let uploaded = api.upload(std::fs::read(file).expect("a component")).done();
    assert_eq!(uploaded["digest"], report["digest"]);
    api.put("/tenants/default/policy", &json!({"digest": uploaded["digest"]})).done();
    let id = api.create_running("counted");
    let account = api.get(&format!("/instances/{id}/intervals")).done();
    let counted = &account["accounted"]["totals_ns"];
    assert!(counted["initializing"].is_null() && counted["running"].is_u64(), "{account}");
    api.check_time(&id);
}

#[test]
fn a_policy_in_rust_is_built_by_cargo_and_conforms() {
    let (_folder, mine) = fresh("rust");
    // Builds of one run serve the next; the crates are those that this program was built with.
    let target = policies::folder().with_file_name("strangers");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--offline", "--target", "wasm32-unknown-unknown"]);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.contains("RUSTFLAGS")
            || name.starts_with("CARGO_BUILD_")
            || name.starts_with("RUSTC_")
        {
            cargo.env_remove(&*name);
        }
    }
    run(cargo.current_dir(&mine).env("CARGO_TARGET_DIR", &target));
    let module = target.join("wasm32-unknown-unknown/release/my_rules.wasm");
    let component = mine.join("my-rules.wasm");
    let wrap = ["policy", "wrap", &module.display().to_string(), &component.display().to_string()];
    done(&tallyman(&wrap));
    conforms_and_counts(&component);
}

/// Builds a policy in C by its Makefile.
fn make(mine: &Path) {
    // The Makefile calls the program by its name.
    let bin = mine.join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    symlink(std::path::absolute(PROGRAM).expect("a path"), bin.join("tallyman")).expect("a link");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    run(Command::new("make").current_dir(mine).env("PATH", path).env_remove("MAKEFLAGS"));
}

#[test]
fn a_policy_in_c_is_built_by_clang_and_conforms() {
    let (_folder, mine) = fresh("c");
    make(&mine);
    conforms_and_counts(&mine.join("my-rules.wasm"));
}

/// Rules in C that state a line of their own for each instance: half as much again as its memory
/// times its time.
const OWN_LINES: &str = r#"
#define OWN_LINES watch
#define BILLED_RATIO 2000
#include "tallyman.h"

uint8_t counts_as(uint8_t phase) { return phase; }

const meter_t METERS[] = {
    {"allocated", "all time", ALL_PHASES, LIFE, 0, 1, NULL},
    METERS_END,
};

void watch(request_t *request, measurement_t *ret) {
  const uint32_t *subject = request->intervals.subject.ptr;
  uint32_t items = request->intervals.subject.len;
  for (uint32_t first = 0, end = 0; first < items; first = end) {
    while (end < items && subject[end] == subject[first]) {
      end++;
    }
    own_line_t *line = add_line(ret, request, "watch", "allocated", "memory-byte", "w", first, end);
    if (line) {
      line->billed = words_of(share_of(held(request, "memory-byte", first, end), 3, 2));
    }
  }
}
"#;

#[test]
fn a_policy_in_c_states_lines_of_128_bits_and_the_kit_says_what_they_bill() {
    let (_folder, mine) = fresh("c");
    std::fs::write(mine.join("rules.c"), OWN_LINES).expect("a file");
    make(&mine);
    let report = tested(&mine.join("my-rules.wasm"));
    assert_eq!(report["holds"], json!(true), "{report}");
    assert!(report["lines"].as_u64() > Some(100), "{report}");
    let billed = &report["billed"][0];
    assert_eq!(
        (&billed["rule"], &billed["unit"], &billed["ratio"]),
        (&json!("watch"), &json!("memory-byte-ns"), &json!("1.501")),
        "rounded up: {report}"
    );
    assert!(billed["quantity"].as_str().is_some_and(|digits| digits.len() > 20), "{report}");
    let warnings = report["warnings"].as_array().expect("some").iter();
    let mut warnings = warnings.map(|warning| warning.as_str().expect("a text"));
    assert!(warnings.any(|one| one.contains("'watch' bills more than was used")), "{report}");
}

#[test]
fn the_kit_needs_no_daemon_and_fails_what_does_not_conform_with_the_reason() {
    let report = tested(&policies::folder().join("standard.wasm"));
    assert_eq!(
        (&report["holds"], &report["profile"]),
        (&json!(true), &json!("compact")),
        "{report}"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("evil.wasm");
    let rows = [
        (b"no component".to_vec(), "not a WebAssembly component"),
        (hostile::LOOPS.component(When::Always), "fuel"),
        (hostile::Contract::served().with("0.2.0", "0.3.0").dummy("policy"), "0.3.0"),
    ];
    for (component, words) in rows {
        std::fs::write(&file, component).expect("a file");
        let output = tallyman(&["policy", "test", &file.display().to_string()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "'{words}' is not in: {said}");
    }
    // Admitted, but it does not conform: the template of the hostile ones wraps around where a
    // total would overflow.
    std::fs::write(&file, hostile::HONEST.component(When::Never)).expect("a file");
    let output = tallyman(&["policy", "test", &file.display().to_string()]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let line = told
        .lines()
        .find(|line| line.contains("FAILS"))
        .unwrap_or_else(|| panic!("nothing fails: {told}"));
    assert!(line.contains("a total that would overflow is refused"), "{told}");
}

#[test]
fn what_is_no_module_of_the_contract_is_not_wrapped() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = folder.path().join("a.core.wasm");
    let component = folder.path().join("a.wasm");
    for bytes in [b"no module".to_vec(), b"\0asm\x01\0\0\0".to_vec()] {
        std::fs::write(&module, bytes).expect("a file");
        let output = tallyman(&[
            "policy",
            "wrap",
            &module.display().to_string(),
            &component.display().to_string(),
        ]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr)
                .contains("a.core.wasm can't be made a component"),
            "{output:?}"
        );
        assert!(!component.exists());
    }
}

#[test]
fn a_new_policy_overwrites_nothing_and_has_a_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().display().to_string();
    let output = tallyman(&["policy", "new", "mine", "--lang", "rust", "--into", &into]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is there already"), "{output:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    for name in ["", "1st", "My", "a/b", ".."] {
        let into = folder.path().join("new").display().to_string();
        let output = tallyman(&["policy", "new", "--lang", "c", "--into", &into, "--", name]);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        assert!(!folder.path().join("new").exists());
    }
    for lang in ["rust", "c", "python", "js"] {
        let (_folder, mine) = fresh(lang);
        let readme = std::fs::read_to_string(mine.join("README.md")).expect("a text");
        assert!(
            readme.contains("tallyman policy test my-rules.wasm") && !readme.contains("{{"),
            "{readme}"
        );
        assert!(mine.join("wit/metering.wit").is_file());
    }
}
