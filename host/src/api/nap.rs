//! `/instances/{id}/auto-standby`: how far an instance is from a standby on its own.

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::model::{AutoStandbyReason, AutoStandbyStage, AutoStandbyStatus, NoOptions};
use super::shared::Failures;
use super::time::format_millis;
use super::{Shared, State, present};
use crate::driver::View;
use crate::hypervisor::Capability;
use crate::units::Nanos;
use crate::vm;

/// Show how far an instance is from a standby on its own
#[utoipa::path(get, path = "/instances/{id}/auto-standby/status",
    tag = "instances", security(("bearer" = [])), responses(
    (status = 200, description = "The stage, and the reason for it", body = AutoStandbyStatus),
    Failures,
))]
pub(super) async fn get_auto_standby(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<Json<AutoStandbyStatus>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    Ok(Json(status(&state, &view)))
}

/// Hold an instance back from a standby on its own
///
/// Its idle time begins anew.
#[utoipa::path(post, path = "/instances/{id}/auto-standby/hold",
    tag = "instances", security(("bearer" = [])), responses(
    (status = 200, description = "The stage, and the reason for it", body = AutoStandbyStatus),
    Failures,
))]
pub(super) async fn hold_auto_standby(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(NoOptions {}): Body<NoOptions>,
) -> Result<Json<AutoStandbyStatus>, ApiError> {
    let tenant = caller.tenant();
    let before = state.fleet.find(&tenant, &key)?;
    if !before.live.state.has_vmm() {
        let is = before.live.state.as_str();
        let message = format!("the instance is {is}; it can be held back only while it runs");
        return Err(ApiError::conflict("invalid_state", message));
    }
    let view = state.fleet.report_activity(&tenant, &before.record.id, false).await?;
    Ok(Json(status(&state, &view)))
}

fn status(state: &State, view: &View) -> AutoStandbyStatus {
    let spec = &view.record.spec;
    let auto = spec.auto_standby;
    let mut hypervisors = state.fleet.hypervisors();
    let hypervisor = hypervisors.find(|known| known.name == spec.hypervisor);
    let supported = hypervisor.is_some_and(|known| known.capabilities.has(Capability::Snapshots));
    let runs = matches!(view.live.state, vm::State::Running | vm::State::Initializing);
    let now = state.fleet.now();
    let next = auto
        .zip(view.idle_since)
        .and_then(|(auto, since)| since.after(Nanos(auto.idle_after_ms.saturating_mul(1_000_000))));
    let remaining_ms = next.map(|next| next.since(now).unwrap_or_default().as_millis_truncated());
    let (status, reason) = match (supported, auto.is_some(), runs, remaining_ms) {
        (false, _, _, _) => (AutoStandbyStage::Unsupported, AutoStandbyReason::UnsupportedPlatform),
        (_, false, _, _) => (AutoStandbyStage::Disabled, AutoStandbyReason::PolicyMissing),
        (_, _, false, _) => (AutoStandbyStage::Ineligible, AutoStandbyReason::InstanceNotRunning),
        (_, _, _, None) => (AutoStandbyStage::Active, AutoStandbyReason::IdleTimeoutNotElapsed),
        (_, _, _, Some(0)) => {
            (AutoStandbyStage::ReadyForStandby, AutoStandbyReason::ReadyForStandby)
        }
        (_, _, _, Some(_)) => {
            (AutoStandbyStage::IdleCountdown, AutoStandbyReason::IdleTimeoutNotElapsed)
        }
    };
    AutoStandbyStatus {
        supported,
        configured: auto.is_some(),
        enabled: auto.is_some(),
        eligible: supported && auto.is_some() && runs,
        active_inbound_connections: 0,
        tracking_mode: "activity".into(),
        status,
        reason,
        idle_since: view.idle_since.map(|since| present::timestamp(state, since)),
        idle_timeout: auto.map(|auto| format_millis(auto.idle_after_ms)),
        next_standby_at: next.map(|next| present::timestamp(state, next)),
        countdown_remaining: remaining_ms.map(format_millis),
    }
}
