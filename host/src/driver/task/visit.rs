//! The way into a guest.

use std::sync::Arc;

use super::Task;
use crate::billing::InstanceFact;
use crate::driver::error::FleetError;
use crate::driver::mailbox::Visit;
use crate::guest::Guest;
use crate::limits::guest as limits;

impl Task {
    /// Puts on record that somebody goes into the guest, and answers the way in. It counts as
    /// activity.
    pub(super) async fn let_in(&mut self, visit: Visit) -> Result<Arc<Guest>, FleetError> {
        self.ensure_recovered().await?;
        if !self.live().runs() {
            return Err(FleetError::NotRunning { state: self.state().as_str() });
        }
        let guest = self.machine()?.guest().cloned().ok_or(FleetError::NoAgent)?;
        self.recorder.watch.active();
        let Visit { by, purpose, mut about } = visit;
        about.truncate(about.floor_char_boundary(limits::ABOUT_BYTES_MAX));
        let what = purpose.as_str().to_owned();
        self.recorder.note_visit(InstanceFact::Visited { by, what, about }).await?;
        Ok(guest)
    }
}
