//! QEMU's events.

use serde::Deserialize;

use crate::hypervisor::Initiator;

/// Asks for events.
pub(super) const GREETING: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

#[derive(Deserialize)]
struct Shutdown {
    event: String,
    data: Reason,
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

/// Who shuts the VMM down, if this is what the event says.
pub(super) fn event(line: &[u8]) -> Option<Initiator> {
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
            assert_eq!(event(line.as_bytes()), *expected, "{line}");
        }
    }
}
