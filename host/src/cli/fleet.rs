//! `tallyman fleet`: the collector of a fleet, and what it knows of the hosts.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::global::Global;
use super::listen::Places;
use super::serve::{Issuer, serve, start_log};
use super::{archive, output};
use crate::api::model::{FleetHost, FleetHosts};
use crate::driver::Ratios;
use crate::fleet::Servers;
use crate::journal;
use crate::limits::fleet::CLOCK_OFF_NS;
use crate::runtime::{Membership, Options};
use crate::tls::Files;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the collector of a fleet in the foreground
    #[command(after_help = "Examples:\n  \
                      tallyman fleet serve --data /var/lib/tallyman-fleet --listen 10.0.0.1:8443 \
                      --tls-cert ./cert.pem --tls-key ./key.pem\n  \
                      tallyman fleet serve --nats tls://nats-1:4222,tls://nats-2:4222\n  \
                      tallyman token create h1 --role host --expires 8760h\n\n\
                      It keeps a copy of each host's journal, and answers the whole API: prices, \
                      agreements, previews and invoices are made here, over all hosts.")]
    Serve(Box<Serve>),
    /// List the hosts: how far each one is, and when it was last heard
    #[command(after_help = "Examples:\n  tallyman fleet hosts\n  tallyman fleet hosts --json")]
    Hosts,
}

/// Arguments of the collector.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    places: Places,
    /// Trust the wall clock after a boot even if the kernel does not report it as synchronised
    #[arg(long, env = "TALLYMAN_TRUST_WALL_CLOCK")]
    trust_wall_clock: bool,
    #[command(flatten)]
    issuer: Issuer,
    #[command(flatten)]
    archive: archive::Keeping,
    #[command(flatten)]
    engine: Engine,
}

/// Arguments of an engine between hosts and collector.
#[derive(Debug, Args)]
struct Engine {
    /// Servers of NATS JetStream through which hosts publish, such as
    /// `tls://nats-1.example:4222,tls://nats-2.example:4222`
    #[arg(long, value_name = "SERVERS", env = "TALLYMAN_NATS")]
    nats: Option<String>,
    /// Number of servers that keep what the collector has not taken yet, 1 to 5
    #[arg(
        long,
        value_name = "NUMBER",
        env = "TALLYMAN_NATS_REPLICAS",
        default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=5)
    )]
    nats_replicas: u8,
    /// PEM file with the authorities of the servers' certificates; those of this system if absent
    #[arg(long, value_name = "FILE", env = "TALLYMAN_NATS_CA", requires = "nats")]
    nats_ca: Option<PathBuf>,
    /// PEM file with the certificate that the collector shows to the servers
    #[arg(long, value_name = "FILE", env = "TALLYMAN_NATS_CERT", requires = "nats_key")]
    nats_cert: Option<PathBuf>,
    /// PEM file with that certificate's private key
    #[arg(long, value_name = "FILE", env = "TALLYMAN_NATS_KEY", requires = "nats_cert")]
    nats_key: Option<PathBuf>,
}

impl Engine {
    fn servers(self) -> Option<(Servers, usize)> {
        let identity = Files::of(self.nats_cert, self.nats_key);
        let servers = Servers { addresses: self.nats?, ca: self.nats_ca, identity };
        Some((servers, self.nats_replicas.into()))
    }
}

impl Command {
    pub(super) async fn run(self, global: &Global) -> anyhow::Result<()> {
        match self {
            Self::Serve(serve) => serve.run(global).await,
            Self::Hosts => {
                let hosts: FleetHosts = global.client()?.get(&["fleet", "hosts"], &[]).await?;
                global.output().show(&hosts, table)
            }
        }
    }
}

impl Serve {
    async fn run(self, global: &Global) -> anyhow::Result<()> {
        start_log();
        let none = PathBuf::new();
        let options = Options {
            data: global.data()?,
            listen: self.places.listen(),
            qemu: none.clone(),
            cloud_hypervisor: none.clone(),
            firecracker: none,
            accelerator: None,
            jwt: None,
            token: global.token.clone(),
            token_file: self.places.token_file(),
            probe_networks: Vec::new(),
            ratios: Ratios::default(),
            network: None,
            images: Default::default(),
            letterhead: self.issuer.letterhead(),
            receivers: Vec::new(),
            supervisor: None,
            vmm_user: None,
            // The running program also after its file was replaced, as for a host.
            compiler: Some("/proc/self/exe".into()),
            journal: journal::Options {
                trusts_wall_clock: self.trust_wall_clock,
                has_reserve: true,
                ..journal::Options::default()
            },
            fleet: Membership::Collector { engine: self.engine.servers() },
            stores: Arc::new(self.archive.stores()?),
            retention: self.archive.plan(),
            heads_to: self.archive.heads_to(),
        };
        serve(options, "collects", "stopped; hosts keep their facts until the collector is back")
            .await
    }
}

fn table(hosts: &FleetHosts) -> String {
    if hosts.hosts.is_empty() {
        return "no hosts; `tallyman token create NAME --role host` admits one".into();
    }
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let rows = hosts.hosts.iter().map(|host| {
        vec![
            host.name.clone(),
            host.facts.to_string(),
            or_none(host.behind.map(|behind| behind.to_string())),
            or_none(host.heard_at.map(|at| at.to_string())),
            or_none(host.complete_until.map(|at| at.to_string())),
            or_none(host.clock_ahead_ns.map(seconds)),
            state(host),
        ]
    });
    let head = ["HOST", "FACTS", "BEHIND", "HEARD", "COMPLETE UNTIL", "CLOCK AHEAD", "STATE"];
    output::table(&head, &[1, 2, 5], rows)
}

/// Nanoseconds as seconds with three digits.
fn seconds(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let millis = ns.unsigned_abs() / 1_000_000;
    format!("{sign}{}.{:03} s", millis / 1_000, millis % 1_000)
}

fn state(host: &FleetHost) -> String {
    let is_off = host.clock_ahead_ns.is_some_and(|ahead| ahead.unsigned_abs() >= CLOCK_OFF_NS);
    match host {
        FleetHost { trouble: Some(trouble), .. } => trouble.clone(),
        FleetHost { retired: true, .. } => "retired".into(),
        FleetHost { heard_at: None, .. } => "not heard since the start".into(),
        _ if is_off => "its clock is off: its time lands in other hours, keep it by NTP".into(),
        _ => "ok".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_said_either_way() {
        let host = |clock_ahead_ns| FleetHost {
            name: "h1".into(),
            facts: 1,
            hash: String::new(),
            behind: Some(0),
            heard_at: Some(crate::api::model::Timestamp(0)),
            complete_until: None,
            clock_ahead_ns: Some(clock_ahead_ns),
            trouble: None,
            retired: false,
        };
        assert_eq!(state(&host(999_999_999)), "ok");
        for off in [1_000_000_000, -1_000_000_000] {
            assert!(state(&host(off)).contains("clock is off"), "{off}");
        }
        assert_eq!(
            (seconds(-1_234_567_890), seconds(5_000_000)),
            ("-1.234 s".into(), "0.005 s".into())
        );
    }
}
