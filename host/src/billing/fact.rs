//! The facts that the journal keeps: events of the host, of a tenant or of an instance, each at an
//! instant.
//!
//! Each family has a type of its own, so that a fact of an instance can't be written without an
//! instance, nor one of the host with one.

use std::sync::Arc;

use super::agreement::Agreement;
use super::timeline::Change;
use crate::id::{
    BookName, Digest, HostName, InstanceId, PolicyName, SnapshotName, TariffName, TenantId,
    TokenId, words,
};
use crate::tenant::{Actor, Move, OneOffKind, Plan, Role, Settings};
use crate::units::Instant;
use crate::vm::{Asker, Command, ExitCause, Phase, Shape, Traffic};

/// One boot of the host, as the kernel names it (`/proc/sys/kernel/random/boot_id`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootId(pub Arc<str>);

/// The readings of all clocks at an instant, so that an auditor can compare them.
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
    /// Instant of the event: for a phase, that of the change of the vCPUs, not of the bookkeeping.
    pub at: Reading,
    /// The tenant of the fact; the default tenant for a fact of the host.
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

/// An event that is not yet in the journal, with its instant.
pub type Dated<F> = (Reading, F);

words!(
    /// The reason for which the wall clock can't give the time between two boots.
    GapReason, "reason of a gap" {
        /// The wall clock is not synchronised now.
        NotSynchronised = "not-synchronised",
        /// The wall clock was not synchronised at the end of the earlier boot, so that it may have
        /// been set since.
        NeverSynchronised = "never-synchronised",
        /// By the wall clock, less time has passed than since the begin of this boot.
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
    /// The wall clock was stepped. Durations do not change; the calendar has the new offset from
    /// here on.
    ClockStepped {
        /// Size of the step in nanoseconds, forward if positive.
        step_ns: i64,
    },
    /// There is no proof of how much time lies between an earlier boot and this one. The meter has
    /// counted the time since this boot began; time that may be missing is billed to nobody until
    /// an operator settles it.
    TimeUnknown {
        /// The reason for which the wall clock was not trusted.
        reason: GapReason,
        /// Time that has passed by the wall clock, in nanoseconds; negative where it was set back.
        claimed_ns: i64,
        /// Time that the meter has counted instead, in nanoseconds.
        counted_ns: u64,
    },
    /// An operator has said how long a time was of which only the minimum is known.
    GapSettled(GapSettled),
    /// The host was suspended, and with it everything that runs. The meter has counted that time.
    Suspended {
        /// Length of the suspension in nanoseconds; it ended shortly before the fact.
        duration_ns: u64,
    },
    /// Facts were sealed into a segment.
    Sealed(Sealed),
    /// A copy of a segment was read back from a store and found whole.
    Archived(Archived),
    /// A segment leaves the data folder; its copy in a store stays.
    Pruned(Pruned),
    /// A collector has a host's facts up to here. What is charged over hosts is made of the facts
    /// that such facts name.
    Heard(Heard),
}

/// The part of a host's journal that a collector has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Name of the host.
    pub host: HostName,
    /// Sequence number of the last fact of the host's own journal.
    pub seq: u64,
    /// The link of that fact in the host's chain.
    pub link: Digest,
    /// Instant on the host's meter clock up to which the host had no further facts.
    pub until: Instant,
}

/// An operator's word on a time that the meter has left out. The one-off charges of the tenants
/// whom it concerns are the facts that follow this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapSettled {
    /// Sequence number of the fact that records the gap.
    pub gap: u64,
    /// Time that the meter has left out, in nanoseconds; 0 for none.
    pub missing_ns: u64,
    /// Number of the one-off charges that follow.
    pub charges: u64,
    /// The reason, in words.
    pub reason: String,
    /// The operator.
    pub by: Actor,
}

/// A segment: facts in an immutable file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Sequence number of its first fact.
    pub first: u64,
    /// Sequence number of its last fact.
    pub last: u64,
    /// The link of the chain before its first fact.
    pub before: Digest,
    /// The link of its last fact.
    pub link: Digest,
    /// Instant at which its last fact was recorded.
    pub recorded_until: Instant,
    /// Instant of the earliest of its facts.
    pub meter_from: Instant,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Root of the Merkle tree over its facts by tenant; none for segments of earlier versions.
    pub root: Option<Digest>,
}

