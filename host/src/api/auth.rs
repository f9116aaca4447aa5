//! Authentication of requests, the tenant that they are about, and authorization.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State as Extract};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;

use super::error::ApiError;
use super::{Shared, State, access};
use crate::clock;
use crate::driver::FleetError;
use crate::id::TenantId;
use crate::tenancy::{SELF, Tenancy, Tenant};
use crate::tenant::{Actor, Role};

/// The header that names the tenant of a request, for callers that may use several.
pub(super) const TENANT_HEADER: &str = "tallyman-tenant";

/// The authenticated caller of a request, and the tenant that it is about.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    role: Role,
    actor: Actor,
    /// The tenant that the request is about; `None` for an operator who names none.
    scope: Option<TenantId>,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // Every guarded route has passed `require`.
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| ApiError::unauthorized("the request was not authenticated"))
    }
}

impl Caller {
    /// The caller's identity, as the journal records it.
    pub(super) fn actor(&self) -> Actor {
        self.actor.clone()
    }

    /// The role of the caller.
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Returns true if the caller may use every tenant.
    pub(super) fn is_operator(&self) -> bool {
        self.role == Role::Operator
    }

    /// The tenant that answers are restricted to; `None` for all tenants.
    pub(super) fn scope(&self) -> Option<&TenantId> {
        self.scope.as_ref()
    }

    // Ids are looked up in this tenant, never looked up and then compared: a comparison can be
    // forgotten. What is another's is answered like what was never there.
    /// The tenant that changes are made for.
    pub(super) fn tenant(&self) -> TenantId {
        self.scope.clone().unwrap_or_else(TenantId::default_tenant)
    }

    /// The tenant that a path names. A tenant that the caller may not use is reported as unknown.
    pub(super) fn tenant_at(&self, state: &State, id: &str) -> Result<Arc<Tenant>, ApiError> {
        let id: TenantId = if id == SELF { self.tenant() } else { id.parse()? };
        let theirs = self.is_operator() || self.scope.as_ref() == Some(&id);
        let found = state.tenancy.tenant(&id).filter(|_| theirs);
        found.ok_or_else(|| ApiError::no_such_tenant(&id, self.scope.as_ref()))
    }

    /// Returns true if the caller is an admin of the tenant, an operator has delegated billing to
    /// the tenant, and the route charges it.
    fn may_as_delegate(&self, state: &State, method: &str, path: &str) -> bool {
        let tenant = self.scope.as_ref().and_then(|tenant| state.tenancy.tenant(tenant));
        self.role == Role::TenantAdmin
            && access::is_delegable(method, path)
            && tenant.is_some_and(|tenant| tenant.settings().billing_delegated)
    }

    /// Refuses the request if the tenant's policies have burned more fuel than its limit allows.
    /// Operators are never refused.
    pub(super) fn check_fuel(&self, state: &State) -> Result<(), ApiError> {
        match state.tenancy.tenant(&self.tenant()).filter(|_| !self.is_operator()) {
            Some(tenant) => {
                Ok(tenant.check_fuel(clock::boottime_ns(), state.accounting.fuel(tenant.id()))?)
            }
            None => Ok(()),
        }
    }
}

/// Middleware that admits requests whose token may use the route.
pub(super) async fn require(
    Extract(state): Shared,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = caller(&state, request.headers())?;
    let mut seat = None;
    if let Some(tenant) = caller.scope.as_ref().filter(|_| !caller.is_operator()) {
        let tenant =
            state.tenancy.tenant(tenant).ok_or_else(|| ApiError::no_such_tenant(tenant, None))?;
        count(&state, &tenant, caller.role, (request.method(), path.as_str()))?;
        seat = Some(
            state
                .requests
                .take(tenant.id())
                .ok_or_else(|| ApiError::too_many_at_once("requests", state.requests.most()))?,
        );
    }
    let method = request.method().as_str();
    let path = path.as_str();
    if !access::may(caller.role, method, path) && !caller.may_as_delegate(&state, method, path) {
        let allowed = access::roles(method, path).into_iter().flatten();
        return Err(ApiError::forbidden(caller.role, allowed, access::is_delegable(method, path)));
    }
    standing(&state, &caller, method, path)?;
    if access::uploads(method, path) {
        state.disk.require(0).map_err(FleetError::DiskLow)?;
    }
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    drop(seat);
    Ok(response)
}

/// Refuses what would start or make something for a tenant that is suspended or has ended.
fn standing(state: &State, caller: &Caller, method: &str, path: &str) -> Result<(), ApiError> {
    if !access::makes(method, path) {
        return Ok(());
    }
    let Some(tenant) = state.tenancy.tenant(&caller.tenant()) else { return Ok(()) };
    let settings = tenant.settings();
    match (settings.ended, settings.suspended) {
        (Some(_), _) => Err(ApiError::conflict("tenant_ended", "the tenant has ended")),
        (None, true) => Err(ApiError::conflict("tenant_suspended", "the tenant is suspended")
            .hint("what it has can be stopped, read and deleted; an operator resumes it")),
        (None, false) => Ok(()),
    }
}

