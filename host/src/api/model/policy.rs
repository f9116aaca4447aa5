//! Policies, and their activation for a tenant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Declared, Timestamp, text};
use crate::id::{Digest, TenantId};
use crate::journal::wire::{ChainedFact, FallbackStep, Standing};
use crate::limits;
use crate::policy::Profile;

/// A policy: a component that was admitted, or is being examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// SHA-256 of the component's bytes, which identifies the policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Size of the component in bytes.
    pub size_bytes: u64,
    /// The contract that it exports: `policy` if it accounts and measures, `meter` if it only
    /// measures; empty while it is examined.
    pub world: String,
    /// The set of limits it runs under: `compact` or `large`.
    #[serde(default = "compact")]
    pub profile: String,
    /// Set for the standard policy, which is part of the daemon.
    pub standard: bool,
    /// The policy's name among the tenant's policies; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The policy's standing with the tenant; absent if the tenant has never used or uploaded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Standing>,
    /// Instant at which it was admitted for the tenant; absent if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted_at: Option<Timestamp>,
    /// Time that its compilation took, in milliseconds; 0 if it had been compiled before. Absent
    /// for the standard policy, and while it is examined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_ms: Option<u64>,
    /// Result of the self-test on the golden vectors. Absent for the standard policy, and while it
    /// is examined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTest>,
}

fn compact() -> String {
    Profile::Compact.to_string()
}

/// The result of a policy's self-test on the golden vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SelfTest {
    /// Number of vectors tested.
    pub vectors: u64,
    /// Most fuel that a single transition took.
    pub enter_fuel: u64,
    /// Most fuel that a single snapshot took.
    pub snapshot_fuel: u64,
    /// Fuel of all vectors in one batch of transitions.
    pub enter_all_fuel: u64,
    /// Fuel of all vectors in one batch of snapshots.
    pub snapshot_all_fuel: u64,
}

/// The limits of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyLimits {
    /// Largest component in bytes.
    pub component_bytes_max: u64,
    /// Most functions in a component.
    pub functions_max: u64,
    /// Largest custom section in bytes.
    pub custom_section_bytes_max: u64,
    /// Linear memory of a call in bytes.
    pub memory_bytes_max: u64,
    /// Table elements of a call.
    pub table_elements_max: u64,
    /// Stack of a call in bytes.
    pub stack_bytes_max: u64,
    /// Fuel of an accounting call before its items.
    pub fuel_base: u64,
    /// Fuel for each of its items.
    pub fuel_per_item: u64,
    /// Fuel of a metering call, on top of which the next four come.
    pub metering_fuel_base: u64,
    /// Fuel for each of its intervals.
    pub metering_fuel_per_interval: u64,
    /// Fuel for each value of a dimension or a count.
    pub metering_fuel_per_value: u64,
    /// Fuel for each of its instances.
    pub metering_fuel_per_subject: u64,
    /// Fuel for each option and each tag.
    pub metering_fuel_per_setting: u64,
    /// Largest number of items in one call.
    pub batch_items_max: u64,
    /// Wall-clock time of a call in milliseconds, as a backstop behind the fuel.
    pub deadline_ms: u64,
    /// Faults in a row after which a policy is no longer asked for a tenant.
    pub faults_in_a_row_max: u64,
}

impl PolicyLimits {
    /// The limits of a profile. Those of accounting calls are the same in both; a policy of profile
    /// large gets no such calls.
    pub fn of(profile: Profile) -> PolicyLimits {
        let bounds = profile.bounds();
        PolicyLimits {
            component_bytes_max: bounds.component_bytes_max as u64,
            functions_max: bounds.functions_max.into(),
            custom_section_bytes_max: bounds.custom_section_bytes_max as u64,
            memory_bytes_max: bounds.memory_bytes_max as u64,
            table_elements_max: bounds.table_elements_max as u64,
            stack_bytes_max: bounds.stack_bytes_max as u64,
            fuel_base: limits::policy::FUEL_BASE,
            fuel_per_item: limits::policy::FUEL_PER_ITEM,
            metering_fuel_base: bounds.metering_fuel.base,
            metering_fuel_per_interval: bounds.metering_fuel.per_interval,
            metering_fuel_per_value: bounds.metering_fuel.per_value,
            metering_fuel_per_subject: bounds.metering_fuel.per_subject,
            metering_fuel_per_setting: bounds.metering_fuel.per_setting,
            batch_items_max: limits::policy::BATCH_ITEMS_MAX as u64,
            deadline_ms: bounds.deadline_ticks * limits::policy::TICK_MS,
            faults_in_a_row_max: limits::policy::FAULTS_IN_A_ROW_MAX.into(),
        }
    }
}

