//! The way into a guest of Firecracker, over its vsock device, with the freestanding guest, which
//! speaks the agent's protocol. Linux guests do not boot where KVM itself is emulated.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tallyman::hypervisor::files;
use tallyman_tests::aloud;
use tallyman_tests::daemon::Daemon;
use tallyman_tests::deadline::eventually;
use tallyman_tests::guest::tiny;

use crate::daemon;

/// A daemon with a guest that runs; none where Firecracker can't be used, which is said.
fn with_guest() -> Option<(Daemon, String)> {
    let daemon = daemon();
    let told = daemon.api().get("/capabilities").done();
    let hypervisors = told["hypervisors"].as_array().expect("a list").iter();
    let mut own = hypervisors.filter(|one| one["name"] == json!("firecracker"));
    let own: &Value = own.next().expect("it is listed");
    if own["available"] != json!(true) {
        aloud::say(&format!("vsock under firecracker NOT RUN: {own}"));
        return None;
    }
    let import = json!({
        "name": "speaker", "kernel": tiny(), "memory_bytes_min": 64 << 20, "agent": true,
        "cmdline": "vmm=firecracker agent beat=1000",
    });
    daemon.api().post("/images", &import).done();
    let new = json!({"name": "fc", "image": "speaker", "hypervisor": "firecracker"});
    let created = daemon.api().post("/instances", &new).done();
    daemon.api().get("/instances/fc/wait?state=Running&timeout=55s").done();
    Some((daemon, created["id"].as_str().expect("an id").to_owned()))
}

fn exec(daemon: &Daemon, name: &str) {
    let words = ["instance", "exec", name, "--", "anything"];
    let output = daemon.client(&words).output().expect("run the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"TINY\n"[..]), "{said}");
}

fn log(daemon: &Daemon, id: &str) -> String {
    fs::read_to_string(files::console_log(&daemon.instance(id))).expect("a log")
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Waits until a guest has told on its console, behind a place, that its clock was set; returns the
/// lines of its agent from there on.
fn told_time(daemon: &Daemon, id: &str, place: usize, since_s: u64) -> Vec<String> {
    eventually("clock that was set", || {
        let text = log(daemon, id);
        let lines = text[place..].lines().filter(|line| line.starts_with("AGENT "));
        let lines: Vec<_> = lines.map(|line| line.trim().to_owned()).collect();
        let told = lines.iter().find_map(|line| line.strip_prefix("AGENT TIME "));
        let told: u64 = told?.parse().ok()?;
        assert!((since_s..=now_s()).contains(&told), "{lines:?}");
        Some(lines)
    })
}

#[test]
fn sessions_a_standby_and_a_pause_of_a_guest_over_vsock() {
    let Some((daemon, id)) = with_guest() else { return };
    exec(&daemon, "fc");
    for (hold, let_go) in [("standby", "restore"), ("pause", "resume"), ("standby", "restore")] {
        exec(&daemon, "fc");
        daemon.api().command("fc", hold);
        let before = log(&daemon, &id);
        let words = before.lines().rfind(|line| line.starts_with("AGENT ")).expect("it spoke");
        let is_right = match words.trim() {
            "AGENT BYE" | "AGENT CLOSED" => hold == "standby",
            "AGENT HOLD" => hold == "pause",
            _ => false,
        };
        assert!(is_right, "{hold}: {before}");
        let since_s = now_s();
        daemon.api().command("fc", let_go);
        let lines = told_time(&daemon, &id, before.len(), since_s);
        let lost = lines.iter().any(|line| line.contains("LOST") || line.contains("LEFT"));
        assert!(!lost, "{lines:?}");
        exec(&daemon, "fc");
    }
    let fork = json!({"name": "twin", "from_running": true, "target_state": "Running"});
    let since_s = now_s();
    let twin = daemon.api().post("/instances/fc/fork", &fork).done();
    told_time(&daemon, twin["id"].as_str().expect("an id"), 0, since_s);
    exec(&daemon, "twin");
    exec(&daemon, "fc");
}
