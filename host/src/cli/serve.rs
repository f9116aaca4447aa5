//! `tallyman serve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use ipnet::IpNet;
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::global::Global;
use super::guest_network::GuestNetwork;
use super::listen::Places;
use super::overcommit::Overcommit;
use super::{archive, output};
use crate::api::{Listen, parse_duration};
use crate::delivery;
use crate::fleet::Servers;
use crate::hypervisor::{Accelerator, VmmUser};
use crate::id::HostName;
use crate::invoice::Letterhead;
use crate::journal::{self, Head};
use crate::runtime::{Daemon, Membership, Options, PulledImages};
use crate::tenancy::JwtConfig;
use crate::tenant::billing_name;
use crate::tls::Files;

const EXAMPLES: &str = "\
Examples:
  tallyman serve
  tallyman serve --data /var/lib/tallyman --listen 127.0.0.1:8081
  tallyman serve --listen 0.0.0.0:8443 --tls-cert ./cert.pem --tls-key ./key.pem
  tallyman serve --socket /run/tallyman/api.sock
  tallyman serve --config /etc/tallyman/tallyman.toml
  tallyman serve --probe-network 10.0.0.0/8
  tallyman serve --network-pool 10.213.0.0/16
  tallyman serve --fleet https://collector:8443 --fleet-token ./host.token
  tallyman serve --fleet tls://nats-1:4222 --fleet-name h1
  tallyman serve --jwt-eddsa-key ./key.pem --jwt-issuer https://id.example --jwt-audience tallyman
  TALLYMAN_LOG=debug tallyman serve --accelerator tcg

Ctrl-C stops the daemon; instances keep running and are found again at the next start.";

/// The last line that a daemon prints.
pub(super) const STOPPED: &str =
    "stopped; instances keep running and are found again at the next start";

/// Arguments of the daemon.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// A file of options: keys are those of this command, with `_` for `-`
    #[arg(long, value_name = "FILE", env = "TALLYMAN_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    places: Places,
    /// QEMU: a path, or a name on PATH
    #[arg(long, env = "TALLYMAN_QEMU", default_value = "qemu-system-x86_64")]
    qemu: PathBuf,
    /// Cloud Hypervisor: a path, or a name on PATH
    #[arg(long, env = "TALLYMAN_CLOUD_HYPERVISOR", default_value = "cloud-hypervisor")]
    cloud_hypervisor: PathBuf,
    /// Firecracker: a path, or a name on PATH
    #[arg(long, env = "TALLYMAN_FIRECRACKER", default_value = "firecracker")]
    firecracker: PathBuf,
    /// Accelerator of QEMU's guests: kvm or tcg; chosen by the host's support if absent
    #[arg(long, env = "TALLYMAN_ACCELERATOR")]
    accelerator: Option<Accelerator>,
    /// A network, such as 10.0.0.0/8, in which health checks may reach the workloads of guests; may
    /// be repeated
    #[arg(long, value_name = "NETWORK", env = "TALLYMAN_PROBE_NETWORKS", value_delimiter = ',')]
    probe_network: Vec<IpNet>,
    #[command(flatten)]
    guest_network: GuestNetwork,
    #[command(flatten)]
    overcommit: Overcommit,
    /// A registry, such as registry.example:5000, that tenants may pull images from by creating
    /// instances of them; may be repeated
    #[arg(long, value_name = "HOST", env = "TALLYMAN_PULL_REGISTRIES", value_delimiter = ',')]
    pull_registry: Vec<String>,
    /// Time without a use, such as 720h, after which a pulled image is removed that no instance was
    /// made of; never if absent
    #[arg(
        long,
        value_name = "DURATION",
        env = "TALLYMAN_IMAGE_RETENTION",
        value_parser = parse_duration
    )]
    image_retention: Option<Duration>,
    /// Trust the wall clock after a boot of the host even if the kernel does not report it as
    /// synchronised: for hosts whose clock is not set by NTP or PTP
    #[arg(long, env = "TALLYMAN_TRUST_WALL_CLOCK")]
    trust_wall_clock: bool,
    /// Longest time that the first start after a boot of the host waits for a synchronised wall
    /// clock, in seconds; after that, the time between the boots is not counted
    #[arg(
        long,
        value_name = "SECONDS",
        env = "TALLYMAN_CLOCK_WAIT_S",
        default_value_t = CLOCK_WAIT_S
    )]
    clock_wait_s: u32,
    /// User that virtual machine monitors run as, such as tallyman-vmm; takes root, and QEMU. The
    /// user of the daemon if absent
    #[arg(long, value_name = "USER", env = "TALLYMAN_VMM_USER", value_parser = VmmUser::named)]
    vmm_user: Option<VmmUser>,
    #[command(flatten)]
    issuer: Issuer,
    /// The file that names the receivers of events; `receivers.json` in the data folder if absent
    #[arg(long, value_name = "FILE", env = "TALLYMAN_RECEIVERS")]
    receivers: Option<PathBuf>,
    #[command(flatten)]
    jwt: SignedTokens,
    #[command(flatten)]
    fleet: OfFleet,
    #[command(flatten)]
    pub(super) archive: archive::Keeping,
}

