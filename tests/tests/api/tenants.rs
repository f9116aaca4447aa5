//! Isolation of tenants with real machines, and recovery from a policy that fails.

use serde_json::{Value, json};
use tallyman_tests::daemon::Api;
use tallyman_tests::policies;

use crate::daemon;
use crate::policies::breaks_at_a_pause;

/// Every route of an instance.
const WAYS: &[(&str, &str)] = &[
    ("GET", ""),
    ("GET", "?deleted=true"),
    ("DELETE", ""),
    ("POST", "/start"),
    ("POST", "/stop"),
    ("POST", "/standby"),
    ("POST", "/restore"),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("GET", "/wait?state=Running&timeout=1ms"),
    ("GET", "/logs"),
    ("GET", "/intervals"),
    ("GET", "/stats"),
    ("GET", "/snapshots"),
    ("GET", "/snapshots/one"),
    ("DELETE", "/snapshots/one"),
    ("POST", "/snapshots/one/restore"),
    ("GET", "/snapshot-schedule"),
    ("DELETE", "/snapshot-schedule"),
];

fn go(api: &Api, method: &str, path: &str) -> tallyman_tests::daemon::Answer {
    match method {
        "GET" => api.get(path),
        "DELETE" => api.delete(path),
        _ => api.act(path),
    }
}

#[test]
fn another_tenants_machine_does_not_exist_by_any_way() {
    let daemon = daemon();
    let ours = daemon.api().tenant("acme", "tenant-admin");
    let theirs = daemon.api().tenant("evil", "tenant-admin");
    let alive = ours.create_running("web");
    let gone = ours.create_running("old");
    ours.delete(&format!("/instances/{gone}")).done();
    assert_eq!(ours.instance(&gone)["state"], json!("Deleted"));
    for key in [alive.as_str(), &alive[..8], "web", &gone] {
        for (method, way) in WAYS {
            go(&theirs, method, &format!("/instances/{key}{way}")).refused(404, "not_found", key);
        }
    }
    assert_eq!(theirs.get("/instances").done(), json!([]));
    for key in [&alive, &gone] {
        let facts = theirs.get(&format!("/journal?instance={key}")).done();
        assert_eq!(facts, json!({"facts": [], "next": null}));
    }
    assert_eq!(ours.instance(&alive)["state"], json!("Running"), "nobody has touched it");
    assert_eq!(ours.instance(&alive)["tenant"], json!("acme"));
    ours.check_time(&alive);
    // The same name may be had by both.
    theirs.create("web");
    // An operator reaches both by naming them, and finds neither under its own tenant.
    daemon.api().get("/instances/web").refused(404, "not_found", "web");
}

#[test]
fn a_reader_looks_and_changes_nothing() {
    let daemon = daemon();
    let admin = daemon.api().tenant("acme", "tenant-admin");
    let made = admin.post("/tokens", &json!({"name": "reader", "role": "tenant-reader"})).done();
    let reader = admin.with_token(made["secret"].as_str().expect("a secret"));
    let id = admin.create_running("web");
    for (method, way) in WAYS {
        // The log is no JSON: the walk over all routes checks its access.
        if *way == "/logs" {
            continue;
        }
        let answer = go(&reader, method, &format!("/instances/{id}{way}"));
        match *method {
            // A route whose object does not exist may answer 404.
            "GET" => assert!(matches!(answer.status, 200 | 404), "{answer:?}"),
            _ => drop(answer.refused(403, "forbidden", "tenant-reader")),
        }
    }
    reader.post("/instances", &json!({"name": "a", "image": "tiny"})).refused(
        403,
        "forbidden",
        "tenant-reader",
    );
    assert_eq!(admin.instance(&id)["state"], json!("Running"));
}

