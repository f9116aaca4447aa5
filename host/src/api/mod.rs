//! The HTTP API: one route table, one file for each resource, one mapping of errors. The only user of the HTTP framework.
//!
//! Nothing is decided here. A handler reads the request, asks the fleet, the images, the policies or the journal, and presents what
//! they answer. What is presented is a projection of the journal, taken at the instant of the response.

mod auth;
mod body;
mod capabilities;
mod error;
mod health;
mod images;
mod instances;
mod journal;
mod library;
mod logs;
pub mod model;
mod policies;
mod routes;
mod serve;
mod settings;
mod size;
mod snapshots;
mod tenants;
mod time;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use capabilities::{HostCapabilities, HypervisorStatus};
pub use error::{ApiError, ErrorBody};
pub use library::standard_record;
pub use routes::{OPEN_PATHS, openapi, openapi_text, router};
pub use serve::serve;
pub use size::{UnknownSize, format_size, parse_size};
pub use time::{UnknownDuration, format_millis, parse_duration};

use crate::driver::Fleet;
use crate::image::Images;
use crate::journal::{Journal, StoredPolicy};
use crate::policy::{Accounting, PolicyHost};
use auth::Token;
use library::Library;

/// Everything that the API answers from.
pub struct State {
    fleet: Fleet,
    images: Arc<Images>,
    journal: Arc<Journal>,
    library: Library,
    accounting: Arc<Accounting>,
    hypervisors: Vec<HypervisorStatus>,
    token: Token,
    /// Cancelled when the daemon is going down: whoever waits or follows is let go.
    closing: CancellationToken,
}

impl State {
    /// Puts the parts together. `stored` are the policies that the journal knew when it was opened; `token` is what a client has to
    /// show.
    pub fn new(
        fleet: Fleet,
        images: Arc<Images>,
        journal: Arc<Journal>,
        policies: Arc<PolicyHost>,
        accounting: Arc<Accounting>,
        stored: &[StoredPolicy],
        token: &str,
    ) -> Self {
        let library = Library::new(policies, stored);
        let (token, closing) = (Token::of(token), CancellationToken::new());
        Self { fleet, images, journal, library, accounting, hypervisors: Vec::new(), token, closing }
    }

    /// Also tells of these hypervisors.
    pub fn with_hypervisors(self, hypervisors: Vec<HypervisorStatus>) -> Self {
        Self { hypervisors, ..self }
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
