//! The seam to the programs that run virtual machines.
//!
//! A [`Hypervisor`] launches virtual machine monitors (VMMs), finds them again after a restart of
//! the daemon, and hands out a [`Vm`] to control each, and a stream of what was [`Observed`] of it.
//! Nothing here knows phases, billing or the journal; nothing outside knows QMP. Every instant is a
//! [`Stamp`]: the raw host clocks at the moment of the act, not of the bookkeeping.

mod capability;
mod check;
mod cloud_hypervisor;
mod console;
mod descriptors;
mod detect;
mod disks;
mod error;
mod events;
pub mod files;
mod firecracker;
mod follow;
mod format;
mod launch;
pub mod log;
mod managed;
mod movement;
mod pre_spawn;
mod process;
mod qemu;
mod remains;
mod rest;
mod snapshot;
mod strays;
pub mod supervisor;
mod usage;
mod vcpus;
mod watch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::billing::BootId;
use crate::clock;
use crate::id::{InstanceId, InstanceName};

pub use capability::{Capabilities, Capability, Kind};
pub use cloud_hypervisor::{CloudHypervisor, CloudHypervisorConfig};
pub use console::ask_console;
pub use disks::lock as lock_disk;
pub use error::{HypervisorError, SnapshotDefect};
pub use firecracker::{Firecracker, FirecrackerConfig};
pub use qemu::{Qemu, QemuConfig};
pub use remains::{HostLaunches, Launches};
pub use snapshot::{StopSignal, compress, unpack};
pub use strays::{MachineProcess, machine_processes};
pub use usage::{Usage as ProcessUsage, usage};

/// The raw host clocks at the moment of an act. [`crate::clock::Clock::reading_of`] makes a reading
/// of it, in the same boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME` in nanoseconds since 1970.
    pub wall_ns: i64,
}

impl Stamp {
    /// Now.
    pub fn now() -> Self {
        Self { boottime_ns: clock::boottime_ns(), wall_ns: clock::wall_ns() }
    }
}

/// Everything a VMM needs to know about one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// The instance's folder; [`files`] names what lies in it. Created if it is not there.
    pub dir: PathBuf,
    /// The instance.
    pub id: InstanceId,
    /// What a person calls it.
    pub name: InstanceName,
    /// Which launch of this instance: a number never used before, for a boot and for a restore
    /// alike.
    pub incarnation: u32,
    /// Virtual processors, from 1.
    pub vcpus: u32,
    /// Guest memory at the boot in bytes, a multiple of 1 MiB. A restore gets what it had when it
    /// was saved.
    pub memory_bytes: u64,
    /// Up to which [`Vm::resize_memory`] may go, in bytes, a multiple of 1 MiB; none for a machine
    /// whose memory stays as it is.
    pub memory_bytes_max: Option<u64>,
    /// The kernel, or any other image that the VMM boots directly.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
    /// Disks in the order in which the guest sees them.
    pub disks: Vec<Disk>,
    /// The machine type, instead of the hypervisor's default. A restore uses the snapshot's.
    pub machine_type: Option<String>,
    /// The processor model, instead of the hypervisor's default. A restore uses the snapshot's.
    pub cpu_model: Option<String>,
}

/// A raw disk image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The image.
    pub path: PathBuf,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// Where a launch starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From nothing: the vCPUs will begin at the kernel's entry.
    Boot,
    /// From the snapshot in this folder, which [`Vm::save`] wrote: of this instance, or of another
    /// one whose fork this one is to be. Id, name, folder, console and the files behind the disks
    /// may differ; vCPUs, memory and the disks' number and kind may not. The folder may be removed
    /// once the machine has been launched, but nothing in it may be changed while any machine that
    /// was loaded from it lives.
    Snapshot(PathBuf),
}

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself, through `/dev/kvm`.
    Kvm,
    /// An emulator.
    Tcg,
}

impl Accelerator {
    /// The name that QEMU and this program's configuration use.
    pub fn as_str(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}

/// A text that names no accelerator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no accelerator; accelerators are kvm and tcg")]
pub struct UnknownAccelerator(pub String);

impl FromStr for Accelerator {
    type Err = UnknownAccelerator;
    fn from_str(text: &str) -> Result<Self, UnknownAccelerator> {
        let known = [Accelerator::Kvm, Accelerator::Tcg];
        known
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| UnknownAccelerator(text.into()))
    }
}

/// What a hypervisor is and can do on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Such as `qemu`.
    pub name: &'static str,
    /// Such as `7.2.22`.
    pub version: String,
    /// The program that is run.
    pub program: PathBuf,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// Why that one, in one sentence.
    pub accelerator_reason: String,
    /// The machine type of a boot, with its version; none where there is only one.
    pub machine_type: Option<String>,
    /// Most virtual processors of one machine.
    pub vcpus_max: u32,
    /// What it can do.
    pub capabilities: Capabilities,
}