#[test]
fn a_tenant_gets_no_more_machines_than_it_may_and_no_files_of_the_host() {
    let daemon = daemon();
    let admin = daemon.api().tenant("acme", "tenant-admin");
    let set = |limits: Value| {
        let path = "/tenants/acme/limits";
        let body = limits.to_string().into();
        daemon.api().send(&tallyman_tests::daemon::Request {
            method: "PATCH",
            path,
            authorization: None,
            content_type: Some("application/json"),
            body,
        })
    };
    set(json!({"instances": 1, "vcpus": 2, "memory_bytes": 64 << 20})).done();
    let new = |name: &str, more: Value| {
        let mut wanted = json!({"name": name, "image": "tiny"});
        wanted
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        admin.post("/instances", &wanted)
    };
    new("a", json!({"vcpus": 3})).refused(403, "quota_exceeded", "3 vcpus; its limit is 2");
    new("a", json!({"size": "80MB"})).refused(403, "quota_exceeded", "memory_bytes");
    new("a", json!({"disks": [{"path": "/etc/shadow"}]})).refused(403, "forbidden", "operator");
    let id = new("a", json!({})).done()["id"].as_str().expect("an id").to_owned();
    new("b", json!({})).refused(403, "quota_exceeded", "2 instances; its limit is 1");
    new("a", json!({})).refused(409, "name_in_use", "'a'");
    let other = daemon.api().tenant("other", "tenant-admin");
    for name in ["a", "b"] {
        other.create_running(name);
    }
    let seen = admin.get("/tenants/self").done();
    assert_eq!((&seen["instances"], &seen["memory_bytes"]), (&json!(1), &json!(16 << 20)));
    admin.delete(&format!("/instances/{id}?grace_ms=0")).done();
    new("b", json!({})).done();
}

/// A tenant under a good policy, and then under one that traps at a pause, with two machines that
/// were paused: two faults in a row.
fn under_a_policy_that_breaks(api: &Api, ladder: Value) -> (Api, [String; 2], Value, Value) {
    let tenant = api.tenant("acme", "tenant-admin");
    tenant.put("/tenants/self/fallback", &json!({"ladder": ladder})).done();
    let good = tenant.upload(policies::component("coarse")).done()["digest"].clone();
    tenant.put("/tenants/self/policy", &json!({"digest": good})).done();
    let bad = tenant.upload(breaks_at_a_pause()).done()["digest"].clone();
    tenant.put("/tenants/self/policy", &json!({"digest": bad})).done();
    let ids = ["unlucky", "also-unlucky"].map(|name| tenant.create_running(name));
    for id in &ids {
        assert_eq!(tenant.command(id, "pause")["accounting"]["status"], json!("degraded"));
    }
    (tenant, ids, good, bad)
}

/// Waits until the quarantine of `bad` is recorded, and `in_force` is in force.
pub(crate) fn quarantined(tenant: &Api, bad: &Value, in_force: &Value) -> Value {
    for _ in 0..10_000 {
        let facts = tenant.get("/journal?kind=policy-moved").done();
        let told = facts["facts"]
            .as_array()
            .expect("facts")
            .iter()
            .any(|fact| fact["to"] == "quarantined");
        let status = tenant.get("/tenants/self/policy").done();
        let mut stands = status["policies"].as_array().expect("policies").iter();
        let ill = stands.any(|one| one["digest"] == *bad && one["state"] == "quarantined");
        if told && ill && status["digest"] == *in_force {
            return status;
        }
        std::thread::yield_now();
    }
    panic!("it is not quarantined");
}

/// Waits until no account of an instance is degraded: its own task recovers it after another policy
/// has come into force.
fn mended(tenant: &Api, id: &str) {
    let is_well = |_| tenant.instance(id)["accounting"]["status"] == json!("ok");
    assert!((0..10_000).any(is_well), "{}", tenant.instance(id));
}

