//! Signed ends of the journal: made at each close, and what holds a bundle against one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tallyman_tests::daemon::{Daemon, program};
use tallyman_tests::deadline::eventually;

use crate::invoices::{BOOK, close, close_of, lived, put_prices, put_prices_of};
use crate::{PROGRAM, daemon};

/// The signed heads, once one ends with the fact of the close; and the number of that fact.
fn signed(daemon: &Daemon) -> (Value, Value) {
    let closes = daemon.api().get("/journal?kind=invoiced").done();
    let seq = closes["facts"][0]["seq"].clone();
    assert!(seq.is_u64(), "{closes}");
    let heads = eventually("signature of the close", || {
        let heads = daemon.api().get("/journal/heads").done();
        let is_there = heads["heads"].as_array()?.iter().any(|head| head["seq"] == seq);
        is_there.then_some(heads)
    });
    (heads, seq)
}

/// The report of `tallyman verify`, or why it fails.
fn verified(folder: &Path, heads: &Value, key: &str) -> Result<Value, String> {
    let file = folder.join("heads.json");
    fs::write(&file, heads.to_string()).expect("written");
    let call = ["verify", "--json", "--one-witness", "--key", key, "--bundle", "bundle.json"];
    let mut verify = program(Path::new(PROGRAM), &call);
    let output = verify.arg("--head").arg(&file).current_dir(folder).output().expect("run");
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).expect("JSON")),
        false => Err(String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn a_bundle_is_held_against_the_head_that_the_host_signed_at_its_close() {
    let mut daemon = daemon();
    put_prices(daemon.api(), BOOK);
    lived(daemon.api(), "web");
    close(daemon.api());
    let (heads, seq) = signed(&daemon);
    let key = heads["key"].as_str().expect("a key").to_owned();
    let mode = fs::metadata(daemon.folder().join("head-key.pem")).expect("a key").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let listed = daemon.cli(&["journal", "heads"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&key));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let bundle = elsewhere.path().join("bundle.json");
    let saved = daemon.cli(&["invoice", "bundle", "1", bundle.to_str().expect("text")]);
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    daemon.stop();
    daemon.start_again();
    assert_eq!(daemon.api().get("/journal/heads").done()["key"], json!(key), "it is kept");

    let report = verified(elsewhere.path(), &heads, &key).expect("signed");
    assert_eq!((&report["signed"], &report["under"]), (&json!([seq]), &seq));
    let other = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    let refused = verified(elsewhere.path(), &heads, other).expect_err("another key");
    assert!(refused.contains("not signed with this key"), "{refused}");
    let mut altered = heads.clone();
    for head in altered["heads"].as_array_mut().expect("heads") {
        head["hash"] = json!("00".repeat(32));
    }
    let refused = verified(elsewhere.path(), &altered, &key).expect_err("another journal");
    assert!(refused.contains("not signed with this key"), "{refused}");
    let mut fewer = heads;
    fewer["heads"].as_array_mut().expect("heads").retain(|head| head["seq"] != seq);
    let refused = verified(elsewhere.path(), &fewer, &key).expect_err("not published");
    assert!(refused.contains("no signed head ends with fact"), "{refused}");
}

/// The report of `tallyman verify` of a bundle with a key alone, or why it fails.
fn proved(folder: &Path, bundle: &Value, key: &str) -> Result<Value, String> {
    fs::write(folder.join("bundle.json"), bundle.to_string()).expect("written");
    let call = ["verify", "--json", "--one-witness", "--key", key, "--bundle", "bundle.json"];
    let output = program(Path::new(PROGRAM), &call).current_dir(folder).output().expect("run");
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).expect("JSON")),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Runs the recipe of the documentation on `bundle.json`, and OpenSSL on what it writes.
fn recipe(folder: &Path, key: &str) -> Result<(), String> {
    let text = include_str!("../../../docs/journal-format.md");
    let (_, text) = text.split_once("## A tenant's facts under a signed head").expect("a part");
    let block = |language: &str| {
        let (_, rest) = text.split_once(&format!("```{language}\n")).expect("a recipe");
        rest.split_once("```").expect("its end").0
    };
    fs::write(folder.join("under.py"), block("python")).expect("written");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let done = command.args(arguments).current_dir(folder).output().expect(program);
        let said = String::from_utf8_lossy(&done.stderr) + String::from_utf8_lossy(&done.stdout);
        if done.status.success() { Ok(()) } else { Err(said.into_owned()) }
    };
    run("python3", &["under.py", "bundle.json", key])?;
    run("sh", &["-c", block("sh")])
}

/// A daemon with two tenants that have lived, of which one was billed; its bundle, and the key.
fn two_tenants() -> (Daemon, Value, String) {
    let daemon = daemon();
    let api = daemon.api();
    for id in ["acme", "other"] {
        lived(&api.tenant(id, "tenant-admin"), &format!("{id}-secret-name"));
    }
    put_prices_of(api, "acme", BOOK);
    close_of(api, "acme");
    let bundle = api.get("/tenants/acme/invoices/1/bundle").done();
    let key = api.get("/journal/heads").done()["key"].as_str().expect("a key").to_owned();
    (daemon, bundle, key)
}

