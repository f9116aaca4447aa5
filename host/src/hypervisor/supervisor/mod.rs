//! The small process of ours that is the parent of one VMM.
//!
//! It outlives the daemon, in a session of its own. It writes down what only a parent can know, at the moment it happens: what the guest
//! says on its console, and when and how the VMM ended. It takes no orders: the daemon controls the VMM directly. If a supervisor is
//! killed, its VMM goes on without a console log. A service manager must be told to leave it alone when it restarts the daemon (systemd:
//! `KillMode=process`).
//!
//! It is one thread around one `poll`, and starts before any async runtime.

mod console;
mod identity;
mod lines;
mod monitor;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open, setsid};
use serde::{Deserialize, Serialize};

use self::console::Console;
use self::monitor::Monitor;
use super::events::Log;
use super::{Exit, ExitStatus, HypervisorError, Observed, Stamp, files};

pub(super) use identity::Identity;

/// The word after the program's name that makes it a supervisor; the folder of the launch follows.
pub const SUBCOMMAND: &str = "supervise";

/// The descriptor on which the VMM finds the guest's console: a connected socket, both directions.
pub(super) const CONSOLE_FD: i32 = 100;
/// The descriptor of a connected socket on which the VMM reports its events.
pub(super) const EVENTS_FD: i32 = 101;
/// The descriptor of the listening socket on which the VMM takes control calls.
pub(super) const CONTROL_FD: i32 = 102;

/// Chunks that are read from one socket before the others get their turn: a flooded console must not hide the end of the VMM.
const CHUNKS_AT_ONCE_MAX: usize = 16;

/// Seconds for which a supervisor tries to write the end of its VMM to a full disk.
const FULL_DISK_S_MAX: u32 = 3_600;

/// `launch.json`: what a supervisor is to run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The instance's folder.
    pub(super) dir: PathBuf,
    /// The VMM.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) args: Vec<String>,
    /// What whoever drives the VMM wants to know again when it is adopted. Means nothing to a supervisor.
    pub(super) kept: serde_json::Value,
}

impl Order {
    pub(super) fn read(run: &Path) -> Result<Self, HypervisorError> {
        let path = files::order(run);
        let text = fs::read(&path).map_err(HypervisorError::file("read", &path))?;
        serde_json::from_slice(&text).map_err(io::Error::from).map_err(HypervisorError::file("parse", &path))
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&self, run: &Path) -> Result<(), HypervisorError> {
        let path = files::order(run);
        let aside = path.with_extension("new");
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside);
        let written = file.and_then(|file| {
            serde_json::to_writer(&file, self)?;
            file.sync_all()?;
            fs::rename(&aside, &path)
        });
        written.map_err(HypervisorError::file("write", &path))
    }
}

/// Runs one VMM until it ends, as `launch.json` in the folder `run` says. To be called before any thread or async runtime exists.
pub fn supervise(run: &Path) -> ExitCode {
    match run_to_the_end(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the VMM's log.
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            eprintln!("{error}{cause}");
            ExitCode::FAILURE
        }
    }
}

fn run_to_the_end(run: &Path) -> Result<(), HypervisorError> {
    // Fails only for the leader of a process group, which then is no target for the daemon's signals either.
    let _ = setsid();
    let _lock = lock(run)?;
    let order = Order::read(run)?;
    let mut supervised = Supervised::start(run, &order)?;
    let exit = supervised.watch().map_err(HypervisorError::file("poll", run))?;
    // The last act: the next launch may begin as soon as this one's end is known.
    supervised.record(exit).map_err(HypervisorError::file("write", files::events(run)))
}

/// Held as long as this supervisor lives; whoever gets it knows that there is none.
fn lock(run: &Path) -> Result<File, HypervisorError> {
    let path = files::lock(run);
    let file = File::create(&path).map_err(HypervisorError::file("create", &path))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(io::Error::from)
        .map_err(HypervisorError::file("lock", &path))?;
    Ok(file)
}

struct Supervised {
    vmm: Child,
    pidfd: OwnedFd,
    console: Console,
    console_socket: Option<UnixStream>,
    console_input: File,
    monitor: Monitor,
    monitor_socket: Option<UnixStream>,
    events: Log,
}