#[test]
fn two_faults_quarantine_a_policy_and_the_last_good_one_accounts_what_it_owes_once() {
    let mut daemon = daemon();
    let (tenant, ids, good, bad) =
        under_a_policy_that_breaks(daemon.api(), json!(["last-good", "standard"]));
    let status = quarantined(&tenant, &bad, &good);
    let ill = &status["quarantined"][0];
    assert_eq!(
        (&ill["digest"], &ill["stand_in"], &ill["alert"]),
        (&bad, &good, &json!(true)),
        "{ill}"
    );
    assert!(ill["reason"].as_str().expect("a reason").contains("unreachable"), "{ill}");
    for api in [&tenant, daemon.api()] {
        let watched = api.text("/metrics");
        assert!(
            watched.lines().any(|line| line == r#"tallyman_policy_alerts{tenant="acme"} 1"#),
            "{watched}"
        );
    }
    assert!(!tenant.text("/metrics").contains("default"), "another tenant's figures");
    assert_eq!(tenant.get("/health").done()["alerts"], json!(1));
    let facts = tenant.get("/journal?kind=policy-activated").done();
    let last = facts["facts"].as_array().expect("facts").last().expect("one").clone();
    assert_eq!((&last["digest"], &last["by"]), (&good, &json!("host")), "{last}");
    assert!(last["reason"].as_str().expect("a reason").contains("was quarantined"), "{last}");

    for id in &ids {
        mended(&tenant, id);
        tenant.command(id, "resume");
        assert_eq!(tenant.instance(id)["accounting"]["status"], json!("ok"));
        tenant.check_time(id);
        let account = tenant.get(&format!("/instances/{id}/intervals")).done();
        let lived = &account["totals_ns"];
        let counted = &account["accounted"]["totals_ns"];
        assert_eq!(
            (&counted["standby"], &counted["paused"]),
            (&lived["paused"], &Value::Null),
            "coarse counts a pause as standby: {account}"
        );
    }

    daemon.kill();
    daemon.start_again();
    let tenant = daemon.api();
    let again = tenant.get("/tenants/acme/policy").done();
    assert_eq!((&again["digest"], &again["quarantined"][0]["digest"]), (&good, &bad), "{again}");
    assert_eq!(tenant.get("/health").done()["alerts"], json!(1), "also after a restart");
    // A quarantined policy comes back only by name.
    let put = |more: Value| {
        let mut body = json!({"digest": bad});
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        tenant.put("/tenants/acme/policy", &body)
    };
    put(json!({})).refused(409, "quarantined", "is quarantined");
    put(json!({"again": true})).done();
    assert_eq!(tenant.get("/health").done()["alerts"], json!(0));
    assert_eq!(tenant.get("/tenants/acme/policy").done()["quarantined"], json!([]));
}

#[test]
fn what_is_held_is_owed_until_somebody_acts() {
    let daemon = daemon();
    let (tenant, [id, _], good, bad) = under_a_policy_that_breaks(daemon.api(), json!(["hold"]));
    let status = quarantined(&tenant, &bad, &bad);
    assert_eq!(status["quarantined"][0]["stand_in"], Value::Null, "{status}");
    assert_eq!(tenant.instance(&id)["accounting"]["status"], json!("degraded"));
    assert_eq!((&tenant.get("/health").done()["alerts"], &status["previous"]), (&json!(1), &good));
    // Another ladder applies at once: degraded time is accounted by it.
    tenant.put("/tenants/self/fallback", &json!({"ladder": ["standard"]})).done();
    let standard = daemon.api().get("/policies/standard").done()["digest"].clone();
    mended(&tenant, &id);
    tenant.command(&id, "resume");
    let seen = tenant.instance(&id);
    assert_eq!(
        (&seen["policy"], &seen["accounting"]["status"]),
        (&standard, &json!("ok")),
        "{seen}"
    );
    tenant.check_time(&id);
}

#[test]
fn a_policy_drains_while_a_visit_waits_for_it_and_is_retired_then() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("web");
    let standard = api.instance(&id)["policy"].clone();
    let coarse = api.upload(policies::component("coarse")).done()["digest"].clone();
    api.put("/tenants/default/policy", &json!({"digest": coarse})).done();
    let state = |digest: &Value| {
        let path = format!("/policies/{}", digest.as_str().expect("a digest"));
        api.get(&path).done()["state"].clone()
    };
    assert_eq!((state(&coarse), state(&standard)), (json!("active"), json!("draining")));
    // The visit under way is closed by both policies, each its own part; afterwards nothing depends
    // on the first.
    api.command(&id, "pause");
    assert_eq!(state(&standard), json!("retired"));
    let told = |to: &str| {
        let facts = api.get("/journal?kind=policy-moved").done();
        let facts = facts["facts"].as_array().expect("facts");
        facts
            .iter()
            .any(|fact| fact["to"] == to && fact["digest"] == standard && fact["by"] == "host")
    };
    assert!((0..10_000).any(|_| told("retired")), "it is written down");
    api.check_time(&id);
}