#[test]
fn a_bundle_has_all_facts_of_its_tenant_under_a_signed_head_and_nobody_else_s() {
    let (mut daemon, bundle, key) = two_tenants();
    for fact in bundle["facts"].as_array().expect("facts") {
        let told: Value = serde_json::from_str(fact["text"].as_str().expect("text")).expect("JSON");
        let is_calendar = told["kind"] == "host-started" || told["kind"] == "clock-stepped";
        assert!(told["tenant"] == "acme" || is_calendar, "{told}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let report = proved(folder.path(), &bundle, &key).expect("proved");
    assert_eq!(report["under"], bundle["under"]["head"]["seq"]);
    recipe(folder.path(), &key).expect("the recipe agrees");

    let other = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    let refused = proved(folder.path(), &bundle, other).expect_err("another key");
    assert!(refused.contains("not signed with this key"), "{refused}");
    assert!(recipe(folder.path(), other).is_err());
    // No link tells of a fact of the tenant itself that is left out, here that of its creation.
    let mut fewer = bundle.clone();
    let facts = fewer["facts"].as_array_mut().expect("facts");
    let created =
        |fact: &Value| fact["text"].as_str().is_some_and(|text| text.contains("tenant-created"));
    let place = facts.iter().position(created).expect("created");
    facts.remove(place);
    let refused = proved(folder.path(), &fewer, &key).expect_err("a fact less");
    assert!(refused.contains("the facts of acme are not those"), "{refused}");
    assert!(recipe(folder.path(), &key).expect_err("a fact less").contains("acme"));

    // What the host keeps beside the heads is made again from the facts.
    let path = "/tenants/acme/invoices/1/bundle";
    daemon.stop();
    let signed = fs::read(daemon.folder().join("heads.jsonl")).expect("heads");
    fs::remove_file(daemon.folder().join("head-trees.json")).expect("there");
    fs::remove_dir_all(daemon.folder().join("head-places")).expect("there");
    daemon.start_again();
    eventually("the places under heads", || {
        (daemon.api().get(path).done() == bundle).then_some(())
    });
    assert_eq!(fs::read(daemon.folder().join("heads.jsonl")).expect("heads"), signed);
}

#[test]
fn whatever_is_changed_in_what_the_host_has_signed_is_found() {
    let (mut daemon, bundle, _) = two_tenants();
    daemon.stop();
    let verify = |daemon: &Daemon| {
        let mut command = daemon.command(&["journal", "verify", "--json"]);
        let done = command.output().expect("run");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        done.status
            .success()
            .then(|| serde_json::from_slice::<Value>(&done.stdout).expect("JSON"))
            .ok_or(said)
    };
    let whole = verify(&daemon).expect("whole");
    assert!(whole["heads"].as_u64() >= Some(1), "{whole}");
    let close = format!("head-places/{}.json", bundle["under"]["head"]["seq"]);
    for name in ["heads.jsonl", &close, "head-key.pem"] {
        let path = daemon.folder().join(name);
        let good = fs::read(&path).expect(name);
        let mut unnoticed = Vec::new();
        for place in (0..good.len()).step_by(11) {
            let mut bad = good.clone();
            bad[place] ^= [1, 0x20, 2, 4][place % 4];
            fs::write(&path, &bad).expect("written");
            if verify(&daemon).is_ok() {
                unnoticed.push(place);
            }
        }
        fs::write(&path, &good).expect("written");
        assert!(unnoticed.is_empty(), "bytes {unnoticed:?} of {name}");
    }
    verify(&daemon).expect("whole again");
}

/// A program that appends each head to a file, or fails while a file says so.
fn hook(folder: &Path) -> String {
    let path = folder.join("hook.sh");
    let place = folder.display();
    let text = format!(
        "#!/bin/sh\n[ ! -e {place}/down ] || exit 7\n\
         (cat; echo) >> {place}/heads.txt\n"
    );
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("executable");
    path.to_str().expect("text").to_owned()
}

#[test]
fn heads_are_published_in_their_order_and_a_hook_that_fails_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let hook = hook(folder.path());
    fs::write(folder.path().join("down"), "").expect("written");
    let mut daemon = daemon();
    daemon.stop();
    daemon.add_arguments(&["--heads-to", &hook]);
    daemon.start_again();
    put_prices(daemon.api(), BOOK);
    lived(daemon.api(), "web");
    close(daemon.api());
    let (heads, seq) = signed(&daemon);
    eventually("a failure in /health", || {
        let health = daemon.api().get("/health").done()["heads"].clone();
        (health["failing_since"].is_string() && health["published"] == json!(0)).then_some(())
    });
    fs::remove_file(folder.path().join("down")).expect("removed");
    let taken = eventually("all heads", || {
        let text = fs::read_to_string(folder.path().join("heads.txt")).ok()?;
        let taken: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).ok()).collect::<Option<_>>()?;
        (taken.last()?["seq"] == seq).then_some(taken)
    });
    let published: Vec<_> = taken.iter().map(|one| (&one["seq"], &one["signature"])).collect();
    let listed = heads["heads"].as_array().expect("heads");
    let listed: Vec<_> = listed.iter().map(|one| (&one["seq"], &one["signature"])).collect();
    assert_eq!(published, listed);
    assert!(taken.iter().all(|one| one["key"] == heads["key"]));
    eventually("no failure in /health", || {
        let health = daemon.api().get("/health").done()["heads"].clone();
        (health["failing_since"].is_null() && health["published"] == seq).then_some(())
    });
}
