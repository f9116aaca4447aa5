//! The state of a tenant at the end of a period, with which the bundle of the next one begins.
//!
//! A document that reaches the end of its period names it by its SHA-256. So it lies in the chain
//! under the signed head of the close, and the proof of that document makes it again.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::document::CarriedNote;
use super::evidence::{Evidence, EvidenceError};
use crate::billing::life::{Life, Opening};
use crate::billing::{Entered, Fact, TenantFact};
use crate::id::{Digest, TenantId};
use crate::journal::SpanQuery;
use crate::journal::wire::{ExitCause, Phase, Traffic};
use crate::tenant::{OneOffKind, Standing};
use crate::units::Instant;
use crate::vm::Shape;

/// The state of a tenant at the end of a period, by the facts up to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceCarried)]
pub struct Carried {
    /// Sequence number of the last fact that it is made of. All of them were recorded before the
    /// period's end.
    pub through: u64,
    /// The period's end on the meter clock, in nanoseconds.
    pub until_ns: i64,
    /// Offsets of UTC from the meter clock in nanoseconds, each with its first instant.
    pub calendar: Vec<(i64, i64)>,
    /// The facts about the tenant itself that later documents depend on: their sequence numbers and
    /// links.
    pub facts: Vec<(u64, String)>,
    /// The instances that were not deleted, sorted by id.
    pub instances: Vec<CarriedInstance>,
}

/// An instance at the end of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceCarriedInstance)]
pub struct CarriedInstance {
    /// Its id.
    pub id: String,
    /// Sequence number of its first fact.
    pub first_fact: u64,
    /// The interval that was under way; null if none was.
    pub under_way: Option<UnderWay>,
}

/// An interval that was under way at the end of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InvoiceUnderWay)]
pub struct UnderWay {
    /// Sequence number of the fact that opened it.
    pub fact: u64,
    /// Instant of that fact on the meter clock, in nanoseconds.
    pub at_ns: i64,
    /// The phase.
    pub phase: Phase,
    /// Number of virtual processors.
    pub vcpus: u32,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// Size of the writable disks in bytes.
    pub disk_bytes: u64,
    /// Disk space of memory images and kept snapshots in bytes.
    pub snapshot_bytes: u64,
    /// Number of the start that the phase belongs to, from 1.
    pub session: u32,
    /// Cause of the stop; absent if the instance had not stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<ExitCause>,
    /// The guest's traffic since the instance was created; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// Number of times that the instance had left standby.
    pub wakes: u32,
    /// Instant on the meter clock at which the boot under way began, in nanoseconds; `at_ns` in
    /// other phases than `initializing`.
    pub boot_began_ns: i64,
}

impl Carried {
    /// Reads the state of a tenant at `until` by the facts up to `through`.
    ///
    /// # Errors
    /// [`EvidenceError::Altered`] if a fact up to `through` was recorded later than at `until`.
    pub(super) fn read<E: Evidence>(
        evidence: &E,
        tenant: &TenantId,
        (until, through): (Instant, u64),
    ) -> Result<Self, EvidenceError> {
        if !evidence.is_recorded_by(through, until)? {
            let text = format!("fact {through} was recorded after the end of the period");
            return Err(EvidenceError::Altered(text));
        }
        let mut instances = Vec::new();
        let query = SpanQuery { tenant, start: until, end: until, through };
        evidence.lives(query, &mut |life| {
            instances.push(CarriedInstance::of(&life));
            ControlFlow::Continue(())
        })?;
        let mut facts = Vec::new();
        for seq in kept(&evidence.tenant_facts(tenant, through)?, until) {
            facts.push((seq, evidence.place(seq)?.hash.to_string()));
        }
        let calendar = evidence.calendar(through)?.offsets();
        let calendar = calendar.into_iter().map(|(since, offset)| (since.0, offset)).collect();
        Ok(Self { through, until_ns: until.0, calendar, facts, instances })
    }

    /// The state as a document names it.
    pub(super) fn note(&self) -> CarriedNote {
        // The type has no map and no number that JSON can't hold: serialization does not fail.
        let text = serde_json::to_vec(self).unwrap_or_default();
        CarriedNote { through: self.through, digest: Digest::of(&text).to_string() }
    }
}

impl CarriedInstance {
    fn of(life: &Life) -> Self {
        Self {
            id: life.id.to_string(),
            first_fact: life.first_fact,
            under_way: life.opening.as_ref().map(UnderWay::of),
        }
    }
}

impl UnderWay {
    fn of(opening: &Opening) -> Self {
        let Entered { phase, shape, session, cause, traffic } = opening.entered;
        Self {
            fact: opening.fact,
            at_ns: opening.at.0,
            phase: phase.into(),
            vcpus: shape.vcpus,
            memory_bytes: shape.memory_bytes,
            disk_bytes: shape.disk_bytes,
            snapshot_bytes: shape.snapshot_bytes,
            session,
            cause: cause.map(Into::into),
            traffic: Traffic::of(traffic),
            wakes: opening.wakes,
            boot_began_ns: opening.boot_began.0,
        }
    }

    /// The interval as time is counted from it.
    pub(super) fn opening(&self) -> Opening {
        let shape = Shape {
            vcpus: self.vcpus,
            memory_bytes: self.memory_bytes,
            disk_bytes: self.disk_bytes,
            snapshot_bytes: self.snapshot_bytes,
        };
        let entered = Entered {
            phase: self.phase.into(),
            shape,
            session: self.session,
            cause: self.cause.map(Into::into),
            traffic: Traffic::or_none(self.traffic),
        };
        Opening {
            fact: self.fact,
            at: Instant(self.at_ns),
            entered,
            wakes: self.wakes,
            boot_began: Instant(self.boot_began_ns),
        }
    }
}

/// The facts about the tenant itself that documents of time from `until` on depend on.
fn kept(facts: &[(u64, Fact)], until: Instant) -> Vec<u64> {
    let is_setting = |fact: &Fact| matches!(fact.of_tenant(), Some(TenantFact::Changed { .. }));
    // Settings are whole: the last ones say everything.
    let last = facts.iter().rfind(|(_, fact)| is_setting(fact)).map(|(seq, _)| *seq);
    let matters = |(seq, fact): &&(u64, Fact)| match fact.of_tenant() {
        Some(TenantFact::Changed { .. }) => Some(*seq) == last,
        said => said.is_some_and(|said| is_kept(said, until)),
    };
    facts.iter().filter(matters).map(|(seq, _)| *seq).collect()
}

fn is_kept(said: &TenantFact, until: Instant) -> bool {
    match said {
        TenantFact::PolicyAdmitted { .. }
        | TenantFact::PolicyActivated { .. }
        | TenantFact::PricesActivated { .. }
        | TenantFact::AgreementChanged { .. }
        | TenantFact::Overridden { .. }
        | TenantFact::TariffJoined { .. }
        | TenantFact::PlanWithdrawn { .. }
        | TenantFact::Changed { .. } => true,
        TenantFact::PolicyMoved(moved) => moved.to == Standing::Quarantined,
        // A charge belongs to its own period, a goodwill to any after it.
        TenantFact::OneOff { kind, at, .. } => *kind == OneOffKind::Goodwill || *at >= until,
        TenantFact::PolicyFaulted { .. }
        | TenantFact::Created { .. }
        | TenantFact::TokenCreated { .. }
        | TenantFact::TokenRevoked { .. }
        | TenantFact::TariffPublished { .. }
        | TenantFact::TariffDefault { .. }
        | TenantFact::Proposed { .. }
        | TenantFact::ProposalEnded { .. }
        | TenantFact::Invoiced { .. } => false,
    }
}
