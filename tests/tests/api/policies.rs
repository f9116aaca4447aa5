//! Components that are no policies, policies that fail, and swaps, over HTTP.

use serde_json::{Value, json};
use tallyman::vm::Phase;
use tallyman_tests::deadline::eventually;
use tallyman_tests::policies;

use crate::daemon;
use crate::hostile::{self, Contract, Evil, When};

const MONOTONIC_CLOCK: &str =
    "package wasi:clocks@0.2.6; interface monotonic-clock { now: func() -> u64; }";

/// Name, component; status, code, and what the message must contain.
type Row = (&'static str, Vec<u8>, u16, &'static str, &'static str);

fn rows() -> Vec<Row> {
    let evil = |evil: Evil| evil.component(When::Always);
    let served = Contract::served;
    let importing = served()
        .beside("clocks.wit", MONOTONIC_CLOCK)
        .with("world policy {", "world policy {\n  import wasi:clocks/monotonic-clock@0.2.6;");
    let other_world = served().with(
        "world meter {\n  @since(version = 0.2.0)\n  export metering;",
        "world meter {\n  @since(version = 0.2.0)\n  export run: func();",
    );
    let standard = policies::component("standard");
    let self_test = "self_test";
    let bad = 400;
    vec![
        ("nothing", Vec::new(), bad, "not_a_component", "does not begin with"),
        ("a script", b"#!/bin/sh\n".into(), bad, "not_a_component", "does not begin with"),
        (
            "half a component",
            standard[..standard.len() / 2].into(),
            bad,
            "malformed",
            "can't be read",
        ),
        (
            "a core module",
            served().dummy_module("policy"),
            bad,
            "core_module",
            "wasm-tools component new",
        ),
        (
            "one with imports",
            importing.dummy("policy"),
            bad,
            "imports",
            "wasi:clocks/monotonic-clock@0.2.6",
        ),
        ("another world", other_world.dummy("meter"), bad, "wrong_world", "it exports run"),
        (
            "another version",
            served().with("0.2.0", "0.3.0").dummy("policy"),
            bad,
            "wrong_version",
            "accounting@0.2.0",
        ),
        ("loops", evil(hostile::LOOPS), bad, self_test, "fuel"),
        ("eats memory", evil(hostile::EATS_MEMORY), bad, self_test, "memory"),
        ("recurses", evil(hostile::RECURSES), bad, self_test, "stack"),
        ("traps", evil(hostile::TRAPS), bad, self_test, "unreachable"),
        ("refuses", evil(hostile::REFUSES), bad, self_test, "enter"),
        ("claims a gigabyte", evil(hostile::CLAIMS_A_GIGABYTE), bad, self_test, "self-test"),
        ("returns megabytes", evil(hostile::RETURNS_MEGABYTES), bad, self_test, "self-test"),
        ("invents a second", evil(hostile::INVENTS_A_SECOND), bad, self_test, "self-test"),
        ("loses a nanosecond", evil(hostile::LOSES_A_NANOSECOND), bad, self_test, "self-test"),
        ("shrinks a total", evil(hostile::SHRINKS_A_TOTAL), bad, self_test, "self-test"),
        ("moves since back", evil(hostile::MOVES_SINCE_BACK), bad, self_test, "since"),
        ("makes up a phase", evil(hostile::MAKES_UP_A_PHASE), bad, self_test, "self-test"),
        ("forgets the phase", evil(hostile::FORGETS_THE_PHASE), bad, self_test, "self-test"),
        ("breaks batches", evil(hostile::BREAKS_BATCHES), bad, self_test, "enter-all"),
    ]
}

#[test]
fn what_is_no_policy_is_refused_with_the_reason_and_leaves_no_trace() {
    let daemon = daemon();
    let api = daemon.api();
    let before = api.get("/policies").done();
    for (name, component, status, code, words) in rows() {
        println!("{name}");
        let body = api.upload(component).refused(status, code, words);
        println!("  {body}");
    }
    assert_eq!(api.get("/policies").done(), before);
    assert_eq!(api.get("/journal?kind=policy-faulted").done()["facts"], json!([]));
    api.create_running("goes-on");
}

fn admit(api: &tallyman_tests::daemon::Api, component: Vec<u8>) -> String {
    api.upload(component).done()["digest"].as_str().expect("a digest").to_owned()
}

/// Passes the self-test; from the year 2024 on it traps when an instance is paused.
pub(crate) fn breaks_at_a_pause() -> Vec<u8> {
    fails_at_a_pause("(if (i32.eq (local.get $to) (i32.const 3)) (then unreachable))")
}

/// The same, whose accounting of a fact is this: phase 3 is that of a pause.
pub(crate) fn fails_at_a_pause(enter: &'static str) -> Vec<u8> {
    assert_eq!(Phase::ALL[3], Phase::Paused);
    let since_2024 = "(i64.gt_s (local.get $at) (i64.const 1704067200000000000))";
    Evil { enter, columns: "" }.component_with(When::Never, "{evil}", since_2024)
}

fn status_of(instance: &Value) -> &str {
    instance["accounting"]["status"].as_str().expect("a status")
}

#[test]
fn a_policy_that_breaks_later_holds_nothing_up_and_a_rollback_makes_it_whole() {
    let mut daemon = daemon();
    let api = daemon.api();
    let bad = api.create_running("unlucky");
    let good = api.create_running("lucky");
    let digest = admit(api, breaks_at_a_pause());
    api.put("/tenants/default/policy", &json!({"digest": digest})).done();

    let paused = api.command(&bad, "pause");
    assert_eq!(
        (status_of(&paused), &paused["state"], &paused["current_phase"]),
        ("degraded", &json!("Paused"), &json!("paused"))
    );
    let reason = paused["accounting"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("unreachable"), "{reason}");
    let running = paused["phase_durations_ms"]["running"].as_u64();
    assert!(running.is_some(), "the standard figures: {paused}");

    let faults =
        api.get("/journal?kind=policy-faulted").done()["facts"].as_array().expect("facts").clone();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0]["digest"], json!(digest));
    assert!(faults[0]["reason"].as_str().expect("a reason").contains("unreachable"), "{faults:?}");

    assert_eq!(status_of(&api.instance(&good)), "ok", "another instance is not touched");
    api.command(&bad, "resume");
    api.command(&bad, "standby");
    api.command(&bad, "restore");
    api.check_time(&bad);
    api.check_time(&good);

    let rolled_back = api.act("/tenants/default/policy/rollback").done();
    assert_ne!(rolled_back["digest"], json!(digest));
    // The account is recovered by the instance's own task, so the next command in its queue comes
    // after that.
    let paused = api.command(&bad, "pause");
    println!("{paused}");
    api.check_time(&bad);
    api.check_time(&good);
    assert_eq!(status_of(&api.instance(&good)), "ok");
    daemon.prove_journal();
}

