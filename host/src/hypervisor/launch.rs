//! Launches and finds supervisors and their VMMs, whatever the VMM is.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::disks;
use super::events::Tail;
use super::follow::{Followed, follow};
use super::process::Process;
use super::spare::Supervisors;
use super::supervisor::{Identity, Order, Wiring};
use super::watch::{Changes, Folders};
use super::{Adopted, Exit, ExitStatus, HypervisorError, Launched, MachineSpec, Observed, Vm, VmState, files};
use crate::billing::BootId;
use crate::clock;
use crate::limits::instance::{CONTROL_MS_MAX, LAUNCH_MS_MAX, SOCKET_PATH_BYTES_MAX};

/// What is shown of a VMM's log when it fails, in bytes.
const LOG_TAIL_BYTES: u64 = 2_048;

/// Launches machines, and finds them again.
pub(super) struct Launcher {
    supervisors: Supervisors,
    folders: Folders,
}

/// What a supervisor is to run.
pub(super) struct Program<'a> {
    pub(super) path: &'a Path,
    pub(super) args: Vec<String>,
    pub(super) wiring: Wiring,
}

/// A VMM that runs, and its supervisor.
pub(super) struct Started {
    pub(super) vmm: Arc<Process>,
    pub(super) supervisor_pid: u32,
    pub(super) observed: mpsc::Receiver<Observed>,
    log: LogTail,
}

/// What is left of an earlier launch.
pub(super) enum Found {
    Alive(Started),
    Exited { boot: BootId, history: Vec<Observed>, exit: Exit },
    Lost { boot: BootId, history: Vec<Observed> },
    NeverLaunched,
}

impl Launcher {
    pub(super) fn new(supervisor: PathBuf) -> Result<Self, HypervisorError> {
        let folders = Folders::new().map_err(HypervisorError::file("watch", "/"))?;
        Ok(Self { supervisors: Supervisors::new(supervisor), folders })
    }

    /// Starts a supervisor that runs `program`. Returns when both processes are known.
    pub(super) async fn start(
        &self,
        spec: &MachineSpec,
        program: Program<'_>,
        kept: &impl Serialize,
    ) -> Result<Started, HypervisorError> {
        let run = prepare(spec)?;
        let kept =
            serde_json::to_value(kept).map_err(io::Error::from).map_err(HypervisorError::file("describe", &run))?;
        let Program { path, args, wiring } = program;
        let (dir, disks) = (spec.dir.clone(), spec.disks.clone());
        let order = Order { dir, program: path.into(), args, wiring, disks, kept };
        order.write(&run)?;
        let mut changes = self.watch(&run)?;
        let log = LogTail::here(&spec.dir);
        let spawn = self.spawn(&run, &mut changes, &log);
        let identity = within(LAUNCH_MS_MAX, "the supervisor", spawn).await?;
        self.supervisors.replace();
        match hold(&identity)? {
            Some(held) => Ok(held.follow(&run, changes, log)),
            None => Err(ended_at_once(&run, &identity, &log).await),
        }
    }

    async fn spawn(&self, run: &Path, changes: &mut Changes, log: &LogTail) -> Result<Identity, HypervisorError> {
        let mut child = self.supervisors.send(run)?;
        // It outlives us, or is reaped here.
        let mut ended = tokio::spawn(async move { child.wait().await });
        loop {
            if let Some(identity) = read_identity(run)? {
                return Ok(identity);
            }
            tokio::select! {
                () = changes.next() => {}
                // It may have written its identity right before.
                status = &mut ended => {
                    let status = status.map_err(io::Error::other).and_then(|status| status);
                    let status = status.map_or_else(|error| error.to_string(), |status| format!("its supervisor: {status}"));
                    return read_identity(run)?.ok_or_else(|| HypervisorError::Launch { status, log: log.read() });
                }
            }
        }
    }

    /// Looks for the launch `spec.incarnation`.
    pub(super) async fn find(&self, spec: &MachineSpec) -> Result<Found, HypervisorError> {
        let run = files::run(&spec.dir, spec.incarnation);
        if !files::order(&run).exists() {
            return Ok(Found::NeverLaunched);
        }
        let Some(identity) = await_identity(&run).await? else {
            return Ok(Found::NeverLaunched);
        };
        let boot = clock::boot_id()
            .map_err(|error| HypervisorError::Unavailable { program: "the clock".into(), reason: error.to_string() })?;
        if *identity.boot == *boot.0 {
            let changes = self.watch(&run)?;
            if let Some(held) = hold(&identity)? {
                return Ok(Found::Alive(held.follow(&run, changes, LogTail::here(&spec.dir))));
            }
            await_supervisor(&identity).await?;
        }
        read_history(&run, BootId(identity.boot.as_str().into()))
    }

    /// Ends the VMM of the launch `spec.incarnation` by force, known by its identity alone; does nothing if it has ended.
    pub(super) async fn end(&self, spec: &MachineSpec) -> Result<(), HypervisorError> {
        match self.find(spec).await? {
            Found::Alive(started) => {
                started.vmm.kill()?;
                within(CONTROL_MS_MAX, "kill", started.vmm.ended().map(Ok)).await
            }
            Found::Exited { .. } | Found::Lost { .. } | Found::NeverLaunched => Ok(()),
        }
    }

