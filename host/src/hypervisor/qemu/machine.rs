//! One live machine under QEMU.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::argv;
use super::board::Board;
use super::qmp::Qmp;
use crate::hypervisor::launch::{Started, within};
use crate::hypervisor::managed::{Prepare, SnapshotSource};
use crate::hypervisor::movement::{Movement, while_moving};
use crate::hypervisor::process::Process;
use crate::hypervisor::snapshot::{Choice, Draft, SavedBy, blocking};
use crate::hypervisor::vcpus::{VcpuChanges, Vcpus};
use crate::hypervisor::{
    Capability, HypervisorError, MachineSpec, Saved, Stamp, Vm, VmState, files,
};
use crate::limits::instance::CONTROL_MS_MAX;

/// Bandwidth limit of migrations, far above any disk's, so that QEMU does not throttle them. Its
/// default is 128 MiB a second.
const BANDWIDTH_BYTES_PER_S: u64 = 1 << 40;

/// Option by which QEMU loads a snapshot; names that operation in errors.
const INCOMING: &str = "-incoming";

/// Number of queries of a migration's state without a pause: little is left to do at the first, and
/// each takes some tenths of a millisecond.
const ASK_AT_ONCE: u32 = 10;

/// Pause between later queries, in milliseconds.
const ASK_AGAIN_MS: u64 = 2;

/// QEMU's run state after its memory was migrated: it refuses another migration until the vCPUs
/// have run.
const POSTMIGRATE: &str = "postmigrate";

/// Control of one QEMU process.
pub(in crate::hypervisor) struct QemuVm {
    board: Arc<Board>,
    spec: MachineSpec,
    kept: Kept,
    vmm: Arc<Process>,
    vcpus: Arc<VcpuChanges>,
    /// The connection, made when needed and taken out for each call. It is closed after a call that
    /// failed or was dropped: a late answer would be taken for the next one's.
    control: Mutex<Option<Qmp>>,
}

/// State kept for as long as a machine lives, also for the next daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::hypervisor) struct Kept {
    /// The choice with which the machine was started.
    pub(super) choice: Choice,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

#[derive(Deserialize)]
struct Version {
    qemu: Triple,
}

#[derive(Deserialize)]
struct Triple {
    major: u32,
    minor: u32,
    micro: u32,
}

/// State of a migration.
#[derive(Deserialize)]
struct Progress {
    /// Absent before the first migration.
    status: Option<String>,
    #[serde(rename = "error-desc")]
    reason: Option<String>,
}

impl QemuVm {
    /// Control of a process, without a connection yet.
    pub(super) fn new(board: Arc<Board>, spec: MachineSpec, kept: Kept, started: &Started) -> Self {
        let vmm = started.vmm.clone();
        let vcpus = started.vcpus.clone();
        Self { board, spec, kept, vmm, vcpus, control: Mutex::new(None) }
    }

    /// Connects and waits for QEMU's greeting, for at most `ms` milliseconds.
    pub(super) async fn greet(&self, supervisor_pid: u32, ms: u64) -> Result<(), HypervisorError> {
        // The supervisor listened first, and QEMU inherits that: until QEMU listens itself, the
        // peer is the supervisor.
        let connect = self.connect(Some(supervisor_pid));
        let qmp = within(ms, "connect", connect).await?;
        self.keep(qmp);
        Ok(())
    }

    /// Connects to the control socket, if this machine's process or its supervisor listens there.
    async fn connect(&self, supervisor_pid: Option<u32>) -> Result<Qmp, HypervisorError> {
        let (mut qmp, peer) = Qmp::connect(&files::control(&self.run())).await?;
        if peer != self.vmm.pid() && Some(peer) != supervisor_pid {
            return Err(self.stranger(format!("process {peer} listens on its control socket")));
        }
        qmp.greet().await?;
        Ok(qmp)
    }

