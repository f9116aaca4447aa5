//! `tallyman serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::{Global, output};
use crate::hypervisor::Accelerator;
use crate::journal;
use crate::runtime::{Daemon, Options};
use crate::tenancy::JwtConfig;

const EXAMPLES: &str = "\
Examples:
  tallyman serve
  tallyman serve --data /var/lib/tallyman --listen 127.0.0.1:8081
  tallyman serve --probe-network 10.0.0.0/8
  tallyman serve --jwt-eddsa-key ./issuer.pem --jwt-issuer https://id.example --jwt-audience tallyman
  TALLYMAN_LOG=debug tallyman serve --accelerator tcg

Ctrl-C ends the daemon; the instances go on and are found again at the next start.";

/// The last word of a daemon.
pub(super) const STOPPED: &str =
    "stopped; instances that run go on, and are found again at the next start";

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
    /// A network, such as 10.0.0.0/8, in which health checks may look for the workloads of guests;
    /// may be given several times
    #[arg(long, value_name = "NETWORK", env = "TALLYMAN_PROBE_NETWORKS", value_delimiter = ',')]
    probe_network: Vec<IpNet>,
    /// Take the wall clock for right at a new boot of the host also where the kernel does not know
    /// it to be: for hosts whose clock is kept by other means than NTP or PTP
    #[arg(long, env = "TALLYMAN_TRUST_WALL_CLOCK")]
    trust_wall_clock: bool,
    /// How many seconds a new boot of the host waits for its wall clock to be synchronised, before
    /// time is counted on without what lies between the boots
    #[arg(long, value_name = "SECONDS", env = "TALLYMAN_CLOCK_WAIT_S", default_value_t = CLOCK_WAIT_S)]
    clock_wait_s: u32,
    #[command(flatten)]
    jwt: SignedTokens,
}

/// What a time service needs after a boot, usually.
const CLOCK_WAIT_S: u32 = 30;

/// Whose signed tokens (JWT) are accepted. Without a key none is.
#[derive(Debug, Args)]
struct SignedTokens {
    /// File with the secret, of 32 bytes or more, of whoever signs tokens with HS256
    #[arg(
        long,
        value_name = "FILE",
        env = "TALLYMAN_JWT_HS256_SECRET",
        requires = "jwt_issuer",
        requires = "jwt_audience"
    )]
    jwt_hs256_secret: Option<PathBuf>,
    /// File with the Ed25519 public key, in PEM, of whoever signs tokens with EdDSA
    #[arg(
        long,
        value_name = "FILE",
        env = "TALLYMAN_JWT_EDDSA_KEY",
        requires = "jwt_issuer",
        requires = "jwt_audience"
    )]
    jwt_eddsa_key: Option<PathBuf>,
    /// What `iss` of a signed token must be
    #[arg(long, value_name = "TEXT", env = "TALLYMAN_JWT_ISSUER")]
    jwt_issuer: Option<String>,
    /// What `aud` of a signed token must be, or name among others
    #[arg(long, value_name = "TEXT", env = "TALLYMAN_JWT_AUDIENCE")]
    jwt_audience: Option<String>,
}

impl SignedTokens {
    fn config(self) -> anyhow::Result<Option<JwtConfig>> {
        let SignedTokens { jwt_hs256_secret, jwt_eddsa_key, jwt_issuer, jwt_audience } = self;
        let (Some(issuer), Some(audience)) = (jwt_issuer, jwt_audience) else { return Ok(None) };
        let read = |file: &PathBuf| {
            std::fs::read(file).with_context(|| format!("can't read {}", file.display()))
        };
        let hs256_secret = jwt_hs256_secret.as_ref().map(read).transpose()?;
        let eddsa_public_key = jwt_eddsa_key.as_ref().map(read).transpose()?;
        Ok(Some(JwtConfig {
            // A line break at the end of a file is an editor's, not a secret's.
            hs256_secret: hs256_secret.map(|secret| secret.trim_ascii_end().to_vec()),
            eddsa_public_key: eddsa_public_key
                .map(|pem| String::from_utf8_lossy(&pem).into_owned()),
            issuer,
            audience,
        }))
    }
}

impl Serve {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        let filter =
            EnvFilter::try_from_env("TALLYMAN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
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
            jwt: self.jwt.config()?,
            token: global.token.clone(),
            probe_networks: self.probe_network,
            supervisor: None,
            // Also after the file was replaced: what it compiled must fit this version.
            compiler: Some("/proc/self/exe".into()),
            journal: journal::Options {
                trusts_wall_clock: self.trust_wall_clock,
                clock_wait: Duration::from_secs(self.clock_wait_s.into()),
                ..journal::Options::default()
            },
        })
        .await?;
        let head = daemon.head();
        output::line(&format!(
            "tallyman serves on http://{}, data in {}; the journal ends with fact {}, {}",
            daemon.address(),
            data.display(),
            head.seq,
            head.hash
        ))?;
        daemon.serve(stop).await?;
        output::line(STOPPED)
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
