//! The places that a guest reaches, and those that it does not.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

use tallyman_tests::daemon::Daemon;
use tallyman_tests::deadline::eventually;

use crate::guest::{create, create_of, daemon, daemon_with, run, says};
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

/// Returns whether a guest reaches a port of the world's.
fn reaches(daemon: &Daemon, name: &str, port: u16) -> bool {
    let script = format!("echo | nc -w 2 {WORLD} {port} >/dev/null");
    run(daemon, name, &script).status.success()
}

pub(crate) fn allowed(world: &World) {
    let daemon = daemon();
    let place = json!({"cidr": WORLD, "protocol": "tcp", "ports": SINK.to_string()});
    let network = json!({"egress": {"enabled": false, "allow": [place]}});
    let new = json!({"name": "web", "image": "linux", "network": network});
    let address = create_of(&daemon, "web", &new);
    let shown = daemon.api().get("/instances/web").done();
    let place = json!({"cidr": format!("{WORLD}/32"), "protocol": "tcp", "ports": "81"});
    assert_eq!(shown["network"]["egress"], json!({"allow": [place]}));
    assert!(reaches(&daemon, "web", SINK));
    assert!(!reaches(&daemon, "web", SOURCE), "another port");
    assert!(!run(&daemon, "web", &format!("ping -c 1 -W 1 {WORLD}")).status.success());
    // What it is asked, it answers.
    says(&daemon, "web", "(while true; do nc -l -p 7 </dev/null; done) >/dev/null 2>&1 &");
    // It may not listen yet.
    let mut asked =
        eventually("guest that listens", || TcpStream::connect((address.as_str(), 7)).ok());
    asked.read_to_end(&mut Vec::new()).expect("it answers");
    let before = world.seen();
    assert!(!reaches(&daemon, "web", SOURCE));
    assert_eq!(world.seen(), before, "nothing of it leaves the host");
    // A fork may send there, too, and its list survives a nap.
    let fork = json!({"name": "twin", "from_running": true, "target_state": "Running"});
    daemon.api().post("/instances/web/fork", &fork).done();
    for _ in 0..2 {
        assert!(reaches(&daemon, "twin", SINK) && !reaches(&daemon, "twin", SOURCE));
        daemon.api().post("/instances/twin/standby", &json!({})).done();
        daemon.api().post("/instances/twin/restore", &json!({})).done();
    }
    refuses_lists(&daemon);
}

/// Lists that are none are refused, each with its place in the request.
fn refuses_lists(daemon: &Daemon) {
    let refused = |egress: Value, status: u16, code: &str, words: &str| {
        let new = json!({"name": "other", "image": "linux", "network": {"egress": egress}});
        daemon.api().post("/instances", &new).refused(status, code, words);
    };
    refused(json!({"enabled": true}), 501, "not_implemented", "network.egress.allow");
    let one = |place: Value| json!({"allow": [place]});
    refused(one(json!({"cidr": "10.0.0.1/8"})), 400, "invalid", "10.0.0.1/8");
    refused(one(json!({"cidr": "10.0.0.0/8", "ports": "1"})), 400, "invalid", "tcp and udp");
    let many = vec![json!({"cidr": "10.0.0.0/8"}); 65];
    refused(json!({"allow": many}), 400, "invalid", "at most 64");
}

pub(crate) fn opened(world: &World) {
    let service = TcpListener::bind((HOST, 0)).expect("a port");
    let port = service.local_addr().expect("bound").port();
    let own = format!("tcp:{HOST}:{port}");
    let options = ["--network-open", &own, "--network-open", "tcp:169.254.169.254:80"];
    let daemon = daemon_with(&options);
    create(&daemon, "web", "qemu");
    let other = TcpListener::bind((HOST, 0)).expect("a port");
    let answers = thread::spawn(move || drop(service.accept().expect("the guest comes")));
    says(&daemon, "web", &format!("nc -w 5 {HOST} {port} </dev/null"));
    answers.join().expect("accepted");
    closed(&daemon, HOST, other.local_addr().expect("bound").port());
    world.inside(|| output("ip", &["address", "replace", "169.254.169.254/32", "dev", "eth0"]));
    output("ip", &["route", "replace", "169.254.169.254/32", "via", WORLD, "dev", "up0"]);
    let script = "wget -q -O - http://169.254.169.254/1000 | wc -c";
    assert_eq!(says(&daemon, "web", script).trim(), "1000");
    closed(&daemon, "169.254.169.254", SINK);
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
