//! The lifecycle of policies, from upload to retirement.
//!
//! - `catalogue` lists the components of this host, under examination or admitted; `upload` adds
//!   one, and `turns` lets each tenant compile one at a time;
//! - `activate` puts a tenant under a policy, or back under the one before, which `history` finds;
//! - `trial` counts and charges under a policy beside the one in force, and gates an activation;
//! - `bills` looks for documents that are stale and periods that nothing has measured, in the
//!   background;
//! - `reconcile` brings the standing of every policy up to date with facts and faults, in the
//!   background;
//! - `readings` has traffic read before rules change.
//!
//! The standing of a policy follows from the timeline, the accounts and the faults. Only facts and
//! a record of its examination are stored; nothing here is a wire type.

mod activate;
mod bills;
mod catalogue;
mod error;
mod history;
mod looked;
mod readings;
mod reconcile;
mod trial;
mod turns;
mod upload;

use std::sync::Arc;

pub use activate::{Activated, Activation, Rollback};
pub use catalogue::{CatalogueEntry, PolicyRecord, profile_of, standard_record};
pub use error::{GateExceeded, RolloutError};
pub use looked::Attention;
pub use reconcile::Alert;
pub use trial::{Gates, Report, Worst};
pub use upload::Upload;

use crate::driver::Fleet;
use crate::journal::{Journal, StoredPolicy};
use crate::policy::{Accounting, PolicyHost};
use crate::tenancy::Tenancy;
use catalogue::Catalogue;
use turns::Turns;

/// The policies of all tenants.
pub struct Rollout {
    fleet: Fleet,
    journal: Arc<Journal>,
    tenancy: Arc<Tenancy>,
    accounting: Arc<Accounting>,
    policies: Arc<PolicyHost>,
    catalogue: Catalogue,
    looked: looked::Looked,
    turns: Turns,
}

/// The parts that a rollout works with.
pub struct Parts {
    /// The instances whose time is counted.
    pub fleet: Fleet,
    /// The journal of all facts.
    pub journal: Arc<Journal>,
    /// The tenants, and the standings of policies with them.
    pub tenancy: Arc<Tenancy>,
    /// The accounting under the policies in force.
    pub accounting: Arc<Accounting>,
    /// The engine that runs policies.
    pub policies: Arc<PolicyHost>,
}

impl Rollout {
    /// A rollout with the policies that the journal has stored. Background work begins with
    /// [`Rollout::run`].
    pub fn new(parts: Parts, stored: &[StoredPolicy]) -> Self {
        let Parts { fleet, journal, tenancy, accounting, policies } = parts;
        let catalogue = Catalogue::new(stored, policies.standard().digest());
        let looked = looked::Looked::default();
        let turns = Turns::default();
        Self { fleet, journal, tenancy, accounting, policies, catalogue, looked, turns }
    }

    /// The engine that runs policies.
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
    crate::blocking::run(work).await.map_err(RolloutError::Panicked)?
}
