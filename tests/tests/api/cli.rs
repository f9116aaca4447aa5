//! The command line of the real program, against the real daemon.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tallyman_tests::daemon::{Daemon, program};
use tallyman_tests::{guest, policies};

use crate::{PROGRAM, daemon};

fn text(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.cli(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn as_json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let told = text(daemon, &[arguments, &["--json"]].concat());
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {told}"))
}

fn failed(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty(), "what failed prints nothing");
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

/// Checks that every column of a table begins at the same place in each line, by the heads of the
/// columns that are aligned to the left.
fn assert_aligned(table: &str, heads: &[&str]) {
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() > 1, "no rows: {table}");
    for head in heads {
        let place = lines[0].find(head).unwrap_or_else(|| panic!("no {head} in {table}"));
        for line in &lines[1..] {
            let before = line.chars().nth(place.wrapping_sub(1));
            let at = line.chars().nth(place);
            assert!(place == 0 || before == Some(' '), "{head}: {table}");
            assert!(at.is_some_and(|at| at != ' '), "{head}: {table}");
        }
    }
}

#[test]
fn a_whole_life_by_command_line_in_words() {
    let daemon = daemon();
    let told = text(
        &daemon,
        &[
            "instance",
            "create",
            "web",
            "--image",
            "tiny",
            "--tag",
            "team=blue",
            "--stop-grace",
            "1s",
            "--wait",
        ],
    );
    assert_eq!(told, "web is Running\n");
    for (command, told) in [
        ("pause", "web is Paused\n"),
        ("resume", "web is Running\n"),
        ("standby", "web is Standby\n"),
        ("restore", "web is Running\n"),
        ("stop", "web is Stopped\n"),
    ] {
        assert_eq!(text(&daemon, &["instance", command, "web"]), told);
    }
    assert_eq!(text(&daemon, &["instance", "start", "web", "--wait"]), "web is Running\n");
    assert_eq!(
        text(&daemon, &["instance", "wait", "web", "--state", "running"]),
        "web is Running\n"
    );
    let list = text(&daemon, &["instance", "list"]);
    assert_aligned(&list, &["NAME", "ID", "STATE", "PHASE", "IMAGE"]);
    assert!(list.contains("web") && list.contains("Running"), "{list}");
    assert_eq!(text(&daemon, &["instance", "list", "--tag", "team=red"]), "none\n");
    assert!(text(&daemon, &["instance", "get", "web"]).contains("running"));
    assert!(text(&daemon, &["instance", "logs", "web"]).contains("TALLYMAN-AGENT-READY"));
    let intervals = text(&daemon, &["instance", "intervals", "web"]);
    for phase in ["created", "initializing", "running", "paused", "standby", "stopped"] {
        assert!(intervals.contains(phase), "{phase}: {intervals}");
    }
    assert!(
        text(&daemon, &["instance", "delete", "web", "--grace", "0s"])
            .starts_with("web is deleted")
    );
    assert_eq!(text(&daemon, &["instance", "list"]), "none\n");
    assert_aligned(&text(&daemon, &["image", "list"]), &["NAME"]);
    assert!(text(&daemon, &["image", "get", "tiny"]).contains("kernel"));
    let facts = text(&daemon, &["journal", "list"]);
    assert_aligned(&facts, &["WALL CLOCK", "INSTANCE", "KIND", "HASH"]);
    let head = text(&daemon, &["journal", "head"]);
    let (seq, hash) = head.trim().split_once(' ').expect("a place and a hash");
    assert_eq!(facts.lines().count() - 1, seq.parse::<usize>().expect("a number"));
    assert!(
        text(&daemon, &["journal", "verify"]).contains(hash),
        "the head is the end of what is proved"
    );
    assert!(text(&daemon, &["health"]).starts_with("ok"));
}

#[test]
fn a_whole_life_by_command_line_as_json() {
    let daemon = daemon();
    let created = as_json(&daemon, &["instance", "create", "web", "--image", "tiny", "--wait"]);
    let id = created["id"].as_str().expect("an id");
    assert_eq!(created["state"], json!("Running"));
    for (command, state) in
        [("pause", "Paused"), ("resume", "Running"), ("standby", "Standby"), ("restore", "Running")]
    {
        assert_eq!(as_json(&daemon, &["instance", command, &id[..8]])["state"], json!(state));
    }
    assert_eq!(
        as_json(&daemon, &["instance", "stop", "web", "--grace", "1s"])["state"],
        json!("Stopped")
    );
    assert_eq!(
        as_json(&daemon, &["instance", "start", "web", "--wait"])["state"],
        json!("Running")
    );
    assert_eq!(as_json(&daemon, &["instance", "wait", "web"])["timed_out"], json!(false));
    assert_eq!(as_json(&daemon, &["instance", "list"])[0]["id"], json!(id));
    assert_eq!(as_json(&daemon, &["instance", "get", id])["name"], json!("web"));
    assert_eq!(
        as_json(&daemon, &["instance", "delete", "web", "--grace", "0s"])["state"],
        json!("Deleted")
    );
    assert_eq!(as_json(&daemon, &["instance", "get", id, "--deleted"])["state"], json!("Deleted"));
    assert_eq!(
        as_json(&daemon, &["instance", "intervals", id])["proof"]["difference_ns"],
        json!(0)
    );
    assert_eq!(as_json(&daemon, &["instance", "list"]), json!([]));
    let kernel = guest::tiny().display().to_string();
    let import = ["image", "import", "mine", "--kernel", &kernel, "--memory", "16MB"];
    assert_eq!(as_json(&daemon, &import)["memory_bytes_min"], json!(16 << 20));
    assert_eq!(as_json(&daemon, &["image", "get", "mine"])["name"], json!("mine"));
    assert_eq!(as_json(&daemon, &["image", "list"]).as_array().map(Vec::len), Some(2));
    as_json(&daemon, &["image", "remove", "mine"]);
    let facts = as_json(&daemon, &["journal", "list", "--instance", id]);
    assert_eq!(
        facts.as_array().and_then(|facts| facts.last()).expect("facts")["kind"],
        json!("deleted")
    );
    let head = as_json(&daemon, &["journal", "head"]);
    assert_eq!(as_json(&daemon, &["journal", "verify"])["hash"], head["hash"]);
    assert_eq!(as_json(&daemon, &["health"])["status"], json!("ok"));
}

