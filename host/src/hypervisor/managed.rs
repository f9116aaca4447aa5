//! The part of a hypervisor that all vendors share.
//!
//! [`Managed`] implements [`Hypervisor`] once. A [`Vendor`] supplies the differences: starting its
//! program, connecting to the process, and configuring the machine.

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
    Adopted, Description, Hypervisor, HypervisorError, Kind, Launched, MachineSpec, Origin,
    Supervising, Vm,
};
use crate::limits::instance::{CONTROL_MS_MAX, LAUNCH_MS_MAX};

/// A program that runs virtual machines: the differences from the others.
pub(super) trait Vendor: Send + Sync {
    /// Connections between a VMM and its supervisor.
    const WIRING: Wiring;

    /// True if the VMM reads the files of a snapshot itself. They are verified before it does.
    const READS_SNAPSHOTS: bool;

    /// State kept for as long as a machine lives, also for the next daemon.
    type Kept: Clone + Serialize + DeserializeOwned + Send + Sync;

    /// Control of one of its processes.
    type Machine: Prepare + 'static;

    /// Kind of the hypervisor.
    fn kind(&self) -> Kind;

    /// Plans the launch of a process for a machine that was checked.
    ///
    /// # Errors
    /// [`HypervisorError::Spec`], [`HypervisorError::Snapshot`]: nothing was started.
    fn launch(
        &self,
        here: &Description,
        spec: &MachineSpec,
        source: &Source,
    ) -> Result<Plan<Self::Kept, <Self::Machine as Prepare>::Config>, HypervisorError>;

    /// Connects to a process that runs, and proves that it is this machine's.
    ///
    /// # Errors
    /// Any [`HypervisorError`], such as [`HypervisorError::Identity`].
    fn greet(
        &self,
        spec: &MachineSpec,
        kept: Self::Kept,
        started: &Started,
        greeting: Greeting,
    ) -> impl Future<Output = Result<Self::Machine, HypervisorError>> + Send;
}

/// A process that has no machine yet.
pub(super) trait Prepare: Vm {
    /// The description of a machine that is to boot.
    type Config: Send;

    /// Configures the machine that is to boot. Its vCPUs are held afterwards.
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

/// The plan of a launch, before anything is started.
pub(super) struct Plan<K, C> {
    /// The program's arguments.
    pub(super) args: Vec<String>,
    /// State for the daemon that adopts the machine.
    pub(super) kept: K,
    /// The description of a machine that is to boot.
    pub(super) config: C,
}

/// Starting point of a launch, checked.
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

/// Occasion of connecting to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The process was just started, by its supervisor for this launch.
    Launched,
    /// The process was found again and has to prove its identity.
    Adopted,
}

impl Greeting {
    /// Longest time for the answer, in milliseconds.
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
    /// A hypervisor that was detected on this host. Needs an async runtime.
    pub(super) fn new(
        vendor: V,
        description: Description,
        supervisor: Supervising,
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
    let snapshot = match &source {
        Source::Boot => None,
        Source::Snapshot(source) => Some(source.folder.clone()),
    };
    let program = Program { path: &description.program, args, wiring: V::WIRING, snapshot };
    let started = launcher.start(spec, program, &kept).await?;
    let greeted = vendor.greet(spec, kept, &started, Greeting::Launched);
    let machine = prepare::<V>(greeted, config, source).await;
    started.under(machine).await
}

/// Checks the starting point of a launch.
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

/// Configures or loads the machine of a process that was just started.
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

/// Verifies a snapshot's checksums if the VMM reads its files. Otherwise they are verified while
/// the daemon streams them.
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
