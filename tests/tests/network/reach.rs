//! The places that a guest reaches, and those that it does not.

use std::net::{TcpListener, TcpStream};

use tallyman_tests::daemon::Daemon;

use crate::guest::{create, daemon, run, says};
use crate::world::{HOST, SINK, SOURCE, WORLD, World, output};

pub(crate) fn on_q35(world: &World) {
    let daemon = daemon();
    let address = create(&daemon, "web", "qemu");
    check_settings(&daemon, &address);
    check_the_way_out(&daemon);
    check_what_is_closed(&daemon, world);
    check_other_guests(&daemon);
    check_false_senders(&daemon, &address);
    daemon.api().delete("/instances/web").done();
    assert_eq!(devices(), 1, "only the other guest's is left");
}

pub(crate) fn on_microvm(world: &World) {
    let daemon = daemon();
    let address = create(&daemon, "web", "qemu-microvm");
    check_settings(&daemon, &address);
    check_the_way_out(&daemon);
    check_what_is_closed(&daemon, world);
}

/// Number of the host's devices that lead to guests.
fn devices() -> usize {
    output("ip", &["-o", "link", "show"]).matches(": tally").count()
}

fn check_settings(daemon: &Daemon, address: &str) {
    let told = says(daemon, "web", "ip -4 -o address show dev eth0; cat /etc/resolv.conf");
    assert!(told.contains(&format!(" {address}/31 ")), "{told}");
    assert!(told.ends_with("nameserver 192.0.2.53\n"), "{told}");
}

fn check_the_way_out(daemon: &Daemon) {
    says(
        daemon,
        "web",
        "ping -c 1 -W 5 $(ip route | sed -n 's/^default via \\([^ ]*\\) .*/\\1/p')",
    );
    says(daemon, "web", &format!("ping -c 1 -W 5 {WORLD}"));
    let script = format!("wget -q -O - http://{WORLD}/100000 | wc -c");
    assert_eq!(says(daemon, "web", &script).trim(), "100000");
    let script = format!("head -c 100000 /dev/zero | nc {WORLD} {SINK}");
    assert_eq!(says(daemon, "web", &script).trim(), "100000");
}

/// Fails if the guest reaches a port.
fn closed(daemon: &Daemon, address: &str, port: u16) {
    let script = format!("nc -w 1 {address} {port} </dev/null && echo reached");
    let output = run(daemon, "web", &script);
    assert!(!output.status.success(), "{address}:{port} is open to guests");
}

fn check_what_is_closed(daemon: &Daemon, world: &World) {
    // What listens on all of the host's addresses is not reached on any that a guest can name.
    let service = TcpListener::bind(("0.0.0.0", 0)).expect("a port");
    let port = service.local_addr().expect("bound").port();
    let gateway = says(daemon, "web", "ip route | sed -n 's/^default via \\([^ ]*\\) .*/\\1/p'");
    for address in [HOST, gateway.trim(), "127.0.0.1", "169.254.1.1"] {
        closed(daemon, address, port);
    }
    // A metadata service of the world's would be reached, if that were not closed.
    world.inside(|| output("ip", &["address", "replace", "169.254.169.254/32", "dev", "eth0"]));
    output("ip", &["route", "replace", "169.254.169.254/32", "via", WORLD, "dev", "up0"]);
    closed(daemon, "169.254.169.254", SOURCE);
    TcpStream::connect(("169.254.169.254", SOURCE)).expect("the host reaches it");
    assert_eq!(says(daemon, "web", "ip -6 route | grep -c default || true").trim(), "0");
}

fn check_other_guests(daemon: &Daemon) {
    let other = create(daemon, "other", "qemu");
    says(daemon, "other", "nc -l -p 7 </dev/null >/dev/null 2>&1 &");
    closed(daemon, &other, 7);
    TcpStream::connect((other.as_str(), 7)).expect("the host reaches it");
    assert!(!run(daemon, "web", &format!("ping -c 1 -W 1 {other}")).status.success());
    assert_eq!(devices(), 2);
}

fn check_false_senders(daemon: &Daemon, address: &str) {
    let reaches = format!("ping -c 1 -W 1 {WORLD} >/dev/null");
    // The right one once more, with another source for the packets.
    let script = format!(
        "ip address add 10.213.0.99/32 dev eth0; ping -I 10.213.0.99 -c 1 -W 1 {WORLD} && exit 9
         ip address add 192.0.2.9/32 dev eth0; ping -I 192.0.2.9 -c 1 -W 1 {WORLD} && exit 9
         ping -I {address} -c 1 -W 5 {WORLD}"
    );
    says(daemon, "web", &script);
    let script = format!(
        "was=$(cat /sys/class/net/eth0/address)
         gateway=$(ip route | sed -n 's/^default via \\([^ ]*\\) .*/\\1/p')
         ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 up
         ip route add default via $gateway; {reaches} && exit 9
         ip link set eth0 down; ip link set eth0 address $was; ip link set eth0 up
         ip route add default via $gateway; {reaches} || {reaches} || {reaches}"
    );
    says(daemon, "web", &script);
}
