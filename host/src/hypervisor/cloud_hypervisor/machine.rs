//! One live machine under Cloud Hypervisor.

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::hypervisor::check::utf8;
use crate::hypervisor::launch::within;
use crate::hypervisor::managed::{Prepare, SnapshotSource};
use crate::hypervisor::movement::Movement;
use crate::hypervisor::process::Process;
use crate::hypervisor::rest::{Refusal, Rest};
use crate::hypervisor::snapshot::{Choice, Draft, SavedBy, blocking};
use crate::hypervisor::{
    Accelerator, HypervisorError, Kind, MachineSpec, Saved, Stamp, Vm, VmState, files,
};
use crate::limits::instance::CONTROL_MS_MAX;

/// The only possible choice.
pub(super) const CHOICE: Choice =
    Choice { accelerator: Accelerator::Kvm, machine_type: None, cpu_model: None };

/// Control of one Cloud Hypervisor process.
pub(in crate::hypervisor) struct CloudHypervisorVm {
    spec: MachineSpec,
    vmm: Arc<Process>,
    rest: Rest,
    /// Version of the running process, which may differ from the installed one.
    version: String,
}

/// Cloud Hypervisor's answer about itself.
#[derive(Deserialize)]
struct Ping {
    build_version: String,
    pid: u32,
}

/// Cloud Hypervisor's answer about its machine.
#[derive(Deserialize)]
struct Info {
    state: String,
    memory_actual_size: u64,
}

impl CloudHypervisorVm {
    /// Control of a process that runs. Waits until it answers, for at most `ms` milliseconds, and
    /// compares the process id that it reports: the peer of the socket is no proof, because the
    /// supervisor made it and the VMM inherited it.
    pub(super) async fn greet(
        spec: MachineSpec,
        vmm: Arc<Process>,
        ms: u64,
    ) -> Result<Self, HypervisorError> {
        let rest =
            Rest::new(&files::control(&files::run(&spec.dir, spec.incarnation)), "/api/v1/")?;
        let call = "vmm.ping";
        let ping = async {
            tokio::select! {
                answer = rest.get(call, ms) => {
                    let answer = answer?.map_err(|refusal| refused(call, refusal))?;
                    parse::<Ping>(call, answer)
                }
                () = vmm.ended() => Err(HypervisorError::Disconnected { call }),
            }
        };
        let Ping { build_version, pid } = within(ms, "connect", ping).await?;
        if pid != vmm.pid() {
            let reason = format!("process {pid} answers on its control socket");
            return Err(HypervisorError::Identity { pid: vmm.pid(), reason });
        }
        let version = build_version.trim_start_matches('v').to_owned();
        Ok(Self { spec, vmm, rest, version })
    }

    async fn tell(
        &self,
        call: &'static str,
        body: Option<Value>,
        ms: u64,
    ) -> Result<(), HypervisorError> {
        self.rest.tell(Method::PUT, call, call, body, ms).await
    }

