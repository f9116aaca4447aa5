//! Shadows: policies that run beside the one in force.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{PerPhase, Timestamp, text};
use crate::id::{Digest, InstanceId, InstanceName};

/// A request to try a policy beside the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowRequest {
    /// The policy's name, its digest, a unique prefix of the digest, or `standard`.
    pub digest: String,
    /// The reason, for the journal; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The time of a tenant's instances since a trial began, counted twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowReport {
    /// Digest of the policy that is tried.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The name of the policy that is tried; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Digest of the policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub active: Digest,
    /// The name of the policy in force; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_name: Option<String>,
    /// Instant at which the trial began.
    pub since: Timestamp,
    /// First instant that is not counted.
    pub until: Timestamp,
    /// Number of the tenant's instances that are not deleted.
    pub instances: u64,
    /// Number of instances whose time both policies have counted.
    pub compared: u64,
    /// Number of instances for which the policies differ.
    pub differing: u64,
    /// Nanoseconds in each phase by the policies in force, summed over all compared instances.
    pub active_ns: PerPhase,
    /// Nanoseconds in each phase by the policy that is tried.
    pub candidate_ns: PerPhase,
    /// The instance for which the policies differ most; absent if they agree on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<ShadowWorst>,
    /// Fuel that the policy on trial took.
    pub fuel: u64,
    /// Number of instances for which it failed.
    pub faults: u64,
    /// The first failure, in words; absent if it did not fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The charges by both policies at the tenant's prices; absent if they can't be computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<ShadowMoney>,
    /// The reason for which `money` is absent, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrated: Option<String>,
}

/// The charges by two policies for the same time. Amounts are exact, and in `currency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowMoney {
    /// ISO 4217 code of the amounts; null without a price book.
    pub currency: Option<String>,
    /// The charge by the policies in force.
    pub active: String,
    /// The charge by the policy that is tried.
    pub candidate: String,
    /// `candidate` less `active`; negative if the policy that is tried charges less.
    pub net: String,
    /// The instances for which the charges differ, the largest difference first; at most 1,000.
    pub instances: Vec<ShadowWorth>,
    /// Fuel that the policy on trial took to measure the time for these charges.
    pub fuel: u64,
}

/// The charges by two policies for one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowWorth {
    /// Id of the instance; null for charges to the tenant as a whole.
    pub instance: Option<String>,
    /// The charge by the policies in force.
    pub active: String,
    /// The charge by the policy that is tried.
    pub candidate: String,
}

/// The instance for which two policies differ most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowWorst {
    /// Id of the instance.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub instance: InstanceId,
    /// Name of the instance.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub name: InstanceName,
    /// Nanoseconds that the two policies count under different phases.
    pub moved_ns: u64,
    /// Nanoseconds in each phase by the policies in force.
    pub active_ns: PerPhase,
    /// Nanoseconds in each phase by the policy that is tried.
    pub candidate_ns: PerPhase,
}
