//! QEMU's events.

use serde::Deserialize;

use super::news::{News, VcpuChange};
use crate::hypervisor::Initiator;

/// Request after which QEMU sends events.
pub(super) const GREETING: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

#[derive(Deserialize)]
struct Event {
    event: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    reason: Option<String>,
}

/// Returns the change of the vCPUs or the initiator of the shutdown that an event reports, if any.
pub(super) fn event(line: &[u8]) -> Option<News> {
    let Event { event, data } = serde_json::from_slice(line).ok()?;
    match event.as_str() {
        "STOP" => Some(News::Vcpus(VcpuChange::Paused)),
        "RESUME" => Some(News::Vcpus(VcpuChange::Resumed)),
        "SHUTDOWN" => Some(News::Ends(initiator(&data?.reason?))),
        _ => None,
    }
}

fn initiator(reason: &str) -> Initiator {
    match reason {
        "guest-shutdown" => Initiator::GuestPowerOff,
        "guest-reset" => Initiator::GuestReset,
        "guest-panic" => Initiator::GuestPanic,
        reason if reason.starts_with("host-") => Initiator::Host,
        _ => Initiator::Unknown,
    }
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
            (
                r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}"#,
                Some(Initiator::GuestReset),
            ),
            (
                r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-panic"}}"#,
                Some(Initiator::GuestPanic),
            ),
            (
                r#"{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}"#,
                Some(Initiator::Host),
            ),
            (
                r#"{"event": "SHUTDOWN", "data": {"guest": false, "reason": "host-signal"}}"#,
                Some(Initiator::Host),
            ),
            (
                r#"{"event": "SHUTDOWN", "data": {"guest": false, "reason": "new in some version"}}"#,
                Some(Initiator::Unknown),
            ),
            (r#"{"event": "POWERDOWN"}"#, None),
            (r#"{"return": {}}"#, None),
            ("not json", None),
        ];
        for (line, expected) in rows {
            assert_eq!(event(line.as_bytes()), expected.map(News::Ends), "{line}");
        }
    }

    #[test]
    fn the_vcpus_are_held_at_a_stop_and_run_at_a_resume() {
        let rows = [
            (
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#,
                VcpuChange::Paused,
            ),
            (
                r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}"#,
                VcpuChange::Resumed,
            ),
        ];
        for (line, expected) in rows {
            assert_eq!(event(line.as_bytes()), Some(News::Vcpus(expected)), "{line}");
        }
    }
}
