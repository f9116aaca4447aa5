//! Instants of a machine's vCPU changes, by the VMM's events that its supervisor receives.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::process::Process;
use super::{Observed, Stamp, VmState};
use crate::limits::instance::VCPU_EVENT_MS_MAX;

/// A stop or a start of all vCPUs, and the host's instant of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VcpuEvent {
    Paused(Stamp),
    Resumed(Stamp),
}

/// State of vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vcpus {
    Held,
    Running,
}

/// The last change of one machine's vCPUs, kept current while its supervisor lives.
pub(super) struct VcpuChanges {
    last: watch::Receiver<Option<VcpuEvent>>,
    /// `None` if it has ended already.
    supervisor: Option<Arc<Process>>,
}

impl VcpuEvent {
    /// The change of vCPUs that an observation is; `None` if it is another.
    pub(super) fn of(observed: &Observed) -> Option<Self> {
        match observed {
            Observed::Paused(stamp) => Some(Self::Paused(*stamp)),
            Observed::Resumed(stamp) => Some(Self::Resumed(*stamp)),
            Observed::Launched(_)
            | Observed::ProgramStarted(_)
            | Observed::AgentReady(_)
            | Observed::ProgramExited { .. }
            | Observed::Exited(_) => None,
        }
    }

    /// The instant of this change, if it is the one to `vcpus`.
    fn since(self, vcpus: Vcpus) -> Option<Stamp> {
        match (self, vcpus) {
            (VcpuEvent::Paused(stamp), Vcpus::Held)
            | (VcpuEvent::Resumed(stamp), Vcpus::Running) => Some(stamp),
            (VcpuEvent::Paused(_), Vcpus::Running) | (VcpuEvent::Resumed(_), Vcpus::Held) => None,
        }
    }
}

impl VcpuChanges {
    pub(super) fn new(
        last: watch::Receiver<Option<VcpuEvent>>,
        supervisor: Option<Arc<Process>>,
    ) -> Self {
        Self { last, supervisor }
    }

    /// The instant since which the vCPUs have been in the machine's state; `None` if no event
    /// proves it.
    pub(super) fn since(&self, state: VmState) -> Option<Stamp> {
        let vcpus = match state {
            VmState::Running => Vcpus::Running,
            VmState::Paused => Vcpus::Held,
            VmState::NotStarted | VmState::Loading | VmState::Ended => return None,
        };
        self.last.borrow().and_then(|last| last.since(vcpus))
    }

    /// The instant of the change that the VMM has just acknowledged: that of the VMM's event as the
    /// supervisor recorded it, which may precede the acknowledgement and is what a restarted daemon
    /// finds. Without such an event it is the acknowledgement's.
    pub(super) async fn changed(&self, vcpus: Vcpus, acknowledged: Stamp) -> Stamp {
        let mut last = self.last.clone();
        let heard = async {
            let heard =
                last.wait_for(|last| last.is_some_and(|last| last.since(vcpus).is_some())).await;
            heard.ok().and_then(|last| last.and_then(|last| last.since(vcpus)))
        };
        let deaf = async {
            if let Some(supervisor) = &self.supervisor {
                supervisor.ended().await;
            }
        };
        let first = async {
            tokio::select! {
                biased;
                heard = heard => heard,
                () = deaf => None,
            }
        };
        let heard = timeout(Duration::from_millis(VCPU_EVENT_MS_MAX), first).await.ok().flatten();
        heard.unwrap_or(acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(n: u64) -> Stamp {
        Stamp { boottime_ns: n, wall_ns: 0 }
    }

    fn myself() -> Option<Arc<Process>> {
        let own =
            super::super::process::ProcessId::of(std::process::id()).expect("proc").expect("lives");
        Process::open(own).expect("open").map(Arc::new)
    }

    #[tokio::test]
    async fn the_event_is_the_instant_whether_it_comes_before_or_after_the_acknowledgement() {
        let (sender, last) = watch::channel(Some(VcpuEvent::Resumed(stamp(1))));
        let changes = VcpuChanges::new(last, myself());
        assert_eq!(changes.changed(Vcpus::Running, stamp(9)).await, stamp(1));
        let pause = changes.changed(Vcpus::Held, stamp(9));
        let event = async { sender.send_replace(Some(VcpuEvent::Paused(stamp(8)))) };
        let (paused, _) = tokio::join!(pause, event);
        assert_eq!(paused, stamp(8));
        assert_eq!(changes.since(VmState::Paused), Some(stamp(8)));
        assert_eq!(changes.since(VmState::Running), None);
    }

    #[tokio::test]
    async fn where_nobody_hears_the_vmm_its_acknowledgement_counts() {
        let (sender, last) = watch::channel(None);
        let changes = VcpuChanges::new(last.clone(), None);
        assert_eq!(changes.changed(Vcpus::Held, stamp(9)).await, stamp(9));
        let changes = VcpuChanges::new(last, myself());
        drop(sender);
        assert_eq!(changes.changed(Vcpus::Held, stamp(9)).await, stamp(9));
    }
}
