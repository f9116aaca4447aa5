//! Facts as JSON: the body that the hash chain covers, and what the API and the command line show.
//!
//! One form serves both, so what an auditor reads is what was hashed. The order of the fields is
//! the order of declaration here, numbers are integers, absent values are `null`: the bytes are
//! canonical. A field that came to a kind later is left out where it is absent, so that the facts
//! from before keep their bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::billing::agreement::{self, Agreement};
use crate::billing::{About, BootId, Entered, Fact, HostFact, InstanceFact, Reading, TenantFact};
use crate::id::{IdError, InstanceId, words};
use crate::tenant::{self, FallbackOrder, Limit, Move, Quota, Settings};
use crate::units::Instant;
use crate::vm;

/// A sealed fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FactRecord {
    /// Position in the journal, from 1, without gaps.
    pub seq: u64,
    /// Boot of the host in which the fact happened.
    pub boot: String,
    /// `CLOCK_BOOTTIME` then, in nanoseconds.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME` then, in nanoseconds since 1970; for the calendar only.
    pub wall_ns: i64,
    /// The meter clock then, in nanoseconds since 1970; all durations are differences of this one.
    pub meter_ns: i64,
    /// The meter clock when the fact was written to disk.
    pub recorded_ns: i64,
    /// Whom it concerns.
    pub tenant: String,
    /// The instance; null for facts about the tenant or the host.
    pub instance: Option<String>,
    /// Position of the fact before this one of the same instance; null for its first, and without
    /// an instance.
    pub previous: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// A sealed fact and its link in the hash chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainedFact {
    /// The fact.
    #[serde(flatten)]
    pub fact: FactRecord,
    /// SHA-256 of the hash before (32 bytes) and the fact's JSON, as 64 hexadecimal digits.
    pub hash: String,
}

