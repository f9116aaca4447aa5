//! TLS and the unix socket: the real daemon, and every way of the command line to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tallyman_tests::authority::Authority;
use tallyman_tests::daemon::{Daemon, program};
use tallyman_tests::deadline::eventually;

use crate::PROGRAM;

/// The answer of the command line at `url` with the daemon's token: what it printed, or why it
/// failed.
fn asked(
    daemon: &Daemon,
    url: &str,
    ca: Option<&Path>,
    arguments: &[&str],
) -> Result<String, String> {
    let mut command = program(Path::new(PROGRAM), &["--url", url, "--data"]);
    command.arg(daemon.folder()).envs(ca.map(|ca| ("TALLYMAN_CA", ca))).args(arguments);
    let output = command.output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

fn waits_for(daemon: &Daemon, words: &str) {
    eventually(words, || daemon.said().contains(words).then_some(()));
}

#[test]
fn the_command_line_speaks_tls_with_a_daemon_that_proves_who_it_is() {
    let daemon = Daemon::guarded(PROGRAM, &Authority::default(), false, &[]);
    let url = daemon.api().url();
    let ca = daemon.folder().join("ca.pem");
    assert!(url.starts_with("https://"), "{url}");
    let health = asked(&daemon, url, Some(&ca), &["health", "--json"]).expect("it answers");
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!(health["status"], "ok");
    let other = tempfile::tempdir().expect("a folder");
    let stranger = Authority::default().write(other.path());
    for ca in [None, Some(stranger.as_path())] {
        let refused = asked(&daemon, url, ca, &["health"]).expect_err("a stranger");
        assert!(
            refused.contains("did not prove who it is") && refused.contains("--ca"),
            "{refused}"
        );
    }
    let name = url.replace("127.0.0.1", "localhost");
    let refused = asked(&daemon, &name, Some(&ca), &["health"]).expect_err("another name");
    assert!(refused.contains("not valid for name"), "{refused}");
    let plain = url.replace("https", "http");
    asked(&daemon, &plain, None, &["health"]).expect_err("it speaks TLS alone");
    // A WebSocket passes, too: the error is the daemon's own.
    let refused = asked(&daemon, url, Some(&ca), &["instance", "exec", "nobody", "--", "true"]);
    let refused = refused.expect_err("no instance");
    assert!(refused.contains("[not_found]"), "{refused}");
    daemon.api().get("/health").done();
}

#[test]
fn a_context_keeps_the_authority_of_its_host() {
    let daemon = Daemon::guarded(PROGRAM, &Authority::default(), false, &[]);
    let home = tempfile::tempdir().expect("a folder");
    let folder = daemon.folder();
    let mut add = program(
        Path::new(PROGRAM),
        &[
            "context",
            "add",
            "lab",
            "--url",
            daemon.api().url(),
            "--ca",
            "ca.pem",
            "--token-file",
            "token",
        ],
    );
    let added = add.current_dir(folder).env("XDG_CONFIG_HOME", home.path()).output().expect("run");
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let mut list = program(Path::new(PROGRAM), &["--context", "lab", "token", "list", "--json"]);
    let listed = list.current_dir("/").env("XDG_CONFIG_HOME", home.path()).output().expect("run");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart_and_a_bad_one_is_not() {
    let daemon = Daemon::guarded(PROGRAM, &Authority::default(), false, &[]);
    let folder = daemon.folder();
    fs::write(folder.join("cert.pem"), "half a file").expect("written");
    daemon.signal(Signal::HUP);
    waits_for(&daemon, "the old stays");
    let old = daemon.api().trusting(&folder.join("ca.pem"));
    assert!(old.answers());
    let authority = Authority::default();
    let other = tempfile::tempdir().expect("a folder");
    let ca = authority.write(other.path());
    assert!(!daemon.api().trusting(&ca).answers());
    authority.issue(folder);
    daemon.signal(Signal::HUP);
    waits_for(&daemon, "the certificate: what the file holds now counts");
    assert!(daemon.api().trusting(&ca).answers());
    assert!(!daemon.api().trusting(&folder.join("ca.pem")).answers());
    assert!(old.answers(), "a connection that is open goes on");
    // Without the signal, too: the files are looked at.
    authority.issue(folder);
    let words = "the certificate: what the file holds now counts";
    eventually("second renewal", || (daemon.said().matches(words).count() == 2).then_some(()));
}

#[test]
fn the_unix_socket_answers_all_that_the_address_does() {
    let place = tempfile::tempdir().expect("a folder");
    let socket = place.path().join("api.sock");
    let path = socket.to_str().expect("text");
    let mut daemon = Daemon::guarded(PROGRAM, &Authority::default(), false, &["--socket", path]);
    let mode = fs::metadata(&socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let url = format!("unix:{path}");
    let health = asked(&daemon, &url, None, &["health", "--json"]).expect("it answers");
    assert_eq!(serde_json::from_str::<Value>(&health).expect("JSON")["status"], "ok");
    let made = asked(&daemon, &url, None, &["tenant", "create", "acme"]);
    made.expect("created");
    daemon.api().get("/tenants/acme").done();
    let refused = asked(&daemon, &url, None, &["instance", "exec", "nobody", "--", "true"]);
    let refused = refused.expect_err("no instance");
    assert!(refused.contains("[not_found]"), "{refused}");
    // A kill leaves the file, which the next start replaces; a stop removes it.
    daemon.kill();
    assert!(socket.exists());
    daemon.start_again();
    asked(&daemon, &url, None, &["health"]).expect("it answers again");
    daemon.stop();
    assert!(!socket.exists());
    let gone = asked(&daemon, &url, None, &["health"]).expect_err("it is gone");
    assert!(gone.contains("no daemon answers at unix:"), "{gone}");
}

#[test]
fn a_host_hands_its_facts_to_a_collector_over_tls_and_to_no_other() {
    let collector = Daemon::guarded(PROGRAM, &Authority::default(), true, &[]);
    let asked = json!({"name": "h1", "role": "host"});
    let made = collector.api().post("/tokens", &asked).done();
    let token = made["secret"].as_str().expect("a secret");
    let ca = collector.folder().join("ca.pem");
    let url = collector.api().url();
    let ca = ca.to_str().expect("text");
    let folder = || tempfile::tempdir().expect("a folder");
    let stranger = Daemon::host(PROGRAM, folder(), url, token);
    waits_for(&stranger, "UnknownIssuer");
    let hosts = |api: &tallyman_tests::daemon::Api| api.get("/fleet/hosts").done()["hosts"].clone();
    assert!(hosts(collector.api())[0]["heard_at"].is_null());
    drop(stranger);
    let host = Daemon::host_with(PROGRAM, folder(), url, token, &["--fleet-ca", ca]);
    let seq = host.api().get("/journal/head").done()["seq"].as_u64();
    eventually("fact at the collector", || {
        let hosts = hosts(collector.api());
        (hosts[0]["facts"].as_u64() >= seq && hosts[0]["name"] == "h1").then_some(())
    });
}
