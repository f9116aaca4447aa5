//! The seam to the programs that run virtual machines.
//!
//! A [`Hypervisor`] launches virtual machine monitors (VMMs) and finds them again after a restart
//! of the daemon. For each it hands out a [`Vm`] for control and a stream of [`Observed`] events.
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
mod heard;
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
pub(crate) use heard::hears;
pub use qemu::{Qemu, QemuConfig};
pub use remains::{HostLaunches, Launches};
pub use snapshot::{StopSignal, compress, unpack};
pub use strays::MachineProcess;
use strays::machine_processes;
pub use supervisor::traffic::ended_traffic;
pub use supervisor::{Confinement, VmmUser, confinement};
pub use usage::{Usage as ProcessUsage, usage};

/// The raw host clocks at the moment of an act. [`crate::clock::Clock::reading_of`] converts a
/// stamp of the same boot into a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME` in nanoseconds since 1970.
    pub wall_ns: i64,
}

impl Stamp {
    /// Reads the clocks.
    pub fn now() -> Self {
        Self { boottime_ns: clock::boottime_ns(), wall_ns: clock::wall_ns() }
    }
}

/// This program as the supervisor of VMMs: run as `<program> supervise` beside every one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervising {
    /// The program.
    pub program: PathBuf,
    /// The user that VMMs run as; `None` for the supervisor's own.
    pub user: Option<VmmUser>,
}

impl From<PathBuf> for Supervising {
    fn from(program: PathBuf) -> Self {
        Self { program, user: None }
    }
}

impl From<&Path> for Supervising {
    fn from(program: &Path) -> Self {
        program.to_owned().into()
    }
}

impl From<&str> for Supervising {
    fn from(program: &str) -> Self {
        PathBuf::from(program).into()
    }
}

/// Description of one machine for a VMM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// The instance's folder, laid out as [`files`] says. Created if it is not there.
    pub dir: PathBuf,
    /// Id of the instance.
    pub id: InstanceId,
    /// Name of the instance.
    pub name: InstanceName,
    /// Number of the launch, never used before by this instance. Boots and restores count alike.
    pub incarnation: u32,
    /// Number of virtual processors, from 1.
    pub vcpus: u32,
    /// Guest memory at the boot, in bytes, a multiple of 1 MiB. A restore gets the memory that was
    /// saved.
    pub memory_bytes: u64,
    /// Largest size for [`Vm::resize_memory`], in bytes, a multiple of 1 MiB; `None` if the memory
    /// can't be resized.
    pub memory_bytes_max: Option<u64>,
    /// Path of the kernel, or of any other image that the VMM boots directly.
    pub kernel: PathBuf,
    /// Path of the initial RAM disk; `None` for none.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
    /// Disks in the order in which the guest sees them.
    pub disks: Vec<Disk>,
    /// Machine type; `None` for the hypervisor's default. A restore uses the snapshot's.
    pub machine_type: Option<String>,
    /// Processor model; `None` for the hypervisor's default. A restore uses the snapshot's.
    pub cpu_model: Option<String>,
    /// The guest has an agent, and is given a port for it.
    pub agent: bool,
    /// The guest's network card; `None` for none.
    pub network: Option<Card>,
}

/// A network card, behind the device [`crate::network::TAP`] of a network namespace. The VMM is
/// started in that namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// A path by which a supervisor can enter the namespace.
    pub namespace: PathBuf,
}

/// A raw disk image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Path of the image.
    pub path: PathBuf,
    /// True if the guest may only read the disk.
    pub read_only: bool,
}

/// Starting point of a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A boot: the vCPUs will begin at the kernel's entry.
    Boot,
    /// The snapshot in this folder, which [`Vm::save`] wrote: of this instance, or of another one
    /// whose fork this one is to be. Id, name, folder, console and the files behind the disks may
    /// differ; vCPUs, memory and the disks' number and kind may not. The folder may be removed once
    /// the machine has been launched, but nothing in it may be changed while any machine that was
    /// loaded from it lives.
    Snapshot(PathBuf),
}

/// Executor of the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself, through `/dev/kvm`.
    Kvm,
    /// QEMU's emulator.
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

/// A text that is no accelerator's name.
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

/// Version, accelerator and capabilities of a hypervisor on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Name of the hypervisor, such as `qemu`.
    pub name: &'static str,
    /// Version of the program, such as `7.2.22`.
    pub version: String,
    /// Path of the program, or its name on `PATH`.
    pub program: PathBuf,
    /// Executor of the guest's instructions.
    pub accelerator: Accelerator,
    /// Reason for that accelerator, in words.
    pub accelerator_reason: String,
    /// Machine type of a boot, with its version; `None` if there is only one.
    pub machine_type: Option<String>,
    /// Most virtual processors of one machine.
    pub vcpus_max: u32,
    /// Capabilities on this host.
    pub capabilities: Capabilities,
}

