//! `tallyman tour`: one real guest through its whole lifecycle, and the proof that its time adds
//! up.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::client::Client;
use super::daemon::{self, Daemon};
use super::document::{self, Format};
use super::global::Global;
use super::output;
use super::{image, instance, policy, serve};
use crate::api::model::{
    Activate, CreateInstance, Documents, Image, Instance, InstanceState, NoOptions, PreviewRequest,
    Rollback,
};
use crate::clock;
use crate::policy::Profile;
use crate::tenancy::SELF;

const EXAMPLES: &str = "\
Examples:
  tallyman tour
  tallyman tour --swap-policy target/policies/coarse.wasm
  tallyman tour --keep

The exit status is 1 if a step fails, or if the times do not add up to the nanosecond.";

const IMAGE: &str = "debian-busybox";
const PREFIX: &str = "tour-";

/// Longest time for a boot, which takes minutes without hardware virtualization.
const BOOT: Duration = Duration::from_secs(600);

/// A price book of the tour alone: a cent for each second of a processor, so that seconds are seen.
const PRICES: &str = include_str!("tour.json");

/// Arguments of the tour.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Tour {
    /// Keep serving afterwards, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// A policy to activate on the way, and to roll back; without one, that step is left out
    #[arg(long, value_name = "FILE")]
    swap_policy: Option<PathBuf>,
}

impl Tour {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let daemon = ensure_daemon(&client, global).await?;
        let walked = self.walk(&client, global).await;
        let Some(mut daemon) = daemon else { return walked };
        if walked.is_ok() && self.keep {
            output::line("\nThe daemon serves until Ctrl-C.")?;
            tokio::select! {
                interrupted = interrupted() => interrupted?,
                error = daemon.ended() => return Err(error),
            }
        }
        let stopped = daemon.stop().await;
        walked.and(stopped)?;
        output::line(serve::STOPPED)
    }

    async fn walk(&self, client: &Client, global: &Global) -> anyhow::Result<()> {
        ensure_image(client, global).await?;
        let earlier = earlier(client).await?;
        let name = next_name(&earlier);
        self.live(client, &name).await?;
        let account = instance::intervals(client, &name).await?;
        output::line(&format!("\n{}", output::intervals(&account)))?;
        if !earlier.is_empty() {
            output::line(&format!(
                "\nEarlier instances that were found:\n{}",
                output::instances(&earlier, output::Form::Table)
            ))?;
        }
        output::line(&format!("\n{}", bill(client).await?))?;
        instance::check(&account)?;
        output::line(&next_steps(&name))
    }

    /// The lifecycle of one instance.
    async fn live(&self, client: &Client, name: &str) -> anyhow::Result<()> {
        step(&format!("create {name}"), create(client, name)).await?;
        step(
            "wait until it is running",
            instance::wait(client, name, InstanceState::Running, BOOT),
        )
        .await?;
        step("standby: memory to disk", command(client, name, "standby")).await?;
        step("restore in a new process", command(client, name, "restore")).await?;
        step(
            "wait until it is running",
            instance::wait(client, name, InstanceState::Running, BOOT),
        )
        .await?;
        let swapped = match &self.swap_policy {
            Some(file) => Some(swap(client, file).await?),
            None => None,
        };
        step("pause", command(client, name, "pause")).await?;
        step("resume", command(client, name, "resume")).await?;
        if swapped.is_some() {
            step("roll the policy back", policy::roll_back(client, &Rollback::default(), None))
                .await?;
        }
        step("stop", command(client, name, "stop")).await?;
        Ok(())
    }
}

/// Starts a daemon if none answers; `None` if one does.
async fn ensure_daemon(client: &Client, global: &Global) -> anyhow::Result<Option<Daemon>> {
    if daemon::answers(client).await? {
        output::line(&format!("a daemon answers at {}", client.url()))?;
        return Ok(None);
    }
    let data = global.data()?;
    let started = Daemon::start(client, &data, global.token.as_deref());
    step(&format!("start the daemon at {}", client.url()), started).await.map(Some)
}

async fn ensure_image(client: &Client, global: &Global) -> anyhow::Result<()> {
    let images: Vec<Image> = client.get(&["images"], &[]).await?;
    if images.iter().any(|image| image.name == IMAGE) {
        return Ok(());
    }
    let data = global.data()?;
    step(&format!("build the image {IMAGE}"), image::build(&data, |_| {})).await?;
    Ok(())
}

/// The existing instances, of this command or another.
async fn earlier(client: &Client) -> anyhow::Result<Vec<Instance>> {
    client.get(&["instances"], &[]).await
}

fn next_name(earlier: &[Instance]) -> String {
    let numbers = earlier
        .iter()
        .filter_map(|instance| instance.name.as_str().strip_prefix(PREFIX)?.parse::<u32>().ok());
    format!("{PREFIX}{}", numbers.max().unwrap_or(0).saturating_add(1))
}

async fn create(client: &Client, name: &str) -> anyhow::Result<Instance> {
    let request = CreateInstance {
        name: name.into(),
        image: IMAGE.into(),
        vcpus: 1,
        ..CreateInstance::default()
    };
    client.post(&["instances"], &request).await
}

async fn command(client: &Client, name: &str, command: &str) -> anyhow::Result<Instance> {
    instance::command(client, name, command, &NoOptions {}).await
}

async fn swap(client: &Client, file: &std::path::Path) -> anyhow::Result<()> {
    let uploaded = step(
        &format!("upload the policy {}", file.display()),
        policy::upload(client, file, Profile::Compact, None),
    )
    .await?;
    // An earlier tour may have activated it before.
    let request = Activate {
        digest: uploaded.digest.to_string(),
        at: None,
        again: true,
        options: std::collections::BTreeMap::new(),
        reason: Some("a tour".into()),
        max_net: None,
        max_tenant: None,
    };
    let what = format!("activate it ({})", output::short(&uploaded.digest));
    step(&what, policy::activate(client, &request, None)).await?;
    Ok(())
}

/// Runs one step, and prints a line with its name and its duration.
async fn step<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    output::text(&format!("{what} ... "))?;
    let start = clock::boottime_ns();
    let done = work.await;
    let took = output::duration(clock::boottime_ns().saturating_sub(start));
    match &done {
        Ok(_) => output::line(&format!("done in {took}"))?,
        Err(_) => output::line(&format!("failed after {took}"))?,
    }
    done.with_context(|| format!("can't {what}"))
}

/// The bill for everything so far, as it would be under the tour's prices. Nothing is stored.
async fn bill(client: &Client) -> anyhow::Result<String> {
    let request = PreviewRequest {
        from: None,
        to: None,
        policy: None,
        prices: Some(PRICES.into()),
        from_begin: true,
    };
    let path = ["tenants", SELF, "invoice", "preview"];
    let preview: Documents =
        client.post(&path, &request).await.context("can't preview the bill")?;
    Ok(document::print(&document::pages(&preview.documents, None), Format::Table))
}

async fn interrupted() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for signals")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn next_steps(name: &str) -> String {
    format!(
        "
What to try next, in another terminal:
  tallyman instance start {name} --wait      boot it again
  tallyman instance logs {name} --follow     follow its console
  tallyman instance list                     list all instances and their time
  tallyman policy status                     show the policy in force
  tallyman prices set docs/prices.json       put prices in force; then `tallyman invoice preview`
  tallyman journal list --instance {name}    list every fact, as it was hashed
  tallyman journal verify                    verify that none was altered"
    )
}
