//! `/health`.

use axum::Json;
use axum::extract::State as Extract;

use super::Shared;
use super::model::{Health, JournalHead};

/// Check that the daemon serves
///
/// Needs no token.
#[utoipa::path(get, path = "/health", tag = "host", responses(
    (status = 200, description = "The daemon serves", body = Health),
))]
pub(super) async fn get_health(Extract(state): Shared) -> Json<Health> {
    let alerts = state
        .tenancy
        .tenants()
        .iter()
        .map(|tenant| state.rollout.alerts(tenant.id()).len() as u64)
        .sum();
    let head = state.journal.head();
    Json(Health {
        status: "ok".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        alerts,
        journal: JournalHead { seq: head.seq, hash: head.hash.to_string() },
        set_aside: state.fleet.set_aside(),
    })
}
