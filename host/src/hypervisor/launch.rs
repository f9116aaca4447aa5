//! Launching and finding supervisors and their VMMs, for all vendors.

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
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::descriptors::Descriptors;
use super::disks;
use super::events::Tail;
use super::follow::{Followed, follow};
use super::pre_spawn::Supervisors;
use super::process::Process;
use super::snapshot::absent;
use super::supervisor::{Identity, LaunchOrder, Program, VmmUser};
use super::vcpus::{VcpuChanges, VcpuEvent};
use super::watch::{Changes, Folders};
use super::{
    AgentSocket, Exit, ExitStatus, HypervisorError, Launched, MachineSpec, Observed, Supervising,
    Vm, files,
};
use crate::billing::BootId;
use crate::clock;
use crate::limits::instance::{CONTROL_MS_MAX, LAUNCH_MS_MAX, SOCKET_PATH_BYTES_MAX};

/// Pause before another attempt to clear a failed launch away.
const WITHDRAW_RETRY: Duration = Duration::from_secs(1);

/// Most of a failed VMM's log that an error shows, in bytes.
const LOG_TAIL_BYTES: u64 = 2_048;

/// Launches machines, and finds them again.
pub(super) struct Launcher {
    supervisors: Supervisors,
    /// The user that VMMs run as; none for that of the daemon.
    user: Option<VmmUser>,
    folders: Folders,
    /// Longest time for a supervisor to start its VMM, in milliseconds.
    launch_ms_max: u64,
    /// Longest wait for a failed launch to be cleared away, in milliseconds; it goes on afterwards.
    withdraw_ms_max: u64,
}

/// A VMM that runs, and its supervisor.
pub(super) struct Started {
    pub(super) vmm: Arc<Process>,
    pub(super) supervisor_pid: u32,
    pub(super) observed: mpsc::Receiver<Observed>,
    /// The last change of its vCPUs.
    pub(super) vcpus: Arc<VcpuChanges>,
    log: LogTail,
    /// The folder of the launch.
    run: PathBuf,
}

/// Outcome of looking for an earlier launch.
pub(super) enum Found {
    Alive(Started),
    Exited { boot: BootId, history: Vec<Observed>, exit: Exit },
    Lost { boot: BootId, history: Vec<Observed> },
    NeverLaunched,
}

impl Launcher {
    pub(super) fn new(supervisor: Supervising) -> Result<Self, HypervisorError> {
        let folders = Folders::new().map_err(HypervisorError::file("watch", "/"))?;
        Ok(Self {
            supervisors: Supervisors::new(supervisor.program),
            user: supervisor.user,
            folders,
            launch_ms_max: LAUNCH_MS_MAX,
            withdraw_ms_max: CONTROL_MS_MAX,
        })
    }

    /// Starts a supervisor that runs `program`. Returns when both processes are known. On failure,
    /// or if the future is dropped, ends the processes that were started.
    pub(super) async fn start(
        &self,
        spec: &MachineSpec,
        program: Program<'_>,
        kept: &impl Serialize,
    ) -> Result<Started, HypervisorError> {
        let descriptors = Descriptors::take()?;
        let run = prepare(spec)?;
        let kept = serde_json::to_value(kept)
            .map_err(io::Error::from)
            .map_err(HypervisorError::file("describe", &run))?;
        let mut changes = self.watch(&run)?;
        let log = LogTail::here(&spec.dir);
        let mut order = Ordered::new(&run);
        let started =
            async {
                LaunchOrder::new(spec, program, self.user.clone(), kept).write(&run)?;
                let spawn = self.spawn(&mut order, &mut changes, &log);
                let identity = within(self.launch_ms_max, "the supervisor", spawn).await?;
                self.supervisors.refill();
                match hold(&identity)? {
                    Some(held) => Ok(held
                        .follow(&run, Following { changes, log, last_change: None, descriptors })),
                    None => Err(ended_at_once(&run, &identity, &log).await),
                }
            };
        let started = started.await;
        match &started {
            Ok(_) | Err(HypervisorError::Launch { .. }) => order.settle(),
            Err(_) => order.withdraw(self.withdraw_ms_max).await,
        }
        started
    }

