//! What the VMM itself says about its end. The only place where a supervisor knows QEMU.

use std::io::Write;
use std::os::unix::net::UnixStream;

use serde::Deserialize;

use super::lines::Lines;
use crate::hypervisor::Initiator;

/// Listens to QMP events.
#[derive(Debug)]
pub(super) struct Monitor {
    lines: Lines,
    initiator: Initiator,
}

#[derive(Deserialize)]
struct Shutdown {
    event: String,
    data: Reason,
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

impl Monitor {
    /// Asks for events.
    pub(super) fn greet(mut socket: &UnixStream) -> Self {
        // If this fails the VMM is gone already, and has nothing to say.
        let _ = socket.write_all(b"{\"execute\":\"qmp_capabilities\"}\n");
        Self { lines: Lines::default(), initiator: Initiator::Unknown }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.lines.take(bytes, |line| {
            if let Some(initiator) = parse(line) {
                self.initiator = initiator;
            }
        });
    }

    /// Who ended the VMM, as far as it said.
    pub(super) fn initiator(&self) -> Initiator {
        self.initiator
    }
}

/// Who shuts the VMM down, if this is what the line says.
fn parse(line: &[u8]) -> Option<Initiator> {
    let shutdown: Shutdown = serde_json::from_slice(line).ok()?;
    (shutdown.event == "SHUTDOWN").then(|| match shutdown.data.reason.as_str() {
        "guest-shutdown" => Initiator::GuestPowerOff,
        "guest-reset" => Initiator::GuestReset,
        "guest-panic" => Initiator::GuestPanic,
        reason if reason.starts_with("host-") => Initiator::Host,
        _ => Initiator::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shutdown_says_who_ended_it() {
        let rows: &[(&str, Option<Initiator>)] = &[
            (
                r#"{"timestamp": {"seconds": 1}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#,
                Some(Initiator::GuestPowerOff),
            ),
            (r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#, Some(Initiator::GuestReset)),
            (r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-panic"}}"#, Some(Initiator::GuestPanic)),
            (r#"{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}"#, Some(Initiator::Host)),
            (r#"{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-signal"}}"#, Some(Initiator::Host)),
            (
                r#"{"event": "SHUTDOWN", "data": {"guest": false, "reason": "new in some version"}}"#,
                Some(Initiator::Unknown),
            ),
            (r#"{"event": "POWERDOWN"}"#, None),
            (r#"{"return": {}}"#, None),
            ("not json", None),
        ];
        for (line, expected) in rows {
            assert_eq!(parse(line.as_bytes()), *expected, "{line}");
        }
    }
}
