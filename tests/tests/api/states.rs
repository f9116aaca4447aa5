//! Every command in every state that the tiny guest can be brought to and left in.

use serde_json::json;
use tallyman::vm::{Command, Decision, State, decide, legal};
use tallyman_tests::daemon::Api;

use crate::daemon;

/// The state that the driver is in when the API shows this one.
const STATES: [(State, &[&str]); 5] = [
    (State::Initializing, &[]),
    (State::Running, &[]),
    (State::Paused { ready: true }, &["pause"]),
    (State::Standby { ready: true }, &["standby"]),
    (State::Stopped, &["stop"]),
];

fn in_state(api: &Api, state: State, way: &[&str]) -> String {
    let name = format!("in-{}", state.as_str().to_lowercase());
    let id = match state {
        State::Initializing => api.create_with(&name, "noready"),
        _ => api.create_running(&name),
    };
    for command in way {
        api.command(&id, command);
    }
    id
}

#[test]
fn every_command_that_is_not_legal_is_refused_with_those_that_are_and_changes_nothing() {
    let daemon = daemon();
    let api = daemon.api();
    for (state, way) in STATES {
        let id = in_state(api, state, way);
        let names: Vec<_> = legal(state).map(Command::as_str).collect();
        let before = api.instance(&id);
        assert_eq!(before["legal"], json!(names), "{state:?}");
        let facts = api.facts(&id);
        for command in Command::ALL {
            let path = format!("/instances/{id}/{command}");
            match decide(state, command) {
                Decision::Act => {}
                Decision::Ignore(_) => assert_eq!(api.act(&path).done()["state"], before["state"], "{path}"),
                Decision::Deny(refusal) => {
                    let body = api.act(&path).refused(409, "invalid_state", &refusal.to_string());
                    assert_eq!(body["legal"], json!(names), "{path}");
                }
            }
        }
        assert_eq!(api.facts(&id), facts, "{state:?}");
        assert_eq!(api.instance(&id)["state"], before["state"]);
    }
}

#[test]
fn every_legal_command_is_done_in_every_state() {
    let daemon = daemon();
    let api = daemon.api();
    for (state, way) in STATES {
        for command in legal(state) {
            let id = in_state(api, state, way);
            let answer = match command {
                Command::Delete => api.delete(&format!("/instances/{id}?grace_ms=0")),
                Command::Stop => api.post(&format!("/instances/{id}/stop"), &json!({"grace_ms": 1})),
                Command::Start | Command::Pause | Command::Resume | Command::Standby | Command::Restore => {
                    api.act(&format!("/instances/{id}/{command}"))
                }
            };
            answer.done();
            api.check_time(&id);
            if command != Command::Delete {
                api.delete(&format!("/instances/{id}?grace_ms=0")).done();
            }
            assert_eq!(api.instance(&id)["state"], json!("Deleted"));
            api.check_time(&id);
        }
    }
    assert_eq!(daemon.machines(), [], "a machine is left");
}
