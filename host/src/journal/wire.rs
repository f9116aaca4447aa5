//! Facts as JSON: the body that the hash chain covers, and the form in the API and on the command
//! line.
//!
//! One form serves both, so an auditor reads exactly what was hashed. The bytes are canonical:
//! fields in the order of declaration here, integers only, `null` for absent values. A field that
//! was added to a kind later is left out if absent, so that earlier facts keep their bytes.

mod amounts;
mod copies;
mod enums;
mod group;
mod traffic;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::billing::agreement::Agreement;
use crate::billing::decimal::Decimal;
use crate::billing::{
    About, BootId, Counted, Entered, Fact, Heard, HostFact, InstanceFact, Reading, Sealed,
    TenantFact,
};
use crate::id::{IdError, InstanceId, words};
use crate::tenant::{self, FallbackOrder, Move, Quota, Settings};
use crate::units::Instant;
use crate::vm;
pub use amounts::limits;
use amounts::nanos;
pub use copies::{SegmentArchived, SegmentPruned};
pub use enums::{
    Asker, Command, Cycle, ExitCause, FallbackStep, OneOffKind, Phase, Plan, Role, Standing,
};
pub use group::{CALENDAR, HOST};
pub use traffic::Traffic;

/// A fact as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FactRecord {
    /// Position in the journal, from 1, without gaps.
    pub seq: u64,
    /// Boot id of the host at the time of the fact.
    pub boot: String,
    /// `CLOCK_BOOTTIME` at the time of the fact, in nanoseconds.
    pub boottime_ns: u64,
    /// `CLOCK_REALTIME` at the time of the fact, in nanoseconds since 1970; used for the calendar
    /// only.
    pub wall_ns: i64,
    /// Instant of the fact on the meter clock, in nanoseconds since 1970; all durations are
    /// differences of such instants.
    pub meter_ns: i64,
    /// Instant on the meter clock at which the fact was recorded, in nanoseconds since 1970; never
    /// before `meter_ns`.
    pub recorded_ns: i64,
    /// Tenant that the fact is about; the default tenant for facts about the host.
    pub tenant: String,
    /// Id of the instance that the fact is about; null for facts about a tenant or the host.
    pub instance: Option<String>,
    /// Position of the previous fact of the same instance; null for the first one, and for facts
    /// about a tenant or the host.
    pub previous: Option<u64>,
    /// Kind of the fact, and the fields of that kind.
    #[serde(flatten)]
    pub what: What,
}

/// A recorded fact and its hash in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainedFact {
    /// The fact.
    #[serde(flatten)]
    pub fact: FactRecord,
    /// SHA-256 of the previous fact's hash (32 bytes; zeros for the first) and this fact's JSON, as
    /// 64 lower-case hexadecimal digits.
    pub hash: String,
}

