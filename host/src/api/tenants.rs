//! `/tenants`: who is served, how much each may have, and under which policy its time counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::{HeaderMap, StatusCode};

use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, ErrorBody};
use super::instances::timestamp;
use super::model::{
    Activate, Activated, Activation, CreateTenant, Fallback, PolicyStanding, Quarantined, Rollback, Tenant,
    TenantLimits, TenantPolicy, Timestamp,
};
use super::shadows::{Gates, check_gates};
use super::{Shared, State, blocking};
use crate::billing::Timeline;
use crate::driver::{FleetError, View};
use crate::id::{Digest, InstanceName, TenantId};
use crate::journal::{self, CommitError, NewActivation, RequestKey, StoredStanding};
use crate::tenancy::{self, Reservation, Share};
use crate::tenant::{Ladder, Limit, Standing};
use crate::units::Instant;

/// List tenants
///
/// All of them for an operator, one's own for everybody else.
#[utoipa::path(get, path = "/tenants", tag = "tenants", security(("bearer" = [])), responses(
    (status = 200, description = "The tenants by id", body = [Tenant]),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
))]
pub(super) async fn list_tenants(Extract(state): Shared, caller: Caller) -> Json<Vec<Tenant>> {
    let mut tenants = state.tenancy.tenants();
    tenants.retain(|tenant| caller.scope().is_none_or(|scope| scope == tenant.id()));
    Json(tenants.iter().map(|tenant| present(&state, tenant)).collect())
}

/// Make a tenant
///
/// It begins under the standard policy.
#[utoipa::path(post, path = "/tenants", tag = "tenants", security(("bearer" = [])), request_body = CreateTenant, responses(
    (status = 201, description = "The new tenant", body = Tenant),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn create_tenant(
    Extract(state): Shared,
    caller: Caller,
    Body(request): Body<CreateTenant>,
) -> Result<(StatusCode, Json<Tenant>), ApiError> {
    let (id, by) = (request.id.parse::<TenantId>()?, caller.actor());
    let standard = state.library.host().standard().digest();
    let tenant = state.tenancy.create(id, standard, by.clone()).await?;
    state.tenancy.note_activated(tenant.id(), standard, by);
    Ok((StatusCode::CREATED, Json(present(&state, &tenant))))
}

/// One tenant
#[utoipa::path(get, path = "/tenants/{id}", tag = "tenants", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`")), responses(
    (status = 200, description = "The tenant", body = Tenant),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
))]
pub(super) async fn get_tenant(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Tenant>, ApiError> {
    Ok(Json(present(&state, &*caller.tenant_at(&state, &id)?)))
}

/// Set limits of a tenant
///
/// Those that are named; `null` goes back to the program's default. What is there already stays, also above a new limit.
#[utoipa::path(patch, path = "/tenants/{id}/limits", tag = "tenants", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`")),
    request_body(content = BTreeMap<String, Option<u64>>, description = "Limits by name, as `GET /tenants/{id}` has them"), responses(
    (status = 200, description = "The tenant with its limits", body = Tenant),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn set_limits(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(limits): Body<BTreeMap<String, Option<u64>>>,
) -> Result<Json<Tenant>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?;
    let named = limits.into_iter().map(|(name, value)| Ok((name.parse::<Limit>()?, value)));
    let named = named.collect::<Result<Vec<_>, ApiError>>()?;
    let set = |settings: &mut crate::tenant::Settings| {
        named.into_iter().for_each(|(limit, value)| settings.quota.set(limit, value));
    };
    let tenant = state.tenancy.change(tenant.id(), caller.actor(), set).await?;
    Ok(Json(present(&state, &tenant)))
}

/// Set what is done when a tenant's policy fails
///
/// Two failures in a row quarantine a policy; the rungs are tried in this order then. `hold` does nothing, so that the time is owed until
/// somebody acts; `last-good` and `standard` put another policy in force, which accounts what is owed, too.
#[utoipa::path(put, path = "/tenants/{id}/fallback", tag = "policies", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`")), request_body = Fallback, responses(
    (status = 200, description = "The tenant with its ladder", body = Tenant),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn set_fallback(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(Fallback { ladder }): Body<Fallback>,
) -> Result<Json<Tenant>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?;
    let ladder = Ladder::new(ladder.into_iter().map(Into::into).collect());
    let ladder = ladder.map_err(|error| ApiError::invalid(format!("ladder: {error}")))?;
    let tenant = state.tenancy.change(tenant.id(), caller.actor(), |settings| settings.ladder = ladder).await?;
    Ok(Json(present(&state, &tenant)))
}

