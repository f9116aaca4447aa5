//! A limit of concurrent uses for each of several parties.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Seats for concurrent uses, `most` for each party. A party that takes all of its own takes none
/// of another's.
#[derive(Debug)]
pub(super) struct Seats<K> {
    most: usize,
    taken: Mutex<HashMap<K, usize>>,
}

impl<K: Clone + Eq + Hash> Seats<K> {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// The number of seats of each party.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Takes a seat of a party until the value is dropped; `None` if all are taken.
    pub(super) fn take(self: &Arc<Self>, party: &K) -> Option<Seat<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(party.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat { seats: self.clone(), party: party.clone() })
    }
}

/// A taken seat; dropping it frees it.
#[derive(Debug)]
pub(super) struct Seat<K: Clone + Eq + Hash> {
    seats: Arc<Seats<K>>,
    party: K,
}

impl<K: Clone + Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.party) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_party_takes_no_seat_of_another() {
        let seats = Seats::new(2);
        let mine: Vec<_> = (0..3).filter_map(|_| seats.take(&"me")).collect();
        assert_eq!(mine.len(), 2);
        assert!(seats.take(&"you").is_some());
        drop(mine);
        assert!(seats.take(&"me").is_some());
        assert!(seats.taken.lock().expect("whole").is_empty());
    }
}
