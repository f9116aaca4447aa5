//! A store of copies that fails, answers late, loses, doubles or changes what it is given, and
//! returns other objects than those that it is asked for, as the dice say. It outlives the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tallyman::id::HostName;
use tallyman::journal::{CopyStore, CopyStores, Journal, Pruning, StoreError};
use tallyman::tenant::Actor;
use tallyman::units::Instant;

use crate::dice::Dice;

/// Address of the store.
const ADDRESS: &str = "s3://simulated/facts";

/// Most segments that are copied, or pruned, at a time.
const SEGMENTS_MAX: usize = 4;

/// The only store.
#[derive(Debug, Clone)]
pub(crate) struct Stores(Arc<Store>);

#[derive(Debug)]
struct Store(Mutex<State>);

#[derive(Debug)]
struct State {
    dice: Dice,
    /// Set while every call succeeds.
    is_calm: bool,
    objects: BTreeMap<String, Vec<u8>>,
    /// Names under which other bytes lie than those that were given.
    spoilt: BTreeSet<String>,
}

impl Stores {
    /// An empty store.
    pub(crate) fn new(dice: Dice) -> Self {
        let objects = BTreeMap::new();
        let state = State { dice, is_calm: true, objects, spoilt: BTreeSet::new() };
        Self(Arc::new(Store(Mutex::new(state))))
    }

    /// Lets every call succeed, or not. Before it is calm, its operator moves away what others have
    /// spoilt.
    pub(crate) fn calm(&self, is_calm: bool) {
        let mut state = self.0.state();
        state.is_calm = is_calm;
        if is_calm {
            for name in std::mem::take(&mut state.spoilt) {
                state.objects.remove(&name);
            }
        }
    }
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn away<T>(why: &str) -> Result<T, StoreError> {
    Err(StoreError::Away(why.into()))
}

impl CopyStore for Store {
    fn address(&self) -> &str {
        ADDRESS
    }

    fn create(&self, object: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.objects.contains_key(object) {
            return Ok(());
        }
        let fault = if state.is_calm { u64::MAX } else { state.dice.below(16) };
        let mut other = bytes.to_vec();
        match fault {
            0 => return away("no route"),
            // It says that it has taken the object, and has not.
            1 => return Ok(()),
            2 => other[bytes.len() / 2] ^= 1,
            3 => other.truncate(bytes.len() - 1),
            4 => other = bytes.repeat(2),
            _ => {}
        }
        if other != bytes {
            state.spoilt.insert(object.into());
        }
        state.objects.insert(object.into(), other);
        // Its answer may be lost.
        if fault == 5 { away("no answer in time") } else { Ok(()) }
    }

    fn read(&self, object: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut state = self.state();
        let fault = if state.is_calm { u64::MAX } else { state.dice.below(24) };
        let found = match fault {
            0 => return away("no route"),
            1 => None,
            // Another object.
            2 => state.objects.values().next_back().cloned(),
            _ => state.objects.get(object).cloned(),
        };
        match found {
            Some(bytes) if bytes.len() as u64 > bytes_max => {
                Err(StoreError::Length(bytes.len() as u64))
            }
            found => Ok(found),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let mut state = self.state();
        if !state.is_calm && state.dice.one_in(16) {
            return away("no route");
        }
        let folder = format!("{folder}/");
        Ok(state.objects.keys().filter(|name| name.starts_with(&folder)).cloned().collect())
    }
}

impl CopyStores for Stores {
    fn own(&self) -> Option<Arc<dyn CopyStore>> {
        Some(self.0.clone())
    }

    fn at(&self, address: &str) -> Result<Arc<dyn CopyStore>, StoreError> {
        match address == ADDRESS {
            true => Ok(self.0.clone()),
            false => Err(StoreError::Refused(format!("{address} is no store"))),
        }
    }
}

/// Seals all facts, copies segments into the store, and removes those whose copies are whole. The
/// next call does what fails in this one.
pub(crate) async fn archive(journal: &Journal, stores: &Stores) {
    let host: HostName = "h1".parse().expect("a name");
    let _ = journal.seal(None).await;
    let store = stores.own().expect("one");
    let _ = journal.archive_segments(store.clone(), Some(host), SEGMENTS_MAX).await;
    let before = Instant(i64::MAX);
    let pruning = Pruning { before, needs: Vec::new(), by: Actor::Host };
    let _ = journal.prune_segments(store, pruning, SEGMENTS_MAX).await;
}
