//! Everything that is the same for all virtual machine monitors.
//!
//! [`Managed`] implements [`Hypervisor`] once. A [`Vendor`] says how its program is started, how to
//! take hold of the process, and how the process is given a machine.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::check::{check_boot, checked, in_place};
use super::launch::{Found, Launcher, Started};
use super::snapshot::{Manifest, blocking};
use super::supervisor::{Program, Wiring};
use super::{
    Adopted, Description, Hypervisor, HypervisorError, Kind, Launched, MachineSpec, Origin, Vm,
};
use crate::limits::instance::{CONTROL_MS_MAX, LAUNCH_MS_MAX};

/// A program that runs virtual machines: only what differs from the others.
pub(super) trait Vendor: Send + Sync {
    /// How its processes are connected to their supervisors.
    const WIRING: Wiring;

    /// Whether it reads the files of a snapshot itself. They are then checked before it may.
    const READS_SNAPSHOTS: bool;

    /// What has to be known of a machine for as long as it lives, also by the next daemon.
    type Kept: Clone + Serialize + DeserializeOwned + Send + Sync;

    /// Control of one of its processes.
    type Machine: Prepare + 'static;

    /// Which hypervisor it is.
    fn kind(&self) -> Kind;

    /// How a process is started for a machine that was checked.
    ///
    /// # Errors
    /// [`HypervisorError::Spec`], [`HypervisorError::Snapshot`]: nothing was started.
    fn launch(
        &self,
        here: &Description,
        spec: &MachineSpec,
        source: &Source,
    ) -> Result<Plan<Self::Kept, <Self::Machine as Prepare>::Config>, HypervisorError>;

    /// Takes hold of a process that runs.
    ///
    /// # Errors
    /// Any [`HypervisorError`], such as that it is another one.
    fn greet(
        &self,
        spec: &MachineSpec,
        kept: Self::Kept,
        started: &Started,
        greeting: Greeting,
    ) -> impl Future<Output = Result<Self::Machine, HypervisorError>> + Send;
}

/// A process that waits to be given its machine.
pub(super) trait Prepare: Vm {
    /// The description of a machine that is to boot.
    type Config: Send;

    /// Describes the machine that is to boot. Its vCPUs are held afterwards.
    fn configure(
        &self,
        config: Self::Config,
    ) -> impl Future<Output = Result<(), HypervisorError>> + Send;

    /// Loads the memory of a snapshot. The vCPUs are held afterwards.
    fn load(
        &self,
        snapshot: SnapshotSource,
    ) -> impl Future<Output = Result<(), HypervisorError>> + Send;
}

/// A launch before anything was started.
pub(super) struct Plan<K, C> {
    /// The program's arguments.
    pub(super) args: Vec<String>,
    /// What is kept for whoever adopts the machine.
    pub(super) kept: K,
    /// The description of a machine that is to boot.
    pub(super) config: C,
}

/// What a launch starts from, opened.
pub(super) enum Source {
    Boot,
    Snapshot(SnapshotSource),
}

/// A snapshot whose manifest was read.
#[derive(Clone)]
pub(super) struct SnapshotSource {
    pub(super) folder: PathBuf,
    pub(super) manifest: Arc<Manifest>,
}

/// Why a process is greeted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// It was just started, by its supervisor for this launch.
    Launched,
    /// It was found again and has to prove who it is.
    Adopted,
}

impl Greeting {
    /// How long the answer may take in milliseconds.
    pub(super) fn ms_max(self) -> u64 {
        match self {
            Greeting::Launched => LAUNCH_MS_MAX,
            Greeting::Adopted => CONTROL_MS_MAX,
        }
    }
}

/// A vendor's hypervisor on this host.
pub struct Managed<V> {
    vendor: V,
    description: Description,
    launcher: Launcher,
}

impl<V> Managed<V> {
    /// A hypervisor that was found to work here. Needs an async runtime.
    pub(super) fn new(
        vendor: V,
        description: Description,
        supervisor: PathBuf,
    ) -> Result<Self, HypervisorError> {
        let launcher = Launcher::new(supervisor)?;
        Ok(Self { vendor, description, launcher })
    }
}

