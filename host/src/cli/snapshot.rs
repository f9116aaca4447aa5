//! `tallyman snapshot`, and the forks of instances and snapshots.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::args::{done, duration, duration_text, tag};
use super::client::Client;
use super::global::Global;
use super::output::{self, Output};
use super::progress::during;
use crate::api::format_size;
use crate::api::model::{
    CreateSnapshot, ForkInstance, ForkSnapshot, Instance, NoOptions, RestoreSnapshot, Retention,
    SetSnapshotSchedule, Snapshot, SnapshotSchedule, TargetState,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Take a snapshot of an instance
    #[command(after_help = "Examples:\n  \
                      tallyman snapshot create web before-upgrade\n  \
                      tallyman snapshot create web --keep 5\n  \
                      tallyman snapshot create web for-long --compress\n\n\
                      A running instance is paused meanwhile.")]
    Create(Create),
    /// List an instance's snapshots
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  tallyman snapshot list web\n  tallyman snapshot list web --json"
    )]
    List {
        /// The instance: its id, its name, or a unique prefix of its id
        id: String,
    },
    /// Show one snapshot
    #[command(after_help = "Examples:\n  tallyman snapshot get web before-upgrade")]
    Get(One),
    /// Delete a snapshot
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  tallyman snapshot delete web before-upgrade"
    )]
    Delete(One),
    /// Restore an instance to a snapshot; its history goes on
    #[command(after_help = "Examples:\n  \
                      tallyman snapshot restore web before-upgrade\n  \
                      tallyman snapshot restore web before-upgrade --to standby\n\n\
                      The instance has to be stopped or in standby.")]
    Restore(Restore),
    /// Create a new instance from a snapshot
    #[command(after_help = "Examples:\n  tallyman snapshot fork web before-upgrade web-2")]
    Fork(ForkOne),
    /// Set, show or remove an instance's snapshot schedule
    #[command(after_help = "Examples:\n  \
                      tallyman snapshot schedule web --every 1h --keep 24\n  \
                      tallyman snapshot schedule web --every 24h --keep 7 --compress\n  \
                      tallyman snapshot schedule web\n  \
                      tallyman snapshot schedule web --off")]
    Schedule(Schedule),
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The instance: its id, its name, or a unique prefix of its id
    id: String,
    /// Name of the snapshot
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The instance: its id, its name, or a unique prefix of its id
    id: String,
    /// Name of the snapshot; made of the time if absent
    name: Option<String>,
    /// A label; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,
    /// Keep only this number of the newest snapshots taken by commands, 1 to 256; older ones are
    /// deleted
    #[arg(long)]
    keep: Option<u32>,
    /// Compress its memory afterwards, in the background
    #[arg(long)]
    compress: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum To {
    /// Nothing runs; no memory is kept
    Stopped,
    /// Nothing runs; the memory is on disk
    Standby,
    /// The instance runs
    Running,
}

