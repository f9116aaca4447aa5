//! Tenants, their limits, their billing rights, and the fallback for a policy that fails.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Timestamp, text};
use crate::id::{Digest, TenantId};
use crate::invoice::Invoice;
use crate::journal::wire::FallbackStep;

/// The tenant to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.
    #[schema(example = "acme")]
    pub id: String,
}

/// The limits of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantLimits {
    /// Most instances that are not deleted.
    pub instances: u64,
    /// Most virtual processors of all those instances together.
    pub vcpus: u64,
    /// Most memory of all those instances together, in bytes.
    pub memory_bytes: u64,
    /// Most policies that it has uploaded.
    pub policies: u64,
    /// Most requests per second, on average; twice as many may come at once.
    pub requests_per_s: u64,
    /// Most fuel that its policies burn per minute, on average.
    pub fuel_per_minute: u64,
    /// Most bytes of disks, memories, snapshots and logs of all its instances together.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Most bytes of price books and components that are stored for it.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Most launches of machines per minute, on average; restarts beyond wait.
    #[serde(default)]
    pub launches_per_minute: u64,
    /// Most changes of phase per minute, on average, above which requests are refused.
    #[serde(default)]
    pub events_per_minute: u64,
}

/// A tenant, with its limits and its present use of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// The tenant's id.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub id: TenantId,
    /// Instant of its creation.
    pub created_at: Timestamp,
    /// The limits in force for it.
    pub limits: TenantLimits,
    /// Number of its instances that are not deleted.
    pub instances: u64,
    /// Number of virtual processors of those instances together.
    pub vcpus: u64,
    /// Memory of those instances together, in bytes.
    pub memory_bytes: u64,
    /// Bytes of disks, memories, snapshots and logs of those instances together; a console and a
    /// log count as large as they may become.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Number of its policies, the standard one included.
    pub policies: u64,
    /// Fuel that its policies have burned since the start of the daemon.
    pub fuel: u64,
    /// Set if the tenant's own admins may change its prices, invoices and policy, beside operators
    /// and the role `billing`.
    #[serde(default)]
    pub billing_delegated: bool,
    /// Set if nothing of it may be started or made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Its end; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The fallback steps for a quarantine of its policy, in the order in which they are tried.
    pub fallback: Vec<FallbackStep>,
    /// Name to which its documents are addressed; absent if it has none but its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_name: Option<String>,
    /// Digest of the policy in force.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub policy: Digest,
    /// Name of the policy in force; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_name: Option<String>,
    /// Number of quarantined policies that need an operator's attention.
    pub alerts: u64,
}

/// The right to charge a tenant: to change its prices, its invoices and its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Billing {
    /// Set to give the right to the tenant's own admins, beside operators and the role `billing`.
    pub delegated: bool,
}

/// The name to which a tenant's documents are addressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BillingName {
    /// 1 to 256 bytes; null for none but the tenant's id.
    #[schema(example = "Acme GmbH, Berlin")]
    pub name: Option<String>,
}

/// The suspension of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Suspension {
    /// Set so that nothing of the tenant is started or made; unset to resume it.
    pub suspended: bool,
}

/// The end of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedTenant {
    /// The tenant.
    pub tenant: Tenant,
    /// Its last bill: the documents that reach its end. They are empty if they could not be made.
    pub documents: Vec<Invoice>,
    /// The reason why the last bill could not be made; close it when that is mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbilled: Option<String>,
}

/// The fallback of a tenant whose policy is quarantined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// The steps in the order in which they are tried; the first that is possible is taken.
    pub ladder: Vec<FallbackStep>,
}

/// The names of instances in a tenant's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SetDocumentNames {
    /// Names and tags as they are.
    Plain,
    /// Pseudonyms by a key of the tenant's own, and no tags.
    Pseudonyms,
    /// The key was destroyed: ids in place of names, and no tags.
    Destroyed,
}

/// The names of instances in a tenant's documents, and the mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentNames {
    /// The kind of names.
    pub mode: SetDocumentNames,
    /// The name of each instance that is not deleted, by the one in documents; empty for plain
    /// names.
    #[serde(default)]
    pub names: std::collections::BTreeMap<String, String>,
}
