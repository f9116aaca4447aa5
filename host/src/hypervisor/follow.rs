//! The stream of observations of a launch, read from its supervisor's event log.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::descriptors::Descriptors;
use super::events::Tail;
use super::process::Process;
use super::vcpus::{VcpuChanges, VcpuEvent};
use super::watch::Changes;
use super::{Exit, ExitStatus, Initiator, Observed, Stamp};
use crate::limits::instance::CONTROL_MS_MAX;

/// Observations that wait in memory for the receiver; further ones wait in the file.
const QUEUE: usize = 16;

/// One launch that is being followed.
pub(super) struct Followed {
    pub(super) tail: Tail,
    pub(super) changes: Changes,
    pub(super) vmm: Arc<Process>,
    /// `None` if it has ended already.
    pub(super) supervisor: Option<Arc<Process>>,
    /// The last change of the vCPUs that is known already.
    pub(super) last_change: Option<VcpuEvent>,
    /// The machine's share of the daemon's descriptors, held for as long as it is followed.
    pub(super) descriptors: Descriptors,
}

/// Follows a launch from its beginning to its end, or until the receiver is dropped.
pub(super) fn follow(followed: Followed) -> (mpsc::Receiver<Observed>, VcpuChanges) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (changes, last) = watch::channel(followed.last_change);
    let vcpus = VcpuChanges::new(last, followed.supervisor.clone());
    tokio::spawn(run(followed, sender, changes));
    (receiver, vcpus)
}

async fn run(
    followed: Followed,
    sender: mpsc::Sender<Observed>,
    vcpus: watch::Sender<Option<VcpuEvent>>,
) {
    let Followed {
        mut tail,
        mut changes,
        vmm,
        supervisor,
        last_change: _,
        descriptors: _descriptors,
    } = followed;
    let mut silence = pin!(silence(&vmm, supervisor.as_deref()));
    let mut unwitnessed = None;
    loop {
        match tail.read() {
            Ok(news) => {
                if let Some(change) = news.iter().rev().find_map(VcpuEvent::of) {
                    vcpus.send_replace(Some(change));
                }
                for observed in news.into_iter().filter(is_for_the_stream) {
                    let last = matches!(observed, Observed::Exited(_));
                    if sender.send(observed).await.is_err() || last {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::error!(pid = vmm.pid(), %error, "can't read the supervisor's event log")
            }
        }
        if let Some(exit) = unwitnessed {
            let _ = sender.send(Observed::Exited(exit)).await;
            return;
        }
        tokio::select! {
            () = changes.next() => {}
            // Read once more; after that nothing can come.
            exit = &mut silence => unwitnessed = Some(exit),
            () = sender.closed() => return,
        }
    }
}

/// Returns whether an observation goes into the stream of a live machine. Changes of its vCPUs
/// don't: the machine's control reports them.
fn is_for_the_stream(observed: &Observed) -> bool {
    match observed {
        Observed::ProgramStarted(_)
        | Observed::AgentReady(_)
        | Observed::ProgramExited { .. }
        | Observed::Exited(_) => true,
        Observed::Launched(_) | Observed::Paused(_) | Observed::Resumed(_) => false,
    }
}

/// Waits until the VMM has ended and its supervisor, if there is one, has had the time to record
/// it. Returns the end as the daemon knows it, without a witness.
async fn silence(vmm: &Process, supervisor: Option<&Process>) -> Exit {
    vmm.ended().await;
    let stamp = Stamp::now();
    if let Some(supervisor) = supervisor {
        let _ = timeout(Duration::from_millis(CONTROL_MS_MAX), supervisor.ended()).await;
    }
    Exit { stamp, status: ExitStatus::Unknown, initiator: Initiator::Unknown, witnessed: false }
}