/// Authenticates a request by its headers.
pub(super) fn caller(state: &State, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let session = match headers.contains_key(AUTHORIZATION) {
        true => None,
        false => state.sessions.token_of(headers)?,
    };
    let caller = match &session {
        Some(token) => authenticate(state, token)?,
        None => authenticate(state, bearer(headers)?)?,
    };
    let Some(named) = tenant_named(headers)? else { return Ok(caller) };
    let known = state.tenancy.tenant(&named).is_some();
    match known && (caller.is_operator() || caller.scope.as_ref() == Some(&named)) {
        true => Ok(Caller { scope: Some(named), ..caller }),
        false => Err(ApiError::no_such_tenant(&named, caller.scope.as_ref())),
    }
}

/// The token of a request. More than one is refused, since it would be unclear which one counts.
fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let header = sent.next().ok_or_else(|| ApiError::unauthorized("no token was sent"))?;
    if sent.next().is_some() {
        return Err(ApiError::unauthorized("the Authorization header was sent twice"));
    }
    let shown = header.to_str().ok().and_then(token_of);
    shown.ok_or_else(|| ApiError::unauthorized("the Authorization header holds no bearer token"))
}

fn token_of(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn tenant_named(headers: &HeaderMap) -> Result<Option<TenantId>, ApiError> {
    let mut sent = headers.get_all(TENANT_HEADER).iter();
    let Some(header) = sent.next() else { return Ok(None) };
    match (header.to_str(), sent.next()) {
        (Ok(id), None) => Ok(Some(id.parse()?)),
        _ => Err(ApiError::invalid(format!(
            "the header {TENANT_HEADER} must hold one tenant id, once"
        ))),
    }
}

/// Authenticates a token. Its form alone decides on its kind, so that no kind of token is ever
/// tried as another.
pub(super) fn authenticate(state: &State, shown: &str) -> Result<Caller, ApiError> {
    if state.token.is(shown) {
        return Ok(Caller { role: Role::Operator, actor: Actor::Operator, scope: None });
    }
    if Tenancy::is_secret(shown) {
        let token = state
            .tenancy
            .authenticate(shown)
            .map_err(|error| ApiError::unauthorized(&error.to_string()))?;
        let scope = (token.role != Role::Operator).then(|| token.tenant.clone());
        return Ok(Caller { role: token.role, actor: Actor::Token(token.id), scope });
    }
    if shown.split('.').count() == 3 {
        return signed(state, shown).map_err(|error| ApiError::unauthorized(&error.to_string()));
    }
    Err(ApiError::unauthorized("the token is not the right one"))
}

fn signed(state: &State, shown: &str) -> Result<Caller, crate::tenancy::JwtError> {
    use crate::tenancy::JwtError;
    let jwt = state.jwt.as_ref().ok_or(JwtError::NotConfigured)?;
    // A clock before 1970 counts as 0, at which no token is valid yet.
    let now_s = u64::try_from(clock::wall_ns()).unwrap_or_default() / 1_000_000_000;
    let bearer = jwt.check(shown, now_s)?;
    if state.tenancy.tenant(&bearer.tenant).is_none() {
        return Err(JwtError::Claim {
            claim: "tenant",
            problem: "is not a tenant of this host".into(),
        });
    }
    Ok(Caller {
        role: bearer.role,
        actor: Actor::Subject(bearer.subject),
        scope: Some(bearer.tenant),
    })
}

/// Counts a request of a tenant, and refuses one too many.
fn count(
    state: &State,
    tenant: &Tenant,
    role: Role,
    (method, path): (&Method, &str),
) -> Result<(), ApiError> {
    let now_ns = clock::boottime_ns();
    // A host that catches up sends as fast as it is answered, one batch at a time.
    if role != Role::Host {
        tenant.count_request(now_ns)?;
    }
    if access::causes_events(method.as_str(), path) {
        let happened = state.journal.figures().entered(tenant.id());
        tenant.check_events(now_ns, happened)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        assert_eq!(token_of("Bearer abc"), Some("abc"));
        assert_eq!(token_of("bearer  abc "), Some("abc"));
        assert_eq!(token_of("Basic abc"), None);
        assert_eq!(token_of("abc"), None);
    }

    #[test]
    fn a_header_that_is_sent_twice_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, "Bearer a".parse().expect("a value"));
        assert_eq!(bearer(&headers).ok(), Some("a"));
        headers.append(AUTHORIZATION, "Bearer b".parse().expect("a value"));
        assert_eq!(bearer(&headers).expect_err("two").status(), 401);
        headers.append(TENANT_HEADER, "acme".parse().expect("a value"));
        assert_eq!(
            tenant_named(&headers).ok().flatten().map(|id| id.to_string()),
            Some("acme".into())
        );
        headers.append(TENANT_HEADER, "other".parse().expect("a value"));
        assert_eq!(tenant_named(&headers).expect_err("two").status(), 400);
    }
}
