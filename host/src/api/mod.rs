//! The HTTP API: one route table, one file for each resource, one mapping of errors. The only user of the HTTP framework.
//!
//! Nothing is decided here. A handler reads the request, asks the fleet, the images, the policies or the journal, and presents what
//! they answer. What is presented is a projection of the journal, taken at the instant of the response.

mod access;
mod auth;
mod body;
mod capabilities;
mod error;
mod health;
mod images;
mod instances;
mod invoices;
mod journal;
mod library;
mod logs;
mod metrics;
pub mod model;
mod policies;
mod routes;
mod serve;
mod settings;
mod shadows;
mod size;
mod snapshots;
mod tenants;
mod time;
mod tokens;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use capabilities::{HostCapabilities, HypervisorStatus};
pub use error::{ApiError, ErrorBody};
pub use invoices::{CloseInvoice, CorrectInvoice, InvoiceSummary, Invoices, Prices, PricesHistory};
pub use library::{noted_profile, standard_record};
pub use routes::{OPEN_PATHS, openapi, openapi_text, router};
pub use serve::serve;
pub use size::{UnknownSize, format_size, parse_size};
pub use time::{UnknownDuration, format_millis, parse_duration};

use crate::driver::Fleet;
use crate::image::Images;
use crate::journal::{Journal, StoredPolicy};
use crate::keeper::Keeper;
use crate::policy::{Accounting, PolicyHost};
use crate::tenancy::{Jwt, Tenancy};
use auth::OperatorToken;
use library::Library;

/// Everything that the API answers from.
pub struct State {
    fleet: Fleet,
    images: Arc<Images>,
    journal: Arc<Journal>,
    library: Library,
    accounting: Arc<Accounting>,
    tenancy: Arc<Tenancy>,
    keeper: Arc<Keeper>,
    jwt: Option<Jwt>,
    token: OperatorToken,
    hypervisors: Vec<HypervisorStatus>,
    /// Held while a document is made final: documents of a tenant have one order.
    invoicing: tokio::sync::Mutex<()>,
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
    /// Where policies run.
    pub policies: Arc<PolicyHost>,
    /// Which are in force.
    pub accounting: Arc<Accounting>,
    /// Who is served.
    pub tenancy: Arc<Tenancy>,
    /// Where policies stand.
    pub keeper: Arc<Keeper>,
    /// Checks signed tokens, if they are accepted.
    pub jwt: Option<Jwt>,
    /// The policies that the journal knew when it was opened.
    pub stored: Vec<StoredPolicy>,
    /// The operator's token.
    pub token: String,
    /// What runs machines, whether it is there or not.
    pub hypervisors: Vec<HypervisorStatus>,
}

impl State {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let Parts { fleet, images, journal, policies, accounting, tenancy, keeper, jwt, stored, token, hypervisors } =
            parts;
        Self {
            fleet,
            images,
            journal,
            library: Library::new(policies, &stored),
            accounting,
            tenancy,
            keeper,
            jwt,
            token: OperatorToken::of(&token),
            hypervisors,
            invoicing: tokio::sync::Mutex::default(),
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
