//! Events that are pushed, to a receiver that is written with the SDKs of CloudEvents and of
//! Standard Webhooks.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tallyman_tests::daemon::{Daemon, program};

use crate::exports::pull;
use crate::invoices::{BOOK, close, lived, put_prices};
use crate::{PROGRAM, daemon};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A receiver; it ends with the value.
struct Receiver {
    child: Child,
    port: u16,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A language that receivers are written in, each with its own SDKs.
#[derive(Debug, Clone, Copy)]
enum Language {
    Python,
    JavaScript,
}

impl Language {
    /// The program of a receiver.
    fn receiver(self) -> Command {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (interpreter, program, sdk) = match self {
            Self::Python => ("python3", "sdk/receive.py", "../target/python"),
            Self::JavaScript => ("node", "sdk/receive.mjs", "sdk/node_modules"),
        };
        let sdk = tests.join(sdk);
        assert!(sdk.is_dir(), "{} is missing; `scripts/setup test` makes it", sdk.display());
        let mut command = Command::new(interpreter);
        command.arg(tests.join(program)).env("PYTHONPATH", sdk);
        command
    }
}

impl Receiver {
    /// Starts one in Python.
    fn start(port: u16, fail: u32) -> Self {
        Self::start_in(Language::Python, port, fail)
    }

    /// Starts one on a port, 0 for any, that fails the first requests.
    fn start_in(language: Language, port: u16, fail: u32) -> Self {
        let mut child = language
            .receiver()
            .env("SECRET", SECRET)
            .env("PORT", port.to_string())
            .env("FAIL", fail.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("an interpreter; `scripts/setup test` installs it");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let port = lines.next().expect("a port").expect("text").parse().expect("a number");
        Self { child, port, lines }
    }

    /// The next request.
    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("the receiver goes on").expect("text");
        serde_json::from_str(&line).expect("JSON")
    }

    /// The events that are taken up to one that is asked for.
    fn until(&mut self, last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        while !events.last().is_some_and(&last) {
            let request = self.next();
            assert_ne!(request["status"], 401, "{request}");
            if request["status"] == 204 {
                events.extend(request["events"].as_array().expect("events").clone());
            }
        }
        events
    }
}

fn write(folder: &Path, receiver: &Value) -> PathBuf {
    let file = folder.join("receivers.json");
    fs::write(&file, json!({"receivers": [receiver]}).to_string()).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    file
}

/// A daemon that knows the receiver.
fn sending(receiver: &Value) -> Daemon {
    let mut daemon = daemon();
    daemon.stop();
    write(daemon.folder(), receiver);
    daemon.start_again();
    daemon
}

fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| format!("{}{}", event["source"], event["id"])).collect()
}

/// The first occurrence of each.
fn once(events: Vec<Value>) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    events.into_iter().filter(|event| seen.insert(event["id"].to_string())).collect()
}

fn check_same(pushed: &[Value], pulled: &[Value]) {
    assert_eq!(ids(pushed), ids(pulled));
    for (pushed, pulled) in pushed.iter().zip(pulled) {
        assert_eq!(pushed["data"], pulled["data"]);
        assert_eq!((&pushed["type"], &pushed["subject"]), (&pulled["type"], &pulled["subject"]));
        // The SDK keeps six of nine decimals.
        let [known, told] = [pushed, pulled].map(|one| one["time"].as_str().expect("a time"));
        assert_eq!(known[..19], told[..19]);
    }
}

fn ends(id: &str) -> impl Fn(&Value) -> bool {
    let source = format!("/instances/{id}");
    move |event| event["source"] == source && event["data"]["phase"] == "stopped"
}

#[test]
fn usage_is_pushed_in_order_also_to_a_receiver_that_fails_at_first() {
    receives_in_order(Language::Python);
}

#[test]
fn usage_is_pushed_in_order_to_a_receiver_in_javascript() {
    receives_in_order(Language::JavaScript);
}

