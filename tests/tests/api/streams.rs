//! `/events/stream`: facts as they are recorded, each once, in order, to those who may see them.

use std::cell::Cell;

use serde_json::{Value, json};
use tallyman_tests::daemon::Api;

use crate::daemon;

fn fact(data: &str) -> Value {
    serde_json::from_str(data).expect("a fact")
}

fn is(kind: &str) -> impl Fn(&str) -> bool {
    move |data| fact(data)["kind"] == kind
}

fn all(api: &Api) -> Vec<Value> {
    api.get("/journal").done()["facts"].as_array().expect("facts").clone()
}

fn facts(heard: &[(String, String)]) -> Vec<Value> {
    heard.iter().map(|(_, data)| fact(data)).collect()
}

#[test]
fn whoever_follows_gets_every_fact_once_also_over_a_restart_of_the_daemon() {
    let mut daemon = daemon();
    daemon.api().create_running("vm-1");
    let mut heard = daemon.api().stream("/events/stream?after=0", None, |data| {
        let fact = fact(data);
        fact["kind"] == "entered" && fact["phase"] == "running"
    });
    let last = heard.last().expect("one").0.clone();
    daemon.kill();
    daemon.start_again();
    daemon.api().delete("/instances/vm-1");
    // The header is what browsers send; the position of the first request stays in the address.
    heard.extend(daemon.api().stream("/events/stream?after=0", Some(&last), is("deleted")));
    assert_eq!(facts(&heard), all(daemon.api()));
    assert!(
        heard.iter().all(|(id, data)| fact(data)["seq"].as_u64() == id.parse().ok()),
        "{heard:?}"
    );
}

#[test]
fn a_stream_has_what_its_token_may_see_and_what_was_asked_for() {
    let daemon = daemon();
    let api = daemon.api();
    let reader = api.tenant("acme", "tenant-reader");
    let admin = api.token("acme", "tenant-admin");
    api.create_running("other");
    let id = admin.create_running("mine");
    admin.delete(&format!("/instances/{id}"));
    let heard = facts(&reader.stream("/events/stream?after=0", None, is("deleted")));
    assert!(heard.iter().all(|fact| fact["tenant"] == "acme"), "{heard:?}");
    assert!(heard.iter().any(|fact| fact["instance"] == json!(id)), "{heard:?}");
    let path = format!("/events/stream?after=0&instance={id}&kind=entered");
    let entered = facts(&admin.stream(&path, None, |data| fact(data)["phase"] == "running"));
    assert!(entered.iter().all(|fact| fact["kind"] == "entered"), "{entered:?}");
    let author = api.token("acme", "policy-author");
    author.get("/events/stream").refused(403, "forbidden", "policy-author");
}

#[test]
fn a_position_behind_the_end_is_refused_and_too_many_followers_are() {
    let daemon = daemon();
    let api = daemon.api().tenant("acme", "tenant-admin");
    api.get("/events/stream?after=999999").refused(409, "ahead_of_journal", "ends with fact");
    let token = format!("Bearer {}", api.secret());
    let headers = [("authorization", token.as_str()), ("last-event-id", "x")];
    let answer = api.send_with("GET", "/events/stream", &headers, None);
    answer.refused(400, "invalid", "Last-Event-ID");
    let followers: Vec<_> = (0..64).map(|_| api.open("/events/stream")).collect();
    assert!(followers.iter().all(|answer| answer.status() == 200));
    api.get("/events/stream").refused(429, "too_many_at_once", "followers");
    // Others have seats of their own.
    assert_eq!(daemon.api().open("/events/stream").status(), 200);
}

#[test]
fn a_stream_ends_with_its_token() {
    let daemon = daemon();
    let api = daemon.api();
    api.post("/tenants", &json!({"id": "acme"})).done();
    let asked = json!({"name": "r", "role": "tenant-reader", "tenant": "acme"});
    let made = api.post("/tokens", &asked).done();
    let reader = api.with_token(made["secret"].as_str().expect("a secret"));
    let token = format!("/tokens/{}", made["id"].as_str().expect("an id"));
    let revoked = Cell::new(false);
    // The end of the answer ends the call.
    let heard = reader.stream("/events/stream?after=0", None, |_| {
        if !revoked.replace(true) {
            api.delete(&token).done();
        }
        false
    });
    assert!(!heard.is_empty());
}
