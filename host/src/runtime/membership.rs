//! The part of a daemon in a fleet, and what it takes for that.

use std::sync::Arc;

use super::error::RuntimeError;
use super::options::{Membership, Options};
use crate::clock::Clock;
use crate::driver::Fleet;
use crate::fleet::{self, Collector, Http, Publisher, Receiver, Sender, Transport};
use crate::journal::Journal;
use crate::tenancy::Tenancy;
use crate::tenant::Role;

/// The collector, if this daemon is one.
pub(super) async fn collector(options: &Options) -> Result<Option<Arc<Collector>>, RuntimeError> {
    if !options.fleet.is_collector() {
        return Ok(None);
    }
    let data = options.data.clone();
    let opened = tokio::task::spawn_blocking(move || Collector::open(&data)).await;
    let opened = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    Ok(Some(Arc::new(opened.map_err(RuntimeError::Copies)?)))
}

/// The way of a host's facts to its collector; none for a daemon that sends none.
pub(super) fn way(membership: &Membership) -> Result<Option<Arc<dyn Transport>>, RuntimeError> {
    Ok(match membership {
        Membership::Host { collector, token, ca } => {
            Some(Arc::new(Http::new(collector, token, ca.as_deref())?))
        }
        Membership::Publishes { servers, name } => {
            Some(Arc::new(Publisher::new(servers.clone(), name.clone())?))
        }
        Membership::Alone | Membership::Collector { .. } => None,
    })
}

/// The collector's way to an engine; none if it has none.
pub(super) fn receiver(
    membership: &Membership,
    collector: Option<&Arc<Collector>>,
    tenancy: &Arc<Tenancy>,
) -> Result<Option<Receiver>, RuntimeError> {
    let Membership::Collector { engine: Some((servers, replicas)) } = membership else {
        return Ok(None);
    };
    let Some(collector) = collector else { return Ok(None) };
    let tenancy = tenancy.clone();
    let admits: fleet::Admits = Arc::new(move |host| {
        let tokens = tenancy.tokens(None).into_iter();
        let mut of_hosts = tokens.filter(|token| token.role == Role::Host);
        of_hosts.any(|token| token.revoked.is_none() && token.name == host.as_str())
    });
    Ok(Some(Receiver::new(servers.clone(), *replicas, collector.clone(), admits)?))
}

/// The sender of this host's facts, with the names and tags of its instances.
pub(super) fn sender(
    journal: &Arc<Journal>,
    clock: &Clock,
    fleet: &Fleet,
    way: Arc<dyn Transport>,
) -> Sender {
    let instances = fleet.clone();
    let describe: fleet::Describe = Arc::new(move |id| {
        let view = instances.find_known(id)?;
        let tags = view.record.spec.tags.clone().into_iter().collect();
        Some(fleet::Instance { id: id.clone(), name: view.record.name.clone(), tags })
    });
    Sender::new(journal.clone(), clock.clone(), describe, way)
}
