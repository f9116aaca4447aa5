//! Tokens, their creation and their status.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Timestamp, text};
use crate::id::{TenantId, TokenId};
use crate::journal::wire::Role;

/// The token to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// A name for people, 1 to 63 characters without control characters.
    #[schema(example = "ci")]
    pub name: String,
    /// The role, which decides on the routes that the token may use.
    pub role: Role,
    /// Id of the tenant that it is for; the tenant of the request if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Lifetime in seconds, at most 366 days; 90 days if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// The token's id: 24 hexadecimal digits.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub id: TokenId,
    /// Id of the tenant that it is for.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The token's name.
    pub name: String,
    /// The role, which decides on the routes that the token may use.
    pub role: Role,
    /// The present status.
    pub status: TokenStatus,
    /// Instant of its creation.
    pub created_at: Timestamp,
    /// The creator: `host`, `operator`, `token:<id>` or `jwt:<subject>`.
    pub created_by: String,
    /// First instant at which it is expired.
    pub expires_at: Timestamp,
    /// Instant of its revocation; absent if it was not revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// The status of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenStatus {
    /// The token is accepted.
    Good,
    /// The token has passed its `expires_at`.
    Expired,
    /// The token was revoked.
    Revoked,
}

/// A token with its secret, as its creation answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// The secret, to be sent as `Authorization: Bearer <secret>`. It is in this answer only.
    pub secret: String,
    /// The token.
    #[serde(flatten)]
    pub token: Token,
}