impl Description {
    /// That it can do this.
    ///
    /// # Errors
    /// [`HypervisorError::Unsupported`], which says who can.
    pub fn require(&self, capability: Capability) -> Result<(), HypervisorError> {
        if self.capabilities.has(capability) {
            return Ok(());
        }
        Err(HypervisorError::Unsupported { hypervisor: self.name, capability })
    }
}

/// A program that runs virtual machines on this host.
pub trait Hypervisor: Send + Sync {
    /// Its name, such as `qemu`.
    fn name(&self) -> &'static str;

    /// What it is and can do here. Found out once, when it was set up.
    fn describe(&self) -> &Description;

    /// Starts a VMM and its supervisor. Returns with the vCPUs held: at the kernel's entry, or
    /// where the snapshot left them. Dropping the future may leave a held machine behind;
    /// [`Hypervisor::adopt`] finds it.
    ///
    /// # Errors
    /// Any [`HypervisorError`]; the VMM's process is then gone, and what it said last is in the
    /// error. Only where the error is that the supervisor did not answer in time, a held machine
    /// may come up later; [`Hypervisor::adopt`] finds it.
    fn launch<'a>(
        &'a self,
        spec: &'a MachineSpec,
        origin: Origin,
    ) -> BoxFuture<'a, Result<Launched, HypervisorError>>;

    /// Finds the VMM of `spec.incarnation` again after a restart of the daemon and proves that it
    /// is the same one. A VMM may serve one client only: drop what is left of an earlier
    /// [`Launched`] first.
    ///
    /// # Errors
    /// Any [`HypervisorError`] if what is there can't be read or does not answer; nothing was
    /// changed, and it may be tried again.
    fn adopt<'a>(
        &'a self,
        spec: &'a MachineSpec,
    ) -> BoxFuture<'a, Result<Adopted, HypervisorError>>;

    /// Ends the VMM of `spec.incarnation` by force without asking it anything: the way out for one
    /// that hangs and can't be adopted. Does nothing if there is none. What became of it is for
    /// [`Hypervisor::adopt`] to say.
    ///
    /// # Errors
    /// Any [`HypervisorError`]; it may live on then.
    fn end<'a>(&'a self, spec: &'a MachineSpec) -> BoxFuture<'a, Result<(), HypervisorError>>;
}

/// A live machine.
pub struct Launched {
    /// Its control.
    pub vm: Arc<dyn Vm>,
    /// What is observed of this incarnation, in order, from its beginning. The last is
    /// [`Observed::Exited`].
    pub observed: mpsc::Receiver<Observed>,
    /// The VMM's process id, for people.
    pub pid: u32,
}

/// What became of a machine while nobody watched.
pub enum Adopted {
    /// It lives.
    Alive {
        /// The machine; what it did in the meantime comes first out of its stream.
        launched: Launched,
        /// What its vCPUs do now.
        state: VmState,
        /// Since when they do that, where the VMM says so and its supervisor has heard it; none
        /// where nothing proves it.
        since: Option<Stamp>,
    },
    /// It ended, and its supervisor saw it.
    Exited {
        /// The boot to which the stamps belong; it may be an earlier one.
        boot: BootId,
        /// Everything that was observed of the incarnation, in order; `exit` is not among it.
        history: Vec<Observed>,
        /// The end.
        exit: Exit,
    },
    /// It is gone, and nobody saw when: the host lost power, or its supervisor was killed and then
    /// it ended too.
    Lost {
        /// The boot to which the stamps belong.
        boot: BootId,
        /// Everything that was observed of the incarnation, in order.
        history: Vec<Observed>,
    },
    /// No VMM of this incarnation was ever started, and none will be any more.
    NeverLaunched,
}

/// What the vCPUs of a live machine do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmState {
    /// Held since the launch; they never ran.
    NotStarted,
    /// They run.
    Running,
    /// Held.
    Paused,
    /// A snapshot is being loaded, or was to be when the daemon ended.
    Loading,
    /// The guest has powered off or broken down; the VMM is about to exit or has to be ended.
    Ended,
}

