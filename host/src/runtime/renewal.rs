//! Files that are read again while the daemon runs: when they change, and at SIGHUP.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::blocking;
use crate::causes::in_words;
use crate::limits::api::RENEW_MS;
use crate::tls::Certificate;

/// The files, and the signal after which they are read at once.
pub(super) struct Renewal {
    certificate: Option<Arc<Certificate>>,
    hangup: Signal,
    /// The last failure, which is told once.
    failure: Option<String>,
}

impl Renewal {
    /// From now on SIGHUP does not end the process.
    pub(super) fn new(certificate: Option<Arc<Certificate>>) -> io::Result<Self> {
        Ok(Self { certificate, hangup: signal(SignalKind::hangup())?, failure: None })
    }

    /// Reads the files again, for ever. What they hold is compared, not their times, which a copy
    /// keeps and some file systems don't tell.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(RENEW_MS)) => {}
                _ = self.hangup.recv() => tracing::info!("SIGHUP: reading the files again"),
            }
            if let Some(certificate) = self.certificate.clone() {
                let renewed = blocking::run(move || certificate.renew()).await;
                let renewed = renewed.unwrap_or_else(|panic| resume_unwind(panic.into_panic()));
                self.tell(renewed.map_err(|error| in_words(&error)));
            }
        }
    }

    fn tell(&mut self, renewed: Result<bool, String>) {
        match renewed {
            Ok(false) => {}
            Ok(true) => {
                self.failure = None;
                tracing::info!("new connections get the new certificate");
            }
            Err(error) if self.failure.as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::error!(error, "the new certificate is not used; the old one stays");
                self.failure = Some(error);
            }
        }
    }
}