/// What happened: `kind` and the fields of that kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// The daemon began to serve.
    HostStarted {
        /// Version of the program.
        version: String,
    },
    /// Somebody stepped the wall clock.
    ClockStepped {
        /// By how much in nanoseconds, forward if positive.
        step_ns: i64,
    },
    /// Nothing proves how much time lies between an earlier boot of the host and this one.
    TimeUnknown {
        /// Why the wall clock was not believed: `not-synchronised`, `never-synchronised` or
        /// `went-back`.
        reason: String,
        /// Time that has passed by the wall clock, in nanoseconds; negative where it was set back.
        claimed_ns: i64,
        /// Time that the meter has counted instead, in nanoseconds.
        counted_ns: u64,
    },
    /// The host was suspended, and with it everything that runs.
    HostSuspended {
        /// For how long in nanoseconds, until a moment before the fact.
        duration_ns: u64,
    },
    /// A component was admitted.
    PolicyAdmitted {
        /// The component's SHA-256.
        digest: String,
        /// Its size in bytes.
        size_bytes: u64,
        /// Who brought it: `host`, `operator`, `token:<id>` or `jwt:<subject>`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Its name among the tenant's policies.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// From `from_ns` on, the tenant is under `digest`.
    PolicyActivated {
        /// The component's SHA-256.
        digest: String,
        /// Effective instant on the meter clock.
        from_ns: i64,
        /// It undoes the activation before it.
        rollback: bool,
        /// Who asked for it, as in `policy-admitted`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why, in words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The policy's options, by name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<String, String>,
    },
    /// A policy gave no answer that could be believed.
    PolicyFaulted {
        /// The component's SHA-256.
        digest: String,
        /// What it did, in words.
        reason: String,
    },
    /// A policy stands elsewhere with the tenant.
    PolicyMoved {
        /// The component's SHA-256.
        digest: String,
        /// Where it stands from here on.
        to: Standing,
        /// Who moved it, as in `policy-admitted`.
        by: String,
        /// Why, in words.
        reason: String,
        /// With `quarantined`: the policy that accounts what this one owes; null while it is held.
        stand_in: Option<String>,
    },
    /// The tenant exists from here on.
    TenantCreated {
        /// Who made it, as in `policy-admitted`.
        by: String,
    },
    /// The tenant has these settings from here on.
    TenantChanged {
        /// The limits that an operator has set, by name; the program's defaults hold for the
        /// others.
        limits: BTreeMap<String, u64>,
        /// What is tried when its policy is quarantined, in this order.
        fallback: Vec<FallbackStep>,
        /// Who changed them, as in `policy-admitted`.
        by: String,
        /// Whether its own admins may do what charges it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        billing_delegated: bool,
    },
    /// A token was made; its secret is written nowhere.
    TokenCreated {
        /// The token's id.
        token: String,
        /// What a person calls it.
        name: String,
        /// What it is good for.
        role: Role,
        /// First instant on the meter clock at which it is no good any more.
        expires_ns: i64,
        /// Who made it, as in `policy-admitted`.
        by: String,
    },
    /// A token is no good any more.
    TokenRevoked {
        /// The token's id.
        token: String,
        /// Who revoked it, as in `policy-admitted`.
        by: String,
    },
    /// From `from_ns` on, the tenant is charged by the price book `digest`.
    PricesActivated {
        /// The book's SHA-256.
        digest: String,
        /// Effective instant on the meter clock.
        from_ns: i64,
        /// Who asked for it, as in `policy-admitted`.
        by: String,
    },
    /// From `from_ns` on, the tenant's time is cut into periods by this agreement.
    AgreementChanged {
        /// IANA name of the zone whose days are meant.
        zone: String,
        /// The kind of a period.
        cycle: Cycle,
        /// Day of the month on which a month begins.
        anchor_day: u8,
        /// A border on the meter clock.
        from_ns: i64,
        /// Who asked for it, as in `policy-admitted`.
        by: String,
    },
    /// Another policy or price book is named for a span.
    Overridden {
        /// First instant of the span on the meter clock.
        from_ns: i64,
        /// First instant after it.
        until_ns: i64,
        /// The component's SHA-256; null if none is named.
        policy: Option<String>,
        /// The price book's SHA-256; null if none is named.
        book: Option<String>,
        /// Whether the book also holds for time without one.
        from_begin: bool,
        /// The reason, in words.
        reason: String,
        /// Who asked for it, as in `policy-admitted`.
        by: String,
    },
    /// A change that was planned for `from_ns` does not come about.
    PlanWithdrawn {
        /// Policy or prices.
        plan: Plan,
        /// The SHA-256 of the component or of the price book.
        digest: String,
        /// The instant on the meter clock for which it was planned.
        from_ns: i64,
        /// Who withdrew it, as in `policy-admitted`.
        by: String,
        /// Why, in words.
        reason: Option<String>,
    },
    /// A period of the tenant was charged, or charged anew.
    Invoiced {
        /// Number among the tenant's documents, from 1.
        number: u64,
        /// The document's SHA-256.
        digest: String,
        /// First instant of the period on the meter clock.
        from_ns: i64,
        /// First instant after it.
        until_ns: i64,
        /// Number of the document that this one corrects.
        corrects: Option<u64>,
        /// Who made it final, as in `policy-admitted`.
        by: String,
    },
    /// A command is about to be carried out.
    Intended {
        /// The command.
        command: Command,
        /// Who asked for it.
        by: Asker,
        /// What it is about beside the instance: a snapshot's name, the ids of forks, a number of
        /// bytes.
        about: Option<String>,
    },
    /// An intended command was given up.
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
        /// Virtual processors from here on.
        vcpus: u32,
        /// Guest memory in bytes.
        memory_bytes: u64,
        /// Writable disks in bytes.
        disk_bytes: u64,
        /// Bytes on disk for the memory of a standby and for the snapshots that are kept.
        snapshot_bytes: u64,
        /// Number of the start that this belongs to, from 1.
        session: u32,
        /// Why it stopped, where it did.
        cause: Option<ExitCause>,
    },
    /// A new instance was made of another one; both have this fact.
    Forked {
        /// The instance that was copied.
        parent: String,
        /// The new one.
        child: String,
        /// The snapshot that was copied; null for the parent as it was.
        snapshot: Option<String>,
    },
    /// Something that is on record of the instance was changed, which changes no phase.
    Amended {
        /// What, by its name in JSON.
        field: String,
        /// What it is from here on, as JSON.
        value: String,
    },
    /// The record was closed; its time ends here.
    Deleted,
}

