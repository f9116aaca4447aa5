//! Errors that keep the daemon from starting, or end it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::api;
use crate::driver::FleetError;
use crate::fleet;
use crate::heads::HeadsError;
use crate::hypervisor::HypervisorError;
use crate::image::ImageError;
use crate::journal::{CommitError, OpenError};
use crate::network::NetworkError;
use crate::tenancy::{JwtConfigError, OperatorTokenError};

/// Error that keeps the daemon from starting, or ends it.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A file can't be read or written.
    #[error("can't {doing} {}", path.display())]
    File {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The journal can't be opened.
    #[error("can't open the journal")]
    Journal(#[from] OpenError),
    /// The policy host can't be set up.
    #[error("can't set up the policy host")]
    Policies(#[from] crate::policy::OpenError),
    /// The folder of images can't be opened.
    #[error("can't open the images")]
    Images(#[from] ImageError),
    /// No hypervisor works on this host; the source is the first one's error.
    #[error(
        "no hypervisor can be used here; install QEMU (Debian: apt-get install qemu-system-x86)"
    )]
    Hypervisor(#[from] HypervisorError),
    /// The host can't give guests a network.
    #[error("can't serve with a pool of addresses for guests")]
    Network(#[from] NetworkError),
    /// The instances of an earlier run can't be recovered.
    #[error("can't recover the instances of the earlier run")]
    Fleet(#[from] FleetError),
    /// The client of health checks can't be set up.
    #[error(transparent)]
    Prober(#[from] crate::probe::SetupError),
    /// The client of registries can't be set up.
    #[error(transparent)]
    Registries(#[from] crate::pull::SetupError),
    /// Logs can't be watched.
    #[error(
        "can't watch logs; end other programs of this user that watch files, or raise \
         fs.inotify.max_user_instances"
    )]
    Logs(#[source] io::Error),
    /// The way to the collector can't be set up.
    #[error("can't hand facts to a collector")]
    Way(#[from] fleet::HttpError),
    /// The way through an engine can't be set up.
    #[error("can't hand facts over through an engine")]
    Engine(#[from] fleet::EngineError),
    /// A copy of a host's journal can't be opened.
    #[error("can't open the copies of hosts' journals")]
    Copies(#[source] OpenError),
    /// The heads of the journal can't be signed.
    #[error(transparent)]
    Heads(#[from] HeadsError),
    /// The operator's token can't be read.
    #[error(transparent)]
    Token(#[from] OperatorTokenError),
    /// The configuration of signed tokens is not valid.
    #[error("can't accept signed tokens")]
    Jwt(#[from] JwtConfigError),
    /// The facts about the start can't be written.
    #[error("can't write the facts about the start to the journal")]
    Commit(#[from] CommitError),
    /// The API can't be served where it should be.
    #[error(transparent)]
    Listen(#[from] api::ListenError),
    /// The signal that asks for a renewal can't be received.
    #[error("can't receive the signal SIGHUP")]
    Signal(#[source] io::Error),
    /// The journal failed while serving. The next start finds out what is durable.
    #[error(
        "the journal failed ({0}); the daemon ends so that nothing is acknowledged that may not \
         be on disk. Check the disk and start again"
    )]
    JournalFailed(Arc<str>),
    /// The API server failed.
    #[error("the API server failed")]
    Serve(#[source] io::Error),
}
