//! Health checks of workloads: on the guest's console, or at an address that this host reaches.
//!
//! Only addresses inside the networks that the operator has named are probed: the daemon reaches
//! hosts that its tenants don't, and must not probe those for them. An address is numeric, never a
//! name that a foreign server resolves.

use std::net::SocketAddr;
use std::path::Path;

use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::IpNet;
use reqwest::redirect::Policy;
use tokio::net::TcpStream;

use crate::causes::in_words;
use crate::driver::{Probe, Prober};
use crate::hypervisor::ask_console;
use crate::tls;

/// Error of setting up the HTTP client.
#[derive(Debug, thiserror::Error)]
#[error("can't set up the HTTP client for health checks")]
pub struct SetupError(#[source] reqwest::Error);

/// Probes workloads from this host.
pub struct HostProber {
    networks: Vec<IpNet>,
    http: reqwest::Client,
}

impl HostProber {
    /// A prober of addresses inside `networks`, and no others.
    ///
    /// # Errors
    /// [`SetupError`] if the HTTP client can't be set up.
    pub fn new(networks: Vec<IpNet>) -> Result<Self, SetupError> {
        let http = tls::plain_client().redirect(Policy::none()).pool_max_idle_per_host(0).build();
        Ok(Self { networks, http: http.map_err(SetupError)? })
    }

    fn admits_address(&self, address: SocketAddr) -> Result<(), String> {
        if self.networks.iter().any(|network| network.contains(&address.ip())) {
            return Ok(());
        }
        let known: Vec<_> = self.networks.iter().map(IpNet::to_string).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        Err(format!(
            "{address} is in no network in which this host may probe workloads; there are: \
             {known} (`tallyman serve --probe-network`)"
        ))
    }

    async fn ask_http(&self, address: SocketAddr, path: &str) -> Result<(), String> {
        let answer = self.http.get(format!("http://{address}{path}")).send().await;
        let status = answer.map_err(|error| in_words(&error))?.status();
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        Err(format!("{address} answers {status}"))
    }
}

impl Prober for HostProber {
    fn admits(&self, probe: &Probe) -> Result<(), String> {
        match probe {
            Probe::Console { .. } | Probe::Exec { .. } => Ok(()),
            Probe::Tcp { address } | Probe::Http { address, .. } => self.admits_address(*address),
        }
    }

    fn ask<'a>(&'a self, folder: &'a Path, probe: &'a Probe) -> BoxFuture<'a, Result<(), String>> {
        let ask = async move {
            // The operator may have withdrawn a network since the check was set.
            self.admits(probe)?;
            match probe {
                Probe::Console { send, expect } => {
                    ask_console(folder, send, expect).await.map_err(|error| in_words(&error))
                }
                Probe::Tcp { address } => {
                    let connected = TcpStream::connect(address).await;
                    connected
                        .map(drop)
                        .map_err(|error| format!("can't connect to {address}: {error}"))
                }
                Probe::Http { address, path } => self.ask_http(*address, path).await,
                Probe::Exec { .. } => Err("the guest's agent runs it, not this host".into()),
            }
        };
        ask.boxed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn prober(networks: &[&str]) -> HostProber {
        HostProber::new(
            networks.iter().map(|network| network.parse().expect("a network")).collect(),
        )
        .expect("a prober")
    }

    /// A server that answers every request with this status line.
    async fn server(status: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = format!(
                    "HTTP/1.1 {status}\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    #[tokio::test]
    async fn well_is_what_answers_and_nothing_is_followed_elsewhere() {
        let prober = prober(&["127.0.0.0/8"]);
        for (status, well) in
            [("200 OK", true), ("302 Found", true), ("404 Not Found", false), ("503 No", false)]
        {
            let address = server(status).await;
            let answer =
                prober.ask(Path::new("/"), &Probe::Http { address, path: "/".into() }).await;
            assert_eq!(answer.is_ok(), well, "{status}: {answer:?}");
            prober.ask(Path::new("/"), &Probe::Tcp { address }).await.expect("it listens");
        }
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .and_then(|listener| listener.local_addr())
            .expect("a port");
        for probe in
            [Probe::Tcp { address: closed }, Probe::Http { address: closed, path: "/".into() }]
        {
            let problem = prober.ask(Path::new("/"), &probe).await.expect_err("nobody listens");
            assert!(problem.contains("refused"), "{problem}");
        }
    }

    #[tokio::test]
    async fn no_address_outside_the_operators_networks_is_asked() {
        let address = server("200 OK").await;
        for (networks, told) in [(&[][..], "none"), (&["10.0.0.0/8"][..], "10.0.0.0/8")] {
            let prober = prober(networks);
            let probe = Probe::Tcp { address };
            let problem = prober.admits(&probe).expect_err("not there");
            assert!(problem.contains(told) && problem.contains("--probe-network"), "{problem}");
            assert_eq!(prober.ask(Path::new("/"), &probe).await, Err(problem));
        }
    }
}
