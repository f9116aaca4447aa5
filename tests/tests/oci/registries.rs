//! Images from Debian's registry, through the daemon and its command line.

use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tallyman_tests::daemon::Daemon;

use crate::layouts::{Layer, Layout, Packed};
use crate::registry::{Registry, USER};

/// A daemon with a base that has an agent, as far as a pull can tell.
fn daemon() -> Daemon {
    let daemon = Daemon::on(env!("CARGO_BIN_EXE_daemon"), tempfile::tempdir().expect("a folder"));
    let mut kernel = vec![0; 4_096];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    let at = |name: &str| daemon.folder().join(name);
    fs::write(at("kernel"), kernel).expect("a file");
    fs::write(at("initrd"), "070701").expect("a file");
    let import = json!({
        "name": "debian-busybox", "kernel": at("kernel"), "initrd": at("initrd"), "agent": true,
        "memory_bytes_min": 64 << 20,
    });
    daemon.api().post("/images", &import).done();
    daemon
}

fn image(content: &str) -> Layout {
    let archive = Layer::new().file("etc/content", content.as_bytes()).archive();
    let settings = json!({
        "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "true"], "WorkingDir": "/srv",
        "Env": ["GREETING=hello", "EQUAL=a=b"],
    });
    Layout::with(vec![(archive, Packed::Gzip)], settings)
}

/// A name as one part of a path.
fn escaped(name: &str) -> String {
    name.replace('/', "%2F").replace(':', "%3A").replace('@', "%40")
}

fn pull(daemon: &Daemon, name: &str) -> Value {
    let output = daemon.cli(&["image", "pull", name, "--json"]);
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn names(daemon: &Daemon) -> Vec<String> {
    let images = daemon.api().get("/images").done();
    let images = images.as_array().expect("a list");
    images.iter().map(|image| image["name"].as_str().expect("a name").to_owned()).collect()
}

/// Folders of images that were pulled.
fn stored(daemon: &Daemon) -> usize {
    let entries = fs::read_dir(daemon.folder().join("images")).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().starts_with("sha256-")).count()
}

#[test]
fn an_image_is_pulled_once_whatever_it_is_called() {
    let registry = Registry::open();
    registry.push(image("one").path(), None, "team/web:1");
    registry.push(image("one").path(), None, "team/web:stable");
    let daemon = daemon();
    let name = registry.image("team/web:1");
    let labelled = json!({"name": name, "tags": {"team": "blue"}});
    let asked = daemon.api().post("/images", &labelled);
    assert_eq!(asked.status, 202);
    let asked = asked.done();
    let digest = registry.digest("team/web:1");
    assert_eq!((&asked["name"], &asked["digest"]), (&json!(name), &json!(digest)), "{asked}");
    let pulled = pull(&daemon, &registry.image("team/web:stable"));
    assert_eq!((&pulled["status"], &pulled["digest"]), (&json!("ready"), &json!(digest)));
    let by_digest = registry.image(&format!("team/web@{digest}"));
    assert_eq!(pull(&daemon, &by_digest)["name"], json!(by_digest));
    let told = daemon.api().get(&format!("/images/{}", escaped(&name))).done();
    assert_eq!(told["env"], json!({"GREETING": "hello", "EQUAL": "a=b"}), "{told}");
    assert_eq!((&told["entrypoint"], &told["cmd"]), (&json!(["/bin/sh"]), &json!(["-c", "true"])));
    assert_eq!((&told["working_dir"], &told["platform"]), (&json!("/srv"), &json!("linux/amd64")));
    assert_eq!(stored(&daemon), 1);
    let left = fs::read_dir(daemon.folder().join("images/.blobs/blobs/sha256")).expect("a folder");
    assert_eq!(left.count(), 0, "what is used up is gone");
    let listed = daemon.api().get("/images?tags[team]=blue").done();
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["name"]), (Some(1), &json!(name)));
    daemon.api().get("/images?team=blue").refused(400, "unknown_field", "tags[<name>]");
}

