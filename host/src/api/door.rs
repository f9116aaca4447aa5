//! Admission of connections: the limits for all clients together and for one peer, and the choice
//! of a connection to close in favour of a new one.
//!
//! A connection is idle while no request of it is under way. When there is no room for one more,
//! the one that has been idle longest is closed: a client that opens a thousand connections and
//! sends nothing displaces its own, not those of others.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::limits::api as limits;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    /// A host, by its address.
    Host(IpAddr),
    /// Programs of this host that came by the unix socket, all together.
    Local,
}

/// Largest numbers of connections that are open at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections of all peers together, 1 or more.
    pub all: usize,
    /// Connections of one IP address, or by the unix socket.
    pub peer: usize,
}

impl ConnectionLimits {
    /// The limits for a process that may open `descriptors` files: a quarter of them for
    /// connections, since machines and the database need the others.
    pub fn of_descriptors(descriptors: u64) -> Self {
        let quarter = usize::try_from(descriptors / 4).unwrap_or(usize::MAX);
        let all = quarter.clamp(1, limits::CONNECTIONS_MAX);
        // One peer alone can't use up all connections.
        let peer = (all - all / 4).min(limits::CONNECTIONS_PER_PEER_MAX);
        Self { all, peer }
    }
}

/// The connections that are open.
pub(super) struct Door {
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    connections: BTreeMap<u64, Connection>,
    of_peer: HashMap<Peer, usize>,
    /// Number of admissions and ends of requests so far, which orders them.
    next: u64,
}

struct Connection {
    peer: Peer,
    /// Requests under way. HTTP/1 has one at most, and its answer may still be sent.
    busy: usize,
    /// Number of the last end of a request, or of its admission if there was none.
    idle_since: u64,
    evicted: CancellationToken,
}

impl Door {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection, for which the one that has been idle longest may be closed. Returns
    /// `None` if the limit is reached and all connections are busy.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer) -> Option<Admitted> {
        let mut open = self.open();
        let of_peer = open.of_peer.get(&peer).copied().unwrap_or_default();
        if of_peer >= self.limits.peer {
            open.evict(Some(peer))?;
        } else if open.connections.len() >= self.limits.all {
            open.evict(None)?;
        }
        let id = open.number();
        let evicted = CancellationToken::new();
        let connection = Connection { peer, busy: 0, idle_since: id, evicted: evicted.clone() };
        open.connections.insert(id, connection);
        *open.of_peer.entry(peer).or_default() += 1;
        Some(Admitted { door: self.clone(), id, evicted })
    }

    /// Closes the connection that has been idle longest; does nothing if all are busy.
    pub(super) fn evict(&self) {
        self.open().evict(None);
    }
}

impl Open {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn evict(&mut self, peer: Option<Peer>) -> Option<()> {
        let is_idle = |connection: &Connection| {
            connection.busy == 0 && peer.is_none_or(|peer| connection.peer == peer)
        };
        let idle = self.connections.iter().filter(|(_, connection)| is_idle(connection));
        let (&longest, _) = idle.min_by_key(|(_, connection)| connection.idle_since)?;
        self.remove(longest).map(|connection| connection.evicted.cancel())
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        if let Some(count) = self.of_peer.get_mut(&connection.peer) {
            *count -= 1;
            if *count == 0 {
                self.of_peer.remove(&connection.peer);
            }
        }
        Some(connection)
    }
}

/// A connection that was admitted; dropped when it ends.
pub(super) struct Admitted {
    door: Arc<Door>,
    id: u64,
    evicted: CancellationToken,
}

impl Admitted {
    /// Waits until the connection has to be closed in favour of another one.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Marks the connection as busy until the returned value is dropped.
    pub(super) fn busy(&self) -> Busy {
        if let Some(connection) = self.door.open().connections.get_mut(&self.id) {
            connection.busy += 1;
        }
        Busy { door: self.door.clone(), id: self.id }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.door.open().remove(self.id);
    }
}

/// A request that is under way.
pub(super) struct Busy {
    door: Arc<Door>,
    id: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut open = self.door.open();
        let now = open.number();
        if let Some(connection) = open.connections.get_mut(&self.id) {
            connection.busy -= 1;
            connection.idle_since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::Host(IpAddr::from([10, 0, 0, last]))
    }

    fn door(all: usize, peer: usize) -> Arc<Door> {
        Door::new(ConnectionLimits { all, peer })
    }

    #[test]
    fn the_connection_that_has_been_idle_longest_makes_room() {
        let door = door(3, 3);
        let connections: Vec<_> = (0..3).filter_map(|_| door.admit(peer(1))).collect();
        drop(connections[0].busy());
        let more = door.admit(peer(2)).expect("there is an idle one");
        let evicted: Vec<_> = connections.iter().map(|one| one.evicted.is_cancelled()).collect();
        assert_eq!(evicted, [false, true, false]);
        assert!(!more.evicted.is_cancelled());
    }

    #[test]
    fn a_peer_with_too_many_displaces_its_own_alone() {
        let door = door(10, 2);
        let other = door.admit(peer(2)).expect("room");
        let mine: Vec<_> = (0..5).filter_map(|_| door.admit(peer(1))).collect();
        assert_eq!(mine.iter().filter(|one| one.evicted.is_cancelled()).count(), 3);
        assert!(!other.evicted.is_cancelled());
    }

    #[test]
    fn a_busy_connection_is_never_closed_for_another() {
        let door = door(2, 2);
        let connections: Vec<_> = (0..2).filter_map(|_| door.admit(peer(1))).collect();
        let busy: Vec<_> = connections.iter().map(Admitted::busy).collect();
        assert!(door.admit(peer(2)).is_none());
        drop(busy);
        assert!(door.admit(peer(2)).is_some());
    }

    #[test]
    fn a_connection_that_ended_leaves_its_place() {
        let door = door(1, 1);
        let first = door.admit(peer(1)).expect("room");
        let _busy = first.busy();
        drop(first);
        assert!(door.admit(peer(1)).is_some());
        assert!(door.open().of_peer.is_empty());
    }

    #[test]
    fn connections_get_a_quarter_of_the_files_and_one_peer_not_all_of_it() {
        let rows = [
            (1_024, 256, 192),
            (1 << 20, limits::CONNECTIONS_MAX, limits::CONNECTIONS_PER_PEER_MAX),
        ];
        for (descriptors, all, peer) in rows {
            let limits = ConnectionLimits::of_descriptors(descriptors);
            assert_eq!(limits, ConnectionLimits { all, peer }, "{descriptors}");
        }
        assert_eq!(ConnectionLimits::of_descriptors(0), ConnectionLimits { all: 1, peer: 1 });
    }
}
