//! Shadows: policies that run beside the one in force.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{PerPhase, Timestamp, text};
use crate::id::{Digest, InstanceId, InstanceName};

/// A request to try a policy beside the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowRequest {
    /// The policy's digest, the digest's unique beginning, or `standard`.
    pub digest: String,
    /// Why, for the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The time of a tenant's instances since a trial began, counted twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowReport {
    /// The policy that is tried.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub active: Digest,
    /// When the trial began.
    pub since: Timestamp,
    /// Up to when was counted.
    pub until: Timestamp,
    /// Instances of the tenant that are not deleted.
    pub instances: u64,
    /// Those whose time both have counted.
    pub compared: u64,
    /// Those for which they differ.
    pub differing: u64,
    /// Nanoseconds in each phase by the policies in force, of all that were compared.
    pub active_ns: PerPhase,
    /// The same by the policy that is tried.
    pub candidate_ns: PerPhase,
    /// Where they differ most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<ShadowWorst>,
    /// Fuel that the policy that is tried took.
    pub fuel: u64,
    /// Instances at which it failed.
    pub faults: u64,
    /// The first failure, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What both would charge by the tenant's prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<ShadowMoney>,
    /// Why there is nothing about money, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrated: Option<String>,
}

/// What two policies charge for the same time. Amounts are exact, and in `currency`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowMoney {
    /// ISO 4217 code; null without a book.
    pub currency: Option<String>,
    /// What the policies in force come to.
    pub active: String,
    /// What the policy that is tried comes to.
    pub candidate: String,
    /// How much more that is; less than nothing if it charges less.
    pub net: String,
    /// Where they differ, the largest difference first: the worst case is the first one. At most
    /// 1,000.
    pub instances: Vec<ShadowWorth>,
    /// Fuel that the policy that is tried took to rate.
    pub fuel: u64,
}

/// What two policies charge for one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowWorth {
    /// Its id; null for what is charged to the tenant as a whole.
    pub instance: Option<String>,
    /// What the policies in force come to.
    pub active: String,
    /// What the policy that is tried comes to.
    pub candidate: String,
}

/// The instance for which two policies differ most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowWorst {
    /// Its id.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub instance: InstanceId,
    /// What a person calls it.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub name: InstanceName,
    /// Nanoseconds that stand under another phase.
    pub moved_ns: u64,
    /// Nanoseconds in each phase by the policies in force.
    pub active_ns: PerPhase,
    /// The same by the policy that is tried.
    pub candidate_ns: PerPhase,
}
