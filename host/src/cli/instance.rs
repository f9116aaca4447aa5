//! `tallyman instance`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use futures::{StreamExt, pin_mut};

use super::args::{done, duration, tag};
use super::client::Client;
use super::global::Global;
use super::guest_network::InstanceNetwork;
use super::output::{self, Output};
use super::progress::during;
use super::{automation, client, copy, exec, failure, snapshot};
use crate::api::model::{
    CreateInstance, DiskRequest, Instance, InstanceState, Intervals, NoOptions, StopOptions, Waited,
};
use crate::api::parse_size;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create an instance and boot it
    #[command(after_help = "Examples:\n  \
                      tallyman instance create web --image debian-busybox --wait\n  \
                      tallyman instance create db --image debian-busybox --vcpus 2 --memory 512MB \
                      --tag team=blue --disk /srv/db.raw")]
    Create(Box<Create>),
    /// List instances
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  \
                      tallyman instance list\n  \
                      tallyman instance list --state Running --tag team=blue\n  \
                      tallyman instance list --json"
    )]
    List(List),
    /// Show one instance
    #[command(after_help = "Examples:\n  \
                      tallyman instance get web\n  \
                      tallyman instance get k3v9 --json\n  \
                      tallyman instance get k3v9m2c8q1x7z5b4n6p0w2s8 --deleted")]
    Get {
        /// The instance: its id, its name, or a unique prefix of its id
        id: String,
        /// Find also a deleted instance, by its full id
        #[arg(long)]
        deleted: bool,
    },
    /// Start a stopped instance
    #[command(after_help = "Examples:\n  \
                      tallyman instance start web\n  \
                      tallyman instance start web --wait")]
    Start(Boot),
    /// Ask the guest to stop, and end it by force after a while
    #[command(after_help = "Examples:\n  \
                      tallyman instance stop web\n  \
                      tallyman instance stop web db --grace 30s")]
    Stop(Stop),
    /// Write an instance's memory to disk and end its process
    #[command(after_help = "Examples:\n  tallyman instance standby web")]
    Standby(Several),
    /// Restore an instance from standby
    #[command(after_help = "Examples:\n  tallyman instance restore web")]
    Restore(Several),
    /// Pause an instance's processors
    #[command(after_help = "Examples:\n  tallyman instance pause web")]
    Pause(Several),
    /// Resume a paused instance
    #[command(after_help = "Examples:\n  tallyman instance resume web")]
    Resume(Several),
    /// Stop an instance and close its record
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  \
                      tallyman instance delete web\n  \
                      tallyman instance delete web --grace 0s\n\n\
                      The instance's usage stays readable by its full id."
    )]
    Delete(Stop),
    /// Create a new instance from another one
    #[command(after_help = "Examples:\n  \
                      tallyman instance fork web web-2 --from-running\n  \
                      tallyman instance fork web web-2 --to standby\n\n\
                      The new instance begins with an empty history.")]
    Fork(snapshot::Fork),
    /// Change an instance's labels and automation
    #[command(after_help = "Examples:\n  \
                      tallyman instance update web --restart on-failure --restart-attempts 5\n  \
                      tallyman instance update web --ttl 2h --at-expiry stop\n  \
                      tallyman instance update web --tag team=blue\n  \
                      tallyman instance update web --health-send p --health-expect PONG \
                      --health-interval 5s\n  \
                      tallyman instance update web --auto-standby 10m")]
    Update(automation::Update),
    /// Resize an instance's memory
    #[command(after_help = "Examples:\n  tallyman instance resize web 1GB\n\n\
                      A stopped instance boots with the new size; a running one gets it at once, \
                      if its hypervisor\nsupports that and it was created with --memory-max.")]
    Resize(automation::Resize),
    /// Show the host resources that an instance uses
    #[command(after_help = "Examples:\n  tallyman instance stats web")]
    Stats(One),
    /// Report activity for an instance, as a proxy in front of it does
    #[command(after_help = "Examples:\n  \
                      tallyman instance activity web\n  \
                      tallyman instance activity web --wake")]
    Activity(automation::Activity),
    /// Run a command in the guest
    #[command(
        after_help = "Examples:\n  tallyman instance exec web uname -a\n  tallyman instance exec -it web sh\n  tallyman instance exec -i web tar x -C /srv <site.tar\n\nThe exit status is the command's: 128 and the number for a signal, 124 if its time was over, 126 or\n127 if it could not be started or was not found."
    )]
    Exec(exec::Exec),
    /// Copy files into the guest or out of it
    #[command(
        after_help = "Examples:\n  tallyman instance cp notes.txt web:/root/\n  tallyman instance cp web:/var/log ./logs"
    )]
    Cp(copy::Copy),
    /// Show what is at a path in the guest
    #[command(
        after_help = "Examples:\n  tallyman instance stat web:/etc/hostname\n  tallyman instance stat web:/etc --json"
    )]
    Stat(copy::Stat),
    /// Wait until an instance is in a state
    #[command(after_help = "Examples:\n  \
                      tallyman instance wait web\n  \
                      tallyman instance wait web --state Stopped --timeout 5m")]
    Wait(Wait),
    /// Show an instance's log: the guest's console, or that of the virtual machine monitor
    #[command(after_help = "Examples:\n  \
                      tallyman instance logs web\n  \
                      tallyman instance logs web --follow --tail 0\n  \
                      tallyman instance logs web --source vmm")]
    Logs(Logs),
    /// Show every interval of an instance's lifetime, and the proof that they add up
    #[command(after_help = "Examples:\n  \
                      tallyman instance intervals web\n  \
                      tallyman instance intervals web --json\n\n\
                      A deleted instance is found by its full id. The exit status is 1 if the \
                      times do not add up.")]
    Intervals(One),
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The instance: its id, its name, or a unique prefix of its id
    id: String,
}

