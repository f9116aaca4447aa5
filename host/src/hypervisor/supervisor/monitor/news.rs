//! News of a VMM.

use crate::hypervisor::{Initiator, Observed, Stamp};

/// Content of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Ends(Initiator),
    Vcpus(VcpuChange),
}

/// A change of the vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hypervisor::supervisor) enum VcpuChange {
    Paused,
    Resumed,
}

impl VcpuChange {
    /// The change, seen at `stamp`.
    pub(in crate::hypervisor::supervisor) fn at(self, stamp: Stamp) -> Observed {
        match self {
            VcpuChange::Paused => Observed::Paused(stamp),
            VcpuChange::Resumed => Observed::Resumed(stamp),
        }
    }
}