impl Description {
    /// Checks that the hypervisor has this capability.
    ///
    /// # Errors
    /// [`HypervisorError::Unsupported`], which names the hypervisors that have it.
    pub fn require(&self, capability: Capability) -> Result<(), HypervisorError> {
        if self.capabilities.has(capability) {
            return Ok(());
        }
        Err(HypervisorError::Unsupported { hypervisor: self.name, capability })
    }
}

/// A program that runs virtual machines on this host.
pub trait Hypervisor: Send + Sync {
    /// Name of the hypervisor, such as `qemu`.
    fn name(&self) -> &'static str;

    /// Description of the hypervisor on this host, found out once at its detection.
    fn describe(&self) -> &Description;

    /// Starts a VMM and its supervisor. Returns with the vCPUs held: at the kernel's entry, or
    /// where the snapshot left them. Dropping the future may leave a held machine behind;
    /// [`Hypervisor::adopt`] finds it.
    ///
    /// # Errors
    /// Any [`HypervisorError`]; the VMM's process is then gone, and the end of its log is in the
    /// error. Only if the supervisor did not answer in time, a held machine may come up later;
    /// [`Hypervisor::adopt`] finds it.
    fn launch<'a>(
        &'a self,
        spec: &'a MachineSpec,
        origin: Origin,
    ) -> BoxFuture<'a, Result<Launched, HypervisorError>>;

    /// Finds the VMM of `spec.incarnation` again after a restart of the daemon and proves that it
    /// is the same one. A VMM may serve one client only: drop any earlier [`Launched`] of this
    /// machine first.
    ///
    /// # Errors
    /// Any [`HypervisorError`] if the launch's files can't be read or the VMM does not answer;
    /// nothing was changed, and the call may be repeated.
    fn adopt<'a>(
        &'a self,
        spec: &'a MachineSpec,
    ) -> BoxFuture<'a, Result<Adopted, HypervisorError>>;

    /// Ends the VMM of `spec.incarnation` by force without a control call, for a VMM that hangs and
    /// can't be adopted. Does nothing if there is none. [`Hypervisor::adopt`] then returns its end.
    ///
    /// # Errors
    /// Any [`HypervisorError`]; the VMM may live on then.
    fn end<'a>(&'a self, spec: &'a MachineSpec) -> BoxFuture<'a, Result<(), HypervisorError>>;
}

/// A live machine.
pub struct Launched {
    /// Control of the machine.
    pub vm: Arc<dyn Vm>,
    /// Events of this incarnation, in order, from its beginning. The last is
    /// [`Observed::Exited`].
    pub observed: mpsc::Receiver<Observed>,
    /// The VMM's process id, for display only.
    pub pid: u32,
    /// The way to the guest's agent, for one client at a time; none without an agent, or without a
    /// way to it.
    pub agent: Option<AgentSocket>,
}

/// The socket by which a guest's agent is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSocket {
    /// The socket of a virtio-serial port.
    Port(PathBuf),
    /// The socket of a vsock device, which is asked for the guest's port first.
    Vsock(PathBuf),
}

/// Outcome of looking for a machine after a restart of the daemon.
pub enum Adopted {
    /// The machine lives.
    Alive {
        /// The machine. Its stream begins with the events since its launch.
        launched: Launched,
        /// State of its vCPUs now.
        state: VmState,
        /// Instant since which the vCPUs have been in that state, by the VMM's event that its
        /// supervisor received; `None` if there was no such event.
        since: Option<Stamp>,
    },
    /// The machine ended, witnessed by its supervisor.
    Exited {
        /// The boot to which the stamps belong; it may be an earlier one.
        boot: BootId,
        /// All events of the incarnation, in order, except for `exit`.
        history: Vec<Observed>,
        /// The end.
        exit: Exit,
    },
    /// The machine ended at an unknown instant: the host lost power, or the supervisor was killed
    /// before the machine ended.
    Lost {
        /// The boot to which the stamps belong.
        boot: BootId,
        /// All events of the incarnation, in order.
        history: Vec<Observed>,
    },
    /// No VMM of this incarnation was ever started, and none will be any more.
    NeverLaunched,
}

/// State of a live machine's vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmState {
    /// The vCPUs have been held since the launch and never ran.
    NotStarted,
    /// The vCPUs run.
    Running,
    /// The vCPUs ran and are held.
    Paused,
    /// A snapshot is being loaded, or was to be when the daemon ended.
    Loading,
    /// The guest has powered off or broken down; the VMM is about to exit or has to be ended.
    Ended,
}

