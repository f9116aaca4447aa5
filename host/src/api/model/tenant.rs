//! Tenants, their limits, and what follows when their policy fails.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Timestamp, text};
use crate::id::{Digest, TenantId};
use crate::journal::wire::FallbackStep;

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.
    #[schema(example = "acme")]
    pub id: String,
}

/// How much a tenant may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantLimits {
    /// Instances that are not deleted.
    pub instances: u64,
    /// Their virtual processors, added up.
    pub vcpus: u64,
    /// Their memory in bytes, added up.
    pub memory_bytes: u64,
    /// Policies that it has.
    pub policies: u64,
    /// Requests in a second, on average; twice as many may come at once.
    pub requests_per_s: u64,
    /// Fuel that its policies burn in a minute, on average.
    pub fuel_per_minute: u64,
}

/// Who is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Its id.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub id: TenantId,
    /// When it was made.
    pub created_at: Timestamp,
    /// How much it may have.
    pub limits: TenantLimits,
    /// Instances that it has.
    pub instances: u64,
    /// Their virtual processors, added up.
    pub vcpus: u64,
    /// Their memory in bytes, added up.
    pub memory_bytes: u64,
    /// Policies that it has, the standard one included.
    pub policies: u64,
    /// Fuel that its policies have burned since the daemon's start.
    pub fuel: u64,
    /// Whether its own admins may do what charges it.
    #[serde(default)]
    pub billing_delegated: bool,
    /// What is tried when its policy is quarantined, in this order.
    pub fallback: Vec<FallbackStep>,
    /// Digest of the policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub policy: Digest,
    /// Quarantined policies that somebody should look at.
    pub alerts: u64,
}

/// Who may charge a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Billing {
    /// Whether the tenant's own admins may, beside operators and the role `billing`.
    pub delegated: bool,
}

/// What is done when a tenant's policy fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// What is tried, in this order; the first that can be done is.
    pub ladder: Vec<FallbackStep>,
}