/// A copy of a segment in a store: another folder, or an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// SHA-256 of the segment's file.
    pub digest: Digest,
    /// Address of the store, without any secret.
    pub store: Arc<str>,
    /// Name of the object in the store.
    pub object: Arc<str>,
}

/// A segment that is kept in a store alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// SHA-256 of the segment's file.
    pub digest: Digest,
    /// The actor who asked for it.
    pub by: Actor,
}

impl HostFact {
    /// Returns true if the fact is about a segment or a copy of one.
    pub fn is_of_a_segment(&self) -> bool {
        match self {
            Self::Sealed(_) | Self::Archived(_) | Self::Pruned(_) => true,
            Self::Started { .. }
            | Self::ClockStepped { .. }
            | Self::TimeUnknown { .. }
            | Self::GapSettled(_)
            | Self::Suspended { .. }
            | Self::Heard(_) => false,
        }
    }

    /// Returns true if the fact tells the calendar where the wall clock stood. Sealing happens at
    /// any time, also before a step of the clock is noticed.
    pub fn tells_the_time(&self) -> bool {
        match self {
            Self::Started { .. }
            | Self::ClockStepped { .. }
            | Self::TimeUnknown { .. }
            | Self::Suspended { .. } => true,
            Self::Sealed(_)
            | Self::Archived(_)
            | Self::Pruned(_)
            | Self::Heard(_)
            | Self::GapSettled(_) => false,
        }
    }
}

