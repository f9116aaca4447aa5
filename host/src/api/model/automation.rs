//! Settings by which an instance acts on its own: restarts, expiry, health checks, auto-standby.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::Timestamp;
use crate::driver;
use crate::vm;

/// The ends after which an instance is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartMode {
    /// After none.
    #[default]
    Never,
    /// After every end that no client asked for.
    Always,
    /// After a failure only: the machine died, or the guest's program reported an exit code other
    /// than zero.
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

/// The restart policy of an instance, for ends that no client asked for. Time between an end and
/// the restart counts as `stopped`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartPolicy {
    /// The ends after which it is started again; `never` if absent.
    #[serde(default)]
    pub policy: RestartMode,
    /// Delay before the first attempt, such as `5s`, from 50 ms to 24 h; 1 s if absent. It doubles
    /// with each further attempt, up to 5 minutes or this delay, whichever is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// Most attempts in a row; unlimited if absent or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Time that the guest has to run until the attempts are counted from the start again, such as
    /// `5m`, from 10 s to 24 h; 1 m if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_after: Option<String>,
}

/// Progress of an instance's restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestartStatus {
    /// Number of attempts made in a row.
    pub attempts: u32,
    /// Instant of the last attempt; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt_at: Option<Timestamp>,
    /// Instant at which the next attempt is due; absent if none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// The reason for which a stopped instance is not started again; absent while it runs, or while
    /// an attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_reason: Option<RestartBlock>,
}

/// The reason for which an instance is not started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartBlock {
    /// A client asked for the stop.
    ManualStop,
    /// The policy's `max_attempts` is used up.
    MaxAttemptsExceeded,
}

/// The action on an instance that expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExpiryAction {
    /// The instance is deleted.
    #[default]
    Delete,
    /// The instance is stopped.
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

/// Changes to an instance. An absent field leaves the setting as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateInstance {
    /// Labels in place of all present ones, by name; at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// The restart policy, in place of the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// The health check, in place of the present one; the type `none` removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// The auto-standby setting, in place of the present one; null removes it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AutoStandby>)]
    pub auto_standby: Option<Option<AutoStandby>>,
    /// Time from now until it expires, such as `1h30m`, instead of `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Instant at which it expires, later than now; null removes the expiry.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    pub expires_at: Option<Option<Timestamp>>,
    /// The action at expiry; `delete` if absent. Without `ttl` and `expires_at` it changes the
    /// action of the present expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_action: Option<ExpiryAction>,
    /// Secrets of the guest's environment. Not supported: it has to be empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Reads a field that is present: `None` is null. An absent field is left to its default.
fn present<'a, T: Deserialize<'a>, D: Deserializer<'a>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The health check of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The kind of check. Its settings are in the field of the same name, which is required.
    #[serde(rename = "type", default)]
    pub kind: HealthCheckKind,
    /// A text typed on the guest's console, and the answer that is expected there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<ConsoleCheck>,
    /// Settings of an `http` check: an HTTP request to the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<NetworkCheck>,
    /// Settings of a `tcp` check: a connection to the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<NetworkCheck>,
    /// A program in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCheck>,
    /// Time from the end of one probe to the next, such as `30s`, from 100 ms to 24 h; 10 s if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Longest time for one probe, such as `5s`, from 100 ms to 60 s; 2 s if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Number of failures in a row after which the workload is unhealthy, 1 or more; 3 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
    /// Number of successes in a row after which the workload is healthy. It has to be 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<u32>,
    /// Time after the launch during which failures do not count, such as `30s`, up to 24 h; 0 s if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period: Option<String>,
}

/// A text typed on the guest's console, and the answer that is expected there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsoleCheck {
    /// Text typed on the console as it is, at most 1,024 bytes. If absent, nothing is typed and the
    /// guest has to write on its own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub send: String,
    /// Text that the guest has to write after that, 1 to 1,024 bytes. It may not be a part of
    /// `send`, which a terminal may echo.
    pub expect: String,
}

/// The address at which a workload is probed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkCheck {
    /// IP address and port at which the daemon reaches the workload, such as `10.0.0.2:8080`, in a
    /// network that the operator has opened for health checks. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Ignored. A port alone does not name a workload, since guests have no network of the host's;
    /// give `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Scheme of an HTTP request. It has to be `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Status of a success. It has to be absent: 200 to 399 is a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_status: Option<u16>,
    /// Path and query of an HTTP request, beginning with `/`, at most 1,024 bytes; `/` if absent. A
    /// `tcp` check ignores it.
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
    /// The folder to run it in; `/` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
}

/// The kind of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthCheckKind {
    /// No check.
    #[default]
    None,
    /// A text is typed on the guest's console and an answer expected there.
    Console,
    /// An HTTP server is asked; a status of 200 to 399 is a success.
    Http,
    /// A TCP port is connected to; an accepted connection is a success.
    Tcp,
    /// A program in the guest. Refused with `unsupported`: no guest has an agent that would run it.
    Exec,
}

/// The health of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthStatus {
    /// The verdict.
    pub status: WorkloadHealth,
    /// Number of counted failures in a row.
    pub failures: u32,
    /// Instant of the last probe; absent before the first of this launch, or since the start of the
    /// daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Timestamp>,
    /// The failure of the last probe, in words; absent if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The health of a workload, with the counts and instants behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthReport {
    /// The verdict.
    pub status: HealthVerdict,
    /// Number of successes in a row.
    pub consecutive_successes: u32,
    /// Number of counted failures in a row.
    pub consecutive_failures: u32,
    /// Instant of the last probe; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checked_at: Option<Timestamp>,
    /// Instant of the last success; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<Timestamp>,
    /// Instant of the last failure; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_at: Option<Timestamp>,
    /// The failure of the last probe, in words; absent if it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A verdict about a workload, also about one that is not probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthVerdict {
    /// It has no health check.
    Disabled,
    /// No probe has succeeded since the launch; the workload may still be starting.
    Starting,
    /// The last probe succeeded, or fewer failed in a row than the threshold.
    Healthy,
    /// As many probes failed in a row as the threshold says.
    Unhealthy,
    /// Nothing runs that could be probed.
    Unknown,
}

/// A verdict about a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadHealth {
    /// No probe has succeeded since the launch; the workload may still be starting.
    Starting,
    /// The last probe succeeded, or fewer failed in a row than the threshold.
    Healthy,
    /// As many probes failed in a row as the threshold says. A restart policy that acts on failures
    /// stops the instance and starts it again.
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

/// The condition under which an instance goes to standby on its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoStandby {
    /// Set if the setting is in force; true if absent, false removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Time without a command, without reported activity and with little processor use, such as
    /// `10m`, from 1 s to 30 days; 5 minutes if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_after: Option<String>,
    /// The same as `idle_after`, by the name that other clients have for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
    /// Clients whose connections do not count. It has to be empty: no connection counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_source_cidrs: Vec<String>,
    /// Ports at which connections do not count. It has to be empty: no connection counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_destination_ports: Vec<u16>,
    /// Processor use up to which an instance is idle, in thousandths of one processor, averaged
    /// over `idle_after`; 0 to 1,000, 50 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_permille: Option<u32>,
}

/// A report of activity for an instance, such as a request that arrived for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportActivity {
    /// Set to restore the instance if it is in standby; the answer comes when it runs.
    #[serde(default)]
    pub wake: bool,
}
