//! What the journal says: something happened to an instance, or to the host, at an instant.

use std::sync::Arc;

use crate::id::{Digest, InstanceId, SnapshotName, TenantId, TokenId};
use crate::tenant::{Actor, Move, Role, Settings};
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

/// An entry of the journal, before it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// When it happened: for a phase, when the vCPUs changed, not when the bookkeeping was done.
    pub at: Reading,
    /// Whom it concerns.
    pub tenant: TenantId,
    /// The instance; none for facts about the tenant or the host.
    pub instance: Option<InstanceId>,
    /// What happened.
    pub body: FactBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactBody {
    /// The daemon began to serve.
    HostStarted {
        /// Version of the program.
        version: String,
    },
    /// Somebody stepped the wall clock. Durations do not change; the calendar is read with the new offset from here on.
    ClockStepped {
        /// By how much, in nanoseconds, forward if positive.
        step_ns: i64,
    },
    /// A component was admitted and may be activated.
    PolicyAdmitted {
        /// The component.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// Who brought it; none before this was recorded.
        by: Option<Actor>,
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
    },
    /// A policy stands elsewhere with the tenant, other than by admission or activation.
    PolicyMoved(Move),
    /// A policy gave no answer that could be believed. The interval is accounted by the standard policy.
    PolicyFaulted {
        /// The component.
        digest: Digest,
        /// What it did, in words.
        reason: String,
    },
    /// The tenant exists from here on.
    TenantCreated {
        /// Who made it.
        by: Actor,
    },
    /// The tenant has these settings from here on.
    TenantChanged {
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
    /// A command was accepted and is about to be carried out.
    Intended {
        /// The command.
        command: Command,
        /// Who asked for it.
        by: Asker,
        /// What it is about beside the instance: a snapshot's name, the ids of forks, a number of bytes.
        about: Option<String>,
    },
    /// An intended command was given up: nothing changed, or what changed is told by facts of its own.
    Abandoned {
        /// The command.
        command: Command,
        /// Why, in words.
        reason: String,
    },
    /// The instance entered a phase, or the same one with another shape.
    Entered {
        /// The phase.
        phase: Phase,
        /// What the instance holds from here on.
        shape: Shape,
        /// Number of the start that this belongs to, from 1.
        session: u32,
        /// Why it stopped, where it did.
        cause: Option<ExitCause>,
    },
    /// A new instance was made of another one. Both have this fact, each in its own history; the new one's time begins with the fact after.
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

impl FactBody {
    /// The phase that a fact opens, `None` inside for the end; none for a fact that counts no time.
    pub fn counted(&self) -> Option<Option<Phase>> {
        match self {
            FactBody::Entered { phase, .. } => Some(Some(*phase)),
            FactBody::Deleted => Some(None),
            FactBody::HostStarted { .. }
            | FactBody::ClockStepped { .. }
            | FactBody::PolicyAdmitted { .. }
            | FactBody::PolicyActivated { .. }
            | FactBody::PolicyFaulted { .. }
            | FactBody::PolicyMoved(_)
            | FactBody::TenantCreated { .. }
            | FactBody::TenantChanged { .. }
            | FactBody::TokenCreated { .. }
            | FactBody::TokenRevoked { .. }
            | FactBody::PricesActivated { .. }
            | FactBody::Invoiced { .. }
            | FactBody::Intended { .. }
            | FactBody::Abandoned { .. }
            | FactBody::Forked { .. }
            | FactBody::Amended { .. } => None,
        }
    }
}
