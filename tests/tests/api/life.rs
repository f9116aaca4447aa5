//! A real Linux guest through all operations.

use serde_json::json;
use tallyman_tests::{linux, policies};

use crate::daemon;

#[test]
fn a_linux_guest_lives_through_everything_and_every_nanosecond_is_accounted_for() {
    live("qemu");
}

/// The emulated guest needs the rate of its clock on the command line, or it hangs early.
#[test]
fn a_linux_guest_lives_through_everything_on_microvm_too() {
    live("qemu-microvm");
}

/// The walk that a newcomer sees first: it succeeds, its times add up, and it ends with money.
#[test]
fn the_tour_ends_with_the_bill_of_what_it_did() {
    let daemon = daemon();
    daemon.api().post("/images", &linux::import("debian-busybox")).done();
    let coarse = policies::folder().join("coarse.wasm").display().to_string();
    let walked = daemon.cli(&["tour", "--swap-policy", &coarse]);
    let said = String::from_utf8_lossy(&walked.stdout);
    assert!(walked.status.success(), "{said}{}", String::from_utf8_lossy(&walked.stderr));
    assert_eq!(said.matches("difference 0 ns").count(), 2, "{said}");
    let line = |rule: &str| {
        let line = said.lines().find(|line| line.starts_with(rule));
        line.unwrap_or_else(|| panic!("no line of {rule}: {said}")).to_owned()
    };
    assert!(line("processors").contains("vcpu-hour"), "{said}");
    assert!(line("memory").contains("memory-GiB-hour"), "{said}");
    assert!(line("to be paid").ends_with("EUR, net of tax"), "{said}");
    // The book was tried, not set.
    assert_eq!(daemon.api().get("/tenants/default/prices").done()["history"], json!([]));
}

fn live(hypervisor: &str) {
    let mut daemon = daemon();
    let api = daemon.api();
    api.post("/images", &linux::import("linux")).done();
    let id = api
        .post("/instances", &json!({"name": "around", "image": "linux", "hypervisor": hypervisor}))
        .done()["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let standard = api.instance(&id)["policy"].clone();
    api.get(&format!("/instances/{id}/wait?state=Running&timeout=55s")).done();
    api.wait(&id, "Running");
    api.check_time(&id);
    let step = |command: &str, state: &str| {
        api.command(&id, command);
        api.wait(&id, state);
        api.check_time(&id);
    };
    step("standby", "Standby");
    step("restore", "Running");
    let coarse = api.upload(policies::component("coarse")).done()["digest"].clone();
    let swap = api.put("/tenants/default/policy", &json!({"digest": coarse})).done();
    api.check_time(&id);
    step("pause", "Paused");
    step("resume", "Running");
    step("stop", "Stopped");
    assert_eq!(api.instance(&id)["stop_cause"], json!("requested"));
    step("start", "Running");
    assert_eq!(api.instance(&id)["session"], json!(2));
    api.delete(&format!("/instances/{id}?grace_ms=0")).done();

    let pieces = api.check_time(&id);
    for piece in &pieces {
        let before = piece["end_ns"].as_i64() <= swap["from_ns"].as_i64();
        assert_eq!(
            piece["policy"],
            if before { standard.clone() } else { coarse.clone() },
            "{piece}"
        );
        assert_eq!(piece["open"], json!(false));
    }
    let phases: Vec<_> = pieces.iter().filter_map(|piece| piece["phase"].as_str()).collect();
    let expected = [
        "created",
        "initializing",
        "running",
        "paused",
        "standby",
        "paused",
        "running",
        "running",
        "paused",
        "running",
        "shutdown",
        "stopped",
        "created",
        "initializing",
        "running",
    ];
    assert_eq!(&phases[..expected.len()], expected, "{phases:?}");
    let closed = api.instance(&id);
    assert_eq!(closed["state"], json!("Deleted"));
    api.get(&format!("/instances/{id}")).refused(404, "not_found", &id);
    assert!(api.phases(&id).len() >= expected.len() - 1, "the record stays readable");
    daemon.check_no_machines();
    daemon.prove_journal();
}