/// An event of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantFact {
    /// A component was admitted and may be activated.
    PolicyAdmitted {
        /// The component.
        digest: Digest,
        /// Size of the component in bytes.
        size_bytes: u64,
        /// The actor who uploaded it; none in facts of earlier versions.
        by: Option<Actor>,
        /// Name among the tenant's policies; none without one.
        name: Option<PolicyName>,
    },
    /// From `from` on, the tenant is under `digest`.
    PolicyActivated {
        /// The component.
        digest: Digest,
        /// Effective instant; at or after the fact's own.
        from: Instant,
        /// Set if the activation is a rollback.
        rollback: bool,
        /// The actor who asked for it; none in facts of earlier versions.
        by: Option<Actor>,
        /// Reason, in words; none if none was given.
        reason: Option<String>,
        /// The policy's options, sorted by name.
        options: Vec<(String, String)>,
    },
    /// The standing of a policy with the tenant changed, other than by admission or activation.
    PolicyMoved(Move),
    /// A policy gave no valid answer. The interval is accounted by the standard policy.
    PolicyFaulted {
        /// The component.
        digest: Digest,
        /// The failure, in words.
        reason: String,
    },
    /// The tenant exists from here on.
    Created {
        /// The actor who made the tenant.
        by: Actor,
    },
    /// The tenant has these settings from here on.
    Changed {
        /// All settings.
        settings: Settings,
        /// The actor who changed them.
        by: Actor,
    },
    /// A token was made. Its secret was shown once, to the caller, and is stored nowhere.
    TokenCreated {
        /// The token.
        token: TokenId,
        /// Name for people.
        name: String,
        /// Role of the token's bearer.
        role: Role,
        /// First instant at which the token is not valid any more.
        expires: Instant,
        /// The actor who made it.
        by: Actor,
    },
    /// A token was revoked.
    TokenRevoked {
        /// The token.
        token: TokenId,
        /// The actor who revoked it.
        by: Actor,
    },
    /// From `from` on, the tenant is charged by the price book `digest`.
    PricesActivated {
        /// The book.
        digest: Digest,
        /// Effective instant; at or after the fact's own.
        from: Instant,
        /// The actor who asked for it.
        by: Actor,
        /// Name among the tenant's books; none without one.
        name: Option<BookName>,
    },
    /// From `from` on, a border of the tenant's periods, its time is cut by another agreement.
    AgreementChanged {
        /// The agreement.
        agreement: Agreement,
        /// The border.
        from: Instant,
        /// The actor who asked for it.
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
        /// Set if the book also holds for time that no book covers.
        from_begin: bool,
        /// The reason, in words for the one who pays.
        reason: String,
        /// The actor who asked for it.
        by: Actor,
    },
    /// A change that was planned for `from` was withdrawn.
    PlanWithdrawn {
        /// The kind of the plan: policy or prices.
        plan: Plan,
        /// The component or the price book.
        digest: Digest,
        /// The instant for which it was planned, after the fact's own.
        from: Instant,
        /// The actor who withdrew it.
        by: Actor,
        /// Reason, in words; none if none was given.
        reason: Option<String>,
    },
    /// A price book got a name: it is a version of a tariff. A fact of the default tenant.
    TariffPublished {
        /// The tariff.
        tariff: TariffName,
        /// The version, unique in the tariff.
        version: TariffName,
        /// The book.
        digest: Digest,
        /// The actor who published it.
        by: Actor,
    },
    /// New tenants begin under the newest version of a tariff. A fact of the default tenant.
    TariffDefault {
        /// The tariff; none for none.
        tariff: Option<TariffName>,
        /// The actor who set it.
        by: Actor,
    },
    /// The tenant is charged by a version of a tariff: the next fact sets its book.
    TariffJoined {
        /// The tariff.
        tariff: TariffName,
        /// The version.
        version: TariffName,
        /// Its book.
        digest: Digest,
        /// The actor who asked for it.
        by: Actor,
    },
    /// An amount was charged, or given, once.
    OneOff {
        /// Charge or goodwill.
        kind: OneOffKind,
        /// The amount in nano-units of the currency, above 0.
        amount: i64,
        /// ISO 4217 code.
        currency: String,
        /// The instant to which it belongs; not after the fact's own.
        at: Instant,
        /// The reason, in words for the one who pays.
        reason: String,
        /// The actor who charged or gave it.
        by: Actor,
    },
    /// Another policy or price book was proposed to whoever charges the tenant.
    Proposed {
        /// Policy or prices.
        plan: Plan,
        /// The component or the price book.
        digest: Digest,
        /// Instant from which it would be in force; none for that of the acceptance.
        from: Option<Instant>,
        /// Name of the book among the tenant's; none without one, and for a policy.
        name: Option<BookName>,
        /// Options of the policy, sorted by name.
        options: Vec<(String, String)>,
        /// The reason, in words; none if none was given.
        reason: Option<String>,
        /// The actor who proposed it.
        by: Actor,
    },
    /// A proposal was accepted, declined or taken back.
    ProposalEnded {
        /// Sequence number of the proposal's fact.
        proposal: u64,
        /// Set if it was accepted: the fact of its activation comes before.
        is_accepted: bool,
        /// The reason, in words; none if none was given.
        reason: Option<String>,
        /// The actor who ended it.
        by: Actor,
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
        /// Number of the document that this one corrects; none for a first one.
        corrects: Option<u64>,
        /// The actor who made it final.
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
        /// The actor who asked for it.
        by: Asker,
        /// The command's parameter: a snapshot's name, the ids of forks, a number of bytes; none
        /// without one.
        about: Option<String>,
    },
    /// An intended command was given up: nothing changed, or the changes have facts of their own.
    Abandoned {
        /// The command.
        command: Command,
        /// Reason, in words.
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
    /// A setting of the instance was changed, which changes no phase.
    Amended {
        /// The setting, by its name in JSON.
        field: String,
        /// The new value, as JSON.
        value: String,
    },
    /// Somebody went into the guest: ran a command, or looked at, read or wrote its files.
    Visited {
        /// The actor.
        by: Actor,
        /// The purpose: `exec`, `copy-in`, `copy-out`, `stat`.
        what: String,
        /// The command, or the path; its beginning, if it is long. Never variables, which hold
        /// secrets.
        about: String,
    },
    /// The instance's record was closed and its time ends here. Usage stays readable.
    Deleted,
}

/// The phase that an instance entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entered {
    /// The phase.
    pub phase: Phase,
    /// The resources that the instance holds from here on.
    pub shape: Shape,
    /// Number of the session, the start that this belongs to, from 1.
    pub session: u32,
    /// Cause of the stop; none for phases other than `stopped`.
    pub cause: Option<ExitCause>,
    /// The guest's traffic since the instance was created, as it was read at this change. The
    /// traffic of an interval is the difference to the fact that ends it.
    pub traffic: Traffic,
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

    /// The instance's traffic so far; none at the end, where it was told before.
    pub fn traffic(self) -> Option<Traffic> {
        match self {
            Counted::Enters(entered) => Some(entered.traffic),
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
            | TenantFact::TariffPublished { .. }
            | TenantFact::TariffDefault { .. }
            | TenantFact::TariffJoined { .. }
            | TenantFact::OneOff { .. }
            | TenantFact::Proposed { .. }
            | TenantFact::ProposalEnded { .. }
            | TenantFact::Invoiced { .. } => return None,
        };
        (plan == of).then_some(change)
    }
}