    /// Asks the VMM about its machine; `None` if it has none yet.
    async fn info(&self) -> Result<Option<Info>, HypervisorError> {
        let call = "vm.info";
        match self.rest.get(call, CONTROL_MS_MAX).await? {
            Ok(answer) => parse(call, answer).map(Some),
            Err(Refusal { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(refusal) => Err(refused(call, refusal)),
        }
    }

    async fn query_state(&self) -> Result<VmState, HypervisorError> {
        let Some(Info { state, .. }) = self.info().await? else { return Ok(VmState::Loading) };
        match state.as_str() {
            "Created" => Ok(VmState::NotStarted),
            "Running" => Ok(VmState::Running),
            "Paused" | "BreakPoint" => Ok(VmState::Paused),
            "Shutdown" => Ok(VmState::Ended),
            state => Err(HypervisorError::Refused {
                call: "vm.info",
                reason: format!("it is '{state}', which is not known"),
            }),
        }
    }

    /// Lets the vCPUs run. The VMM refuses a call that is fulfilled already, so the state is
    /// queried first.
    async fn run_vcpus(&self) -> Result<Stamp, HypervisorError> {
        match self.query_state().await? {
            VmState::NotStarted => self.tell("vm.boot", None, CONTROL_MS_MAX).await?,
            VmState::Running => {}
            VmState::Paused | VmState::Loading | VmState::Ended => {
                self.tell("vm.resume", None, CONTROL_MS_MAX).await?;
            }
        }
        Ok(Stamp::now())
    }

    async fn hold_vcpus(&self) -> Result<Stamp, HypervisorError> {
        match self.query_state().await? {
            VmState::NotStarted | VmState::Paused => {}
            VmState::Running | VmState::Loading | VmState::Ended => {
                self.tell("vm.pause", None, CONTROL_MS_MAX).await?
            }
        }
        Ok(Stamp::now())
    }

    async fn write_snapshot(&self, to: &Path) -> Result<Saved, HypervisorError> {
        let state = self.query_state().await?;
        if state != VmState::Paused {
            let reason =
                format!("the vCPUs must have run and be held, but the machine is {state:?}");
            return Err(HypervisorError::Save { reason });
        }
        let draft = Draft::begin(to)?;
        let body = json!({ "destination_url": url(draft.folder())? });
        let movement = Movement::new(draft.folder(), self.vmm.pid());
        match self.rest.tell_while_moving("vm.snapshot", body, movement).await {
            Err(HypervisorError::Refused { reason, .. }) => {
                return Err(HypervisorError::Save { reason });
            }
            told => told?,
        }
        let saved_by = SavedBy { kind: Kind::CloudHypervisor, version: self.version.clone() };
        let spec = self.spec.clone();
        let bytes = blocking(move || {
            let mut draft = draft;
            draft.take_up()?;
            draft.commit(&spec, &CHOICE, &saved_by)
        });
        Ok(Saved { bytes: bytes.await?, stamp: Stamp::now() })
    }

    /// Grows the memory to `bytes`. The VMM accepts any size, and ignores one that it can't give,
    /// so the size is checked before and after.
    async fn grow(&self, bytes: u64) -> Result<Stamp, HypervisorError> {
        let call = "vm.resize";
        let refuse = |reason| Err(HypervisorError::Refused { call, reason });
        let most = self.spec.memory_bytes_max.unwrap_or(self.spec.memory_bytes);
        let had = self.memory_bytes().await?;
        if !(had..=most).contains(&bytes) {
            return refuse(format!(
                "{bytes} bytes are not between {had}, which it has, and {most}, its greatest size"
            ));
        }
        if bytes != had {
            self.tell(call, Some(json!({ "desired_ram": bytes })), CONTROL_MS_MAX).await?;
        }
        let stamp = Stamp::now();
        match self.memory_bytes().await? {
            has if has == bytes => Ok(stamp),
            has => refuse(format!("it has {has} bytes afterwards, not {bytes}")),
        }
    }

    async fn memory_bytes(&self) -> Result<u64, HypervisorError> {
        let none = HypervisorError::Refused { call: "vm.info", reason: "it has no machine".into() };
        self.info().await?.map(|info| info.memory_actual_size).ok_or(none)
    }
}

impl Prepare for CloudHypervisorVm {
    type Config = Value;

    async fn configure(&self, config: Value) -> Result<(), HypervisorError> {
        self.tell("vm.create", Some(config), CONTROL_MS_MAX).await
    }

    async fn load(&self, snapshot: SnapshotSource) -> Result<(), HypervisorError> {
        let body = json!({ "source_url": url(&snapshot.folder)? });
        let movement = Movement::new(&snapshot.folder, self.vmm.pid());
        self.rest.tell_while_moving("vm.restore", body, movement).await
    }
}

impl Vm for CloudHypervisorVm {
    fn resume(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.run_vcpus().boxed()
    }

    fn pause(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.hold_vcpus().boxed()
    }

    fn save<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<Saved, HypervisorError>> {
        self.write_snapshot(to).boxed()
    }

    fn resize_memory(&self, bytes: u64) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.grow(bytes).boxed()
    }

    fn request_stop(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>> {
        self.tell("vm.power-button", None, CONTROL_MS_MAX)
            .map(|told| told.map(|()| Stamp::now()))
            .boxed()
    }

    fn quit(&self) -> BoxFuture<'_, Result<(), HypervisorError>> {
        self.tell("vmm.shutdown", None, CONTROL_MS_MAX).boxed()
    }

    fn kill(&self) -> Result<(), HypervisorError> {
        self.vmm.kill()
    }

    fn state(&self) -> BoxFuture<'_, Result<VmState, HypervisorError>> {
        self.query_state().boxed()
    }
}

fn refused(call: &'static str, refusal: Refusal) -> HypervisorError {
    HypervisorError::Refused { call, reason: refusal.reason }
}

fn parse<T: DeserializeOwned>(call: &'static str, answer: Value) -> Result<T, HypervisorError> {
    serde_json::from_value(answer).map_err(|error| HypervisorError::Refused {
        call,
        reason: format!("its answer can't be parsed: {error}"),
    })
}

fn url(folder: &Path) -> Result<String, HypervisorError> {
    Ok(format!("file://{}", utf8("the snapshot's folder", folder)?))
}
