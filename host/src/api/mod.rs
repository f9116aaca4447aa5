//! The HTTP API: one route table, one file for each resource, one mapping of errors. The only user
//! of the HTTP framework.
//!
//! Nothing is decided here. A handler reads the request, asks the fleet, the images, the policies
//! or the journal, and presents what they answer. What is presented is a projection of the journal,
//! taken at the instant of the response.

mod access;
mod activations;
mod auth;
mod automation;
mod body;
mod capabilities;
mod description;
mod door;
mod error;
mod health;
mod idempotency;
mod images;
mod instances;
mod invoices;
mod journal;
mod logs;
mod metrics;
pub mod model;
mod openapi;
mod parse;
mod patient;
mod policies;
mod present;
mod quota;
mod routes;
mod rules;
mod seats;
mod serve;
mod shadows;
mod shared;
mod size;
mod snapshots;
mod tenants;
mod time;
mod tokens;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use description::openapi_text;
pub use door::ConnectionLimits;
pub use error::{ApiError, ErrorBody};
pub use routes::{OPEN_PATHS, router};
pub use serve::serve;
pub use size::{UnknownSize, format_size, parse_size};
pub use time::{UnknownDuration, format_millis, parse_duration};

use crate::driver::Fleet;
use crate::hypervisor::log::LogWatcher;
use crate::id::TenantId;
use crate::image::Images;
use crate::invoice::Issuer;
use crate::journal::Journal;
use crate::limits::api as limits;
use crate::policy::Accounting;
use crate::rollout::Rollout;
use crate::tenancy::{Jwt, Tenancy};
use auth::OperatorToken;
use model::HypervisorStatus;
use seats::Seats;

/// Everything that the API answers from.
pub struct State {
    fleet: Fleet,
    images: Arc<Images>,
    journal: Arc<Journal>,
    accounting: Arc<Accounting>,
    tenancy: Arc<Tenancy>,
    rollout: Arc<Rollout>,
    jwt: Option<Jwt>,
    token: OperatorToken,
    hypervisors: Vec<HypervisorStatus>,
    logs: LogWatcher,
    connections: ConnectionLimits,
    /// Requests under way, by tenant.
    requests: Arc<Seats<TenantId>>,
    /// Policies that are examined, by tenant.
    uploads: Arc<Seats<TenantId>>,
    /// Logs that are followed, by tenant.
    followers: Arc<Seats<TenantId>>,
    /// The document that describes the API.
    description: &'static str,
    issuer: Issuer,
    /// Cancelled when the daemon is going down: whoever waits or follows is let go.
    closing: CancellationToken,
}

/// What the API answers from. The composition root puts it together.
pub struct Parts {
    /// The instances.
    pub fleet: Fleet,
    /// What they boot.
    pub images: Arc<Images>,
    /// Every fact.
    pub journal: Arc<Journal>,
    /// The policies in force.
    pub accounting: Arc<Accounting>,
    /// Who is served.
    pub tenancy: Arc<Tenancy>,
    /// The policies of all tenants.
    pub rollout: Arc<Rollout>,
    /// Checks signed tokens, if they are accepted.
    pub jwt: Option<Jwt>,
    /// The operator's token.
    pub token: String,
    /// What runs machines, whether it is there or not.
    pub hypervisors: Vec<HypervisorStatus>,
    /// The watcher of all logs that are followed.
    pub logs: LogWatcher,
    /// Most connections.
    pub connections: ConnectionLimits,
}

impl State {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let issuer = Issuer::new(parts.journal.clone(), parts.rollout.policies().clone());
        let Parts {
            fleet,
            images,
            journal,
            accounting,
            tenancy,
            rollout,
            jwt,
            token,
            hypervisors,
            logs,
            connections,
        } = parts;
        Self {
            fleet,
            images,
            journal,
            accounting,
            tenancy,
            rollout,
            jwt,
            token: OperatorToken::of(&token),
            hypervisors,
            logs,
            connections,
            requests: Seats::new(limits::REQUESTS_AT_ONCE_MAX),
            uploads: Seats::new(limits::UPLOADS_MAX),
            followers: Seats::new(limits::FOLLOWERS_MAX),
            description: openapi_text(),
            issuer,
            closing: CancellationToken::new(),
        }
    }
}

/// How handlers get at the state.
type Shared = axum::extract::State<Arc<State>>;

/// Runs what blocks (the disk, a compiler, a long list) where it holds nobody up.
async fn blocking<T, F>(work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ApiError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::bug(&error))?
}
