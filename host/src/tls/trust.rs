//! The authorities that clients trust.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::{CertificateError, Duplex, Files, certificate};

/// Error of a file of authorities.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file can't be read.
    #[error("can't read the certificate authorities in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The file is no PEM.
    #[error("{} is not a PEM file of certificates", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The place and the reason.
        #[source]
        source: pem::Error,
    },
    /// The file holds no certificate.
    #[error(
        "{} holds no certificate; name a PEM file with the certificate of the authority that \
         signed the daemon's",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in the file can't be an authority's.
    #[error("{} holds a certificate that can't be an authority's", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: rustls::Error,
    },
}

/// The reason why a handshake failed; none if an error has another cause.
pub fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(refused) = error.downcast_ref::<rustls::Error>() {
        return Some(refused.to_string());
    }
    // An error of IO may hold another one that is not its source.
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    held.and_then(|held| refusal(held)).or_else(|| refusal(error.source()?))
}

/// The authorities from which a server's certificate must come.
#[derive(Debug, Clone)]
pub struct Trust {
    authorities: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

/// Read once: they are the same for all clients.
static OF_SYSTEM: LazyLock<Trust> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(%error, "certificate authorities of this system can't be read");
    }
    let mut authorities = RootCertStore::empty();
    let (added, ignored) = authorities.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "read the certificate authorities of this system");
    Trust::of(authorities)
});

static NOBODY: LazyLock<Trust> = LazyLock::new(|| Trust::of(RootCertStore::empty()));

impl Trust {
    /// The authorities that this system trusts, or those that the environment names in
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    pub fn of_system() -> Self {
        OF_SYSTEM.clone()
    }

    /// The authorities in a PEM file, and no others.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn of_file(path: &Path) -> Result<Self, TrustError> {
        let text = fs::read(path);
        let text = text.map_err(|source| TrustError::Read { path: path.into(), source })?;
        let mut authorities = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate =
                certificate.map_err(|source| TrustError::Form { path: path.into(), source })?;
            let added = authorities.add(certificate);
            added.map_err(|source| TrustError::Authority { path: path.into(), source })?;
        }
        match authorities.is_empty() {
            true => Err(TrustError::Empty { path: path.into() }),
            false => Ok(Self::of(authorities)),
        }
    }

    /// No authority: no certificate is accepted.
    pub fn nobody() -> Self {
        NOBODY.clone()
    }

    fn of(authorities: RootCertStore) -> Self {
        super::install();
        let authorities = Arc::new(authorities);
        let builder = ClientConfig::builder().with_root_certificates(authorities.clone());
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { authorities, config: Arc::new(config) }
    }

    /// The settings of an HTTP client with this trust. No proxy is used.
    pub fn client(&self) -> reqwest::ClientBuilder {
        let config = ClientConfig::clone(&self.config);
        reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy()
    }

    /// The settings of a client of another protocol than HTTP, that shows the server a certificate
    /// if it has one. Blocking.
    ///
    /// # Errors
    /// [`CertificateError`] of the client's own certificate.
    pub fn client_of(&self, identity: Option<&Files>) -> Result<ClientConfig, CertificateError> {
        let builder = ClientConfig::builder().with_root_certificates(self.authorities.clone());
        Ok(match identity {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let shown = SingleCertAndKey::from(certificate::read(files)?);
                builder.with_client_cert_resolver(Arc::new(shown))
            }
        })
    }

    /// Makes a connection to the server `name` into one over TLS.
    ///
    /// # Errors
    /// The error of the handshake; `InvalidInput` if `name` is neither a domain nor an address.
    pub async fn connect<S: Duplex>(
        &self,
        name: &str,
        stream: S,
    ) -> io::Result<impl Duplex + use<S>> {
        let name = ServerName::try_from(name.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        TlsConnector::from(self.config.clone()).connect(name, stream).await
    }
}
