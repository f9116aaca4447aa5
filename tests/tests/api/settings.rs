//! Automatic operations and resource usage of instances, from outside and with real machines.

use serde_json::{Value, json};
use tallyman_tests::aloud::saves_not;
use tallyman_tests::daemon::{Api, Daemon};
use tallyman_tests::deadline::eventually;

use crate::{daemon, hypervisors};

fn id_of(instance: &Value) -> String {
    instance["id"].as_str().expect("an id").to_owned()
}

fn kinds(api: &Api, id: &str) -> Vec<String> {
    let facts = api.facts(id);
    let words = |fact: &Value| {
        let by = fact["by"]
            .as_str()
            .filter(|by| *by != "client")
            .map(|by| format!(" by {by}"))
            .unwrap_or_default();
        let what =
            [&fact["command"], &fact["phase"], &fact["field"]].into_iter().find_map(Value::as_str);
        format!("{}{by}", what.unwrap_or(fact["kind"].as_str().expect("a kind")))
    };
    facts.iter().map(words).collect()
}

fn json_of(daemon: &Daemon, arguments: &[&str]) -> Value {
    let output = daemon.cli(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_guest_that_leaves_is_started_again_and_was_stopped_in_between() {
    let daemon = daemon();
    let api = daemon.api();
    let restart =
        json!({"policy": "always", "backoff": "50ms", "max_attempts": 2, "stable_after": "1h"});
    let new = json!({"name": "comes-back", "image": "tiny", "restart_policy": restart});
    let id = id_of(&api.post("/instances", &new).done());
    for session in 1..=3 {
        let path = format!("/instances/{id}/logs?follow=true&tail=1000");
        let ready = std::cell::Cell::new(0);
        api.follow(&path, |line| {
            ready.set(ready.get() + usize::from(line.contains("TALLYMAN-AGENT-READY")));
            ready.get() == session
        });
        api.wait(&id, "Running");
        assert_eq!(api.instance(&id)["session"], json!(session));
        daemon.type_to(&id, 'q');
    }
    api.wait(&id, "Stopped");
    let is = api.instance(&id);
    let status = &is["restart_status"];
    assert_eq!(
        (&status["attempts"], &status["blocked_reason"]),
        (&json!(2), &json!("max_attempts_exceeded")),
        "{is}"
    );
    let life = ["created", "initializing", "running", "stopped"];
    assert_eq!(api.phases(&id), [life, life, life].concat());
    let again = ["start by restart-policy", "created", "initializing", "running", "stopped"];
    assert_eq!(kinds(api, &id)[5..], [again, again].concat());
    for piece in api.check_time(&id).iter().filter(|piece| piece["phase"] == json!("stopped")) {
        assert!(
            piece["open"] == json!(true) || piece["duration_ns"].as_u64() >= Some(50_000_000),
            "{piece}"
        );
    }
}

#[test]
fn an_instance_whose_time_is_over_is_gone_and_says_why() {
    let daemon = daemon();
    let api = daemon.api();
    let id = id_of(
        &api.post("/instances", &json!({"name": "brief", "image": "tiny", "ttl": "300ms"})).done(),
    );
    api.get(&format!("/instances/{id}/wait?state=Deleted&timeout=50s"));
    assert_eq!(api.instance(&id)["state"], json!("Deleted"));
    let kinds = kinds(api, &id);
    assert!(kinds.contains(&"delete by expiry".to_owned()), "{kinds:?}");
    let pieces = api.check_time(&id);
    let lived: u64 =
        pieces.iter().map(|piece| piece["duration_ns"].as_u64().expect("a number")).sum();
    assert!(lived >= 250_000_000, "{lived}");
    daemon.check_no_machines_of(&id);
}

#[test]
fn what_is_on_record_can_be_changed_and_what_can_not_be_is_refused() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("changes");
    let path = format!("/instances/{id}");
    let before = api.check_time(&id).len();
    let change = json!({
        "tags": {"team": "blue"}, "restart_policy": {"policy": "on_failure", "backoff": "2s"},
        "expires_at": "2200-01-01T00:00:00Z", "expiry_action": "stop",
    });
    let is = api.patch(&path, &change).done();
    assert_eq!(
        (&is["tags"]["team"], &is["restart_policy"]["policy"]),
        (&json!("blue"), &json!("on_failure")),
        "{is}"
    );
    assert_eq!(
        (&is["expires_at"], &is["expiry_action"]),
        (&json!("2200-01-01T00:00:00.000000000Z"), &json!("stop")),
        "{is}"
    );
    assert_eq!(api.get("/instances?tag=team=blue").done().as_array().map(Vec::len), Some(1));
    assert_eq!(api.get("/instances?tag=team=red").done(), json!([]));
    assert_eq!(api.patch(&path, &json!({"expires_at": null})).done()["expires_at"], Value::Null);
    assert_eq!(api.patch(&path, &json!({})).done()["tags"]["team"], json!("blue"));
    let rows = [
        (json!({"expires_at": "2001-01-01T00:00:00Z"}), 400, "invalid", "past"),
        (json!({"ttl": "1h", "expires_at": "2200-01-01T00:00:00Z"}), 400, "invalid", "one of them"),
        (json!({"ttl": "soon"}), 400, "invalid", "ttl"),
        (json!({"expiry_action": "stop"}), 400, "invalid", "ttl"),
        (json!({"restart_policy": {"policy": "sometimes"}}), 400, "invalid", "on_failure"),
        (
            json!({"restart_policy": {"policy": "always", "backoff": "48h"}}),
            400,
            "invalid",
            "restart_policy.backoff",
        ),
        (
            json!({"health_check": {"type": "tcp", "tcp": {"port": 80}}}),
            409,
            "unsupported",
            "no network",
        ),
        (
            json!({"health_check": {"type": "tcp", "tcp": {"address": "127.0.0.1:80"}}}),
            409,
            "unsupported",
            "--probe-network",
        ),
        (
            json!({"health_check": {"type": "exec", "exec": {"command": []}}}),
            400,
            "invalid",
            "health_check.exec",
        ),
        (
            json!({"health_check": {"console": {"send": "p", "expect": "PONG"}}}),
            400,
            "invalid",
            "health_check.type",
        ),
        (
            json!({"health_check": {
                "type": "console", "console": {"send": "echo PONG", "expect": "PONG"},
            }}),
            400,
            "invalid",
            "echo",
        ),
        (json!({"auto_standby": {"idle_after": "1ms"}}), 400, "invalid", "auto_standby.idle_after"),
        (json!({"colour": "blue"}), 400, "unknown_field", "colour"),
    ];
    for (change, status, code, words) in rows {
        api.patch(&path, &change).refused(status, code, words);
    }
    assert_eq!(api.check_time(&id).len(), before, "no time is cut by it");
    let changes: Vec<_> = kinds(api, &id)
        .into_iter()
        .filter(|kind| !kind.contains("ing") && *kind != "created")
        .collect();
    assert_eq!(changes[1..], ["tags", "restart_policy", "expiry", "expiry"]);
}

#[test]
fn what_a_machine_uses_is_counted_and_a_stopped_one_uses_nothing() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("uses");
    let path = format!("/instances/{id}/stats");
    let first = api.get(&path).done();
    assert!(first["memory_rss_bytes"].as_u64() > Some(1 << 20), "{first}");
    assert!(first["memory_vms_bytes"].as_u64() >= first["memory_rss_bytes"].as_u64(), "{first}");
    assert_eq!(
        (&first["allocated_memory_bytes"], &first["allocated_vcpus"]),
        (&json!(16 << 20), &json!(1))
    );
    let resolution = first["cpu_resolution_ns"].as_u64().expect("a number");
    let cpu = |stats: &Value| stats["cpu_ns"].as_u64().expect("a number");
    assert_eq!(cpu(&first) % resolution, 0);
    api.follow(&format!("/instances/{id}/logs?follow=true&tail=1000"), |line| line == "HB 20");
    let second = api.get(&path).done();
    assert!(cpu(&second) >= cpu(&first), "{first} {second}");
    assert_eq!(json_of(&daemon, &["instance", "stats", "uses"])["instance_id"], json!(id));
    api.command(&id, "stop");
    let after = api.get(&path).done();
    assert_eq!((cpu(&after), &after["memory_rss_bytes"]), (0, &json!(0)), "{after}");
}

