//! `/policies`: the components that were admitted.

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};

use super::body::Raw;
use super::error::{ApiError, ErrorBody};
use super::library::{describe, record};
use super::model::{Policies, Policy, PolicyDetails, PolicyLimits, Timestamp};
use super::{Shared, blocking};
use crate::id::TenantId;
use crate::journal::{Entry, NewPolicy};

/// List policies
///
/// The standard policy comes first. `limits` is what every policy may cost.
#[utoipa::path(get, path = "/policies", tag = "policies", security(("bearer" = [])), responses(
    (status = 200, description = "All admitted policies", body = Policies),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
))]
pub(super) async fn list_policies(Extract(state): Shared) -> Json<Policies> {
    Json(Policies { policies: state.library.list(), limits: PolicyLimits::CURRENT })
}

/// One policy
#[utoipa::path(get, path = "/policies/{digest}", tag = "policies", security(("bearer" = [])),
    params(("digest" = String, Path, description = "Its digest, the digest's unique beginning, or `standard`")), responses(
    (status = 200, description = "The policy", body = PolicyDetails),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
))]
pub(super) async fn get_policy(
    Extract(state): Shared,
    Path(key): Path<String>,
) -> Result<Json<PolicyDetails>, ApiError> {
    let policy = state.library.find(&key)?;
    Ok(Json(PolicyDetails { policy, limits: PolicyLimits::CURRENT }))
}

/// Upload a policy
///
/// The component is examined, compiled off the path of any request, and tested; after that it can be activated for a tenant. To upload one again
/// changes nothing.
#[utoipa::path(post, path = "/policies", tag = "policies", security(("bearer" = [])),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The component's bytes, at most 1 MiB"), responses(
    (status = 201, description = "It is admitted", body = Policy),
    (status = 413, description = "It is too large", body = ErrorBody),
    (status = "4XX", description = "It is refused; `code` and `message` say why", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn upload_policy(
    Extract(state): Shared,
    headers: HeaderMap,
    Raw(bytes): Raw,
) -> Result<(StatusCode, Json<Policy>), ApiError> {
    check_content_type(&headers)?;
    let host = state.library.host().clone();
    let (admitted, bytes) = blocking(move || Ok((host.admit(&bytes)?, bytes))).await?;
    if admitted.digest == state.library.host().standard().digest() {
        return Ok((StatusCode::CREATED, Json(state.library.find("standard")?)));
    }
    let policy = describe(&admitted, Timestamp(state.fleet.calendar_ns(state.fleet.now())));
    let new = NewPolicy {
        tenant: TenantId::default_tenant(),
        digest: policy.digest,
        bytes: bytes.to_vec(),
        record: record(&policy),
    };
    state.journal.commit(Entry { policy: Some(new), ..Entry::default() }).await?;
    state.library.keep(policy.clone());
    Ok((StatusCode::CREATED, Json(policy)))
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
