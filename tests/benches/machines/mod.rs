//! Commands, images and networks of machines, beside the parts that they are made of.
//!
//! It comes last: for the networks this process moves to a network namespace of its own, which is
//! the host, with the world behind it.

mod commands;
mod images;
mod networks;
// The tests of networks use all of it.
#[allow(dead_code)]
#[path = "../../tests/network/world.rs"]
mod world;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tallyman_tests::daemon::Daemon;
use tallyman_tests::linux;

use crate::measure::{Line, Report};

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_daemon");

pub(crate) fn run(report: &mut Report) {
    // From here on, no archive is in reach.
    linux::debian_busybox();
    let world = world::World::make();
    let mut lines = commands::lines();
    lines.extend(images::lines(report));
    match &world {
        Ok(world) => lines.extend(networks::lines(world)),
        Err(why) => report.say(&format!("networks NOT RUN: this machine does not let it: {why}")),
    }
    report.table("Machines, and the parts that they are made of", lines);
}

/// A daemon with the Linux guest.
fn daemon(options: &[&str]) -> Daemon {
    let daemon = Daemon::with(PROGRAM, options);
    daemon.api().post("/images", &linux::import("linux")).done();
    daemon
}

/// Creates an instance and waits until it runs.
fn create(daemon: &Daemon, name: &str, more: Value) -> Value {
    let mut new = json!({"name": name, "image": "linux", "hypervisor": "qemu"});
    let settings = more.as_object().expect("an object").clone();
    new.as_object_mut().expect("an object").extend(settings);
    let created = daemon.api().post("/instances", &new).done();
    daemon.api().get(&format!("/instances/{name}/wait?state=Running&timeout=55s")).done();
    created
}

/// The folder of an instance's first launch.
fn launch(daemon: &Daemon, created: &Value) -> PathBuf {
    daemon.instance(created["id"].as_str().expect("an id")).join("run/1")
}

/// A number of `/proc/PID/io`.
fn io(pid: i32, what: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{what}: ")));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A line that compares two times, of which ours may be so many times the peer's.
fn times(what: &str, (ours, peer): (f64, f64), goal: f64) -> Line {
    let show = crate::measure::nanos;
    Line {
        what: what.into(),
        ours: show(ours),
        peer: show(peer),
        ratio: format!("{:.2}x", ours / peer),
        goal: format!("at most {goal}x"),
        holds: Some(ours <= goal * peer),
    }
}