    /// What was kept for whoever adopts the launch `spec.incarnation`.
    pub(super) fn kept<T: DeserializeOwned>(&self, spec: &MachineSpec) -> Result<T, HypervisorError> {
        let run = files::run(&spec.dir, spec.incarnation);
        let kept = serde_json::from_value(Order::read(&run)?.kept);
        kept.map_err(io::Error::from).map_err(HypervisorError::file("parse", files::order(&run)))
    }

    fn watch(&self, run: &Path) -> Result<Changes, HypervisorError> {
        self.folders.watch(run).map_err(HypervisorError::file("watch", run))
    }
}

impl Started {
    /// The machine, once `control` of it is there; otherwise its end.
    pub(super) async fn under<V: Vm + 'static>(
        self,
        control: Result<V, HypervisorError>,
    ) -> Result<Launched, HypervisorError> {
        match control {
            Ok(vm) => Ok(self.launched(vm)),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    fn launched<V: Vm + 'static>(self, vm: V) -> Launched {
        Launched { pid: self.vmm.pid(), vm: Arc::new(vm), observed: self.observed }
    }

    /// Ends a VMM that can't be used and says how it ended.
    async fn give_up(mut self, error: HypervisorError) -> HypervisorError {
        let hung_up = matches!(error, HypervisorError::Disconnected { .. });
        if hung_up {
            // It is exiting, most likely, and its own status says more than our signal would.
            let _ = timeout(Duration::from_millis(CONTROL_MS_MAX), self.vmm.ended()).await;
        }
        if let Err(error) = self.vmm.kill() {
            return error;
        }
        let status = timeout(Duration::from_millis(2 * CONTROL_MS_MAX), self.exit_status()).await;
        match status {
            Ok(Some(status)) if hung_up => HypervisorError::Launch { status, log: self.log.read() },
            Ok(_) | Err(_) => error,
        }
    }

    async fn exit_status(&mut self) -> Option<String> {
        loop {
            let observed = self.observed.recv().await?;
            if let Some(status) = describe_exit(&observed) {
                return Some(status);
            }
        }
    }
}

impl Found {
    /// What was found, once `control` of what lives is there.
    pub(super) async fn adopted<V: Vm + 'static>(
        self,
        control: impl AsyncFnOnce(&Started) -> Result<V, HypervisorError>,
    ) -> Result<Adopted, HypervisorError> {
        Ok(match self {
            Found::NeverLaunched => Adopted::NeverLaunched,
            Found::Lost { boot, history } => Adopted::Lost { boot, history },
            Found::Exited { boot, history, exit } => Adopted::Exited { boot, history, exit },
            Found::Alive(started) => {
                let vm = control(&started).await?;
                let state: VmState = vm.state().await?;
                Adopted::Alive { launched: started.launched(vm), state }
            }
        })
    }
}

/// The outcome of `work`, or that it took too long.
pub(super) async fn within<T>(
    ms: u64,
    call: &'static str,
    work: impl Future<Output = Result<T, HypervisorError>>,
) -> Result<T, HypervisorError> {
    timeout(Duration::from_millis(ms), work).await.unwrap_or(Err(HypervisorError::Deadline { call, ms }))
}

/// Why a VMM has ended before we could even take hold of it.
async fn ended_at_once(run: &Path, identity: &Identity, log: &LogTail) -> HypervisorError {
    if let Err(error) = await_supervisor(identity).await {
        return error;
    }
    let seen = Tail::new(files::events(run)).read().unwrap_or_default();
    let status = seen.iter().rev().find_map(describe_exit).unwrap_or_else(|| ExitStatus::Unknown.to_string());
    HypervisorError::Launch { status, log: log.read() }
}

/// Both processes of a launch.
struct Held {
    vmm: Process,
    supervisor: Option<Process>,
    supervisor_pid: u32,
}

impl Held {
    fn follow(self, run: &Path, changes: Changes, log: LogTail) -> Started {
        let vmm = Arc::new(self.vmm);
        let tail = Tail::new(files::events(run));
        let observed = follow(Followed { tail, changes, vmm: vmm.clone(), supervisor: self.supervisor });
        Started { vmm, supervisor_pid: self.supervisor_pid, observed, log }
    }
}

/// Takes hold of a launch's processes; none if the VMM has ended.
fn hold(identity: &Identity) -> Result<Option<Held>, HypervisorError> {
    let open = |id| Process::open(id).map_err(HypervisorError::file("look at", "/proc"));
    let Some(vmm) = open(identity.vmm)? else {
        return Ok(None);
    };
    let supervisor = open(identity.supervisor)?;
    Ok(Some(Held { vmm, supervisor, supervisor_pid: identity.supervisor.pid }))
}

