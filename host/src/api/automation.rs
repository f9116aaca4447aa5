//! `PATCH /instances/{id}`, `activity`, `resize` and `stats`: an instance's automation, its memory,
//! and its use of the host.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, ErrorBody};
use super::model::{
    ExpiryAction, Instance, InstanceStats, ReportActivity, ResizeInstance, Timestamp,
    UpdateInstance,
};
use super::shared::Failures;
use super::{Shared, State, blocking, parse, present, quota};
use crate::driver::{Amendment, Expiry, Request, View};
use crate::tenancy::Share;

/// Change the labels and the automation of an instance
///
/// The instance's phase does not change. Each change is recorded as a fact.
#[utoipa::path(patch, path = "/instances/{id}", tag = "instances", security(("bearer" = [])),
    request_body = UpdateInstance, responses(
    (status = 200, description = "The instance", body = Instance),
    Failures,
))]
pub(super) async fn update_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(request): Body<UpdateInstance>,
) -> Result<Json<Instance>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let UpdateInstance {
        tags,
        restart_policy,
        health_check,
        auto_standby: auto,
        ttl,
        expires_at,
        expiry_action,
        env,
    } = request;
    refuse_secrets(&env)?;
    let health = health_check.as_ref().map(parse::health_check).transpose()?;
    let auto_standby =
        auto.map(|auto| auto.as_ref().map_or(Ok(None), parse::auto_standby)).transpose()?;
    let expiry = expiry(&state, &view, ttl, expires_at, expiry_action)?;
    let restart = restart_policy.map(|policy| parse::restart_policy(&policy)).transpose()?;
    let amendment =
        Amendment { tags, restart, expiry, health, auto_standby, ..Amendment::default() };
    let asked = state.fleet.now();
    let view = state.fleet.amend(&caller.tenant(), &view.record.id, amendment).await?;
    Ok(Json(present::instance(&state, view, asked)))
}

/// Refuses secrets, which no instance has.
fn refuse_secrets(env: &BTreeMap<String, String>) -> Result<(), ApiError> {
    match env.is_empty() {
        true => Ok(()),
        false => Err(ApiError::not_implemented(
            "env: variables are set when an instance is created; no secret of a running one is \
             replaced",
        )),
    }
}

/// The change of an expiry; `None` for no change.
fn expiry(
    state: &State,
    view: &View,
    ttl: Option<String>,
    at: Option<Option<Timestamp>>,
    action: Option<ExpiryAction>,
) -> Result<Option<Option<Expiry>>, ApiError> {
    let is_for_ever = ttl.as_deref().map(parse::never).transpose()?.unwrap_or(false);
    Ok(match (ttl, at) {
        (Some(_), None) if is_for_ever => Some(None),
        (None, Some(None)) => Some(None),
        (None, None) => action.map(|action| parse::with_action(view, action)).transpose()?,
        (ttl, at) => parse::expiry(state, ttl.as_deref(), at.flatten(), action)?.map(Some),
    })
}

/// Report activity for an instance
///
/// For a proxy between guests and their clients. The report restarts the idle time of
/// `auto_standby`; with `wake`, an instance in standby is restored.
#[utoipa::path(post, path = "/instances/{id}/activity", tag = "instances",
    security(("bearer" = [])),
    request_body = Option<ReportActivity>, responses(
    (status = 200, description = "Recorded; with `wake` the instance runs", body = Instance),
    Failures,
))]
pub(super) async fn report_activity(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(ReportActivity { wake }): Body<ReportActivity>,
) -> Result<Json<Instance>, ApiError> {
    let tenant = caller.tenant();
    let asked = state.fleet.now();
    let id = state.fleet.find(&tenant, &key)?.record.id.clone();
    let view = state.fleet.report_activity(&tenant, &id, wake).await?;
    Ok(Json(present::instance(&state, view, asked)))
}

/// Resize the memory of an instance
///
/// A stopped instance boots with the new size. A running one gets it at once, if its hypervisor
/// supports that and the instance was created with `memory_bytes_max`. The new shape is recorded as
/// a fact.
#[utoipa::path(post, path = "/instances/{id}/resize", tag = "instances", security(("bearer" = [])),
    request_body = ResizeInstance, responses(
    (status = 200, description = "Done and recorded", body = Instance),
    (status = 409, description = "Not legal now, or not supported by the hypervisor; the message \
        names those that do", body = ErrorBody),
    Failures,
))]
pub(super) async fn resize_instance(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
    Body(request): Body<ResizeInstance>,
) -> Result<Json<Instance>, ApiError> {
    let tenant = caller.tenant();
    let asked = state.fleet.now();
    let before = state.fleet.find(&tenant, &key)?;
    let missing = || ApiError::invalid("size: missing; give the memory, such as `512MB`");
    let memory_bytes =
        parse::memory_bytes(request.size.as_deref(), request.memory_bytes)?.ok_or_else(missing)?;
    let share = Share { memory_bytes, ..quota::share_of(&before) };
    let _reserved = quota::reserve(&state, &tenant, &before.record.name, share)?;
    let view =
        state.fleet.request(&tenant, &before.record.id, Request::Resize { memory_bytes }).await?;
    Ok(Json(present::instance(&state, view, asked)))
}

/// Show the host resources that an instance uses
///
/// The use of its process, as the kernel counts it. These figures are for information; they are not
/// billed.
#[utoipa::path(get, path = "/instances/{id}/stats",
    tag = "instances", security(("bearer" = [])), responses(
    (status = 200, description = "The resources in use", body = InstanceStats),
    Failures,
))]
pub(super) async fn get_stats(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<Json<InstanceStats>, ApiError> {
    let view = state.fleet.find(&caller.tenant(), &key)?;
    let stats = blocking(move || {
        let usage = state.fleet.process(&view)?.unwrap_or_default();
        let traffic = state.fleet.traffic(&view)?;
        Ok(InstanceStats {
            instance_id: view.record.id.clone(),
            instance_name: view.record.name.clone(),
            cpu_ns: usage.cpu_ns,
            cpu_seconds: decimal(usage.cpu_ns, 1_000_000_000),
            cpu_resolution_ns: usage.cpu_resolution_ns,
            memory_rss_bytes: usage.rss_bytes,
            memory_vms_bytes: usage.vms_bytes,
            memory_utilization_ratio: decimal(usage.rss_bytes, view.live.shape.memory_bytes),
            network_rx_bytes: traffic.in_bytes,
            network_tx_bytes: traffic.out_bytes,
            allocated_memory_bytes: view.live.shape.memory_bytes,
            allocated_vcpus: view.live.shape.vcpus,
        })
    })
    .await?;
    Ok(Json(stats))
}

/// A quotient to nine places, cut off, as JSON has it; 0 if there is nothing to divide by.
fn decimal(part: u64, whole: u64) -> f64 {
    let whole = u128::from(whole).max(1);
    let billionths = u128::from(part) * 1_000_000_000 / whole;
    let text = format!("{}.{:09}", billionths / 1_000_000_000, billionths % 1_000_000_000);
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn a_quotient_is_cut_off_after_nine_places() {
        let rows = [
            ((0, 1), 0.0),
            ((1, 0), 1.0),
            ((1_500_000_000, 1_000_000_000), 1.5),
            ((2, 3), 0.666_666_666),
            ((u64::MAX, 1), 18_446_744_073_709_551_615.0),
        ];
        for ((part, whole), expected) in rows {
            assert_eq!(decimal(part, whole), expected, "{part} / {whole}");
        }
    }
}
