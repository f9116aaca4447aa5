//! The way into a real Linux guest: commands, files, and what ends them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tallyman_tests::daemon::Daemon;
use tallyman_tests::deadline::eventually;
use tallyman_tests::linux;

use crate::daemon;

/// A daemon with a Linux guest that runs, whose agent has a port.
pub(crate) fn with_guest(hypervisor: &str) -> Daemon {
    let image = linux::debian_busybox();
    let daemon = daemon();
    let manifest = &image.manifest;
    let import = json!({
        "name": "linux", "kernel": image.folder.join("kernel"), "initrd": image.folder.join("initrd"),
        "cmdline": manifest.cmdline, "memory_bytes_min": manifest.memory_bytes_min, "agent": true,
    });
    daemon.api().post("/images", &import).done();
    let new = json!({"name": "web", "image": "linux", "hypervisor": hypervisor});
    daemon.api().post("/instances", &new).done();
    daemon.api().get("/instances/web/wait?state=Running&timeout=55s").done();
    daemon
}

fn exec(daemon: &Daemon, words: &[&str]) -> Output {
    run(daemon, &[&["instance", "exec", "web", "--"], words].concat())
}

fn run(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.client(arguments).output().expect("run the program")
}

fn said(output: &Output) -> String {
    let out = &output.stdout;
    let err = &output.stderr;
    format!("{:?} {} {}", output.status, String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

pub(crate) fn shell(daemon: &Daemon, script: &str) -> String {
    let output = exec(daemon, &["sh", "-c", script]);
    assert!(output.status.success(), "{script}: {}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn commands_and_files_go_into_a_guest_of_q35() {
    all(&with_guest("qemu"));
}

#[test]
fn commands_and_files_go_into_a_guest_of_microvm() {
    all(&with_guest("qemu-microvm"));
}

fn all(daemon: &Daemon) {
    check_commands(daemon);
    check_input(daemon);
    check_files(daemon);
    check_record(daemon);
    check_health(daemon);
    check_sleep(daemon);
    check_states(daemon);
}

fn check_commands(daemon: &Daemon) {
    assert!(shell(daemon, "uname -s").starts_with("Linux"));
    let output = exec(daemon, &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(exec(daemon, &["sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    let missing = exec(daemon, &["no-such-program"]);
    assert_eq!(missing.status.code(), Some(1), "{}", said(&missing));
    assert!(said(&missing).contains("guest_refused"), "{}", said(&missing));
    let timed = ["instance", "exec", "--timeout", "1s", "web", "--", "sleep", "600"];
    assert_eq!(run(daemon, &timed).status.code(), Some(124));
    let options = ["--env", "COLOUR=blue", "--cwd", "/tmp", "--json"];
    let words = ["sh", "-c", "echo $COLOUR; pwd; echo no >&2; exit 2"];
    let line = [&["instance", "exec"][..], &options, &["web", "--"], &words].concat();
    let output = run(daemon, &line);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told, json!({"exit_code": 2, "stdout": "blue\n/tmp\n", "stderr": "no\n"}));
}

fn check_input(daemon: &Daemon) {
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    let line = ["instance", "exec", "-i", "web", "--", "cat"];
    let mut child = daemon
        .client(&line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run");
    let mut input = child.stdin.take().expect("a pipe");
    let sent = content.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent).expect("it reads"));
    let output = child.wait_with_output().expect("a child of ours");
    writer.join().expect("written");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == content, "{} bytes came back", output.stdout.len());
}

fn check_files(daemon: &Daemon) {
    let folder = tempfile::tempdir().expect("a folder");
    let from = folder.path().join("from");
    fs::create_dir(&from).expect("a folder");
    let content: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 253) as u8).collect();
    fs::write(from.join("data"), &content).expect("a file");
    fs::write(from.join("empty"), "").expect("a file");
    fs::set_permissions(from.join("data"), fs::Permissions::from_mode(0o640)).expect("ours");
    let copy = |from: &str, to: &str| {
        let output = daemon.cli(&["instance", "cp", from, to]);
        assert!(output.status.success(), "{from} to {to}: {}", said(&output));
    };
    copy(&from.display().to_string(), "web:/tmp/there");
    assert_eq!(
        shell(daemon, "wc -c </tmp/there/data; stat -c %a /tmp/there/data"),
        "1000000\n640\n"
    );
    shell(daemon, "ln -s data /tmp/there/link; mkfifo /tmp/there/pipe");
    let back = folder.path().join("back");
    copy("web:/tmp/there", &back.display().to_string());
    assert!(fs::read(back.join("data")).expect("a file") == content);
    assert_eq!(fs::read(back.join("empty")).expect("a file"), b"");
    assert_eq!(fs::read_link(back.join("link")).expect("a link").to_str(), Some("data"));
    copy("web:/proc/version", &folder.path().join("version").display().to_string());
    let version = fs::read_to_string(folder.path().join("version")).expect("a file");
    assert!(version.starts_with("Linux"), "{version}");
    let info = daemon.api().get("/instances/web/stat?path=/tmp/there/data").done();
    assert_eq!((&info["is_file"], &info["size"]), (&json!(true), &json!(1_000_000)));
    let none = daemon.api().get("/instances/web/stat?path=/tmp/none").done();
    assert_eq!(none["exists"], json!(false));
    let wrong = daemon.cli(&["instance", "cp", "web:/tmp/none", "/tmp"]);
    assert!(said(&wrong).contains("/tmp/none"), "{}", said(&wrong));
    let plain = daemon.api().get("/instances/web/exec");
    assert_eq!(plain.status, 426, "{plain:?}");
}

/// Each visit is a fact, with actor, purpose and instant.
fn check_record(daemon: &Daemon) {
    let id = daemon.api().instance("web")["id"].clone();
    let facts = daemon.api().get("/journal?limit=1000").done();
    let visits = facts["facts"].as_array().expect("facts").iter();
    let visits: Vec<_> = visits.filter(|fact| fact["kind"] == json!("visited")).collect();
    for what in ["exec", "copy-in", "copy-out", "stat"] {
        assert!(visits.iter().any(|fact| fact["what"] == json!(what)), "{what}: {visits:?}");
    }
    for fact in visits {
        assert_eq!((&fact["by"], &fact["instance"]), (&json!("operator"), &id));
        assert!(!fact["about"].to_string().contains("COLOUR=blue"), "no variables: {fact}");
    }
}

/// A program in the guest says whether its workload is healthy.
fn check_health(daemon: &Daemon) {
    let health = |script: &str, status: &str| {
        let exec = json!({"command": ["sh", "-c", script]});
        let check =
            json!({"type": "exec", "exec": exec, "interval": "100ms", "failure_threshold": 1});
        daemon.api().patch("/instances/web", &json!({"health_check": check})).done();
        eventually("verdict of the check", || {
            Some(daemon.api().instance("web"))
                .filter(|instance| instance["health"]["status"] == json!(status))
        })
    };
    health("true", "healthy");
    let ill = health("echo no disk; exit 3", "unhealthy");
    assert!(ill["health"]["problem"].to_string().contains("ended with 3: no disk"), "{ill}");
    daemon.api().patch("/instances/web", &json!({"health_check": {"type": "none"}})).done();
}

/// A standby cuts sessions and says so; after it the guest has the host's time and other random
/// numbers.
fn check_sleep(daemon: &Daemon) {
    let line = ["instance", "exec", "web", "--", "sh", "-c", "echo begun; sleep 600"];
    let mut child = daemon
        .client(&line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run the program");
    let mut begun = [0; 6];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut begun).expect("it says so");
    daemon.api().command("web", "standby");
    let output = child.wait_with_output().expect("a child of ours");
    assert_eq!(output.status.code(), Some(1), "a session that was cut has no exit code");
    assert!(said(&output).contains("standby"), "{}", said(&output));
    daemon.api().command("web", "restore");
    assert_eq!(shell(daemon, "echo back"), "back\n");
    let guest: i64 = shell(daemon, "date +%s").trim().parse().expect("a number");
    let host =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let behind = i64::try_from(host.as_secs()).expect("small") - guest;
    assert!((0..=1).contains(&behind), "the guest's clock is {behind} s behind");
}

/// An instance that does not run refuses visitors at once.
fn check_states(daemon: &Daemon) {
    daemon.api().command("web", "pause");
    let refused = exec(daemon, &["true"]);
    assert!(said(&refused).contains("Paused"), "{}", said(&refused));
    daemon.api().command("web", "resume");
    assert_eq!(shell(daemon, "echo resumed"), "resumed\n");
    daemon.api().command("web", "stop");
    let refused = daemon.api().get("/instances/web/stat?path=/");
    refused.refused(409, "invalid_state", "Stopped");
}

#[test]
fn a_guest_without_an_agent_says_so() {
    let daemon = daemon();
    daemon.api().create_running("web");
    daemon.api().get("/instances/web/stat?path=/").refused(409, "no_agent", "image");
    let output = exec(&daemon, &["true"]);
    assert!(said(&output).contains("no_agent"), "{}", said(&output));
}
