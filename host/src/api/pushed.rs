//! Events for receivers: facts as CloudEvents 1.0, by topic.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::State;
use super::events::{Maker, Openings};
use super::model::Timestamp;
use crate::delivery::{Message, Messages, Source, SourceError, Topic};
use crate::id::{Digest, TenantId};
use crate::invoice::{Evidence, Invoice};
use crate::journal::wire::{ChainedFact, What};
use crate::journal::{FactQuery, Head};
use crate::limits::delivery as limits;
use crate::tenant::Standing;
use crate::units::Instant;
use crate::vm;

/// An event that is about one fact. Its id is the fact's link in the hash chain, which no other
/// fact of any host has.
#[derive(Debug, Serialize)]
struct FactEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    data: Value,
}

impl State {
    /// The events of this host's facts, for receivers.
    pub fn events(&self) -> Arc<dyn Source> {
        Arc::new(Maker { journal: self.journal.clone(), fleet: self.fleet.clone() })
    }
}

impl Source for Maker {
    fn follow(&self) -> watch::Receiver<Head> {
        self.journal.follow()
    }

    fn link(&self, fact: u64) -> Result<Option<String>, SourceError> {
        let Some(after) = fact.checked_sub(1) else { return Ok(None) };
        let query =
            FactQuery { after, through: Some(fact), limit: Some(1), ..FactQuery::default() };
        let found = self.journal.facts(&query)?.facts.into_iter().next();
        Ok(found.map(|chained| chained.hash))
    }

    fn events(
        &self,
        topics: &[Topic],
        tenant: Option<&TenantId>,
        after: u64,
    ) -> Result<Messages, SourceError> {
        let head = self.journal.head().seq;
        let query = FactQuery {
            after,
            through: Some(head),
            tenant: tenant.cloned(),
            limit: Some(limits::FACTS_AT_ONCE),
            ..FactQuery::default()
        };
        let page = self.journal.facts(&query)?;
        let mut open = Openings::new();
        let mut messages = Vec::new();
        for chained in &page.facts {
            if topics.contains(&Topic::Usage)
                && let Some(event) = self.ended(&chained.fact, &mut open)?
            {
                let fact = chained.fact.seq;
                messages.push(Message { id: event.id.clone(), fact, body: to_json(&event)? });
            }
            messages.extend(self.told(chained, topics)?);
        }
        Ok(Messages { messages, after: page.next.unwrap_or(head.max(after)) })
    }
}

fn to_json(event: &impl Serialize) -> Result<Vec<u8>, SourceError> {
    Ok(serde_json::to_vec(event)?)
}

impl Maker {
    /// The event about a fact itself, if it is on one of these topics.
    fn told(
        &self,
        chained: &ChainedFact,
        topics: &[Topic],
    ) -> Result<Option<Message>, SourceError> {
        let ChainedFact { fact, hash } = chained;
        let Some((topic, kind)) = topic(&fact.what).filter(|(topic, _)| topics.contains(topic))
        else {
            return Ok(None);
        };
        let data = match &fact.what {
            What::Invoiced { digest, .. } => self.document(digest)?,
            What::Entered { cause, session, .. } => json!({"cause": cause, "session": session}),
            What::PolicyMoved { digest, reason, stand_in, .. } => {
                json!({"policy": digest, "reason": reason, "stand_in": stand_in})
            }
            What::PolicyFaulted { digest, reason } => json!({"policy": digest, "reason": reason}),
            other => serde_json::to_value(other)?,
        };
        let source = match &fact.instance {
            Some(instance) => format!("/instances/{instance}"),
            None if topic == Topic::Alerts && matches!(fact.what, What::TimeUnknown { .. }) => {
                "/host".into()
            }
            None => format!("/tenants/{}", fact.tenant),
        };
        let event = FactEvent {
            specversion: "1.0",
            id: hash,
            source,
            kind,
            subject: &fact.tenant,
            time: self.timestamp(Instant(fact.meter_ns)),
            datacontenttype: "application/json",
            data: with_fact(data, fact.seq),
        };
        Ok(Some(Message { id: hash.clone(), fact: fact.seq, body: to_json(&event)? }))
    }

    /// The document that was made final, in short. Amounts are texts.
    fn document(&self, digest: &str) -> Result<Value, SourceError> {
        let known: Digest = digest.parse()?;
        let bytes = Evidence::document(&self.journal.archive(), known)?;
        // Documents of the earlier form have other fields.
        let Ok(document) = Invoice::from_bytes(&bytes) else {
            return Ok(json!({"digest": digest}));
        };
        Ok(json!({
            "digest": digest,
            "number": document.number,
            "kind": document.kind,
            "follows": document.follows,
            "reason": document.reason,
            "period": {"from": document.period.from, "until": document.period.until},
            "billed_until": document.billed.until,
            "currency": document.currency,
            "payable": document.payable,
            "period_payable": document.period_payable,
        }))
    }
}

fn with_fact(mut data: Value, seq: u64) -> Value {
    if let Some(fields) = data.as_object_mut() {
        fields.insert("fact".into(), seq.into());
    }
    data
}

/// The topic of a fact and the type of its event; none if no receiver hears of it by itself.
fn topic(what: &What) -> Option<(Topic, &'static str)> {
    match what {
        What::Invoiced { .. } => Some((Topic::Documents, "tallyman.document.v1")),
        What::PolicyMoved { to, .. } if Standing::from(*to) == Standing::Quarantined => {
            Some((Topic::Alerts, "tallyman.policy-quarantined.v1"))
        }
        What::TimeUnknown { .. } => Some((Topic::Alerts, "tallyman.time-unknown.v1")),
        What::PolicyFaulted { .. } => Some((Topic::Faults, "tallyman.policy-fault.v1")),
        What::Entered { cause: Some(cause), .. } if is_fault((*cause).into()) => {
            Some((Topic::Faults, "tallyman.instance-fault.v1"))
        }
        _ => None,
    }
}

fn is_fault(cause: vm::ExitCause) -> bool {
    match cause {
        vm::ExitCause::Crashed
        | vm::ExitCause::HostLost
        | vm::ExitCause::LaunchFailed
        | vm::ExitCause::Unhealthy => true,
        vm::ExitCause::Requested
        | vm::ExitCause::Forced
        | vm::ExitCause::Guest
        | vm::ExitCause::Discarded => false,
    }
}
