//! Snapshots and forks of real machines: their content, and what each has of its own.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tallyman_tests::aloud::saves_not;
use tallyman_tests::daemon::{Api, Daemon, Request};
use tallyman_tests::deadline::eventually;

use crate::{daemon, hypervisors};

/// Follows the console until the guest has printed a heartbeat after `seen`; returns its number.
fn beat_after(api: &Api, id: &str, seen: u64) -> u64 {
    let number =
        |line: &str| line.strip_prefix("HB ").and_then(|beat| beat.trim_end().parse::<u64>().ok());
    let path = format!("/instances/{id}/logs?follow=true&tail=1000");
    let lines = api.follow(&path, |line| number(line).is_some_and(|beat| beat > seen));
    lines.iter().filter_map(|line| number(line)).max().expect("a heartbeat")
}

/// Flips a bit in the middle of a file.
fn flip_a_bit(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("damaged");
}

fn last_beat(daemon: &Daemon, id: &str) -> u64 {
    daemon.heartbeats(id).last().copied().unwrap_or(0)
}

/// Waits for another heartbeat; returns the first one that does not follow its predecessor.
fn beat_gone_back_to(daemon: &Daemon, id: &str) -> u64 {
    daemon.api().follow(&format!("/instances/{id}/logs?follow=true&tail=0"), |line| {
        line.starts_with("HB ")
    });
    let beats = daemon.heartbeats(id);
    let back = beats.windows(2).find(|pair| pair[1] <= pair[0]).map(|pair| pair[1]);
    back.unwrap_or_else(|| panic!("{id} did not go back: {beats:?}"))
}

fn id_of(instance: &Value) -> String {
    instance["id"].as_str().expect("an id").to_owned()
}

fn millis(instance: &Value, phase: &str) -> u64 {
    instance["phase_durations_ms"].get(phase).map_or(0, |millis| millis.as_u64().expect("a number"))
}

