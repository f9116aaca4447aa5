//! Differences between QEMU's machine types q35 and microvm.

use crate::clock;
use crate::hypervisor::{Accelerator, Kind};

/// Time for which the processor's time-stamp counter is measured, in nanoseconds.
const TSC_WATCH_NS: u64 = 20_000_000;

/// A machine type on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Board {
    pub(super) kind: Kind,
    machine_type: String,
    /// File name of the firmware; `None` for the machine type's default.
    firmware: Option<&'static str>,
    /// True if QEMU was built with its seccomp sandbox.
    has_sandbox: bool,
    /// Frequency of the host's time-stamp counter in kHz, if guests have to be told; otherwise
    /// `None`.
    tsc_khz: Option<u64>,
}

impl Board {
    /// q35 by its versioned name: a snapshot must not depend on the meaning of the alias in another
    /// version.
    pub(super) fn q35(machine_type: String, has_sandbox: bool) -> Self {
        Self { kind: Kind::Qemu, machine_type, firmware: None, has_sandbox, tsc_khz: None }
    }

    /// microvm, with qboot as its firmware if installed: the general firmware takes seconds under
    /// emulation.
    pub(super) fn microvm(has_qboot: bool, has_sandbox: bool) -> Self {
        let firmware = has_qboot.then_some(QBOOT);
        let tsc_khz = measure_tsc_khz();
        Self {
            kind: Kind::QemuMicrovm,
            machine_type: "microvm".into(),
            firmware,
            has_sandbox,
            tsc_khz,
        }
    }

    pub(super) fn machine_type(&self) -> &str {
        &self.machine_type
    }

    pub(super) fn firmware(&self) -> Vec<String> {
        self.firmware.map_or_else(Vec::new, |firmware| vec!["-bios".into(), firmware.into()])
    }

    /// The options of QEMU's sandbox; none if it has no sandbox.
    pub(super) fn sandbox(&self) -> &'static [&'static str] {
        if self.has_sandbox { &SANDBOX } else { &[] }
    }

    /// Device model of a disk.
    pub(super) fn disk_model(&self) -> &'static str {
        match self.kind {
            Kind::QemuMicrovm => "virtio-blk-device",
            Kind::Qemu | Kind::CloudHypervisor | Kind::Firecracker => "virtio-blk-pci",
        }
    }

    /// The device model of the bus that the agent's port is on.
    pub(super) fn serial_model(&self) -> &'static str {
        match self.kind {
            Kind::QemuMicrovm => "virtio-serial-device",
            Kind::Qemu | Kind::CloudHypervisor | Kind::Firecracker => "virtio-serial-pci",
        }
    }

    /// The device model of a network card, without a program to boot from it.
    pub(super) fn network_model(&self) -> &'static str {
        match self.kind {
            Kind::QemuMicrovm => "virtio-net-device",
            Kind::Qemu | Kind::CloudHypervisor | Kind::Firecracker => "virtio-net-pci,romfile=",
        }
    }

    /// The guest's command line. microvm has no timer by which Linux could calibrate the emulated
    /// time-stamp counter, so the frequency is added; without it Linux hangs early in its boot.
    pub(super) fn cmdline(&self, given: &str, accelerator: Accelerator) -> String {
        match (accelerator, self.tsc_khz) {
            (Accelerator::Tcg, Some(khz)) if !given.contains("tsc_early_khz=") => {
                format!("{given} tsc_early_khz={khz}").trim_start().into()
            }
            (Accelerator::Tcg | Accelerator::Kvm, _) => given.into(),
        }
    }
}

/// Options of QEMU's seccomp sandbox: no obsolete system calls, no change of privileges, no
/// processes, no change of priorities. Migration works in it, through sockets that QEMU opens
/// itself.
pub(super) const SANDBOX: [&str; 2] =
    ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"];

/// File name of the firmware that was made for microvm.
pub(super) const QBOOT: &str = "qboot.rom";

/// Measures the frequency of the host's time-stamp counter, which QEMU's emulator shows its guests,
/// in kHz. `None` if the processor has none.
#[cfg(target_arch = "x86_64")]
fn measure_tsc_khz() -> Option<u64> {
    let read = || {
        // SAFETY: the instruction reads a counter and touches nothing else; every x86-64 processor
        // has it.
        let ticks = unsafe { std::arch::x86_64::_rdtsc() };
        (ticks, clock::boottime_ns())
    };
    let (first_ticks, first_ns) = read();
    std::thread::sleep(std::time::Duration::from_nanos(TSC_WATCH_NS));
    let (last_ticks, last_ns) = read();
    // Ticks in a nanosecond times a million; rounded down.
    let ticks = last_ticks.checked_sub(first_ticks)?;
    let ns = last_ns.checked_sub(first_ns)?;
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(ns.max(1))).ok()
}

#[cfg(not(target_arch = "x86_64"))]
fn measure_tsc_khz() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulated_microvm_is_told_how_fast_time_goes_unless_it_was() {
        let microvm = Board { tsc_khz: Some(2_000_000), ..Board::microvm(true, true) };
        let rows = [
            ("", Accelerator::Tcg, "tsc_early_khz=2000000"),
            ("quiet", Accelerator::Tcg, "quiet tsc_early_khz=2000000"),
            ("tsc_early_khz=7 quiet", Accelerator::Tcg, "tsc_early_khz=7 quiet"),
            ("quiet", Accelerator::Kvm, "quiet"),
        ];
        for (given, accelerator, expected) in rows {
            assert_eq!(microvm.cmdline(given, accelerator), expected);
        }
        assert_eq!(
            Board::q35("pc-q35-7.2".into(), true).cmdline("quiet", Accelerator::Tcg),
            "quiet"
        );
    }

    #[test]
    fn the_firmware_is_named_only_where_it_is() {
        assert_eq!(Board::microvm(true, true).firmware(), ["-bios", "qboot.rom"]);
        assert_eq!(Board::microvm(false, true).firmware(), [""; 0]);
    }
}
