//! The decision about a command in a state: act, ignore or deny.

use std::fmt;

use super::State;

/// A command to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Boot from the image, with fresh memory.
    Start,
    /// Ask the guest to shut down; end it by force after a deadline.
    Stop,
    /// Hold the vCPUs.
    Pause,
    /// Let held vCPUs run again.
    Resume,
    /// Write memory to disk and end the virtual machine monitor.
    Standby,
    /// Load a standby's memory from disk and run.
    Restore,
    /// End the instance and close its record.
    Delete,
    /// Keep a snapshot of the present disks and, unless stopped, memory.
    Snapshot,
    /// Drop a kept snapshot.
    Discard,
    /// Replace the present disks and memory by those of a kept snapshot.
    Revert,
    /// Make a new instance from the present state or from a kept snapshot.
    Fork,
    /// Change the amount of memory.
    Resize,
}

impl Command {
    /// Every command.
    pub const ALL: [Command; 12] = [
        Command::Start,
        Command::Stop,
        Command::Pause,
        Command::Resume,
        Command::Standby,
        Command::Restore,
        Command::Delete,
        Command::Snapshot,
        Command::Discard,
        Command::Revert,
        Command::Fork,
        Command::Resize,
    ];

    /// Lower-case name, as in paths and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Start => "start",
            Command::Stop => "stop",
            Command::Pause => "pause",
            Command::Resume => "resume",
            Command::Standby => "standby",
            Command::Restore => "restore",
            Command::Delete => "delete",
            Command::Snapshot => "snapshot",
            Command::Discard => "discard",
            Command::Revert => "revert",
            Command::Fork => "fork",
            Command::Resize => "resize",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The answer to a command in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Carry the command out.
    Act,
    /// Answer success and do nothing: the command is already fulfilled.
    Ignore(Ignored),
    /// Refuse: the command is not legal in this state.
    Deny(Refusal),
}

/// Reason for ignoring a command that is already fulfilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Start or restore of an instance that runs.
    AlreadyRunning,
    /// Resume of an instance whose vCPUs are not held.
    NotPaused,
    /// Pause of an instance whose vCPUs are held.
    AlreadyPaused,
    /// Standby of an instance in standby.
    AlreadyInStandby,
    /// Stop of a stopped instance.
    AlreadyStopped,
    /// Delete of a deleted instance.
    AlreadyDeleted,
}

/// A command that is not legal in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "can't {command} an instance that is {}; legal now: {}",
    .state.as_str(),
    legal_list(*.state)
)]
pub struct Refusal {
    /// The command.
    pub command: Command,
    /// The state that forbids it.
    pub state: State,
}

/// The commands that `state` allows and that are not fulfilled already, in the order of
/// [`Command::ALL`].
pub fn legal(state: State) -> impl Iterator<Item = Command> {
    Command::ALL.into_iter().filter(move |&command| decide(state, command) == Decision::Act)
}

