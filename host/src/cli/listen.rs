//! The arguments that say where a daemon serves, and whom as its operator.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::api::Listen;
use crate::tls::Files;

/// The places at which the API is served.
#[derive(Debug, Args)]
pub(super) struct Places {
    /// Address and port on which the API listens
    #[arg(long, env = "TALLYMAN_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// PEM file with the certificate for TLS, and those between it and its authority; read again
    /// when it changes, and at SIGHUP
    #[arg(long, value_name = "FILE", env = "TALLYMAN_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", env = "TALLYMAN_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Path of a unix socket on which the API is served, too, for this user alone
    #[arg(long, value_name = "PATH", env = "TALLYMAN_SOCKET")]
    socket: Option<PathBuf>,
    /// Serve plain HTTP on an address that other hosts reach: for networks that protect the tokens
    /// that pass in plain text
    #[arg(long, env = "TALLYMAN_ALLOW_PLAIN_HTTP")]
    allow_plain_http: bool,
    /// File with the operator's token, made if there is none: `token` in the data folder if absent.
    /// It is read again when it changes; further lines are tokens that are accepted, too
    #[arg(long, value_name = "FILE", env = "TALLYMAN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl Places {
    pub(super) fn token_file(&self) -> Option<PathBuf> {
        self.token_file.clone()
    }

    pub(super) fn listen(&self) -> Listen {
        Listen {
            address: self.listen,
            certificate: Files::of(self.tls_cert.clone(), self.tls_key.clone()),
            socket: self.socket.clone(),
            allows_plain_http: self.allow_plain_http,
        }
    }
}