fn present(state: &State, tenant: &tenancy::Tenant) -> Tenant {
    let settings = tenant.settings();
    let views = state.fleet.list(tenant.id());
    let sum = |of: fn(&View) -> u64| views.iter().map(|view| of(view)).fold(0, u64::saturating_add);
    let limits = |of: &dyn Fn(Limit) -> u64| TenantLimits {
        instances: of(Limit::Instances),
        vcpus: of(Limit::Vcpus),
        memory_bytes: of(Limit::MemoryBytes),
        policies: of(Limit::Policies),
        requests_per_s: of(Limit::RequestsPerS),
        fuel_per_minute: of(Limit::FuelPerMinute),
    };
    Tenant {
        id: tenant.id().clone(),
        created_at: timestamp(state, tenant.created()),
        limits: limits(&|limit| settings.quota.get(limit)),
        instances: views.len() as u64,
        vcpus: sum(|view| share_of(view).vcpus.into()),
        memory_bytes: sum(|view| share_of(view).memory_bytes),
        policies: state.policies_of(Some(tenant.id())).len() as u64,
        fuel: state.accounting.fuel(tenant.id()),
        fallback: settings.ladder.rungs().iter().map(|&rung| rung.into()).collect(),
        policy: state.fleet.timeline(tenant.id()).at(state.fleet.now()),
        alerts: state.keeper.alerts(tenant.id()).len() as u64,
    }
}

/// Keeps for an instance that is being made or changed what it will take of its tenant's limits.
///
/// # Errors
/// 403 with the limit that would be passed.
pub(super) fn reserve(
    state: &State,
    tenant: &TenantId,
    name: &InstanceName,
    share: Share,
) -> Result<Reservation, ApiError> {
    let known = state.tenancy.tenant(tenant).ok_or_else(|| ApiError::no_such_tenant(tenant, None))?;
    let there = || state.fleet.list(tenant).iter().map(|view| (view.record.name.clone(), share_of(view))).collect();
    Ok(known.reserve(name, share, there)?)
}

/// What an instance takes of its tenant's limits.
pub(super) fn share_of(view: &View) -> Share {
    let shape = view.live.shape;
    Share { vcpus: shape.vcpus, memory_bytes: shape.memory_bytes }
}

