//! `/tenants/{id}/usage/events`: intervals that have ended, as CloudEvents.
//!
//! They are read off the facts, in the order of the facts that ended them: a receiver that keeps
//! `after` misses none and sees none twice, whatever ends on its side or on this one.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::body::Params;
use super::error::ApiError;
use super::model::{Shape, Timestamp, UsageEvent, UsageEvents, UsageInterval};
use super::shared::Failures;
use super::{Shared, blocking};
use crate::billing::{Counted, Entered};
use crate::driver::Fleet;
use crate::id::{InstanceId, TenantId};
use crate::journal::wire::{ExitCause, FactRecord, Phase, What};
use crate::journal::{FactQuery, Journal, ReadError};
use crate::units::Instant;

/// The type of the events.
const KIND: &str = "tallyman.interval.v1";

/// The page of events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventParams {
    /// Only intervals that were ended by a fact with a greater sequence number.
    #[serde(default)]
    after: u64,
    /// Most facts to look at, 1 to 1,000; an event needs one fact.
    limit: Option<usize>,
}

/// List usage events
///
/// One CloudEvent for each interval that has ended, with exact nanoseconds. Go on with the answer's
/// `after`; `more` says whether there is more now. Events never change, and their `source` and `id`
/// are theirs for ever.
#[utoipa::path(get, path = "/tenants/{id}/usage/events", tag = "invoices",
    security(("bearer" = [])), params(EventParams), responses(
    (status = 200, description = "A page of events", body = UsageEvents),
    Failures,
))]
pub(super) async fn list_usage_events(
    Extract(state): Shared,
    caller: Caller,
    Path(id): Path<String>,
    Params(params): Params<EventParams>,
) -> Result<Json<UsageEvents>, ApiError> {
    let tenant = caller.tenant_at(&state, &id)?.id().clone();
    let maker = Maker { journal: state.journal.clone(), fleet: state.fleet.clone() };
    blocking(move || Ok(Json(maker.page(tenant, &params)?))).await
}

/// The maker of events from facts.
pub(super) struct Maker {
    pub(super) journal: Arc<Journal>,
    pub(super) fleet: Fleet,
}

/// The openings of instances that are known, by id; none for one that has ended.
pub(super) type Openings = HashMap<String, Option<Opening>>;

/// The beginning of an interval.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    fact: u64,
    at: Instant,
    phase: Phase,
    shape: Shape,
    session: u32,
    cause: Option<ExitCause>,
}

impl Maker {
    fn page(&self, tenant: TenantId, params: &EventParams) -> Result<UsageEvents, ReadError> {
        let head = self.journal.head().seq;
        let query = FactQuery {
            after: params.after,
            through: Some(head),
            tenant: Some(tenant),
            instance: None,
            kind: None,
            limit: params.limit,
        };
        let page = self.journal.facts(&query)?;
        let mut open = Openings::new();
        let mut events = Vec::new();
        for fact in page.facts.iter().map(|chained| &chained.fact) {
            events.extend(self.ended(fact, &mut open)?);
        }
        let after = page.next.unwrap_or(head.max(params.after));
        Ok(UsageEvents { events, after, more: page.next.is_some() })
    }

    /// The interval that a fact ends, if it ends one. Facts come in their order; `open` has what
    /// those before have opened.
    pub(super) fn ended(
        &self,
        fact: &FactRecord,
        open: &mut Openings,
    ) -> Result<Option<UsageEvent>, ReadError> {
        let Some(instance) = counting(fact) else { return Ok(None) };
        let before = match open.get(instance) {
            Some(known) => *known,
            None => self.before(fact)?,
        };
        open.insert(instance.to_owned(), opening(fact));
        Ok(before.map(|opening| self.event(instance, fact, opening)))
    }

    /// The interval that a fact ends: the last one that an earlier fact of its instance opened.
    fn before(&self, fact: &FactRecord) -> Result<Option<Opening>, ReadError> {
        let (Some(previous), Some(instance)) = (fact.previous, &fact.instance) else {
            return Ok(None);
        };
        let Ok(instance) = instance.parse::<InstanceId>() else { return Ok(None) };
        Ok(match self.journal.last_counted(&instance, previous)? {
            Some((fact, at, Counted::Enters(Entered { phase, shape, session, cause, .. }))) => {
                let phase = phase.into();
                let cause = cause.map(ExitCause::from);
                Some(Opening { fact, at, phase, shape: shape.into(), session, cause })
            }
            Some((.., Counted::Ends)) | None => None,
        })
    }

    /// An instant by the calendar.
    pub(super) fn timestamp(&self, at: Instant) -> Timestamp {
        Timestamp(self.fleet.calendar_ns(at))
    }

    fn event(&self, instance: &str, fact: &FactRecord, opening: Opening) -> UsageEvent {
        let start = opening.at;
        let end = Instant(fact.meter_ns);
        let started = self.timestamp(start);
        let ended = self.timestamp(end);
        UsageEvent {
            specversion: "1.0".into(),
            id: format!("{instance}/{}", opening.fact),
            source: format!("/instances/{instance}"),
            kind: KIND.into(),
            subject: fact.tenant.clone(),
            time: ended,
            datacontenttype: "application/json".into(),
            data: UsageInterval {
                instance: instance.to_owned(),
                phase: opening.phase,
                start_ns: start.0.to_string(),
                end_ns: end.0.to_string(),
                duration_ns: (end.0 - start.0).to_string(),
                start: started,
                end: ended,
                shape: opening.shape,
                session: opening.session,
                cause: opening.cause,
                opened_by: opening.fact,
                closed_by: fact.seq,
            },
        }
    }
}

/// The instance of a fact with which its time begins, changes or ends; none for other facts.
fn counting(fact: &FactRecord) -> Option<&str> {
    match fact.what {
        What::Entered { .. } | What::Deleted => fact.instance.as_deref(),
        _ => None,
    }
}

fn opening(fact: &FactRecord) -> Option<Opening> {
    let What::Entered {
        phase,
        vcpus,
        memory_bytes,
        disk_bytes,
        snapshot_bytes,
        session,
        cause,
        ..
    } = fact.what
    else {
        return None;
    };
    let shape = Shape { vcpus, memory_bytes, disk_bytes, snapshot_bytes };
    Some(Opening { fact: fact.seq, at: Instant(fact.meter_ns), phase, shape, session, cause })
}
