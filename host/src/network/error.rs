//! Errors of networks.

use std::io;
use std::net::Ipv4Addr;

use super::pool::Pool;

/// Error of making, finding or reading a network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The host lacks something.
    #[error("this host can't give guests a network: {0}")]
    Unfit(String),
    /// The operating system refused.
    #[error("can't {act}")]
    System {
        /// The operation, as a verb.
        act: &'static str,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// A program that is needed could not be run.
    #[error("can't run `{program}`; Debian has it in {package}")]
    Tool {
        /// The program.
        program: &'static str,
        /// The Debian package that holds the program.
        package: &'static str,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// A program refused what it was told.
    #[error("`{program}` refused ({status}): {said}")]
    Refused {
        /// The program.
        program: &'static str,
        /// The exit status or signal.
        status: String,
        /// The last lines of standard error, joined by semicolons.
        said: String,
    },
    /// The kernel's answer about counters can't be read.
    #[error("the kernel's answer about counters can't be read: {0}")]
    Answer(&'static str),
    /// The address is not in the pool.
    #[error(
        "the address {address} is not in the pool {pool}; serve with the pool that it is from, or \
         make a new instance"
    )]
    Foreign {
        /// The address.
        address: Ipv4Addr,
        /// The pool.
        pool: Pool,
    },
    /// The process has no namespace of its own.
    #[error("process {0} is in no network namespace of its own")]
    Shared(u32),
}

impl NetworkError {
    /// The error of an operation, for `map_err`.
    pub(super) fn system(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { act, source }
    }
}
