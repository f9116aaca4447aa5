//! The certificate that the daemon shows, read again when its files change.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::{Duplex, provider};
use crate::id::Digest;

/// The files of a certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key, as PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

impl Files {
    /// The files, if both are named.
    pub fn of(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Option<Self> {
        Some(Self { certificate: certificate?, key: key? })
    }
}

/// Error of the files of a certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// Everybody can read the key.
    #[error("{} is a key that everybody can use (mode {mode:o}); chmod 640 it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {wanted} in PEM", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The missing thing.
        wanted: &'static str,
        /// The place and the reason.
        #[source]
        source: pem::Error,
    },
    /// The files hold a certificate and a key that can't be used together.
    #[error(
        "{} and {} can't be used together; the key must be that of the first certificate",
        files.certificate.display(),
        files.key.display()
    )]
    Pair {
        /// The files.
        files: Files,
        /// The reason.
        #[source]
        source: rustls::Error,
    },
}

/// A certificate with its key.
pub struct Certificate {
    files: Files,
    shown: Arc<Shown>,
    acceptor: TlsAcceptor,
    /// Digests of the files' contents when they were last read.
    seen: Mutex<(Digest, Digest)>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The certificate that new connections get.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The contents of the two files.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    fn read(files: &Files) -> Result<Self, CertificateError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CertificateError::Read { path, source }
        };
        let certificate = fs::read(&files.certificate).map_err(failed(&files.certificate))?;
        let mut file = File::open(&files.key).map_err(failed(&files.key))?;
        let mode = file.metadata().map_err(failed(&files.key))?.mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(CertificateError::Open { path: files.key.clone(), mode });
        }
        let mut key = Vec::new();
        file.read_to_end(&mut key).map_err(failed(&files.key))?;
        Ok(Self { certificate, key })
    }

    fn digests(&self) -> (Digest, Digest) {
        (Digest::of(&self.certificate), Digest::of(&self.key))
    }

    fn pair(&self, files: &Files) -> Result<Arc<CertifiedKey>, CertificateError> {
        let form = |path: &Path, wanted| {
            let path = path.to_owned();
            move |source| CertificateError::Form { path, wanted, source }
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.and_then(|chain| match chain.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(chain),
        });
        let chain = chain.map_err(form(&files.certificate, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(form(&files.key, "private key"))?;
        let pair = CertifiedKey::from_der(chain, key, &provider());
        let pair =
            pair.map_err(|source| CertificateError::Pair { files: files.clone(), source })?;
        Ok(Arc::new(pair))
    }
}

/// Reads a certificate and its key, once. Blocking.
pub(super) fn read(files: &Files) -> Result<Arc<CertifiedKey>, CertificateError> {
    Contents::read(files)?.pair(files)
}

impl Certificate {
    /// Reads a certificate and its key. Blocking.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn open(files: Files) -> Result<Self, CertificateError> {
        super::install();
        let contents = Contents::read(&files)?;
        let shown = Arc::new(Shown(ArcSwap::new(contents.pair(&files)?)));
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { files, shown, acceptor, seen: Mutex::new(contents.digests()) })
    }

    /// Reads the files again and shows what they hold to new connections. Returns true if they have
    /// changed since they were last read. Files that can't be used change nothing. Blocking.
    ///
    /// # Errors
    /// [`CertificateError`] of files that have changed; those that are still as they were are not
    /// reported again.
    pub fn renew(&self) -> Result<bool, CertificateError> {
        let contents = Contents::read(&self.files)?;
        let digests = contents.digests();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == digests {
            return Ok(false);
        }
        *seen = digests;
        self.shown.0.store(contents.pair(&self.files)?);
        Ok(true)
    }

    /// Makes a connection that a client has opened into one over TLS.
    ///
    /// # Errors
    /// The error of the handshake.
    pub async fn accept<S: Duplex>(&self, stream: S) -> io::Result<impl Duplex + use<S>> {
        self.acceptor.accept(stream).await
    }
}
