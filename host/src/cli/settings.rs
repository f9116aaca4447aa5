//! `tallyman instance update`, `resize` and `stats`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::client::Client;
use super::instance::{done, duration, tag};
use super::output::{self, Output};
use super::progress::during;
use crate::api::model::{
    ExpiryAction, Instance, InstanceStats, ResizeInstance, RestartMode, RestartPolicy, UpdateInstance,
};
use crate::api::{format_millis, format_size, parse_size};

/// What an instance does by itself, as it is asked for.
#[derive(Debug, Args)]
pub(super) struct ByItself {
    /// After which ends it is started again
    #[arg(long, value_name = "WHEN")]
    restart: Option<Restart>,
    /// How long the first attempt to start it again waits; each one after it waits twice as long
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "restart")]
    restart_backoff: Option<Duration>,
    /// Most attempts in a row
    #[arg(long, value_name = "COUNT", requires = "restart")]
    restart_attempts: Option<u32>,
    /// How long it has to run for the next attempt to be a first one again
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "restart")]
    restart_stable_after: Option<Duration>,
    /// Its time is over so long from now
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
    /// What happens when its time is over
    #[arg(long, value_name = "ACTION", requires = "ttl")]
    at_expiry: Option<AtExpiry>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Restart {
    /// After none
    Never,
    /// After every one that nobody asked for
    Always,
    /// If the machine died, or the guest's program failed
    OnFailure,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AtExpiry {
    /// It is deleted
    Delete,
    /// It is stopped
    Stop,
}

fn text(duration: Duration) -> String {
    format_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl ByItself {
    pub(super) fn restart_policy(&self) -> Option<RestartPolicy> {
        let policy = match self.restart? {
            Restart::Never => RestartMode::Never,
            Restart::Always => RestartMode::Always,
            Restart::OnFailure => RestartMode::OnFailure,
        };
        Some(RestartPolicy {
            policy,
            backoff: self.restart_backoff.map(text),
            max_attempts: self.restart_attempts,
            stable_after: self.restart_stable_after.map(text),
        })
    }

    pub(super) fn ttl(&self) -> Option<String> {
        self.ttl.map(text)
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
    /// Its id, its name, or its id's unique beginning
    id: String,
    /// A label; those that are given take the place of all there were
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag, conflicts_with = "no_tags")]
    tag: Vec<(String, String)>,
    /// No labels any more
    #[arg(long)]
    no_tags: bool,
    /// Its time is never over
    #[arg(long, conflicts_with = "ttl")]
    no_expiry: bool,
    #[command(flatten)]
    by_itself: ByItself,
}

impl Update {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let tags = (self.no_tags || !self.tag.is_empty()).then(|| self.tag.iter().cloned().collect());
        let body = UpdateInstance {
            tags,
            restart_policy: self.by_itself.restart_policy(),
            health_check: None,
            ttl: self.by_itself.ttl(),
            expires_at: self.no_expiry.then_some(None),
            expiry_action: self.by_itself.expiry_action(),
        };
        let instance: Instance = client.patch(&["instances", &self.id], &body).await?;
        output.show(&instance, output::instance)
    }
}

#[derive(Debug, Args)]
pub(super) struct Resize {
    /// Its id, its name, or its id's unique beginning
    id: String,
    /// Guest memory, such as 512MB
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

pub(super) async fn stats(client: &Client, output: Output, id: &str) -> anyhow::Result<()> {
    let stats: InstanceStats = client.get(&["instances", id, "stats"], &[]).await?;
    output.show(&stats, |stats| {
        output::pairs([
            ("name", stats.instance_name.to_string()),
            ("id", stats.instance_id.to_string()),
            ("processor time", output::duration(stats.cpu_ns)),
            ("memory present", format_size(stats.memory_rss_bytes)),
            ("address space", format_size(stats.memory_vms_bytes)),
            ("guest memory", format_size(stats.allocated_memory_bytes)),
            ("vcpus", stats.allocated_vcpus.to_string()),
        ])
    })
}
