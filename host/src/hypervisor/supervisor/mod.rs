//! The supervisor: a small process of this program that is the parent of one VMM.
//!
//! A supervisor outlives the daemon, in a session of its own. It records what only a parent can
//! know, at the moment it happens: the output of the guest's console, and the instant and status of
//! the VMM's end. It takes no commands: the daemon controls the VMM directly. If a supervisor is
//! killed, its VMM goes on without a console log. A service manager must not kill supervisors when
//! it restarts the daemon (systemd: `KillMode=process`).
//!
//! A supervisor is one thread around one `poll`, and starts before any async runtime.

mod bounded;
mod complain;
mod confine;
mod console;
mod environment;
mod identity;
mod lines;
mod monitor;
mod order;
pub(super) mod traffic;
mod user;
mod wiring;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, setsid, umask};
use rustix::stdio::dup2_stderr;

use self::bounded::BoundedLog;
use self::console::Console;
use self::monitor::Monitor;
use self::wiring::{Ends, Wires};
use super::disks;
use super::events::Log;
use super::{Exit, ExitStatus, HypervisorError, Initiator, Observed, Stamp, files};
use crate::limits::instance::VMM_LOG_BYTES_MAX;
use crate::network::{self, Counters};
use complain::complain;

pub use confine::{Confinement, confinement};
pub(super) use environment::inherited;
pub(super) use identity::Identity;
pub(super) use order::{LaunchOrder, Program};
pub use user::VmmUser;
pub(super) use wiring::{AGENT_FD, CONSOLE_FD, CONTROL_FD, EVENTS_FD, LOG_FD, Wiring};

/// Hands bytes to the parsers of all virtual machine monitors' events and logs. Returns whether one
/// of them knows their meaning.
pub(super) fn hears(bytes: &[u8]) -> bool {
    let mut is_heard = false;
    for wiring in [Wiring::Qemu, Wiring::CloudHypervisor, Wiring::Firecracker] {
        let mut monitor = Monitor::new(wiring);
        monitor.take_events(bytes, |_| is_heard = true);
        monitor.take_log(bytes);
        is_heard |= monitor.initiator(ExitStatus::Code(1)) != Initiator::Unknown;
    }
    is_heard
}

/// First argument of the program that makes it a supervisor.
pub const SUBCOMMAND: &str = "supervise";

/// Most bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Most chunks read from one wire before the others: a flooded console must not delay the end of
/// the VMM.
const CHUNKS_AT_ONCE_MAX: usize = 16;

/// Pause after output of the console before it is read again: a serial port delivers one byte at a
/// time, and a wake-up for each would cost more than the guest does. Delays a marker by at most as
/// much.
const GATHER: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Interval at which output that could not be written is tried again. Delays the record of markers
/// by at most as much.
const RETRY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Like [`RETRY`], once the VMM has ended.
const RETRY_AFTER_END: Duration = Duration::from_secs(1);

/// Reads the folder of a launch from standard input, up to its end, and runs one VMM by the
/// `launch.json` there until it ends. Does nothing if the input is empty. To be called before any
/// thread or async runtime exists.
pub fn supervise() -> ExitCode {
    // Fails only for the leader of a process group, which does not get the signals to the daemon's
    // group either.
    let _ = setsid();
    match await_launch().and_then(|run| run.as_deref().map_or(Ok(()), run_to_the_end)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Goes to the VMM's log, once that is known.
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            complain(&format!("{error}{cause}"));
            ExitCode::FAILURE
        }
    }
}

fn run_to_the_end(run: &Path) -> Result<(), HypervisorError> {
    // What the VMM writes is its own, too.
    umask(Mode::RWXG | Mode::RWXO);
    let instance = files::of_run(run);
    complain_to(&files::vmm_log(instance))?;
    // A supervisor without a record is found by its working folder.
    std::env::set_current_dir(instance).map_err(HypervisorError::file("enter", instance))?;
    let _lock = lock(run)?;
    network::keep_privileges().map_err(HypervisorError::file("keep the privileges of", run))?;
    let order = LaunchOrder::read(run)?;
    let counters = order.namespace.as_deref().map(enter_network).transpose()?;
    let mut supervised = Supervised::start(run, &order)?;
    let exit = supervised.watch().map_err(HypervisorError::file("poll", run))?;
    if let Some(counters) = counters {
        traffic::write(run, &counters);
    }
    // Must come last: the next launch may begin as soon as this one's end is recorded.
    supervised.record(exit, run);
    Ok(())
}