#[derive(Debug, Args)]
pub(super) struct Several {
    /// The instances: for each its id, its name, or a unique prefix of its id
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Several {
    async fn command(self, client: &Client, output: Output, name: &str) -> anyhow::Result<()> {
        let act = async |id: &str| done(output, &command(client, id, name, &NoOptions {}).await?);
        each(&self.ids, output, act).await
    }
}

/// Does something with each instance, also if it fails with one before. Tells each failure; the
/// last is returned.
async fn each(
    ids: &[String],
    output: Output,
    act: impl AsyncFn(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut failed = Ok(());
    for id in ids {
        if let Err(error) = act(id).await
            && let Err(earlier) = std::mem::replace(&mut failed, Err(error))
        {
            failure::told(&earlier, output.is_json());
        }
    }
    failed
}

#[derive(Debug, Args)]
pub(super) struct Boot {
    /// The instances: for each its id, its name, or a unique prefix of its id
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    ready: Ready,
}

#[derive(Debug, Args)]
struct Ready {
    /// Wait until the instance is ready
    #[arg(long)]
    wait: bool,
    /// Longest time to wait
    #[arg(long, default_value = "2m", value_parser = duration, requires = "wait")]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name of the new instance: 1 to 63 of a-z, 0-9 and '-'
    name: String,
    /// The image to boot
    #[arg(long)]
    image: String,
    /// Number of virtual processors, 1 to 64
    #[arg(long, default_value_t = 1)]
    vcpus: u32,
    /// Guest memory, such as 512MB, in powers of 1,024; the image's minimum if absent
    #[arg(long, value_parser = parse_size)]
    memory: Option<u64>,
    /// Text to append to the image's kernel command line
    #[arg(long, default_value = "", hide_default_value = true)]
    cmdline: String,
    /// An extra disk: the path of a raw image on the daemon's host, with `:ro` if the guest may not
    /// write; may be repeated
    #[arg(long, value_name = "PATH[:ro]")]
    disk: Vec<String>,
    /// A label; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,
    /// The image has no agent: the instance is ready when its program has started
    #[arg(long)]
    skip_guest_agent: bool,
    /// Time that a stop gives the guest before it is ended by force; 5s if absent
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    stop_grace: Option<Duration>,
    /// Name of the hypervisor, as `tallyman capabilities` lists it; the host's default if absent
    #[arg(long)]
    hypervisor: Option<String>,
    /// Most memory to which it can be resized while it runs; if absent, only while it is stopped
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory_max: Option<u64>,
    /// The program, instead of the OCI image's
    #[arg(long)]
    entrypoint: Option<String>,
    /// A variable beside the OCI image's
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = tag)]
    env: Vec<(String, String)>,
    /// Size of the instance's own disk above the OCI image's file system, such as 10GB; 1 GiB if
    /// absent
    #[arg(long, value_name = "SIZE")]
    overlay_size: Option<String>,
    #[command(flatten)]
    network: InstanceNetwork,
    #[command(flatten)]
    automation: automation::Automation,
    #[command(flatten)]
    ready: Ready,
    /// Arguments, instead of the OCI image's
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only instances in this state
    #[arg(long)]
    state: Option<InstanceState>,
    /// Only instances with this label; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    tag: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    /// The instances: for each its id, its name, or a unique prefix of its id
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Time that the guest gets before it is ended by force; the instance's own grace time if
    /// absent
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    grace: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct Wait {
    /// The instance: its id, its name, or a unique prefix of its id
    id: String,
    /// The state to wait for
    #[arg(long, default_value = "Running")]
    state: InstanceState,
    /// Longest time to wait
    #[arg(long, default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The instance: its id, its name, or a unique prefix of its id
    id: String,
    /// Keep printing new lines
    #[arg(long, short)]
    follow: bool,
    /// Number of lines before the end to begin with
    #[arg(long, short = 'n', default_value_t = 100)]
    tail: usize,
    /// The log to show
    #[arg(long, default_value = "app")]
    source: Source,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Source {
    /// The guest's console
    App,
    /// The virtual machine monitor's log, for operators
    Vmm,
}

fn disk(text: &str) -> anyhow::Result<DiskRequest> {
    let (path, read_only) = text.strip_suffix(":ro").map_or((text, false), |path| (path, true));
    let path = std::path::absolute(path)?;
    let path = path.to_str().ok_or_else(|| anyhow!("the path {} is not UTF-8", path.display()))?;
    Ok(DiskRequest { path: path.to_owned(), read_only })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let client = global.client()?;
        let output = global.output();
        match self {
            Command::Create(create) => create.run(&client, output).await,
            Command::List(list) => list.run(&client, output).await,
            Command::Get { id, deleted } => {
                let query = if deleted { &[("deleted", "true")][..] } else { &[] };
                let instance: Instance = client.get(&["instances", &id], query).await?;
                output.show(&instance, output::instance)
            }
            Command::Start(Boot { ids, ready }) => {
                let start = async |id: &str| {
                    let instance = command(&client, id, "start", &NoOptions {}).await?;
                    ready.then_show(&client, output, instance).await
                };
                each(&ids, output, start).await
            }
            Command::Stop(Stop { ids, grace }) => {
                let options = StopOptions { grace_ms: grace.map(millis) };
                let stop =
                    async |id: &str| done(output, &command(&client, id, "stop", &options).await?);
                each(&ids, output, stop).await
            }
            Command::Standby(several) => several.command(&client, output, "standby").await,
            Command::Restore(several) => several.command(&client, output, "restore").await,
            Command::Pause(several) => several.command(&client, output, "pause").await,
            Command::Resume(several) => several.command(&client, output, "resume").await,
            Command::Delete(Stop { ids, grace }) => {
                each(&ids, output, async |id: &str| delete(&client, output, id, grace).await).await
            }
            Command::Fork(fork) => fork.run(&client, output).await,
            Command::Update(update) => update.run(&client, output).await,
            Command::Resize(resize) => resize.run(&client, output).await,
            Command::Activity(activity) => activity.run(&client, output).await,
            Command::Stats(One { id }) => automation::stats(&client, output, &id).await,
            Command::Exec(exec) => exec.run(&client, output).await,
            Command::Cp(copy) => copy.run(&client, output).await,
            Command::Stat(stat) => stat.run(&client, output).await,
            Command::Wait(wait) => wait.run(&client, output).await,
            Command::Logs(logs) => logs.run(&client, output).await,
            Command::Intervals(One { id }) => show_intervals(&client, output, &id).await,
        }
    }
}

/// Sends an instance a command and shows progress.
pub(super) async fn command(
    client: &Client,
    id: &str,
    name: &str,
    options: &impl serde::Serialize,
) -> anyhow::Result<Instance> {
    during(&format!("{name} {id}"), client.post(&["instances", id, name], options)).await
}

/// Waits for a state. Fails with the reason if it is not reached in time.
pub(super) async fn wait(
    client: &Client,
    id: &str,
    state: InstanceState,
    timeout: Duration,
) -> anyhow::Result<Waited> {
    let timeout_text = format!("{}ms", timeout.as_millis());
    let query = [("state", state.as_str()), ("timeout", timeout_text.as_str())];
    let path = ["instances", id, "wait"];
    let asking = client.get(&path, &query);
    let waited: Waited = during(&format!("waiting until {id} is {state}"), asking).await?;
    if let Some(error) = &waited.state_error {
        bail!("{error}; `tallyman instance logs {id}` shows the guest's console");
    }
    if waited.timed_out {
        bail!(
            "{id} is {} and not {state} after {}; wait longer with --timeout, or see \
             `tallyman instance logs {id}`",
            waited.state,
            output::duration(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX))
        );
    }
    Ok(waited)
}

