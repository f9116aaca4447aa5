//! The daemon dies at any moment. Everything that it acknowledged is there afterwards, and the
//! machines are unaffected.

use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rusqlite::Connection;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tallyman::clock;
use tallyman_tests::daemon::{Api, Daemon, Handle, Request};
use tallyman_tests::deadline;

use crate::daemon;

fn verify(daemon: &Daemon) -> Value {
    let verified = daemon.command(&["journal", "verify", "--json"]).output().expect("run");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    serde_json::from_slice(&verified.stdout).expect("JSON")
}

fn follow(api: &Api, id: &str, last: impl Fn(&str) -> bool) {
    api.follow(&format!("/instances/{id}/logs?follow=true&tail=1"), last);
}

#[test]
fn a_killed_daemon_finds_every_instance_again_and_the_guests_notice_nothing() {
    let mut daemon = daemon();
    let api = daemon.api();
    let ids: Vec<_> = ["runs", "is-paused", "sleeps", "is-stopped"]
        .iter()
        .map(|name| api.create_running(name))
        .collect();
    for (id, command) in ids[1..].iter().zip(["pause", "standby", "stop"]) {
        api.command(id, command);
    }
    let states = ["Running", "Paused", "Standby", "Stopped"];
    let before: Vec<_> =
        ids.iter().map(|id| (api.instance(id), api.phases(id), daemon.machines_of(id))).collect();
    assert_eq!(
        before.iter().map(|(_, _, machines)| machines.len()).collect::<Vec<_>>(),
        [2, 2, 0, 0]
    );
    let seen = daemon.heartbeats(&ids[0]).len() as u64;
    daemon.kill();
    daemon.start_again();
    let api = daemon.api();
    for ((id, state), (was, phases, machines)) in ids.iter().zip(states).zip(&before) {
        api.wait(id, state);
        let is = api.instance(id);
        for field in [
            "state",
            "current_phase",
            "current_phase_since",
            "session",
            "started_at",
            "stopped_at",
            "policy",
        ] {
            assert_eq!(is[field], was[field], "{field} of {is}");
        }
        assert_eq!((&api.phases(id), &daemon.machines_of(id)), (phases, machines), "{state}");
        api.check_time(id);
    }
    // The guest continues to print, and nothing that it printed in between is missing.
    follow(api, &ids[0], |line| {
        line.strip_prefix("HB ")
            .is_some_and(|beat| beat.parse::<u64>().expect("a number") > seen + 3)
    });
    let beats = daemon.heartbeats(&ids[0]);
    assert!(beats.iter().copied().eq(1..=beats.len() as u64), "{beats:?}");
    // Each can be moved on.
    for (id, command, state) in [
        (0, "pause", "Paused"),
        (1, "resume", "Running"),
        (2, "restore", "Running"),
        (3, "start", "Running"),
    ] {
        api.command(&ids[id], command);
        api.wait(&ids[id], state);
        api.check_time(&ids[id]);
    }
    daemon.stop();
    verify(&daemon);
}

