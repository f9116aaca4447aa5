//! One live machine under Firecracker.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::hypervisor::check::utf8;
use crate::hypervisor::launch::within;
use crate::hypervisor::managed::{Prepare, SnapshotSource};
use crate::hypervisor::movement::Movement;
use crate::hypervisor::process::Process;
use crate::hypervisor::rest::{Rest, peer};
use crate::hypervisor::snapshot::{Choice, Draft, MEMORY, SavedBy, blocking};
use crate::hypervisor::{
    Accelerator, Capability, HypervisorError, Kind, MachineSpec, Saved, Stamp, Vm, VmState, files,
};
use crate::limits::instance::CONTROL_MS_MAX;

/// Pause between attempts to connect to the control socket, in milliseconds.
const LOOK_AGAIN_MS: u64 = 1;

/// Name of the file with the machine's state except for its memory.
const STATE: &str = "state";

/// The only possible choice.
pub(super) const CHOICE: Choice =
    Choice { accelerator: Accelerator::Kvm, machine_type: None, cpu_model: None };

/// A call that describes a part of a machine.
pub(in crate::hypervisor) struct Call {
    pub(super) name: &'static str,
    pub(super) path: String,
    pub(super) body: Value,
}

/// Control of one Firecracker process.
pub(in crate::hypervisor) struct FirecrackerVm {
    spec: MachineSpec,
    kept: Kept,
    vmm: Arc<Process>,
    rest: Rest,
    /// Version of the running process, which may differ from the installed one.
    version: String,
}

/// State kept for as long as a machine lives, also for the next daemon.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::hypervisor) struct Kept {
    /// True if this process booted the machine. Otherwise pages that the guest has not written to
    /// are a snapshot's.
    pub(super) booted: bool,
}

/// Firecracker's answer about itself.
#[derive(Deserialize)]
struct About {
    id: String,
    state: String,
    vmm_version: String,
}

impl FirecrackerVm {
    /// Control of a process that runs. Waits until it answers, for at most `ms` milliseconds, and
    /// proves that its machine is `name`.
    pub(super) async fn greet(
        spec: MachineSpec,
        name: String,
        kept: Kept,
        vmm: Arc<Process>,
        ms: u64,
    ) -> Result<Self, HypervisorError> {
        let socket = files::control(&files::run(&spec.dir, spec.incarnation));
        let rest = Rest::new(&socket, "")?;
        let about = async {
            let peer = listening(&socket, &vmm).await?;
            if peer != vmm.pid() {
                return Ok(Err(format!("process {peer} listens on its control socket")));
            }
            let about = about(&rest).await?;
            Ok(if about.id == name {
                Ok(about)
            } else {
                Err(format!("it calls itself {}, not {name}", about.id))
            })
        };
        match within(ms, "connect", about).await? {
            Ok(about) => Ok(Self { spec, kept, vmm, rest, version: about.vmm_version }),
            Err(reason) => Err(HypervisorError::Identity { pid: vmm.pid(), reason }),
        }
    }

    async fn query_state(&self) -> Result<VmState, HypervisorError> {
        match about(&self.rest).await?.state.as_str() {
            "Not started" => Ok(VmState::NotStarted),
            "Running" => Ok(VmState::Running),
            "Paused" => Ok(VmState::Paused),
            state => Err(HypervisorError::Refused {
                call: "/",
                reason: format!("it is '{state}', which is not known"),
            }),
        }
    }

    /// Lets the vCPUs run. The first run and a resume are different calls, so the state is queried
    /// first.
    async fn run_vcpus(&self) -> Result<Stamp, HypervisorError> {
        match self.query_state().await? {
            VmState::NotStarted => self.act("InstanceStart").await,
            VmState::Running | VmState::Paused | VmState::Loading | VmState::Ended => {
                self.put_into("Resumed").await
            }
        }
    }

    async fn hold_vcpus(&self) -> Result<Stamp, HypervisorError> {
        match self.query_state().await? {
            VmState::NotStarted => Ok(Stamp::now()),
            VmState::Running | VmState::Paused | VmState::Loading | VmState::Ended => {
                self.put_into("Paused").await
            }
        }
    }

    async fn act(&self, action: &'static str) -> Result<Stamp, HypervisorError> {
        let body = json!({ "action_type": action });
        self.rest.tell(Method::PUT, "/actions", action, Some(body), CONTROL_MS_MAX).await?;
        Ok(Stamp::now())
    }

    async fn put_into(&self, state: &'static str) -> Result<Stamp, HypervisorError> {
        self.rest
            .tell(Method::PATCH, "/vm", state, Some(json!({ "state": state })), CONTROL_MS_MAX)
            .await?;
        Ok(Stamp::now())
    }

    async fn write_snapshot(&self, to: &Path) -> Result<Saved, HypervisorError> {
        let state = self.query_state().await?;
        if state != VmState::Paused {
            let reason =
                format!("the vCPUs must have run and be held, but the machine is {state:?}");
            return Err(HypervisorError::Save { reason });
        }
        let draft = self.draft(to).await?;
        let saved_by = SavedBy { kind: Kind::Firecracker, version: self.version.clone() };
        let spec = self.spec.clone();
        let bytes = blocking(move || {
            let mut draft = draft;
            draft.take_up()?;
            draft.commit(&spec, &CHOICE, &saved_by)
        });
        Ok(Saved { bytes: bytes.await?, stamp: Stamp::now() })
    }