/// The part of a host in a fleet.
#[derive(Debug, Args)]
struct OfFleet {
    /// The collector of a fleet, to which this host hands its facts: its URL, or the servers of
    /// NATS JetStream on the way to it, such as `tls://nats-1.example:4222`
    #[arg(long, value_name = "URL|SERVERS", env = "TALLYMAN_FLEET")]
    fleet: Option<String>,
    /// File with this host's token at the collector, which has the role `host`; for a URL
    #[arg(long, value_name = "FILE", env = "TALLYMAN_FLEET_TOKEN", requires = "fleet")]
    fleet_token: Option<PathBuf>,
    /// This host's name in the fleet; for servers of NATS
    #[arg(long, value_name = "NAME", env = "TALLYMAN_FLEET_NAME", requires = "fleet")]
    fleet_name: Option<HostName>,
    /// PEM file with the authorities from which the collector's certificate, or the servers', must
    /// come; those of this system if absent
    #[arg(long, value_name = "FILE", env = "TALLYMAN_FLEET_CA", requires = "fleet")]
    fleet_ca: Option<PathBuf>,
    /// PEM file with the certificate that this host shows to servers of NATS
    #[arg(long, value_name = "FILE", env = "TALLYMAN_FLEET_CERT", requires = "fleet_key")]
    fleet_cert: Option<PathBuf>,
    /// PEM file with that certificate's private key
    #[arg(long, value_name = "FILE", env = "TALLYMAN_FLEET_KEY", requires = "fleet_cert")]
    fleet_key: Option<PathBuf>,
}

impl OfFleet {
    fn membership(self) -> anyhow::Result<Membership> {
        let Some(collector) = self.fleet else { return Ok(Membership::Alone) };
        let is_url = ["http://", "https://"].iter().any(|scheme| collector.starts_with(scheme));
        match (is_url, self.fleet_token, self.fleet_name) {
            (true, Some(file), None) => {
                let token = std::fs::read_to_string(&file);
                let token = token.with_context(|| {
                    format!("can't read this host's token from {}", file.display())
                })?;
                let token = token.trim().into();
                Ok(Membership::Host { collector, token, ca: self.fleet_ca })
            }
            (false, None, Some(name)) => {
                let identity = Files::of(self.fleet_cert, self.fleet_key);
                let servers = Servers { addresses: collector, ca: self.fleet_ca, identity };
                Ok(Membership::Publishes { servers, name })
            }
            (_, Some(_), Some(_)) => bail!(
                "give a collector's URL a token (--fleet-token), or servers of NATS a name \
                 (--fleet-name), not both"
            ),
            (true, _, _) => bail!(
                "{collector} is a collector's URL: name the file with this host's token there \
                 (--fleet-token), which `tallyman token create NAME --role host` makes"
            ),
            (false, _, _) => bail!(
                "{collector} is taken for servers of NATS: name this host (--fleet-name); a \
                 collector's URL begins with https://"
            ),
        }
    }
}

/// The issuer of invoices.
#[derive(Debug, Args)]
pub(super) struct Issuer {
    /// The name of the issuer on invoices
    #[arg(long, value_name = "NAME", env = "TALLYMAN_INVOICE_ISSUER", value_parser = issuer)]
    invoice_issuer: Option<String>,
    /// Text in front of the numbers of invoices, such as EX- for EX-acme-7
    #[arg(
        long,
        value_name = "TEXT",
        env = "TALLYMAN_INVOICE_PREFIX",
        default_value = "",
        value_parser = prefix
    )]
    invoice_prefix: String,
}

impl Issuer {
    /// Returns the issuer as documents name it.
    pub(super) fn letterhead(self) -> Letterhead {
        Letterhead { issuer: self.invoice_issuer, prefix: self.invoice_prefix }
    }
}

/// A name of an issuer as it is typed.
fn issuer(text: &str) -> Result<String, String> {
    billing_name(text).map_err(|problem| format!("the issuer's name {problem}"))
}

/// A prefix of numbers as it is typed.
fn prefix(text: &str) -> Result<String, String> {
    let is_of_prefix = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '.' | '_');
    match text.len() <= PREFIX_CHARS_MAX && text.chars().all(is_of_prefix) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "must have at most {PREFIX_CHARS_MAX} letters, digits, '-', '/', '.' and '_'"
        )),
    }
}

/// Longest prefix of numbers, in characters.
const PREFIX_CHARS_MAX: usize = 32;

/// Time in seconds that a time service usually needs after a boot.
const CLOCK_WAIT_S: u32 = 30;

