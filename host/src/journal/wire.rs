//! Facts as JSON: the body that the hash chain covers, and the form in the API and on the command
//! line.
//!
//! One form serves both, so an auditor reads exactly what was hashed. The bytes are canonical:
//! fields in the order of declaration here, integers only, `null` for absent values. A field that
//! was added to a kind later is left out if absent, so that earlier facts keep their bytes.

mod amounts;
mod convert;
mod copies;
mod enums;
mod group;
mod traffic;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::billing::Reading;
use crate::id::words;
use crate::units::Instant;
pub use amounts::limits;
pub(super) use convert::Family;
pub use convert::NoFact;
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
    /// An operator has said how long a time was of which only the minimum is known. The one-off
    /// charges of the tenants whom it concerns are the facts that follow.
    GapSettled {
        /// Number of the fact that records the gap.
        gap: u64,
        /// Time that the meter has left out, in nanoseconds.
        missing_ns: u64,
        /// Number of the one-off charges that follow.
        charges: u64,
        /// The reason, in words.
        reason: String,
        /// The actor who settled it.
        by: String,
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
    /// Another policy or price book was proposed to whoever charges the tenant.
    Proposed {
        /// Policy or prices.
        plan: Plan,
        /// SHA-256 of the component or the price book.
        digest: String,
        /// Instant on the meter clock from which it would be in force; `null` for that of the
        /// acceptance.
        from_ns: Option<i64>,
        /// Name of the book among the tenant's; `null` without one, and for a policy.
        name: Option<String>,
        /// Options of the policy.
        options: BTreeMap<String, String>,
        /// The reason, in words; `null` if none was given.
        reason: Option<String>,
        /// The actor, as in `policy-admitted`.
        by: String,
    },
    /// A proposal was accepted, declined or taken back.
    ProposalEnded {
        /// Sequence number of the proposal's fact.
        proposal: u64,
        /// Set if it was accepted: the fact of its activation comes before.
        is_accepted: bool,
        /// The reason, in words; `null` if none was given.
        reason: Option<String>,
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
    GapSettled = "gap-settled",
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
    Proposed = "proposed",
    ProposalEnded = "proposal-ended",
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

#[cfg(test)]
mod tests;
