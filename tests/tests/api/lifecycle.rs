//! The page of the lifecycle: its tables are made from `tallyman::vm`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tallyman::vm::{Command, Decision, Event, ExitCause, State, apply, decide};

/// The mark in the page after which everything is made.
const MARK: &str = "<!-- From here on made from host/src/vm -->\n";

/// The name of a state that says what a held guest had reported.
fn name(state: State) -> &'static str {
    match state {
        State::Paused { ready: false } => "Paused, not ready",
        State::Standby { ready: false } => "Standby, not ready",
        State::Created
        | State::Initializing
        | State::Running
        | State::Paused { ready: true }
        | State::Shutdown
        | State::Standby { ready: true }
        | State::Stopped
        | State::Unknown
        | State::Deleted => state.as_str(),
    }
}

/// States without the difference between ready and not ready, which no command asks about.
fn columns() -> Vec<State> {
    let mut columns = State::ALL.to_vec();
    columns.dedup_by_key(|state| state.as_str());
    columns
}

fn command_row(command: Command) -> String {
    let mut row = format!("| `{command}` |");
    for column in columns() {
        let mut cells = State::ALL
            .into_iter()
            .filter(|state| state.as_str() == column.as_str())
            .map(|state| match decide(state, command) {
                Decision::Act => "**yes**",
                Decision::Ignore(_) => "done",
                Decision::Deny(_) => "-",
            })
            .collect::<Vec<_>>();
        cells.dedup();
        assert_eq!(cells.len(), 1, "{command} does not ask whether the guest was ready");
        row += &format!(" {} |", cells[0]);
    }
    row
}

fn commands() -> String {
    let names: Vec<_> = columns().iter().map(|state| state.as_str()).collect();
    let mut text = format!("| command | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(9));
    for command in Command::ALL {
        text += &command_row(command);
        text.push('\n');
    }
    text
}

/// Name and meaning of an event; none for one that has the row of another.
fn event(event: Event) -> Option<(&'static str, &'static str)> {
    match event {
        Event::Created => Some(("Created", "accepted, or launched again after a stop")),
        Event::Booted => Some(("Booted", "the vCPUs run for the first time since the launch")),
        Event::Ready => Some(("Ready", "the later of the two boot markers arrived")),
        Event::Paused => Some(("Paused", "the hypervisor says that the vCPUs are held")),
        Event::Resumed => Some(("Resumed", "the hypervisor says that the vCPUs run again")),
        Event::ShutdownRequested => Some(("ShutdownRequested", "the guest was asked to stop")),
        Event::Saved => Some(("Saved", "the snapshot is durable and the monitor has exited")),
        Event::Loaded => Some(("Loaded", "a new monitor has loaded the snapshot, vCPUs held")),
        Event::Exited(ExitCause::Requested) => {
            Some(("Exited", "the monitor is gone, or a standby was discarded; see the causes"))
        }
        Event::Exited(_) => None,
        Event::Reverted { ready: true } => {
            Some(("Reverted, ready", "a snapshot of a guest that was ready was put back"))
        }
        Event::Reverted { ready: false } => {
            Some(("Reverted, not ready", "a snapshot of a guest that was not was put back"))
        }
        Event::Reshaped => Some(("Reshaped", "the resources changed")),
        Event::Lost => Some(("Lost", "there is no proof of what happened from here on")),
        Event::Deleted => Some(("Deleted", "the record was closed")),
    }
}

fn events() -> String {
    let mut text = "| event | meaning | from | to |\n|---|---|---|---|\n".to_owned();
    for of in Event::ALL {
        let Some((word, meaning)) = event(of) else { continue };
        let mut ways: Vec<(State, Vec<&str>)> = Vec::new();
        for from in State::ALL {
            let Ok(to) = apply(from, of) else { continue };
            match ways.iter_mut().find(|(known, _)| *known == to && of != Event::Reshaped) {
                Some((_, froms)) => froms.push(name(from)),
                None => ways.push((to, vec![name(from)])),
            }
        }
        if of == Event::Reshaped {
            assert_eq!(ways.len(), State::ALL.len() - 1, "all but Deleted");
            let _ = writeln!(text, "| {word} | {meaning} | every state but Deleted | the same |");
            continue;
        }
        for (to, froms) in ways {
            let _ = writeln!(text, "| {word} | {meaning} | {} | {} |", froms.join("; "), name(to));
        }
    }
    text
}

fn cause(cause: ExitCause) -> &'static str {
    match cause {
        ExitCause::Requested => "the guest was asked to shut down and did",
        ExitCause::Forced => "the virtual machine monitor was ended by force",
        ExitCause::Guest => "the guest powered itself off or reset",
        ExitCause::Crashed => "the virtual machine monitor died",
        ExitCause::HostLost => "the host lost power or was rebooted",
        ExitCause::LaunchFailed => "the virtual machine monitor never came up",
        ExitCause::Discarded => "a standby was stopped, and its memory on disk dropped",
        ExitCause::Unhealthy => "the workload failed its health check",
    }
}

fn made() -> String {
    let mut text = "\n## Commands\n\n\
        **yes**: the command is carried out. done: it is fulfilled already, so nothing is done and \
        the\nanswer is a success. -: it is refused with `invalid_state`, and `legal` lists those \
        that say yes.\n\n"
        .to_owned();
    text += &commands();
    text += "\n## Events\n\nEach row is one event and the states that it leads from and to; any \
             other pair is impossible, and\nnothing is recorded for it.\n\n";
    text += &events();
    text += "\n## Causes of an exit\n\n| cause | meaning |\n|---|---|\n";
    for of in ExitCause::ALL {
        let _ = writeln!(text, "| `{}` | {} |", of.as_str(), cause(of));
    }
    text
}

#[test]
fn the_page_of_the_lifecycle_is_what_the_program_decides() {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a root").into();
    let page = fs::read_to_string(root.join("docs/lifecycle.md")).unwrap_or_default();
    let (told, there) = page.split_once(MARK).unwrap_or((&page, ""));
    let made = made();
    if there != made {
        let right = root.join("target/lifecycle.md");
        fs::write(right, format!("{told}{MARK}{made}")).expect("written");
        panic!("docs/lifecycle.md is not what vm says: cp target/lifecycle.md docs/lifecycle.md");
    }
}
