//! `/tariffs`: named price books with versions, for many tenants.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::body::{Body, Raw};
use super::error::ApiError;
use super::idempotency::IdempotencyKey;
use super::model::{
    ChangeTariff, ChangedTariff, JoinTariff, Prices, SetDefaultTariff, Tariff, TariffChange,
    TariffVersion,
};
use super::present::timestamp;
use super::shared::Failures;
use super::{Shared, State, blocking, rules};
use crate::id::{TariffName, TenantId};
use crate::invoice::{Act, BookSummary, Membership};
use crate::units::Instant;

/// List tariffs
///
/// A tariff is a named price book with versions.
#[utoipa::path(get, path = "/tariffs", tag = "invoices", security(("bearer" = [])), responses(
    (status = 200, description = "The tariffs by name", body = [Tariff]),
    Failures,
))]
pub(super) async fn list_tariffs(Extract(state): Shared) -> Result<Json<Vec<Tariff>>, ApiError> {
    blocking(move || list(&state).map(Json)).await
}

fn list(state: &State) -> Result<Vec<Tariff>, ApiError> {
    let mut tenants = Vec::new();
    for tenant in state.tenancy.tenants() {
        tenants.extend(state.issuer.membership(tenant.id())?);
    }
    let mut listed = Vec::new();
    for tariff in state.issuer.tariffs()? {
        let version = |one: crate::invoice::TariffVersion| -> Result<TariffVersion, ApiError> {
            let BookSummary { currency, prices } = state.issuer.summary(one.digest)?;
            let on = |of: &&Membership| of.tariff == tariff.name && of.version == one.version;
            Ok(TariffVersion {
                tenants: tenants.iter().filter(on).count() as u64,
                version: one.version.to_string(),
                digest: one.digest.to_string(),
                currency: currency.code().into(),
                prices,
                fact: one.fact,
            })
        };
        let versions = tariff.versions.clone().into_iter().map(version);
        listed.push(Tariff {
            name: tariff.name.to_string(),
            is_default: tariff.is_default,
            versions: versions.collect::<Result<_, _>>()?,
        });
    }
    Ok(listed)
}

/// Publish a version of a tariff
///
/// The body is the price book. A version is one book for ever: the same one again changes nothing,
/// another one is refused. Nobody is charged by it before a tenant joins.
#[utoipa::path(put, path = "/tariffs/{tariff}/{version}", tag = "invoices",
    security(("bearer" = [])),
    request_body(content = Object, description = "The price book, at most 1 MiB"), responses(
    (status = 200, description = "All tariffs", body = [Tariff]),
    Failures,
))]
pub(super) async fn publish_tariff(
    Extract(state): Shared,
    caller: Caller,
    Path((tariff, version)): Path<(String, String)>,
    Raw(bytes): Raw,
) -> Result<Json<Vec<Tariff>>, ApiError> {
    let name = (tariff.parse()?, version.parse()?);
    let act = Act::by(caller.actor());
    state.issuer.publish(name, bytes.to_vec(), state.fleet.reading(), act).await?;
    blocking(move || list(&state).map(Json)).await
}

/// Set the tariff of new tenants
///
/// A tenant that is made from now on begins under its newest version.
#[utoipa::path(put, path = "/tariffs/default", tag = "invoices", security(("bearer" = [])),
    request_body = SetDefaultTariff, responses(
    (status = 200, description = "All tariffs", body = [Tariff]),
    Failures,
))]
pub(super) async fn set_default_tariff(
    Extract(state): Shared,
    caller: Caller,
    Body(asked): Body<SetDefaultTariff>,
) -> Result<Json<Vec<Tariff>>, ApiError> {
    let tariff = asked.tariff.as_deref().map(str::parse).transpose()?;
    let act = Act::by(caller.actor());
    state.issuer.set_default_tariff(tariff, state.fleet.reading(), act).await?;
    blocking(move || list(&state).map(Json)).await
}