fn legal_list(state: State) -> String {
    let names: Vec<_> = legal(state).map(Command::as_str).collect();
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// Decides about `command` in `state`. Total: every pair has its answer.
///
/// Commands of one instance are carried out one after the other, so a stop that finds
/// [`State::Shutdown`] follows a stop that failed, and tries again.
pub fn decide(state: State, command: Command) -> Decision {
    use Decision::{Act, Ignore};
    let deny = Decision::Deny(Refusal { command, state });
    match command {
        Command::Start => match state {
            State::Stopped => Act,
            State::Created | State::Initializing | State::Running => {
                Ignore(Ignored::AlreadyRunning)
            }
            State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Unknown
            | State::Deleted => deny,
        },
        // Whatever could be left can be stopped, so that a deletion is never the only way out.
        Command::Stop => match state {
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Unknown => Act,
            State::Stopped => Ignore(Ignored::AlreadyStopped),
            State::Deleted => deny,
        },
        Command::Pause => match state {
            State::Initializing | State::Running => Act,
            State::Paused { .. } => Ignore(Ignored::AlreadyPaused),
            State::Created
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => deny,
        },
        Command::Resume => match state {
            State::Paused { .. } => Act,
            State::Initializing | State::Running => Ignore(Ignored::NotPaused),
            State::Created
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown
            | State::Deleted => deny,
        },
        Command::Standby => match state {
            State::Initializing | State::Running | State::Paused { .. } => Act,
            State::Standby { .. } => Ignore(Ignored::AlreadyInStandby),
            State::Created | State::Shutdown | State::Stopped | State::Unknown | State::Deleted => {
                deny
            }
        },
        Command::Restore => match state {
            State::Standby { .. } => Act,
            State::Initializing | State::Running => Ignore(Ignored::AlreadyRunning),
            State::Created
            | State::Paused { .. }
            | State::Shutdown
            | State::Stopped
            | State::Unknown
            | State::Deleted => deny,
        },
        Command::Delete => match state {
            State::Deleted => Ignore(Ignored::AlreadyDeleted),
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown => Act,
        },
        Command::Snapshot | Command::Fork => match state {
            State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Standby { .. }
            | State::Stopped => Act,
            State::Created | State::Shutdown | State::Unknown | State::Deleted => deny,
        },
        Command::Discard => match state {
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Stopped
            | State::Unknown => Act,
            State::Deleted => deny,
        },
        Command::Revert => match state {
            State::Standby { .. } | State::Stopped => Act,
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused { .. }
            | State::Shutdown
            | State::Unknown
            | State::Deleted => deny,
        },
        Command::Resize => match state {
            State::Initializing | State::Running | State::Stopped => Act,
            State::Created
            | State::Paused { .. }
            | State::Shutdown
            | State::Standby { .. }
            | State::Unknown
            | State::Deleted => deny,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::{Event, ExitCause, apply};

    /// The events that carry out a command from a state, in the order in which the driver records
    /// them.
    fn script(state: State, command: Command) -> Vec<Event> {
        let running = matches!(state, State::Initializing | State::Running);
        match command {
            Command::Start => vec![Event::Created, Event::Booted, Event::Ready],
            Command::Pause => vec![Event::Paused],
            Command::Resume => vec![Event::Resumed],
            Command::Standby if running => vec![Event::Paused, Event::Saved],
            Command::Standby => vec![Event::Saved],
            Command::Restore => vec![Event::Loaded, Event::Resumed],
            Command::Stop => match state {
                State::Standby { .. } => vec![Event::Exited(ExitCause::Discarded)],
                State::Shutdown | State::Unknown => vec![Event::Exited(ExitCause::Forced)],
                _ => vec![Event::ShutdownRequested, Event::Exited(ExitCause::Requested)],
            },
            Command::Delete if state.has_vmm() => {
                vec![Event::Exited(ExitCause::Forced), Event::Deleted]
            }
            Command::Delete => vec![Event::Deleted],
            Command::Snapshot if running => vec![Event::Paused, Event::Reshaped, Event::Resumed],
            Command::Snapshot | Command::Discard | Command::Resize => vec![Event::Reshaped],
            Command::Revert => vec![Event::Reverted { ready: true }],
            Command::Fork if running => vec![Event::Paused, Event::Resumed],
            Command::Fork => vec![],
        }
    }

    /// True for commands that ask for a state, and are ignored the second time; the others may be
    /// given again and again.
    fn asks_for_a_state(command: Command) -> bool {
        match command {
            Command::Start
            | Command::Stop
            | Command::Pause
            | Command::Resume
            | Command::Standby
            | Command::Restore
            | Command::Delete => true,
            Command::Snapshot
            | Command::Discard
            | Command::Revert
            | Command::Fork
            | Command::Resize => false,
        }
    }

    #[test]
    fn every_legal_command_has_a_way_through_the_events() {
        for state in State::ALL {
            for command in legal(state) {
                let mut at = state;
                for event in script(state, command) {
                    at = apply(at, event)
                        .unwrap_or_else(|error| panic!("{command} from {state:?}: {error}"));
                }
                let again = decide(at, command) == Decision::Act;
                assert_eq!(
                    again,
                    !asks_for_a_state(command),
                    "{command} from {state:?}, after it was done"
                );
            }
        }
    }

    #[test]
    fn a_fulfilled_command_is_ignored_and_never_denied() {
        for state in State::ALL {
            for command in legal(state).filter(|&command| asks_for_a_state(command)) {
                let end = script(state, command).into_iter().try_fold(state, apply).expect("legal");
                assert!(
                    matches!(decide(end, command), Decision::Ignore(_)),
                    "{command} in {end:?}"
                );
            }
        }
    }

    #[test]
    fn a_refusal_lists_what_is_legal() {
        let Decision::Deny(refusal) = decide(State::Stopped, Command::Restore) else {
            panic!("must be denied")
        };
        assert_eq!(
            refusal.to_string(),
            "can't restore an instance that is Stopped; legal now: start, delete, snapshot, \
             discard, revert, fork, resize"
        );
        let Decision::Deny(refusal) = decide(State::Deleted, Command::Start) else {
            panic!("must be denied")
        };
        assert_eq!(
            refusal.to_string(),
            "can't start an instance that is Deleted; legal now: nothing"
        );
    }

    #[test]
    fn nothing_but_a_deleted_record_is_a_dead_end() {
        for state in State::ALL {
            let ways = legal(state)
                .filter(|&command| command != Command::Delete && asks_for_a_state(command))
                .count();
            assert_eq!(
                ways == 0,
                state == State::Deleted,
                "{state:?} needs a way out that is not 'delete'"
            );
        }
    }

    #[test]
    fn every_state_but_deleted_is_a_phase_of_the_same_name() {
        for state in State::ALL {
            match state.phase() {
                Some(phase) => assert_eq!(phase.as_str(), state.as_str().to_lowercase()),
                None => assert_eq!(state, State::Deleted),
            }
        }
    }

    #[test]
    fn readiness_survives_pause_and_standby() {
        for ready in [false, true] {
            let end = [Event::Saved, Event::Loaded, Event::Resumed]
                .into_iter()
                .try_fold(State::Paused { ready }, apply)
                .expect("legal");
            assert_eq!(end, if ready { State::Running } else { State::Initializing });
        }
    }

    #[test]
    fn an_event_that_cannot_follow_changes_nothing() {
        for state in State::ALL {
            for event in Event::ALL {
                if let Err(impossible) = apply(state, event) {
                    assert_eq!((impossible.state, impossible.event), (state, event));
                }
            }
        }
        assert!(apply(State::Stopped, Event::Resumed).is_err());
        assert!(apply(State::Deleted, Event::Created).is_err());
    }
}