#[test]
fn a_fork_goes_on_where_its_source_was_with_a_history_of_its_own_and_the_source_shows_its_pause_alone()
 {
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
    assert_eq!(
        (&child["state"], &child["current_phase"]),
        (&json!("Running"), &json!("running")),
        "{child}"
    );
    assert_eq!(api.phases(&source)[before..], ["paused", "running"]);
    assert_eq!(api.phases(&id), ["standby", "paused", "running"]);
    let beats = daemon.heartbeats(&id);
    let first = beat_after(api, &id, seen);
    assert!(
        beats.first().is_none_or(|beat| *beat > seen),
        "it remembers {seen}, and begins with {beats:?}"
    );
    assert!(first > seen);
    // Both run side by side, each on its own console.
    daemon.type_to(&id, 'p');
    api.follow(&format!("/instances/{id}/logs?follow=true&tail=1000"), |line| line == "PONG");
    assert!(
        !api.lines(&format!("/instances/{source}/logs?tail=1000"))
            .iter()
            .any(|line| line == "PONG")
    );
    beat_after(api, &source, last_beat(&daemon, &source));
    let beats = daemon.heartbeats(&source);
    assert!(
        beats.iter().copied().eq(1..=beats.len() as u64),
        "the source has lost a beat: {beats:?}"
    );
    for id in [&source, &id] {
        api.check_time(id);
    }
    let forked: Vec<_> =
        api.facts(&id).into_iter().filter(|fact| fact["kind"] == "forked").collect();
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
        let lived = child["phase_durations_ms"]
            .as_object()
            .expect("durations")
            .values()
            .filter_map(Value::as_u64);
        assert!(u128::from(lived.sum::<u64>()) <= took, "its time begins with nothing: {child}");
        // Every state can be left.
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
    assert!(
        beats.iter().copied().eq(1..=beats.len() as u64),
        "the source has lost a beat: {beats:?}"
    );
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
    assert_eq!(
        (&snapshot["name"], &snapshot["kind"]),
        (&json!("then"), &json!("Standby")),
        "{snapshot}"
    );
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
    // The guest continues from the snapshot: it counts on from there.
    let back = beat_gone_back_to(&daemon, &id);
    assert!(then <= back && back < later, "{then} <= {back} < {later}");
    api.check_time(&id);

    // The snapshot is still there, and may be forked, as often as wanted.
    let fork = api.post(&format!("{path}/then/fork"), &json!({"name": "a-fork"})).done();
    assert_eq!(
        (&fork["state"], millis(&fork, "running") < 60_000),
        (&json!("Running"), true),
        "{fork}"
    );
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
    flip_a_bit(&memory);
    api.command(&id, "stop");
    let path = format!("/instances/{id}/snapshots/kept/restore");
    api.post(&path, &json!({})).refused(502, "hypervisor_failed", "SHA-256");
    assert_eq!(api.instance(&id)["state"], json!("Standby"));
    daemon.check_no_machines_of(&id);
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

/// Makes QEMU save its memory, as under a daemon that ends before it has kept the file.
fn send_memory_away(daemon: &Daemon, id: &str) {
    let socket = daemon.folder().join("away");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let control =
        UnixStream::connect(daemon.instance(id).join("run/1/ctl")).expect("QEMU's control socket");
    let mut lines = BufReader::new(&control).lines().map(|line| line.expect("a line"));
    let mut answer = |call: Value| {
        writeln!(&control, "{call}").expect("sent");
        lines.find(|line| line.contains("\"return\"")).expect("an answer")
    };
    answer(json!({"execute": "qmp_capabilities"}));
    answer(
        json!({"execute": "migrate", "arguments": {"uri": format!("unix:{}", socket.display())}}),
    );
    io::copy(&mut listener.accept().expect("a connection").0, &mut io::sink()).expect("all of it");
    eventually("end of the migration", || {
        answer(json!({"execute": "query-status"})).contains("postmigrate").then_some(())
    });
}

#[test]
fn a_machine_whose_memory_left_it_in_vain_goes_to_standby_after_it_has_run_for_a_moment() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("saved");
    let seen = beat_after(daemon.api(), &id, 2);
    daemon.api().command(&id, "pause");
    daemon.kill();
    send_memory_away(&daemon, &id);
    daemon.start_again();
    let api = daemon.api();
    let before = api.phases(&id).len();
    api.command(&id, "standby");
    assert_eq!(api.phases(&id)[before..], ["running", "paused", "standby"]);
    api.command(&id, "restore");
    assert!(beat_after(api, &id, seen) > seen);
    let beats = daemon.heartbeats(&id);
    assert!(beats.iter().copied().eq(1..=beats.len() as u64), "{beats:?}");
    api.check_time(&id);
}

/// Returns whether the hypervisor can save memory on this host; if not, reports it and checks that
/// the guest runs on.
fn can_save(daemon: &Daemon, id: &str, hypervisor: &str) -> bool {
    let api = daemon.api();
    let answer = api.post(&format!("/instances/{id}/snapshots"), &json!({"name": "first"}));
    if answer.status == 201 {
        return true;
    }
    let body = answer.refused(502, "hypervisor_failed", "");
    saves_not(hypervisor, body["message"].as_str().expect("a message"));
    beat_after(api, id, last_beat(daemon, id));
    assert_eq!(api.get(&format!("/instances/{id}/snapshots")).done(), json!([]));
    false
}

/// The hypervisors that can save memory on this host, each with a running instance that has a
/// snapshot `first`.
fn savers(daemon: &Daemon) -> impl Iterator<Item = (String, String)> {
    let created = hypervisors::here(daemon).into_iter().map(|hypervisor| {
        let id = hypervisors::create(daemon, &hypervisor);
        (hypervisor, id)
    });
    created.filter(|(hypervisor, id)| can_save(daemon, id, hypervisor))
}

