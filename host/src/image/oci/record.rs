//! The origin of an image, and its program.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The origin of an image of the OCI format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OciRecord {
    /// The digest of its manifest: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Such as `linux/amd64`.
    pub platform: String,
    /// The program, and its settings.
    pub settings: Settings,
    /// The repository that it was pulled from, with its registry; absent for an import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The program of an image, and its settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Settings {
    /// The program and its first arguments.
    #[serde(default, alias = "Entrypoint", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Further arguments, or the program if there is no entrypoint.
    #[serde(default, alias = "Cmd", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Variables, `NAME=value`.
    #[serde(default, alias = "Env", skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The folder to run it in.
    #[serde(default, alias = "WorkingDir", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// The user to run it as.
    #[serde(default, alias = "User", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The signal that asks it to end.
    #[serde(default, alias = "StopSignal", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}
