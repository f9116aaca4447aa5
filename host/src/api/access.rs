//! The access table: the roles that may use each route. Operators may use all.
//!
//! The OpenAPI document publishes it as `x-roles` of each operation, so that a change is visible in
//! review. A route that is missing here is refused to everybody but operators, and fails the tests.

use crate::mutants::money::Mutant;
use crate::tenant::Role;

const READERS: &[Role] = &[Role::TenantAdmin, Role::TenantReader];
const ADMINS: &[Role] = &[Role::TenantAdmin];
/// The roles that may see how a tenant's time counts: all of people.
const EVERYBODY: &[Role] =
    &[Role::Billing, Role::TenantAdmin, Role::TenantReader, Role::PolicyAuthor];
/// The roles that may upload policies and try them.
const AUTHORS: &[Role] = &[Role::TenantAdmin, Role::PolicyAuthor];
/// The roles that may see what a tenant is charged.
const PAYERS: &[Role] = &[Role::Billing, Role::TenantAdmin, Role::TenantReader];
/// The roles that may do what charges a tenant. The tenant's own admins may, too, if an operator
/// has delegated it.
const CHARGING: &[Role] = &[Role::Billing];
/// The roles that may see metrics: those of a tenant, or of the whole host.
const WATCHERS: &[Role] = &[Role::TenantAdmin, Role::TenantReader, Role::Metrics];
/// The roles that may end a proposal that does not come about.
const DECLINING: &[Role] = &[Role::Billing, Role::TenantAdmin, Role::PolicyAuthor];
/// The role of a host of a fleet.
const HOSTS: &[Role] = &[Role::Host];
/// No role but the operator's: the route concerns the host, or all tenants.
const NOBODY_ELSE: &[Role] = &[];