#[test]
fn every_hypervisor_here_keeps_forks_and_puts_back() {
    let daemon = daemon();
    let api = daemon.api();
    for (hypervisor, id) in savers(&daemon) {
        let seen = beat_after(api, &id, 2);
        let snapshots = format!("/instances/{id}/snapshots");
        api.command(&id, "pause");
        for name in ["second", "third"] {
            api.post(&snapshots, &json!({"name": name})).done();
        }
        api.command(&id, "resume");
        let forks: Vec<String> = thread::scope(|scope| {
            let forks: Vec<_> = (0..5)
                .map(|n| {
                    let hypervisor = &hypervisor;
                    let id = &id;
                    scope.spawn(move || {
                        let body =
                            json!({"name": format!("{hypervisor}-{n}"), "from_running": true});
                        id_of(&api.post(&format!("/instances/{id}/fork"), &body).done())
                    })
                })
                .collect();
            forks.into_iter().map(|fork| fork.join().expect("no panic")).collect()
        });
        for fork in &forks {
            assert!(beat_after(api, fork, seen) > seen, "{hypervisor}");
            assert_eq!(api.phases(fork), ["standby", "paused", "running"], "{hypervisor}");
            api.check_time(fork);
        }
        let beats = daemon.heartbeats(&id);
        assert!(
            beats.iter().copied().eq(1..=beats.len() as u64),
            "{hypervisor} has lost a beat: {beats:?}"
        );
        let later = beat_after(api, &id, seen + 10);
        api.command(&id, "standby");
        let restored = api.post(&format!("{snapshots}/third/restore"), &json!({})).done();
        assert_eq!(restored["state"], json!("Running"), "{hypervisor}");
        let back = beat_gone_back_to(&daemon, &id);
        assert!(back < later, "{hypervisor}: {back} < {later}");
        let fork = api
            .post(
                &format!("{snapshots}/first/fork"),
                &json!({"name": format!("{hypervisor}-kept")}),
            )
            .done();
        assert_eq!(fork["state"], json!("Running"), "{hypervisor}");
        api.check_time(&id);
        for instance in api.get("/instances").done().as_array().expect("instances") {
            api.delete(&format!(
                "/instances/{}?grace_ms=0",
                instance["id"].as_str().expect("an id")
            ))
            .done();
        }
    }
    daemon.check_no_machines();
}

