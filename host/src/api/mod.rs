//! The HTTP API: one route table, one file for each resource, one mapping of errors. No other
//! module uses the HTTP framework.
//!
//! Handlers hold no rules of their own: each parses the request, calls the fleet, the images, the
//! policies or the journal, and presents the result. Answers are projections of the journal, taken
//! at the instant of the response.

mod access;
mod activations;
mod acts;
mod auth;
mod automation;
mod bandwidth;
mod body;
mod capabilities;
mod compat;
mod cookies;
mod dashboard;
mod description;
mod door;
mod error;
mod events;
mod exec;
mod exports;
mod files;
mod fleet;
mod gaps;
mod health;
mod idempotency;
mod images;
mod instances;
mod invoices;
mod journal;
mod kept;
mod listen;
mod logs;
mod metrics;
pub mod model;
mod names;
mod nap;
mod network;
mod one_offs;
mod openapi;
mod parse;
mod patient;
mod policies;
mod present;
mod proofs;
mod proposals;
mod pushed;
mod quota;
mod resources;
mod routes;
mod rules;
mod seats;
mod serve;
mod sessions;
mod shadows;
mod shared;
mod size;
mod snapshot_ids;
mod snapshots;
mod stream;
mod tariffs;
mod tenants;
mod time;
mod tokens;
mod told;
mod visit;
mod withdrawals;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use description::openapi_text;
pub use door::ConnectionLimits;
pub use error::{ApiError, ErrorBody};
pub use listen::{Listen, ListenError, Listeners};
pub use network::egress;
pub use routes::{OPEN_PATHS, router};
pub use serve::serve;
pub use size::{UnknownSize, format_size, parse_size};
pub use time::{UnknownDuration, format_millis, parse_duration};

use crate::delivery::Deliveries;
use crate::disk::Disk;
use crate::driver::Fleet;
use crate::fleet::Collector;
use crate::heads::{Heads, Publisher};
use crate::hypervisor::log::LogWatcher;
use crate::id::TenantId;
use crate::image::Images;
use crate::invoice::{Issuer, Letterhead};
use crate::journal::Journal;
use crate::limits::{api as limits, guest};
use crate::policy::Accounting;
use crate::pull::Pulls;
use crate::retention::Retention;
use crate::rollout::Rollout;
use crate::tenancy::{Jwt, OperatorToken, Tenancy};
use cookies::Sessions;
use metrics::latency::Latencies;
use model::HypervisorStatus;
use seats::Seats;

/// The state that all handlers share.
pub struct State {
    fleet: Fleet,
    images: Arc<Images>,
    pulls: Arc<Pulls>,
    /// Registries that tenants may pull from.
    pull_registries: Vec<String>,
    journal: Arc<Journal>,
    accounting: Arc<Accounting>,
    tenancy: Arc<Tenancy>,
    rollout: Arc<Rollout>,
    jwt: Option<Arc<Jwt>>,
    token: Arc<OperatorToken>,
    hypervisors: Vec<HypervisorStatus>,
    logs: LogWatcher,
    connections: ConnectionLimits,
    disk: Arc<Disk>,
    heads: Arc<Heads>,
    publisher: Option<Arc<Publisher>>,
    deliveries: Arc<Deliveries>,
    /// Requests under way, by tenant.
    requests: Arc<Seats<TenantId>>,
    /// Policies under examination, by tenant.
    uploads: Arc<Seats<TenantId>>,
    /// Documents that are proved, by tenant.
    proofs: Arc<Seats<TenantId>>,
    /// Browsers that are signed in.
    sessions: Sessions,
    /// Durations of requests.
    latencies: Latencies,
    /// Logs and streams that are followed, by tenant.
    followers: Arc<Seats<TenantId>>,
    /// Sessions in guests, by tenant.
    visitors: Arc<Seats<TenantId>>,
    /// The OpenAPI document.
    description: &'static str,
    issuer: Issuer,
    /// The keeper of the journal's segments.
    retention: Arc<Retention>,
    /// The collector of a fleet; none on a host.
    collector: Option<Arc<Collector>>,
    /// URL of the collector that bills this host's tenants; none if this daemon does.
    billed_at: Option<String>,
    /// Cancelled when the daemon stops: waits and followed logs end at once.
    closing: CancellationToken,
}