pub(super) async fn intervals(client: &Client, id: &str) -> anyhow::Result<Intervals> {
    client.get(&["instances", id, "intervals"], &[]).await
}

/// Fails if the times of an instance do not add up.
pub(super) fn check(intervals: &Intervals) -> anyhow::Result<()> {
    let differences = [intervals.proof.difference_ns, intervals.accounted.proof.difference_ns];
    if differences != [0, 0] {
        bail!(
            "the times of {} do not add up, which is a defect; keep the journal and report it",
            intervals.name
        );
    }
    Ok(())
}

async fn show_intervals(client: &Client, output: Output, id: &str) -> anyhow::Result<()> {
    let found = intervals(client, id).await?;
    output.show(&found, output::intervals)?;
    check(&found)
}

impl Ready {
    async fn then_show(
        &self,
        client: &Client,
        output: Output,
        instance: Instance,
    ) -> anyhow::Result<()> {
        if !self.wait {
            return done(output, &instance);
        }
        let id = instance.id.as_str();
        wait(client, id, InstanceState::Running, self.timeout).await?;
        let instance: Instance = client.get(&["instances", id], &[]).await?;
        done(output, &instance)
    }
}

impl Create {
    fn request(&self) -> anyhow::Result<CreateInstance> {
        Ok(CreateInstance {
            name: self.name.clone(),
            image: self.image.clone(),
            vcpus: self.vcpus,
            size: None,
            memory_bytes: self.memory,
            cmdline: self.cmdline.clone(),
            disks: self.disk.iter().map(|text| disk(text)).collect::<anyhow::Result<_>>()?,
            tags: self.tag.iter().cloned().collect::<BTreeMap<_, _>>(),
            skip_guest_agent: self.skip_guest_agent,
            stop_grace_ms: self.stop_grace.map(millis),
            hypervisor: self.hypervisor.clone(),
            memory_bytes_max: self.memory_max,
            restart_policy: self.automation.restart_policy(),
            health_check: self.automation.health_check(),
            auto_standby: self.automation.auto_standby(),
            ttl: self.automation.ttl(),
            expires_at: None,
            expiry_action: self.automation.expiry_action(),
            entrypoint: self.entrypoint.clone().map(|program| vec![program]),
            cmd: (!self.command.is_empty()).then(|| self.command.clone()),
            env: self.env.iter().cloned().collect(),
            overlay_size: self.overlay_size.clone(),
            network: self.network.request(),
            ..CreateInstance::default()
        })
    }

    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let request = self.request()?;
        let created = client.post(&["instances"], &request);
        let instance: Instance = during(&format!("creating {}", self.name), created).await?;
        self.ready.then_show(client, output, instance).await
    }
}