/// Control of one live machine. Calls for one machine are made one after the other. Dropping a
/// future does not undo its act.
pub trait Vm: Send + Sync {
    /// Lets the vCPUs run. Does nothing if they run. The stamp is the instant since which they do:
    /// that of the VMM's event, where it tells of one, else of its acknowledgement.
    ///
    /// # Errors
    /// Any [`HypervisorError`]; the state is then that of [`Vm::state`].
    fn resume(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>>;

    /// Holds the vCPUs. Does nothing if they are held. The stamp is the instant since which they
    /// are: that of the VMM's event, where it tells of one, else of its acknowledgement.
    ///
    /// # Errors
    /// Any [`HypervisorError`]; the state is then that of [`Vm::state`].
    fn pause(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>>;

    /// Writes the memory of a machine whose vCPUs ran and are held into the new folder `to`: aside
    /// first, checksummed, durable, then renamed. The VMM stays, held; [`Vm::quit`] ends it.
    ///
    /// # Errors
    /// Any [`HypervisorError`]; `to` does not exist then, and the machine is held and usable.
    /// [`HypervisorError::SavedBefore`] if the memory has left the VMM already, whatever became of
    /// it, and this VMM saves only once between two runs.
    fn save<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<Saved, HypervisorError>>;

    /// Gives the machine, whose vCPUs run, this much memory: from what it has up to
    /// [`MachineSpec::memory_bytes_max`], in the steps that the hypervisor has. The stamp is that
    /// of the VMM's acknowledgement. Does nothing if it has so much.
    ///
    /// # Errors
    /// [`HypervisorError::Unsupported`] without [`Capability::MemoryResize`], and any other; the
    /// machine goes on with what it had.
    fn resize_memory(&self, bytes: u64) -> BoxFuture<'_, Result<Stamp, HypervisorError>>;

    /// Asks the guest to power itself off. The stamp is that of the VMM's acknowledgement; whether
    /// the guest obeys shows as [`Observed::Exited`].
    ///
    /// # Errors
    /// Any [`HypervisorError`]; the guest may not have been asked.
    fn request_stop(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>>;

    /// Ends the VMM in an orderly way without asking the guest. The end shows as
    /// [`Observed::Exited`].
    ///
    /// # Errors
    /// Any [`HypervisorError`]; [`Vm::kill`] is what remains.
    fn quit(&self) -> BoxFuture<'_, Result<(), HypervisorError>>;

    /// Ends the VMM by force. Does nothing if it has ended. The end shows as [`Observed::Exited`].
    ///
    /// # Errors
    /// [`HypervisorError::Kill`] if the operating system refuses.
    fn kill(&self) -> Result<(), HypervisorError>;

    /// What the vCPUs do.
    ///
    /// # Errors
    /// Any [`HypervisorError`].
    fn state(&self) -> BoxFuture<'_, Result<VmState, HypervisorError>>;
}

/// A snapshot that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// Bytes of it on disk.
    pub bytes: u64,
    /// When it was durable.
    pub stamp: Stamp,
}

/// Something that was seen of a machine, with the time at which it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The VMM's process was started. Only in a history.
    Launched(Stamp),
    /// The VMM said that the vCPUs are held. Only in a history, and only of those that say so.
    Paused(Stamp),
    /// The VMM said that they run. Only in a history, and only of those that say so.
    Resumed(Stamp),
    /// The console said that the guest's main program was started. Only the first of an
    /// incarnation.
    ProgramStarted(Stamp),
    /// The console said that the guest's agent answers. Only the first of an incarnation.
    AgentReady(Stamp),
    /// The console said that the guest's main program ended. The last one counts. A guest that says
    /// so more than [`crate::limits::instance::EXIT_MARKERS_AT_ONCE`] times in an incarnation is
    /// heard at intervals from then on.
    ProgramExited {
        /// When it was read.
        stamp: Stamp,
        /// The exit code.
        code: i32,
        /// What the guest says about it.
        message: String,
    },
    /// The VMM has ended. Nothing comes after it.
    Exited(Exit),
}

/// How and when a VMM ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// When: the true time if `witnessed`, else when it was noticed.
    pub stamp: Stamp,
    /// The process's status.
    pub status: ExitStatus,
    /// Who ended it.
    pub initiator: Initiator,
    /// Whether the supervisor saw it happen.
    pub witnessed: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody could ask.
    Unknown,
}

/// Who ended a VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initiator {
    /// The guest powered itself off, asked or not.
    GuestPowerOff,
    /// The guest reset itself; a reset ends a VMM.
    GuestReset,
    /// The guest broke down.
    GuestPanic,
    /// The VMM was told to quit, over its control socket or by a signal it obeys.
    Host,
    /// The VMM did not say: it failed or was killed; `status` tells more.
    Unknown,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exit code {code}"),
            ExitStatus::Signal(signal) => write!(f, "signal {signal}"),
            ExitStatus::Unknown => f.write_str("unknown status"),
        }
    }
}
