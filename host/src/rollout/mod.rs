//! The life of policies, from upload to retirement.
//!
//! - `catalogue` knows the components of this host, those being examined and those admitted;
//!   `upload` brings one in;
//! - `activate` puts a tenant under a policy, and back under the one before, which `history` knows;
//! - `trial` counts and charges under a policy beside the one in force, and gates an activation;
//! - `reconcile` brings the standing of every policy up to date with facts and faults, in the
//!   background.
//!
//! Where a policy stands follows from the timeline, the accounts and the faults. What is stored of
//! it are facts and a record of its examination; nothing here is a type of the wire.

mod activate;
mod catalogue;
mod error;
mod history;
mod reconcile;
mod trial;
mod upload;

use std::sync::Arc;

pub use activate::{Activated, Activation, Rollback};
pub use catalogue::{CatalogueEntry, PolicyRecord, profile_of, standard_record};
pub use error::{GateExceeded, RolloutError};
pub use reconcile::Alert;
pub use trial::{Gates, Report, Worst};
pub use upload::Upload;

use crate::driver::Fleet;
use crate::journal::{Journal, StoredPolicy};
use crate::policy::{Accounting, PolicyHost};
use crate::tenancy::Tenancy;
use catalogue::Catalogue;

/// The policies of all tenants.
pub struct Rollout {
    fleet: Fleet,
    journal: Arc<Journal>,
    tenancy: Arc<Tenancy>,
    accounting: Arc<Accounting>,
    policies: Arc<PolicyHost>,
    catalogue: Catalogue,
}

/// The parts that a rollout works with.
pub struct Parts {
    /// The instances, whose time is counted.
    pub fleet: Fleet,
    /// Every fact.
    pub journal: Arc<Journal>,
    /// The tenants, and where policies stand with them.
    pub tenancy: Arc<Tenancy>,
    /// The policies in force.
    pub accounting: Arc<Accounting>,
    /// The engine.
    pub policies: Arc<PolicyHost>,
}

impl Rollout {
    /// A rollout that knows the policies which the journal has stored. It does nothing by itself
    /// before [`Rollout::run`].
    pub fn new(parts: Parts, stored: &[StoredPolicy]) -> Self {
        let Parts { fleet, journal, tenancy, accounting, policies } = parts;
        let catalogue = Catalogue::new(stored, policies.standard().digest());
        Self { fleet, journal, tenancy, accounting, policies, catalogue }
    }

    /// The engine.
    pub fn policies(&self) -> &Arc<PolicyHost> {
        &self.policies
    }
}

/// Runs blocking work (the disk, a compiler, a long count) off the async threads.
async fn blocking<T, F>(work: F) -> Result<T, RolloutError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, RolloutError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(RolloutError::Panicked)?
}
