//! Clients of a similar service, unchanged, against the daemon and a machine of an image from a
//! registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tallyman_tests::daemon::Daemon;
use tallyman_tests::linux;

use crate::layouts::busybox_image;
use crate::registry::Registry;

/// Resources that the daemon does not have: all but their lists is refused.
const ABSENT: [&str; 6] = ["builders", "builds", "devices", "ingresses", "pushes", "volumes"];

/// A daemon with the image that others boot with, and a registry with one that sleeps.
struct Site {
    daemon: Daemon,
    _registry: Registry,
    image: String,
}

impl Site {
    fn new() -> Self {
        let registry = Registry::open();
        let (_work, layout) = busybox_image(&["sleep", "600"]);
        registry.push(&layout, Some("busy"), "team/web:1");
        let folder = tempfile::tempdir().expect("a folder");
        let daemon = Daemon::on(env!("CARGO_BIN_EXE_daemon"), folder);
        daemon.api().post("/images", &linux::import("debian-busybox")).done();
        let image = registry.image("team/web:1");
        Self { daemon, _registry: registry, image }
    }

    /// Runs a program that uses a client.
    fn run(&self, mut command: Command) -> Vec<Value> {
        let Output { status, stdout, stderr } = command
            .env("BASE_URL", self.daemon.api().url())
            .env("TOKEN", self.daemon.api().secret())
            .env("IMAGE", &self.image)
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = String::from_utf8_lossy(&stdout);
        let failed = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{said}\n{failed}");
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// A folder that `scripts/setup test` makes.
fn parts(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
    assert!(folder.is_dir(), "{} is missing; `scripts/setup test` makes it", folder.display());
    folder
}

fn sdk(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(program)
}

/// Checks that each method works, or is refused in a sentence and once. Returns the number of
/// methods.
fn check(lines: &[Value]) -> usize {
    let mut ends = BTreeMap::new();
    for line in lines {
        let method = line["method"].as_str().expect("a name");
        let resource = method.split('.').next().expect("a first word");
        let is_list = method.ends_with(".list") || method.ends_with(".list_available");
        let is_absent = ABSENT.contains(&resource)
            || method.starts_with("instances.volumes.")
            || method == "resources.reclaim_memory";
        let expected = match (method, is_absent && !is_list) {
            ("all", _) => "done",
            (_, true) => "501",
            (_, false) => "works",
        };
        assert_eq!(line["how"], json!(expected), "{line}");
        if expected == "501" {
            assert_eq!((&line["requests"], &line["retry"]), (&json!(1), &json!("false")), "{line}");
            assert!(line["message"].as_str().is_some_and(|text| text.contains(' ')), "{line}");
        }
        ends.insert(method.to_owned(), expected);
    }
    let last = lines.last().expect("a line");
    assert_eq!((&last["method"], &last["missing"]), (&json!("all"), &json!([])), "{last}");
    let own = |name: &&String| name.as_str() != "all" && !name.starts_with("lib.");
    ends.keys().filter(own).count()
}

#[test]
fn every_method_of_the_python_client_works_or_is_refused_once() {
    let site = Site::new();
    let mut command = Command::new("python3");
    command.arg(sdk("client.py")).env("PYTHONPATH", parts("python-client"));
    assert_eq!(check(&site.run(command)), 63);
}

#[test]
fn every_method_of_the_javascript_client_works_or_is_refused_once() {
    let site = Site::new();
    let parts = sdk("node_modules");
    assert!(parts.is_dir(), "{} is missing; `scripts/setup test` makes it", parts.display());
    let mut command = Command::new("node");
    command.arg(sdk("client.mjs"));
    assert_eq!(check(&site.run(command)), 63);
}

#[test]
fn a_consumer_s_calls_run_from_create_to_delete() {
    let site = Site::new();
    let mut command = Command::new("python3");
    command.arg(sdk("consume.py")).env("PYTHONPATH", parts("python-client"));
    assert!(site.run(command).is_empty());
    site.daemon.check_no_machines();
}
