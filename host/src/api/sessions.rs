//! `/sessions`: a browser that has shown a token once, and is known by a cookie from then on.
//!
//! The cookie names a session of this process; the token stays here. Whatever ends the token ends
//! the session, because each request is authenticated with the token anew. A cookie counts only in
//! requests with a header that no other site can make a browser send, so that a foreign page can't
//! act for whoever is signed in.

use axum::Json;
use axum::extract::State as Extract;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::auth::{self, Caller};
use super::body::Body;
use super::cookies::{check_own, cookie, set_cookie};
use super::error::ApiError;
use super::model::{CreateSession, Session};
use super::shared::Failures;
use crate::clock;
use crate::limits::api as limits;

/// Sign in
///
/// Takes any token that the API takes, and answers with a cookie that stands for it in requests
/// with the header `Tallyman-Dashboard`, up to twelve hours or until the daemon ends. Needs no
/// other token.
#[utoipa::path(post, path = "/sessions", tag = "tenants", request_body = CreateSession,
    params(("Tallyman-Dashboard" = String, Header, description = "Any text")), responses(
    (status = 201, description = "The cookie is set", body = Session),
    Failures,
))]
pub(super) async fn create_session(
    Extract(state): Shared,
    headers: HeaderMap,
    Body(asked): Body<CreateSession>,
) -> Result<Response, ApiError> {
    check_own(&headers)?;
    let token = asked.token.trim();
    let caller = auth::authenticate(&state, token)?;
    let name = state.sessions.begin(token, clock::boottime_ns());
    let cookie = set_cookie(&headers, &name, limits::SESSION_S);
    let session = Json(present(&caller));
    Ok((StatusCode::CREATED, [(SET_COOKIE, cookie)], session).into_response())
}

/// Describe the caller
///
/// The role and the tenant of the token, or of the session's.
#[utoipa::path(get, path = "/sessions/current", tag = "tenants", security(("bearer" = [])), responses(
    (status = 200, description = "The role and the tenant", body = Session),
    Failures,
))]
pub(super) async fn get_session(caller: Caller) -> Json<Session> {
    Json(present(&caller))
}

/// Sign out
///
/// Ends the session of the cookie. A token is not revoked by it.
#[utoipa::path(delete, path = "/sessions/current", tag = "tenants", security(("bearer" = [])), responses(
    (status = 204, description = "The session has ended"),
    Failures,
))]
pub(super) async fn end_session(Extract(state): Shared, headers: HeaderMap) -> Response {
    if let Some(name) = cookie(&headers) {
        state.sessions.end(name);
    }
    (StatusCode::NO_CONTENT, [(SET_COOKIE, set_cookie(&headers, "", 0))]).into_response()
}

fn present(caller: &Caller) -> Session {
    Session {
        role: caller.role().into(),
        tenant: caller.tenant(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}
