//! Settings by which an instance acts on its own: restarts, expiry, health checks, auto-standby.

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
    /// After a failure: the machine died, or the guest's program reported an exit code other than
    /// zero.
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

/// How an instance is started again after an end that nobody asked for. The time until then is
/// `stopped`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartPolicy {
    /// After which ends; after none if absent.
    #[serde(default)]
    pub policy: RestartMode,
    /// How long the first attempt waits, such as `5s`; each one after it waits twice as long, up to
    /// 5 minutes. 1 s if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// Most attempts in a row; no limit if absent or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How long the guest has to run for the next attempt to be a first one again, such as `1m`,
    /// which it is if absent.
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
    /// Why none will be made, where the instance has stopped and the policy would have it start
    /// again.
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
    /// When it goes to standby by itself; null for never.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AutoStandby>)]
    pub auto_standby: Option<Option<AutoStandby>>,
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
fn present<'a, T: Deserialize<'a>, D: Deserializer<'a>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// How to find out whether a workload is well.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// What to ask; the field of the same name says the rest.
    #[serde(rename = "type", default)]
    pub kind: HealthCheckKind,
    /// A question on the guest's console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<ConsoleCheck>,
    /// A request to an HTTP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<NetworkCheck>,
    /// A connection to a TCP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<NetworkCheck>,
    /// A program in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCheck>,
    /// From an answer to the next question, such as `10s`, which it is if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// How long an answer may take, such as `2s`, which it is if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// So many failures in a row make it unhealthy; 3 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
    /// Failures so soon after the launch do not count, such as `30s`; all count if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period: Option<String>,
}

/// A question on the guest's console.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleCheck {
    /// What is typed, as it is; nothing if absent: then the guest has to write by itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub send: String,
    /// What the guest has to write after that.
    pub expect: String,
}

/// A question at an address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkCheck {
    /// Where the daemon reaches the workload, such as `10.0.0.2:8080`, in a network that the
    /// operator has opened for health checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A port alone says nothing here: guests have no network of the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Path and query of an HTTP request; `/` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A program in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecCheck {
    /// The program and its arguments.
    #[serde(default)]
    pub command: Vec<String>,
}

/// What a health check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthCheckKind {
    /// Nothing.
    #[default]
    None,
    /// The guest, on its console.
    Console,
    /// An HTTP server: well is a status of 200 to 399.
    Http,
    /// A TCP port: well is a connection.
    Tcp,
    /// A program in the guest; no guest has an agent that would run it, so this is refused.
    Exec,
}

/// What is known of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthStatus {
    /// The verdict.
    pub status: WorkloadHealth,
    /// Failures in a row that count.
    pub failures: u32,
    /// When it was asked last, in this launch and since the start of the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Timestamp>,
    /// What was wrong then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A verdict about a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadHealth {
    /// It was not well yet, and may still be starting.
    Starting,
    /// It was well when it was asked last, or has not failed often enough to be called otherwise.
    Healthy,
    /// It failed as often in a row as its check allows. A restart policy that acts on failures
    /// stops it and starts it again.
    Unhealthy,
}

impl From<driver::HealthStatus> for WorkloadHealth {
    fn from(status: driver::HealthStatus) -> Self {
        match status {
            driver::HealthStatus::Starting => WorkloadHealth::Starting,
            driver::HealthStatus::Healthy => WorkloadHealth::Healthy,
            driver::HealthStatus::Unhealthy => WorkloadHealth::Unhealthy,
        }
    }
}

/// When an instance goes to standby by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoStandby {
    /// After so long in which nobody has commanded it or reported activity, and its process has
    /// used little of a processor, such as `10m`.
    pub idle_after: String,
    /// So much of one processor is little, in thousandths, on average over that time; 50 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_permille: Option<u32>,
}

/// Something came in for an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportActivity {
    /// Restore it if it is in standby, and answer when it runs.
    #[serde(default)]
    pub wake: bool,
}
