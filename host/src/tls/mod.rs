//! TLS: the certificate that the daemon shows, the authorities that clients trust, and the settings
//! of every HTTP client. The only user of the TLS crates.

mod certificate;
mod trust;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use tokio::io::{AsyncRead, AsyncWrite};

pub use certificate::{Certificate, CertificateError, Files};
pub use trust::{Trust, TrustError, refusal};

/// A connection, whatever carries it.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection over TCP, TLS or a unix socket.
pub type Stream = Box<dyn Duplex>;

/// Makes ring the cryptography of this process, for libraries that ask for the process's own. May
/// be called any number of times.
pub fn install() {
    // A later call finds what the first one has put there.
    let _ = ring::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The settings of an HTTP client that trusts the authorities of this system. No proxy is used.
pub fn client() -> reqwest::ClientBuilder {
    Trust::of_system().client()
}

/// The settings of an HTTP client for addresses without TLS, such as those of unix sockets. No
/// proxy is used.
pub fn plain_client() -> reqwest::ClientBuilder {
    Trust::nobody().client()
}
