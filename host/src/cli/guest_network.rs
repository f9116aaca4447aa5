//! Options for the networks of guests: those of the host, and those of an instance.

use std::net::Ipv4Addr;

use clap::Args;

use crate::api;
use crate::api::model::NetworkRequest;
use crate::network::{Place, Pool, Settings};

/// The networks of guests.
#[derive(Debug, Args)]
pub(super) struct GuestNetwork {
    /// Addresses for guests, such as 10.213.0.0/16: a network that nobody else uses; without it,
    /// guests have no network
    #[arg(long, value_name = "NETWORK", env = "TALLYMAN_NETWORK_POOL")]
    network_pool: Option<Pool>,
    /// Name server that guests are told; up to 3 times; those of the host if absent
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "TALLYMAN_NETWORK_DNS",
        value_delimiter = ',',
        requires = "network_pool"
    )]
    network_dns: Vec<Ipv4Addr>,
    /// A place that guests reach although it is the host's own, or link-local, such as
    /// tcp:10.0.0.1:5432 or 169.254.169.254; may be repeated
    #[arg(
        long,
        value_name = "[PROTOCOL:]NETWORK[:PORTS]",
        env = "TALLYMAN_NETWORK_OPEN",
        value_delimiter = ',',
        requires = "network_pool"
    )]
    network_open: Vec<Place>,
}

impl GuestNetwork {
    /// The settings; none without a pool.
    pub(super) fn settings(self) -> Option<Settings> {
        let Self { network_pool, network_dns, network_open } = self;
        network_pool.map(|pool| Settings { pool, name_servers: network_dns, open: network_open })
    }
}

/// The network of a new instance.
#[derive(Debug, Args)]
pub(super) struct InstanceNetwork {
    /// A network for the guest: true or false; if absent, it has one where the host has
    /// addresses for guests and the hypervisor can give it one
    #[arg(long, value_name = "BOOL")]
    network: Option<bool>,
    /// Most that the guest may send, such as 10Mbps; no limit if absent
    #[arg(long, value_name = "RATE")]
    bandwidth_upload: Option<String>,
    /// Most that the guest may receive, such as 1Gbps; no limit if absent
    #[arg(long, value_name = "RATE")]
    bandwidth_download: Option<String>,
    /// The only place that the guest may send to, such as tcp:192.0.2.0/24:443, name servers
    /// included; may be repeated; all that is not closed if absent
    #[arg(long, value_name = "[PROTOCOL:]NETWORK[:PORTS]")]
    allow_egress: Vec<Place>,
}

impl InstanceNetwork {
    /// The network that is asked for; none if nothing was said of it.
    pub(super) fn request(&self) -> Option<NetworkRequest> {
        let request = NetworkRequest {
            enabled: self.network,
            bandwidth_upload: self.bandwidth_upload.clone(),
            bandwidth_download: self.bandwidth_download.clone(),
            egress: (!self.allow_egress.is_empty()).then(|| api::egress(&self.allow_egress)),
        };
        (request != NetworkRequest::default()).then_some(request)
    }
}