#[test]
fn a_policy_that_breaks_is_still_degraded_and_counting_after_a_restart() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("unlucky");
    let digest = admit(daemon.api(), breaks_at_a_pause());
    daemon.api().put("/tenants/default/policy", &json!({"digest": digest})).done();
    assert_eq!(status_of(&daemon.api().command(&id, "pause")), "degraded");
    daemon.kill();
    daemon.start_again();
    let found = daemon.api().instance(&id);
    assert_eq!((status_of(&found), &found["state"]), ("degraded", &json!("Paused")));
    daemon.api().check_time(&id);
}

#[test]
fn what_another_engine_compiled_is_compiled_anew_beside_everything_else() {
    let mut daemon = daemon();
    let api = daemon.api();
    let digest = admit(api, policies::component("coarse"));
    api.put("/tenants/default/policy", &json!({"digest": digest})).done();
    let id = api.create_running("web");
    daemon.stop();
    // As after an upgrade: nothing of it is compiled for this engine.
    let compiled = daemon.folder().join(format!("cache/{digest}.compiled"));
    std::fs::remove_file(&compiled).expect("it was compiled");
    daemon.start_again();
    let api = daemon.api();
    // Its child compiles it; what was accounted without it meanwhile is accounted again.
    eventually("the policy accounts", || {
        let account = api.get(&format!("/instances/{id}/intervals")).done();
        let totals = &account["accounted"]["totals_ns"];
        let is_coarse = totals["initializing"].is_null() && totals["running"].is_u64();
        (is_coarse && compiled.is_file()).then_some(())
    });
    api.check_time(&id);
}

#[test]
fn a_swap_splits_the_interval_under_way_exactly_at_its_instant() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("swapped");
    let standard = api.instance(&id)["policy"].clone();
    let coarse = admit(api, policies::component("coarse"));
    let swap = api.put("/tenants/default/policy", &json!({"digest": coarse})).done();
    let back = api.act("/tenants/default/policy/rollback").done();
    let pieces = api.check_time(&id);
    let policies: Vec<_> = pieces
        .iter()
        .rev()
        .take(3)
        .rev()
        .map(|piece| (&piece["policy"], &piece["phase"]))
        .collect();
    let running = json!("running");
    assert_eq!(
        policies,
        [(&standard, &running), (&json!(coarse), &running), (&standard, &running)]
    );
    assert_eq!(pieces[pieces.len() - 2]["start_ns"], swap["from_ns"]);
    assert_eq!(pieces[pieces.len() - 1]["start_ns"], back["from_ns"]);
}

#[test]
fn a_policy_shows_its_meters_and_options() {
    let daemon = daemon();
    let declared = daemon.api().get("/policies/standard").done()["declared"].clone();
    assert_eq!(declared["meters"][0]["name"], "active", "{declared}");
    assert_eq!(declared["meters"][0]["counts"], "time in initializing, running", "{declared}");
    let minimum = declared["options"]
        .as_array()
        .and_then(|options| options.iter().find(|one| one["name"] == "minimum"));
    let minimum = minimum.unwrap_or_else(|| panic!("{declared}"));
    assert_eq!(
        (&minimum["kind"], &minimum["default"]),
        (&json!("duration"), &json!("0s")),
        "{declared}"
    );
    assert_eq!(declared["billed_ratio"], 1_000, "{declared}");
}
