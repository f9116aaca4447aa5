//! Proposals of policies and price books.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Timestamp, text};
use crate::id::{Digest, TenantId};
use crate::journal::wire::Plan;

/// A change that is proposed: a policy or a price book.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Propose {
    /// The policy: its name, its digest, a unique prefix of the digest, or `standard`; absent for a
    /// price book.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Values of the policy's options, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The text of the price book, at most 1 MiB, or the name or a unique prefix of the digest of
    /// one that the tenant has or had; absent for a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// A name for the price book among the tenant's, such as `night-v3`; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// First instant at which it is to be in force: RFC 3339 or a date in UTC; when it is accepted,
    /// if absent. An instant in the past is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The reason, in words for whoever decides. At most 1,024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The acceptance of a proposal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptProposal {
    /// Another first instant, or `now`, in place of the proposal's; the proposal's, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The reason, for the record; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The end of a proposal that does not come about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclineProposal {
    /// The reason, for the record; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The state of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// Nobody has decided yet.
    Open,
    /// The change was made.
    Accepted,
    /// It does not come about.
    Declined,
}

/// A proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proposal {
    /// Its number: the sequence number of the journal's fact.
    pub number: u64,
    /// Id of the tenant.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Policy or prices.
    pub plan: Plan,
    /// Digest of the policy or of the price book.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its name among the tenant's policies or books; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Options of the policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// First instant at which it is to be in force; absent for that of the acceptance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The reason, in words; absent if none was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The actor who proposed it.
    pub by: String,
    /// Its state.
    pub state: ProposalState,
    /// The actor who accepted or declined it; absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// The reason for its end; absent if none was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_reason: Option<String>,
}

/// The proposals of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proposals {
    /// The proposals, newest first.
    pub proposals: Vec<Proposal>,
}