/// Enters the network of a launch, and opens what counts its traffic.
fn enter_network(namespace: &Path) -> Result<Counters, HypervisorError> {
    network::enter(namespace).map_err(HypervisorError::file("enter", namespace))?;
    Counters::open().map_err(io::Error::other).map_err(HypervisorError::file("look at", namespace))
}

/// Reads the folder of this process's launch from standard input; `None` if the input is empty.
fn await_launch() -> Result<Option<PathBuf>, HypervisorError> {
    let mut run = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut run)
        .map_err(HypervisorError::file("read", "standard input"))?;
    Ok((!run.is_empty()).then(|| OsString::from_vec(run).into()))
}

/// Redirects standard error to the file at `log`.
fn complain_to(log: &Path) -> Result<(), HypervisorError> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    let instead = file.and_then(|file| Ok(dup2_stderr(file)?));
    instead.map_err(HypervisorError::file("open", log))
}

/// Takes the lock of a launch, which is held until this supervisor ends, however it ends.
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
    wires: Wires,
    console: Console,
    /// True if the last read of the console had output; more may follow.
    console_spoke: bool,
    buffer: Vec<u8>,
    console_input: File,
    monitor: Monitor,
    log: BoundedLog,
    events: Log,
}

impl Supervised {
    fn start(run: &Path, order: &LaunchOrder) -> Result<Self, HypervisorError> {
        let path = files::events(run);
        let mut events = Log::create(&path).map_err(HypervisorError::file("create", &path))?;
        let console =
            Console::open(&order.dir).map_err(HypervisorError::file("open", &order.dir))?;
        let log = files::vmm_log(&order.dir);
        let log =
            BoundedLog::open(log.clone(), files::vmm_log_older(&order.dir), VMM_LOG_BYTES_MAX)
                .map_err(HypervisorError::file("open", log))?;
        let input = files::console_input(&order.dir);
        let console_input = open_input(&input).map_err(HypervisorError::file("create", &input))?;
        // The VMM inherits the locks, so they hold until it has ended, even without this process.
        let locks = order.disks.iter().map(disks::lock).collect::<Result<Vec<_>, _>>()?;
        let (wires, ends) = wiring::lay(order.wiring, run, &locks, order.agent)
            .map_err(HypervisorError::file("wire", run))?;
        let mut vmm = spawn(run, order, ends)?;
        let pidfd = match write_down(run, &vmm) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                // A VMM without an identity could not be found again.
                let _ = vmm.kill().and_then(|()| vmm.wait());
                return Err(HypervisorError::file("identify the VMM in", run)(error));
            }
        };
        let monitor = Monitor::new(order.wiring);
        // On error the log writes it later.
        let _ = events.append(Observed::Launched(Stamp::now()));
        if let Some(events) = &wires.events {
            // Fails only if the VMM has ended already.
            let _ = rustix::io::write(events, monitor.greeting());
        }
        let buffer = vec![0; CHUNK_BYTES];
        Ok(Self {
            vmm,
            pidfd,
            wires,
            console,
            console_spoke: false,
            buffer,
            console_input,
            monitor,
            log,
            events,
        })
    }

    /// Reads all wires until the VMM has ended, and then the rest of their content.
    fn watch(&mut self) -> io::Result<Exit> {
        while !self.wait()? {
            self.read(CHUNKS_AT_ONCE_MAX);
            self.catch_up();
            if self.monitor.must_end() {
                self.vmm.kill()?;
            }
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
        Ok(Exit { stamp, status, initiator: self.monitor.initiator(status), witnessed: true })
    }

    /// Waits until there is something to do. Returns true once the VMM has ended.
    fn wait(&self) -> io::Result<bool> {
        let console = self.wires.output.as_ref().filter(|_| !self.console_spoke);
        let wires = [&self.wires.events, &self.wires.log]
            .into_iter()
            .flatten()
            .chain(console)
            .map(AsFd::as_fd);
        let sources = wires.chain([self.console_input.as_fd(), self.pidfd.as_fd()]);
        let mut polled: Vec<_> =
            sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)).collect();
        let patience =
            if self.console_spoke { Some(&GATHER) } else { self.has_backlog().then_some(&RETRY) };
        match poll(&mut polled, patience) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(polled.last().is_some_and(|pidfd| !pidfd.revents().is_empty()))
    }

    /// Reads all wires without waiting, at most `chunks_max` chunks of each.
    fn read(&mut self, chunks_max: usize) {
        let wires = &mut self.wires;
        let monitor = &mut self.monitor;
        let console = &mut self.console;
        let events = &mut self.events;
        let log = &mut self.log;
        let buffer = &mut self.buffer;
        let spoke = &mut self.console_spoke;
        *spoke = false;
        drain(&mut wires.output, buffer, chunks_max, |bytes| {
            *spoke = true;
            console.take(bytes, events);
        });
        drain(&mut wires.events, buffer, chunks_max, |bytes| {
            let stamp = Stamp::now();
            monitor.take_events(bytes, |change| {
                // On error the log writes it later.
                let _ = events.append(change.at(stamp));
            });
        });
        drain(&mut wires.log, buffer, chunks_max, |bytes| {
            log.append(bytes);
            monitor.take_log(bytes);
        });
        self.forward_input();
    }

    /// Passes input to the guest's console. Bytes that the guest does not take at once are dropped:
    /// a guest that does not read must not block the supervisor.
    fn forward_input(&mut self) {
        let mut bytes = [0; 4096];
        if let Ok(n @ 1..) = self.console_input.read(&mut bytes) {
            let _ = rustix::io::write(&self.wires.input, &bytes[..n]);
        }
    }

    /// Returns whether output or events wait to be written.
    fn has_backlog(&self) -> bool {
        self.events.has_unwritten() || self.console.has_backlog() || self.log.has_backlog()
    }

    /// Writes as much of the waiting output and events as possible.
    fn catch_up(&mut self) {
        let _ = self.events.write();
        self.console.catch_up(Stamp::now(), &mut self.events);
        self.log.catch_up();
    }

    /// Records the end, however long that takes: a disk that is full or fails now may be repaired,
    /// and only this process knows the true instant. Gives up only if the folder of the launch was
    /// removed.
    fn record(&mut self, exit: Exit, run: &Path) {
        let mut recorded = self.events.append(Observed::Exited(exit));
        while self.events.has_unwritten() && run.exists() {
            if let Err(error) = &recorded {
                complain(&format!("can't record the end of the VMM; trying again: {error}"));
            }
            std::thread::sleep(RETRY_AFTER_END);
            recorded = self.events.write();
        }
        self.console.catch_up(Stamp::now(), &mut self.events);
        self.log.catch_up();
    }
}