/// Which policy a tenant is under, was under, and will be under
#[utoipa::path(get, path = "/tenants/{id}/policy", tag = "policies", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`")), responses(
    (status = 200, description = "The policies by time", body = TenantPolicy),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
))]
pub(super) async fn get_tenant_policy(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TenantPolicy>, ApiError> {
    Ok(Json(describe(&state, &*caller.tenant_at(&state, &id)?)))
}

fn describe(state: &State, tenant: &tenancy::Tenant) -> TenantPolicy {
    let (id, now) = (tenant.id(), state.fleet.now());
    let timeline = state.fleet.timeline(id);
    let activation = |(from, digest)| Activation { digest, from: timestamp(state, from), from_ns: from.0 };
    let alerts = state.keeper.alerts(id);
    let quarantined = state.accounting.quarantined(id).into_iter().map(|ill| Quarantined {
        digest: ill.policy,
        faults: ill.faults,
        alert: alerts.iter().any(|alert| alert.ill.policy == ill.policy),
        reason: ill.reason,
        stand_in: ill.stand_in,
    });
    let standing =
        |stood: StoredStanding| PolicyStanding { digest: stood.digest, state: state.keeper.standing(&stood).into() };
    TenantPolicy {
        tenant: id.clone(),
        digest: timeline.at(now),
        previous: previous(state, id, &timeline),
        activations: timeline.between(Instant(i64::MIN), now).map(activation).collect(),
        planned: timeline.planned(now).map(activation).collect(),
        quarantined: quarantined.collect(),
        fallback: tenant.settings().ladder.rungs().iter().map(|&rung| rung.into()).collect(),
        policies: state.tenancy.standings(id).into_iter().map(standing).collect(),
    }
}

/// The policy that a rollback puts in force again: the last one before the present one that is well.
fn previous(state: &State, tenant: &TenantId, timeline: &Timeline) -> Option<Digest> {
    state.keeper.last_good(tenant, timeline, timeline.at(state.fleet.now()))
}

/// Put a tenant under a policy
///
/// From the effective instant on, every nanosecond of the tenant's instances counts under the new policy; an interval that spans it is split exactly
/// there. With the header `Idempotency-Key`, a request that is sent again changes nothing and answers what the first one did.
#[utoipa::path(put, path = "/tenants/{id}/policy", tag = "policies", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Chosen by the client, 1 to 255 characters: the same for each try of one request")),
    request_body = Activate, responses(
    (status = 200, description = "It is in force, or will be at the instant told", body = Activated),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn activate_policy(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(request): Body<Activate>,
) -> Result<Json<Activated>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let key = request_key(&headers, &request)?;
    if let Some(first) = first_try(&state, &tenant, key.as_ref()).await? {
        return Ok(Json(repeated(&state, first)));
    }
    let digest = state.find_policy(&caller, &request.digest)?.digest;
    let at = request.at.map(|at| meter(&state, at)).transpose()?;
    check_standing(&state, &tenant, digest)?;
    check_again(&state, &tenant, digest, at, request.again)?;
    let (ready, asking, whose, gates) = (state.clone(), caller.clone(), tenant.clone(), Gates::of(&request)?);
    let make_ready = move || {
        ready.library.make_ready(&ready.journal, digest)?;
        gates.map_or(Ok(()), |gates| check_gates(&ready, &asking, &whose, digest, gates))
    };
    blocking(make_ready).await?;
    let activation = NewActivation {
        requested: at,
        reason: request.reason,
        request: key,
        ..NewActivation::now(tenant, digest, caller.actor())
    };
    put_in_force(&state, activation).await.map(Json)
}

/// Commits an activation, and asks the policy that is in force then to answer for itself.
async fn put_in_force(state: &State, activation: NewActivation) -> Result<Activated, ApiError> {
    let (tenant, digest, by) = (activation.tenant.clone(), activation.digest, activation.by.clone());
    let (from, fact) = match state.fleet.activate(activation).await {
        Ok(done) => done,
        Err(CommitError::Repeated { first, same: true }) => return Ok(repeated(state, first)),
        Err(error) => return Err(error.into()),
    };
    state.tenancy.note_activated(&tenant, digest, by);
    let answered_by = (from <= state.fleet.now()).then(|| probe(state, &tenant, from, digest)).transpose()?;
    let first = journal::Activation { tenant, from, digest, fact };
    Ok(Activated { repeated: false, answered_by, ..repeated(state, first) })
}

/// What was done at the first try of a request that was sent again.
fn repeated(state: &State, first: journal::Activation) -> Activated {
    let journal::Activation { tenant, from, digest, fact } = first;
    let (from, from_ns) = (timestamp(state, from), from.0);
    Activated { tenant, digest, from, from_ns, fact, repeated: true, answered_by: None }
}

/// What came of the first try of this request, if there was one.
async fn first_try(
    state: &Arc<State>,
    tenant: &TenantId,
    key: Option<&RequestKey>,
) -> Result<Option<journal::Activation>, ApiError> {
    let Some(key) = key.cloned() else { return Ok(None) };
    let (state, tenant) = (state.clone(), tenant.clone());
    let found = blocking(move || Ok(state.journal.first_try(&tenant, &key)?)).await?;
    match found {
        None => Ok(None),
        Some((first, true)) => Ok(Some(first)),
        Some((first, false)) => Err(CommitError::Repeated { first, same: false }.into()),
    }
}

/// Who accounts for the tenant from `from` on; it must be `digest`.
fn probe(state: &State, tenant: &TenantId, from: Instant, digest: Digest) -> Result<Digest, ApiError> {
    match state.accounting.probe(tenant, from) {
        Ok(answered_by) if answered_by == digest => Ok(answered_by),
        Ok(other) => Err(ApiError::probe_failed(&format!("policy {digest} was put in force, but {other} answers"))),
        Err(error) => Err(ApiError::probe_failed(&format!("policy {digest} was put in force, but: {error}"))),
    }
}

/// The header `Idempotency-Key`, with what it stands for.
fn request_key(headers: &HeaderMap, asked: &impl serde::Serialize) -> Result<Option<RequestKey>, ApiError> {
    const KEY_CHARS_MAX: usize = 255;
    let mut sent = headers.get_all("idempotency-key").iter();
    let Some(header) = sent.next() else { return Ok(None) };
    let key = header.to_str().ok().filter(|key| (1..=KEY_CHARS_MAX).contains(&key.len()));
    match (key, sent.next()) {
        (Some(key), None) => {
            let asked = serde_json::to_vec(asked).map_err(|error| ApiError::bug(&error))?;
            Ok(Some(RequestKey { key: key.into(), asked: Digest::of(&asked) }))
        }
        _ => Err(ApiError::invalid(format!(
            "the header Idempotency-Key must hold 1 to {KEY_CHARS_MAX} ASCII characters, once"
        ))),
    }
}

/// Only what was examined may be put in force, or tried.
pub(super) fn check_standing(state: &State, tenant: &TenantId, digest: Digest) -> Result<(), ApiError> {
    match state.tenancy.standing(tenant, &digest).map(|stood| stood.standing) {
        Some(standing @ (Standing::Uploaded | Standing::Refused)) => {
            Err(ApiError::conflict("not_admitted", format!("policy {digest} is {standing}, not admitted")))
        }
        Some(_) | None => Ok(()),
    }
}

/// An older policy comes back only if that is what is meant: a request that is replayed by accident must not bring back old rules.
fn check_again(
    state: &State,
    tenant: &TenantId,
    digest: Digest,
    at: Option<Instant>,
    again: bool,
) -> Result<(), ApiError> {
    let timeline = state.fleet.timeline(tenant);
    let now = state.fleet.now();
    let until = timeline.until(at.map_or(now, |at| at.max(now)));
    let was = until.iter().any(|&(_, past)| past == digest) && until[until.len() - 1].1 != digest;
    let ill = state.accounting.quarantined(tenant).iter().any(|ill| ill.policy == digest);
    if again || !(was || ill) {
        return Ok(());
    }
    let (code, what) = match ill {
        true => ("quarantined", "is quarantined"),
        false => ("older_policy", "was in force before, and another one has taken its place"),
    };
    Err(ApiError::conflict(code, format!("policy {digest} {what}"))
        .hint("say `again: true` (`--again`) if that is what is meant; a rollback goes back one step without it"))
}

/// The meter instant at which the calendar, as it stands now, will show `at`.
fn meter(state: &State, at: Timestamp) -> Result<Instant, ApiError> {
    let now = state.fleet.now();
    let ahead = at.0.checked_sub(state.fleet.calendar_ns(now)).and_then(|ahead| now.0.checked_add(ahead));
    ahead.map(Instant).ok_or_else(|| ApiError::invalid("at: the instant is out of range"))
}

/// Put the policy before the present one in force again
///
/// The last one that is not quarantined.
#[utoipa::path(post, path = "/tenants/{id}/policy/rollback", tag = "policies", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Chosen by the client, 1 to 255 characters: the same for each try of one request")),
    request_body = Option<Rollback>, responses(
    (status = 200, description = "It is in force", body = Activated),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn roll_back_policy(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(request): Body<Rollback>,
) -> Result<Json<Activated>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let key = request_key(&headers, &("rollback", &request))?;
    if let Some(first) = first_try(&state, &tenant, key.as_ref()).await? {
        return Ok(Json(repeated(&state, first)));
    }
    let digest = previous(&state, &tenant, &state.fleet.timeline(&tenant));
    let digest = digest.ok_or(FleetError::NothingToRollBack)?;
    let activation = NewActivation {
        rollback: true,
        reason: request.reason,
        request: key,
        ..NewActivation::now(tenant, digest, caller.actor())
    };
    put_in_force(&state, activation).await.map(Json)
}
