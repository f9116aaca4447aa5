//! Snapshots and forks of real machines: what they remember, and what they have of their own.

use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use tallyman_tests::daemon::{Api, Daemon};

use crate::daemon;

/// Follows the console until the guest has printed a heartbeat after `seen`; answers its number.
fn beat_after(api: &Api, id: &str, seen: u64) -> u64 {
    let number = |line: &str| line.strip_prefix("HB ").and_then(|beat| beat.trim_end().parse::<u64>().ok());
    let path = format!("/instances/{id}/logs?follow=true&tail=1000");
    let lines = api.follow(&path, |line| number(line).is_some_and(|beat| beat > seen));
    lines.iter().filter_map(|line| number(line)).max().expect("a heartbeat")
}

fn last_beat(daemon: &Daemon, id: &str) -> u64 {
    daemon.heartbeats(id).last().copied().unwrap_or(0)
}

fn id_of(instance: &Value) -> String {
    instance["id"].as_str().expect("an id").to_owned()
}

fn millis(instance: &Value, phase: &str) -> u64 {
    instance["phase_durations_ms"].get(phase).map_or(0, |millis| millis.as_u64().expect("a number"))
}

#[test]
fn a_fork_goes_on_where_its_source_was_with_a_history_of_its_own_and_the_source_shows_its_pause_alone() {
    let daemon = daemon();
    let api = daemon.api();
    let source = api.create_running("source");
    let seen = beat_after(api, &source, 3);
    let before = api.phases(&source).len();
    api.post(&format!("/instances/{source}/fork"), &json!({"name": "child"})).refused(
        409,
        "source_runs",
        "from_running",
    );
    let body = json!({"name": "child", "from_running": true});
    let child = api.post(&format!("/instances/{source}/fork"), &body).done();
    let id = id_of(&child);
    assert_eq!((&child["state"], &child["current_phase"]), (&json!("Running"), &json!("running")), "{child}");
    assert_eq!(api.phases(&source)[before..], ["paused", "running"]);
    assert_eq!(api.phases(&id), ["standby", "paused", "running"]);
    let beats = daemon.heartbeats(&id);
    let first = beat_after(api, &id, seen);
    assert!(beats.first().is_none_or(|beat| *beat > seen), "it remembers {seen}, and begins with {beats:?}");
    assert!(first > seen);
    // Both run side by side, each on its own console.
    daemon.type_to(&id, 'p');
    api.follow(&format!("/instances/{id}/logs?follow=true&tail=1000"), |line| line == "PONG");
    assert!(!api.lines(&format!("/instances/{source}/logs?tail=1000")).iter().any(|line| line == "PONG"));
    beat_after(api, &source, last_beat(&daemon, &source));
    let beats = daemon.heartbeats(&source);
    assert!(beats.iter().copied().eq(1..=beats.len() as u64), "the source has lost a beat: {beats:?}");
    for id in [&source, &id] {
        api.check_time(id);
    }
    let forked: Vec<_> = api.facts(&id).into_iter().filter(|fact| fact["kind"] == "forked").collect();
    assert_eq!((&forked[0]["parent"], &forked[0]["child"]), (&json!(source), &json!(id)));
}

#[test]
fn forks_of_every_state_stand_where_they_are_to_stand() {
    let daemon = daemon();
    let api = daemon.api();
    let rows: [(&[&str], Value, &str, &[&str]); 6] = [
        (&[], json!("Standby"), "Standby", &["standby"]),
        (&[], json!("Stopped"), "Stopped", &["stopped"]),
        (&["pause"], Value::Null, "Standby", &["standby"]),
        (&["standby"], json!("Running"), "Running", &["standby", "paused", "running"]),
        (&["stop"], Value::Null, "Stopped", &["stopped"]),
        (&["stop"], json!("Running"), "Initializing", &["stopped", "created", "initializing"]),
    ];
    for (index, (way, target, state, phases)) in rows.into_iter().enumerate() {
        let source = api.create_running(&format!("source-{index}"));
        for command in way {
            api.command(&source, command);
        }
        let mut body = json!({"name": format!("child-{index}"), "from_running": true});
        if !target.is_null() {
            body["target_state"] = target;
        }
        let asked = Instant::now();
        let child = api.post(&format!("/instances/{source}/fork"), &body).done();
        let took = asked.elapsed().as_millis();
        let id = id_of(&child);
        assert_eq!(api.phases(&id)[..phases.len()], *phases, "{child}");
        assert!([state, "Running"].contains(&child["state"].as_str().expect("a state")), "{child}");
        let lived = child["phase_durations_ms"].as_object().expect("durations").values().filter_map(Value::as_u64);
        assert!(u128::from(lived.sum::<u64>()) <= took, "its time begins with nothing: {child}");
        // Whatever it is, it can be brought up.
        match state {
            "Standby" => drop(api.command(&id, "restore")),
            "Stopped" => drop(api.command(&id, "start")),
            _ => {}
        }
        api.wait(&id, "Running");
        api.check_time(&id);
        api.check_time(&source);
    }
}