    /// Proves that this machine answers on the connection. Not needed right after a launch, whose
    /// supervisor made the socket.
    pub(super) async fn identify(&self) -> Result<(), HypervisorError> {
        let identify = self.converse(async |qmp| self.prove(qmp).await);
        within(CONTROL_MS_MAX, "query-name", identify).await
    }

    async fn prove(&self, qmp: &mut Qmp) -> Result<(), HypervisorError> {
        let name = argv::name(&self.spec);
        let uuid = argv::uuid(&self.spec.id);
        let named = qmp.call("query-name", None).await?;
        let numbered = qmp.call("query-uuid", None).await?;
        if named["name"] != name || numbered["UUID"] != uuid {
            let other = format!(
                "it calls itself {} {}, not {name} {uuid}",
                named["name"], numbered["UUID"]
            );
            return Err(self.stranger(other));
        }
        Ok(())
    }

    fn stranger(&self, reason: String) -> HypervisorError {
        HypervisorError::Identity { pid: self.vmm.pid(), reason }
    }

    fn run(&self) -> PathBuf {
        files::run(&self.spec.dir, self.spec.incarnation)
    }

    /// Makes a call, connecting again if necessary.
    async fn call(
        &self,
        call: &'static str,
        arguments: Option<Value>,
    ) -> Result<Value, HypervisorError> {
        within(CONTROL_MS_MAX, call, self.converse(async |qmp| qmp.call(call, arguments).await))
            .await
    }

    /// Runs `talk` on the connection, connecting again if necessary.
    async fn converse<T>(
        &self,
        talk: impl AsyncFnOnce(&mut Qmp) -> Result<T, HypervisorError>,
    ) -> Result<T, HypervisorError> {
        let kept = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut qmp = match kept {
            Some(qmp) => qmp,
            None => {
                let mut qmp = self.connect(None).await?;
                self.prove(&mut qmp).await?;
                qmp
            }
        };
        let said = talk(&mut qmp).await;
        if matches!(said, Ok(_) | Err(HypervisorError::Refused { .. })) {
            self.keep(qmp);
        }
        said
    }

    fn keep(&self, qmp: Qmp) {
        *self.control.lock().unwrap_or_else(PoisonError::into_inner) = Some(qmp);
    }

    async fn acknowledged(&self, call: &'static str) -> Result<Stamp, HypervisorError> {
        self.call(call, None).await?;
        Ok(Stamp::now())
    }

    /// Changes the vCPUs. The stamp is that of the VMM's event, which precedes its acknowledgement.
    async fn change(&self, call: &'static str, vcpus: Vcpus) -> Result<Stamp, HypervisorError> {
        let acknowledged = self.acknowledged(call).await?;
        Ok(self.vcpus.changed(vcpus, acknowledged).await)
    }

    async fn query_state(&self) -> Result<VmState, HypervisorError> {
        state_of(&self.query_status().await?)
    }

    async fn query_status(&self) -> Result<String, HypervisorError> {
        let call = "query-status";
        let Status { status } = parse(call, self.call(call, None).await?)?;
        Ok(status)
    }

    async fn progress(&self) -> Result<Progress, HypervisorError> {
        let call = "query-migrate";
        parse(call, self.call(call, None).await?)
    }

    async fn write_snapshot(&self, to: &Path) -> Result<Saved, HypervisorError> {
        let status = self.query_status().await?;
        match state_of(&status)? {
            VmState::Paused | VmState::NotStarted => {}
            state @ (VmState::Running | VmState::Loading | VmState::Ended) => {
                let reason = format!("the vCPUs must be held, but the machine is {state:?}");
                return Err(HypervisorError::Save { reason });
            }
        }
        let draft = Draft::begin(to)?;
        if status == POSTMIGRATE {
            return Err(HypervisorError::SavedBefore);
        }
        let movement = Movement::new(draft.folder(), self.vmm.pid());
        let draft = match while_moving("migrate", movement, self.stream_out(draft)).await {
            Ok(draft) => draft,
            Err(error) => {
                // So that the next attempt finds no migration under way. Fails if there is none, or
                // the VMM is gone.
                let _ = self.call("migrate_cancel", None).await;
                return Err(error);
            }
        };
        let spec = self.spec.clone();
        let choice = self.kept.choice.clone();
        let saved_by = SavedBy { kind: self.board.kind, version: self.version().await? };
        let bytes = blocking(move || draft.commit(&spec, &choice, &saved_by)).await?;
        Ok(Saved { bytes, stamp: Stamp::now() })
    }