/// The policies of a tenant, or of all tenants, and the limits of each profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policies {
    /// The policies; the standard policy comes first.
    pub policies: Vec<Policy>,
    /// The limits of profile `compact`.
    pub limits: PolicyLimits,
    /// The limits of profile `large`.
    pub large: PolicyLimits,
}

/// A policy with its history, its limits and its declarations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyDetails {
    /// Digest of the policy.
    #[serde(flatten)]
    pub policy: Policy,
    /// The latest facts about the policy and the tenant, newest first, at most 100.
    pub history: Vec<ChainedFact>,
    /// The limits that it runs under.
    pub limits: PolicyLimits,
    /// Meters and options as the component declares them; absent while it is examined, and if this
    /// version of the daemon can't run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<Declared>,
}

/// A request to put a tenant under a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// The policy's name, its digest, a unique prefix of the digest, or `standard`.
    pub digest: String,
    /// First instant at which it is in force; now if absent. An instant in the past is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Set to confirm the activation of a policy that was in force before, or was quarantined.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Values of the policy's options, by name, as it declares them. `initializing-max` is the
    /// host's own: the longest time that a boot counts as `initializing`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The reason, for the journal; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Largest total difference, up or down, that its trial may show over all tenants it is tried
    /// for: an amount in the currency. Above it, the activation is refused; unchecked if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_net: Option<String>,
    /// Largest difference, up or down, that its trial may show for any one of those tenants: an
    /// amount in the currency. Unchecked if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tenant: Option<String>,
}

/// A request to put the policy before the present one in force again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The reason, for the journal; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The standing of a policy with a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyStanding {
    /// Digest of the policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The policy's name among the tenant's policies; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The policy's standing.
    pub state: Standing,
}

/// The result of an activation or a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Activated {
    /// Id of the tenant.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Digest of the policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The policy's name among the tenant's policies; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// First instant at which it is in force.
    pub from: Timestamp,
    /// `from` on the meter clock, in nanoseconds.
    pub from_ns: i64,
    /// Sequence number of the journal's fact.
    pub fact: u64,
    /// Set if an earlier request with the same `Idempotency-Key` did this; nothing was done again.
    #[serde(default)]
    pub repeated: bool,
    /// Set if the policy was in force already and nothing was recorded; the other fields describe
    /// the activation before.
    #[serde(default)]
    pub already: bool,
    /// Digest of the policy that answered a probe after the change; absent for a change to come.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub answered_by: Option<Digest>,
    /// The name of the policy in `answered_by`; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by_name: Option<String>,
}

/// A policy and the first instant at which it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Activation {
    /// Digest of the policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The policy's name among the tenant's policies; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// First instant at which it is in force.
    pub from: Timestamp,
    /// `from` on the meter clock, in nanoseconds.
    pub from_ns: i64,
}

/// A policy that failed too often in a row to be asked any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantined {
    /// Digest of the policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The policy's name among the tenant's policies; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of failures in a row.
    pub faults: u32,
    /// Set if it needs an operator's attention: it is still in force, or the host has put another
    /// one in its place.
    pub alert: bool,
    /// The last failure, in words; absent if it was before the start of the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Digest of the policy that accounts the time that this one owes; absent while that time is
    /// held.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stand_in: Option<Digest>,
    /// The name of the policy in `stand_in`; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_in_name: Option<String>,
}

/// The policies of a tenant, by time and by standing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantPolicy {
    /// Id of the tenant.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Digest of the policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The policy's name among the tenant's policies; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Digest of the policy that a rollback would put in force; absent if there is none.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub previous: Option<Digest>,
    /// The name of the policy in `previous`; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_name: Option<String>,
    /// All activations up to now, ascending.
    pub activations: Vec<Activation>,
    /// All activations to come, ascending.
    pub planned: Vec<Activation>,
    /// Policies that are not called any more because they failed.
    pub quarantined: Vec<Quarantined>,
    /// The fallback steps for a quarantine of the policy in force, in the order in which they are
    /// tried.
    pub fallback: Vec<FallbackStep>,
    /// The standing of every policy that the tenant has used or uploaded.
    pub policies: Vec<PolicyStanding>,
}
