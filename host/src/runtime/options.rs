//! Configuration of the daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::api;
use crate::delivery::Receiver;
use crate::driver::Ratios;
use crate::fleet::Servers;
use crate::heads::Hook;
use crate::hypervisor::{Accelerator, VmmUser};
use crate::id::HostName;
use crate::invoice::Letterhead;
use crate::journal;
use crate::network;
use crate::objects::Stores;
use crate::retention;
use crate::tenancy::JwtConfig;

/// Configuration of the daemon.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data folder.
    pub data: PathBuf,
    /// The places at which the API is served.
    pub listen: api::Listen,
    /// QEMU: a path, or a name on `PATH`.
    pub qemu: PathBuf,
    /// Cloud Hypervisor: a path, or a name on `PATH`.
    pub cloud_hypervisor: PathBuf,
    /// Firecracker: a path, or a name on `PATH`.
    pub firecracker: PathBuf,
    /// Accelerator of QEMU's guests; `None` for the best that the host has.
    pub accelerator: Option<Accelerator>,
    /// Issuer and key of accepted signed tokens; `None` accepts no signed tokens.
    pub jwt: Option<JwtConfig>,
    /// The operator's token, which then never changes; `None` reads the file.
    pub token: Option<String>,
    /// The file with the operator's token, which is made if there is none; `None` for `token` in
    /// the data folder.
    pub token_file: Option<PathBuf>,
    /// Networks in which health checks may probe addresses; empty for none.
    pub probe_networks: Vec<IpNet>,
    /// The ratios by which instances are given what the host has.
    pub ratios: Ratios,
    /// The networks of guests; `None` gives them none.
    pub network: Option<network::Settings>,
    /// Images from registries.
    pub images: PulledImages,
    /// The issuer, as documents name it.
    pub letterhead: Letterhead,
    /// This program, to be run as the supervisor of each virtual machine; `None` for the running
    /// executable.
    pub supervisor: Option<PathBuf>,
    /// This program, to be run to compile a policy; `None` compiles in the daemon.
    pub compiler: Option<PathBuf>,
    /// The receivers of events.
    pub receivers: Vec<Receiver>,
    /// Options of the journal.
    pub journal: journal::Options,
    /// The part in a fleet.
    pub fleet: Membership,
    /// The stores of copies of the journal's segments.
    pub stores: Arc<Stores>,
    /// The daemon's own care of old facts.
    pub retention: retention::Plan,
    /// The user that virtual machine monitors run as; `None` for that of this process.
    pub vmm_user: Option<VmmUser>,
    /// The place that signed heads are published to; `None` for none.
    pub heads_to: Option<Hook>,
}

/// Options of images from registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PulledImages {
    /// Registries that tenants may pull from, by name; operators may pull from all.
    pub registries: Vec<String>,
    /// Time without a use after which an image is removed that no instance was made of; `None` for
    /// never.
    pub retention: Option<Duration>,
}

/// The part of a daemon in a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Membership {
    /// The daemon is a host by itself.
    #[default]
    Alone,
    /// The daemon is a host that publishes its facts for a collector.
    Publishes {
        /// The servers of the engine.
        servers: Servers,
        /// The host's name in the fleet.
        name: HostName,
    },
    /// The daemon is a host that hands its facts to a collector.
    Host {
        /// URL of the collector.
        collector: String,
        /// The host's token, with the role `host`.
        token: String,
        /// File with the authorities of the collector's certificate; `None` for those of this
        /// system.
        ca: Option<PathBuf>,
    },
    /// The daemon is the collector. It runs no machines.
    Collector {
        /// The servers of an engine through which hosts publish, and the number of them that keep
        /// each batch; `None` for hosts that hand their facts over themselves.
        engine: Option<(Servers, usize)>,
    },
}

impl Membership {
    /// Returns whether the daemon is a collector.
    pub(super) fn is_collector(&self) -> bool {
        matches!(self, Self::Collector { .. })
    }

    /// The collector that charges for this host's time, as errors name it; none if nobody else
    /// does.
    pub(super) fn billed_at(&self) -> Option<String> {
        match self {
            Self::Host { collector, .. } => Some(collector.clone()),
            Self::Publishes { servers, .. } => Some(servers.addresses.clone()),
            Self::Alone | Self::Collector { .. } => None,
        }
    }
}
