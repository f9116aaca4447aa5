//! The acts that are due: an instance is started again after an end, ends when its time is over,
//! has its snapshots taken, is probed, and goes to standby when it is idle.

use super::Task;
use crate::driver::error::FleetError;
use crate::driver::request::Request;
use crate::driver::settings::ExpiryAction;
use crate::driver::timers::upcoming;
use crate::driver::watch::Due;
use crate::units::Nanos;
use crate::vm::Asker;

/// Delay before an act that failed is tried again.
const RETRY: Nanos = Nanos(5_000_000_000);

impl Task {
    /// Carries out the first act that is due; the timer fires again for the next.
    pub(super) async fn run_due(&mut self) {
        let now = self.host.clock.now();
        let recorder = &self.recorder;
        let due = upcoming(&recorder.record, &recorder.live, &recorder.watch).into_iter();
        let due = due.filter(|&(at, _)| at <= now).min_by_key(|&(at, _)| at);
        if let Some((_, due)) = due
            && let Err(error) = self.run_one(due).await
        {
            let instance = &self.recorder.record.id;
            tracing::warn!(%instance, ?due, %error, "an act that was due has failed");
            let until = self.host.clock.now().after(RETRY);
            self.recorder.watch.postpone(due, until);
        }
        self.recorder.set_timer();
    }

    async fn run_one(&mut self, due: Due) -> Result<(), FleetError> {
        match due {
            Due::Expiry(ExpiryAction::Delete) => {
                self.carry_out(Request::Delete, Asker::Expiry).await
            }
            Due::Expiry(ExpiryAction::Stop) => self.stop_for_good().await,
            Due::Restart => self.carry_out(Request::Start, Asker::RestartPolicy).await,
            Due::Snapshot => self.take_scheduled_snapshot().await,
            Due::Probe => {
                self.probe();
                Ok(())
            }
            Due::Idle => self.standby_if_idle().await,
            Due::Traffic => self.tell_traffic().await,
        }
    }

    /// Stops the instance at its expiry, and clears that: nothing restarts it by itself, but a
    /// client may.
    async fn stop_for_good(&mut self) -> Result<(), FleetError> {
        self.carry_out(Request::Stop { grace_ms: None }, Asker::Expiry).await?;
        self.recorder.change_record(|record| record.spec.expiry = None);
        self.recorder.store().await
    }
}
