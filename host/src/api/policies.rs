//! `/policies`: the components that were admitted.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as Extract};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::body::{Params, Raw};
use super::error::{ApiError, ErrorBody};
use super::library::{arrived, describe, profile_of, record};
use super::model::{Policies, Policy, PolicyDetails, PolicyLimits, Timestamp};
use super::{Shared, State, blocking};
use crate::id::{Digest, TenantId};
use crate::journal::NewPolicy;
use crate::limits;
use crate::policy::{AdmissionError, Admitted, Profile};
use crate::tenant::{Actor, Move, Standing};

impl State {
    /// The policies that a tenant has to do with, or all; the standard one is everybody's, and comes first.
    pub(super) fn policies_of(&self, tenant: Option<&TenantId>) -> Vec<Policy> {
        let mut policies = self.library.list();
        if let Some(tenant) = tenant {
            policies.retain(|policy| policy.standard || self.tenancy.standing(tenant, &policy.digest).is_some());
        }
        policies
    }

    /// The policy behind a digest, its beginning or a name, among those that whoever asks may use.
    pub(super) fn find_policy(&self, caller: &Caller, key: &str) -> Result<Policy, ApiError> {
        let tenant = caller.scope().filter(|_| !caller.is_operator());
        super::library::find(self.policies_of(tenant), key)
    }

    /// The policy as it stands with a tenant.
    fn as_it_stands(&self, tenant: &TenantId, policy: Policy) -> Policy {
        let stood = self.tenancy.standing(tenant, &policy.digest);
        Policy { state: stood.map(|stood| self.keeper.standing(&stood).into()), ..policy }
    }
}

/// List policies
///
/// Those of the tenant, or of all tenants for an operator who names none; the standard policy comes first. `state` is where each stands with the
/// tenant. `limits` is what every policy may cost, `large` what one of that
/// profile may.
#[utoipa::path(get, path = "/policies", tag = "policies", security(("bearer" = [])), responses(
    (status = 200, description = "All policies", body = Policies),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
))]
pub(super) async fn list_policies(Extract(state): Shared, caller: Caller) -> Json<Policies> {
    let tenant = caller.tenant();
    let policies = state.policies_of(caller.scope()).into_iter();
    let policies = policies.map(|policy| state.as_it_stands(&tenant, policy)).collect();
    let (limits, large) = (PolicyLimits::of(Profile::Compact), PolicyLimits::of(Profile::Large));
    Json(Policies { policies, limits, large })
}

/// One policy
///
/// With what it has been through with the tenant: by whom, when and why, newest first.
#[utoipa::path(get, path = "/policies/{digest}", tag = "policies", security(("bearer" = [])),
    params(("digest" = String, Path, description = "Its digest, the digest's unique beginning, or `standard`")), responses(
    (status = 200, description = "The policy", body = PolicyDetails),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
))]
pub(super) async fn get_policy(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<Json<PolicyDetails>, ApiError> {
    let tenant = caller.tenant();
    let policy = state.as_it_stands(&tenant, state.find_policy(&caller, &key)?);
    let (reading, digest) = (state.clone(), policy.digest);
    let history =
        blocking(move || Ok(reading.journal.policy_facts(&tenant, &digest, limits::api::POLICY_HISTORY_MAX)?));
    let limits = PolicyLimits::of(profile_of(&policy));
    Ok(Json(PolicyDetails { policy, history: history.await?, limits }))
}

/// How a component is to be examined.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UploadParams {
    /// Which bounds hold for it: `compact`, or `large` for raters in interpreted languages; `compact` if absent.
    profile: Option<String>,
}

/// Upload a policy
///
/// The component is examined, compiled off the path of any request, and tested; after that it can be activated for a tenant. To upload one again
/// changes nothing.
#[utoipa::path(post, path = "/policies", tag = "policies", security(("bearer" = [])), params(UploadParams),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The component's bytes, at most 1 MiB, or 32 MiB in profile large"), responses(
    (status = 201, description = "It is admitted", body = Policy),
    (status = 413, description = "It is too large", body = ErrorBody),
    (status = "4XX", description = "It is refused; `code` and `message` say why", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn upload_policy(
    Extract(state): Shared,
    caller: Caller,
    headers: HeaderMap,
    Params(UploadParams { profile }): Params<UploadParams>,
    Raw(bytes): Raw,
) -> Result<(StatusCode, Json<Policy>), ApiError> {
    check_content_type(&headers)?;
    caller.check_fuel(&state)?;
    let profile = profile.map_or(Ok(Profile::default()), |profile| profile.parse())?;
    let (host, inspected) = (state.library.host().clone(), bytes.clone());
    let digest = blocking(move || Ok(host.inspect(&inspected, profile)?)).await?;
    let tenant = caller.tenant();
    if let Some(known) = known(&state, &tenant, digest) {
        return Ok((StatusCode::CREATED, Json(known)));
    }
    state.tenancy.check_policies(&tenant, &digest)?;
    let arrived = arrived(digest, bytes.len(), profile);
    let admitted = examine(&state, &tenant, caller.actor(), arrived, bytes.clone()).await?;
    let policy = describe(&admitted, Timestamp(state.fleet.calendar_ns(state.fleet.now())));
    let (bytes, record, by) = (bytes.to_vec(), record(&policy), caller.actor());
    state.tenancy.admit(NewPolicy { tenant: tenant.clone(), digest, bytes, record, by }).await?;
    state.library.keep(policy.clone());
    Ok((StatusCode::CREATED, Json(state.as_it_stands(&tenant, policy))))
}

/// A policy that the tenant has already, or that everybody has.
fn known(state: &State, tenant: &TenantId, digest: Digest) -> Option<Policy> {
    let has = match state.tenancy.standing(tenant, &digest).map(|stood| stood.standing) {
        Some(Standing::Uploaded | Standing::Refused) => false,
        Some(_) => true,
        None => digest == state.library.host().standard().digest(),
    };
    state.library.get(&digest).filter(|_| has).map(|policy| state.as_it_stands(tenant, policy))
}

/// Compiles and tests a component that looks like a policy. Who brought it and how it went is written down.
async fn examine(
    state: &Arc<State>,
    tenant: &TenantId,
    by: Actor,
    arrived: Policy,
    bytes: Bytes,
) -> Result<Admitted, ApiError> {
    let (digest, profile) = (arrived.digest, profile_of(&arrived));
    let moved = |to, by, reason| Move { digest, to, by, reason, stand_in: None };
    let uploaded = moved(Standing::Uploaded, by, format!("{} bytes, profile {profile}", bytes.len()));
    state.tenancy.move_policy(tenant, uploaded, None).await?;
    state.library.arrive(arrived);
    let host = state.library.host().clone();
    let examined: Result<Admitted, AdmissionError> = blocking(move || Ok(host.admit_in(profile, &bytes))).await?;
    if let Err(refusal) = &examined {
        let refused = moved(Standing::Refused, Actor::Host, refusal.in_words());
        state.tenancy.move_policy(tenant, refused, None).await?;
        state.library.refuse(&digest);
    }
    Ok(examined?)
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let sent = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match sent {
        None | Some("application/wasm" | "application/octet-stream") => Ok(()),
        Some(other) => {
            Err(ApiError::unsupported(format!("a policy is sent as its bytes, with application/wasm; this is {other}")))
        }
    }
}