/// The folder of a launch, new, where nobody listens, with a link to each disk. No other machine uses the disks: that is for the supervisor to see to,
/// but here it can be said in so many words.
fn prepare(spec: &MachineSpec) -> Result<PathBuf, HypervisorError> {
    let run = files::run(&spec.dir, spec.incarnation);
    for socket in [files::control(&run), files::transfer(&run)] {
        check_socket_path(&socket)?;
        refuse_live_socket(&socket)?;
    }
    if files::is_used(&spec.dir, spec.incarnation) {
        let reason = format!("{} was used before; count on", run.display());
        return Err(HypervisorError::Spec { what: "this incarnation", reason });
    }
    for disk in &spec.disks {
        disks::lock(disk)?;
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&run).map_err(HypervisorError::file("create", &run))?;
    for (n, disk) in spec.disks.iter().enumerate() {
        link(&disk.path, &run.join(files::disk(n)))?;
    }
    Ok(run)
}

/// Makes a link to `path`, instead of what an order that was never carried out may have left.
fn link(path: &Path, at: &Path) -> Result<(), HypervisorError> {
    let path = std::path::absolute(path).map_err(HypervisorError::file("resolve", path))?;
    let _ = fs::remove_file(at);
    symlink(path, at).map_err(HypervisorError::file("create", at))
}

fn check_socket_path(socket: &Path) -> Result<(), HypervisorError> {
    let len = socket.as_os_str().as_bytes().len();
    if len > SOCKET_PATH_BYTES_MAX {
        return Err(HypervisorError::SocketPathTooLong { path: socket.into(), len, max: SOCKET_PATH_BYTES_MAX });
    }
    Ok(())
}

/// Removes a socket that nobody answers on.
fn refuse_live_socket(socket: &Path) -> Result<(), HypervisorError> {
    if UnixStream::connect(socket).is_ok() {
        return Err(HypervisorError::SocketInUse { path: socket.into() });
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HypervisorError::file("remove", socket)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read_identity(run: &Path) -> Result<Option<Identity>, HypervisorError> {
    Identity::read(run).map_err(HypervisorError::file("read", files::identity(run)))
}

/// The identity that an earlier daemon's launch has written or is about to write. If there is none and nobody who will write it, the
/// order is withdrawn, so that no supervisor can come later.
async fn await_identity(run: &Path) -> Result<Option<Identity>, HypervisorError> {
    let lock = files::lock(run);
    let lock = File::create(&lock).map_err(HypervisorError::file("open", &lock))?;
    let wait = async {
        loop {
            let free = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if let Some(identity) = read_identity(run)? {
                return Ok(Some(identity));
            }
            if free {
                end_orphan(run).await?;
                let order = files::order(run);
                fs::remove_file(&order).map_err(HypervisorError::file("remove", &order))?;
                return Ok(None);
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(CONTROL_MS_MAX, "the supervisor", wait).await
}

/// Ends a VMM whose supervisor was killed before it could write down that it had started it: it stands in the folder of the launch. Its vCPUs
/// never ran.
async fn end_orphan(run: &Path) -> Result<(), HypervisorError> {
    for orphan in Process::standing_in(run).map_err(HypervisorError::file("look for processes in", run))? {
        orphan.kill()?;
        orphan.ended().await;
    }
    Ok(())
}

/// The VMM is gone; its supervisor may be about to say so.
async fn await_supervisor(identity: &Identity) -> Result<(), HypervisorError> {
    let supervisor = Process::open(identity.supervisor).map_err(HypervisorError::file("look at", "/proc"))?;
    if let Some(supervisor) = supervisor {
        within(CONTROL_MS_MAX, "the supervisor", supervisor.ended().map(Ok)).await?;
    }
    Ok(())
}

fn read_history(run: &Path, boot: BootId) -> Result<Found, HypervisorError> {
    let events = files::events(run);
    let mut history = Tail::new(events.clone()).read().map_err(HypervisorError::file("read", events))?;
    Ok(match history.pop() {
        Some(Observed::Exited(exit)) => Found::Exited { boot, history, exit },
        Some(other) => {
            history.push(other);
            Found::Lost { boot, history }
        }
        None => Found::Lost { boot, history },
    })
}

fn describe_exit(observed: &Observed) -> Option<String> {
    match observed {
        Observed::Exited(exit) => Some(exit.status.to_string()),
        Observed::ProgramStarted(_) | Observed::AgentReady(_) | Observed::ProgramExited { .. } => None,
    }
}

/// The VMM's log from here on.
struct LogTail {
    path: PathBuf,
    from: u64,
}

impl LogTail {
    fn here(dir: &Path) -> Self {
        let path = files::vmm_log(dir);
        let from = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Self { path, from }
    }

    /// Its end, on one line.
    fn read(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            let len = file.metadata()?.len();
            // It was full and begun anew if it is shorter than it was.
            let from = if len < self.from { 0 } else { self.from };
            file.seek(SeekFrom::Start(from.max(len.saturating_sub(LOG_TAIL_BYTES))))?;
            file.read_to_end(&mut text)
        });
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match read {
            Ok(_) if lines.is_empty() => "(nothing)".into(),
            Ok(_) => lines.join("; "),
            Err(error) => format!("({error})"),
        }
    }
}