#[test]
fn an_older_journal_that_is_put_back_costs_no_disk() {
    let mut daemon = daemon();
    let known = daemon.api().create_running("known");
    let copy = daemon.folder().join("copy.db");
    let copy = copy.to_str().expect("text").to_owned();
    let run = |daemon: &Daemon, arguments: &[&str]| {
        let output = daemon.command(arguments).output().expect("run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&daemon, &["backup", &copy]);
    let later = daemon.api().create_running("later");
    daemon.api().command(&later, "stop");
    daemon.api().wait(&later, "Stopped");
    let goes_on = daemon.api().create_running("goes-on");
    let machines = daemon.machines_of(&goes_on);
    let told = run(&daemon, &["restore", &copy, "--dry-run"]);
    assert!(told.contains("would be lost") && told.contains(&later), "{told}");

    daemon.stop();
    let log = fs::metadata(daemon.folder().join("tallyman.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "a clean stop empties the log");
    fs::rename(daemon.folder().join("tallyman.db"), daemon.folder().join("newer.db"))
        .expect("moved away");
    run(&daemon, &["restore", &copy]);
    verify(&daemon);
    let folder = daemon.instance(&later);
    daemon.start_again();
    let moved = (0..1_000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        !folder.exists()
    });
    assert!(moved, "{}", folder.display());
    assert!(
        daemon.folder().join("set-aside").join(&later).join("run").exists(),
        "with all that was in it"
    );
    let api = daemon.api();
    let health = api.get("/health").done();
    assert_eq!(health["set_aside"], json!(2), "{health}");
    let head = api.get("/journal/head").done();
    assert!(health["journal"]["seq"].as_u64() <= head["seq"].as_u64(), "{health} {head}");
    api.wait(&known, "Running");
    api.check_time(&known);
    // What runs in a folder that was moved aside is billed to nobody, and said.
    deadline::eventually("report of the machine that goes on", || {
        let health = api.get("/health").done();
        (health["strays"].as_u64() >= Some(1)).then_some(())
    });
    for machine in machines {
        let handle = Handle::of(machine);
        kill_process(machine, Signal::KILL).expect("killed");
        handle.wait();
    }
    daemon.stop();
    verify(&daemon);
}

#[test]
fn a_launch_that_a_loss_of_power_has_made_forgotten_is_in_nobodys_way() {
    let daemon = daemon();
    let api = daemon.api();
    for (name, commands) in [("restored", &["restore"][..]), ("started", &["stop", "start"])] {
        let id = api.create_running(name);
        api.command(&id, "standby");
        let runs = daemon.instance(&id).join("run");
        let forgotten = daemon.launches(&id).pop().expect("a launch") + 1;
        fs::create_dir(runs.join(forgotten.to_string())).expect("a folder");
        fs::write(runs.join(forgotten.to_string()).join("launch.json"), "{")
            .expect("what was left of it");
        for command in commands {
            api.command(&id, command);
        }
        api.wait(&id, "Running");
        // Launches before it are removed in the background.
        let removed = (0..1_000).any(|_| {
            thread::sleep(Duration::from_millis(10));
            daemon.launches(&id) == [forgotten + 1]
        });
        assert!(removed, "{name}: {:?}", daemon.launches(&id));
        api.check_time(&id);
    }
}

#[test]
fn a_guest_that_ends_while_the_daemon_is_down_has_stopped_when_it_did() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("leaves");
    let handles: Vec<_> = daemon.machines_of(&id).into_iter().map(Handle::of).collect();
    daemon.kill();
    let before = clock::boottime_ns();
    daemon.type_to(&id, 'q');
    handles.iter().for_each(Handle::wait);
    let after = clock::boottime_ns();
    daemon.start_again();
    let api = daemon.api();
    api.wait(&id, "Stopped");
    let instance = api.instance(&id);
    assert_eq!(
        (&instance["stop_cause"], &instance["current_phase"]),
        (&json!("guest"), &json!("stopped"))
    );
    let facts = api.facts(&id);
    let stopped = facts.last().expect("facts");
    assert_eq!((&stopped["phase"], &stopped["cause"]), (&json!("stopped"), &json!("guest")));
    let at = stopped["boottime_ns"].as_u64().expect("a number");
    assert!((before..=after).contains(&at), "{before} <= {at} <= {after}");
    api.check_time(&id);
}

#[test]
fn a_launch_that_can_not_be_read_has_ended_if_it_is_dead_and_can_be_stopped_if_it_lives() {
    for dies in [true, false] {
        let mut daemon = daemon();
        let id = daemon.api().create_running("unread");
        daemon.kill();
        let handles: Vec<_> = daemon.machines_of(&id).into_iter().map(Handle::of).collect();
        if dies {
            for pid in daemon.machines_of(&id) {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL)
                    .expect("it lives");
            }
            handles.iter().for_each(Handle::wait);
        }
        fs::write(daemon.instance(&id).join("run/1/identity.json"), "{").expect("a file");
        daemon.start_again();
        let api = daemon.api();
        if !dies {
            api.act(&format!("/instances/{id}/pause")).refused(502, "hypervisor_failed", "");
            api.command(&id, "stop");
            handles.iter().for_each(Handle::wait);
        }
        api.wait(&id, "Stopped");
        let cause = if dies { "crashed" } else { "forced" };
        assert_eq!(api.instance(&id)["stop_cause"], json!(cause));
        let phases: &[&str] = if dies { &["unknown", "stopped"] } else { &["stopped"] };
        assert!(
            api.phases(&id).ends_with(&phases.iter().map(ToString::to_string).collect::<Vec<_>>())
        );
        api.check_time(&id);
        api.delete(&format!("/instances/{id}")).done();
    }
}

#[test]
fn a_machine_that_is_killed_while_the_daemon_is_down_has_crashed_when_it_did() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("crashes");
    daemon.kill();
    let identity = daemon.instance(&id).join("run/1/identity.json");
    let identity: Value =
        serde_json::from_slice(&std::fs::read(identity).expect("an identity")).expect("JSON");
    let pid =
        identity["vmm"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    let handles: Vec<_> = daemon.machines_of(&id).into_iter().map(Handle::of).collect();
    let before = clock::boottime_ns();
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
    handles.iter().for_each(Handle::wait);
    let after = clock::boottime_ns();
    daemon.start_again();
    let api = daemon.api();
    api.wait(&id, "Stopped");
    let stopped = api.facts(&id).pop().expect("facts");
    assert_eq!((&stopped["phase"], &stopped["cause"]), (&json!("stopped"), &json!("crashed")));
    let at = stopped["boottime_ns"].as_u64().expect("a number");
    assert!((before..=after).contains(&at), "{before} <= {at} <= {after}");
    api.check_time(&id);
    api.command(&id, "start");
    api.wait(&id, "Running");
}

/// Acknowledgements to one client: an instance and the phases that it was seen to enter.
#[derive(Debug, Default)]
struct Acknowledged {
    phases: Vec<(String, &'static str)>,
}

/// Moves an instance through its states until the daemon ends; records what was acknowledged.
fn live(api: &Api, name: &str, acknowledged: &Mutex<Acknowledged>) {
    let note =
        |id: &str, phase| acknowledged.lock().expect("no panic").phases.push((id.into(), phase));
    let ask = |method, path: &str, body: &Value| {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let content_type = Some("application/json");
        api.try_send(&Request { method, path, authorization: None, content_type, body })
    };
    for life in 0.. {
        let new = json!({"name": format!("{name}-{life}"), "image": "tiny", "stop_grace_ms": 0});
        let Some(created) = ask("POST", "/instances", &new) else { return };
        let id = created.done()["id"].as_str().expect("an id").to_owned();
        note(&id, "initializing");
        for (command, phase) in [
            ("pause", "paused"),
            ("resume", ""),
            ("standby", "standby"),
            ("restore", ""),
            ("stop", "stopped"),
            ("start", "initializing"),
        ] {
            let Some(answer) = ask("POST", &format!("/instances/{id}/{command}"), &Value::Null)
            else {
                return;
            };
            answer.done();
            if !phase.is_empty() {
                note(&id, phase);
            }
        }
        if life % 2 == 0 {
            let Some(answer) = ask("DELETE", &format!("/instances/{id}"), &Value::Null) else {
                return;
            };
            answer.done();
            note(&id, "deleted");
        }
    }
}

/// The commands that are under way by the journal's records. The daemon has to be down.
fn intents(daemon: &Daemon) -> Vec<String> {
    let db = Connection::open(daemon.folder().join("tallyman.db")).expect("a database");
    let mut rows = db.prepare("SELECT state FROM live").expect("a table");
    let states = rows.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    let states =
        states.map(|state| serde_json::from_str::<Value>(&state.expect("text")).expect("JSON"));
    states.filter(|state| state["intent"] != Value::Null).map(|state| state.to_string()).collect()
}

#[test]
fn a_daemon_killed_at_any_moment_keeps_what_it_acknowledged_and_settles_the_rest() {
    const SEED: [u8; 32] = [41; 32];
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let mut daemon = daemon();
    let acknowledged = Mutex::new(Acknowledged::default());
    for round in 0..10 {
        let moment = Duration::from_millis(u64::from(rng.next_u32() % 900));
        let api = daemon.api().clone();
        thread::scope(|scope| {
            for client in ["a", "b"] {
                let api = &api;
                let acknowledged = &acknowledged;
                scope.spawn(move || live(api, &format!("{client}-{round}"), acknowledged));
            }
            // The moment of the kill, not a wait for anything.
            thread::sleep(moment);
            daemon.kill();
        });
        daemon.start_again();
        let api = daemon.api();
        let living = api.get("/instances").done();
        for instance in living.as_array().expect("instances") {
            let id = instance["id"].as_str().expect("an id");
            // Queued after the recovery of the restart, which may be a deletion.
            let stopped = api.post(&format!("/instances/{id}/stop"), &json!({"grace_ms": 0}));
            assert!(
                stopped.status == 200 || api.instance(id)["state"] == json!("Deleted"),
                "{stopped:?}"
            );
            api.check_time(id);
        }
    }
    let api = daemon.api();
    let mut told = 0;
    let Acknowledged { phases } = acknowledged.into_inner().expect("no panic");
    let mut ids: Vec<_> = phases.iter().map(|(id, _)| id.clone()).collect();
    ids.dedup();
    ids.sort();
    ids.dedup();
    for id in &ids {
        let facts = api.facts(id);
        let mut recorded = facts.iter().filter_map(|fact| match fact["kind"].as_str() {
            Some("deleted") => Some("deleted"),
            _ => fact["phase"].as_str(),
        });
        for (_, phase) in phases.iter().filter(|(of, _)| of == id) {
            assert!(
                recorded.any(|recorded| recorded == *phase),
                "'{phase}' was acknowledged and is not in {facts:?}"
            );
            told += 1;
        }
        api.check_time(id);
    }
    assert!(told >= 5, "too little was done to be lost: {told}");
    daemon.stop();
    assert_eq!(intents(&daemon), Vec::<String>::new());
    daemon.check_no_machines();
    verify(&daemon);
}
