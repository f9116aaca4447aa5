//! `/fleet`: the facts of hosts, at their collector.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;

use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::model::{FleetHost, FleetHosts, Timestamp};
use super::shared::Failures;
use super::{Shared, State, blocking};
use crate::clock;
use crate::fleet::{Answer, Batch, Collector, HostStatus, NoteError, Refused};
use crate::id::HostName;
use crate::tenant::{Actor, Role};
use crate::units::Instant;

/// Take facts of a host
///
/// A fact is taken only if it follows on the last one of that host. The answer names the last one
/// that the collector has, on its disk: the host goes on from there. Facts that are there already
/// change nothing.
#[utoipa::path(post, path = "/fleet/facts", tag = "fleet", security(("bearer" = [])),
    request_body = Batch, responses(
    (status = 200, description = "The end of what the collector has of the host", body = Answer),
    Failures,
))]
pub(super) async fn take_facts(
    Extract(state): Shared,
    caller: Caller,
    Body(batch): Body<Batch>,
) -> Result<Json<Answer>, ApiError> {
    let collector = collector(&state)?;
    let name = host_of(&state, &caller)?;
    let wall_ns = clock::wall_ns();
    blocking(move || Ok(Json(collector.take(&name, &batch, wall_ns)?))).await
}

/// List the hosts of the fleet
#[utoipa::path(get, path = "/fleet/hosts", tag = "fleet", security(("bearer" = [])), responses(
    (status = 200, description = "The hosts, by name", body = FleetHosts),
    Failures,
))]
pub(super) async fn list_hosts(Extract(state): Shared) -> Result<Json<FleetHosts>, ApiError> {
    let collector = collector(&state)?;
    let known = blocking(move || Ok(collector.hosts())).await?;
    let tokens = tokens(&state);
    let mut hosts: BTreeMap<_, _> = tokens
        .iter()
        .map(|(name, is_waited_for)| (name.clone(), present(name, None, *is_waited_for)))
        .collect();
    for status in known {
        let name = status.host.clone();
        let is_waited_for = tokens.get(&name).copied().unwrap_or_default();
        hosts.insert(name.clone(), present(&name, Some(status), is_waited_for));
    }
    Ok(Json(FleetHosts { hosts: hosts.into_values().collect() }))
}

fn present(name: &HostName, status: Option<HostStatus>, is_waited_for: bool) -> FleetHost {
    let head = status.as_ref().map(|status| status.head);
    let seen = status.as_ref().and_then(|status| status.seen);
    let facts = head.map_or(0, |head| head.seq);
    let until = status.as_ref().map(|status| Timestamp(status.until_utc_ns));
    FleetHost {
        name: name.to_string(),
        facts,
        hash: head.unwrap_or(crate::journal::Head::EMPTY).hash.to_string(),
        behind: seen.map(|seen| seen.end.saturating_sub(facts)),
        heard_at: seen.map(|seen| Timestamp(seen.wall_ns)),
        complete_until: until.filter(|_| facts > 0),
        clock_ahead_ns: seen.map(|seen| seen.ahead_ns),
        trouble: status.and_then(|status| status.trouble),
        retired: !is_waited_for,
    }
}

/// The hosts that have tokens; true for those of which one is not revoked.
fn tokens(state: &State) -> BTreeMap<HostName, bool> {
    let mut hosts = BTreeMap::new();
    let all = state.tenancy.tokens(None).into_iter().filter(|token| token.role == Role::Host);
    for token in all {
        if let Ok(name) = token.name.parse() {
            *hosts.entry(name).or_default() |= token.revoked.is_none();
        }
    }
    hosts
}

/// The host that a token belongs to.
fn host_of(state: &State, caller: &Caller) -> Result<HostName, ApiError> {
    match caller.actor() {
        Actor::Token(id) if caller.role() == Role::Host => {
            Ok(state.tenancy.token(None, &id.to_string())?.name.parse()?)
        }
        _ => Err(ApiError::invalid("facts are taken from hosts, each with a token of its own")
            .hint("`tallyman token create NAME --role host` makes one for the host NAME")),
    }
}

fn collector(state: &State) -> Result<Arc<Collector>, ApiError> {
    state.collector.clone().ok_or_else(|| {
        ApiError::conflict("no_collector", "this daemon is not a fleet's collector")
            .hint("`tallyman fleet serve` starts one")
    })
}

/// Puts on record how far hosts were heard, so that what is computed next includes it.
pub(super) async fn note(state: &State) -> Result<(), ApiError> {
    match &state.collector {
        Some(collector) => Ok(collector.note(&state.journal, state.fleet.reading()).await?),
        None => Ok(()),
    }
}

/// The hosts that a close up to `to` has to wait for, each with the reason.
pub(super) async fn unheard(state: &Arc<State>, to: Instant) -> Result<Vec<String>, ApiError> {
    let Some(collector) = state.collector.clone() else { return Ok(Vec::new()) };
    let expected = tokens(state);
    let state = state.clone();
    blocking(move || {
        let known = state.journal.archive().hosts_until(u64::MAX)?;
        let troubled: BTreeMap<_, _> = collector
            .hosts()
            .into_iter()
            .filter_map(|status| Some((status.host, status.trouble?)))
            .collect();
        let missing = expected.into_iter().filter(|(_, is_waited_for)| *is_waited_for);
        let reason = |name: HostName| match (troubled.get(&name), known.get(&name)) {
            (Some(trouble), _) => Some(trouble.clone()),
            (None, None) => Some(format!("host {name} (never heard)")),
            (None, Some(until)) if *until < to => {
                let until = super::present::timestamp(&state, *until);
                Some(format!("host {name} (heard up to {until})"))
            }
            (None, Some(_)) => None,
        };
        Ok(missing.filter_map(|(name, _)| reason(name)).collect())
    })
    .await
}

impl From<Refused> for ApiError {
    fn from(error: Refused) -> Self {
        let message = error.to_string();
        match error {
            Refused::Malformed(_) => Self::invalid(message),
            Refused::Forked { .. } | Refused::Lost { .. } | Refused::Twin { .. } => {
                Self::conflict("forked", message).hint(
                    "what was taken stays. Give this machine a data folder that begins anew, and \
                     a token with a name of its own; docs/fleet.md says more",
                )
            }
            Refused::Damaged { .. } => Self::conflict("damaged_facts", message)
                .hint("`tallyman journal verify` on the host finds the flaw"),
            Refused::Open { .. } | Refused::Failed { .. } => Self::bug(&error),
        }
    }
}

impl From<NoteError> for ApiError {
    fn from(error: NoteError) -> Self {
        match error {
            NoteError::Commit(error) => error.into(),
            NoteError::Read(error) => error.into(),
        }
    }
}
