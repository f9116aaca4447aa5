//! Sessions of browsers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::text;
use crate::id::TenantId;
use crate::journal::wire::Role;

/// A sign-in.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// The operator's token, the secret of a token, or a signed token.
    pub token: String,
}

/// The caller, as the host knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The role of the token.
    pub role: Role,
    /// The tenant that requests are about; an operator may name another one.
    #[serde(with = "text")]
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// The version of the program.
    pub version: String,
}
