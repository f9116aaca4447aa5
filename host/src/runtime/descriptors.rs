//! The files that the daemon may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limit of open files below which the daemon warns: enough for 4,096 connections and 10,000
/// machines.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// Raises the limit of open files as far as this process may, and returns it.
pub(super) fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let (current, maximum) = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => (maximum, maximum),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            (current, maximum)
        }
    };
    // `None` stands for no limit.
    let descriptors = current.unwrap_or(u64::MAX);
    if descriptors < DESCRIPTORS_WANTED {
        tracing::warn!(
            descriptors,
            ?maximum,
            "few files may be open at a time: a machine takes 4, a connection 1; raise the limit \
             (`ulimit -n`, LimitNOFILE=) to {DESCRIPTORS_WANTED} or more",
        );
    }
    descriptors
}
