//! The operator's pool of addresses, and the ones that are in use.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;

/// Addresses for guests. Each guest has two, a link of its own: the lower is its gateway's, the
/// upper its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool(Ipv4Net);

/// Shortest and longest prefix of a pool.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;

/// A text that is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no pool of addresses; write an IPv4 network that nobody else uses, with a prefix of \
     8 to 30 bits, such as 10.213.0.0/16"
)]
pub struct UnknownPool(pub String);

impl FromStr for Pool {
    type Err = UnknownPool;
    fn from_str(text: &str) -> Result<Self, UnknownPool> {
        let unknown = || UnknownPool(text.chars().take(80).collect());
        let network: Ipv4Net = text.parse().map_err(|_| unknown())?;
        let first = network.network();
        let is_plain = network.addr() == first && PREFIXES.contains(&network.prefix_len());
        let is_special = first.is_loopback()
            || first.is_link_local()
            || first.is_multicast()
            || first.octets()[0] == 0
            || first.octets()[0] >= 240;
        if is_plain && !is_special { Ok(Self(network)) } else { Err(unknown()) }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Pool {
    /// The network.
    pub fn network(self) -> Ipv4Net {
        self.0
    }

    /// Number of guests that it has addresses for.
    pub fn guests(self) -> u32 {
        1 << (31 - self.0.prefix_len())
    }

    /// Returns whether an address is one of a guest.
    pub fn has_guest(self, address: Ipv4Addr) -> bool {
        self.0.contains(&address) && address.to_bits() & 1 == 1
    }

    /// The address of the guest of this number, below [`Pool::guests`].
    fn guest(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.network().to_bits() + 2 * number + 1)
    }

    /// The gateway of a guest.
    pub fn gateway(guest: Ipv4Addr) -> Ipv4Addr {
        Ipv4Addr::from_bits(guest.to_bits() & !1)
    }
}

/// Error of taking an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// All addresses are in use.
    #[error("all {0} addresses of the host's pool are in use; delete some instances")]
    Exhausted(u32),
}

/// The addresses that are in use. They follow from the instances: the first are those of the
/// records, later ones are taken with an instance and returned with its end.
#[derive(Debug)]
pub struct Addresses {
    pool: Pool,
    state: Mutex<InUse>,
}

#[derive(Debug, Default)]
struct InUse {
    taken: BTreeSet<Ipv4Addr>,
    /// Number of the guest that is looked at first: an address rests as long as possible.
    next: u32,
}

impl Addresses {
    /// The addresses of a pool, of which these are in use.
    pub fn new(pool: Pool, taken: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let taken: BTreeSet<_> = taken.into_iter().collect();
        let newest = taken.iter().rev().find(|&&address| pool.has_guest(address));
        let number = |address: &Ipv4Addr| (address.to_bits() - pool.0.network().to_bits()) / 2;
        let next = newest.map_or(0, |address| number(address) + 1);
        Self { pool, state: Mutex::new(InUse { taken, next }) }
    }

    /// Takes an address that nobody has.
    ///
    /// # Errors
    /// [`PoolError::Exhausted`].
    pub fn take(&self) -> Result<Ipv4Addr, PoolError> {
        let guests = self.pool.guests();
        let mut state = self.state();
        let numbers = (0..guests).map(|step| (u64::from(state.next) + u64::from(step)) as u32);
        let mut free = numbers.map(|number| number % guests);
        let free = free.find(|&number| !state.taken.contains(&self.pool.guest(number)));
        let number = free.ok_or(PoolError::Exhausted(guests))?;
        let address = self.pool.guest(number);
        state.next = number + 1;
        state.taken.insert(address);
        Ok(address)
    }

    /// Returns an address.
    pub fn release(&self, address: Ipv4Addr) {
        self.state().taken.remove(&address);
    }

    fn state(&self) -> MutexGuard<'_, InUse> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(text: &str) -> Pool {
        text.parse().expect("a pool")
    }

    fn address(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_pool_is_a_network_that_can_be_routed() {
        for text in ["10.213.0.0/16", "100.64.0.0/10", "192.0.2.4/30", "10.0.0.0/8"] {
            assert_eq!(pool(text).to_string(), text);
        }
        let refused = [
            "10.213.0.1/16",
            "10.213.0.0/31",
            "10.0.0.0/7",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/8",
            "0.0.0.0/8",
            "250.0.0.0/8",
            "10.213.0.0",
            "fd00::/64",
            "",
        ];
        for text in refused {
            text.parse::<Pool>().expect_err(text);
        }
    }

    #[test]
    fn addresses_rest_before_they_are_given_again() {
        let addresses = Addresses::new(pool("10.0.0.0/29"), []);
        let taken: Vec<_> = (0..4).map(|_| addresses.take().expect("free").to_string()).collect();
        assert_eq!(taken, ["10.0.0.1", "10.0.0.3", "10.0.0.5", "10.0.0.7"]);
        assert_eq!(addresses.take(), Err(PoolError::Exhausted(4)));
        addresses.release(address("10.0.0.7"));
        addresses.release(address("10.0.0.1"));
        assert_eq!(addresses.take(), Ok(address("10.0.0.1")), "the other was used last");
        assert_eq!(Pool::gateway(address("10.0.0.7")), address("10.0.0.6"));
    }

    #[test]
    fn addresses_of_records_are_in_use_also_those_of_another_pool() {
        let taken = ["10.0.0.3", "10.9.0.1"].map(address);
        let addresses = Addresses::new(pool("10.0.0.0/29"), taken);
        assert_eq!(addresses.take(), Ok(address("10.0.0.5")));
        addresses.release(address("10.9.0.1"));
        assert_eq!(addresses.take(), Ok(address("10.0.0.7")));
    }

    proptest! {
        /// No address is given twice, and each is one of the pool's guests.
        #[test]
        fn no_address_is_given_twice(acts in proptest::collection::vec(any::<(bool, u8)>(), 0..200)) {
            let pool = pool("10.0.0.32/27");
            let addresses = Addresses::new(pool, []);
            let mut held: Vec<Ipv4Addr> = Vec::new();
            for (takes, which) in acts {
                if takes {
                    match addresses.take() {
                        Ok(address) => {
                            prop_assert!(pool.has_guest(address) && !held.contains(&address));
                            held.push(address);
                        }
                        Err(_) => prop_assert_eq!(held.len() as u32, pool.guests()),
                    }
                } else if !held.is_empty() {
                    addresses.release(held.swap_remove(usize::from(which) % held.len()));
                }
            }
        }
    }
}
