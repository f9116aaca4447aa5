//! Secrets that are replaced while the daemon runs: the operator's token, keys of signed tokens.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ed25519_dalek::{Signer, SigningKey};
use rustix::process::Signal;
use serde_json::{Value, json};
use tallyman_tests::aloud;
use tallyman_tests::authority::Authority;
use tallyman_tests::daemon::Daemon;
use tallyman_tests::deadline::eventually;

use crate::{PROGRAM, daemon};

/// Puts a file in place at once, as its owner's alone.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("written");
    fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("set");
    fs::rename(new, path).expect("in place");
}

fn status(daemon: &Daemon, token: &str) -> u16 {
    daemon.api().with_token(token).get("/tenants").status
}

fn says(daemon: &Daemon, words: &str, times: usize) {
    eventually(words, || (daemon.said().matches(words).count() == times).then_some(()));
}

#[test]
fn the_operator_s_token_is_replaced_without_a_restart_and_without_a_gap() {
    let daemon = daemon();
    let file = daemon.folder().join("token");
    let old = daemon.api().secret().to_owned();
    let counts = "the operator's token: what the file holds now counts";
    let listed = |daemon: &Daemon| {
        let output = daemon.cli(&["tenant", "list"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    put(&file, &format!("{old}\nthe new one\n"));
    daemon.signal(Signal::HUP);
    says(&daemon, counts, 1);
    assert_eq!([status(&daemon, "the new one"), status(&daemon, &old)], [200, 200]);
    listed(&daemon);
    // Without the signal the file is looked at every few seconds.
    put(&file, "the new one\n");
    says(&daemon, counts, 2);
    assert_eq!([status(&daemon, "the new one"), status(&daemon, &old)], [200, 401]);
    listed(&daemon);
    fs::write(&file, "").expect("written");
    daemon.signal(Signal::HUP);
    says(&daemon, "what the file holds is not used", 1);
    assert_eq!(status(&daemon, "the new one"), 200);
}

fn jwk(kid: &str, seed: u8) -> Value {
    let public = SigningKey::from_bytes(&[seed; 32]).verifying_key();
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": BASE64.encode(public.as_bytes())})
}

/// A signed token of the default tenant's admin.
fn signed(kid: &str, seed: u8) -> String {
    let now_s = tallyman::clock::wall_ns() / 1_000_000_000;
    let claims = json!({"iss": "https://id.example", "aud": "tallyman", "sub": "ci",
        "exp": now_s + 600, "tenant": "default", "role": "tenant-admin"});
    let header = json!({"alg": "EdDSA", "kid": kid});
    let message =
        format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let signature = SigningKey::from_bytes(&[seed; 32]).sign(message.as_bytes());
    format!("{message}.{}", BASE64.encode(signature.to_bytes()))
}

#[test]
fn keys_of_signed_tokens_come_and_go_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.json");
    put(&file, &json!({"keys": [jwk("a", 1)]}).to_string());
    let path = file.to_str().expect("text");
    let claims = ["--jwt-issuer", "https://id.example", "--jwt-audience", "tallyman"];
    let arguments = [&["--jwt-keys", path], &claims[..]].concat();
    let daemon = Daemon::guarded(PROGRAM, &Authority::default(), false, &arguments);
    let both = || [status(&daemon, &signed("a", 1)), status(&daemon, &signed("b", 2))];
    assert_eq!(both(), [200, 401]);
    let counts = "the keys of signed tokens: what the file holds now counts";
    put(&file, &json!({"keys": [jwk("a", 1), jwk("b", 2)]}).to_string());
    daemon.signal(Signal::HUP);
    says(&daemon, counts, 1);
    assert_eq!(both(), [200, 200]);
    let mut ended = jwk("a", 1);
    ended["exp"] = (tallyman::clock::wall_ns() / 1_000_000_000).into();
    put(&file, &json!({"keys": [ended, jwk("b", 2)]}).to_string());
    daemon.signal(Signal::HUP);
    says(&daemon, counts, 2);
    assert_eq!(both(), [401, 200]);
}

/// The value of a line of a process's status.
fn status_of(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    line.split_whitespace().next().expect("a value").to_owned()
}

/// A user that each Linux has, and its id.
const USER: (&str, u32) = ("daemon", 1);

/// Proves that the newest machine of an instance runs as the user, and can't become another.
fn runs_as_the_user(daemon: &Daemon, id: &str) {
    let newest = daemon.launches(id).pop().expect("a launch");
    let run = tallyman::hypervisor::files::run(&daemon.instance(id), newest);
    let pid = tallyman_tests::machine::pid_of(&run, "vmm").expect("an identity");
    assert_eq!(status_of(pid, "Uid:"), USER.1.to_string());
    assert_eq!(status_of(pid, "NoNewPrivs:"), "1");
}

#[test]
fn machines_run_as_a_user_of_their_own_that_the_journal_is_closed_to() {
    if !rustix::process::geteuid().is_root() {
        aloud::say("machines as another user NOT RUN: only root can start them");
        return;
    }
    let mut daemon = daemon();
    daemon.stop();
    daemon.add_arguments(&["--vmm-user", USER.0]);
    daemon.start_again();
    let api = daemon.api();
    let id = api.create_running("web");
    runs_as_the_user(&daemon, &id);
    api.command(&id, "standby");
    api.command(&id, "restore");
    api.post(&format!("/instances/{id}/snapshots"), &json!({"name": "kept"})).done();
    let fork = json!({"name": "twin", "from_running": true});
    let twin = api.post(&format!("/instances/{id}/fork"), &fork).done();
    let twin = twin["id"].as_str().expect("an id").to_owned();
    api.command(&twin, "restore");
    runs_as_the_user(&daemon, &twin);
    for name in ["tallyman.db", "token", "head-key.pem", "heads.jsonl"] {
        let path = daemon.folder().join(name);
        let mut cat = std::process::Command::new("cat");
        let read = cat.arg(&path).uid(USER.1).gid(USER.1).output().expect("run");
        assert!(!read.status.success(), "{name} is open to the user of machines");
    }
    api.command(&id, "stop");
    daemon.prove_journal();
}
