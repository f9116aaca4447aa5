//! Changes of vCPUs while no daemon recorded them, and the number of vCPUs of a machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};
use tallyman_tests::daemon::Daemon;
use tallyman_tests::deadline::eventually;

use crate::daemon;

/// Calls QEMU as a daemon does that is killed before it has recorded the act.
fn tell(daemon: &Daemon, id: &str, call: &str) {
    let launch = daemon.launches(id).pop().expect("a launch");
    let socket = daemon.instance(id).join(format!("run/{launch}/ctl"));
    let mut stream = UnixStream::connect(&socket).expect("QEMU listens");
    let answers = BufReader::new(stream.try_clone().expect("a copy"));
    writeln!(stream, r#"{{"execute":"qmp_capabilities"}}{{"execute":"{call}"}}"#).expect("told");
    let mut returns =
        answers.lines().map(|line| line.expect("text")).filter(|line| line.contains("\"return\""));
    assert!(returns.next().is_some() && returns.next().is_some(), "{call}");
}

/// The host's time since boot in nanoseconds.
fn now() -> u64 {
    tallyman::clock::boottime_ns()
}

/// Phases that an instance entered, in order, each with the host's time since boot.
fn entered(daemon: &Daemon, id: &str) -> Vec<(String, u64)> {
    let facts = daemon.api().facts(id).into_iter().filter(|fact| fact["kind"] == "entered");
    let phase = |fact: &Value| fact["phase"].as_str().expect("a phase").to_owned();
    facts.map(|fact| (phase(&fact), fact["boottime_ns"].as_u64().expect("a number"))).collect()
}

fn await_phases(daemon: &Daemon, id: &str, phases: &[&str]) -> Vec<(String, u64)> {
    eventually("such phases", || {
        let found = entered(daemon, id);
        if found.iter().map(|(phase, _)| phase.as_str()).eq(phases.iter().copied()) {
            return Some(found);
        }
        assert!(found.len() <= phases.len(), "{found:?}");
        None
    })
}

#[test]
fn a_pause_that_was_not_recorded_counts_from_its_event() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("one");
    daemon.kill();
    let before = now();
    tell(&daemon, &id, "stop");
    let after = now();
    daemon.start_again();
    let phases = ["created", "initializing", "running", "paused", "running"];
    let found = await_phases(&daemon, &id, &phases);
    let paused = found[3].1;
    assert!((before..=after + 1_000_000_000).contains(&paused), "{before} {paused} {after}");
    assert!(found[4].1 > after, "it was held until a daemon let it run");
}

#[test]
fn a_resume_that_was_not_recorded_counts_from_its_event() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("one");
    daemon.api().command(&id, "pause");
    daemon.kill();
    let before = now();
    tell(&daemon, &id, "cont");
    let after = now();
    daemon.start_again();
    let found =
        await_phases(&daemon, &id, &["created", "initializing", "running", "paused", "running"]);
    assert!((before..=after + 1_000_000_000).contains(&found[4].1), "{before} {found:?} {after}");
}

#[test]
fn what_was_not_recorded_before_a_death_is_taken_up_too() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("one");
    daemon.kill();
    tell(&daemon, &id, "stop");
    let paused = now();
    tell(&daemon, &id, "quit");
    daemon.start_again();
    let found =
        await_phases(&daemon, &id, &["created", "initializing", "running", "paused", "stopped"]);
    assert!(found[3].1 <= paused + 1_000_000_000 && found[3].1 < found[4].1, "{found:?}");
}

/// Process id of an instance's virtual machine monitor.
fn vmm(daemon: &Daemon, id: &str) -> u64 {
    let launch = daemon.launches(id).pop().expect("a launch");
    let identity = fs::read(daemon.instance(id).join(format!("run/{launch}/identity.json")))
        .expect("an identity");
    let identity: Value = serde_json::from_slice(&identity).expect("JSON");
    identity["vmm"]["pid"].as_u64().expect("a number")
}

#[test]
fn a_vmm_has_a_sandbox_and_no_secrets_and_still_saves_and_loads() {
    let daemon = daemon();
    let id = daemon.api().create_running("one");
    let check = || {
        let pid = vmm(&daemon, &id);
        let environment =
            fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).expect("ours");
        let names = environment
            .split(|&byte| byte == 0)
            .filter_map(|pair| pair.split(|&byte| byte == b'=').next());
        let names: Vec<_> =
            names.map(String::from_utf8_lossy).filter(|name| !name.is_empty()).collect();
        let few = ["PATH", "LD_LIBRARY_PATH", "TMPDIR", "RUST_BACKTRACE", "TZ"];
        assert!(names.iter().all(|name| few.contains(&name.as_ref())), "{names:?}");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("ours");
        assert!(status.lines().any(|line| line == "Seccomp:\t2"), "{status}");
    };
    check();
    daemon.api().command(&id, "standby");
    assert_eq!(daemon.api().instance(&id)["state"], json!("Standby"));
    daemon.api().command(&id, "restore");
    daemon.api().wait(&id, "Running");
    check();
    let beats = daemon.heartbeats(&id).len();
    eventually("heartbeat", || (daemon.heartbeats(&id).len() > beats).then_some(()));
}