impl TenantFact {
    /// Returns whether it is an act that decides, or asks, what the tenant is charged.
    pub fn is_of_money(&self) -> bool {
        match self {
            TenantFact::PolicyActivated { .. }
            | TenantFact::PricesActivated { .. }
            | TenantFact::PlanWithdrawn { .. }
            | TenantFact::AgreementChanged { .. }
            | TenantFact::Overridden { .. }
            | TenantFact::TariffPublished { .. }
            | TenantFact::TariffDefault { .. }
            | TenantFact::TariffJoined { .. }
            | TenantFact::OneOff { .. }
            | TenantFact::Proposed { .. }
            | TenantFact::ProposalEnded { .. }
            | TenantFact::Invoiced { .. } => true,
            TenantFact::PolicyAdmitted { .. }
            | TenantFact::PolicyMoved(_)
            | TenantFact::PolicyFaulted { .. }
            | TenantFact::Created { .. }
            | TenantFact::Changed { .. }
            | TenantFact::TokenCreated { .. }
            | TenantFact::TokenRevoked { .. } => false,
        }
    }
}

impl TenantFact {
    /// Returns whether it may be refused while the disk is full: it asks for something new. An end,
    /// a revocation, a limit and a fault are written all the same.
    pub fn can_wait(&self) -> bool {
        match self {
            TenantFact::PolicyAdmitted { .. }
            | TenantFact::PolicyActivated { .. }
            | TenantFact::Created { .. }
            | TenantFact::TokenCreated { .. }
            | TenantFact::PricesActivated { .. }
            | TenantFact::AgreementChanged { .. }
            | TenantFact::Overridden { .. }
            | TenantFact::TariffPublished { .. }
            | TenantFact::TariffDefault { .. }
            | TenantFact::TariffJoined { .. }
            | TenantFact::OneOff { .. }
            | TenantFact::Proposed { .. }
            | TenantFact::Invoiced { .. } => true,
            TenantFact::PolicyMoved(_)
            | TenantFact::PolicyFaulted { .. }
            | TenantFact::Changed { .. }
            | TenantFact::TokenRevoked { .. }
            | TenantFact::ProposalEnded { .. }
            | TenantFact::PlanWithdrawn { .. } => false,
        }
    }
}

impl InstanceFact {
    /// Returns whether it may be refused while the disk is full: it is an intent that does not end
    /// or free anything, or a wish. What has happened is written all the same.
    pub fn can_wait(&self) -> bool {
        match self {
            InstanceFact::Intended { command, .. } => match command {
                Command::Start
                | Command::Standby
                | Command::Snapshot
                | Command::Revert
                | Command::Fork
                | Command::Resize => true,
                Command::Stop
                | Command::Pause
                | Command::Resume
                | Command::Restore
                | Command::Delete
                | Command::Discard => false,
            },
            InstanceFact::Amended { .. } | InstanceFact::Visited { .. } => true,
            InstanceFact::Abandoned { .. }
            | InstanceFact::Entered(_)
            | InstanceFact::Forked { .. }
            | InstanceFact::Deleted => false,
        }
    }

    /// The meaning for the instance's time; none for a fact that counts no time.
    pub fn counts(&self) -> Option<Counted> {
        match self {
            InstanceFact::Entered(entered) => Some(Counted::Enters(*entered)),
            InstanceFact::Deleted => Some(Counted::Ends),
            InstanceFact::Intended { .. }
            | InstanceFact::Abandoned { .. }
            | InstanceFact::Forked { .. }
            | InstanceFact::Amended { .. }
            | InstanceFact::Visited { .. } => None,
        }
    }
}

impl Fact {
    /// See [`InstanceFact::counts`]; none for a fact that is not about an instance.
    pub fn counts(&self) -> Option<Counted> {
        self.of_instance()?.counts()
    }
}