/// Charge a tenant by a tariff
///
/// Its book is set, as by `PUT /tenants/{id}/prices`.
#[utoipa::path(put, path = "/tenants/{id}/tariff", tag = "invoices", security(("bearer" = [])),
    params(IdempotencyKey), request_body = JoinTariff, responses(
    (status = 200, description = "The book is in force, or will be from `from` on", body = Prices),
    Failures,
))]
pub(super) async fn join_tariff(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    key: IdempotencyKey,
    Body(asked): Body<JoinTariff>,
) -> Result<Json<Prices>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let act = key.act(&caller, &tenant, "tariff", &asked)?;
    let version = asked.version.as_deref().map(str::parse).transpose()?;
    let name = (asked.tariff.parse()?, version);
    let at = match asked.at.as_deref() {
        Some(at) => Some(begin(&state, &tenant, at).await?),
        None => None,
    };
    state.fleet.read_traffic_before(&tenant, at).await;
    let reading = state.fleet.reading();
    let (set, _) = state.issuer.join(&tenant, name, at, reading, act).await?;
    Ok(Json(rules::prices(&state, &tenant, set)))
}

/// The instant from which on a book is to hold: `border` is the end of the tenant's present period.
async fn begin(state: &Arc<State>, tenant: &TenantId, at: &str) -> Result<Instant, ApiError> {
    if at != "border" {
        return Ok(state.fleet.meter_to_come(rules::utc_ns("at", at)?));
    }
    let state = state.clone();
    let tenant = tenant.clone();
    let period = blocking(move || Ok(state.issuer.agreement(&tenant, state.fleet.now())?)).await?;
    Ok(period.0.end)
}

/// Change the version of a tariff for all its tenants
///
/// Each tenant that is on the tariff joins the version, at the end of its own present period unless
/// another instant is given. The answer has a row for each; one that is refused stays as it is.
#[utoipa::path(post, path = "/tariffs/{tariff}/change", tag = "invoices",
    security(("bearer" = [])), request_body = ChangeTariff, responses(
    (status = 200, description = "The outcome for each tenant", body = ChangedTariff),
    Failures,
))]
pub(super) async fn change_tariff(
    Extract(state): Shared,
    caller: Caller,
    Path(tariff): Path<String>,
    Body(asked): Body<ChangeTariff>,
) -> Result<Json<ChangedTariff>, ApiError> {
    let tariff: TariffName = tariff.parse()?;
    let version: Option<TariffName> = asked.version.as_deref().map(str::parse).transpose()?;
    let at = asked.at.as_deref().unwrap_or("border");
    let mut tenants = Vec::new();
    for tenant in state.tenancy.tenants() {
        let reading = state.clone();
        let whose = tenant.id().clone();
        let on = blocking(move || Ok(reading.issuer.membership(&whose)?)).await?;
        if on.is_some_and(|on| on.tariff == tariff) {
            let name = (tariff.clone(), version.clone());
            tenants.push(change_one(&state, &caller, tenant.id(), name, at).await);
        }
    }
    Ok(Json(ChangedTariff { tariff: tariff.to_string(), tenants }))
}

async fn change_one(
    state: &Arc<State>,
    caller: &Caller,
    tenant: &TenantId,
    name: (TariffName, Option<TariffName>),
    at: &str,
) -> TariffChange {
    let changed = async {
        let at = begin(state, tenant, at).await?;
        state.fleet.read_traffic_before(tenant, Some(at)).await;
        let reading = state.fleet.reading();
        let act = Act::by(caller.actor());
        let (set, on) = state.issuer.join(tenant, name, Some(at), reading, act).await?;
        Ok::<_, ApiError>((set, on))
    };
    let (set, refused) = match changed.await {
        Ok(set) => (Some(set), None),
        Err(error) => (None, Some(error.into_body().message)),
    };
    TariffChange {
        tenant: tenant.to_string(),
        version: set.as_ref().map(|(_, on)| on.version.to_string()),
        from: set.map(|(set, _)| timestamp(state, set.from)),
        refused,
    }
}

/// Lets a new tenant begin under the default tariff, if there is one.
pub(super) async fn join_default(
    state: &Arc<State>,
    caller: &Caller,
    tenant: &TenantId,
) -> Result<(), ApiError> {
    let reading = state.clone();
    let tariffs = blocking(move || Ok(reading.issuer.tariffs()?)).await?;
    let Some(default) = tariffs.into_iter().find(|tariff| tariff.is_default) else {
        return Ok(());
    };
    let reading = state.fleet.reading();
    let act = Act::by(caller.actor());
    state.issuer.join(tenant, (default.name, None), None, reading, act).await?;
    Ok(())
}
