//! `/health`.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State as Extract;
use axum::http::HeaderMap;

use super::auth;
use super::model::{
    DiskHealth, DiskState, GapsHealth, HeadsHealth, Health, JournalHead, Timestamp,
};
use super::present::timestamp;
use super::{Shared, State};
use crate::tenant::Role;

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

/// The heads that were signed and published.
fn heads(state: &State) -> HeadsHealth {
    let published = state.publisher.as_ref().map(|publisher| publisher.published());
    let at = |at_s: u64| {
        let at_ns = i64::try_from(at_s).unwrap_or_default().saturating_mul(1_000_000_000);
        Timestamp(at_ns)
    };
    HeadsHealth {
        signed: state.heads.last().map_or(0, |last| last.seq),
        published: published.as_ref().map(|published| published.seq),
        failing_since: published.and_then(|published| published.failing_since_s).map(at),
    }
}

/// The times between two boots that nobody has settled; none without any.
fn gaps(state: &State) -> Option<GapsHealth> {
    let open = state.issuer.open_gaps().ok()?;
    let since = open.since?;
    Some(GapsHealth {
        open: open.count,
        since: timestamp(state, since),
        claimed_ns: open.claimed_ns,
        remedy: "nothing proves how long the host was off; `tallyman gap list` shows each, and \
                 `tallyman gap settle` says how long it was, or that it is worth nothing"
            .into(),
    })
}

/// The alerts that a caller may know of: those of its tenant, or all of the host for whoever runs
/// or watches it. Without a token there are none.
fn alerts(state: &State, headers: &HeaderMap) -> u64 {
    let Ok(caller) = auth::caller(state, headers) else { return 0 };
    let sees_all = matches!(caller.role(), Role::Operator | Role::Metrics);
    let tenants = state.tenancy.tenants();
    let seen = tenants.iter().filter(|tenant| sees_all || caller.scope() == Some(tenant.id()));
    seen.map(|tenant| state.rollout.alerts(tenant.id()).len() as u64).sum()
}

/// Check that the daemon serves
///
/// Needs no token. With one, `alerts` counts those of the token's tenant, and all for an operator.
#[utoipa::path(get, path = "/health", tag = "host", responses(
    (status = 200, description = "The daemon serves", body = Health),
))]
pub(super) async fn get_health(Extract(state): Shared, headers: HeaderMap) -> Json<Health> {
    let alerts = alerts(&state, &headers);
    let head = state.journal.head();
    Json(Health {
        status: "ok".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        alerts,
        journal: JournalHead { seq: head.seq, hash: head.hash.to_string() },
        set_aside: state.fleet.set_aside(),
        strays: state.fleet.strays().len() as u64,
        halted: state.fleet.halted().len() as u64,
        disk: disk(&state),
        heads: heads(&state),
        gaps: gaps(&state),
    })
}
