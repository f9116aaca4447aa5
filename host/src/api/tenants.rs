//! `/tenants`: the tenants of this host, their limits, their billing rights, and the fallback for a
//! policy that fails.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::model::{
    Billing, BillingName, CreateTenant, EndedTenant, Fallback, Suspension, Tenant, TenantLimits,
};
use super::present::{policy_name, timestamp};
use super::quota::share_of;
use super::shared::Failures;
use super::{Shared, State, invoices, tariffs};
use crate::driver::View;
use crate::id::TenantId;
use crate::invoice::Act;
use crate::tenancy;
use crate::tenant::{self, FallbackOrder, Limit, Settings};

/// List tenants
///
/// All tenants for an operator, the caller's own for everybody else.
#[utoipa::path(get, path = "/tenants", tag = "tenants", security(("bearer" = [])), responses(
    (status = 200, description = "The tenants by id", body = [Tenant]),
    Failures,
))]
pub(super) async fn list_tenants(Extract(state): Shared, caller: Caller) -> Json<Vec<Tenant>> {
    let mut tenants = state.tenancy.tenants();
    tenants.retain(|tenant| caller.scope().is_none_or(|scope| scope == tenant.id()));
    Json(tenants.iter().map(|tenant| present(&state, tenant)).collect())
}

/// Create a tenant
///
/// The standard policy is in force for it.
#[utoipa::path(post, path = "/tenants",
    tag = "tenants", security(("bearer" = [])), request_body = CreateTenant, responses(
    (status = 201, description = "The new tenant", body = Tenant),
    Failures,
))]
pub(super) async fn create_tenant(
    Extract(state): Shared,
    caller: Caller,
    Body(request): Body<CreateTenant>,
) -> Result<(StatusCode, Json<Tenant>), ApiError> {
    let id = request.id.parse::<TenantId>()?;
    let by = caller.actor();
    let standard = state.rollout.policies().standard().digest();
    let tenant = state.tenancy.create(id, standard, by.clone()).await?;
    state.tenancy.note_activated(tenant.id(), standard, by);
    tariffs::join_default(&state, &caller, tenant.id()).await?;
    Ok((StatusCode::CREATED, Json(present(&state, &tenant))))
}

/// Show one tenant
#[utoipa::path(get, path = "/tenants/{id}", tag = "tenants", security(("bearer" = [])), responses(
    (status = 200, description = "The tenant", body = Tenant),
    Failures,
))]
pub(super) async fn get_tenant(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Tenant>, ApiError> {
    Ok(Json(present(&state, &*caller.tenant_at(&state, &id)?)))
}

/// Set the limits of a tenant
///
/// Limits that are not named stay as they are; `null` restores the default. Resources in use stay,
/// also above a new limit.
#[utoipa::path(patch, path = "/tenants/{id}/limits", tag = "tenants", security(("bearer" = [])),
    request_body(content = BTreeMap<String, Option<u64>>,
        description = "Limits by name, as `GET /tenants/{id}` has them"), responses(
    (status = 200, description = "The tenant with its limits", body = Tenant),
    Failures,
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
    let set = |settings: &mut Settings| {
        named.into_iter().for_each(|(limit, value)| settings.quota.set(limit, value));
    };
    let tenant = state.tenancy.change(tenant.id(), caller.actor(), set).await?;
    Ok(Json(present(&state, &tenant)))
}

/// Set the right to charge a tenant
///
/// Operators and the role `billing` may change prices, invoices, corrections and the policy of a
/// tenant. If delegated, the tenant's own admins may, too.
#[utoipa::path(put, path = "/tenants/{id}/billing",
    tag = "tenants", security(("bearer" = [])), request_body = Billing, responses(
    (status = 200, description = "The tenant", body = Tenant),
    Failures,
))]
pub(super) async fn set_billing(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(Billing { delegated }): Body<Billing>,
) -> Result<Json<Tenant>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?;
    let set = |settings: &mut Settings| settings.billing_delegated = delegated;
    let tenant = state.tenancy.change(tenant.id(), caller.actor(), set).await?;
    Ok(Json(present(&state, &tenant)))
}

/// Set the name to which a tenant's documents are addressed
///
/// It stands on the documents to come; those that are issued stay as they are.
#[utoipa::path(put, path = "/tenants/{id}/billing-name",
    tag = "tenants", security(("bearer" = [])), request_body = BillingName, responses(
    (status = 200, description = "The tenant", body = Tenant),
    Failures,
))]
pub(super) async fn set_billing_name(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(BillingName { name }): Body<BillingName>,
) -> Result<Json<Tenant>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?;
    let name = name.as_deref().map(tenant::billing_name).transpose();
    let name = name.map_err(|problem| ApiError::invalid(format!("name: {problem}")))?;
    let set = |settings: &mut Settings| settings.billing_name = name;
    let tenant = state.tenancy.change(tenant.id(), caller.actor(), set).await?;
    Ok(Json(present(&state, &tenant)))
}

