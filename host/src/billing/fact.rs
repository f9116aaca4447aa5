//! The facts that the journal keeps: something happened to the host, to a tenant or to an instance,
//! at an instant.
//!
//! Each family has a type of its own, so that a fact of an instance can't be written without an
//! instance, nor one of the host with one.

use std::sync::Arc;

use super::agreement::Agreement;
use super::timeline::Change;
use crate::id::{Digest, InstanceId, PolicyName, SnapshotName, TenantId, TokenId, words};
use crate::tenant::{Actor, Move, Plan, Role, Settings};
use crate::units::Instant;
use crate::vm::{Asker, Command, ExitCause, Phase, Shape};

/// One boot of the host, as the kernel names it (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootId(pub Arc<str>);

/// The four clock readings of an instant. An auditor can see from them which clock said what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The boot in which the instant lies.
    pub boot: BootId,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME` in nanoseconds since 1970, for the calendar only.
    pub wall_ns: i64,
    /// The meter clock, the only one that durations are made from.
    pub meter: Instant,
}

/// A fact as it is read from the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// When it happened: for a phase, when the vCPUs changed, not when the bookkeeping was done.
    pub at: Reading,
    /// Whom it concerns; the default tenant for a fact of the host.
    pub tenant: TenantId,
    /// The subject and the event.
    pub about: About,
}

/// The subject of a fact, and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// The host.
    Host(HostFact),
    /// The fact's tenant.
    Tenant(TenantFact),
    /// An instance of the fact's tenant.
    Instance(InstanceId, InstanceFact),
}

impl Fact {
    /// The event of the host, if it is one.
    pub fn of_host(&self) -> Option<&HostFact> {
        match &self.about {
            About::Host(fact) => Some(fact),
            About::Tenant(_) | About::Instance(..) => None,
        }
    }

    /// The event of a tenant, if it is one.
    pub fn of_tenant(&self) -> Option<&TenantFact> {
        match &self.about {
            About::Tenant(fact) => Some(fact),
            About::Host(_) | About::Instance(..) => None,
        }
    }

    /// The event of an instance, if it is one.
    pub fn of_instance(&self) -> Option<&InstanceFact> {
        match &self.about {
            About::Instance(_, fact) => Some(fact),
            About::Host(_) | About::Tenant(_) => None,
        }
    }

    /// The instance, if it is about one.
    pub fn instance(&self) -> Option<&InstanceId> {
        match &self.about {
            About::Instance(id, _) => Some(id),
            About::Host(_) | About::Tenant(_) => None,
        }
    }
}

/// An event that is not yet in the journal, and when it happened.
pub type Dated<F> = (Reading, F);

words!(
    /// Why the wall clock can't say how much time has passed between two boots.
    GapReason, "reason of a gap" {
        /// It is not known to be right now.
        NotSynchronised = "not-synchronised",
        /// It was not known to be right at the end of the earlier boot, so that it may have been
        /// set since.
        NeverSynchronised = "never-synchronised",
        /// By it, less time has passed than this boot is old.
        WentBack = "went-back",
    }
);

/// An event of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostFact {
    /// The daemon began to serve.
    Started {
        /// Version of the program.
        version: String,
    },
    /// Somebody stepped the wall clock. Durations do not change; the calendar is read with the new
    /// offset from here on.
    ClockStepped {
        /// By how much, in nanoseconds, forward if positive.
        step_ns: i64,
    },
    /// Nothing proves how much time lies between an earlier boot and this one. The meter has
    /// counted the time since this boot began; what may be missing is nobody's until somebody
    /// settles it.
    TimeUnknown {
        /// Why the wall clock was not believed.
        reason: GapReason,
        /// Time that has passed by the wall clock, in nanoseconds; negative where it was set back.
        claimed_ns: i64,
        /// Time that the meter has counted instead, in nanoseconds.
        counted_ns: u64,
    },
    /// The host was suspended, and with it everything that runs. The meter has counted that time.
    Suspended {
        /// For how long, in nanoseconds, until a moment before the fact.
        duration_ns: u64,
    },
}

/// An event of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantFact {
    /// A component was admitted and may be activated.
    PolicyAdmitted {
        /// The component.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// Who brought it; none before this was recorded.
        by: Option<Actor>,
        /// Its name among the tenant's policies; none if it was given none.
        name: Option<PolicyName>,
    },
    /// From `from` on, the tenant is under `digest`.
    PolicyActivated {
        /// The component.
        digest: Digest,
        /// Effective instant; at or after the fact's own.
        from: Instant,
        /// The activation undoes the one before it.
        rollback: bool,
        /// Who asked for it; none before this was recorded.
        by: Option<Actor>,
        /// Why, in words; none if nobody said.
        reason: Option<String>,
        /// The policy's options, sorted by name.
        options: Vec<(String, String)>,
    },
    /// A policy stands elsewhere with the tenant, other than by admission or activation.
    PolicyMoved(Move),
    /// A policy gave no answer that could be believed. The interval is accounted by the standard
    /// policy.
    PolicyFaulted {
        /// The component.
        digest: Digest,
        /// What it did, in words.
        reason: String,
    },
    /// The tenant exists from here on.
    Created {
        /// Who made it.
        by: Actor,
    },
    /// The tenant has these settings from here on.
    Changed {
        /// All of them.
        settings: Settings,
        /// Who changed them.
        by: Actor,
    },
    /// A token was made. Its secret was shown once, to whoever asked, and is written nowhere.
    TokenCreated {
        /// The token.
        token: TokenId,
        /// What a person calls it.
        name: String,
        /// What it is good for.
        role: Role,
        /// First instant at which it is no good any more.
        expires: Instant,
        /// Who made it.
        by: Actor,
    },
    /// A token is no good any more.
    TokenRevoked {
        /// The token.
        token: TokenId,
        /// Who revoked it.
        by: Actor,
    },
    /// From `from` on, the tenant is charged by the price book `digest`.
    PricesActivated {
        /// The book.
        digest: Digest,
        /// Effective instant; at or after the fact's own.
        from: Instant,
        /// Who asked for it.
        by: Actor,
    },
    /// From `from` on, a border of the tenant's periods, its time is cut by another agreement.
    AgreementChanged {
        /// The agreement.
        agreement: Agreement,
        /// The border.
        from: Instant,
        /// Who asked for it.
        by: Actor,
    },
    /// Another policy or price book is named for a span, in place of those in force. With neither,
    /// earlier overrides of the span end.
    Overridden {
        /// First instant of the span.
        from: Instant,
        /// First instant after.
        until: Instant,
        /// The policy; none if it names none.
        policy: Option<Digest>,
        /// The price book; none if it names none.
        book: Option<Digest>,
        /// Whether the book also holds for time without one.
        from_begin: bool,
        /// The reason, in words for the one who pays.
        reason: String,
        /// Who asked for it.
        by: Actor,
    },
    /// A change that was planned for `from` does not come about.
    PlanWithdrawn {
        /// Policy or prices.
        plan: Plan,
        /// The component or the price book.
        digest: Digest,
        /// The instant for which it was planned, after the fact's own.
        from: Instant,
        /// Who withdrew it.
        by: Actor,
        /// Why, in words; none if nobody said.
        reason: Option<String>,
    },
    /// A period of the tenant was charged, or charged anew.
    Invoiced {
        /// Number among the tenant's documents, from 1.
        number: u64,
        /// The document, by its SHA-256.
        digest: Digest,
        /// First instant of the period.
        from: Instant,
        /// First instant after it.
        until: Instant,
        /// The document that this one corrects.
        corrects: Option<u64>,
        /// Who made it final.
        by: Actor,
    },
}

/// An event of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceFact {
    /// A command was accepted and is about to be carried out.
    Intended {
        /// The command.
        command: Command,
        /// Who asked for it.
        by: Asker,
        /// What it is about beside the instance: a snapshot's name, the ids of forks, a number of
        /// bytes.
        about: Option<String>,
    },
    /// An intended command was given up: nothing changed, or what changed is told by facts of its
    /// own.
    Abandoned {
        /// The command.
        command: Command,
        /// Why, in words.
        reason: String,
    },
    /// The instance entered a phase, or the same one with another shape.
    Entered(Entered),
    /// A new instance was made of another one. Both have this fact, each in its own history; the
    /// new one's time begins with the fact after.
    Forked {
        /// The instance that was copied.
        parent: InstanceId,
        /// The new one.
        child: InstanceId,
        /// The snapshot that was copied; none for the parent as it was.
        snapshot: Option<SnapshotName>,
    },
    /// Something that is on record of the instance was changed, which changes no phase.
    Amended {
        /// What, by its name in JSON.
        field: String,
        /// What it is from here on, as JSON.
        value: String,
    },
    /// The record was closed; its time ends here. Usage stays readable.
    Deleted,
}

/// The phase that an instance entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entered {
    /// The phase.
    pub phase: Phase,
    /// The resources that the instance holds from here on.
    pub shape: Shape,
    /// Number of the start that this belongs to, from 1.
    pub session: u32,
    /// Why it stopped, where it did.
    pub cause: Option<ExitCause>,
}

/// The meaning of a fact for the time of its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// An interval begins; one that was open ends.
    Enters(Entered),
    /// The instance's time ends.
    Ends,
}

impl Counted {
    /// The phase that begins; none at the end.
    pub fn phase(self) -> Option<Phase> {
        match self {
            Counted::Enters(entered) => Some(entered.phase),
            Counted::Ends => None,
        }
    }
}

impl TenantFact {
    /// The change of the policy, or of the prices, in force; none for a fact that changes neither.
    pub fn changes(&self, of: Plan) -> Option<Change> {
        let (plan, change) = match *self {
            TenantFact::PolicyActivated { from, digest, .. } => {
                (Plan::Policy, Change::Set { from, digest })
            }
            TenantFact::PricesActivated { from, digest, .. } => {
                (Plan::Prices, Change::Set { from, digest })
            }
            TenantFact::PlanWithdrawn { plan, from, digest, .. } => {
                (plan, Change::Withdrawn { from, digest })
            }
            TenantFact::PolicyAdmitted { .. }
            | TenantFact::PolicyMoved(_)
            | TenantFact::PolicyFaulted { .. }
            | TenantFact::Created { .. }
            | TenantFact::Changed { .. }
            | TenantFact::TokenCreated { .. }
            | TenantFact::TokenRevoked { .. }
            | TenantFact::AgreementChanged { .. }
            | TenantFact::Overridden { .. }
            | TenantFact::Invoiced { .. } => return None,
        };
        (plan == of).then_some(change)
    }
}

impl InstanceFact {
    /// The meaning for the instance's time; none for a fact that counts no time.
    pub fn counts(&self) -> Option<Counted> {
        match self {
            InstanceFact::Entered(entered) => Some(Counted::Enters(*entered)),
            InstanceFact::Deleted => Some(Counted::Ends),
            InstanceFact::Intended { .. }
            | InstanceFact::Abandoned { .. }
            | InstanceFact::Forked { .. }
            | InstanceFact::Amended { .. } => None,
        }
    }
}

impl Fact {
    /// See [`InstanceFact::counts`]; none for a fact that is not about an instance.
    pub fn counts(&self) -> Option<Counted> {
        self.of_instance()?.counts()
    }
}
