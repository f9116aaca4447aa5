//! Facts and their JSON, both ways.

use std::collections::BTreeMap;

use super::amounts::{limits, nanos};
use super::enums::{ExitCause, FallbackStep};
use super::traffic::Traffic;
use super::{FactRecord, Kind, What};
use crate::billing::agreement::Agreement;
use crate::billing::decimal::Decimal;
use crate::billing::{
    About, BootId, Counted, Entered, Fact, GapSettled, Heard, HostFact, InstanceFact, Reading,
    Sealed, TenantFact,
};
use crate::id::{IdError, InstanceId};
use crate::tenant::{self, FallbackOrder, Move, Quota, Settings};
use crate::units::Instant;
use crate::vm;

/// An event of a host, a tenant or an instance, without its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) enum Family {
    Host(HostFact),
    Tenant(TenantFact),
    Instance(InstanceFact),
}

impl Family {
    /// The meaning for the time of an instance; none for an event that counts no time.
    pub(in crate::journal) fn counts(&self) -> Option<Counted> {
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
            HostFact::GapSettled(GapSettled { gap, missing_ns, charges, reason, by }) => {
                What::GapSettled {
                    gap: *gap,
                    missing_ns: *missing_ns,
                    charges: *charges,
                    reason: reason.clone(),
                    by: by.to_string(),
                }
            }
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
            TenantFact::Proposed { plan, digest, from, name, options, reason, by } => {
                What::Proposed {
                    plan: (*plan).into(),
                    digest: digest.to_string(),
                    from_ns: from.map(|from| from.0),
                    name: name.as_ref().map(ToString::to_string),
                    options: options.iter().cloned().collect(),
                    reason: reason.clone(),
                    by: by.to_string(),
                }
            }
            TenantFact::ProposalEnded { proposal, is_accepted, reason, by } => {
                What::ProposalEnded {
                    proposal: *proposal,
                    is_accepted: *is_accepted,
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
            What::GapSettled { gap, missing_ns, charges, reason, by } => {
                host(HostFact::GapSettled(GapSettled {
                    gap: *gap,
                    missing_ns: *missing_ns,
                    charges: *charges,
                    reason: reason.clone(),
                    by: by.parse()?,
                }))
            }
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
            What::Proposed { plan, digest, from_ns, name, options, reason, by } => {
                tenant(TenantFact::Proposed {
                    plan: (*plan).into(),
                    digest: digest.parse()?,
                    from: from_ns.map(Instant),
                    name: name.as_deref().map(str::parse).transpose()?,
                    options: options.clone().into_iter().collect(),
                    reason: reason.clone(),
                    by: by.parse()?,
                })
            }
            What::ProposalEnded { proposal, is_accepted, reason, by } => {
                tenant(TenantFact::ProposalEnded {
                    proposal: *proposal,
                    is_accepted: *is_accepted,
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
