//! The clock of a guest whose processes run on: it is right before any of them reads it.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tallyman::hypervisor::files;
use tallyman_tests::daemon::Daemon;
use tallyman_tests::deadline::eventually;

use crate::guests::{shell, with_guest};

/// Time for which guests are held: far more than their clocks may be off.
const REST: Duration = Duration::from_secs(3);

/// The most that a guest's clock may be off, in microseconds.
const OFF_US: i64 = 50_000;

/// Lines of the guest that are waited for after a rest.
const LINES: usize = 200;

/// Has the guest write its clock to its console, without end. The shell does it by itself: nothing
/// is started for it.
const LOOP: &str = "(while :; do echo \"T $EPOCHREALTIME\"; done) >/dev/console 2>&1 </dev/null &";

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("this era")
}

fn log(daemon: &Daemon, id: &str) -> PathBuf {
    files::console_log(&daemon.instance(id))
}

/// The clock of a line, in microseconds.
fn clock_us(line: &str) -> Option<i64> {
    let (seconds, micros) = line.trim().strip_prefix("T ")?.split_once('.')?;
    let is_whole = seconds.len() == 10 && micros.len() == 6;
    let seconds: i64 = seconds.parse().ok().filter(|_| is_whole)?;
    Some(seconds * 1_000_000 + micros.parse::<i64>().ok()?)
}

/// The clocks that a guest has written behind a place in its log, but for the first: that may have
/// been read before the rest and written after it.
fn clocks_after(daemon: &Daemon, id: &str, place: usize) -> Vec<i64> {
    eventually("line of the guest's clock", || {
        let text = fs::read(log(daemon, id)).expect("a log");
        let text = String::from_utf8_lossy(&text[place.min(text.len())..]).into_owned();
        let clocks: Vec<_> = text.lines().filter_map(clock_us).skip(1).collect();
        Some(clocks).filter(|clocks| clocks.len() >= LINES)
    })
}

fn log_bytes(daemon: &Daemon, id: &str) -> usize {
    fs::read(log(daemon, id)).map_or(0, |bytes| bytes.len())
}

/// Holds a guest for a while and lets it run again; fails if a process of it has seen another time
/// than the host's.
fn rests(daemon: &Daemon, hold: &str, let_go: &str) {
    let id = daemon.api().instance("web")["id"].as_str().expect("an id").to_owned();
    clocks_after(daemon, &id, log_bytes(daemon, &id));
    daemon.api().command("web", hold);
    let place = log_bytes(daemon, &id);
    thread::sleep(REST);
    let before_us = now_us();
    daemon.api().command("web", let_go);
    let clocks = clocks_after(daemon, &id, place);
    let after_us = now_us();
    for clock in &clocks {
        let is_right = (before_us - OFF_US..=after_us + OFF_US).contains(clock);
        assert!(
            is_right,
            "{hold}, {let_go}: {clock} is not in {before_us}..{after_us}; {clocks:?}"
        );
    }
}

#[test]
fn no_process_of_a_guest_sees_a_time_before_its_rest() {
    let daemon = with_guest("qemu");
    shell(&daemon, LOOP);
    rests(&daemon, "standby", "restore");
    rests(&daemon, "pause", "resume");
    // A fork sees it, too, however long after the copy it is woken.
    let fork = json!({"name": "twin", "from_running": true, "target_state": "Standby"});
    let twin = daemon.api().post("/instances/web/fork", &fork).done();
    thread::sleep(REST);
    let before_us = now_us();
    daemon.api().command("twin", "restore");
    let id = twin["id"].as_str().expect("an id");
    let clocks = clocks_after(&daemon, id, 0);
    let is_right = |clock: &i64| *clock >= before_us - OFF_US && *clock <= now_us() + OFF_US;
    assert!(clocks.iter().all(is_right), "the fork: {before_us} and later; {clocks:?}");
}

#[test]
fn a_guest_whose_host_does_not_come_back_runs_on() {
    let mut daemon = with_guest("qemu");
    shell(&daemon, LOOP);
    daemon.api().command("web", "pause");
    let id = daemon.api().instance("web")["id"].as_str().expect("an id").to_owned();
    let place = log_bytes(&daemon, &id);
    daemon.api().command("web", "resume");
    daemon.kill();
    clocks_after(&daemon, &id, place);
    daemon.start_again();
    daemon.api().get("/instances/web/wait?state=Running&timeout=55s").done();
    assert_eq!(shell(&daemon, "echo here"), "here\n");
}