impl From<To> for TargetState {
    fn from(to: To) -> Self {
        match to {
            To::Stopped => TargetState::Stopped,
            To::Standby => TargetState::Standby,
            To::Running => TargetState::Running,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    #[command(flatten)]
    one: One,
    /// State to bring the instance to; if absent, running if the snapshot holds memory, else
    /// stopped
    #[arg(long)]
    to: Option<To>,
}

#[derive(Debug, Args)]
pub(super) struct ForkOne {
    #[command(flatten)]
    one: One,
    /// Name of the new instance: 1 to 63 of a-z, 0-9 and '-'
    fork: String,
    /// State to bring the new instance to; if absent, running if the snapshot holds memory, else
    /// stopped
    #[arg(long)]
    to: Option<To>,
}

/// `tallyman instance fork`.
#[derive(Debug, Args)]
pub(super) struct Fork {
    /// The instance to fork: its id, its name, or a unique prefix of its id
    id: String,
    /// Name of the new instance: 1 to 63 of a-z, 0-9 and '-'
    name: String,
    /// Allow a running instance to be paused for a moment; without it, its fork is refused
    #[arg(long)]
    from_running: bool,
    /// State to bring the new instance to; the state of the forked one if absent
    #[arg(long)]
    to: Option<To>,
}

#[derive(Debug, Args)]
pub(super) struct Schedule {
    /// The instance: its id, its name, or a unique prefix of its id
    id: String,
    /// Time between two snapshots, from 1m to 8784h
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "keep")]
    every: Option<Duration>,
    /// Longest random delay of each snapshot, up to that time; no delay if absent
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "every")]
    jitter: Option<Duration>,
    /// Number of the newest scheduled snapshots that are kept, 1 to 256
    #[arg(long, requires = "every")]
    keep: Option<u32>,
    /// Age from which scheduled snapshots are deleted, such as 168h; by number alone if absent
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "every")]
    max_age: Option<Duration>,
    /// Prefix of their names, at most 47 characters; scheduled if absent
    #[arg(long, requires = "every")]
    prefix: Option<String>,
    /// Compress the memory of each afterwards, in the background
    #[arg(long, requires = "every")]
    compress: bool,
    /// Remove the schedule
    #[arg(long, conflicts_with = "every")]
    off: bool,
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let output = global.output();
        match self {
            Command::Create(create) => create.run(&client, output).await,
            Command::List { id } => {
                let snapshots: Vec<Snapshot> =
                    client.get(&["instances", &id, "snapshots"], &[]).await?;
                output.show(&snapshots, |snapshots| table(snapshots))
            }
            Command::Get(One { id, name }) => {
                let snapshot: Snapshot =
                    client.get(&["instances", &id, "snapshots", &name], &[]).await?;
                output.show(&snapshot, |snapshot| table(std::slice::from_ref(snapshot)))
            }
            Command::Delete(One { id, name }) => {
                client.delete(&["instances", &id, "snapshots", &name], &[]).await?;
                output.show(&NoOptions {}, |_| format!("{name} of {id} is deleted"))
            }
            Command::Restore(Restore { one: One { id, name }, to }) => {
                let path = ["instances", &id, "snapshots", &name, "restore"];
                let target_state = to.map(Into::into);
                let body = RestoreSnapshot { target_state, target_hypervisor: None };
                let instance: Instance =
                    during(&format!("restoring {id} to {name}"), client.post(&path, &body)).await?;
                done(output, &instance)
            }
            Command::Fork(ForkOne { one: One { id, name }, fork, to }) => {
                let path = ["instances", &id, "snapshots", &name, "fork"];
                let target_state = to.map(Into::into);
                let body = ForkSnapshot { name: fork, target_state, target_hypervisor: None };
                let instance: Instance =
                    during(&format!("forking {name} of {id}"), client.post(&path, &body)).await?;
                done(output, &instance)
            }
            Command::Schedule(schedule) => schedule.run(&client, output).await,
        }
    }
}

impl Create {
    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let Create { id, name, tag, keep, compress } = self;
        let body = CreateSnapshot {
            name,
            kind: None,
            tags: tag.into_iter().collect(),
            keep,
            compress,
            compression: None,
        };
        let path = ["instances", id.as_str(), "snapshots"];
        let snapshot: Snapshot =
            during(&format!("taking a snapshot of {id}"), client.post(&path, &body)).await?;
        output.show(&snapshot, |snapshot| {
            format!("snapshot {} of {id} is taken, {}", snapshot.name, bytes(snapshot.size_bytes))
        })
    }
}

impl Fork {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let Fork { id, name, from_running, to } = self;
        let body = ForkInstance { name, from_running, target_state: to.map(Into::into) };
        let path = ["instances", id.as_str(), "fork"];
        let instance: Instance =
            during(&format!("forking {id}"), client.post(&path, &body)).await?;
        done(output, &instance)
    }
}

impl Schedule {
    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let path = ["instances", self.id.as_str(), "snapshot-schedule"];
        if self.off {
            client.delete(&path, &[]).await?;
            return output
                .show(&NoOptions {}, |_| format!("{} has no snapshot schedule any more", self.id));
        }
        let schedule: SnapshotSchedule = match self.every.zip(self.keep) {
            Some((every, max_count)) => {
                let body = SetSnapshotSchedule {
                    interval: duration_text(every),
                    jitter: self.jitter.map(duration_text),
                    retention: Retention { max_count, max_age: self.max_age.map(duration_text) },
                    name_prefix: self.prefix.clone(),
                    compress: self.compress,
                    metadata: None,
                };
                client.put(&path, &body).await?
            }
            None => client.get(&path, &[]).await?,
        };
        output.show(&schedule, |schedule| {
            let next = schedule.next_run_at.map_or_else(|| "never".into(), |at| at.to_string());
            let SnapshotSchedule { interval, retention, name_prefix, .. } = schedule;
            format!(
                "{}: every {interval}, the newest {} are kept as {name_prefix}-*; next {next}",
                self.id, retention.max_count
            )
        })
    }
}

/// A size for people: whole units, truncated.
fn bytes(bytes: u64) -> String {
    let shift = [40, 30, 20, 10].into_iter().find(|shift| bytes >> shift >= 10).unwrap_or(0);
    format_size(bytes >> shift << shift)
}

fn table(snapshots: &[Snapshot]) -> String {
    let rows = snapshots.iter().map(|snapshot| {
        vec![
            snapshot.name.to_string(),
            snapshot.kind.as_str().into(),
            snapshot.created_at.to_string(),
            bytes(snapshot.stored_bytes),
            if snapshot.scheduled { "schedule".into() } else { "client".into() },
        ]
    });
    output::table(&["NAME", "KIND", "CREATED", "ON DISK", "BY"], &[3], rows)
}
