//! The host's network and the world behind it, each a namespace of this test.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use serde_json::Value;
use tallyman::network::examine;

/// Addresses of the host and of the world.
pub(crate) const HOST: &str = "198.51.100.1";
pub(crate) const WORLD: &str = "198.51.100.2";

/// The port on which the world answers, and that on which it takes what comes.
pub(crate) const SOURCE: u16 = 80;
pub(crate) const SINK: u16 = 81;

const HOST_MAC: &str = "02:00:5e:00:00:01";
const WORLD_MAC: &str = "02:00:5e:00:00:02";

/// Bytes of an Ethernet head, which layer 3 does not count.
const ETHERNET: u64 = 14;

/// The world. This process is in the host's namespace.
pub(crate) struct World {
    /// Work to be done in the world.
    work: mpsc::Sender<Box<dyn FnOnce() + Send>>,
}

/// Bytes and packets of layer 3 that the world has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) received_bytes: u64,
    pub(crate) received_packets: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) sent_packets: u64,
}

impl World {
    /// Moves this process to a host of its own, and makes the world. No other thread may exist.
    pub(crate) fn make() -> Result<Self, String> {
        let in_words = |error: io::Error| error.to_string();
        unshare().map_err(in_words)?;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").map_err(in_words)?;
        no_ipv6().map_err(in_words)?;
        if let Some(lack) = examine().first() {
            return Err(format!("{}: {}", lack.fault, lack.remedy));
        }
        let (work, to_do) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let moved = unshare().and_then(|()| no_ipv6());
            // SAFETY: it reads a number.
            tell.send(moved.map(|()| unsafe { libc::gettid() })).expect("it is awaited");
            for act in to_do {
                act();
            }
        });
        let place = told.recv().expect("the thread lives").map_err(in_words)?;
        ip(&format!(
            "link set dev lo up\n\
             link add up0 address {HOST_MAC} type veth \
             peer name eth0 address {WORLD_MAC} netns {place}\n\
             link set dev up0 gso_max_segs 1 up\naddress add {HOST}/24 dev up0\n\
             neighbour add {WORLD} lladdr {WORLD_MAC} dev up0 nud permanent\n"
        ));
        let world = Self { work };
        world.inside(|| {
            ip(&format!(
                "link set dev lo up\nlink set dev eth0 gso_max_segs 1 up\n\
                 address add {WORLD}/24 dev eth0\n\
                 neighbour add {HOST} lladdr {HOST_MAC} dev eth0 nud permanent\n"
            ));
            let source = TcpListener::bind(("0.0.0.0", SOURCE)).expect("a port of ours");
            let sink = TcpListener::bind((WORLD, SINK)).expect("a port of ours");
            thread::spawn(move || each(&source, answer));
            thread::spawn(move || each(&sink, take));
        });
        Ok(world)
    }

    /// Does `act` in the world.
    pub(crate) fn inside<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let act = move || tell.send(act()).expect("it is awaited");
        self.work.send(Box::new(act)).expect("the world lives");
        told.recv().expect("the act is done")
    }

    /// The traffic that the world has seen so far.
    pub(crate) fn seen(&self) -> Seen {
        let text = self.inside(|| output("ip", &["-j", "-s", "link", "show", "dev", "eth0"]));
        let links: Value = serde_json::from_str(&text).expect("JSON");
        let number =
            |way: &str, what: &str| links[0]["stats64"][way][what].as_u64().expect("a number");
        let received = number("rx", "packets");
        let sent = number("tx", "packets");
        Seen {
            received_bytes: number("rx", "bytes") - ETHERNET * received,
            received_packets: received,
            sent_bytes: number("tx", "bytes") - ETHERNET * sent,
            sent_packets: sent,
        }
    }
}

impl Seen {
    /// The traffic since `before`.
    pub(crate) fn since(self, before: Seen) -> Seen {
        Seen {
            received_bytes: self.received_bytes - before.received_bytes,
            received_packets: self.received_packets - before.received_packets,
            sent_bytes: self.sent_bytes - before.sent_bytes,
            sent_packets: self.sent_packets - before.sent_packets,
        }
    }
}

/// Moves this thread to a new network namespace.
fn unshare() -> io::Result<()> {
    // SAFETY: it moves this thread only.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Nothing but what the test sends is to be counted.
fn no_ipv6() -> io::Result<()> {
    ["all", "default"].into_iter().try_for_each(|name| {
        match fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    })
}

/// Carries out lines of `ip` in the namespace of this thread.
fn ip(lines: &str) {
    let mut ip =
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip");
    ip.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("it reads");
    assert!(ip.wait().expect("a child of ours").success(), "{lines}");
}

/// Standard output of a program that succeeds, in the namespace of this thread.
pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("run a program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

fn each(listener: &TcpListener, serve: fn(TcpStream) -> io::Result<()>) {
    for client in listener.incoming().flatten() {
        // A client that goes has what it wanted.
        thread::spawn(move || serve(client));
    }
}

/// Answers `GET /N` with so many bytes.
fn answer(mut client: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let wanted = first.split(' ').nth(1).and_then(|path| path.strip_prefix('/')?.parse().ok());
    let length = wanted.unwrap_or(0);
    write!(client, "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
    client.write_all(&vec![b'x'; length])?;
    client.shutdown(Shutdown::Write)
}

/// Takes all that comes, and says how much it was.
fn take(mut client: TcpStream) -> io::Result<()> {
    let mut taken = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match client.read(&mut buffer)? {
            0 => break,
            some => taken += some,
        }
    }
    writeln!(client, "{taken}")
}
