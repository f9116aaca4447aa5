//! The networks of this host, made with `ip` and `nft`.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::counters::Counters;
use super::namespace::Namespace;
use super::rules::{UPLINK, address_of, device, of_host, of_launch};
use super::{GUEST_MAC, Link, NetworkError, Networks, Place, Plan, Pool, TAP, tools};
use crate::vm::Traffic;

/// Address of every tap, the guest's gateway.
const GATEWAY_MAC: &str = "02:54:4c:59:00:01";

/// Addresses of both ends of the way between a namespace and the host.
const UPLINK_MAC: &str = "02:54:4c:59:00:03";
const DEVICE_MAC: &str = "02:54:4c:59:00:04";

/// Address of the host on that way. Nobody answers to it: what a namespace sends there is for the
/// neighbour that it knows.
const NEXT_HOP: &str = "169.254.1.1";

/// The name servers of the host.
const RESOLVER: &str = "/etc/resolv.conf";

/// Most name servers that a guest is told, as many as its library asks.
const NAME_SERVERS_MAX: usize = 3;

/// The settings of the networks of a host.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The pool that addresses are from.
    pub pool: Pool,
    /// The name servers that guests are told; those of the host that they can reach if empty.
    pub name_servers: Vec<Ipv4Addr>,
    /// The places that guests reach although they would be closed.
    pub open: Vec<Place>,
}

/// The networks of this host.
pub struct HostNetworks {
    pool: Pool,
    name_servers: Vec<Ipv4Addr>,
    /// The user that opens the devices of guests.
    owner: u32,
}

impl HostNetworks {
    /// The networks that settings ask for, with the host's rules for them in force. `owner` is the
    /// user that virtual machine monitors run as.
    ///
    /// # Errors
    /// [`NetworkError::Unfit`] if the host lacks something, and any other of setting the rules.
    pub fn new(settings: Settings, owner: u32) -> Result<Self, NetworkError> {
        let Settings { pool, mut name_servers, open } = settings;
        let lacks = tools::examine();
        if !lacks.is_empty() {
            let words = lacks.iter().map(|lack| format!("{} ({})", lack.fault, lack.remedy));
            return Err(NetworkError::Unfit(words.collect::<Vec<_>>().join("; ")));
        }
        tools::nft(&of_host(pool, &open))?;
        if name_servers.is_empty() {
            name_servers = reachable(&fs::read_to_string(RESOLVER).unwrap_or_default());
        }
        name_servers.truncate(NAME_SERVERS_MAX);
        Ok(Self { pool, name_servers, owner })
    }
}

/// The name servers of a resolver's configuration that a guest can reach.
fn reachable(configuration: &str) -> Vec<Ipv4Addr> {
    let named = configuration.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    let addresses = named.filter_map(|text| match text.parse() {
        Ok(IpAddr::V4(address)) => Some(address),
        Ok(IpAddr::V6(_)) | Err(_) => None,
    });
    addresses.filter(|address| !address.is_loopback() && !address.is_link_local()).collect()
}

impl Networks for HostNetworks {
    fn pool(&self) -> Pool {
        self.pool
    }

    fn name_servers(&self) -> &[Ipv4Addr] {
        &self.name_servers
    }

    fn make(&self, plan: &Plan) -> Result<Arc<dyn Link>, NetworkError> {
        if !self.pool.has_guest(plan.address) {
            return Err(NetworkError::Foreign { address: plan.address, pool: self.pool });
        }
        self.remove(plan)?;
        let namespace = Namespace::new()?;
        let counters = namespace.run(|| {
            switch()?;
            tools::ip(&inside(plan, self.owner))?;
            tools::nft(&of_launch(plan))?;
            Counters::open()
        });
        let joined = counters.and_then(|counters| {
            tools::ip(&outside(plan))?;
            Ok(counters)
        });
        match joined {
            Ok(counters) => Ok(Arc::new(HostLink { namespace, counters: Mutex::new(counters) })),
            Err(error) => {
                // It goes with the namespace anyhow, a moment later.
                let _ = self.remove(plan);
                Err(error)
            }
        }
    }

    fn find(&self, _plan: &Plan, pid: u32) -> Result<Arc<dyn Link>, NetworkError> {
        let namespace = Namespace::of(pid)?;
        let counters = namespace.run(Counters::open)?;
        Ok(Arc::new(HostLink { namespace, counters: Mutex::new(counters) }))
    }

