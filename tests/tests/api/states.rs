//! Every command in every state that the tiny guest can be brought to and left in.

use serde_json::{Value, json};
use tallyman::vm::{Command, Decision, State, decide, legal};
use tallyman_tests::daemon::{Answer, Api};
use tallyman_tests::rig::{KEPT, fresh};

use crate::daemon;

/// States of the driver, each with the commands that lead to it.
const STATES: [(State, &[&str]); 5] = [
    (State::Initializing, &[]),
    (State::Running, &[]),
    (State::Paused { ready: true }, &["pause"]),
    (State::Standby { ready: true }, &["standby"]),
    (State::Stopped, &["stop"]),
];

/// Creates an instance in a state, with a snapshot that a command can name.
fn in_state(api: &Api, state: State, way: &[&str]) -> String {
    let name = fresh();
    let id = match state {
        State::Initializing => api.create_with(&name, "noready"),
        _ => api.create_running(&name),
    };
    api.post(&format!("/instances/{id}/snapshots"), &json!({"name": KEPT})).done();
    for command in way {
        api.command(&id, command);
    }
    id
}

/// Gives a command in its plainest form.
fn ask(api: &Api, id: &str, command: Command) -> Answer {
    let instance = format!("/instances/{id}");
    match command {
        Command::Start | Command::Pause | Command::Resume | Command::Standby | Command::Restore => {
            api.act(&format!("{instance}/{command}"))
        }
        Command::Stop => api.post(&format!("{instance}/stop"), &json!({"grace_ms": 1})),
        Command::Delete => api.delete(&format!("{instance}?grace_ms=0")),
        Command::Snapshot => api.act(&format!("{instance}/snapshots")),
        Command::Discard => api.delete(&format!("{instance}/snapshots/{KEPT}")),
        Command::Revert => api.post(
            &format!("{instance}/snapshots/{KEPT}/restore"),
            &json!({"target_state": "Standby"}),
        ),
        Command::Fork => {
            api.post(&format!("{instance}/fork"), &json!({"name": fresh(), "from_running": true}))
        }
        Command::Resize => api.post(&format!("{instance}/resize"), &json!({"size": "32MB"})),
    }
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
            match decide(state, command) {
                Decision::Act => {}
                Decision::Ignore(_) => {
                    assert_eq!(
                        ask(api, &id, command).done()["state"],
                        before["state"],
                        "{command} in {state:?}"
                    );
                }
                Decision::Deny(refusal) => {
                    let body =
                        ask(api, &id, command).refused(409, "invalid_state", &refusal.to_string());
                    assert_eq!(body["legal"], json!(names), "{command} in {state:?}");
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
            let answer = ask(api, &id, command);
            if command == Command::Resize && state != State::Stopped {
                answer.refused(409, "unsupported", "cloud-hypervisor");
                continue;
            }
            let done = answer.done();
            api.check_time(&id);
            let made =
                (command == Command::Fork).then(|| done["id"].as_str().expect("an id").to_owned());
            let deleted = (command != Command::Delete).then_some(id.clone());
            for id in made.into_iter().chain(deleted) {
                api.delete(&format!("/instances/{id}?grace_ms=0")).done();
                api.check_time(&id);
            }
            assert_eq!(api.instance(&id)["state"], json!("Deleted"));
        }
    }
    for instance in api.get("/instances").done().as_array().expect("instances") {
        ask(api, instance["id"].as_str().expect("an id"), Command::Delete).done();
    }
    daemon.check_no_machines();
    assert_eq!(api.get("/instances").done(), Value::Array(Vec::new()));
}