/// Gives a closed set of the core its JSON names. The compiler checks that no member is missing on
/// either side.
macro_rules! mirror {
    ($(#[$doc:meta])* $home:ident::$name:ident { $($member:ident),+ $(,)? }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "kebab-case")]
        #[allow(missing_docs, reason = "each member is documented where it comes from")]
        $(#[$doc])*
        pub enum $name { $($member),+ }

        impl From<$home::$name> for $name {
            fn from(core: $home::$name) -> Self {
                match core { $($home::$name::$member => Self::$member),+ }
            }
        }

        impl From<$name> for $home::$name {
            fn from(wire: $name) -> Self {
                match wire { $($name::$member => Self::$member),+ }
            }
        }
    };
}

mirror!(
    /// What an instance is doing.
    vm::Phase { Created, Initializing, Running, Paused, Shutdown, Standby, Stopped, Unknown }
);
mirror!(
    /// What was asked of an instance.
    vm::Command {
        Start,
        Stop,
        Pause,
        Resume,
        Standby,
        Restore,
        Delete,
        Snapshot,
        Discard,
        Revert,
        Fork,
        Resize,
    }
);
mirror!(
    /// Who asked for a command.
    vm::Asker { Client, RestartPolicy, Expiry, Schedule, HealthCheck, AutoStandby }
);
mirror!(
    /// Why an instance stopped.
    vm::ExitCause { Requested, Forced, Guest, Crashed, HostLost, LaunchFailed, Discarded, Unhealthy }
);

mirror!(
    /// The kind of a period.
    agreement::Cycle { Month, Day }
);
mirror!(
    /// What the holder of a token may do.
    tenant::Role { Operator, Billing, TenantAdmin, TenantReader, PolicyAuthor }
);
mirror!(
    /// Where a policy stands with a tenant.
    tenant::Standing { Uploaded, Refused, Admitted, Shadow, Active, Draining, Retired, Quarantined }
);
mirror!(
    /// The rules of a tenant that can be changed for an instant to come.
    tenant::Plan { Policy, Prices }
);
mirror!(
    /// What is done when the policy in force is quarantined.
    #[schema(as = Rung)]
    tenant::FallbackStep { Hold, LastGood, Standard }
);

/// Makes [`Kind`] of the one list of kinds, and finds the kind of a fact.
macro_rules! kinds {
    ($($member:ident = $text:literal,)+) => {
        words!(
            /// The kinds of facts, to ask for one of them.
            #[derive(Serialize, Deserialize, ToSchema)]
            #[serde(rename_all = "kebab-case")]
            Kind, "a kind of fact" {
                $(#[doc = concat!("See [`What::", stringify!($member), "`].")] $member = $text,)+
            }
        );

        impl What {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(What::$member { .. } => Kind::$member,)+ }
            }
        }
    };
}

kinds!(
    HostStarted = "host-started",
    ClockStepped = "clock-stepped",
    TimeUnknown = "time-unknown",
    HostSuspended = "host-suspended",
    PolicyAdmitted = "policy-admitted",
    PolicyActivated = "policy-activated",
    PolicyFaulted = "policy-faulted",
    PolicyMoved = "policy-moved",
    TenantCreated = "tenant-created",
    TenantChanged = "tenant-changed",
    TokenCreated = "token-created",
    TokenRevoked = "token-revoked",
    PricesActivated = "prices-activated",
    AgreementChanged = "agreement-changed",
    Overridden = "overridden",
    PlanWithdrawn = "plan-withdrawn",
    Invoiced = "invoiced",
    Intended = "intended",
    Abandoned = "abandoned",
    Entered = "entered",
    Forked = "forked",
    Amended = "amended",
    Deleted = "deleted",
);

impl FactRecord {
    /// The record of an event that has no place yet: `seq`, `previous`, `recorded_ns` and the
    /// instance are for the writer to fill in, and the tenant where the instance tells it.
    pub(super) fn unsealed(at: &Reading, what: What) -> Self {
        Self {
            seq: 0,
            boot: at.boot.0.as_ref().into(),
            boottime_ns: at.boottime_ns,
            wall_ns: at.wall_ns,
            meter_ns: at.meter.0,
            recorded_ns: 0,
            tenant: String::new(),
            instance: None,
            previous: None,
            what,
        }
    }

    /// The instant on the meter clock.
    pub fn meter(&self) -> Instant {
        Instant(self.meter_ns)
    }
}

/// An event of one of the three families, without its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Family {
    Host(HostFact),
    Tenant(TenantFact),
    Instance(InstanceFact),
}

