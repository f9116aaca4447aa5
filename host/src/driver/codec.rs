//! Records and [`Live`] as the journal stores them: JSON with one name for each thing, unknown keys
//! refused.

use serde::{Deserialize, Serialize};

use super::live::{Live, Restarts};
use super::record::{Record, Snapshot, Spec};
use super::request::Intent;
use crate::units::Instant;
use crate::vm::{ExitCause, Phase, Shape, State, Traffic};

/// The reason for which a stored state can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    /// Not the JSON that was written.
    #[error("not a stored state")]
    Json(#[from] serde_json::Error),
    /// A word that this version does not know, and the kind of word that was expected.
    #[error("'{0}' is no {1}")]
    Word(String, &'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    state: String,
    ready: bool,
    vcpus: u32,
    memory_bytes: u64,
    disk_bytes: u64,
    snapshot_bytes: u64,
    session: u32,
    incarnation: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<Intent>,
    program_started: bool,
    agent_ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_ns: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    restarts: Restarts,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_due_ns: Option<i64>,
    /// Numbers in the order of [`Traffic::numbers`].
    #[serde(default, skip_serializing_if = "is_none")]
    traffic: [u64; 4],
    #[serde(default, skip_serializing_if = "is_none")]
    counted: [u64; 4],
}

fn is_none(numbers: &[u64; 4]) -> bool {
    Traffic::of(*numbers) == Traffic::NONE
}

#[derive(Serialize)]
struct RecordOut<'a> {
    spec: &'a Spec,
    snapshots: &'a [Snapshot],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordIn {
    spec: Spec,
    snapshots: Vec<Snapshot>,
}

const DELETED: &str = "deleted";

fn ready(state: State) -> bool {
    match state {
        State::Paused { ready } | State::Standby { ready } => ready,
        State::Running => true,
        State::Created
        | State::Initializing
        | State::Shutdown
        | State::Stopped
        | State::Unknown
        | State::Deleted => false,
    }
}

fn state(word: &str, ready: bool) -> Result<State, CodecError> {
    if word == DELETED {
        return Ok(State::Deleted);
    }
    let phase: Phase = word.parse().map_err(|_| CodecError::Word(word.into(), "state"))?;
    Ok(match phase {
        Phase::Created => State::Created,
        Phase::Initializing => State::Initializing,
        Phase::Running => State::Running,
        Phase::Paused => State::Paused { ready },
        Phase::Shutdown => State::Shutdown,
        Phase::Standby => State::Standby { ready },
        Phase::Stopped => State::Stopped,
        Phase::Unknown => State::Unknown,
    })
}

fn word<T: Copy>(
    all: &[T],
    name: fn(T) -> &'static str,
    text: &str,
    what: &'static str,
) -> Result<T, CodecError> {
    let found = all.iter().copied().find(|&item| name(item) == text);
    found.ok_or_else(|| CodecError::Word(text.into(), what))
}

impl Live {
    /// The JSON that the journal stores; absent values are left out.
    pub fn stored(&self) -> String {
        let stored = Stored {
            state: self.state.phase().map_or(DELETED, Phase::as_str).into(),
            ready: ready(self.state),
            vcpus: self.shape.vcpus,
            memory_bytes: self.shape.memory_bytes,
            disk_bytes: self.shape.disk_bytes,
            snapshot_bytes: self.shape.snapshot_bytes,
            session: self.session,
            incarnation: self.incarnation,
            intent: self.intent.clone(),
            program_started: self.program_started,
            agent_ready: self.agent_ready,
            started_ns: self.started.map(|at| at.0),
            stopped_ns: self.stopped.map(|at| at.0),
            cause: self.cause.map(|cause| cause.as_str().into()),
            exit_code: self.exit_code,
            exit_message: self.exit_message.clone(),
            error: self.error.clone(),
            restarts: self.restarts,
            snapshot_due_ns: self.snapshot_due_ns,
            traffic: self.traffic.numbers(),
            counted: self.counted.numbers(),
        };
        serde_json::to_string(&stored).expect("numbers, texts and nothing else")
    }
}

