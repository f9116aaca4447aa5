//! Resources that one client can't take from another: connections, files, followers.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use tallyman::limits::api::FOLLOWERS_MAX;
use tallyman_tests::daemon::Daemon;

use crate::{PROGRAM, daemon};

/// Files that the daemon may open: enough for some 64 connections.
const FEW_FILES: usize = 256;

#[test]
fn idle_connections_beyond_all_limits_keep_nobody_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let limited = folder.path().join("limited");
    fs::write(&limited, format!("#!/bin/sh\nulimit -n {FEW_FILES}\nexec {PROGRAM} \"$@\"\n"))
        .expect("a script");
    fs::set_permissions(&limited, fs::Permissions::from_mode(0o755)).expect("to be run");
    let daemon = Daemon::start(limited.to_str().expect("text"));
    let address = daemon.api().url.trim_start_matches("http://").to_owned();
    let idle: Vec<_> =
        (0..FEW_FILES + 44).map(|_| TcpStream::connect(&address).expect("connected")).collect();
    let instances = daemon.api().get("/instances");
    assert_eq!(instances.status, 200, "{idle:?}");
    daemon.api().create_running("meanwhile");
    assert!(daemon.said().contains("few files may be open"), "{}", daemon.said());
}

#[test]
fn followers_of_one_tenant_take_no_place_of_another() {
    let daemon = daemon();
    let [many, one] = ["many", "one"].map(|id| daemon.api().tenant(id, "tenant-admin"));
    let path = |api: &tallyman_tests::daemon::Api| {
        let id = api.create_running("talks");
        format!("/instances/{id}/logs?follow=true&tail=0")
    };
    let crowded = path(&many);
    let quiet = path(&one);
    let following: Vec<_> = (0..FOLLOWERS_MAX).map(|_| many.open(&crowded)).collect();
    assert!(following.iter().all(|answer| answer.status().as_u16() == 200));
    many.get(&crowded).refused(429, "too_many_at_once", "followers");
    assert_eq!(one.open(&quiet).status().as_u16(), 200);
}

#[test]
fn an_answer_says_whether_the_same_request_may_succeed_later() {
    let daemon = daemon();
    let refused = daemon.api().get("/instances/none");
    assert_eq!(refused.headers["x-should-retry"], "false");
}