#[test]
fn a_policy_that_is_tried_tells_what_it_would_have_counted_and_changes_nothing() {
    let daemon = daemon();
    let author = daemon.api().tenant("acme", "policy-author");
    let made = daemon
        .api()
        .post("/tokens", &json!({"name": "a", "role": "tenant-admin", "tenant": "acme"}))
        .done();
    let admin = author.with_token(made["secret"].as_str().expect("a secret"));
    let paused = admin.create_running("paused");
    let stays = admin.create_running("stays");
    let tried = author.upload(policies::component("coarse")).done()["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    let broken =
        author.upload(breaks_at_a_pause()).done()["digest"].as_str().expect("a digest").to_owned();
    for digest in [&tried, &broken] {
        author
            .post("/tenants/self/shadows", &json!({"digest": digest, "reason": "a trial"}))
            .done();
    }
    admin.command(&paused, "pause");
    admin.command(&paused, "resume");
    let before = admin.get(&format!("/instances/{paused}/intervals")).done();
    let report = author.get(&format!("/tenants/self/shadows/{tried}")).done();
    assert_eq!(
        (&report["instances"], &report["compared"], &report["differing"]),
        (&json!(2), &json!(2), &json!(1))
    );
    let active = &report["active_ns"];
    let candidate = &report["candidate_ns"];
    assert_eq!(
        (&candidate["standby"], &candidate["running"]),
        (&active["paused"], &active["running"]),
        "{report}"
    );
    assert_eq!(
        (&report["worst"]["instance"], &report["worst"]["moved_ns"]),
        (&json!(paused), &active["paused"])
    );
    assert!(
        report["fuel"].as_u64().is_some_and(|fuel| fuel > 0) && report["faults"] == json!(0),
        "{report}"
    );
    let report = author.get(&format!("/tenants/self/shadows/{broken}")).done();
    assert_eq!((&report["compared"], &report["faults"]), (&json!(1), &json!(1)), "{report}");
    assert!(report["fault"].as_str().expect("a reason").contains("unreachable"), "{report}");
    // Nothing has changed for the tenant: no fault counts, no account is degraded.
    let status = admin.get("/tenants/self/policy").done();
    assert_eq!(status["quarantined"], json!([]));
    for id in [&paused, &stays] {
        assert_eq!(admin.instance(id)["accounting"]["status"], json!("ok"));
        admin.check_time(id);
    }
    let after = admin.get(&format!("/instances/{paused}/intervals")).done();
    assert_eq!(
        before["intervals"].as_array().map(Vec::len),
        after["intervals"].as_array().map(Vec::len)
    );
    let stopped = author.delete(&format!("/tenants/self/shadows/{broken}")).done();
    assert_eq!(stopped["state"], json!("admitted"));
    author.get(&format!("/tenants/self/shadows/{broken}")).refused(
        404,
        "no_such_shadow",
        "not tried",
    );
}
