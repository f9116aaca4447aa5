//! Cloud Hypervisor's events, and its log, which holds more.

use serde::Deserialize;

use super::news::{News, VcpuChange};
use crate::hypervisor::Initiator;

/// Longest event that is parsed, in bytes. Usual ones have about two hundred.
const EVENT_BYTES_MAX: usize = 4_096;

/// Parser of events, each of which takes several lines.
#[derive(Debug, Default)]
pub(super) struct Events {
    begun: Vec<u8>,
}

#[derive(Deserialize)]
struct Event<'a> {
    source: &'a str,
    event: &'a str,
}

impl Events {
    /// Takes the next line. Returns the news of the event that it completes, if any. The guest too
    /// may be the cause of a shutdown of the VMM; then the log says so.
    pub(super) fn line(&mut self, line: &[u8]) -> Option<News> {
        self.begun.extend_from_slice(line);
        if line.trim_ascii().is_empty() || self.begun.len() > EVENT_BYTES_MAX {
            self.begun.clear();
        }
        let event: Event<'_> = serde_json::from_slice(&self.begun).ok()?;
        let news = match (event.source, event.event) {
            ("vm", "paused") => Some(News::Vcpus(VcpuChange::Paused)),
            ("vm", "booted" | "resumed") => Some(News::Vcpus(VcpuChange::Resumed)),
            // Others exit at a reset, this one boots the guest again: it is ended before the guest
            // runs, so that a session is one boot and the restart policy decides about the next.
            ("vm", "rebooting") => Some(News::Ends(Initiator::GuestReset)),
            ("guest", "panic") => Some(News::Ends(Initiator::GuestPanic)),
            ("vmm", "shutdown") => Some(News::Ends(Initiator::Host)),
            _ => None,
        };
        self.begun.clear();
        news
    }
}

/// Words of the log that name the initiator of the end.
const WORDS: [(&str, Initiator); 3] = [
    ("ACPI Shutdown signalled", Initiator::GuestPowerOff),
    // The VMM exits with code 0 after that too, as if it had been told to.
    ("VCPU generated error", Initiator::Unknown),
    // The VMM may exit before it has sent this as an event.
    ("source = vmm event = shutdown", Initiator::Host),
];

/// Returns the initiator of the end that a line of the log names, if any.
pub(super) fn log(line: &[u8]) -> Option<Initiator> {
    let line = String::from_utf8_lossy(line);
    WORDS.into_iter().find(|(word, _)| line.contains(word)).map(|(_, initiator)| initiator)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The initiators of an end that `text` reports.
    fn heard(text: &str) -> Vec<Initiator> {
        let ends = news(text).into_iter().map(|news| match news {
            News::Ends(initiator) => initiator,
            News::Vcpus(change) => panic!("{change:?}"),
        });
        ends.collect()
    }

    fn news(text: &str) -> Vec<News> {
        let mut events = Events::default();
        text.lines().filter_map(|line| events.line(line.as_bytes())).collect()
    }

    #[test]
    fn events_tell_when_the_vcpus_are_held_and_run() {
        let names = ["booting", "booted", "pausing", "paused", "resuming", "resumed"];
        let text: String = names.iter().map(|name| event("vm", name)).collect();
        let changes = [VcpuChange::Resumed, VcpuChange::Paused, VcpuChange::Resumed];
        assert_eq!(news(&text), changes.map(News::Vcpus));
    }

    fn event(source: &str, event: &str) -> String {
        format!(
            "{{\n  \"timestamp\": {{\n    \"secs\": 0,\n    \"nanos\": 106300\n  }},\n  \"source\": \"{source}\",\n  \
             \"event\": \"{event}\",\n  \"properties\": null\n}}\n\n"
        )
    }

    #[test]
    fn events_tell_a_reset_from_an_end() {
        let text = [
            event("vmm", "starting"),
            event("vm", "rebooting"),
            event("vm", "shutdown"),
            event("guest", "panic"),
            event("vmm", "shutdown"),
        ];
        assert_eq!(
            heard(&text.concat()),
            [Initiator::GuestReset, Initiator::GuestPanic, Initiator::Host]
        );
        assert_eq!(heard(&text.concat().replace('\n', "")), [], "all on one line is no event");
        assert_eq!(heard(r#"{"source":"vm","event":"rebooting"}"#), [Initiator::GuestReset]);
    }

    #[test]
    fn nonsense_hides_no_event_after_it() {
        let text = format!("nonsense\n{{\n\n{}", event("vm", "rebooting"));
        assert_eq!(heard(&text), [Initiator::GuestReset]);
        let text =
            format!("{}\n{}\n{}", "x".repeat(EVENT_BYTES_MAX), "y", event("vm", "rebooting"));
        assert_eq!(heard(&text), [Initiator::GuestReset]);
    }

    #[test]
    fn the_log_tells_of_a_power_off_and_of_a_failure() {
        let line = b"cloud-hypervisor:  0.120s: <vcpu0> INFO:devices/src/acpi.rs:77 -- ACPI Shutdown signalled";
        assert_eq!(log(line), Some(Initiator::GuestPowerOff));
        let line = b"cloud-hypervisor:  0.230s: <vcpu0> ERROR:vmm/src/cpu.rs:1487 -- VCPU generated error: VcpuRun(..)";
        assert_eq!(log(line), Some(Initiator::Unknown));
        let line = b"cloud-hypervisor:  0.1s: <vmm> INFO:event_monitor/src/lib.rs:113 -- Event: source = vmm event = shutdown ";
        assert_eq!(log(line), Some(Initiator::Host));
        assert_eq!(
            log(b"cloud-hypervisor:  0.120s: <vmm> INFO -- API request event: VmInfo"),
            None
        );
    }
}
