//! Connections between each VMM and its supervisor. The supervisor makes every wire and the VMM
//! inherits it, so that no other process can take one, and none has to be waited for.
//!
//! | | console | events | log | control |
//! |---|---|---|---|---|
//! | QEMU | a socket | a socket | a pipe | a listening socket |
//! | Cloud Hypervisor | a terminal as stdin and stdout | a pipe | a pipe | a listening socket |
//! | Firecracker | pipes as stdin and stdout | none | a pipe | its own, in the launch's folder |

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use serde::{Deserialize, Serialize};

use crate::hypervisor::files;

/// The descriptor on which QEMU finds the guest's console.
pub(in crate::hypervisor) const CONSOLE_FD: i32 = 100;
/// The descriptor on which a VMM reports its events.
pub(in crate::hypervisor) const EVENTS_FD: i32 = 101;
/// The descriptor of the listening socket on which a VMM takes control calls.
pub(in crate::hypervisor) const CONTROL_FD: i32 = 102;
/// The descriptor to which a VMM writes its log, besides standard error.
pub(in crate::hypervisor) const LOG_FD: i32 = 103;
/// The descriptor of the listening socket for the port of the guest's agent.
pub(in crate::hypervisor) const AGENT_FD: i32 = 104;
/// The descriptor that holds the lock of the first disk.
const LOCKS_FD: i32 = 110;

/// The set of wires that a vendor's VMM needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::hypervisor) enum Wiring {
    Qemu,
    CloudHypervisor,
    Firecracker,
}

/// The supervisor's ends, all of them non-blocking.
#[derive(Debug)]
pub(super) struct Wires {
    /// Output of the guest's console; `None` once it is closed.
    pub(super) output: Option<OwnedFd>,
    /// Input of the guest's console.
    pub(super) input: OwnedFd,
    /// The VMM's events; `None` if it has none, or once it is closed.
    pub(super) events: Option<OwnedFd>,
    /// The VMM's log; `None` once it is closed.
    pub(super) log: Option<OwnedFd>,
}

/// The VMM's ends, which it inherits. Dropped once it has them.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) stdin: Stdio,
    pub(super) stdout: Stdio,
    pub(super) stderr: Stdio,
    pub(super) handed_down: Vec<OwnedFd>,
}

/// The two ends of a console.
struct Console {
    output: OwnedFd,
    input: OwnedFd,
    stdin: Stdio,
    stdout: Stdio,
    handed_down: Option<OwnedFd>,
}

/// Makes the wires of one launch.
pub(super) fn lay(
    wiring: Wiring,
    run: &Path,
    locks: &[OwnedFd],
    agent: bool,
) -> io::Result<(Wires, Ends)> {
    let (log, log_end) = io::pipe()?;
    let console = match wiring {
        Wiring::Qemu => socket_console(&log_end)?,
        Wiring::CloudHypervisor => terminal_console()?,
        Wiring::Firecracker => pipe_console()?,
    };
    let mut handed_down = vec![hand_down(log_end.as_fd(), LOG_FD)?];
    handed_down.extend(console.handed_down);
    let events = match wiring {
        Wiring::Qemu => {
            let (events, end) = UnixStream::pair()?;
            handed_down.push(hand_down(end.as_fd(), EVENTS_FD)?);
            Some(OwnedFd::from(events))
        }
        Wiring::CloudHypervisor => {
            let (events, end) = io::pipe()?;
            handed_down.push(hand_down(end.as_fd(), EVENTS_FD)?);
            Some(events.into())
        }
        Wiring::Firecracker => None,
    };
    if wiring != Wiring::Firecracker {
        let control = UnixListener::bind(files::control(run))?;
        handed_down.push(hand_down(control.as_fd(), CONTROL_FD)?);
    }
    if agent && wiring == Wiring::Qemu {
        let agent = UnixListener::bind(files::agent(run))?;
        handed_down.push(hand_down(agent.as_fd(), AGENT_FD)?);
    }
    for (lock, number) in locks.iter().zip(LOCKS_FD..) {
        handed_down.push(hand_down(lock.as_fd(), number)?);
    }
    let ends =
        Ends { stdin: console.stdin, stdout: console.stdout, stderr: log_end.into(), handed_down };
    let wires =
        Wires { output: Some(console.output), input: console.input, events, log: Some(log.into()) };
    let ours =
        [wires.output.as_ref(), Some(&wires.input), wires.events.as_ref(), wires.log.as_ref()];
    for end in ours.into_iter().flatten() {
        fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
    }
    Ok((wires, ends))
}

/// A console over one socket for both directions, inherited beside standard input and output.
fn socket_console(log: &io::PipeWriter) -> io::Result<Console> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok(Console {
        input: ours.try_clone()?.into(),
        output: ours.into(),
        stdin: Stdio::null(),
        stdout: log.try_clone()?.into(),
        handed_down: Some(hand_down(theirs.as_fd(), CONSOLE_FD)?),
    })
}

fn pipe_console() -> io::Result<Console> {
    let (output, stdout) = io::pipe()?;
    let (stdin, input) = io::pipe()?;
    Ok(Console {
        output: output.into(),
        input: input.into(),
        stdin: stdin.into(),
        stdout: stdout.into(),
        handed_down: None,
    })
}

/// A console over a terminal: the only kind from which Cloud Hypervisor takes input and that
/// survives a guest's reset. Opened once for each direction, because the VMM makes its input
/// non-blocking, and its output must block.
fn terminal_console() -> io::Result<Console> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    let stdin = ioctl_tiocgptpeer(&ours, flags)?;
    let stdout = ioctl_tiocgptpeer(&ours, flags)?;
    Ok(Console {
        input: ours.try_clone()?,
        output: ours,
        stdin: stdin.into(),
        stdout: stdout.into(),
        handed_down: None,
    })
}

/// Duplicates `source` to this number, for the child to inherit.
fn hand_down(source: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    let copy = fcntl_dupfd_cloexec(source, number)?;
    if copy.as_raw_fd() != number {
        return Err(io::Error::other(format!("descriptor {number} is in use")));
    }
    fcntl_setfd(&copy, FdFlags::empty())?;
    Ok(copy)
}
