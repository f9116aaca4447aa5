//! `/tenants/{id}/shadows`: policies that are tried beside the one in force.

use axum::Json;
use axum::extract::{Path, State as Extract};

use super::auth::Caller;
use super::body::Body;
use super::error::{ApiError, ErrorBody};
use super::invoices::compare;
use super::model::{
    Activate, PolicyStanding, ShadowMoney, ShadowReport, ShadowRequest, ShadowWorst, ShadowWorth, Timestamp,
};
use super::tenants::check_standing;
use super::{Shared, State, blocking};
use crate::billing::currency::Currency;
use crate::billing::decimal::Decimal;
use crate::billing::{Fact, Totals};
use crate::driver::View;
use crate::id::{Digest, TenantId};
use crate::invoice::{Comparison, InvoiceError, Worth};
use crate::limits::api as limits;
use crate::policy::Policy;
use crate::policy::shadow::{CompareError, Compared};
use crate::tenant::{Move, Standing};
use crate::units::Instant;
use crate::vm::Phase;

/// Try a policy beside the one in force
///
/// It changes nothing for the tenant. What it would have counted since then is told by `GET /tenants/{id}/shadows/{digest}`.
#[utoipa::path(post, path = "/tenants/{id}/shadows", tag = "policies", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`")), request_body = ShadowRequest, responses(
    (status = 200, description = "It is tried, or was already", body = PolicyStanding),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn start_shadow(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Body(request): Body<ShadowRequest>,
) -> Result<Json<PolicyStanding>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let digest = state.find_policy(&caller, &request.digest)?.digest;
    check_standing(&state, &tenant, digest)?;
    if state.fleet.timeline(&tenant).at(state.fleet.now()) == digest {
        return Err(ApiError::conflict("in_force", format!("policy {digest} is in force; there is nothing to try")));
    }
    let ready = state.clone();
    blocking(move || ready.library.make_ready(&ready.journal, digest)).await?;
    stand(&state, &caller, &tenant, digest, Standing::Shadow, request.reason).await
}

