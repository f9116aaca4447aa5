//! `/metrics`: metrics for monitoring and alerts, in the text format of Prometheus.

mod format;
mod host;
pub(super) mod latency;
pub(super) mod measure;
mod tenant;

use axum::extract::State as Extract;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::auth::Caller;
use super::error::ApiError;
use super::shared::Failures;
use super::{Shared, blocking};
use crate::tenant::Role;

/// The content type of the text format, which includes its version.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Read metrics
///
/// In the text format of Prometheus: those of the tenant, or of every tenant for an operator who
/// names none and for the role `metrics`. `tallyman_policy_alerts` above 0 means that a policy was
/// quarantined and needs an operator's attention.
#[utoipa::path(get, path = "/metrics", tag = "host", security(("bearer" = [])), responses(
    (status = 200, description = "The figures", body = String, content_type = "text/plain"),
    Failures,
))]
pub(super) async fn get_metrics(
    Extract(state): Shared,
    caller: Caller,
) -> Result<impl IntoResponse, ApiError> {
    let mut tenants = state.tenancy.tenants();
    let scope = caller.scope().filter(|_| caller.role() != Role::Metrics);
    tenants.retain(|tenant| scope.is_none_or(|scope| scope == tenant.id()));
    let work = move || {
        let mut families = tenant::families(&state, &tenants);
        families.extend(host::families(&state));
        Ok(format::text(&families))
    };
    Ok(([(CONTENT_TYPE, FORMAT)], blocking(work).await?))
}
