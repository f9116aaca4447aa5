//! Firecracker's log. It has no events.

use crate::hypervisor::Initiator;

/// Words of the log that name the initiator of the end, in versions 1.12 to 1.17.
const WORDS: [(&str, Initiator); 5] = [
    // A triple fault.
    ("Received KVM_EXIT_SHUTDOWN", Initiator::GuestReset),
    ("Unexpected exit reason on vcpu run: Shutdown", Initiator::GuestReset),
    // The VMM exits with code 0 after these too.
    ("KVM_EXIT_INTERNAL_ERROR", Initiator::Unknown),
    ("KVM_EXIT_FAIL_ENTRY", Initiator::Unknown),
    ("Unexpected exit reason", Initiator::Unknown),
];

/// Returns the initiator of the end that a line of the log names, if any.
pub(super) fn log(line: &[u8]) -> Option<Initiator> {
    let line = String::from_utf8_lossy(line);
    WORDS.into_iter().find(|(word, _)| line.contains(word)).map(|(_, initiator)| initiator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_internal_error_is_no_end_by_the_guest() {
        let rows = [
            ("[one-1:fc_vcpu 0] Received KVM_EXIT_INTERNAL_ERROR signal", Some(Initiator::Unknown)),
            ("[one-1:fc_vcpu 0] Received KVM_EXIT_FAIL_ENTRY signal: 7", Some(Initiator::Unknown)),
            ("[one-1:fc_vcpu 0] Received KVM_EXIT_SHUTDOWN signal", Some(Initiator::GuestReset)),
            ("[one-1:main] Vmm is stopping.", None),
            ("[one-1:main] Firecracker exiting successfully. exit_code=0", None),
        ];
        for (line, expected) in rows {
            assert_eq!(log(line.as_bytes()), expected, "{line}");
        }
    }
}
