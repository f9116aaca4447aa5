//! The places at which the API is served: an address, with or without TLS, and a unix socket.

use std::fs;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as Probe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::door::Peer;
use super::patient::Patient;
use crate::limits::api as limits;
use crate::limits::instance::SOCKET_PATH_BYTES_MAX;
use crate::tls::{Certificate, CertificateError, Files, Stream};

/// Connections by the unix socket that may wait to be accepted, as for an address.
const BACKLOG: i32 = 1_024;

/// The places at which the API is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// The certificate for TLS; `None` serves plain HTTP.
    pub certificate: Option<Files>,
    /// Path of a unix socket, which only this user may use; `None` for none.
    pub socket: Option<PathBuf>,
    /// Allows plain HTTP at addresses that other hosts reach.
    pub allows_plain_http: bool,
}

/// Error of listening.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be listened on.
    #[error(
        "can't listen on {address}; is another daemon running there? Choose another with --listen"
    )]
    Address {
        /// The configured address.
        address: SocketAddr,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// Other hosts would send their tokens in plain text.
    #[error(
        "plain HTTP is not served on {address}, where other hosts would send tokens in plain text; \
         give a certificate with --tls-cert and --tls-key, listen on 127.0.0.1, or say \
         --allow-plain-http where the network protects them"
    )]
    Plain {
        /// The configured address.
        address: SocketAddr,
    },
    /// The certificate can't be used.
    #[error("can't serve TLS")]
    Certificate(#[from] CertificateError),
    /// The path of the unix socket is too long for the system.
    #[error("the socket path {} has more than {SOCKET_PATH_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// Something else has the path of the unix socket.
    #[error("{} is in use by another program; choose another path with --socket", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// The unix socket can't be made.
    #[error("can't make the socket {}", path.display())]
    Socket {
        /// The path.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
}

impl Listen {
    /// Plain HTTP on an address, and nowhere else.
    pub fn on(address: SocketAddr) -> Self {
        Self { address, certificate: None, socket: None, allows_plain_http: false }
    }

    /// Checks the options, and reads the certificate that they name. Blocking.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn check(&self) -> Result<Option<Certificate>, ListenError> {
        let is_plain = self.certificate.is_none();
        if is_plain && !self.allows_plain_http && !self.address.ip().is_loopback() {
            return Err(ListenError::Plain { address: self.address });
        }
        let socket = self.socket.as_ref();
        if let Some(path) = socket.filter(|path| path.as_os_str().len() > SOCKET_PATH_BYTES_MAX) {
            return Err(ListenError::TooLong { path: path.clone() });
        }
        Ok(self.certificate.clone().map(Certificate::open).transpose()?)
    }
}

/// The places at which connections arrive.
pub struct Listeners {
    tcp: TcpListener,
    certificate: Option<Arc<Certificate>>,
    local: Option<Local>,
}

/// A unix socket, whose file is removed with it.
struct Local {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Local {
    fn drop(&mut self) {
        // The next start replaces a file that stays.
        let _ = fs::remove_file(&self.path);
    }
}

impl Local {
    /// Listens at the path, as this user alone may.
    fn bind(path: &Path) -> Result<Self, ListenError> {
        let taken = || ListenError::Taken { path: path.into() };
        let failed = |source| ListenError::Socket { path: path.into(), source };
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => return Err(taken()),
            Ok(_) if Probe::connect(path).is_ok() => return Err(taken()),
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = private(path).and_then(UnixListener::from_std).map_err(failed)?;
        Ok(Self { listener, path: path.into() })
    }
}

/// A socket whose file has the mode 0600 from its beginning: Linux gives it that of the descriptor.
fn private(path: &Path) -> io::Result<StdListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

impl Listeners {
    /// Listens at all places, with the certificate that the check of the options has read.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(listen: Listen, read: Option<Certificate>) -> Result<Self, ListenError> {
        let certificate = read.map(Arc::new);
        let address = listen.address;
        if certificate.is_none() && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "PLAIN HTTP: tokens, consoles and documents pass this address in plain text, for \
                 everybody on the network to read and to use; --tls-cert and --tls-key end that"
            );
        }
        let bound = TcpListener::bind(address).await;
        let tcp = bound.map_err(|source| ListenError::Address { address, source })?;
        let local = listen.socket.as_deref().map(Local::bind).transpose()?;
        Ok(Self { tcp, certificate, local })
    }

    /// Address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// The places as clients name them.
    pub fn urls(&self) -> Vec<String> {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        let local = self.local.iter().map(|local| format!("unix:{}", local.path.display()));
        [format!("{scheme}://{}", self.address())].into_iter().chain(local).collect()
    }

    /// The certificate; none for plain HTTP.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        self.certificate.clone()
    }

    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<Arrived> {
        let local = async {
            match &self.local {
                Some(local) => local.listener.accept().await,
                None => pending().await,
            }
        };
        tokio::select! {
            arrived = self.tcp.accept() => {
                let (stream, peer) = arrived?;
                Ok(Arrived::Host(stream, peer, self.certificate.clone()))
            }
            arrived = local => arrived.map(|(stream, _)| Arrived::Local(stream)),
        }
    }
}

