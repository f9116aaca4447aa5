//! `/health`.

use axum::Json;

use super::model::Health;

/// Whether the daemon serves
///
/// Needs no token.
#[utoipa::path(get, path = "/health", tag = "host", responses((status = 200, description = "It does", body = Health)))]
pub(super) async fn get_health() -> Json<Health> {
    Json(Health { status: "ok".into(), version: env!("CARGO_PKG_VERSION").into() })
}