    fn sweep(&self, in_use: &BTreeSet<Ipv4Addr>) -> Result<Vec<Ipv4Addr>, NetworkError> {
        let names = devices().map_err(NetworkError::system("list the network devices"))?;
        let guests = names.iter().filter_map(|name| address_of(name));
        let strays: Vec<_> =
            guests.filter(|guest| self.pool.has_guest(*guest) && !in_use.contains(guest)).collect();
        if strays.is_empty() {
            return Ok(strays);
        }
        let lines = strays.iter().map(|&guest| format!("link delete dev {}", device(guest)));
        tools::ip(&lines.collect::<Vec<_>>())?;
        Ok(strays)
    }

    fn remove(&self, plan: &Plan) -> Result<(), NetworkError> {
        let device = device(plan.address);
        match is_there(&device) {
            true => tools::ip(&[format!("link delete dev {device}")]),
            false => Ok(()),
        }
    }
}

/// Returns whether the host has a network device of this name.
fn is_there(device: &str) -> bool {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None);
    socket.is_ok_and(|socket| name_to_index(socket, device).is_ok())
}

/// Names of the network devices of this thread's namespace.
fn devices() -> io::Result<Vec<String>> {
    // SAFETY: it allocates a list that ends with a null name, which is freed below.
    let list = unsafe { libc::if_nameindex() };
    if list.is_null() {
        return Err(io::Error::last_os_error());
    }
    let mut names = Vec::new();
    for index in 0.. {
        // SAFETY: nothing is read behind the entry whose name is null.
        let name = unsafe { (*list.add(index)).if_name };
        if name.is_null() {
            break;
        }
        // SAFETY: a name of the list ends with a null byte.
        names.push(unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned());
    }
    // SAFETY: it is the list from above, which nothing points into any more.
    unsafe { libc::if_freenameindex(list) };
    Ok(names)
}

/// Sets the switches of the namespace of this thread: IPv4 is forwarded, and there is no IPv6.
fn switch() -> Result<(), NetworkError> {
    let no_ipv6 =
        ["all", "default"].map(|name| format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"));
    for file in no_ipv6 {
        match fs::write(&file, "1") {
            // A kernel without IPv6 has no switch for it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(NetworkError::System { act: "switch IPv6 off", source: error });
            }
            Ok(()) | Err(_) => {}
        }
    }
    fs::write(tools::FORWARDING, "1").map_err(NetworkError::system("switch forwarding on"))
}

/// The devices of a namespace. A device that takes one segment at a time is given packets that are
/// as large as on the wire, so that they are counted as they are on the wire.
fn inside(plan: &Plan, owner: u32) -> Vec<String> {
    let guest = plan.address;
    let gateway = Pool::gateway(guest);
    let device = device(guest);
    let host = std::process::id();
    // The virtual machine monitor opens the tap without privileges.
    vec![
        format!("link add {UPLINK} type veth peer name {device} netns {host}"),
        format!("tuntap add dev {TAP} mode tap user {owner}"),
        format!("link set dev {TAP} address {GATEWAY_MAC} gso_max_segs 1 up"),
        format!("address add {gateway}/31 dev {TAP}"),
        format!("neighbour add {guest} lladdr {GUEST_MAC} dev {TAP} nud permanent"),
        format!("link set dev {UPLINK} address {UPLINK_MAC} gso_max_segs 1 up"),
        format!("neighbour add {NEXT_HOP} lladdr {DEVICE_MAC} dev {UPLINK} nud permanent"),
        format!("route add default via {NEXT_HOP} dev {UPLINK} onlink"),
    ]
}

/// The host's end of the way to a guest.
fn outside(plan: &Plan) -> Vec<String> {
    let guest = plan.address;
    let device = device(guest);
    vec![
        format!("link set dev {device} address {DEVICE_MAC} gso_max_segs 1 up"),
        format!("neighbour add {guest} lladdr {UPLINK_MAC} dev {device} nud permanent"),
        format!("route add {guest}/32 dev {device}"),
    ]
}

/// The network of one launch.
#[derive(Debug)]
struct HostLink {
    namespace: Namespace,
    counters: Mutex<Counters>,
}

impl Link for HostLink {
    fn namespace(&self) -> PathBuf {
        self.namespace.path()
    }

    fn traffic(&self) -> Result<Traffic, NetworkError> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_told_name_servers_that_they_can_reach() {
        let text = "# a comment\nnameserver 127.0.0.53\nnameserver fd00::1\nsearch example\n\
                    nameserver 192.0.2.53\nnameserver\nnameserver 169.254.169.253\n";
        assert_eq!(reachable(text), [Ipv4Addr::new(192, 0, 2, 53)]);
        assert_eq!(reachable(""), [] as [Ipv4Addr; 0]);
    }
}
