//! A restart of the daemon with many guests running.

use std::fs;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tallyman::clock;
use tallyman_tests::aloud::say;
use tallyman_tests::daemon::{Api, Daemon, Handle};

use crate::{daemon, hypervisors};

/// Number of guests by default, for a small machine.
const GUESTS: usize = 40;

/// Environment variable with another number.
const VARIABLE: &str = "TALLYMAN_TEST_GUESTS";

/// Most guests that the variable may ask for.
const GUESTS_MAX: usize = 200;

fn guests() -> usize {
    match std::env::var(VARIABLE) {
        Ok(text) => {
            let count =
                text.parse().unwrap_or_else(|_| panic!("{VARIABLE} is '{text}', no number"));
            assert!(
                (8..=GUESTS_MAX).contains(&count),
                "{VARIABLE} has to be 8 to {GUESTS_MAX}, is {count}"
            );
            count
        }
        Err(_) => GUESTS,
    }
}

/// The process of the virtual machine monitor of an instance's launch.
fn vmm_of(daemon: &Daemon, id: &str) -> Pid {
    let identity = daemon.instance(id).join("run/1/identity.json");
    let identity: Value =
        serde_json::from_slice(&fs::read(identity).expect("an identity")).expect("JSON");
    let pid = identity["vmm"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.and_then(Pid::from_raw).expect("a pid")
}

/// Creates a guest. All guests together print as many heartbeats as [`GUESTS`] that beat every 40
/// ms.
fn create(api: &Api, hypervisor: &str, name: &str, count: usize) -> String {
    let cmdline = format!("vmm={hypervisor} beat={}", 40 * count.max(GUESTS) / GUESTS);
    let new = json!({
        "name": name, "image": "tiny", "cmdline": cmdline, "hypervisor": hypervisor,
        "stop_grace_ms": 2000,
    });
    api.post("/instances", &new).done()["id"].as_str().expect("an id").to_owned()
}

fn follow_beat(api: &Api, id: &str, seen: u64) {
    api.follow(&format!("/instances/{id}/logs?follow=true&tail=1"), |line| {
        line.strip_prefix("HB ")
            .is_some_and(|beat| beat.trim_end().parse::<u64>().is_ok_and(|beat| beat > seen))
    });
}

#[test]
fn many_guests_are_found_again_and_none_has_noticed_but_those_that_ended_did_so_when_they_did() {
    let count = guests();
    let mut daemon = daemon();
    daemon.stop();
    daemon.add_arguments(&["--overcommit-cpu", "1000", "--overcommit-memory", "1000"]);
    daemon.start_again();
    let api = daemon.api();
    let began = Instant::now();
    let hypervisors = hypervisors::here(&daemon);
    let kinds = hypervisors.iter().cycle();
    let ids: Vec<String> = kinds
        .zip(0..count)
        .map(|(kind, n)| create(api, kind, &format!("guest-{n}"), count))
        .collect();
    ids.iter().for_each(|id| api.wait(id, "Running"));
    let created = began.elapsed();
    // One of each state but plain running, and guests that end or hang meanwhile.
    let [paused, asleep, stopped, leaves, crashes, hangs] =
        [0, 1, 2, 3, 4, 5].map(|n| ids[n].as_str());
    for (id, command) in [(paused, "pause"), (asleep, "standby"), (stopped, "stop")] {
        api.command(id, command);
    }
    let before: Vec<_> =
        ids.iter().map(|id| (api.instance(id), api.phases(id), daemon.machines_of(id))).collect();
    let beats: Vec<u64> = ids.iter().map(|id| daemon.heartbeats(id).len() as u64).collect();

    daemon.kill();
    let outage = clock::boottime_ns();
    let ended: Vec<_> =
        [leaves, crashes].iter().flat_map(|id| daemon.machines_of(id)).map(Handle::of).collect();
    daemon.type_to(leaves, 'q');
    kill_process(vmm_of(&daemon, crashes), Signal::KILL).expect("it lives");
    ended.iter().for_each(Handle::wait);
    let over = clock::boottime_ns();
    kill_process(vmm_of(&daemon, hangs), Signal::STOP).expect("it lives");
    let began = Instant::now();
    daemon.start_again();
    let api = daemon.api();

    let gone = [leaves, crashes, hangs];
    for ((id, (was, phases, machines)), seen) in ids.iter().zip(&before).zip(&beats) {
        if gone.contains(&id.as_str()) {
            continue;
        }
        let is = api.instance(id);
        for field in
            ["state", "current_phase", "current_phase_since", "session", "started_at", "stopped_at"]
        {
            assert_eq!(is[field], was[field], "{field} of {is}");
        }
        assert_eq!((&api.phases(id), &daemon.machines_of(id)), (phases, machines), "{is}");
        if is["state"] == json!("Running") {
            follow_beat(api, id, *seen);
        }
        let beats = daemon.heartbeats(id);
        assert!(beats.iter().copied().eq(1..=beats.len() as u64), "a beat is missing: {beats:?}");
        api.check_time(id);
    }
    let found = began.elapsed();

    for (id, cause) in [(leaves, "guest"), (crashes, "crashed")] {
        api.wait(id, "Stopped");
        let fact = api.facts(id).pop().expect("facts");
        assert_eq!((&fact["phase"], &fact["cause"]), (&json!("stopped"), &json!(cause)));
        let at = fact["boottime_ns"].as_u64().expect("a number");
        assert!((outage..=over).contains(&at), "{outage} <= {at} <= {over}");
        api.check_time(id);
    }

    // A monitor that hangs is neither ended nor forgotten, and it can be deleted.
    let refused = api.act(&format!("/instances/{hangs}/pause")).refused(
        502,
        "hypervisor_failed",
        "no answer",
    );
    let is = api.instance(hangs);
    assert_eq!(
        (&is["state"], is["state_error"].is_string()),
        (&json!("Running"), true),
        "{refused} {is}"
    );
    api.post(&format!("/instances/{hangs}/stop"), &json!({"grace_ms": 0})).done();
    let is = api.instance(hangs);
    assert_eq!((&is["state"], &is["stop_cause"]), (&json!("Stopped"), &json!("forced")), "{is}");
    daemon.check_no_machines_of(hangs);
    api.command(hangs, "start");
    api.wait(hangs, "Running");
    api.check_time(hangs);
    let told = format!(
        "{count} guests of {} ({VARIABLE} asks for another number, up to {GUESTS_MAX}): \
         created in {created:?}, found and looked at in {found:?}",
        hypervisors.join(", ")
    );
    say(&told);
}
