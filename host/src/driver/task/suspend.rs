//! Suspends of the host.

use super::Task;
use crate::billing::Reading;
use crate::driver::error::FleetError;
use crate::vm::Phase;

impl Task {
    /// Records that the host was suspended between two readings: vCPUs that run now did not run
    /// all of that time, which is `unknown`.
    pub(super) async fn suspended(
        &mut self,
        from: Reading,
        until: Reading,
    ) -> Result<(), FleetError> {
        let Some(phase) = self.state().phase().filter(|_| self.live().runs()) else {
            return Ok(());
        };
        let from = self.recorder.bounded(from);
        let until = self.recorder.bounded(until);
        if from.meter >= until.meter {
            return Ok(());
        }
        let live = self.live();
        let facts =
            vec![(from, live.entered(Phase::Unknown, None)), (until, live.entered(phase, None))];
        self.recorder.write(facts).await
    }
}