    /// Version of the running process, which may differ from the installed one.
    async fn version(&self) -> Result<String, HypervisorError> {
        let call = "query-version";
        let Version { qemu } = parse(call, self.call(call, None).await?)?;
        Ok(format!("{}.{}.{}", qemu.major, qemu.minor, qemu.micro))
    }

    /// Receives the memory that QEMU streams out, and writes it to disk.
    async fn stream_out(&self, mut draft: Draft) -> Result<Draft, HypervisorError> {
        let socket = files::transfer(&self.run());
        let _ = std::fs::remove_file(&socket);
        let listener =
            UnixListener::bind(&socket).map_err(HypervisorError::file("listen on", &socket))?;
        let shared = share_with_vmm(&self.run(), &socket);
        shared.map_err(HypervisorError::file("open to the VMM", &socket))?;
        self.call(
            "migrate-set-parameters",
            Some(json!({ "max-bandwidth": BANDWIDTH_BYTES_PER_S })),
        )
        .await?;
        self.call("migrate", Some(json!({ "uri": argv::migration_uri() }))).await?;
        let accepted = timeout(Duration::from_millis(CONTROL_MS_MAX), listener.accept()).await;
        let source = match accepted {
            Ok(accepted) => accepted.and_then(|(stream, _)| into_blocking(stream)),
            Err(_) => return Err(self.save_failure(self.progress().await?)),
        };
        let source = source.map_err(HypervisorError::file("accept on", &socket))?;
        let _ = std::fs::remove_file(&socket);
        let draft = blocking(move || draft.write_memory(source).map(|()| draft)).await?;
        self.await_migrated().await?;
        Ok(draft)
    }

    /// Waits until QEMU reports, after the end of the stream, that the migration is complete.
    async fn await_migrated(&self) -> Result<(), HypervisorError> {
        let mut asked = 0;
        loop {
            let progress = self.progress().await?;
            match progress.status.as_deref() {
                Some("completed") => return Ok(()),
                Some(
                    "setup" | "active" | "device" | "pre-switchover" | "wait-unplug" | "cancelling",
                ) => {}
                Some(_) | None => return Err(self.save_failure(progress)),
            }
            ask_again(&mut asked).await;
        }
    }

    fn save_failure(&self, progress: Progress) -> HypervisorError {
        let status = progress.status.unwrap_or_else(|| "not begun".into());
        let reason = progress.reason.unwrap_or_else(|| format!("the migration is {status}"));
        HypervisorError::Save { reason }
    }

    /// Streams a snapshot's memory into a QEMU that waits for it.
    async fn stream_in(&self, snapshot: SnapshotSource) -> Result<(), HypervisorError> {
        let socket = files::transfer(&self.run());
        let to = UnixStream::connect(&socket).await.and_then(into_blocking);
        let to = to.map_err(HypervisorError::file("connect to", &socket))?;
        blocking(move || snapshot.manifest.load_memory(&snapshot.folder, to)).await?;
        self.await_loaded().await?;
        let _ = std::fs::remove_file(&socket);
        Ok(())
    }

