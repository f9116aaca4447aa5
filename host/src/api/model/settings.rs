//! What an instance is told to do by itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::Timestamp;
use crate::driver;
use crate::vm;

/// After which ends an instance is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartMode {
    /// After none.
    #[default]
    Never,
    /// After every end that nobody asked for.
    Always,
    /// After a failure: the machine died, or the guest's program reported an exit code other than zero.
    OnFailure,
}

impl From<vm::RestartMode> for RestartMode {
    fn from(mode: vm::RestartMode) -> Self {
        match mode {
            vm::RestartMode::Never => RestartMode::Never,
            vm::RestartMode::Always => RestartMode::Always,
            vm::RestartMode::OnFailure => RestartMode::OnFailure,
        }
    }
}

impl From<RestartMode> for vm::RestartMode {
    fn from(mode: RestartMode) -> Self {
        match mode {
            RestartMode::Never => vm::RestartMode::Never,
            RestartMode::Always => vm::RestartMode::Always,
            RestartMode::OnFailure => vm::RestartMode::OnFailure,
        }
    }
}

/// How an instance is started again after an end that nobody asked for. The time until then is `stopped`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartPolicy {
    /// After which ends; after none if absent.
    #[serde(default)]
    pub policy: RestartMode,
    /// How long the first attempt waits, such as `5s`; each one after it waits twice as long, up to 5 minutes. 1 s if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// Most attempts in a row; no limit if absent or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How long the guest has to run for the next attempt to be a first one again, such as `1m`, which it is if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_after: Option<String>,
}

/// Where the restarts of an instance stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestartStatus {
    /// Attempts that were made in a row.
    pub attempts: u32,
    /// When the last one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt_at: Option<Timestamp>,
    /// When the next one will be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// Why none will be made, where the instance has stopped and the policy would have it start again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_reason: Option<RestartBlock>,
}

/// Why an instance is not started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartBlock {
    /// Somebody asked for the stop.
    ManualStop,
    /// There were as many attempts in a row as the policy allows.
    MaxAttemptsExceeded,
}

/// What happens to an instance whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExpiryAction {
    /// It is deleted.
    #[default]
    Delete,
    /// It is stopped.
    Stop,
}

impl From<ExpiryAction> for driver::ExpiryAction {
    fn from(action: ExpiryAction) -> Self {
        match action {
            ExpiryAction::Delete => driver::ExpiryAction::Delete,
            ExpiryAction::Stop => driver::ExpiryAction::Stop,
        }
    }
}

impl From<driver::ExpiryAction> for ExpiryAction {
    fn from(action: driver::ExpiryAction) -> Self {
        match action {
            driver::ExpiryAction::Delete => ExpiryAction::Delete,
            driver::ExpiryAction::Stop => ExpiryAction::Stop,
        }
    }
}

/// What to change of an instance; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateInstance {
    /// All labels from now on; at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// How it is started again after an end that nobody asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// How to find out whether its workload is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Its time is over so long from now, such as `1h30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Its time is over then; null for never.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    pub expires_at: Option<Option<Timestamp>>,
    /// What happens then; it is deleted if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_action: Option<ExpiryAction>,
}

/// Tells null from absent.
fn present<'a, T: Deserialize<'a>, D: Deserializer<'a>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// How to find out whether a workload is well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    /// What to ask. Nothing can be asked of guests so far: only `none` is accepted.
    #[serde(rename = "type", default)]
    pub kind: HealthCheckKind,
    /// The rest, which means nothing without a way to ask.
    #[serde(flatten)]
    #[schema(ignore)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// What a health check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthCheckKind {
    /// Nothing.
    #[default]
    None,
    /// An HTTP server in the guest.
    Http,
    /// A TCP port of the guest.
    Tcp,
    /// A program in the guest.
    Exec,
}

/// How much memory an instance is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeInstance {
    /// Guest memory such as `512MB` or `2G`, in powers of 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// The same in bytes, instead of `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

/// What the process of an instance uses of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceStats {
    /// The instance.
    #[serde(with = "super::text")]
    #[schema(value_type = String)]
    pub instance_id: crate::id::InstanceId,
    /// What a person calls it.
    #[serde(with = "super::text")]
    #[schema(value_type = String)]
    pub instance_name: crate::id::InstanceName,
    /// Processor time of its virtual machine monitor since the launch, in nanoseconds; 0 while there is none.
    pub cpu_ns: u64,
    /// In which steps that is counted, in nanoseconds.
    pub cpu_resolution_ns: u64,
    /// The monitor's memory that is present in the host's, in bytes; 0 while there is none.
    pub memory_rss_bytes: u64,
    /// The monitor's address space, in bytes; 0 while there is none.
    pub memory_vms_bytes: u64,
    /// Guest memory in bytes.
    pub allocated_memory_bytes: u64,
    /// Virtual processors.
    pub allocated_vcpus: u32,
}