#[test]
fn twenty_five_forks_of_one_source_at_once_all_run() {
    const FORKS: usize = 25;
    let daemon = daemon();
    let api = daemon.api();
    let source = api.create_running("source");
    let seen = beat_after(api, &source, 3);
    let before = api.phases(&source).len();
    let children: Vec<Value> = thread::scope(|scope| {
        let forks: Vec<_> = (0..FORKS)
            .map(|n| {
                let source = &source;
                scope.spawn(move || {
                    let body = json!({"name": format!("child-{n}"), "from_running": true});
                    api.post(&format!("/instances/{source}/fork"), &body).done()
                })
            })
            .collect();
        forks.into_iter().map(|fork| fork.join().expect("no panic")).collect()
    });
    let ids: BTreeSet<_> = children.iter().map(id_of).collect();
    assert_eq!(ids.len(), FORKS);
    for id in &ids {
        assert!(beat_after(api, id, seen) > seen);
        assert_eq!(api.phases(id), ["standby", "paused", "running"]);
        api.check_time(id);
    }
    let pauses = api.phases(&source)[before..].iter().filter(|phase| *phase == "paused").count();
    assert!((1..=FORKS).contains(&pauses), "{pauses}");
    println!("{FORKS} forks at once, the source was paused {pauses} times");
    let beats = daemon.heartbeats(&source);
    assert!(beats.iter().copied().eq(1..=beats.len() as u64), "the source has lost a beat: {beats:?}");
    api.check_time(&source);
    let identities: BTreeSet<_> =
        ids.iter().flat_map(|id| daemon.machines_of(id)).map(|pid| pid.as_raw_nonzero()).collect();
    assert_eq!(identities.len(), 2 * FORKS, "each has processes of its own");
}

#[test]
fn an_instance_goes_back_to_a_snapshot_and_its_history_goes_on() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("goes-back");
    let then = beat_after(api, &id, 3);
    let path = format!("/instances/{id}/snapshots");
    let snapshot = api.post(&path, &json!({"name": "then", "tags": {"why": "to see"}})).done();
    assert_eq!((&snapshot["name"], &snapshot["kind"]), (&json!("then"), &json!("Standby")), "{snapshot}");
    assert_eq!(snapshot["source_hypervisor"], json!("qemu"));
    let bytes = snapshot["size_bytes"].as_u64().expect("a size");
    assert!(bytes > 0);
    assert_eq!(api.instance(&id)["snapshot_bytes"], json!(bytes));
    api.post(&path, &json!({"name": "then"})).refused(409, "name_in_use", "then");
    let later = beat_after(api, &id, then + 10);
    api.command(&id, "stop");
    let before = (api.instance(&id), api.phases(&id), last_beat(&daemon, &id));
    let restored = api.post(&format!("{path}/then/restore"), &json!({})).done();
    assert_eq!(restored["state"], json!("Running"), "{restored}");
    assert_eq!(api.phases(&id)[..before.1.len()], before.1[..], "no time is taken back");
    assert_eq!(api.phases(&id)[before.1.len()..], ["standby", "paused", "running"]);
    assert!(millis(&restored, "running") >= millis(&before.0, "running"));
    // The guest is where it was then: it counts on from there.
    beat_after(api, &id, 0);
    let beats = daemon.heartbeats(&id);
    let back = beats.windows(2).find(|pair| pair[1] <= pair[0]).map(|pair| pair[1]).expect("it went back");
    assert!(then <= back && back < later, "{then} <= {back} < {later}: {beats:?}");
    api.check_time(&id);

    // The snapshot is still there, and may be forked, as often as wanted.
    let fork = api.post(&format!("{path}/then/fork"), &json!({"name": "a-fork"})).done();
    assert_eq!((&fork["state"], millis(&fork, "running") < 60_000), (&json!("Running"), true), "{fork}");
    assert_eq!(api.phases(&id_of(&fork)), ["standby", "paused", "running"]);
    api.delete(&format!("{path}/then")).done();
    api.get(&format!("{path}/then")).refused(404, "no_such_snapshot", "there are: none");
    assert_eq!(api.instance(&id)["snapshot_bytes"], json!(0));
    assert_eq!(api.get(&path).done(), json!([]));
    api.check_time(&id);
}

#[test]
fn a_flipped_byte_in_a_snapshot_is_found_before_a_guest_runs_on_it() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("flipped");
    api.post(&format!("/instances/{id}/snapshots"), &json!({"name": "kept"})).done();
    let memory = daemon.instance(&id).join("snapshots/kept/memory/memory");
    let mut bytes = std::fs::read(&memory).expect("its memory");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&memory, bytes).expect("damaged");
    api.command(&id, "stop");
    let path = format!("/instances/{id}/snapshots/kept/restore");
    api.post(&path, &json!({})).refused(502, "hypervisor_failed", "SHA-256");
    assert_eq!(api.instance(&id)["state"], json!("Standby"));
    assert_eq!(daemon.machines_of(&id), []);
    api.command(&id, "stop");
    api.command(&id, "start");
    api.wait(&id, "Running");
    api.check_time(&id);
}

#[test]
fn a_paused_machine_can_be_copied_again_and_again_and_then_sleep() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("held");
    let seen = beat_after(api, &id, 2);
    api.command(&id, "pause");
    for name in ["one", "two"] {
        api.post(&format!("/instances/{id}/snapshots"), &json!({"name": name})).done();
    }
    api.post(&format!("/instances/{id}/fork"), &json!({"name": "child"})).done();
    api.command(&id, "standby");
    api.command(&id, "restore");
    assert!(beat_after(api, &id, seen) > seen);
    let beats = daemon.heartbeats(&id);
    assert!(beats.iter().copied().eq(1..=beats.len() as u64), "{beats:?}");
    api.command(&id, "standby");
    api.check_time(&id);
}