/// The parts of [`State`], which the composition root provides.
pub struct Parts {
    /// The instances.
    pub fleet: Fleet,
    /// The images that they boot from.
    pub images: Arc<Images>,
    /// The pulls of images from registries.
    pub pulls: Arc<Pulls>,
    /// Registries that tenants may pull from, by name.
    pub pull_registries: Vec<String>,
    /// The journal of all facts.
    pub journal: Arc<Journal>,
    /// The policies in force.
    pub accounting: Arc<Accounting>,
    /// The tenants and their tokens.
    pub tenancy: Arc<Tenancy>,
    /// The policies of all tenants.
    pub rollout: Arc<Rollout>,
    /// The check of signed tokens; `None` if they are not accepted.
    pub jwt: Option<Arc<Jwt>>,
    /// The operator's token.
    pub token: Arc<OperatorToken>,
    /// The hypervisors, installed or not.
    pub hypervisors: Vec<HypervisorStatus>,
    /// The watcher of all logs that are followed.
    pub logs: LogWatcher,
    /// The disk of the data folder.
    pub disk: Arc<Disk>,
    /// The signed heads of the journal.
    pub heads: Arc<Heads>,
    /// The publisher of the heads; `None` if they are not published.
    pub publisher: Option<Arc<Publisher>>,
    /// The limits of open connections.
    pub connections: ConnectionLimits,
    /// The issuer, as documents name it.
    pub letterhead: Letterhead,
    /// The pushes of events.
    pub deliveries: Arc<Deliveries>,
    /// The keeper of the journal's segments.
    pub retention: Arc<Retention>,
    /// The collector of a fleet; `None` on a host.
    pub collector: Option<Arc<Collector>>,
    /// URL of the collector that bills this host's tenants; `None` if this daemon does.
    pub billed_at: Option<String>,
}

impl State {
    /// Assembles the state from its parts.
    pub fn new(parts: Parts) -> Self {
        let issuer = Issuer::new(parts.journal.clone(), parts.rollout.policies().clone());
        let issuer = issuer.named(parts.letterhead);
        let Parts {
            fleet,
            images,
            pulls,
            pull_registries,
            journal,
            accounting,
            tenancy,
            rollout,
            jwt,
            token,
            hypervisors,
            logs,
            disk,
            heads,
            publisher,
            connections,
            letterhead: _,
            deliveries,
            retention,
            collector,
            billed_at,
        } = parts;
        Self {
            fleet,
            images,
            pulls,
            pull_registries,
            journal,
            accounting,
            tenancy,
            rollout,
            jwt,
            token,
            hypervisors,
            logs,
            connections,
            disk,
            heads,
            publisher,
            deliveries,
            requests: Seats::new(limits::REQUESTS_AT_ONCE_MAX),
            uploads: Seats::new(limits::UPLOADS_MAX),
            proofs: Seats::new(limits::PROOFS_MAX),
            sessions: Sessions::default(),
            latencies: Latencies::default(),
            followers: Seats::new(limits::FOLLOWERS_MAX),
            visitors: Seats::new(guest::SESSIONS_MAX),
            description: openapi_text(),
            issuer,
            retention,
            collector,
            billed_at,
            closing: CancellationToken::new(),
        }
    }
}

/// The extractor of the state.
type Shared = axum::extract::State<Arc<State>>;

/// Runs blocking work (the disk, a compiler, a long list) off the asynchronous threads.
async fn blocking<T, F>(work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ApiError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::bug(&error))?
}