/// Writes the launch's identity, by which every later daemon finds the VMM, and opens its pidfd.
fn write_down(run: &Path, vmm: &Child) -> io::Result<OwnedFd> {
    Identity::of_child(vmm.id())?.write(run)?;
    let pid =
        i32::try_from(vmm.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Reads what `wire` holds now through `buffer`, calls `take` with each chunk, and closes the wire
/// at its end.
fn drain(
    wire: &mut Option<OwnedFd>,
    buffer: &mut [u8],
    chunks_max: usize,
    mut take: impl FnMut(&[u8]),
) {
    for _ in 0..chunks_max {
        let Some(open) = wire else { return };
        match rustix::io::read(open, &mut *buffer) {
            Ok(0) => *wire = None,
            Ok(n) => take(&buffer[..n]),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return,
            Err(_) => *wire = None,
        }
    }
}

/// Makes and opens a FIFO, for writing too, so that it never ends.
fn open_input(path: &Path) -> io::Result<File> {
    let _ = fs::remove_file(path);
    rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RUSR | Mode::WUSR)?;
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path)
}

/// Starts the VMM in the folder of its launch, to which relative paths in its arguments refer.
fn spawn(run: &Path, order: &LaunchOrder, ends: Ends) -> Result<Child, HypervisorError> {
    let mut command = Command::new(&order.program);
    command
        .args(&order.args)
        .env_clear()
        .envs(environment::inherited())
        .current_dir(run)
        .stdin(ends.stdin)
        .stdout(ends.stdout)
        .stderr(ends.stderr);
    if let Some(user) = &order.user {
        confine::let_in(user, run, order)
            .map_err(HypervisorError::file("open to the user of VMMs", run))?;
        user.become_it(&mut command);
    }
    confine::confine(&mut command, run, order)
        .map_err(HypervisorError::file("confine", &order.program))?;
    let vmm = command.spawn();
    drop(ends.handed_down);
    vmm.map_err(HypervisorError::file("run", &order.program))
}
