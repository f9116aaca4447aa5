//! Files that are read again while the daemon runs: when they change, and at SIGHUP.

use std::error::Error;
use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::blocking;
use crate::causes::in_words;
use crate::limits::api::RENEW_MS;
use crate::tenancy::{Jwt, OperatorToken};
use crate::tls::Certificate;

/// Reads a file again; true if what it holds is new and counts from now on.
type Renew = Arc<dyn Fn() -> Result<bool, String> + Send + Sync>;

/// A secret that a file holds.
struct Watched {
    name: &'static str,
    renew: Renew,
    /// The last failure, which is told once.
    failure: Option<String>,
}

/// The files, and the signal after which they are read at once.
pub(super) struct Renewal {
    watched: Vec<Watched>,
    hangup: Signal,
}

impl Renewal {
    /// From now on SIGHUP does not end the process.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { watched: Vec::new(), hangup: signal(SignalKind::hangup())? })
    }

    fn watch<E: Error>(
        &mut self,
        name: &'static str,
        renew: impl Fn() -> Result<bool, E> + Send + Sync + 'static,
    ) {
        let renew = Arc::new(move || renew().map_err(|error| in_words(&error)));
        self.watched.push(Watched { name, renew, failure: None });
    }

    /// Watches all secrets of the daemon that files hold.
    pub(super) fn watch_all(
        &mut self,
        certificate: Option<Arc<Certificate>>,
        token: &Arc<OperatorToken>,
        jwt: Option<&Arc<Jwt>>,
    ) {
        if let Some(certificate) = certificate {
            self.watch("the certificate", move || certificate.renew());
        }
        let token = token.clone();
        self.watch("the operator's token", move || token.renew());
        if let Some(jwt) = jwt.cloned() {
            self.watch("the keys of signed tokens", move || jwt.renew());
        }
    }

    /// Reads the files again, for ever. What they hold is compared, not their times, which a copy
    /// keeps and some file systems don't tell.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(RENEW_MS)) => {}
                _ = self.hangup.recv() => tracing::info!("SIGHUP: reading the files again"),
            }
            for watched in &mut self.watched {
                watched.look().await;
            }
        }
    }
}

impl Watched {
    async fn look(&mut self) {
        let renew = self.renew.clone();
        let renewed = blocking::run(move || renew()).await;
        let name = self.name;
        match renewed.unwrap_or_else(|panic| resume_unwind(panic.into_panic())) {
            Ok(false) => {}
            Ok(true) => {
                self.failure = None;
                tracing::info!("{name}: what the file holds now counts from here on");
            }
            Err(error) if self.failure.as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::error!(error, "{name}: what the file holds is not used; the old stays");
                self.failure = Some(error);
            }
        }
    }
}