impl From<&Family> for What {
    fn from(family: &Family) -> Self {
        match family {
            Family::Host(fact) => fact.into(),
            Family::Tenant(fact) => fact.into(),
            Family::Instance(fact) => fact.into(),
        }
    }
}

impl From<&HostFact> for What {
    fn from(fact: &HostFact) -> Self {
        match fact {
            HostFact::Started { version } => What::HostStarted { version: version.clone() },
            HostFact::ClockStepped { step_ns } => What::ClockStepped { step_ns: *step_ns },
            HostFact::TimeUnknown { reason, claimed_ns, counted_ns } => What::TimeUnknown {
                reason: reason.as_str().into(),
                claimed_ns: *claimed_ns,
                counted_ns: *counted_ns,
            },
            HostFact::Suspended { duration_ns } => {
                What::HostSuspended { duration_ns: *duration_ns }
            }
        }
    }
}

impl From<&TenantFact> for What {
    fn from(fact: &TenantFact) -> Self {
        match fact {
            TenantFact::PolicyAdmitted { digest, size_bytes, by, name } => What::PolicyAdmitted {
                digest: digest.to_string(),
                size_bytes: *size_bytes,
                by: by.as_ref().map(ToString::to_string),
                name: name.as_ref().map(ToString::to_string),
            },
            TenantFact::PolicyActivated { digest, from, rollback, by, reason, options } => {
                What::PolicyActivated {
                    digest: digest.to_string(),
                    from_ns: from.0,
                    rollback: *rollback,
                    by: by.as_ref().map(ToString::to_string),
                    reason: reason.clone(),
                    options: options.iter().cloned().collect(),
                }
            }
            TenantFact::PolicyFaulted { digest, reason } => {
                What::PolicyFaulted { digest: digest.to_string(), reason: reason.clone() }
            }
            TenantFact::PolicyMoved(Move { digest, to, by, reason, stand_in }) => {
                What::PolicyMoved {
                    digest: digest.to_string(),
                    to: (*to).into(),
                    by: by.to_string(),
                    reason: reason.clone(),
                    stand_in: stand_in.as_ref().map(ToString::to_string),
                }
            }
            TenantFact::Created { by } => What::TenantCreated { by: by.to_string() },
            TenantFact::Changed {
                settings: Settings { quota, fallback, billing_delegated },
                by,
            } => What::TenantChanged {
                limits: limits(quota),
                fallback: fallback.steps().iter().map(|&step| step.into()).collect(),
                by: by.to_string(),
                billing_delegated: *billing_delegated,
            },
            TenantFact::TokenCreated { token, name, role, expires, by } => What::TokenCreated {
                token: token.to_string(),
                name: name.clone(),
                role: (*role).into(),
                expires_ns: expires.0,
                by: by.to_string(),
            },
            TenantFact::TokenRevoked { token, by } => {
                What::TokenRevoked { token: token.to_string(), by: by.to_string() }
            }
            TenantFact::PricesActivated { digest, from, by } => What::PricesActivated {
                digest: digest.to_string(),
                from_ns: from.0,
                by: by.to_string(),
            },
            TenantFact::AgreementChanged { agreement, from, by } => What::AgreementChanged {
                zone: agreement.zone.clone(),
                cycle: agreement.cycle.into(),
                anchor_day: agreement.anchor_day,
                from_ns: from.0,
                by: by.to_string(),
            },
            TenantFact::Overridden { from, until, policy, book, from_begin, reason, by } => {
                What::Overridden {
                    from_ns: from.0,
                    until_ns: until.0,
                    policy: policy.map(|digest| digest.to_string()),
                    book: book.map(|digest| digest.to_string()),
                    from_begin: *from_begin,
                    reason: reason.clone(),
                    by: by.to_string(),
                }
            }
            TenantFact::PlanWithdrawn { plan, digest, from, by, reason } => What::PlanWithdrawn {
                plan: (*plan).into(),
                digest: digest.to_string(),
                from_ns: from.0,
                by: by.to_string(),
                reason: reason.clone(),
            },
            TenantFact::Invoiced { number, digest, from, until, corrects, by } => What::Invoiced {
                number: *number,
                digest: digest.to_string(),
                from_ns: from.0,
                until_ns: until.0,
                corrects: *corrects,
                by: by.to_string(),
            },
        }
    }
}

