//! From what a supervisor writes to a stream of observations.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::events::Tail;
use super::process::Process;
use super::watch::Changes;
use super::{Exit, ExitStatus, Initiator, Observed, Stamp};
use crate::limits::instance::CONTROL_MS_MAX;

/// Observations that wait for whoever takes them; more of them wait in the file.
const QUEUE: usize = 16;

/// One launch that is being followed.
pub(super) struct Followed {
    pub(super) tail: Tail,
    pub(super) changes: Changes,
    pub(super) vmm: Arc<Process>,
    /// None if it has ended already.
    pub(super) supervisor: Option<Process>,
}

/// Follows a launch from its beginning to its end, or until nobody listens any more.
pub(super) fn follow(followed: Followed) -> mpsc::Receiver<Observed> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(run(followed, sender));
    receiver
}

async fn run(followed: Followed, sender: mpsc::Sender<Observed>) {
    let Followed { mut tail, mut changes, vmm, supervisor } = followed;
    let mut silence = pin!(silence(&vmm, supervisor.as_ref()));
    let mut unwitnessed = None;
    loop {
        match tail.read() {
            Ok(news) => {
                for observed in news {
                    let last = matches!(observed, Observed::Exited(_));
                    if sender.send(observed).await.is_err() || last {
                        return;
                    }
                }
            }
            Err(error) => tracing::error!(pid = vmm.pid(), %error, "can't read what the supervisor saw"),
        }
        if let Some(exit) = unwitnessed {
            let _ = sender.send(Observed::Exited(exit)).await;
            return;
        }
        tokio::select! {
            () = changes.next() => {}
            // One more look, then nothing can come any more.
            exit = &mut silence => unwitnessed = Some(exit),
            () = sender.closed() => return,
        }
    }
}

/// Waits until the VMM has ended and its supervisor, if there is one, has had the time to say so. Answers with what we know ourselves.
async fn silence(vmm: &Process, supervisor: Option<&Process>) -> Exit {
    vmm.ended().await;
    let stamp = Stamp::now();
    if let Some(supervisor) = supervisor {
        let _ = timeout(Duration::from_millis(CONTROL_MS_MAX), supervisor.ended()).await;
    }
    Exit { stamp, status: ExitStatus::Unknown, initiator: Initiator::Unknown, witnessed: false }
}
