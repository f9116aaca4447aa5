//! Bounds of what a tenant may use: one tenant exhausts each, and another one beside it goes on.

use serde_json::{Value, json};
use tallyman_tests::daemon::{Answer, Api, Daemon};
use tallyman_tests::deadline::eventually;

use crate::daemon;
use crate::hypervisors::kill_vmm;
use crate::invoices::{BOOK, put_prices_of};
use crate::policies::fails_at_a_pause;

/// A daemon with two tenants, of which the first has limits; clients of both.
fn two(limits: Value) -> (Daemon, Api, Api) {
    let daemon = daemon();
    let first = daemon.api().tenant("acme", "tenant-admin");
    let other = daemon.api().tenant("other", "tenant-admin");
    daemon.api().patch("/tenants/acme/limits", &limits).done();
    (daemon, first, other)
}

/// Creates a machine of the tiny guest.
fn create(api: &Api, name: &str, more: Value) -> Answer {
    let mut asked = json!({"name": name, "image": "tiny", "vcpus": 1});
    asked.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    api.post("/instances", &asked)
}

#[test]
fn a_tenant_whose_bytes_on_disk_are_used_up_takes_none_of_another_s() {
    // Each machine counts its logs, 20 MiB; a standby of one needs its 16 MiB of memory.
    let (daemon, first, other) = two(json!({"disk_bytes": 45 << 20}));
    let one = first.create_running("one");
    first.create_running("two");
    create(&first, "three", json!({})).refused(403, "quota_exceeded", "disk_bytes");
    first.act(&format!("/instances/{one}/standby")).refused(403, "quota_exceeded", "disk_bytes");
    let shown = daemon.api().get("/tenants/acme").done();
    assert_eq!(shown["disk_bytes"], json!(40 << 20), "{shown}");
    for name in ["one", "two", "three"] {
        let id = other.create_running(name);
        other.command(&id, "standby");
    }
    // What frees room is never refused, and then there is room.
    first.delete(&format!("/instances/{one}")).done();
    first.create_running("three");
}

#[test]
fn a_tenant_that_stores_too_much_is_refused_and_another_stores() {
    let bytes = BOOK.len() as u64;
    let (daemon, _first, _other) = two(json!({"stored_bytes": bytes + bytes / 2}));
    let operator = daemon.api();
    put_prices_of(operator, "acme", BOOK);
    put_prices_of(operator, "acme", BOOK);
    let larger = BOOK.replace("\"36\"", "\"37\"");
    let put = |tenant: &str| {
        let path = format!("/tenants/{tenant}/prices");
        operator.put(&path, &serde_json::from_str(&larger).expect("JSON"))
    };
    put("acme").refused(403, "quota_exceeded", "stored_bytes");
    put("other").done();
    let path = "/tenants/acme/invoice/close";
    operator.post(path, &json!({"to": "now", "at_once": true})).done();
}

#[test]
fn launches_over_a_tenant_s_rate_are_refused_restarts_wait_and_another_launches() {
    let (daemon, first, other) = two(json!({"launches_per_minute": 2}));
    let restarting = json!({"restart_policy": {"policy": "always", "backoff": "50ms"}});
    let made = create(&first, "one", restarting).done();
    let id = made["id"].as_str().expect("an id").to_owned();
    let start = format!("/instances/{id}/start");
    first.command(&id, "stop");
    first.act(&start).done();
    create(&first, "two", json!({})).refused(429, "too_many_launches", "launches_per_minute");
    // Its machine dies, and would be restarted after 50 ms.
    kill_vmm(&daemon, &id);
    first.wait(&id, "Stopped");
    for name in ["one", "two", "three", "four"] {
        other.create_running(name);
    }
    let waits = first.instance(&id);
    assert_eq!(waits["state"], json!("Stopped"), "the restart waits: {waits}");
    daemon.api().patch("/tenants/acme/limits", &json!({"launches_per_minute": 600})).done();
    first.wait(&id, "Running");
}

#[test]
fn events_over_a_tenant_s_rate_refuse_requests_for_more_and_are_all_recorded() {
    let (daemon, first, other) = two(json!({"events_per_minute": 8}));
    let id = first.create_running("one");
    let refused = eventually("a refusal", || {
        first.command(&id, "pause");
        let answer = first.act(&format!("/instances/{id}/resume"));
        (answer.status == 429).then_some(answer)
    });
    refused.refused(429, "too_many_events", "events_per_minute");
    let by_snapshot = first.act("/snapshots/none/fork");
    by_snapshot.refused(429, "too_many_events", "events_per_minute");
    let shown = first.get(&format!("/instances/{id}")).done();
    assert_eq!(shown["state"], json!("Paused"), "{shown}");
    // What it can do is end.
    first.command(&id, "stop");
    let other_id = other.create_running("one");
    for _ in 0..4 {
        other.command(&other_id, "pause");
        other.command(&other_id, "resume");
    }
    drop(daemon);
}

#[test]
fn books_of_a_tenant_that_come_at_once_are_no_more_than_it_may_store() {
    /// Requests at once, each with another book.
    const AT_ONCE: usize = 12;
    let sent: Value = serde_json::from_str(BOOK).expect("JSON");
    let bytes = sent.to_string().len() as u64;
    let (daemon, _first, _other) = two(json!({"stored_bytes": bytes * 2 + bytes / 2}));
    let operator = daemon.api();
    let put = |tenant: &str, number: usize| {
        let price = format!("\"{:02}\"", 36 + number);
        let book = BOOK.replace("\"36\"", &price);
        let book: Value = serde_json::from_str(&book).expect("JSON");
        assert_eq!(book.to_string().len() as u64, bytes);
        let path = format!("/tenants/{tenant}/prices");
        operator.put(&path, &book)
    };
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let put = &put;
        let asking: Vec<_> =
            (0..AT_ONCE).map(|number| scope.spawn(move || put("acme", number))).collect();
        asking.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    });
    let (taken, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((taken.len(), refused.len()), (2, AT_ONCE - 2));
    for answer in refused {
        answer.refused(403, "quota_exceeded", "stored_bytes");
    }
    put("other", 0).done();
}

#[test]
fn a_tenant_s_component_without_an_end_takes_no_time_and_memory_of_another() {
    let loops = "(if (i32.eq (local.get $to) (i32.const 3)) (then (loop $l (br $l))))";
    let eats = "(if (i32.eq (local.get $to) (i32.const 3)) \
                (then (loop $l (drop (memory.grow (i32.const 16))) (br $l))))";
    for (enter, words) in [(loops, "fuel"), (eats, "memory")] {
        let (daemon, first, other) = two(json!({}));
        let digest = first.upload(fails_at_a_pause(enter)).done()["digest"].clone();
        first.put("/tenants/self/policy", &json!({"digest": digest})).done();
        let id = first.create_running("one");
        let others = ["one", "two", "three"].map(|name| other.create_running(name));
        std::thread::scope(|scope| {
            let first = &first;
            let failing = scope.spawn(move || first.command(&id, "pause"));
            for id in &others {
                let paused = other.command(id, "pause");
                assert_eq!(paused["accounting"]["status"], json!("ok"), "{paused}");
            }
            let paused = failing.join().expect("an answer");
            let account = &paused["accounting"];
            assert_eq!(account["status"], json!("degraded"), "{paused}");
            assert!(
                account["reason"].as_str().is_some_and(|text| text.contains(words)),
                "{account}"
            );
        });
        for id in &others {
            other.check_time(id);
        }
        drop(daemon);
    }
}
