//! `/capabilities`: the hypervisors of this host and what each can do.

use axum::Json;
use axum::extract::State as Extract;

use super::Shared;
use super::error::ApiError;
use super::model::HostCapabilities;
use super::shared::Failures;

/// Show the capabilities of the host
///
/// As found when the daemon started.
#[utoipa::path(get, path = "/capabilities", tag = "host", security(("bearer" = [])), responses(
    (status = 200, description = "The hypervisors", body = HostCapabilities),
    Failures,
))]
pub(super) async fn get_capabilities(
    Extract(state): Shared,
) -> Result<Json<HostCapabilities>, ApiError> {
    Ok(Json(HostCapabilities { hypervisors: state.hypervisors.clone() }))
}
