//! Networks under Firecracker, with the freestanding guest, which has a driver for its card. Linux
//! guests do not boot where KVM itself is emulated.

use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use serde_json::{Value, json};
use tallyman_tests::aloud;
use tallyman_tests::daemon::Daemon;
use tallyman_tests::deadline::eventually;
use tallyman_tests::guest::tiny;

use crate::guest::{daemon, runs, traffic};
use crate::world::{Seen, WORLD, World};

/// Bytes of an echo request and its answer, IP included.
const ECHO_BYTES: u64 = 84;

/// Bytes of a datagram that the guest sends, IP included.
const DATAGRAM_BYTES: u64 = 1_000;

/// The port that the guest sends to.
const PORT: u16 = 9;

/// Waits for an answer to an echo request.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn guest(world: &World) {
    let daemon = daemon();
    if let Err(why) = is_there(&daemon) {
        return aloud::say(&format!("networks under firecracker NOT RUN: {why}"));
    }
    let import = json!({
        "name": "tiny", "kernel": tiny(), "memory_bytes_min": 64 << 20,
        "cmdline": "vmm=firecracker",
    });
    daemon.api().post("/images", &import).done();
    let new = json!({"name": "fc", "image": "tiny", "hypervisor": "firecracker"});
    let created = daemon.api().post("/instances", &new).done();
    runs(&daemon, "fc");
    let address = created["network"]["ip"].as_str().expect("an address");
    let guest: Ipv4Addr = address.parse().expect("an address");
    let id = created["id"].as_str().expect("an id");
    // Somebody takes what comes there: nothing is answered.
    let sink = world.inside(|| UdpSocket::bind((WORLD, PORT)).expect("a port of ours"));
    let mut expected = (0, 0);
    for pass in 0..2 {
        for number in 0..3 {
            echo(guest, number).unwrap_or_else(|error| panic!("pass {pass}: {error}"));
        }
        expected = (expected.0 + 3 * ECHO_BYTES, expected.1 + 3 * ECHO_BYTES);
        assert_eq!(traffic(&daemon, "fc"), expected, "pass {pass}");
        sends(&daemon, world, id);
        expected.1 += DATAGRAM_BYTES;
        assert_eq!(traffic(&daemon, "fc"), expected, "pass {pass}");
        daemon.api().post("/instances/fc/standby", &json!({})).done();
        assert_eq!(traffic(&daemon, "fc"), expected, "a nap");
        let woken = daemon.api().post("/instances/fc/restore", &json!({})).done();
        assert_eq!(woken["network"]["ip"], json!(address));
    }
    daemon.api().delete("/instances/fc").done();
    drop(sink);
}

/// The reason why Firecracker can't be used here.
fn is_there(daemon: &Daemon) -> Result<(), String> {
    let told = daemon.api().get("/capabilities").done();
    let hypervisors = told["hypervisors"].as_array().expect("a list").iter();
    let mut own = hypervisors.filter(|one| one["name"] == json!("firecracker"));
    let own: &Value = own.next().expect("it is listed");
    match own["available"] == json!(true) {
        true => Ok(()),
        false => Err(own.to_string()),
    }
}

/// Has the guest send a datagram to the world, which sees it whole.
fn sends(daemon: &Daemon, world: &World, id: &str) {
    let before = world.seen();
    daemon.type_to(id, 'u');
    let seen = eventually("datagram", || Some(world.seen()).filter(|seen| *seen != before));
    let Seen { received_bytes, received_packets, .. } = seen.since(before);
    assert_eq!((received_bytes, received_packets), (DATAGRAM_BYTES, 1));
}

/// The checksum of an ICMP message.
fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = pairs.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Asks a guest whether it is there, and waits for its answer.
fn echo(guest: Ipv4Addr, number: u16) -> io::Result<()> {
    // SAFETY: it makes a descriptor.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut request = vec![0; 64];
    request[0] = 8;
    request[6..8].copy_from_slice(&number.to_be_bytes());
    let sum = checksum(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    let to = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(guest).to_be() },
        sin_zero: [0; 8],
    };
    let length = size_of::<libc::sockaddr_in>() as u32;
    let patience =
        libc::timeval { tv_sec: PATIENCE.as_secs().try_into().expect("small"), tv_usec: 0 };
    let mut answer = [0_u8; 2_048];
    // SAFETY: descriptors, and memory that is as long as is said.
    let (sent, read) = unsafe {
        let option = (&raw const patience).cast();
        let size = size_of::<libc::timeval>() as u32;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, option, size);
        let address = (&raw const to).cast();
        let bytes = request.as_ptr().cast();
        let sent = libc::sendto(socket.as_raw_fd(), bytes, request.len(), 0, address, length);
        (sent, libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0))
    };
    if sent < 0 || read < 0 {
        return Err(io::Error::last_os_error());
    }
    // Behind the head of IP: an answer, to this request.
    assert_eq!((answer[20], &answer[26..28]), (0, &number.to_be_bytes()[..]));
    Ok(())
}