fn receives_in_order(language: Language) {
    let mut receiver = Receiver::start_in(language, 0, 2);
    let url = format!("http://127.0.0.1:{}/usage", receiver.port);
    let asked = json!({
        "name": "usage", "url": url, "send": ["usage"], "secrets": [SECRET], "begin": "start",
    });
    let daemon = sending(&asked);
    let api = daemon.api();
    let id = lived(api, "vm-1");
    api.delete(&format!("/instances/{id}")).done();
    let first = receiver.next();
    let second = receiver.next();
    assert_eq!((&first["status"], &second["status"]), (&json!(503), &json!(503)));
    assert_eq!(first["message"], second["message"], "a further try is the same message");
    let events = receiver.until(ends(&id));
    assert_eq!(events[0], first["events"][0], "nothing goes before what failed");
    check_same(&events, &pull(api, 1_000));
    let metrics = api.text("/metrics");
    for line in ["_failures_in_a_row{receiver=\"usage\"} 0", "_events_total{receiver=\"usage\"} "] {
        assert!(metrics.contains(&format!("tallyman_delivery{line}")), "{metrics}");
    }
}

#[test]
fn nothing_is_missed_when_the_daemon_is_killed_or_the_receiver_is_away() {
    let mut receiver = Receiver::start(0, 0);
    let port = receiver.port;
    let url = format!("http://127.0.0.1:{port}/");
    let asked = json!({
        "name": "batches", "url": url, "send": ["usage"], "secrets": [OTHER_SECRET, SECRET],
        "begin": "start", "batch": 3,
    });
    let mut daemon = sending(&asked);
    let first = lived(daemon.api(), "vm-1");
    let mut events = receiver.until(|event| event["data"]["phase"] == "running");
    daemon.kill();
    drop(receiver);
    daemon.start_again();
    let second = lived(daemon.api(), "vm-2");
    for id in [&first, &second] {
        daemon.api().delete(&format!("/instances/{id}")).done();
    }
    let mut receiver = Receiver::start(port, 1);
    events.extend(receiver.until(ends(&second)));
    check_same(&once(events), &pull(daemon.api(), 1_000));
}

#[test]
fn documents_and_faults_are_webhooks() {
    let mut receiver = Receiver::start(0, 0);
    let url = format!("http://127.0.0.1:{}/", receiver.port);
    let asked = json!({
        "name": "hooks", "url": url, "send": ["documents", "faults"], "secrets": [SECRET],
        "tenant": "default",
    });
    let daemon = sending(&asked);
    let api = daemon.api();
    put_prices(api, BOOK);
    lived(&api.tenant("acme", "tenant-admin"), "other");
    let id = api.create_running("vm-1");
    daemon.machines_of(&id).into_iter().for_each(kill);
    api.wait(&id, "Stopped");
    let fault = &receiver.until(|_| true)[0];
    assert_eq!(fault["type"], "tallyman.instance-fault.v1");
    assert_eq!(fault["source"], format!("/instances/{id}"));
    assert_eq!(
        (&fault["subject"], &fault["data"]["cause"]),
        (&json!("default"), &json!("crashed"))
    );
    let invoice = close(api);
    let document = &receiver.until(|_| true)[0];
    assert_eq!(
        (&document["type"], &document["subject"]),
        (&json!("tallyman.document.v1"), &json!("default"),)
    );
    for field in ["number", "payable", "currency", "kind"] {
        assert_eq!(document["data"][field], invoice[field], "{field}");
    }
    let facts = api.get("/journal?kind=invoiced").done();
    assert_eq!(document["id"], facts["facts"][0]["hash"], "the id is the fact's link");
}

fn kill(pid: rustix::process::Pid) {
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a machine of ours");
}

#[test]
fn receivers_that_are_wrong_keep_the_daemon_from_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(folder.path(), &json!({"name": "a", "url": "http://x", "retry": 1}));
    let serve = |words: &str| {
        let run = program(Path::new(PROGRAM), &["serve", "--data"])
            .arg(folder.path())
            .output()
            .expect("run");
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success() && said.contains(words), "{said}");
    };
    serve("unknown field `retry`");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
    serve("chmod 600");
}