#[test]
fn a_policy_is_uploaded_activated_and_rolled_back() {
    let daemon = daemon();
    let coarse = policies::folder().join("coarse.wasm").display().to_string();
    let uploaded = as_json(&daemon, &["policy", "upload", &coarse]);
    let digest = uploaded["digest"].as_str().expect("a digest").to_owned();
    let list = text(&daemon, &["policy", "list"]);
    assert!(list.contains(&digest[..12]), "{list}");
    assert!(text(&daemon, &["policy", "activate", &digest[..12]]).contains(&digest));
    assert!(text(&daemon, &["policy", "status"]).contains(&digest));
    assert_eq!(as_json(&daemon, &["policy", "status"])["digest"], json!(digest));
    assert_ne!(as_json(&daemon, &["policy", "rollback"])["digest"], json!(digest));
    assert_aligned(&text(&daemon, &["policy", "limits"]), &["AT MOST"]);
}

#[test]
fn failures_have_their_status_and_their_reason() {
    let daemon = daemon();
    daemon.api().create_running("web");
    let fails =
        |arguments: &[&str], code, words: &[&str]| failed(&daemon.cli(arguments), code, words);
    fails(&["instance", "get", "none"], 4, &["no instance 'none'", "not_found"]);
    fails(&["instance", "create", "web", "--image", "tiny"], 3, &["'web'", "name_in_use"]);
    fails(&["instance", "create", "b", "--image", "none"], 4, &["tiny", "no_such_image"]);
    fails(
        &["instance", "wait", "web", "--state", "Stopped", "--timeout", "50ms"],
        1,
        &["Running", "Stopped"],
    );
    fails(&["instance", "list", "--state", "Sleeping"], 2, &["Sleeping"]);
    fails(&["instance", "fly", "web"], 2, &["fly"]);
    fails(&["policy", "upload", "/nowhere.wasm"], 1, &["/nowhere.wasm"]);
    fails(&["policy", "activate", "none"], 4, &["no_such_policy"]);
    fails(&["instance", "list", "--token", "wrong"], 5, &["unauthorized"]);
    daemon.api().command("web", "stop");
    fails(&["instance", "pause", "web"], 3, &["invalid_state", "start"]);
}

#[test]
fn without_a_daemon_the_command_line_says_how_to_start_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let url = format!("http://{free}");
    let mut command = program(Path::new(PROGRAM), &["instance", "list", "--url", &url]);
    let output = command.arg("--data").arg(folder.path()).output().expect("run");
    failed(&output, 6, &["`tallyman serve`", &free.to_string()]);
}

#[test]
fn failures_are_json_where_results_are() {
    let daemon = daemon();
    let output = daemon.cli(&["instance", "get", "none", "--json"]);
    let told: Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!((&told["code"], &told["exit_status"]), (&json!("not_found"), &json!(4)), "{told}");
    assert!(told["message"].as_str().is_some_and(|text| text.contains("none")), "{told}");
}

#[test]
fn shells_and_man_know_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let output = program(Path::new(PROGRAM), arguments).output().expect("run");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completion", shell]);
        for word in ["instance", "standby", "--json"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let pages = folder.path().join("man1");
    run(&["man", &pages.display().to_string()]);
    let page = std::fs::read_to_string(pages.join("tallyman-instance-standby.1")).expect("a page");
    assert!(page.contains("tallyman instance standby") && page.contains(".SH"), "{page}");
    assert!(run(&["help"]).contains("Exit status"));
}

#[test]
fn the_doctor_says_what_a_host_lacks_and_what_to_do() {
    let daemon = daemon();
    let output = daemon.cli(&["doctor", "--json"]);
    let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let bad = findings.as_array().is_some_and(|all| all.iter().any(|one| one["verdict"] == "bad"));
    assert_eq!(output.status.code(), Some(i32::from(bad)), "{output:?}");
    let findings = findings.as_array().expect("findings");
    let of = |matter: &str| {
        findings.iter().find(|one| one["matter"] == matter).unwrap_or_else(|| panic!("{matter}"))
    };
    assert_eq!(of("daemon")["verdict"], "good");
    assert!(of("syncs")["found"].as_str().is_some_and(|found| found.contains("slowest")));
    for finding in findings {
        let is_good = finding["verdict"] == "good";
        assert_eq!(finding.get("remedy").is_none(), is_good, "{finding}");
    }
}
