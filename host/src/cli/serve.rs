//! `tallyman serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::{Global, output};
use crate::hypervisor::Accelerator;
use crate::journal;
use crate::runtime::{Daemon, Options};

const EXAMPLES: &str = "\
Examples:
  tallyman serve
  tallyman serve --data /var/lib/tallyman --listen 127.0.0.1:8081
  TALLYMAN_LOG=debug tallyman serve --accelerator tcg

Ctrl-C ends the daemon; the instances go on and are found again at the next start.";

/// How the daemon is to run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// Where the API listens
    #[arg(long, env = "TALLYMAN_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// QEMU: a path, or a name on PATH
    #[arg(long, env = "TALLYMAN_QEMU", default_value = "qemu-system-x86_64")]
    qemu: PathBuf,
    /// Cloud Hypervisor: a path, or a name on PATH
    #[arg(long, env = "TALLYMAN_CLOUD_HYPERVISOR", default_value = "cloud-hypervisor")]
    cloud_hypervisor: PathBuf,
    /// Firecracker: a path, or a name on PATH
    #[arg(long, env = "TALLYMAN_FIRECRACKER", default_value = "firecracker")]
    firecracker: PathBuf,
    /// What runs QEMU's guests, kvm or tcg, instead of what the processor suggests
    #[arg(long, env = "TALLYMAN_ACCELERATOR")]
    accelerator: Option<Accelerator>,
}

impl Serve {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let filter = EnvFilter::try_from_env("TALLYMAN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
        let data = global.data()?;
        let stop = stopped()?;
        let daemon = Daemon::start(Options {
            data: data.clone(),
            listen: self.listen,
            qemu: self.qemu,
            cloud_hypervisor: self.cloud_hypervisor,
            firecracker: self.firecracker,
            accelerator: self.accelerator,
            token: global.token.clone(),
            supervisor: None,
            journal: journal::Options::default(),
        })
        .await?;
        output::line(&format!("tallyman serves on http://{}, data in {}", daemon.address(), data.display()))?;
        daemon.serve(stop).await?;
        Ok(())
    }
}

/// Becomes true at the first Ctrl-C or termination signal.
fn stopped() -> anyhow::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for signals")?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.send_replace(true);
    });
    Ok(stopped)
}