#[test]
fn memory_of_a_stopped_instance_is_resized_for_its_next_boot() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("grows");
    let path = format!("/instances/{id}/resize");
    api.post(&path, &json!({"size": "32MB"})).refused(
        409,
        "unsupported",
        "these can: cloud-hypervisor",
    );
    api.command(&id, "stop");
    api.post(&path, &json!({})).refused(400, "invalid", "512MB");
    api.post(&path, &json!({"size": "1MB"})).refused(400, "invalid", "must be");
    assert_eq!(api.post(&path, &json!({"size": "32MB"})).done()["memory_bytes"], json!(32 << 20));
    api.command(&id, "start");
    let pieces = api.check_time(&id);
    assert_eq!(pieces[pieces.len() - 1]["shape"]["memory_bytes"], json!(32 << 20));
    let new = json!({"name": "b", "image": "tiny", "memory_bytes_max": 64 << 20});
    api.post("/instances", &new).refused(409, "unsupported", "cloud-hypervisor");
}

#[test]
fn snapshots_and_forks_by_command_line() {
    let daemon = daemon();
    let api = daemon.api();
    api.create_running("web");
    assert_eq!(
        json_of(&daemon, &["snapshot", "create", "web", "one", "--tag", "a=b"])["tags"]["a"],
        json!("b")
    );
    json_of(&daemon, &["snapshot", "create", "web", "two", "--keep", "1"]);
    let kept = json_of(&daemon, &["snapshot", "list", "web"]);
    assert_eq!((kept.as_array().map(Vec::len), &kept[0]["name"]), (Some(1), &json!("two")));
    let fork = json_of(
        &daemon,
        &["instance", "fork", "web", "web-2", "--from-running", "--to", "standby"],
    );
    assert_eq!(fork["state"], json!("Standby"));
    let fork = json_of(&daemon, &["snapshot", "fork", "web", "two", "web-3"]);
    assert_eq!(fork["state"], json!("Running"));
    json_of(&daemon, &["instance", "stop", "web"]);
    assert_eq!(
        json_of(&daemon, &["snapshot", "restore", "web", "two", "--to", "standby"])["state"],
        json!("Standby")
    );
    let schedule = json_of(
        &daemon,
        &[
            "snapshot",
            "schedule",
            "web",
            "--every",
            "1h",
            "--keep",
            "3",
            "--jitter",
            "5m",
            "--compress",
        ],
    );
    assert_eq!(
        (&schedule["interval"], &schedule["retention"]["max_count"]),
        (&json!("1h"), &json!(3)),
        "{schedule}"
    );
    assert!(schedule["next_run_at"].is_string());
    assert_eq!(schedule["compress"], json!(true));
    assert_eq!(json_of(&daemon, &["snapshot", "schedule", "web"]), schedule);
    json_of(&daemon, &["snapshot", "schedule", "web", "--off"]);
    let output = daemon.cli(&["snapshot", "schedule", "web"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no_snapshot_schedule"), "{output:?}");
    api.put(
        "/instances/web/snapshot-schedule",
        &json!({"interval": "1s", "retention": {"max_count": 1}}),
    )
    .refused(400, "invalid", "interval");
    json_of(&daemon, &["snapshot", "delete", "web", "two"]);
    let updated = json_of(
        &daemon,
        &["instance", "update", "web", "--restart", "always", "--ttl", "2h", "--tag", "x=y"],
    );
    assert_eq!(
        (&updated["restart_policy"]["policy"], &updated["tags"]["x"]),
        (&json!("always"), &json!("y"))
    );
    assert_eq!(
        json_of(&daemon, &["instance", "update", "web", "--no-expiry"])["expires_at"],
        Value::Null
    );
    json_of(&daemon, &["instance", "stop", "web"]);
    assert_eq!(
        json_of(&daemon, &["instance", "resize", "web", "32MB"])["memory_bytes"],
        json!(32 << 20)
    );
    for arguments in [
        &["snapshot", "list", "web-3"][..],
        &["instance", "get", "web"],
        &["snapshot", "list", "web"],
    ] {
        assert!(daemon.cli(arguments).status.success(), "{arguments:?}");
    }
}

#[test]
fn a_guest_that_hangs_is_found_on_its_console_and_started_again_under_every_hypervisor() {
    let daemon = daemon();
    let api = daemon.api();
    for hypervisor in hypervisors::here(&daemon) {
        let check = json!({
            "type": "console", "console": {"send": "p", "expect": "PONG"},
            "interval": "100ms", "timeout": "5s", "failure_threshold": 1, "start_period": "0s",
        });
        let new = json!({
            "name": format!("well-{hypervisor}"), "image": "tiny", "hypervisor": hypervisor,
            "cmdline": format!("vmm={hypervisor}"), "stop_grace_ms": 0, "health_check": check,
            "restart_policy": {"policy": "on_failure", "backoff": "50ms"},
        });
        let id = id_of(&api.post("/instances", &new).done());
        let is_well = |is: &Value| is["health"]["status"] == json!("healthy");
        until(api, &id, is_well);
        api.patch(
            &format!("/instances/{id}"),
            &json!({"health_check": {
                "type": "console", "console": {"send": "p", "expect": "PONG"},
                "interval": "100ms", "timeout": "500ms",
            }}),
        )
        .done();
        daemon.type_to(&id, 'x');
        until(api, &id, |is| is["session"] == json!(2) && is_well(is));
        let kinds = kinds(api, &id);
        let at = kinds.iter().position(|kind| kind == "stop by health-check").expect("a stop");
        assert_eq!(
            kinds[at + 1..at + 4],
            ["shutdown", "stopped", "start by restart-policy"],
            "{hypervisor}: {kinds:?}"
        );
        api.check_time(&id);
        api.delete(&format!("/instances/{id}?grace_ms=0")).done();
    }
}

#[test]
fn what_has_nothing_to_do_goes_to_standby_and_activity_keeps_it_awake_or_wakes_it() {
    let daemon = daemon();
    let api = daemon.api();
    for hypervisor in hypervisors::here(&daemon) {
        // The guest is idle between its heartbeats; the processor time that it takes depends on the
        // host.
        let new = json!({
            "name": format!("idle-{hypervisor}"), "image": "tiny", "hypervisor": hypervisor,
            "cmdline": format!("vmm={hypervisor}"),
            "auto_standby": {"idle_after": "2s", "cpu_permille": 900},
        });
        let answer = api.post("/instances", &new);
        let id = id_of(&answer.done());
        api.wait(&id, "Running");
        let activity = format!("/instances/{id}/activity");
        for beat in [10, 20, 30, 40] {
            let line = format!("HB {beat}");
            api.follow(&format!("/instances/{id}/logs?follow=true&tail=1000"), |said| said == line);
            api.post(&activity, &json!({})).done();
        }
        let before = kinds(api, &id).len();
        if !goes_to_standby(&daemon, &id, &hypervisor) {
            continue;
        }
        assert_eq!(
            kinds(api, &id)[before..],
            ["standby by auto-standby", "paused", "standby"],
            "{hypervisor}"
        );
        daemon.check_no_machines_of(&id);
        assert_eq!(
            api.post(&activity, &json!({})).done()["state"],
            json!("Standby"),
            "it is told, not woken"
        );
        assert_eq!(api.post(&activity, &json!({"wake": true})).done()["state"], json!("Running"));
        api.patch(&format!("/instances/{id}"), &json!({"auto_standby": null})).done();
        let beats = daemon.heartbeats(&id);
        assert!(beats.iter().copied().eq(1..=beats.len() as u64), "{hypervisor}: {beats:?}");
        api.check_time(&id);
        api.delete(&format!("/instances/{id}?grace_ms=0")).done();
    }
}

/// Waits until a condition holds for an instance.
fn until(api: &Api, id: &str, so: impl Fn(&Value) -> bool) -> Value {
    eventually("such instance", || Some(api.instance(id)).filter(&so))
}

/// Waits until an instance is in standby; if its monitor can't save on this host, checks that it
/// was tried and that the instance runs on, and reports it.
fn goes_to_standby(daemon: &Daemon, id: &str, hypervisor: &str) -> bool {
    let api = daemon.api();
    let error = |is: &Value| is["state_error"].as_str().unwrap_or_default().to_owned();
    let is = until(api, id, |is| {
        is["state"] == json!("Standby")
            || (is["state"] == json!("Running") && !error(is).is_empty())
    });
    if is["state"] == json!("Standby") {
        return true;
    }
    assert!(error(&is).contains("GetNestedState"), "{hypervisor}: {}", error(&is));
    saves_not(hypervisor, &error(&is));
    api.delete(&format!("/instances/{id}?grace_ms=0")).done();
    false
}

#[test]
fn a_guest_that_works_is_not_idle() {
    let daemon = daemon();
    let api = daemon.api();
    let new = json!({
        "name": "busy", "image": "tiny", "cmdline": "flood", "skip_guest_agent": true,
        "auto_standby": {"idle_after": "1s", "cpu_permille": 20},
    });
    let id = id_of(&api.post("/instances", &new).done());
    api.wait(&id, "Running");
    let begun = until(api, &id, |is| is["idle_since"].is_string())["idle_since"].clone();
    // When another idle time begins, a second has passed and the usage was read.
    until(api, &id, |is| is["idle_since"] != begun);
    assert_eq!(api.instance(&id)["state"], json!("Running"));
    assert!(kinds(api, &id).iter().all(|kind| !kind.contains("auto-standby")));
}