/// Control of one live machine. The caller makes one call at a time. Dropping a future does not
/// undo its act.
pub trait Vm: Send + Sync {
    /// Lets the vCPUs run. Does nothing if they run. The stamp is the instant since which they run:
    /// that of the VMM's event, or of its acknowledgement if the VMM sends no such event.
    ///
    /// # Errors
    /// Any [`HypervisorError`]; the state is then that of [`Vm::state`].
    fn resume(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>>;

    /// Holds the vCPUs. Does nothing if they are held. The stamp is the instant since which they
    /// are held: that of the VMM's event, or of its acknowledgement if the VMM sends no such event.
    ///
    /// # Errors
    /// Any [`HypervisorError`]; the state is then that of [`Vm::state`].
    fn pause(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>>;

    /// Writes the memory of a machine whose vCPUs ran and are held into the new folder `to`: aside
    /// first, checksummed, durable, then renamed. The VMM stays, held; [`Vm::quit`] ends it.
    ///
    /// # Errors
    /// Any [`HypervisorError`]; `to` does not exist then, and the machine is held and usable.
    /// [`HypervisorError::SavedBefore`] if this VMM saves only once between two runs and has done
    /// so, even if that snapshot was lost.
    fn save<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<Saved, HypervisorError>>;

    /// Grows the memory of a machine whose vCPUs run to `bytes`: at least the present size, at most
    /// [`MachineSpec::memory_bytes_max`], in the hypervisor's steps. The stamp is that of the VMM's
    /// acknowledgement. Does nothing if the machine has that size.
    ///
    /// # Errors
    /// [`HypervisorError::Unsupported`] without [`Capability::MemoryResize`], and any other; the
    /// machine keeps its present size.
    fn resize_memory(&self, bytes: u64) -> BoxFuture<'_, Result<Stamp, HypervisorError>>;

    /// Asks the guest to power itself off. The stamp is that of the VMM's acknowledgement; a guest
    /// that obeys gives [`Observed::Exited`].
    ///
    /// # Errors
    /// Any [`HypervisorError`]; the guest may not have been asked.
    fn request_stop(&self) -> BoxFuture<'_, Result<Stamp, HypervisorError>>;

    /// Ends the VMM in an orderly way without asking the guest. The end shows as
    /// [`Observed::Exited`].
    ///
    /// # Errors
    /// Any [`HypervisorError`]; the VMM may live on, and [`Vm::kill`] ends it by force.
    fn quit(&self) -> BoxFuture<'_, Result<(), HypervisorError>>;

    /// Ends the VMM by force. Does nothing if it has ended. The end shows as [`Observed::Exited`].
    ///
    /// # Errors
    /// [`HypervisorError::Kill`] if the operating system refuses.
    fn kill(&self) -> Result<(), HypervisorError>;

    /// Asks the VMM for the state of its vCPUs.
    ///
    /// # Errors
    /// Any [`HypervisorError`].
    fn state(&self) -> BoxFuture<'_, Result<VmState, HypervisorError>>;
}

/// A snapshot that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// Size of the snapshot's files, in bytes.
    pub bytes: u64,
    /// Instant at which it was durable.
    pub stamp: Stamp,
}

/// An event of a machine, with the instant at which it was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The VMM's process was started. Only in a history.
    Launched(Stamp),
    /// The VMM reported that the vCPUs are held. Only in a history, and only of VMMs that report
    /// it.
    Paused(Stamp),
    /// The VMM reported that the vCPUs run. Only in a history, and only of VMMs that report it.
    Resumed(Stamp),
    /// The console announced that the guest's main program was started. Only the first of an
    /// incarnation.
    ProgramStarted(Stamp),
    /// The console announced that the guest's agent answers. Only the first of an incarnation.
    AgentReady(Stamp),
    /// The console announced that the guest's main program ended. The last one counts. After
    /// [`crate::limits::instance::EXIT_MARKERS_AT_ONCE`] of them in an incarnation, only the last
    /// one of each interval is reported.
    ProgramExited {
        /// Instant at which the line was read.
        stamp: Stamp,
        /// Exit code of the program.
        code: i32,
        /// Explanation that the guest gives; empty if there is none.
        message: String,
    },
    /// The VMM has ended. Nothing comes after it.
    Exited(Exit),
}

/// Instant and cause of a VMM's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Instant of the end if `witnessed`, otherwise of its discovery.
    pub stamp: Stamp,
    /// Exit status of the process.
    pub status: ExitStatus,
    /// Initiator of the end.
    pub initiator: Initiator,
    /// True if the supervisor saw the end.
    pub witnessed: bool,
}

/// Exit status of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// The process exited with this code.
    Code(i32),
    /// The process was ended by this signal.
    Signal(i32),
    /// The status is unknown: the parent is gone.
    Unknown,
}

/// Initiator of a VMM's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initiator {
    /// The guest powered itself off, asked or not.
    GuestPowerOff,
    /// The guest reset itself; a reset ends a VMM.
    GuestReset,
    /// The guest's kernel panicked.
    GuestPanic,
    /// The VMM was told to quit, over its control socket or by a signal it obeys.
    Host,
    /// The VMM reported no initiator: it failed or was killed. See [`Exit::status`].
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
