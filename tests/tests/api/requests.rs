//! Malformed requests get an answer that names the fault.

use std::thread;

use serde_json::{Value, json};
use tallyman_tests::daemon::{Api, Daemon, Request};
use tallyman_tests::guest;

use crate::{PROGRAM, daemon};

/// Method, path, content type, body; status, code, and what the message must contain.
type Row<'a> = (&'a str, &'a str, Option<&'a str>, &'a str, u16, &'a str, &'a str);

const JSON: Option<&str> = Some("application/json");

const ROWS: &[Row<'_>] = &[
    ("GET", "/nowhere", None, "", 404, "no_such_route", "/nowhere"),
    ("PATCH", "/instances", None, "", 405, "method_not_allowed", "PATCH"),
    ("DELETE", "/health", None, "", 405, "method_not_allowed", "/health"),
    ("GET", "/instances/none", None, "", 404, "not_found", "'none'"),
    ("POST", "/instances/none/stop", None, "", 404, "not_found", "'none'"),
    ("DELETE", "/instances/none", None, "", 404, "not_found", "'none'"),
    ("GET", "/instances/none/wait?state=Running", None, "", 404, "not_found", "'none'"),
    ("GET", "/instances/none/logs", None, "", 404, "not_found", "'none'"),
    ("GET", "/instances/none/intervals", None, "", 404, "not_found", "'none'"),
    ("GET", "/instances?state=Sleeping", None, "", 400, "invalid", "Standby"),
    ("GET", "/instances?stat=Running", None, "", 400, "unknown_field", "`stat`"),
    ("GET", "/instances/taken/wait?state=Sleeping", None, "", 400, "invalid", "'Sleeping'"),
    (
        "GET",
        "/instances/taken/wait?state=Running&timeout=soon",
        None,
        "",
        400,
        "invalid",
        "timeout",
    ),
    ("GET", "/instances/taken/wait", None, "", 400, "invalid", "state"),
    ("GET", "/instances/taken/logs?tail=some", None, "", 400, "invalid", "digit"),
    ("GET", "/instances/taken/logs?lines=1", None, "", 400, "unknown_field", "`tail`"),
    ("POST", "/instances", JSON, "{", 400, "invalid", "line 1"),
    ("POST", "/instances", JSON, "[]", 400, "invalid", ""),
    ("POST", "/instances", JSON, r#"{"image":"tiny"}"#, 400, "invalid", "missing field `name`"),
    (
        "POST",
        "/instances",
        JSON,
        r#"{"name":"a","image":"tiny","memry":1}"#,
        400,
        "unknown_field",
        "`memry`",
    ),
    (
        "POST",
        "/instances",
        JSON,
        r#"{"name":"a","image":"tiny","vcpus":"two"}"#,
        400,
        "invalid",
        "two",
    ),
    (
        "POST",
        "/instances",
        JSON,
        r#"{"name":"a","image":"tiny","vcpus":0}"#,
        400,
        "invalid",
        "vcpus",
    ),
    ("POST", "/instances", JSON, r#"{"name":"a","image":"tiny","vcpus":65}"#, 400, "invalid", "64"),
    ("POST", "/instances", JSON, r#"{"name":"a","image":"tiny","vcpus":-1}"#, 400, "invalid", "-1"),
    (
        "POST",
        "/instances",
        JSON,
        r#"{"name":"a","image":"tiny","size":"much"}"#,
        400,
        "invalid",
        "size",
    ),
    (
        "POST",
        "/instances",
        JSON,
        r#"{"name":"a","image":"tiny","size":"1KB"}"#,
        400,
        "invalid",
        "16777216",
    ),
    (
        "POST",
        "/instances",
        JSON,
        r#"{"name":"Not A Name","image":"tiny"}"#,
        400,
        "invalid",
        "Not A Name",
    ),
    ("POST", "/instances", JSON, r#"{"name":"","image":"tiny"}"#, 400, "invalid", "1 to 63"),
    (
        "POST",
        "/instances",
        JSON,
        r#"{"name":"taken","image":"tiny"}"#,
        409,
        "name_in_use",
        "'taken'",
    ),
    ("POST", "/instances", JSON, r#"{"name":"a","image":"none"}"#, 404, "no_such_image", "tiny"),
    (
        "POST",
        "/instances",
        JSON,
        r#"{"name":"a","image":"tiny","hypervisor":"none"}"#,
        400,
        "no_such_hypervisor",
        "qemu",
    ),
    (
        "POST",
        "/instances",
        JSON,
        r#"{"name":"a","image":"tiny","disks":[{"path":"/nowhere"}]}"#,
        400,
        "invalid",
        "/nowhere",
    ),
    (
        "POST",
        "/instances",
        JSON,
        r#"{"name":"a","image":"tiny","disks":[{"path":"disk"}]}"#,
        400,
        "invalid",
        "absolute",
    ),
    ("POST", "/instances/taken/stop", JSON, r#"{"grace":1}"#, 400, "unknown_field", "`grace_ms`"),
    ("POST", "/instances/taken/pause", JSON, r#"{"now":true}"#, 400, "unknown_field", "`now`"),
    ("GET", "/images/none", None, "", 404, "no_such_image", "none"),
    ("DELETE", "/images/tiny", None, "", 409, "image_in_use", "taken"),
    ("POST", "/images", JSON, r#"{"name":"tiny","kernel":"/nowhere"}"#, 409, "name_in_use", "tiny"),
    (
        "POST",
        "/images",
        JSON,
        r#"{"name":"other","kernel":"/nowhere"}"#,
        400,
        "invalid",
        "/nowhere",
    ),
    (
        "POST",
        "/images",
        JSON,
        r#"{"name":"other","kernel":"/etc/passwd"}"#,
        400,
        "not_a_kernel",
        "/etc/passwd",
    ),
    ("POST", "/images", JSON, r#"{"name":"other","kernel":"/tmp"}"#, 400, "invalid", "/tmp"),
    ("GET", "/journal?limit=x", None, "", 400, "invalid", "digit"),
    ("GET", "/journal?kind=nothing", None, "", 400, "invalid", "nothing"),
    ("GET", "/journal?page=2", None, "", 400, "unknown_field", "`after`"),
    ("GET", "/policies/none", None, "", 404, "no_such_policy", "'none'"),
    ("GET", "/tenants/nobody/policy", None, "", 404, "no_such_tenant", "nobody"),
    (
        "PUT",
        "/tenants/default/policy",
        JSON,
        r#"{"digest":"none"}"#,
        404,
        "no_such_policy",
        "'none'",
    ),
    (
        "PUT",
        "/tenants/default/policy",
        JSON,
        r#"{"digest":"standard","at":"soon"}"#,
        400,
        "invalid",
        "'soon'",
    ),
    (
        "POST",
        "/tenants/default/policy/rollback",
        None,
        "",
        409,
        "nothing_to_roll_back",
        "no earlier policy",
    ),
    ("POST", "/policies", Some("text/html"), "<html>", 415, "unsupported_media_type", "text/html"),
    (
        "POST",
        "/policies",
        Some("application/wasm"),
        "<html>",
        400,
        "not_a_component",
        "does not begin with",
    ),
];

fn ask(api: &Api, row: &Row<'_>) {
    let &(method, path, content_type, body, status, code, words) = row;
    let request = Request { method, path, authorization: None, content_type, body: body.into() };
    api.send(&request).refused(status, code, words);
}

#[test]
fn every_wrong_request_is_refused_with_its_status_its_code_and_what_is_wrong() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("taken");
    let facts = api.facts(&id);
    for row in ROWS {
        ask(api, row);
    }
    assert_eq!(
        api.get("/instances").done().as_array().map(Vec::len),
        Some(1),
        "something was created"
    );
    assert_eq!(api.facts(&id), facts, "something was done");
}

#[test]
fn a_body_of_another_content_type_is_refused() {
    let daemon = daemon();
    let row = ("POST", "/instances", Some("text/plain"), r#"{"name":"a","image":"tiny"}"#);
    let (method, path, content_type, body) = row;
    let request = Request { method, path, authorization: None, content_type, body: body.into() };
    daemon.api().send(&request).refused(415, "unsupported_media_type", "application/json");
}

#[test]
fn a_body_that_is_too_large_is_refused_with_the_limit() {
    let daemon = daemon();
    let body = vec![b' '; (1 << 20) + 1];
    let post = |path| Request {
        method: "POST",
        path,
        authorization: None,
        content_type: JSON,
        body: body.clone(),
    };
    daemon.api().send(&post("/instances")).refused(413, "too_large", "1048576");
    let upload = Request { content_type: Some("application/wasm"), ..post("/policies") };
    daemon.api().send(&upload).refused(413, "too_large", "1048576");
}

#[test]
fn without_the_right_token_nothing_is_told_but_health_and_the_description() {
    let daemon = daemon();
    let ask = |method, path, authorization| {
        let authorization = Some(authorization);
        daemon.api().send(&Request {
            method,
            path,
            authorization,
            content_type: None,
            body: Vec::new(),
        })
    };
    for (authorization, words) in [
        ("", "no bearer token"),
        ("Basic abc", "no bearer token"),
        ("Bearer", "no bearer token"),
        ("Bearer wrong", "not the right one"),
    ] {
        for (method, path) in [
            ("GET", "/instances"),
            ("POST", "/instances"),
            ("GET", "/journal"),
            ("POST", "/policies"),
        ] {
            let answer = ask(method, path, authorization);
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            let body = answer.refused(401, "unauthorized", words);
            assert!(body["hint"].as_str().expect("a hint").contains("`token`"), "{body}");
        }
        assert_eq!(ask("GET", "/health", authorization).status, 200);
        assert_eq!(ask("GET", "/openapi.json", authorization).status, 200);
    }
}

#[test]
fn a_wait_that_runs_out_says_where_the_instance_stands() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_with("waits", "noready");
    let waited = api.get(&format!("/instances/{id}/wait?state=Running&timeout=50ms")).done();
    assert_eq!(waited, json!({"state": "Initializing", "timed_out": true}));
    api.command(&id, "stop");
    let waited = api.get(&format!("/instances/{id}/wait?state=Running&timeout=50s")).done();
    assert_eq!((&waited["state"], &waited["timed_out"]), (&json!("Stopped"), &json!(false)));
    assert!(waited["state_error"].as_str().expect("a reason").contains("stopped"), "{waited}");
}

#[test]
fn a_full_queue_answers_at_once_and_says_when_to_come_again() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("deaf");
    let path = format!("/instances/{id}/logs?follow=true&tail=1");
    api.follow_then(&path, || daemon.type_to(&id, 'x'), |line| line == "HANG");
    let stop = format!("/instances/{id}/stop");
    let pause = format!("/instances/{id}/pause");
    thread::scope(|scope| {
        let stopping = scope.spawn(|| api.post(&stop, &json!({"grace_ms": 4000})));
        api.wait(&id, "Shutdown");
        let asking: Vec<_> = (0..9).map(|_| scope.spawn(|| api.act(&pause))).collect();
        let answers: Vec<_> =
            asking.into_iter().map(|asked| asked.join().expect("an answer")).collect();
        let (busy, waited): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 429);
        assert_eq!((busy.len(), waited.len()), (1, 8), "eight may wait");
        for answer in busy {
            assert_eq!(answer.headers["retry-after"], "1");
            answer.refused(429, "busy", "8 commands");
        }
        for answer in waited {
            answer.refused(409, "invalid_state", "Stopped");
        }
        assert_eq!(stopping.join().expect("an answer").done()["stop_cause"], json!("forced"));
    });
}

#[test]
fn a_full_disk_refuses_what_is_new_and_the_daemon_goes_on_once_there_is_space() {
    const INSIDE: &str = "ON_A_SMALL_DISK";
    const NAME: &str =
        "requests::a_full_disk_refuses_what_is_new_and_the_daemon_goes_on_once_there_is_space";
    if let Some(folder) = std::env::var_os(INSIDE) {
        return fill_the_disk(tempfile::tempdir_in(folder).expect("a folder"));
    }
    guest::tiny();
    let folder = tempfile::tempdir().expect("a folder");
    let script =
        format!(r#"mount -t tmpfs -o size=40m,mode=700 tmpfs "${INSIDE}" && exec "$0" "$@""#);
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", &script])
        .arg(std::env::current_exe().expect("a running test has a path"))
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, folder.path())
        .output()
        .expect("this test needs `unshare` (package util-linux)");
    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &*String::from_utf8_lossy(&output.stderr);
    let why = "this test mounts a small file system in a namespace of its own; \
               allow unprivileged user namespaces, or run as root";
    assert!(output.status.success() && told.contains("filled and freed"), "{why}\n{told}");
}

fn fill_the_disk(folder: tempfile::TempDir) {
    let mut daemon = Daemon::on(PROGRAM, folder);
    let import = json!({"name": "tiny", "kernel": guest::tiny(), "memory_bytes_min": 16 << 20});
    daemon.api().post("/images", &import).done();
    let id = daemon.api().create_running("before");
    let gone = daemon.api().create_running("gone");
    let reader = daemon.api().tenant("acme", "tenant-reader");
    let calm = daemon.api().tenant("calm", "tenant-admin");
    let other = calm.create_running("other");
    let ballast = daemon.folder().join("ballast");
    let full = std::io::copy(
        &mut std::io::repeat(7),
        &mut std::fs::File::create(&ballast).expect("a file"),
    );
    assert_eq!(full.expect_err("it ends").kind(), std::io::ErrorKind::StorageFull);
    what_can_wait_is_refused(daemon.api(), &id);
    the_reserve_takes_what_happens(daemon.api(), &id);
    // The facts of another tenant are written, too.
    calm.command(&other, "pause");
    calm.check_time(&other);
    daemon.stop();
    daemon.start_where_it_was();
    assert_eq!(disk_state(daemon.api()), json!("full"), "and it starts all the same");
    ends_and_revocations_pass(daemon.api(), &gone, &reader);
    assert_eq!(daemon.api().instance(&id)["state"], json!("Running"), "what runs goes on");
    std::fs::remove_file(&ballast).expect("a file");
    let api = daemon.api();
    assert_eq!(api.command(&id, "pause")["state"], json!("Paused"));
    assert_ne!(disk_state(api), json!("full"), "the reserve is whole again");
    api.check_time(&id);
    api.post("/instances", &json!({"name": "after", "image": "tiny"})).done();
    daemon.prove_journal();
    println!("filled and freed");
}

fn disk_state(api: &Api) -> Value {
    api.get("/health").done()["disk"]["state"].clone()
}

fn what_can_wait_is_refused(api: &Api, id: &str) {
    assert_eq!(disk_state(api), json!("low"));
    let words = "kept for the journal";
    let new = json!({"name": "late", "image": "tiny"});
    api.post("/instances", &new).refused(507, "disk_low", words);
    api.act(&format!("/instances/{id}/standby")).refused(507, "disk_low", words);
    let rows = [
        ("fork", json!({"name": "late", "from_running": true})),
        ("snapshots", json!({"name": "late"})),
    ];
    for (act, body) in rows {
        let path = format!("/instances/{id}/{act}");
        api.post(&path, &body).refused(507, "disk_low", words);
    }
    let book = json!({"currency": "EUR", "prices": []});
    api.put("/tenants/acme/prices", &book).refused(507, "disk_low", words);
    assert_eq!(api.instance(id)["state"], json!("Running"));
}

/// The pages that the journal has suffice for some facts; then the reserve gives others.
fn the_reserve_takes_what_happens(api: &Api, id: &str) {
    let mut rounds = 0;
    while disk_state(api) != json!("full") {
        assert_eq!(api.command(id, "pause")["state"], json!("Paused"));
        assert_eq!(api.command(id, "resume")["state"], json!("Running"));
        rounds += 1;
        assert!(rounds < 1_000, "the reserve is never used");
    }
    let metrics = api.text("/metrics");
    let name = "tallyman_journal_reserve_missing_bytes ";
    let missing = metrics.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
    assert!(missing.is_some_and(|missing| missing > 0), "{metrics}");
}

fn ends_and_revocations_pass(api: &Api, gone: &str, reader: &Api) {
    api.post("/tenants", &json!({"id": "late"})).refused(507, "no_space", "disk is full");
    let tokens = api.get("/tokens").done();
    let token = tokens.as_array().expect("tokens").iter().find(|one| one["tenant"] == "acme");
    let token = token.expect("the reader's")["id"].as_str().expect("an id").to_owned();
    reader.get("/tenants").done();
    assert_eq!(api.delete(&format!("/tokens/{token}")).status, 204);
    assert_eq!(reader.get("/tenants").status, 401);
    assert_eq!(api.delete(&format!("/instances/{gone}?grace_ms=0")).status, 204);
}