impl Supervised {
    fn start(run: &Path, order: &Order) -> Result<Self, HypervisorError> {
        let events = files::events(run);
        let events = Log::create(&events).map_err(HypervisorError::file("create", &events))?;
        let console = Console::open(&order.dir).map_err(HypervisorError::file("open", &order.dir))?;
        let input = files::console_input(&order.dir);
        let console_input = open_input(&input).map_err(HypervisorError::file("create", &input))?;
        let (console_socket, console_end) = pair(run)?;
        let (monitor_socket, monitor_end) = pair(run)?;
        let control = files::control(run);
        let control = UnixListener::bind(&control).map_err(HypervisorError::file("listen on", &control))?;

        let handed_down = [
            hand_down(console_end.as_fd(), CONSOLE_FD),
            hand_down(monitor_end.as_fd(), EVENTS_FD),
            hand_down(control.as_fd(), CONTROL_FD),
        ];
        let handed_down =
            handed_down.into_iter().collect::<io::Result<Vec<_>>>().map_err(HypervisorError::file("prepare", run))?;
        let mut vmm = spawn(order)?;
        drop((handed_down, console_end, monitor_end, control));
        let pidfd = match write_down(run, &vmm) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                // A VMM that nobody could find again must not stay.
                let _ = vmm.kill().and_then(|()| vmm.wait());
                return Err(HypervisorError::file("identify the VMM in", run)(error));
            }
        };
        let monitor = Monitor::greet(&monitor_socket);
        Ok(Self {
            vmm,
            pidfd,
            console,
            console_socket: Some(console_socket),
            console_input,
            monitor,
            monitor_socket: Some(monitor_socket),
            events,
        })
    }

    /// Reads what comes until the VMM has ended, and everything that it said before.
    fn watch(&mut self) -> io::Result<Exit> {
        while !self.wait()? {
            self.read(CHUNKS_AT_ONCE_MAX);
        }
        let stamp = Stamp::now();
        let status = self.vmm.wait()?;
        self.read(usize::MAX);
        self.console.finish(stamp, &mut self.events);
        let status = match (status.code(), status.signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(signal)) => ExitStatus::Signal(signal),
            (None, None) => ExitStatus::Unknown,
        };
        Ok(Exit { stamp, status, initiator: self.monitor.initiator(), witnessed: true })
    }

    /// Waits until there is something to do; true once the VMM has ended.
    fn wait(&self) -> io::Result<bool> {
        let pidfd = self.pidfd.as_fd();
        let sockets = [&self.console_socket, &self.monitor_socket];
        let sources = sockets.into_iter().flatten().map(AsFd::as_fd).chain([self.console_input.as_fd(), pidfd]);
        let mut polled: Vec<_> = sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)).collect();
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(polled.last().is_some_and(|pidfd| !pidfd.revents().is_empty()))
    }

    /// Takes what is there, without waiting.
    fn read(&mut self, chunks_max: usize) {
        let (console, events) = (&mut self.console, &mut self.events);
        drain(&mut self.console_socket, chunks_max, |bytes| console.take(bytes, events));
        let monitor = &mut self.monitor;
        drain(&mut self.monitor_socket, chunks_max, |bytes| monitor.take(bytes));
        self.forward_input();
    }

    /// Passes input on. What the guest does not take in time is dropped: a guest that does not listen can't hold us up.
    fn forward_input(&mut self) {
        let mut bytes = [0; 4096];
        if let (Ok(n @ 1..), Some(socket)) = (self.console_input.read(&mut bytes), &mut self.console_socket) {
            let _ = io::Write::write(socket, &bytes[..n]);
        }
    }

    /// Writes the end down. A disk that is full now may have room again soon, and nobody else knows the true time.
    fn record(&mut self, exit: Exit) -> io::Result<()> {
        for _ in 0..FULL_DISK_S_MAX {
            match self.events.append(Observed::Exited(exit.clone())) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => std::thread::sleep(Duration::from_secs(1)),
                done => return done,
            }
        }
        self.events.append(Observed::Exited(exit))
    }
}

/// Makes the VMM known to every daemon to come, and opens it for ourselves.
fn write_down(run: &Path, vmm: &Child) -> io::Result<OwnedFd> {
    Identity::of_child(vmm.id())?.write(run)?;
    let pid = i32::try_from(vmm.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Hands on what `socket` holds now, and closes it at its end.
fn drain(socket: &mut Option<UnixStream>, chunks_max: usize, mut take: impl FnMut(&[u8])) {
    let mut bytes = [0; 64 << 10];
    for _ in 0..chunks_max {
        let Some(open) = socket else { return };
        match open.read(&mut bytes) {
            Ok(0) => *socket = None,
            Ok(n) => take(&bytes[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => *socket = None,
        }
    }
}

fn pair(run: &Path) -> Result<(UnixStream, UnixStream), HypervisorError> {
    let pair = UnixStream::pair().and_then(|(ours, theirs)| ours.set_nonblocking(true).map(|()| (ours, theirs)));
    pair.map_err(HypervisorError::file("create sockets for", run))
}

/// A FIFO that never ends, because we hold its writing end too.
fn open_input(path: &Path) -> io::Result<File> {
    let _ = fs::remove_file(path);
    rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RUSR | Mode::WUSR)?;
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path)
}

/// A copy of `source` with this number, for the child to inherit.
fn hand_down(source: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
    let copy = fcntl_dupfd_cloexec(source, number)?;
    if copy.as_raw_fd() != number {
        return Err(io::Error::other(format!("descriptor {number} is in use")));
    }
    fcntl_setfd(&copy, FdFlags::empty())?;
    Ok(copy)
}

fn spawn(order: &Order) -> Result<Child, HypervisorError> {
    let log = files::vmm_log(&order.dir);
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
    let (out, err) = open().and_then(|out| Ok((out, open()?))).map_err(HypervisorError::file("open", &log))?;
    Command::new(&order.program)
        .args(&order.args)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(HypervisorError::file("run", &order.program))
}
