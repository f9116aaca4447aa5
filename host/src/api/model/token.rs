//! Tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Timestamp, text};
use crate::id::{TenantId, TokenId};
use crate::journal::wire::Role;

/// A token to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// For people, 1 to 63 characters.
    #[schema(example = "ci")]
    pub name: String,
    /// What it will be good for.
    pub role: Role,
    /// Whose it will be; the asker's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// For how long, in seconds, at most 366 days; 90 days if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// 24 hexadecimal digits.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub id: TokenId,
    /// Whose it is.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// What a person calls it.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// Whether it is good.
    pub status: TokenStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom: `host`, `operator`, `token:<id>` or `jwt:<subject>`.
    pub created_by: String,
    /// First instant at which it is no good any more.
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// Whether a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenStatus {
    /// It is.
    Good,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

/// A token that was just made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// What is sent as `Authorization: Bearer <secret>`. Shown this once.
    pub secret: String,
    /// The token.
    #[serde(flatten)]
    pub token: Token,
}