/// Arguments of signed tokens (JWT). Without a key, none are accepted.
#[derive(Debug, Args)]
struct SignedTokens {
    /// File with the secret, of 32 bytes or more, of the issuer that signs tokens with HS256
    #[arg(
        long,
        value_name = "FILE",
        env = "TALLYMAN_JWT_HS256_SECRET",
        requires = "jwt_issuer",
        requires = "jwt_audience"
    )]
    jwt_hs256_secret: Option<PathBuf>,
    /// File with the Ed25519 public key, in PEM, of the issuer that signs tokens with EdDSA
    #[arg(
        long,
        value_name = "FILE",
        env = "TALLYMAN_JWT_EDDSA_KEY",
        requires = "jwt_issuer",
        requires = "jwt_audience"
    )]
    jwt_eddsa_key: Option<PathBuf>,
    /// File with a set of keys (RFC 7517) of issuers that sign tokens with EdDSA or HS256: tokens
    /// name theirs by `kid`, and a key with `exp` counts up to that instant
    #[arg(
        long,
        value_name = "FILE",
        env = "TALLYMAN_JWT_KEYS",
        requires = "jwt_issuer",
        requires = "jwt_audience"
    )]
    jwt_keys: Option<PathBuf>,
    /// Required value of the claim `iss` of signed tokens
    #[arg(long, value_name = "TEXT", env = "TALLYMAN_JWT_ISSUER")]
    jwt_issuer: Option<String>,
    /// Required value of the claim `aud` of signed tokens, alone or in a list
    #[arg(long, value_name = "TEXT", env = "TALLYMAN_JWT_AUDIENCE")]
    jwt_audience: Option<String>,
}

impl SignedTokens {
    fn config(&self) -> Option<JwtConfig> {
        let SignedTokens { jwt_hs256_secret, jwt_eddsa_key, jwt_keys, jwt_issuer, jwt_audience } =
            self;
        Some(JwtConfig {
            hs256_secret: jwt_hs256_secret.clone(),
            eddsa_public_key: jwt_eddsa_key.clone(),
            keys: jwt_keys.clone(),
            issuer: jwt_issuer.clone()?,
            audience: jwt_audience.clone()?,
        })
    }
}

/// Sends the log to the standard error output.
pub(super) fn start_log() {
    let filter = EnvFilter::try_from_env("TALLYMAN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

impl Serve {
    /// The check of signed tokens that the options ask for.
    pub(super) fn signed_tokens(&self) -> Option<JwtConfig> {
        self.jwt.config()
    }

    /// The places at which the API is to be served.
    pub(super) fn places(&self) -> Listen {
        self.places.listen()
    }

    /// The receivers of events.
    pub(super) fn receivers(&self, data: &Path) -> anyhow::Result<Vec<delivery::Receiver>> {
        let file = self.receivers.clone().unwrap_or_else(|| data.join(delivery::FILE));
        Ok(delivery::read(&file)?)
    }

    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        start_log();
        // Whatever is made from here on is the owner's alone.
        umask(Mode::RWXG | Mode::RWXO);
        let options = self.options(global)?;
        serve(options, "serves", STOPPED).await
    }

    /// The daemon's configuration.
    fn options(self, global: &Global) -> anyhow::Result<Options> {
        let data = global.data()?;
        let jwt = self.signed_tokens();
        let receivers = self.receivers(&data)?;
        Ok(Options {
            data,
            listen: self.places.listen(),
            qemu: self.qemu,
            cloud_hypervisor: self.cloud_hypervisor,
            firecracker: self.firecracker,
            accelerator: self.accelerator,
            jwt,
            token: global.token.clone(),
            token_file: self.places.token_file(),
            probe_networks: self.probe_network,
            ratios: self.overcommit.ratios(),
            network: self.guest_network.settings(),
            images: PulledImages {
                registries: self.pull_registry,
                retention: self.image_retention,
            },
            letterhead: self.issuer.letterhead(),
            receivers,
            supervisor: None,
            vmm_user: self.vmm_user,
            // The running program also after its file was replaced: compiled code must fit this
            // version.
            compiler: Some("/proc/self/exe".into()),
            journal: journal::Options {
                trusts_wall_clock: self.trust_wall_clock,
                clock_wait: Duration::from_secs(self.clock_wait_s.into()),
                has_reserve: true,
                ..journal::Options::default()
            },
            fleet: self.fleet.membership()?,
            stores: Arc::new(self.archive.stores()?),
            retention: self.archive.plan(),
            heads_to: self.archive.heads_to(),
        })
    }
}

/// Runs a daemon until Ctrl-C or a termination signal. Prints that it `works`, and what `stopped`
/// says at its end.
pub(super) async fn serve(options: Options, works: &str, stopped: &str) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let data = options.data.display().to_string();
    let daemon = Daemon::start(options).await?;
    let urls = daemon.urls().join(" and ");
    let Head { seq, hash, .. } = daemon.head();
    output::line(&format!(
        "tallyman {works} on {urls}, data in {data}; the journal ends with fact {seq}, {hash}"
    ))?;
    daemon.serve(stop).await?;
    output::line(stopped)
}

/// Becomes true at the first Ctrl-C or termination signal.
fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
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