impl List {
    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let tags: Vec<_> =
            self.tag.into_iter().map(|(name, value)| (format!("tags[{name}]"), value)).collect();
        let state = self.state.map(|state| ("state", state.as_str()));
        let tags = tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let query: Vec<_> = state.into_iter().chain(tags).collect();
        let instances: Vec<Instance> = client.get(&["instances"], &query).await?;
        output.show(&instances, |instances| output::instances(instances, output.form))
    }
}

async fn delete(
    client: &Client,
    output: Output,
    id: &str,
    grace: Option<Duration>,
) -> anyhow::Result<()> {
    let instance: Instance = client.get(&["instances", id], &[]).await?;
    let grace = grace.map(|grace| millis(grace).to_string());
    let query: Vec<_> = grace.iter().map(|grace| ("grace_ms", grace.as_str())).collect();
    let path = ["instances", instance.id.as_str()];
    during(&format!("deleting {}", id), client.delete(&path, &query)).await?;
    let closed: Instance = client.get(&path, &[("deleted", "true")]).await?;
    output.show(&closed, |closed| {
        format!(
            "{} is deleted; `tallyman instance intervals {}` shows its time",
            closed.name, closed.id
        )
    })
}

impl Wait {
    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let waited = match wait(client, &self.id, self.state, self.timeout).await {
            // An instance that is not found has been deleted before the wait began.
            Err(error)
                if self.state == InstanceState::Deleted
                    && client::is_refused(&error, "not_found") =>
            {
                Waited { state: InstanceState::Deleted, timed_out: false, state_error: None }
            }
            waited => waited?,
        };
        output.show(&waited, |waited| format!("{} is {}", self.id, waited.state))
    }
}