/// A connection that has arrived.
pub(super) enum Arrived {
    /// From an address; over TLS if there is a certificate.
    Host(TcpStream, SocketAddr, Option<Arc<Certificate>>),
    /// By the unix socket.
    Local(UnixStream),
}

impl Arrived {
    pub(super) fn peer(&self) -> Peer {
        match self {
            Self::Host(_, peer, _) => Peer::Host(peer.ip()),
            Self::Local(_) => Peer::Local,
        }
    }

    /// The connection as it is; none if it is to be over TLS.
    pub(super) fn unguarded(self) -> Option<Stream> {
        match self {
            Self::Host(stream, _, None) => Some(Box::new(stream)),
            Self::Host(_, _, Some(_)) => None,
            Self::Local(stream) => Some(Box::new(stream)),
        }
    }

    /// Opens the connection: with a handshake over TLS. Returns `None` if that fails, which
    /// concerns its client only.
    pub(super) async fn open(self) -> Option<Stream> {
        let stall = Duration::from_millis(limits::WRITE_STALL_MS);
        let (stream, peer, certificate) = match self {
            Self::Local(stream) => return Some(Box::new(Patient::new(stream, stall))),
            Self::Host(stream, peer, certificate) => (stream, peer, certificate),
        };
        // Without delay, so that the end of an answer does not wait for an acknowledgement of its
        // beginning. It fails only for a connection that is closed already.
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(stream, stall);
        let Some(certificate) = certificate else { return Some(Box::new(stream)) };
        let handshake = certificate.accept(stream);
        match tokio::time::timeout(Duration::from_millis(limits::HANDSHAKE_MS), handshake).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a handshake failed");
                None
            }
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn wanted(address: &str, socket: Option<PathBuf>) -> Listen {
        Listen { socket, ..Listen::on(address.parse().expect("an address")) }
    }

    #[test]
    fn plain_http_beyond_this_host_is_served_only_if_it_is_allowed() {
        for address in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:80"] {
            wanted(address, None).check().expect(address);
        }
        for address in ["0.0.0.0:0", "[::]:8080", "10.0.0.1:8080"] {
            let error = wanted(address, None).check().expect_err(address).to_string();
            assert!(error.contains(address) && error.contains("--allow-plain-http"), "{error}");
            let allowed = Listen { allows_plain_http: true, ..wanted(address, None) };
            allowed.check().expect(address);
        }
    }

    #[tokio::test]
    async fn a_socket_is_this_user_s_alone_and_replaces_one_that_nobody_serves() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("api.sock");
        let wanted = wanted("127.0.0.1:0", Some(path.clone()));
        let served = Listeners::bind(wanted.clone(), None).await.expect("bound");
        let mode = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = Listeners::bind(wanted.clone(), None).await.err().expect("it is in use");
        assert!(matches!(error, ListenError::Taken { .. }), "{error}");
        drop(served);
        assert!(!path.exists());
        // A daemon that was killed leaves its socket.
        drop(StdListener::bind(&path).expect("bound"));
        drop(Listeners::bind(wanted.clone(), None).await.expect("bound"));
        fs::write(&path, "a file").expect("written");
        let error = Listeners::bind(wanted, None).await.err().expect("a file of somebody");
        assert!(matches!(error, ListenError::Taken { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("text"), "a file");
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_refused() {
        let error = wanted("127.0.0.1:0", Some("/".repeat(108).into())).check();
        assert!(matches!(error, Err(ListenError::TooLong { .. })));
    }
}