impl From<&InstanceFact> for What {
    fn from(fact: &InstanceFact) -> Self {
        match fact {
            InstanceFact::Intended { command, by, about } => What::Intended {
                command: (*command).into(),
                by: (*by).into(),
                about: about.clone(),
            },
            InstanceFact::Abandoned { command, reason } => {
                What::Abandoned { command: (*command).into(), reason: reason.clone() }
            }
            InstanceFact::Entered(Entered { phase, shape, session, cause }) => What::Entered {
                phase: (*phase).into(),
                vcpus: shape.vcpus,
                memory_bytes: shape.memory_bytes,
                disk_bytes: shape.disk_bytes,
                snapshot_bytes: shape.snapshot_bytes,
                session: *session,
                cause: cause.map(ExitCause::from),
            },
            InstanceFact::Forked { parent, child, snapshot } => What::Forked {
                parent: parent.to_string(),
                child: child.to_string(),
                snapshot: snapshot.as_ref().map(ToString::to_string),
            },
            InstanceFact::Amended { field, value } => {
                What::Amended { field: field.clone(), value: value.clone() }
            }
            InstanceFact::Deleted => What::Deleted,
        }
    }
}

impl TryFrom<&What> for Family {
    type Error = IdError;
    fn try_from(what: &What) -> Result<Self, IdError> {
        let host = |fact| Ok(Family::Host(fact));
        let tenant = |fact| Ok(Family::Tenant(fact));
        let instance = |fact| Ok(Family::Instance(fact));
        match what {
            What::HostStarted { version } => host(HostFact::Started { version: version.clone() }),
            What::ClockStepped { step_ns } => host(HostFact::ClockStepped { step_ns: *step_ns }),
            What::TimeUnknown { reason, claimed_ns, counted_ns } => host(HostFact::TimeUnknown {
                reason: reason.parse()?,
                claimed_ns: *claimed_ns,
                counted_ns: *counted_ns,
            }),
            What::HostSuspended { duration_ns } => {
                host(HostFact::Suspended { duration_ns: *duration_ns })
            }
            What::PolicyAdmitted { digest, size_bytes, by, name } => {
                tenant(TenantFact::PolicyAdmitted {
                    digest: digest.parse()?,
                    size_bytes: *size_bytes,
                    by: by.as_deref().map(str::parse).transpose()?,
                    name: name.as_deref().map(str::parse).transpose()?,
                })
            }
            What::PolicyActivated { digest, from_ns, rollback, by, reason, options } => {
                tenant(TenantFact::PolicyActivated {
                    digest: digest.parse()?,
                    from: Instant(*from_ns),
                    rollback: *rollback,
                    by: by.as_deref().map(str::parse).transpose()?,
                    reason: reason.clone(),
                    options: options.clone().into_iter().collect(),
                })
            }
            What::PolicyFaulted { digest, reason } => tenant(TenantFact::PolicyFaulted {
                digest: digest.parse()?,
                reason: reason.clone(),
            }),
            What::PolicyMoved { digest, to, by, reason, stand_in } => {
                tenant(TenantFact::PolicyMoved(Move {
                    digest: digest.parse()?,
                    to: (*to).into(),
                    by: by.parse()?,
                    reason: reason.clone(),
                    stand_in: stand_in.as_deref().map(str::parse).transpose()?,
                }))
            }
            What::TenantCreated { by } => tenant(TenantFact::Created { by: by.parse()? }),
            What::TenantChanged { limits, fallback, by, billing_delegated } => {
                let settings = settings(limits, fallback, *billing_delegated)?;
                tenant(TenantFact::Changed { settings, by: by.parse()? })
            }
            What::TokenCreated { token, name, role, expires_ns, by } => {
                tenant(TenantFact::TokenCreated {
                    token: token.parse()?,
                    name: name.clone(),
                    role: (*role).into(),
                    expires: Instant(*expires_ns),
                    by: by.parse()?,
                })
            }
            What::TokenRevoked { token, by } => {
                tenant(TenantFact::TokenRevoked { token: token.parse()?, by: by.parse()? })
            }
            What::PricesActivated { digest, from_ns, by } => tenant(TenantFact::PricesActivated {
                digest: digest.parse()?,
                from: Instant(*from_ns),
                by: by.parse()?,
            }),
            What::AgreementChanged { zone, cycle, anchor_day, from_ns, by } => {
                let agreement = Agreement {
                    zone: zone.clone(),
                    cycle: (*cycle).into(),
                    anchor_day: *anchor_day,
                };
                tenant(TenantFact::AgreementChanged {
                    agreement,
                    from: Instant(*from_ns),
                    by: by.parse()?,
                })
            }
            What::Overridden { from_ns, until_ns, policy, book, from_begin, reason, by } => {
                tenant(TenantFact::Overridden {
                    from: Instant(*from_ns),
                    until: Instant(*until_ns),
                    policy: policy.as_deref().map(str::parse).transpose()?,
                    book: book.as_deref().map(str::parse).transpose()?,
                    from_begin: *from_begin,
                    reason: reason.clone(),
                    by: by.parse()?,
                })
            }
            What::PlanWithdrawn { plan, digest, from_ns, by, reason } => {
                tenant(TenantFact::PlanWithdrawn {
                    plan: (*plan).into(),
                    digest: digest.parse()?,
                    from: Instant(*from_ns),
                    by: by.parse()?,
                    reason: reason.clone(),
                })
            }
            What::Invoiced { number, digest, from_ns, until_ns, corrects, by } => {
                tenant(TenantFact::Invoiced {
                    number: *number,
                    digest: digest.parse()?,
                    from: Instant(*from_ns),
                    until: Instant(*until_ns),
                    corrects: *corrects,
                    by: by.parse()?,
                })
            }
            What::Intended { command, by, about } => instance(InstanceFact::Intended {
                command: (*command).into(),
                by: (*by).into(),
                about: about.clone(),
            }),
            What::Abandoned { command, reason } => instance(InstanceFact::Abandoned {
                command: (*command).into(),
                reason: reason.clone(),
            }),
            What::Entered {
                phase,
                vcpus,
                memory_bytes,
                disk_bytes,
                snapshot_bytes,
                session,
                cause,
            } => instance(InstanceFact::Entered(Entered {
                phase: (*phase).into(),
                shape: vm::Shape {
                    vcpus: *vcpus,
                    memory_bytes: *memory_bytes,
                    disk_bytes: *disk_bytes,
                    snapshot_bytes: *snapshot_bytes,
                },
                session: *session,
                cause: cause.map(vm::ExitCause::from),
            })),
            What::Forked { parent, child, snapshot } => instance(InstanceFact::Forked {
                parent: parent.parse()?,
                child: child.parse()?,
                snapshot: snapshot.as_deref().map(str::parse).transpose()?,
            }),
            What::Amended { field, value } => {
                instance(InstanceFact::Amended { field: field.clone(), value: value.clone() })
            }
            What::Deleted => instance(InstanceFact::Deleted),
        }
    }
}

