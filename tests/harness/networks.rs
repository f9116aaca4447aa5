//! Networks without any: counters that the test advances.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use tallyman::network::{Link, NetworkError, Networks, Plan, Pool};
use tallyman::vm::Traffic;

/// Networks that count what the test says. Clones are the same networks.
#[derive(Debug, Clone, Default)]
pub struct DoubleNetworks(Arc<Mutex<HashMap<Ipv4Addr, Traffic>>>);

impl DoubleNetworks {
    /// Has a guest exchange bytes and packets.
    ///
    /// # Panics
    /// Panics if the guest has no network now.
    pub fn exchange(&self, guest: Ipv4Addr, traffic: Traffic) {
        let mut counted = self.counted();
        let counted = counted.get_mut(&guest).expect("it has a network");
        *counted = counted.plus(traffic);
    }

    /// Addresses of the guests that have a network now.
    pub fn guests(&self) -> Vec<Ipv4Addr> {
        let mut guests: Vec<_> = self.counted().keys().copied().collect();
        guests.sort();
        guests
    }

    fn counted(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, Traffic>> {
        self.0.lock().expect("no test panics while it counts")
    }
}

impl Networks for DoubleNetworks {
    fn pool(&self) -> Pool {
        "10.0.0.0/24".parse().expect("a pool")
    }

    fn name_servers(&self) -> &[Ipv4Addr] {
        &[]
    }

    fn make(&self, plan: &Plan) -> Result<Arc<dyn Link>, NetworkError> {
        self.counted().insert(plan.address, Traffic::NONE);
        self.find(plan, 0)
    }

    fn find(&self, plan: &Plan, _pid: u32) -> Result<Arc<dyn Link>, NetworkError> {
        Ok(Arc::new(DoubleLink { networks: self.clone(), guest: plan.address }))
    }

    fn sweep(&self, in_use: &BTreeSet<Ipv4Addr>) -> Result<Vec<Ipv4Addr>, NetworkError> {
        let mut counted = self.counted();
        let strays: Vec<_> =
            counted.keys().copied().filter(|guest| !in_use.contains(guest)).collect();
        counted.retain(|guest, _| in_use.contains(guest));
        Ok(strays)
    }

    fn remove(&self, plan: &Plan) -> Result<(), NetworkError> {
        self.counted().remove(&plan.address);
        Ok(())
    }
}

#[derive(Debug)]
struct DoubleLink {
    networks: DoubleNetworks,
    guest: Ipv4Addr,
}

impl Link for DoubleLink {
    fn namespace(&self) -> PathBuf {
        "/proc/self/ns/net".into()
    }

    fn traffic(&self) -> Result<Traffic, NetworkError> {
        let counted = self.networks.counted();
        counted.get(&self.guest).copied().ok_or(NetworkError::Answer("there is no network"))
    }
}