/// Starts a VMM for a machine. Its vCPUs are held afterwards.
async fn launch<V: Vendor>(
    managed: &Managed<V>,
    spec: &MachineSpec,
    origin: Origin,
) -> Result<Launched, HypervisorError> {
    let Managed { vendor, description, launcher } = managed;
    let spec = &checked(spec, description)?;
    let source = open(vendor, spec, origin)?;
    let Plan { args, kept, config } = vendor.launch(description, spec, &source)?;
    let program = Program { path: &description.program, args, wiring: V::WIRING };
    let started = launcher.start(spec, program, &kept).await?;
    let greeted = vendor.greet(spec, kept, &started, Greeting::Launched);
    let machine = prepare::<V>(greeted, config, source).await;
    started.under(machine).await
}

/// Opens what a launch starts from.
fn open<V: Vendor>(
    vendor: &V,
    spec: &MachineSpec,
    origin: Origin,
) -> Result<Source, HypervisorError> {
    match origin {
        Origin::Boot => check_boot(spec).map(|()| Source::Boot),
        Origin::Snapshot(folder) => {
            let manifest = Manifest::read(&folder, vendor.kind())?.into();
            Ok(Source::Snapshot(SnapshotSource { folder, manifest }))
        }
    }
}

/// Gives a process that was just started its machine.
async fn prepare<V: Vendor>(
    greeted: impl Future<Output = Result<V::Machine, HypervisorError>>,
    config: <V::Machine as Prepare>::Config,
    source: Source,
) -> Result<V::Machine, HypervisorError> {
    match source {
        Source::Boot => {
            let machine = greeted.await?;
            machine.configure(config).await?;
            Ok(machine)
        }
        Source::Snapshot(snapshot) => {
            let (machine, ()) = futures::try_join!(greeted, sound::<V>(&snapshot))?;
            machine.load(snapshot).await?;
            Ok(machine)
        }
    }
}

/// Finds the VMM of a launch again.
async fn adopt<V: Vendor>(
    managed: &Managed<V>,
    spec: &MachineSpec,
) -> Result<Adopted, HypervisorError> {
    let Managed { vendor, description: _, launcher } = managed;
    let spec = &in_place(spec)?;
    Ok(match launcher.find(spec).await? {
        Found::NeverLaunched => Adopted::NeverLaunched,
        Found::Lost { boot, history } => Adopted::Lost { boot, history },
        Found::Exited { boot, history, exit } => Adopted::Exited { boot, history, exit },
        Found::Alive(started) => {
            let kept = launcher.kept(spec)?;
            let machine = vendor.greet(spec, kept, &started, Greeting::Adopted).await?;
            let state = machine.state().await?;
            let since = started.vcpus.since(state);
            Adopted::Alive { launched: started.launched(machine), state, since }
        }
    })
}

/// Finds out whether a snapshot is whole, where its files are read by the VMM and not by us.
async fn sound<V: Vendor>(snapshot: &SnapshotSource) -> Result<(), HypervisorError> {
    if !V::READS_SNAPSHOTS {
        return Ok(());
    }
    let SnapshotSource { folder, manifest } = snapshot.clone();
    blocking(move || manifest.verify(&folder)).await
}

impl<V: Vendor> Hypervisor for Managed<V> {
    fn name(&self) -> &'static str {
        self.description.name
    }

    fn describe(&self) -> &Description {
        &self.description
    }

    fn launch<'a>(
        &'a self,
        spec: &'a MachineSpec,
        origin: Origin,
    ) -> BoxFuture<'a, Result<Launched, HypervisorError>> {
        launch(self, spec, origin).boxed()
    }

    fn adopt<'a>(
        &'a self,
        spec: &'a MachineSpec,
    ) -> BoxFuture<'a, Result<Adopted, HypervisorError>> {
        adopt(self, spec).boxed()
    }

    fn end<'a>(&'a self, spec: &'a MachineSpec) -> BoxFuture<'a, Result<(), HypervisorError>> {
        self.launcher.end(spec).boxed()
    }
}