/// The limits that were set, by name.
pub fn limits(quota: &Quota) -> BTreeMap<String, u64> {
    Limit::ALL
        .into_iter()
        .filter_map(|limit| Some((limit.to_string(), quota.own(limit)?)))
        .collect()
}

/// The settings that a fact tells.
fn settings(
    limits: &BTreeMap<String, u64>,
    fallback: &[FallbackStep],
    billing_delegated: bool,
) -> Result<Settings, IdError> {
    let mut quota = Quota::default();
    for (name, value) in limits {
        quota.set(name.parse()?, Some(*value));
    }
    let order = FallbackOrder::new(fallback.iter().map(|&step| step.into()).collect());
    let fallback = order.map_err(|error| IdError::Word {
        what: "a fallback order",
        text: error.to_string(),
        known: tenant::FallbackStep::ALL.map(tenant::FallbackStep::as_str).join(", "),
    })?;
    Ok(Settings { quota, fallback, billing_delegated })
}

/// A record whose text is a fact's, and that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFact {
    /// A name in it is malformed.
    #[error(transparent)]
    Name(#[from] IdError),
    /// A fact of an instance that names none.
    #[error("a fact of kind {0} is about an instance, and this one names none")]
    NoInstance(Kind),
    /// A fact of the host or of a tenant that names an instance.
    #[error("a fact of kind {0} is about no instance, and this one names one")]
    Instance(Kind),
}

