//! `/policies`: the policies of a tenant, and their upload.

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::body::{Params, Raw};
use super::error::{ApiError, ErrorBody};
use super::model::{Declared, Policies, Policy, PolicyDetails, PolicyLimits, SelfTest};
use super::present::timestamp;
use super::shared::{Failures, HostFailure};
use super::{Shared, State, blocking, quota};
use crate::id::{Digest, TenantId};
use crate::limits;
use crate::policy::Profile;
use crate::rollout::{CatalogueEntry, PolicyRecord, Upload};

impl State {
    /// The policy of a key, among those that the caller may use. The key is the tenant's name for
    /// it, its digest, a unique prefix of the digest, or `standard`.
    pub(super) fn find_policy(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        key: &str,
    ) -> Result<CatalogueEntry, ApiError> {
        Ok(self.rollout.find(tenant, caller.is_operator(), key)?)
    }
}

/// The declarations of a policy; `None` if it can't be loaded or called. Blocking.
fn declared(state: &State, digest: Digest) -> Option<Declared> {
    state.rollout.make_ready(digest).ok()?;
    let policy = state.rollout.policies().get(digest)?;
    policy.describe().ok().map(Declared::from)
}

/// A policy with its standing with a tenant.
fn present(state: &State, tenant: &TenantId, entry: &CatalogueEntry) -> Policy {
    let stands = state.rollout.standing_of(tenant, &entry.digest()).map(Into::into);
    let admission = state.rollout.admission(tenant, &entry.digest());
    let policy = match entry {
        CatalogueEntry::Examining { digest, size_bytes, profile } => Policy {
            digest: *digest,
            size_bytes: *size_bytes,
            world: String::new(),
            profile: profile.to_string(),
            standard: false,
            name: None,
            state: None,
            admitted_at: None,
            compile_ms: None,
            self_test: None,
        },
        CatalogueEntry::Admitted(record) => present_record(record),
    };
    Policy {
        name: admission
            .as_ref()
            .and_then(|admission| admission.name.as_ref())
            .map(ToString::to_string),
        state: stands,
        admitted_at: admission.map(|admission| timestamp(state, admission.at)),
        ..policy
    }
}

fn present_record(record: &PolicyRecord) -> Policy {
    Policy {
        digest: record.digest,
        size_bytes: record.size_bytes,
        world: record.world.as_str().into(),
        profile: record.profile.to_string(),
        standard: record.is_standard,
        name: None,
        state: None,
        admitted_at: None,
        compile_ms: record.compile_ms,
        self_test: record.self_test.map(|test| SelfTest {
            vectors: test.vectors as u64,
            enter_fuel: test.enter_fuel,
            snapshot_fuel: test.snapshot_fuel,
            enter_all_fuel: test.enter_all_fuel,
            snapshot_all_fuel: test.snapshot_all_fuel,
        }),
    }
}

/// List policies
///
/// The policies of the tenant, or of all tenants for an operator who names none; the standard
/// policy comes first. `state` is the standing of each with the tenant. `limits` holds the limits
/// of profile `compact`, `large` those of profile `large`.
#[utoipa::path(get, path = "/policies", tag = "policies", security(("bearer" = [])), responses(
    (status = 200, description = "All policies", body = Policies),
    Failures,
))]
pub(super) async fn list_policies(Extract(state): Shared, caller: Caller) -> Json<Policies> {
    let tenant = caller.tenant();
    let entries = state.rollout.policies_of(caller.scope());
    Json(Policies {
        policies: entries.iter().map(|entry| present(&state, &tenant, entry)).collect(),
        limits: PolicyLimits::of(Profile::Compact),
        large: PolicyLimits::of(Profile::Large),
    })
}

/// Show one policy
///
/// With its history with the tenant, newest first.
#[utoipa::path(get, path = "/policies/{digest}",
    tag = "policies", security(("bearer" = [])), responses(
    (status = 200, description = "The policy", body = PolicyDetails),
    Failures,
))]
pub(super) async fn get_policy(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<Json<PolicyDetails>, ApiError> {
    let tenant = caller.tenant();
    let entry = state.find_policy(&caller, &tenant, &key)?;
    let policy = present(&state, &tenant, &entry);
    let limits = PolicyLimits::of(entry.profile());
    let known = blocking(move || {
        let most = limits::api::POLICY_HISTORY_MAX;
        let history = state.journal.policy_facts(&tenant, &entry.digest(), most)?;
        Ok((history, declared(&state, entry.digest())))
    });
    let (history, declared) = known.await?;
    Ok(Json(PolicyDetails { policy, history, limits, declared }))
}

/// The query parameters of an upload.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UploadParams {
    /// The set of limits that it runs under: `compact`, or `large` for meters in interpreted
    /// languages; `compact` if absent.
    profile: Option<String>,
    /// A name among the tenant's policies, such as `night-v3`: 1 to 63 of a-z, 0-9 and '-'. It is
    /// accepted wherever the digest is. None if absent.
    name: Option<String>,
}

/// Upload a policy
///
/// Examines, compiles and tests the component. When it is admitted, it can be activated for a
/// tenant. A repeated upload changes nothing.
#[utoipa::path(post, path = "/policies",
    tag = "policies", security(("bearer" = [])), params(UploadParams),
    request_body(content = Vec<u8>, content_type = "application/wasm",
        description = "The component's bytes, at most 1 MiB, or 32 MiB in profile large"),
    responses(
    (status = 201, description = "The policy is admitted", body = Policy),
    (status = 413, description = "The component is too large", body = ErrorBody),
    (status = "4XX", description = "The component is refused; `code` and `message` say why",
        body = ErrorBody),
    HostFailure,
))]
pub(super) async fn upload_policy(
    Extract(state): Shared,
    caller: Caller,
    headers: HeaderMap,
    Params(UploadParams { profile, name }): Params<UploadParams>,
    Raw(bytes): Raw,
) -> Result<(StatusCode, Json<Policy>), ApiError> {
    check_content_type(&headers)?;
    caller.check_fuel(&state)?;
    let profile = profile.map_or(Ok(Profile::default()), |profile| profile.parse())?;
    let tenant = caller.tenant();
    let uploads = &state.uploads;
    let too_many = || ApiError::too_many_at_once("uploads", uploads.most());
    let _seat = match caller.is_operator() {
        true => None,
        false => Some(uploads.take(&tenant).ok_or_else(too_many)?),
    };
    let _stored = quota::store(&state, &tenant, &bytes).await?;
    let upload = Upload {
        tenant: tenant.clone(),
        bytes: bytes.to_vec(),
        profile,
        name: name.map(|name| name.parse()).transpose()?,
        by: caller.actor(),
    };
    let entry = state.rollout.upload(upload).await?;
    Ok((StatusCode::CREATED, Json(present(&state, &tenant, &entry))))
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let sent = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match sent {
        None | Some("application/wasm" | "application/octet-stream") => Ok(()),
        Some(other) => Err(ApiError::unsupported(format!(
            "a policy must be sent as its bytes, as application/wasm, not as {other}"
        ))),
    }
}