/// Takes snapshots and forks until the daemon ends; records the acknowledged ones.
fn copy(api: &Api, source: &str, round: usize, acknowledged: &Mutex<Vec<(&'static str, String)>>) {
    let note = |what, name: String| acknowledged.lock().expect("no panic").push((what, name));
    let ask = |path: String, body: Value| {
        api.try_send(&Request {
            method: "POST",
            path: &path,
            authorization: None,
            content_type: Some("application/json"),
            body: body.to_string().into_bytes(),
        })
    };
    for n in 0.. {
        let name = format!("copy-{round}-{n}");
        let Some(answer) = ask(format!("/instances/{source}/snapshots"), json!({"name": name}))
        else {
            return;
        };
        answer.done();
        note("snapshot", name.clone());
        let fork = json!({"name": name, "from_running": true, "target_state": "Standby"});
        let Some(answer) = ask(format!("/instances/{source}/fork"), fork) else { return };
        note("fork", id_of(&answer.done()));
    }
}

#[test]
fn copies_of_a_daemon_that_is_killed_at_any_moment_are_whole_or_not_there() {
    let mut daemon = daemon();
    let source = daemon.api().create_running("source");
    let acknowledged = Mutex::new(Vec::new());
    for (round, millis) in [90, 240, 410, 560, 730].into_iter().enumerate() {
        let api = daemon.api().clone();
        thread::scope(|scope| {
            scope.spawn(|| copy(&api, &source, round, &acknowledged));
            // The moment of the kill, not a wait for anything.
            thread::sleep(Duration::from_millis(millis));
            daemon.kill();
        });
        daemon.start_again();
    }
    let api = daemon.api();
    // Queued after the recovery of the restart.
    api.command(&source, "pause");
    api.command(&source, "resume");
    let kept = api.get(&format!("/instances/{source}/snapshots")).done();
    let kept: BTreeSet<String> = kept
        .as_array()
        .expect("snapshots")
        .iter()
        .map(|snapshot| snapshot["name"].as_str().expect("a name").to_owned())
        .collect();
    let folders = std::fs::read_dir(daemon.instance(&source).join("snapshots")).expect("a folder");
    let folders: BTreeSet<String> = folders
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    assert_eq!(folders, kept, "what is not on record is not there");
    let living = api.get("/instances").done();
    let living: BTreeSet<String> =
        living.as_array().expect("instances").iter().map(id_of).collect();
    let acknowledged = acknowledged.into_inner().expect("no panic");
    for (what, name) in &acknowledged {
        let there = if *what == "snapshot" { kept.contains(name) } else { living.contains(name) };
        assert!(there, "{what} {name} was acknowledged and is not there");
    }
    eprintln!(
        "{} copies were acknowledged, {} snapshots and {} instances are there",
        acknowledged.len(),
        kept.len(),
        living.len()
    );
    // Each fork that exists is complete, also the last that was begun.
    let forks: Vec<_> = living.iter().filter(|id| **id != source).collect();
    for id in forks.iter().rev().take(5) {
        api.command(id, "restore");
        assert!(beat_after(api, id, 0) > 0);
        api.check_time(id);
    }
    for name in kept.iter().rev().take(3) {
        let body = json!({"name": format!("of-{name}")});
        let fork = api.post(&format!("/instances/{source}/snapshots/{name}/fork"), &body).done();
        assert!(beat_after(api, &id_of(&fork), 0) > 0);
    }
    let beats = daemon.heartbeats(&source);
    assert!(
        beats.iter().copied().eq(1..=beats.len() as u64),
        "the source has lost a beat: {beats:?}"
    );
    api.check_time(&source);
    daemon.stop();
    let verified = daemon.command(&["journal", "verify", "--json"]).output().expect("run");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// Polls until a snapshot is compressed.
fn compressed(api: &Api, path: &str) -> Value {
    eventually("compressed snapshot", || {
        Some(api.get(path).done())
            .filter(|snapshot| snapshot["compression_state"] == json!("compressed"))
    })
}

#[test]
fn a_snapshot_that_is_compressed_goes_back_and_forks_as_any_other() {
    let daemon = daemon();
    let api = daemon.api();
    for (hypervisor, id) in savers(&daemon) {
        let then = beat_after(api, &id, 3);
        let path = format!("/instances/{id}/snapshots");
        let taken = api.post(&path, &json!({"name": "small", "compress": true})).done();
        let billed = api.instance(&id)["snapshot_bytes"].clone();
        let facts = api.facts(&id).len();
        let small = compressed(api, &format!("{path}/small"));
        assert_eq!(small["size_bytes"], taken["size_bytes"], "{hypervisor}");
        let bytes = |of: &Value, what: &str| of[what].as_u64().expect("a number");
        assert!(
            bytes(&small, "stored_bytes") < bytes(&taken, "stored_bytes"),
            "{hypervisor}: {small}"
        );
        assert_eq!(api.instance(&id)["snapshot_bytes"], billed, "what is billed does not change");
        assert_eq!(api.facts(&id).len(), facts, "{hypervisor}");
        assert_eq!(api.get(&format!("{path}/first")).done()["compression_state"], json!("none"));
        let later = beat_after(api, &id, then + 10);
        let body = json!({"name": format!("{hypervisor}-small")});
        let fork = id_of(&api.post(&format!("{path}/small/fork"), &body).done());
        assert!(beat_after(api, &fork, then) > then, "{hypervisor}");
        api.command(&id, "stop");
        let restored = api.post(&format!("{path}/small/restore"), &json!({})).done();
        assert_eq!(restored["state"], json!("Running"), "{hypervisor}: {restored}");
        let back = beat_gone_back_to(&daemon, &id);
        assert!(then <= back && back < later, "{hypervisor}: {then} <= {back} < {later}");
        for id in [&id, &fork] {
            api.check_time(id);
            api.delete(&format!("/instances/{id}?grace_ms=0")).done();
        }
    }
    daemon.check_no_machines();
}

#[test]
fn a_flipped_byte_in_a_compressed_snapshot_is_found_before_a_guest_runs_on_it_and_nothing_has_changed()
 {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("flipped");
    let path = format!("/instances/{id}/snapshots");
    api.post(&path, &json!({"name": "kept", "compress": true})).done();
    compressed(api, &format!("{path}/kept"));
    let memory = daemon.instance(&id).join("snapshots/kept/memory/memory.zst");
    flip_a_bit(&memory);
    api.command(&id, "stop");
    api.post(&format!("{path}/kept/restore"), &json!({})).refused(
        502,
        "hypervisor_failed",
        "SHA-256",
    );
    api.post(&format!("{path}/kept/fork"), &json!({"name": "child"})).refused(
        502,
        "hypervisor_failed",
        "SHA-256",
    );
    assert_eq!(api.instance(&id)["state"], json!("Stopped"));
    daemon.check_no_machines_of(&id);
    assert_eq!(api.get("/instances").done().as_array().map(Vec::len), Some(1), "no fork was made");
    api.command(&id, "start");
    api.wait(&id, "Running");
    api.check_time(&id);
}

#[test]
fn whoever_needs_a_snapshot_does_not_wait_for_its_compression() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("needed");
    let seen = beat_after(api, &id, 3);
    let path = format!("/instances/{id}/snapshots");
    for n in 0..5 {
        let name = format!("needed-{n}");
        api.post(&path, &json!({"name": name, "compress": true})).done();
        let fork = id_of(&api.post(&format!("{path}/{name}/fork"), &json!({"name": name})).done());
        assert!(beat_after(api, &fork, seen) > seen);
        // The next one is deleted while it waits for compression, or in the middle of it.
        api.post(&path, &json!({"name": "gone", "compress": true})).done();
        api.delete(&format!("{path}/gone")).done();
        api.delete(&format!("/instances/{fork}?grace_ms=0")).done();
    }
    for n in 0..5 {
        compressed(api, &format!("{path}/needed-{n}"));
    }
    assert!(!daemon.said().contains("is not compressed"), "{}", daemon.said());
    api.command(&id, "standby");
    api.post(&format!("{path}/needed-4/restore"), &json!({})).done();
    api.check_time(&id);
}

#[test]
fn a_daemon_that_is_killed_while_it_compresses_has_one_whole_copy() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("packed");
    let seen = beat_after(daemon.api(), &id, 2);
    let path = format!("/instances/{id}/snapshots");
    let blows = [0, 10, 25, 50, 90, 150];
    for millis in blows {
        let name = format!("after-{millis}");
        daemon.api().post(&path, &json!({"name": name, "compress": true})).done();
        // The moment of the kill, not a wait for anything.
        thread::sleep(Duration::from_millis(millis));
        daemon.kill();
        daemon.start_again();
        let api = daemon.api();
        let fork = id_of(&api.post(&format!("{path}/{name}/fork"), &json!({"name": name})).done());
        assert!(beat_after(api, &fork, seen) > seen, "after {millis} ms");
        api.delete(&format!("/instances/{fork}?grace_ms=0")).done();
    }
    // Pending compressions are done after the restart, and no partial file is left.
    for millis in blows {
        let name = format!("after-{millis}");
        compressed(daemon.api(), &format!("{path}/{name}"));
        let folder = daemon.instance(&id).join("snapshots").join(name);
        assert!(!folder.join("memory.packing").exists() && !folder.join("memory/memory").exists());
    }
    daemon.api().check_time(&id);
}
