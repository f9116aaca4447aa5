//! Signed ends of the journal: made at each close, and what holds a bundle against one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tallyman_tests::daemon::{Daemon, program};
use tallyman_tests::deadline::eventually;

use crate::invoices::{BOOK, close, lived, put_prices};
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
    assert_eq!(report["signed"], json!([seq]));
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
