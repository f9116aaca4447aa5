//! A daemon as a child process, for commands that start one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::client::{Client, NoDaemon};
use crate::api::model::Health;

/// Longest time until a started daemon answers.
const START: Duration = Duration::from_secs(60);

/// Time between two checks that it answers.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest time until it ends after the signal.
const END: Duration = Duration::from_secs(15);

/// A daemon that this process has started.
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
}

/// Returns true if a daemon answers.
pub(super) async fn answers(client: &Client) -> anyhow::Result<bool> {
    match client.get::<Health>(&["health"], &[]).await {
        Ok(_) => Ok(true),
        Err(error) if error.is::<NoDaemon>() => Ok(false),
        Err(error) => Err(error),
    }
}

impl Daemon {
    /// Starts `tallyman serve` and waits until it answers. Its output goes to `serve.log` in the
    /// data folder.
    pub(super) async fn start(
        client: &Client,
        data: &Path,
        token: Option<&str>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data)
            .with_context(|| format!("can't make the folder {}", data.display()))?;
        let log = data.join("serve.log");
        let file = File::create(&log).with_context(|| format!("can't write {}", log.display()))?;
        let listen = listen(client)?;
        let mut command = Command::new(std::env::current_exe().context("can't find this program")?);
        command.arg("serve").arg("--listen").arg(listen).arg("--data").arg(data);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        if let Some(token) = token {
            command.env("TALLYMAN_TOKEN", token);
        }
        let mut daemon = Self { child: command.spawn().context("can't start the daemon")?, log };
        match tokio::time::timeout(START, daemon.until_it_answers(client)).await {
            Ok(answered) => answered.map(|()| daemon),
            Err(_) => bail!(
                "the daemon does not answer after {} s; see {}",
                START.as_secs(),
                daemon.log.display()
            ),
        }
    }

    async fn until_it_answers(&mut self, client: &Client) -> anyhow::Result<()> {
        while !answers(client).await? {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.died(status));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn died(&self, status: ExitStatus) -> anyhow::Error {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = said
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("it wrote nothing")
            .to_owned();
        anyhow!("the daemon ended ({status}): {last}\n  its output is in {}", self.log.display())
    }

    /// Waits until the daemon ends on its own, which is an error.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => self.died(status),
            Err(error) => anyhow!(error).context("can't watch the daemon"),
        }
    }

    /// Stops the daemon and waits until it has ended. Instances keep running.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // A failure means that it has just ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        match tokio::time::timeout(END, self.child.wait()).await {
            Ok(ended) => ended.map(drop).context("can't watch the daemon"),
            Err(_) => self.child.kill().await.context("can't end the daemon"),
        }
    }
}

/// The address that the daemon has to listen on to be found at the client's URL.
fn listen(client: &Client) -> anyhow::Result<String> {
    let (host, port) = client.plain().ok_or_else(|| {
        let url = client.url();
        anyhow!(
            "no daemon answers at {url}; start it with `tallyman serve --tls-cert` or `--socket`"
        )
    })?;
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    Ok(format!("{host}:{port}"))
}
