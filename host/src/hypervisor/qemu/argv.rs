//! QEMU's command line for a machine.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::board::Board;
use crate::hypervisor::check::{MIB, utf8};
use crate::hypervisor::snapshot::Choice;
use crate::hypervisor::supervisor::{AGENT_FD, CONSOLE_FD, CONTROL_FD, EVENTS_FD};
use crate::hypervisor::{Disk, HypervisorError, MachineSpec, files};
use crate::id::InstanceId;
use crate::network::{GUEST_MAC, TAP};

/// The machine's name in QEMU: unique for each launch, so that it proves, with the process, which
/// launch answers.
pub(super) fn name(spec: &MachineSpec) -> String {
    format!("{}.{}", spec.id, spec.incarnation)
}

/// The UUID that the guest sees, the same for every launch of an instance: the first bytes of a
/// hash of its id, with version 8 of RFC 9562.
pub(super) fn uuid(id: &InstanceId) -> String {
    let mut bytes: [u8; 32] = Sha256::digest(id.as_str()).into();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(&bytes[..16]);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// The arguments of a launch with its vCPUs held.
pub(super) fn args(
    board: &Board,
    spec: &MachineSpec,
    choice: &Choice,
    incoming: bool,
) -> Result<Vec<String>, HypervisorError> {
    let mut args = Args(Vec::new());
    args.pair("-name", name(spec));
    args.pair("-uuid", uuid(&spec.id));
    args.pair("-machine", choice.machine_type.as_deref().unwrap_or(board.machine_type()));
    args.pair("-accel", choice.accelerator.as_str());
    if let Some(model) = &choice.cpu_model {
        args.pair("-cpu", model.clone());
    }
    args.pair("-smp", spec.vcpus.to_string());
    args.pair("-m", format!("{}M", spec.memory_bytes / MIB));
    args.0.extend(["-nodefaults", "-no-user-config", "-no-reboot", "-S"].map(String::from));
    args.0.extend(board.sandbox().iter().map(ToString::to_string));
    args.pair("-display", "none");
    args.pair("-msg", "timestamp=on");
    args.pair("-kernel", utf8("the kernel's path", &spec.kernel)?);
    if let Some(initrd) = &spec.initrd {
        args.pair("-initrd", utf8("the initial RAM disk's path", initrd)?);
    }
    args.pair("-append", board.cmdline(&spec.cmdline, choice.accelerator));
    args.pair("-chardev", format!("socket,id=console,fd={CONSOLE_FD}"));
    args.pair("-serial", "chardev:console");
    args.monitor("events", &format!("fd={EVENTS_FD}"));
    args.monitor("control", &format!("fd={CONTROL_FD},server=on,wait=off"));
    for (n, disk) in spec.disks.iter().enumerate() {
        args.disk(board, n, disk)?;
    }
    if spec.agent {
        args.agent(board);
    }
    if spec.network.is_some() {
        args.card(board);
    }
    args.0.extend(board.firmware());
    if incoming {
        args.pair("-incoming", migration_uri());
    }
    Ok(args.0)
}

/// URI of the socket for migration out and in, relative to the launch's folder, in which QEMU runs.
pub(super) fn migration_uri() -> String {
    format!("unix:{}", files::TRANSFER)
}

struct Args(Vec<String>);

impl Args {
    fn pair(&mut self, option: &str, value: impl Into<String>) {
        self.0.extend([option.into(), value.into()]);
    }

    fn monitor(&mut self, id: &str, socket: &str) {
        self.pair("-chardev", format!("socket,id={id},{socket}"));
        self.pair("-mon", format!("chardev={id},mode=control"));
    }

    /// A virtio-serial port behind a socket that takes one client after the other.
    fn agent(&mut self, board: &Board) {
        self.pair("-device", format!("{},id=agents,max_ports=2", board.serial_model()));
        self.pair("-chardev", format!("socket,id=agent,fd={AGENT_FD},server=on,wait=off"));
        let name = agent::PORT_NAME;
        self.pair("-device", format!("virtserialport,bus=agents.0,nr=1,chardev=agent,name={name}"));
    }

    /// A network card behind the tap of the network namespace. Without a head before each packet,
    /// the guest can't hand over several packets as one, which would be counted as one.
    fn card(&mut self, board: &Board) {
        let tap =
            format!("tap,id=net0,ifname={TAP},script=no,downscript=no,vhost=off,vnet_hdr=off");
        self.pair("-netdev", tap);
        self.pair("-device", format!("{},netdev=net0,mac={GUEST_MAC}", board.network_model()));
    }

    fn disk(&mut self, board: &Board, n: usize, disk: &Disk) -> Result<(), HypervisorError> {
        let file = json!({ "driver": "file", "filename": utf8("a disk's path", &disk.path)? });
        let name = format!("disk{n}");
        let read_only = disk.read_only;
        let node = json!({
            "driver": "raw", "node-name": name, "read-only": read_only, "file": file,
        });
        self.pair("-blockdev", node.to_string());
        // Errors are reported to the guest: by default the VMM would hold the vCPUs by itself.
        let model = board.disk_model();
        let device = format!("{model},drive=disk{n},id=virtio-disk{n},werror=report,rerror=report");
        self.pair("-device", device);
        Ok(())
    }
}
