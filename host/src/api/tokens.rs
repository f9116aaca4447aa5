//! `/tokens`: the tokens of tenants and operators.

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::model::{CreateToken, CreatedToken, Timestamp, Token, TokenStatus};
use super::shared::Failures;
use super::{Shared, State};
use crate::id::HostName;
use crate::journal::StoredToken;
use crate::limits::token as limits;
use crate::tenancy::TokenRequest;
use crate::tenant::Role;

/// List tokens
///
/// The tokens of the tenant, or of all tenants for an operator who names none, without their
/// secrets. One that has expired or was revoked is listed for a week.
#[utoipa::path(get, path = "/tokens", tag = "tenants", security(("bearer" = [])), responses(
    (status = 200, description = "The tokens, oldest first; with those that have ended",
        body = [Token]),
    Failures,
))]
pub(super) async fn list_tokens(Extract(state): Shared, caller: Caller) -> Json<Vec<Token>> {
    let mut tokens = state.tenancy.tokens(caller.scope());
    tokens.retain(|token| is_theirs(&caller, token));
    Json(tokens.iter().map(|token| present(&state, token)).collect())
}

/// Returns true if the caller may see a token. Tokens of operators and of the role `billing` are
/// recorded under a tenant, but are not the tenant's.
fn is_theirs(caller: &Caller, token: &StoredToken) -> bool {
    caller.is_operator() || !token.role.is_of_the_provider()
}

/// Create a token
///
/// The secret is in this answer only.
#[utoipa::path(post, path = "/tokens",
    tag = "tenants", security(("bearer" = [])), request_body = CreateToken, responses(
    (status = 201, description = "The token, with its secret", body = CreatedToken),
    Failures,
))]
pub(super) async fn create_token(
    Extract(state): Shared,
    caller: Caller,
    Body(request): Body<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), ApiError> {
    let tenant = match &request.tenant {
        Some(id) => caller.tenant_at(&state, id)?.id().clone(),
        None => caller.tenant(),
    };
    let role = Role::from(request.role);
    if role.is_of_the_provider() && !caller.is_operator() {
        let message = format!("role: only an operator may create a token with the role {role}");
        return Err(ApiError::operators_alone(&message));
    }
    let lifetime_s = request.expires_in_s.unwrap_or(limits::LIFETIME_S_DEFAULT);
    if !(1..=limits::LIFETIME_S_MAX).contains(&lifetime_s) {
        let most = limits::LIFETIME_S_MAX;
        return Err(ApiError::invalid(format!(
            "expires_in_s: must be 1 to {most} seconds, is {lifetime_s}"
        )));
    }
    let name = checked_name(request.name)?;
    if role == Role::Host {
        let _: HostName = name.parse()?;
    }
    let wanted = TokenRequest { tenant, name, role, lifetime_s, by: caller.actor() };
    let (secret, token) = state.tenancy.create_token(wanted).await?;
    Ok((StatusCode::CREATED, Json(CreatedToken { secret, token: present(&state, &token) })))
}

fn checked_name(name: String) -> Result<String, ApiError> {
    let count = name.chars().count();
    let most = limits::NAME_CHARS_MAX;
    if (1..=most).contains(&count) && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    Err(ApiError::invalid(format!(
        "name: must have 1 to {most} characters and no control characters, has {count}"
    )))
}

/// Revoke a token
///
/// Takes effect at once and for good. A repeated revocation changes nothing.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tenants", security(("bearer" = [])), responses(
    (status = 204, description = "The token is revoked"),
    Failures,
))]
pub(super) async fn revoke_token(
    Extract(state): Shared,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<StatusCode, ApiError> {
    let token = state.tenancy.token(caller.scope(), &key)?;
    if !is_theirs(&caller, &token) {
        return Err(crate::tenancy::TenancyError::NoSuchToken(key).into());
    }
    state.tenancy.revoke(token.id, caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn present(state: &State, token: &StoredToken) -> Token {
    let at = |at| Timestamp(state.fleet.calendar_ns(at));
    let status = match token.revoked {
        Some(_) => TokenStatus::Revoked,
        None if state.fleet.now() >= token.expires => TokenStatus::Expired,
        None => TokenStatus::Good,
    };
    Token {
        id: token.id,
        tenant: token.tenant.clone(),
        name: token.name.clone(),
        role: token.role.into(),
        status,
        created_at: at(token.created),
        created_by: token.by.to_string(),
        expires_at: at(token.expires),
        revoked_at: token.revoked.map(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_for_people_and_bounded() {
        for good in ["ci", "Björn's laptop", &"x".repeat(limits::NAME_CHARS_MAX)] {
            assert_eq!(checked_name(good.into()).ok().as_deref(), Some(good));
        }
        for bad in ["", "a\nb", &"x".repeat(limits::NAME_CHARS_MAX + 1)] {
            assert_eq!(checked_name(bad.into()).expect_err("refused").status(), 400);
        }
    }
}