/// Try a policy no more
#[utoipa::path(delete, path = "/tenants/{id}/shadows/{digest}", tag = "policies", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`"),
        ("digest" = String, Path, description = "The policy's digest, or the digest's unique beginning")), responses(
    (status = 200, description = "It is not tried any more", body = PolicyStanding),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn end_shadow(
    Extract(state): Shared,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<PolicyStanding>, ApiError> {
    let (tenant, digest) = tried(&state, &caller, &id, &key)?;
    stand(&state, &caller, &tenant, digest, Standing::Admitted, None).await
}

/// The tenant and the policy of a path, if that is tried for it.
fn tried(state: &State, caller: &Caller, id: &str, key: &str) -> Result<(TenantId, Digest), ApiError> {
    let tenant = caller.tenant_at(state, id)?.id().clone();
    let digest = state.find_policy(caller, key)?.digest;
    match state.tenancy.standing(&tenant, &digest).map(|stood| stood.standing) {
        Some(Standing::Shadow) => Ok((tenant, digest)),
        _ => Err(ApiError::not_found("no_such_shadow", format!("policy {digest} is not tried for '{tenant}'"))
            .hint("GET /tenants/{id}/policy says where each policy stands")),
    }
}

async fn stand(
    state: &State,
    caller: &Caller,
    tenant: &TenantId,
    digest: Digest,
    to: Standing,
    reason: Option<String>,
) -> Result<Json<PolicyStanding>, ApiError> {
    let stands = state.tenancy.standing(tenant, &digest).is_some_and(|stood| stood.standing == to);
    if !stands {
        let moved = Move { digest, to, by: caller.actor(), reason: reason.unwrap_or_default(), stand_in: None };
        state.tenancy.move_policy(tenant, moved, None).await?;
    }
    Ok(Json(PolicyStanding { digest, state: to.into() }))
}

/// What a policy that is tried would have counted
///
/// The time of the tenant's instances since the trial began, by the policies in force and by the one that is tried: in total, and where they
/// differ most. The instances that are not deleted are looked at, oldest first, up to 1,000.
#[utoipa::path(get, path = "/tenants/{id}/shadows/{digest}", tag = "policies", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant's id, or `self`"),
        ("digest" = String, Path, description = "The policy's digest, or the digest's unique beginning")), responses(
    (status = 200, description = "Both counts", body = ShadowReport),
    (status = "4XX", description = "The request is wrong", body = ErrorBody),
    (status = "5XX", description = "The host could not do it", body = ErrorBody),
))]
pub(super) async fn get_shadow(
    Extract(state): Shared,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<ShadowReport>, ApiError> {
    caller.check_fuel(&state)?;
    let (tenant, digest) = tried(&state, &caller, &id, &key)?;
    blocking(move || report(&state, &tenant, digest)).await.map(Json)
}

fn report(state: &State, tenant: &TenantId, digest: Digest) -> Result<ShadowReport, ApiError> {
    let since = began(state, tenant, digest)?;
    let missing = || ApiError::from(crate::driver::FleetError::NoSuchPolicy(digest.to_string()));
    let candidate = state.library.host().get(digest).ok_or_else(missing)?;
    let views = state.fleet.list(tenant);
    let until = state.fleet.now();
    let mut sums = Sums::default();
    for view in views.iter().take(limits::SHADOW_INSTANCES_MAX) {
        let history = state.journal.history(&view.record.id)?;
        sums.add(view, state.compare(tenant, &candidate, &history, since, until));
    }
    let (money, unrated) = match compare(state, tenant, digest, since, until) {
        Ok((currency, compared)) => (Some(money(currency, &compared)?), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let rating = money.as_ref().map_or(0, |money| money.fuel);
    state.accounting.charge(tenant, sums.fuel.saturating_add(rating));
    let at = |at| Timestamp(state.fleet.calendar_ns(at));
    Ok(ShadowReport {
        digest,
        active: state.fleet.timeline(tenant).at(until),
        since: at(since),
        until: at(until),
        instances: views.len() as u64,
        compared: sums.compared,
        differing: sums.differing,
        active_ns: (&sums.active).into(),
        candidate_ns: (&sums.candidate).into(),
        worst: sums.worst,
        fuel: sums.fuel,
        faults: sums.faults,
        fault: sums.fault,
        money,
        unrated,
    })
}

fn money(currency: Currency, compared: &Comparison) -> Result<ShadowMoney, ApiError> {
    let text = |nanos| Decimal::nanos(nanos).to_string();
    let worth = |worth: &Worth| ShadowWorth {
        instance: worth.instance.clone(),
        active: text(worth.active),
        candidate: text(worth.candidate),
    };
    Ok(ShadowMoney {
        currency: currency.code().into(),
        active: text(compared.active),
        candidate: text(compared.candidate),
        net: text(compared.net()?),
        instances: compared.differences.iter().take(limits::SHADOW_INSTANCES_MAX).map(worth).collect(),
        fuel: compared.fuel,
    })
}

/// Refuses a policy whose trial differs by more money than is let pass. Without a trial nothing is known, and nothing passes.
pub(super) fn check_gates(
    state: &State,
    caller: &Caller,
    tenant: &TenantId,
    digest: Digest,
    gates: Gates,
) -> Result<(), ApiError> {
    let tried = |tenant: &TenantId| {
        let stood = state.tenancy.standing(tenant, &digest);
        stood.is_some_and(|stood| stood.standing == Standing::Shadow)
    };
    if !tried(tenant) {
        let message = format!("policy {digest} is not tried for '{tenant}', so that nobody knows what would change");
        return Err(ApiError::conflict("not_tried", message).hint("POST /tenants/{id}/shadows begins a trial"));
    }
    let mut tenants = vec![tenant.clone()];
    if caller.is_operator() {
        let others = state.tenancy.tenants().into_iter().map(|other| other.id().clone());
        tenants.extend(others.filter(|other| other != tenant && tried(other)));
    }
    let (mut net, mut currencies) = (0_i128, Vec::new());
    for tenant in &tenants {
        let (since, until) = (began(state, tenant, digest)?, state.fleet.now());
        let (currency, compared) = compare(state, tenant, digest, since, until)?;
        let more = compared.net()?;
        check_gate("max_tenant", gates.tenant, more, currency, &format!("for '{tenant}'"))?;
        net = net.checked_add(more).ok_or(InvoiceError::Overflow)?;
        currencies.extend(Some(currency).filter(|&currency| currency != Currency::NONE));
    }
    let currency = currencies.first().copied().unwrap_or(Currency::NONE);
    match currencies.iter().find(|&&other| other != currency) {
        Some(other) if gates.net.is_some() => {
            let message = format!("the trials are charged in {currency} and in {other}, which `max_net` can't add up");
            Err(ApiError::conflict("two_currencies", message).hint("`max_tenant` is a bound for each tenant alone"))
        }
        Some(_) | None => check_gate("max_net", gates.net, net, currency, "in all"),
    }
}

/// How much money may change, in nano-units; none is no bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gates {
    net: Option<i128>,
    tenant: Option<i128>,
}

impl Gates {
    /// Those of a request; none if it has none.
    pub(super) fn of(request: &Activate) -> Result<Option<Self>, ApiError> {
        let gate = |field: &str, text: &Option<String>| {
            let Some(text) = text else { return Ok(None) };
            let nanos = text.parse::<Decimal>().ok().and_then(|amount| amount.scaled(9)).filter(|&nanos| nanos >= 0);
            let unknown = || ApiError::invalid(format!("{field}: must be an amount of 0 or more, such as 12.50"));
            nanos.map(Some).ok_or_else(unknown)
        };
        let gates = Self { net: gate("max_net", &request.max_net)?, tenant: gate("max_tenant", &request.max_tenant)? };
        Ok(Some(gates).filter(|gates| gates.net.is_some() || gates.tenant.is_some()))
    }
}

/// The policy in force stays where money goes over a bound.
fn check_gate(name: &str, most: Option<i128>, more: i128, currency: Currency, whose: &str) -> Result<(), ApiError> {
    match most {
        Some(most) if more.unsigned_abs() > most.unsigned_abs() => {
            let over = Decimal::nanos(more.saturating_abs().saturating_sub(most));
            let (differs, most) = (Decimal::nanos(more), Decimal::nanos(most));
            let message = format!(
                "the trial differs by {differs} {currency} {whose}, and `{name}` lets {most} pass: {over} too much"
            );
            let needed = Decimal::nanos(more.saturating_abs());
            Err(ApiError::conflict("gate", message).hint(format!(
                "nothing was put in force; GET /tenants/{{id}}/shadows/{{digest}} shows where it differs, and `{name}` of {needed} or more lets it pass"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

/// When the trial of a policy began.
fn began(state: &State, tenant: &TenantId, digest: Digest) -> Result<Instant, ApiError> {
    let began = state.journal.policy_facts(tenant, &digest, 1)?;
    Ok(began.first().map_or_else(|| state.fleet.now(), |fact| fact.fact.meter()))
}

impl State {
    /// The time of one instance between two instants, counted twice.
    fn compare(
        &self,
        tenant: &TenantId,
        candidate: &Policy,
        history: &[(u64, Fact)],
        since: Instant,
        until: Instant,
    ) -> Result<Compared, CompareError> {
        self.accounting.compare(tenant, candidate, &lived(history, since), until)
    }
}

/// What an instance has entered since an instant: first the phase that was under way then.
fn lived(history: &[(u64, Fact)], since: Instant) -> Vec<(Option<Phase>, Instant)> {
    let mut lived: Vec<(Option<Phase>, Instant)> = Vec::new();
    for (_, fact) in history {
        let Some(counted) = fact.counts() else { continue };
        if fact.at.meter <= since {
            lived.clear();
        }
        lived.push((counted.phase(), fact.at.meter.max(since)));
    }
    lived
}

#[derive(Default)]
struct Sums {
    compared: u64,
    differing: u64,
    active: Totals,
    candidate: Totals,
    worst: Option<ShadowWorst>,
    fuel: u64,
    faults: u64,
    fault: Option<String>,
}

impl Sums {
    fn add(&mut self, view: &View, compared: Result<Compared, CompareError>) {
        let compared = match compared {
            Ok(compared) => compared,
            Err(error) => {
                self.faults += u64::from(matches!(error, CompareError::Candidate(_)));
                let said = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                self.fault.get_or_insert(format!("{}: {said}", view.record.id));
                return;
            }
        };
        self.compared += 1;
        self.fuel = self.fuel.saturating_add(compared.fuel);
        let add = |sum: &mut Totals, more: &Totals| {
            sum.0.iter_mut().zip(more.0).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        };
        add(&mut self.active, &compared.active);
        add(&mut self.candidate, &compared.candidate);
        let moved_ns = u64::try_from(compared.moved_ns()).unwrap_or(u64::MAX);
        if moved_ns == 0 {
            return;
        }
        self.differing += 1;
        if self.worst.as_ref().is_none_or(|worst| worst.moved_ns < moved_ns) {
            self.worst = Some(ShadowWorst {
                instance: view.record.id.clone(),
                name: view.record.name.clone(),
                moved_ns,
                active_ns: (&compared.active).into(),
                candidate_ns: (&compared.candidate).into(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::billing::{About, BootId, Entered, InstanceFact, Reading};
    use crate::vm::Shape;

    #[test]
    fn a_trial_begins_with_the_phase_that_is_under_way() {
        let fact = |at, fact| {
            let at = Reading { boot: BootId("b".into()), boottime_ns: 0, wall_ns: 0, meter: Instant(at) };
            let about = About::Instance("i".parse().expect("an id"), fact);
            (0, Fact { at, tenant: TenantId::default_tenant(), about })
        };
        let entered = |phase| {
            let shape = Shape::default();
            InstanceFact::Entered(Entered { phase, shape, session: 1, cause: None })
        };
        let history = [
            fact(10, entered(Phase::Created)),
            fact(20, entered(Phase::Running)),
            fact(30, entered(Phase::Stopped)),
            fact(40, InstanceFact::Deleted),
        ];
        let told = |since| lived(&history, Instant(since)).iter().map(|&(to, at)| (to, at.0)).collect::<Vec<_>>();
        let (running, stopped) = (Some(Phase::Running), Some(Phase::Stopped));
        assert_eq!(told(25), [(running, 25), (stopped, 30), (None, 40)]);
        assert_eq!(told(30), [(stopped, 30), (None, 40)]);
        assert_eq!(told(0).len(), 4);
        assert_eq!(told(99), [(None, 99)]);
    }
}
