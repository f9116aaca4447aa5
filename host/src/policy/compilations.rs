//! Compilations under way: one for each component, and a bounded number at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::profile::Profile;
use super::slots::{Slot, Slots};
use crate::id::Digest;
use crate::limits::policy as compact;
use crate::limits::policy::large;

/// The compilations of a host.
pub(super) struct Compilations {
    under_way: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
    compact: Slots,
    large: Slots,
}

impl Compilations {
    pub(super) fn new() -> Self {
        Self {
            under_way: Mutex::default(),
            compact: Slots::new(compact::COMPILATIONS_MAX),
            large: Slots::new(large::COMPILATIONS_MAX),
        }
    }

    /// Runs `work` while nobody else does any for the same component.
    pub(super) fn alone<T>(&self, digest: Digest, work: impl FnOnce() -> T) -> T {
        let turn = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(under_way.entry(digest).or_default())
        };
        let held = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work();
        drop(held);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // This one and the map's: nobody waits.
        if Arc::strong_count(&turn) <= 2 {
            under_way.remove(&digest);
        }
        done
    }

    /// Takes a place among those that compile. The wait is bounded by the processor time that each
    /// of them may take.
    pub(super) fn place(&self, profile: Profile) -> Slot<'_> {
        match profile {
            Profile::Compact => self.compact.take(),
            Profile::Large => self.large.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn one_component_is_compiled_by_one_caller_at_a_time_and_nothing_stays() {
        let compilations = Compilations::new();
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    compilations.alone(Digest([1; 32]), || {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                });
            }
        });
        assert!(compilations.under_way.lock().expect("not poisoned").is_empty());
    }

    #[test]
    fn nobody_waits_for_another_component() {
        let compilations = Compilations::new();
        compilations.alone(Digest([1; 32]), || {
            let _place = compilations.place(Profile::Compact);
            compilations.alone(Digest([2; 32]), || drop(compilations.place(Profile::Compact)));
        });
    }
}