/// The event of a fact: `kind`, and the fields of that kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// The daemon started.
    HostStarted {
        /// Version of the program.
        version: String,
    },
    /// The wall clock was stepped.
    ClockStepped {
        /// Size of the step in nanoseconds, forward if positive.
        step_ns: i64,
    },
    /// The time between an earlier boot of the host and this one is unknown.
    TimeUnknown {
        /// Reason not to trust the wall clock: `not-synchronised`, `never-synchronised` or
        /// `went-back`.
        reason: String,
        /// Time between the boots by the wall clock, in nanoseconds; negative if it was set back.
        claimed_ns: i64,
        /// Time that the meter has counted instead, in nanoseconds.
        counted_ns: u64,
    },
    /// The host was suspended, and with it all instances.
    HostSuspended {
        /// Duration of the suspension in nanoseconds; it ended just before the fact.
        duration_ns: u64,
    },
    /// Facts were sealed into an immutable file.
    SegmentSealed {
        /// SHA-256 of the file.
        digest: String,
        /// Number of its first fact.
        first: u64,
        /// Number of its last fact.
        last: u64,
        /// Link of the chain before its first fact.
        before: String,
        /// Link of its last fact.
        link: String,
        /// Instant on the meter clock at which its last fact was recorded.
        recorded_until_ns: i64,
        /// Instant on the meter clock of the earliest of its facts.
        meter_from_ns: i64,
        /// Length of the file in bytes.
        bytes: u64,
        /// Root of the Merkle tree over its facts by tenant; null for segments of earlier versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<String>,
    },
    /// A copy of a segment was read back from a store and found whole.
    SegmentArchived(SegmentArchived),
    /// A segment leaves the data folder; its copy in a store stays.
    SegmentPruned(SegmentPruned),
    /// A collector has taken a host's facts up to here.
    HostHeard {
        /// Name of the host.
        host: String,
        /// Position of the last fact in that host's own journal.
        upto: u64,
        /// Link of that fact in the host's chain.
        link: String,
        /// Instant on the host's meter clock up to which it had no further facts.
        until_ns: i64,
    },
    /// A component was admitted as a policy.
    PolicyAdmitted {
        /// The component's SHA-256.
        digest: String,
        /// Size of the component in bytes.
        size_bytes: u64,
        /// Actor that uploaded it: `host`, `operator`, `token:<id>` or `jwt:<subject>`; left out of
        /// facts from before actors were recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Name among the tenant's policies; left out if it has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// A policy was activated: from `from_ns` on, it measures the tenant's time.
    PolicyActivated {
        /// The component's SHA-256.
        digest: String,
        /// Instant on the meter clock from which it is in force, in nanoseconds since 1970.
        from_ns: i64,
        /// True if it reverts the activation before it.
        rollback: bool,
        /// Actor that asked for it, as in `policy-admitted`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Reason in free text; left out if none was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Options of the policy, by name; left out if there are none.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<String, String>,
    },
    /// A policy failed, or its answer broke the contract.
    PolicyFaulted {
        /// The component's SHA-256.
        digest: String,
        /// Description of the fault.
        reason: String,
    },
    /// The standing of a policy with the tenant changed.
    PolicyMoved {
        /// The component's SHA-256.
        digest: String,
        /// New standing.
        to: Standing,
        /// Actor that changed it, as in `policy-admitted`.
        by: String,
        /// Reason in free text.
        reason: String,
        /// SHA-256 of the policy that accounts in its place, with `quarantined`; null while its
        /// time is held, and for any other standing.
        stand_in: Option<String>,
    },
    /// The tenant was created.
    TenantCreated {
        /// Actor that created it, as in `policy-admitted`.
        by: String,
    },
    /// The settings of the tenant were changed, to these.
    TenantChanged {
        /// Limits set by an operator, by name; the program's defaults apply to the others.
        limits: BTreeMap<String, u64>,
        /// Steps that are tried in this order when the policy in force is quarantined.
        fallback: Vec<FallbackStep>,
        /// Actor that changed them, as in `policy-admitted`.
        by: String,
        /// True if the tenant's own admins may decide what it is charged; left out if false.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        billing_delegated: bool,
        /// Set if nothing of it may be started or made any more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        suspended: bool,
        /// Its end on the meter clock, which is final.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ended_ns: Option<i64>,
        /// Name to which its documents are addressed; left out if it has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        billing_name: Option<String>,
    },
    /// A token was created; its secret is stored nowhere.
    TokenCreated {
        /// Id of the token.
        token: String,
        /// Label for people.
        name: String,
        /// Rights of the holder.
        role: Role,
        /// First instant on the meter clock at which it is no longer valid, in nanoseconds since
        /// 1970.
        expires_ns: i64,
        /// Actor that created it, as in `policy-admitted`.
        by: String,
    },
    /// A token was revoked.
    TokenRevoked {
        /// Id of the token.
        token: String,
        /// Actor that revoked it, as in `policy-admitted`.
        by: String,
    },
    /// A price book was activated: from `from_ns` on, the tenant is charged by it.
    PricesActivated {
        /// SHA-256 of the book.
        digest: String,
        /// Instant on the meter clock from which it is in force, in nanoseconds since 1970.
        from_ns: i64,
        /// Actor that asked for it, as in `policy-admitted`.
        by: String,
        /// Name among the tenant's books; left out if it has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// The billing agreement was changed: from `from_ns` on, the tenant's time is divided into
    /// periods by it.
    AgreementChanged {
        /// IANA name of the time zone that days and months are counted in.
        zone: String,
        /// Length of a period.
        cycle: Cycle,
        /// Day of the month on which a month's period begins, 1 to 31; the last day of a shorter
        /// month.
        anchor_day: u8,
        /// First instant of the first period under it on the meter clock, in nanoseconds since
        /// 1970.
        from_ns: i64,
        /// Actor that asked for it, as in `policy-admitted`.
        by: String,
    },
    /// Another policy or price book was set for a span, in place of those in force. If it names
    /// neither, it ends earlier overrides of the span.
    Overridden {
        /// First instant of the span on the meter clock, in nanoseconds since 1970.
        from_ns: i64,
        /// First instant after the span, in nanoseconds since 1970.
        until_ns: i64,
        /// SHA-256 of the component; null if it names no policy.
        policy: Option<String>,
        /// SHA-256 of the price book; null if it names no price book.
        book: Option<String>,
        /// True if the book also applies to time that has no price book.
        from_begin: bool,
        /// Reason in free text.
        reason: String,
        /// Actor that asked for it, as in `policy-admitted`.
        by: String,
    },
    /// A price book is a version of a tariff from here on.
    TariffPublished {
        /// The tariff.
        tariff: String,
        /// The version.
        version: String,
        /// The book's SHA-256.
        digest: String,
        /// The actor, as in `policy-admitted`.
        by: String,
    },
    /// New tenants begin under the newest version of a tariff.
    TariffDefault {
        /// The tariff; null for none.
        tariff: Option<String>,
        /// The actor, as in `policy-admitted`.
        by: String,
    },
    /// The tenant is charged by a version of a tariff; the next fact sets its book.
    TariffJoined {
        /// The tariff.
        tariff: String,
        /// The version.
        version: String,
        /// The book's SHA-256.
        digest: String,
        /// The actor, as in `policy-admitted`.
        by: String,
    },
    /// An amount was charged, or given, once.
    OneOff {
        /// Charge or goodwill.
        what: OneOffKind,
        /// The amount, above 0, in the currency.
        amount: String,
        /// ISO 4217 code.
        currency: String,
        /// The instant on the meter clock to which it belongs.
        at_ns: i64,
        /// The reason, in words.
        reason: String,
        /// The actor, as in `policy-admitted`.
        by: String,
    },
    /// A change that was planned for `from_ns` was withdrawn.
    PlanWithdrawn {
        /// Kind of the planned change.
        plan: Plan,
        /// SHA-256 of the component or of the price book.
        digest: String,
        /// Instant on the meter clock for which it was planned, in nanoseconds since 1970.
        from_ns: i64,
        /// Actor that withdrew it, as in `policy-admitted`.
        by: String,
        /// Reason in free text; null if none was given.
        reason: Option<String>,
    },
    /// An invoice for a period of the tenant, or a correction of one, became final.
    Invoiced {
        /// Number among the tenant's documents, from 1.
        number: u64,
        /// SHA-256 of the document.
        digest: String,
        /// First instant of the period on the meter clock, in nanoseconds since 1970.
        from_ns: i64,
        /// First instant after the period, in nanoseconds since 1970.
        until_ns: i64,
        /// Number of the document that this one corrects; null for an invoice.
        corrects: Option<u64>,
        /// Actor that made it final, as in `policy-admitted`.
        by: String,
    },
    /// A command is about to be executed.
    Intended {
        /// The command.
        command: Command,
        /// Origin of the command.
        by: Asker,
        /// Argument of the command: a snapshot's name, the ids of forks, or a number of bytes; null
        /// if it has none.
        about: Option<String>,
    },
    /// An intended command was given up.
    Abandoned {
        /// The command.
        command: Command,
        /// Reason in free text.
        reason: String,
    },
    /// The instance entered a phase, or the same phase with other resources.
    Entered {
        /// The phase.
        phase: Phase,
        /// Number of virtual processors.
        vcpus: u32,
        /// Guest memory in bytes.
        memory_bytes: u64,
        /// Size of the writable disks in bytes.
        disk_bytes: u64,
        /// Disk space of the standby's memory image and of kept snapshots, in bytes.
        snapshot_bytes: u64,
        /// Number of the start that the phase belongs to, from 1.
        session: u32,
        /// Cause of the stop; null if the instance did not stop.
        cause: Option<ExitCause>,
        /// The guest's traffic since the instance was created; absent without any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traffic: Option<Traffic>,
    },
    /// An instance was forked; parent and child both have this fact.
    Forked {
        /// Id of the instance that was copied.
        parent: String,
        /// Id of the new instance.
        child: String,
        /// Name of the snapshot that was copied; null if the parent's current state was.
        snapshot: Option<String>,
    },
    /// A field of the instance's record was changed, without a change of phase.
    Amended {
        /// Name of the field in JSON.
        field: String,
        /// New value as JSON text.
        value: String,
    },
    /// Somebody went into the guest.
    Visited {
        /// The actor, as in `policy-admitted`.
        by: String,
        /// The purpose: `exec`, `copy-in`, `copy-out`, `stat`.
        what: String,
        /// The command, or the path; its beginning, if it is long.
        about: String,
    },
    /// The instance was deleted; its time ends here.
    Deleted,
}

/// Defines [`Kind`] and [`What::kind`] from one list of kinds.
macro_rules! kinds {
    ($($member:ident = $text:literal,)+) => {
        words!(
            /// The kind of a fact.
            #[derive(Serialize, Deserialize, ToSchema)]
            #[serde(rename_all = "kebab-case")]
            Kind, "a kind of fact" {
                $(#[doc = concat!("See [`What::", stringify!($member), "`].")] $member = $text,)+
            }
        );

        impl What {
            /// Returns the kind of the fact.
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
    SegmentSealed = "segment-sealed",
    SegmentArchived = "segment-archived",
    SegmentPruned = "segment-pruned",
    HostHeard = "host-heard",
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
    TariffPublished = "tariff-published",
    TariffDefault = "tariff-default",
    TariffJoined = "tariff-joined",
    OneOff = "one-off",
    PlanWithdrawn = "plan-withdrawn",
    Invoiced = "invoiced",
    Intended = "intended",
    Abandoned = "abandoned",
    Entered = "entered",
    Forked = "forked",
    Amended = "amended",
    Visited = "visited",
    Deleted = "deleted",
);

impl FactRecord {
    /// The record of an event before it is numbered: the writer fills in `seq`, `previous`,
    /// `recorded_ns` and the instance, and the tenant of an instance's fact.
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

/// An event of a host, a tenant or an instance, without its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Family {
    Host(HostFact),
    Tenant(TenantFact),
    Instance(InstanceFact),
}

impl Family {
    /// The meaning for the time of an instance; none for an event that counts no time.
    pub(super) fn counts(&self) -> Option<Counted> {
        match self {
            Family::Instance(fact) => fact.counts(),
            Family::Host(_) | Family::Tenant(_) => None,
        }
    }
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
            HostFact::Sealed(sealed) => sealed.into(),
            HostFact::Archived(archived) => What::SegmentArchived(archived.into()),
            HostFact::Pruned(pruned) => What::SegmentPruned(pruned.into()),
            HostFact::Heard(Heard { host, seq, link, until }) => What::HostHeard {
                host: host.to_string(),
                upto: *seq,
                link: link.to_string(),
                until_ns: until.0,
            },
        }
    }
}

impl From<&Sealed> for What {
    fn from(sealed: &Sealed) -> Self {
        What::SegmentSealed {
            digest: sealed.digest.to_string(),
            first: sealed.first,
            last: sealed.last,
            before: sealed.before.to_string(),
            link: sealed.link.to_string(),
            recorded_until_ns: sealed.recorded_until.0,
            meter_from_ns: sealed.meter_from.0,
            bytes: sealed.bytes,
            root: sealed.root.map(|root| root.to_string()),
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
                settings:
                    Settings { quota, fallback, billing_delegated, suspended, ended, billing_name },
                by,
            } => What::TenantChanged {
                limits: limits(quota),
                fallback: fallback.steps().iter().map(|&step| step.into()).collect(),
                by: by.to_string(),
                billing_delegated: *billing_delegated,
                suspended: *suspended,
                ended_ns: ended.map(|ended| ended.0),
                billing_name: billing_name.clone(),
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
            TenantFact::PricesActivated { digest, from, by, name } => What::PricesActivated {
                digest: digest.to_string(),
                from_ns: from.0,
                by: by.to_string(),
                name: name.as_ref().map(ToString::to_string),
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
            TenantFact::TariffPublished { tariff, version, digest, by } => What::TariffPublished {
                tariff: tariff.to_string(),
                version: version.to_string(),
                digest: digest.to_string(),
                by: by.to_string(),
            },
            TenantFact::TariffDefault { tariff, by } => What::TariffDefault {
                tariff: tariff.as_ref().map(ToString::to_string),
                by: by.to_string(),
            },
            TenantFact::TariffJoined { tariff, version, digest, by } => What::TariffJoined {
                tariff: tariff.to_string(),
                version: version.to_string(),
                digest: digest.to_string(),
                by: by.to_string(),
            },
            TenantFact::OneOff { kind, amount, currency, at, reason, by } => What::OneOff {
                what: (*kind).into(),
                amount: Decimal::nanos((*amount).into()).to_string(),
                currency: currency.clone(),
                at_ns: at.0,
                reason: reason.clone(),
                by: by.to_string(),
            },
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
            InstanceFact::Entered(Entered { phase, shape, session, cause, traffic }) => {
                What::Entered {
                    phase: (*phase).into(),
                    vcpus: shape.vcpus,
                    memory_bytes: shape.memory_bytes,
                    disk_bytes: shape.disk_bytes,
                    snapshot_bytes: shape.snapshot_bytes,
                    session: *session,
                    cause: cause.map(ExitCause::from),
                    traffic: Traffic::of(*traffic),
                }
            }
            InstanceFact::Forked { parent, child, snapshot } => What::Forked {
                parent: parent.to_string(),
                child: child.to_string(),
                snapshot: snapshot.as_ref().map(ToString::to_string),
            },
            InstanceFact::Amended { field, value } => {
                What::Amended { field: field.clone(), value: value.clone() }
            }
            InstanceFact::Visited { by, what, about } => {
                What::Visited { by: by.to_string(), what: what.clone(), about: about.clone() }
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
            What::SegmentSealed {
                digest,
                first,
                last,
                before,
                link,
                recorded_until_ns,
                meter_from_ns,
                bytes,
                root,
            } => host(HostFact::Sealed(Sealed {
                digest: digest.parse()?,
                first: *first,
                last: *last,
                before: before.parse()?,
                link: link.parse()?,
                recorded_until: Instant(*recorded_until_ns),
                meter_from: Instant(*meter_from_ns),
                bytes: *bytes,
                root: root.as_deref().map(str::parse).transpose()?,
            })),
            What::SegmentArchived(archived) => host(HostFact::Archived(archived.try_into()?)),
            What::SegmentPruned(pruned) => host(HostFact::Pruned(pruned.try_into()?)),
            What::HostHeard { host: name, upto, link, until_ns } => host(HostFact::Heard(Heard {
                host: name.parse()?,
                seq: *upto,
                link: link.parse()?,
                until: Instant(*until_ns),
            })),
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
            What::TenantChanged {
                limits,
                fallback,
                by,
                billing_delegated,
                suspended,
                ended_ns,
                billing_name,
            } => {
                let settings = Settings {
                    billing_delegated: *billing_delegated,
                    suspended: *suspended,
                    ended: ended_ns.map(Instant),
                    billing_name: billing_name.clone(),
                    ..settings(limits, fallback)?
                };
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
            What::PricesActivated { digest, from_ns, by, name } => {
                tenant(TenantFact::PricesActivated {
                    digest: digest.parse()?,
                    from: Instant(*from_ns),
                    by: by.parse()?,
                    name: name.as_deref().map(str::parse).transpose()?,
                })
            }
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
            What::TariffPublished { tariff: name, version, digest, by } => {
                tenant(TenantFact::TariffPublished {
                    tariff: name.parse()?,
                    version: version.parse()?,
                    digest: digest.parse()?,
                    by: by.parse()?,
                })
            }
            What::TariffDefault { tariff: name, by } => tenant(TenantFact::TariffDefault {
                tariff: name.as_deref().map(str::parse).transpose()?,
                by: by.parse()?,
            }),
            What::TariffJoined { tariff: name, version, digest, by } => {
                tenant(TenantFact::TariffJoined {
                    tariff: name.parse()?,
                    version: version.parse()?,
                    digest: digest.parse()?,
                    by: by.parse()?,
                })
            }
            What::OneOff { what, amount, currency, at_ns, reason, by } => {
                tenant(TenantFact::OneOff {
                    kind: (*what).into(),
                    amount: nanos(amount)?,
                    currency: currency.clone(),
                    at: Instant(*at_ns),
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
                traffic,
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
                traffic: Traffic::or_none(*traffic),
            })),
            What::Forked { parent, child, snapshot } => instance(InstanceFact::Forked {
                parent: parent.parse()?,
                child: child.parse()?,
                snapshot: snapshot.as_deref().map(str::parse).transpose()?,
            }),
            What::Amended { field, value } => {
                instance(InstanceFact::Amended { field: field.clone(), value: value.clone() })
            }
            What::Visited { by, what, about } => instance(InstanceFact::Visited {
                by: by.parse()?,
                what: what.clone(),
                about: about.clone(),
            }),
            What::Deleted => instance(InstanceFact::Deleted),
        }
    }
}

/// Decodes the settings in a fact.
fn settings(
    limits: &BTreeMap<String, u64>,
    fallback: &[FallbackStep],
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
    Ok(Settings { quota, fallback, ..Settings::default() })
}

/// An error of decoding a record into a fact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFact {
    /// A name or word is malformed or unknown.
    #[error(transparent)]
    Name(#[from] IdError),
    /// A fact of an instance names no instance.
    #[error("a fact of kind {0} must name an instance, and this one names none")]
    NoInstance(Kind),
    /// A fact of the host or of a tenant names an instance.
    #[error("a fact of kind {0} must name no instance, and this one names one")]
    Instance(Kind),
}

/// Decodes the fact, without its place in the journal.
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
mod tests;
