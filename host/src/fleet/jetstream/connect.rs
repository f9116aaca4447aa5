//! Connections to the servers of NATS.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, ServerAddr};

use crate::causes::in_words;
use crate::tls::{CertificateError, Files, Trust, TrustError};

/// Oldest version of the server that is used. Earlier ones lost what they had acknowledged, and
/// leave out settings that they do not know without a word.
const VERSION_MIN: (u32, u32) = (2, 12);

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest time for a request to the engine.
const WITHIN: Duration = Duration::from_secs(5);

/// The servers of an engine, and who asks there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// Addresses such as `tls://nats-1.example:4222`, with commas between them; `nats://` is
    /// without TLS.
    pub addresses: String,
    /// File with the authorities of the servers' certificates; `None` for those of this system.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to the servers; `None` for none.
    pub identity: Option<Files>,
}

/// An error of setting up the way, or of using it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An address is not one of a server.
    #[error(
        "'{0}' is not an address of a NATS server; write it like tls://nats-1.example:4222, \
         several with commas between them"
    )]
    Address(String),
    /// The file of authorities can't be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The own certificate can't be used.
    #[error(transparent)]
    Identity(#[from] CertificateError),
    /// No server can be reached, or none lets this one in.
    #[error("no NATS server can be used: {0}")]
    Connect(String),
    /// The server is too old.
    #[error(
        "the NATS server has version {0}; 2.12 or later is needed: earlier ones have lost what \
         they had acknowledged"
    )]
    Old(String),
    /// The engine does not do what it is asked for.
    #[error("the engine can't {act}: {error}")]
    Engine {
        /// The act.
        act: &'static str,
        /// The engine's words.
        error: String,
    },
}

impl EngineError {
    /// The error of an act, in the engine's words.
    pub(super) fn of<E: std::error::Error>(act: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Engine { act, error: in_words(&error) }
    }
}

impl Servers {
    /// Checks the addresses and the files.
    ///
    /// # Errors
    /// Any [`EngineError`] that says what is wrong with them.
    pub fn check(&self) -> Result<(), EngineError> {
        self.options().map(drop)?;
        self.list().map(drop)
    }

    /// Connects to one of the servers, with inboxes under a name of the caller's.
    ///
    /// # Errors
    /// Any [`EngineError`].
    pub(super) async fn connect(&self, name: &str) -> Result<Client, EngineError> {
        let options = self.options()?.custom_inbox_prefix(format!("_INBOX.{name}"));
        let connecting = options.connect(self.list()?);
        let client = connecting.await.map_err(|error| EngineError::Connect(in_words(&error)))?;
        let version = client.server_info().version;
        match is_new_enough(&version) {
            true => Ok(client),
            false => Err(EngineError::Old(version)),
        }
    }

    fn list(&self) -> Result<Vec<ServerAddr>, EngineError> {
        let address = |text: &str| {
            let server = text.trim().parse::<ServerAddr>().ok();
            let server = server.filter(|server| !server.host().is_empty());
            server.ok_or_else(|| EngineError::Address(text.to_owned()))
        };
        self.addresses.split(',').map(address).collect()
    }

    fn options(&self) -> Result<ConnectOptions, EngineError> {
        let trust = match &self.ca {
            Some(file) => Trust::of_file(file)?,
            None => Trust::of_system(),
        };
        let config = trust.client_of(self.identity.as_ref())?;
        Ok(ConnectOptions::new()
            .name("tallyman")
            .tls_client_config(config)
            .require_tls(self.addresses.contains("tls://"))
            .connection_timeout(CONNECT)
            .request_timeout(Some(WITHIN)))
    }
}

/// The engine behind a connection.
pub(super) fn engine(client: &Client) -> Context {
    let mut engine = jetstream::new(client.clone());
    engine.set_timeout(WITHIN);
    engine
}

/// Returns whether the version is [`VERSION_MIN`] or later. One that can't be read is not.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let major = numbers.next().unwrap_or(0);
    let minor = numbers.next().unwrap_or(0);
    (major, minor) >= VERSION_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(addresses: &str) -> Servers {
        Servers { addresses: addresses.into(), ca: None, identity: None }
    }

    #[test]
    fn addresses_are_of_servers_or_refused() {
        for good in ["nats://a:1", "a", "tls://a.example", "nats://a:1,nats://b:2"] {
            servers(good).check().expect(good);
        }
        for wrong in ["", "https://a", "nats://a,ftp://b", "nats://"] {
            let error = servers(wrong).check().expect_err(wrong);
            assert!(matches!(error, EngineError::Address(_)), "{wrong}: {error}");
        }
    }

    #[test]
    fn old_servers_are_told_from_new_ones() {
        for new in ["2.12.0", "2.15.1", "3.0.0", "2.12.0-RC.1"] {
            assert!(is_new_enough(new), "{new}");
        }
        for old in ["2.9.10", "2.11.9", "", "x"] {
            assert!(!is_new_enough(old), "{old}");
        }
    }
}
