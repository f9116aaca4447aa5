//! The daemon's file descriptors for machines: counted, so that a machine too many is refused
//! before its launch is begun.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, getrlimit};

use super::HypervisorError;

/// Descriptors of a live machine: pidfds of the VMM, of its supervisor and of the supervisor as a
/// child, a control connection, and one for files that are opened briefly.
pub(super) const PER_MACHINE: u64 = 5;

/// Descriptors reserved for everything else, such as clients' connections and the journal; at most
/// half of the limit.
const OTHERS: u64 = 256;

/// Number of machines that have taken their descriptors.
static MACHINES: AtomicU64 = AtomicU64::new(0);

/// The descriptors of one machine; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Descriptors(&'static AtomicU64);

impl Descriptors {
    /// Takes the descriptors of a machine that is to be launched.
    ///
    /// # Errors
    /// [`HypervisorError::NoDescriptors`]: nothing was begun.
    pub(super) fn take() -> Result<Self, HypervisorError> {
        Self::take_of(&MACHINES, limit())
    }

    fn take_of(machines: &'static AtomicU64, limit: u64) -> Result<Self, HypervisorError> {
        let most = machines_max(limit);
        let one_more = |taken| (taken < most).then_some(taken + 1);
        match machines.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Self(machines)),
            Err(machines) => Err(HypervisorError::NoDescriptors { machines, limit }),
        }
    }

    /// Takes the descriptors of a machine that lives already, beyond the limit if need be.
    pub(super) fn take_for_living() -> Self {
        MACHINES.fetch_add(1, Ordering::Relaxed);
        Self(&MACHINES)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Number of machines for which `limit` descriptors suffice.
fn machines_max(limit: u64) -> u64 {
    (limit - OTHERS.min(limit / 2)) / PER_MACHINE
}

/// Most descriptors that this process may have.
fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_too_many_is_refused_and_room_comes_back() {
        static TAKEN: AtomicU64 = AtomicU64::new(0);
        let held: Vec<_> =
            (0..12).map(|_| Descriptors::take_of(&TAKEN, 128).expect("room")).collect();
        let refused = Descriptors::take_of(&TAKEN, 128).expect_err("no room");
        assert!(
            matches!(refused, HypervisorError::NoDescriptors { machines: 12, limit: 128 }),
            "{refused:?}"
        );
        drop(held);
        Descriptors::take_of(&TAKEN, 128).expect("room again");
        assert_eq!(TAKEN.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_kept_for_others_is_never_more_than_half() {
        for (limit, machines) in [(0, 0), (128, 12), (512, 51), (1_024, 153), (1_048_576, 209_664)]
        {
            assert_eq!(machines_max(limit), machines, "{limit}");
        }
    }
}