    /// Lets the VMM write its files.
    ///
    /// The memory of a process that booted its machine is anonymous: pages that are not resident
    /// were never written to, unless they are swapped out. Then a snapshot of the resident pages
    /// alone, Firecracker's type `Diff`, is complete, and takes a hundredth of the time.
    async fn draft(&self, to: &Path) -> Result<Draft, HypervisorError> {
        let present_is_all =
            || self.kept.booted && tells_what_is_present(&self.version) && nothing_is_swapped();
        if present_is_all() {
            let draft = self.draft_of("Diff", to).await?;
            if present_is_all() {
                return Ok(draft);
            }
        }
        self.draft_of("Full", to).await
    }

    async fn draft_of(&self, kind: &'static str, to: &Path) -> Result<Draft, HypervisorError> {
        let draft = Draft::begin(to)?;
        let call = "/snapshot/create";
        let body = json!({
            "snapshot_type": kind,
            "snapshot_path": snapshot_file(draft.folder(), STATE)?,
            "mem_file_path": snapshot_file(draft.folder(), MEMORY)?,
        });
        let movement = Movement::new(draft.folder(), self.vmm.pid());
        match self.rest.tell_while_moving(call, body, movement).await {
            Ok(()) => Ok(draft),
            Err(HypervisorError::Refused { reason, .. }) => Err(HypervisorError::Save { reason }),
            Err(error) => Err(error),
        }
    }
}

/// Returns whether this version writes the resident pages as a `Diff` of a machine whose writes it
/// does not track: from 1.13 on.
fn tells_what_is_present(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    matches!(
        (numbers.next(), numbers.next()),
        (Some(Some(major)), Some(Some(minor))) if (major, minor) >= (1, 13)
    )
}

/// Returns whether the host has no swap, so that pages that are not resident were never written to.
fn nothing_is_swapped() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() == 1)
}

impl Prepare for FirecrackerVm {
    type Config = Vec<Call>;

    async fn configure(&self, calls: Vec<Call>) -> Result<(), HypervisorError> {
        for Call { name, path, body } in calls {
            self.rest.tell(Method::PUT, &path, name, Some(body), CONTROL_MS_MAX).await?;
        }
        Ok(())
    }

    async fn load(&self, snapshot: SnapshotSource) -> Result<(), HypervisorError> {
        let folder = &snapshot.folder;
        let memory = snapshot_file(folder, MEMORY)?;
        let body = json!({
            "snapshot_path": snapshot_file(folder, STATE)?,
            "mem_backend": { "backend_type": "File", "backend_path": memory },
            "resume_vm": false,
        });
        let call = "/snapshot/load";
        self.rest.tell_while_moving(call, body, Movement::new(folder, self.vmm.pid())).await
    }
}

impl Vm for FirecrackerVm {
    fn resume(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.run_vcpus().boxed()
    }

    fn pause(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.hold_vcpus().boxed()
    }

    fn save<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<Saved, HypervisorError>> {
        self.write_snapshot(to).boxed()
    }

    fn resize_memory(&self, _bytes: u64) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        let hypervisor = Kind::Firecracker.as_str();
        let capability = Capability::MemoryResize;
        ready(Err(HypervisorError::Unsupported { hypervisor, capability })).boxed()
    }

    fn request_stop(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.act("SendCtrlAltDel").boxed()
    }

    fn quit(&self) -> BoxFuture<'_, Result<(), HypervisorError>> {
        // Firecracker has no call for this.
        ready(self.vmm.terminate()).boxed()
    }

    fn kill(&self) -> Result<(), HypervisorError> {
        self.vmm.kill()
    }

    fn state(&self) -> BoxFuture<'_, Result<VmState, HypervisorError>> {
        self.query_state().boxed()
    }
}

/// Waits until a process listens on the control socket, and returns its id. Fails if the VMM ends
/// before.
async fn listening(socket: &Path, vmm: &Process) -> Result<u32, HypervisorError> {
    let look = async {
        loop {
            match peer(socket).await {
                Ok(pid) => return Ok(pid),
                Err(_) => sleep(Duration::from_millis(LOOK_AGAIN_MS)).await,
            }
        }
    };
    tokio::select! {
        pid = look => pid,
        () = vmm.ended() => Err(HypervisorError::Disconnected { call: "connect" }),
    }
}

async fn about(rest: &Rest) -> Result<About, HypervisorError> {
    let call = "/";
    let answer = rest.get(call, CONTROL_MS_MAX).await?;
    let answer =
        answer.map_err(|refusal| HypervisorError::Refused { call, reason: refusal.reason })?;
    serde_json::from_value(answer).map_err(|error| HypervisorError::Refused {
        call,
        reason: format!("its answer can't be parsed: {error}"),
    })
}

fn snapshot_file(folder: &Path, name: &str) -> Result<String, HypervisorError> {
    utf8("the snapshot's folder", &folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_tell_what_is_present_are_asked_for_it() {
        for (version, tells) in [
            ("1.12.1", false),
            ("1.13.0", true),
            ("1.17.0-dev", true),
            ("2.0.0", true),
            ("0.25.2", false),
            ("?", false),
        ] {
            assert_eq!(tells_what_is_present(version), tells, "{version}");
        }
    }
}
