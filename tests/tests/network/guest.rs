//! Daemons with a pool of addresses, and Linux guests of them.

use std::process::Output;

use serde_json::{Value, json};
use tallyman_tests::daemon::Daemon;
use tallyman_tests::linux;

use crate::PROGRAM;

/// The pool of all daemons, which run one after another.
pub(crate) const POOL: &str = "10.213.0.0/24";

/// A daemon whose guests have networks, with the image `linux`.
pub(crate) fn daemon() -> Daemon {
    daemon_with(&[])
}

/// A daemon with further options.
pub(crate) fn daemon_with(options: &[&str]) -> Daemon {
    let networks = ["--network-pool", POOL, "--network-dns", "192.0.2.53"];
    let daemon = Daemon::with(PROGRAM, &[&networks, options].concat());
    daemon.api().post("/images", &linux::import("linux")).done();
    daemon
}

/// Creates an instance and waits until it runs. Returns its address.
pub(crate) fn create(daemon: &Daemon, name: &str, hypervisor: &str) -> String {
    let new = json!({"name": name, "image": "linux", "hypervisor": hypervisor});
    create_of(daemon, name, &new)
}

/// Creates an instance of a request and waits until it runs. Returns its address.
pub(crate) fn create_of(daemon: &Daemon, name: &str, new: &Value) -> String {
    let created = daemon.api().post("/instances", new).done();
    runs(daemon, name);
    assert_eq!(created["network"]["enabled"], json!(true), "{created}");
    created["network"]["ip"].as_str().expect("an address").to_owned()
}

/// Waits until an instance runs.
pub(crate) fn runs(daemon: &Daemon, name: &str) {
    daemon.api().get(&format!("/instances/{name}/wait?state=Running&timeout=55s")).done();
}

/// Runs a script in a guest.
pub(crate) fn run(daemon: &Daemon, name: &str, script: &str) -> Output {
    let words = ["instance", "exec", name, "--", "sh", "-c", script];
    daemon.client(&words).output().expect("run the program")
}

/// Standard output of a script in a guest that succeeds.
pub(crate) fn says(daemon: &Daemon, name: &str, script: &str) -> String {
    let output = run(daemon, name, script);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {:?} {said}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// The traffic of an instance: bytes received and sent.
pub(crate) fn traffic(daemon: &Daemon, name: &str) -> (u64, u64) {
    let stats: Value = daemon.api().get(&format!("/instances/{name}/stats")).done();
    let number = |what: &str| stats[what].as_u64().unwrap_or_else(|| panic!("{what}: {stats}"));
    (number("network_rx_bytes"), number("network_tx_bytes"))
}