/// The fact itself, without its place in the journal.
///
/// # Errors
/// See [`NoFact`].
impl TryFrom<&FactRecord> for Fact {
    type Error = NoFact;
    fn try_from(record: &FactRecord) -> Result<Self, NoFact> {
        let instance = record.instance.as_deref().map(str::parse::<InstanceId>).transpose()?;
        let about = match (Family::try_from(&record.what)?, instance) {
            (Family::Host(fact), None) => About::Host(fact),
            (Family::Tenant(fact), None) => About::Tenant(fact),
            (Family::Instance(fact), Some(id)) => About::Instance(id, fact),
            (Family::Instance(_), None) => return Err(NoFact::NoInstance(record.what.kind())),
            (Family::Host(_) | Family::Tenant(_), Some(_)) => {
                return Err(NoFact::Instance(record.what.kind()));
            }
        };
        Ok(Fact {
            at: Reading {
                boot: BootId(record.boot.as_str().into()),
                boottime_ns: record.boottime_ns,
                wall_ns: record.wall_ns,
                meter: record.meter(),
            },
            tenant: record.tenant.parse()?,
            about,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// One fact of each kind, as it has been hashed since the first version.
    const TEXTS: [&str; 23] = [
        r#""kind":"host-started","version":"0.1.0"}"#,
        r#""kind":"clock-stepped","step_ns":-9223372036854775808}"#,
        r#""kind":"time-unknown","reason":"never-synchronised","claimed_ns":-5,"counted_ns":7}"#,
        r#""kind":"host-suspended","duration_ns":7}"#,
        r#""kind":"policy-admitted","digest":"0a00000000000000000000000000000000000000000000000000000000000000","size_bytes":7}"#,
        r#""kind":"policy-activated","digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":5,"rollback":true}"#,
        r#""kind":"policy-faulted","digest":"0a00000000000000000000000000000000000000000000000000000000000000","reason":"\"loops\""}"#,
        r#""kind":"policy-moved","digest":"0a00000000000000000000000000000000000000000000000000000000000000","to":"quarantined","by":"host","reason":"loops","stand_in":null}"#,
        r#""kind":"tenant-created","by":"operator"}"#,
        r#""kind":"tenant-changed","limits":{"memory_bytes":1073741824,"vcpus":4},"fallback":["last-good","hold"],"by":"token:0a0000000000000000000000"}"#,
        r#""kind":"token-created","token":"0a0000000000000000000000","name":"ci","role":"policy-author","expires_ns":-1,"by":"jwt:someone"}"#,
        r#""kind":"token-revoked","token":"0a0000000000000000000000","by":"operator"}"#,
        r#""kind":"prices-activated","digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":5,"by":"operator"}"#,
        r#""kind":"agreement-changed","zone":"Europe/Berlin","cycle":"month","anchor_day":31,"from_ns":5,"by":"operator"}"#,
        r#""kind":"overridden","from_ns":-5,"until_ns":7,"policy":null,"book":"0a00000000000000000000000000000000000000000000000000000000000000","from_begin":false,"reason":"agreed","by":"token:0a0000000000000000000000"}"#,
        r#""kind":"plan-withdrawn","plan":"prices","digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":5,"by":"operator","reason":null}"#,
        r#""kind":"invoiced","number":3,"digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":-5,"until_ns":7,"corrects":2,"by":"operator"}"#,
        r#""kind":"intended","command":"snapshot","by":"schedule","about":"daily-1"}"#,
        r#""kind":"abandoned","command":"start","reason":"no image"}"#,
        r#""kind":"entered","phase":"stopped","vcpus":2,"memory_bytes":18446744073709551615,"disk_bytes":0,"snapshot_bytes":1,"session":3,"cause":"host-lost"}"#,
        r#""kind":"forked","parent":"p","child":"c","snapshot":null}"#,
        r#""kind":"amended","field":"tags","value":"{\"a\":\"b\"}"}"#,
        r#""kind":"deleted"}"#,
    ];

    /// What two kinds have told since a later one.
    const LATER: [&str; 3] = [
        r#""kind":"policy-admitted","digest":"0a00000000000000000000000000000000000000000000000000000000000000","size_bytes":7,"by":"operator"}"#,
        r#""kind":"policy-activated","digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":5,"rollback":false,"by":"host","reason":"why"}"#,
        r#""kind":"policy-activated","digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":5,"rollback":false,"by":"host","options":{"minimum":"60s"}}"#,
    ];

    const HEAD: &str = r#"{"seq":9,"boot":"b","boottime_ns":18446744073709551615,"wall_ns":-1,"meter_ns":2,"recorded_ns":3,"tenant":"default","instance":"#;

    /// The first kind that is about an instance, by its place in [`Kind::ALL`]: the others name
    /// none.
    const OF_INSTANCES: Kind = Kind::Intended;

    #[test]
    fn the_text_of_a_fact_never_changes() {
        let later = [Kind::PolicyAdmitted, Kind::PolicyActivated, Kind::PolicyActivated];
        for (text, kind) in TEXTS.into_iter().zip(Kind::ALL).chain(LATER.into_iter().zip(later)) {
            let whose =
                if kind < OF_INSTANCES { r#"null,"previous":null"# } else { r#""i","previous":8"# };
            let text = format!("{HEAD}{whose},{text}");
            let record: FactRecord = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), text);
            assert_eq!(record.what.kind(), kind);
            let fact = Fact::try_from(&record).unwrap();
            let what = match &fact.about {
                About::Host(fact) => fact.into(),
                About::Tenant(fact) => fact.into(),
                About::Instance(_, fact) => What::from(fact),
            };
            let (tenant, instance) =
                (fact.tenant.to_string(), fact.instance().map(ToString::to_string));
            let place = FactRecord {
                seq: 9,
                recorded_ns: 3,
                previous: record.previous,
                ..FactRecord::unsealed(&fact.at, what)
            };
            assert_eq!(FactRecord { tenant, instance, ..place }, record);
        }
    }

    #[test]
    fn a_fact_names_an_instance_exactly_if_it_is_about_one() {
        for (text, kind) in TEXTS.into_iter().zip(Kind::ALL) {
            let of_instance = kind >= OF_INSTANCES;
            let whose = if of_instance { "null" } else { r#""i""# };
            let record: FactRecord =
                serde_json::from_str(&format!("{HEAD}{whose},\"previous\":null,{text}")).unwrap();
            let expected =
                if of_instance { NoFact::NoInstance(kind) } else { NoFact::Instance(kind) };
            assert_eq!(Fact::try_from(&record), Err(expected));
        }
    }

    #[test]
    fn names_in_json_are_the_names_of_the_core() {
        for phase in vm::Phase::ALL {
            assert_eq!(serde_json::to_value(Phase::from(phase)).unwrap(), phase.as_str());
        }
        for command in vm::Command::ALL {
            assert_eq!(serde_json::to_value(Command::from(command)).unwrap(), command.as_str());
        }
        for asker in vm::Asker::ALL {
            assert_eq!(serde_json::to_value(Asker::from(asker)).unwrap(), asker.as_str());
        }
        for event in vm::Event::ALL {
            if let vm::Event::Exited(cause) = event {
                assert_eq!(serde_json::to_value(ExitCause::from(cause)).unwrap(), cause.as_str());
            }
        }
        for role in tenant::Role::ALL {
            assert_eq!(serde_json::to_value(Role::from(role)).unwrap(), role.as_str());
        }
        for standing in tenant::Standing::ALL {
            assert_eq!(serde_json::to_value(Standing::from(standing)).unwrap(), standing.as_str());
        }
        for step in tenant::FallbackStep::ALL {
            assert_eq!(serde_json::to_value(FallbackStep::from(step)).unwrap(), step.as_str());
        }
        for plan in tenant::Plan::ALL {
            assert_eq!(serde_json::to_value(Plan::from(plan)).unwrap(), plan.as_str());
        }
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("paid".parse::<Kind>().unwrap_err().to_string().contains("clock-stepped"));
    }
}