    async fn spawn(
        &self,
        order: &mut Ordered,
        changes: &mut Changes,
        log: &LogTail,
    ) -> Result<Identity, HypervisorError> {
        let run = order.run.clone();
        let supervisor = order.supervisor.insert(self.supervisors.assign(&run)?);
        loop {
            if let Some(identity) = read_identity(&run)? {
                return Ok(identity);
            }
            tokio::select! {
                () = changes.next() => {}
                // The supervisor may have written the identity right before its end.
                status = supervisor.wait() => {
                    let status = status.map_or_else(
                        |error| error.to_string(),
                        |status| format!("its supervisor: {status}"),
                    );
                    let ended = || HypervisorError::Launch { status, log: log.read() };
                    return read_identity(&run)?.ok_or_else(ended);
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
        let boot = clock::boot_id().map_err(|error| HypervisorError::Unavailable {
            program: "the clock".into(),
            reason: error.to_string(),
        })?;
        if *identity.boot == *boot.0 {
            let changes = self.watch(&run)?;
            if let Some(held) = hold(&identity)? {
                let events = files::events(&run);
                let seen = Tail::new(events.clone())
                    .read()
                    .map_err(HypervisorError::file("read", events))?;
                let last_change = seen.iter().rev().find_map(VcpuEvent::of);
                let log = LogTail::here(&spec.dir);
                let descriptors = Descriptors::take_for_living();
                return Ok(Found::Alive(
                    held.follow(&run, Following { changes, log, last_change, descriptors }),
                ));
            }
            await_supervisor(&identity).await?;
        }
        read_history(&run, BootId(identity.boot.as_str().into()))
    }

    /// Ends the VMM of the launch `spec.incarnation` by force, found by its identity alone; does
    /// nothing if it has ended.
    pub(super) async fn end(&self, spec: &MachineSpec) -> Result<(), HypervisorError> {
        match self.find(spec).await? {
            Found::Alive(started) => {
                started.vmm.kill()?;
                within(CONTROL_MS_MAX, "kill", started.vmm.ended().map(Ok)).await
            }
            Found::Exited { .. } | Found::Lost { .. } | Found::NeverLaunched => Ok(()),
        }
    }

    /// Reads the vendor's state that was kept for the adoption of the launch `spec.incarnation`.
    pub(super) fn kept<T: DeserializeOwned>(
        &self,
        spec: &MachineSpec,
    ) -> Result<T, HypervisorError> {
        let run = files::run(&spec.dir, spec.incarnation);
        let kept = serde_json::from_value(LaunchOrder::read(&run)?.kept);
        kept.map_err(io::Error::from).map_err(HypervisorError::file("parse", files::order(&run)))
    }

    fn watch(&self, run: &Path) -> Result<Changes, HypervisorError> {
        self.folders.watch(run).map_err(HypervisorError::file("watch", run))
    }
}

impl Started {
    /// Returns the machine if `control` was established. Otherwise ends the VMM and returns the
    /// error.
    pub(super) async fn under<V: Vm + 'static>(
        self,
        control: Result<V, HypervisorError>,
    ) -> Result<Launched, HypervisorError> {
        match control {
            Ok(vm) => Ok(self.launched(vm)),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// The machine under this control.
    pub(super) fn launched<V: Vm + 'static>(self, vm: V) -> Launched {
        let Self { vmm, observed, run, .. } = self;
        // Made by the supervisor, or by the VMM as it was told of its devices.
        let port = Some(files::agent(&run)).filter(|socket| socket.exists());
        let vsock = Some(files::vsock(&run)).filter(|socket| socket.exists());
        let agent = port.map(AgentSocket::Port).or(vsock.map(AgentSocket::Vsock));
        Launched { pid: vmm.pid(), vm: Arc::new(vm), observed, agent }
    }

    /// Ends a VMM that can't be used. Returns `error`, or the VMM's own end if it hung up.
    async fn give_up(mut self, error: HypervisorError) -> HypervisorError {
        let hung_up = matches!(error, HypervisorError::Disconnected { .. });
        if hung_up {
            // Most likely it is exiting, and its own status says more than that of a kill would.
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

/// Waits for `work` for at most `ms` milliseconds; then fails with [`HypervisorError::Deadline`].
pub(super) async fn within<T>(
    ms: u64,
    call: &'static str,
    work: impl Future<Output = Result<T, HypervisorError>>,
) -> Result<T, HypervisorError> {
    timeout(Duration::from_millis(ms), work)
        .await
        .unwrap_or(Err(HypervisorError::Deadline { call, ms }))
}

/// The error for a VMM that ended before its pidfd could be opened.
async fn ended_at_once(run: &Path, identity: &Identity, log: &LogTail) -> HypervisorError {
    if let Err(error) = await_supervisor(identity).await {
        return error;
    }
    let seen = Tail::new(files::events(run)).read().unwrap_or_default();
    let status = seen
        .iter()
        .rev()
        .find_map(describe_exit)
        .unwrap_or_else(|| ExitStatus::Unknown.to_string());
    HypervisorError::Launch { status, log: log.read() }
}

/// A launch that was ordered but has no owner yet. Unless it is settled, its processes are ended
/// and its order is removed.
struct Ordered {
    run: PathBuf,
    supervisor: Option<Child>,
    is_settled: bool,
}

impl Ordered {
    fn new(run: &Path) -> Self {
        Self { run: run.into(), supervisor: None, is_settled: false }
    }

    /// Notes that the launch has an owner, or has ended.
    fn settle(mut self) {
        self.is_settled = true;
        if let Some(mut supervisor) = self.supervisor.take() {
            // Reaps the supervisor if it ends before the daemon.
            tokio::spawn(async move { supervisor.wait().await });
        }
    }

    /// Removes the order and ends its processes. Waits for at most `ms_max` milliseconds; the work
    /// goes on afterwards.
    async fn withdraw(mut self, ms_max: u64) {
        self.is_settled = true;
        let withdrawn = tokio::spawn(withdraw(self.run.clone(), self.supervisor.take()));
        let _ = timeout(Duration::from_millis(ms_max), withdrawn).await;
    }
}

impl Drop for Ordered {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        // Without a runtime the daemon is ending, and the next one looks for the launch.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(withdraw(std::mem::take(&mut self.run), self.supervisor.take()));
        }
    }
}

/// Removes an order and ends its processes, however long that takes.
async fn withdraw(run: PathBuf, mut supervisor: Option<Child>) {
    while let Err(error) = try_withdraw(&run, &mut supervisor).await {
        tracing::error!(
            folder = %run.display(), %error,
            "a launch that failed can't be cleared away, and its processes may live; trying again"
        );
        sleep(WITHDRAW_RETRY).await;
    }
}

async fn try_withdraw(run: &Path, supervisor: &mut Option<Child>) -> Result<(), HypervisorError> {
    if let Some(child) = supervisor {
        child.kill().await.map_err(HypervisorError::file("end the supervisor of", run))?;
        *supervisor = None;
    }
    let Some(identity) = await_identity(run).await? else { return Ok(()) };
    let vmm = Process::open(identity.vmm).map_err(HypervisorError::file("look at", "/proc"))?;
    if let Some(vmm) = vmm {
        vmm.kill()?;
        vmm.ended().await;
    }
    absent(fs::remove_file(files::order(run)))
        .map_err(HypervisorError::file("remove the order in", run))
}

/// Both processes of a launch.
struct Held {
    vmm: Process,
    supervisor: Option<Process>,
    supervisor_pid: u32,
}

/// The parts that following a launch needs.
struct Following {
    changes: Changes,
    log: LogTail,
    last_change: Option<VcpuEvent>,
    descriptors: Descriptors,
}

impl Held {
    fn follow(self, run: &Path, following: Following) -> Started {
        let Following { changes, log, last_change, descriptors } = following;
        let vmm = Arc::new(self.vmm);
        let supervisor = self.supervisor.map(Arc::new);
        let tail = Tail::new(files::events(run));
        let followed =
            Followed { tail, changes, vmm: vmm.clone(), supervisor, last_change, descriptors };
        let (observed, vcpus) = follow(followed);
        let supervisor_pid = self.supervisor_pid;
        let vcpus = Arc::new(vcpus);
        Started { vmm, supervisor_pid, observed, vcpus, log, run: run.to_owned() }
    }
}

/// Opens a launch's processes; `None` if the VMM has ended.
fn hold(identity: &Identity) -> Result<Option<Held>, HypervisorError> {
    let open = |id| Process::open(id).map_err(HypervisorError::file("look at", "/proc"));
    let Some(vmm) = open(identity.vmm)? else {
        return Ok(None);
    };
    let supervisor = open(identity.supervisor)?;
    Ok(Some(Held { vmm, supervisor, supervisor_pid: identity.supervisor.pid }))
}

/// Makes the folder of a launch, with a link to each disk, and checks that its sockets are free and
/// its disks are not in use. The supervisor locks the disks; this check gives the better error.
fn prepare(spec: &MachineSpec) -> Result<PathBuf, HypervisorError> {
    let run = files::run(&spec.dir, spec.incarnation);
    let sockets = [files::control, files::transfer, files::agent, files::vsock];
    for socket in sockets.map(|socket| socket(&run)) {
        check_socket_path(&socket)?;
        refuse_live_socket(&socket)?;
    }
    if files::is_used(&spec.dir, spec.incarnation) {
        let reason = format!("{} exists already; use the next number", run.display());
        return Err(HypervisorError::Spec { what: "this incarnation", reason });
    }
    for disk in &spec.disks {
        disks::lock(disk)?;
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&run)
        .map_err(HypervisorError::file("create", &run))?;
    for (n, disk) in spec.disks.iter().enumerate() {
        link(&disk.path, &run.join(files::disk(n)))?;
    }
    Ok(run)
}

// A snapshot may store the paths of disks: with links under fixed names in the working folder of
// the launch, it stores names that every fork has too.
/// Makes a link to `path`, and replaces one of an order that was never carried out.
fn link(path: &Path, at: &Path) -> Result<(), HypervisorError> {
    let path = std::path::absolute(path).map_err(HypervisorError::file("resolve", path))?;
    let _ = fs::remove_file(at);
    symlink(path, at).map_err(HypervisorError::file("create", at))
}

fn check_socket_path(socket: &Path) -> Result<(), HypervisorError> {
    let len = socket.as_os_str().as_bytes().len();
    if len > SOCKET_PATH_BYTES_MAX {
        return Err(HypervisorError::SocketPathTooLong {
            path: socket.into(),
            len,
            max: SOCKET_PATH_BYTES_MAX,
        });
    }
    Ok(())
}

/// Removes a socket on which nothing listens; fails if something does.
fn refuse_live_socket(socket: &Path) -> Result<(), HypervisorError> {
    if UnixStream::connect(socket).is_ok() {
        return Err(HypervisorError::SocketInUse { path: socket.into() });
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(HypervisorError::file("remove", socket)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read_identity(run: &Path) -> Result<Option<Identity>, HypervisorError> {
    Identity::read(run).map_err(HypervisorError::file("read", files::identity(run)))
}

/// Returns the identity that an earlier daemon's launch has written or is about to write. If there
/// is none and no supervisor that will write it, the order is removed, so that no supervisor can
/// carry it out later.
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
                absent(fs::remove_file(&order)).map_err(HypervisorError::file("remove", &order))?;
                return Ok(None);
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(CONTROL_MS_MAX, "the supervisor", wait).await
}

/// Ends a VMM whose supervisor was killed before it had written the identity, found by its working
/// folder. Its vCPUs never ran.
async fn end_orphan(run: &Path) -> Result<(), HypervisorError> {
    for orphan in
        Process::standing_in(run).map_err(HypervisorError::file("look for processes in", run))?
    {
        orphan.kill()?;
        orphan.ended().await;
    }
    Ok(())
}

/// Waits for the supervisor of a VMM that has ended, as it may be about to record the end.
async fn await_supervisor(identity: &Identity) -> Result<(), HypervisorError> {
    let supervisor =
        Process::open(identity.supervisor).map_err(HypervisorError::file("look at", "/proc"))?;
    if let Some(supervisor) = supervisor {
        within(CONTROL_MS_MAX, "the supervisor", supervisor.ended().map(Ok)).await?;
    }
    Ok(())
}

fn read_history(run: &Path, boot: BootId) -> Result<Found, HypervisorError> {
    let events = files::events(run);
    let mut history =
        Tail::new(events.clone()).read().map_err(HypervisorError::file("read", events))?;
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
        Observed::Launched(_)
        | Observed::Paused(_)
        | Observed::Resumed(_)
        | Observed::ProgramStarted(_)
        | Observed::AgentReady(_)
        | Observed::ProgramExited { .. } => None,
    }
}

/// The part of the VMM's log that a launch writes.
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

    /// Reads the end of the log as one line.
    fn read(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            let len = file.metadata()?.len();
            // A shorter file is a new one: the log was full and renamed.
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

#[cfg(test)]
mod tests {
    use super::super::supervisor::Wiring;
    use super::*;

    /// A program that is run as a supervisor, in a folder of its own.
    fn supervisor(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("supervisor");
        // Another process writes the script: a file that a fork of this one still holds open for
        // writing can't be run.
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 700 "$0""#;
        let written =
            std::process::Command::new("sh").args(["-c", write]).arg(&path).arg(script).status();
        assert!(written.expect("a shell").success());
        path
    }

    fn spec(dir: &Path) -> MachineSpec {
        MachineSpec {
            dir: dir.into(),
            id: "one".parse().expect("id"),
            name: "one".parse().expect("name"),
            incarnation: 1,
            vcpus: 1,
            memory_bytes: 1 << 30,
            memory_bytes_max: None,
            kernel: "/kernel".into(),
            initrd: None,
            cmdline: String::new(),
            disks: Vec::new(),
            machine_type: None,
            cpu_model: None,
            agent: false,
            network: None,
        }
    }

    /// Outcome of a launch whose supervisor runs this script and which is given so many
    /// milliseconds to start and to be cleared away; and the folder of the launch.
    async fn launch(
        folder: &Path,
        script: &str,
        ms: (u64, u64),
    ) -> (Result<Started, HypervisorError>, PathBuf) {
        let launcher = Launcher::new(supervisor(folder, script).into()).expect("inotify");
        let launcher = Launcher { launch_ms_max: ms.0, withdraw_ms_max: ms.1, ..launcher };
        let spec = spec(&folder.join("one"));
        let program = Program {
            path: Path::new("/vmm"),
            args: Vec::new(),
            wiring: Wiring::Firecracker,
            snapshot: None,
        };
        let started = launcher.start(&spec, program, &()).await;
        (started, files::run(&spec.dir, 1))
    }

    #[tokio::test]
    async fn a_supervisor_that_is_too_slow_leaves_no_process_and_no_order() {
        let scripts = [
            // It has not even read its launch.
            "exec sleep 600",
            // It has started a VMM and not written its identity.
            r#"cd "$(cat)" && { sleep 601 & } && sleep 602"#,
            // Only its VMM is left, and holds no lock.
            r#"cd "$(cat)" && exec sleep 603"#,
        ];
        for script in scripts {
            let folder = tempfile::tempdir().expect("a folder");
            let (started, run) = launch(folder.path(), script, (300, 60_000)).await;
            let deadline =
                matches!(started, Err(HypervisorError::Deadline { call: "the supervisor", .. }));
            assert!(deadline, "{script}");
            assert_eq!(Process::standing_in(&run).expect("proc").len(), 0, "{script}");
            assert!(!files::order(&run).exists(), "{script}");
        }
    }

    #[tokio::test]
    async fn what_is_written_down_but_can_not_be_used_is_ended_too() {
        let folder = tempfile::tempdir().expect("a folder");
        // An identity in a later format, and a VMM.
        let script = r#"cd "$(cat)" && { sleep 604 & } && echo '{"format":99}' > identity.json && sleep 605"#;
        let (started, run) = launch(folder.path(), script, (60_000, 1)).await;
        assert!(matches!(started, Err(HypervisorError::File { act: "read", .. })));
        // The withdrawal goes on in the background while the launch's processes are unknown.
        fs::remove_file(files::identity(&run)).expect("mended");
        while files::order(&run).exists() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(Process::standing_in(&run).expect("proc").len(), 0);
    }
}