    /// Waits until QEMU has loaded the stream. QEMU exits if it can't.
    async fn await_loaded(&self) -> Result<(), HypervisorError> {
        let mut asked = 0;
        loop {
            match self.query_state().await? {
                VmState::Paused | VmState::NotStarted => return Ok(()),
                VmState::Loading => ask_again(&mut asked).await,
                state @ (VmState::Running | VmState::Ended) => {
                    let reason = format!("it is {state:?} after the load");
                    return Err(HypervisorError::Refused { call: INCOMING, reason });
                }
            }
        }
    }
}

impl Prepare for QemuVm {
    type Config = ();

    /// Does nothing: QEMU's command line describes the machine.
    async fn configure(&self, (): ()) -> Result<(), HypervisorError> {
        Ok(())
    }

    async fn load(&self, snapshot: SnapshotSource) -> Result<(), HypervisorError> {
        let movement = Movement::new(&snapshot.folder, self.vmm.pid());
        while_moving(INCOMING, movement, self.stream_in(snapshot)).await
    }
}

impl Vm for QemuVm {
    fn resume(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.change("cont", Vcpus::Running).boxed()
    }

    fn pause(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.change("stop", Vcpus::Held).boxed()
    }

    fn save<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<Saved, HypervisorError>> {
        self.write_snapshot(to).boxed()
    }

    fn resize_memory(&self, _bytes: u64) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        let hypervisor = self.board.kind.as_str();
        let capability = Capability::MemoryResize;
        ready(Err(HypervisorError::Unsupported { hypervisor, capability })).boxed()
    }

    fn request_stop(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.acknowledged("system_powerdown").boxed()
    }

    fn quit(&self) -> BoxFuture<'_, Result<(), HypervisorError>> {
        self.call("quit", None).map(|answer| answer.map(|_| ())).boxed()
    }

    fn kill(&self) -> Result<(), HypervisorError> {
        self.vmm.kill()
    }

    fn state(&self) -> BoxFuture<'_, Result<VmState, HypervisorError>> {
        self.query_state().boxed()
    }
}

fn state_of(status: &str) -> Result<VmState, HypervisorError> {
    match status {
        "prelaunch" => Ok(VmState::NotStarted),
        "running" => Ok(VmState::Running),
        "inmigrate" => Ok(VmState::Loading),
        "shutdown" | "internal-error" | "guest-panicked" => Ok(VmState::Ended),
        "paused" | POSTMIGRATE | "finish-migrate" | "save-vm" | "restore-vm" | "debug"
        | "io-error" | "suspended" | "watchdog" | "colo" => Ok(VmState::Paused),
        _ => {
            let reason = format!("it is '{status}', which is not known");
            Err(HypervisorError::Refused { call: "query-status", reason })
        }
    }
}

fn parse<T: for<'a> Deserialize<'a>>(
    call: &'static str,
    answer: Value,
) -> Result<T, HypervisorError> {
    serde_json::from_value(answer).map_err(|error| HypervisorError::Refused {
        call,
        reason: format!("its answer can't be parsed: {error}"),
    })
}

/// Waits before the next query of a migration's state.
async fn ask_again(asked: &mut u32) {
    *asked += 1;
    if *asked >= ASK_AT_ONCE {
        sleep(Duration::from_millis(ASK_AGAIN_MS)).await;
    }
}

/// Makes a stream blocking, for a thread of its own, with timeouts for a peer that hangs.
fn into_blocking(stream: UnixStream) -> io::Result<BlockingStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(CONTROL_MS_MAX)))?;
    stream.set_write_timeout(Some(Duration::from_millis(CONTROL_MS_MAX)))?;
    Ok(stream)
}

/// Lets a VMM that runs as another user connect to a socket: its group is that of the launch's
/// folder.
fn share_with_vmm(run: &Path, socket: &Path) -> io::Result<()> {
    let group = fs::metadata(run)?.gid();
    if fs::metadata(socket)?.gid() == group {
        return Ok(());
    }
    chown(socket, None, Some(group))?;
    fs::set_permissions(socket, Permissions::from_mode(0o660))
}