/// Decodes the output of [`Live::stored`].
pub(super) fn decode(text: &str) -> Result<Live, CodecError> {
    let stored: Stored = serde_json::from_str(text)?;
    let cause = stored
        .cause
        .map(|text| word(&ExitCause::ALL, ExitCause::as_str, &text, "exit cause"))
        .transpose()?;
    Ok(Live {
        state: state(&stored.state, stored.ready)?,
        shape: Shape {
            vcpus: stored.vcpus,
            memory_bytes: stored.memory_bytes,
            disk_bytes: stored.disk_bytes,
            snapshot_bytes: stored.snapshot_bytes,
        },
        session: stored.session,
        incarnation: stored.incarnation,
        intent: stored.intent,
        program_started: stored.program_started,
        agent_ready: stored.agent_ready,
        started: stored.started_ns.map(Instant),
        stopped: stored.stopped_ns.map(Instant),
        cause,
        exit_code: stored.exit_code,
        exit_message: stored.exit_message,
        error: stored.error,
        restarts: stored.restarts,
        snapshot_due_ns: stored.snapshot_due_ns,
        traffic: Traffic::of(stored.traffic),
        counted: Traffic::of(stored.counted),
    })
}

impl Record {
    /// The JSON that the journal stores: without id, tenant and name, which it keeps in columns of
    /// their own.
    pub fn stored(&self) -> String {
        let Record { id: _, tenant: _, name: _, spec, snapshots } = self;
        serde_json::to_string(&RecordOut { spec, snapshots })
            .expect("numbers, texts and nothing else")
    }
}

/// Decodes the output of [`Record::stored`].
pub(super) fn decode_record(text: &str) -> Result<(Spec, Vec<Snapshot>), CodecError> {
    let RecordIn { spec, snapshots } = serde_json::from_str(text)?;
    Ok((spec, snapshots))
}

/// A stored record without tags; none if it can't be read.
pub fn without_tags(text: &str) -> Option<String> {
    let (mut spec, mut snapshots) = decode_record(text).ok()?;
    spec.tags.clear();
    for snapshot in &mut snapshots {
        snapshot.tags.clear();
    }
    serde_json::to_string(&RecordOut { spec: &spec, snapshots: &snapshots }).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::request::{Child, NewSnapshot, Request, Target};
    use super::*;
    use crate::vm::{Asker, Command};

    /// One of each kind.
    fn requests() -> Vec<Request> {
        let name: crate::id::SnapshotName = "kept".parse().unwrap();
        let new = NewSnapshot {
            name: name.clone(),
            tags: [("a".into(), "b".into())].into_iter().collect(),
            keep: Some(3),
            compress: true,
        };
        let child =
            Child { id: "c".parse().unwrap(), name: "d".parse().unwrap(), target: Target::Standby };
        vec![
            Request::Start,
            Request::Stop { grace_ms: Some(7) },
            Request::Pause,
            Request::Resume,
            Request::Standby,
            Request::Restore,
            Request::Delete,
            Request::Snapshot(new),
            Request::Discard { snapshot: name.clone() },
            Request::Revert { snapshot: name.clone() },
            Request::Fork { children: vec![child], snapshot: Some(name) },
            Request::Resize { memory_bytes: u64::MAX },
        ]
    }

    #[test]
    fn every_request_survives_the_journal() {
        let commands: Vec<_> = requests().iter().map(Request::command).collect();
        assert_eq!(commands, Command::ALL);
        for (request, by) in requests().into_iter().zip(Asker::ALL.into_iter().cycle()) {
            let intent = Intent { request, by, ran: true, at_ns: Some(7) };
            let text = serde_json::to_string(&intent).unwrap();
            assert_eq!(serde_json::from_str::<Intent>(&text).unwrap(), intent, "{text}");
        }
    }

    #[test]
    fn every_state_survives_the_journal() {
        for state in State::ALL {
            let live = Live {
                state,
                shape: Shape { vcpus: 2, memory_bytes: 3, disk_bytes: 4, snapshot_bytes: 5 },
                session: 6,
                incarnation: 7,
                intent: Some(Intent {
                    request: Request::Standby,
                    by: Asker::Client,
                    ran: false,
                    at_ns: None,
                }),
                program_started: true,
                agent_ready: false,
                started: Some(Instant(8)),
                stopped: None,
                cause: Some(ExitCause::Guest),
                exit_code: Some(-1),
                exit_message: Some("bye \"now\"".into()),
                error: None,
                restarts: Restarts { attempts: 9, last_ns: Some(10), due_ns: None },
                snapshot_due_ns: Some(11),
                traffic: Traffic::of([12, 13, 14, 15]),
                counted: Traffic::of([1, 2, 3, u64::MAX]),
            };
            assert_eq!(decode(&live.stored()).unwrap(), live);
        }
    }

    #[test]
    fn an_unknown_word_is_named() {
        let error = state("sleeping", false).unwrap_err();
        assert_eq!(error.to_string(), "'sleeping' is no state");
    }
}
