//! Policies, and under which one a tenant's time counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Declared, Timestamp, text};
use crate::id::{Digest, TenantId};
use crate::journal::wire::{ChainedFact, FallbackStep, Standing};
use crate::limits;
use crate::policy::Profile;

/// A component that was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// SHA-256 of its bytes: its name.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// `policy` if it accounts and measures, `meter` if it measures only; empty while it is
    /// examined.
    pub world: String,
    /// Which bounds it runs under: `compact` or `large`.
    #[serde(default = "compact")]
    pub profile: String,
    /// It is the one inside this program.
    pub standard: bool,
    /// Its name among the tenant's policies; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it stands with the tenant; absent if they have nothing to do with each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Standing>,
    /// When it was admitted for the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted_at: Option<Timestamp>,
    /// How long the compiler took, in milliseconds; 0 if it was known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_ms: Option<u64>,
    /// How it did on the golden vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_test: Option<SelfTest>,
}

fn compact() -> String {
    Profile::Compact.to_string()
}

/// How a policy did on the golden vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SelfTest {
    /// Vectors asked.
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

/// What every policy may cost.
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
    /// Fuel of a metering call before all that it is about.
    pub metering_fuel_base: u64,
    /// Fuel for each of its intervals.
    pub metering_fuel_per_interval: u64,
    /// Fuel for each value of a dimension or a count.
    pub metering_fuel_per_value: u64,
    /// Fuel for each of its instances.
    pub metering_fuel_per_subject: u64,
    /// Fuel for each option and each tag.
    pub metering_fuel_per_setting: u64,
    /// Most items in one call.
    pub batch_items_max: u64,
    /// Wall clock of a call in milliseconds, as a backstop.
    pub deadline_ms: u64,
    /// Faults in a row after which a policy is no longer asked for a tenant.
    pub faults_in_a_row_max: u64,
}

impl PolicyLimits {
    /// Those of a profile. Accounting calls have the same in both: in profile large there are none.
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

/// All policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policies {
    /// The standard policy first.
    pub policies: Vec<Policy>,
    /// What each of profile compact may cost.
    pub limits: PolicyLimits,
    /// What each of profile large may cost.
    pub large: PolicyLimits,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyDetails {
    /// The policy.
    #[serde(flatten)]
    pub policy: Policy,
    /// The last facts about it and the tenant, newest first: by whom, when and why.
    pub history: Vec<ChainedFact>,
    /// What it may cost.
    pub limits: PolicyLimits,
    /// Meters and options as the component declares them; absent while it is examined, and if this
    /// program can't run it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<Declared>,
}

/// A request to put a tenant under a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// The policy's digest, the digest's unique beginning, or `standard`.
    pub digest: String,
    /// The first instant under it; now if absent. One in the past is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Whether it is meant that a policy comes back which was in force before, or was quarantined.
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
    /// Options of the policy by name, as it declares them; `initializing-max` is the host's: how
    /// long a boot counts as `initializing`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Why, for the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Refuse if its trial differs by more than this in all, up or down, over all tenants it is
    /// tried for: an amount in the currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_net: Option<String>,
    /// Refuse if its trial differs by more than this for any one of those tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tenant: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// A request to put the policy before the present one in force again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Why, for the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a policy stands with a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyStanding {
    /// The policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its name among the tenant's policies; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it stands.
    pub state: Standing,
}

/// A tenant was put under a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Activated {
    /// Whose rules.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Effective instant.
    pub from: Timestamp,
    /// The same on the meter clock.
    pub from_ns: i64,
    /// Sequence number of the journal's fact.
    pub fact: u64,
    /// Whether this was done before, by an earlier try of the same request.
    #[serde(default)]
    pub repeated: bool,
    /// Whether it was in force already, so that nothing was recorded: the rest is about the
    /// activation before.
    #[serde(default)]
    pub already: bool,
    /// The policy that answered a probe after the change; absent for one that is to come.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub answered_by: Option<Digest>,
}

/// A policy and the instant from which on it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Activation {
    /// The policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// From when on.
    pub from: Timestamp,
    /// The same on the meter clock.
    pub from_ns: i64,
}

/// A policy that failed too often in a row to be asked any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantined {
    /// The policy.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// How often it failed, one time after the other.
    pub faults: u32,
    /// Whether somebody should look at it: it is in force still, or another one was put in its
    /// place without anybody's doing.
    pub alert: bool,
    /// What it did last, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The policy that accounts what this one owes; absent while it is held.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stand_in: Option<Digest>,
}

/// Under which policy a tenant's time counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantPolicy {
    /// Whose rules.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The one that a rollback puts in force again.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub previous: Option<Digest>,
    /// All activations up to now, ascending.
    pub activations: Vec<Activation>,
    /// Those that are to come.
    pub planned: Vec<Activation>,
    /// Policies that are not asked any more because they failed.
    pub quarantined: Vec<Quarantined>,
    /// What is tried when the policy in force is quarantined, in this order.
    pub fallback: Vec<FallbackStep>,
    /// Where every policy stands that the tenant has to do with.
    pub policies: Vec<PolicyStanding>,
}