/// Method, path, and the roles that may use it beside operators.
pub(super) const DECISIONS: &[(&str, &str, &[Role])] = &[
    ("GET", "/instances", READERS),
    ("POST", "/instances", ADMINS),
    ("GET", "/instances/{id}", READERS),
    ("DELETE", "/instances/{id}", ADMINS),
    ("PATCH", "/instances/{id}", ADMINS),
    ("POST", "/instances/{id}/start", ADMINS),
    ("POST", "/instances/{id}/stop", ADMINS),
    ("POST", "/instances/{id}/standby", ADMINS),
    ("POST", "/instances/{id}/restore", ADMINS),
    ("POST", "/instances/{id}/pause", ADMINS),
    ("POST", "/instances/{id}/resume", ADMINS),
    ("GET", "/instances/{id}/wait", READERS),
    ("GET", "/instances/{id}/logs", READERS),
    ("GET", "/instances/{id}/intervals", PAYERS),
    ("POST", "/instances/{id}/resize", ADMINS),
    ("GET", "/instances/{id}/stats", READERS),
    ("POST", "/instances/{id}/activity", ADMINS),
    ("GET", "/instances/{id}/exec", ADMINS),
    ("GET", "/instances/{id}/cp", ADMINS),
    ("GET", "/instances/{id}/stat", ADMINS),
    ("POST", "/instances/{id}/fork", ADMINS),
    ("GET", "/instances/{id}/snapshots", READERS),
    ("POST", "/instances/{id}/snapshots", ADMINS),
    ("GET", "/instances/{id}/snapshots/{name}", READERS),
    ("DELETE", "/instances/{id}/snapshots/{name}", ADMINS),
    ("POST", "/instances/{id}/snapshots/{name}/restore", ADMINS),
    ("POST", "/instances/{id}/snapshots/{name}/fork", ADMINS),
    ("GET", "/instances/{id}/snapshot-schedule", READERS),
    ("PUT", "/instances/{id}/snapshot-schedule", ADMINS),
    ("DELETE", "/instances/{id}/snapshot-schedule", ADMINS),
    ("GET", "/instances/{id}/auto-standby/status", READERS),
    ("POST", "/instances/{id}/auto-standby/hold", ADMINS),
    ("GET", "/snapshots", READERS),
    ("GET", "/snapshots/{id}", READERS),
    ("DELETE", "/snapshots/{id}", ADMINS),
    ("POST", "/snapshots/{id}/fork", ADMINS),
    // The sums are over all tenants.
    ("GET", "/resources", NOBODY_ELSE),
    ("GET", "/capabilities", EVERYBODY),
    ("GET", "/images", READERS),
    ("GET", "/images/{name}", READERS),
    // Importing an image reads files of the host.
    ("POST", "/images", NOBODY_ELSE),
    ("DELETE", "/images/{name}", NOBODY_ELSE),
    ("POST", "/images/{name}/tag", NOBODY_ELSE),
    ("POST", "/images/prune", NOBODY_ELSE),
    ("GET", "/policies", EVERYBODY),
    ("POST", "/policies", AUTHORS),
    ("GET", "/policies/{digest}", EVERYBODY),
    ("GET", "/tenants", EVERYBODY),
    ("POST", "/tenants", NOBODY_ELSE),
    ("GET", "/tenants/{id}", EVERYBODY),
    ("PATCH", "/tenants/{id}/limits", NOBODY_ELSE),
    ("DELETE", "/tenants/{id}", NOBODY_ELSE),
    ("PUT", "/tenants/{id}/billing", NOBODY_ELSE),
    ("PUT", "/tenants/{id}/billing-name", CHARGING),
    ("PUT", "/tenants/{id}/suspension", NOBODY_ELSE),
    ("PUT", "/tenants/{id}/fallback", CHARGING),
    ("GET", "/tenants/{id}/policy", EVERYBODY),
    ("PUT", "/tenants/{id}/policy", CHARGING),
    ("POST", "/tenants/{id}/policy/rollback", CHARGING),
    ("DELETE", "/tenants/{id}/policy/planned/{digest}", CHARGING),
    ("POST", "/tenants/{id}/shadows", AUTHORS),
    // A report names instances, but shows nothing of them except how their time counts, which
    // authors of policies work on.
    ("GET", "/tenants/{id}/shadows/{digest}", EVERYBODY),
    ("DELETE", "/tenants/{id}/shadows/{digest}", AUTHORS),
    // Names are the tenant's; destroying them is for whoever answers for the documents.
    ("GET", "/tenants/{id}/names", ADMINS),
    ("PUT", "/tenants/{id}/names", NOBODY_ELSE),
    ("GET", "/tenants/{id}/prices", EVERYBODY),
    ("PUT", "/tenants/{id}/prices", CHARGING),
    ("DELETE", "/tenants/{id}/prices/planned/{digest}", CHARGING),
    ("GET", "/tenants/{id}/acts", PAYERS),
    ("POST", "/tenants/{id}/one-offs", CHARGING),
    ("GET", "/tenants/{id}/proposals", EVERYBODY),
    ("POST", "/tenants/{id}/proposals", AUTHORS),
    ("POST", "/tenants/{id}/proposals/{number}/accept", CHARGING),
    // Whoever proposed it may take it back.
    ("POST", "/tenants/{id}/proposals/{number}/decline", DECLINING),
    // It concerns all tenants.
    ("GET", "/gaps", NOBODY_ELSE),
    ("POST", "/gaps/{fact}/settlement", NOBODY_ELSE),
    ("PUT", "/tenants/{id}/tariff", CHARGING),
    // A tariff is for many tenants.
    ("GET", "/tariffs", NOBODY_ELSE),
    ("PUT", "/tariffs/default", NOBODY_ELSE),
    ("PUT", "/tariffs/{tariff}/{version}", NOBODY_ELSE),
    ("POST", "/tariffs/{tariff}/change", NOBODY_ELSE),
    ("GET", "/tenants/{id}/agreement", EVERYBODY),
    ("PUT", "/tenants/{id}/agreement", CHARGING),
    ("GET", "/tenants/{id}/invoice", EVERYBODY),
    ("POST", "/tenants/{id}/invoice/preview", EVERYBODY),
    ("POST", "/tenants/{id}/invoice/preview/days", EVERYBODY),
    ("GET", "/tenants/{id}/invoices/{number}/days", PAYERS),
    // Tenants' own admins pay: without a delegation they may not charge.
    ("POST", "/tenants/{id}/invoice/close", CHARGING),
    ("POST", "/tenants/{id}/invoice/settle", CHARGING),
    ("POST", "/tenants/{id}/invoice/overrides", CHARGING),
    ("GET", "/tenants/{id}/invoices", PAYERS),
    ("GET", "/tenants/{id}/invoices/{number}", PAYERS),
    ("POST", "/tenants/{id}/invoices/{number}/corrections", CHARGING),
    ("GET", "/tenants/{id}/invoices/{number}/bundle", PAYERS),
    ("GET", "/tenants/{id}/exports/{table}", PAYERS),
    ("GET", "/tenants/{id}/usage/events", PAYERS),
    ("POST", "/tenants/{id}/invoices/{number}/proof", PAYERS),
    ("GET", "/tenants/{id}/invoices/{number}/lines/{line}", PAYERS),
    ("GET", "/sessions/current", EVERYBODY),
    ("DELETE", "/sessions/current", EVERYBODY),
    ("GET", "/tokens", ADMINS),
    ("POST", "/tokens", ADMINS),
    ("DELETE", "/tokens/{id}", ADMINS),
    ("GET", "/metrics", WATCHERS),
    ("GET", "/journal", PAYERS),
    ("GET", "/events/stream", PAYERS),
    ("GET", "/journal/head", EVERYBODY),
    ("GET", "/journal/heads", EVERYBODY),
    ("GET", "/journal/segments", NOBODY_ELSE),
    ("POST", "/journal/segments", NOBODY_ELSE),
    ("POST", "/journal/copies", NOBODY_ELSE),
    ("POST", "/journal/prune", NOBODY_ELSE),
    ("POST", "/fleet/facts", HOSTS),
    ("GET", "/fleet/hosts", NOBODY_ELSE),
];