#[test]
fn a_moved_tag_leaves_the_image_that_it_stood_for() {
    let registry = Registry::open();
    let name = registry.image("web:1");
    registry.push(image("one").path(), None, "web:1");
    let daemon = daemon();
    let one = pull(&daemon, &name)["digest"].clone();
    registry.push(image("two").path(), None, "web:1");
    let told = daemon.api().get(&format!("/images/{}", escaped(&name))).done();
    assert_eq!(told["digest"], one, "nothing moves without a pull");
    let two = pull(&daemon, &name)["digest"].clone();
    assert_ne!(one, two);
    let old = registry.image(&format!("web@{}", one.as_str().expect("a digest")));
    assert_eq!(names(&daemon), ["debian-busybox", name.as_str(), old.as_str()]);

    let tagged = registry.image("web:old");
    let tag = ["image", "tag", old.as_str(), tagged.as_str()];
    assert!(daemon.cli(&tag).status.success());
    assert_eq!(names(&daemon), ["debian-busybox", name.as_str(), tagged.as_str()]);
    daemon.api().delete(&format!("/images/{}", escaped(&tagged))).done();
    assert_eq!(stored(&daemon), 1, "its last name goes with the image");
    daemon.api().get(&format!("/images/{}", escaped(&old))).refused(404, "no_such_image", "web@");
    let kept = daemon.cli(&["image", "prune", "--unused-for", "1h"]);
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "nothing to remove\n");
    let pruned = daemon.cli(&["image", "prune"]);
    assert!(String::from_utf8_lossy(&pruned.stdout).contains("is removed"), "{pruned:?}");
    assert_eq!(names(&daemon), ["debian-busybox"], "what was imported stays");
}

#[test]
fn what_can_not_be_pulled_is_said_at_once() {
    let registry = Registry::open();
    registry.push(image("one").path(), None, "web:1");
    let daemon = daemon();
    let ask = |body: Value| daemon.api().post("/images", &body);
    let name = registry.image("web:1");
    ask(json!({"name": registry.image("web:2")})).refused(404, "no_such_image", "web:2");
    ask(json!({"name": "127.0.0.1:9/web"})).refused(502, "registry_away", "127.0.0.1:9");
    ask(json!({"name": "Web"})).refused(400, "invalid", "registry.example/team/web:1");
    let arm = json!({"name": name, "platform": "linux/arm64"});
    ask(arm).refused(400, "invalid_platform", "linux/amd64");
    let half = json!({"name": name, "credentials": {"username": "x"}});
    ask(half).refused(400, "invalid", "registry_token");
    let failed = daemon.cli(&["image", "pull", &name, "--base", "nothing"]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("'nothing'"), "{said}");
    let new = |image: &str| daemon.api().post("/instances", &json!({"name": "a", "image": image}));
    new("nothing").refused(404, "no_such_image", "nothing");
    new(&registry.image("web:3")).refused(404, "no_such_image", "web:3");
    let tenant = daemon.api().tenant("acme", "tenant-admin");
    let asked = tenant.post("/instances", &json!({"name": "a", "image": registry.image("web:3")}));
    let told = asked.refused(404, "no_such_image", "web:3");
    assert!(told["hint"].as_str().expect("a hint").contains("--pull-registry"), "{told}");
    tenant.post("/images", &json!({"name": name})).refused(403, "forbidden", "tenant-admin");
}

#[test]
fn credentials_are_lent_for_one_pull_and_kept_nowhere() {
    let registry = Registry::locked();
    registry.push(image("one").path(), None, "web:1");
    let daemon = daemon();
    let name = registry.image("web:1");
    let ask = |credentials: Value| {
        daemon.api().post("/images", &json!({"name": name, "credentials": credentials}))
    };
    ask(Value::Null).refused(403, "registry_denied", "lend credentials");
    let wrong = json!({"username": USER.0, "password": "another"});
    ask(wrong).refused(403, "registry_denied", "401");
    let pulled = with_password(&daemon, &name, USER.1);
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
    assert_eq!(stored(&daemon), 1);
    ask(Value::Null).refused(403, "registry_denied", "lend credentials");
    let said = std::process::Command::new("grep")
        .args(["--recursive", "--files-with-matches", "--text", USER.1])
        .arg(daemon.folder())
        .output()
        .expect("grep");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "", "a file holds the password");
}

/// Pulls with the name of [`USER`] and a password on the standard input.
fn with_password(daemon: &Daemon, name: &str, password: &str) -> Output {
    let line = ["image", "pull", name, "--username", USER.0, "--password-stdin"];
    let mut command = daemon.client(&line);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("run the program");
    let mut input = child.stdin.take().expect("a pipe");
    writeln!(input, "{password}").expect("it reads");
    drop(input);
    child.wait_with_output().expect("run the program")
}
