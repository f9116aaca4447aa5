//! `/health`.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State as Extract;

use super::model::{DiskHealth, DiskState, Health, JournalHead};
use super::{Shared, State};

/// The space of the data folder's disk; none if it can't be asked.
fn disk(state: &State) -> Option<DiskHealth> {
    let space = state.disk.space().ok()?;
    let figures = state.journal.figures();
    let held = figures.reserve_bytes.load(Ordering::Relaxed);
    let state = match held < figures.reserve_bytes_max.load(Ordering::Relaxed) {
        true => DiskState::Full,
        false if space.is_low() => DiskState::Low,
        false if space.is_getting_low() => DiskState::GettingLow,
        false => DiskState::Good,
    };
    Some(DiskHealth {
        state,
        free_bytes: space.free_bytes,
        kept_bytes: space.kept_bytes(),
        reserve_bytes: held,
    })
}

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
        disk: disk(&state),
    })
}