/// Returns whether a route starts or makes something of a tenant's.
pub(super) fn makes(method: &str, path: &str) -> bool {
    let is_made = is_of_machines(path) || matches!(path, "/policies" | "/tokens");
    matches!(method, "POST" | "PUT" | "PATCH") && is_made && !is_calming(path)
}

/// Returns whether a route may make instances change their phase, except those that end or hold
/// one.
pub(super) fn causes_events(method: &str, path: &str) -> bool {
    method == "POST" && is_of_machines(path) && !is_calming(path)
}

fn is_of_machines(path: &str) -> bool {
    let roots = ["/instances/", "/snapshots/"];
    path == "/instances" || roots.iter().any(|root| path.starts_with(root))
}

/// Returns whether a route ends or holds an instance.
fn is_calming(path: &str) -> bool {
    ["/stop", "/standby", "/pause"].iter().any(|end| path.ends_with(end))
}

/// Returns whether a route takes a component or a document that is kept.
pub(super) fn uploads(method: &str, path: &str) -> bool {
    matches!(
        (method, path),
        ("POST", "/policies" | "/images")
            | ("PUT", "/tenants/{id}/prices" | "/tariffs/{tariff}/{version}")
    )
}

/// The roles that may use a route; `None` if the table has no such route.
pub(super) fn roles(
    method: &str,
    path: &str,
) -> Option<impl Iterator<Item = Role> + Clone + use<>> {
    // HEAD is allowed wherever GET is.
    let method = if method == "HEAD" { "GET" } else { method };
    let found = DECISIONS.iter().find(|(of, at, _)| *of == method && *at == path);
    found.map(|(_, _, roles)| std::iter::once(Role::Operator).chain(roles.iter().copied()))
}

/// Returns true if a role may use a route.
pub(super) fn may(role: Role, method: &str, path: &str) -> bool {
    if Mutant::PayerCharges.is_active() && role == Role::TenantAdmin {
        return true;
    }
    role == Role::Operator
        || roles(method, path).is_some_and(|mut roles| roles.any(|allowed| allowed == role))
}

/// Returns true if a route charges a tenant, so that the tenant's own admins may use it if that is
/// delegated.
pub(super) fn is_delegable(method: &str, path: &str) -> bool {
    DECISIONS.iter().any(|(of, at, roles)| *of == method && *at == path && *roles == CHARGING)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether a role that pays, or that only looks, may charge by itself.
    fn may_charge() -> bool {
        let charging = [Role::Operator, Role::Billing];
        let others = || Role::ALL.into_iter().filter(|role| !charging.contains(role));
        let routes = DECISIONS.iter().filter(|(method, path, _)| is_delegable(method, path));
        let mut pairs =
            routes.flat_map(|(method, path, _)| others().map(move |role| (role, method, path)));
        pairs.any(|(role, method, path)| may(role, method, path))
    }

    #[test]
    fn whoever_pays_does_not_charge() {
        assert!(!may_charge());
        assert!(Mutant::PayerCharges.during(may_charge));
    }
}
