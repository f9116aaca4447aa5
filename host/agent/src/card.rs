//! The guest's network card: its address, its way out, its name servers.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use ::agent::network::Settings;

/// The device that takes what a guest sends to itself.
const LOOPBACK: &str = "lo";

/// The name of the first card, where the kernel does not list them.
const FIRST: &str = "eth0";

/// `IFF_UP`, and `RTF_UP | RTF_GATEWAY` of `linux/route.h`.
const UP: u16 = 0x1;
const UP_AND_THROUGH_GATEWAY: u16 = 0x1 | 0x2;

/// `SIOCETHTOOL` of `linux/sockios.h`.
const ETHTOOL: u64 = 0x8946;

/// Sets the card up as the kernel's command line says. Does nothing if that says nothing.
pub(crate) fn set_up() -> io::Result<()> {
    let cmdline = fs::read_to_string("/proc/cmdline")?;
    Settings::find(&cmdline).as_ref().map_or(Ok(()), apply)
}

/// Sets the card up, whatever it was before.
pub(crate) fn apply(settings: &Settings) -> io::Result<()> {
    // Any socket of the family will do.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let card = card();
    raise(&socket, LOOPBACK)?;
    set_address(&socket, &card, libc::SIOCSIFADDR as _, settings.address)?;
    set_address(&socket, &card, libc::SIOCSIFNETMASK as _, settings.mask())?;
    send_as_on_the_wire(&socket, &card);
    raise(&socket, &card)?;
    route(&socket, settings.gateway)?;
    name(&settings.name_servers)
}

/// The name of the first card.
fn card() -> String {
    let listed = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = listed.filter_map(|entry| entry.file_name().into_string().ok());
    let is_card = |name: &String| Path::new("/sys/class/net").join(name).join("device").exists();
    names.filter(is_card).min().unwrap_or_else(|| FIRST.into())
}

/// The kernel's `struct ifreq`: a device's name, and what is asked or said of it.
#[repr(C, align(8))]
struct DeviceRequest {
    name: [u8; 16],
    value: [u8; 24],
}

impl DeviceRequest {
    fn new(device: &str, value: &[u8]) -> Self {
        let mut request = Self { name: [0; 16], value: [0; 24] };
        // The last byte ends the name.
        for (to, from) in request.name.iter_mut().take(15).zip(device.bytes()) {
            *to = from;
        }
        request.value[..value.len()].copy_from_slice(value);
        request
    }

    fn send(&mut self, socket: &UdpSocket, request: u64) -> io::Result<()> {
        // SAFETY: the structure is as long as the kernel's, and the requests used here read it, or
        // write into it.
        match unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw mut *self) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The kernel's `struct sockaddr_in`.
fn socket_address(address: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}

fn set_address(
    socket: &UdpSocket,
    device: &str,
    request: u64,
    address: Ipv4Addr,
) -> io::Result<()> {
    DeviceRequest::new(device, &socket_address(address)).send(socket, request)
}

fn raise(socket: &UdpSocket, device: &str) -> io::Result<()> {
    let mut request = DeviceRequest::new(device, &[]);
    request.send(socket, libc::SIOCGIFFLAGS as _)?;
    request.value[0] |= UP as u8;
    request.send(socket, libc::SIOCSIFFLAGS as _)
}

/// Has the card be handed packets as they are on the wire, never several as one: the host drops
/// those, as it could not count them. A card that can't be told has no such ability.
fn send_as_on_the_wire(socket: &UdpSocket, device: &str) {
    // The kernel's `struct ethtool_value`, with `ETHTOOL_STXCSUM`: without checksums by the card,
    // the kernel joins nothing for it.
    let value: [u32; 2] = [0x17, 0];
    let address = value.as_ptr().expose_provenance() as u64;
    // What it can't do it need not be told to leave.
    let _ = DeviceRequest::new(device, &address.to_ne_bytes()).send(socket, ETHTOOL);
}

/// The kernel's `struct rtentry`.
#[repr(C)]
struct Route {
    unused: u64,
    destination: [u8; 16],
    gateway: [u8; 16],
    mask: [u8; 16],
    flags: u16,
    unused_2: u16,
    unused_3: u64,
    unused_4: u64,
    metric: i16,
    device: *const libc::c_char,
    mtu: u64,
    window: u64,
    round_trip: u16,
}

/// Has everything go through a gateway that has no other way.
fn route(socket: &UdpSocket, gateway: Ipv4Addr) -> io::Result<()> {
    let everything = socket_address(Ipv4Addr::UNSPECIFIED);
    let device = CString::new(card())?;
    let route = Route {
        unused: 0,
        destination: everything,
        gateway: socket_address(gateway),
        mask: everything,
        flags: UP_AND_THROUGH_GATEWAY,
        unused_2: 0,
        unused_3: 0,
        unused_4: 0,
        metric: 0,
        device: device.as_ptr(),
        mtu: 0,
        window: 0,
        round_trip: 0,
    };
    // SAFETY: the structure is the kernel's, and the name lives as long as the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            error => Err(error),
        },
    }
}

/// Writes the file that programs ask for name servers.
fn name(servers: &[Ipv4Addr]) -> io::Result<()> {
    if servers.is_empty() {
        return Ok(());
    }
    let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    fs::create_dir_all("/etc")?;
    fs::write("/etc/resolv.conf", lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<DeviceRequest>(), 40);
        assert_eq!(size_of::<Route>(), 120);
    }

    #[test]
    fn an_address_stands_where_the_kernel_reads_it() {
        let bytes = socket_address([10, 1, 2, 3].into());
        assert_eq!(bytes[2..8], [0, 0, 10, 1, 2, 3]);
    }
}
