//! `tallyman instance update`, `resize`, `activity` and `stats`, and the arguments of an instance's
//! automation.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args::{done, duration, duration_text, tag};
use super::client::Client;
use super::output::{self, Output};
use super::progress::during;
use crate::api::model::{
    AutoStandby, ConsoleCheck, ExecCheck, ExpiryAction, HealthCheck, HealthCheckKind, Instance,
    InstanceStats, NetworkCheck, ReportActivity, ResizeInstance, RestartMode, RestartPolicy,
    UpdateInstance,
};
use crate::api::{format_size, parse_size};

/// Arguments of an instance's automation.
#[derive(Debug, Args)]
pub(super) struct Automation {
    /// Restart policy: the ends after which the instance is started again
    #[arg(long, value_name = "WHEN")]
    restart: Option<Restart>,
    /// Delay before the first restart, from 50ms to 24h; 1s if absent. It doubles with each further
    /// attempt
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "restart")]
    restart_backoff: Option<Duration>,
    /// Most restarts in a row; unlimited if absent or 0
    #[arg(long, value_name = "COUNT", requires = "restart")]
    restart_attempts: Option<u32>,
    /// Time that the guest has to run until restarts are counted from the start again, from 10s to
    /// 24h; 1m if absent
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "restart")]
    restart_stable_after: Option<Duration>,
    /// Time from now until the instance expires, such as 1h30m; without it, an instance never
    /// expires
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
    /// Action at expiry; delete if absent
    #[arg(long, value_name = "ACTION", requires = "ttl")]
    at_expiry: Option<AtExpiry>,
    #[command(flatten)]
    health: HealthArgs,
    /// Put the instance into standby after this time without activity, from 1s to 720h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    auto_standby: Option<Duration>,
    /// Processor use that still counts as no activity, in thousandths of one processor, 0 to 1000;
    /// 50 if absent
    #[arg(long, value_name = "PERMILLE", requires = "auto_standby")]
    auto_standby_cpu: Option<u32>,
}

/// Arguments of the health check.
#[derive(Debug, Args)]
struct HealthArgs {
    /// Health check: the workload is healthy if the guest writes this text on its console
    #[arg(long, value_name = "TEXT", group = "health")]
    health_expect: Option<String>,
    /// Text to type on the console before that
    #[arg(long, value_name = "TEXT", requires = "health_expect")]
    health_send: Option<String>,
    /// Health check: the workload is healthy if it accepts a connection at this address, such as
    /// 10.0.0.2:5432
    #[arg(long, value_name = "ADDRESS", group = "health")]
    health_tcp: Option<String>,
    /// Health check: the workload is healthy if it answers an HTTP request at this address with a
    /// status of 200 to 399, such as 10.0.0.2:8080/health
    #[arg(long, value_name = "ADDRESS", group = "health")]
    health_http: Option<String>,
    /// Health check: the workload is healthy if this command of the guest's shell ends with 0
    #[arg(long, value_name = "COMMAND", group = "health")]
    health_exec: Option<String>,
    /// Time from the end of one probe to the next, from 100ms to 24h; 10s if absent
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "health")]
    health_interval: Option<Duration>,
    /// Longest time for one probe, from 100ms to 60s; 2s if absent
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "health")]
    health_timeout: Option<Duration>,
    /// Failures in a row that make the workload unhealthy; 3 if absent
    #[arg(long, value_name = "COUNT", requires = "health")]
    health_failures: Option<u32>,
    /// Time after the launch during which failures do not count; 0s if absent
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "health")]
    health_start_period: Option<Duration>,
}

