//! Console logs: followers receive everything that the guest prints.

use crate::daemon;

#[test]
fn a_follower_hears_a_line_when_the_guest_prints_it() {
    let daemon = daemon();
    let id = daemon.api().create_running("talks");
    let path = format!("/instances/{id}/logs?follow=true&tail=1");
    let heard = daemon.api().follow_then(&path, || daemon.type_to(&id, 'p'), |line| line == "PONG");
    assert_eq!(heard.iter().filter(|line| *line == "PONG").count(), 1);
}

#[test]
fn a_tail_has_the_lines_asked_for_and_ends() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("prints");
    let beats = |line: &str| line == "HB 5";
    api.follow(&format!("/instances/{id}/logs?follow=true"), beats);
    api.command(&id, "pause");
    let all = api.lines(&format!("/instances/{id}/logs?tail=1000"));
    assert!(all.iter().any(|line| line.starts_with("TALLYMAN-PROGRAM-START")), "{all:?}");
    for tail in [0, 1, 3] {
        let told = api.lines(&format!("/instances/{id}/logs?tail={tail}"));
        assert_eq!(told, all[all.len() - tail..], "{tail}");
    }
}

#[test]
fn the_log_goes_on_without_a_gap_through_standby_and_restore() {
    let daemon = daemon();
    let api = daemon.api();
    let id = api.create_running("sleeps");
    let path = format!("/instances/{id}/logs?follow=true&tail=1000");
    let sleep_and_wake = || {
        api.command(&id, "standby");
        api.command(&id, "restore");
        daemon.type_to(&id, 'p');
    };
    api.follow_then(&path, sleep_and_wake, |line| line == "PONG");
    let beats = daemon.heartbeats(&id);
    assert!(beats.windows(2).all(|pair| pair[1] == pair[0] + 1), "{beats:?}");
    assert_eq!(beats.first(), Some(&1), "{beats:?}");
}

#[test]
fn the_log_of_what_runs_the_guest_can_be_read() {
    let daemon = daemon();
    let id = daemon.api().create_running("is-run");
    assert_eq!(daemon.api().get(&format!("/instances/{id}/logs?source=guest")).status, 400);
    assert_eq!(
        daemon.api().lines(&format!("/instances/{id}/logs?source=vmm&tail=0")),
        Vec::<String>::new()
    );
}

#[test]
fn whoever_follows_goes_on_after_a_restart_of_the_daemon_and_misses_nothing() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("is-followed");
    let path = format!("/instances/{id}/logs?follow=true&tail=1000");
    let mut heard = daemon.api().events(&path, None, |line| line == "HB 4");
    for killed in [true, false] {
        if killed {
            daemon.kill();
        } else {
            daemon.stop();
        }
        daemon.start_again();
        let (after, line) = heard.last().cloned().expect("something was heard");
        let seen: u64 = line.strip_prefix("HB ").expect("a heartbeat").parse().expect("a number");
        // The guest wrote to the console while nobody followed.
        let until = format!("HB {}", seen + 5);
        heard.extend(daemon.api().events(&path, Some(&after), |line| line == until));
    }
    let beats: Vec<u64> = heard
        .iter()
        .filter_map(|(_, line)| line.strip_prefix("HB "))
        .map(|beat| beat.parse().expect("a number"))
        .collect();
    assert!(beats.iter().copied().eq(1..=14), "{beats:?}");
}

#[test]
fn the_command_line_goes_on_following_when_the_daemon_is_back() {
    let mut daemon = daemon();
    let id = daemon.api().create_running("is-followed");
    // A port of its own, so that the daemon comes back where it was.
    let (mut follower, mut lines) =
        daemon.follower(&["instance", "logs", &id, "--follow", "--tail", "1000"]);
    let mut heard = lines.until("HB 4");
    daemon.kill();
    daemon.start_where_it_was();
    heard.extend(lines.until("HB 12"));
    let beats: Vec<u64> =
        heard.iter().filter_map(|line| line.strip_prefix("HB ")?.parse().ok()).collect();
    assert!(beats.iter().copied().eq(1..=12), "{beats:?}");
    daemon.api().delete(&format!("/instances/{id}?grace_ms=0")).done();
    assert!(follower.wait().expect("a child of ours").success(), "the log ends with the instance");
}