/// Set the fallback of a tenant
///
/// Two failures in a row quarantine a policy. The steps are then tried in this order. `hold` does
/// nothing: the time stays unaccounted until another policy is put in force. `last-good` and
/// `standard` put another policy in force, which accounts that time, too.
#[utoipa::path(put, path = "/tenants/{id}/fallback", tag = "policies", security(("bearer" = [])),
    request_body = Fallback, responses(
    (status = 200, description = "The tenant with its fallback", body = Tenant),
    Failures,
))]
pub(super) async fn set_fallback(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(Fallback { ladder }): Body<Fallback>,
) -> Result<Json<Tenant>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?;
    let order = FallbackOrder::new(ladder.into_iter().map(Into::into).collect());
    let order = order.map_err(|error| ApiError::invalid(format!("ladder: {error}")))?;
    let set = |settings: &mut Settings| settings.fallback = order;
    let tenant = state.tenancy.change(tenant.id(), caller.actor(), set).await?;
    Ok(Json(present(&state, &tenant)))
}

/// Suspend or resume a tenant
///
/// Nothing of a suspended tenant is started or made. What runs goes on, is billed, and can be
/// stopped, read and deleted.
#[utoipa::path(put, path = "/tenants/{id}/suspension", tag = "tenants", security(("bearer" = [])),
    request_body = Suspension, responses(
    (status = 200, description = "The tenant", body = Tenant),
    Failures,
))]
pub(super) async fn suspend_tenant(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(Suspension { suspended }): Body<Suspension>,
) -> Result<Json<Tenant>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?;
    check_goes_on(&tenant)?;
    let set = |settings: &mut Settings| settings.suspended = suspended;
    let tenant = state.tenancy.change(tenant.id(), caller.actor(), set).await?;
    Ok(Json(present(&state, &tenant)))
}

/// End a tenant
///
/// It has to be suspended and to have no instances. Its tokens are revoked, its last period ends
/// now, and its last bill is made up to there. Its documents stay, and can be settled and proved;
/// its id is never used again.
#[utoipa::path(delete, path = "/tenants/{id}",
    tag = "tenants", security(("bearer" = [])), responses(
    (status = 200, description = "The tenant and its last bill", body = EndedTenant),
    Failures,
))]
pub(super) async fn end_tenant(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<EndedTenant>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?;
    check_goes_on(&tenant)?;
    if *tenant.id() == TenantId::default_tenant() {
        return Err(ApiError::conflict("default_tenant", "the default tenant does not end"));
    }
    if !tenant.settings().suspended {
        return Err(ApiError::conflict("not_suspended", "a tenant that goes on does not end")
            .hint("suspend it first: PUT /tenants/{id}/suspension"));
    }
    let left = state.fleet.list(tenant.id());
    if !left.is_empty() {
        let names: Vec<_> = left.iter().map(|view| view.record.name.to_string()).collect();
        let message = format!("it has instances: {}", names.join(", "));
        return Err(ApiError::conflict("has_instances", message).hint("delete them first"));
    }
    for token in state.tenancy.tokens(Some(tenant.id())) {
        state.tenancy.revoke(token.id, caller.actor()).await?;
    }
    let now = state.fleet.now();
    let set = |settings: &mut Settings| settings.ended = Some(now);
    let tenant = state.tenancy.change(tenant.id(), caller.actor(), set).await?;
    let billed = invoices::last_bill(&state, &Act::by(caller.actor()), tenant.id(), now).await;
    let (documents, unbilled) = match billed {
        Ok(documents) => (documents, None),
        Err(error) => (Vec::new(), Some(error.into_body().message)),
    };
    Ok(Json(EndedTenant { tenant: present(&state, &tenant), documents, unbilled }))
}

fn check_goes_on(tenant: &tenancy::Tenant) -> Result<(), ApiError> {
    match tenant.settings().ended {
        Some(_) => Err(ApiError::conflict("tenant_ended", "the tenant has ended")),
        None => Ok(()),
    }
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
        disk_bytes: of(Limit::DiskBytes),
        stored_bytes: of(Limit::StoredBytes),
        launches_per_minute: of(Limit::LaunchesPerMinute),
        events_per_minute: of(Limit::EventsPerMinute),
    };
    let policy = state.fleet.timeline(tenant.id()).at(state.fleet.now());
    Tenant {
        id: tenant.id().clone(),
        billing_name: settings.billing_name.clone(),
        created_at: timestamp(state, tenant.created()),
        limits: limits(&|limit| tenant.limit(limit)),
        instances: views.len() as u64,
        vcpus: sum(|view| share_of(view).vcpus.into()),
        memory_bytes: sum(|view| share_of(view).memory_bytes),
        disk_bytes: sum(|view| share_of(view).disk_bytes),
        policies: state.rollout.policies_of(Some(tenant.id())).len() as u64,
        fuel: state.accounting.fuel(tenant.id()),
        billing_delegated: settings.billing_delegated,
        suspended: settings.suspended,
        ended_at: settings.ended.map(|ended| timestamp(state, ended)),
        fallback: settings.fallback.steps().iter().map(|&step| step.into()).collect(),
        policy,
        policy_name: policy_name(state, tenant.id(), policy),
        alerts: state.rollout.alerts(tenant.id()).len() as u64,
    }
}