/// Time before a daemon that went away is asked again.
const DAEMON_RETRY: Duration = Duration::from_millis(500);

impl Logs {
    async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let mut last = None;
        loop {
            match self.tell(client, output, &mut last).await {
                Ok(()) if !self.follow => return Ok(()),
                // The instance was deleted, and its log with it.
                Err(error)
                    if self.follow && last.is_some() && client::is_refused(&error, "not_found") =>
                {
                    return Ok(());
                }
                // The daemon went away: resume after the last line as soon as it is back.
                Err(error) if !self.follow || last.is_none() || !is_gone(&error) => {
                    return Err(error);
                }
                Ok(()) | Err(_) => tokio::time::sleep(DAEMON_RETRY).await,
            }
        }
    }

    /// Prints lines until the answer ends. `last` is the id of the last printed line, from which to
    /// resume.
    async fn tell(
        &self,
        client: &Client,
        output: Output,
        last: &mut Option<String>,
    ) -> anyhow::Result<()> {
        let tail = self.tail.to_string();
        let source = match self.source {
            Source::App => "app",
            Source::Vmm => "vmm",
        };
        let follow = if self.follow { "true" } else { "false" };
        let query = [("follow", follow), ("tail", tail.as_str()), ("source", source)];
        let lines =
            client.events(&["instances", &self.id, "logs"], &query, last.as_deref()).await?;
        pin_mut!(lines);
        while let Some(line) = lines.next().await {
            let line = line.context(BROKEN)?;
            match output.is_json() {
                true => output.show(&line.text()?, Clone::clone)?,
                false => output::line(&line.text()?)?,
            }
            *last = line.id.or(last.take());
        }
        Ok(())
    }
}

const BROKEN: &str = "the connection was lost while reading the log";

/// Returns true if the daemon went away, and not if it refused.
fn is_gone(error: &anyhow::Error) -> bool {
    client::is_nobody(error) || error.to_string() == BROKEN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_a_path_and_perhaps_read_only() {
        let request = disk("/srv/a.raw:ro").expect("a disk");
        assert_eq!(request, DiskRequest { path: "/srv/a.raw".into(), read_only: true });
        assert!(!disk("/srv/a.raw").expect("a disk").read_only);
        assert!(disk("a.raw").expect("a disk").path.starts_with('/'));
    }

    #[test]
    fn a_tag_is_a_name_and_a_value() {
        assert_eq!(tag("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(tag("a").is_err());
    }
}
