//! A VMM's own events and log about its vCPUs and its end. The only place where a supervisor
//! depends on the vendor.

mod cloud_hypervisor;
mod firecracker;
mod news;
mod qmp;

use super::lines::Lines;
use super::wiring::Wiring;
use crate::hypervisor::{ExitStatus, Initiator};
use news::News;
pub(super) use news::VcpuChange;

/// The signal that asks a process to end.
const TERMINATE: ExitStatus = ExitStatus::Signal(15);

/// Parser of one VMM's events and log.
#[derive(Debug)]
pub(super) struct Monitor {
    wiring: Wiring,
    events: Lines,
    several_lines: cloud_hypervisor::Events,
    log: Lines,
    said: Option<Initiator>,
}

impl Monitor {
    pub(super) fn new(wiring: Wiring) -> Self {
        Self {
            wiring,
            events: Lines::default(),
            several_lines: cloud_hypervisor::Events::default(),
            log: Lines::default(),
            said: None,
        }
    }

    /// Bytes to send to the VMM so that it sends events.
    pub(super) fn greeting(&self) -> &'static [u8] {
        match self.wiring {
            Wiring::Qemu => qmp::GREETING,
            Wiring::CloudHypervisor | Wiring::Firecracker => b"",
        }
    }

    /// Takes bytes of the VMM's events; calls `changed` with each change of the vCPUs.
    pub(super) fn take_events(&mut self, bytes: &[u8], mut changed: impl FnMut(VcpuChange)) {
        let wiring = self.wiring;
        let said = &mut self.said;
        let several_lines = &mut self.several_lines;
        self.events.take(bytes, |line| {
            let news = match wiring {
                Wiring::Qemu => qmp::event(line),
                Wiring::CloudHypervisor => several_lines.line(line),
                Wiring::Firecracker => None,
            };
            match news {
                Some(News::Ends(initiator)) => hear(said, Some(initiator)),
                Some(News::Vcpus(change)) => changed(change),
                None => {}
            }
        });
    }

    /// Takes bytes of the VMM's log.
    pub(super) fn take_log(&mut self, bytes: &[u8]) {
        let wiring = self.wiring;
        let said = &mut self.said;
        self.log.take(bytes, |line| {
            let news = match wiring {
                Wiring::Qemu => None,
                Wiring::CloudHypervisor => cloud_hypervisor::log(line),
                Wiring::Firecracker => firecracker::log(line),
            };
            hear(said, news);
        });
    }

    /// Returns whether the guest has reset itself and the VMM would boot it anew. By contract a
    /// reset ends a machine.
    pub(super) fn must_end(&self) -> bool {
        self.wiring == Wiring::CloudHypervisor && self.said == Some(Initiator::GuestReset)
    }

    /// The initiator of the VMM's end, by its events, its log and its exit status.
    pub(super) fn initiator(&self, status: ExitStatus) -> Initiator {
        match (self.said, self.wiring, status) {
            (Some(said), _, _) => said,
            (None, _, TERMINATE) => Initiator::Host,
            // A Firecracker guest can't power off: it ends by a reset, which is not reported.
            (None, Wiring::Firecracker, ExitStatus::Code(0)) => Initiator::GuestPowerOff,
            (None, _, _) => Initiator::Unknown,
        }
    }
}

/// Notes a reported initiator. The host does not replace a guest that was reported before.
fn hear(said: &mut Option<Initiator>, news: Option<Initiator>) {
    if let Some(news) = news
        && (news != Initiator::Host || said.is_none())
    {
        *said = Some(news);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: &[u8] = b"INFO:devices/src/acpi.rs:77 -- ACPI Shutdown signalled\n";
    const DOWN: &[u8] = b"{\"source\":\"vmm\",\"event\":\"shutdown\"}\n";

    #[test]
    fn a_power_off_is_the_guests_whichever_of_log_and_events_is_read_first() {
        for log_first in [true, false] {
            let mut monitor = Monitor::new(Wiring::CloudHypervisor);
            if log_first {
                monitor.take_log(OFF);
            }
            monitor.take_events(DOWN, |_| {});
            if !log_first {
                monitor.take_log(OFF);
            }
            assert_eq!(monitor.initiator(ExitStatus::Code(0)), Initiator::GuestPowerOff);
        }
    }

    #[test]
    fn an_end_of_which_nothing_was_said_is_judged_by_its_status() {
        let rows = [
            (Wiring::Firecracker, ExitStatus::Code(0), Initiator::GuestPowerOff),
            (Wiring::Firecracker, ExitStatus::Code(1), Initiator::Unknown),
            (Wiring::Firecracker, ExitStatus::Signal(15), Initiator::Host),
            (Wiring::Firecracker, ExitStatus::Signal(9), Initiator::Unknown),
            (Wiring::CloudHypervisor, ExitStatus::Code(0), Initiator::Unknown),
            (Wiring::Qemu, ExitStatus::Code(0), Initiator::Unknown),
        ];
        for (wiring, status, expected) in rows {
            assert_eq!(Monitor::new(wiring).initiator(status), expected, "{wiring:?} {status}");
        }
    }

    #[test]
    fn exit_code_0_after_an_internal_error_is_not_the_guests_doing() {
        let mut monitor = Monitor::new(Wiring::Firecracker);
        monitor.take_log(b"[one-1:fc_vcpu 0] Received KVM_EXIT_INTERNAL_ERROR signal\n[one-1:main] exit_code=0\n");
        assert_eq!(monitor.initiator(ExitStatus::Code(0)), Initiator::Unknown);
    }

    #[test]
    fn only_where_the_vmm_would_go_on_a_reset_must_be_followed_by_an_end() {
        let mut monitor = Monitor::new(Wiring::CloudHypervisor);
        assert!(!monitor.must_end());
        monitor.take_events(b"{\"source\":\"vm\",\"event\":\"rebooting\"}\n", |_| {});
        assert!(monitor.must_end());
        let mut monitor = Monitor::new(Wiring::Qemu);
        monitor.take_events(
            b"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\n",
            |_| {},
        );
        assert!(!monitor.must_end());
    }

    #[test]
    fn changes_of_the_vcpus_are_told_in_order() {
        let mut monitor = Monitor::new(Wiring::Qemu);
        let mut changes = Vec::new();
        let text = b"{\"event\": \"RESUME\"}\n{\"return\": {}}\n{\"event\": \"STOP\"}\n{\"event\": \"RESUME\"}\n";
        monitor.take_events(text, |change| changes.push(change));
        assert_eq!(changes, [VcpuChange::Resumed, VcpuChange::Paused, VcpuChange::Resumed]);
    }
}