impl HealthArgs {
    fn check(&self) -> Option<HealthCheck> {
        let shared = HealthCheck {
            interval: self.health_interval.map(duration_text),
            timeout: self.health_timeout.map(duration_text),
            failure_threshold: self.health_failures,
            start_period: self.health_start_period.map(duration_text),
            ..HealthCheck::default()
        };
        let at = |address: &str, path| NetworkCheck {
            address: Some(address.to_owned()),
            path,
            ..NetworkCheck::default()
        };
        if let Some(expect) = self.health_expect.clone() {
            let console =
                ConsoleCheck { send: self.health_send.clone().unwrap_or_default(), expect };
            return Some(HealthCheck {
                kind: HealthCheckKind::Console,
                console: Some(console),
                ..shared
            });
        }
        if let Some(script) = &self.health_exec {
            let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
            return Some(HealthCheck {
                kind: HealthCheckKind::Exec,
                exec: Some(ExecCheck { command, working_dir: None }),
                ..shared
            });
        }
        if let Some(address) = &self.health_tcp {
            return Some(HealthCheck {
                kind: HealthCheckKind::Tcp,
                tcp: Some(at(address, None)),
                ..shared
            });
        }
        let (address, path) =
            self.health_http.as_ref().map(|at| at.split_once('/').unwrap_or((at, "")))?;
        Some(HealthCheck {
            kind: HealthCheckKind::Http,
            http: Some(at(address, Some(format!("/{path}")))),
            ..shared
        })
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Restart {
    /// After none
    Never,
    /// After every end that no client asked for
    Always,
    /// After a failure only: the machine died, or the guest's program reported an exit code other
    /// than 0
    OnFailure,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AtExpiry {
    /// Delete the instance
    Delete,
    /// Stop the instance
    Stop,
}

impl Automation {
    pub(super) fn restart_policy(&self) -> Option<RestartPolicy> {
        let policy = match self.restart? {
            Restart::Never => RestartMode::Never,
            Restart::Always => RestartMode::Always,
            Restart::OnFailure => RestartMode::OnFailure,
        };
        Some(RestartPolicy {
            policy,
            backoff: self.restart_backoff.map(duration_text),
            max_attempts: self.restart_attempts,
            stable_after: self.restart_stable_after.map(duration_text),
        })
    }

    pub(super) fn health_check(&self) -> Option<HealthCheck> {
        self.health.check()
    }

    pub(super) fn auto_standby(&self) -> Option<AutoStandby> {
        let idle_after = Some(self.auto_standby.map(duration_text)?);
        let cpu_permille = self.auto_standby_cpu;
        Some(AutoStandby { idle_after, cpu_permille, ..AutoStandby::default() })
    }

    pub(super) fn ttl(&self) -> Option<String> {
        self.ttl.map(duration_text)
    }

    pub(super) fn expiry_action(&self) -> Option<ExpiryAction> {
        self.at_expiry.map(|action| match action {
            AtExpiry::Delete => ExpiryAction::Delete,
            AtExpiry::Stop => ExpiryAction::Stop,
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The instance: its id, its name, or a unique prefix of its id
    id: String,
    /// A label; the given ones replace all present ones; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag, conflicts_with = "no_tags")]
    tag: Vec<(String, String)>,
    /// Remove all labels
    #[arg(long)]
    no_tags: bool,
    /// Remove the expiry
    #[arg(long, conflicts_with = "ttl")]
    no_expiry: bool,
    /// Remove the health check
    #[arg(long, conflicts_with = "health")]
    no_health_check: bool,
    /// Turn auto-standby off
    #[arg(long, conflicts_with = "auto_standby")]
    no_auto_standby: bool,
    #[command(flatten)]
    automation: Automation,
}

impl Update {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let tags =
            (self.no_tags || !self.tag.is_empty()).then(|| self.tag.iter().cloned().collect());
        let body = UpdateInstance {
            tags,
            restart_policy: self.automation.restart_policy(),
            health_check: if self.no_health_check {
                Some(HealthCheck::default())
            } else {
                self.automation.health_check()
            },
            auto_standby: if self.no_auto_standby {
                Some(None)
            } else {
                self.automation.auto_standby().map(Some)
            },
            ttl: self.automation.ttl(),
            expires_at: self.no_expiry.then_some(None),
            expiry_action: self.automation.expiry_action(),
            env: BTreeMap::new(),
        };
        let instance: Instance = client.patch(&["instances", &self.id], &body).await?;
        output.show(&instance, output::instance)
    }
}

#[derive(Debug, Args)]
pub(super) struct Resize {
    /// The instance: its id, its name, or a unique prefix of its id
    id: String,
    /// New guest memory, such as 512MB, in powers of 1,024
    #[arg(value_parser = parse_size)]
    memory: u64,
}

impl Resize {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let body = ResizeInstance { size: None, memory_bytes: Some(self.memory) };
        let path = ["instances", self.id.as_str(), "resize"];
        let resized = client.post(&path, &body);
        let instance: Instance = during(&format!("resizing {}", self.id), resized).await?;
        done(output, &instance)
    }
}

#[derive(Debug, Args)]
pub(super) struct Activity {
    /// The instance: its id, its name, or a unique prefix of its id
    id: String,
    /// Restore the instance if it is in standby
    #[arg(long)]
    wake: bool,
}

impl Activity {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let path = ["instances", self.id.as_str(), "activity"];
        let instance: Instance = client.post(&path, &ReportActivity { wake: self.wake }).await?;
        done(output, &instance)
    }
}

pub(super) async fn stats(client: &Client, output: Output, id: &str) -> anyhow::Result<()> {
    let stats: InstanceStats = client.get(&["instances", id, "stats"], &[]).await?;
    output.show(&stats, |stats| {
        output::pairs([
            ("name", stats.instance_name.to_string()),
            ("id", stats.instance_id.to_string()),
            ("processor time", output::duration(stats.cpu_ns)),
            ("memory present", format_size(stats.memory_rss_bytes)),
            ("address space", format_size(stats.memory_vms_bytes)),
            ("received", format_size(stats.network_rx_bytes)),
            ("sent", format_size(stats.network_tx_bytes)),
            ("guest memory", format_size(stats.allocated_memory_bytes)),
            ("vcpus", stats.allocated_vcpus.to_string()),
        ])
    })
}
