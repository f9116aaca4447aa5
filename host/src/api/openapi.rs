//! `/openapi.json`.

use axum::extract::State as Extract;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::Shared;

/// Get this document
///
/// Needs no token.
#[utoipa::path(get, path = "/openapi.json", tag = "host", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"),
))]
pub(super) async fn get_openapi(Extract(state): Shared) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], state.description)
}
